//! Switches with a value, `--all-namespaces=true`, as kubectl's users and their scripts write them.

use std::ffi::OsString;

use clap::{ArgAction, Command};

/// Returns the command line with `--switch=true` as `--switch` and without `--switch=false`, nor the same switch before
/// that, for the last one counts; other values are left for the parser to refuse. `command` builds the parser, which costs half a millisecond, and is called
/// only when there is such an argument.
pub(super) fn resolve_switches(args: Vec<OsString>, command: impl FnOnce() -> Command) -> Vec<OsString> {
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    if !args[..end].iter().any(|arg| split_switch(arg).is_some()) {
        return args;
    }
    let command = command();
    let called = args[1..end].iter().find_map(|arg| command.find_subcommand(arg));
    // Its names, the short one among them.
    let find_switch = |name: &str| {
        let all = called.into_iter().chain([&command]).flat_map(Command::get_arguments);
        let names = all.filter(|arg| matches!(arg.get_action(), ArgAction::SetTrue)).map(|arg| {
            let (long, short) = (arg.get_long(), arg.get_short());
            [long.map(|long| format!("--{long}")), short.map(|letter| format!("-{letter}"))]
        });
        names.into_iter().find(|names| names.iter().flatten().any(|own| own == name))
    };
    let mut resolved: Vec<OsString> = Vec::new();
    for (place, arg) in args.into_iter().enumerate() {
        let switch = split_switch(&arg).filter(|_| place < end);
        match switch.and_then(|(name, on)| Some((name, on, find_switch(name)?))) {
            Some((name, true, _)) => resolved.push(name.into()),
            Some((_, false, names)) => {
                resolved.retain(|before| !names.iter().flatten().any(|own| before == own.as_str()));
            }
            None => resolved.push(arg),
        }
    }
    resolved
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
        assert_eq!(resolve("podctl get -w=1 pods --watch=false"), "podctl get pods");
        assert_eq!(resolve("podctl get --watch=false pods -w"), "podctl get pods -w");
    }

    #[test]
    fn what_is_no_switch_of_the_command_is_left_to_the_parser() {
        assert_eq!(resolve("podctl get --output=true --rm=true"), "podctl get --output=true --rm=true");
        assert_eq!(resolve("podctl get --watch=maybe"), "podctl get --watch=maybe");
        assert_eq!(resolve("podctl get -- --watch=true"), "podctl get -- --watch=true");
    }
}
