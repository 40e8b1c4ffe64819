//! Who containers are and what they may (R-SEC-1), on real containers.

use crate::common::{Home, stderr, stdout, until};

/// Runs a pod of one busybox container; gives its output. `pod` and `container` are further lines of either.
fn said(home: &Home, pod: &str, container: &str, script: &str) -> String {
    let output = home.run(&manifest(pod, container, script), &["--network", "none", "--replace"]);
    stdout(&output) + &stderr(&output)
}

/// Tells why the container of such a pod is not started.
fn refusal(home: &Home, pod: &str, container: &str) -> String {
    let flags = ["--network", "none", "--replace", "-d", "--wait", "none"];
    let output = home.run(&manifest(pod, container, "true"), &flags);
    assert!(output.status.success(), "{}", stderr(&output));
    let waiting = || home.pod("p")["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    until("the container is refused", || waiting()["reason"] == "CreateContainerConfigError");
    waiting()["message"].as_str().unwrap_or_default().to_owned()
}

fn manifest(pod: &str, container: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n{pod}  containers:\n  - name: a\n    image: busybox:1.36\n    command: [sh, -c, '{script}']\n{container}"
    )
}

#[test]
fn r_sec_1_users_and_groups_are_those_of_the_manifest() {
    let home = Home::new();
    let pod = "  securityContext: {runAsUser: 1000, runAsGroup: 5, fsGroup: 7, supplementalGroups: [9]}\n";
    assert!(
        said(&home, pod, "", "id").contains("uid=1000 gid=5 groups=5,7,9"),
        "{}",
        said(&home, pod, "", "id")
    );
    let own = "    securityContext: {runAsUser: 12}\n";
    assert!(said(&home, pod, own, "id").contains("uid=12 gid=5"));
    let refused = refusal(&home, "  securityContext: {runAsNonRoot: true}\n", "");
    assert!(refused.contains("container has runAsNonRoot and image will run as root"), "{refused}");
}

#[test]
fn r_sec_1_capabilities_follow_add_drop_and_privileged() {
    let home = Home::new();
    let script = "grep CapEff /proc/self/status";
    let set = |context: &str| said(&home, "", &format!("    securityContext: {context}\n"), script);
    assert!(set("{}").contains("00000000a80425fb"), "{}", set("{}"));
    assert!(set("{capabilities: {drop: [ALL]}}").contains("0000000000000000"));
    let one = set("{capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}");
    assert!(one.contains("0000000000000400"), "{one}");
    // All that root has; in a user namespace all that there is.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let held = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap().trim();
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    let every = format!("{:016x}", (2u64 << last.trim().parse::<u32>().unwrap()) - 1);
    let own = if nix::unistd::geteuid().is_root() { held } else { &every };
    assert!(set("{privileged: true}").contains(own), "{} {own}", set("{privileged: true}"));
}

#[test]
fn r_sec_1_seccomp_masks_and_no_new_privs() {
    let home = Home::new();
    let script =
        "grep -E \"Seccomp:|NoNewPrivs\" /proc/self/status | tr -d \"\\t\\n\"; touch /x || echo read-only";
    let context = "    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true}\n";
    let default = said(&home, "", context, script);
    assert!(default.contains("NoNewPrivs:1Seccomp:2") && default.contains("read-only"), "{default}");
    let context = "    securityContext: {seccompProfile: {type: Unconfined}}\n";
    assert!(said(&home, "", context, script).contains("NoNewPrivs:0Seccomp:0"));
}

#[test]
fn r_sec_1_a_localhost_profile_is_read_from_the_users_directory() {
    let home = Home::new();
    let profiles = home.path("data/seccomp");
    std::fs::create_dir_all(&profiles).unwrap();
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(profiles.join("no-mkdir.json"), text).unwrap();
    let context = |name: &str| {
        format!("    securityContext: {{seccompProfile: {{type: Localhost, localhostProfile: {name}}}}}\n")
    };
    let out = said(&home, "", &context("no-mkdir.json"), "mkdir /x || echo refused");
    assert!(out.contains("refused"), "{out}");
    assert!(refusal(&home, "", &context("absent.json")).contains("absent.json"));
}

#[test]
fn r_sec_1_the_pods_seccomp_profile_is_every_containers() {
    let home = Home::new();
    let pod = "  securityContext: {seccompProfile: {type: Unconfined}}\n";
    let script = "grep Seccomp: /proc/self/status";
    assert!(said(&home, pod, "", script).contains("Seccomp:\t0"));
    let own = "    securityContext: {seccompProfile: {type: RuntimeDefault}}\n";
    assert!(said(&home, pod, own, script).contains("Seccomp:\t2"));
}

#[test]
fn a_shared_pid_namespace_has_a_first_process_that_shows_nothing() {
    let home = Home::new();
    let script = "cat /proc/1/cmdline | tr \"\\0\" \" \"; ls /proc/1/root/ /proc/1/fd/ | wc -l; test $$ != 1 && echo shared";
    let out = said(&home, "  shareProcessNamespace: true\n", "", script);
    assert!(out.contains("pause") && out.contains("shared"), "{out}");
    assert!(home.podctl(&["delete", "p"]).status.success());
    until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
}

#[test]
fn the_hosts_namespaces_are_joined_when_asked_for() {
    let home = Home::new();
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
    let ipc = std::fs::read_link("/proc/self/ns/ipc").unwrap().display().to_string();
    let out = said(
        &home,
        "  hostPID: true\n  hostIPC: true\n",
        "",
        "for n in pid ipc; do readlink /proc/self/ns/$n; done",
    );
    assert!(out.contains(&own) && out.contains(&ipc), "{out}");
}

#[test]
fn sysctls_are_the_pods() {
    let home = Home::new();
    let pod = "  securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: \"7\"}]}\n";
    let out = said(&home, pod, "", "echo port $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)");
    assert!(out.contains("port 7"), "{out}");
}

#[test]
fn r_sec_1_named_users_and_groups_of_the_image_are_looked_up_and_strict_leaves_its_groups_out() {
    let home = Home::new();
    let passwd = "root:x:0:0::/root:/bin/sh\\nweb:x:33:44::/var/www:/bin/sh\\n";
    home.load("example.com/web:1", "web", passwd, "logs:x:7:web\\n");
    let id = |pod: &str| {
        let text = manifest(pod, "", "id; echo $HOME").replace("busybox:1.36", "example.com/web:1");
        let output = home.run(&text, &["--network", "none", "--replace"]);
        stdout(&output) + &stderr(&output)
    };
    let pod =
        "  securityContext: {runAsNonRoot: true, supplementalGroups: [9], supplementalGroupsPolicy: Merge}\n";
    let merged = id(pod);
    assert!(merged.contains("uid=33(web) gid=44 groups=7(logs),9,44"), "{merged}");
    assert!(merged.contains("/var/www"), "{merged}");
    let strict = id(&pod.replace("Merge", "Strict"));
    assert!(strict.contains("uid=33(web) gid=44 groups=9,44"), "{strict}");
    let other = id("  securityContext: {runAsUser: 5, runAsGroup: 6}\n");
    assert!(other.contains("uid=5 gid=6 groups=6"), "{other}");
}

#[test]
fn r_sec_1_an_unmasked_proc_is_for_user_namespaces() {
    let home = Home::new();
    let script = "echo masks $(grep -c \" /proc/\" /proc/self/mountinfo)";
    assert!(!said(&home, "", "    securityContext: {procMount: Default}\n", script).contains("masks 0"));
    let unmasked = said(&home, "", "    securityContext: {procMount: Unmasked}\n", script);
    let words = if nix::unistd::geteuid().is_root() { "Unmasked wants a user namespace" } else { "masks 0" };
    assert!(unmasked.contains(words), "{unmasked}");
}

#[test]
fn r_sec_1_a_privileged_container_has_no_filter_nothing_masked_and_roots_has_the_devices() {
    let home = Home::new();
    let script = "grep Seccomp: /proc/self/status; grep -q \" /proc/\" /proc/self/mountinfo && echo masked; grep -q \" /sys rw\" /proc/self/mountinfo && echo writable; ls /dev/fuse /dev/loop-control /dev/kmsg 2>/dev/null | wc -l";
    let found = said(&home, "", "    securityContext: {privileged: true}\n", script);
    assert!(found.contains("Seccomp:\t0") && found.contains("writable"), "{found}");
    assert!(!found.contains("a | masked"), "{found}");
    let root = nix::unistd::geteuid().is_root();
    assert!(root || found.contains("as far as a user namespace goes"), "{found}");
    assert_eq!(found.contains("a | 0"), !root, "{found}");
}

#[test]
fn r_sec_1_an_app_armor_profile_is_refused_where_there_is_no_app_armor() {
    let home = Home::new();
    let of = |kind: &str| format!("    securityContext: {{appArmorProfile: {{type: {kind}}}}}\n");
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let enabled = enabled.is_ok_and(|text| text.starts_with('Y'));
    let refused = said(&home, "", &of("Localhost, localhostProfile: none-such"), "echo runs");
    let words = if enabled { "AppArmor has no profile \"none-such\"" } else { "AppArmor is not enabled" };
    assert!(refused.contains(words) && !refused.contains("a | runs"), "{refused}");
    let pod = "  securityContext: {appArmorProfile: {type: RuntimeDefault}}\n";
    let default = said(&home, pod, "", "echo runs; cat /proc/self/attr/apparmor/current");
    assert!(default.contains("a | runs"), "{default}");
    match enabled {
        true if nix::unistd::geteuid().is_root() => assert!(default.contains("podctl-default"), "{default}"),
        true => {}
        false => assert!(default.contains("AppArmor is not enabled on this machine"), "{default}"),
    }
    let unconfined = said(&home, pod, &of("Unconfined"), "echo runs");
    assert!(!unconfined.contains("AppArmor") && unconfined.contains("a | runs"), "{unconfined}");
}

#[test]
fn r_sec_1_host_users_says_whether_there_is_a_user_namespace() {
    let home = Home::new();
    let root = nix::unistd::geteuid().is_root();
    let script = "grep -q 4294967295 /proc/self/uid_map && echo the machines || echo own";
    let (yes, no) =
        (said(&home, "  hostUsers: true\n", "", script), said(&home, "  hostUsers: false\n", "", script));
    if root {
        assert!(yes.contains("a | the machines"), "{yes}");
        let refused = no.contains("false is not supported for root");
        assert!(refused != no.contains("a | own"), "{no}");
    } else {
        assert!(yes.contains("true is not possible without root") && yes.contains("a | own"), "{yes}");
        assert!(no.contains("a | own") && !no.contains("warning"), "{no}");
    }
}

#[test]
fn without_cgroups_too_a_fork_bomb_has_an_end() {
    let home = Home::new();
    if !nix::unistd::geteuid().is_root() {
        let out = said(&home, "", "", "echo at most $(sed -n \"s/Max processes *//p\" /proc/self/limits)");
        let most: u64 =
            out.split("at most ").nth(1).and_then(|n| n.split_whitespace().next()?.parse().ok()).unwrap();
        assert!(most <= 4096, "{out}");
    }
}

#[test]
fn a_dry_run_starts_nothing_and_says_what_cannot_be_had() {
    let home = Home::new();
    let pod = "  initContainers: [{name: i, image: \"busybox:1.36\", restartPolicy: Always}]\n";
    let file = home.file("pod.yaml", &manifest(pod, "    resources: {limits: {cpu: 500m}}\n", "true"));
    let output = home.podctl(&["explain-file", &file]);
    assert!(output.status.success(), "{}", stderr(&output));
    let out = stdout(&output);
    for words in [
        "1. i (sidecar",
        "2. a (app)",
        "QoS class Burstable",
        "limits cpu 500m; oom_score_adj 999",
        "not present",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let dry = home.podctl(&["run", "--dry-run", &file]);
    assert_eq!(stdout(&dry), out);
    let wrong = home.file("wrong.yaml", &manifest("  hostPID: 3\n", "", "true"));
    let (run, explain) = (home.podctl(&["run", &wrong]), home.podctl(&["explain-file", &wrong]));
    assert_eq!((run.status.code(), stderr(&run)), (explain.status.code(), stderr(&explain)));
    assert!(home.traces().is_empty(), "{:?}", home.traces());
}

#[test]
fn doctor_finds_nothing_broken_where_pods_run() {
    let home = Home::new();
    let output = home.podctl(&["doctor", "-o", "json"]);
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let broken = checks.as_array().unwrap().iter().filter(|c| c["state"] == "broken").count();
    assert_eq!((broken, output.status.code()), (0, Some(0)), "{checks:#}");
    let unmended =
        checks.as_array().unwrap().iter().filter(|c| c["state"] != "ok" && c["mend"].is_null()).count();
    assert_eq!(unmended, 0, "{checks:#}");
}
