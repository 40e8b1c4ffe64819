//! The terminal of a container: a pair of its own devpts, whose master travels to the parent over a socket.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};

use crate::error::Error;
use crate::plan::Kind;
use crate::sys::{self, Sys};

/// The two ends over which the master travels: the parent's, the child's.
pub(crate) fn pty_channel() -> Result<(OwnedFd, OwnedFd), Error> {
    socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|errno| Error::from_errno("make a socket pair for the terminal", errno))
}

/// Receives the master that [`open`] sent; the child has run its program by then, so that nothing blocks.
pub(crate) fn receive(socket: &OwnedFd) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::from_errno("receive the terminal", errno);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut data, Some(&mut space), flags).map_err(failed)?;
    for control in message.cmsgs().map_err(failed)? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(&fd) = fds.first()
        {
            // SAFETY: the descriptor has just been received and belongs to nobody else.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(failed(Errno::ENOMSG))
}

/// Opens a pair, in the child and inside the container's root, and makes the slave streams 0 to 2.
pub(crate) fn open(socket: RawFd, size: Option<(u16, u16)>, console: bool) -> Sys<()> {
    let master = sys::open(c"/dev/pts/ptmx", libc::O_RDWR | libc::O_NOCTTY)?;
    // The container may have put anything there; only a true ptmx is taken.
    let stat = sys::fstat(master.as_raw_fd())?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != libc::makedev(5, 2) {
        return Err(Errno::ENODEV);
    }
    sys::unlock_pty(master.as_raw_fd())?;
    if let Some(size) = size {
        sys::set_window_size(master.as_raw_fd(), size)?;
    }
    // The slave comes from the master itself, not from a path.
    let flags = (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) as u64;
    let slave = sys::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags)?;
    if console {
        let root = sys::open(c"/", libc::O_PATH)?;
        let tree = sys::clone_tree(slave, sys::EMPTY, false)?;
        crate::steps::mount_on(root.as_raw_fd(), tree.as_raw_fd(), c"dev/console", Kind::File)?;
    }
    sys::send_fd(socket, master.as_raw_fd())?;
    (0..3).try_for_each(|stream| sys::dup3(slave, stream))
}
