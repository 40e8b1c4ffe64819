//! Command lines that are not understood, answered in kubectl's words: with what was meant, or why it is not done.

use crate::cli::{
    build_parser,
    durations::parse_request_timeout,
    kubectl_flags::{Treatment, explain_command, explain_creation, find_treatment},
    output_streams::paint_red,
};
use std::{ffi::OsString, num::ParseIntError};

use clap::{
    Command, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Parses a command line. Flags of kubectl's whose wish is fulfilled anyway are taken out of it; others that podctl has
/// not are errors that give the reason.
///
/// # Errors
/// What the parser says, for help and versions too, or the whole sentence.
pub(super) fn parse<P: Parser>(mut args: Vec<OsString>) -> Result<P, Refusal> {
    loop {
        let refusal = match P::try_parse_from(&args) {
            Ok(parsed) => return Ok(parsed),
            Err(refusal) => refusal,
        };
        if matches!(
            refusal.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        ) {
            // Help is the whole parser's to give.
            let whole = build_parser().try_get_matches_from(&args).err();
            return Err(Refusal::of_parser(whole.unwrap_or(refusal), &args));
        }
        if refusal.kind() != ErrorKind::UnknownArgument {
            return Err(Refusal::of_parser(refusal, &args));
        }
        if let Some(sentence) = explain_extra_words::<P>(&refusal, &args) {
            return Err(Refusal::Sentence(sentence));
        }
        let flag = context(&refusal, ContextKind::InvalidArg).unwrap_or_default();
        let flag = flag.split('=').next().unwrap_or_default().to_owned();
        let verb = find_verb(&build_parser(), &args);
        let Some((treatment, has_value)) = find_treatment(&verb, &flag) else {
            return Err(Refusal::of_parser(refusal, &args));
        };
        let refused = |why: &str| Err(Refusal::Sentence(format!("{flag}: {why}")));
        let is_validation = |value: &str| "strict true warn ignore false".split(' ').any(|own| own == value);
        let (at, value) = match find_flag(&args, &flag) {
            Some(found) => found,
            None => return Err(Refusal::of_parser(refusal, &args)),
        };
        let next = args.get(at + 1).map(|word| word.to_string_lossy().into_owned());
        let given = value.clone().or_else(|| next.filter(|_| has_value));
        if flag == "--request-timeout" && asks_server(&verb) {
            parse_request_timeout(given.as_deref()).map_err(|e| Refusal::Sentence(e.to_string()))?;
        }
        match (treatment, given.as_deref()) {
            // What is not asked for is not done.
            (Treatment::Refused(_), Some("false")) if !has_value => {}
            (Treatment::Refused(why), _) => return refused(why),
            (_, Some(value)) if flag == "--validate" && !is_validation(value) => {
                return Err(Refusal::Sentence(format!(
                    "invalid - validate option {value:?}; must be one of: strict (or true), warn, ignore (or false)"
                )));
            }
            (Treatment::FulfilledBy(values, why), Some(value))
                if !values.split(' ').any(|own| own == value) =>
            {
                return refused(&format!("{value:?} is not possible here: {why}"));
            }
            _ => {}
        }
        args.remove(at);
        if has_value && value.is_none() && at < args.len() {
            args.remove(at);
        }
    }
}

/// Tells whether a verb asks a server for something when it is kubectl's: for others no time is too long.
fn asks_server(verb: &str) -> bool {
    !(verb.is_empty() || verb == "completion" || verb == "config" || verb.starts_with("config "))
}

/// The reason why a command line is not carried out.
pub(super) enum Refusal {
    /// The parser's own words; they are help or a version as well.
    Parser(Box<clap::Error>),
    /// The sentence of podctl's.
    Sentence(String),
}

impl Refusal {
    /// Prints it; returns whether it is an error.
    pub(super) fn print(&self) -> bool {
        match self {
            Refusal::Parser(refusal) => {
                // Nobody may read it; the exit code tells as well.
                let _ = refusal.print();
                refusal.use_stderr()
            }
            Refusal::Sentence(sentence) => {
                eprintln!("{}: {sentence}", paint_red("error"));
                true
            }
        }
    }

    fn of_parser(refusal: clap::Error, args: &[OsString]) -> Refusal {
        let said = |what: Option<String>| what.map(Refusal::Sentence);
        let sentence = match refusal.kind() {
            ErrorKind::ArgumentConflict => said(explain_conflict(&refusal, args)),
            ErrorKind::UnknownArgument => said(explain_unknown_flag(&refusal, args)),
            ErrorKind::TooManyValues => said(explain_switch(&refusal, args)),
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => said(explain_value(&refusal, args)),
            ErrorKind::InvalidSubcommand => said(explain_unknown_command(&refusal, args)),
            ErrorKind::MissingRequiredArgument => said(explain_missing(&refusal, args)),
            _ => None,
        };
        sentence.unwrap_or_else(|| Refusal::Parser(Box::new(refusal)))
    }
}

fn context(refusal: &clap::Error, kind: ContextKind) -> Option<String> {
    match refusal.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(all) => all.first().cloned(),
        _ => None,
    }
}

fn explain_unknown_flag(refusal: &clap::Error, args: &[OsString]) -> Option<String> {
    let flag = context(refusal, ContextKind::InvalidArg)?;
    if !flag.starts_with('-') {
        return None;
    }
    let verb = find_verb(&build_parser(), args);
    let known = context(refusal, ContextKind::SuggestedArg);
    let meant = known.map(|known| format!("\n\nDid you mean this?\n\t{known}")).unwrap_or_default();
    let what = match flag.strip_prefix('-').filter(|letters| !letters.starts_with('-')) {
        Some(letter) => format!("shorthand flag: {:?} in {flag}", letter.chars().next().unwrap_or('-')),
        None => format!("flag: {flag}"),
    };
    Some(format!("unknown {what}\n{}{meant}", name_usage(&verb)))
}

/// Names the usage of a verb, as kubectl does behind an error about a flag.
fn name_usage(verb: &str) -> String {
    match verb {
        "diff" => "See 'podctl diff -h' for help and examples".to_owned(),
        _ => format!("See '{} --help' for usage.", format!("podctl {verb}").trim_end()),
    }
}

/// Tells that the value of a switch is neither yes nor no.
fn explain_switch(refusal: &clap::Error, args: &[OsString]) -> Option<String> {
    let flag = context(refusal, ContextKind::InvalidArg)?;
    let value = context(refusal, ContextKind::InvalidValue)?;
    let verb = find_verb(&build_parser(), args);
    let (flag, usage) = (name_flag(&verb, &flag), name_usage(&verb));
    Some(format!(
        "invalid argument {value:?} for {flag:?} flag: strconv.ParseBool: parsing {value:?}: invalid syntax\n{usage}"
    ))
}

/// Names a flag with its letter, if it has one.
fn name_flag(verb: &str, flag: &str) -> String {
    let parser = build_parser();
    let command = verb
        .split_whitespace()
        .try_fold(&parser, |command, word| command.find_subcommand(word))
        .unwrap_or(&parser);
    let named = |arg: &&clap::Arg| {
        arg.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long))
            || arg.get_short().is_some_and(|letter| flag == format!("-{letter}"))
    };
    let found = command.get_arguments().find(named);
    match found.and_then(|arg| Some((arg.get_short()?, arg.get_long()?))) {
        Some((letter, long)) => format!("-{letter}, --{long}"),
        None => flag.to_owned(),
    }
}

/// Tells that a flag has no value, or not one of its kind.
fn explain_value(refusal: &clap::Error, args: &[OsString]) -> Option<String> {
    let flag = context(refusal, ContextKind::InvalidArg)?;
    let flag = flag.split([' ', '=', '[']).next()?.to_owned();
    let value = context(refusal, ContextKind::InvalidValue)?;
    if flag == "<SHELL>" {
        return Some(format!(
            "Unsupported shell type {value:?}.\nSee 'podctl completion -h' for help and examples"
        ));
    }
    if !flag.starts_with('-') {
        return None;
    }
    let verb = find_verb(&build_parser(), args);
    let usage = name_usage(&verb);
    if value.is_empty() {
        // As it was written: a letter, or the word.
        let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
        let last = args[..end].last()?.to_str()?;
        let written = match last.strip_prefix('-').filter(|letters| !letters.starts_with('-')) {
            Some(letters) => format!("{:?} in {last}", letters.chars().last()?),
            None => flag,
        };
        return Some(format!("flag needs an argument: {written}\n{usage}"));
    }
    if let Some(sentence) = explain_choice(&verb, &flag, &value) {
        return Some(sentence);
    }
    // Of other choices the parser's own words list what there is.
    let why = match std::error::Error::source(refusal) {
        Some(why) if why.downcast_ref::<ParseIntError>().is_some() => {
            format!("strconv.ParseInt: parsing {value:?}: invalid syntax")
        }
        Some(why) => why.to_string(),
        None if is_switch(refusal) => format!("strconv.ParseBool: parsing {value:?}: invalid syntax"),
        None => return None,
    };
    // kubectl looks at it when the flags have been read.
    if why.starts_with("Invalid dry-run value") {
        return Some(why);
    }
    let flag = name_flag(&verb, &flag);
    Some(format!("invalid argument {value:?} for {flag:?} flag: {why}\n{usage}"))
}

/// Tells whether the values that a flag can have are yes and no.
fn is_switch(refusal: &clap::Error) -> bool {
    let Some(ContextValue::Strings(all)) = refusal.get(ContextKind::ValidValue) else { return false };
    all.iter().all(|value| value == "true" || value == "false")
}

/// Says in kubectl's words that a flag, or a word, is none of those that there are.
fn explain_choice(verb: &str, flag: &str, value: &str) -> Option<String> {
    Some(match (verb, flag) {
        ("debug", "--profile") => format!("unknown profile: {value}"),
        ("api-resources", "--output") => format!(
            "unable to match a printer suitable for the output format {value:?}, allowed formats are: json,kyaml,name,wide,yaml"
        ),
        ("api-resources", "--sort-by") => "--sort-by accepts only name or kind".into(),
        ("top", "--sort-by") => "--sort-by accepts only cpu or memory".into(),
        (_, "--override-type") => format!("invalid override type: {value}"),
        (_, "--cascade") => {
            format!("invalid cascade value ({value}). Must be \"background\", \"foreground\", or \"orphan\"")
        }
        ("run", "--port") => "--port must be a number".into(),
        ("run", "--image-pull-policy") => {
            format!("invalid image pull policy: {value}, valid values are: Always, IfNotPresent, Never")
        }
        ("config get-contexts", "--output") => format!(
            "--output {value} is not available in podctl config get-contexts; resetting to default output format"
        ),
        _ => return None,
    })
}

/// Says in kubectl's words that there are more words than a verb takes; `P` parses the line.
fn explain_extra_words<P: Parser>(refusal: &clap::Error, args: &[OsString]) -> Option<String> {
    let mut extra = vec![context(refusal, ContextKind::InvalidArg).filter(|word| !word.starts_with('-'))?];
    let verb = find_verb(&build_parser(), args);
    let mut left = args.to_vec();
    loop {
        let at = left.iter().rposition(|arg| Some(arg) == extra.last().map(OsString::from).as_ref())?;
        left.remove(at);
        let Err(next) = P::try_parse_from(&left) else { break };
        let word = (next.kind() == ErrorKind::UnknownArgument)
            .then(|| context(&next, ContextKind::InvalidArg).filter(|word| !word.starts_with('-')));
        match word.flatten() {
            Some(word) => extra.push(word),
            None => break,
        }
    }
    let see = format!("See 'podctl {verb} -h' for help and examples");
    let all = extra.join(" ");
    match verb.as_str() {
        "version" => Some(format!("extra arguments: [{all}]")),
        "api-resources" | "api-versions" | "config view" => {
            Some(format!("unexpected arguments: [{all}]\n{see}"))
        }
        "apply" | "diff" => Some(format!("Unexpected args: [{all}]\n{see}")),
        "replace" => Some("must specify one of -f and -k".into()),
        "cp" => explain_missing_words(&verb),
        "explain" => Some("We accept only this format: explain RESOURCE".into()),
        "completion" => Some(format!("Too many arguments. Expected only the shell type.\n{see}")),
        _ if verb.starts_with("create ") => {
            Some(format!("exactly one NAME is required, got {}\n{see}", extra.len() + 1))
        }
        _ => None,
    }
}

/// Says in kubectl's words that a command line has both of two things that exclude each other.
fn explain_conflict(refusal: &clap::Error, args: &[OsString]) -> Option<String> {
    let word = context(refusal, ContextKind::InvalidSubcommand)?;
    let verb = find_verb(&build_parser(), args);
    (verb == "create" || verb == "apply")
        .then(|| format!("Unexpected args: [{word}]\nSee 'podctl {verb} -h' for help and examples"))
}

/// Returns what of a command line is missing: flags before words, as kubectl looks for them.
fn explain_missing(refusal: &clap::Error, args: &[OsString]) -> Option<String> {
    let Some(ContextValue::Strings(all)) = refusal.get(ContextKind::InvalidArg) else { return None };
    let flags = all.iter().map(|flag| flag.strip_prefix("--").and_then(|flag| flag.split([' ', '=']).next()));
    let flags: Vec<String> = flags.flatten().map(|flag| format!("{flag:?}")).collect();
    match flags.is_empty() {
        true => explain_missing_words(&find_verb(&build_parser(), args)),
        false => Some(format!("required flag(s) {} not set", flags.join(", "))),
    }
}

/// Says in kubectl's words which words of a verb are missing.
fn explain_missing_words(verb: &str) -> Option<String> {
    let see = |what: &str| Some(format!("{what}\nSee 'podctl {verb} -h' for help and examples"));
    match verb {
        "exec" => Some("pod, type/name or --filename must be specified".into()),
        "attach" => Some("at least 1 argument is required for attach".into()),
        "cp" => Some("source and destination are required".into()),
        "port-forward" => see("TYPE/NAME and list of ports are required for port-forward"),
        "completion" => see("Shell not specified."),
        "logs" => see(
            "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command",
        ),
        _ if verb.starts_with("create ") => see("exactly one NAME is required, got 0"),
        _ => None,
    }
}

fn explain_unknown_command(refusal: &clap::Error, args: &[OsString]) -> Option<String> {
    let word = context(refusal, ContextKind::InvalidSubcommand)?;
    let verb = find_verb(&build_parser(), args);
    if let Some(why) = explain_creation(&word).filter(|_| verb == "create") {
        return Some(format!("failed to create {word}: {why}"));
    }
    if let Some(why) = explain_command(&word) {
        return Some(format!("there is no command {word:?} here: {why}"));
    }
    if verb == "create" || verb == "apply" {
        return Some(format!("Unexpected args: [{word}]\nSee 'podctl {verb} -h' for help and examples"));
    }
    let known = match refusal.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(all)) => all.clone(),
        Some(ContextValue::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    };
    if !verb.is_empty() {
        return Some(format!("unknown command {word:?}\nSee 'podctl {verb} -h' for help and examples"));
    }
    let meant = match known.is_empty() {
        true => "\nSee 'podctl --help' for all commands.".to_owned(),
        false => format!("\n\nDid you mean this?\n\t{}", known.join("\n\t")),
    };
    Some(format!("unknown command {word:?} for \"podctl\"{meant}"))
}

/// The verb of a command line, with those below it: `rollout status`.
fn find_verb(command: &Command, args: &[OsString]) -> String {
    let (mut command, mut verb) = (command, Vec::new());
    for word in args.iter().skip(1).take_while(|word| *word != "--") {
        if let Some(below) = command.find_subcommand(word) {
            verb.push(below.get_name().to_owned());
            command = below;
        }
    }
    verb.join(" ")
}

/// Tells where a flag stands, and its value if that is joined to it: `--flag=value`, `-v6`.
fn find_flag(args: &[OsString], flag: &str) -> Option<(usize, Option<String>)> {
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    args[..end].iter().enumerate().skip(1).find_map(|(at, arg)| {
        let rest = arg.to_str()?.strip_prefix(flag)?;
        match rest.strip_prefix('=') {
            Some(value) => Some((at, Some(value.to_owned()))),
            None if rest.is_empty() => Some((at, None)),
            None if !flag.starts_with("--") => Some((at, Some(rest.to_owned()))),
            None => None,
        }
    })
}
