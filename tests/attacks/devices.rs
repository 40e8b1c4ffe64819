//! Devices of the machine, opened from a container: by a node that it makes, finds in its image, or is handed in a volume.
//! The device is a loop device over a file that says who has read and written it.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    process::Command,
};

use crate::{
    common::{Home, stdout},
    kit::{Attack, is_root},
};

const MARKER: &str = "MARKER-OF-THE-HOST";
const WRITTEN: &str = "WRITTEN-BY-A-CONTAINER";

/// A block device of the machine's.
struct Disk {
    file: std::path::PathBuf,
    device: String,
    numbers: String,
}

impl Disk {
    /// Makes one; none where that is not possible, as for ordinary users, who have other walls.
    fn new(home: &Home) -> Option<Disk> {
        let file = home.path("disk");
        let text = fs::File::create(&file).unwrap();
        text.set_len(1 << 20).unwrap();
        text.write_all_at(MARKER.as_bytes(), 0).unwrap();
        let made = Command::new("losetup").args(["-f", "--show"]).arg(&file).output().ok()?;
        let device = stdout(&made).trim().to_owned();
        if !made.status.success() || device.is_empty() {
            eprintln!("not tried: this machine gives no loop device");
            return None;
        }
        let number = fs::metadata(&device).unwrap().rdev();
        let numbers = format!("{} {}", libc::major(number), libc::minor(number));
        Some(Disk { file, device, numbers })
    }

    /// Reads the node and writes to it, wherever it is.
    fn touch(&self, node: &str) -> String {
        format!("head -c 18 {node}; printf {WRITTEN} | dd of={node} bs=512 seek=1; true; ")
    }

    /// Tells whether a container has read or written it.
    fn is_touched(&self, said: &str) -> bool {
        Command::new("blockdev").args(["--flushbufs", &self.device]).status().unwrap();
        let text = fs::read(&self.file).unwrap();
        said.contains(MARKER) || String::from_utf8_lossy(&text).contains(WRITTEN)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
    }
}

const VOLUMES: &str = "  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
";
const MOUNTS: &str = "    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: memory, mountPath: /memory}
";

#[test]
fn a_node_that_a_container_makes_opens_no_device() {
    let home = Home::new();
    let Some(disk) = Disk::new(&home) else { return };
    let places = ["/tmp/node", "/dev/node", "/dev/shm/node", "/disk/node", "/memory/node", "/run/node"];
    let script: String = places
        .iter()
        .map(|node| {
            format!(
                "mkdir -p {}; mknod {node} b {}; {}",
                node.rsplit_once('/').unwrap().0,
                disk.numbers,
                disk.touch(node)
            )
        })
        .collect();
    for context in [
        "{}",
        "{capabilities: {drop: [ALL], add: [MKNOD, DAC_OVERRIDE]}}",
        "{capabilities: {add: [ALL]}}",
        "{seccompProfile: {type: Unconfined}}",
    ] {
        let container = format!("{MOUNTS}    securityContext: {context}\n");
        let said = Attack { pod: VOLUMES, container: &container, script: &script, ..Attack::default() }
            .outcome(&home);
        assert!(!disk.is_touched(&said), "{context}: {said}");
        assert!(said.contains("has succeeded"), "{context}: {said}");
    }
    let contained = format!("  hostUsers: false\n{VOLUMES}");
    let said =
        Attack { pod: &contained, container: MOUNTS, script: &script, ..Attack::default() }.outcome(&home);
    assert!(!disk.is_touched(&said), "hostUsers: false: {said}");
    if is_root() {
        // The control: a privileged container is meant to.
        let container = format!("{MOUNTS}    securityContext: {{privileged: true}}\n");
        let said = Attack { pod: VOLUMES, container: &container, script: &script, ..Attack::default() }
            .outcome(&home);
        assert!(disk.is_touched(&said), "{said}");
    }
}

#[test]
fn memory_of_the_kernel_is_not_opened_either() {
    let home = Home::new();
    let script = "for n in 1 2 4 11; do mknod /dev/m$n c 1 $n && head -c 1 /dev/m$n && echo opened; done; mknod /dev/z c 1 5; head -c 1 /dev/z >/dev/null && echo zero; head -c 1 /dev/zero | wc -c; echo over";
    let said = Attack { script, ..Attack::default() }.outcome(&home);
    assert!(!said.contains("opened"), "{said}");
    // The control: what every container may open can be opened, through a node of its own as well where it can make one.
    assert!(said.contains("over") && said.contains("| 1\n"), "{said}");
    assert_eq!(said.contains("| zero"), is_root(), "{said}");
}

#[test]
fn a_node_of_the_image_opens_no_device() {
    let home = Home::new();
    if !is_root() {
        return eprintln!(
            "not tried: an ordinary user cannot make such an image here; its nodes would be left out"
        );
    }
    let Some(disk) = Disk::new(&home) else { return };
    let prepare =
        format!("mknod -m 666 blk b {}; mkdir -p opt; mknod -m 666 opt/blk b {}", disk.numbers, disk.numbers);
    home.load_image("example.com/nodes:1", "", &prepare);
    let script = format!("{}{}", disk.touch("/blk"), disk.touch("/opt/blk"));
    let restricted = "    securityContext: {runAsUser: 1000, runAsNonRoot: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}\n";
    let attack = |pod: &str, container: &str| {
        Attack { image: "example.com/nodes:1", pod, container, script: &script }.outcome(&home)
    };
    for (pod, container) in
        [("", ""), ("", restricted), ("  hostUsers: false\n", ""), ("  hostUsers: false\n", restricted)]
    {
        let said = attack(pod, container);
        assert!(!disk.is_touched(&said), "{pod}{container}: {said}");
        assert!(said.contains("| head: /blk: "), "it was tried: {said}");
    }
    let volume =
        "  volumes:\n  - {name: i, image: {reference: \"example.com/nodes:1\", pullPolicy: Never}}\n";
    let mount = "    volumeMounts:\n    - {name: i, mountPath: /i}\n";
    let script = disk.touch("/i/blk");
    let said = Attack { pod: volume, container: mount, script: &script, ..Attack::default() }.outcome(&home);
    assert!(!disk.is_touched(&said) && said.contains("| head: /i/blk: "), "{said}");
    let said = attack("", "    securityContext: {privileged: true}\n");
    assert!(disk.is_touched(&said), "the control: {said}");
}

#[test]
fn a_node_in_a_volume_opens_a_device_only_when_the_volume_says_that_it_is_one() {
    let home = Home::new();
    if !is_root() {
        return eprintln!("not tried: an ordinary user makes no nodes");
    }
    let Some(disk) = Disk::new(&home) else { return };
    let dir = home.path("shared");
    fs::create_dir(&dir).unwrap();
    let node = dir.join("node");
    let words: Vec<&str> = disk.numbers.split(' ').collect();
    let made = Command::new("mknod").args(["-m", "666"]).arg(&node).arg("b").args(words).status().unwrap();
    assert!(made.success());
    let volume = |path: &std::path::Path, kind: &str| {
        format!("  volumes:\n  - {{name: v, hostPath: {{path: {}, type: {kind:?}}}}}\n", path.display())
    };
    let mount = |more: &str| format!("    volumeMounts:\n    - {{name: v, mountPath: /v{more}}}\n");
    let (within, whole) = (disk.touch("/v/node"), disk.touch("/v"));
    let attack = |pod: &str, container: &str, script: &str| {
        Attack { pod, container, script, ..Attack::default() }.outcome(&home)
    };
    for hidden in ["", "  hostUsers: false\n"] {
        let pod = format!("{hidden}{}", volume(&dir, "Directory"));
        let said = attack(&pod, &mount(""), &within);
        assert!(!disk.is_touched(&said), "a directory with a node in it: {said}");
        let said = attack(&pod, &mount(", subPath: node"), &whole);
        assert!(!disk.is_touched(&said), "the node by subPath: {said}");
    }
    let said = attack(&volume(&node, ""), &mount(""), &whole);
    assert!(!disk.is_touched(&said), "a device that does not say so: {said}");
    assert!(said.contains("CharDevice or BlockDevice"), "and the user is told: {said}");
    // Read-only: what is read is the container's, what is written is not.
    let said = attack(&volume(&node, "BlockDevice"), &mount(", readOnly: true"), &whole);
    assert!(said.contains(MARKER) && !disk.is_touched(""), "{said}");
    // The control.
    let said = attack(&volume(&node, "BlockDevice"), &mount(""), &whole);
    assert!(said.contains(MARKER) && disk.is_touched(""), "{said}");
}

#[test]
fn without_any_cgroup_containers_make_no_nodes() {
    let home = Home::new();
    if !is_root() {
        return eprintln!("not tried: an ordinary user makes no nodes");
    }
    let Some(disk) = Disk::new(&home) else { return };
    let script =
        format!("mknod /dev/node b {}; {}cat /dev/null && echo null", disk.numbers, disk.touch("/dev/node"));
    let file = home.file("pod.yaml", &Attack { script: &script, ..Attack::default() }.manifest());
    let hide = "mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"";
    let podctl = home.command(&["run", "--network", "none", "--replace", &file]);
    let mut hidden = Command::new("unshare");
    hidden.args(["-m", "sh", "-c", hide, "sh"]).arg(podctl.get_program()).args(podctl.get_args());
    hidden.envs(podctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = hidden.output().unwrap();
    let said = stdout(&output) + &crate::common::stderr(&output);
    assert!(!disk.is_touched(&said) && said.contains("| null"), "{said}");
    assert!(said.contains("no cgroup keeps devices away"), "{said}");
}
