//! What is remembered of a pod.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{api::core::v1::ContainerStateTerminated, jiff::Timestamp};

use super::{Now, Probe, Run, Spec};

/// Where one container stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// Its image has been asked for.
    Pulling,
    /// Its image could not be had; asked for again at that time.
    NoImage { reason: &'static str, message: String, retry: Option<Duration>, fresh_until: Option<Duration> },
    /// It may start when its turn comes.
    Waiting,
    /// It could not be made; tried again at that time.
    NotCreated { reason: &'static str, message: String, retry: Duration },
    /// Its start has been asked for.
    Starting,
    /// Its process runs.
    Running,
    /// It ended and starts again at that time.
    BackOff { until: Duration },
    /// It ended for good.
    Ended,
}

/// A container that is being stopped.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stopping {
    /// preStop runs; SIGTERM waits for it.
    pub pre_stop: bool,
    /// SIGTERM, or what stands for it, has been sent.
    pub asked: bool,
    /// When SIGKILL comes.
    pub kill_at: Duration,
    /// SIGKILL has been sent.
    pub killed: bool,
}

/// One probe of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Probing {
    pub next: Duration,
    pub running: bool,
    pub successes: i32,
    pub failures: i32,
}

/// One container.
#[derive(Clone, Debug)]
pub(super) struct One {
    pub phase: Phase,
    pub attempt: u32,
    pub restarts: i32,
    pub image: String,
    pub image_id: String,
    pub image_backoff: Option<Duration>,
    pub image_stop_signal: Option<String>,
    pub container_id: Option<String>,
    pub started_at: Option<(Duration, Timestamp)>,
    pub terminated: Option<ContainerStateTerminated>,
    pub last: Option<ContainerStateTerminated>,
    pub backoff: Option<Duration>,
    pub post_start: bool,
    /// R-SIDE-1: process running, postStart done, startupProbe passed.
    pub started: bool,
    pub ready: bool,
    pub stopping: Option<Stopping>,
    pub probes: BTreeMap<u8, Probing>,
}

/// All that is remembered of a pod's life.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) all: Vec<One>,
    pub(super) sandbox: bool,
    pub(super) pod_ips: Vec<String>,
    pub(super) host_ip: Option<String>,
    pub(super) began: (Duration, Timestamp),
    /// When the grace period of the whole pod's end is over; set while the pod is ending.
    pub(super) ending: Option<Duration>,
    /// Why the pod failed as a whole.
    pub(super) failed: Option<(&'static str, String)>,
    /// Everything is to be stopped and then to start anew (R-INIT-3).
    pub(super) restarting: bool,
    pub(super) finished: bool,
    pub(super) conditions: BTreeMap<&'static str, (bool, Timestamp)>,
}

impl State {
    /// A pod of which nothing has happened yet.
    pub fn new(spec: &Spec, now: Now) -> State {
        let mut state = State {
            all: (0..spec.containers.len()).map(|at| State::one(spec, at)).collect(),
            sandbox: false,
            pod_ips: Vec::new(),
            host_ip: None,
            began: (now.monotonic, now.wall),
            ending: None,
            failed: None,
            restarting: false,
            finished: false,
            conditions: BTreeMap::new(),
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
            image_id: String::new(),
            image_backoff: None,
            image_stop_signal: None,
            container_id: None,
            started_at: None,
            terminated: None,
            last: None,
            backoff: None,
            post_start: false,
            started: false,
            ready: false,
            stopping: None,
            probes: BTreeMap::new(),
        }
    }

    /// When the next [`super::Event::Tick`] is wanted, on the monotonic clock.
    pub fn next_deadline(&self, spec: &Spec) -> Option<Duration> {
        if self.finished {
            return None;
        }
        let active = spec.active_deadline.filter(|_| self.ending.is_none()).map(|d| self.began.0 + d);
        let of_one = |one: &One| {
            let phase = match &one.phase {
                Phase::NoImage { retry, fresh_until, .. } => fresh_until.or(*retry),
                Phase::NotCreated { retry, .. } => Some(*retry),
                Phase::BackOff { until } => Some(*until),
                _ => None,
            };
            let kill =
                one.stopping.as_ref().filter(|s| !s.killed && (s.asked || s.pre_stop)).map(|s| s.kill_at);
            let probes =
                one.probes.values().filter(|p| !p.running && one.phase == Phase::Running).map(|p| p.next);
            phase.into_iter().chain(kill).chain(probes).min()
        };
        self.all.iter().filter_map(of_one).chain(active).min()
    }

    /// The container whose present run this is.
    pub(super) fn find(&self, spec: &Spec, run: &Run) -> Option<usize> {
        let at = spec.containers.iter().position(|(_, c)| c.name == run.container)?;
        (self.all[at].attempt == run.attempt).then_some(at)
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
