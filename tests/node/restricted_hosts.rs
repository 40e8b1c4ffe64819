//! podctl where something around it has taken rights away, as CI's containers do: it goes on with what there is, and says so.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use crate::common::{Home, stderr, stdout};

/// Runs a pod of one line of shell through setpriv(1) with these arguments.
fn run_under(home: &Home, arguments: &[&str], line: &str) -> String {
    run_wrapped(home, &[&["setpriv"], arguments].concat(), line)
}

/// Runs a pod of one line of shell by way of a program that starts another.
fn run_wrapped(home: &Home, wrapper: &[&str], line: &str) -> String {
    let file = home.file("pod.yaml", &crate::script(line, "", ""));
    let podctl = home.command(&["run", "--replace", "--network", "none", &file]);
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(podctl.get_program()).args(podctl.get_args());
    command.envs(podctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    stdout(&output) + &stderr(&output)
}

#[test]
fn root_without_some_capabilities_gives_containers_the_others_and_binds_devices() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("not tried: a user's pods have all of their own namespace");
    }
    let mode = || fs::metadata("/dev/null").unwrap().permissions().mode();
    let (home, before) = (Home::new(), mode());
    let line =
        "grep CapBnd /proc/self/status; echo x >/dev/null && echo null; chmod 600 /dev/null || echo kept";
    let said = run_under(&home, &["--bounding-set", "-mknod,-net_raw,-audit_write"], line);
    assert!(said.contains("containers run without AUDIT_WRITE, MKNOD, NET_RAW"), "{said}");
    assert!(
        said.contains("00000000800405fb") && said.contains("| null") && said.contains("| kept"),
        "{said}"
    );
    assert_eq!(mode(), before);
}

#[test]
fn a_user_without_new_privileges_has_one_id_and_is_told() {
    if nix::unistd::geteuid().is_root() {
        return eprintln!("not tried: root maps ids by itself");
    }
    let said = run_under(&Home::new(), &["--no-new-privs"], "id -u");
    assert!(said.contains("only one user id is available: no_new_privs is set"), "{said}");
    assert!(said.contains("| 0"), "{said}");
}

#[test]
fn who_may_have_few_descriptors_starts_containers_with_as_many() {
    let home = Home::new();
    // Root is told by what it may raise a limit; an ordinary user has nothing that could be taken.
    let root = nix::unistd::geteuid().is_root();
    let without = ["setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource"];
    let few = ["prlimit", "--nofile=256:256", "--sigpending=32:32", "--fsize=64000000:64000000"];
    let line = "echo has $(ulimit -Sn) of $(ulimit -Hn)";
    let wrapper = [if root { &without[..] } else { &[] }, &few[..]].concat();
    let said = run_wrapped(&home, &wrapper, line);
    assert!(said.contains("has 256 of 256"), "{said}");
    // Where there are more, neither the runtime's nor the specification's own number stands in the way.
    let many = run_wrapped(&home, &["prlimit", "--nofile=128:2000"], line);
    assert!(!many.contains("has 128 ") && !many.contains("of 1024"), "{many}");
}
