//! A child process held by its pidfd: signals and waits can never reach another process that got the same number.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Child, Output};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::error::Error;
use crate::interruption::repeat_interrupted;
use crate::sys::{self, Sys};

/// The child of this process. Dropping it neither kills nor waits.
#[derive(Debug)]
pub struct Process {
    /// The id in the caller's PID namespace.
    pub pid: Pid,
    /// Readable (as `poll` means it) once the process has ended.
    pub pidfd: OwnedFd,
}

/// Tells how a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// Means that it exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Process {
    /// Takes over a child that this process has forked itself and not waited for. Another process can be held so too, for
    /// signals and to poll for its end.
    ///
    /// # Errors
    /// Those of pidfd_open(2).
    pub fn of_child(pid: Pid) -> Result<Process, Error> {
        let pidfd = sys::pidfd_open(pid.as_raw())
            .map_err(|errno| Error::from_errno(format!("open a pidfd of process {pid}"), errno))?;
        Ok(Process { pid, pidfd })
    }

    /// Takes over a child of the caller's that another child has made.
    ///
    /// # Errors
    /// Those of pidfd_open(2); `ECHILD` when the number is not a child's any more.
    pub(crate) fn of_own_child(pid: i32) -> Result<Process, Error> {
        let process = Process::of_child(Pid::from_raw(pid))?;
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        waitid(Id::PIDFd(process.pidfd.as_fd()), flags)
            .map_err(|errno| Error::from_errno(format!("look at process {pid}"), errno))?;
        Ok(process)
    }

    /// Sends a signal; a process that has ended already is [`Error::Sys`] with `ESRCH`.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        sys::pidfd_send_signal(self.pidfd.as_fd(), signal).map_err(|errno| {
            Error::from_errno(format!("send signal {signal} to process {}", self.pid), errno)
        })
    }

    /// Copies a descriptor of the process, for whoever may trace it.
    ///
    /// # Errors
    /// Those of pidfd_getfd(2).
    pub fn copy_descriptor(&self, number: RawFd) -> Result<OwnedFd, Error> {
        // SAFETY: takes numbers only.
        let copied = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.pidfd.as_raw_fd(), number, 0) };
        let copied = Errno::result(copied).map_err(|errno| {
            Error::from_errno(format!("copy descriptor {number} of process {}", self.pid), errno)
        })?;
        // SAFETY: the kernel has just made it for this process; nobody else knows its number.
        Ok(unsafe { OwnedFd::from_raw_fd(copied as RawFd) })
    }

    /// Tells how the process ended, if it has; reaps it.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>, Error> {
        self.wait_with(WaitPidFlag::WNOHANG)
    }

    /// Waits for the end of the process and reaps it.
    pub fn wait(&self) -> Result<ExitStatus, Error> {
        loop {
            if let Some(status) = self.wait_with(WaitPidFlag::empty())? {
                return Ok(status);
            }
        }
    }

    fn wait_with(&self, flags: WaitPidFlag) -> Result<Option<ExitStatus>, Error> {
        let wait = || waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED | flags);
        match repeat_interrupted(wait) {
            Ok(WaitStatus::Exited(_, code)) => Ok(Some(ExitStatus::Code(code))),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(ExitStatus::Signal(signal as i32))),
            Ok(_) => Ok(None),
            Err(errno) => Err(Error::from_errno(format!("wait for process {}", self.pid), errno)),
        }
    }
}

/// Forbids every process without CAP_SYS_PTRACE over this one's user namespace to look into it, to trace it or to take
/// its descriptors, until it executes another program. Children inherit that.
///
/// # Errors
/// Those of prctl(2).
pub fn forbid_looks() -> Result<(), Error> {
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)
        .map_err(|errno| Error::from_errno("forbid others to look into it", errno))
}

/// Closes every descriptor but the standard streams and those of `keep`, whoever owns them: for a child that was forked
/// and shall not have what its parent has.
pub fn close_other_descriptors(keep: &[BorrowedFd<'_>]) {
    // It can fail only for a wrong range.
    let _ = close_all_but(keep.iter().map(AsRawFd::as_raw_fd));
}

/// Gives this process an empty session keyring of its own, and with it all processes that it starts from now on: the keys
/// of whoever started it stay behind. It keeps the one it has where there is none to be had: a filter around podctl
/// forbids it, the kernel has no keys, or the user has too many. Calls nothing but the kernel.
///
/// # Errors
/// What else the kernel answers.
pub fn leave_session_keyring() -> Result<(), Errno> {
    match sys::new_session_keyring() {
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES | Errno::EDQUOT) => Ok(()),
        other => other,
    }
}

/// Really closes all from 3 on but these: what is only marked to be closed by `execve` can be looked at until then
/// (CVE-2016-9962).
pub(crate) fn close_all_but(keep: impl Iterator<Item = RawFd> + Clone) -> Sys<()> {
    let mut first: libc::c_uint = 3;
    loop {
        let kept = keep.clone().map(|fd| fd as libc::c_uint).filter(|&fd| fd >= first).min();
        let Some(kept) = kept else { return sys::close_range(first, libc::c_uint::MAX) };
        if kept > first {
            sys::close_range(first, kept - 1)?;
        }
        first = kept + 1;
    }
}

/// Dies with the caller's parent, or at once when that is gone: then its end of the pipe `report` is closed.
pub(crate) fn die_with_parent(report: RawFd) -> Sys<()> {
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
    if peer_gone(report) { sys::exit(127) } else { Ok(()) }
}

/// Tells whether the other end of this pipe is closed.
pub(crate) fn peer_gone(fd: RawFd) -> bool {
    let mut poll = libc::pollfd { fd, events: 0, revents: 0 };
    // SAFETY: one live pollfd, no waiting.
    unsafe { libc::poll(&mut poll, 1, 0) > 0 && poll.revents & libc::POLLERR != 0 }
}

/// Reads the one stream of a child that is a pipe, to its end, and waits for the child. The standard library's own function
/// panics where a read fails.
///
/// # Errors
/// Those of read(2) and waitpid(2); the child has been waited for all the same.
pub fn collect_output(mut child: Child) -> io::Result<Output> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    debug_assert!(child.stdout.is_none() || child.stderr.is_none(), "two pipes can wait for one another");
    let read = match (child.stdout.take(), child.stderr.take()) {
        (Some(mut pipe), _) => pipe.read_to_end(&mut stdout),
        (None, Some(mut pipe)) => pipe.read_to_end(&mut stderr),
        (None, None) => Ok(0),
    };
    let status = child.wait()?;
    read?;
    Ok(Output { status, stdout, stderr })
}
