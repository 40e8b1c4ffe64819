//! Sets of fields, as `managedFields` writes them (FieldsV1): which fields of an object somebody manages. PURE.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::fields::{Field, Shape, find_field, find_message};

/// Fields of a value: itself, if it is a leaf or noted, and what is below by FieldsV1's names: `f:NAME`, `k:{KEYS}`,
/// `v:VALUE`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The value itself: an item of a list, an empty map.
    pub own: bool,
    /// Holds what is below it.
    pub below: BTreeMap<String, FieldSet>,
}

/// Tells how a value's parts are owned.
#[derive(Clone, Copy, Debug)]
pub enum Parts<'a> {
    /// Counts as one.
    Whole,
    /// Field by field; of this type, or of none that is known.
    Fields(&'a str),
    /// Name by name.
    Names,
    /// Item by item, found by these keys.
    Keyed(&'static Field),
    /// Value by value.
    Set,
}

/// Tells how a field's value is owned.
pub fn parts_of(field: &'static Field) -> Parts<'static> {
    let atomic_type = find_message(field.type_).is_some_and(|m| m.atomic);
    match field.shape {
        _ if field.atomic => Parts::Whole,
        Shape::Single if atomic_type || find_message(field.type_).is_none() => Parts::Whole,
        Shape::Single => Parts::Fields(field.type_),
        Shape::Map => Parts::Names,
        Shape::List if !field.keys.is_empty() => Parts::Keyed(field),
        Shape::List if field.set => Parts::Set,
        Shape::List => Parts::Whole,
    }
}

/// Tells how the field of that name is owned in a value with such parts.
pub fn parts_below(parts: Parts<'_>, name: &str) -> Parts<'static> {
    match parts {
        Parts::Fields(type_) => find_field(type_, name).map_or(Parts::Whole, parts_of),
        Parts::Keyed(field) => Parts::Fields(field.type_),
        Parts::Names | Parts::Whole | Parts::Set => Parts::Whole,
    }
}

/// The FieldsV1 name of a list's item.
pub fn item_name(field: &Field, item: &Value) -> String {
    let key = |key: &&'static str| {
        // The one key with a default.
        let absent = if *key == "protocol" { json!("TCP") } else { Value::Null };
        let value = item.get(*key).cloned().unwrap_or(absent);
        ((*key).to_owned(), value)
    };
    let keys: Map<String, Value> = field.keys.iter().map(key).collect();
    format!("k:{}", Value::Object(keys))
}

/// The value that a name stands for.
pub fn find_part<'a>(value: &'a Value, parts: Parts<'_>, name: &str) -> Option<&'a Value> {
    match (name.split_once(':')?, parts) {
        (("f", name), _) => value.get(name),
        (("k", _), Parts::Keyed(field)) => {
            value.as_array()?.iter().find(|item| item_name(field, item) == name)
        }
        (("v", text), _) => {
            let wanted: Value = serde_json::from_str(text).ok()?;
            value.as_array()?.iter().find(|item| **item == wanted)
        }
        _ => None,
    }
}

impl FieldSet {
    /// All fields that a value has.
    pub fn collect(value: &Value, parts: Parts<'_>) -> FieldSet {
        let mut set = FieldSet::default();
        match (value, parts) {
            (Value::Object(fields), Parts::Fields(_) | Parts::Names) if !fields.is_empty() => {
                for (name, value) in fields {
                    set.below.insert(format!("f:{name}"), FieldSet::collect(value, parts_below(parts, name)));
                }
            }
            (Value::Array(items), Parts::Keyed(field)) if !items.is_empty() => {
                for item in items {
                    let mut below = FieldSet::collect(item, Parts::Fields(field.type_));
                    below.own = true;
                    set.below.insert(item_name(field, item), below);
                }
            }
            (Value::Array(items), Parts::Set) if !items.is_empty() => {
                set.below = items.iter().map(|item| (format!("v:{item}"), FieldSet::new_leaf())).collect();
            }
            _ => set.own = true,
        }
        set
    }

    /// Reads a value.
    pub fn new_leaf() -> FieldSet {
        FieldSet { own: true, below: BTreeMap::new() }
    }

    /// Tells whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        !self.own && self.below.values().all(FieldSet::is_empty)
    }

    /// Returns what is in this set and not in the other.
    pub fn subtract_fields(&self, other: &FieldSet) -> FieldSet {
        let mut rest = FieldSet { own: self.own && !other.own, below: BTreeMap::new() };
        for (name, set) in &self.below {
            let left = other.below.get(name).map_or_else(|| set.clone(), |other| set.subtract_fields(other));
            if !left.is_empty() {
                rest.below.insert(name.clone(), left);
            }
        }
        rest
    }

    /// Adds what is in another set.
    pub fn add(&mut self, other: &FieldSet) {
        self.own |= other.own;
        for (name, set) in &other.below {
            self.below.entry(name.clone()).or_default().add(set);
        }
    }

    /// Reads FieldsV1.
    pub fn parse(value: &Value) -> FieldSet {
        let fields = value.as_object();
        let below = fields.into_iter().flatten().filter(|(name, _)| *name != ".");
        let below: BTreeMap<_, _> =
            below.map(|(name, value)| (name.clone(), FieldSet::parse(value))).collect();
        let own = fields.is_none_or(|fields| fields.contains_key(".") || fields.is_empty());
        FieldSet { own: own || below.is_empty(), below }
    }

    /// Writes FieldsV1.
    pub fn to_value(&self) -> Value {
        let mut fields: Map<String, Value> =
            self.below.iter().map(|(name, set)| (name.clone(), set.to_value())).collect();
        if self.own && !fields.is_empty() {
            fields.insert(".".into(), json!({}));
        }
        fields.into()
    }
}

/// The fields in which a value is not as it was: new ones, and others' values.
pub fn changed_fields(before: &Value, after: &Value, parts: Parts<'_>) -> FieldSet {
    let mut set = FieldSet::default();
    if before == after {
        return set;
    }
    let all = FieldSet::collect(after, parts);
    if before.is_null() || all.below.is_empty() {
        return all;
    }
    for (name, whole) in &all.below {
        let Some(new) = find_part(after, parts, name) else { continue };
        let plain = name.split_once(':').map_or("", |(_, name)| name);
        let changed = match find_part(before, parts, name) {
            None => whole.clone(),
            Some(old) => changed_fields(old, new, parts_below(parts, plain)),
        };
        if !changed.is_empty() {
            set.below.insert(name.clone(), changed);
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Parts<'static> = Parts::Fields("core.v1.Pod");

    #[test]
    fn the_fields_of_a_pod_are_written_as_an_api_server_writes_them() {
        let pod = json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["x/y"]},
            "spec": {"containers": [{"name": "c", "image": "i", "args": ["1"], "ports": [{"containerPort": 80}]}],
                "nodeSelector": {"k": "v"}}});
        let set = FieldSet::collect(&pod, POD);
        let written = set.to_value();
        assert_eq!(
            written,
            json!({
                "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"x/y\"": {}}},
                "f:spec": {
                    "f:nodeSelector": {},
                    "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}})
        );
        assert_eq!(FieldSet::parse(&written), set);
    }

    #[test]
    fn what_has_changed_is_found_through_lists() {
        let before =
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}});
        let after = json!({"spec": {"containers": [{"name": "a", "image": "2"}, {"name": "b", "image": "1"}],
            "hostname": "h"}});
        assert_eq!(
            changed_fields(&before, &after, POD).to_value(),
            json!({"f:spec": {"f:hostname": {}, "f:containers": {"k:{\"name\":\"a\"}": {"f:image": {}}}}})
        );
        assert!(changed_fields(&before, &before, POD).is_empty());
    }

    #[test]
    fn sets_are_subtracted_and_united() {
        let whole = FieldSet::parse(&json!({"f:a": {"f:b": {}, "f:c": {}}}));
        let part = FieldSet::parse(&json!({"f:a": {"f:b": {}}}));
        assert_eq!(whole.subtract_fields(&part).to_value(), json!({"f:a": {"f:c": {}}}));
        assert!(part.subtract_fields(&whole).is_empty());
        let mut united = part.clone();
        united.add(&whole.subtract_fields(&part));
        assert_eq!(united, whole);
    }
}
