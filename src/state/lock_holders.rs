//! Who holds a pod's lock: its supervisor, found by what it has open.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use nix::unistd::Pid;
use podctl_runtime::Process;

use super::PodDir;
use crate::process::descriptors::supervisor::LOCK;

/// Tells how a supervisor's command line begins.
const SUPERVISOR: &[u8] = b"podctl\0internal\0supervise\0";

impl PodDir {
    /// Finds the supervisor that holds this pod's lock, with children that it has just made. Each is held by its pidfd before
    /// it is looked at, so that none can be taken for another. A command that is still starting the pod is not among them.
    pub fn find_lock_holders(&self) -> Vec<Process> {
        let Ok(lock) = fs::metadata(self.lock_file()) else { return Vec::new() };
        let lock = (lock.dev(), lock.ino());
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let processes = pids.filter_map(|pid| Process::of_child(Pid::from_raw(pid)).ok());
        processes.filter(|process| holds_lock(process, lock)).collect()
    }
}

/// Tells whether a process is a supervisor's and has this file open, which is given by its device and inode.
fn holds_lock(process: &Process, lock: (u64, u64)) -> bool {
    let dir = Path::new("/proc").join(process.pid.to_string());
    let supervises = fs::read(dir.join("cmdline")).is_ok_and(|line| line.starts_with(SUPERVISOR));
    if !supervises {
        return false;
    }
    let Ok(fds) = fs::read_dir(dir.join("fd")) else {
        // Root of a pod in which the user keeps the own id is not the user: who may trace it can ask for the lock alone.
        let held = process.copy_descriptor(LOCK).map(fs::File::from).ok();
        let held = held.and_then(|held| held.metadata().ok());
        return held.is_some_and(|held| (held.dev(), held.ino()) == lock);
    };
    fds.flatten().map(|entry| entry.path()).any(|path| {
        // Only what may be it is inspected: a file of a dead server would not answer.
        fs::read_link(&path).is_ok_and(|to| to.as_os_str().as_bytes().ends_with(b"/lock"))
            && fs::metadata(&path).is_ok_and(|held| (held.dev(), held.ino()) == lock)
    })
}
