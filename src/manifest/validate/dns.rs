//! How a pod is called, and whom it asks for names.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig, PodSpec};

use super::{
    super::{Report, Severity, typed::join},
    well_formed::{dns_label, dns_subdomain, one_of},
};
use crate::pod::{PodExt, kubernetes_versions::hostname_override};

/// Chosen as the kernel and the C library count.
const LONGEST_HOST_NAME: usize = 64;
const MOST_NAMESERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;

/// Checks the names of a pod whose spec is at `path`.
pub(super) fn pod(pod: &Pod, spec: &PodSpec, path: &str, report: &mut Report<'_>) {
    host_names(pod, spec, path, report);
    for (i, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let at = |field: &str| format!("{path}.hostAliases[{i}].{field}");
        address(&alias.ip, &at("ip"), report);
        for (j, name) in alias.hostnames.iter().flatten().enumerate() {
            dns_subdomain(name, &at(&format!("hostnames[{j}]")), report);
        }
    }
    one_of(
        spec.dns_policy.as_deref(),
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
        &join(path, "dnsPolicy"),
        report,
    );
    if spec.host_network == Some(true) && spec.dns_policy.as_deref() == Some("ClusterFirstWithHostNet") {
        let message = "from the host's network pods and Services are not found by name here; names are resolved as the host does";
        report.say(Severity::Warning, &join(path, "dnsPolicy"), message, None);
    }
    let at = join(path, "dnsConfig");
    let servers = spec.dns_config.as_ref().map(|c| c.nameservers.iter().flatten().count());
    match (spec.dns_policy.as_deref(), servers) {
        (Some("None"), None) => {
            report.add_error(&at, "Required value: must provide `dnsConfig` when `dnsPolicy` is None");
        }
        (Some("None"), Some(0)) => report.add_error(
            &join(&at, "nameservers"),
            "Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
        ),
        _ => {}
    }
    if let Some(config) = &spec.dns_config {
        dns_config(config, &at, report);
    }
}

fn host_names(pod: &Pod, spec: &PodSpec, path: &str, report: &mut Report<'_>) {
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(name) = name.as_deref().filter(|n| !n.is_empty()) {
            dns_label(name, &join(path, field), report);
        }
    }
    let (at, as_fqdn) = (join(path, "hostnameOverride"), join(path, "setHostnameAsFQDN"));
    let set = |name: &Option<String>| name.clone().filter(|n| !n.is_empty());
    let qualified = spec.set_hostname_as_fqdn == Some(true);
    if let Some(name) = hostname_override(spec) {
        dns_subdomain(name, &at, report);
        if name.len() > LONGEST_HOST_NAME {
            report.add_error(&at, format!("Too long: may not be more than {LONGEST_HOST_NAME} characters"));
        }
        if spec.host_network == Some(true) {
            report.add_error(&at, "Forbidden: when `hostNetwork` is true");
        }
        if qualified {
            report.add_error(&as_fqdn, "Forbidden: may not be set to true when `hostnameOverride` is set");
        }
    } else if qualified && let Some(subdomain) = set(&spec.subdomain) {
        let host = set(&spec.hostname).or(pod.metadata.name.clone()).unwrap_or_default();
        let namespace = pod.namespace();
        let name = format!("{host}.{subdomain}.{namespace}.svc.cluster.local");
        if name.len() > LONGEST_HOST_NAME {
            let message = format!(
                "Invalid value: true: the name {name} has {} characters; a host name has {LONGEST_HOST_NAME} characters at most",
                name.len()
            );
            report.add_error(&as_fqdn, message);
        }
    }
}

fn dns_config(config: &PodDNSConfig, path: &str, report: &mut Report<'_>) {
    let at = |field: String| format!("{path}.{field}");
    let (servers, searches) = (config.nameservers.as_deref(), config.searches.as_deref());
    if servers.is_some_and(|all| all.len() > MOST_NAMESERVERS) {
        let message = format!("Invalid value: must not have more than {MOST_NAMESERVERS} nameservers");
        report.add_error(&at("nameservers".into()), message);
    }
    for (i, server) in servers.into_iter().flatten().enumerate() {
        address(server, &at(format!("nameservers[{i}]")), report);
    }
    if searches.is_some_and(|all| all.len() > MOST_SEARCHES) {
        let message = format!("Invalid value: must not have more than {MOST_SEARCHES} search paths");
        report.add_error(&at("searches".into()), message);
    }
    for (i, search) in searches.into_iter().flatten().enumerate() {
        // A dot at the end, or alone, says that the name is whole.
        let name = search.strip_suffix('.').unwrap_or(search);
        if search != "." {
            dns_subdomain(name, &at(format!("searches[{i}]")), report);
        }
    }
    for (i, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().is_none_or(str::is_empty) {
            report.add_error(&at(format!("options[{i}].name")), "Required value");
        }
    }
}

fn address(text: &str, path: &str, report: &mut Report<'_>) {
    if text.parse::<IpAddr>().is_err() {
        let message =
            format!("Invalid value: {text:?}: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        report.add_error(path, message);
    }
}
