//! podctl where something around it has taken rights away, as CI's containers do: it goes on with what there is, and says so.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use crate::common::{Home, stderr, stdout};

/// Runs a pod of one line of shell through setpriv(1) with these arguments.
fn run_under(home: &Home, arguments: &[&str], line: &str) -> String {
    run_wrapped(home, &[&["setpriv"], arguments].concat(), line)
}

/// Runs a pod of one line of shell by way of a program that starts another; it succeeds.
fn run_wrapped(home: &Home, wrapper: &[&str], line: &str) -> String {
    let output = try_wrapped(home, wrapper, line);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    stdout(&output) + &stderr(&output)
}

fn try_wrapped(home: &Home, wrapper: &[&str], line: &str) -> Output {
    let file = home.file("pod.yaml", &crate::script(line, "", ""));
    let podctl = home.command(&["run", "--replace", "--network", "none", &file]);
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(podctl.get_program()).args(podctl.get_args());
    command.envs(podctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.output().unwrap()
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

#[test]
fn root_without_what_every_container_takes_ends_at_once_and_is_told_what() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("not tried: a user's pods have all of their own namespace");
    }
    let home = Home::new();
    let output = try_wrapped(&home, &["setpriv", "--bounding-set", "-setgid,-setpcap"], "true");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("no container starts without SETGID, SETPCAP") && said.contains("--cap-add"),
        "{said}"
    );
}

#[test]
fn who_may_write_small_files_alone_is_told_so() {
    let home = Home::new();
    let root = nix::unistd::geteuid().is_root();
    let without = ["setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource"];
    for most in ["0", "500000"] {
        let limit = format!("--fsize={most}:{most}");
        let wrapper = [if root { &without[..] } else { &[] }, &["prlimit", &limit]].concat();
        let output = try_wrapped(&home, &wrapper, "true");
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("File too large"), "{}", stderr(&output));
    }
}

#[test]
fn a_umask_that_takes_everything_takes_nothing_of_podctls() {
    let said =
        run_wrapped(&Home::new(), &["sh", "-c", "umask 0777; exec \"$@\"", "sh"], "echo runs with $(umask)");
    assert!(said.contains("runs with 0022"), "{said}");
}

#[test]
fn the_data_directory_may_be_a_link_of_the_users_own() {
    let home = Home::new();
    fs::create_dir(home.path("disk")).unwrap();
    std::os::unix::fs::symlink("disk", home.path("data")).unwrap();
    let said = run_wrapped(&home, &["env"], "echo written >/x; cat /x");
    assert!(said.contains("| written") && home.path("disk/images").is_dir(), "{said}");
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::lchown(home.path("data"), Some(12345), None).unwrap();
        let output = try_wrapped(&home, &["env"], "true");
        assert!(stderr(&output).contains("it belongs to another user"), "{}", stderr(&output));
    }
}
