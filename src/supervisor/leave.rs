//! The end of a supervisor: what is on disk of the pod, its cgroup and what still runs are taken away.

use std::{fs, path::Path};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::Supervisor;
use crate::state::{self, remove_tree};

impl Supervisor {
    /// The pod is over: what is on disk of it goes, its record stays unless it was deleted.
    pub(super) fn leave(&mut self) {
        self.settle();
        // To clear away what is large takes its time, and nobody is served meanwhile.
        self.poll.stop_listening();
        end_children();
        clear_data(&self.data);
        if let Some(cgroups) = self.cgroups.take() {
            cgroups.remove();
        }
        self.pulls.leases.clear();
        self.write_before_leaving();
        // Whatever of this fails, the next command does.
        let _ = match self.delete_requested {
            // Another pod may have the name.
            true if self.has_lost_record() => {
                remove_tree(&self.logs).map_err(state::Error::io("remove", &self.logs))
            }
            false => self.dir.remove_runtime(),
            true => self.forget_pod(),
        };
    }

    /// Removes logs and record; under the lock, so that nobody has the name before.
    fn forget_pod(&self) -> Result<(), state::Error> {
        let lock = self.lock.try_clone().map_err(state::Error::io("hold", self.dir.lock_file()))?;
        let ended = self.dir.move_aside(lock.into())?;
        // Logs that stay are without a pod, and the next command sweeps them.
        let _ = remove_tree(&self.logs);
        ended.dir.remove()
    }
}

/// Ends what containers left in a PID namespace that is not theirs alone.
fn end_children() {
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        // One that has ended needs no signal.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Takes away what a living pod has on disk.
pub(super) fn clear_data(data: &Path) {
    unmount_below(data);
    // The sweep removes what is left, with ids that the pod's user namespace may not have.
    let _ = remove_tree(data);
}

/// Unmounts everything beneath a directory. What is mounted on a mount goes with it: each call waits for all processors.
fn unmount_below(directory: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut gone: Option<&Path> = None;
    for target in table.lines().filter_map(|l| l.split(' ').nth(4)).map(Path::new) {
        if target.starts_with(directory) && !gone.is_some_and(|above| target.starts_with(above)) {
            // What stays goes with the mount namespace.
            let _ = umount2(target, MntFlags::MNT_DETACH);
            gone = Some(target);
        }
    }
}
