//! ConfigMaps, Secrets, claims and what else is kept, in full, as `kubectl describe` lays them out.

use serde_json::Value;

use super::{
    describe::{Page, annotations_of},
    tab_stops,
};
use crate::pod::ObjectKind;

/// Describes an object of a kind that is neither a pod nor a Service; `users` are the pods that use a claim.
pub fn describe_object(kind: ObjectKind, object: &Value, users: &[String]) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let meta = &object["metadata"];
    let mut page = Page::default();
    page.field(0, "Name", text(&meta["name"]));
    if kind.is_namespaced() {
        page.field(0, "Namespace", text(&meta["namespace"]));
    }
    if kind == ObjectKind::PersistentVolumeClaim {
        page.field(0, "StorageClass", "local");
        page.field(0, "Status", text(&object["status"]["phase"]));
        page.field(0, "Volume", text(&object["spec"]["volumeName"]));
    }
    page.list("Labels", &pairs(&meta["labels"], "="));
    page.list("Annotations", &annotations_of(meta));
    match kind {
        ObjectKind::PersistentVolumeClaim => {
            let finalizers = object["metadata"]["finalizers"].as_array().into_iter().flatten().map(text);
            page.field(0, "Finalizers", format_args!("[{}]", finalizers.collect::<Vec<_>>().join(" ")));
            page.field(0, "Capacity", text(&object["spec"]["resources"]["requests"]["storage"]));
            let modes = object["spec"]["accessModes"].as_array().into_iter().flatten().map(text);
            page.field(0, "Access Modes", modes.map(|mode| short_mode(&mode)).collect::<Vec<_>>().join(","));
            page.field(0, "VolumeMode", text(&object["spec"]["volumeMode"]));
            page.list("Used By", users);
            page.field(0, "Events", "<none>");
        }
        ObjectKind::Namespace => page.field(0, "Status", text(&object["status"]["phase"])),
        _ => {}
    }
    let mut out = tab_stops::align_columns(&page.0, 8, 2);
    match kind {
        ObjectKind::ConfigMap => out += &(data_of_config_map(object) + "\nEvents:  <none>\n"),
        ObjectKind::Namespace => out += "\nNo resource quota.\n\nNo LimitRange resource.\n",
        ObjectKind::Secret => {
            out += &format!("\nType:  {}\n", text(&object["type"]));
            out += &data_of_secret(object);
        }
        _ => {}
    }
    out
}

/// `RWO` for `ReadWriteOnce`.
fn short_mode(mode: &str) -> String {
    match mode {
        "ReadWriteOncePod" => "RWOP".to_owned(),
        mode => mode.chars().filter(char::is_ascii_uppercase).collect(),
    }
}

fn pairs(map: &Value, between: &str) -> Vec<String> {
    let all = map.as_object().into_iter().flatten();
    all.map(|(key, value)| format!("{key}{between}{}", value.as_str().unwrap_or_default())).collect()
}

fn data_of_config_map(object: &Value) -> String {
    let mut out = "\nData\n====\n".to_owned();
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        out += &format!("{key}:\n----\n{}\n\n", value.as_str().unwrap_or_default());
    }
    out += "\nBinaryData\n====\n";
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        out += &format!("{key}: {} bytes\n", decoded_length(value));
    }
    out
}

/// Keys and lengths only: what is secret is not for a terminal.
fn data_of_secret(object: &Value) -> String {
    let mut out = "\nData\n====\n".to_owned();
    let lines = object["data"].as_object().into_iter().flatten();
    let lines = lines.map(|(key, value)| format!("{key}:\t{} bytes\n", decoded_length(value)));
    out += &tab_stops::align_columns(&lines.collect::<String>(), 0, 2);
    out
}

/// Bytes that base64 text stands for.
fn decoded_length(base64: &Value) -> usize {
    let text = base64.as_str().unwrap_or_default();
    text.len() / 4 * 3 - text.bytes().rev().take_while(|b| *b == b'=').count().min(2)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_described_without_its_values() {
        let secret = json!({"metadata": {"name": "s", "namespace": "default"}, "type": "Opaque", "data": {"key": "aGlkZGVu"}});
        let page = describe_object(ObjectKind::Secret, &secret, &[]);
        assert!(
            page.contains("Name:         s\n") && page.contains("\nData\n====\nkey:  6 bytes\n"),
            "{page}"
        );
        assert!(!page.contains("aGlkZGVu"));
    }
}
