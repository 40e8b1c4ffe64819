//! The Lease of the one node: on a cluster a kubelet renews it to say that it lives; here whoever asks is told of this moment.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::complete::finish_object;
use crate::pod::{Namespace, ObjectKind};

/// The namespace in which clients look for it.
const NAMESPACE: &str = "kube-node-lease";
/// Seconds for which a kubelet's lease holds, and between two renewals, by default.
const DURATION: i64 = 40;
const RENEWAL: i64 = 10;

/// Lists the one Lease, unless another namespace is asked about.
pub(super) fn list_leases(node: &Value, namespace: Option<&Namespace>) -> Vec<Value> {
    match namespace {
        Some(namespace) if *namespace != NAMESPACE => Vec::new(),
        _ => vec![finish_object(ObjectKind::Lease, describe_lease(node, Timestamp::now()))],
    }
}

/// Returns a node's Lease. It is renewed each ten seconds and not each time that it is read: who watches it hears no more often
/// than on a cluster.
fn describe_lease(node: &Value, now: Timestamp) -> Value {
    let (name, uid) = (&node["metadata"]["name"], &node["metadata"]["uid"]);
    let seconds = now.as_second();
    let renewed = Timestamp::from_second(seconds - seconds % RENEWAL).unwrap_or_default();
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": derive_uid(uid.as_str().unwrap_or_default()),
            "creationTimestamp": node["metadata"]["creationTimestamp"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}],
        },
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": DURATION,
            "renewTime": format!("{renewed:.6}"),
        },
    })
}

/// Returns the uid of the Lease of a node of that uid: the same each time.
fn derive_uid(of_node: &str) -> String {
    let hash = Sha256::digest(format!("{NAMESPACE} {of_node}"));
    let bytes = std::array::from_fn(|at| hash[at]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_names_its_node_and_has_been_renewed_just_now() {
        let node =
            json!({"metadata": {"name": "laptop", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        let lease = describe_lease(&node, "2026-01-01T00:01:09Z".parse().unwrap());
        let spec = json!({"holderIdentity": "laptop", "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:01:00.000000Z"});
        assert_eq!(lease["spec"], spec);
        assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(derive_uid("u"), derive_uid("u"));
        assert_ne!(derive_uid("u"), derive_uid("v"));
    }
}
