//! The strategic merge patch: a merge patch that knows which lists are merged, and by which key. PURE.
//!
//! The directives are Kubernetes' own: `$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`.

use serde_json::{Map, Value};

use super::Error;
use crate::engine::fields::{Field, Shape, find_field};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Merges a patch into a value of that type, such as `core.v1.Pod`.
///
/// # Errors
/// [`Error::Malformed`] when a directive has no meaning.
pub fn merge_strategically(value: &mut Value, patch: &Value, message: &str) -> Result<(), Error> {
    let (Value::Object(object), Value::Object(patch)) = (&mut *value, patch) else {
        *value = patch.clone();
        return Ok(());
    };
    match patch.get(PATCH).map(|directive| directive.as_str()) {
        None | Some(Some("merge")) => {}
        Some(Some("replace")) => object.clear(),
        Some(Some("delete")) => {
            object.clear();
            return Ok(());
        }
        Some(_) => return Err(unknown_directive(&patch[PATCH])),
    }
    if let Some(kept) = patch.get(RETAIN_KEYS).and_then(Value::as_array) {
        object.retain(|name, _| kept.iter().any(|k| k == name));
    }
    for (name, patch_value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        if patch_value.is_null() {
            object.remove(name);
            continue;
        }
        let field = find_field(message, name);
        let inner = field.filter(|f| f.shape != Shape::Map).map_or("", |f| f.type_);
        match (patch_value, field) {
            (Value::Object(_), _) => {
                let known = object.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
                merge_strategically(known, patch_value, inner)?;
            }
            (Value::Array(items), Some(field)) if field.merged => {
                let known = object.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                merge_list(known, items, field)?;
            }
            _ => drop(object.insert(name.clone(), patch_value.clone())),
        }
    }
    for (directive, values) in patch {
        if let (Some(name), Some(values)) = (directive.strip_prefix(DELETE), values.as_array())
            && let Some(known) = object.get_mut(name).and_then(Value::as_array_mut)
        {
            known.retain(|item| !values.contains(item));
        }
        if let (Some(name), Some(order)) = (directive.strip_prefix(ORDER), values.as_array())
            && let Some(known) = object.get_mut(name).and_then(Value::as_array_mut)
        {
            order_list(known, order, find_field(message, name).and_then(|f| f.merge_key));
        }
    }
    Ok(())
}

fn merge_list(known: &mut Value, patch: &[Value], field: &Field) -> Result<(), Error> {
    let Value::Array(list) = known else {
        *known = Value::Array(patch.to_vec());
        return Ok(());
    };
    let Some(key) = field.merge_key else {
        let new = patch.iter().filter(|item| !list.contains(item)).cloned().collect::<Vec<_>>();
        list.extend(new);
        return Ok(());
    };
    let directive = |item: &Value| item.get(PATCH).map(|d| d.as_str().unwrap_or_default().to_owned());
    // One item that says so replaces all.
    if patch.iter().any(|item| directive(item).as_deref() == Some("replace")) {
        list.clear();
    }
    for item in patch {
        let identity = item.get(key);
        let is_same = |known: &Value| identity.is_some() && known.get(key) == identity;
        match directive(item).as_deref() {
            Some("replace") => {}
            Some("delete") if identity.is_none() => list.clear(),
            Some("delete") => list.retain(|known| !is_same(known)),
            None | Some("merge") => {
                if identity.is_none() {
                    let name = field.name;
                    return Err(Error::Malformed(format!(
                        "an item of {name} has no {key}, by which it is found"
                    )));
                }
                let at = list.iter().position(is_same).unwrap_or_else(|| {
                    list.push(Value::Object(Map::new()));
                    list.len() - 1
                });
                merge_strategically(&mut list[at], item, field.type_)?;
            }
            Some(_) => return Err(unknown_directive(&item[PATCH])),
        }
    }
    Ok(())
}

/// Puts items in the order that the patch says; those that it does not name keep their places among them.
fn order_list(list: &mut Vec<Value>, order: &[Value], key: Option<&str>) {
    let identity = |item: &Value| key.map_or_else(|| item.clone(), |key| item[key].clone());
    let named =
        |value: &Value| key.map_or_else(|| value.clone(), |key| value.get(key).unwrap_or(value).clone());
    let order: Vec<Value> = order.iter().map(named).collect();
    let before: Vec<Value> = list.iter().map(identity).collect();
    let place = |item: &Value| before.iter().position(|known| *known == identity(item));
    let (mut ordered, others): (Vec<Value>, Vec<Value>) =
        std::mem::take(list).into_iter().partition(|item| order.contains(&identity(item)));
    ordered.sort_by_key(|item| order.iter().position(|known| *known == identity(item)));
    let (mut ordered, mut others) = (ordered.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(left), Some(right)) = (ordered.peek(), others.peek()) {
        let other_first = place(right) < place(left);
        list.extend(if other_first { others.next() } else { ordered.next() });
    }
    list.extend(ordered);
    list.extend(others);
}

fn unknown_directive(directive: &Value) -> Error {
    Error::Malformed(format!("$patch: {directive} is not known; there are merge, replace and delete"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply_patch(object: Value, patch: Value) -> Value {
        let mut object = object;
        merge_strategically(&mut object, &patch, "core.v1.Pod").unwrap();
        object
    }

    #[test]
    fn containers_are_merged_by_name_and_their_lists_by_their_own_keys() {
        let pod = json!({"spec": {"containers": [
            {"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}], "args": ["old"]},
            {"name": "b", "image": "y"}]}});
        let patch = json!({"spec": {"containers": [
            {"name": "a", "image": "z", "env": [{"name": "F", "value": "2"}], "args": ["new"]}]}});
        assert_eq!(
            apply_patch(pod, patch),
            json!({"spec": {"containers": [
                {"name": "a", "image": "z", "args": ["new"],
                    "env": [{"name": "E", "value": "1"}, {"name": "F", "value": "2"}]},
                {"name": "b", "image": "y"}]}})
        );
    }

    #[test]
    fn null_delete_and_replace_take_away() {
        let pod = || {
            json!({"metadata": {"labels": {"a": "b", "c": "d"}},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "nodeSelector": {"x": "y"}}})
        };
        let patch = json!({"metadata": {"labels": {"a": null}},
            "spec": {"containers": [{"name": "a", "$patch": "delete"}], "nodeSelector": {"$patch": "delete"}}});
        assert_eq!(
            apply_patch(pod(), patch),
            json!({"metadata": {"labels": {"c": "d"}}, "spec": {"containers": [{"name": "b"}], "nodeSelector": {}}})
        );
        let patch = json!({"metadata": {"labels": {"$patch": "replace", "e": "f"}},
            "spec": {"containers": [{"name": "c"}, {"$patch": "replace"}]}});
        assert_eq!(
            apply_patch(pod(), patch),
            json!({"metadata": {"labels": {"e": "f"}}, "spec": {"containers": [{"name": "c"}], "nodeSelector": {"x": "y"}}})
        );
    }

    #[test]
    fn retained_keys_change_the_kind_of_a_volume() {
        let pod = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
        let patch = json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}});
        assert_eq!(
            apply_patch(pod, patch),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}})
        );
    }

    #[test]
    fn the_order_is_the_patchs_and_the_servers_items_keep_their_places() {
        let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]}});
        let patch = json!({"spec": {"containers": [{"name": "new"}],
            "$setElementOrder/containers": [{"name": "new"}, {"name": "a"}, {"name": "b"}]}});
        let names: Vec<Value> = apply_patch(pod, patch)["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| c["name"].clone())
            .collect();
        assert_eq!(names, ["server", "new", "a", "b"]);
    }

    #[test]
    fn lists_of_plain_values_are_united_and_deleted_from() {
        let pod = json!({"metadata": {"finalizers": ["a", "b"]}});
        let patch = json!({"metadata": {"finalizers": ["c", "b"], "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["c", "b"]}});
        assert_eq!(apply_patch(pod, patch), json!({"metadata": {"finalizers": ["c", "b"]}}));
    }

    #[test]
    fn directives_that_mean_nothing_are_refused() {
        let mut pod = json!({"spec": {"containers": []}});
        for patch in [json!({"$patch": "other"}), json!({"spec": {"containers": [{"image": "x"}]}})] {
            assert!(merge_strategically(&mut pod, &patch, "core.v1.Pod").is_err(), "{patch}");
        }
    }
}
