//! Why a pod could not be started.

use crate::{manifest::Diagnostic, network, outer_container::explain_refusal, state};

/// The reason why a pod could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Means that a pod of this name lives.
    #[error(
        "pod \"{0}\" is running already; `podctl delete {0}` ends it, `podctl run --replace` does so first"
    )]
    Exists(String),
    /// The pod, or an object that it refers to, is none that an API server would take.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Diagnostic>),
    /// State on disk.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The image store.
    #[error(transparent)]
    Images(#[from] podctl_images::Error),
    /// The pods' network, or a port of the host.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// Means that a process could not be started.
    #[error("cannot start the pod's supervisor: {}{}", .0, explain_refusal(.0))]
    Spawn(#[from] podctl_runtime::Error),
    /// Means that a system call of the start failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// Holds what was tried.
        step: &'static str,
        /// The reason why not.
        source: std::io::Error,
    },
    /// The user cannot have the own id in the pod.
    #[error("the user's id cannot be kept in a pod: {0}")]
    KeptIds(String),
    /// The supervisor ended before the pod's sandbox stood.
    #[error("the sandbox of pod \"{pod}\" could not be made: {message}")]
    Sandbox {
        /// The pod's name.
        pod: String,
        /// The supervisor's own words.
        message: String,
    },
}

impl Error {
    /// Tells whether another try goes another way: on another network, or without the ids that could not be mapped.
    pub(super) fn may_pass(&self) -> bool {
        use network::Error::{Gone, Start};
        use podctl_runtime::Error::IdMap;
        matches!(self, Error::Network(Gone | Start(IdMap { .. })) | Error::Spawn(IdMap { .. }))
    }
}

pub(super) fn step<E: Into<std::io::Error>>(step: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Step { step, source: source.into() }
}
