//! PID 1 of a PID namespace that a pod's containers share (shareProcessNamespace): it reaps, and there is nothing in it.
//!
//! It stands in the supervisor's place, whose files and descriptors containers must not reach through `/proc/1`: its root
//! is a read-only directory with nothing in it but the proc of that namespace, which containers are lent.

use std::path::PathBuf;

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::CloneFlags,
    sys::{
        stat::Mode,
        wait::{WaitStatus, waitpid},
    },
    unistd::{chdir, mkdir, pivot_root},
};

use crate::process::{Role, start_role};

/// Starts it; gives the path of its PID namespace.
///
/// # Errors
/// [`podctl_runtime::Error`].
pub(super) fn start() -> Result<PathBuf, podctl_runtime::Error> {
    let namespaces = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    let process = start_role(&Role { namespaces, ..Role::named("pause") })?;
    Ok(format!("/proc/{}/ns/pid", process.pid).into())
}

/// The pausing role.
pub fn main() -> i32 {
    if empty_root().is_err() {
        return 1;
    }
    // SAFETY: plain system calls. Not being dumpable keeps /proc/1 to root of the pod; SIGCHLD is taken by sigwait.
    let children = unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        for fd in 0..3 {
            libc::close(fd);
        }
        let mut children: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut children);
        libc::sigaddset(&mut children, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &children, std::ptr::null_mut());
        children
    };
    loop {
        let mut signal = 0;
        // SAFETY: both point to live values of this frame.
        unsafe { libc::sigwait(&children, &mut signal) };
        let flags = Some(nix::sys::wait::WaitPidFlag::WNOHANG);
        while !matches!(waitpid(None, flags), Ok(WaitStatus::StillAlive) | Err(_)) {}
    }
}

fn empty_root() -> nix::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    mount(Some("pause"), "/tmp", Some("tmpfs"), flags - MsFlags::MS_RDONLY, Some("size=4k"))?;
    mkdir("/tmp/proc", Mode::from_bits_truncate(0o555))?;
    mount(Some("proc"), "/tmp/proc", Some("proc"), flags, none)?;
    mount(none, "/tmp", none, flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none)?;
    chdir("/tmp")?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}
