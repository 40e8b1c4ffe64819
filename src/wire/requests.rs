//! What commands say to a living supervisor, and what it answers: one message each, descriptors beside it.
//!
//! A request carries the version of these words. A supervisor of another version refuses with a sentence what it may not
//! understand; what ends a pod and keeps its network means the same in all versions.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use k8s_openapi::api::core::v1::EphemeralContainer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::transport::{receive, send};
use crate::{archive::Destination, lifecycle::PodPart};

/// Version of [`Request`] and [`Reply`]: one more with every change after which the other side would misunderstand.
pub const PROTOCOL: u32 = 1;

/// Requests that every version understands, with at least the fields that they have here, and answers with
/// [`Reply::Started`]; [`Reply::Refused`] does not change either.
const LASTING: [&str; 4] = ["Delete", "Stop", "Ping", "Network"];

/// The request as it travels.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    request: T,
}

/// Names what a supervisor hears.
#[derive(Debug)]
pub enum Heard {
    /// Something that it understands.
    Request(Request),
    /// Something of this other version.
    Foreign(u32),
}

/// Sends a request.
///
/// # Errors
/// Those of [`send`].
pub fn send_request(socket: &impl AsFd, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send(socket, &Versioned { version: PROTOCOL, request }, fds)
}

/// Receives a request; `None` when the other side has closed.
///
/// # Errors
/// Those of [`receive`].
pub fn receive_request(socket: &impl AsFd) -> io::Result<Option<(Heard, Vec<OwnedFd>)>> {
    let Some((message, fds)) = receive::<Versioned<Value>>(socket)? else { return Ok(None) };
    Ok(Some((understand(message)?, fds)))
}

fn understand(message: Versioned<Value>) -> io::Result<Heard> {
    let Versioned { version, request } = message;
    let name = request.as_str().or_else(|| request.as_object()?.keys().next().map(String::as_str));
    if version != PROTOCOL && !name.is_some_and(|name| LASTING.contains(&name)) {
        return Ok(Heard::Foreign(version));
    }
    Ok(Heard::Request(Request::deserialize(request)?))
}

/// Names what a command asks.
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
    /// Means that a ConfigMap or a Secret that the pod refers to has changed; it is in the memory file beside it.
    Refresh,
    /// The pod is to become, in one of its parts, what the memory file beside it says; answered by what became of it.
    Update {
        /// Tells which one.
        part: PodPart,
    },
    /// Run a command in a container; standard input, output and error come beside it unless it is
    /// to have a terminal.
    Exec {
        /// The name of the container.
        container: String,
        /// Holds what to run.
        command: Vec<String>,
        /// Gives it a terminal of its own, whose other side comes back.
        terminal: bool,
        /// The rows and columns of that terminal.
        size: Option<(u16, u16)>,
    },
    /// Share in the streams of a container's first process, also of one that is still to start.
    Attach {
        /// The name of the container.
        container: String,
        /// The standard input as well.
        input: bool,
    },
    /// Add an ephemeral container (R-EPH-1); its image is present.
    Debug {
        /// Gives it as it will stand in the pod's spec.
        container: Box<EphemeralContainer>,
        /// Attach to it over this connection, from its first byte on.
        attach: bool,
    },
    /// Pack a file or directory of a container into the pipe that comes beside it; a second
    /// descriptor is for warnings.
    CopyOut {
        /// The name of the container.
        container: String,
        /// The path in the container.
        path: PathBuf,
    },
    /// Unpack what comes through the pipe beside it.
    CopyIn {
        /// Into which container.
        container: String,
        /// Holds what it is to become there.
        into: Destination,
    },
    /// Connect to a port of the pod from inside of it; the connection comes back.
    Dial {
        /// Connects on the pod's loopback.
        port: u16,
        /// Connects on that of IPv6.
        v6: bool,
    },
    /// What each container uses now.
    Usage,
    /// Tells whether the supervisor answers.
    Ping,
    /// The user and network namespaces of the network that the pod is on; they come back.
    Network,
}

impl Request {
    /// Tells whether it is carried out for somebody who does not wait for it any more.
    pub fn outlives_client(&self) -> bool {
        matches!(self, Request::Delete { .. } | Request::Refresh)
    }
}

/// Holds what a container uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Usage {
    /// The name.
    pub container: String,
    /// CPU time since its start, in microseconds.
    pub cpu: u64,
    /// Memory in bytes, without what the kernel could drop.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// Names what a supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Means that it is done, or runs; a terminal or connection that was asked for is beside the message.
    Started,
    /// Attached: output, error output (without a terminal) and input (if asked for and open) are beside it.
    Attached {
        /// The container has a terminal; its other side is output and input at once.
        terminal: bool,
    },
    /// What each running container uses.
    Usage(Vec<Usage>),
    /// Means that it ended: the exit code, 128 + n for signal n.
    Ended(i32),
    /// Means that it cannot be done, and why; the exit code that says so.
    Refused {
        /// The whole sentence.
        message: String,
        /// Gives it as a shell has it: 126, 127, else 1.
        exit_code: i32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(version: u32, request: Value) -> io::Result<Heard> {
        understand(Versioned { version, request })
    }

    #[test]
    fn another_version_ends_a_pod_and_is_refused_all_else() {
        let delete = serde_json::json!({"Delete": {"grace_period": null, "added_later": true}});
        assert!(matches!(hear(PROTOCOL + 1, delete), Ok(Heard::Request(Request::Delete { .. }))));
        for lasting in ["Ping", "Network"] {
            assert!(matches!(hear(PROTOCOL + 1, lasting.into()), Ok(Heard::Request(_))));
        }
        assert!(
            matches!(hear(PROTOCOL + 1, "Usage".into()), Ok(Heard::Foreign(version)) if version == PROTOCOL + 1)
        );
        assert!(matches!(hear(PROTOCOL + 1, "AddedLater".into()), Ok(Heard::Foreign(_))));
        assert!(matches!(hear(PROTOCOL, "Usage".into()), Ok(Heard::Request(Request::Usage))));
        assert!(hear(PROTOCOL, "AddedLater".into()).is_err());
    }

    #[test]
    fn a_request_travels_with_its_version() {
        let (here, there) = super::super::make_connection().unwrap();
        send_request(&here, &Request::Ping, &[]).unwrap();
        let (heard, _) = receive_request(&there).unwrap().unwrap();
        assert!(matches!(heard, Heard::Request(Request::Ping)));
    }
}
