//! Processes that this program starts and need not wait for.
//!
//! An ended child is a zombie until somebody asks for its end. The command ends soon itself; a program
//! that embeds podctl may not, so the ended ones are asked whenever there is a new one.

use std::sync::Mutex;

use podctl_runtime::Process;

static LEFT: Mutex<Vec<Process>> = Mutex::new(Vec::new());

/// Leaves a child to itself. Whoever has it as well may still wait for it, without its exit status.
pub fn leave(child: &Process) {
    let mut left = LEFT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    left.retain(|child| matches!(child.try_wait(), Ok(None)));
    if let Ok(pidfd) = child.pidfd.try_clone() {
        left.push(Process { pid: child.pid, pidfd });
    }
}
