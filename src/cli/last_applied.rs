//! What `apply` was given for an object, noted in an annotation of it as kubectl notes it: so each sees what the other has
//! applied, and what a file says no longer goes.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    cli::{Error, warn_as_kubectl},
    engine::{ObjectKind, patch::merge_three_ways},
    pod::LAST_APPLIED_ANNOTATION,
    view::jsonpath::escape_json,
};

/// Returns an object of a file with the note of what the file says.
pub(super) fn note_configuration(written: &Value) -> Value {
    let mut object = without_note(written);
    // kubectl writes them where there are none.
    let annotations = &mut object["metadata"]["annotations"];
    if annotations.is_null() {
        *annotations = json!({});
    }
    let mut text = Vec::new();
    // It is a JSON value, which is always JSON.
    let _ = object.serialize(&mut serde_json::Serializer::new(&mut text));
    let text = escape_json(String::from_utf8(text).unwrap_or_default()) + "\n";
    object["metadata"]["annotations"][LAST_APPLIED_ANNOTATION] = text.into();
    object
}

/// Tells whether what an object is made of is noted in it.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct SaveConfigArgs {
    /// Note in the object what it is made of, for a later `apply`.
    #[arg(long)]
    pub save_config: bool,
}

impl SaveConfigArgs {
    /// Returns an object with the note, if there is to be one.
    pub(super) fn note(&self, object: Value) -> Value {
        if self.save_config { note_configuration(&object) } else { object }
    }
}

/// Returns what was noted in an object, if anything was.
pub(super) fn read_configuration(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][LAST_APPLIED_ANNOTATION].as_str().filter(|text| !text.is_empty())
}

/// Tells whether anything was noted in an object.
pub(super) fn is_noted(object: &Value) -> bool {
    read_configuration(object).is_some()
}

/// Merges what a file says into the object that is there. One that has no note is told of: what the file has lost cannot
/// be known.
///
/// # Errors
/// A note that is no JSON.
pub(super) fn merge_written(kind: ObjectKind, live: &Value, written: &Value) -> Result<Value, Error> {
    let noted = read_configuration(live);
    if noted.is_none() {
        let name = live["metadata"]["name"].as_str().unwrap_or_default();
        warn_as_kubectl(&format!(
            "resource {}/{name} is missing the {LAST_APPLIED_ANNOTATION} annotation which is required by podctl apply. podctl apply should only be used on resources created declaratively by either podctl create --save-config or podctl apply. The missing annotation will be patched automatically.",
            kind.plural()
        ));
    }
    merge_with(noted, live, &note_configuration(written))
}

/// Merges what a file says into the object that is there, and leaves its note as it is.
///
/// # Errors
/// A note that is no JSON.
pub(super) fn merge_for_comparison(live: &Value, written: &Value) -> Result<Value, Error> {
    let mut said = without_note(written);
    // What was noted has annotations, and those of the object are not to go for want of them.
    if !live["metadata"]["annotations"].is_null() && said["metadata"]["annotations"].is_null() {
        said["metadata"]["annotations"] = json!({});
    }
    merge_with(read_configuration(live), live, &said)
}

fn merge_with(noted: Option<&str>, live: &Value, said: &Value) -> Result<Value, Error> {
    let before = match noted {
        Some(text) => serde_json::from_str(text)?,
        None => Value::Null,
    };
    Ok(merge_three_ways(&before, said, live))
}

fn without_note(written: &Value) -> Value {
    let mut object = written.clone();
    if let Some(all) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        all.remove(LAST_APPLIED_ANNOTATION);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_what_kubectl_writes() {
        let written =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "<&>"}});
        let object = note_configuration(&written);
        let expected = "{\"apiVersion\":\"v1\",\"data\":{\"k\":\"\\u003c\\u0026\\u003e\"},\"kind\":\"ConfigMap\",\"metadata\":{\"annotations\":{},\"name\":\"a\"}}\n";
        assert_eq!(read_configuration(&object), Some(expected));
        assert_eq!(note_configuration(&object), object, "a note is never a part of a note");
    }

    #[test]
    fn what_was_noted_and_is_said_no_longer_goes() {
        let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
        let mut live = note_configuration(&map(json!({"a": "1", "b": "2"})));
        live["data"]["c"] = "3".into();
        let merged = merge_written(ObjectKind::ConfigMap, &live, &map(json!({"a": "1"}))).unwrap();
        assert_eq!(merged["data"], json!({"a": "1", "c": "3"}));
        assert!(!read_configuration(&merged).unwrap().contains("\"b\""));
        let compared = merge_for_comparison(&live, &map(json!({"a": "1"}))).unwrap();
        assert_eq!(read_configuration(&compared), read_configuration(&live));
    }
}
