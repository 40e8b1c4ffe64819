//! What can go wrong with an image, each with the reference or path it happened to.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::UnpackError;
use crate::ordinary_file::is_misplaced;
use crate::registry_error::{Presence, RegistryError, printable};

/// Names what to do where overlayfs lies beneath the store, and the kernel cannot have that.
pub(crate) const ELSEWHERE: &str = "let podctl's data directory be a volume (docker or podman -v VOLUME:DIRECTORY, an emptyDir), or PODCTL_DATA_DIR \
     name a directory elsewhere; `podctl doctor` looks at the rest";

/// The reason why an image could not be found, fetched, stored or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no image reference.
    #[error("invalid image reference {text:?}: {reason}")]
    Reference {
        /// Holds what was given.
        text: String,
        /// Holds what is wrong with it.
        reason: &'static str,
    },
    /// The store has no such image.
    #[error("image {reference} is not in the store")]
    NotFound {
        /// The image asked for.
        reference: String,
    },
    /// Images of several ids begin like that.
    #[error("{text}: several images begin like that; give more of the id")]
    Ambiguous {
        /// Holds what was given.
        text: String,
    },
    /// Means that an id that is to be removed has several names.
    #[error("{text} has several names ({names}); remove them by name, or all of them with --force")]
    SeveralNames {
        /// Holds what was given.
        text: String,
        /// The references.
        names: String,
    },
    /// Some process holds a lease on the image.
    #[error("image {reference} is in use; what runs from it must end first")]
    InUse {
        /// The image to be removed.
        reference: String,
    },
    /// The registry refused, or could not be reached.
    #[error("{reference}: {source}")]
    Registry {
        /// The image asked for.
        reference: String,
        /// The registry's answer.
        source: RegistryError,
    },
    /// Neither the registry nor its mirrors had it.
    #[error("{source} (also tried: {others})")]
    Everywhere {
        /// Holds what says most.
        source: Box<Error>,
        /// Holds what the others said.
        others: String,
    },
    /// There is nothing on this machine to know a registry by.
    #[error(
        "this machine has no CA certificates to know {registry} by; install the package ca-certificates, let SSL_CERT_FILE name a \
         file of certificates, or name the registry in registries.conf with insecure = true where it speaks plain HTTP"
    )]
    NoCertificates {
        /// The registry.
        registry: String,
    },
    /// Means that a certificate for a registry, its authority's or the client's own, cannot be used.
    #[error("{}: {}", .path.display(), printable(.reason))]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Holds what is wrong with it.
        reason: String,
    },
    /// Means that no thread can be had.
    #[error(
        "cannot start threads: {0}; more processes than `ulimit -u` or the container around podctl (--pids-limit) allows"
    )]
    Threads(#[source] io::Error),
    /// registries.conf forbids this registry.
    #[error("{reference}: registry is blocked by {}", .conf.display())]
    Blocked {
        /// The image asked for.
        reference: String,
        /// The file that says so.
        conf: PathBuf,
    },
    /// registries.conf cannot be understood.
    #[error("{}: {source}", .path.display())]
    Conf {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        source: Box<toml::de::Error>,
    },
    /// No image for this machine.
    #[error("{reference}: no image for {wanted}; there is {}", printable(.offered))]
    Platform {
        /// The image asked for.
        reference: String,
        /// This machine's os/architecture.
        wanted: String,
        /// Holds what there is instead.
        offered: String,
    },
    /// The text is no platform.
    #[error(
        "invalid platform {text:?}: expected os/architecture or os/architecture/variant, as in linux/arm64"
    )]
    PlatformName {
        /// Holds what was given.
        text: String,
    },
    /// Manifest or configuration is malformed.
    #[error("{reference}: invalid {what}: {}", printable(.reason))]
    Invalid {
        /// The image.
        reference: String,
        /// Tells which document.
        what: &'static str,
        /// Holds what is wrong with it.
        reason: String,
    },
    /// Content is not what its digest says.
    #[error("{reference}: {what}: content is {actual}, not {expected}")]
    Digest {
        /// The image.
        reference: String,
        /// Tells which content.
        what: &'static str,
        /// Digest promised.
        expected: String,
        /// Digest found.
        actual: String,
    },
    /// Content is shorter or longer than its descriptor says.
    #[error("{reference}: {digest}: expected {expected} bytes, got {actual}")]
    Size {
        /// The image.
        reference: String,
        /// The blob.
        digest: String,
        /// Bytes promised.
        expected: u64,
        /// Bytes found (one too many if the content goes on).
        actual: u64,
    },
    /// Means that a layer could not be unpacked.
    #[error("{reference}: layer {digest}: {source}")]
    Unpack {
        /// The image.
        reference: String,
        /// The layer.
        digest: String,
        /// Tells which entry, and why.
        source: UnpackError,
    },
    /// The archive to load is not an image archive.
    #[error("{}: {}", .path.display(), printable(.reason))]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Holds what is wrong with it.
        reason: String,
    },
    /// Something of the store's own is not as it should be.
    #[error("{}: {reason}", .path.display())]
    Damaged {
        /// The place where it is.
        path: PathBuf,
        /// Holds what is wrong with it, and what mends it.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// Holds what was tried.
        action: &'static str,
        /// The path it happened on.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// Tells whether trying again without changing anything is futile.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Registry { source, .. } => source.is_permanent(),
            Self::InUse { .. }
            | Self::Size { .. }
            | Self::Digest { .. }
            | Self::Io { .. }
            | Self::Threads(_) => false,
            Self::Unpack { source, .. } => source.is_permanent(),
            Self::Everywhere { source, .. } => source.is_permanent(),
            _ => true,
        }
    }

    /// Tells how much of a registry there was: all of it, if that is not what failed.
    pub(crate) fn presence(&self) -> Presence {
        match self {
            Self::Registry { source, .. } => source.presence(),
            // Nobody was asked.
            Self::NoCertificates { .. } => Presence::Unreachable,
            _ => Presence::Answered,
        }
    }

    /// Returns what was said in the end, without the reference.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Registry { source, .. } => source.cause(),
            other => other.to_string(),
        }
    }

    /// Tells whether the registry wants someone else.
    pub(crate) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Registry { source, .. } if source.is_unauthorized())
    }

    /// Tells whether the same request may well succeed in a moment: the registry is busy or a transfer broke off.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Registry { source, .. } => source.is_passing(),
            Self::Size { expected, actual, .. } => actual < expected,
            _ => false,
        }
    }

    /// Tells how long to wait after the failure number `attempt` (from 0) in a row.
    pub(crate) fn wait_before(&self, attempt: u32) -> Duration {
        match self {
            Self::Registry { source, .. } => source.wait_before(attempt),
            _ => Duration::from_millis(250 << attempt),
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// The same of what is the store's own: it says what mends it, when something else stands in its place.
    pub(crate) fn own(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match is_misplaced(&source) {
            true => {
                let reason = format!("{source}; `podctl doctor --repair` mends it, or says how");
                Self::Damaged { path: path.to_owned(), reason }
            }
            false => Self::io(action, path)(source),
        }
    }
}
