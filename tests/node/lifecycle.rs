//! What becomes of a pod as a whole: conditions, deletion, and rules that restart all of it.

use super::{
    common::{Home, pod, shell, stdout, until},
    script,
};

#[test]
fn conditions_become_true_in_their_order() {
    let home = Home::new();
    let init = format!("  initContainers:\n{}", shell("i", "until [ -e /v/go ]; do sleep 0.1; done"));
    let volume = "    volumeMounts: [{name: v, mountPath: /v}]\n";
    let app = shell("c", "sleep 300");
    let probe = "    readinessProbe: {exec: {command: [test, -e, /v/ready]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}\n";
    let body = format!(
        "  terminationGracePeriodSeconds: 0\n{init}{volume}  containers:\n{app}{volume}{probe}  volumes: [{{name: v, emptyDir: {{}}}}]\n"
    );
    home.start(&pod(&body), &["--network=none", "--wait=none"]);
    let is = |kind: &str, status: &str| {
        let conditions = home.pod("p")["status"]["conditions"].clone();
        let own = conditions.as_array().and_then(|all| all.iter().find(|c| c["type"] == kind)).cloned();
        own.is_some_and(|c| c["status"] == status)
    };
    until("its sandbox stands", || is("PodReadyToStartContainers", "True"));
    assert!(is("PodScheduled", "True") && is("Initialized", "False") && is("Ready", "False"));
    assert_eq!(home.pod("p")["status"]["phase"], "Pending");
    until("the init container runs", || {
        home.pod("p")["status"]["initContainerStatuses"][0]["state"]["running"].is_object()
    });
    // The container may take the exec with it.
    home.podctl(&["exec", "p", "-c", "i", "--", "touch", "/v/go"]);
    until("it is initialized", || is("Initialized", "True"));
    until("it runs", || home.pod("p")["status"]["phase"] == "Running");
    assert!(is("ContainersReady", "False") && is("Ready", "False"));
    home.said(&["exec", "p", "--", "touch", "/v/ready"]);
    until("it is ready", || is("ContainersReady", "True") && is("Ready", "True"));
    home.said(&["exec", "p", "--", "rm", "/v/ready"]);
    until("it is not ready any more", || is("Ready", "False"));
}

#[test]
fn r_term_1_a_second_deletion_with_less_time_sends_the_signal_again() {
    let home = Home::new();
    let dir = home.path("told").display().to_string();
    std::fs::create_dir(home.path("told")).unwrap();
    let volumes = format!("  volumes: [{{name: v, hostPath: {{path: {dir}}}}}]\n");
    let line = "n=0; trap 'n=$((n + 1)); touch /v/$n' TERM; touch /v/up; while :; do sleep 0.1; done";
    let text = script(line, &volumes, "    volumeMounts: [{name: v, mountPath: /v}]\n")
        .replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 600");
    home.start(&text, &["--network=none"]);
    let told = |name: &str| home.path("told").join(name).exists();
    until("it listens", || told("up"));
    home.said(&["delete", "pod", "p", "--wait=false"]);
    until("it is told", || told("1"));
    home.said(&["delete", "pod", "p", "--grace-period=3"]);
    assert!(told("2"), "it was told once only");
}

#[test]
fn r_app_2_a_rule_restarts_all_containers_from_the_first_init_container_on() {
    let home = Home::new();
    let init = format!("  initContainers:\n{}", shell("i", "echo once more >>/v/init"));
    let volume = "    volumeMounts: [{name: v, mountPath: /v}]\n";
    let other = shell("other", "sleep 300");
    let own = shell("c", "test -e /v/again && exit 0; touch /v/again; exit 42");
    let rules = "    restartPolicy: Never\n    restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [42]}}]\n";
    let show = shell("show", "until [ -e /v/again ]; do sleep 0.1; done; sleep 300");
    let body = format!(
        "  terminationGracePeriodSeconds: 0\n  restartPolicy: Never\n{init}{volume}  containers:\n{other}{volume}{own}{volume}{rules}{show}{volume}  volumes: [{{name: v, emptyDir: {{}}}}]\n"
    );
    home.start(&pod(&body), &["--network=none", "--wait=none", "--backoff-initial=0.1", "--backoff-max=0.1"]);
    let count = || home.podctl(&["exec", "p", "-c", "show", "--", "cat", "/v/init"]);
    until("the init container has run twice", || stdout(&count()) == "once more\nonce more\n");
    let restarts = || {
        let statuses = home.pod("p")["status"]["containerStatuses"].clone();
        let all = statuses.as_array().cloned().unwrap_or_default();
        all.iter().filter_map(|c| c["restartCount"].as_i64()).collect::<Vec<_>>()
    };
    until("each container was restarted", || restarts() == [1, 1, 1]);
}
