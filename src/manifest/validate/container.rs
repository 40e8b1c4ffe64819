//! One container: image, ports, mounts, resources, policies.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};

use super::{
    super::{Report, Severity},
    env,
    handlers::{hook, probe, stop_signal},
    resources,
    well_formed::{dns_label, inner_path, one_of, port_name, within},
};
use crate::pod::{ContainerExt, kubernetes_versions::restart_rules, mount_target};

/// Chosen as the API server counts.
const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;

/// Host ports in use: address, port, protocol.
pub(super) type HostPorts = HashSet<(String, i32, String)>;

/// R-INIT-5.
pub(super) fn init_container(container: &Container, path: &str, report: &mut Report<'_>) {
    one_of(
        container.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
        &format!("{path}.restartPolicy"),
        report,
    );
    if container.is_sidecar() {
        return;
    }
    for (name, present) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if present {
            let help = "an init container that keeps running is a sidecar: set restartPolicy: Always on it";
            report.say(
                Severity::Error,
                &format!("{path}.{name}"),
                "Forbidden: must not be set for init containers",
                Some(help.into()),
            );
        }
    }
}

pub(super) fn container(
    c: &Container,
    spec: &PodSpec,
    path: &str,
    volumes: &HashMap<&str, &Volume>,
    host_ports: &mut HostPorts,
    report: &mut Report<'_>,
) {
    let at = |field: &str| format!("{path}.{field}");
    dns_label(&c.name, &at("name"), report);
    match c.image.as_deref() {
        None | Some("") => report.add_error(&at("image"), "Required value"),
        Some(image) => {
            if let Err(e) = image.parse::<podctl_images::Reference>() {
                report.add_error(&at("image"), format!("Invalid value: {e}"));
            }
        }
    }
    one_of(
        c.image_pull_policy.as_deref(),
        &["Always", "IfNotPresent", "Never"],
        &at("imagePullPolicy"),
        report,
    );
    one_of(
        c.termination_message_policy.as_deref(),
        &["File", "FallbackToLogsOnError"],
        &at("terminationMessagePolicy"),
        report,
    );
    one_of(c.restart_policy.as_deref(), &["Always", "OnFailure", "Never"], &at("restartPolicy"), report);
    let rules: Vec<_> = restart_rules(c).collect();
    if rules.len() > MOST_RULES {
        report
            .add_error(&at("restartPolicyRules"), format!("Too many: must have at most {MOST_RULES} items"));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = |field: &str| at(&format!("restartPolicyRules[{i}].{field}"));
        one_of(Some(rule.action), &["Restart", "RestartAllContainers"], &at("action"), report);
        match rule.exit_codes {
            None => report.add_error(&at("exitCodes"), "Required value: must be specified"),
            Some((operator, codes)) => {
                one_of(Some(operator), &["In", "NotIn"], &at("exitCodes.operator"), report);
                if codes.is_empty() {
                    report.add_error(
                        &at("exitCodes.values"),
                        "Required value: must specify at least one value",
                    );
                }
                if codes.len() > MOST_CODES {
                    let message = format!("Too many: must have at most {MOST_CODES} items");
                    report.add_error(&at("exitCodes.values"), message);
                }
            }
        }
    }
    if !rules.is_empty() && c.restart_policy.is_none() {
        report.add_error(
            &at("restartPolicy"),
            "Required value: must specify restartPolicy when restart rules are used",
        );
    }
    mounts(c, path, volumes, report);
    ports(c, spec, path, host_ports, report);
    env::environment(c, path, spec, report);
    resources::container(c, path, report);
    for (name, found) in [
        ("startupProbe", &c.startup_probe),
        ("livenessProbe", &c.liveness_probe),
        ("readinessProbe", &c.readiness_probe),
    ] {
        if let Some(found) = found {
            probe(found, name, c, &at(name), report);
        }
    }
    if let Some(lifecycle) = &c.lifecycle {
        if let Some(signal) = &lifecycle.stop_signal {
            stop_signal(signal, spec, &at("lifecycle.stopSignal"), report);
        }
        for (name, found) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if let Some(found) = found {
                hook(found, c, spec, &at(&format!("lifecycle.{name}")), report);
            }
        }
    }
}

fn mounts(c: &Container, path: &str, volumes: &HashMap<&str, &Volume>, report: &mut Report<'_>) {
    let mut targets = HashSet::new();
    for (i, mount) in c.volume_mounts.iter().flatten().enumerate() {
        let at = |field: &str| format!("{path}.volumeMounts[{i}].{field}");
        let volume = volumes.get(mount.name.as_str());
        if mount.name.is_empty() {
            report.add_error(&at("name"), "Required value");
        } else if volume.is_none() {
            let mut known: Vec<_> = volumes.keys().copied().collect();
            known.sort_unstable();
            let help = match known.is_empty() {
                true => "the pod has no volumes; add one to spec.volumes".to_owned(),
                false => format!("the pod's volumes are: {}", known.join(", ")),
            };
            report.say(Severity::Error, &at("name"), format!("Not found: {:?}", mount.name), Some(help));
        }
        if mount.mount_path.is_empty() {
            report.add_error(&at("mountPath"), "Required value");
        } else if mount.mount_path.split('/').any(|part| part == "..") {
            let message = format!("Invalid value: {:?}: must not contain '..'", mount.mount_path);
            report.add_error(&at("mountPath"), message);
        } else if mount.mount_path.trim_end_matches('/').is_empty() {
            let message = "Invalid value: \"/\": a volume cannot take the place of the image's root";
            report.add_error(&at("mountPath"), message);
        } else if !targets.insert(mount_target(mount)) {
            report.add_error(
                &at("mountPath"),
                format!("Invalid value: {:?}: must be unique", mount.mount_path),
            );
        }
        let (sub, expr) = (mount.sub_path.as_deref(), mount.sub_path_expr.as_deref());
        let set = |text: Option<&str>| text.is_some_and(|t| !t.is_empty());
        if set(sub) && set(expr) {
            report.add_error(
                &at("subPathExpr"),
                format!(
                    "Invalid value: {:?}: subPathExpr and subPath are mutually exclusive",
                    expr.unwrap_or("")
                ),
            );
        }
        inner_path(sub.unwrap_or(""), &at("subPath"), report);
        inner_path(expr.unwrap_or(""), &at("subPathExpr"), report);
        one_of(
            mount.mount_propagation.as_deref(),
            &["None", "HostToContainer", "Bidirectional"],
            &at("mountPropagation"),
            report,
        );
        let privileged = c.security_context.as_ref().and_then(|s| s.privileged) == Some(true);
        if mount.mount_propagation.as_deref() == Some("Bidirectional") && !privileged {
            report.add_error(
                &at("mountPropagation"),
                "Forbidden: Bidirectional mount propagation is available only to privileged containers",
            );
        }
        one_of(
            mount.recursive_read_only.as_deref(),
            &["Disabled", "IfPossible", "Enabled"],
            &at("recursiveReadOnly"),
            report,
        );
        if let Some(asked @ ("IfPossible" | "Enabled")) = mount.recursive_read_only.as_deref() {
            if mount.read_only != Some(true) {
                report.add_error(
                    &at("recursiveReadOnly"),
                    format!("Forbidden: may only be specified as {asked:?} when readOnly is true"),
                );
            }
            if mount.mount_propagation.as_deref().is_some_and(|p| p != "None") {
                report.add_error(
                    &at("recursiveReadOnly"),
                    format!("Forbidden: may only be specified as {asked:?} when mountPropagation is None or not specified"),
                );
            }
        }
    }
}

fn ports(c: &Container, spec: &PodSpec, path: &str, host_ports: &mut HostPorts, report: &mut Report<'_>) {
    let mut names = HashSet::new();
    for (i, port) in c.ports.iter().flatten().enumerate() {
        let at = |field: &str| format!("{path}.ports[{i}].{field}");
        match port.container_port {
            0 => report.add_error(&at("containerPort"), "Required value"),
            number => within(Some(number.into()), 1, 65_535, &at("containerPort"), report),
        }
        let host_port = port.host_port.filter(|p| *p != 0);
        within(host_port.map(Into::into), 1, 65_535, &at("hostPort"), report);
        // The API server sets hostPort itself with hostNetwork, and refuses another.
        if spec.host_network == Some(true) && host_port.is_some_and(|p| p != port.container_port) {
            report.add_error(
                &at("hostPort"),
                format!(
                    "Invalid value: {}: must match `containerPort` when `hostNetwork` is true",
                    host_port.unwrap_or_default()
                ),
            );
        }
        one_of(port.protocol.as_deref(), &["TCP", "UDP"], &at("protocol"), report);
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            port_name(name, &at("name"), report);
            if !names.insert(name) {
                report.add_error(&at("name"), format!("Duplicate value: {name:?}"));
            }
        }
        if let Some(number) = host_port {
            let address = port.host_ip.clone().unwrap_or_default();
            let protocol = port.protocol.clone().unwrap_or_default();
            if !host_ports.insert((address.clone(), number, protocol.clone())) {
                let message = format!("Duplicate value: \"{protocol}/{address}/{number}\"");
                report.add_error(&at("hostPort"), message);
            }
        }
        if let Some(ip) = port.host_ip.as_deref().filter(|ip| !ip.is_empty())
            && ip.parse::<std::net::IpAddr>().is_err()
        {
            report.add_error(&at("hostIP"), format!("Invalid value: {ip:?}: must be a valid IP address"));
        }
    }
}
