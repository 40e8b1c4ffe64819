//! A container's clean start: nothing of whoever starts a pod reaches it.

use std::process::Command;

use super::{
    common::{self, Home},
    script,
};

#[test]
fn nothing_of_the_callers_process_reaches_a_container() {
    let home = Home::new();
    let line = "umask; stat -c %a / /etc/hosts; ulimit -t; grep -E SigBlk\\|SigIgn /proc/self/status | cut -f2; env | grep -c CALLERS; cut -d\" \" -f19 /proc/self/stat; pwd";
    let file = home.file("pod.yaml", &script(line, "", ""));
    let podctl = home.command(&["run", "--network=none", &file]);
    // A soft limit, which everybody may raise again; only root may make itself nicer.
    let nice = if nix::unistd::geteuid().is_root() { "nice -n 7" } else { "" };
    let caller = format!(
        "cd /tmp; umask 077; ulimit -S -t 900; trap '' HUP INT TERM USR1 CHLD PIPE; exec {nice} \"$@\""
    );
    let mut sh = Command::new("sh");
    sh.args(["-c", &caller, "sh"]).arg(podctl.get_program()).args(podctl.get_args()).env("CALLERS", "own");
    sh.envs(podctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let none = "0000000000000000";
    let found = common::lines(&sh.output().unwrap());
    assert_eq!(found, ["0022", "755", "644", "unlimited", none, none, "0", "0", "/"]);
}
