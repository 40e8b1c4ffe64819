//! A process that enters a container (exec, probe, hook, debug, cp) is caught by the container, looked into, borrowed from,
//! stopped (the class of CVE-2016-9962).

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    attacker::{attacker, host_pid, marker, written},
    common::{Home, stderr, stdout, until},
};

/// Names what only another container of the pod is told, twice over.
const SECRET: &str = "of-another-container";

/// A pod whose container `c` is the attack, with probe and hooks that enter it. `pod` and `context` are further fields of
/// the pod's spec and of the container's securityContext. What enters looks for its program in so many directories that the
/// attacker has the time to stop it, on however busy a machine.
fn hostile(home: &Home, attack: &str, pod: &str, context: &str) -> String {
    let kit = attacker(home).parent().unwrap().display().to_string();
    let path = format!("{}/bin", "/none:".repeat(15_000));
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: hostile}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
{pod}  volumes: [{{name: kit, hostPath: {{path: {kit:?}}}}}]
  containers:
  - name: c
    image: busybox:1.36
    command: [{attack}]
    securityContext: {context}
    env: [{{name: PATH, value: {path:?}}}]
    volumeMounts: [{{name: kit, mountPath: /kit, readOnly: true}}]
    readinessProbe: {{exec: {{command: [\"true\"]}}, periodSeconds: 1}}
    lifecycle:
      postStart: {{exec: {{command: [\"true\"]}}}}
      preStop: {{exec: {{command: [\"true\"]}}}}
"
    )
}

/// Lets everything enter that can, while the container tries to catch it. Gives what the attack achieved.
fn caught(pod: &str, context: &str) -> String {
    let home = Home::new();
    let (marker, _) = marker(&home);
    let attack = format!("/kit/attack, catch, '300', {SECRET}, {marker:?}");
    let other = format!(
        "  - name: other\n    image: busybox:1.36\n    command: [sleep, '600']\n    env: [{{name: S, value: {SECRET}{SECRET}}}]\n"
    );
    let text = hostile(&home, &attack, pod, context) + &other;
    home.start(&text, &["--network", "none", "--wait", "none"]);
    until("the attack runs", || written(&home, "hostile", "c").contains("READY"));
    let began = Instant::now();
    // As often as it takes to catch three, for it is a race; it lasts as long as the attack.
    while written(&home, "hostile", "c").matches("CAUGHT").count() < 3 {
        assert!(
            began.elapsed() < Duration::from_secs(50),
            "nothing was caught: {}",
            written(&home, "hostile", "c")
        );
        enter_for_a_while(&home);
    }
    let source = home.file("file", "text");
    home.podctl(&["cp", &source, "hostile:/tmp/file"]);
    // Made beside the attacker, where it sees all processes.
    let beside =
        ["debug", "hostile", "--image", "busybox:1.36", "--target", "c", "-c", "beside", "--", "true"];
    let added = home.podctl(&beside);
    assert!(added.status.success(), "{}", stderr(&added));
    // The attacker may have stopped it, which the supervisor minds for two minutes; what counts was to be seen before.
    let added = Instant::now();
    while added.elapsed() < Duration::from_secs(20)
        && home.pod("hostile")["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"].is_null()
    {
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = written(&home, "hostile", "c");
    home.podctl(&["delete", "hostile", "--grace-period", "1"]);
    said
}

/// Enters the attacker's container. Whether the command runs, or is stopped or traced by the attacker once it does, is the attacker's
/// choice, so it is given up after a while.
fn enter_for_a_while(home: &Home) {
    let mut command = home.command(&["exec", "hostile", "--", "true"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            child.wait().unwrap();
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn held(pod: &str, context: &str) {
    let said = caught(pod, context);
    assert!(!said.contains("ESCAPED"), "{said}");
    assert!(!said.contains("LOOKED"), "{said}");
}

#[test]
fn an_entering_process_cannot_be_looked_into() {
    held("", "{}");
}

#[test]
fn an_entering_process_cannot_be_looked_into_by_root_without_capabilities() {
    held("", "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [KILL]}}");
}

#[test]
fn an_entering_process_cannot_be_looked_into_where_processes_are_shared() {
    held("  shareProcessNamespace: true\n", "{}");
}

#[test]
fn an_entering_process_cannot_be_looked_into_from_a_user_namespace() {
    held("  hostUsers: false\n", "{}");
}

#[test]
fn who_may_trace_everything_finds_nothing_of_the_hosts_in_an_entering_process() {
    let said = caught("", "{capabilities: {add: [SYS_PTRACE]}}");
    assert!(said.contains("LOOKED"), "it may look, so that this proves something: {said}");
    assert!(!said.contains("ESCAPED"), "{said}");
    // Its streams and the pipe through which it reports.
    for line in said.lines().filter(|line| line.contains("/fd/")) {
        assert!(line.contains("-> pipe:") || line.contains("-> /dev/"), "{line}");
    }
}

#[test]
fn control_a_process_that_enters_badly_is_an_open_door() {
    let home = Home::new();
    let (marker, text) = marker(&home);
    let attack = format!("/kit/attack, catch, '60', {marker:?}");
    home.start(&hostile(&home, &attack, "", "{}"), &["--network", "none", "--wait", "none"]);
    until("the attack runs", || written(&home, "hostile", "c").contains("READY"));
    let inside = host_pid(&format!("/kit/attack catch 60 {marker}"));
    let program = attacker(&home);
    until("the attack works", || {
        let mut enter = Command::new(&program);
        let entered =
            enter.args(["enter-badly", &inside.to_string(), ""]).stdin(Stdio::null()).output().unwrap();
        assert!(entered.status.success(), "{}", stderr(&entered));
        written(&home, "hostile", "c").contains("ESCAPED")
    });
    assert!(written(&home, "hostile", "c").contains(&text));
}

/// A container that stops whatever enters it hinders nobody: not the command, not the pod, not its end.
#[test]
fn a_container_that_stops_what_enters_it_hinders_nobody() {
    let home = Home::new();
    let flags = ["--network", "none", "--wait", "none"];
    let text = hostile(&home, "/kit/attack, stop, '600'", "", "{}");
    home.start(&text, &flags);
    until("the attack runs", || written(&home, "hostile", "c").contains("READY"));
    until("an exec is caught", || {
        stderr(&home.podctl(&["exec", "hostile", "--", "true"])).contains("did not start within")
    });
    let waits = home.command(&["exec", "hostile", "--", "true"]).stderr(Stdio::null()).spawn();
    assert!(stdout(&home.podctl(&["top", "pod", "hostile"])).contains("hostile"));
    let began = Instant::now();
    let deleted = home.podctl(&["delete", "hostile", "--force"]);
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    assert!(!Path::new(&home.path("run/pods/default_hostile")).exists());
    let _ = waits.unwrap().wait();
}
