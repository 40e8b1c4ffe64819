//! `run -d`: what its wait says, and what ends it.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use crate::common::{Home, pod, shell, stderr, stdout, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const APP: &str = "trap \"exit 0\" TERM; while :; do sleep 0.1; done";

#[test]
fn a_long_wait_says_for_what_and_control_c_ends_it_and_not_the_pod() {
    let home = Home::new();
    let text = pod(&format!("  initContainers:\n{}  containers:\n{}", shell("i", APP), shell("a", APP)));
    let file = home.file("pod.yaml", &text);
    let mut run = home.command(&["run", "-d", &file]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.find(|l| l.contains("waits:")).unwrap();
    assert!(said.contains("init container i (1 of 1) has not ended; `podctl logs -f p -c i`"), "{said}");
    kill(Pid::from_raw(run.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert!(lines.any(|l| l.contains("pod p goes on")));
    assert_eq!(home.pod("p")["status"]["phase"], "Pending");
    assert!(home.supervisor("p").is_some());
}

#[test]
fn the_wait_ends_with_an_init_container_that_cannot_succeed() {
    let home = Home::new();
    let text = pod(&format!("  initContainers:\n{}  containers:\n{}", shell("i", "exit 4"), shell("a", APP)));
    let output = home.run(&text, &["-d"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), "pod/p started\n"));
    let said = stderr(&output);
    assert!(said.contains("container i: back-off 10s") && said.contains("`podctl logs p -c i`"), "{said}");
    until("the pod goes on trying", || home.supervisor("p").is_some());
    assert!(home.podctl(&["delete", "p"]).status.success());

    let output = home.run(&text.replace("spec:\n", "spec:\n  restartPolicy: Never\n"), &["-d"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    let said = stderr(&output);
    assert!(said.contains("pod p has failed: container i ended with exit code 4 (Error)"), "{said}");
}
