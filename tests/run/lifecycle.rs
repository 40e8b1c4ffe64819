//! A pod's life as a kubelet lives it, on real containers.

use std::fs;

use crate::common::{Home, events, pod, shell, stderr, stdout, until};

/// Runs until it is asked to end, and then does so with that code.
fn server(name: &str, code: i32) -> String {
    shell(name, &format!("trap \"exit {code}\" TERM; while :; do sleep 0.1; done"))
}

#[test]
fn r_side_4_a_whole_pod_starts_and_stops_in_the_rules_order() {
    let home = Home::new();
    let shared = home.path("shared");
    fs::create_dir(&shared).unwrap();
    let mount = "    volumeMounts: [{name: v, mountPath: /v}]\n";
    let lives = |name: &str| {
        let script = format!(
            "echo start {name} >> /v/log; trap \"echo stop {name} >> /v/log; exit 0\" TERM; touch /v/{name}; while :; do sleep 0.1; done"
        );
        shell(name, &script) + mount
    };
    let init = |name: &str| shell(name, &format!("echo start {name} >> /v/log")) + mount;
    let sidecar = |name: &str| {
        lives(name)
            + &format!(
                "    restartPolicy: Always\n    startupProbe: {{exec: {{command: [test, -e, /v/{name}]}}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 60}}\n"
            )
    };
    let text = format!(
        "  initContainers:\n{}{}{}{}{}  containers:\n{}{}  volumes: [{{name: v, hostPath: {{path: {}}}}}]\n",
        init("i1"),
        sidecar("s1"),
        init("i2"),
        sidecar("s2"),
        init("i3"),
        lives("a1"),
        lives("a2"),
        shared.display()
    );
    let started = home.run(&pod(&text), &["-d", "--wait", "ready"]);
    assert!(started.status.success(), "{}", stderr(&started));
    until("both apps have begun", || shared.join("a1").exists() && shared.join("a2").exists());
    assert!(home.podctl(&["delete", "p"]).status.success());
    let log = fs::read_to_string(shared.join("log")).unwrap();
    let mut lines: Vec<&str> = log.lines().collect();
    // Apps start one after the other, but their shells may write in either order; they stop together.
    lines[5..7].sort_unstable();
    lines[7..9].sort_unstable();
    assert_eq!(
        lines,
        [
            "start i1", "start s1", "start i2", "start s2", "start i3", "start a1", "start a2", "stop a1",
            "stop a2", "stop s2", "stop s1"
        ]
    );
}

#[test]
fn r_probe_1_a_server_that_fails_its_http_liveness_probe_is_restarted() {
    let home = Home::new();
    let script = "mkdir -p /w; trap \"exit 0\" TERM; echo ok > /w/health; httpd -p 8080 -h /w; while :; do sleep 0.1; done";
    let ports = "    ports: [{name: web, containerPort: 8080}]\n    livenessProbe: {httpGet: {path: /health, port: web}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1, initialDelaySeconds: 1}\n";
    let text = format!("  containers:\n{}{ports}", shell("a", script));
    assert!(home.run(&pod(&text), &["-d"]).status.success());
    assert!(home.podctl(&["exec", "p", "--", "rm", "/w/health"]).status.success());
    until("the server is restarted", || {
        home.pod("p")["status"]["containerStatuses"][0]["restartCount"].as_i64() >= Some(1)
    });
    let events = events(&home, "p");
    assert!(
        events
            .contains(&"Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 404".to_owned())
            && events.contains(&"Killing: Container a failed liveness probe, will be restarted".to_owned()),
        "{events:?}"
    );
}

#[test]
fn r_hook_1_a_failed_post_start_hook_kills_the_container() {
    let home = Home::new();
    let hook = "    lifecycle: {postStart: {exec: {command: [sh, -c, \"echo no luck; exit 3\"]}}}\n";
    let text = format!("  restartPolicy: Never\n  containers:\n{}{hook}", server("a", 5));
    let output = home.run(&pod(&text), &[]);
    assert_ne!(output.status.code(), Some(0));
    let events = events(&home, "p");
    assert!(
        events.iter().any(|e| e.starts_with("FailedPostStartHook: ") && e.contains("no luck")),
        "{events:?}"
    );
}

#[test]
fn r_hook_1_pre_stop_runs_before_the_stop_signal_and_ends_with_its_container() {
    let home = Home::new();
    let shared = home.path("shared");
    fs::create_dir(&shared).unwrap();
    let script = "trap \"echo term >> /v/log; exit 0\" TERM; touch /v/up; while :; do sleep 0.1; done";
    let hook = "    lifecycle: {preStop: {exec: {command: [sh, -c, \"echo hook >> /v/log\"]}}}\n    volumeMounts: [{name: v, mountPath: /v}]\n";
    let text = format!(
        "  containers:\n{}{hook}  volumes: [{{name: v, hostPath: {{path: {}}}}}]\n",
        shell("a", script),
        shared.display()
    );
    assert!(home.run(&pod(&text), &["-d"]).status.success());
    until("the trap is set", || shared.join("up").exists());
    assert!(home.podctl(&["delete", "p"]).status.success());
    assert_eq!(fs::read_to_string(shared.join("log")).unwrap(), "hook\nterm\n");
}

#[test]
fn r_app_7_the_active_deadline_fails_the_pod() {
    let home = Home::new();
    let text = format!("  activeDeadlineSeconds: 1\n  containers:\n{}", server("a", 0));
    let output = home.run(&pod(&text), &[]);
    assert!(!output.status.success());
    let status = home.pod("p")["status"].clone();
    assert_eq!(
        (status["phase"].as_str(), status["reason"].as_str()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
}

#[test]
fn r_app_2_a_rule_restarts_what_never_restarts() {
    let home = Home::new();
    let rules = "    restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]\n    restartPolicy: Never\n    volumeMounts: [{name: v, mountPath: /v}]\n";
    let script = "echo run >> /v/runs; test $(grep -c run /v/runs) -ge 3 && exit 0; exit 42";
    let text = format!(
        "  restartPolicy: Never\n  containers:\n{}{rules}  volumes: [{{name: v, emptyDir: {{}}}}]\n",
        shell("a", script)
    );
    let output = home.run(&pod(&text), &["--backoff-initial", "0.1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(home.pod("p")["status"]["containerStatuses"][0]["restartCount"], 2);
}

#[test]
fn r_init_4_a_failed_init_container_restarts_the_pod_where_that_is_asked_for() {
    let home = Home::new();
    let mount = "    volumeMounts: [{name: v, mountPath: /v}]\n";
    let first = shell("first", "echo first >> /v/runs") + mount;
    let second = shell("second", "test $(grep -c first /v/runs) -ge 3") + mount;
    let app = shell("app", "cat /v/runs") + mount;
    let text = format!(
        "  restartPolicy: OnFailure\n  initContainers:\n{first}{second}  containers:\n{app}  volumes: [{{name: v, emptyDir: {{}}}}]\n"
    );
    let output = home.run(&pod(&text), &["--backoff-initial", "0.1", "--init-failure", "restart-pod"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).matches("first").count(), 3, "{}", stdout(&output));
}

#[test]
fn r_app_3_a_crash_loop_is_shown_in_the_kubelets_words() {
    let home = Home::new();
    let text = format!("  containers:\n{}", shell("a", "exit 3"));
    assert!(home.run(&pod(&text), &["-d", "--backoff-initial", "100"]).status.success());
    until("the container waits", || {
        let pod = home.pod("p");
        let state = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        state["reason"] == "CrashLoopBackOff"
            && state["message"]
                == format!("back-off 1m40s restarting failed container=a pod=p_default({uid})")
    });
    assert!(stdout(&home.podctl(&["get", "p"])).contains("CrashLoopBackOff"));
    assert!(home.podctl(&["delete", "p"]).status.success());
}

#[test]
fn a_stopped_pod_keeps_its_logs_and_starts_again_with_its_secrets() {
    let home = Home::new();
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {word: hidden}\n";
    let env = "    env: [{name: W, valueFrom: {secretKeyRef: {name: s, key: word}}}]\n";
    let script = "trap \"echo asked; exit 0\" TERM; echo word $W; while :; do sleep 0.1; done";
    let text = format!("  containers:\n{}{env}{secret}", shell("a", script));
    assert!(home.run(&pod(&text), &["-d"]).status.success());
    let said = |words: &str| stdout(&home.podctl(&["logs", "p"])).contains(words);
    until("it speaks", || said("word hidden"));
    assert!(home.podctl(&["stop", "p"]).status.success());
    assert!(said("asked"));
    assert_eq!(home.pod("p")["status"]["phase"], "Succeeded");
    assert!(home.pod("p")["metadata"]["deletionTimestamp"].is_null());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(home.path("data/records/default_p/again.json")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let started = home.podctl(&["start", "p"]);
    assert!(started.status.success(), "{}", stderr(&started));
    until("it speaks again", || said("word hidden"));
    assert_eq!(home.podctl(&["start", "p"]).status.code(), Some(1));
}

#[test]
fn r_init_3_restart_runs_every_init_container_again() {
    let home = Home::new();
    let text = format!("  initContainers:\n{}  containers:\n{}", shell("i", "true"), server("a", 0));
    assert!(home.run(&pod(&text), &["-d"]).status.success());
    assert!(home.podctl(&["restart", "p"]).status.success());
    until("both run anew", || {
        let status = &home.pod("p")["status"];
        status["initContainerStatuses"][0]["restartCount"] == 1
            && status["containerStatuses"][0]["restartCount"] == 1
            && status["containerStatuses"][0]["state"]["running"].is_object()
    });
}

#[test]
fn logs_are_followed_through_rotation_without_loss_or_double() {
    let home = Home::new();
    let script = "n=0; while [ $n -lt 3000 ]; do echo line $n; n=$((n+1)); done";
    let text = format!("  restartPolicy: Never\n  containers:\n{}", shell("a", script));
    let output = home.run(&pod(&text), &["--log-max-size", "20000", "--log-max-files", "100"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let expected: Vec<String> = (0..3000).map(|n| format!("line {n}")).collect();
    let shown: Vec<String> =
        stdout(&output).lines().filter_map(|l| Some(l.split("| ").nth(1)?.to_owned())).collect();
    assert_eq!(shown, expected);
    let logs = stdout(&home.podctl(&["logs", "p"]));
    assert_eq!(logs.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_flood_of_output_is_kept_whole_and_in_order() {
    let home = Home::new();
    let text = format!("  restartPolicy: Never\n  containers:\n{}", shell("a", "seq 300000"));
    let output = home.run(&pod(&text), &["-d", "--log-max-size", "1Gi"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let over = ["wait", "pod/p", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"];
    assert!(home.podctl(&over).status.success());
    let logs = stdout(&home.podctl(&["logs", "p"]));
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(logs == expected, "{} bytes of {}", logs.len(), expected.len());
}

#[test]
fn a_flood_of_output_does_not_keep_the_supervisor_from_ending_the_pod() {
    let home = Home::new();
    let text = format!("  containers:\n{}{}", shell("a", "exec yes"), shell("b", "exec cat /dev/zero"));
    assert!(home.run(&pod(&text), &["-d", "--log-max-size", "1Mi"]).status.success());
    until("much has been written", || {
        fs::read_dir(home.path("data/logs"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|pod| fs::read_dir(pod.path().join("a")).into_iter().flatten().count() == 5)
    });
    assert!(home.podctl(&["exec", "p", "-c", "a", "--", "true"]).status.success());
    assert!(home.podctl(&["delete", "p", "--grace-period", "1"]).status.success());
}

#[test]
fn r_probe_1_a_probe_that_times_out_leaves_no_process_behind() {
    let home = Home::new();
    let probe =
        "    readinessProbe: {exec: {command: [sh, -c, \"sleep 777 & sleep 778\"]}, periodSeconds: 60}\n";
    let text = format!("  containers:\n{}{probe}", server("a", 0));
    assert!(home.run(&pod(&text), &["-d"]).status.success());
    until("the probe has timed out", || {
        events(&home, "p").iter().any(|e| e.starts_with("Unhealthy: Readiness probe failed: "))
    });
    until("its processes are gone", || {
        !stdout(&home.podctl(&["exec", "p", "--", "ps"])).contains("sleep 77")
    });
}

#[test]
fn r_app_4_the_termination_message_is_what_was_written_or_the_logs_end() {
    let home = Home::new();
    let fallback = "    terminationMessagePolicy: FallbackToLogsOnError\n";
    let text = format!(
        "  restartPolicy: Never\n  containers:\n{}{}{fallback}",
        shell("a", "echo -n written > /dev/termination-log"),
        shell("b", "echo one; echo two; exit 1")
    );
    home.run(&pod(&text), &[]);
    let status = home.pod("p")["status"]["containerStatuses"].clone();
    assert_eq!(status[0]["state"]["terminated"]["message"], "written");
    assert_eq!(status[1]["state"]["terminated"]["message"], "one\ntwo");
}

#[test]
fn r_hook_1_sleep_holds_the_stop_signal_back_and_ends_with_its_container() {
    let home = Home::new();
    // Longer than there are dates, too: it is as if nobody ever kills the pod.
    for seconds in [600, i64::MAX] {
        let hook = "    lifecycle: {preStop: {sleep: {seconds: 500}}}\n";
        let text = format!(
            "  terminationGracePeriodSeconds: {seconds}\n  containers:\n{}{hook}",
            shell("a", "until test -e /end; do sleep 0.1; done")
        );
        assert!(home.run(&pod(&text), &["-d"]).status.success());
        assert!(home.podctl(&["delete", "p", "--wait=false"]).status.success());
        until("it is ending", || home.pod("p")["metadata"]["deletionGracePeriodSeconds"] == seconds);
        assert_eq!(home.pod("p")["status"]["phase"], "Running");
        // The container may take the exec with it.
        home.podctl(&["exec", "p", "--", "touch", "/end"]);
        until("the pod is gone", || home.pod("p").is_null());
    }
}
