//! Objects of a file that mean nothing to a machine without a cluster: a whole application's file runs all the same, with a
//! line about each of them.

use super::{
    Diagnostic, Report, Severity,
    document_tree::{Kind, Node},
    typed::join,
};
use serde_json::Value;

const RIGHTS: &str = "there is no API server to have rights at";
const OF_CLUSTER: &str = "it speaks to a cluster, and there is none";
const PLACES: &str = "it chooses among machines or their disks, of which there is one";

/// Built-in kinds, and why each of them is passed over.
const PASSED_OVER: &[(&str, &str)] = &[
    ("ServiceAccount", RIGHTS),
    ("Role", RIGHTS),
    ("RoleBinding", RIGHTS),
    ("ClusterRole", RIGHTS),
    ("ClusterRoleBinding", RIGHTS),
    ("Namespace", "a namespace is there as soon as something is in it"),
    (
        "NetworkPolicy",
        "NOTHING IS FILTERED: every pod of this user's still reaches every other one, and the outside; `--network none` is the one way to keep a pod apart",
    ),
    (
        "Ingress",
        "nothing routes by host name here; a Service of type NodePort or LoadBalancer, hostPort or -p publishes a port",
    ),
    ("IngressClass", "nothing routes by host name here"),
    ("PodDisruptionBudget", "nobody drains the one machine there is"),
    ("HorizontalPodAutoscaler", "a workload has as many pods as it says"),
    ("ResourceQuota", OF_CLUSTER),
    ("LimitRange", "no defaults of a namespace's are filled in"),
    ("PriorityClass", PLACES),
    ("RuntimeClass", PLACES),
    ("StorageClass", PLACES),
    ("VolumeAttributesClass", PLACES),
    ("PersistentVolume", "a claim is a directory of podctl's own, and nothing is bound to it"),
    ("CSIDriver", PLACES),
    ("CSINode", PLACES),
    ("Node", PLACES),
    ("Lease", OF_CLUSTER),
    ("Event", OF_CLUSTER),
    ("Endpoints", "a Service's pods are found by its selector"),
    ("EndpointSlice", "a Service's pods are found by its selector"),
    ("CustomResourceDefinition", OF_CLUSTER),
    ("APIService", OF_CLUSTER),
    ("MutatingWebhookConfiguration", OF_CLUSTER),
    ("ValidatingWebhookConfiguration", OF_CLUSTER),
    ("ValidatingAdmissionPolicy", OF_CLUSTER),
    ("ValidatingAdmissionPolicyBinding", OF_CLUSTER),
    ("MutatingAdmissionPolicy", OF_CLUSTER),
    ("MutatingAdmissionPolicyBinding", OF_CLUSTER),
    ("CertificateSigningRequest", OF_CLUSTER),
    ("FlowSchema", OF_CLUSTER),
    ("PriorityLevelConfiguration", OF_CLUSTER),
    ("ControllerRevision", OF_CLUSTER),
    ("PodTemplate", "nobody makes pods of it"),
    ("ReplicationController", "write it as a Deployment"),
];

/// Tells why an object of that kind is passed over; `None` when it is to be read, or is nothing that anybody knows.
fn reason(kind: &str, version: &str) -> Option<&'static str> {
    // Groups of Kubernetes' own end with k8s.io, but for the first ones, which have no dot.
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let built_in = !group.contains('.') || group.ends_with(".k8s.io");
    let known = PASSED_OVER.iter().find(|(known, _)| *known == kind).filter(|_| built_in);
    let foreign = "its kind is defined by something that is installed in a cluster";
    known.map(|(_, why)| *why).or_else(|| group.contains('.').then_some(foreign))
}

/// Passes over an object that means nothing here, with a line that says so; says whether it was one.
pub(super) fn pass_over(
    node: &Node,
    path: &str,
    passed: &mut Vec<Diagnostic>,
    report: &mut Report<'_>,
) -> bool {
    let text = |node: Option<&Node>| match node.map(|n| &n.kind) {
        Some(Kind::Scalar(Value::String(text))) => text.clone(),
        _ => String::new(),
    };
    let (kind, version) = (text(node.get("kind")), text(node.get("apiVersion")));
    let Some(why) = reason(&kind, &version) else { return false };
    let name = text(node.get("metadata").and_then(|m| m.get("name")));
    let before = report.found.len();
    report.say(
        Severity::Warning,
        &join(path, "kind"),
        format!("{kind} {name:?} is passed over: {why}"),
        None,
    );
    passed.extend(report.found[before..].iter().cloned());
    true
}
