//! No field of a pod is forgotten: the table knows each, a test shows each that is honoured, docs/fields.md shows all.

use std::{fs, path::Path};

use podctl::manifest::support;

/// The project's own texts in Rust, with their paths; none where only the tests' binaries are.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut todo: Vec<_> = ["src", "tests", "runtime/src", "images/src"].map(|dir| root.join(dir)).into();
    let mut found = Vec::new();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[test]
fn every_honoured_field_names_a_test_that_there_is() {
    let sources = sources();
    let there_is = |test: &str| {
        let (suite, name) = test.split_once("::").unwrap_or((test, ""));
        let file = format!("/{suite}.rs");
        let mut suites =
            sources.iter().filter(|(path, _)| path.starts_with("tests/") && path.ends_with(&file));
        suites.any(|(_, text)| text.contains(&format!("#[test]\nfn {name}()")))
    };
    let absent: Vec<_> = support::tests().filter(|test| !sources.is_empty() && !there_is(test)).collect();
    assert!(absent.is_empty(), "{absent:#?}");
}

#[test]
fn every_field_of_the_schema_is_in_the_table() {
    assert_eq!(support::list_disagreements(), Vec::<String>::new());
}

#[test]
fn the_documentation_is_that_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fields.md");
    let sources = sources();
    let find_file = |test: &str| {
        let (suite, name) = test.split_once("::").unwrap_or((test, ""));
        let (file, function) = (format!("/{suite}.rs"), format!("fn {name}()"));
        // Files of one name stand in several folders.
        let mut all = sources.iter().filter(|(path, _)| path.starts_with("tests/") && path.ends_with(&file));
        let found = all.find(|(_, text)| text.contains(&function));
        found.map_or(String::new(), |(path, _)| path.trim_start_matches("tests/").to_owned())
    };
    let text = support::document(find_file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
        fs::write(path, &text).unwrap();
    }
    // The end-to-end tests also run where only their binary is.
    if let Ok(written) = fs::read_to_string(path) {
        assert!(
            written == text,
            "docs/fields.md is stale; UPDATE_DOCS=1 cargo test --test commands fields writes it"
        );
    }
}
