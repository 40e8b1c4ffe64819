//! What a pod takes of the disk beyond its limits of ephemeral-storage ends it (R-RES-1).

use crate::common::{Home, stderr, until};

/// A pod of two containers; each has its script and its limit.
fn pod(scripts: [&str; 2], limits: [&str; 2]) -> String {
    let container = |name: &str, at: usize| {
        format!(
            "  - name: {name}\n    image: busybox:1.36\n    command: [sh, -c, '{}']\n    volumeMounts: [{{name: v, mountPath: /v}}]\n    resources: {{limits: {{{}}}}}\n",
            scripts[at], limits[at]
        )
    };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 0\n  containers:\n{}{}  volumes: [{{name: v, emptyDir: {{}}}}]\n",
        container("a", 0),
        container("b", 1)
    )
}

const SLEEP: &str = "sleep 1000";
const WRITE: &str = "dd if=/dev/zero of=/big bs=1M count=4 2>/dev/null; sleep 1000";

fn evicted(scripts: [&str; 2], limits: [&str; 2], message: &str) {
    let home = Home::new();
    let output = home.run(&pod(scripts, limits), &["--network", "none"]);
    assert_eq!(output.status.code(), Some(137), "{}", stderr(&output));
    let status = home.pod("p")["status"].clone();
    assert_eq!(status["phase"], "Failed");
    assert_eq!(status["reason"], "Evicted");
    assert_eq!(status["message"], message);
    let events = home.podctl(&["events", "--for", "pod/p"]);
    assert!(crate::common::stdout(&events).contains("Evicted"), "{}", crate::common::stdout(&events));
}

#[test]
fn r_res_1_a_container_whose_layer_is_over_its_limit_evicts_the_pod() {
    let message = "Container b exceeded its local ephemeral storage limit \"2Mi\".";
    evicted([SLEEP, WRITE], ["ephemeral-storage: 100Mi", "ephemeral-storage: 2Mi"], message);
}

#[test]
fn r_res_1_logs_are_the_containers_own() {
    let script = "for i in $(seq 30); do head -c 100000 /dev/zero | tr \"\\0\" x; echo; done; sleep 1000";
    let message = "Container a exceeded its local ephemeral storage limit \"1Mi\".";
    evicted([script, SLEEP], ["ephemeral-storage: 1Mi", "ephemeral-storage: 1Gi"], message);
}

#[test]
fn r_res_1_empty_dirs_count_for_the_whole_pod() {
    let script = "dd if=/dev/zero of=/v/big bs=1M count=8 2>/dev/null; sleep 1000";
    let message = "Pod ephemeral local storage usage exceeds the total limit of containers 5Mi.";
    evicted([script, SLEEP], ["ephemeral-storage: 2Mi", "ephemeral-storage: 3Mi"], message);
}

#[test]
fn r_res_1_a_pod_within_its_limits_goes_on() {
    let home = Home::new();
    let text = pod([WRITE, SLEEP], ["ephemeral-storage: 50Mi", ""]);
    assert!(home.run(&text, &["-d", "--network", "none"]).status.success());
    let began = std::time::Instant::now();
    // Several looks have come and gone by then.
    until("three seconds have passed", || began.elapsed().as_secs() >= 3);
    assert_eq!(home.pod("p")["status"]["phase"], "Running");
}
