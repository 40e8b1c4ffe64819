//! `podctl doctor`: what this machine offers pods, and the command that mends what is missing.

mod facts;
mod judge;
#[cfg(test)]
mod tests;
mod trial;

use serde::Serialize;

use podctl_images::Finding;

use crate::{
    cli::{Error, print_styled},
    engine::Engine,
    state::{Damage, Home},
};

pub(crate) use trial::try_start;

#[derive(clap::Args)]
pub(super) struct Args {
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// First look through podctl's own files and the image store: mend what stands in their places, forget what is damaged, so that it is pulled again on demand, and remove what no image needs.
    #[arg(long)]
    repair: bool,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Pods run, without something.
    Degraded,
    /// Pods do not run.
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    /// Holds what was found; when it is not well, what will not work.
    found: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// The exit code is 1 when something is broken.
pub(super) fn run(args: &Args, home: &Home) -> Result<i32, Error> {
    if args.repair {
        repair_store(home)?;
    }
    let checks = judge::list_checks(&facts::gather(home));
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&checks).expect("plain data")),
        Output::Text => print_styled(&text(&checks)),
    }
    Ok(i32::from(checks.iter().any(|check| check.state == State::Broken)))
}

/// Mends podctl's files and the image store, and says on standard error what was wrong with them.
fn repair_store(home: &Home) -> Result<(), Error> {
    for Damage { path, what, mended } in Engine::over(home).check_files(true)? {
        anstream::eprintln!("{}: {what} ({})", mended.unwrap_or("left as it is"), path.display());
    }
    let findings = Engine::over(home).check_images(true)?;
    for Finding { path, image, what, mended } in &findings {
        let image = image.as_deref().map(|image| format!("image {image}: ")).unwrap_or_default();
        let done = if *mended { "removed" } else { "left as it is" };
        anstream::eprintln!("{done}: {image}{what} ({})", path.display());
    }
    if findings.is_empty() {
        anstream::eprintln!("the image store is as it should be");
    }
    Ok(())
}

fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let (word, colour) = match check.state {
            State::Ok => ("ok", anstyle::AnsiColor::Green),
            State::Degraded => ("degraded", anstyle::AnsiColor::Yellow),
            State::Broken => ("broken", anstyle::AnsiColor::Red),
        };
        let style = anstyle::Style::new().fg_color(Some(colour.into()));
        text += &format!("{style}{word:<9}{style:#} {:<17} {}\n", check.name, check.found);
        if let Some(mend) = &check.mend {
            text += &format!("{:<28}mend: {mend}\n", "");
        }
    }
    text
}
