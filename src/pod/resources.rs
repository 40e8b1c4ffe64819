//! What a pod asks of the machine in total (R-INIT-7), its QoS class and how soon the kernel takes it when memory runs out.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{
    ContainerExt,
    quantity::{quantity_bytes, quantity_millis},
};

/// The amount of each resource that podctl can divide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a CPU; none is without bound.
    pub cpu: Option<u64>,
    /// Bytes; none is without bound.
    pub memory: Option<u64>,
}

impl Amounts {
    fn of(list: Option<&BTreeMap<String, Quantity>>) -> Amounts {
        let quantity = |name: &str| list.and_then(|l| l.get(name)).map(|q| q.0.as_str());
        Amounts {
            cpu: quantity("cpu").and_then(|q| quantity_millis(q).ok()),
            memory: quantity("memory").and_then(|q| quantity_bytes(q).ok()),
        }
    }

    fn with(self, other: Amounts, join: impl Fn(Option<u64>, Option<u64>) -> Option<u64>) -> Amounts {
        Amounts { cpu: join(self.cpu, other.cpu), memory: join(self.memory, other.memory) }
    }
}

/// Returns what a container or a pod asks for itself; a request that is not given is the limit.
pub fn read_requests(resources: Option<&ResourceRequirements>) -> Amounts {
    let asked = Amounts::of(resources.and_then(|r| r.requests.as_ref()));
    asked.with(read_limits(resources), Option::or)
}

/// Returns what a container or a pod may use.
pub fn read_limits(resources: Option<&ResourceRequirements>) -> Amounts {
    Amounts::of(resources.and_then(|r| r.limits.as_ref()))
}

/// Returns what the kernel is to let a container have: what its pod may use where it has no limit of its own.
pub fn enforced_limits(spec: &PodSpec, container: &Container) -> Amounts {
    let positive = |amount: &u64| *amount > 0;
    let own = read_limits(container.resources.as_ref());
    let own = Amounts { cpu: own.cpu.filter(positive), memory: own.memory.filter(positive) };
    own.with(read_limits(spec.resources.as_ref()), Option::or)
}

/// R-INIT-7: the larger of what runs together at the end and of the largest init step, with the sidecars started before
/// it. What `spec.resources` says stands above both.
pub fn effective_requests(spec: &PodSpec) -> Amounts {
    read_requests(spec.resources.as_ref()).with(container_requests(spec), Option::or)
}

/// Does as [`effective_requests`], without what `spec.resources` says.
pub fn container_requests(spec: &PodSpec) -> Amounts {
    let added = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    };
    total(spec, read_requests, added, |a, b| a.max(b), Amounts::default())
}

/// Does as [`effective_requests`]; one container without a limit leaves the pod without it.
pub fn effective_limits(spec: &PodSpec) -> Amounts {
    read_limits(spec.resources.as_ref()).with(container_limits(spec), Option::or)
}

/// Does as [`effective_limits`], without what `spec.resources` says.
pub fn container_limits(spec: &PodSpec) -> Amounts {
    let added = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
    let larger = |a: Option<u64>, b: Option<u64>| Some(a?.max(b?));
    total(spec, read_limits, added, larger, Amounts { cpu: Some(0), memory: Some(0) })
}

/// Names what the names of huge pages as a resource begin with; the size of a page follows.
pub const HUGE_PAGES: &str = "hugepages-";

/// Reads how many bytes of huge pages a container or a pod may use, by the size of a page in bytes.
pub fn read_huge_pages(resources: Option<&ResourceRequirements>) -> BTreeMap<u64, u64> {
    let limits = resources.and_then(|r| r.limits.as_ref()).into_iter().flatten();
    let page = |name: &str| quantity_bytes(name.strip_prefix(HUGE_PAGES)?).ok();
    limits.filter_map(|(name, bytes)| Some((page(name)?, quantity_bytes(&bytes.0).ok()?))).collect()
}

/// Adds up the huge pages of a pod as [`effective_requests`] does the rest.
pub fn effective_huge_pages(spec: &PodSpec) -> BTreeMap<u64, u64> {
    let mut all = read_huge_pages(spec.resources.as_ref());
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let sizes: Vec<u64> =
        containers().flat_map(|c| read_huge_pages(c.resources.as_ref()).into_keys()).collect();
    for size in sizes {
        let of = |r: Option<&ResourceRequirements>| Amounts {
            cpu: None,
            memory: read_huge_pages(r).get(&size).copied(),
        };
        let added = |a: Option<u64>, b: Option<u64>| Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0)));
        let bytes = total(spec, of, added, |a, b| a.max(b), Amounts::default()).memory;
        all.entry(size).or_insert(bytes.unwrap_or(0));
    }
    all
}

/// Finds the size of the pages, in bytes, of a volume of medium `HugePages` or `HugePages-SIZE`.
///
/// # Errors
/// What is wrong with it, as a kubelet has it: the pod has to be given pages of that size, and of one size where none
/// is said.
pub fn huge_page_size(medium: &str, spec: &PodSpec) -> Result<u64, String> {
    let sizes: Vec<u64> = effective_huge_pages(spec).into_keys().collect();
    match (medium.strip_prefix("HugePages-"), &sizes[..]) {
        (None, [only]) => Ok(*only),
        (None, _) => {
            Err("can be used only if the containers' resources name exactly one size of huge pages"
                .to_owned())
        }
        (Some(size), _) => {
            let bytes = quantity_bytes(size).map_err(|e| e.to_string())?;
            let given = sizes.contains(&bytes).then_some(bytes);
            given.ok_or_else(|| format!("no container has {HUGE_PAGES}{size} among its resources"))
        }
    }
}

/// Bytes of the disk that all containers may take together, as the kubelet adds them up: of those that have a limit.
pub fn storage_limit(spec: &PodSpec) -> Option<u64> {
    let of = |r: Option<&ResourceRequirements>| {
        quantity_bytes(&r?.limits.as_ref()?.get("ephemeral-storage")?.0).ok().filter(|bytes| *bytes > 0)
    };
    let added = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    };
    let (mut sidecars, mut largest) = (None, None);
    for container in spec.init_containers.iter().flatten() {
        let step = added(sidecars, of(container.resources.as_ref()));
        if container.is_sidecar() {
            sidecars = step;
        }
        largest = largest.max(step);
    }
    spec.containers.iter().fold(sidecars, |sum, c| added(sum, of(c.resources.as_ref()))).max(largest)
}

fn total(
    spec: &PodSpec,
    of: impl Fn(Option<&ResourceRequirements>) -> Amounts,
    added: impl Fn(Option<u64>, Option<u64>) -> Option<u64> + Copy,
    larger: impl Fn(Option<u64>, Option<u64>) -> Option<u64> + Copy,
    none: Amounts,
) -> Amounts {
    let (mut sidecars, mut largest) = (none, none);
    for container in spec.init_containers.iter().flatten() {
        let own = of(container.resources.as_ref());
        if container.is_sidecar() {
            sidecars = sidecars.with(own, added);
            largest = largest.with(sidecars, larger);
        } else {
            largest = largest.with(sidecars.with(own, added), larger);
        }
    }
    let apps = spec.containers.iter().fold(sidecars, |sum, c| sum.with(of(c.resources.as_ref()), added));
    apps.with(largest, larger)
}

/// The pod's QoS class.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let of_containers = || {
        let all = spec.init_containers.iter().flatten().chain(&spec.containers);
        all.map(|c| c.resources.as_ref()).collect::<Vec<_>>()
    };
    let stated = spec.resources.as_ref().filter(|r| r.requests.is_some() || r.limits.is_some());
    let all = stated.map_or_else(of_containers, |r| vec![Some(r)]);
    let positive =
        |a: Amounts| Amounts { cpu: a.cpu.filter(|v| *v > 0), memory: a.memory.filter(|v| *v > 0) };
    let guaranteed = |r: &Option<&ResourceRequirements>| {
        let limits = positive(read_limits(*r));
        limits.cpu.is_some() && limits.memory.is_some() && positive(read_requests(*r)) == limits
    };
    if all.iter().all(|r| positive(read_requests(*r)) == Amounts::default()) {
        "BestEffort"
    } else if all.iter().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Returns a container's `oom_score_adj` on a machine with that much memory, by the kubelet's formula.
pub fn oom_score_adj(spec: &PodSpec, container: &Container, capacity: u64) -> i32 {
    const GUARANTEED: i64 = -997;
    const BEST_EFFORT: i64 = 1000;
    match qos_class(spec) {
        "Guaranteed" => return GUARANTEED as i32,
        "BestEffort" => return BEST_EFFORT as i32,
        _ => {}
    }
    let memory = |c: &Container| read_requests(c.resources.as_ref()).memory.unwrap_or(0);
    let all = || spec.init_containers.iter().flatten().chain(&spec.containers);
    // What the pod asks for beyond its containers is shared out evenly.
    let unclaimed = read_requests(spec.resources.as_ref()).memory.map_or(0, |pod| {
        pod.saturating_sub(all().map(memory).fold(0, u64::saturating_add)) / all().count().max(1) as u64
    });
    let score = |request: u64| 1000 - (1000 * i128::from(request) / i128::from(capacity.max(1))) as i64;
    let mut adjustment = score(memory(container).saturating_add(unclaimed));
    let is_init = spec.init_containers.iter().flatten().any(|c| c.name == container.name);
    if is_init && container.is_sidecar() {
        // A sidecar is not taken before the app that it serves.
        let least = spec.containers.iter().map(memory).min().unwrap_or(0);
        adjustment = adjustment.min(score(least));
    }
    adjustment.clamp(1000 + GUARANTEED, BEST_EFFORT - 1) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: serde_json::Value) -> PodSpec {
        serde_json::from_value(text).unwrap()
    }

    fn asks(name: &str, cpu: &str) -> serde_json::Value {
        serde_json::json!({"name": name, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
    }

    fn sidecar(name: &str, cpu: &str) -> serde_json::Value {
        let mut sidecar = asks(name, cpu);
        sidecar["restartPolicy"] = "Always".into();
        sidecar
    }

    #[test]
    fn huge_pages_are_added_up_by_their_size() {
        let of =
            |limits: serde_json::Value| serde_json::json!({"name": "c", "resources": {"limits": limits}});
        let spec: PodSpec = serde_json::from_value(serde_json::json!({
            "initContainers": [of(serde_json::json!({"hugepages-2Mi": "10Mi"}))],
            "containers": [of(serde_json::json!({"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"})),
                of(serde_json::json!({"hugepages-2Mi": "2Mi", "memory": "1Gi"}))],
        }))
        .unwrap();
        assert_eq!(effective_huge_pages(&spec), BTreeMap::from([(2 << 20, 10 << 20), (1 << 30, 1 << 30)]));
    }

    #[test]
    fn r_init_7_the_largest_init_step_counts_with_the_sidecars_started_before_it() {
        let cases = [
            // (init containers, apps, effective)
            (vec![], vec![asks("a", "1"), asks("b", "2")], 3000),
            (vec![asks("i", "5")], vec![asks("a", "1")], 5000),
            (vec![asks("i", "1"), asks("j", "2")], vec![asks("a", "1")], 2000),
            (vec![sidecar("s", "1"), asks("i", "2")], vec![asks("a", "1")], 3000),
            (vec![asks("i", "2"), sidecar("s", "1")], vec![asks("a", "1")], 2000),
            (vec![sidecar("s", "1")], vec![asks("a", "3")], 4000),
        ];
        for (init, apps, expected) in cases {
            let spec = spec(serde_json::json!({"initContainers": init, "containers": apps}));
            assert_eq!(effective_requests(&spec).cpu, Some(expected), "{spec:?}");
            assert_eq!(effective_limits(&spec).cpu, Some(expected), "{spec:?}");
            assert_eq!(effective_limits(&spec).memory, None);
        }
        let pod_level = spec(serde_json::json!({
            "resources": {"limits": {"cpu": "9"}}, "containers": [asks("a", "1"), {"name": "b"}],
        }));
        assert_eq!(effective_limits(&pod_level).cpu, Some(9000));
        let enforced = |at: usize| enforced_limits(&pod_level, &pod_level.containers[at]);
        assert_eq!((enforced(0).cpu, enforced(1).cpu, enforced(1).memory), (Some(1000), Some(9000), None));
    }

    #[test]
    fn r_res_1_limits_of_storage_are_added_up_for_the_pod() {
        let asks = |name: &str, storage: &str| serde_json::json!({"name": name, "resources": {"limits": {"ephemeral-storage": storage}}});
        let apps =
            spec(serde_json::json!({"containers": [asks("a", "1Ki"), asks("b", "2Ki"), {"name": "c"}]}));
        assert_eq!(storage_limit(&apps), Some(3 << 10));
        let init =
            spec(serde_json::json!({"initContainers": [asks("i", "5Ki")], "containers": [asks("a", "1Ki")]}));
        assert_eq!(storage_limit(&init), Some(5 << 10));
        assert_eq!(storage_limit(&spec(serde_json::json!({"containers": [{"name": "c"}]}))), None);
    }

    #[test]
    fn r_res_1_qos_classes_and_scores_are_the_kubelets() {
        let gib = 1 << 30;
        let one = |resources: serde_json::Value| {
            spec(serde_json::json!({"containers": [{"name": "a", "resources": resources}]}))
        };
        let cases = [
            (one(serde_json::json!({})), "BestEffort", 1000),
            (one(serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed", -997),
            (one(serde_json::json!({"limits": {"cpu": "1"}})), "Burstable", 999),
            (one(serde_json::json!({"requests": {"memory": "1Gi"}})), "Burstable", 750),
            (one(serde_json::json!({"requests": {"memory": "4Gi"}})), "Burstable", 3),
        ];
        for (spec, class, score) in cases {
            assert_eq!(qos_class(&spec), class, "{spec:?}");
            assert_eq!(oom_score_adj(&spec, &spec.containers[0], 4 * gib), score, "{spec:?}");
        }
    }
}
