//! What kube-apiserver refuses, in its words, and what podctl cannot honour.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe, Volume};

use super::{Manifest, Report, Severity, quantity_bytes};

/// Checks a defaulted pod. `prefix` is its path in the document.
pub(super) fn pod(pod: &Pod, manifest: &Manifest, prefix: &str, report: &mut Report<'_>) {
    let at = |path: &str| if prefix.is_empty() { path.to_owned() } else { format!("{prefix}.{path}") };
    match pod.metadata.name.as_deref() {
        None | Some("") => report.error(&at("metadata.name"), "Required value: name is required"),
        Some(name) => dns_subdomain(name, &at("metadata.name"), report),
    }
    let Some(spec) = &pod.spec else { return report.error(&at("spec"), "Required value") };
    let written = serde_json::to_value(spec).unwrap_or_default();
    super::support::check(&written, &at("spec"), report);
    super::security::pod(spec, &at("spec"), report);
    one_of(
        spec.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
        &at("spec.restartPolicy"),
        report,
    );
    one_of(
        spec.dns_policy.as_deref(),
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
        &at("spec.dnsPolicy"),
        report,
    );
    if spec.termination_grace_period_seconds.is_some_and(|s| s < 0) {
        report.error(
            &at("spec.terminationGracePeriodSeconds"),
            "Invalid value: must be greater than or equal to 0",
        );
    }
    if spec.active_deadline_seconds.is_some_and(|s| s < 1) {
        report.error(&at("spec.activeDeadlineSeconds"), "Invalid value: must be greater than 0");
    }
    if spec.containers.is_empty() {
        report.error(&at("spec.containers"), "Required value");
    }
    let volumes = volumes(spec, manifest, &at("spec.volumes"), report);
    let mut names = HashSet::new();
    let init = spec
        .init_containers
        .iter()
        .flatten()
        .enumerate()
        .map(|(i, c)| (format!("spec.initContainers[{i}]"), c));
    let apps = spec.containers.iter().enumerate().map(|(i, c)| (format!("spec.containers[{i}]"), c));
    for (path, container) in init.chain(apps) {
        let path = at(&path);
        if !names.insert(container.name.as_str()) {
            report.error(&format!("{path}.name"), format!("Duplicate value: {:?}", container.name));
        }
        self::container(container, &path, &volumes, manifest, report);
    }
    for (i, container) in spec.init_containers.iter().flatten().enumerate() {
        init_container(container, &at(&format!("spec.initContainers[{i}]")), report);
    }
}

/// R-INIT-5.
fn init_container(container: &Container, path: &str, report: &mut Report<'_>) {
    if container.restart_policy.as_deref() == Some("Always") {
        return;
    }
    for (name, present) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if present {
            report.say(
                Severity::Error,
                &format!("{path}.{name}"),
                "Forbidden: must not be set for init containers",
                Some(
                    "an init container that keeps running is a sidecar: set restartPolicy: Always on it"
                        .into(),
                ),
            );
        }
    }
}

fn container(
    c: &Container,
    path: &str,
    volumes: &HashSet<&str>,
    manifest: &Manifest,
    report: &mut Report<'_>,
) {
    let at = |field: &str| format!("{path}.{field}");
    match c.name.as_str() {
        "" => report.error(&at("name"), "Required value"),
        name => dns_label(name, &at("name"), report),
    }
    match c.image.as_deref() {
        None | Some("") => report.error(&at("image"), "Required value"),
        Some(image) => {
            if let Err(e) = image.parse::<podctl_images::Reference>() {
                report.error(&at("image"), format!("Invalid value: {e}"));
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
    let mut targets = HashSet::new();
    for (i, mount) in c.volume_mounts.iter().flatten().enumerate() {
        let at = |field: &str| at(&format!("volumeMounts[{i}].{field}"));
        if !volumes.contains(mount.name.as_str()) {
            let help = (!volumes.is_empty()).then(|| {
                let mut known: Vec<_> = volumes.iter().copied().collect();
                known.sort_unstable();
                format!("the pod's volumes are: {}", known.join(", "))
            });
            report.say(Severity::Error, &at("name"), format!("Not found: {:?}", mount.name), help);
        }
        if mount.mount_path.is_empty() {
            report.error(&at("mountPath"), "Required value");
        } else if !mount.mount_path.starts_with('/') {
            report.error(
                &at("mountPath"),
                format!("Invalid value: {:?}: must be an absolute path", mount.mount_path),
            );
        } else if !targets.insert(mount.mount_path.as_str()) {
            report.error(&at("mountPath"), format!("Invalid value: {:?}: must be unique", mount.mount_path));
        }
        if let Some(sub) = &mount.sub_path
            && (sub.starts_with('/') || sub.split('/').any(|part| part == ".."))
        {
            report.error(
                &at("subPath"),
                format!("Invalid value: {sub:?}: must be a relative path without '..'"),
            );
        }
    }
    ports(c, path, report);
    environment(c, path, manifest, report);
    resources(c, path, report);
    for (name, probe) in [
        ("startupProbe", &c.startup_probe),
        ("livenessProbe", &c.liveness_probe),
        ("readinessProbe", &c.readiness_probe),
    ] {
        if let Some(probe) = probe {
            self::probe(probe, name, &at(name), report);
        }
    }
    if let Some(lifecycle) = &c.lifecycle {
        for (name, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            let Some(hook) = hook else { continue };
            let set = [
                hook.exec.is_some(),
                hook.http_get.is_some(),
                hook.tcp_socket.is_some(),
                hook.sleep.is_some(),
            ];
            handlers(&set, &at(&format!("lifecycle.{name}")), report);
        }
    }
}

fn ports(c: &Container, path: &str, report: &mut Report<'_>) {
    let mut names = HashSet::new();
    for (i, port) in c.ports.iter().flatten().enumerate() {
        let at = |field: &str| format!("{path}.ports[{i}].{field}");
        for (field, number) in [("containerPort", Some(port.container_port)), ("hostPort", port.host_port)] {
            if number.is_some_and(|n| !(1..=65_535).contains(&n)) {
                report.error(&at(field), "Invalid value: must be between 1 and 65535, inclusive");
            }
        }
        one_of(port.protocol.as_deref(), &["TCP", "UDP"], &at("protocol"), report);
        if let Some(name) = port.name.as_deref()
            && !names.insert(name)
        {
            report.error(&at("name"), format!("Duplicate value: {name:?}"));
        }
    }
}

fn environment(c: &Container, path: &str, manifest: &Manifest, report: &mut Report<'_>) {
    let present = |kind: &str, name: &str| match kind {
        "ConfigMap" => manifest.config_maps.iter().any(|m| m.metadata.name.as_deref() == Some(name)),
        _ => manifest.secrets.iter().any(|m| m.metadata.name.as_deref() == Some(name)),
    };
    for (i, var) in c.env.iter().flatten().enumerate() {
        let at = format!("{path}.env[{i}]");
        if var.name.is_empty() || var.name.contains('=') {
            report.error(&format!("{at}.name"), "Invalid value: a name must not be empty nor contain '='");
        }
        let Some(from) = &var.value_from else { continue };
        let refs = [
            ("configMapKeyRef", "ConfigMap", from.config_map_key_ref.as_ref().map(|r| (&r.name, r.optional))),
            ("secretKeyRef", "Secret", from.secret_key_ref.as_ref().map(|r| (&r.name, r.optional))),
        ];
        for (field, kind, found) in refs {
            if let Some((name, optional)) = found
                && optional != Some(true)
                && !present(kind, name)
            {
                missing(kind, name, &format!("{at}.valueFrom.{field}.name"), report);
            }
        }
    }
    for (i, from) in c.env_from.iter().flatten().enumerate() {
        let refs = [
            ("configMapRef", "ConfigMap", from.config_map_ref.as_ref().map(|r| (&r.name, r.optional))),
            ("secretRef", "Secret", from.secret_ref.as_ref().map(|r| (&r.name, r.optional))),
        ];
        for (field, kind, found) in refs {
            if let Some((name, optional)) = found
                && optional != Some(true)
                && !present(kind, name)
            {
                missing(kind, name, &format!("{path}.envFrom[{i}].{field}.name"), report);
            }
        }
    }
}

/// R-VOL-3.
fn missing(kind: &str, name: &str, path: &str, report: &mut Report<'_>) {
    let help =
        format!("put the {kind} into the same file, or pass the file that holds it to `podctl run` as well");
    report.say(Severity::Error, path, format!("{kind} {name:?} not found"), Some(help));
}

fn resources(c: &Container, path: &str, report: &mut Report<'_>) {
    let Some(resources) = &c.resources else { return };
    for (list, values) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        for (name, quantity) in values.iter().flatten() {
            let at = format!("{path}.resources.{list}.{name}");
            match (quantity_bytes(&quantity.0), resources.limits.as_ref().and_then(|l| l.get(name))) {
                (Err(e), _) => report.error(&at, format!("Invalid value: {:?}: {e}", quantity.0)),
                (Ok(_), Some(limit)) if list == "requests" => {
                    let milli = |q: &str| super::quantity_millis(q).unwrap_or(0);
                    if milli(&quantity.0) > milli(&limit.0) && milli(&limit.0) > 0 {
                        let message = format!(
                            "Invalid value: {:?}: must be less than or equal to {name} limit of {}",
                            quantity.0, limit.0
                        );
                        report.error(&at, message);
                    }
                }
                _ => {}
            }
        }
    }
}

fn probe(probe: &Probe, name: &str, path: &str, report: &mut Report<'_>) {
    let set =
        [probe.exec.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.grpc.is_some()];
    handlers(&set, path, report);
    for (field, value, least) in [
        ("initialDelaySeconds", probe.initial_delay_seconds, 0),
        ("timeoutSeconds", probe.timeout_seconds, 1),
        ("periodSeconds", probe.period_seconds, 1),
        ("successThreshold", probe.success_threshold, 1),
        ("failureThreshold", probe.failure_threshold, 1),
    ] {
        if value.is_some_and(|v| v < least) {
            report.error(
                &format!("{path}.{field}"),
                format!("Invalid value: must be greater than or equal to {least}"),
            );
        }
    }
    if name != "readinessProbe" && probe.success_threshold.is_some_and(|v| v != 1) {
        report.error(&format!("{path}.successThreshold"), "Invalid value: must be 1");
    }
}

fn handlers(set: &[bool], path: &str, report: &mut Report<'_>) {
    match set.iter().filter(|s| **s).count() {
        0 => report.error(path, "Required value: must specify a handler type"),
        1 => {}
        _ => report.error(path, "Forbidden: may not specify more than 1 handler type"),
    }
}

/// Checks the volumes; gives their names.
fn volumes<'a>(
    spec: &'a PodSpec,
    manifest: &Manifest,
    path: &str,
    report: &mut Report<'_>,
) -> HashSet<&'a str> {
    let mut names = HashSet::new();
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let at = |field: &str| format!("{path}[{i}].{field}");
        dns_label(&volume.name, &at("name"), report);
        if !names.insert(volume.name.as_str()) {
            report.error(&at("name"), format!("Duplicate value: {:?}", volume.name));
        }
        source(volume, &format!("{path}[{i}]"), manifest, report);
    }
    names
}

fn source(volume: &Volume, path: &str, manifest: &Manifest, report: &mut Report<'_>) {
    const SUPPORTED: &[&str] = &["emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected"];
    let written = serde_json::to_value(volume).unwrap_or_default();
    let kinds: Vec<&String> =
        written.as_object().into_iter().flat_map(|o| o.keys()).filter(|k| *k != "name").collect();
    match kinds.as_slice() {
        // A volume without a source is an emptyDir only in a cluster's memory; the API refuses it.
        [] => report.error(path, "Required value: must specify a volume type"),
        [kind] if SUPPORTED.contains(&kind.as_str()) => {}
        // Said by the table already, with its reason.
        [kind]
            if matches!(super::support::of("Volume", kind), Some((super::support::Support::Refused, _))) => {}
        [kind] => report.error(
            &format!("{path}.{kind}"),
            format!("this kind of volume is not supported; supported are: {}", SUPPORTED.join(", ")),
        ),
        _ => report.error(path, "Forbidden: may not specify more than 1 volume type"),
    }
    if let Some(v) = &volume.config_map
        && v.optional != Some(true)
        && !manifest.config_maps.iter().any(|m| m.metadata.name.as_ref() == Some(&v.name))
    {
        missing("ConfigMap", &v.name, &format!("{path}.configMap.name"), report);
    }
    if let Some(v) = &volume.secret
        && v.optional != Some(true)
        && !manifest.secrets.iter().any(|m| m.metadata.name == v.secret_name)
    {
        missing(
            "Secret",
            v.secret_name.as_deref().unwrap_or_default(),
            &format!("{path}.secret.secretName"),
            report,
        );
    }
    if let Some(limit) = volume.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref())
        && let Err(e) = quantity_bytes(&limit.0)
    {
        report.error(&format!("{path}.emptyDir.sizeLimit"), format!("Invalid value: {:?}: {e}", limit.0));
    }
}

fn one_of(value: Option<&str>, allowed: &[&str], path: &str, report: &mut Report<'_>) {
    if let Some(value) = value
        && !allowed.contains(&value)
    {
        let list: Vec<String> = allowed.iter().map(|a| format!("{a:?}")).collect();
        report.error(path, format!("Unsupported value: {value:?}: supported values: {}", list.join(", ")));
    }
}

fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn dns_label(name: &str, path: &str, report: &mut Report<'_>) {
    if !is_label(name) {
        report.error(
            path,
            format!("Invalid value: {name:?}: must be at most 63 lower case letters, digits or '-', and start and end with a letter or digit"),
        );
    }
}

fn dns_subdomain(name: &str, path: &str, report: &mut Report<'_>) {
    if name.len() > 253 || !name.split('.').all(is_label) {
        report.error(
            path,
            format!("Invalid value: {name:?}: must consist of lower case letters, digits, '-' or '.', and start and end with a letter or digit"),
        );
    }
}
