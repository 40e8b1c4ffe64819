//! The one node, which is this machine: what it has, how it is, what its pods use.

use std::{fs, sync::OnceLock, thread, time::Duration};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::status::Failure;
use crate::engine::Engine;

/// Pods that a kubelet takes at most, by default.
const MOST_PODS: &str = "110";
/// The time for which CPU time is watched for a rate.
const SAMPLE: Duration = Duration::from_millis(500);

/// The Node.
pub fn describe_node(engine: &Engine) -> Value {
    let name = node_name();
    let memory = format!("{}Ki", memory_kib("MemTotal"));
    let cpus = thread::available_parallelism().map_or(1, usize::from).to_string();
    let capacity = json!({"cpu": cpus, "memory": memory, "pods": MOST_PODS});
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": start_time()})
    };
    let mut addresses = vec![json!({"type": "Hostname", "address": name})];
    addresses.extend(engine.host_address().map(|ip| json!({"type": "InternalIP", "address": ip})));
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    json!({
        "metadata": {
            "name": name,
            "creationTimestamp": start_time(),
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": architecture,
            },
            "annotations": {},
        },
        "spec": {},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [
                condition("MemoryPressure", "False", "PodctlHasSufficientMemory", "podctl has sufficient memory available"),
                condition("DiskPressure", "False", "PodctlHasNoDiskPressure", "podctl has no disk pressure"),
                condition("PIDPressure", "False", "PodctlHasSufficientPID", "podctl has sufficient PID available"),
                condition("Ready", "True", "PodctlReady", "podctl starts pods when it is asked to"),
            ],
            "addresses": addresses,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
            "nodeInfo": {
                "machineID": read("/etc/machine-id"),
                "systemUUID": "",
                "bootID": read("/proc/sys/kernel/random/boot_id"),
                "kernelVersion": read("/proc/sys/kernel/osrelease"),
                "osImage": os_name(),
                "containerRuntimeVersion": concat!("podctl://", env!("CARGO_PKG_VERSION")),
                "kubeletVersion": format!("v1.37.0+podctl.{}", env!("CARGO_PKG_VERSION")),
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": architecture,
            },
        },
    })
}

/// Returns what each living pod uses, measured over half a second.
///
/// # Errors
/// What the engine says.
pub fn measure_pods(engine: &Engine, namespace: Option<&str>) -> Result<Vec<Value>, Failure> {
    let failed = |e: crate::engine::Error| Failure::internal(e.to_string());
    let pods: Vec<_> = engine.pods(namespace).map_err(failed)?.into_iter().filter(|p| p.is_alive()).collect();
    // A pod that ends meanwhile uses nothing.
    let sample = || pods.iter().map(|pod| pod.usage().unwrap_or_default()).collect::<Vec<_>>();
    let before = sample();
    thread::sleep(SAMPLE);
    let mut all = Vec::new();
    for ((pod, before), after) in pods.iter().zip(before).zip(sample()) {
        let containers: Vec<Value> = after
            .iter()
            .map(|now| {
                let then = before.iter().find(|b| b.container == now.container).map_or(0, |b| b.cpu);
                let nanos = now.cpu.saturating_sub(then) * 1_000_000 / SAMPLE.as_millis() as u64;
                json!({"name": now.container,
                    "usage": {"cpu": format!("{nanos}n"), "memory": format!("{}Ki", now.memory >> 10)}})
            })
            .collect();
        all.push(json!({
            "metadata": {"name": pod.name(), "namespace": pod.namespace(), "creationTimestamp": format!("{:.0}", Timestamp::now())},
            "timestamp": format!("{:.0}", Timestamp::now()),
            "window": "500ms",
            "containers": containers,
        }));
    }
    Ok(all)
}

/// Returns what the machine uses.
pub fn measure_node() -> Value {
    let before = busy_ticks();
    thread::sleep(SAMPLE);
    let ticks = busy_ticks().saturating_sub(before);
    // A tick is a hundredth of a second.
    let nanos = ticks * 10_000_000 * 1000 / SAMPLE.as_millis() as u64;
    let used = memory_kib("MemTotal").saturating_sub(memory_kib("MemAvailable"));
    json!({
        "metadata": {"name": node_name(), "creationTimestamp": format!("{:.0}", Timestamp::now())},
        "timestamp": format!("{:.0}", Timestamp::now()),
        "window": "500ms",
        "usage": {"cpu": format!("{nanos}n"), "memory": format!("{used}Ki")},
    })
}

/// The host's name, which pods have as their node's.
pub fn node_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// Tells when this machine started: what is always there is as old.
pub fn start_time() -> String {
    static START: OnceLock<String> = OnceLock::new();
    let read = || {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        format!("{:.0}", time.unwrap_or_else(Timestamp::now))
    };
    START.get_or_init(read).clone()
}

fn os_name() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".into(), |name| name.trim_matches('"').to_owned())
}

fn memory_kib(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// User, nice and system time of all processors.
fn busy_ticks() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut numbers = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    (0..3).filter_map(|_| numbers.next()?.parse::<u64>().ok()).sum()
}
