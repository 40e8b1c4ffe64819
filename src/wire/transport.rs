//! One message a packet over a Unix socket (SOCK_SEQPACKET), descriptors beside it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect,
    recvmsg, sendmsg, socket, socketpair,
};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

/// Longest message, in bytes.
pub const LONGEST: usize = 128 << 10;

/// Makes two ends of a connection, for a process that is yet to be started.
///
/// # Errors
/// Those of socketpair(2).
pub fn make_connection() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Connects to a supervisor.
///
/// # Errors
/// Those of connect(2).
pub fn dial(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    with_address(path, |address| Ok(connect(fd.as_raw_fd(), address)?))?;
    Ok(fd)
}

/// Calls a function with the address of a socket's file. A path that is longer than the 108 bytes of an
/// address is reached through a descriptor of its directory.
///
/// # Errors
/// Those of open(2) and of the function.
pub fn with_address<T>(path: &Path, act: impl FnOnce(&UnixAddr) -> io::Result<T>) -> io::Result<T> {
    if let Ok(address) = UnixAddr::new(path) {
        return act(&address);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = open(directory, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    act(&UnixAddr::new(&short)?)
}

/// Sends one message.
///
/// # Errors
/// Those of sendmsg(2).
pub fn send<T: Serialize>(socket: &OwnedFd, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message).map_err(io::Error::other)?;
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&text)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message; `None` when the other side has closed.
///
/// # Errors
/// Those of recvmsg(2), and a message that is none of ours.
pub fn receive<T: for<'a> Deserialize<'a>>(socket: &OwnedFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut text = vec![0; LONGEST];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut slices = [IoSliceMut::new(&mut text)];
    let got = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    let bytes = got.bytes;
    let mut fds = Vec::new();
    for message in got.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            // SAFETY: the kernel has just made these descriptors for us; nobody else owns them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&text[..bytes])?, fds)))
}
