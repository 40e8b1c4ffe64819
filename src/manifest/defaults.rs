//! What the API server fills in.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, EmptyDirVolumeSource, HTTPGetAction, Pod, PodSpec, Probe, Volume},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::pod::{
    ContainerExt, DEFAULT_GRACE_PERIOD_SECONDS,
    quantity::quantity_text,
    resources::{Amounts, container_limits, container_requests},
};

/// Longest prefix that is kept of a generateName.
const LONGEST_PREFIX: usize = 58;

/// A name that nobody else has; no vowels in what is added, and no digits that read like letters.
pub fn generated_name(prefix: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let random = uuid::Uuid::new_v4();
    let suffix = random.as_bytes()[..5].iter().map(|b| ALPHABET[*b as usize % ALPHABET.len()] as char);
    prefix.chars().take(LONGEST_PREFIX).chain(suffix).collect()
}

/// Fills a pod's defaults in; the namespace `default` is the one that was asked for.
pub(super) fn pod(pod: &mut Pod, namespace: &str) {
    let own = &mut pod.metadata.namespace;
    if own.as_deref().is_none_or(|own| own == "default") {
        *own = Some(namespace.to_owned());
    }
    let Some(spec) = &mut pod.spec else { return };
    set_text(&mut spec.restart_policy, "Always");
    set_text(&mut spec.dns_policy, "ClusterFirst");
    // As the API server has it: a negative one, of whatever size, is a second.
    let grace = spec.termination_grace_period_seconds.get_or_insert(DEFAULT_GRACE_PERIOD_SECONDS);
    *grace = if *grace < 0 { 1 } else { *grace };
    spec.security_context.get_or_insert_default();
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        self::container(container);
    }
    resources(spec);
    for volume in spec.volumes.iter_mut().flatten() {
        // `emptyDir:` with nothing after it is no kind of volume at all, either.
        if *volume == (Volume { name: volume.name.clone(), ..Volume::default() }) {
            volume.empty_dir = Some(EmptyDirVolumeSource::default());
        }
        if let Some(v) = &mut volume.config_map {
            v.default_mode.get_or_insert(0o644);
        }
        if let Some(v) = &mut volume.secret {
            v.default_mode.get_or_insert(0o644);
        }
        if let Some(v) = &mut volume.downward_api {
            v.default_mode.get_or_insert(0o644);
        }
        if let Some(v) = &mut volume.projected {
            v.default_mode.get_or_insert(0o644);
            // What an API server adds to every pod comes along with a pod that it printed; there is
            // no kube-root-ca.crt here.
            if volume.name.starts_with("kube-api-access-") {
                let maps = v.sources.iter_mut().flatten().filter_map(|s| s.config_map.as_mut());
                maps.for_each(|map| map.optional = Some(true));
            }
        }
    }
}

/// Sets a text that is missing; to the API server an empty one is.
fn set_text(field: &mut Option<String>, default: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(default.to_owned());
    }
}

/// Sets a number that is missing; to the API server 0 is.
fn set_number(field: &mut Option<i32>, default: i32) {
    if field.is_none_or(|number| number == 0) {
        *field = Some(default);
    }
}

/// Fills in what a pod with resources of its own asks for: what its containers do, else as much as it may use; and what it
/// may use, if it only asks: as much as its containers, when each has a limit.
fn resources(spec: &mut PodSpec) {
    let (asked, allowed) = (container_requests(spec), container_limits(spec));
    let Some(resources) = &mut spec.resources else { return };
    let has = |list: &Option<BTreeMap<_, _>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let add = |list: &mut BTreeMap<String, Quantity>, amounts: Amounts| {
        for (name, text) in
            [("cpu", amounts.cpu.map(cpu_text)), ("memory", amounts.memory.map(quantity_text))]
        {
            if let Some(text) = text {
                list.entry(name.to_owned()).or_insert(Quantity(text));
            }
        }
    };
    if has(&resources.limits) {
        let requests = resources.requests.get_or_insert_default();
        add(requests, asked);
        for (name, limit) in resources.limits.iter().flatten() {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    } else if has(&resources.requests) {
        let mut limits = BTreeMap::new();
        add(&mut limits, allowed);
        resources.limits = Some(limits).filter(|limits| !limits.is_empty());
    }
}

fn cpu_text(milli: u64) -> String {
    if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") }
}

fn container(container: &mut Container) {
    container.image_pull_policy = Some(container.pull_policy().to_owned());
    set_text(&mut container.termination_message_path, "/dev/termination-log");
    set_text(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        set_text(&mut port.protocol, "TCP");
    }
    if let Some(resources) = &mut container.resources
        && let Some(limits) = &resources.limits
    {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
    let probes =
        [&mut container.startup_probe, &mut container.liveness_probe, &mut container.readiness_probe];
    for probe in probes.into_iter().flatten() {
        self::probe(probe);
        probe.http_get.iter_mut().for_each(fill_http_get);
    }
    let hooks = container.lifecycle.iter_mut().flat_map(|l| [&mut l.post_start, &mut l.pre_stop]);
    hooks.flatten().filter_map(|hook| hook.http_get.as_mut()).for_each(fill_http_get);
}

/// R-PROBE-1.
fn probe(probe: &mut Probe) {
    set_number(&mut probe.timeout_seconds, 1);
    set_number(&mut probe.period_seconds, 10);
    set_number(&mut probe.success_threshold, 1);
    set_number(&mut probe.failure_threshold, 3);
}

fn fill_http_get(get: &mut HTTPGetAction) {
    set_text(&mut get.path, "/");
    set_text(&mut get.scheme, "HTTP");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn defaulted(spec: serde_json::Value) -> serde_json::Value {
        let mut own: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        pod(&mut own, "default");
        serde_json::to_value(own.spec).unwrap()
    }

    #[test]
    fn an_empty_text_and_a_zero_are_as_good_as_missing() {
        let zeros = json!({"httpGet": {"port": 80, "path": "", "scheme": ""}, "timeoutSeconds": 0, "periodSeconds": 0,
            "successThreshold": 0, "failureThreshold": 0});
        let empty = json!({"name": "c", "image": "busybox:1.36", "imagePullPolicy": "", "terminationMessagePath": "",
            "terminationMessagePolicy": "", "ports": [{"containerPort": 80, "protocol": ""}], "readinessProbe": zeros});
        let bare = json!({"name": "c", "image": "busybox:1.36", "ports": [{"containerPort": 80}],
            "readinessProbe": {"httpGet": {"port": 80}}});
        let of = |container: serde_json::Value, policy| {
            defaulted(json!({"restartPolicy": policy, "dnsPolicy": policy, "containers": [container]}))
        };
        let full = of(bare, serde_json::Value::Null);
        assert_eq!(of(empty, json!("")), full);
        assert_eq!(full["containers"][0]["readinessProbe"]["periodSeconds"], 10);
        assert_eq!(full["containers"][0]["imagePullPolicy"], "IfNotPresent");
    }

    #[test]
    fn a_pods_own_resources_are_completed_from_its_containers() {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": 1, "memory": "64Mi"}}});
        let own = |resources| {
            let spec = defaulted(
                json!({"containers": [container.clone(), container.clone()], "resources": resources}),
            );
            spec["resources"].clone()
        };
        let asked = json!({"cpu": "200m", "memory": "128Mi"});
        let limited = own(json!({"limits": {"cpu": "3"}}));
        assert_eq!(limited, json!({"requests": asked, "limits": {"cpu": "3"}}));
        let asking = own(json!({"requests": {"cpu": "500m"}}));
        assert_eq!(asking, json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "2", "memory": "128Mi"}}));
    }
}
