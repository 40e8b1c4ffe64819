//! The numbers under which a process of ours is handed its descriptors: one table, a module a role.
//!
//! Whoever starts a role and the role itself both read the number here, so that neither can be changed alone.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Belongs to every role: the pipe by which it hears that its ids are mapped.
pub const MAPPED: RawFd = 15;

/// Descriptors of a pod's supervisor.
pub mod supervisor {
    use super::RawFd;

    /// The pod's lock.
    pub const LOCK: RawFd = 3;
    /// The [`Launch`](crate::wire::Launch) as JSON.
    pub const LAUNCH: RawFd = 4;
    /// The socket to the client that started the pod.
    pub const CLIENT: RawFd = 5;
    /// The socket to the puller; only when an image is missing.
    pub const PULLER: RawFd = 6;
    /// The connection to the pods' network; only when the pod is on it.
    pub const NETWORK: RawFd = 7;
    /// The command's connection that is there from the start, with its request in it.
    pub const FIRST: RawFd = 8;
    /// The tie that keeps the user namespace for later pods; it only has to be open.
    pub const USERS: RawFd = 10;
    /// The first of those of a pod with a user namespace of its own: the lock on its ids, then the id-mapped mounts.
    pub const CONTAINED: RawFd = 16;
}

/// Descriptors of the process that fetches a pod's images.
pub mod puller {
    use super::RawFd;

    /// The socket to the supervisor.
    pub const SUPERVISOR: RawFd = 6;
    /// The pipe that ends with the client whose terminal it writes to.
    pub const SCREEN: RawFd = 9;
    /// The image store's directory; of the guard alone.
    pub const STORE: RawFd = 10;
}

/// Descriptors of what doctor tries.
#[cfg(feature = "cli")]
pub mod trial {
    use super::RawFd;

    /// The file that has the directory to try in, and then what came of it.
    pub const ANSWER: RawFd = 3;
}

/// Descriptors of the network's keeper.
pub mod keeper {
    use super::RawFd;

    /// The listening socket.
    pub const LISTENER: RawFd = 3;
    /// The lock under which a keeper starts and ends.
    pub const LOCK: RawFd = 4;
    /// podctl's data directory, where Services are kept.
    pub const DATA: RawFd = 5;
    /// The network namespace that a keeper which was killed has left.
    pub const NAMESPACE: RawFd = 6;
    /// The lock that tells that the keeper lives; it only has to be open.
    pub const LIFE: RawFd = 7;
    /// The directory that holds the keeper's socket and the record of what is on the host.
    pub const DIRECTORY: RawFd = 8;
    /// The pipe that ends when the keeper is in its scope: what it starts before would stay outside.
    pub const SCOPE: RawFd = 9;
}

/// Descriptors of the process that starts a killed keeper again.
pub mod guard {
    use super::RawFd;

    /// The guarded keeper's pidfd.
    pub const KEEPER: RawFd = 3;
    /// The user's two directories; the environment may name others.
    pub const HOME: [RawFd; 2] = [4, 5];
    /// The connection to the guard; of its deputy alone.
    pub const GUARD: RawFd = 6;
    /// The other end of [`keeper::SCOPE`](super::keeper::SCOPE).
    pub const SCOPE: RawFd = 7;
}

/// Descriptors of the process that keeps a Job.
pub mod tender {
    use super::RawFd;

    /// The user's two directories; the environment may name others.
    pub const HOME: [RawFd; 2] = [3, 4];
}

/// Descriptors of the process that holds an ordinary user's user namespace.
pub mod holder {
    use super::RawFd;

    /// The FIFO that every pod in the namespace holds open for writing.
    pub const FIFO: RawFd = 3;
}

/// Descriptors of the process that changes the image store for an ordinary user.
pub mod images {
    use super::RawFd;

    /// Names what is to be done, as JSON.
    pub const TASK: RawFd = 3;
    /// The place where the answer goes.
    pub const ANSWER: RawFd = 4;
    /// Names the file that the user has open, where its name alone says nothing to that process.
    pub const HANDED: RawFd = 5;
}

/// Descriptors of the process that empties a directory of other users' files.
pub mod sweep {
    use super::RawFd;

    /// The directory.
    pub const DIRECTORY: RawFd = 3;
}

/// Takes over a descriptor that was handed to this process under a known number.
///
/// # Safety
/// Only in the role that was started with that number, and once a number.
pub unsafe fn take_descriptor(number: RawFd) -> OwnedFd {
    // SAFETY: by this function's own contract the descriptor is open and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(number) }
}
