//! What commands say to a living supervisor: one SOCK_SEQPACKET message, descriptors beside it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::EphemeralContainer;

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect,
    recvmsg, sendmsg, socket,
};
use serde::{Deserialize, Serialize};

use crate::archive::Destination;

/// Longest message.
const LONGEST: usize = 128 << 10;

/// What a command asks.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// End the pod and forget it. The connection closes when that is done.
    Delete {
        /// Overrides terminationGracePeriodSeconds.
        grace_period: Option<Duration>,
    },
    /// End the pod and keep its record, so that it can be started again. The connection closes when
    /// that is done.
    Stop {
        /// Overrides terminationGracePeriodSeconds.
        grace_period: Option<Duration>,
    },
    /// Start every container anew, init containers first.
    Restart,
    /// A ConfigMap or a Secret that the pod refers to has changed; it is in the memory file beside it.
    Refresh,
    /// Run a command in a container; standard input, output and error come beside it unless it is
    /// to have a terminal.
    Exec {
        /// In which container.
        container: String,
        /// What to run.
        command: Vec<String>,
        /// With a terminal of its own, whose other side comes back.
        terminal: bool,
        /// That terminal's rows and columns.
        size: Option<(u16, u16)>,
    },
    /// Share in the streams of a container's first process, also of one that is still to start.
    Attach {
        /// Of which container.
        container: String,
        /// Its standard input as well.
        input: bool,
    },
    /// Add an ephemeral container (R-EPH-1); its image is present.
    Debug {
        /// As it will stand in the pod's spec.
        container: Box<EphemeralContainer>,
        /// Attach to it over this connection, from its first byte on.
        attach: bool,
    },
    /// Pack a file or directory of a container into the pipe that comes beside it; a second
    /// descriptor is for warnings.
    CopyOut {
        /// Of which container.
        container: String,
        /// In the container.
        path: PathBuf,
    },
    /// Unpack what comes through the pipe beside it.
    CopyIn {
        /// Into which container.
        container: String,
        /// What it is to become there.
        into: Destination,
    },
    /// Connect to a port of the pod from inside of it; the connection comes back.
    Dial {
        /// On the pod's loopback.
        port: u16,
        /// On that of IPv6.
        v6: bool,
    },
    /// What each container uses now.
    Usage,
    /// The user and network namespaces of the network that the pod is on; they come back.
    Network,
}

/// What a container uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Usage {
    /// Its name.
    pub container: String,
    /// CPU time since its start, in microseconds.
    pub cpu: u64,
    /// Memory in bytes, without what the kernel could drop.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// What a supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It is done, or runs; a terminal or connection that was asked for is beside the message.
    Started,
    /// Attached: output, error output (without a terminal) and input (if asked for and open) are beside it.
    Attached {
        /// The container has a terminal; its other side is output and input at once.
        terminal: bool,
    },
    /// What each running container uses.
    Usage(Vec<Usage>),
    /// It ended: the exit code, 128 + n for signal n.
    Ended(i32),
    /// It cannot be done, and why; the exit code that says so.
    Refused {
        /// The whole sentence.
        message: String,
        /// As a shell has it: 126, 127, else 1.
        exit_code: i32,
    },
}

/// Connects to a supervisor.
///
/// # Errors
/// Those of connect(2).
pub fn dial(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
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
