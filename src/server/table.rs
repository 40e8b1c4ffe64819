//! Objects as the rows that `kubectl get` prints: column definitions, and cells out of `view/`. PURE.

use k8s_openapi::{
    api::core::v1::{Event, Pod},
    jiff::Timestamp,
};
use serde_json::{Value, json};

use super::events::to_core_form;
use crate::view::{age, events, job_table, pods, service_table};

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

/// A column's name; an exclamation mark before it puts it in wide tables only.
type Column = &'static str;

/// The columns of a kind.
fn list_columns(kind: &str) -> &'static [Column] {
    match kind {
        "Pod" => &[
            "Name",
            "Ready",
            "Status",
            "Restarts",
            "Age",
            "!IP",
            "!Node",
            "!Nominated Node",
            "!Readiness Gates",
        ],
        "Service" => &["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "!Selector"],
        "ConfigMap" => &["Name", "Data", "Age"],
        "Secret" => &["Name", "Type", "Data", "Age"],
        "PersistentVolumeClaim" => &[
            "Name",
            "Status",
            "Volume",
            "Capacity",
            "Access Modes",
            "StorageClass",
            "VolumeAttributesClass",
            "Age",
            "!VolumeMode",
        ],
        "Endpoints" => &["Name", "Endpoints", "Age"],
        "EndpointSlice" => &["Name", "AddressType", "Ports", "Endpoints", "Age"],
        "Event" => &[
            "Last Seen",
            "Type",
            "Reason",
            "Object",
            "!Subobject",
            "!Source",
            "Message",
            "!First Seen",
            "!Count",
            "!Name",
        ],
        "Job" => &["Name", "Status", "Completions", "Duration", "Age", "!Containers", "!Images", "!Selector"],
        "Namespace" => &["Name", "Status", "Age"],
        "ServiceAccount" => &["Name", "Secrets", "Age"],
        "Node" => &[
            "Name",
            "Status",
            "Roles",
            "Age",
            "Version",
            "!Internal-IP",
            "!External-IP",
            "!OS-Image",
            "!Kernel-Version",
            "!Container-Runtime",
        ],
        _ => &["Name", "Age"],
    }
}

/// The Table of those objects of one kind; `metadata` is the list's.
pub fn make_table(kind: &str, objects: &[Value], metadata: Value, include: Include, now: Timestamp) -> Value {
    let definitions: Vec<Value> = list_columns(kind).iter().map(|column| define_column(column)).collect();
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

fn define_column(column: &str) -> Value {
    let name = column.trim_start_matches('!');
    json!({
        "name": name,
        "type": if matches!(name, "Data" | "Secrets" | "Count") { "integer" } else { "string" },
        "format": if name == "Name" { "name" } else { "" },
        "description": "",
        "priority": i32::from(column.starts_with('!')),
    })
}

fn build_cells(kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let or_none = |value: &Value| value.as_str().filter(|t| !t.is_empty()).unwrap_or("<none>").to_owned();
    let name = text(&object["metadata"]["name"]);
    let age = since(&object["metadata"]["creationTimestamp"], now);
    let count = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
    let words = |all: Vec<String>| all.into_iter().map(Value::from).collect::<Vec<Value>>();
    match kind {
        "Pod" => {
            let Ok(pod) = serde_json::from_value::<Pod>(object.clone()) else {
                return vec![name.into(), "0/0".into(), "Unknown".into(), "0".into(), age.into()];
            };
            let wide = pods::Columns { wide: true, ..pods::Columns::default() };
            let mut row = pods::row(&pod, &wide, now);
            row.truncate(list_columns(kind).len());
            words(row)
        }
        "Service" => words(service_table::row(object, age, true)),
        "Job" => words(job_table::write_row(object, age, now)),
        "Endpoints" => words(service_table::endpoints_row(object, age)),
        "EndpointSlice" => words(service_table::slice_row(object, age)),
        "ConfigMap" => vec![name.into(), (count("data") + count("binaryData")).into(), age.into()],
        "Secret" => vec![name.into(), text(&object["type"]).into(), count("data").into(), age.into()],
        "PersistentVolumeClaim" => {
            let spec = &object["spec"];
            let modes =
                spec["accessModes"].as_array().into_iter().flatten().map(|mode| match mode.as_str() {
                    Some("ReadWriteOnce") => "RWO",
                    Some("ReadOnlyMany") => "ROX",
                    Some("ReadWriteMany") => "RWX",
                    _ => "RWOP",
                });
            let capacity = match &object["status"]["capacity"]["storage"] {
                Value::Null => &spec["resources"]["requests"]["storage"],
                known => known,
            };
            vec![
                name.into(),
                text(&object["status"]["phase"]).into(),
                text(&spec["volumeName"]).into(),
                text(capacity).into(),
                modes.collect::<Vec<_>>().join(",").into(),
                text(&spec["storageClassName"]).into(),
                "<unset>".into(),
                age.into(),
                text(&spec["volumeMode"]).into(),
            ]
        }
        "Event" => event_cells(object, now),
        "Namespace" => vec![name.into(), text(&object["status"]["phase"]).into(), age.into()],
        "ServiceAccount" => {
            let secrets = object["secrets"].as_array().map_or(0, Vec::len);
            vec![name.into(), secrets.into(), age.into()]
        }
        "Node" => {
            let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
            let status = &object["status"];
            let ready =
                list(&status["conditions"]).iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            let addresses = list(&status["addresses"]);
            let address =
                |kind: &str| addresses.iter().find(|a| a["type"] == kind).map(|a| or_none(&a["address"]));
            let info = &status["nodeInfo"];
            let none = || "<none>".to_owned();
            words(vec![
                name,
                if ready { "Ready" } else { "NotReady" }.into(),
                none(),
                age,
                text(&info["kubeletVersion"]),
                address("InternalIP").unwrap_or_else(none),
                address("ExternalIP").unwrap_or_else(none),
                text(&info["osImage"]),
                text(&info["kernelVersion"]),
                text(&info["containerRuntimeVersion"]),
            ])
        }
        _ => vec![name.into(), age.into()],
    }
}

fn event_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let core = to_core_form(object.clone());
    let Ok(event) = serde_json::from_value::<Event>(core) else { return vec![Value::Null; 10] };
    let row = events::row(&event, false, now);
    let involved = &event.involved_object;
    let source = event.source.as_ref();
    let last = event.last_timestamp.as_ref().or(event.first_timestamp.as_ref());
    let kind = involved.kind.clone().unwrap_or_default().to_lowercase();
    let component = [source.and_then(|s| s.component.clone()), source.and_then(|s| s.host.clone())];
    vec![
        age::since(last, now).into(),
        row[1].clone().into(),
        row[2].clone().into(),
        format!("{kind}/{}", involved.name.clone().unwrap_or_default()).into(),
        involved.field_path.clone().unwrap_or_default().into(),
        component.into_iter().flatten().collect::<Vec<_>>().join(", ").into(),
        event.message.clone().unwrap_or_default().trim().into(),
        age::since(event.first_timestamp.as_ref(), now).into(),
        event.count.unwrap_or(1).into(),
        event.metadata.name.clone().unwrap_or_default().into(),
    ]
}

fn since(time: &Value, now: Timestamp) -> String {
    let made = time.as_str().and_then(|t| t.parse::<Timestamp>().ok());
    made.map_or_else(|| "<unknown>".into(), |t| age::worded(now.duration_since(t)))
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
