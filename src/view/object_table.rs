//! Objects as rows of `kubectl get`: the one list of each kind's columns, and the cells of every kind but Event.

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use serde_json::Value;

use super::{age, job_table, pods, service_table};
use crate::pod::ObjectKind;

/// Names a column of a kind's table as the Kubernetes API does; a table's first line has it in capitals.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Every table shows it.
    Always(&'static str),
    /// Only a wide table shows it.
    Wide(&'static str),
}

impl Column {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        let (Column::Always(name) | Column::Wide(name)) = self;
        name
    }

    /// Tells whether only a wide table shows it.
    pub fn is_wide(self) -> bool {
        matches!(self, Column::Wide(_))
    }
}

/// Lists the columns of a kind: for tables that `podctl` prints, and for those that the Kubernetes API gives.
pub fn list_columns(kind: &str) -> &'static [Column] {
    use Column::{Always, Wide};
    match kind {
        "Pod" => &[
            Always("Name"),
            Always("Ready"),
            Always("Status"),
            Always("Restarts"),
            Always("Age"),
            Wide("IP"),
            Wide("Node"),
            Wide("Nominated Node"),
            Wide("Readiness Gates"),
        ],
        "Service" => &[
            Always("Name"),
            Always("Type"),
            Always("Cluster-IP"),
            Always("External-IP"),
            Always("Port(s)"),
            Always("Age"),
            Wide("Selector"),
        ],
        "ConfigMap" => &[Always("Name"), Always("Data"), Always("Age")],
        "Secret" => &[Always("Name"), Always("Type"), Always("Data"), Always("Age")],
        "PersistentVolumeClaim" => &[
            Always("Name"),
            Always("Status"),
            Always("Volume"),
            Always("Capacity"),
            Always("Access Modes"),
            Always("StorageClass"),
            Always("VolumeAttributesClass"),
            Always("Age"),
            Wide("VolumeMode"),
        ],
        "Endpoints" => &[Always("Name"), Always("Endpoints"), Always("Age")],
        "EndpointSlice" => {
            &[Always("Name"), Always("AddressType"), Always("Ports"), Always("Endpoints"), Always("Age")]
        }
        "Event" => &[
            Always("Last Seen"),
            Always("Type"),
            Always("Reason"),
            Always("Object"),
            Wide("Subobject"),
            Wide("Source"),
            Always("Message"),
            Wide("First Seen"),
            Wide("Count"),
            Wide("Name"),
        ],
        "Job" => &[
            Always("Name"),
            Always("Status"),
            Always("Completions"),
            Always("Duration"),
            Always("Age"),
            Wide("Containers"),
            Wide("Images"),
            Wide("Selector"),
        ],
        "Namespace" => &[Always("Name"), Always("Status"), Always("Age")],
        "ServiceAccount" => &[Always("Name"), Always("Secrets"), Always("Age")],
        "Lease" => &[Always("Name"), Always("Holder"), Always("Age")],
        "Node" => &[
            Always("Name"),
            Always("Status"),
            Always("Roles"),
            Always("Age"),
            Always("Version"),
            Wide("Internal-IP"),
            Wide("External-IP"),
            Wide("OS-Image"),
            Wide("Kernel-Version"),
            Wide("Container-Runtime"),
        ],
        _ => &[Always("Name"), Always("Age")],
    }
}

/// Returns the first line of a table.
pub fn head(kind: ObjectKind, is_wide: bool) -> Vec<String> {
    let shown = list_columns(kind.name()).iter().filter(|column| is_wide || !column.is_wide());
    shown.map(|column| column.name().to_uppercase()).collect()
}

/// Returns an object's line.
pub fn row(kind: ObjectKind, object: &Value, is_wide: bool, now: Timestamp) -> Vec<String> {
    let columns = list_columns(kind.name()).iter();
    let shown = columns.zip(build_cells(kind.name(), object, now)).filter(|(c, _)| is_wide || !c.is_wide());
    shown.map(|(_, cell)| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect()
}

/// Returns all cells of an object of any kind but Event, numbers as numbers.
pub fn build_cells(kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let or_none = |value: &Value| value.as_str().filter(|t| !t.is_empty()).unwrap_or("<none>").to_owned();
    let name = text(&object["metadata"]["name"]);
    let age = age_of(&object["metadata"]["creationTimestamp"], now);
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
        "Namespace" => vec![name.into(), text(&object["status"]["phase"]).into(), age.into()],
        "ServiceAccount" => {
            let secrets = object["secrets"].as_array().map_or(0, Vec::len);
            vec![name.into(), secrets.into(), age.into()]
        }
        "Lease" => vec![name.into(), text(&object["spec"]["holderIdentity"]).into(), age.into()],
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

/// Returns the age of something made at that time, as kubectl words it.
pub fn age_of(time: &Value, now: Timestamp) -> String {
    let made = time.as_str().and_then(|time| time.parse::<Timestamp>().ok());
    made.map_or_else(|| "<unknown>".into(), |made| age::worded(now.duration_since(made)))
}
