//! Managed fields: whose each field of an object is, what an applied configuration changes, and whom it contradicts. PURE.
//!
//! Source: Kubernetes' documentation of server-side apply. A manager that applies owns what its configuration names;
//! what it named before and names no more is taken away, unless somebody else owns it as well. Changes by other verbs
//! make their manager the owner of what they change.

mod field_set;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::fields::message_name;
use field_set::{FieldSet, Parts, changed_fields, find_part, item_name, parts_below};

/// The field that an applied configuration and another manager want to be different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Names whose it is.
    pub manager: String,
    /// Gives it as `.spec.containers[name="c"].image`.
    pub field: String,
}

/// Tells who applies a configuration.
#[derive(Clone, Debug)]
pub struct Applier {
    /// Whose the fields become.
    pub name: String,
    /// Take fields from their managers.
    pub force: bool,
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
pub fn apply_config(known: &Value, config: &Value, applier: &Applier) -> (Value, Vec<Conflict>) {
    let message = type_of_object(known);
    let parts = Parts::Fields(&message);
    let wanted = FieldSet::collect(&applicable(config), parts);
    let mut entries = read_entries(known);
    let mut conflicts = Vec::new();
    let mut before = FieldSet::default();
    for entry in &mut entries {
        if entry.manager == applier.name && entry.operation == "Apply" {
            before = entry.fields.clone();
            continue;
        }
        let mut lost = FieldSet::default();
        let mut found = Vec::new();
        find_conflicts(&wanted, &entry.fields, [known, config], parts, "", &mut found, &mut lost);
        conflicts.extend(found.into_iter().map(|field| Conflict { manager: entry.manager.clone(), field }));
        if applier.force {
            entry.fields = entry.fields.subtract_fields(&lost);
        }
    }
    let mut merged = known.clone();
    merge_config(&mut merged, &applicable(config), parts);
    let mut dropped = before.subtract_fields(&wanted);
    for entry in entries.iter().filter(|e| e.manager != applier.name || e.operation != "Apply") {
        dropped = dropped.subtract_fields(&entry.fields);
    }
    remove_fields(&mut merged, &dropped, parts);
    entries.retain(|e| (e.manager != applier.name || e.operation != "Apply") && !e.fields.is_empty());
    entries.push(new_entry(applier, known, wanted));
    write_entries(&mut merged, &entries);
    (merged, conflicts)
}

/// Notes the manager of an object that is made by applying it.
pub fn note_apply(object: &mut Value, config: &Value, applier: &Applier) {
    let message = type_of_object(object);
    let fields = FieldSet::collect(&applicable(config), Parts::Fields(&message));
    let entry = new_entry(applier, object, fields);
    write_entries(object, &[entry]);
}

/// Notes who made or changed an object by another verb.
pub fn note_update(known: Option<&Value>, object: &mut Value, manager: &str) {
    let message = type_of_object(object);
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
        let own = entries.iter().position(|e| e.manager == manager && e.operation == "Update");
        let mut fields = own.map(|at| entries.remove(at).fields).unwrap_or_default();
        fields.add(&changed);
        if !fields.is_empty() {
            entries.push(new_entry_by(manager, "Update", object, fields));
        }
        entries.retain(|entry| !entry.fields.is_empty());
    }
    write_entries(object, &entries);
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

/// Names the type of an object, by which its fields are found.
fn type_of_object(object: &Value) -> String {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    message_name(text("apiVersion"), text("kind"))
}

fn new_entry(applier: &Applier, object: &Value, fields: FieldSet) -> Entry {
    new_entry_by(&applier.name, "Apply", object, fields)
}

fn new_entry_by(manager: &str, operation: &str, object: &Value, fields: FieldSet) -> Entry {
    Entry {
        manager: manager.to_owned(),
        operation: operation.to_owned(),
        api_version: object["apiVersion"].as_str().unwrap_or_default().to_owned(),
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

    fn applier(name: &str, force: bool) -> Applier {
        Applier { name: name.into(), force }
    }

    fn config_map(data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
    }

    fn apply_fields(known: &Value, data: Value, manager: &str, force: bool) -> (Value, Vec<Conflict>) {
        apply_config(known, &config_map(data), &applier(manager, force))
    }

    fn note_own(object: &mut Value, name: &str) {
        let config = object.clone();
        note_apply(object, &config, &applier(name, false));
    }

    #[test]
    fn what_a_manager_names_no_more_is_taken_away_unless_another_owns_it() {
        let mut object = config_map(json!({"a": "1", "b": "2"}));
        note_own(&mut object, "one");
        let (object, conflicts) = apply_fields(&object, json!({"b": "2", "c": "3"}), "two", false);
        assert!(conflicts.is_empty());
        assert_eq!(object["data"], json!({"a": "1", "b": "2", "c": "3"}));
        let (object, _) = apply_fields(&object, json!({"d": "4"}), "one", false);
        assert_eq!(object["data"], json!({"b": "2", "c": "3", "d": "4"}));
    }

    #[test]
    fn another_managers_value_is_a_conflict_that_force_decides() {
        let mut object = config_map(json!({"a": "1"}));
        note_update(None, &mut object, "kubectl-create");
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
        let mut object = config_map(json!({"a": "1", "b": "2"}));
        note_own(&mut object, "kubectl");
        let mut edited = object.clone();
        edited["data"]["a"] = "9".into();
        note_update(Some(&object), &mut edited, "kubectl-edit");
        let (_, conflicts) = apply_fields(&edited, json!({"a": "1", "b": "2"}), "kubectl", false);
        assert_eq!(conflicts, [Conflict { manager: "kubectl-edit".into(), field: ".data.a".into() }]);
    }

    #[test]
    fn items_of_lists_are_found_by_their_keys() {
        let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}});
        let mut object = service(json!([{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]));
        note_own(&mut object, "k");
        // The server has filled in a default.
        object["spec"]["ports"][0]["protocol"] = "TCP".into();
        let config = service(json!([{"port": 80, "name": "x"}]));
        let (merged, conflicts) = apply_config(&object, &config, &applier("k", false));
        assert!(conflicts.is_empty());
        assert_eq!(merged["spec"]["ports"], json!([{"port": 80, "name": "x", "protocol": "TCP"}]));
    }
}
