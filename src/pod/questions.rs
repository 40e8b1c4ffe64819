//! Questions about a pod and its containers.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::{
    Container, EphemeralContainer, Pod, PodSecurityContext, Probe, Volume, VolumeMount,
};

/// Namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// Seconds that a pod's containers are given to end, when the pod does not say.
pub const DEFAULT_GRACE_PERIOD_SECONDS: i64 = 30;

/// The annotation in which `apply` notes what the file said; it is shown by no description.
pub const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Names the container that commands mean when they name none.
pub const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";

/// Stands for what is asked of a pod.
pub trait PodExt {
    /// The pod's name; empty when it has none yet.
    fn name(&self) -> &str;
    /// The pod's namespace, `default` when it names none.
    fn namespace(&self) -> &str;
    /// The pod's uid; empty before it is started.
    fn uid(&self) -> &str;
    /// Init containers and app containers, in file order.
    fn containers(&self) -> impl Iterator<Item = &Container>;
    /// Init containers, sidecars among them, in file order.
    fn init_containers(&self) -> impl Iterator<Item = &Container>;
    /// App containers, in file order.
    fn app_containers(&self) -> impl Iterator<Item = &Container>;
    /// Lists the containers of `podctl debug`, in the order of their coming.
    fn ephemeral_containers(&self) -> impl Iterator<Item = &EphemeralContainer>;
    /// Lists its volumes, in file order.
    fn volumes(&self) -> impl Iterator<Item = &Volume>;
    /// Names of all containers, ephemeral ones last.
    fn container_names(&self) -> impl Iterator<Item = &str>;
    /// The container that the pod's annotation names; there may be none of that name.
    fn annotated_container(&self) -> Option<&str>;
    /// The app container that commands mean when they name none: the annotated one, else the first.
    fn default_container(&self) -> Option<&str>;
    /// Seconds that its containers are given to end.
    fn grace_period_seconds(&self) -> i64;
    /// Returns the restartPolicy, `Always` when it names none.
    fn restart_policy(&self) -> &str;
    /// Tells whether its annotation `podctl.dev/init-failure` says that a failed init container restarts it (R-INIT-4).
    fn restarts_on_init_failure(&self) -> bool;
    /// Returns the seconds after which it is ended, if it is.
    fn active_deadline_seconds(&self) -> Option<i64>;
    /// Returns the securityContext of the pod as a whole.
    fn security_context(&self) -> Option<&PodSecurityContext>;
    /// Tells whether the host's network is the pod's.
    fn has_host_network(&self) -> bool;
    /// Tells whether its containers find the Services of its namespace among their variables (enableServiceLinks).
    fn has_service_links(&self) -> bool;
    /// The phase, empty before there is a status.
    fn phase(&self) -> &str;
    /// Tells whether a condition of that type is True.
    fn has_condition(&self, kind: &str) -> bool;
    /// Tells whether its Ready condition is True.
    fn is_ready(&self) -> bool;
    /// Exit code of an ended pod: 0 when it succeeded, else that of the first container that failed, apps first.
    fn exit_code(&self) -> i32;
}

impl PodExt for Pod {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE)
    }

    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers().chain(self.app_containers())
    }

    fn init_containers(&self) -> impl Iterator<Item = &Container> {
        self.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten())
    }

    fn app_containers(&self) -> impl Iterator<Item = &Container> {
        self.spec.iter().flat_map(|spec| &spec.containers)
    }

    fn ephemeral_containers(&self) -> impl Iterator<Item = &EphemeralContainer> {
        self.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten())
    }

    fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
    }

    fn container_names(&self) -> impl Iterator<Item = &str> {
        let ephemeral = self.ephemeral_containers().map(|c| c.name.as_str());
        self.containers().map(|c| c.name.as_str()).chain(ephemeral)
    }

    fn annotated_container(&self) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(DEFAULT_CONTAINER_ANNOTATION).map(String::as_str)
    }

    fn default_container(&self) -> Option<&str> {
        let names = || self.app_containers().map(|c| c.name.as_str());
        self.annotated_container()
            .filter(|named| names().any(|name| name == *named))
            .or_else(|| names().next())
    }

    fn grace_period_seconds(&self) -> i64 {
        let own = self.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        own.unwrap_or(DEFAULT_GRACE_PERIOD_SECONDS)
    }

    fn restarts_on_init_failure(&self) -> bool {
        let annotation =
            self.metadata.annotations.as_ref().and_then(|all| all.get("podctl.dev/init-failure"));
        annotation.is_some_and(|value| value == "RestartPod")
    }

    fn restart_policy(&self) -> &str {
        self.spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref())
            .filter(|own| !own.is_empty())
            .unwrap_or("Always")
    }

    fn active_deadline_seconds(&self) -> Option<i64> {
        self.spec.as_ref()?.active_deadline_seconds
    }

    fn security_context(&self) -> Option<&PodSecurityContext> {
        self.spec.as_ref()?.security_context.as_ref()
    }

    fn has_host_network(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
    }

    fn has_service_links(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false)
    }

    fn phase(&self) -> &str {
        self.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
    }

    fn has_condition(&self, kind: &str) -> bool {
        let mut conditions = self.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|c| c.type_ == kind && c.status == "True")
    }

    fn is_ready(&self) -> bool {
        self.has_condition("Ready")
    }

    fn exit_code(&self) -> i32 {
        if self.phase() == "Succeeded" {
            return 0;
        }
        let status = self.status.as_ref();
        let apps = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
        let inits = status.and_then(|s| s.init_container_statuses.as_deref()).unwrap_or_default();
        let codes =
            apps.iter().chain(inits).filter_map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.exit_code));
        codes.into_iter().find(|code| *code != 0).unwrap_or(1)
    }
}

/// Stands for what is asked of a container of a pod.
pub trait ContainerExt {
    /// Tells whether an init container runs beside the app: restartPolicy Always (R-SIDE).
    fn is_sidecar(&self) -> bool;
    /// The imagePullPolicy: its own, else the one that its image's name gives (R-IMG-1).
    fn pull_policy(&self) -> &str;
}

impl ContainerExt for Container {
    fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }

    fn pull_policy(&self) -> &str {
        let image = self.image.as_deref().unwrap_or_default();
        let own = self.image_pull_policy.as_deref().filter(|policy| !policy.is_empty());
        own.unwrap_or_else(|| default_pull_policy(image))
    }
}

/// The questions that are asked of a probe; one that does not say has the API server's defaults (R-PROBE-1).
pub trait ProbeExt {
    /// Returns the time until the first try.
    fn initial_delay(&self) -> Duration;
    /// Returns the time from one try to the next; at least a second.
    fn period(&self) -> Duration;
    /// Tells how long a try may take; at least a second.
    fn timeout(&self) -> Duration;
    /// Tells how many tries in a row have to pass.
    fn successes_wanted(&self) -> i32;
    /// Tells how many tries in a row have to fail.
    fn failures_allowed(&self) -> i32;
}

impl ProbeExt for Probe {
    fn initial_delay(&self) -> Duration {
        Duration::from_secs(self.initial_delay_seconds.unwrap_or(0).max(0).unsigned_abs().into())
    }

    fn period(&self) -> Duration {
        Duration::from_secs(or_default(self.period_seconds, 10).max(1).unsigned_abs().into())
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(or_default(self.timeout_seconds, 1).max(1).unsigned_abs().into())
    }

    fn successes_wanted(&self) -> i32 {
        or_default(self.success_threshold, 1)
    }

    fn failures_allowed(&self) -> i32 {
        or_default(self.failure_threshold, 3)
    }
}

/// Takes 0 for no number at all, as the API server does.
fn or_default(number: Option<i32>, default: i32) -> i32 {
    number.filter(|number| *number != 0).unwrap_or(default)
}

/// The place of a volume in the container; a mountPath that does not begin with a slash counts from the root, as a kubelet
/// has it.
pub fn mount_target(mount: &VolumeMount) -> PathBuf {
    Path::new("/").join(&mount.mount_path)
}

/// The pull policy of an image for which none is given (R-IMG-1): Always for `:latest` or no tag.
pub fn default_pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    match name.split_once('@') {
        Some(_) => "IfNotPresent",
        None if name.ends_with(":latest") || !name.contains(':') => "Always",
        None => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_pod_that_says_nothing_has_the_api_servers_defaults() {
        let bare = Pod::default();
        assert_eq!((bare.name(), bare.namespace(), bare.uid()), ("", "default", ""));
        assert_eq!((bare.grace_period_seconds(), bare.phase(), bare.exit_code()), (30, "", 1));
        assert_eq!((bare.default_container(), bare.is_ready()), (None, false));
    }

    #[test]
    fn the_annotated_container_is_meant_when_there_is_one() {
        let annotated = |name: &str| {
            let meta = json!({"annotations": {"kubectl.kubernetes.io/default-container": name}});
            pod(json!({"metadata": meta, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}))
        };
        for (name, expected) in [("a", "a"), ("b", "b"), ("c", "a")] {
            assert_eq!(annotated(name).default_container(), Some(expected));
        }
    }

    #[test]
    fn the_first_failure_is_a_pods_exit_code_apps_before_init_containers() {
        let ended = |name: &str, code: i32| {
            let state = json!({"terminated": {"exitCode": code}});
            json!({"name": name, "state": state, "ready": false, "restartCount": 0, "image": "", "imageID": ""})
        };
        let status = json!({"phase": "Failed", "initContainerStatuses": [ended("i", 4)],
            "containerStatuses": [ended("a", 0), ended("b", 3)]});
        assert_eq!(pod(json!({"metadata": {}, "status": status})).exit_code(), 3);
        assert_eq!(pod(json!({"metadata": {}, "status": {"phase": "Succeeded"}})).exit_code(), 0);
    }
}
