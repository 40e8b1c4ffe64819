//! The table of `kubectl` commands in `kubectl.cases`: what each prints, and how it ends.

use std::{fs, os::unix::process::ExitStatusExt, process::Command};

use super::{client, clients, common::Home};

/// A command of the table.
struct Case<'a> {
    command: &'a str,
    expected: Vec<&'a str>,
    code: i32,
}

fn parse_cases(text: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(command) = line.strip_prefix("$ ") {
            cases.push(Case { command, expected: Vec::new(), code: 0 });
        } else if let Some(case) = cases.last_mut() {
            match line.strip_prefix("? ") {
                Some(code) => case.code = code.parse().unwrap(),
                None => case.expected.push(line),
            }
        }
    }
    cases
}

/// Tells whether a line is as expected: `[..]` stands for any text, and columns may be of any width.
fn is_line(line: &str, expected: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, expected) = (words(line), words(expected));
    let parts: Vec<&str> = expected.split("[..]").collect();
    let [first, middle @ .., last] = &parts[..] else { return line == expected };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Tells whether all lines are as expected: `...` stands for any number of lines.
fn are_lines(lines: &[&str], expected: &[&str]) -> bool {
    match (expected.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((&"...", rest)), _) => (0..=lines.len()).any(|skipped| are_lines(&lines[skipped..], rest)),
        (Some((wanted, expected)), Some((line, lines))) => {
            is_line(line, wanted) && are_lines(lines, expected)
        }
        _ => false,
    }
}

#[test]
fn kubectl_does_and_says_what_it_does_and_says_with_a_cluster() {
    let home = Home::new();
    for (name, text) in [
        ("map.yaml", include_str!("files/map.yaml")),
        ("unknown.yaml", include_str!("files/unknown.yaml")),
        ("stale.yaml", include_str!("files/stale.yaml")),
        ("deployment.yaml", include_str!("files/deployment.yaml")),
        ("failing-job.yaml", include_str!("files/failing-job.yaml")),
        ("sized.yaml", include_str!("files/sized.yaml")),
        ("claim.yaml", include_str!("files/claim.yaml")),
        ("web.yaml", include_str!("files/web.yaml")),
        ("early.yaml", include_str!("files/early.yaml")),
        ("typo.yaml", include_str!("files/typo.yaml")),
        ("pod-name.yaml", include_str!("files/pod-name.yaml")),
        ("wrong.yaml", include_str!("files/wrong.yaml")),
        ("generated.yaml", include_str!("files/generated.yaml")),
    ] {
        fs::write(home.path(name), text).unwrap();
    }
    let cases = parse_cases(include_str!("kubectl.cases"));
    assert!(cases.len() > 280, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let mut shell = client(&home, "bash");
        // One stream, in the order of writing.
        shell.args(["-c", &format!("exec 2>&1; {}", case.command)]).env("EDITOR", "sed -i s/three/edited/");
        let output = shell.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let code = output.status.code().or(output.status.signal()).unwrap();
        if code != case.code || !are_lines(&lines, &case.expected) {
            wrong.push(format!(
                "$ {}\n{text}? {code}; expected {:?} ? {}",
                case.command, case.expected, case.code
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The flags that `kubectl VERB --help` lists: long names, and the short ones behind them.
fn list_flags(verb: &str) -> Vec<String> {
    let mut words: Vec<&str> = verb.split(' ').collect();
    words.push("--help");
    if verb == "every command" {
        words = vec!["options"];
    }
    let output = Command::new(clients("clients").join("bin/kubectl")).args(&words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut flags: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let (flags, _) = line.strip_prefix("    ")?.strip_suffix(':')?.split_once('=')?;
            let (short, long) = flags.split_once(", ").unwrap_or(("", flags));
            let long = long.strip_prefix("--").filter(|long| !long.contains(' '))?;
            Some(format!("{long} {}", short.trim_start_matches('-')).trim_end().to_owned())
        })
        .collect();
    flags.sort();
    flags
}

#[test]
fn the_list_of_kubectls_flags_is_what_kubectl_says() {
    let (mut wrong, mut verb, mut own) = (Vec::new(), "", Vec::new());
    let lines = include_str!("files/kubectl-flags.txt").lines().chain(["* "]);
    for line in lines {
        match line.strip_prefix("* ") {
            Some(next) => {
                own.sort();
                if !verb.is_empty() && list_flags(verb) != own {
                    wrong.push(format!("{verb}: {:?}, not {own:?}", list_flags(verb)));
                }
                (verb, own) = (next, Vec::new());
            }
            None => own.push(line.to_owned()),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn expected_lines_stand_for_what_differs_each_time() {
    assert!(is_line("web   1/1   Running   0   12s", "web 1/1 Running 0 [..]"));
    assert!(is_line("podctl.0.1.0\",", "podctl.[..]\","));
    assert!(!is_line("web 0/1 Running 0 12s", "web 1/1 Running 0 [..]"));
    assert!(!is_line("web", "we"));
    assert!(are_lines(&["a", "b", "c"], &["...", "c"]) && !are_lines(&["a", "b"], &["a"]));
}

#[test]
fn kubectl_reads_the_manifests_of_the_corpus_as_they_are_kept() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/corpus");
    let kubectl = super::clients("clients").join("bin/kubectl");
    let output = std::process::Command::new(script).env("KUBECTL", kubectl).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// What is exported is taken elsewhere: with the API's own schemas, and without a word about unknown or double fields.
#[test]
fn kubectl_takes_what_podctl_exports() {
    let home = Home::new();
    fs::write(home.path("all.yaml"), include_str!("files/export.yaml")).unwrap();
    home.said(&["run", "-d", home.path("all.yaml").to_str().unwrap()]);
    fs::write(home.path("export.yaml"), home.said(&["export", "-l", "app=shop"])).unwrap();
    let mut shell = client(&home, "bash");
    let apply = "kubectl create namespace elsewhere >/dev/null
        kubectl -n elsewhere apply --validate=strict -f export.yaml 2>&1";
    let output = shell.args(["-c", apply]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    let expected =
        ["configmap/settings", "persistentvolumeclaim/data", "pod/shop", "secret/password", "service/shop"];
    assert_eq!(lines, expected.map(|name| format!("{name} created")), "{said}");
    // A line of it that the API does not know is found.
    let wrong = "sed -i 's/^  containers:/  containersss: []\\n&/' export.yaml
        kubectl -n elsewhere apply --validate=strict -f export.yaml 2>&1
        kubectl delete namespace elsewhere >/dev/null";
    let output = client(&home, "bash").args(["-c", wrong]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("containersss"), "{output:?}");
}
