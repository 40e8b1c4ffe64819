//! The three-way merge of `apply`: what a file says, what it said when it was applied before, and what there is. PURE.
//!
//! Promises: what the file says is so; what it said before and says no longer is gone; all else stays as it is.

use serde_json::{Map, Value};

use crate::engine::fields::{Field, Shape, find_field, message_name};

/// Merges what a file says into an object that is there; `before` is what the file said when it was applied before.
/// `apiVersion` and `kind` of the object say how its lists are merged.
pub fn merge_three_ways(before: &Value, said: &Value, live: &Value) -> Value {
    let text = |field: &str| live[field].as_str().unwrap_or_default();
    merge_values(before, said, live, &message_name(text("apiVersion"), text("kind")))
}

/// Merges values of a type.
fn merge_values(before: &Value, said: &Value, live: &Value, message: &str) -> Value {
    let (Value::Object(said), Value::Object(live)) = (said, live) else { return without_nulls(said) };
    let mut merged = Map::new();
    for (name, value) in live {
        match said.get(name) {
            Some(Value::Null) => {}
            Some(own) => {
                let field = find_field(message, name);
                drop(merged.insert(name.clone(), merge_field(&before[name], own, value, field)));
            }
            // It was said before, and is said no longer.
            None if before.get(name).is_some_and(|value| !value.is_null()) => {}
            None => drop(merged.insert(name.clone(), value.clone())),
        }
    }
    for (name, value) in said.iter().filter(|(name, value)| !value.is_null() && !live.contains_key(*name)) {
        merged.insert(name.clone(), without_nulls(value));
    }
    Value::Object(merged)
}

fn merge_field(before: &Value, said: &Value, live: &Value, field: Option<&Field>) -> Value {
    let inner = field.filter(|field| field.shape != Shape::Map).map_or("", |field| field.type_);
    match (said, live) {
        (Value::Object(_), Value::Object(_)) => merge_values(before, said, live, inner),
        (Value::Array(said), Value::Array(live)) => match field.filter(|field| field.merged) {
            Some(field) => Value::Array(merge_lists(before, said, live, field)),
            None => without_nulls(&Value::Array(said.clone())),
        },
        _ => without_nulls(said),
    }
}

/// Merges lists whose items are found by a key, or are values of a set: in the order that the file says, others behind.
fn merge_lists(before: &Value, said: &[Value], live: &[Value], field: &Field) -> Vec<Value> {
    let identity = |item: &Value| field.merge_key.map_or_else(|| item.clone(), |key| item[key].clone());
    let before: &[Value] = before.as_array().map_or(&[], Vec::as_slice);
    let find = |all: &[Value], item: &Value| all.iter().find(|own| identity(own) == identity(item)).cloned();
    let mut merged: Vec<Value> = said
        .iter()
        .map(|item| match find(live, item).filter(|_| field.merge_key.is_some()) {
            Some(known) => merge_values(&find(before, item).unwrap_or_default(), item, &known, field.type_),
            None => without_nulls(item),
        })
        .collect();
    let stays = |item: &&Value| find(said, item).is_none() && find(before, item).is_none();
    merged.extend(live.iter().filter(stays).cloned());
    merged
}

/// Returns a value without the fields that a file sets to nothing.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let all = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(all.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_file_says_no_longer_goes_and_what_others_have_set_stays() {
        let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data});
        let live = map(json!({"a": "1", "b": "2", "c": "3"}));
        let merged = merge_three_ways(&map(json!({"a": "1", "b": "2"})), &map(json!({"a": "x"})), &live);
        assert_eq!(merged, map(json!({"a": "x", "c": "3"})));
        let merged = merge_three_ways(&Value::Null, &map(json!({"a": null, "d": "4"})), &live);
        assert_eq!(merged, map(json!({"b": "2", "c": "3", "d": "4"})), "nothing is known to be gone");
    }

    #[test]
    fn items_of_lists_are_merged_by_their_keys() {
        let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": ports}});
        let live = service(json!([
            {"port": 80, "protocol": "TCP", "targetPort": 80, "nodePort": 30000},
            {"port": 90, "protocol": "TCP"}, {"port": 70, "protocol": "TCP"}
        ]));
        let merged = merge_three_ways(
            &service(json!([{"port": 80}, {"port": 90}])),
            &service(json!([{"port": 80, "targetPort": 8080}])),
            &live,
        );
        let expected = json!([
            {"port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30000}, {"port": 70, "protocol": "TCP"}
        ]);
        assert_eq!(merged["spec"]["ports"], expected);
        let pod = |volumes: Value| json!({"apiVersion": "v1", "kind": "Pod", "spec": {"volumes": volumes}});
        let merged = merge_three_ways(
            &pod(json!([{"name": "v", "emptyDir": {}}])),
            &pod(json!([{"name": "v", "configMap": {"name": "c"}}])),
            &pod(json!([{"name": "v", "emptyDir": {"medium": "Memory"}}])),
        );
        assert_eq!(merged["spec"]["volumes"], json!([{"name": "v", "configMap": {"name": "c"}}]));
    }

    #[test]
    fn sets_keep_what_others_have_put_in() {
        let meta = |all: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"finalizers": all}});
        let merged =
            merge_three_ways(&meta(json!(["a/a"])), &meta(json!(["b/b"])), &meta(json!(["a/a", "c/c"])));
        assert_eq!(merged["metadata"]["finalizers"], json!(["b/b", "c/c"]));
    }
}
