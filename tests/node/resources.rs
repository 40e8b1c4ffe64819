//! R-RES-1 on real cgroups, of whichever version this user may write; a user who may write none gets the warning.

use crate::common::{Home, stderr, stdout, until};

fn pod(script: &str, resources: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: a\n    image: busybox:1.36\n    command: [sh, -c, '{script}']\n    resources: {resources}\n"
    )
}

/// Tells whether limits are enforced here; where they are not, that is what the test tests.
fn enforced(home: &Home) -> bool {
    let output = home
        .run(&pod("true", "{limits: {memory: 64Mi, cpu: 500m}}"), &["--network", "none", "--strict-limits"]);
    if !output.status.success() {
        let words = stderr(&output);
        assert!(words.contains("limits are not enforced"), "{words}");
        eprintln!("skipped: {words}");
    }
    output.status.success()
}

#[test]
fn r_res_1_a_container_beyond_its_memory_is_oom_killed() {
    let home = Home::new();
    let text = pod("tail /dev/zero", "{limits: {memory: 32Mi}}");
    if enforced(&home) {
        let output = home.run(&text, &["--network", "none"]);
        assert_eq!(output.status.code(), Some(137), "{}", stderr(&output));
        let status = &home.pod("p")["status"];
        assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["reason"], "OOMKilled");
        assert_eq!(status["qosClass"], "Burstable");
    }
}

#[test]
fn r_res_1_the_pods_own_limit_bounds_its_containers_together() {
    let home = Home::new();
    let text = pod("tail /dev/zero", "{requests: {cpu: 10m}}").replace(
        "  containers:",
        "  resources: {limits: {memory: 32Mi, cpu: 500m}, requests: {memory: 16Mi}}\n  containers:",
    );
    if enforced(&home) {
        let output = home.run(&text, &["--network", "none", "--replace"]);
        assert_eq!(output.status.code(), Some(137), "{}", stderr(&output));
        assert_eq!(home.pod("p")["status"]["qosClass"], "Burstable");
    }
    let explained = home.podctl(&["explain-file", &home.file("pod.yaml", &text)]);
    assert!(stdout(&explained).contains("limits cpu 500m, memory 32Mi"), "{}", stdout(&explained));
}

#[test]
fn r_res_1_a_limit_that_cannot_be_kept_is_a_warning_or_an_error() {
    let home = Home::new();
    if !enforced(&home) {
        let output = home.run(&pod("echo runs", "{limits: {memory: 32Mi}}"), &["--network", "none"]);
        assert!(stdout(&output).contains("runs"));
        assert!(
            stderr(&output).contains("warning: the pod's memory limits are not enforced"),
            "{}",
            stderr(&output)
        );
        let output = home.run(&pod("echo runs", "{}"), &["--network", "none", "--replace"]);
        assert!(!stderr(&output).contains("not enforced"), "{}", stderr(&output));
    }
}

#[test]
fn r_res_1_the_score_of_a_container_is_the_kubelets() {
    let home = Home::new();
    let score = |resources: &str| {
        let output =
            home.run(&pod("cat /proc/self/oom_score_adj", resources), &["--network", "none", "--replace"]);
        stdout(&output).trim().trim_start_matches("a | ").to_owned()
    };
    assert_eq!(score("{}"), "1000");
    assert_eq!(score("{limits: {cpu: 100m}}"), "999");
}

#[test]
fn a_fork_bomb_stays_inside_its_pod() {
    let home = Home::new();
    if enforced(&home) {
        let bomb = "f() { f | f & }; f; sleep 1; echo alive";
        let output = home.run(&pod(bomb, "{limits: {memory: 64Mi, cpu: 500m}}"), &["-d", "--replace"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(home.podctl(&["delete", "p", "--now"]).status.success());
        until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
    }
}

#[test]
fn a_container_finds_its_own_limit_in_its_cgroup_files() {
    let home = Home::new();
    if enforced(&home) {
        let files = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; touch /sys/fs/cgroup/x 2>&1 | grep -c Read-only";
        let output = home.run(&pod(files, "{limits: {memory: 20Mi}}"), &["--network", "none"]);
        assert_eq!(crate::common::lines(&output), ["20971520", "1"]);
    }
}

#[test]
fn huge_pages_that_the_machine_has_not_are_told_of_and_none_are_always_there() {
    let home = Home::new();
    let none = home.run(&pod("true", "{limits: {memory: 64Mi, hugepages-2Mi: 0}}"), &["--network", "none"]);
    assert!(none.status.success(), "{}", stderr(&none));
    let refused =
        home.run(&pod("true", "{limits: {memory: 64Mi, hugepages-1Gi: 1Ei}}"), &["--network", "none"]);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("Insufficient hugepages-1Gi"), "{}", stderr(&refused));
}
