//! What a person who follows the documentation meets: attaching, notes, failing starts, debugging.

use std::{net::TcpListener, process::Stdio};

use crate::common::{Home, stderr, stdout, until};

fn pod(name: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: app\n    image: busybox:1.36\n    command: [sh, -c, {script:?}]\n"
    )
}

#[test]
fn an_attached_program_that_ends_at_once_is_seen_whole() {
    let home = Home::new();
    for _ in 0..5 {
        let output = home.run(&pod("quick", "echo first; exit 3"), &["--attach", "--replace"]);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(3), "first\n"));
    }
}

#[test]
fn notes_say_which_container_and_the_end_says_why() {
    let home = Home::new();
    let output = home.run(&pod("noted", "exit 4"), &[]);
    let notes = stderr(&output);
    assert!(notes.contains("app: Started container app"), "{notes}");
    assert!(notes.contains("pod noted has failed: container app ended with exit code 4 (Error)"), "{notes}");
}

#[test]
fn the_end_is_told_after_the_last_line_of_output() {
    let home = Home::new();
    let file = home.file("pod.yaml", &pod("last", "echo first; echo words; exit 4"));
    let both = home.file("both", "");
    let out = std::fs::File::options().append(true).open(&both).unwrap();
    let mut run = home.command(&["run", &file]);
    run.stdout(out.try_clone().unwrap()).stderr(out);
    assert_eq!(run.status().unwrap().code(), Some(4));
    let text = std::fs::read_to_string(&both).unwrap();
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words:?} in {text}"));
    assert!(at("words") < at("pod last has failed"), "{text}");
}

#[test]
fn r_app_4_what_cannot_be_configured_ends_a_run_that_somebody_waits_for() {
    let home = Home::new();
    let text = pod("cfg", "true") + "    securityContext: {runAsNonRoot: true}\n";
    for flags in [&[][..], &["--detach"], &["--attach"]] {
        let output = home.run(&text, flags);
        assert_eq!(output.status.code(), Some(1), "{flags:?}");
        assert!(stderr(&output).contains("runAsNonRoot"), "{flags:?}: {}", stderr(&output));
    }
}

#[test]
fn a_detached_run_ends_its_wait_for_what_ends_again_and_again() {
    let home = Home::new();
    let output = home.run(
        &pod("loops", "exit 1").replace("Never", "Always").replace("[sh, -c, \"exit 1\"]", "[/no/such]"),
        &["-d"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("back-off"), "{}", stderr(&output));
    assert_eq!(home.pod("loops")["kind"], "Pod", "the pod goes on trying");
}

#[test]
fn a_pull_lets_go_of_the_callers_streams_when_the_client_ends() {
    let home = Home::new();
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/never:1", silent.local_addr().unwrap());
    let text = pod("pulls", "true").replace("busybox:1.36", &image);
    // Reads its output to the end, which a process that held it would keep from coming.
    let output = home.run(&text, &["-d", "--wait", "none"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(home.pod("pulls")["status"]["phase"], "Pending");
}

#[test]
fn a_start_that_fails_keeps_the_stopped_pods_record() {
    let home = Home::new();
    let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let output = home.run(&pod("kept", "echo up; exec sleep 1000"), &["-d", "-p", &format!("{port}:80")]);
    assert!(output.status.success(), "{}", stderr(&output));
    until("the output is in the log", || stdout(&home.podctl(&["logs", "kept"])) == "up\n");
    assert!(home.podctl(&["stop", "kept"]).status.success());

    let mut taken = None;
    until("the pod's port is free", || {
        taken = TcpListener::bind(("0.0.0.0", port)).ok();
        taken.is_some()
    });
    let output = home.podctl(&["start", "kept"]);
    assert!(!output.status.success() && stderr(&output).contains("in use"), "{}", stderr(&output));
    assert_eq!(stdout(&home.podctl(&["logs", "kept"])), "up\n");

    drop(taken);
    let output = home.podctl(&["start", "kept"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn r_eph_2_the_containers_of_a_copy_see_each_others_processes() {
    let home = Home::new();
    assert!(home.run(&pod("whole", "exec sleep 1234"), &["-d"]).status.success());
    let debug = |copy: &str, more: &[&str]| {
        let words = ["debug", "whole", "--copy-to", copy, "--image=busybox:1.36", "-i", "-q"];
        stdout(&home.podctl(&[&words, more, &["--", "ps"]].concat()))
    };
    assert!(debug("shared", &[]).contains("sleep 1234"));
    assert!(!debug("apart", &["--share-processes=false"]).contains("sleep 1234"));
}

#[test]
fn status_has_the_hosts_address_and_not_the_pods() {
    let home = Home::new();
    assert!(home.run(&pod("placed", "exec sleep 1000"), &["-d"]).status.success());
    let status = home.pod("placed")["status"].clone();
    assert!(status["hostIP"].is_string() && status["hostIP"] != status["podIP"], "{status}");
}

/// The server closes without TLS's close_notify, as many do.
#[test]
fn r_probe_1_https_needs_no_known_certificate_and_hooks_speak_it_too() {
    let home = Home::new();
    let indent = |text: &str| text.replace('\n', "\n    ");
    let text = format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: tls}}
data:
  key.pem: |
    {}
  cert.pem: |
    {}
  server.py: |
    import http.server, ssl
    class H(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            print('asked', self.path, flush=True)
            self.send_response(200 if self.headers.get('X-Probe') == 'yes' or self.path == '/stop' else 500)
            self.end_headers()
    server = http.server.ThreadingHTTPServer(('', 8443), H)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain('/tls/cert.pem', '/tls/key.pem')
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
---
apiVersion: v1
kind: Pod
metadata: {{name: https}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: python:3.11
    command: [python3, /tls/server.py]
    ports: [{{name: web, containerPort: 8443}}]
    volumeMounts: [{{name: tls, mountPath: /tls}}]
    lifecycle: {{preStop: {{httpGet: {{path: /stop, port: web, scheme: HTTPS}}}}}}
    readinessProbe:
      httpGet: {{path: /ready, port: web, scheme: HTTPS, httpHeaders: [{{name: X-Probe, value: 'yes'}}]}}
      periodSeconds: 1
  volumes: [{{name: tls, configMap: {{name: tls}}}}]
",
        indent(include_str!("../tls/key.pem")),
        indent(include_str!("../tls/cert.pem"))
    );
    let output = home.run(&text, &["-d", "--wait", "ready"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(home.pod("https")["status"]["containerStatuses"][0]["ready"], true);
    assert!(home.podctl(&["stop", "https"]).status.success());
    let log = stdout(&home.podctl(&["logs", "https"]));
    assert!(log.contains("asked /ready") && log.contains("asked /stop"), "{log}");
}

#[test]
fn completion_knows_the_commands() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let mut command = home.command(&["completion", shell]);
        let output = command.stderr(Stdio::piped()).output().unwrap();
        assert!(stdout(&output).contains("__complete"), "{shell}: {}", stderr(&output));
    }
    assert!(home.said(&["__complete", "por"]).starts_with("port-forward\t"));
}
