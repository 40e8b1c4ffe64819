//! `hostUsers: false` (R-SEC-1). Root's pods get a user namespace and id-mapped mounts; an ordinary user's always have
//! one.

use std::{fs, os::unix::fs::MetadataExt, process::Command};

use crate::common::{Home, stderr, stdout, until};

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A pod named `p` of one container that runs a line of shell; `volumes` is mounted at `/v`.
fn pod(name: &str, script: &str, volume: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  hostUsers: false\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: a\n    image: busybox:1.36\n    command: [sh, -c, '{script}']\n    volumeMounts: [{{name: v, mountPath: /v}}]\n{more}  volumes: [{{name: v, {volume}}}]\n"
    )
}

/// Returns what the container wrote, without the prefix of its name.
fn said(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}{}", stdout(output), stderr(output));
    stdout(output).lines().map(|l| l.split_once("| ").map_or(l, |(_, t)| t).to_owned() + "\n").collect()
}

#[test]
fn r_sec_1_root_of_the_pod_is_nobody_on_the_machine_and_its_files_are_roots_in_it() {
    let home = Home::new();
    let script = "id -u; cat /proc/self/uid_map; stat -c %u:%g /bin/busybox; touch /tmp/f; stat -c %u /tmp/f";
    let words = said(&home.run(&pod("p", script, "emptyDir: {}", ""), &["--network", "none"]));
    let lines: Vec<&str> = words.lines().collect();
    let map: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!((lines[0], map[0]), ("0", "0"), "{words}");
    assert_ne!(map[1], "0", "{words}");
    assert_eq!(lines[lines.len() - 2..], ["0:0", "0"], "{words}");
    if root() {
        assert_eq!(map[2], "65536");
    }
}

#[test]
fn r_sec_1_volumes_have_the_pods_ids_inside_and_the_machines_outside() {
    let home = Home::new();
    let host = home.path("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("from-outside"), "").unwrap();
    let script = "stat -c %u /v/from-outside && touch /v/f && chown 12:34 /v/f && stat -c %u:%g /v/f";
    let volume = format!("hostPath: {{path: {}}}", host.display());
    let words = said(&home.run(&pod("p", script, &volume, ""), &["--network", "none"]));
    assert_eq!(words, "0\n12:34\n");
    if root() {
        let made = fs::metadata(host.join("f")).unwrap();
        assert_eq!((made.uid(), made.gid()), (12, 34));
    }
    let claim = "persistentVolumeClaim: {claimName: c}";
    let first = pod("q", "touch /v/f && chown 12 /v/f", claim, "");
    said(&home.run(&first, &["--network", "none"]));
    // A pod without a namespace of its own sees the same owner: what is on disk does not know of ids.
    let second = pod("r", "stat -c %u /v/f", claim, "").replace("  hostUsers: false\n", "");
    assert_eq!(said(&home.run(&second, &["--network", "none"])), "12\n");
}

#[test]
fn r_sec_1_no_two_living_pods_have_ids_in_common() {
    if !root() {
        return;
    }
    let home = Home::new();
    let base = |name: &str| {
        let text = pod(name, "sleep 1000", "emptyDir: {}", "");
        assert!(home.run(&text, &["-d", "--network", "none"]).status.success());
        let output = home.podctl(&["exec", name, "--", "cat", "/proc/self/uid_map"]);
        stdout(&output).split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    let (one, two) = (base("one"), base("two"));
    assert!(one.abs_diff(two) >= 65_536, "{one} {two}");
}

#[test]
fn r_sec_1_it_is_on_the_network_and_nothing_is_left_of_it() {
    let home = Home::new();
    let text = pod("p", "sleep 1000", "emptyDir: {medium: Memory}", "");
    let output = home.run(&text, &["-d"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = home.podctl(&["exec", "p", "--", "nslookup", "p"]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    let uid = home.pod("p")["metadata"]["uid"].as_str().unwrap().to_owned();
    assert!(home.podctl(&["delete", "p", "--now"]).status.success());
    let lent = Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("podctl-*{uid}")]).output();
    assert_eq!(stdout(&lent.unwrap()), "");
    until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
}

#[test]
fn r_res_1_its_limits_are_kept_where_those_of_others_are() {
    let home = Home::new();
    let limits = "    resources: {limits: {memory: 32Mi}}\n";
    let text = pod("p", "tail /dev/zero", "emptyDir: {}", limits);
    let output = home.run(&text, &["--network", "none", "--strict-limits"]);
    if stderr(&output).contains("limits are not enforced") {
        return eprintln!("skipped: {}", stderr(&output));
    }
    let state = &home.pod("p")["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(state["reason"], "OOMKilled", "{}", stderr(&output));
}

#[test]
fn r_sec_1_a_host_path_that_cannot_be_mapped_is_refused_with_its_volume() {
    if !root() {
        return;
    }
    let home = Home::new();
    let output = home.run(&pod("p", "true", "hostPath: {path: /proc}", ""), &["--network", "none"]);
    assert!(!output.status.success());
    let words = stderr(&output);
    assert!(words.contains("volume \"v\"") && words.contains("id-mapped mounts"), "{words}");
}

#[test]
fn a_host_path_of_a_wrong_type_leaves_the_pod_pending() {
    let home = Home::new();
    let volume = format!("hostPath: {{path: {}, type: File}}", home.path("").display());
    home.start(&pod("p", "true", &volume, ""), &["--network=none", "--wait=none"]);
    let why = || stdout(&home.podctl(&["events", "--for=pod/p"]));
    until("it says why", || why().contains("hostPath type check failed"));
    assert_eq!(home.pod("p")["status"]["phase"], "Pending");
}
