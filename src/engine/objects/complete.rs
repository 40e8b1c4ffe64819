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

use crate::{
    pod::{Namespace, default_pull_policy},
    state::Home,
};

/// Returns an object as JSON, with `apiVersion` and `kind`.
pub(super) fn to_value<T: Serialize + Resource>(object: &T) -> Value {
    // It is plain data: nothing of it can fail to be JSON.
    serde_json::to_value(object).unwrap_or_default()
}

/// Fills in what pods have on a cluster and clients rely on.
pub(super) fn complete_pod(mut pod: Pod) -> Value {
    fill_in_unread(&mut pod);
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
        // An index would leave null behind where there is no such list.
        let all = value["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in all.into_iter().flatten() {
            fill_in(container, &json!({"resources": {}}));
        }
    }
    value
}

/// Fills in what the API server sets by default and nothing here reads.
fn fill_in_unread(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let on_host = spec.host_network == Some(true);
    let mut fields = Vec::new();
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        fields.extend(
            container.env.iter_mut().flatten().filter_map(|e| e.value_from.as_mut()?.field_ref.as_mut()),
        );
        for port in container.ports.iter_mut().flatten().filter(|_| on_host) {
            port.host_port = port.host_port.filter(|own| *own != 0).or(Some(port.container_port));
        }
    }
    for volume in spec.volumes.iter_mut().flatten() {
        if let Some(source) = &mut volume.host_path {
            source.type_.get_or_insert_default();
        }
        if let Some(source) = &mut volume.image {
            let policy = default_pull_policy(source.reference.as_deref().unwrap_or_default());
            source.pull_policy.get_or_insert_with(|| policy.to_owned());
        }
        if let Some(template) = volume.ephemeral.as_mut().and_then(|e| e.volume_claim_template.as_mut()) {
            template.spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
        }
        let mut items: Vec<_> =
            volume.downward_api.iter_mut().flat_map(|d| d.items.iter_mut().flatten()).collect();
        for part in volume.projected.iter_mut().flat_map(|p| p.sources.iter_mut().flatten()) {
            if let Some(token) = &mut part.service_account_token {
                token.expiration_seconds.get_or_insert(3600);
            }
            items.extend(part.downward_api.iter_mut().flat_map(|d| d.items.iter_mut().flatten()));
        }
        fields.extend(items.into_iter().filter_map(|item| item.field_ref.as_mut()));
    }
    for field in fields {
        field.api_version.get_or_insert_with(|| "v1".to_owned());
    }
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
    if service["spec"]["sessionAffinity"] == "ClientIP" {
        fill_in(
            &mut service,
            &json!({"spec": {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}}),
        );
    }
    if !external {
        let families = if address.as_str().is_some_and(|ip| ip.contains(':')) { "IPv6" } else { "IPv4" };
        let defaults = json!({"spec": {
            "internalTrafficPolicy": "Cluster", "ipFamilies": [families], "ipFamilyPolicy": "SingleStack"}});
        fill_in(&mut service, &defaults);
        if address.is_string() {
            fill_in(&mut service, &json!({"spec": {"clusterIPs": [address]}}));
        }
    }
    let ports = service["spec"].get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
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
            // To the API server an empty text is missing.
            Some(known) if known == "" => *known = default.clone(),
            Some(known) if known.is_object() => fill_in(known, default),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_shown_with_every_default_and_without_null() {
        let field = json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}});
        let container = json!({"name": "c", "env": [field], "ports": [{"containerPort": 80}]});
        let volumes =
            json!([{"name": "h", "hostPath": {"path": "/x"}}, {"name": "i", "image": {"reference": "a:1"}}]);
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container], "hostNetwork": true,
            "schedulerName": "", "volumes": volumes}});
        let shown = complete_pod(serde_json::from_value(pod).unwrap());
        assert!(!shown.to_string().contains("null"), "{shown:#}");
        let spec = &shown["spec"];
        assert_eq!(spec["schedulerName"], "default-scheduler");
        assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], 80);
        assert_eq!(spec["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
        assert_eq!(
            (&spec["volumes"][0]["hostPath"]["type"], &spec["volumes"][1]["image"]["pullPolicy"]),
            (&json!(""), &json!("IfNotPresent"))
        );
        let service = complete_service(json!({"spec": {"sessionAffinity": "ClientIP", "clusterIP": "None"}}));
        assert!(!service.to_string().contains("null"), "{service:#}");
        assert_eq!(service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10800);
    }
}
