//! Kept objects as rows of `kubectl get`: the cells of each kind but pods and events.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{age, job_table, service_table};
use crate::pod::ObjectKind;

/// The first line.
pub fn head(kind: ObjectKind, wide: bool) -> Vec<String> {
    let names: &[&str] = match kind {
        ObjectKind::ConfigMap => &["NAME", "DATA", "AGE"],
        ObjectKind::Secret => &["NAME", "TYPE", "DATA", "AGE"],
        ObjectKind::PersistentVolumeClaim => &[
            "NAME",
            "STATUS",
            "VOLUME",
            "CAPACITY",
            "ACCESS MODES",
            "STORAGECLASS",
            "VOLUMEATTRIBUTESCLASS",
            "AGE",
            "VOLUMEMODE",
        ],
        ObjectKind::Service => &["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"],
        ObjectKind::Endpoints => &["NAME", "ENDPOINTS", "AGE"],
        ObjectKind::EndpointSlice => &["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"],
        ObjectKind::Namespace => &["NAME", "STATUS", "AGE"],
        ObjectKind::ServiceAccount => &["NAME", "SECRETS", "AGE"],
        ObjectKind::Node => &["NAME", "STATUS", "ROLES", "AGE", "VERSION"],
        ObjectKind::Job => &job_table::COLUMNS,
        _ => &["NAME", "AGE"],
    };
    // What only the wide table shows stands behind the age.
    let is_wide_only = |name: &&&str| matches!(**name, "VOLUMEMODE" | "SELECTOR" | "CONTAINERS" | "IMAGES");
    names.iter().filter(|name| wide || !is_wide_only(name)).map(|name| (*name).to_owned()).collect()
}

/// An object's line.
pub fn row(kind: ObjectKind, object: &Value, wide: bool, now: Timestamp) -> Vec<String> {
    let name = text(&object["metadata"]["name"]);
    let count = |list: &str| object[list].as_object().map_or(0, serde_json::Map::len);
    let data = || (count("data") + count("binaryData")).to_string();
    let age = age_of(&object["metadata"]["creationTimestamp"], now);
    match kind {
        ObjectKind::ConfigMap => vec![name, data(), age],
        ObjectKind::Secret => vec![name, text(&object["type"]), data(), age],
        ObjectKind::PersistentVolumeClaim => {
            let size = text(&object["spec"]["resources"]["requests"]["storage"]);
            let mut row = vec![
                name.clone(),
                "Bound".into(),
                name,
                size,
                access_modes(object),
                "local".into(),
                "<unset>".into(),
                age,
            ];
            row.extend(wide.then(|| "Filesystem".to_owned()));
            row
        }
        ObjectKind::Service => service_table::row(object, age, wide),
        ObjectKind::Endpoints => service_table::endpoints_row(object, age),
        ObjectKind::EndpointSlice => service_table::slice_row(object, age),
        ObjectKind::Namespace => vec![name, text(&object["status"]["phase"]), age],
        ObjectKind::ServiceAccount => vec![name, "0".into(), age],
        ObjectKind::Job => {
            let mut row = job_table::write_row(object, age, now);
            row.truncate(if wide { row.len() } else { job_table::NARROW });
            row
        }
        ObjectKind::Node => {
            let version = text(&object["status"]["nodeInfo"]["kubeletVersion"]);
            vec![name, "Ready".into(), "<none>".into(), age, version]
        }
        _ => vec![name, age],
    }
}

fn access_modes(object: &Value) -> String {
    let modes = object["spec"]["accessModes"].as_array().into_iter().flatten();
    let short = modes.map(|mode| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        _ => "RWOP",
    });
    short.collect::<Vec<_>>().join(",")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The age of something made at that time, as kubectl words it.
pub fn age_of(time: &Value, now: Timestamp) -> String {
    let made = time.as_str().and_then(|time| time.parse::<Timestamp>().ok());
    made.map_or_else(|| "<unknown>".into(), |made| age::worded(now.duration_since(made)))
}
