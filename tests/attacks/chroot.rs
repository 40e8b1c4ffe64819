//! Out of a root directory that is not its mount namespace's: what a pod in a chroot (mock, schroot, rescue systems) would
//! run in, if podctl did not see to it. An ordinary user gets no user namespace in a chroot, so there are no pods of his.

use std::process::{Command, Output};

use crate::{
    attacker::{attacker, marker, written},
    common::{Home, stderr, stdout, until},
};

/// Runs a command in a chroot that has all of this machine but the directory of the marker.
fn in_chroot(home: &Home, hidden: &str, command: &mut Command) -> Output {
    let script = "set -e; mkdir -p \"$1\"; mount --rbind / \"$1\"; mount -t tmpfs none \"$1$2\"
        root=$1; shift 2; exec chroot \"$root\" \"$@\"";
    let root = home.path("chroot").display().to_string();
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "--propagation", "private", "sh", "-c", script, "sh", &root, hidden]);
    unshare.arg(command.get_program()).args(command.get_args());
    unshare.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).output().unwrap()
}

#[test]
fn a_pod_in_a_chroot_stays_in_its_root_and_so_does_who_enters_it() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: only root can chroot");
    }
    let (home, outside) = (Home::new(), Home::new());
    let (marker, text) = marker(&outside);
    let hidden = outside.path("").display().to_string();
    let program = attacker(&home);

    let control = in_chroot(&home, &hidden, Command::new(&program).args(["leave-root", &marker]));
    assert!(
        stdout(&control).contains(&text),
        "the attack works where there is no wall: {}",
        stderr(&control)
    );

    let kit = program.parent().unwrap().display().to_string();
    let manifest = home.file(
        "pod.yaml",
        &format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{{name: kit, hostPath: {{path: {kit:?}}}}}]
  containers:
  - name: c
    image: busybox:1.36
    command: [sh, -c, '/kit/attack leave-root {marker}; exec sleep 600']
    volumeMounts: [{{name: kit, mountPath: /kit}}]
"
        ),
    );
    let mut run = home.command(&["run", "-d", "--network", "none", &manifest]);
    let started = in_chroot(&home, &hidden, &mut run);
    assert!(started.status.success(), "{}", stderr(&started));
    until("the attack has run", || !written(&home, "p", "c").is_empty());
    assert_eq!(written(&home, "p", "c"), "STAYED\n");
    assert!(home.podctl(&["exec", "p", "--", "test", "-x", "/kit/attack"]).status.success());
    assert!(!home.podctl(&["exec", "p", "--", "test", "-e", &kit]).status.success());
    home.podctl(&["cp", "p:/kit/attack", &home.path("copy").display().to_string()]);
    assert!(home.path("copy").exists());
}
