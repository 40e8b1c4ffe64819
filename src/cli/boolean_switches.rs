//! Switches with a value, `--all-namespaces=true`, as kubectl's users and their scripts write them.

use std::ffi::OsString;

use clap::{ArgAction, Command};

/// Returns the command line with `--switch=true` as `--switch` and without `--switch=false`; other values are
/// left for the parser to refuse. `command` builds the parser, which costs half a millisecond, and is called
/// only when there is such an argument.
pub(super) fn resolve_switches(args: Vec<OsString>, command: impl FnOnce() -> Command) -> Vec<OsString> {
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    if !args[..end].iter().any(|arg| split_switch(arg).is_some()) {
        return args;
    }
    let command = command();
    let called = args[1..end].iter().find_map(|arg| command.find_subcommand(arg));
    let is_switch = |name: &str| {
        let all = called.into_iter().chain([&command]).flat_map(Command::get_arguments);
        all.filter(|arg| matches!(arg.get_action(), ArgAction::SetTrue)).any(|arg| {
            let mut short = [0; 4];
            arg.get_long().is_some_and(|long| name == format!("--{long}"))
                || arg.get_short().is_some_and(|c| name.strip_prefix('-') == Some(c.encode_utf8(&mut short)))
        })
    };
    let resolved = args.into_iter().enumerate().filter_map(|(place, arg)| {
        match split_switch(&arg).filter(|(name, _)| place < end && is_switch(name)) {
            Some((name, true)) => Some(name.into()),
            Some((_, false)) => None,
            None => Some(arg),
        }
    });
    resolved.collect()
}

/// Splits `--name=BOOLEAN`; the spellings are those of Go's `strconv.ParseBool`.
fn split_switch(arg: &OsString) -> Option<(&str, bool)> {
    let (name, value) = arg.to_str()?.split_once('=')?;
    let value = match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
        "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
        _ => return None,
    };
    name.starts_with('-').then_some((name, value))
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn command() -> Command {
        let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
        let get = Command::new("get").arg(switch("watch").short('w')).arg(Arg::new("output").long("output"));
        Command::new("podctl").subcommand(get).subcommand(Command::new("run").arg(switch("rm")))
    }

    fn resolve(line: &str) -> String {
        let args = line.split(' ').map(OsString::from).collect();
        let resolved = resolve_switches(args, command);
        resolved.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_switch_takes_true_and_false() {
        assert_eq!(resolve("podctl get --watch=true pods"), "podctl get --watch pods");
        assert_eq!(resolve("podctl get -w=1 pods --watch=false"), "podctl get -w pods");
    }

    #[test]
    fn what_is_no_switch_of_the_command_is_left_to_the_parser() {
        assert_eq!(resolve("podctl get --output=true --rm=true"), "podctl get --output=true --rm=true");
        assert_eq!(resolve("podctl get --watch=maybe"), "podctl get --watch=maybe");
        assert_eq!(resolve("podctl get -- --watch=true"), "podctl get -- --watch=true");
    }
}
