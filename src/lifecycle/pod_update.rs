//! What of a living pod may be changed, as the API server has it. Pure.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

/// The API server's rule.
const RULE: &str = "pod updates may not change fields other than `spec.activeDeadlineSeconds`, `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative), `metadata.labels` and `metadata.annotations`; `podctl run -d --replace` starts the pod anew with another spec";

/// Checks that a pod may become another: labels and annotations are free, a deadline may be set or come earlier.
/// The caller has filled in both pods' defaults.
///
/// # Errors
/// Which rule the change breaks.
pub fn check_pod_update(known: &Pod, new: &Pod) -> Result<(), String> {
    let (Some(known), Some(new)) = (&known.spec, &new.spec) else {
        return Err("spec: Required value".to_owned());
    };
    match (known.active_deadline_seconds, new.active_deadline_seconds) {
        (Some(before), Some(after)) if after > before => {
            return Err(format!(
                "spec.activeDeadlineSeconds: Invalid value: {after}: must be less than or equal to previous value"
            ));
        }
        (Some(before), None) => {
            return Err(format!(
                "spec.activeDeadlineSeconds: Invalid value: null: must not update from {before} to nil"
            ));
        }
        _ => {}
    }
    match comparable_spec(known) == comparable_spec(new) {
        true => Ok(()),
        false => Err(RULE.to_owned()),
    }
}

/// The spec without what may change, and without what podctl writes itself.
fn comparable_spec(spec: &PodSpec) -> PodSpec {
    PodSpec {
        active_deadline_seconds: None,
        ephemeral_containers: None,
        enable_service_links: None,
        node_name: None,
        preemption_policy: None,
        priority: None,
        scheduler_name: None,
        security_context: spec.security_context.clone().or_else(|| Some(Default::default())),
        service_account: None,
        service_account_name: None,
        tolerations: None,
        containers: spec.containers.iter().cloned().map(without_empty).collect(),
        init_containers: spec
            .init_containers
            .clone()
            .filter(|all| !all.is_empty())
            .map(|all| all.into_iter().map(without_empty).collect()),
        volumes: spec.volumes.clone().filter(|all| !all.is_empty()),
        ..spec.clone()
    }
}

/// A container without fields that say nothing.
fn without_empty(
    mut container: k8s_openapi::api::core::v1::Container,
) -> k8s_openapi::api::core::v1::Container {
    container.resources = container.resources.filter(|r| *r != Default::default());
    container
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::check_pod_update;

    #[test]
    fn labels_may_change_and_deadlines_come_earlier() {
        let pod = |spec: Value| {
            let pod =
                json!({"metadata": {"name": "p", "labels": {"n": spec["n"].to_string()}}, "spec": spec});
            serde_json::from_value(pod).unwrap()
        };
        let app = json!({"name": "a", "image": "busybox"});
        let known = pod(json!({"containers": [app], "activeDeadlineSeconds": 10}));
        let check = |spec: Value| check_pod_update(&known, &pod(spec));
        assert_eq!(check(json!({"containers": [app], "activeDeadlineSeconds": 10, "n": 1})), Ok(()));
        assert_eq!(
            check(json!({"containers": [app], "activeDeadlineSeconds": 5, "securityContext": {}})),
            Ok(())
        );
        assert!(check(json!({"containers": [app], "activeDeadlineSeconds": 11})).is_err());
        assert!(check(json!({"containers": [app]})).is_err());
        let other = json!({"name": "a", "image": "busybox", "args": ["x"]});
        let refused = check(json!({"containers": [other], "activeDeadlineSeconds": 10})).unwrap_err();
        assert!(refused.starts_with("pod updates may not change fields other than"));
    }
}
