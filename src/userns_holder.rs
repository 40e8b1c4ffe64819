//! The process that holds an ordinary user's user namespace for a while after its last pod.
//!
//! It sleeps on a FIFO that every pod in the namespace holds open for writing, so the kernel tells it when the last
//! one has ended. `engine/start/user_namespace.rs` starts it and finds it.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        stat::fstat,
    },
};

use crate::process::{
    descriptors::{holder::FIFO, take_descriptor},
    detach_from_terminal, trim_heap,
};

/// Names the variable that says for how many seconds after the last pod the namespace is held for the next one.
const LINGER: &str = "PODCTL_LINGER";

/// Reads how long the user wants the namespace to be held.
pub fn read_linger() -> Option<Duration> {
    std::env::var(LINGER).ok()?.parse().ok().map(Duration::from_secs)
}

/// The holder's life. Gives its exit code.
pub fn main() -> i32 {
    // It fails only for who leads a group already.
    let _ = nix::unistd::setsid();
    detach_from_terminal();
    // SAFETY: this process was started with this descriptor, and nobody else has taken it.
    let fifo = unsafe { take_descriptor(FIFO) };
    trim_heap();
    i32::from(hold(&fifo).is_err())
}

fn hold(fifo: &OwnedFd) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    // By its edges, for a FIFO that nobody writes to any more would be readable for ever.
    epoll.add(fifo, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
    let linger = EpollTimeout::try_from(read_linger().unwrap_or_default()).unwrap_or(EpollTimeout::MAX);
    let mut named = true;
    loop {
        let wait = match (in_use(fifo), named) {
            (true, _) => EpollTimeout::NONE,
            (false, true) => linger,
            (false, false) => return Ok(()),
        };
        let ready = epoll.wait(&mut [EpollEvent::empty()], wait)?;
        if ready == 0 && !in_use(fifo) {
            // Who found it just before still has it until its own end.
            forget(fifo)?;
            named = false;
        }
    }
}

fn in_use(fifo: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fifo.as_fd(), PollFlags::POLLIN)];
    // Asked without waiting: no answer is that nobody holds it.
    let _ = poll(&mut fds, PollTimeout::ZERO);
    !fds[0].revents().is_some_and(|r| r.contains(PollFlags::POLLHUP))
}

fn forget(fifo: &OwnedFd) -> io::Result<()> {
    let path = fs::read_link(format!("/proc/self/fd/{FIFO}"))?;
    let own = fstat(fifo)?;
    let named = fs::symlink_metadata(&path).is_ok_and(|m| (m.dev(), m.ino()) == (own.st_dev, own.st_ino));
    if named { fs::remove_file(&path) } else { Ok(()) }
}
