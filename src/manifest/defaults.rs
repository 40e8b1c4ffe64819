//! What the API server fills in.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Container, EmptyDirVolumeSource, HTTPGetAction, PersistentVolumeClaim, Pod, PodSpec, Probe, Service,
        Volume,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};

use crate::pod::{
    ContainerExt, DEFAULT_GRACE_PERIOD_SECONDS, default_pull_policy,
    quantity::{canonicalize_all, canonicalize_quantities, quantity_text},
    resources::{Amounts, container_limits, container_requests},
};

/// Longest prefix that is kept of a generateName.
const LONGEST_PREFIX: usize = 58;

/// Seconds for which a client keeps its endpoint where sessionAffinity asks for that.
const CLIENT_IP_SECONDS: i32 = 10_800;

/// Returns a name that nobody else has; no vowels in what is added, and no digits that read like letters.
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
    canonicalize_quantities(spec);
}

/// Fills in what an API server writes into every pod beside what it needs to run: clients take these fields for granted.
pub fn complete_pod(whole: &mut Pod) {
    let namespace = whole.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    pod(whole, &namespace);
    let spec = whole.spec.get_or_insert_default();
    let account = spec.service_account_name.take().filter(|name| !name.is_empty());
    let account = account.unwrap_or_else(|| "default".into());
    (spec.service_account, spec.service_account_name) = (Some(account.clone()), Some(account));
    set_text(&mut spec.scheduler_name, "default-scheduler");
    spec.enable_service_links.get_or_insert(true);
    set_text(&mut spec.preemption_policy, "PreemptLowerPriority");
    spec.priority.get_or_insert(0);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        container.resources.get_or_insert_default();
    }
    fill_in_unread(spec);
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        let image = container.image.as_deref().unwrap_or_default();
        let policy = default_pull_policy(image).to_owned();
        container.image_pull_policy.get_or_insert(policy);
        container.resources.get_or_insert_default();
        set_text(&mut container.termination_message_path, "/dev/termination-log");
        set_text(&mut container.termination_message_policy, "File");
    }
}

/// Returns a pod as an API server would show it, to be compared with another.
pub fn with_defaults(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    complete_pod(&mut pod);
    pod
}

/// Fills in what an API server writes into every Service.
pub fn complete_service(service: &mut Service) {
    let spec = service.spec.get_or_insert_default();
    set_text(&mut spec.type_, "ClusterIP");
    set_text(&mut spec.session_affinity, "None");
    let kind = spec.type_.clone().unwrap_or_default();
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        let config = spec.session_affinity_config.get_or_insert_default();
        config.client_ip.get_or_insert_default().timeout_seconds.get_or_insert(CLIENT_IP_SECONDS);
    }
    if kind != "ExternalName" {
        set_text(&mut spec.internal_traffic_policy, "Cluster");
        if let Some(address) = spec.cluster_ip.clone().filter(|address| !address.is_empty()) {
            spec.cluster_ips.get_or_insert_with(|| vec![address]);
        }
        let addresses = spec.cluster_ips.iter().flatten();
        let family = |ip: &String| if ip.contains(':') { "IPv6" } else { "IPv4" }.to_owned();
        let mut families: Vec<String> = addresses.map(family).collect();
        if families.is_empty() {
            families.push("IPv4".into());
        }
        let policy = if families.len() > 1 { "PreferDualStack" } else { "SingleStack" };
        spec.ip_families.get_or_insert(families);
        spec.ip_family_policy.get_or_insert_with(|| policy.into());
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        set_text(&mut spec.external_traffic_policy, "Cluster");
    }
    for port in spec.ports.iter_mut().flatten() {
        set_text(&mut port.protocol, "TCP");
        port.target_port.get_or_insert(IntOrString::Int(port.port));
    }
}

/// Fills in what an API server writes into every claim, and the name of the volume that it is bound to.
pub fn complete_claim(claim: &mut PersistentVolumeClaim) {
    let spec = claim.spec.get_or_insert_default();
    set_text(&mut spec.volume_mode, "Filesystem");
    set_text(&mut spec.storage_class_name, "local");
    spec.volume_name = spec.volume_name.take().or_else(|| claim.metadata.name.clone());
    if let Some(resources) = &mut spec.resources {
        canonicalize_all([&mut resources.limits, &mut resources.requests]);
    }
}

/// Fills in what the API server sets by default and nothing here reads.
fn fill_in_unread(spec: &mut PodSpec) {
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

/// Fills in what a pod with resources of its own asks for: what its containers do, else as much as it may use; and what
/// it may use, if it only asks: as much as its containers, when each has a limit.
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

    #[test]
    fn a_service_has_its_defaults() {
        let complete = |spec: serde_json::Value| {
            let mut service: Service = serde_json::from_value(json!({"spec": spec})).unwrap();
            complete_service(&mut service);
            serde_json::to_value(service.spec).unwrap()
        };
        let plain = complete(json!({"ports": [{"port": 80}], "clusterIP": "10.0.0.1"}));
        assert_eq!(plain["ports"][0], json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
        assert_eq!(plain["clusterIPs"], json!(["10.0.0.1"]));
        let both = complete(json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}));
        assert_eq!(both["ipFamilies"], json!(["IPv4", "IPv6"]));
        let external = complete(json!({"type": "ExternalName", "externalName": "example.com"}));
        assert!(external.get("clusterIP").is_none() && external.get("ports").is_none());
    }

    #[test]
    fn a_pod_has_all_that_an_api_server_would_have_written() {
        let mut pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "image": "busybox"}], "ephemeralContainers": [{"name": "e", "image": "busybox:1"}]}}))
        .unwrap();
        complete_pod(&mut pod);
        let spec = serde_json::to_value(pod.spec).unwrap();
        assert_eq!(spec["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(spec["ephemeralContainers"][0]["imagePullPolicy"], "IfNotPresent");
        assert_eq!(
            (&spec["schedulerName"], &spec["securityContext"]),
            (&json!("default-scheduler"), &json!({}))
        );
    }
}
