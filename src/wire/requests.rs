//! What commands say to a living supervisor, and what it answers: one message each, descriptors beside it.

use std::{path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::EphemeralContainer;
use serde::{Deserialize, Serialize};

use crate::archive::Destination;

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
    /// A ConfigMap or a Secret that the pod refers to has changed; it is in the memory file beside it.
    Refresh,
    /// The pod is to become what the memory file beside it says; answered by what became of it.
    Update,
    /// Run a command in a container; standard input, output and error come beside it unless it is
    /// to have a terminal.
    Exec {
        /// The name of the container.
        container: String,
        /// Holds what to run.
        command: Vec<String>,
        /// With a terminal of its own, whose other side comes back.
        terminal: bool,
        /// That terminal's rows and columns.
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
        /// Written as it will stand in the pod's spec.
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
        /// Written as a shell has it: 126, 127, else 1.
        exit_code: i32,
    },
}
