//! What the types of the Kubernetes API have since some version alone, read as one question for all of them: a program that
//! embeds podctl says of which version its types are. With older ones such a field is unknown in a manifest, and refused as such.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{JobSpec, PodFailurePolicyOnPodConditionsPattern},
        core::v1::{Container, EnvVarSource, PodSpec, PodStatus, ResourceRequirements, VolumeProjection},
    },
    apimachinery::pkg::api::resource::Quantity,
    k8s_if_ge_1_34, k8s_if_ge_1_35, k8s_if_ge_1_37, k8s_if_le_1_33, k8s_if_le_1_34, k8s_if_le_1_36,
};

/// The spec of a workload, which older types let be missing.
pub fn take_spec<T: Default>(spec: impl Into<Option<T>>) -> T {
    spec.into().unwrap_or_default()
}

/// The status that a condition has to have, where a pattern says so; older types always have one.
pub fn condition_status(pattern: &PodFailurePolicyOnPodConditionsPattern) -> Option<&str> {
    Option::<&String>::from(&pattern.status).map(String::as_str)
}

/// The fields of a rule by which a container restarts, or does not (KEP-5307).
pub struct RestartRule<'a> {
    pub action: &'a str,
    /// The operator and the codes.
    pub exit_codes: Option<(&'a str, &'a [i32])>,
}

/// The fields of a variable's source in a file of a volume (KEP-3721).
pub struct FileKey<'a> {
    pub volume_name: &'a str,
    pub path: &'a str,
    pub key: &'a str,
    pub optional: bool,
}

k8s_if_ge_1_34! {
    pub fn restart_rules(container: &Container) -> impl Iterator<Item = RestartRule<'_>> {
        container.restart_policy_rules.iter().flatten().map(|rule| RestartRule {
            action: &rule.action,
            exit_codes: rule
                .exit_codes
                .as_ref()
                .map(|codes| (codes.operator.as_str(), codes.values.as_deref().unwrap_or_default())),
        })
    }

    pub fn hostname_override(spec: &PodSpec) -> Option<&str> {
        spec.hostname_override.as_deref()
    }

    pub fn file_key(source: &EnvVarSource) -> Option<FileKey<'_>> {
        source.file_key_ref.as_ref().map(|file| FileKey {
            volume_name: &file.volume_name,
            path: &file.path,
            key: &file.key,
            optional: file.optional == Some(true),
        })
    }

    pub fn asks_for_certificate(part: &VolumeProjection) -> bool {
        part.pod_certificate.is_some()
    }
}

k8s_if_le_1_33! {
    pub fn restart_rules(_: &Container) -> impl Iterator<Item = RestartRule<'_>> {
        std::iter::empty()
    }

    pub fn hostname_override(_: &PodSpec) -> Option<&str> {
        None
    }

    pub fn file_key(_: &EnvVarSource) -> Option<FileKey<'_>> {
        None
    }

    pub fn asks_for_certificate(_: &VolumeProjection) -> bool {
        false
    }
}

k8s_if_ge_1_35! {
    /// Writes the resources of the whole pod into its status.
    pub fn set_pod_resources(
        status: &mut PodStatus,
        resources: Option<ResourceRequirements>,
        allocated: Option<BTreeMap<String, Quantity>>,
    ) {
        (status.resources, status.allocated_resources) = (resources, allocated);
    }
}

k8s_if_le_1_34! {
    pub fn set_pod_resources(
        _: &mut PodStatus,
        _: Option<ResourceRequirements>,
        _: Option<BTreeMap<String, Quantity>>,
    ) {
    }
}

k8s_if_ge_1_37! {
    pub fn asks_for_scheduling(spec: &JobSpec) -> bool {
        spec.scheduling.is_some()
    }
}

k8s_if_le_1_36! {
    pub fn asks_for_scheduling(_: &JobSpec) -> bool {
        false
    }
}
