//! What can happen to a pod. The supervisor observes and reports; it judges nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::{EphemeralContainer, LinuxContainerUser, PodCondition};

/// The start of one container: its name and the number of starts before this one.
///
/// Every report about a container names its run, so that a late answer about an earlier run can
/// never be taken for one about the present run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    /// The container's name; unique in a pod over init, app and ephemeral containers.
    pub container: String,
    /// 0 for the first start. Grows by one with every start that is tried; names the log file.
    pub attempt: u32,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The pod's namespaces, volumes and network stand.
    SandboxReady {
        /// The pod's addresses; the first is `status.podIP`. May be empty (loopback only).
        pod_ips: Vec<String>,
        /// `status.hostIPs`; the first is `status.hostIP`.
        host_ips: Vec<String>,
    },
    /// The image has to be fetched, and its registry is being asked.
    ImagePulling {
        /// The container that asked.
        container: String,
        /// The reference: the container's own, or that of a volume which the container mounts.
        image: String,
    },
    /// The image a container asked for is in the store.
    ImageReady {
        /// The container that asked.
        container: String,
        /// `status.containerStatuses[].image`: the reference by which it is known.
        image: String,
        /// `imageID`: `NAME@sha256:…`.
        image_id: String,
        /// The image's `Config.StopSignal`, such as `SIGQUIT`.
        stop_signal: Option<String>,
        /// `None` when the image was present already and nothing was fetched.
        pulled: Option<Pulled>,
    },
    /// The image could not be had.
    ImageFailed {
        /// The container that asked.
        container: String,
        /// Tells which of the kubelet's reasons it is.
        reason: ImageFailure,
        /// The registry's own words, with the reference.
        message: String,
    },
    /// The container's process has been executed.
    Started {
        /// Tells which start.
        run: Run,
        /// `podctl://…`, as `status.containerStatuses[].containerID`.
        container_id: String,
        /// `status.containerStatuses[].user`: whose its first process is.
        user: LinuxContainerUser,
    },
    /// The container could not be made or its process not executed.
    StartFailed {
        /// Tells which start.
        run: Run,
        /// Tells which of the kubelet's reasons it is.
        reason: StartFailure,
        /// The whole cause, ready to be shown.
        message: String,
    },
    /// The container's process ended and everything of it is gone.
    Exited {
        /// Tells which start.
        run: Run,
        /// Tells how it ended.
        exit: Exit,
        /// The cgroup saw an OOM kill during this run.
        oom_killed: bool,
        /// Holds what R-APP-4 says of terminationMessagePath and the policy, already cut to size.
        message: String,
    },
    /// Means that a hook that [`super::Action::RunHook`] asked for has ended.
    HookEnded {
        /// Tells which start.
        run: Run,
        /// Tells which hook.
        hook: Hook,
        /// The failure, ready to be shown.
        result: Result<(), String>,
    },
    /// Means that a probe that [`super::Action::RunProbe`] asked for has ended.
    ProbeEnded {
        /// Tells which start.
        run: Run,
        /// Tells which probe.
        probe: Probe,
        /// The failure, ready to be shown, as the kubelet words it
        /// (`HTTP probe failed with statuscode: 500`).
        result: Result<(), String>,
    },
    /// Means that a probe has passed, but for something that its user should know; `ProbeEnded` comes after it.
    ProbeWarned {
        /// Tells which start.
        run: Run,
        /// Tells which probe.
        probe: Probe,
        /// Says it in the kubelet's words.
        message: String,
    },
    /// Means that a deadline that [`super::State::next_deadline`] named has passed. Sent too often it does no harm.
    Tick,
    /// The user wants the pod gone.
    Delete {
        /// Overrides terminationGracePeriodSeconds. Zero is SIGKILL at once. A second delete can
        /// only shorten what is left.
        grace_period: Option<Duration>,
    },
    /// The user wants every container to start anew, init containers first (R-INIT-3).
    Restart,
    /// The pod broke a limit that only eviction enforces (R-VOL-1).
    Evict {
        /// `status.message`.
        message: String,
    },
    /// What [`super::Action::Resize`] asked for is done, or cannot be done now.
    Resized {
        /// Tells which start.
        run: Run,
        /// The failure, ready to be shown.
        result: Result<(), String>,
    },
    /// What [`super::Action::ResizePod`] asked for is done, or cannot be done now: the failure, ready to be shown.
    PodResized(Result<(), String>),
    /// Others have set conditions of the pod (R-UPD-3): all that are not podctl's own.
    SetConditions(Vec<PodCondition>),
    /// `podctl debug` (R-EPH-1).
    AddEphemeralContainer(Box<EphemeralContainer>),
}

/// Holds what a pull cost; for the event `Pulled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The time for which it took.
    pub took: Duration,
    /// Size of the image in bytes, as the registry holds it.
    pub size: u64,
}

/// Tells how a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Ended by `exit(2)` with this code.
    Code(i32),
    /// Ended by this signal.
    Signal(i32),
}

impl Exit {
    /// Does as a shell has it: 128 + n for signal n.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// Waiting reasons of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFailure {
    /// `ErrImagePull`
    Pull,
    /// `ErrImageNeverPull`: not present, and imagePullPolicy is Never.
    NeverPull,
    /// `InvalidImageName`
    InvalidName,
}

/// Reasons why a container did not come to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFailure {
    /// `CreateContainerConfigError`: the configuration cannot be honoured (a missing ConfigMap key,
    /// a root image with runAsNonRoot …). The container waits and is tried again.
    CreateContainerConfig,
    /// `CreateContainerError`: the sandbox of the container could not be built.
    CreateContainer,
    /// The process could not come to run: something could not be mounted, the command not be executed.
    /// Terminated with reason `StartError`, as a container that has failed.
    Start,
}

/// The two container hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// `lifecycle.postStart`
    PostStart,
    /// `lifecycle.preStop`
    PreStop,
}

/// The three probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// `startupProbe`
    Startup,
    /// `livenessProbe`
    Liveness,
    /// `readinessProbe`
    Readiness,
}

impl Probe {
    /// Does as it is called in events.
    pub fn word(self) -> &'static str {
        match self {
            Probe::Startup => "Startup",
            Probe::Liveness => "Liveness",
            Probe::Readiness => "Readiness",
        }
    }
}
