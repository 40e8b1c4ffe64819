//! What commands write to standard output and error: text, errors, warnings.
//!
//! Promises: a reader that has gone (`| head`) never makes a command panic or stop halfway through a change;
//! a standard output that cannot be written, a full disk's, is told, and ends the command with 1.

use std::{
    fmt,
    io::{ErrorKind, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{cli::Error, engine, view::plain_text::show_controls};

/// Set when standard output could not be written for another reason than a reader that has gone.
static OUTPUT_FAILED: AtomicBool = AtomicBool::new(false);

/// Shadows the standard library's macro in all of `cli/`: that one panics when the reader has gone.
macro_rules! println {
    () => { $crate::cli::output_streams::write_line(format_args!("")) };
    ($($text:tt)*) => { $crate::cli::output_streams::write_line(format_args!($($text)*)) };
}

/// Shadows the standard library's macro in all of `cli/`: that one panics when the reader has gone.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::output_streams::write_note(format_args!($($text)*)) };
}

/// Writes a line to standard output and goes on whatever becomes of it: what a command changes is changed
/// whole, whether or not somebody reads of it.
pub(super) fn write_line(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        note_failure(&error);
    }
}

/// Writes a line to standard error, which may be closed.
pub(super) fn write_note(line: fmt::Arguments<'_>) {
    // There is nowhere else to say that nobody listens.
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Writes text of a command that only shows something; it ends when the reader has gone.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        note_failure(&error);
        std::process::exit(i32::from(has_failed()));
    }
}

/// Writes text as [`print()`] does, without its colours where standard output is no terminal.
pub(super) fn print_styled(text: &str) {
    match anstream::AutoStream::choice(&std::io::stdout()) {
        anstream::ColorChoice::Never => print(&anstream::adapter::strip_str(text).to_string()),
        _ => print(text),
    }
}

/// Returns whether something that was to be read on standard output has not got there.
pub(super) fn has_failed() -> bool {
    // What is still buffered fails here.
    if let Err(error) = std::io::stdout().flush() {
        note_failure(&error);
    }
    OUTPUT_FAILED.load(Ordering::Relaxed)
}

fn note_failure(error: &std::io::Error) {
    if error.kind() != ErrorKind::BrokenPipe && !OUTPUT_FAILED.swap(true, Ordering::Relaxed) {
        eprintln!("{}: cannot write to standard output: {error}", paint_red("error"));
    }
}

/// Shows an error after which the command goes on.
pub(super) fn print_error(error: &Error) {
    if let Error::Several(all) = error {
        return all.iter().for_each(print_error);
    }
    if let Error::Invalid { kind, name, causes } = error {
        // kubectl has no word before it, and a line for each of several causes.
        let causes = match &causes[..] {
            [one] => one.clone(),
            many => many.iter().map(|cause| format!("\n* {cause}")).collect(),
        };
        let text = format!("The {} {name:?} is invalid: {causes}", kind.name());
        eprintln!("{}", show_controls(&text));
        return;
    }
    // As of an object that breaks rules, kubectl has no word before these.
    let whole = match error {
        Error::Engine(engine::Error::Patch(engine::patch::Error::Unfitting(_))) => {
            Some(format!("The request is invalid: {error}"))
        }
        Error::Unreached(sentence) => Some(sentence.clone()),
        _ => None,
    };
    if let Some(sentence) = whole {
        eprintln!("{}", show_controls(&sentence));
        return;
    }
    print_from_server(error);
}

/// Shows what has gone wrong with objects of files. As kubectl has it, one that breaks rules names itself alone, and of
/// several each is a server's error.
pub(super) fn print_failures(errors: &[Error]) {
    match errors {
        [Error::InFile { source, .. }] if matches!(**source, Error::Invalid { .. }) => print_error(source),
        [Error::Api(refusal)] if refusal.reason == "Invalid" => {
            eprintln!("The {}", show_controls(&refusal.message));
        }
        [one] => print_error(one),
        many => many.iter().for_each(print_from_server),
    }
}

fn print_from_server(error: &Error) {
    let word = error.reason().map_or("error".to_owned(), |reason| format!("Error from server ({reason})"));
    eprintln!("{}: {}", paint_red(&word), show_controls(&error.to_string()));
}

/// Shows a warning of kubectl's, in its form.
pub(super) fn warn_as_kubectl(text: &str) {
    eprintln!("Warning: {}", show_controls(text));
}

/// Shows a warning.
pub(super) fn warn(text: &str) {
    let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Yellow.into()));
    eprintln!("{style}warning{style:#}: {}", show_controls(text));
}

/// Returns the text in bold red, for terminals that have colours.
pub(super) fn paint_red(text: &str) -> String {
    let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    format!("{style}{text}{style:#}")
}
