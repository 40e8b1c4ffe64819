//! What kube-apiserver refuses, in its words, and what podctl cannot honour.

mod configuration;
mod container;
mod dns;
mod env;
mod handlers;
mod resources;
mod volumes;
mod well_formed;

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Pod;

pub(super) use self::configuration::{check_metadata, claim, config_map, secret};
pub(super) use self::well_formed::{one_of, within};
use super::{Report, typed::join};

/// Checks a defaulted pod. `prefix` is its path in the document.
pub(super) fn pod(pod: &Pod, prefix: &str, report: &mut Report<'_>) {
    let at = |path: &str| join(prefix, path);
    // The name of a template's pod is the workload's, which is checked already.
    if !prefix.is_empty() {
        well_formed::check_labels(pod.metadata.labels.as_ref(), &at("metadata.labels"), report);
        well_formed::annotations(pod.metadata.annotations.as_ref(), &at("metadata.annotations"), report);
    }
    let Some(spec) = &pod.spec else { return report.add_error(&at("spec"), "Required value") };
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
        spec.security_context.as_ref().and_then(|s| s.fs_group_change_policy.as_deref()),
        &["Always", "OnRootMismatch"],
        &at("spec.securityContext.fsGroupChangePolicy"),
        report,
    );
    within(spec.active_deadline_seconds, 1, i64::from(i32::MAX), &at("spec.activeDeadlineSeconds"), report);
    resources::pod(spec, &at("spec"), report);
    one_of(spec.os.as_ref().map(|os| os.name.as_str()), &["linux"], &at("spec.os.name"), report);
    dns::pod(pod, spec, &at("spec"), report);
    let volumes = volumes::volumes(spec, &at("spec.volumes"), report);
    if spec.containers.is_empty() {
        report.add_error(&at("spec.containers"), "Required value");
    }
    let mut names = HashSet::new();
    let mut host_ports = HashSet::new();
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(i, c)| (format!("spec.initContainers[{i}]"), c));
    let apps = spec.containers.iter().enumerate().map(|(i, c)| (format!("spec.containers[{i}]"), c));
    for (path, container) in init.chain(apps) {
        let path = at(&path);
        if !names.insert(container.name.as_str()) {
            report.add_error(&format!("{path}.name"), format!("Duplicate value: {:?}", container.name));
        }
        container::container(container, spec, &path, &volumes, &mut host_ports, report);
    }
    for (i, container) in spec.init_containers.iter().flatten().enumerate() {
        container::init_container(container, &at(&format!("spec.initContainers[{i}]")), report);
    }
}
