//! Server-side apply: whose each field is, what an applied configuration changes, and whom it contradicts. PURE.
//!
//! Source: Kubernetes' documentation of server-side apply. A manager that applies owns what its configuration names;
//! what it named before and names no more is taken away, unless somebody else owns it as well. Changes by other verbs
//! make their manager the owner of what they change.

mod field_set;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{kinds::Kind, status::Failure, write::Manner};
use crate::engine::fields::message_name;
use field_set::{FieldSet, Parts, changed_fields, find_part, item_name, parts_below};

/// The field that an applied configuration and another manager want to be different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Names whose it is.
    pub manager: String,
    /// Gives it as `.spec.containers[name="c"].image`.
    pub field: String,
}

/// The manager's fields.
struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    time: Value,
    fields: FieldSet,
}

/// Merges a configuration into an object: the object with its new managers, and what others own and would lose.
pub fn apply_config(known: &Value, config: &Value, kind: &Kind, manner: &Manner) -> (Value, Vec<Conflict>) {
    let message = message_name(&kind.api_version(), kind.kind);
    let parts = Parts::Fields(&message);
    let wanted = FieldSet::collect(&applicable(config), parts);
    let mut entries = read_entries(known);
    let mut conflicts = Vec::new();
    let mut before = FieldSet::default();
    for entry in &mut entries {
        if entry.manager == manner.manager && entry.operation == "Apply" {
            before = entry.fields.clone();
            continue;
        }
        let mut lost = FieldSet::default();
        let mut found = Vec::new();
        find_conflicts(&wanted, &entry.fields, [known, config], parts, "", &mut found, &mut lost);
        conflicts.extend(found.into_iter().map(|field| Conflict { manager: entry.manager.clone(), field }));
        if manner.force {
            entry.fields = entry.fields.subtract_fields(&lost);
        }
    }
    let mut merged = known.clone();
    merge_config(&mut merged, &applicable(config), parts);
    let mut dropped = before.subtract_fields(&wanted);
    for entry in entries.iter().filter(|e| e.manager != manner.manager || e.operation != "Apply") {
        dropped = dropped.subtract_fields(&entry.fields);
    }
    remove_fields(&mut merged, &dropped, parts);
    entries.retain(|e| (e.manager != manner.manager || e.operation != "Apply") && !e.fields.is_empty());
    entries.push(new_entry(manner, "Apply", kind, wanted));
    write_entries(&mut merged, &entries);
    (merged, conflicts)
}

/// Notes the manager of an object that is made by applying it.
pub fn note_apply(object: &mut Value, config: &Value, kind: &Kind, manner: &Manner) {
    let message = message_name(&kind.api_version(), kind.kind);
    let fields = FieldSet::collect(&applicable(config), Parts::Fields(&message));
    write_entries(object, &[new_entry(manner, "Apply", kind, fields)]);
}

/// Notes who made or changed an object by another verb.
pub fn note_update(known: Option<&Value>, object: &mut Value, manner: &Manner) {
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let message = message_name(&api_version, &kind);
    let parts = Parts::Fields(&message);
    let nothing = json!({});
    let (before, after) = (applicable(known.unwrap_or(&nothing)), applicable(object));
    let changed = changed_fields(&before, &after, parts);
    let present = FieldSet::collect(&after, parts);
    let gone = FieldSet::collect(&before, parts).subtract_fields(&present);
    let mut entries = known.map(read_entries).unwrap_or_default();
    if !changed.is_empty() || !gone.is_empty() {
        for entry in &mut entries {
            entry.fields = entry.fields.subtract_fields(&gone).subtract_fields(&changed);
        }
        let own = entries.iter().position(|e| e.manager == manner.manager && e.operation == "Update");
        let mut fields = own.map(|at| entries.remove(at).fields).unwrap_or_default();
        fields.add(&changed);
        if !fields.is_empty() {
            let time = format!("{:.0}", Timestamp::now()).into();
            let (manager, operation) = (manner.manager.clone(), "Update".to_owned());
            entries.push(Entry { manager, operation, api_version, time, fields });
        }
        entries.retain(|entry| !entry.fields.is_empty());
    }
    write_entries(object, &entries);
}

/// Returns what kubectl prints of conflicts.
pub fn conflict_failure(kind: &Kind, conflicts: &[Conflict]) -> Failure {
    let said = |c: &Conflict| format!("conflict with {:?}: {}", c.manager, c.field);
    let list: Vec<String> = conflicts.iter().map(said).collect();
    let what = match &list[..] {
        [one] => format!("Apply failed with 1 conflict: {one}"),
        many => format!("Apply failed with {} conflicts: {}", many.len(), many.join("\n")),
    };
    let mut failure = Failure::refused_conflict(kind, "", "");
    failure.message = what;
    let cause = |c: &Conflict| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {:?}", c.manager), "field": c.field});
    failure.details = json!({"causes": conflicts.iter().map(cause).collect::<Vec<_>>()});
    failure
}

/// Leaves out what nobody manages: identity, and what the server says.
fn applicable(object: &Value) -> Value {
    let mut plain = object.clone();
    if let Some(fields) = plain.as_object_mut() {
        for field in ["apiVersion", "kind", "status"] {
            fields.remove(field);
        }
    }
    if let Some(meta) = plain.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|field, _| {
            matches!(field.as_str(), "labels" | "annotations" | "finalizers" | "ownerReferences")
        });
    }
    if let Some(fields) = plain.as_object_mut() {
        fields.retain(|field, value| {
            field != "metadata" || value.as_object().is_some_and(|meta| !meta.is_empty())
        });
    }
    plain
}

fn new_entry(manner: &Manner, operation: &str, kind: &Kind, fields: FieldSet) -> Entry {
    Entry {
        manager: manner.manager.clone(),
        operation: operation.to_owned(),
        api_version: kind.api_version(),
        time: format!("{:.0}", Timestamp::now()).into(),
        fields,
    }
}

fn read_entries(object: &Value) -> Vec<Entry> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    all.map(|entry| Entry {
        manager: text(&entry["manager"]),
        operation: text(&entry["operation"]),
        api_version: text(&entry["apiVersion"]),
        time: entry["time"].clone(),
        fields: FieldSet::parse(&entry["fieldsV1"]),
    })
    .collect()
}

fn write_entries(object: &mut Value, entries: &[Entry]) {
    let write = |e: &Entry| {
        json!({"manager": e.manager, "operation": e.operation, "apiVersion": e.api_version, "time": e.time,
            "fieldsType": "FieldsV1", "fieldsV1": e.fields.to_value()})
    };
    object["metadata"]["managedFields"] = entries.iter().map(write).collect();
}

/// Finds fields that both have and whose values differ; also gives the set of what the other would lose.
fn find_conflicts(
    wanted: &FieldSet,
    other: &FieldSet,
    [known, config]: [&Value; 2],
    parts: Parts<'_>,
    path: &str,
    found: &mut Vec<String>,
    lost: &mut FieldSet,
) {
    for (name, below) in &wanted.below {
        let Some(others) = other.below.get(name) else { continue };
        let (old, new) = (find_part(known, parts, name), find_part(config, parts, name));
        let plain = name.split_once(':').map_or("", |(_, name)| name);
        let here = format!("{path}{}", written_part(name));
        let (Some(old), Some(new)) = (old, new) else { continue };
        if below.below.is_empty() || others.below.is_empty() {
            if old != new {
                found.push(here);
                lost.below.insert(name.clone(), others.clone());
            }
            continue;
        }
        let mut lost_below = FieldSet::default();
        find_conflicts(below, others, [old, new], parts_below(parts, plain), &here, found, &mut lost_below);
        if !lost_below.is_empty() {
            lost.below.insert(name.clone(), lost_below);
        }
    }
}

/// `.spec`, `[name="c"]`, `["x"]`
fn written_part(name: &str) -> String {
    match name.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        Some((_, value)) => format!("[{value}]"),
        None => name.to_owned(),
    }
}

/// Lays a configuration over a value, as its parts are owned.
fn merge_config(value: &mut Value, config: &Value, parts: Parts<'_>) {
    match (&mut *value, config, parts) {
        (Value::Object(fields), Value::Object(wanted), Parts::Fields(_) | Parts::Names) => {
            for (name, wanted) in wanted {
                merge_config(
                    fields.entry(name.clone()).or_insert(Value::Null),
                    wanted,
                    parts_below(parts, name),
                );
            }
        }
        (Value::Array(items), Value::Array(wanted), Parts::Keyed(field)) => {
            for item in wanted {
                let name = item_name(field, item);
                match items.iter_mut().find(|known| item_name(field, known) == name) {
                    Some(known) => merge_config(known, item, Parts::Fields(field.type_)),
                    None => items.push(item.clone()),
                }
            }
        }
        (Value::Array(items), Value::Array(wanted), Parts::Set) => {
            let new: Vec<Value> = wanted.iter().filter(|item| !items.contains(item)).cloned().collect();
            items.extend(new);
        }
        _ => *value = config.clone(),
    }
}

/// Takes away what nobody owns any more.
fn remove_fields(value: &mut Value, set: &FieldSet, parts: Parts<'_>) {
    for (name, below) in &set.below {
        let plain = name.split_once(':').map_or("", |(_, name)| name);
        match (name.split_once(':'), parts, &mut *value) {
            (Some(("f", field)), _, Value::Object(fields)) => {
                if below.below.is_empty() {
                    fields.remove(field);
                } else if let Some(inner) = fields.get_mut(field) {
                    remove_fields(inner, below, parts_below(parts, field));
                    let is_bare = inner.as_object().is_some_and(Map::is_empty)
                        || inner.as_array().is_some_and(Vec::is_empty);
                    if is_bare {
                        fields.remove(field);
                    }
                }
            }
            (Some(("k", _)), Parts::Keyed(field), Value::Array(items)) => {
                if below.own {
                    items.retain(|item| item_name(field, item) != *name);
                } else if let Some(item) = items.iter_mut().find(|item| item_name(field, item) == *name) {
                    remove_fields(item, below, Parts::Fields(field.type_));
                }
            }
            (Some(("v", _)), _, Value::Array(items)) => {
                let gone: Value = serde_json::from_str(plain).unwrap_or_default();
                items.retain(|item| *item != gone);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::kinds::find_kind;

    fn manner(manager: &str, force: bool) -> Manner {
        Manner { dry: false, strict: true, manager: manager.into(), force }
    }

    fn config_map(data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
    }

    fn apply_fields(known: &Value, data: Value, manager: &str, force: bool) -> (Value, Vec<Conflict>) {
        apply_config(
            known,
            &config_map(data),
            find_kind("", "v1", "configmaps").unwrap(),
            &manner(manager, force),
        )
    }

    fn note_own(object: &mut Value, kind: &Kind, manner: &Manner) {
        let config = object.clone();
        note_apply(object, &config, kind, manner);
    }

    #[test]
    fn what_a_manager_names_no_more_is_taken_away_unless_another_owns_it() {
        let kind = find_kind("", "v1", "configmaps").unwrap();
        let mut object = config_map(json!({"a": "1", "b": "2"}));
        note_own(&mut object, kind, &manner("one", false));
        let (object, conflicts) = apply_fields(&object, json!({"b": "2", "c": "3"}), "two", false);
        assert!(conflicts.is_empty());
        assert_eq!(object["data"], json!({"a": "1", "b": "2", "c": "3"}));
        let (object, _) = apply_fields(&object, json!({"d": "4"}), "one", false);
        assert_eq!(object["data"], json!({"b": "2", "c": "3", "d": "4"}));
    }

    #[test]
    fn another_managers_value_is_a_conflict_that_force_decides() {
        let mut object = config_map(json!({"a": "1"}));
        note_update(None, &mut object, &manner("kubectl-create", false));
        let (_, conflicts) = apply_fields(&object, json!({"a": "2"}), "kubectl", false);
        assert_eq!(conflicts, [Conflict { manager: "kubectl-create".into(), field: ".data.a".into() }]);
        let (same, conflicts) = apply_fields(&object, json!({"a": "1"}), "kubectl", false);
        assert!(conflicts.is_empty() && same["metadata"]["managedFields"].as_array().unwrap().len() == 2);
        let (forced, _) = apply_fields(&object, json!({"a": "2"}), "kubectl", true);
        assert_eq!(forced["data"]["a"], "2");
        assert_eq!(forced["metadata"]["managedFields"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_change_by_another_verb_moves_ownership() {
        let kind = find_kind("", "v1", "configmaps").unwrap();
        let mut object = config_map(json!({"a": "1", "b": "2"}));
        note_own(&mut object, kind, &manner("kubectl", false));
        let mut edited = object.clone();
        edited["data"]["a"] = "9".into();
        note_update(Some(&object), &mut edited, &manner("kubectl-edit", false));
        let (_, conflicts) = apply_fields(&edited, json!({"a": "1", "b": "2"}), "kubectl", false);
        assert_eq!(conflicts, [Conflict { manager: "kubectl-edit".into(), field: ".data.a".into() }]);
        assert!(
            conflict_failure(kind, &conflicts).message.contains("conflict with \"kubectl-edit\": .data.a")
        );
    }

    #[test]
    fn items_of_lists_are_found_by_their_keys() {
        let kind = find_kind("", "v1", "services").unwrap();
        let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}});
        let mut object = service(json!([{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]));
        note_own(&mut object, kind, &manner("k", false));
        // The server has filled in a default.
        object["spec"]["ports"][0]["protocol"] = "TCP".into();
        let config = service(json!([{"port": 80, "name": "x"}]));
        let (merged, conflicts) = apply_config(&object, &config, kind, &manner("k", false));
        assert!(conflicts.is_empty());
        assert_eq!(merged["spec"]["ports"], json!([{"port": 80, "name": "x", "protocol": "TCP"}]));
    }
}
