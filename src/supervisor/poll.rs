//! Everything a supervisor waits for, behind one epoll.

use std::{
    collections::HashMap,
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        socket::{Shutdown, SockFlag, accept4, shutdown},
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};

use crate::{lifecycle::Run, logs::Stream, process::transient_scope, wire::listen_at};

/// Names what has something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Means that a child has ended.
    Children,
    /// SIGTERM, or systemd's request to end.
    Terminate,
    /// The puller answers.
    Puller,
    /// The network's keeper speaks, or is gone.
    Network,
    /// The client that started the pod has left.
    Client,
    /// Means that a command connects.
    Listener,
    /// Means that somebody looks in vain for the control socket.
    Unreached,
    /// Means that a command speaks.
    Connection(u64),
    /// Means that a container is being made.
    Making(Run),
    /// Means that a process is on its way into a container.
    Entering(u64),
    /// Means that a container writes.
    Output(Run, Stream),
}

/// Returns the device and inode of what is at a path.
fn identify_file(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// The epoll and what its numbers mean.
pub(super) struct Poll {
    epoll: Epoll,
    signals: SignalFd,
    /// Ends waits that a sleep of the machine may cut short; epoll's own do not count it.
    timer: TimerFd,
    listener: OwnedFd,
    /// The device and inode of the socket's file.
    socket_file: Option<(u64, u64)>,
    sources: HashMap<u64, Source>,
    /// Descriptors for which the kernel had no memory yet.
    unwatched: Vec<RawFd>,
    /// The time until which no connection is taken, for there is no descriptor for it.
    rests_until: Option<Instant>,
    next_connection: u64,
}

const SIGNALS: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
/// Commands that may wait until their connections are taken.
const BACKLOG: i32 = 128;
/// The time until what the kernel had no memory for is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// A shorter wait is not worth the timer.
const SHORT: Duration = Duration::from_secs(1);

impl Poll {
    pub(super) fn new(socket_path: &Path, puller: Option<&OwnedFd>) -> io::Result<Poll> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        set.add(Signal::SIGTERM);
        set.add(transient_scope::END);
        set.add(Signal::SIGCONT);
        set.thread_block()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        // One that stays makes the next step fail, which says so.
        let _ = std::fs::remove_file(socket_path);
        let listener = listen_at(socket_path, BACKLOG)?;
        let mut poll = Poll {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            signals,
            timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?,
            listener,
            socket_file: identify_file(socket_path),
            sources: HashMap::new(),
            unwatched: Vec::new(),
            rests_until: None,
            next_connection: 0,
        };
        poll.epoll.add(&poll.signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        poll.epoll.add(&poll.timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let listener = poll.listener.try_clone()?;
        poll.listener = listener;
        poll.add_raw(poll.listener.as_raw_fd(), Source::Listener)?;
        if let Some(puller) = puller {
            poll.add(puller, Source::Puller)?;
        }
        Ok(poll)
    }

    /// Reports whenever the descriptor can be read.
    pub(super) fn add(&mut self, fd: &OwnedFd, source: Source) -> io::Result<()> {
        self.add_raw(fd.as_raw_fd(), source)
    }

    fn add_raw(&mut self, fd: RawFd, source: Source) -> io::Result<()> {
        match self.watch(fd) {
            // A pod must not wait for ever for what nobody tells it.
            Err(Errno::ENOMEM | Errno::ENOSPC) => self.unwatched.push(fd),
            watched => watched?,
        }
        self.sources.insert(fd as u64, source);
        Ok(())
    }

    fn watch(&self, fd: RawFd) -> nix::Result<()> {
        // SAFETY: the descriptor is open, for its owner is borrowed by every caller, or has not been forgotten.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, fd.as_raw_fd() as u64))
    }

    /// Tries again what the kernel had no memory for, and the listener when it has rested.
    fn watch_again(&mut self) {
        if self.rests_until.take_if(|until| Instant::now() >= *until).is_some() {
            self.unwatched.push(self.listener.as_raw_fd());
        }
        let tried = std::mem::take(&mut self.unwatched);
        let short = |fd: &RawFd| matches!(self.watch(*fd), Err(Errno::ENOMEM | Errno::ENOSPC));
        self.unwatched = tried.into_iter().filter(short).collect();
    }

    /// No longer reports; to be called before the descriptor is closed.
    pub(super) fn forget(&mut self, fd: &OwnedFd) {
        // A descriptor that was never added reports nothing either.
        let _ = self.epoll.delete(fd.as_fd());
        self.sources.remove(&(fd.as_raw_fd() as u64));
        self.unwatched.retain(|unwatched| *unwatched != fd.as_raw_fd());
    }

    /// Waits for something to happen, at most so long.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> Vec<Source> {
        let mut events = [EpollEvent::empty(); 32];
        self.watch_again();
        let timeout = match self.unwatched.is_empty() && self.rests_until.is_none() {
            true => timeout,
            false => Some(timeout.unwrap_or(AGAIN).min(AGAIN)),
        };
        let timeout = match timeout {
            None => EpollTimeout::NONE,
            Some(t) if t > SHORT && self.set_timer(t) => EpollTimeout::NONE,
            // Rounded up, so that a deadline has passed when the wait is over.
            Some(t) => EpollTimeout::try_from(t + Duration::from_micros(999)).unwrap_or(EpollTimeout::MAX),
        };
        let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
        let mut found = Vec::with_capacity(count);
        for event in &events[..count] {
            match event.data() {
                SIGNALS => found.extend(self.signals()),
                // It has fired, or the wait that it was set for has ended otherwise: nothing is to be served.
                TIMER => drop(self.timer.wait()),
                number => found.extend(self.sources.get(&number).cloned()),
            }
        }
        // Output before ends: a log is whole when its container is reported as gone.
        found.sort_by_key(|s| matches!(s, Source::Children));
        found
    }

    fn set_timer(&self, wait: Duration) -> bool {
        let once = Expiration::OneShot(TimeSpec::from(wait));
        self.timer.set(once, TimerSetTimeFlags::empty()).is_ok()
    }

    fn signals(&mut self) -> Vec<Source> {
        let mut found = Vec::new();
        while let Ok(Some(info)) = self.signals.read_signal() {
            let source = match info.ssi_signo as i32 {
                libc::SIGCHLD => Source::Children,
                libc::SIGCONT => Source::Unreached,
                _ => Source::Terminate,
            };
            if !found.contains(&source) {
                found.push(source);
            }
        }
        found
    }

    /// Tells whether the socket is where commands look for it.
    pub(super) fn is_socket_there(&self, socket_path: &Path) -> bool {
        self.socket_file.is_some() && self.socket_file == identify_file(socket_path)
    }

    /// Makes the socket anew where commands look for it.
    pub(super) fn listen_again(&mut self, socket_path: &Path) -> io::Result<()> {
        let listener = listen_at(socket_path, BACKLOG)?;
        self.socket_file = identify_file(socket_path);
        let former = std::mem::replace(&mut self.listener, listener);
        self.forget(&former);
        self.add_raw(self.listener.as_raw_fd(), Source::Listener)
    }

    /// Takes no more connections: who comes now hears at once that there is nobody.
    pub(super) fn stop_listening(&mut self) {
        // It fails for no socket that listens.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }

    /// Takes a waiting command's connection.
    pub(super) fn accept(&mut self) -> Option<(u64, OwnedFd)> {
        let raw = match accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                // Whoever waits to be taken would be reported without end. It fails for one alone that is not watched.
                let _ = self.epoll.delete(self.listener.as_fd());
                self.rests_until = Some(Instant::now() + AGAIN);
                return None;
            }
            taken => taken.ok()?,
        };
        // SAFETY: the kernel has just made it for us.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        self.connection(socket).ok()
    }

    /// Gives a command's connection its number.
    pub(super) fn connection(&mut self, socket: OwnedFd) -> io::Result<(u64, OwnedFd)> {
        // Whoever connects may never read or write; nothing here waits for it.
        super::create::nonblocking(&socket)?;
        self.next_connection += 1;
        let id = self.next_connection;
        self.add(&socket, Source::Connection(id))?;
        Ok((id, socket))
    }
}
