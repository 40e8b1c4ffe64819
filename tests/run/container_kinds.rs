//! What each kind of container has of its own: init containers, classic sidecars, ephemeral containers.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use crate::common::{Home, pod, shell, stderr, stdout, until};

#[test]
fn r_init_6_image_environment_volumes_identity_and_resources_are_each_containers_own() {
    let home = Home::new();
    let show =
        "for f in /etc/nginx/nginx.conf /mine; do test -e $f && echo $f; done; echo $WORD $LIMIT $(id -u)";
    let own = |word: &str, memory: &str, user: u32, more: &str| {
        format!(
            "    env:
    - {{name: WORD, value: {word}}}
    - {{name: LIMIT, valueFrom: {{resourceFieldRef: {{resource: limits.memory, divisor: 1Mi}}}}}}
    resources: {{limits: {{memory: {memory}}}}}
    securityContext: {{runAsUser: {user}}}
{more}"
        )
    };
    let init = shell("i", show).replace("busybox:1.36", "nginx:1.21");
    let mount = "    volumeMounts: [{name: v, mountPath: /mine}]\n";
    let text = pod(&format!(
        "  restartPolicy: Never\n  initContainers:\n{init}{}  containers:\n{}{}  volumes: [{{name: v, emptyDir: {{}}}}]\n",
        own("first", "64Mi", 1001, mount),
        shell("a", show),
        own("second", "32Mi", 1002, ""),
    ));
    let output = home.run(&text, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let log = |name: &str| stdout(&home.podctl(&["logs", "p", "-c", name]));
    assert_eq!(log("i"), "/etc/nginx/nginx.conf\n/mine\nfirst 64 1001\n");
    assert_eq!(log("a"), "second 32 1002\n");
}

#[test]
fn r_side_5_a_classic_sidecar_that_dies_is_restarted_alone() {
    let home = Home::new();
    let app = shell("a", "trap \"exit 0\" TERM; while :; do sleep 0.1; done");
    let side = shell("s", "until test -e /tmp/die; do sleep 0.1; done; exit 3");
    let text = pod(&format!("  containers:\n{app}{side}"));
    assert!(home.run(&text, &["-d", "--wait", "ready"]).status.success());
    let status = |name: &str| {
        let all = home.pod("p")["status"]["containerStatuses"].clone();
        all.as_array().unwrap().iter().find(|c| c["name"] == name).unwrap().clone()
    };
    let before = status("a")["state"].clone();
    // The container may take the exec with it.
    home.podctl(&["exec", "p", "-c", "s", "--", "touch", "/tmp/die"]);
    until("the sidecar runs again", || {
        let side = status("s");
        side["restartCount"] == 1 && side["state"]["running"].is_object()
    });
    assert_eq!(status("s")["lastState"]["terminated"]["exitCode"], 3);
    let app = status("a");
    assert_eq!((&app["restartCount"], &app["state"]), (&0.into(), &before));
    assert_eq!(home.pod("p")["status"]["phase"], "Running");
}

#[test]
fn r_eph_3_an_ephemeral_container_is_shown_and_reached_like_any_other() {
    let home = Home::new();
    let text =
        pod(&format!("  containers:\n{}", shell("a", "trap \"exit 0\" TERM; while :; do sleep 0.1; done")));
    assert!(home.run(&text, &["-d", "--wait", "ready"]).status.success());
    let script = "touch /here; until test -e /leave; do echo tick; sleep 0.1; done; echo last words; exit 6";
    let debug = ["debug", "p", "-c", "dbg", "--image=busybox:1.36", "--", "sh", "-c", script];
    let output = home.podctl(&debug);
    assert!(output.status.success(), "{}", stderr(&output));
    let status = || home.pod("p")["status"]["ephemeralContainerStatuses"][0].clone();
    until("it runs", || status()["state"]["running"].is_object());
    until("its log is there", || stdout(&home.podctl(&["logs", "p", "-c", "dbg"])).starts_with("tick\n"));
    let reached = home.podctl(&["exec", "p", "-c", "dbg", "--", "ls", "/here"]);
    assert_eq!(stdout(&reached), "/here\n", "{}", stderr(&reached));
    let described = stdout(&home.podctl(&["describe", "pod", "p"]));
    let section =
        described.split("Ephemeral Containers:\n  dbg:\n").nth(1).unwrap_or_else(|| panic!("{described}"));
    assert!(section.contains("    State:          Running\n"), "{section}");

    let mut attach = home.command(&["attach", "p", "-c", "dbg"]);
    let mut attach = attach.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(attach.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "tick", "attached while it runs");
    // The container may take the exec with it.
    home.podctl(&["exec", "p", "-c", "dbg", "--", "touch", "/leave"]);
    assert_eq!(lines.last().unwrap().unwrap(), "last words");
    assert_eq!(attach.wait().unwrap().code(), Some(6));
    until("its end is recorded", || status()["state"]["terminated"]["exitCode"] == 6);
    let described = stdout(&home.podctl(&["describe", "pod", "p"]));
    assert!(described.contains("      Exit Code:    6\n"), "{described}");
}
