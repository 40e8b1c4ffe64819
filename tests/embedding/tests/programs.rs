//! Programs with podctl inside: what becomes of their pods when they end, however they end.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use podctl::{Engine, EngineOptions, Error};

/// Starts the program of `src/main.rs`, and waits until its pod is ready.
fn start(dir: &Path, program: Option<&str>) -> Child {
    let mut command = Command::new(find_program("podctl-embedding", env!("CARGO_BIN_EXE_podctl-embedding")));
    command.args([dir.join("run"), dir.join("data")]).args(program);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "tied is ready\n");
    child
}

/// A program of this package: where it was copied for other users, or was built.
fn find_program(name: &str, built: &str) -> std::path::PathBuf {
    std::env::var_os("PODCTL_TEST_PROGRAMS").map_or_else(|| built.into(), |dir| Path::new(&dir).join(name))
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain waited until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_pod_ends_with_the_program_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = start(dir.path(), None);
    let engine = Engine::at(dir.path().join("run"), dir.path().join("data")).unwrap();
    assert!(engine.pod("default", "tied").unwrap().is_alive());
    program.kill().unwrap();
    program.wait().unwrap();
    wait_until("the pod is gone", || engine.pods(None).unwrap().is_empty());
}

#[test]
fn a_pod_ends_with_the_program_that_returns() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = start(dir.path(), None);
    drop(program.stdin.take());
    assert!(program.wait().unwrap().success());
    let engine = Engine::at(dir.path().join("run"), dir.path().join("data")).unwrap();
    wait_until("the pod is gone", || engine.pods(None).unwrap().is_empty());
}

#[test]
fn another_program_keeps_the_pods() {
    // The command, where the whole project is tested.
    let Ok(podctl) = std::env::var("PODCTL") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut program = start(dir.path(), Some(&podctl));
    let comm = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let exe = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe"));
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().into_string().ok());
    let supervisors: Vec<String> =
        all.filter(|pid| comm(pid).starts_with(b"podctl\0internal\0supervise\0default/tied")).collect();
    assert!(!supervisors.is_empty());
    // Other tests have their own of that name.
    let own = std::fs::metadata(&podctl).unwrap().len();
    let is_podctl = |pid: &String| {
        exe(pid).is_ok() && std::fs::metadata(format!("/proc/{pid}/exe")).is_ok_and(|m| m.len() == own)
    };
    assert!(supervisors.iter().any(is_podctl), "{supervisors:?}");
    program.kill().unwrap();
    program.wait().unwrap();
}

#[test]
fn a_program_that_is_none_keeps_no_pods() {
    for program in ["/nowhere/podctl", "/etc/passwd", "/"] {
        let options = EngineOptions { program: Some(program.into()), ..EngineOptions::default() };
        let refused = Engine::open(&options);
        assert!(matches!(refused, Err(Error::NoProgram { .. })), "{program}: {refused:?}");
    }
}

#[test]
fn an_asynchronous_main_calls_what_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(find_program("tokio_main", env!("CARGO_BIN_EXE_tokio_main")));
    let output = command.args([dir.path().join("run"), dir.path().join("data")]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "done\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
