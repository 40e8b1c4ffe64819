//! Objects beside pods: metadata, ConfigMaps, Secrets, claims.

use std::collections::HashSet;

use k8s_openapi::{
    api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    super::{
        Report,
        typed::{entry, join},
    },
    well_formed::{annotations, check_labels, config_key, dns_label, dns_subdomain, one_of},
};
use crate::pod::quantity::quantity_bytes;

/// Most bytes of a ConfigMap or Secret.
const LARGEST: usize = 1 << 20;

/// Checks an object's name, namespace, labels and annotations.
pub(in super::super) fn check_metadata(meta: &ObjectMeta, path: &str, report: &mut Report<'_>) {
    let at = |field: &str| join(path, &format!("metadata.{field}"));
    match meta.name.as_deref() {
        None | Some("") => report.add_error(&at("name"), "Required value: name is required"),
        Some(name) => dns_subdomain(name, &at("name"), report),
    }
    if let Some(namespace) = meta.namespace.as_deref().filter(|n| !n.is_empty()) {
        dns_label(namespace, &at("namespace"), report);
    }
    check_labels(meta.labels.as_ref(), &at("labels"), report);
    annotations(meta.annotations.as_ref(), &at("annotations"), report);
}

pub(in super::super) fn config_map(map: &ConfigMap, path: &str, report: &mut Report<'_>) {
    check_metadata(&map.metadata, path, report);
    let text = map.data.iter().flatten().map(|(key, value)| ("data", key, value.len()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| ("binaryData", key, value.0.len()));
    keys(text.chain(binary), path, report);
    for key in map.binary_data.iter().flatten().map(|(key, _)| key) {
        if map.data.iter().flatten().any(|(known, _)| known == key) {
            let message = format!("Invalid value: {key:?}: duplicate of key present in data");
            report.add_error(&entry(&join(path, "binaryData"), key), message);
        }
    }
}

pub(in super::super) fn secret(secret: &Secret, path: &str, report: &mut Report<'_>) {
    check_metadata(&secret.metadata, path, report);
    let data = secret.data.iter().flatten().map(|(key, value)| ("data", key, value.0.len()));
    let plain = secret.string_data.iter().flatten().map(|(key, value)| ("stringData", key, value.len()));
    keys(data.chain(plain), path, report);
    let wanted: &[&str] = match secret.type_.as_deref() {
        Some("kubernetes.io/tls") => &["tls.crt", "tls.key"],
        Some("kubernetes.io/dockerconfigjson") => &[".dockerconfigjson"],
        Some("kubernetes.io/dockercfg") => &[".dockercfg"],
        Some("kubernetes.io/ssh-auth") => &["ssh-privatekey"],
        _ => &[],
    };
    for key in wanted {
        let has = secret.data.iter().flatten().any(|(known, _)| known == key)
            || secret.string_data.iter().flatten().any(|(known, _)| known == key);
        if !has {
            report.add_error(&entry(&join(path, "data"), key), "Required value");
        }
    }
}

fn keys<'a>(
    all: impl Iterator<Item = (&'static str, &'a String, usize)>,
    path: &str,
    report: &mut Report<'_>,
) {
    let mut total = 0;
    for (list, key, size) in all {
        total += size;
        config_key(key, &entry(&join(path, list), key), report);
    }
    if total > LARGEST {
        report.add_error(&join(path, "data"), format!("Too long: may not be more than {LARGEST} bytes"));
    }
}

const ACCESS_MODES: &[&str] = &["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];

pub(in super::super) fn claim(claim: &PersistentVolumeClaim, path: &str, report: &mut Report<'_>) {
    check_metadata(&claim.metadata, path, report);
    let at = |field: &str| join(path, &format!("spec.{field}"));
    let Some(spec) = &claim.spec else { return report.add_error(&join(path, "spec"), "Required value") };
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        report.add_error(&at("accessModes"), "Required value: at least 1 access mode is required");
    }
    let mut seen = HashSet::new();
    for (i, mode) in modes.iter().enumerate() {
        one_of(Some(mode), ACCESS_MODES, &at(&format!("accessModes[{i}]")), report);
        seen.insert(mode.as_str());
    }
    if seen.contains("ReadWriteOncePod") && seen.len() > 1 {
        report
            .add_error(&at("accessModes"), "Forbidden: may not use ReadWriteOncePod with other access modes");
    }
    match spec.resources.as_ref().and_then(|r| r.requests.as_ref()?.get("storage")) {
        None => report.add_error(&at("resources.requests.storage"), "Required value"),
        Some(size) => {
            if let Err(e) = quantity_bytes(&size.0) {
                report.add_error(
                    &at("resources.requests.storage"),
                    format!("Invalid value: {:?}: {e}", size.0),
                );
            }
        }
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        report.add_error(
            &at("volumeMode"),
            "Block is not supported: a local volume is a directory; use Filesystem",
        );
    }
}
