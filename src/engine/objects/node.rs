//! The one Node, which is this machine: what it has, and how it is.

use std::{ffi::CString, fs, os::unix::ffi::OsStrExt, path::Path, sync::OnceLock, thread};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::complete::finish_object;
use crate::{engine::start::find_host_ip, pod::ObjectKind, state::Home};

/// Pods that a kubelet takes at most, by default.
const MOST_PODS: &str = "110";
/// Memory in KiB below which a kubelet says that there is too little, by default.
const LEAST_MEMORY_KIB: u64 = 100 * 1024;
/// Per cent of a file system's room, and of its inodes, below which a kubelet says that there is too little, by default.
const LEAST_ROOM: u64 = 10;
const LEAST_INODES: u64 = 5;
/// Seconds between two heartbeats of a kubelet whose node does not change.
const HEARTBEAT: i64 = 300;

/// Returns the Node.
pub(super) fn describe_node(home: &Home) -> Value {
    let name = node_name();
    let cpus = thread::available_parallelism().map_or(1, usize::from).to_string();
    let disk = measure_disk(&home.data);
    let mut capacity =
        json!({"cpu": cpus, "memory": format!("{}Ki", memory_kib("MemTotal")), "pods": MOST_PODS});
    if let Some(disk) = &disk {
        capacity["ephemeral-storage"] = format!("{}Ki", disk.size_kib).into();
    }
    for (size, bytes) in huge_pages() {
        capacity[format!("hugepages-{size}")] = bytes.into();
    }
    let mut addresses: Vec<Value> =
        find_host_ip().map(|ip| json!({"type": "InternalIP", "address": ip})).into_iter().collect();
    addresses.push(json!({"type": "Hostname", "address": name}));
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "creationTimestamp": boot_time(),
            "labels": {
                "kubernetes.io/arch": architecture,
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
            },
        },
        "spec": {},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": conditions(memory_kib("MemAvailable") < LEAST_MEMORY_KIB, disk.is_some_and(|d| d.is_short)),
            "addresses": addresses,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
            "nodeInfo": {
                "machineID": read("/etc/machine-id"),
                // Only root may read the first, and a kubelet takes the other where there is none.
                "systemUUID": Some(read("/sys/class/dmi/id/product_uuid")).filter(|id| !id.is_empty()).unwrap_or_else(|| read("/etc/machine-id")),
                "bootID": read("/proc/sys/kernel/random/boot_id"),
                "kernelVersion": read("/proc/sys/kernel/osrelease"),
                "osImage": os_name(),
                "containerRuntimeVersion": concat!("podctl://", env!("CARGO_PKG_VERSION")),
                "kubeletVersion": concat!("v1.37.0+podctl.", env!("CARGO_PKG_VERSION")),
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": architecture,
            },
        },
    });
    finish_object(ObjectKind::Node, node)
}

/// The conditions, in the kubelet's order and with its reasons.
fn conditions(short_of_memory: bool, short_of_disk: bool) -> Vec<Value> {
    let now = Timestamp::now().as_second();
    let heartbeat = Timestamp::from_second(now - now % HEARTBEAT).unwrap_or_default();
    let condition = |kind: &str, holds: bool, reasons: [&str; 2], message: &str| {
        json!({
            "type": kind,
            "status": if holds { "True" } else { "False" },
            "reason": reasons[usize::from(holds)],
            "message": message,
            "lastHeartbeatTime": format!("{heartbeat:.0}"),
            "lastTransitionTime": boot_time(),
        })
    };
    let memory = ["KubeletHasSufficientMemory", "KubeletHasInsufficientMemory"];
    let disk = ["KubeletHasNoDiskPressure", "KubeletHasDiskPressure"];
    let processes = ["KubeletHasSufficientPID", "KubeletHasInsufficientPID"];
    vec![
        condition("MemoryPressure", short_of_memory, memory, "memory that is available, by /proc/meminfo"),
        condition("DiskPressure", short_of_disk, disk, "room where podctl keeps images and pods"),
        condition("PIDPressure", false, processes, "a pod has a limit of its own"),
        condition(
            "Ready",
            true,
            ["KubeletNotReady", "KubeletReady"],
            "podctl starts pods when it is asked to",
        ),
    ]
}

/// The file system that images and pods lie on.
struct Disk {
    size_kib: u64,
    is_short: bool,
}

fn measure_disk(path: &Path) -> Option<Disk> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let stat = nix::sys::statvfs::statvfs(path.as_c_str()).ok()?;
    let (blocks, free) = (stat.blocks() as u64, stat.blocks_available() as u64);
    let (files, free_files) = (stat.files() as u64, stat.files_available() as u64);
    // Some file systems count no inodes.
    let is_short = free * 100 < blocks * LEAST_ROOM || files > 0 && free_files * 100 < files * LEAST_INODES;
    Some(Disk { size_kib: (blocks * stat.fragment_size() as u64) >> 10, is_short })
}

/// The huge pages that are set apart, as a node's capacity names them: `2Mi` and how much that is.
fn huge_pages() -> Vec<(String, String)> {
    let mut sizes: Vec<(u64, u64)> = Vec::new();
    for entry in fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let kib =
            name.to_str().and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok());
        let pages =
            fs::read_to_string(entry.path().join("nr_hugepages")).ok().and_then(|n| n.trim().parse().ok());
        sizes.extend(kib.zip(pages));
    }
    sizes.sort_unstable();
    let in_words = |kib: u64| match kib {
        kib if kib > 0 && kib % (1 << 20) == 0 => format!("{}Gi", kib >> 20),
        kib if kib > 0 && kib % (1 << 10) == 0 => format!("{}Mi", kib >> 10),
        0 => "0".into(),
        kib => format!("{kib}Ki"),
    };
    sizes.into_iter().map(|(kib, pages)| (in_words(kib), in_words(kib * pages))).collect()
}

/// The host's name, which pods have as their node's.
pub(crate) fn node_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// Tells when this machine started: what is always there is as old.
pub(super) fn boot_time() -> String {
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

/// Returns a number of /proc/meminfo, in KiB.
pub(crate) fn memory_kib(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_what_it_is_short_of() {
        let words = |memory, disk| -> Vec<String> {
            let all = conditions(memory, disk);
            all.iter()
                .map(|c| format!("{}={} {}", c["type"], c["status"], c["reason"]).replace('"', ""))
                .collect()
        };
        assert_eq!(words(false, false)[0], "MemoryPressure=False KubeletHasSufficientMemory");
        assert_eq!(words(true, true)[1], "DiskPressure=True KubeletHasDiskPressure");
        assert_eq!(words(true, true)[3], "Ready=True KubeletReady");
    }
}
