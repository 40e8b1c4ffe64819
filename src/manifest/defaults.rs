//! What the API server fills in.

use k8s_openapi::{
    api::core::v1::{Container, EmptyDirVolumeSource, Pod, PodSpec, Probe, Volume},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::pod::{ContainerExt, DEFAULT_GRACE_PERIOD_SECONDS, resources::container_requests};

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
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
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

/// Does what a pod with limits of its own asks for: what its containers do, else as much as it may use.
fn resources(spec: &mut PodSpec) {
    let of_containers = container_requests(spec);
    let Some(resources) = &mut spec.resources else { return };
    for (name, limit) in resources.limits.iter().flatten() {
        let asked = match name.as_str() {
            "cpu" => of_containers.cpu.map(|milli| Quantity(format!("{milli}m"))),
            "memory" => of_containers.memory.map(|bytes| Quantity(bytes.to_string())),
            _ => None,
        };
        let requests = resources.requests.get_or_insert_default();
        requests.entry(name.clone()).or_insert_with(|| asked.unwrap_or_else(|| limit.clone()));
    }
}

fn container(container: &mut Container) {
    container.image_pull_policy = Some(container.pull_policy().to_owned());
    container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
    container.termination_message_policy.get_or_insert_with(|| "File".into());
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".into());
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
    probes.into_iter().flatten().for_each(probe);
}

/// R-PROBE-1.
fn probe(probe: &mut Probe) {
    probe.timeout_seconds.get_or_insert(1);
    probe.period_seconds.get_or_insert(10);
    probe.success_threshold.get_or_insert(1);
    probe.failure_threshold.get_or_insert(3);
    if let Some(get) = &mut probe.http_get {
        get.path.get_or_insert_with(|| "/".into());
        get.scheme.get_or_insert_with(|| "HTTP".into());
    }
}
