//! The part of a pod that rules look at.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements, VolumeMount};

use super::Options;
use crate::pod::{ContainerExt, PodExt, kubernetes_versions::restart_rules, resources};

/// The container's place in the pod's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs to its end before the next one starts.
    Init,
    /// The init container with restartPolicy Always (R-SIDE).
    Sidecar,
    /// The entry of `containers`.
    App,
    /// Added to the running pod (R-EPH-1).
    Ephemeral,
}

/// When a container that ended starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever its exit code.
    Always,
    /// When it failed.
    OnFailure,
    /// Not at all.
    Never,
}

/// Distilled from a pod; made once.
#[derive(Clone, Debug)]
pub struct Spec {
    /// `NAME_NAMESPACE(UID)`, as the kubelet writes a pod.
    pub(super) pod: String,
    pub(super) containers: Vec<(Kind, Container)>,
    /// metadata.generation: how often the spec has been changed, from 1 on.
    pub(super) generation: i64,
    pub(super) restart_policy: RestartPolicy,
    /// terminationGracePeriodSeconds
    pub(super) grace: Duration,
    /// activeDeadlineSeconds
    pub(super) active_deadline: Option<Duration>,
    pub(super) qos_class: &'static str,
    /// Limits and requests of the pod as a whole.
    pub(super) pod_resources: Option<ResourceRequirements>,
    /// readinessGates: types of conditions that others have to set for the pod to be ready.
    pub(super) gates: Vec<String>,
    pub(super) options: Options,
    /// Names of containers that may be made before their turn.
    ahead: Vec<String>,
}

/// The resources of the pod as a whole and of each container, as the spec says them.
pub(super) type SpecResources = Vec<Option<ResourceRequirements>>;

impl Spec {
    /// Distils a checked and defaulted pod.
    pub fn new(pod: &Pod, options: &Options) -> Spec {
        let meta = &pod.metadata;
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let spec = pod.spec.clone().unwrap_or_default();
        let qos_class = resources::qos_class(&spec);
        let ahead = may_be_made_ahead(&spec);
        let gates = spec.readiness_gates.iter().flatten().map(|gate| gate.condition_type.clone()).collect();
        let init = spec.init_containers.unwrap_or_default().into_iter().map(|c| {
            let kind = if c.is_sidecar() { Kind::Sidecar } else { Kind::Init };
            (kind, c)
        });
        let containers: Vec<_> = init.chain(spec.containers.into_iter().map(|c| (Kind::App, c))).collect();
        Spec {
            pod: format!("{}_{}({})", part(&meta.name), part(&meta.namespace), part(&meta.uid)),
            qos_class,
            pod_resources: spec.resources,
            gates,
            containers,
            generation: meta.generation.unwrap_or(1),
            restart_policy: parse_policy(spec.restart_policy.as_deref()),
            grace: Duration::from_secs(pod.grace_period_seconds().max(0) as u64),
            active_deadline: pod.active_deadline_seconds().map(|s| Duration::from_secs(s.max(0) as u64)),
            options: options.clone(),
            ahead,
        }
    }

    /// Tells whether it comes out the same when it is made before the containers that start before it have run.
    pub(super) fn may_be_made_ahead(&self, at: usize) -> bool {
        self.ahead.contains(&self.container(at).name)
    }

    /// Returns what may be resized.
    pub(super) fn resources(&self) -> impl Iterator<Item = &Option<ResourceRequirements>> {
        let lasting = self.containers.iter().filter(|(kind, _)| *kind != Kind::Ephemeral);
        [&self.pod_resources].into_iter().chain(lasting.map(|(_, c)| &c.resources))
    }

    pub(super) fn kind(&self, at: usize) -> Kind {
        self.containers[at].0
    }

    pub(super) fn container(&self, at: usize) -> &Container {
        &self.containers[at].1
    }

    /// R-INIT-2, R-SIDE-2, R-APP-2.
    pub(super) fn restart_policy(&self, at: usize) -> RestartPolicy {
        match (self.kind(at), self.container(at).restart_policy.as_deref(), self.restart_policy) {
            (Kind::Sidecar, ..) => RestartPolicy::Always,
            (Kind::Ephemeral, ..) => RestartPolicy::Never,
            (Kind::App, Some(own), _) => parse_policy(Some(own)),
            (Kind::App, None, pods) => pods,
            (Kind::Init, Some("Never"), _) | (Kind::Init, None, RestartPolicy::Never) => RestartPolicy::Never,
            (Kind::Init, ..) => RestartPolicy::OnFailure,
        }
    }

    /// Some container may ask for a restart of all (R-APP-2).
    pub(super) fn may_restart_all(&self) -> bool {
        let mut rules = self.containers.iter().flat_map(|(_, c)| restart_rules(c));
        rules.any(|rule| rule.action == "RestartAllContainers")
    }
}

/// Those that mount whole volumes of the pod. What is at a subPath, or mounted within a directory of the host, can be the
/// work of an earlier container.
fn may_be_made_ahead(spec: &PodSpec) -> Vec<String> {
    let all = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let mounts = |c: &Container| c.volume_mounts.clone().unwrap_or_default();
    let shares_mounts = |m: &VolumeMount| m.mount_propagation.as_deref().is_some_and(|p| p != "None");
    if all().flat_map(mounts).any(|m| shares_mounts(&m)) {
        return Vec::new();
    }
    let of_host = |name: &str| spec.volumes.iter().flatten().any(|v| v.name == name && v.host_path.is_some());
    let whole = |m: &VolumeMount| m.sub_path.is_none() && m.sub_path_expr.is_none() && !of_host(&m.name);
    all().filter(|c| mounts(c).iter().all(whole)).map(|c| c.name.clone()).collect()
}

fn parse_policy(name: Option<&str>) -> RestartPolicy {
    match name {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}
