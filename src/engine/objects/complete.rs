//! Objects as an API server would give them: whole, and with every default.

use std::fs;

use k8s_openapi::{
    Resource,
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimStatus, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{pod::Namespace, state::Home};

/// Returns an object as JSON, with `apiVersion` and `kind`.
pub(super) fn to_value<T: Serialize + Resource>(object: &T) -> Value {
    // It is plain data: nothing of it can fail to be JSON.
    serde_json::to_value(object).unwrap_or_default()
}

/// Fills in what pods have on a cluster and clients rely on.
pub(super) fn complete_pod(pod: Pod) -> Value {
    let mut value = to_value(&pod);
    let defaults = json!({
        "metadata": {"generation": 1},
        "spec": {
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "preemptionPolicy": "PreemptLowerPriority",
            "priority": 0,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "serviceAccountName": "default",
            "terminationGracePeriodSeconds": 30,
        },
        "status": {"phase": "Pending"},
    });
    fill_in(&mut value, &defaults);
    if value["status"].get("observedGeneration").is_none() {
        value["status"]["observedGeneration"] = value["metadata"]["generation"].clone();
    }
    for list in ["initContainers", "containers"] {
        for container in value["spec"][list].as_array_mut().into_iter().flatten() {
            fill_in(container, &json!({"resources": {}}));
        }
    }
    value
}

/// Gives a claim the status that its volume has: it is bound.
pub(super) fn complete_claim(mut claim: PersistentVolumeClaim) -> Value {
    let spec = claim.spec.get_or_insert_default();
    spec.volume_mode.get_or_insert_with(|| "Filesystem".into());
    spec.volume_name = spec.volume_name.take().or_else(|| claim.metadata.name.clone());
    claim.status = Some(PersistentVolumeClaimStatus {
        access_modes: spec.access_modes.clone(),
        capacity: spec.resources.as_ref().and_then(|r| r.requests.clone()),
        phase: Some("Bound".into()),
        ..PersistentVolumeClaimStatus::default()
    });
    to_value(&claim)
}

/// Fills in what Services have on a cluster.
pub(super) fn complete_service(mut service: Value) -> Value {
    let external = service["spec"]["type"] == "ExternalName";
    let address = service["spec"]["clusterIP"].clone();
    fill_in(&mut service, &json!({"spec": {"type": "ClusterIP", "sessionAffinity": "None"}}));
    if !external {
        let families = if address.as_str().is_some_and(|ip| ip.contains(':')) { "IPv6" } else { "IPv4" };
        let defaults = json!({"spec": {
            "internalTrafficPolicy": "Cluster", "ipFamilies": [families], "ipFamilyPolicy": "SingleStack"}});
        fill_in(&mut service, &defaults);
        if address.is_string() {
            fill_in(&mut service, &json!({"spec": {"clusterIPs": [address]}}));
        }
    }
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        let target = port["port"].clone();
        fill_in(port, &json!({"protocol": "TCP", "targetPort": target}));
    }
    service
}

/// The Namespace object of a namespace that something is in.
pub(super) fn namespace(home: &Home, namespace: &Namespace) -> Value {
    let made = fs::metadata(home.namespace_dir(namespace)).or_else(|_| fs::metadata(&home.data));
    let made = made.and_then(|meta| meta.created().or_else(|_| meta.modified())).ok();
    let made = made.and_then(|time| Timestamp::try_from(time).ok()).map(Time);
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": namespace, "labels": {"kubernetes.io/metadata.name": namespace}, "creationTimestamp": made,
            "uid": made_up_uid(&format!("namespace/{namespace}")),
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    })
}

/// This machine as a Node.
pub(super) fn node() -> Value {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = meminfo_kibibytes("MemTotal:").unwrap_or_default();
    let capacity = json!({"cpu": cpus.to_string(), "memory": format!("{memory}Ki"), "pods": "110"});
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "reason": reason, "message": message});
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let mut addresses = vec![json!({"type": "Hostname", "address": name})];
    addresses
        .extend(crate::engine::start::find_host_ip().map(|ip| json!({"type": "InternalIP", "address": ip})));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name, "uid": made_up_uid(&format!("node/{name}")),
            "labels": {
                "kubernetes.io/arch": architecture, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            },
        },
        "spec": {},
        "status": {
            "addresses": addresses,
            "allocatable": capacity,
            "capacity": capacity,
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "podctl starts pods here"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "podctl starts pods here"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "podctl starts pods here"),
                condition("Ready", "True", "KubeletReady", "podctl starts pods here"),
            ],
            "nodeInfo": {
                "architecture": architecture, "bootID": "", "machineID": "", "systemUUID": "",
                "containerRuntimeVersion": concat!("podctl://", env!("CARGO_PKG_VERSION")),
                "kernelVersion": release.trim(), "kubeProxyVersion": "",
                "kubeletVersion": concat!("v1.37.0+podctl.", env!("CARGO_PKG_VERSION")),
                "operatingSystem": "linux", "osImage": os.trim_matches('"'),
            },
        },
    })
}

fn meminfo_kibibytes(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A uid that is always the same for what nobody gave one.
fn made_up_uid(of: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("podctl/{of}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Fills in fields that are missing; objects field by field.
fn fill_in(value: &mut Value, defaults: &Value) {
    let Value::Object(defaults) = defaults else { return };
    if value.is_null() {
        *value = json!({});
    }
    for (name, default) in defaults {
        match value.get_mut(name) {
            None => value[name] = default.clone(),
            Some(known) if known.is_object() => fill_in(known, default),
            Some(_) => {}
        }
    }
}
