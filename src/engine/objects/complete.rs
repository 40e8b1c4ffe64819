//! Objects as an API server gives them: whole, with every default, a uid, an age and a version.

use std::{fs, io};

use k8s_openapi::{
    Resource,
    api::core::v1::{
        Event, Namespace as NamespaceObject, PersistentVolumeClaim, PersistentVolumeClaimStatus, Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::node::boot_time;
use crate::{
    manifest,
    network::Seen,
    pod::{Namespace, ObjectKind, ObjectName},
    state::Home,
    view::service_table,
};

/// Returns an object as JSON, with `apiVersion` and `kind`.
pub(super) fn to_value<T: Serialize + Resource>(object: &T) -> Value {
    // It is plain data: nothing of it can fail to be JSON.
    serde_json::to_value(object).unwrap_or_default()
}

/// Returns a pod with its defaults.
pub(super) fn complete_pod(mut pod: Pod) -> Value {
    manifest::complete_pod(&mut pod);
    let generation = *pod.metadata.generation.get_or_insert(1);
    let status = pod.status.get_or_insert_default();
    status.phase.get_or_insert_with(|| "Pending".into());
    status.observed_generation.get_or_insert(generation);
    let statuses = [
        &mut status.init_container_statuses,
        &mut status.container_statuses,
        &mut status.ephemeral_container_statuses,
    ];
    for container in statuses.into_iter().flatten().flatten() {
        container.last_state.get_or_insert_default();
    }
    finish_object(ObjectKind::Pod, to_value(&pod))
}

/// Returns a claim with the status that its volume has: it is bound.
pub(super) fn complete_claim(mut claim: PersistentVolumeClaim) -> Value {
    manifest::complete_claim(&mut claim);
    let spec = claim.spec.get_or_insert_default();
    claim.status = Some(PersistentVolumeClaimStatus {
        access_modes: spec.access_modes.clone(),
        capacity: spec.resources.as_ref().and_then(|r| r.requests.clone()),
        phase: Some("Bound".into()),
        ..PersistentVolumeClaimStatus::default()
    });
    finish_object(ObjectKind::PersistentVolumeClaim, to_value(&claim))
}

/// Returns a Service with its defaults; a load balancer's address is this machine's.
pub(super) fn complete_service(mut seen: Seen, host: Option<&str>) -> Value {
    manifest::complete_service(&mut seen.service);
    finish_object(ObjectKind::Service, service_table::object(&seen, host))
}

/// Returns an Event with what clients look for.
pub(super) fn complete_event(mut event: Event) -> Value {
    event.involved_object.api_version.get_or_insert_with(|| "v1".into());
    let component = event.source.as_ref().and_then(|source| source.component.clone());
    let unnamed = |name: &Option<String>| name.as_deref().is_none_or(str::is_empty);
    if unnamed(&event.reporting_component) {
        event.reporting_component = Some(component.unwrap_or_else(|| "podctl".into()));
    }
    event.reporting_instance.get_or_insert_default();
    finish_object(ObjectKind::Event, to_value(&event))
}

/// Returns the Namespace object of a namespace, which is kept when somebody has given it labels, and else made of its
/// directory.
pub(super) fn describe_namespace(home: &Home, namespace: &Namespace) -> Value {
    let name = ObjectName::parse(namespace.as_str()).ok();
    // A damaged one is as good as none: the namespace is there all the same.
    let kept = name.and_then(|name| home.object::<NamespaceObject>(namespace, &name).ok().flatten());
    let mut object = complete_namespace(kept.unwrap_or_default(), namespace);
    if object["metadata"]["creationTimestamp"].is_null() {
        object["metadata"]["creationTimestamp"] = json!(read_age(home, namespace).ok().map(Time));
    }
    finish_object(ObjectKind::Namespace, object)
}

/// Returns a Namespace object as it is to be kept or shown, without what is found on disk.
pub(super) fn complete_namespace(mut object: NamespaceObject, namespace: &Namespace) -> Value {
    object.metadata.name = Some(namespace.to_string());
    // It lies in a namespace on disk only.
    object.metadata.namespace = None;
    let labels = object.metadata.labels.get_or_insert_default();
    labels.insert("kubernetes.io/metadata.name".into(), namespace.to_string());
    let mut value = to_value(&object);
    value["spec"] = json!({"finalizers": ["kubernetes"]});
    value["status"] = json!({"phase": "Active"});
    value
}

/// Tells when the directory of a namespace, or podctl's own, was made.
fn read_age(home: &Home, namespace: &Namespace) -> io::Result<Timestamp> {
    let meta = fs::metadata(home.namespace_dir(namespace)).or_else(|_| fs::metadata(&home.data))?;
    let made = meta.created().or_else(|_| meta.modified())?;
    Timestamp::try_from(made).map_err(io::Error::other)
}

/// The account that every pod of a namespace runs as; it has no tokens.
pub(super) fn default_account(namespace: &Namespace) -> Value {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": namespace}});
    finish_object(ObjectKind::ServiceAccount, account)
}

/// Gives an object what every one has: a uid and an age where nobody gave it one, and the version of all this.
pub(super) fn finish_object(kind: ObjectKind, mut object: Value) -> Value {
    if !object["metadata"]["uid"].is_string() {
        object["metadata"]["uid"] = derive_uid(kind, &object).into();
    }
    if object["metadata"]["creationTimestamp"].is_null() {
        object["metadata"]["creationTimestamp"] = boot_time().into();
    }
    object["metadata"]["resourceVersion"] = object_version(&object).into();
    object
}

/// Returns the version of an object as it is: the same for the same content, another for another. It says nothing of which
/// came first; a server has revisions of its own for that.
pub(crate) fn object_version(object: &Value) -> String {
    let mut plain = object.clone();
    if let Some(meta) = plain["metadata"].as_object_mut() {
        meta.remove("resourceVersion");
    }
    // Clients read it as a number without a sign.
    (hash_text(plain.to_string().as_bytes(), FIRST_SEED) >> 1).to_string()
}

/// Returns the uid of an object that nobody gave one: the same whenever it is asked for, another after it was made anew.
fn derive_uid(kind: ObjectKind, object: &Value) -> String {
    let meta = &object["metadata"];
    let text =
        format!("{} {} {} {}", kind.name(), meta["namespace"], meta["name"], meta["creationTimestamp"]);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&hash_text(text.as_bytes(), FIRST_SEED).to_be_bytes());
    bytes[8..].copy_from_slice(&hash_text(text.as_bytes(), SECOND_SEED).to_be_bytes());
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Two beginnings of a hash.
const FIRST_SEED: u64 = 0xcbf2_9ce4_8422_2325;
const SECOND_SEED: u64 = 0x9ae1_6a3b_2f90_404f;

/// FNV-1a: what it makes has to differ, not to be secret.
fn hash_text(text: &[u8], seed: u64) -> u64 {
    text.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_what_clients_in_go_take_for_granted_and_keeps_what_it_had() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}});
        let pod = complete_pod(serde_json::from_value(pod).unwrap());
        assert_eq!(pod["spec"]["securityContext"], json!({}));
        assert_eq!(
            (&pod["spec"]["restartPolicy"], &pod["status"]["phase"]),
            (&"Never".into(), &"Pending".into())
        );
        assert_eq!(pod["spec"]["containers"][0]["resources"], json!({}));
        assert!(pod["spec"].get("initContainers").is_none());
        assert!(pod["status"].get("containerStatuses").is_none());
        assert_eq!(
            (&pod["metadata"]["generation"], &pod["status"]["observedGeneration"]),
            (&1.into(), &1.into())
        );
    }

    #[test]
    fn a_uid_is_the_same_until_the_object_is_made_anew() {
        let object = |time: &str| json!({"metadata": {"name": "a", "creationTimestamp": time}});
        let uid = |kind, time| derive_uid(kind, &object(time));
        assert_eq!(uid(ObjectKind::Secret, "1"), uid(ObjectKind::Secret, "1"));
        assert_ne!(uid(ObjectKind::Secret, "1"), uid(ObjectKind::Secret, "2"));
        assert_ne!(uid(ObjectKind::Secret, "1"), uid(ObjectKind::ConfigMap, "1"));
    }

    #[test]
    fn a_version_is_of_the_content() {
        let object = |value: &str| {
            finish_object(ObjectKind::Secret, json!({"metadata": {"name": "a"}, "data": value}))
        };
        assert_eq!(object("1"), object("1"));
        assert_eq!(object_version(&object("1")), object("1")["metadata"]["resourceVersion"]);
        assert_ne!(object_version(&object("1")), object_version(&object("2")));
    }
}
