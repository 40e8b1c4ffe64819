use clap::Command;

use super::*;

/// The flags that kubectl's own `--help` lists for each verb; a test of the clients keeps them what the real kubectl says.
const KUBECTL: &str = include_str!("../../../tests/clients/files/kubectl-flags.txt");

/// The table of the documentation, which is made here.
const DOCUMENT: &str = "docs/kubectl-flags.md";

const HEAD: &str = "# kubectl's flags

Every flag that kubectl 1.37 has for a verb of podctl's, and what becomes of it. This table is made from `kubectl --help`
by a test (`PODCTL_WRITE_DOCS=1 cargo test --lib kubectl_flags` writes it anew).

- **honoured**: it does here what it does in kubectl; `podctl VERB --help` describes it.
- **fulfilled**: it is taken, and what it asks for is so anyway, for the reason that is given.
- **refused**: it is an error, which gives the reason.
";

/// The command that a verb of kubectl's is here; `top pod` and `top node` are words of one.
fn find_command<'a>(top: &'a Command, verb: &str) -> &'a Command {
    verb.split(' ').fold(top, |command, word| command.find_subcommand(word).unwrap_or(command))
}

fn has_flag(top: &Command, command: &Command, long: &str, short: Option<&str>) -> bool {
    let arguments = command.get_arguments().chain(top.get_arguments().filter(|arg| arg.is_global_set()));
    arguments
        .filter(|arg| arg.get_long() == Some(long))
        .any(|arg| short.is_none_or(|short| arg.get_short().is_some_and(|own| short.chars().eq([own]))))
}

#[test]
fn every_flag_of_kubectl_is_honoured_or_refused_with_its_reason() {
    let top = super::super::build_parser();
    let (mut table, mut missing, mut verb) = (HEAD.to_owned(), Vec::new(), "");
    for line in KUBECTL.lines() {
        if let Some(next) = line.strip_prefix("* ") {
            verb = next;
            table += &format!("\n## {verb}\n\n| flag | | |\n|---|---|---|\n");
            continue;
        }
        let (long, short) = line.split_once(' ').map_or((line, None), |(long, short)| (long, Some(short)));
        // `describe` has none of them that most commands have not.
        let name = if verb == "every command" { "describe" } else { verb };
        let state = match (has_flag(&top, find_command(&top, name), long, short), find_treatment(name, long))
        {
            (true, _) => ("honoured", ""),
            (false, Some((Treatment::Refused(why), _))) => ("refused", why),
            (false, Some((Treatment::Fulfilled(why), _))) => ("fulfilled", why),
            (false, Some((Treatment::FulfilledBy(_, why), _))) => ("fulfilled", why),
            (false, None) => {
                missing.push(format!("{verb} --{long}"));
                continue;
            }
        };
        let short = short.map(|short| format!(", -{short}")).unwrap_or_default();
        table += &format!("| --{long}{short} | {} | {} |\n", state.0, state.1.replace('|', "\\|"));
    }
    assert!(missing.is_empty(), "{missing:#?}");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    if std::env::var_os("PODCTL_WRITE_DOCS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == table, "{DOCUMENT} is not what this test makes; run it with PODCTL_WRITE_DOCS=1");
}

#[test]
fn a_verbs_own_entry_goes_before_that_of_all() {
    assert!(matches!(find_treatment("get", "--token"), Some((Treatment::Refused(_), true))));
    assert!(matches!(find_treatment("diff", "--server-side"), Some((Treatment::Fulfilled(_), false))));
    assert!(find_treatment("rollout status", "--revision").is_some());
    assert_eq!(find_treatment("get", "--nothing"), None);
    assert!(explain_command("build").is_some() && explain_command("get").is_none());
}
