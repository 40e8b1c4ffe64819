//! No field of a pod is forgotten: the table knows each, and docs/fields.md shows it.

use podctl::manifest::support;

#[test]
fn every_field_of_the_schema_is_in_the_table() {
    assert_eq!(support::disagreements(), Vec::<String>::new());
}

#[test]
fn the_documentation_is_that_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fields.md");
    let text = support::document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
        std::fs::write(path, &text).unwrap();
    }
    // The end-to-end tests also run where only their binary is.
    if let Ok(written) = std::fs::read_to_string(path) {
        assert!(written == text, "docs/fields.md is stale; UPDATE_DOCS=1 cargo test --test fields writes it");
    }
}
