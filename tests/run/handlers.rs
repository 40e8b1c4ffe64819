//! The fields of probes and hooks, each where a pod behaves otherwise without it (R-PROBE-1, R-HOOK-1, R-HOOK-2).

use crate::common::{Home, stderr, stdout, until};

fn events(home: &Home) -> String {
    std::fs::read_to_string(home.path("data/records/default_p/events.jsonl")).unwrap_or_default()
}

#[test]
fn r_probe_1_every_number_of_a_probe_counts() {
    let home = Home::new();
    // Each probe writes a line, so that they can be counted.
    let text = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 600
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: third
    image: busybox:1.36
    command: [sh, -c, 'trap \"\" TERM; while :; do sleep 1000; done']
    volumeMounts: [{name: v, mountPath: /v}]
    lifecycle: {preStop: {exec: {command: [sh, -c, 'grep -c \"\" /v/third > /v/count; touch /v/well']}}}
    livenessProbe:
      exec: {command: [sh, -c, 'test -e /v/well || ! echo >> /v/third']}
      periodSeconds: 1
      timeoutSeconds: 10
      failureThreshold: 3
      terminationGracePeriodSeconds: 1
  - name: twice
    image: busybox:1.36
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.1; done']
    volumeMounts: [{name: v, mountPath: /v}]
    readinessProbe: {exec: {command: [sh, -c, 'echo y >> /v/twice']}, periodSeconds: 1, successThreshold: 2}
  - name: late
    image: busybox:1.36
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.1; done']
    volumeMounts: [{name: v, mountPath: /v}]
    livenessProbe: {exec: {command: ['false']}, initialDelaySeconds: 3600, failureThreshold: 1}
    readinessProbe: {exec: {command: [sh, -c, 'echo y >> /v/late; false']}, periodSeconds: 3600}
";
    let output = home.run(text, &["-d"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let status = || home.pod("p")["status"]["containerStatuses"].clone();
    until("the third failure has restarted a container that obeys no signal", || {
        status()[0]["restartCount"] == 1 && status()[0]["state"]["running"].is_object()
    });
    let read = |path: &str| {
        stdout(&home.podctl(&["exec", "-q", "p", "-c", "late", "--", "cat", path])).trim().to_owned()
    };
    assert_eq!(read("/v/count"), "3");
    assert_eq!(status()[0]["lastState"]["terminated"]["exitCode"], 137);
    until("the other is ready", || status()[1]["ready"] == true);
    assert!(read("/v/twice").len() >= 2);
    assert_eq!(read("/v/late"), "y");
    assert_eq!((&status()[2]["restartCount"], &status()[2]["ready"]), (&0.into(), &false.into()));
    assert!(home.podctl(&["delete", "p", "--grace-period", "1"]).status.success());
}

#[test]
fn r_probe_1_handlers_over_the_network_go_where_they_are_sent() {
    let home = Home::new();
    // The server listens on loopback only: without `host` nobody reaches it.
    let text = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 20
  initContainers:
  - name: server
    image: busybox:1.36
    restartPolicy: Always
    command: [sh, -c, 'mkdir /w; echo ok > /w/start; trap \"exit 0\" TERM; httpd -f -vv -p 127.0.0.1:8080 -h /w & while :; do sleep 0.1; done']
    startupProbe: {tcpSocket: {host: 127.0.0.1, port: 8080}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 60}
  containers:
  - name: good
    image: busybox:1.36
    ports: [{name: web, containerPort: 8080}]
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.1; done']
    lifecycle:
      postStart: {httpGet: {host: 127.0.0.1, port: 8080, path: /start}}
      preStop: {tcpSocket: {host: 127.0.0.1, port: web}}
    readinessProbe: {httpGet: {host: 127.0.0.1, port: web, path: /start}, periodSeconds: 1}
  - name: bad
    image: busybox:1.36
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.1; done']
    lifecycle: {preStop: {tcpSocket: {port: 8080}}}
    livenessProbe: {tcpSocket: {host: 127.0.0.1, port: 8080}, periodSeconds: 1, timeoutSeconds: 10}
    readinessProbe: {httpGet: {port: 8080, path: /start}, periodSeconds: 1}
";
    let output = home.run(text, &["-d"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let status = || home.pod("p")["status"]["containerStatuses"].clone();
    until("the one is ready", || status()[0]["ready"] == true);
    until("the other's probe has failed", || events(&home).contains("Readiness probe failed"));
    assert_eq!((&status()[1]["ready"], &status()[1]["restartCount"]), (&false.into(), &0.into()));
    assert!(stdout(&home.podctl(&["logs", "p", "-c", "server"])).contains("/start"));
    assert!(home.podctl(&["stop", "p"]).status.success());
    let failed: Vec<String> =
        events(&home).lines().filter(|line| line.contains("FailedPreStopHook")).map(str::to_owned).collect();
    assert!(failed.len() == 1 && failed[0].contains("spec.containers{bad}"), "{failed:#?}");
}

#[test]
fn r_hook_2_the_stop_signal_is_the_manifests_and_the_grace_period_ends() {
    let home = Home::new();
    let text = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  os: {name: linux}
  terminationGracePeriodSeconds: 5
  containers:
  - name: usr1
    image: busybox:1.36
    command: [sh, -c, 'trap \"exit 3\" USR1; touch /up; while :; do sleep 0.1; done']
    lifecycle: {stopSignal: SIGUSR1}
    readinessProbe: {exec: {command: [test, -e, /up]}, periodSeconds: 1, timeoutSeconds: 30}
  - name: deaf
    image: busybox:1.36
    command: [sh, -c, 'trap \"\" TERM; touch /up; while :; do sleep 1000; done']
    readinessProbe: {exec: {command: [test, -e, /up]}, periodSeconds: 1, timeoutSeconds: 30}
";
    let output = home.run(text, &["-d", "--wait", "ready"]);
    assert!(output.status.success() && !stderr(&output).contains("warning"), "{}", stderr(&output));
    assert!(home.podctl(&["stop", "p"]).status.success());
    let status = home.pod("p")["status"]["containerStatuses"].clone();
    assert_eq!(status[0]["state"]["terminated"]["exitCode"], 3, "{status:#}");
    assert_eq!(status[1]["state"]["terminated"]["exitCode"], 137, "{status:#}");
    let wrong = home.run(&text.replace("SIGUSR1", "SIGFOO"), &["--dry-run"]);
    assert!(
        stderr(&wrong).contains("lifecycle.stopSignal: Unsupported value: \"SIGFOO\""),
        "{}",
        stderr(&wrong)
    );
}
