//! What a container gets when its spec is to be as Docker's and the kubelet's are. Sources: moby `oci/defaults.go`,
//! `oci/caps/defaults.go`; the OCI runtime spec, "Default Devices" and "Dev symbolic links".

use oci_spec::runtime::Capability;

/// Docker's default capabilities.
pub const CAPABILITIES: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// The AppArmor profile of a container that asks for none: used where the machine's owner has loaded it.
pub const APPARMOR_PROFILE: &str = "podctl-default";

/// Paths no container can read; `thermal_throttle` of each processor besides ([`masked_paths`]).
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths no container can read, on this machine: what its hardware does tells of other programs' work (CVE-2020-8694).
pub fn masked_paths() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let processors = entries.filter(|entry| {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("cpu"));
        number.is_some_and(|number| number.starts_with(|first: char| first.is_ascii_digit()))
    });
    let throttles =
        processors.map(|entry| entry.path().join("thermal_throttle")).filter(|path| path.exists());
    let throttles = throttles.map(|path| path.display().to_string());
    MASKED_PATHS.iter().map(|path| (*path).to_owned()).chain(throttles).collect()
}

/// Paths no container can write.
pub const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Character devices every container has: name below `/dev`, major, minor.
pub const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Symbolic links below `/dev`: name, target.
pub const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
