//! How often containers' output is looked at, and how much room it has until then.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use nix::fcntl::{FcntlArg, fcntl};

use crate::logs::LogLimits;

/// Output that comes so soon after the last is a stream …
const STREAM: Duration = Duration::from_micros(200);
/// … and is left to gather for so long: a turn a piece would cost more than the piece.
const GATHER: Duration = Duration::from_micros(400);
/// Names what a pipe holds as the kernel makes it …
const USUAL: usize = 64 << 10;
/// … and one that has been found full. Not all have this from the start: a user may have 64 MiB in pipes,
/// and beyond that every new one, of whatever program, holds only two pages.
const LARGE: usize = 256 << 10;
/// Bytes that are read of an output at once: all that a large pipe holds.
const READ_AT_ONCE: usize = LARGE;

/// What containers' output is read with, and written by.
pub(super) struct Output {
    pub limits: LogLimits,
    /// Holds what is read at once.
    pub buffer: Vec<u8>,
    pub pace: Pace,
}

impl Output {
    pub(super) fn new(limits: LogLimits) -> Output {
        Output { limits, buffer: vec![0; READ_AT_ONCE], pace: Pace::new() }
    }
}

/// The pace of one supervisor.
pub(super) struct Pace {
    /// The time when output was last looked at.
    last: Instant,
    /// Tells that a pipe was more than half full then, and its writer may soon have to wait.
    pressing: bool,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { last: Instant::now(), pressing: false }
    }

    /// Before a turn that is only about output: lets a stream of small pieces gather.
    pub(super) fn keep(&mut self) {
        if !std::mem::take(&mut self.pressing) && self.last.elapsed() < STREAM {
            std::thread::sleep(GATHER);
        }
        self.last = Instant::now();
    }

    /// The amount has come from a stream at once.
    pub(super) fn note_pumped(&mut self, fd: &OwnedFd, bytes: usize) {
        self.pressing |= bytes >= USUAL && bytes > enlarge_pipe(fd) / 2;
    }
}

/// Gives a pipe more room if it can have it; gives what it holds then. A terminal's side is no pipe.
fn enlarge_pipe(fd: &OwnedFd) -> usize {
    let size = fcntl(fd, FcntlArg::F_GETPIPE_SZ).map_or(0, |size| size as usize);
    match size == USUAL {
        true => fcntl(fd, FcntlArg::F_SETPIPE_SZ(LARGE as i32)).map_or(size, |size| size as usize),
        false => size,
    }
}
