//! What is remembered of a pod.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{ContainerStateTerminated, LinuxContainerUser, PodCondition, ResourceRequirements},
    jiff::Timestamp,
};

use super::{Now, Probe, Run, Spec, spec::SpecResources};

/// The time a failure is shown by its own name, then as a back-off; the kubelet's next look at the pod
/// comes about as soon.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// Tells where one container stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// The image has been asked for.
    Pulling,
    /// The image could not be had; asked for again at that time.
    NoImage { reason: &'static str, message: String, retry: Option<Duration>, fresh_until: Option<Duration> },
    /// Means that it may start when its turn comes.
    Waiting,
    /// Means that it could not be made; tried again at that time.
    NotCreated { reason: &'static str, message: String, retry: Duration },
    /// The start has been asked for.
    Starting,
    /// The process runs.
    Running,
    /// Means that it ended and starts again at that time, after so long a wait. A start that failed is shown as
    /// such at first.
    BackOff { until: Duration, wait: Duration, fresh_until: Option<Duration> },
    /// Means that it ended for good.
    Ended,
}

/// The container that is being stopped.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stopping {
    /// preStop runs; SIGTERM waits for it.
    pub pre_stop: bool,
    /// SIGTERM, or what stands for it, has been sent.
    pub asked: bool,
    /// The time when SIGKILL was to come by the last wish; a later wish can only shorten it.
    pub by: Duration,
    /// The time when SIGKILL comes: a turn that comes late moves it (R-SIDE-4).
    pub kill_at: Duration,
    /// SIGKILL has been sent.
    pub killed: bool,
    /// Tells that a probe failed: it starts again whatever its exit code.
    pub restart: bool,
}

/// The whole pod's end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ending {
    /// The time when the grace period is over.
    pub by: Duration,
    /// Without a grace period: SIGKILL for all, at once and in no order.
    pub force: bool,
}

/// All containers are being stopped and then start anew (R-INIT-3).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Restarting {
    /// The time when the grace period is over.
    pub by: Duration,
    /// The container whose exit asked for it; the user else.
    pub source: Option<usize>,
    /// preStop hooks run; not when a restart rule asks.
    pub hooks: bool,
}

/// The probe of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Probing {
    pub next: Duration,
    pub running: bool,
    pub successes: i32,
    pub failures: i32,
}

/// The container, or the pod, whose CPU and memory are to become others (R-UPD-2).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resizing {
    /// Holds what was asked for last.
    pub wanted: Option<ResourceRequirements>,
    /// The time when it is tried again; while it is being tried, not at all.
    pub retry: Option<Duration>,
    /// The reason why it could not be done.
    pub error: Option<String>,
}

/// The change of CPU and memory, of whichever containers, that events tell about until it is done (R-UPD-4).
#[derive(Clone, Debug)]
pub(super) struct OngoingResize {
    pub generation: i64,
    /// The error that was told last.
    pub told_error: Option<String>,
}

/// The container.
#[derive(Clone, Debug)]
pub(super) struct One {
    pub phase: Phase,
    pub attempt: u32,
    pub restarts: i32,
    pub image: String,
    /// The image that was asked for last; the spec may name another by now (R-UPD-1).
    pub asked_image: Option<String>,
    pub image_id: String,
    pub image_backoff: Option<Duration>,
    /// The image that is being pulled: the container's, or that of one of its volumes.
    pub pulling: Option<String>,
    pub image_stop_signal: Option<String>,
    pub container_id: Option<String>,
    pub user: Option<LinuxContainerUser>,
    pub started_at: Option<(Duration, Timestamp)>,
    pub terminated: Option<ContainerStateTerminated>,
    pub last: Option<ContainerStateTerminated>,
    pub backoff: Option<Duration>,
    pub post_start: bool,
    /// R-SIDE-1: process running, postStart done, startupProbe passed.
    pub started: bool,
    pub ready: bool,
    /// Tells that it was made before its turn.
    pub made: bool,
    /// The turn has come since the pod began, or began anew.
    pub begun: bool,
    pub stopping: Option<Stopping>,
    pub probes: BTreeMap<u8, Probing>,
    /// The CPU and memory that it has.
    pub resources: Option<ResourceRequirements>,
    pub resizing: Option<Resizing>,
}

/// All that is remembered of a pod's life.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) all: Vec<One>,
    pub(super) sandbox: bool,
    pub(super) pod_ips: Vec<String>,
    pub(super) host_ips: Vec<String>,
    pub(super) began: (Duration, Timestamp),
    pub(super) ending: Option<Ending>,
    /// The reason why the pod failed as a whole.
    pub(super) failed: Option<(&'static str, String)>,
    pub(super) restarting: Option<Restarting>,
    /// After a restart of all: nothing starts before that time.
    pub(super) hold: Option<Duration>,
    /// The wait before the next restart of all.
    pub(super) pod_backoff: Option<Duration>,
    pub(super) finished: bool,
    pub(super) conditions: Vec<PodCondition>,
    /// Those of types that are not podctl's, as others have set them.
    pub(super) others_conditions: Vec<PodCondition>,
    /// The CPU and memory that the pod as a whole has.
    pub(super) resources: Option<ResourceRequirements>,
    pub(super) resizing: Option<Resizing>,
    /// The CPU and memory that the spec said last.
    pub(super) known_resources: SpecResources,
    pub(super) ongoing_resize: Option<OngoingResize>,
}

impl State {
    /// Returns a pod of which nothing has happened yet.
    pub fn new(spec: &Spec, now: Now) -> State {
        let mut state = State {
            all: (0..spec.containers.len()).map(|at| State::one(spec, at)).collect(),
            sandbox: false,
            pod_ips: Vec::new(),
            host_ips: Vec::new(),
            began: (now.monotonic, now.wall),
            ending: None,
            failed: None,
            restarting: None,
            hold: None,
            pod_backoff: None,
            finished: false,
            conditions: Vec::new(),
            others_conditions: Vec::new(),
            resources: spec.pod_resources.clone(),
            resizing: None,
            known_resources: spec.resources().cloned().collect(),
            ongoing_resize: None,
        };
        state.set_conditions(spec, now);
        state
    }

    pub(super) fn one(spec: &Spec, at: usize) -> One {
        One {
            phase: Phase::Pulling,
            attempt: 0,
            restarts: 0,
            image: spec.container(at).image.clone().unwrap_or_default(),
            asked_image: spec.container(at).image.clone(),
            image_id: String::new(),
            image_backoff: None,
            pulling: None,
            image_stop_signal: None,
            container_id: None,
            user: None,
            started_at: None,
            terminated: None,
            last: None,
            backoff: None,
            post_start: false,
            started: false,
            ready: false,
            made: false,
            begun: false,
            stopping: None,
            probes: BTreeMap::new(),
            resources: spec.container(at).resources.clone(),
            resizing: None,
        }
    }

    /// Tells when the next [`super::Event::Tick`] is wanted, on the monotonic clock.
    pub fn next_deadline(&self, spec: &Spec) -> Option<Duration> {
        if self.finished {
            return None;
        }
        let active = spec.active_deadline.filter(|_| self.ending.is_none()).map(|d| self.began.0 + d);
        let of_one = |one: &One| {
            let phase = match &one.phase {
                // Nothing starts while all is being stopped.
                _ if self.stopping_all().is_some() => None,
                Phase::NoImage { retry, fresh_until, .. } => fresh_until.or(*retry),
                Phase::NotCreated { retry, .. } => Some(*retry),
                Phase::BackOff { until, fresh_until, .. } => fresh_until.or(Some(*until)),
                _ => None,
            };
            let kill =
                one.stopping.as_ref().filter(|s| !s.killed && (s.asked || s.pre_stop)).map(|s| s.kill_at);
            let probes =
                one.probes.values().filter(|p| !p.running && one.phase == Phase::Running).map(|p| p.next);
            let may_resize =
                one.phase == Phase::Running && one.stopping.is_none() && self.stopping_all().is_none();
            let resize = one.resizing.as_ref().filter(|_| may_resize).and_then(|r| r.retry);
            phase.into_iter().chain(kill).chain(probes).chain(resize).min()
        };
        let resize = self.resizing.as_ref().filter(|_| self.stopping_all().is_none()).and_then(|r| r.retry);
        self.all.iter().filter_map(of_one).chain(active).chain(resize).min()
    }

    /// The container whose present run this is, when it stands where the report can be true.
    pub(super) fn find(&self, spec: &Spec, run: &Run, phase: Phase) -> Option<usize> {
        let at = spec.containers.iter().position(|(_, c)| c.name == run.container)?;
        (self.all[at].attempt == run.attempt && self.all[at].phase == phase).then_some(at)
    }

    /// Tells by when everything is to have stopped, when it is: the pod ends, or begins anew.
    pub(super) fn stopping_all(&self) -> Option<Duration> {
        self.ending.as_ref().map(|e| e.by).or(self.restarting.as_ref().map(|r| r.by))
    }

    /// No order and no grace is kept any more.
    pub(super) fn is_forced(&self) -> bool {
        self.ending.as_ref().is_some_and(|e| e.force)
    }
}

impl One {
    /// Something of it runs, or may be about to.
    pub(super) fn lives(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }

    pub(super) fn exit_code(&self) -> Option<i32> {
        self.terminated.as_ref().map(|t| t.exit_code)
    }
}

pub(super) fn key(probe: Probe) -> u8 {
    match probe {
        Probe::Startup => 0,
        Probe::Liveness => 1,
        Probe::Readiness => 2,
    }
}
