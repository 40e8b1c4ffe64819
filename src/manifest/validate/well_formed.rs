//! Names, labels, ports and ids: what is well formed, in the API server's words.

use std::collections::BTreeMap;

use super::super::{Report, typed::entry};
use crate::pod::identifiers::{SUBDOMAIN, check_label, check_subdomain, is_label};

const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name')";

pub(in super::super) fn one_of(value: Option<&str>, allowed: &[&str], path: &str, report: &mut Report<'_>) {
    if let Some(value) = value
        && !allowed.contains(&value)
    {
        let list: Vec<String> = allowed.iter().map(|a| format!("{a:?}")).collect();
        report
            .add_error(path, format!("Unsupported value: {value:?}: supported values: {}", list.join(", ")));
    }
}

/// Between two bounds, both allowed.
pub(in super::super) fn within(
    value: Option<i64>,
    least: i64,
    most: i64,
    path: &str,
    report: &mut Report<'_>,
) {
    let Some(value) = value.filter(|v| !(least..=most).contains(v)) else { return };
    let bounds = match most {
        i64::MAX => format!("must be greater than or equal to {least}"),
        _ => format!("must be between {least} and {most}, inclusive"),
    };
    report.add_error(path, format!("Invalid value: {value}: {bounds}"));
}

/// Checks a name that must be given: a label.
pub(super) fn dns_label(name: &str, path: &str, report: &mut Report<'_>) {
    named(name, check_label(name), path, report);
}

/// Checks a name that must be given: labels with dots between them.
pub(super) fn dns_subdomain(name: &str, path: &str, report: &mut Report<'_>) {
    named(name, check_subdomain(name), path, report);
}

fn named(name: &str, checked: Result<(), String>, path: &str, report: &mut Report<'_>) {
    match checked {
        Err(_) if name.is_empty() => report.add_error(path, "Required value"),
        Err(rule) => report.add_error(path, format!("Invalid value: {name:?}: {rule}")),
        Ok(()) => {}
    }
}

fn is_word(text: &str) -> bool {
    let outer = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    outer(bytes.first())
        && outer(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

pub(super) fn check_labels(labels: Option<&BTreeMap<String, String>>, path: &str, report: &mut Report<'_>) {
    for (key, value) in labels.into_iter().flatten() {
        qualified(key, path, report);
        if value.len() > 63 {
            let message = format!("Invalid value: {value:?}: must be no more than 63 characters");
            report.add_error(&entry(path, key), message);
        } else if !value.is_empty() && !is_word(value) {
            report.add_error(&entry(path, key), format!("Invalid value: {value:?}: {LABEL_VALUE}"));
        }
    }
}

pub(super) fn annotations(all: Option<&BTreeMap<String, String>>, path: &str, report: &mut Report<'_>) {
    const MOST: usize = 256 << 10;
    for key in all.into_iter().flatten().map(|(key, _)| key) {
        qualified(&key.to_lowercase(), path, report);
    }
    let size: usize = all.into_iter().flatten().map(|(key, value)| key.len() + value.len()).sum();
    if size > MOST {
        report.add_error(path, format!("Too long: may not be more than {MOST} bytes"));
    }
    // Who comes from there has them in his files, and looks for their effect in vain.
    let of_podman =
        |key: &&String| key.starts_with("io.podman.annotations.") || key.starts_with("volume.podman.io/");
    for key in all.into_iter().flatten().map(|(key, _)| key).filter(of_podman) {
        report.warn(&entry(path, key), "is an annotation of podman's; podctl does nothing with it");
    }
}

/// `[PREFIX/]NAME`.
fn qualified(key: &str, path: &str, report: &mut Report<'_>) {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if name.len() > 63 {
        let message = format!("Invalid value: {key:?}: name part must be no more than 63 characters");
        report.add_error(&entry(path, key), message);
    } else if !is_word(name) {
        report.add_error(&entry(path, key), format!("Invalid value: {key:?}: {QUALIFIED}"));
    }
    if let Some(prefix) = prefix
        && !(prefix.len() <= 253 && prefix.split('.').all(is_label))
    {
        report.add_error(&entry(path, key), format!("Invalid value: {key:?}: prefix part {SUBDOMAIN}"));
    }
}

/// Checks a key of a ConfigMap or a Secret.
pub(super) fn config_key(key: &str, path: &str, report: &mut Report<'_>) {
    let wrong = match key {
        "" => return report.add_error(path, "Required value"),
        "." | ".." => "must not be '.' or '..'".to_owned(),
        key if key.starts_with("..") => "must not start with '..'".to_owned(),
        key if key.len() > 253 => "must be no more than 253 characters".to_owned(),
        key if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) => {
            CONFIG_KEY.to_owned()
        }
        _ => return,
    };
    report.add_error(path, format!("Invalid value: {key:?}: {wrong}"));
}

/// Checks a port's name, an IANA service name.
pub(super) fn port_name(name: &str, path: &str, report: &mut Report<'_>) {
    let mut wrong = Vec::new();
    if name.len() > 15 {
        wrong.push("must be no more than 15 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        wrong.push("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        wrong.push("must not begin or end with a hyphen");
    }
    for wrong in wrong {
        report.add_error(path, format!("Invalid value: {name:?}: {wrong}"));
    }
}

/// Checks a path within a volume: relative and not climbing.
pub(super) fn inner_path(text: &str, path: &str, report: &mut Report<'_>) {
    if text.starts_with('/') {
        report.add_error(path, format!("Invalid value: {text:?}: must be a relative path"));
    }
    if text.split('/').any(|part| part == "..") {
        report.add_error(path, format!("Invalid value: {text:?}: must not contain '..'"));
    }
}
