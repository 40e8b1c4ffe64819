//! Objects as the Tables that `kubectl get` asks for: columns and cells of `view/object_table.rs`. PURE.

use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use serde_json::{Value, json};

use super::event_forms::to_core_form;
use crate::view::{
    events,
    object_table::{self, Column, list_columns},
};

/// Tells which part of an object stands beside its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// The metadata, from which clients take labels and resourceVersion.
    #[default]
    Metadata,
    /// All of it, to sort by.
    Object,
}

impl Include {
    /// Reads the query parameter `includeObject`.
    pub fn parse(word: Option<&str>) -> Include {
        match word {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        }
    }
}

/// The Table of those objects of one kind; `metadata` is the list's.
pub fn make_table(kind: &str, objects: &[Value], metadata: Value, include: Include, now: Timestamp) -> Value {
    let definitions: Vec<Value> = list_columns(kind).iter().map(define_column).collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut row = json!({"cells": build_cells(kind, object, now)});
            match include {
                Include::None => {}
                Include::Metadata => row["object"] = partial_metadata(object),
                Include::Object => row["object"] = object.clone(),
            }
            row
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows})
}

/// The object without everything but its metadata.
pub fn partial_metadata(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn define_column(column: &Column) -> Value {
    let name = column.name();
    json!({
        "name": name,
        "type": if matches!(name, "Data" | "Secrets" | "Count") { "integer" } else { "string" },
        "format": if name == "Name" { "name" } else { "" },
        "description": "",
        "priority": i32::from(column.is_wide()),
    })
}

/// All cells of an object; those of an Event come out of either of its two forms.
fn build_cells(kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    match kind {
        "Event" => event_cells(object, now),
        kind => object_table::build_cells(kind, object, now),
    }
}

fn event_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let core = to_core_form(object.clone());
    let Ok(event) = serde_json::from_value::<Event>(core) else { return vec![Value::Null; 10] };
    events::build_cells(&event, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::kinds::all_kinds;

    #[test]
    fn every_kind_has_as_many_cells_as_columns() {
        for kind in all_kinds() {
            let object = json!({"metadata": {"name": "x"}, "spec": {"containers": []}, "involvedObject": {}});
            let table = make_table(kind.kind, &[object], json!({}), Include::None, Timestamp::UNIX_EPOCH);
            let cells = table["rows"][0]["cells"].as_array().unwrap().len();
            assert_eq!(cells, table["columnDefinitions"].as_array().unwrap().len(), "{}", kind.kind);
            assert!(table["rows"][0]["object"].is_null());
        }
    }

    #[test]
    fn a_pods_row_has_kubectls_columns_and_its_metadata_beside_it() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let pod = json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"}},
            "spec": {"nodeName": "laptop", "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
            "status": {"phase": "Pending"}});
        let table = make_table("Pod", &[pod], json!({"resourceVersion": "5"}), Include::Metadata, now);
        assert_eq!(
            table["rows"][0]["cells"],
            json!(["p", "0/1", "Pending", "0", "60s", "<none>", "laptop", "<none>", "<none>"])
        );
        assert_eq!(table["rows"][0]["object"]["metadata"]["labels"]["a"], "b");
        assert!(table["rows"][0]["object"]["spec"].is_null());
        assert_eq!(table["columnDefinitions"][5]["priority"], 1);
        assert_eq!(table["metadata"]["resourceVersion"], "5");
    }
}
