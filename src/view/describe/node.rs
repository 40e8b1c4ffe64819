//! A node in full: what it has, how it is, and what its pods take of it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Event, Node, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
    jiff::Timestamp,
};
use serde_json::Value;

use super::{Page, annotations, pairs, with_events};
use crate::{
    pod::quantity::{canonical_quantity, quantity_millis, quantity_text},
    view::age,
};

type Amounts = BTreeMap<String, Quantity>;

/// The label whose end is a role of the node.
const ROLE: &str = "node-role.kubernetes.io/";

/// Holds what a node is described from.
pub struct DescribedNode<'a> {
    pub node: &'a Node,
    /// The node's Lease, if it has one.
    pub lease: Option<&'a Value>,
    /// Its pods that have not ended.
    pub pods: &'a [Pod],
    /// The table of events is left out without.
    pub events: Option<&'a [Event]>,
}

/// Describes a node.
pub fn node(described: &DescribedNode<'_>, now: Timestamp) -> String {
    let mut page = Page::default();
    describe_head(&mut page, described.node);
    describe_lease(&mut page, described.lease);
    describe_state(&mut page, described.node);
    describe_system(&mut page, described.node);
    let allocatable = described.node.status.as_ref().and_then(|status| status.allocatable.clone());
    describe_pods(&mut page, described.pods, &allocatable.unwrap_or_default(), now);
    with_events(page, described.events, now)
}

fn describe_head(page: &mut Page, node: &Node) {
    let meta = &node.metadata;
    page.field(0, "Name", meta.name.as_deref().unwrap_or_default());
    let labels = meta.labels.iter().flatten();
    let roles: Vec<&str> = labels.filter_map(|(label, _)| label.strip_prefix(ROLE)).collect();
    page.field(0, "Roles", if roles.is_empty() { "<none>".into() } else { roles.join(",") });
    page.list("Labels", &pairs(meta.labels.as_ref(), "="));
    page.list("Annotations", &annotations(meta.annotations.as_ref()));
    if let Some(time) = &meta.creation_timestamp {
        page.field(0, "CreationTimestamp", age::dated(time));
    }
    let spec = node.spec.clone().unwrap_or_default();
    let taints = spec.taints.iter().flatten();
    let taint = |taint: &k8s_openapi::api::core::v1::Taint| match taint.value.as_deref().unwrap_or_default() {
        "" => format!("{}:{}", taint.key, taint.effect),
        value => format!("{}={value}:{}", taint.key, taint.effect),
    };
    page.list("Taints", &taints.map(taint).collect::<Vec<_>>());
    page.field(0, "Unschedulable", spec.unschedulable.unwrap_or(false));
}

fn describe_lease(page: &mut Page, lease: Option<&Value>) {
    let Some(lease) = lease else { return };
    let text = |field: &str| lease["spec"][field].as_str();
    let time = |field: &str| {
        let time = text(field).and_then(|text| text.parse().ok()).map(Time);
        time.map_or_else(|| "<unset>".to_owned(), |time| age::dated(&time))
    };
    page.line(0, "Lease:");
    page.field(1, "HolderIdentity", text("holderIdentity").unwrap_or("<unset>"));
    page.field(1, "AcquireTime", time("acquireTime"));
    page.field(1, "RenewTime", time("renewTime"));
}

fn describe_state(page: &mut Page, node: &Node) {
    let status = node.status.clone().unwrap_or_default();
    if let Some(conditions) = status.conditions.filter(|all| !all.is_empty()) {
        page.line(0, "Conditions:");
        page.line(1, "Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage");
        page.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
        for own in conditions {
            let time = |time: &Option<Time>| time.as_ref().map(age::dated).unwrap_or_default();
            page.line(
                1,
                format_args!(
                    "{} \t{} \t{} \t{} \t{} \t{}",
                    own.type_,
                    own.status,
                    time(&own.last_heartbeat_time),
                    time(&own.last_transition_time),
                    own.reason.unwrap_or_default(),
                    own.message.unwrap_or_default()
                ),
            );
        }
    }
    page.line(0, "Addresses:");
    for address in status.addresses.iter().flatten() {
        page.field(1, &address.type_, &address.address);
    }
    for (title, amounts) in [("Capacity", status.capacity), ("Allocatable", status.allocatable)] {
        let Some(amounts) = amounts.filter(|all| !all.is_empty()) else { continue };
        page.line(0, format_args!("{title}:"));
        amounts.iter().for_each(|(name, amount)| page.field(1, name, &amount.0));
    }
}

fn describe_system(page: &mut Page, node: &Node) {
    let info = node.status.as_ref().and_then(|status| status.node_info.clone()).unwrap_or_default();
    page.line(0, "System Info:");
    for (name, value) in [
        ("Machine ID", info.machine_id),
        ("System UUID", info.system_uuid),
        ("Boot ID", info.boot_id),
        ("Kernel Version", info.kernel_version),
        ("OS Image", info.os_image),
        ("Operating System", info.operating_system),
        ("Architecture", info.architecture),
        ("Container Runtime Version", info.container_runtime_version),
        ("Kubelet Version", info.kubelet_version),
    ] {
        page.field(1, name, value);
    }
    let spec = node.spec.clone().unwrap_or_default();
    page.field_if(0, "PodCIDR", spec.pod_cidr.as_ref());
    page.field_if(0, "PodCIDRs", spec.pod_cidrs.map(|all| all.join(",")).as_ref());
    page.field_if(0, "ProviderID", spec.provider_id.as_ref());
}

/// Tells which of a container's two lists of amounts is meant.
type List = fn(&ResourceRequirements) -> Option<&Amounts>;

const REQUESTS: List = |resources| resources.requests.as_ref();
const LIMITS: List = |resources| resources.limits.as_ref();

fn describe_pods(page: &mut Page, pods: &[Pod], allocatable: &Amounts, now: Timestamp) {
    page.field(0, "Non-terminated Pods", format_args!("({} in total)", pods.len()));
    page.line(1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    page.line(1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---");
    let share =
        |pods: &[Pod], name: &str, list: List| Share::of(pods, name, list).in_words(allocatable, name);
    for pod in pods {
        let meta = &pod.metadata;
        let own = |name: &str, list: List| share(std::slice::from_ref(pod), name, list);
        let cells = [
            own("cpu", REQUESTS),
            own("cpu", LIMITS),
            own("memory", REQUESTS),
            own("memory", LIMITS),
            age::since(meta.creation_timestamp.as_ref(), now),
        ];
        let name = |field: &Option<String>| field.clone().unwrap_or_default();
        page.line(1, format_args!("{}\t{}\t\t{}", name(&meta.namespace), name(&meta.name), cells.join("\t")));
    }
    page.line(0, "Allocated resources:");
    page.line(1, "(Total limits may be over 100 percent, i.e., overcommitted.)");
    page.line(1, "Resource\tRequests\tLimits");
    page.line(1, "--------\t--------\t------");
    let huge = allocatable.keys().map(String::as_str).filter(|name| name.starts_with("hugepages-"));
    for name in ["cpu", "memory", "ephemeral-storage"].into_iter().chain(huge) {
        let (requests, limits) = (share(pods, name, REQUESTS), share(pods, name, LIMITS));
        page.line(1, format_args!("{name}\t{requests}\t{limits}"));
    }
}

/// The amount of a resource that pods take together.
#[derive(Default)]
struct Share {
    /// Thousandths.
    millis: u64,
    /// Tells that it is written with suffixes of two's powers, as the first of the amounts is.
    is_binary: bool,
}

impl Share {
    fn of(pods: &[Pod], name: &str, list: List) -> Share {
        let mut share = Share::default();
        for spec in pods.iter().filter_map(|pod| pod.spec.as_ref()) {
            share.millis += total_of_pod(spec, name, list, &mut share.is_binary);
        }
        share
    }

    /// Writes it with the part of the node's that it is.
    fn in_words(&self, allocatable: &Amounts, name: &str) -> String {
        let all = allocatable.get(name).and_then(|amount| quantity_millis(&amount.0).ok()).unwrap_or(0);
        let percent = if all == 0 { 0 } else { u128::from(self.millis) * 100 / u128::from(all) };
        let text = match self.is_binary {
            true => quantity_text(self.millis.div_ceil(1000)),
            false => canonical_quantity(&format!("{}m", self.millis)),
        };
        format!("{text} ({percent}%)")
    }
}

/// Returns what a pod takes of a resource: what runs together at the end, or the largest step before that.
fn total_of_pod(spec: &PodSpec, name: &str, list: List, is_binary: &mut bool) -> u64 {
    let mut read = |resources: Option<&ResourceRequirements>| {
        let amount = resources.and_then(list).and_then(|all| all.get(name))?;
        let millis = quantity_millis(&amount.0).ok()?;
        *is_binary |= millis > 0 && amount.0.ends_with('i');
        Some(millis)
    };
    let (mut beside, mut largest) = (0, 0);
    for init in spec.init_containers.iter().flatten() {
        let own = read(init.resources.as_ref()).unwrap_or(0);
        if init.restart_policy.as_deref() == Some("Always") {
            beside += own;
            largest = largest.max(beside);
        } else {
            largest = largest.max(beside + own);
        }
    }
    let together: u64 = spec.containers.iter().filter_map(|own| read(own.resources.as_ref())).sum();
    let total = read(spec.resources.as_ref()).unwrap_or_else(|| largest.max(together + beside));
    let overhead = spec.overhead.as_ref().and_then(|all| all.get(name));
    total + overhead.and_then(|amount| quantity_millis(&amount.0).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_described_with_what_its_pods_take() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": ""}},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "hugepages-2Mi": "0"}}
        }))
        .unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {
                "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "1500m"}}}],
                "containers": [{"name": "c", "resources": {"requests": {"cpu": "500m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}}],
            }
        }))
        .unwrap();
        let described = DescribedNode { node: &node, lease: None, pods: &[pod], events: Some(&[]) };
        let page = node_page(&described);
        let lines: Vec<String> =
            page.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "Roles: worker",
            "Non-terminated Pods: (1 in total)",
            "default p 1500m (75%) 0 (0%) 64Mi (6%) 128Mi (12%) <unknown>",
            "cpu 1500m (75%) 0 (0%)",
            "hugepages-2Mi 0 (0%) 0 (0%)",
        ] {
            assert!(lines.iter().any(|own| own == line), "{line}: {page}");
        }
    }

    fn node_page(described: &DescribedNode<'_>) -> String {
        node(described, Timestamp::UNIX_EPOCH)
    }
}
