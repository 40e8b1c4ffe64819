//! Something of the attacker's in the place of the kernel's proc (CVE-2019-16884, CVE-2023-27561, CVE-2025-52881): then masks
//! hide nothing, and labels are written into the attacker's file.

use crate::{common::Home, kit::Attack};

const VOLUME: &str = "  volumes:\n  - {name: v, emptyDir: {}}\n";

fn mounted_at(home: &Home, image: &str, path: &str) -> String {
    let container = format!("    volumeMounts:\n    - {{name: v, mountPath: {path:?}}}\n");
    let script = "echo ran; grep -c . /proc/self/status";
    Attack { image, pod: VOLUME, container: &container, script }.outcome(home)
}

#[test]
fn no_volume_lies_over_proc_or_in_it() {
    let home = Home::new();
    for path in [
        "/proc",
        "/proc/",
        "/proc/1",
        "/proc/self",
        "/proc/self/attr",
        "/proc/sys",
        "/proc/sys/kernel",
        "/proc/./sys",
    ] {
        let said = mounted_at(&home, "busybox:1.36", path);
        assert!(!said.contains("| ran") && said.contains("/proc"), "{path}: {said}");
        assert!(said.contains("CreateContainer"), "{path}: {said}");
    }
    // The control.
    assert!(mounted_at(&home, "busybox:1.36", "/process").contains("| ran"));
}

#[test]
fn no_link_of_an_image_leads_a_volume_into_proc() {
    let home = Home::new();
    let links = "mkdir -p proc sub; ln -s /proc/self/attr attr; ln -s proc/sys/kernel relative; ln -s ../proc sub/up; ln -s /proc/1/../sys around";
    home.load_image("example.com/links:1", "", links);
    for path in ["/attr", "/relative", "/sub/up/sys", "/sub/up", "/around"] {
        let said = mounted_at(&home, "example.com/links:1", path);
        assert!(!said.contains("| ran") && said.contains("/proc"), "{path}: {said}");
    }
    assert!(mounted_at(&home, "example.com/links:1", "/sub/own").contains("| ran"), "the control");
}

#[test]
fn a_file_that_lxcfs_covers_may_be_covered() {
    let home = Home::new();
    let memory = home.file("meminfo", "MemTotal: 7 kB\n");
    let pod = format!("  volumes:\n  - {{name: v, hostPath: {{path: {memory}, type: File}}}}\n");
    let container = "    volumeMounts:\n    - {name: v, mountPath: /proc/meminfo}\n";
    let said =
        Attack { pod: &pod, container, script: "cat /proc/meminfo", ..Attack::default() }.outcome(&home);
    assert!(said.contains("| MemTotal: 7 kB"), "{said}");
}

#[test]
fn what_tells_of_other_programs_cannot_be_read() {
    let home = Home::new();
    let paths = [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/interrupts",
        "/proc/sched_debug",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
        "/sys/devices/system/cpu/cpu0/thermal_throttle",
    ];
    let script: String = paths
        .iter()
        .map(|path| {
            format!("echo {path}: $(ls -A {path} 2>/dev/null | wc -l) $(cat {path} 2>/dev/null | wc -c); ")
        })
        .collect();
    let said = Attack { script: &script, ..Attack::default() }.outcome(&home);
    for path in paths {
        let hidden = said.contains(&format!("{path}: 1 0")) || said.contains(&format!("{path}: 0 0"));
        assert!(hidden, "{path}: {said}");
    }
    // The control: unmasked, what this machine has of them can be seen.
    let pod = "  hostUsers: false\n";
    let container = "    securityContext: {procMount: Unmasked}\n";
    let said =
        Attack { pod, container, script: "wc -c </proc/interrupts", ..Attack::default() }.outcome(&home);
    assert!(!said.contains("| 0\n"), "{said}");
}
