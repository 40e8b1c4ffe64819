//! Events in their two forms: the core group's, and that of `events.k8s.io`, whose fields have other names. PURE.

use serde_json::Value;

/// Each field that is called otherwise: in the core group, and in the newer one.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// Returns the newer form of a core Event.
pub fn to_newer_form(mut event: Value) -> Value {
    if let Some(fields) = event.as_object_mut() {
        for (core, newer) in RENAMED {
            if let Some(value) = fields.remove(core) {
                fields.insert(newer.to_owned(), value);
            }
        }
        // A field that the newer form always has.
        fields.entry("eventTime").or_insert(Value::Null);
    }
    event
}

/// Returns the core form of an Event of either form.
pub fn to_core_form(mut event: Value) -> Value {
    if let Some(fields) = event.as_object_mut() {
        for (core, newer) in RENAMED {
            if let Some(value) = fields.remove(newer) {
                fields.insert(core.to_owned(), value);
            }
        }
        fields.insert("apiVersion".into(), "v1".into());
    }
    event
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_comes_back_from_the_newer_form_as_it_was() {
        let core = json!({"apiVersion": "v1", "metadata": {"name": "e"}, "reason": "Pulled", "message": "m", "count": 2,
            "eventTime": null, "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "podctl"}});
        let newer = to_newer_form(core.clone());
        assert_eq!(newer["regarding"]["name"], "p");
        assert_eq!((&newer["note"], &newer["deprecatedCount"]), (&json!("m"), &json!(2)));
        assert!(newer["message"].is_null());
        assert_eq!(to_core_form(newer), core);
        assert!(to_newer_form(json!({})).get("eventTime").is_some());
    }
}
