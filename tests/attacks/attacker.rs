//! The program that is let loose in containers (`attack.c`), and how to see what it achieves.

use std::{fs, path::PathBuf, process::Command};

use crate::common::{self, Home, stderr, stdout};

/// The program that attacks (`attack.c`), in a directory that pods can mount.
pub fn attacker(home: &Home) -> PathBuf {
    let (dir, source) = (home.path("kit"), home.file("attack.c", include_str!("attack.c")));
    fs::create_dir_all(&dir).unwrap();
    let program = dir.join("attack");
    let built = Command::new("musl-gcc").args(["-static", "-O1", "-o"]).arg(&program).arg(source).output();
    let built = built.expect("musl-gcc is installed by scripts/install-deps");
    assert!(built.status.success(), "{}", stderr(&built));
    program
}

/// A file of the host that no container may reach: its path and what is in it.
pub fn marker(home: &Home) -> (String, String) {
    let text = format!("only-the-host-has-{}", std::process::id());
    (home.file("marker", &text), text)
}

/// Returns what a container has written so far.
pub fn written(home: &Home, pod: &str, container: &str) -> String {
    stdout(&home.podctl(&["logs", pod, "-c", container]))
}

/// The number, as the host has it, of the process of a pod that was started with these words.
pub fn host_pid(words: &str) -> i32 {
    let mut found = 0;
    common::until(&format!("{words:?} runs"), || {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let mut pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        let line = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        found = pids.find(|pid| line(pid).replace('\0', " ").starts_with(words)).unwrap_or_default();
        found != 0
    });
    found
}
