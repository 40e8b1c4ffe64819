//! Pods and objects that no file was read for: a program made them, or they were read back from disk.

use std::ops::Deref;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};

use super::{
    Diagnostic, Manifest, Report, Severity, defaults,
    document_tree::{Kind, Node},
    references, service, support, validate,
};
use crate::pod::PodExt;

/// A pod that has its defaults and is as an API server would take it. Nothing else is ever started.
#[derive(Clone, Debug)]
pub struct CheckedPod {
    pod: Pod,
    /// Holds what of it has no meaning on one machine.
    pub warnings: Vec<Diagnostic>,
}

impl Deref for CheckedPod {
    type Target = Pod;

    fn deref(&self) -> &Pod {
        &self.pod
    }
}

impl From<CheckedPod> for Pod {
    fn from(checked: CheckedPod) -> Pod {
        checked.pod
    }
}

/// Fills in the defaults of a pod and checks it, as if it came from a file. What it refers to has to be in
/// `known`; it is not looked for without that.
///
/// # Errors
/// Everything that is wrong with it; the places are field paths.
pub fn check_pod(mut pod: Pod, known: Option<[&Manifest; 2]>) -> Result<CheckedPod, Vec<Diagnostic>> {
    let namespace = pod.namespace().to_owned();
    defaults::pod(&mut pod, &namespace);
    let file = format!("pod {:?}", pod.name());
    let check = |report: &mut Report<'_>| {
        let meta = serde_json::to_value(&pod.metadata).unwrap_or_default();
        support::object("ObjectMeta", &meta, "metadata", report);
        validate::check_metadata(&pod.metadata, "", report);
        validate::pod(&pod, "", report);
        if let Some(known) = known {
            references::missing(&pod, "", known, report);
        }
    };
    let warnings = collect_report(&file, check)?;
    Ok(CheckedPod { pod, warnings })
}

/// Checks what a pod refers to: the keys of ConfigMaps and Secrets become file names.
///
/// # Errors
/// Everything that is wrong with them.
pub fn check_objects(
    config_maps: &[ConfigMap],
    secrets: &[Secret],
    services: &[Service],
) -> Result<(), Vec<Diagnostic>> {
    for map in config_maps {
        let name = map.metadata.name.as_deref().unwrap_or_default();
        collect_report(&format!("configmap {name:?}"), |report| validate::config_map(map, "", report))?;
    }
    for secret in secrets {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        collect_report(&format!("secret {name:?}"), |report| validate::secret(secret, "", report))?;
    }
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        collect_report(&format!("service {name:?}"), |report| service::check(service, "", report))?;
    }
    Ok(())
}

/// Returns what a check reports of something that has no lines: its warnings, or else its errors.
fn collect_report(
    what: &str,
    check: impl FnOnce(&mut Report<'_>),
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let root = Node { line: 0, column: 0, kind: Kind::Map(Vec::new()) };
    let mut report = Report { file: what, root: &root, found: Vec::new() };
    check(&mut report);
    let (errors, warnings): (Vec<_>, Vec<_>) =
        report.found.into_iter().partition(|d| d.severity == Severity::Error);
    if errors.is_empty() { Ok(warnings) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(pod: serde_json::Value) -> String {
        let pod = serde_json::from_value(pod).unwrap();
        let found = check_pod(pod, None).expect_err("it should be refused");
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_pod_of_a_program_is_checked_as_one_of_a_file() {
        let app = json!({"name": "a", "image": "busybox"});
        let named = |name: &str| json!({"metadata": {"name": name}, "spec": {"containers": [app]}});
        assert!(refused(named("A_b")).contains("pod \"A_b\": error: metadata.name: Invalid value: \"A_b\""));
        assert!(refused(named("")).contains("metadata.name: Required value"));
        assert!(refused(named("../x")).contains("metadata.name"));
        let spec = |spec: serde_json::Value| refused(json!({"metadata": {"name": "p"}, "spec": spec}));
        assert!(spec(json!({"containers": []})).contains("spec.containers: Required value"));
        assert!(spec(json!({"containers": [app, app]})).contains("spec.containers[1].name: Duplicate value"));
        let deadline = json!({"containers": [app], "activeDeadlineSeconds": 0});
        assert!(spec(deadline).contains("spec.activeDeadlineSeconds: Invalid value: 0"));
        let climbing = json!({"containers": [{"name": "../../e", "image": "busybox"}]});
        assert!(spec(climbing).contains("spec.containers[0].name"));
        assert!(refused(json!({"metadata": {"name": "p"}})).contains("spec: Required value"));
        let elsewhere =
            json!({"metadata": {"name": "p", "namespace": "../../evil"}, "spec": {"containers": [app]}});
        assert!(refused(elsewhere).contains("metadata.namespace"));
    }

    #[test]
    fn a_pod_gets_its_defaults() {
        let pod =
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "busybox"}]}});
        let pod = check_pod(serde_json::from_value(pod).unwrap(), None).unwrap();
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("Always"));
        assert!(spec.security_context.is_some());
    }

    #[test]
    fn keys_that_climb_are_refused() {
        let map = json!({"metadata": {"name": "m"}, "data": {"../../x": ""}});
        assert!(check_objects(&[serde_json::from_value(map).unwrap()], &[], &[]).is_err());
    }
}
