//! Environment variables and where they come from.

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, PodSpec, ResourceFieldSelector};

use super::{super::Report, well_formed::config_key};
use crate::pod::{kubernetes_versions::file_key, quantity::quantity_millis};

/// Field paths that an environment variable may name.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Field paths that a file of a volume may name.
const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

pub(super) fn environment(c: &Container, path: &str, spec: &PodSpec, report: &mut Report<'_>) {
    for (i, var) in c.env.iter().flatten().enumerate() {
        let at = format!("{path}.env[{i}]");
        env_name(&var.name, &format!("{at}.name"), report);
        let Some(from) = &var.value_from else { continue };
        let at = format!("{at}.valueFrom");
        let set = [
            from.config_map_key_ref.is_some(),
            from.secret_key_ref.is_some(),
            from.field_ref.is_some(),
            from.resource_field_ref.is_some(),
            file_key(from).is_some(),
        ];
        match set.iter().filter(|s| **s).count() {
            0 => report.add_error(
                &at,
                "Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            ),
            1 => {}
            _ => report.add_error(&at, "Invalid value: \"\": may not have more than one field specified at a time"),
        }
        if var.value.as_deref().is_some_and(|v| !v.is_empty()) {
            report.add_error(&at, "Invalid value: \"\": may not be specified when `value` is not empty");
        }
        if let Some(r) = &from.config_map_key_ref {
            required(&r.name, &format!("{at}.configMapKeyRef.name"), report);
            config_key(&r.key, &format!("{at}.configMapKeyRef.key"), report);
        }
        if let Some(r) = &from.secret_key_ref {
            required(&r.name, &format!("{at}.secretKeyRef.name"), report);
            config_key(&r.key, &format!("{at}.secretKeyRef.key"), report);
        }
        if let Some(r) = &from.field_ref {
            field(r, ENV_FIELDS, &format!("{at}.fieldRef"), report);
        }
        if let Some(r) = &from.resource_field_ref {
            resource(r, spec, false, &format!("{at}.resourceFieldRef"), report);
        }
    }
    for (i, from) in c.env_from.iter().flatten().enumerate() {
        let at = format!("{path}.envFrom[{i}]");
        if let Some(prefix) = from.prefix.as_deref().filter(|p| !p.is_empty()) {
            env_name(prefix, &format!("{at}.prefix"), report);
        }
        match (&from.config_map_ref, &from.secret_ref) {
            (None, None) => report
                .add_error(&at, "Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"),
            (Some(_), Some(_)) => report
                .add_error(&at, "Invalid value: \"\": may not have more than one field specified at a time"),
            (Some(map), None) => required(&map.name, &format!("{at}.configMapRef.name"), report),
            (None, Some(secret)) => required(&secret.name, &format!("{at}.secretRef.name"), report),
        }
    }
}

pub(super) fn required(name: &str, path: &str, report: &mut Report<'_>) {
    if name.is_empty() {
        report.add_error(path, "Required value");
    }
}

fn env_name(name: &str, path: &str, report: &mut Report<'_>) {
    if name.is_empty() {
        report.add_error(path, "Required value");
    } else if !name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        report.add_error(
            path,
            format!("Invalid value: {name:?}: a valid environment variable name must consist only of printable ASCII characters other than '='"),
        );
    }
}

/// Checks a field that goes into a file of a volume.
pub(super) fn file_field(r: &ObjectFieldSelector, path: &str, report: &mut Report<'_>) {
    field(r, FILE_FIELDS, path, report);
}

fn field(r: &ObjectFieldSelector, allowed: &[&str], path: &str, report: &mut Report<'_>) {
    let at = format!("{path}.fieldPath");
    let keyed = |list: &str| {
        r.field_path.strip_prefix(list).and_then(|rest| rest.strip_prefix("['")?.strip_suffix("']"))
    };
    let key = keyed("metadata.labels").or_else(|| keyed("metadata.annotations"));
    if r.field_path.is_empty() {
        report.add_error(&at, "Required value");
    } else if key.is_none_or(str::is_empty) && !allowed.contains(&r.field_path.as_str()) {
        let mut list: Vec<String> = allowed.iter().map(|a| format!("{a:?}")).collect();
        list.push("\"metadata.labels['KEY']\", \"metadata.annotations['KEY']\"".into());
        let message = format!("Unsupported value: {:?}: supported values: {}", r.field_path, list.join(", "));
        report.add_error(&at, message);
    }
    if r.api_version.as_deref().is_some_and(|v| v != "v1") {
        report.add_error(&format!("{path}.apiVersion"), "Unsupported value: supported values: \"v1\"");
    }
}

/// Checks a request or limit; in a volume's file the container has to be named.
pub(super) fn resource(
    r: &ResourceFieldSelector,
    spec: &PodSpec,
    in_file: bool,
    path: &str,
    report: &mut Report<'_>,
) {
    let name = r.resource.split_once('.').filter(|(list, _)| ["limits", "requests"].contains(list));
    let divisor = r.divisor.as_ref().map(|d| d.0.as_str()).filter(|d| !d.is_empty());
    let divisors: &[&str] = match name.map(|(_, name)| name) {
        Some("cpu") => &["0", "1", "1m"],
        Some(name) if ["memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-") => {
            &["0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"]
        }
        _ if r.resource.is_empty() => return report.add_error(&format!("{path}.resource"), "Required value"),
        _ => {
            return report.add_error(
                &format!("{path}.resource"),
                format!("Unsupported value: {:?}: supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\"", r.resource),
            );
        }
    };
    if let Some(given) = divisor {
        let same = |allowed: &&str| quantity_millis(allowed).ok() == quantity_millis(given).ok();
        if quantity_millis(given).is_err() || !divisors.iter().any(same) {
            report.add_error(
                &format!("{path}.divisor"),
                format!("Unsupported value: {given:?}: supported values: {}", divisors[1..].join(", ")),
            );
        }
    }
    let at = format!("{path}.containerName");
    match r.container_name.as_deref().filter(|n| !n.is_empty()) {
        None if in_file => report.add_error(&at, "Required value"),
        Some(name)
            if !spec.init_containers.iter().flatten().chain(&spec.containers).any(|c| c.name == name) =>
        {
            report.add_error(&at, format!("Not found: {name:?}"));
        }
        _ => {}
    }
}
