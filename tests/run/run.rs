//! What `podctl run` promises, on real containers.

use nix::sys::signal::Signal;
use std::fs;

use crate::common::{Home, pod, shell, stderr, stdout, until};

/// Ends when it is asked to; ready once that is so. Before, the kernel drops the signal: it is a PID 1.
fn obedient(name: &str) -> String {
    let probe =
        "    readinessProbe: {exec: {command: [test, -e, /up]}, periodSeconds: 1, timeoutSeconds: 30}\n";
    shell(name, "trap \"exit 0\" TERM; touch /up; while :; do sleep 0.1; done") + probe
}

const VOLUME: &str = "    volumeMounts: [{name: v, mountPath: /v}]\n";
const EMPTY_DIR: &str = "  volumes: [{name: v, emptyDir: {}}]\n";

#[test]
fn r_init_1_init_containers_run_one_by_one_in_file_order_before_the_app() {
    let home = Home::new();
    let mut text = "  restartPolicy: Never\n  initContainers:\n".to_owned();
    for (name, script) in [("one", "sleep 0.3; echo 1 >> /v/order"), ("two", "echo 2 >> /v/order")] {
        text += &(shell(name, script) + VOLUME);
    }
    text +=
        &format!("  containers:\n{}{VOLUME}{EMPTY_DIR}", shell("app", "echo app >> /v/order; cat /v/order"));
    let output = home.run(&pod(&text), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<String> =
        stdout(&output).lines().filter_map(|l| Some(l.split("| ").nth(1)?.to_owned())).collect();
    assert_eq!(lines, ["1", "2", "app"]);
}

#[test]
fn r_init_3_only_the_failed_init_container_is_retried() {
    let home = Home::new();
    let first = shell("first", "echo first >> /v/runs") + VOLUME;
    let second = shell("second", "echo second >> /v/runs; test $(grep -c second /v/runs) -ge 3") + VOLUME;
    let app = shell("app", "cat /v/runs") + VOLUME;
    let text = format!(
        "  restartPolicy: OnFailure\n  initContainers:\n{first}{second}  containers:\n{app}{EMPTY_DIR}"
    );
    let output = home.run(&pod(&text), &["--backoff-initial", "0.1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).matches("first").count(), 1, "{}", stdout(&output));
    assert_eq!(stdout(&output).matches("second").count(), 3, "{}", stdout(&output));
}

#[test]
fn the_exit_code_is_the_first_failing_app_containers() {
    let home = Home::new();
    let text =
        format!("  restartPolicy: Never\n  containers:\n{}{}", shell("a", "exit 0"), shell("b", "exit 9"));
    assert_eq!(home.run(&pod(&text), &[]).status.code(), Some(9));
    assert_eq!(home.pod("p")["status"]["phase"], "Failed");
}

#[test]
fn r_init_2_a_failed_init_container_fails_a_pod_that_never_restarts() {
    let home = Home::new();
    let text = format!(
        "  restartPolicy: Never\n  initContainers:\n{}  containers:\n{}",
        shell("i", "exit 4"),
        shell("app", "echo must not run")
    );
    let output = home.run(&pod(&text), &[]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(!stdout(&output).contains("must not run"));
}

#[test]
fn r_side_3_a_sidecar_ends_after_the_app_and_does_not_decide_the_phase() {
    let home = Home::new();
    let sidecar = shell(
        "side",
        "trap \"echo side ends; exit 1\" TERM; touch /v/ready; while :; do sleep 0.1; done",
    ) + VOLUME
        + "    restartPolicy: Always\n    startupProbe: {exec: {command: [test, -e, /v/ready]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 60}\n";
    let app = shell("app", "test -e /v/ready && echo app ends") + VOLUME;
    let text = format!("  restartPolicy: Never\n  initContainers:\n{sidecar}  containers:\n{app}{EMPTY_DIR}");
    let output = home.run(&pod(&text), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let out = stdout(&output);
    assert!(out.find("app ends").unwrap() < out.find("side ends").unwrap(), "{out}");
}

#[test]
fn r_side_4_sidecars_are_stopped_in_reverse_order_after_the_apps() {
    let home = Home::new();
    let order = home.path("order");
    fs::create_dir(&order).unwrap();
    let script = |name: &str| {
        format!("trap \"echo {name} >> /v/log; exit 0\" TERM; touch /v/{name}; while :; do sleep 0.1; done")
    };
    let sidecar = |name: &str| shell(name, &script(name)) + VOLUME + "    restartPolicy: Always\n";
    let text = format!(
        "  initContainers:\n{}{}  containers:\n{}{VOLUME}  volumes: [{{name: v, hostPath: {{path: {}}}}}]\n",
        sidecar("s1"),
        sidecar("s2"),
        shell("app", &script("app")),
        order.display()
    );
    let started = home.run(&pod(&text), &["-d"]);
    assert!(started.status.success(), "{}", stderr(&started));
    until("every trap is set", || ["s1", "s2", "app"].iter().all(|name| order.join(name).exists()));
    assert!(home.podctl(&["delete", "p"]).status.success());
    assert_eq!(fs::read_to_string(order.join("log")).unwrap(), "app\ns2\ns1\n");
}

#[test]
fn r_term_1_ctrl_c_and_delete_leave_nothing_behind() {
    let home = Home::new();
    let text = format!("  containers:\n{}", obedient("a"));
    let mut client = home.run_in_background(&pod(&text));
    until("the pod is ready", || home.pod("p")["status"]["containerStatuses"][0]["ready"] == true);
    assert!(!home.traces().is_empty(), "a running pod must leave traces, else this test sees none");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(client.id() as i32), nix::sys::signal::Signal::SIGINT)
        .unwrap();
    client.wait().unwrap();
    until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());

    assert!(home.run(&pod(&text), &["-d", "--wait", "ready"]).status.success());
    assert!(home.podctl(&["delete", "p"]).status.success());
    until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
}

#[test]
fn r_term_1_a_second_ctrl_c_kills() {
    let home = Home::new();
    let script = "trap \"\" TERM; touch /up; while :; do sleep 0.1; done";
    let probe =
        "    readinessProbe: {exec: {command: [test, -e, /up]}, periodSeconds: 1, timeoutSeconds: 30}\n";
    let stubborn =
        format!("  terminationGracePeriodSeconds: 600\n  containers:\n{}{probe}", shell("a", script));
    let mut client = home.run_in_background(&pod(&stubborn));
    until("the pod is ready", || home.pod("p")["status"]["containerStatuses"][0]["ready"] == true);
    let interrupt = || {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(client.id() as i32),
            nix::sys::signal::Signal::SIGINT,
        )
        .unwrap();
    };
    interrupt();
    until("the pod is ending", || home.pod("p")["metadata"]["deletionGracePeriodSeconds"] == 600);
    interrupt();
    until("the pod is gone", || home.pod("p").is_null());
    assert_eq!(client.wait().unwrap().code(), Some(130));
    until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
}

#[test]
fn a_run_that_is_asked_to_end_or_loses_its_terminal_gives_the_code_of_its_pod() {
    for (signal, code) in
        [(Signal::SIGTERM, 0), (Signal::SIGTERM, 3), (Signal::SIGHUP, 0), (Signal::SIGHUP, 4)]
    {
        let home = Home::new();
        let script = format!("trap \"exit {code}\" TERM; touch /up; while :; do sleep 0.1; done");
        let probe =
            "    readinessProbe: {exec: {command: [test, -e, /up]}, periodSeconds: 1, timeoutSeconds: 30}\n";
        let text = format!("  containers:\n{}{probe}", shell("a", &script));
        let mut client = home.run_in_background(&pod(&text));
        until("the pod is ready", || home.pod("p")["status"]["containerStatuses"][0]["ready"] == true);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(client.id() as i32), signal).unwrap();
        assert_eq!(client.wait().unwrap().code(), Some(code), "{signal}");
        until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
    }
}

#[test]
fn with_a_linger_the_next_pod_finds_the_user_namespace_of_the_last_one() {
    let home = Home::new();
    let script = shell("a", "readlink /proc/self/ns/user");
    let file = home.file("pod.yaml", &pod(&format!("  restartPolicy: Never\n  containers:\n{script}")));
    let namespace = || {
        let mut command = home.command(&["run", "--network", "none", "--replace", &file]);
        // Longer than it takes until the next pod is there, on however busy a machine.
        let output = command.env("PODCTL_LINGER", "15").output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&home.podctl(&["logs", "p"]))
    };
    let first = namespace();
    assert!(first.starts_with("user:["), "{first}");
    assert_eq!(namespace(), first);
    until("its holder has ended", || home.traces().iter().all(|trace| !trace.contains("internal")));
}

#[test]
fn a_killed_supervisor_takes_its_containers_along_and_is_swept() {
    let home = Home::new();
    let text = format!("  containers:\n{}", shell("a", "while :; do sleep 0.1; done"));
    assert!(home.run(&pod(&text), &["-d"]).status.success());
    let supervisor = home.supervisor("p").unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    until("the pod is seen as lost", || home.pod("p")["status"]["reason"] == "SupervisorLost");
    assert!(home.podctl(&["delete", "p"]).status.success());
    until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
}

#[test]
fn exec_passes_input_output_and_exit_code() {
    let home = Home::new();
    let text = format!("  containers:\n{}", obedient("a"));
    assert!(home.run(&pod(&text), &["-d"]).status.success());
    let output = home.podctl(&["exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("out\n", Some(7)));
    assert_eq!(stderr(&output), "err\ncommand terminated with exit code 7\n");
    assert_eq!(home.podctl(&["exec", "p", "--", "no-such-command"]).status.code(), Some(127));
    let killed = home.podctl(&["exec", "p", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137));
    for _ in 0..50 {
        assert!(home.podctl(&["exec", "p", "--", "true"]).status.success());
    }
}

#[test]
fn r_probe_1_a_failed_liveness_probe_restarts_the_container() {
    let home = Home::new();
    let probe = "    livenessProbe: {exec: {command: [test, '!', -e, /ill]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}\n";
    let script = "trap \"exit 0\" TERM; while :; do sleep 0.1; done";
    let text = format!("  containers:\n{}{probe}", shell("a", script));
    assert!(home.run(&pod(&text), &["-d"]).status.success());
    // The container may take the exec with it.
    home.podctl(&["exec", "p", "--", "touch", "/ill"]);
    until("the container was restarted", || {
        home.pod("p")["status"]["containerStatuses"][0]["restartCount"] == 1
    });
}

#[test]
fn r_env_1_and_r_vol_2_configuration_reaches_the_container() {
    let home = Home::new();
    let map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {key: value}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {word: hidden}\n";
    let app =
        shell("app", "echo $A $B $(whoami) $(cat /c/key) $(cat /s/word); touch /c/no || echo read-only");
    let text = format!(
        "  restartPolicy: Never\n  containers:\n{app}    securityContext: {{runAsUser: 1}}\n    env:\n    - name: A\n      valueFrom: {{configMapKeyRef: {{name: c, key: key}}}}\n    - name: B\n      value: $(A)-$(NONE)\n    volumeMounts: [{{name: c, mountPath: /c}}, {{name: s, mountPath: /s}}]\n  volumes: [{{name: c, configMap: {{name: c}}}}, {{name: s, secret: {{secretName: s}}}}]\n{map}"
    );
    let output = home.run(&pod(&text), &[]);
    let out = stdout(&output);
    assert!(
        out.contains("value value-$(NONE)") && out.contains("value hidden") && out.contains("read-only"),
        "{out}"
    );
}

#[test]
fn bad_manifests_start_nothing_and_say_where() {
    let home = Home::new();
    let output = home.run(&pod("  containers:\n  - name: a\n    imag: busybox\n"), &[]);
    assert_eq!(output.status.code(), Some(1));
    let words = stderr(&output);
    assert!(
        words.contains("pod.yaml:8:5: error: spec.containers[0].imag: unknown field")
            && words.contains("did you mean \"image\""),
        "{words}"
    );
    assert!(home.traces().is_empty());

    let file = home.file("pod.yaml", "");
    for (bytes, words) in [
        (&b"apiVersion: v1\nkind: caf\xe9\n"[..], "it is not text in UTF-8"),
        (b"\xff\xfea\0", "it is not text in UTF-8"),
        (b"", "the files hold no Pod"),
        (b"# nothing\n---\n", "the files hold no Pod"),
    ] {
        fs::write(&file, bytes).unwrap();
        let output = home.podctl(&["run", &file]);
        assert!(!output.status.success() && stderr(&output).contains(words), "{}", stderr(&output));
    }
}

#[test]
fn r_img_1_an_image_that_is_not_there_ends_the_run_with_the_registrys_words() {
    let home = Home::new();
    let registry = std::env::var("PODCTL_TEST_REGISTRY").expect("scripts/test sets it");
    let text = format!("  containers:\n  - {{name: a, image: '{registry}/library/busybox:no-such-tag'}}\n");
    let output = home.run(&pod(&text), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("ErrImagePull") && stderr(&output).contains("busybox:no-such-tag"),
        "{}",
        stderr(&output)
    );
    until(&format!("nothing is left: {:?}", home.traces()), || home.traces().is_empty());
}

#[test]
fn r_net_1_containers_reach_each_other_on_localhost() {
    let home = Home::new();
    let server = shell("server", "echo hello > /index.html; exec httpd -f -p 8080 -h /");
    let client = shell("client", "until wget -qO- http://127.0.0.1:8080/index.html; do sleep 0.1; done");
    let text = format!("  restartPolicy: Never\n  containers:\n{server}{client}");
    let file = home.file("pod.yaml", &pod(&text));
    assert!(home.podctl(&["run", "-d", &file]).status.success());
    until("the client has read the page", || {
        stdout(&home.podctl(&["logs", "p", "-c", "client"])).contains("hello")
    });
}
