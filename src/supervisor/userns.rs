//! The user namespace that an ordinary user's pods share from one start to the next, where the user wants that.
//!
//! To map its ids takes two more programs, and more time than all else of a start. So a process holds the namespace
//! while a pod is in it, and a while longer: the next pod only has to join. Nobody speaks to that process. It reads a
//! FIFO, named by its process id, which every pod holds open for writing; the kernel closes it with the pod.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::CloneFlags,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        stat::{Mode, fstat},
    },
    unistd::mkfifo,
};
use podctl_runtime::IdMappings;

use super::{
    children, detach_from_terminal,
    launch::{Error, role, step},
    trim,
};
use crate::state::Home;

/// Descriptor of the FIFO that the holder reads.
const FIFO: RawFd = 3;

/// For so many seconds after the last pod the namespace is held for the next one.
const LINGER: &str = "PODCTL_LINGER";

fn linger() -> Option<Duration> {
    std::env::var(LINGER).ok()?.parse().ok().map(Duration::from_secs)
}

/// Whether the user wants it.
pub(crate) fn lingers() -> bool {
    linger().is_some_and(|linger| !linger.is_zero())
}

/// The namespace, and what keeps it for others who come later.
#[derive(Debug)]
pub(crate) struct UserNamespace {
    pub namespace: OwnedFd,
    /// To be held by whoever lives in it.
    pub tie: OwnedFd,
}

/// The user's namespace of these ids; it is made when nobody holds one.
///
/// # Errors
/// [`Error::Spawn`] and [`Error::Step`].
pub(crate) fn shared(home: &Home, mappings: &IdMappings) -> Result<UserNamespace, Error> {
    let dir = home.runtime.join("userns");
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        if let Some(found) = join(&entry.path(), mappings) {
            return Ok(found);
        }
    }
    fs::create_dir_all(&dir).map_err(step("make a directory for the user namespace"))?;
    make(&dir, mappings)
}

fn open(path: &Path, options: &OpenOptions) -> io::Result<OwnedFd> {
    options.clone().custom_flags(libc::O_NONBLOCK).open(path).map(OwnedFd::from)
}

/// None when nobody reads the FIFO, or its reader's namespace has other ids.
fn join(path: &Path, mappings: &IdMappings) -> Option<UserNamespace> {
    let pid: i32 = path.file_name()?.to_str()?.parse().ok()?;
    let tie = match open(path, OpenOptions::new().write(true)) {
        Ok(tie) => tie,
        Err(_) => {
            // A holder that was killed has left it.
            let _ = fs::remove_file(path);
            return None;
        }
    };
    let proc = Path::new("/proc").join(pid.to_string());
    let (own, read) = (fstat(&tie).ok()?, fs::metadata(proc.join(format!("fd/{FIFO}"))).ok()?);
    // Else the number is another process's by now.
    let holds = (own.st_dev, own.st_ino) == (read.dev(), read.ino());
    if !holds || !mappings.are_of(pid) {
        return None;
    }
    let namespace = File::open(proc.join("ns/user")).ok()?.into();
    Some(UserNamespace { namespace, tie })
}

fn make(dir: &Path, mappings: &IdMappings) -> Result<UserNamespace, Error> {
    fn failed<E: Into<io::Error>>() -> impl FnOnce(E) -> Error {
        step("hold the user namespace")
    }
    let fresh = dir.join(format!("new-{}", uuid::Uuid::new_v4()));
    mkfifo(&fresh, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed())?;
    let made = open(&fresh, OpenOptions::new().read(true)).map_err(failed()).and_then(|read| {
        let tie = open(&fresh, OpenOptions::new().write(true)).map_err(failed())?;
        let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
        let holder = role("userns", namespaces, Some(mappings), &[], &[(read.as_fd(), FIFO)])?;
        let namespace = File::open(format!("/proc/{}/ns/user", holder.pid)).map_err(failed())?.into();
        fs::rename(&fresh, dir.join(holder.pid.to_string())).map_err(failed())?;
        children::leave(&holder);
        Ok(UserNamespace { namespace, tie })
    });
    if made.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    made
}

/// The holder's life. Gives its exit code.
pub fn main() -> i32 {
    let _ = nix::unistd::setsid();
    detach_from_terminal();
    // SAFETY: this process was started with this descriptor, and nobody else has taken it.
    let fifo = unsafe { OwnedFd::from_raw_fd(FIFO) };
    trim::trim();
    i32::from(hold(&fifo).is_err())
}

fn hold(fifo: &OwnedFd) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    // By its edges, for a FIFO that nobody writes to any more would be readable for ever.
    epoll.add(fifo, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
    let linger = EpollTimeout::try_from(linger().unwrap_or_default()).unwrap_or(EpollTimeout::MAX);
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
    let _ = poll(&mut fds, PollTimeout::ZERO);
    !fds[0].revents().is_some_and(|r| r.contains(PollFlags::POLLHUP))
}

fn forget(fifo: &OwnedFd) -> io::Result<()> {
    let path = fs::read_link(format!("/proc/self/fd/{FIFO}"))?;
    let own = fstat(fifo)?;
    let named = fs::symlink_metadata(&path).is_ok_and(|m| (m.dev(), m.ino()) == (own.st_dev, own.st_ino));
    if named { fs::remove_file(&path) } else { Ok(()) }
}
