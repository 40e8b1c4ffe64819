//! What can go wrong in the engine: for people a sentence, for programs a kind.

use std::path::PathBuf;

use super::{ImageError, ImageErrorKind, ObjectKind, StartError};
use crate::{
    manifest::{Diagnostic, Severity},
    network,
    pod::InvalidName,
    state,
};

/// Names what sort of error it is. A program decides by it, and a server for the Kubernetes API answers with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such object, image or container.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// The object breaks rules; [`Error::causes`] has each.
    Invalid,
    /// Means that it was changed meanwhile, or is in use.
    Conflict,
    /// Means that it may not be changed so.
    Forbidden,
    /// podctl cannot do that.
    Unsupported,
    /// Means that it did not come to be in time.
    Timeout,
    /// The pod has ended, and what was asked for with it.
    Gone,
    /// The request makes no sense.
    BadRequest,
    /// Something that is there does not answer.
    Unavailable,
    /// The failure of a system call, a file or a process.
    Internal,
}

impl ErrorKind {
    /// The word that the Kubernetes API has for it, such as `NotFound`; clients look for it.
    pub fn reason(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "NotFound",
            ErrorKind::AlreadyExists => "AlreadyExists",
            ErrorKind::Invalid => "Invalid",
            ErrorKind::Conflict => "Conflict",
            ErrorKind::Forbidden => "Forbidden",
            ErrorKind::Unsupported => "MethodNotAllowed",
            ErrorKind::Timeout => "Timeout",
            ErrorKind::Gone => "Gone",
            ErrorKind::BadRequest => "BadRequest",
            ErrorKind::Unavailable => "ServiceUnavailable",
            ErrorKind::Internal => "InternalError",
        }
    }
}

/// The reason why something could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This program has no hook that plays podctl's roles, and has not called [`crate::init`] either.
    #[error(
        "podctl is not initialised: pods are kept by this program, started anew; call podctl::init() first in main, or go with Engine::with_program(\"/usr/local/bin/podctl\")"
    )]
    NotInitialised,
    /// This program has no hook that plays podctl's roles, and called [`crate::init`] too late.
    #[error(
        "podctl::init() was called when threads or an asynchronous runtime existed already, as under #[test] and #[tokio::main]: pods are kept by this program, started anew; call it first in a main of your own, or go with Engine::with_program(\"/usr/local/bin/podctl\")"
    )]
    InitialisedLate,
    /// The program that is to play podctl's roles is none.
    #[error("cannot have {program:?} keep pods: {source}")]
    NoProgram {
        /// The path.
        program: PathBuf,
        /// The reason why not.
        source: std::io::Error,
    },
    /// The pod cannot come to be ready; left alone it would try again, as a kubelet does.
    #[error("pod {pod}: {}{reason}: {message}", container.as_ref().map(|name| format!("container {name}: ")).unwrap_or_default())]
    CannotStart {
        /// The pod's name.
        pod: String,
        /// The container that stands in the way, if it is one.
        container: Option<String>,
        /// Gives it as in its status, such as `ErrImagePull`.
        reason: String,
        /// Holds what the reason does not say.
        message: String,
    },
    /// The pod was not ready in time.
    #[error("timed out waiting for pods/{pod} to be ready: {what}")]
    NotReady {
        /// The pod's name.
        pod: String,
        /// The container that stands in the way.
        container: String,
        /// The reason in that container's status, such as `CrashLoopBackOff`; empty when it has none.
        reason: String,
        /// The whole clause, which names the container.
        what: String,
    },
    /// The port is not published on this machine.
    #[error("port {port} of pod {pod:?} is not published; Options::publish, a hostPort or -p does that")]
    NotPublished {
        /// The pod's name.
        pod: String,
        /// The port asked for.
        port: u16,
    },
    /// The manifest's errors, all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Manifest(Vec<Diagnostic>),
    /// Means that a text that was to name something and is no name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// State on disk; among it that there is no such pod.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Means that a pod could not be started, or what is left of it not cleared away.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Something about an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// This machine cannot give what the pod asks for.
    #[error("pod \"{pod}\": {field}: {why}")]
    Unmet {
        /// The pod's name.
        pod: String,
        /// Tells which field asks for it.
        field: String,
        /// Holds what is missing.
        why: String,
    },
    /// Means that an image volume's image could not be had.
    #[error("volume {volume:?}: image {image:?} could not be pulled: {source}")]
    Volume {
        /// The volume's name.
        volume: String,
        /// The image's reference.
        image: String,
        /// The reason why not.
        source: ImageError,
    },
    /// Means that a pod that was to take the place of a living one could not be started.
    #[error("{source}; pod {pod:?} of before was started again")]
    NotReplaced {
        /// The pod's name.
        pod: String,
        /// The reason why not.
        source: Box<Error>,
    },
    /// Nothing can be done in a pod that has ended.
    #[error("pod {0:?} has ended; nothing can be done in it")]
    Ended(String),
    /// The pod has no container of that name.
    #[error("container {container} is not valid for pod {pod}")]
    NoContainer {
        /// The pod's name.
        pod: String,
        /// The name asked for.
        container: String,
    },
    /// The supervisor says why not.
    #[error("{message}")]
    Refused {
        /// The whole sentence.
        message: String,
        /// Gives it as a shell has it: 126, 127, else 1.
        exit_code: i32,
    },
    /// The container has not been started yet, and so has no log.
    #[error("container {container:?} in pod {pod:?} is waiting to start: {reason}")]
    NotStarted {
        /// The pod's name.
        pod: String,
        /// The container's.
        container: String,
        /// Holds what it waits for, such as `PodInitializing`.
        reason: String,
    },
    /// The container was started once only, and has no log of before.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious {
        /// The pod's name.
        pod: String,
        /// The container's.
        container: String,
    },
    /// Files could not be copied; the whole sentence.
    #[error("{0}")]
    Copy(String),
    /// What objects are waited for cannot be read, or does not fit them; the whole sentence.
    #[error("{0}")]
    Condition(String),
    /// Means that it did not come to be so in time.
    #[error("timed out waiting for the condition on pods/{0}")]
    TimedOut(String),
    /// The supervisor lives and does not answer.
    #[error("cannot reach the supervisor of pod {pod:?}: {source}; `podctl delete --force {pod}` ends it")]
    Unreachable {
        /// The pod's name.
        pod: String,
        /// The reason why not.
        source: std::io::Error,
    },
    /// There is no object of that kind and name.
    #[error("{} {name:?} not found", kind.qualified_plural())]
    NoObject {
        /// The kind of the object.
        kind: ObjectKind,
        /// The name asked for.
        name: String,
    },
    /// There is an object of that kind and name already.
    #[error("{} {name:?} already exists", kind.qualified_plural())]
    ObjectExists {
        /// The kind of the object.
        kind: ObjectKind,
        /// The name.
        name: String,
    },
    /// What was asked for contradicts what is so: the object was changed meanwhile, or is in use.
    #[error("Operation cannot be fulfilled on {} {name:?}: {why}", kind.qualified_plural())]
    Conflict {
        /// The kind of the object.
        kind: ObjectKind,
        /// The name.
        name: String,
        /// Holds what is so.
        why: String,
    },
    /// What of an object cannot be changed was to be changed.
    #[error("{} {name:?} is forbidden: {why}", kind.qualified_plural())]
    Forbidden {
        /// The kind of the object.
        kind: ObjectKind,
        /// The name.
        name: String,
        /// Tells which rule forbids it.
        why: String,
    },
    /// Means that a local volume is held by a pod.
    #[error("volume {0:?} is in use by a pod; delete the pod first")]
    InUse(String),
    /// podctl cannot do that with objects of that kind; the whole sentence.
    #[error("{0}")]
    Unsupported(String),
    /// Means that a patch that is none, or does not fit the object.
    #[error(transparent)]
    Patch(#[from] super::patch::Error),
    /// Means that a pod cannot be debugged as it was asked for.
    #[error(transparent)]
    Debug(#[from] super::DebugError),
    /// The label or field selector that cannot be read.
    #[error("{0}")]
    Selector(String),
    /// The pods' network.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// Means that a stream or memory file could not be made or used.
    #[error("cannot {step}: {source}")]
    Io {
        /// Holds what was tried.
        step: &'static str,
        /// The reason why not.
        source: std::io::Error,
    },
}

impl Error {
    /// Returns what sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Manifest(_)
            | Error::Start(StartError::Invalid(_))
            | Error::Network(network::Error::AddressChanges { .. }) => ErrorKind::Invalid,
            Error::State(state::Error::NotFound { .. } | state::Error::VolumeGone { .. })
            | Error::NoObject { .. }
            | Error::NoContainer { .. } => ErrorKind::NotFound,
            Error::Start(StartError::Exists(_)) | Error::ObjectExists { .. } => ErrorKind::AlreadyExists,
            Error::Name(_)
            | Error::State(state::Error::Name(_))
            | Error::Selector(_)
            | Error::Debug(_)
            | Error::Condition(_)
            | Error::NotStarted { .. }
            | Error::NoPrevious { .. }
            | Error::Patch(_) => ErrorKind::BadRequest,
            Error::Conflict { .. } | Error::InUse(_) | Error::State(state::Error::VolumeInUse { .. }) => {
                ErrorKind::Conflict
            }
            Error::Forbidden { .. } => ErrorKind::Forbidden,
            Error::Unsupported(_) | Error::Unmet { .. } => ErrorKind::Unsupported,
            Error::TimedOut(_) | Error::NotReady { .. } => ErrorKind::Timeout,
            Error::Ended(_) => ErrorKind::Gone,
            Error::NotPublished { .. } => ErrorKind::NotFound,
            Error::CannotStart { .. } => ErrorKind::Unavailable,
            Error::Refused { .. } => ErrorKind::BadRequest,
            Error::Unreachable { .. } => ErrorKind::Unavailable,
            Error::Image(e) | Error::Volume { source: e, .. } => match e.kind {
                ImageErrorKind::NotFound => ErrorKind::NotFound,
                ImageErrorKind::InUse => ErrorKind::Conflict,
                _ => ErrorKind::Internal,
            },
            _ => ErrorKind::Internal,
        }
    }

    /// Returns what is wrong with an object, each with its field; empty for errors of another kind.
    pub fn causes(&self) -> Vec<Diagnostic> {
        match self {
            Error::Manifest(all) | Error::Start(StartError::Invalid(all)) => {
                all.iter().filter(|d| d.severity == Severity::Error).cloned().collect()
            }
            Error::Network(error) => {
                let cause = error.wrong_field().map(|(path, message)| Diagnostic {
                    severity: Severity::Error,
                    file: String::new(),
                    line: 0,
                    column: 0,
                    path: path.to_owned(),
                    message,
                    help: None,
                });
                cause.into_iter().collect()
            }
            _ => Vec::new(),
        }
    }
}
