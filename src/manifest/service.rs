//! What kube-apiserver refuses in a Service, and what has no meaning here.

use std::{collections::HashSet, net::IpAddr};

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};

use super::{Report, Severity, support};

/// Checks a Service. `prefix` is its path in the document.
pub(super) fn check(service: &Service, prefix: &str, report: &mut Report<'_>) {
    let at = |path: &str| if prefix.is_empty() { path.to_owned() } else { format!("{prefix}.{path}") };
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let label = name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if name.is_empty() {
        report.add_error(&at("metadata.name"), "Required value: name is required");
    } else if !label {
        report.add_error(
            &at("metadata.name"),
            format!(
                "Invalid value: {name:?}: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character"
            ),
        );
    }
    let Some(spec) = &service.spec else { return report.add_error(&at("spec"), "Required value") };
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName") {
        report.add_error(
            &at("spec.type"),
            format!(
                "Unsupported value: {kind:?}: supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\""
            ),
        );
    }
    if kind == "ExternalName" && spec.external_name.as_deref().is_none_or(str::is_empty) {
        report.add_error(&at("spec.externalName"), "Required value");
    }
    let headless = spec.cluster_ip.as_deref() == Some("None");
    // Whether it is in the range and free is known when it is started only.
    if let Some(fixed) = spec.cluster_ip.as_deref().filter(|ip| !matches!(*ip, "" | "None")) {
        if kind == "ExternalName" {
            report.add_error(&at("spec.clusterIP"), "Forbidden: may not be set for ExternalName services");
        } else if fixed.parse::<IpAddr>().is_err() {
            let message = format!(
                "Invalid value: {fixed:?}: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            );
            report.add_error(&at("spec.clusterIP"), message);
        }
    }
    let affinity = spec.session_affinity.as_deref().unwrap_or("None");
    if !matches!(affinity, "None" | "ClientIP") {
        let message = format!("Unsupported value: {affinity:?}: supported values: \"ClientIP\", \"None\"");
        report.add_error(&at("spec.sessionAffinity"), message);
    }
    let config = spec.session_affinity_config.as_ref();
    if config.is_some() && affinity != "ClientIP" {
        let message = "Forbidden: must not be set when session affinity is None";
        report.add_error(&at("spec.sessionAffinityConfig"), message);
    }
    let timeout = config.and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
    if timeout.is_some_and(|t| !(1..=86_400).contains(&t)) {
        let message = "Invalid value: must be greater than 0 and less than 86400";
        report.add_error(&at("spec.sessionAffinityConfig.clientIP.timeoutSeconds"), message);
    }
    let written = serde_json::to_value(spec).unwrap_or_default();
    support::object("ServiceSpec", &written, &at("spec"), report);
    if kind != "ExternalName" && spec.selector.as_ref().is_none_or(|s| s.is_empty()) {
        let message = "a Service without a selector leads nowhere here: there are no Endpoints objects";
        report.say(Severity::Warning, &at("spec.selector"), message, None);
    }
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !headless && kind != "ExternalName" {
        report.add_error(&at("spec.ports"), "Required value");
    }
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (i, port) in ports.iter().enumerate() {
        let at = |field: &str| at(&format!("spec.ports[{i}].{field}"));
        let valid = |n: i32| (1..=65_535).contains(&n);
        if !valid(port.port) {
            report.add_error(&at("port"), "Invalid value: must be between 1 and 65535, inclusive");
        }
        if matches!(port.target_port, Some(IntOrString::Int(n)) if !valid(n)) {
            report.add_error(&at("targetPort"), "Invalid value: must be between 1 and 65535, inclusive");
        }
        if port.node_port.is_some_and(|n| !valid(n)) {
            report.add_error(&at("nodePort"), "Invalid value: must be between 1 and 65535, inclusive");
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if !matches!(protocol, "TCP" | "UDP") {
            let message = format!("Unsupported value: {protocol:?}: supported values: \"TCP\", \"UDP\"");
            report.add_error(&at("protocol"), message);
        }
        match port.name.as_deref() {
            None | Some("") if ports.len() > 1 => report.add_error(&at("name"), "Required value"),
            Some(name) if !names.insert(name) => {
                report.add_error(&at("name"), format!("Duplicate value: {name:?}"));
            }
            _ => {}
        }
        if !numbers.insert((port.port, protocol)) {
            report.add_error(&at("port"), format!("Duplicate value: {} {protocol}", port.port));
        }
    }
}
