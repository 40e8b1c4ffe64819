//! What of a pod that exists may be changed, as the API server has it. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodCondition, PodSpec, ResourceRequirements, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};
use serde::{Deserialize, Serialize};

use crate::pod::{quantity::canonicalize_quantities, resources::qos_class};

/// The rule of the API server that most changes break.
const RULE: &str = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative); `podctl run -d --replace` and `kubectl replace --force` start the pod anew with another spec";

/// The rule of a resize that changes anything else.
const ONLY_CPU_AND_MEMORY: &str = "Forbidden: only cpu and memory resources are mutable";

/// Conditions of a pod that podctl says itself; everybody else's are left as they are.
const OWN_CONDITIONS: [&str; 8] = [
    "AllContainersRestarting",
    "ContainersReady",
    "Initialized",
    "PodReadyToStartContainers",
    "PodResizeInProgress",
    "PodResizePending",
    "PodScheduled",
    "Ready",
];

/// Tells which part of a pod an update is about; all else that it says is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPart {
    /// The metadata, and what of its spec may be changed.
    #[default]
    Object,
    /// `status`: conditions of types that are not podctl's, as `readinessGates` wait for.
    Status,
    /// `resize`: CPU and memory of the pod and of its containers.
    Resources,
}

/// The rule that a change breaks: the field, and what is wrong with it.
pub type Broken = (String, String);

/// Checks that a pod may become another in one of its parts. The caller has filled in both pods' defaults.
///
/// # Errors
/// Every rule that the change breaks.
pub fn check_pod_update(known: &Pod, new: &Pod, part: PodPart) -> Result<(), Vec<Broken>> {
    let (Some(old), Some(wanted)) = (&known.spec, &new.spec) else {
        return Err(vec![("spec".into(), "Required value".into())]);
    };
    let mut broken = Vec::new();
    match part {
        PodPart::Object => {
            check_deadline(old, wanted, &mut broken);
            check_tolerations(old, wanted, &mut broken);
            let count =
                |spec: &PodSpec| (spec.containers.len(), spec.init_containers.iter().flatten().count());
            if count(old) != count(wanted) {
                let message = "Forbidden: pod updates may not add or remove containers";
                broken.push(("spec.containers".into(), message.into()));
            } else if broken.is_empty() && comparable(old, part) != comparable(wanted, part) {
                broken.push(("spec".into(), RULE.into()));
            }
        }
        PodPart::Resources => check_resize(old, wanted, &mut broken),
        PodPart::Status => {}
    }
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

fn check_deadline(known: &PodSpec, new: &PodSpec, broken: &mut Vec<Broken>) {
    let message = match (known.active_deadline_seconds, new.active_deadline_seconds) {
        (Some(before), Some(after)) if after > before => {
            format!("Invalid value: {after}: must be less than or equal to previous value")
        }
        (Some(before), None) => format!("Invalid value: null: must not update from {before} to nil"),
        _ => return,
    };
    broken.push(("spec.activeDeadlineSeconds".into(), message));
}

/// Tolerations can be added; one that is there can only be told another time.
fn check_tolerations(known: &PodSpec, new: &PodSpec, broken: &mut Vec<Broken>) {
    let same = |a: &Toleration, b: &Toleration| {
        let timeless = |t: &Toleration| Toleration { toleration_seconds: None, ..t.clone() };
        a == b || a.effect.as_deref() == Some("NoExecute") && timeless(a) == timeless(b)
    };
    let all: Vec<&Toleration> = new.tolerations.iter().flatten().collect();
    if known.tolerations.iter().flatten().any(|old| !all.iter().any(|new| same(old, new))) {
        let message = "Forbidden: existing tolerations may not be changed but for their tolerationSeconds";
        broken.push(("spec.tolerations".into(), message.into()));
    }
}

/// KEP-1287 and KEP-5419: CPU and memory of containers and of the pod as a whole, within the pod's QoS class.
fn check_resize(known: &PodSpec, new: &PodSpec, broken: &mut Vec<Broken>) {
    if comparable(known, PodPart::Resources) != comparable(new, PodPart::Resources) {
        return broken.push(("spec".into(), ONLY_CPU_AND_MEMORY.into()));
    }
    let lists = [
        ("initContainers", known.init_containers.as_deref(), new.init_containers.as_deref()),
        ("containers", Some(&*known.containers), Some(&*new.containers)),
    ];
    check_amounts("spec.resources", &known.resources, &new.resources, broken);
    for (list, known, new) in lists {
        let pairs = known.unwrap_or_default().iter().zip(new.unwrap_or_default());
        for (at, (known, new)) in pairs.enumerate() {
            let path = format!("spec.{list}[{at}].resources");
            check_amounts(&path, &known.resources, &new.resources, broken);
        }
    }
    if qos_class(known) != qos_class(new) {
        broken
            .push(("spec".into(), "Forbidden: Pod QOS Class may not change as a result of resizing".into()));
    }
}

/// Checks that resources become others in CPU and memory alone, and that nothing is taken back.
fn check_amounts(
    path: &str,
    old: &Option<ResourceRequirements>,
    new: &Option<ResourceRequirements>,
    broken: &mut Vec<Broken>,
) {
    if same_resources(old, new) {
        return;
    }
    let (old, new) = (old.clone().unwrap_or_default(), new.clone().unwrap_or_default());
    if old.claims != new.claims {
        broken.push((format!("{path}.claims"), ONLY_CPU_AND_MEMORY.into()));
    }
    for (field, old, new) in [("limits", old.limits, new.limits), ("requests", old.requests, new.requests)] {
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        let is_sized = |name: &str| matches!(name, "cpu" | "memory");
        if old.keys().any(|name| is_sized(name) && !new.contains_key(name)) {
            let message = format!("Forbidden: resource {field} cannot be removed");
            broken.push((format!("{path}.{field}"), message));
        }
        let others = |all: &BTreeMap<String, Quantity>| {
            let others = all.iter().filter(|(name, _)| !is_sized(name));
            others.map(|(name, amount)| (name.clone(), amount.0.clone())).collect::<Vec<_>>()
        };
        if others(&old) != others(&new) {
            broken.push((format!("{path}.{field}"), ONLY_CPU_AND_MEMORY.into()));
        }
    }
}

/// Tells whether two say the same; one that says nothing is as good as none.
pub(super) fn same_resources(a: &Option<ResourceRequirements>, b: &Option<ResourceRequirements>) -> bool {
    a.clone().unwrap_or_default() == b.clone().unwrap_or_default()
}

/// The spec without what may change in that part, and without what podctl writes itself.
fn comparable(spec: &PodSpec, part: PodPart) -> PodSpec {
    let container = |container: &Container| Container {
        image: container.image.clone().filter(|_| part != PodPart::Object),
        resources: container
            .resources
            .clone()
            .filter(|r| part != PodPart::Resources && *r != Default::default()),
        ..container.clone()
    };
    let not_empty = |all: Vec<Container>| Some(all).filter(|all| !all.is_empty());
    PodSpec {
        active_deadline_seconds: spec.active_deadline_seconds.filter(|_| part != PodPart::Object),
        tolerations: spec.tolerations.clone().filter(|all| part != PodPart::Object && !all.is_empty()),
        ephemeral_containers: None,
        enable_service_links: Some(spec.enable_service_links.unwrap_or(true)),
        node_name: None,
        preemption_policy: None,
        priority: None,
        resources: spec.resources.clone().filter(|r| part != PodPart::Resources && *r != Default::default()),
        scheduler_name: None,
        security_context: Some(spec.security_context.clone().unwrap_or_default()),
        service_account: None,
        // The one that every pod has is no change.
        service_account_name: (spec.service_account_name.clone().or_else(|| spec.service_account.clone()))
            .filter(|name| !name.is_empty() && name != "default"),
        containers: spec.containers.iter().map(container).collect(),
        init_containers: not_empty(spec.init_containers.iter().flatten().map(container).collect()),
        volumes: spec.volumes.clone().filter(|all| !all.is_empty()),
        ..spec.clone()
    }
}

/// Gives a pod what an update says of one of its parts; the update has been checked. Says whether its spec is another
/// now, which is another generation.
pub fn merge_pod_update(known: &mut Pod, new: &Pod, part: PodPart) -> bool {
    let before = known.spec.clone();
    if part != PodPart::Status {
        known.metadata.managed_fields.clone_from(&new.metadata.managed_fields);
    }
    let (Some(spec), Some(wanted)) = (&mut known.spec, &new.spec) else { return false };
    let find = |name: &str| {
        let mut all = wanted.init_containers.iter().flatten().chain(&wanted.containers);
        all.find(|container| container.name == name)
    };
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    match part {
        PodPart::Object => {
            known.metadata.labels.clone_from(&new.metadata.labels);
            known.metadata.annotations.clone_from(&new.metadata.annotations);
            known.metadata.finalizers.clone_from(&new.metadata.finalizers);
            known.metadata.owner_references.clone_from(&new.metadata.owner_references);
            for container in containers {
                let image = find(&container.name).and_then(|wanted| wanted.image.clone());
                container.image = image.or(container.image.take());
            }
            spec.active_deadline_seconds = wanted.active_deadline_seconds;
            spec.tolerations.clone_from(&wanted.tolerations);
        }
        PodPart::Resources => {
            for container in containers {
                if let Some(wanted) = find(&container.name) {
                    container.resources.clone_from(&wanted.resources);
                }
            }
            spec.resources.clone_from(&wanted.resources);
            canonicalize_quantities(spec);
        }
        PodPart::Status => {}
    }
    let changed = known.spec != before;
    if changed {
        known.metadata.generation = Some(known.metadata.generation.unwrap_or(1) + 1);
    }
    changed
}

/// The conditions of a status that are not podctl's to say.
pub fn others_conditions(pod: &Pod) -> Vec<PodCondition> {
    let all = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    all.filter(|c| !OWN_CONDITIONS.contains(&c.type_.as_str())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn labels_may_change_and_deadlines_come_earlier() {
        let app = json!({"name": "a", "image": "busybox"});
        let known = pod(json!({"containers": [app], "activeDeadlineSeconds": 10}));
        let check = |spec: Value| check_pod_update(&known, &pod(spec), PodPart::Object);
        assert_eq!(check(json!({"containers": [app], "activeDeadlineSeconds": 10})), Ok(()));
        assert_eq!(
            check(json!({"containers": [app], "activeDeadlineSeconds": 5, "securityContext": {}})),
            Ok(())
        );
        assert!(check(json!({"containers": [app], "activeDeadlineSeconds": 11})).is_err());
        assert!(check(json!({"containers": [app]})).is_err());
        let other = json!({"name": "a", "image": "busybox", "args": ["x"]});
        let refused = check(json!({"containers": [other], "activeDeadlineSeconds": 10})).unwrap_err();
        assert!(refused[0].1.starts_with("Forbidden: pod updates may not change fields other than"));
        let two =
            json!({"containers": [app, {"name": "b", "image": "busybox"}], "activeDeadlineSeconds": 10});
        assert_eq!(check(two).unwrap_err()[0].0, "spec.containers");
    }

    #[test]
    fn images_may_change_and_tolerations_be_added() {
        let spec = |image: &str, tolerations: Value| {
            pod(json!({"containers": [{"name": "a", "image": image}], "tolerations": tolerations}))
        };
        let (old, more) = (json!({"key": "k", "effect": "NoSchedule"}), json!({"key": "l"}));
        let mut known = spec("a:1", json!([old]));
        let new = spec("a:2", json!([old, more]));
        assert_eq!(check_pod_update(&known, &new, PodPart::Object), Ok(()));
        assert!(check_pod_update(&known, &spec("a:1", json!([more])), PodPart::Object).is_err());
        assert!(merge_pod_update(&mut known, &new, PodPart::Object));
        assert_eq!((known.metadata.generation, &known.spec), (Some(2), &new.spec));
        assert!(!merge_pod_update(&mut known, &new, PodPart::Object));
    }

    #[test]
    fn a_resize_changes_cpu_and_memory_and_nothing_else() {
        let spec = |resources: Value| {
            pod(json!({"containers": [{"name": "a", "image": "b", "resources": resources}]}))
        };
        let known = spec(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}));
        let check = |resources| check_pod_update(&known, &spec(resources), PodPart::Resources);
        let broken = |resources| check(resources).unwrap_err()[0].1.clone();
        let larger = json!({"limits": {"cpu": "2", "memory": "2Gi"}, "requests": {"cpu": "600m"}});
        assert_eq!(check(larger.clone()), Ok(()));
        assert!(check_pod_update(&known, &spec(larger), PodPart::Object).is_err());
        let less = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}});
        assert!(broken(less).contains("resource limits cannot be removed"));
        let disk = json!({"limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}, "requests": {"cpu": "500m"}});
        assert!(broken(disk).contains("only cpu and memory"));
        let guaranteed =
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}});
        assert!(broken(guaranteed).contains("QOS"));
    }

    #[test]
    fn a_resize_changes_the_pod_as_a_whole_and_init_containers_as_well() {
        let spec = |pods: Value, init: &str| {
            let init = json!({"name": "i", "image": "b", "resources": {"requests": {"cpu": init}}});
            pod(
                json!({"resources": pods, "initContainers": [init], "containers": [{"name": "a", "image": "b"}]}),
            )
        };
        let mut known = spec(json!({"limits": {"memory": "1Gi"}}), "1");
        let new = spec(json!({"limits": {"memory": "2Gi"}}), "2");
        assert!(check_pod_update(&known, &new, PodPart::Object).is_err());
        assert_eq!(check_pod_update(&known, &new, PodPart::Resources), Ok(()));
        assert!(merge_pod_update(&mut known, &new, PodPart::Resources));
        assert_eq!(known.spec, new.spec);
        let same = spec(json!({"limits": {"memory": "2048Mi"}}), "2000m");
        assert!(!merge_pod_update(&mut known, &same, PodPart::Resources));
        let refused = check_pod_update(&known, &spec(json!({"limits": {}}), "2"), PodPart::Resources);
        assert_eq!(refused.unwrap_err()[0].0, "spec.resources.limits");
    }

    #[test]
    fn only_conditions_of_others_are_taken() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "example.com/there", "status": "True"}]}}))
        .unwrap();
        let types: Vec<String> = others_conditions(&pod).into_iter().map(|c| c.type_).collect();
        assert_eq!(types, ["example.com/there"]);
    }
}
