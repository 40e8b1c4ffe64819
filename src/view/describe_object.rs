//! ConfigMaps, Secrets, claims and what else is kept, in full, as `kubectl describe` lays them out.

use serde_json::Value;

use super::{
    describe::{Page, annotations_of},
    go_values::print_value,
    tab_stops,
};
use crate::pod::ObjectKind;

/// Describes an object of a kind that is neither a pod nor a Service; `users` are the pods that use a claim. No event is
/// about one.
pub fn describe_object(kind: ObjectKind, object: &Value, users: &[String], show_events: bool) -> String {
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
        }
        ObjectKind::ServiceAccount => {
            let secrets = object["imagePullSecrets"].as_array().into_iter().flatten();
            page.list("Image pull secrets", &secrets.map(|secret| text(&secret["name"])).collect::<Vec<_>>());
        }
        ObjectKind::Endpoints => describe_subsets(&mut page, object),
        ObjectKind::EndpointSlice => describe_slice(&mut page, object),
        ObjectKind::Event | ObjectKind::Lease => {
            let mut rest = object.clone();
            if let Some(meta) = rest["metadata"].as_object_mut() {
                for field in ["name", "namespace", "labels", "annotations", "managedFields"] {
                    meta.remove(field);
                }
            }
            describe_fields(&mut page, 0, &rest);
        }
        ObjectKind::Namespace => page.field(0, "Status", text(&object["status"]["phase"])),
        _ => {}
    }
    let has_events = !matches!(kind, ObjectKind::ConfigMap | ObjectKind::Namespace | ObjectKind::Secret);
    if show_events && has_events {
        page.field(0, "Events", "<none>");
    }
    let mut out = tab_stops::align_columns(&page.0, 8, 2);
    match kind {
        ObjectKind::ConfigMap => {
            out += &(data_of_config_map(object) + "\n");
            out += if show_events { "Events:  <none>\n" } else { "" };
        }
        ObjectKind::Namespace => out += "\nNo resource quota.\n\nNo LimitRange resource.\n",
        ObjectKind::Secret => {
            out += &format!("\nType:  {}\n", text(&object["type"]));
            out += &data_of_secret(object);
        }
        _ => {}
    }
    out
}

fn describe_subsets(page: &mut Page, object: &Value) {
    page.line(0, "Subsets:");
    for subset in list(&object["subsets"]) {
        for (name, field) in [("Addresses", "addresses"), ("NotReadyAddresses", "notReadyAddresses")] {
            let all: Vec<&str> = list(&subset[field]).iter().filter_map(|own| own["ip"].as_str()).collect();
            page.field(1, name, if all.is_empty() { "<none>".to_owned() } else { all.join(",") });
        }
        if !list(&subset["ports"]).is_empty() {
            page.line(1, "Ports:");
            page.line(2, "Name\tPort\tProtocol\n    ----\t----\t--------");
            list(&subset["ports"]).iter().for_each(|port| page.line(2, describe_port(port)));
        }
        page.0 += "\n";
    }
}

fn describe_slice(page: &mut Page, object: &Value) {
    page.field(0, "AddressType", object["addressType"].as_str().unwrap_or_default());
    match list(&object["ports"]) {
        [] => page.line(0, "Ports: <unset>"),
        ports => {
            page.line(0, "Ports:\n  Name\tPort\tProtocol\n  ----\t----\t--------");
            ports.iter().for_each(|port| page.line(1, describe_port(port)));
        }
    }
    if list(&object["endpoints"]).is_empty() {
        page.line(0, "Endpoints: <none>");
        return;
    }
    page.line(0, "Endpoints:");
    for endpoint in list(&object["endpoints"]) {
        let or_unset = |field: &str| endpoint[field].as_str().unwrap_or("<unset>").to_owned();
        let all: Vec<&str> = list(&endpoint["addresses"]).iter().filter_map(Value::as_str).collect();
        page.field(1, "- Addresses", if all.is_empty() { "<none>".to_owned() } else { all.join(", ") });
        page.line(2, "Conditions:");
        let ready = endpoint["conditions"]["ready"].as_bool();
        page.field(3, "Ready", ready.map_or("<unset>".to_owned(), |ready| ready.to_string()));
        page.field(2, "Hostname", or_unset("hostname"));
        let target = &endpoint["targetRef"];
        if let (Some(kind), Some(name)) = (target["kind"].as_str(), target["name"].as_str()) {
            page.field(2, "TargetRef", format_args!("{kind}/{name}"));
        }
        page.field(2, "NodeName", or_unset("nodeName"));
        page.field(2, "Zone", or_unset("zone"));
    }
}

fn describe_port(port: &Value) -> String {
    let name = port["name"].as_str().filter(|name| !name.is_empty()).unwrap_or("<unset>");
    let number = port["port"].as_u64().map_or("<unset>".to_owned(), |number| number.to_string());
    format!("{name}\t{number}\t{}", port["protocol"].as_str().unwrap_or_default())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Describes whatever fields there are, each under its name in words.
fn describe_fields(page: &mut Page, level: usize, object: &Value) {
    for (field, value) in object.as_object().into_iter().flatten() {
        let name = name_field(field);
        match value {
            Value::Object(_) => {
                page.line(level, format_args!("{name}:"));
                describe_fields(page, level + 1, value);
            }
            Value::Array(all) => {
                page.line(level, format_args!("{name}:"));
                for item in all {
                    match item {
                        Value::Object(_) => describe_fields(page, level + 1, item),
                        plain => page.line(level + 1, print_value(plain)),
                    }
                }
            }
            plain => page.field(level, &name, print_value(plain)),
        }
    }
}

/// `API Version` for `apiVersion`.
fn name_field(field: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for c in field.chars() {
        match words.last_mut().filter(|_| !c.is_uppercase()) {
            Some(word) => word.push(c),
            None => words.push(c.to_uppercase().collect()),
        }
    }
    let spell = |word: String| match word.to_uppercase().as_str() {
        upper @ ("API" | "URL" | "UID" | "OSB" | "GUID") => upper.to_owned(),
        _ => word,
    };
    words.into_iter().map(spell).collect::<Vec<_>>().join(" ")
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
        let page = describe_object(ObjectKind::Secret, &secret, &[], true);
        assert!(
            page.contains("Name:         s\n") && page.contains("\nData\n====\nkey:  6 bytes\n"),
            "{page}"
        );
        assert!(!page.contains("aGlkZGVu"));
    }
}
