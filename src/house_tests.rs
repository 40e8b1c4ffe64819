//! What holds the house together, checked on its own text: which folder may import which, which do no input and output,
//! which rules there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Folders and single files of `src/` from the ground up, each with what it may import. An arrow leads to what stands
/// above its line only, so there is no circle. A new arrow is a new word here.
const ARROWS: &[(&str, &str)] = &[
    ("pod", ""),
    ("lifecycle", "pod"),
    ("manifest", "pod"),
    ("process", ""),
    ("outer_container", ""),
    ("archive", ""),
    ("state", "pod process"),
    ("logs", "pod state"),
    ("sandbox", "pod manifest outer_container state"),
    ("wire", "archive lifecycle logs pod sandbox state"),
    ("network", "outer_container pod process state wire"),
    ("userns_holder", "process"),
    ("puller", "pod process wire"),
    ("supervisor", "archive lifecycle logs manifest network outer_container pod process sandbox state wire"),
    ("view", "lifecycle manifest network pod"),
    (
        "engine",
        "archive lifecycle logs manifest network outer_container pod process puller sandbox state userns_holder view wire",
    ),
    ("server", "archive engine lifecycle logs manifest network pod process state view wire"),
    (
        "cli",
        "archive engine lifecycle logs manifest network outer_container pod process sandbox server state view wire",
    ),
    ("testing", "engine manifest pod"),
    ("asynchronous", "engine testing"),
    ("roles", "cli engine network process puller server supervisor userns_holder"),
];

/// Folders that are functions of their arguments: no system call, no clock, no environment.
const PURE: [&str; 4] = ["pod", "lifecycle", "manifest", "view"];

/// Words of what a pure folder does not do.
const IMPURE: [&str; 9] = [
    "nix::",
    "libc::",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
];

/// The texts of a folder's Rust files, by path from the project's root.
fn read_sources(folders: &[&str]) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut todo: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut found = BTreeMap::new();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    found
}

/// The house's own code: without tests, and without comments.
fn read_code() -> BTreeMap<String, String> {
    let mut code = read_sources(&["src"]);
    let is_test =
        |path: &str| path.ends_with("tests.rs") || path.contains("/tests/") || path.contains("/damaged_");
    code.retain(|path, _| !is_test(path));
    for text in code.values_mut() {
        let own = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        *text = own
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n");
    }
    code
}

/// The folder or file right below `src/` that a path is in.
fn find_room(path: &str) -> &str {
    path.trim_start_matches("src/").split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// The module of a file below `src/`: `src/cli/commands/run/mod.rs` is `cli`, `commands`, `run`.
fn find_module(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// The names and marks of a text, as far as paths are made of them.
fn split_tokens(text: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            c => c.len_utf8(),
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Adds the paths of the tree that begins at `at`; returns where it ends.
fn collect_paths(tokens: &[&str], mut at: usize, before: &[&str], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens.get(at) {
            Some(&"{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| *token != "}") {
                    at = match tokens[at] {
                        "," => at + 1,
                        "as" => at + 2,
                        _ => collect_paths(tokens, at, &path, found),
                    };
                }
                return at + 1;
            }
            Some(word) => path.push(word),
            None => return at,
        }
        if tokens.get(at + 1) != Some(&"::") {
            found.push(path.into_iter().map(str::to_owned).collect());
            return at + 1;
        }
        at += 2;
    }
}

/// The modules and items of this crate that a module's text names after `crate` or `super`, in a `use` of several as well:
/// each by its path from the crate's root.
fn find_paths(text: &str, module: &[String]) -> Vec<Vec<String>> {
    let tokens = split_tokens(text);
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(token) = tokens.get(at) {
        let begins = ["crate", "super"].contains(token) && (at == 0 || tokens[at - 1] != "::");
        at = if begins { collect_paths(&tokens, at, &[], &mut found) } else { at + 1 };
    }
    let resolve = |path: Vec<String>| {
        let above = path.iter().take_while(|word| *word == "super").count();
        let base = if above == 0 { &[] } else { &module[..module.len().saturating_sub(above)] };
        base.iter().cloned().chain(path.into_iter().skip(above.max(1))).collect()
    };
    found.into_iter().map(resolve).collect()
}

#[test]
fn arrows_between_folders_are_those_of_the_list_and_run_downwards() {
    for (at, (room, below)) in ARROWS.iter().enumerate() {
        for other in below.split_whitespace() {
            assert!(ARROWS[..at].iter().any(|(known, _)| *known == other), "{room} stands below {other}");
        }
    }
    let allowed: BTreeMap<&str, Vec<&str>> =
        ARROWS.iter().map(|(room, below)| (*room, below.split_whitespace().collect())).collect();
    let mut wrong = Vec::new();
    for (path, text) in read_code() {
        let room = find_room(&path);
        if ["lib", "main"].contains(&room) {
            continue;
        }
        let Some(below) = allowed.get(room) else {
            wrong.push(format!("{path}: src/{room} is not in the list"));
            continue;
        };
        let imports: BTreeSet<String> = find_paths(&text, &find_module(&path))
            .into_iter()
            .filter_map(|import| import.into_iter().next())
            .filter(|import| allowed.contains_key(import.as_str()))
            .collect();
        for import in imports {
            if import != room && !below.contains(&import.as_str()) {
                wrong.push(format!("{path} imports {import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_use_of_several_names_each_path() {
    let text = "use crate::{\n    pod::{Place, quantity::x},\n    state,\n};\nuse super::{a as z, super::b::C};\nfn f() { crate::view::g() }";
    let module = find_module("src/cli/commands/run/start.rs");
    let found: Vec<String> = find_paths(text, &module).iter().map(|path| path.join("::")).collect();
    let own = "cli::commands::run";
    assert_eq!(
        found,
        ["pod::Place", "pod::quantity::x", "state", &format!("{own}::a"), "cli::commands::b::C", "view::g"]
    );
}

#[test]
fn commands_do_not_import_one_another_nor_does_what_they_share_import_them() {
    let mut wrong = Vec::new();
    for (path, text) in read_code().into_iter().filter(|(path, _)| path.starts_with("src/cli/")) {
        // These two name the commands for the program as a whole.
        if ["src/cli/mod.rs", "src/cli/commands/mod.rs"].contains(&path.as_str()) {
            continue;
        }
        let module = find_module(&path);
        let own = module.get(2).filter(|_| module[1] == "commands");
        for import in find_paths(&text, &module) {
            let is_command = import.len() > 2 && import[..2] == ["cli", "commands"];
            if is_command && import.get(2) != own {
                wrong.push(format!("{path} imports {}", import.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_folders_do_no_input_and_output() {
    let mut wrong = Vec::new();
    for (path, text) in read_code() {
        let found = IMPURE.iter().filter(|word| PURE.contains(&find_room(&path)) && text.contains(**word));
        wrong.extend(found.map(|word| format!("{path}: {word}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The numbers of rules, such as `R-INIT-3`, that a text cites.
fn find_rules(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("R-") {
        let rest = &text[at + 2..];
        let family: String = rest.chars().take_while(char::is_ascii_uppercase).collect();
        let number = rest[family.len()..].strip_prefix('-').unwrap_or_default();
        let number: String = number.chars().take_while(char::is_ascii_digit).collect();
        if !family.is_empty() && !number.is_empty() {
            found.insert(format!("R-{family}-{number}"));
        }
    }
    found
}

#[test]
fn every_rule_that_is_cited_is_in_the_register_and_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let register = fs::read_to_string(root.join("docs/rules.md")).unwrap();
    let sources = read_sources(&["src", "tests", "runtime/src", "images/src", "images/tests"]);
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    for row in register.lines().filter(|line| line.starts_with("| R-")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [rule, _, _, files, tests] = cells[..] else {
            wrong.push(format!("a row has five cells: {row}"));
            continue;
        };
        known.insert(rule.to_owned());
        let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let absent = names(files).into_iter().filter(|file| !root.join(file).exists());
        wrong.extend(absent.map(|file| format!("{rule}: there is no {file}")));
        let prefix = format!("fn {}_", rule.to_lowercase().replace('-', "_"));
        for test in names(tests) {
            let (file, test) = test.split_once("::").unwrap_or((&test, ""));
            if !sources.get(file).is_some_and(|text| text.contains(&format!("fn {test}("))) {
                wrong.push(format!("{rule}: there is no test {test} in {file}"));
            }
        }
        if names(tests).is_empty() || !sources.values().any(|text| text.contains(&prefix)) {
            wrong.push(format!("{rule}: no test is called {prefix}…"));
        }
    }
    for (path, text) in &sources {
        // This file's own examples are no citations.
        let cited =
            find_rules(text).into_iter().filter(|rule| !known.contains(rule) && path != "src/house_tests.rs");
        wrong.extend(cited.map(|rule| format!("{path} cites {rule}, which docs/rules.md has not")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_tests_that_cover_kubernetes_own_node_tests_exist() {
    let table = include_str!("../docs/node-tests.md");
    let sources = read_sources(&["src", "tests"]);
    let mut wrong = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| family")) {
        let Some((family, cell)) = row.trim_matches('|').split_once(" | ") else { continue };
        let tests: Vec<&str> =
            cell.split('`').skip(1).step_by(2).filter(|test| test.contains("::")).collect();
        if tests.is_empty() && !cell.starts_with("none: ") {
            wrong.push(format!("{family}: neither a test nor a reason"));
        }
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or((test, ""));
            if !sources.get(file).is_some_and(|text| text.contains(&format!("fn {name}("))) {
                wrong.push(format!("{family}: there is no test {name} in {file}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Licences that may be combined with Apache-2.0 in a binary that is handed on; `deny.toml` has the same list.
const LICENCES: [&str; 10] = [
    "MIT",
    "Apache-2.0",
    "Zlib",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "bzip2-1.0.6",
    "CDLA-Permissive-2.0",
];

/// Tells whether an expression of SPDX can be fulfilled by these licences: one of what `OR` divides, all of what `AND` does.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|licence| LICENCES.contains(&licence.trim())))
}

#[test]
fn dependencies_come_from_the_public_registry_under_licences_that_go_with_ours() {
    assert!(is_allowed("(MIT OR GPL-3.0) AND Unicode-3.0") && !is_allowed("MIT AND GPL-3.0"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages {
        let (name, source) = (&package["name"], package["source"].as_str());
        let own = package["manifest_path"].as_str().is_some_and(|path| Path::new(path).starts_with(root));
        let registry = source == Some("registry+https://github.com/rust-lang/crates.io-index");
        assert!(own || registry, "{name} comes from {source:?}");
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_allowed(licence), "{name} has the licence {licence:?}");
    }
    let deny = fs::read_to_string(root.join("deny.toml")).unwrap();
    for licence in LICENCES {
        assert!(deny.contains(&format!("\"{licence}\"")), "deny.toml does not know {licence}");
    }
}

/// Nothing is ignored in silence: the reason is on the line itself or a few lines above it.
#[test]
fn every_result_that_is_dropped_has_its_reason_beside_it() {
    let mut wrong = Vec::new();
    for (path, text) in read_sources(&["src", "runtime/src", "images/src"]) {
        let is_test = path.contains("/tests") || path.ends_with("_tests.rs");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines: Vec<&str> = code.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| !is_test && line.contains("let _ = ")) {
            let above = &lines[at.saturating_sub(5)..at];
            if !line.contains("// ") && !above.iter().any(|line| line.trim_start().starts_with("// ")) {
                wrong.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
