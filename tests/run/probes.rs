//! R-PROBE and R-HOOK over the network and beside it, on real servers in real containers.

use std::fs;

use crate::common::{Home, events, pod, shell, stderr, stdout, until};

/// A gRPC health server, HTTP/2 by hand. It knows the service "db", whose status is that of the file /status
/// (1 SERVING, 2 NOT_SERVING), and answers NOT_FOUND for any other.
const HEALTH: &str = r#"
    import socket, struct, threading

    def frame(kind, flags, stream, body):
        return struct.pack('>I', len(body))[1:] + struct.pack('>BBI', kind, flags, stream) + body

    def header(name, value):
        return b'\0' + bytes([len(name)]) + name + bytes([len(value)]) + value

    def serve(connection):
        bytes_in = connection.makefile('rb')
        bytes_in.read(24)
        connection.sendall(frame(4, 0, 0, b''))
        while head := bytes_in.read(9):
            length, kind, flags = struct.unpack('>I', b'\0' + head[:3])[0], head[3], head[4]
            stream, body = struct.unpack('>I', head[5:])[0], bytes_in.read(length)
            if kind == 4 and not flags & 1:
                connection.sendall(frame(4, 1, 0, b''))
            if kind == 0 and flags & 1:
                known = body == b'\0\0\0\0\x04\x0a\x02db'
                message = b'\0\0\0\0\x02\x08' + bytes([int(open('/status').read())]) if known else b''
                connection.sendall(
                    frame(1, 4, stream, b'\x88' + header(b'content-type', b'application/grpc'))
                    + frame(0, 0, stream, message)
                    + frame(1, 5, stream, header(b'grpc-status', b'0' if known else b'5')))

    open('/status', 'w').write('1')
    server = socket.create_server(('', 50051))
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],)).start()
"#;

/// A Python container that runs `program`, which a ConfigMap brings; `more` of it is indented by four.
fn python(program: &str, more: &str) -> String {
    let container = format!(
        "  - name: a\n    image: python:3.11\n    command: [python3, /p/main.py]\n    volumeMounts: [{{name: p, mountPath: /p}}]\n{more}"
    );
    let volume = "  volumes: [{name: p, configMap: {name: program}}]\n";
    let map = format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: program}}\ndata:\n  main.py: |\n{program}\n"
    );
    pod(&format!("  terminationGracePeriodSeconds: 0\n  containers:\n{container}{volume}{map}"))
}

fn ready(home: &Home) -> bool {
    home.pod("p")["status"]["containerStatuses"][0]["ready"] == true
}

#[test]
fn r_probe_1_grpc_follows_what_the_health_service_says() {
    let home = Home::new();
    let probe = "    startupProbe: {grpc: {port: 50051, service: db}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 60}\n    readinessProbe: {grpc: {port: 50051, service: db}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1}\n";
    let output = home.run(&python(HEALTH, probe), &["-d", "--wait", "ready"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(ready(&home));
    let set = |status: &str| {
        let script = format!("echo {status} > /status");
        assert!(home.podctl(&["exec", "p", "--", "sh", "-c", &script]).status.success());
    };
    set("2");
    until("it is not ready any more", || !ready(&home));
    let said = "Unhealthy: Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")";
    assert!(events(&home, "p").contains(&said.to_owned()), "{:?}", events(&home, "p"));
    set("1");
    until("it is ready again", || ready(&home));
}

#[test]
fn r_probe_1_a_service_that_the_health_server_does_not_know_restarts_the_container() {
    let home = Home::new();
    let probe = "    livenessProbe: {grpc: {port: 50051, service: other}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 2, initialDelaySeconds: 1}\n";
    let output = home.run(&python(HEALTH, probe), &["-d"]);
    assert!(output.status.success(), "{}", stderr(&output));
    until("it is restarted", || {
        home.pod("p")["status"]["containerStatuses"][0]["restartCount"].as_i64() >= Some(1)
    });
    let seen = events(&home, "p");
    assert!(
        seen.iter().any(|e| e.starts_with("Unhealthy: Liveness probe failed: ") && e.contains("code = 5"))
    );
}

#[test]
fn r_probe_1_http_follows_redirects_on_the_same_host_and_passes_at_another() {
    let home = Home::new();
    let program = r#"
    import http.server
    class H(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            print('asked', self.path, self.headers.get('X-Probe'), flush=True)
            to = {'/a': '/b', '/b': 'http://elsewhere.invalid/c'}.get(self.path)
            self.send_response(302)
            self.send_header('Location', to)
            self.end_headers()
    http.server.ThreadingHTTPServer(('', 8080), H).serve_forever()
"#;
    let probe = "    ports: [{name: web, containerPort: 8080}]
    readinessProbe:
      httpGet: {path: /a, port: web, httpHeaders: [{name: X-Probe, value: 'yes'}]}
      periodSeconds: 1
      timeoutSeconds: 10
";
    let output = home.run(&python(program, probe), &["-d", "--wait", "ready"]);
    assert!(output.status.success(), "{}", stderr(&output));
    until("the log has both", || {
        let log = stdout(&home.podctl(&["logs", "p"]));
        log.contains("asked /a yes") && log.contains("asked /b yes")
    });
}

#[test]
fn r_probe_1_and_r_hook_1_a_tcp_socket_is_tried_where_the_pods_servers_listen() {
    let home = Home::new();
    let server = shell("s", "mkdir /w; echo page > /w/index.html; exec httpd -f -v -p 8080 -h /w");
    let sidecar = "    restartPolicy: Always
    ports: [{name: web, containerPort: 8080}]
    startupProbe: {tcpSocket: {port: web}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 60}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, timeoutSeconds: 10}
";
    let app = shell("a", "trap \"exit 0\" TERM; while :; do sleep 0.1; done");
    let hooks = "    lifecycle:
      postStart: {tcpSocket: {port: 8080}}
      preStop: {httpGet: {path: /goodbye, port: 8080}}
    readinessProbe: {tcpSocket: {port: 8081}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1}
";
    let text = pod(&format!("  initContainers:\n{server}{sidecar}  containers:\n{app}{hooks}"));
    let output = home.run(&text, &["-d", "--wait", "running"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let ip = home.pod("p")["status"]["podIP"].as_str().unwrap().to_owned();
    let said = format!("Unhealthy: Readiness probe failed: dial tcp {ip}:8081: connect: connection refused");
    until("readiness has failed", || events(&home, "p").contains(&said));
    assert!(!events(&home, "p").iter().any(|e| e.contains("Hook")), "{:?}", events(&home, "p"));
    assert!(home.podctl(&["stop", "p"]).status.success());
    let seen = events(&home, "p");
    let failed = |e: &&String| e.starts_with("FailedPreStopHook: ") && e.contains("statuscode: 404");
    assert_eq!(
        seen.iter().filter(failed).count(),
        1,
        "the page is not there, and that stops nothing: {seen:?}"
    );
}

#[test]
fn r_hook_1_post_start_holds_the_next_container_back_and_may_sleep() {
    let home = Home::new();
    let server = |name: &str| shell(name, "trap \"exit 0\" TERM; while :; do sleep 0.1; done");
    let hook = "    lifecycle: {postStart: {sleep: {seconds: 1}}}\n";
    let text = pod(&format!("  containers:\n{}{hook}{}", server("a"), server("b")));
    assert!(home.run(&text, &["-d", "--wait", "ready"]).status.success());
    let json = stdout(&home.podctl(&["timeline", "p", "-o", "json"]));
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let at = |container: &str, part: Option<&str>, end: &str| {
        let all = rows["rows"].as_array().unwrap();
        let row = all.iter().find(|r| r["container"] == container && r["part"].as_str() == part);
        row.and_then(|r| r["bars"][0][end].as_f64()).unwrap_or_else(|| panic!("{container} in {json}"))
    };
    assert!(at("a", Some("postStart"), "to") - at("a", Some("postStart"), "from") >= 1.0);
    assert!(at("b", None, "from") >= at("a", Some("postStart"), "to"));
}

#[test]
fn r_hook_2_the_images_stop_signal_ends_a_container_and_its_own_goes_before() {
    let home = Home::new();
    // nginx's image says SIGQUIT.
    let script = "for s in QUIT USR1 TERM; do trap \"echo got $s; exit 0\" $s; done; echo up; while :; do sleep 0.1; done";
    let container = |name: &str| shell(name, script).replace("busybox:1.36", "nginx:1.21");
    let own = "    lifecycle: {stopSignal: SIGUSR1}\n";
    let text = pod(&format!("  containers:\n{}{}{own}", container("a"), container("b")));
    let output = home.run(&text, &["-d"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let log = |name: &str| stdout(&home.podctl(&["logs", "p", "-c", name]));
    until("both have their traps", || log("a") == "up\n" && log("b") == "up\n");
    assert!(home.podctl(&["stop", "p"]).status.success());
    assert_eq!((log("a").as_str(), log("b").as_str()), ("up\ngot QUIT\n", "up\ngot USR1\n"));
}

#[test]
fn r_probe_1_a_probes_own_grace_period_is_all_that_a_hung_server_gets() {
    let home = Home::new();
    let probe = "    livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 1}\n";
    let script = "trap \"\" TERM; while :; do sleep 0.1; done";
    let text =
        pod(&format!("  terminationGracePeriodSeconds: 600\n  containers:\n{}{probe}", shell("a", script)));
    assert!(home.run(&text, &["-d"]).status.success());
    until("it is killed and restarted", || {
        let one = &home.pod("p")["status"]["containerStatuses"][0];
        one["restartCount"].as_i64() >= Some(1) && one["lastState"]["terminated"]["exitCode"] == 137
    });
}

#[test]
fn r_probe_2_readiness_goes_on_while_the_pod_ends_and_liveness_does_not() {
    let home = Home::new();
    let shared = home.path("shared");
    fs::create_dir(&shared).unwrap();
    let probe = |name: &str| {
        format!(
            "    {name}Probe: {{exec: {{command: [sh, -c, 'echo {name} >> /v/probes; test ! -e /v/sick']}}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 10}}\n"
        )
    };
    let script = "trap \"touch /v/asked\" TERM; until test -e /v/end; do sleep 0.1; done";
    let text = pod(&format!(
        "  terminationGracePeriodSeconds: 600\n  containers:\n{}{}{}    volumeMounts: [{{name: v, mountPath: /v}}]\n  volumes: [{{name: v, hostPath: {{path: {}}}}}]\n",
        shell("a", script),
        probe("liveness"),
        probe("readiness"),
        shared.display()
    ));
    assert!(home.run(&text, &["-d", "--wait", "ready"]).status.success());
    assert!(home.podctl(&["delete", "p", "--wait=false"]).status.success());
    until("it has been asked to end", || shared.join("asked").exists());
    // A probe that had begun may still write; from here on there are new ones only.
    fs::write(shared.join("sick"), "").unwrap();
    until("it is not ready any more", || !ready(&home));
    let probes = fs::read_to_string(shared.join("probes")).unwrap();
    let seen = probes.lines().rev().take_while(|l| *l == "readiness").count();
    until("readiness was asked again", || {
        let probes = fs::read_to_string(shared.join("probes")).unwrap();
        probes.lines().rev().take_while(|l| *l == "readiness").count() > seen.max(2)
    });
    assert_eq!(home.pod("p")["status"]["containerStatuses"][0]["restartCount"], 0);
    fs::write(shared.join("end"), "").unwrap();
    until("the pod is gone", || home.pod("p").is_null());
}

#[test]
fn r_probe_1_a_redirect_to_another_host_passes_with_a_warning() {
    let home = Home::new();
    let answer = "HTTP/1.1 302 Found\\r\\nLocation: http://192.0.2.9/\\r\\nContent-Length: 0\\r\\n\\r\\n";
    let server = shell("s", &format!("while :; do printf \"{answer}\" | nc -l -p 8080; done"));
    let probe = "    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 60}\n";
    home.start(
        &pod(&format!("  terminationGracePeriodSeconds: 0\n  containers:\n{server}{probe}")),
        &["--network=none"],
    );
    let warning = "ProbeWarning: Readiness probe warning: Probe terminated redirects";
    until("it is ready, with a warning", || {
        ready(&home) && events(&home, "p").iter().any(|event| event.starts_with(warning))
    });
}
