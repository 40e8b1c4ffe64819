//! What a pod's status and its object tell of it.

use super::{
    common::{self, Home, stderr},
    script,
};

#[test]
fn the_status_tells_user_stop_signal_resources_and_generation() {
    let home = Home::new();
    let pod = "  securityContext: {runAsUser: 1000, runAsGroup: 2000, supplementalGroups: [3000]}\n";
    home.start(&script("sleep 300", pod, "    resources: {requests: {cpu: 10m}}\n"), &["--network=none"]);
    let pod = home.pod("p");
    let container = &pod["status"]["containerStatuses"][0];
    let user = serde_json::json!({"linux": {"uid": 1000, "gid": 2000, "supplementalGroups": [2000, 3000]}});
    assert_eq!(container["user"], user, "{container:#}");
    assert_eq!(container["stopSignal"], "SIGTERM");
    assert_eq!(container["resources"]["requests"]["cpu"], "10m");
    assert_eq!(
        (&pod["metadata"]["generation"], &pod["status"]["observedGeneration"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn an_init_container_that_runs_is_started() {
    let home = Home::new();
    let init = "  initContainers:\n  - {name: i, image: \"busybox:1.36\", command: [sleep, \"300\"]}\n";
    home.start(&script("true", init, ""), &["--network=none", "--wait=none"]);
    let status = || home.pod("p")["status"]["initContainerStatuses"][0].clone();
    common::until("it runs", || status()["state"]["running"].is_object());
    assert_eq!(status()["started"], true);
}

#[test]
fn a_command_that_is_not_there_is_a_start_error_with_code_128() {
    let home = Home::new();
    let text = script("true", "", "").replace("[sh, -c, \"true\"]", "[not-there]");
    assert_eq!(home.run(&text, &["--network=none"]).status.code(), Some(128));
    let ended = home.pod("p")["status"]["containerStatuses"][0]["state"]["terminated"].clone();
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&"StartError".into(), &128.into()), "{ended:#}");
}

#[test]
fn unsafe_sysctls_are_forbidden_unless_they_are_allowed() {
    let home = Home::new();
    let pod = "  securityContext: {sysctls: [{name: kernel.msgmax, value: \"16384\"}]}\n";
    let text = script("cat /proc/sys/kernel/msgmax", pod, "");
    let refused = home.run(&text, &["--network=none"]);
    assert!(
        !refused.status.success() && stderr(&refused).contains("SysctlForbidden"),
        "{}",
        stderr(&refused)
    );
    let flags = ["--network=none", "--allowed-unsafe-sysctls=kernel.msg*"];
    assert_eq!(common::lines(&home.run(&text, &flags)), ["16384"]);
}

#[test]
fn a_pod_that_somebody_deletes_is_no_success() {
    let home = Home::new();
    let file = home.file("pod.yaml", &script("sleep 300", "", ""));
    let mut run = home.command(&["run", "--network=none", &file]).spawn().unwrap();
    common::until("it runs", || home.pod("p")["status"]["phase"] == "Running");
    home.said(&["delete", "pod", "p", "--now"]);
    let mut status = None;
    common::until("the run ends", || {
        status = run.try_wait().unwrap();
        status.is_some()
    });
    assert_ne!(status.unwrap().code(), Some(0));
}
