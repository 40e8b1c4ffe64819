//! Which fields of a pod and a Service podctl honours: one table, which validation reads and `docs/fields.md` shows.
//!
//! A type that is not in the table is one that is only reached through a field that is not honoured. Each honoured
//! field names a test of `tests/` that shows it.

mod field_table;

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::Value;

use self::field_table::TABLE;
use super::{Report, Severity, schema, typed};

/// Names what becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Means that it does what the API says.
    Honoured,
    /// The pod is not started, for without the field it would behave otherwise.
    Refused,
    /// The warning: on one machine it changes nothing.
    NoMeaning,
}

use Support::{NoMeaning, Refused};

/// The type; its honoured fields with the test of each; all others with the reason.
type Row =
    (&'static str, &'static [(&'static str, &'static str)], &'static [(&'static str, Support, &'static str)]);

/// Names what a pod or a Service begins with: the types that no other one leads to. The last is shown first.
const ROOTS: [&str; 4] = ["EphemeralContainer", "ObjectMeta", "ServiceSpec", "PodSpec"];

/// The fields of each type and the types of those, asked once.
static TYPES: LazyLock<BTreeMap<&'static str, Vec<schema::Field>>> = LazyLock::new(schema::of_specs);

/// Returns what becomes of a field, and why, or which test shows it; none for one that the table does not know.
pub fn of(kind: &str, field: &str) -> Option<(Support, &'static str)> {
    let (_, honoured, rest) = TABLE.iter().find(|(known, ..)| *known == kind)?;
    let mut honoured = honoured.iter();
    if let Some((_, test)) = honoured.find(|(fields, _)| fields.split(' ').any(|known| known == field)) {
        return Some((Support::Honoured, test));
    }
    rest.iter().find(|(known, ..)| *known == field).map(|(_, support, why)| (*support, *why))
}

/// The honoured field of that type whose own type has a field of this name.
pub(super) fn beneath(kind: &str, field: &str) -> Option<&'static str> {
    let has =
        |inner: &str| TYPES.get(inner).is_some_and(|fields| fields.iter().any(|(name, _)| *name == field));
    let honoured = |name: &str| matches!(of(kind, name), Some((Support::Honoured, _)) | None);
    let mut fields = TYPES.get(kind)?.iter();
    fields.find(|(name, inner)| honoured(name) && inner.is_some_and(has)).map(|(name, _)| *name)
}

/// Complains about every field of a spec that is not honoured.
pub(super) fn check(spec: &Value, path: &str, report: &mut Report<'_>) {
    object("PodSpec", spec, path, report);
}

/// Complains about every field of an object of that type that is not honoured.
pub(super) fn object(kind: &str, value: &Value, path: &str, report: &mut Report<'_>) {
    let fields = TYPES.get(kind).map(Vec::as_slice).unwrap_or_default();
    for (name, value) in value.as_object().into_iter().flatten() {
        // An empty list or map or a false asks for nothing.
        let asks = match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(all) => !all.is_empty(),
            Value::Object(all) => !all.is_empty(),
            _ => true,
        };
        let at = typed::entry(path, name);
        match of(kind, name) {
            Some((Support::Honoured, _)) => {
                let Some((_, Some(inner))) = fields.iter().find(|(known, _)| known == name) else { continue };
                match value {
                    Value::Array(all) => {
                        all.iter()
                            .enumerate()
                            .for_each(|(i, v)| object(inner, v, &format!("{at}[{i}]"), report));
                    }
                    one => object(inner, one, &at, report),
                }
            }
            Some((Support::NoMeaning, why)) if asks => {
                report.say(
                    Severity::Warning,
                    &at,
                    format!("has no meaning on one machine and changes nothing: {why}"),
                    None,
                );
            }
            Some((Support::Refused, why)) if asks => {
                report.add_error(&at, format!("is not supported: {why}"))
            }
            // One that the type has not either is complained about where it is read.
            None if asks && fields.iter().any(|(known, _)| known == name) => {
                report.add_error(&at, "is not supported");
            }
            _ => {}
        }
    }
}

/// Every test that the table names, as `suite::test`.
pub fn tests() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|(_, honoured, _)| honoured.iter().map(|(_, test)| *test))
}

/// The types that a pod or a Service is made of as far as podctl honours them, each after one that leads to it.
fn reached() -> Vec<&'static str> {
    let mut todo = ROOTS.to_vec();
    let mut done = Vec::new();
    while let Some(kind) = todo.pop() {
        if done.contains(&kind) {
            continue;
        }
        done.push(kind);
        let fields = TYPES.get(kind).map(Vec::as_slice).unwrap_or_default();
        let inner =
            fields.iter().rev().filter(|(field, _)| matches!(of(kind, field), Some((Support::Honoured, _))));
        todo.extend(inner.filter_map(|(_, inner)| *inner));
    }
    done
}

/// Writes `docs/fields.md`; `find_file` gives the path below `tests/` of the file that a test, `MODULE::NAME`, is in.
pub fn document(find_file: impl Fn(&str) -> String) -> String {
    let mut text = "# Fields of a pod\n\nMade from podctl's own table (`src/manifest/support/field_table.rs`) and the Kubernetes types; do not edit.\n\
        `UPDATE_DOCS=1 cargo test --test commands fields` writes it.\n\nEach *honoured* field has a test that shows it. A *refused* one stops the run with its place in the file; one\n\
        with *no meaning* on one machine is a warning. What is beneath such a field is not listed. Fields of\n\
        [EphemeralContainer](#ephemeralcontainer) come from the flags of `podctl debug` and its `--custom FILE`.\n"
        .to_owned();
    for kind in reached() {
        text += &format!("\n## {kind}\n\n| field | | | test |\n|---|---|---|---|\n");
        for (field, inner) in TYPES.get(kind).into_iter().flatten() {
            let (support, why) = of(kind, field).unwrap_or((Refused, "is not in the table"));
            let rest = match support {
                Support::Honoured => {
                    let about = inner.map(|i| format!("[{i}](#{}) ", i.to_lowercase())).unwrap_or_default();
                    let test = why.split_once("::").map_or("", |(_, test)| test);
                    format!("honoured | {about}| [{test}](../tests/{}) |", find_file(why))
                }
                Refused => format!("refused | {why} | |"),
                NoMeaning => format!("no meaning | {why} | |"),
            };
            text += &format!("| {field} | {rest}\n");
        }
    }
    text
}

/// Returns what the table and the Kubernetes types do not agree on.
pub fn list_disagreements() -> Vec<String> {
    let mut found = Vec::new();
    for kind in reached() {
        let fields = TYPES.get(kind).into_iter().flatten();
        let absent = fields.filter(|(field, _)| of(kind, field).is_none());
        found.extend(absent.map(|(field, _)| format!("{kind}.{field} is not in the table")));
    }
    for (kind, honoured, rest) in TABLE {
        let fields = TYPES.get(kind).map(Vec::as_slice).unwrap_or_default();
        let honoured = honoured.iter().flat_map(|(fields, _)| fields.split(' '));
        let named: Vec<&str> = honoured.chain(rest.iter().map(|(field, ..)| *field)).collect();
        let unknown = named.iter().filter(|name| !fields.iter().any(|(field, _)| field == *name));
        found.extend(unknown.map(|name| format!("{kind}.{name} is not in the schema")));
        let twice = named.iter().enumerate().filter(|(i, name)| named[..*i].contains(name));
        found.extend(twice.map(|(_, name)| format!("{kind}.{name} is in the table twice")));
    }
    found
}
