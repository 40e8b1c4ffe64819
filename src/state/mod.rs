//! What is on disk of a pod: where it lies, how it is written whole, how it is found again.
//!
//! Promises: every file is replaced by rename, so a reader sees the old or the new one, never half
//! of one; a lock held by the supervisor tells whether a pod is alive, also after a crash.
//! Stands beside all flows: the supervisor writes, every command reads.
//!
//! ```text
//! $XDG_RUNTIME_DIR/podctl/pods/NAMESPACE_NAME/     (root: /run/podctl/pods/…; gone at reboot)
//!     control.sock    the supervisor's control socket
//! $XDG_RUNTIME_DIR/podctl/memory/                  empty; each supervisor sees its pod's tmpfs there
//! $XDG_DATA_HOME/podctl/                           (root: /var/lib/podctl)
//!     runtime         a link to the runtime directory that is in use: sessions may differ in theirs
//!     records/NAMESPACE_NAME/                           see name_claim.rs
//!         lock            flock(2)ed by the supervisor as long as it lives; in it uid, namespace and name
//!         pod.json        v1.Pod with status
//!         reserve         room for one more pod.json on a full disk
//!         events.jsonl    one v1.Event a line; a later line of the same metadata.name replaces it
//!         again.json      what starts the pod again: manifest, objects, options; 0600
//!         trace.jsonl     when pulls, runs, hooks and probes began and ended, one mark a line
//!         cgroups         paths of the pod's cgroups, for the sweep
//!     images/         the image store
//!     logs/NAMESPACE_NAME_UID/CONTAINER/N.log      CRI log format; N is the start's number
//!     pods/UID/       writable layers (CONTAINER.N, CONTAINER.N.work) and volumes of a living pod
//!     objects/NAMESPACE/{configmap,secret,service}/NAME.json    what `create` and `apply` keep, mode 0600
//!     volumes/NAMESPACE_NAME/                           claim.json, lock, and the files in data/
//! ```
//!
//! Names here are the checked types of [`crate::pod::identifiers`]; one that is too long for a file name is cut
//! (`file_names.rs`), and the file in it has the whole.

mod data_place;
mod file_names;
mod home;
mod kept_jobs;
mod kept_objects;
mod local_volumes;
mod lock_holders;
mod name_claim;
mod pod_dir;
mod repair;
mod timeline_marks;
mod turn;

pub use file_names::{empty_directory, open_directory, remove_tree};
pub use home::{Home, log_file};
pub use kept_jobs::JobProgress;
pub use kept_objects::Kept;
pub use local_volumes::{VolumeDir, plain_claim};
pub use name_claim::{Placed, Unplaced};
pub use pod_dir::{Liveness, PodDir};
pub use repair::Damage;

use std::path::{Path, PathBuf};

use podctl_images::is_misplaced;

use crate::pod::InvalidName;

/// The reason why state could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Means that a system call on a file of ours failed.
    #[error("cannot {action} {}: {source}{}", path.display(), say_repair(action, source))]
    Io {
        /// Holds what was tried, as a verb: `read`, `write`, `lock`.
        action: &'static str,
        /// The file it happened on.
        path: PathBuf,
        /// The reason why not.
        source: std::io::Error,
    },
    /// The file of ours does not hold what we write.
    #[error("{} is damaged ({source}); {}", path.display(), say_how_to_mend_record(source, pod))]
    Damaged {
        /// Tells which file.
        path: PathBuf,
        /// The pod it belongs to.
        pod: String,
        /// Holds what the JSON parser says, or what stands in the file's place.
        source: std::io::Error,
    },
    /// The stored object does not hold what we write.
    #[error("{} is damaged ({source}); {}", path.display(), say_how_to_mend(path, source))]
    DamagedObject {
        /// Tells which file.
        path: PathBuf,
        /// Holds what the JSON parser says, or what stands in the file's place.
        source: std::io::Error,
    },
    /// Means that a local volume is held by a pod.
    #[error("volume \"{name}\" is in use by another pod, and only one at a time may have it")]
    VolumeInUse {
        /// The claim's name.
        name: String,
    },
    /// Means that a local volume has been removed.
    #[error("persistentvolumeclaim \"{name}\" not found")]
    VolumeGone {
        /// The claim's name.
        name: String,
    },
    /// Neither the usual place nor one for temporary files can be written.
    #[error(
        "there is no place for images and logs: neither the usual one nor /var/tmp nor TMPDIR can be written; PODCTL_DATA_DIR and \
         PODCTL_RUNTIME_DIR name others"
    )]
    NoHome,
    /// What was to become a path is no name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Means that a pod's record lies where an older podctl had it, and its supervisor lives.
    #[error("pod {pod:?} is running already, started by an older podctl, which alone can end it")]
    OtherVersion {
        /// The pod's name.
        pod: String,
    },
    /// No such pod.
    #[error("pods \"{name}\" not found")]
    NotFound {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
    },
}

/// The command that mends what stands in the place of a file of ours.
const REPAIR: &str = "`podctl doctor --repair` mends it, or says how";

/// Returns what mends a file that could not be used because of what it is; where directories could not be made nothing does.
fn say_repair(action: &str, source: &std::io::Error) -> String {
    let is_ours =
        matches!(action, "open" | "read" | "write" | "lock" | "list" | "replace" | "make" | "keep room in");
    if is_ours && is_misplaced(source) { format!("; {REPAIR}") } else { String::new() }
}

/// Returns what clears a damaged record away, or mends one that is whole and cannot be read.
fn say_how_to_mend_record(source: &std::io::Error, pod: &str) -> String {
    match is_misplaced(source) {
        true => REPAIR.to_owned(),
        false => format!("`podctl delete --force {pod}` clears it away"),
    }
}

/// Returns what clears a damaged object away.
fn say_how_to_mend(path: &Path, source: &std::io::Error) -> String {
    if is_misplaced(source) {
        return REPAIR.to_owned();
    }
    let part = |path: Option<&Path>| {
        path.and_then(Path::file_name).and_then(|name| name.to_str()).map(str::to_owned)
    };
    let kind = path.parent();
    let namespace = kind.and_then(Path::parent);
    match (part(kind).as_deref(), path.file_stem().and_then(|name| name.to_str()), part(namespace)) {
        (Some(kind @ ("configmap" | "secret" | "service")), Some(name), Some(namespace)) => {
            format!("`podctl delete {kind} {name} -n {namespace}` clears it away")
        }
        _ => "remove it and create the object again".to_owned(),
    }
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }
}
