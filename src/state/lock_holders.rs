//! Who holds a pod's lock: its supervisor, found by what it has open.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
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
    /// A supervisor whose lock somebody has removed, or replaced, is found as well.
    pub fn find_lock_holders(&self) -> Vec<Process> {
        let path = self.lock_file();
        let lock = Lock { held: fs::symlink_metadata(&path).ok().map(|lock| (lock.dev(), lock.ino())), path };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let processes = pids.filter_map(|pid| Process::of_child(Pid::from_raw(pid)).ok());
        processes.filter(|process| lock.is_held_by(process)).collect()
    }
}

/// The lock of a pod that is looked for.
struct Lock {
    path: PathBuf,
    /// The device and inode of what is at its path.
    held: Option<(u64, u64)>,
}

impl Lock {
    /// Tells whether a process is a supervisor's and has this file open, or one that had its name.
    fn is_held_by(&self, process: &Process) -> bool {
        let dir = Path::new("/proc").join(process.pid.to_string());
        let supervises = fs::read(dir.join("cmdline")).is_ok_and(|line| line.starts_with(SUPERVISOR));
        if !supervises {
            return false;
        }
        let is_it = |found: io::Result<fs::Metadata>| {
            found.is_ok_and(|found| self.held == Some((found.dev(), found.ino())))
        };
        let Ok(fds) = fs::read_dir(dir.join("fd")) else {
            // Root of a pod in which the user keeps the own id is not the user: who may trace it can ask for the lock alone.
            return process.copy_descriptor(LOCK).is_ok_and(|held| is_it(fs::File::from(held).metadata()));
        };
        let own = self.path.as_os_str().as_bytes();
        let gone = [own, b" (deleted)"].concat();
        fds.flatten().map(|entry| entry.path()).any(|path| {
            let Ok(to) = fs::read_link(&path) else { return false };
            let to = to.as_os_str().as_bytes();
            // Only what may be it is inspected: a file of a dead server would not answer.
            to.ends_with(b"/lock") && is_it(fs::metadata(&path))
                || (to == own || to == gone) && self.has_same_place(&dir)
        })
    }

    /// Tells whether the directory of records is the same one for a process as for us: its name says nothing of that.
    fn has_same_place(&self, process: &Path) -> bool {
        let Some(records) = self.path.parent().and_then(Path::parent) else { return false };
        let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        let theirs = process.join("root").join(records.strip_prefix("/").unwrap_or(records));
        identity(records).is_some_and(|ours| identity(&theirs) == Some(ours))
    }
}
