//! One message a packet over a Unix socket (SOCK_SEQPACKET), descriptors beside it.
//!
//! Promises: a message has any size and a socket's path any length. What is too long for a packet goes through a sealed
//! memory file, and a socket is named by its directory's descriptor.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read, Seek, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind,
            connect, recvmsg, sendmsg, setsockopt, socket, socketpair, sockopt::SendTimeout,
        },
        stat::Mode,
        time::{TimeVal, TimeValLike},
    },
};
use podctl_runtime::repeat_interrupted;
use serde::{Deserialize, Serialize};

/// Number of times that a few words are written before they are given up: who waits for them waits in vain then.
const ATTEMPTS: u32 = 3;
/// Longest text of a packet, in bytes. A socket's buffer has room for several.
const LONGEST_PACKET: usize = 32 << 10;
/// Longest text of a memory file, in bytes: more than any manifest, and any command line that execve(2) takes.
const LONGEST_FILE: u64 = 64 << 20;
/// The time for which the other side may take to take a connection, or to answer what is answered at once.
/// Longer than a supervisor gives a command to run its program.
const PATIENCE: Duration = Duration::from_secs(7);
/// The text of a packet whose last descriptor is the memory file that has the message. It is no JSON.
const IN_FILE: &[u8] = b"@";
/// Names what makes sure that a memory file stays as it is while it is read.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_WRITE);

/// Makes two ends of a connection, for a process that is yet to be started.
///
/// # Errors
/// Those of socketpair(2).
pub fn make_connection() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Connects to a supervisor, or to the network's keeper.
///
/// # Errors
/// Those of [`dial_within`].
pub fn dial(path: &Path) -> io::Result<OwnedFd> {
    dial_within(path, PATIENCE)
}

/// Connects to a supervisor that takes the connection in time.
///
/// # Errors
/// Those of connect(2); `TimedOut` when nobody takes it, and so many wait already that there is no room for one more.
pub fn dial_within(path: &Path, limit: Duration) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    let (_directory, name) = shorten_path(path)?;
    setsockopt(&fd, SendTimeout, &TimeVal::microseconds(limit.as_micros() as i64))?;
    match connect(fd.as_raw_fd(), &UnixAddr::new(&name)?) {
        Err(Errno::EAGAIN) => return Err(silence_error()),
        connected => connected?,
    }
    // What is sent may wait.
    setsockopt(&fd, SendTimeout, &TimeVal::zero())?;
    Ok(fd)
}

fn silence_error() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not answer")
}

/// Makes a socket at a path and listens there. Accepting from it never waits.
///
/// # Errors
/// Those of bind(2) and listen(2).
pub fn listen_at(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let (_directory, name) = shorten_path(path)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(&name)?)?;
    start_listening(&fd, backlog)?;
    Ok(fd)
}

/// Lets connections come to a bound socket, of which `backlog` may wait.
///
/// # Errors
/// Those of listen(2).
pub fn start_listening(socket: &impl AsFd, backlog: i32) -> nix::Result<()> {
    // nix takes no more than the C library's SOMAXCONN, which is musl's 128; the kernel has a bound of its own.
    // SAFETY: listen(2) takes a descriptor, which is open, and a number.
    Errno::result(unsafe { nix::libc::listen(socket.as_fd().as_raw_fd(), backlog) }).map(drop)
}

/// Returns a short name of a socket, for as long as the descriptor is open: the kernel takes 107 bytes, and directories
/// are deeper.
fn shorten_path(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = open(directory, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok((directory, short))
}

/// Writes a few words to a socket; it is no error that nobody reads them.
///
/// # Errors
/// Those of write(2), when it fails again and again.
pub fn write_words(socket: &impl AsFd, words: &[u8]) -> io::Result<()> {
    let mut attempts = 1..=ATTEMPTS;
    loop {
        attempts.next();
        match nix::unistd::write(socket.as_fd(), words) {
            Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(()),
            Err(e) if attempts.is_empty() => return Err(e.into()),
            Err(_) => {}
        }
    }
}

/// Sends one message.
///
/// # Errors
/// Those of sendmsg(2), and of making a memory file for a long one.
pub fn send<T: Serialize>(socket: &impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message).map_err(io::Error::other)?;
    if text.len() <= LONGEST_PACKET {
        return send_packet(socket.as_fd(), &text, fds);
    }
    let file = write_sealed(&text)?;
    send_packet(socket.as_fd(), IN_FILE, &[fds, &[file.as_fd()]].concat())
}

fn send_packet(socket: BorrowedFd<'_>, text: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let (text, flags) = ([IoSlice::new(text)], MsgFlags::MSG_NOSIGNAL);
    let sent = repeat_interrupted(|| sendmsg::<()>(socket.as_raw_fd(), &text, control, flags, None));
    Ok(sent.map(drop)?)
}

/// Receives the answer to a request that is answered at once; `None` when the other side has closed.
///
/// # Errors
/// Those of [`receive_within`].
pub fn receive_answer<T: for<'a> Deserialize<'a>>(
    socket: &impl AsFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    receive_within(socket, PATIENCE)
}

/// Receives one message that comes in time; `None` when the other side has closed.
///
/// # Errors
/// `TimedOut` when none comes; else those of [`receive`].
pub fn receive_within<T: for<'a> Deserialize<'a>>(
    socket: &impl AsFd,
    limit: Duration,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let deadline = Instant::now() + limit;
    let wait = || {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout)
    };
    loop {
        match repeat_interrupted(wait)? {
            // poll counts whole milliseconds: of the last one a part is left.
            0 if Instant::now() < deadline => {}
            0 => return Err(silence_error()),
            _ => return receive(socket),
        }
    }
}

/// Receives one message; `None` when the other side has closed.
///
/// # Errors
/// Those of recvmsg(2), and a message that is none of ours.
pub fn receive<T: for<'a> Deserialize<'a>>(socket: &impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut text = vec![0; LONGEST_PACKET];
    let mut space = nix::cmsg_space!([RawFd; 8]);
    let socket = socket.as_fd().as_raw_fd();
    let (bytes, mut fds) = repeat_interrupted(|| {
        let mut slices = [IoSliceMut::new(&mut text)];
        let got = recvmsg::<()>(socket, &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let mut fds = Vec::new();
        for message in got.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just made these descriptors for us; nobody else owns them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        nix::Result::Ok((got.bytes, fds))
    })?;
    match &text[..bytes] {
        [] => Ok(None),
        IN_FILE => {
            let file = fds.pop().ok_or(io::ErrorKind::InvalidData)?;
            Ok(Some((serde_json::from_slice(&read_sealed(file)?)?, fds)))
        }
        text => Ok(Some((serde_json::from_slice(text)?, fds))),
    }
}

fn write_sealed(text: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(c"podctl-message", flags)?);
    file.write_all(text)?;
    file.rewind()?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(file.into())
}

/// Makes the memory file that has a document, to be sent beside a request.
///
/// # Errors
/// Those of memfd_create(2) and write(2).
pub fn write_document<T: Serialize>(document: &T) -> io::Result<OwnedFd> {
    write_sealed(&serde_json::to_vec(document).map_err(io::Error::other)?)
}

/// Reads the document of a memory file that [`write_document`] has made.
///
/// # Errors
/// `InvalidData` for a file that could still change, or that is too long; one that is not such a document.
pub fn read_document<T: for<'a> Deserialize<'a>>(file: OwnedFd) -> io::Result<T> {
    Ok(serde_json::from_slice(&read_sealed(file)?)?)
}

/// The text of a memory file. Of any other file reading might wait, or never end.
fn read_sealed(file: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(file);
    let seals = SealFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GET_SEALS)?);
    if !seals.contains(SEALS) || file.metadata()?.len() > LONGEST_FILE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_any_size_and_keeps_its_descriptors() {
        let (here, there) = make_connection().unwrap();
        for length in [0, LONGEST_PACKET - 2, LONGEST_PACKET, 5 << 20] {
            let text = "x".repeat(length);
            send(&here, &text, &[here.as_fd(), there.as_fd(), here.as_fd()]).unwrap();
            let (heard, fds) = receive::<String>(&there).unwrap().unwrap();
            assert!(heard == text && fds.len() == 3, "{length}");
        }
        drop(here);
        assert!(receive::<String>(&there).unwrap().is_none());
    }

    #[test]
    fn who_does_not_answer_or_take_connections_is_not_waited_for() {
        let silent = |failed: io::Error| failed.kind() == io::ErrorKind::TimedOut;
        let (here, there) = make_connection().unwrap();
        let limit = Duration::from_millis(50);
        assert!(receive_within::<i32>(&here, limit).is_err_and(silent));
        send(&there, &1, &[]).unwrap();
        assert_eq!(receive_answer::<i32>(&here).unwrap().unwrap().0, 1);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let _listener = listen_at(&path, 1).unwrap();
        let waiting: Vec<_> = (0..8).map(|_| dial_within(&path, limit)).collect();
        assert!(waiting.into_iter().filter_map(Result::err).next().is_some_and(silent));
    }

    #[test]
    fn a_file_that_could_change_is_no_message() {
        let (here, there) = make_connection().unwrap();
        let file = tempfile::tempfile().unwrap();
        send_packet(here.as_fd(), IN_FILE, &[file.as_fd()]).unwrap();
        assert!(receive::<String>(&there).is_err());
        send_packet(here.as_fd(), IN_FILE, &[]).unwrap();
        assert!(receive::<String>(&there).is_err());
    }

    #[test]
    fn a_socket_lies_as_deep_as_it_likes() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(200)).join("e".repeat(200));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("control.sock");
        let listener = listen_at(&path, 1).unwrap();
        let client = dial(&path).unwrap();
        send(&client, &1, &[]).unwrap();
        let raw = nix::sys::socket::accept(listener.as_raw_fd()).unwrap();
        // SAFETY: the kernel has just made it.
        let served = unsafe { OwnedFd::from_raw_fd(raw) };
        assert_eq!(receive::<i32>(&served).unwrap().unwrap().0, 1);
    }
}
