//! What is to be done. The supervisor carries actions out in order and decides nothing.

use std::time::Duration;

use super::event::{Hook, Probe, Run};

/// Something the supervisor must do, now.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// See that the image is in the store; answered by `ImageReady` or `ImageFailed`.
    PullImage {
        /// The container that asks; its `image` and `imagePullPolicy` say what and how.
        container: String,
    },
    /// Make the container, for its turn may come soon; nothing of it runs. Nothing answers: what cannot be made is
    /// left to `StartContainer`. Comes at most once for a run.
    CreateContainer {
        /// Tells which start.
        run: Run,
    },
    /// Start the container, and make it unless it is made; answered by `Started` and later `Exited`, or by `StartFailed`.
    StartContainer {
        /// Tells which start.
        run: Run,
    },
    /// Send a signal to the container's first process. Nothing happens when it is gone already.
    Signal {
        /// Tells which start.
        run: Run,
        /// The signal's number; SIGKILL also ends everything else in the container.
        signal: i32,
    },
    /// Run a hook; answered by one `HookEnded`. The run's end ends the hook.
    RunHook {
        /// Tells which start.
        run: Run,
        /// Tells which hook.
        hook: Hook,
        /// The time when to give up and answer with a failure.
        timeout: Option<Duration>,
    },
    /// Run a probe once, with its own `timeoutSeconds`; answered by one `ProbeEnded`, unless the
    /// run has ended before.
    RunProbe {
        /// Tells which start.
        run: Run,
        /// Tells which probe.
        probe: Probe,
    },
    /// Give the container the CPU and memory that its spec now says, while it runs; answered by one `Resized`.
    Resize {
        /// Tells which start.
        run: Run,
    },
    /// Give the pod as a whole the CPU and memory that its spec now says; answered by one `PodResized`.
    ResizePod,
    /// Append to the pod's events.
    Record(Record),
    /// Nothing of the pod runs any more and nothing will: tear the sandbox down and leave.
    /// Always the last action of a pod's life, once.
    Finish,
}

/// Holds what an event says; the supervisor adds time, count and identity (`v1.Event`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// Holds a text such as `BackOff`.
    pub reason: &'static str,
    /// Says it in the kubelet's words.
    pub message: String,
    /// The container meant: `involvedObject.fieldPath` is `spec.containers{NAME}` or its kin.
    pub container: Option<String>,
}
