//! The rules of a pod's life, R-INIT to R-TERM: pure functions of what is known.
//!
//! Promises: no I/O, no clock, no thread; the same events at the same times give the same actions.
//! Stands between the supervisor, which reports [`Event`]s, and the same supervisor, which carries
//! out [`Action`]s.

mod action;
mod event;

pub use action::{Action, Record};
pub use event::{Event, Exit, Hook, ImageFailure, Probe, Pulled, Run, StartFailure};

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    jiff::Timestamp,
};

/// The present, by both clocks: deadlines go by one that never steps, timestamps by the wall's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Now {
    /// Since an arbitrary beginning; never steps back.
    pub monotonic: Duration,
    /// For humans and for status.
    pub wall: Timestamp,
}

/// What a user may choose beside the manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// First wait of a restart's back-off (R-APP-3), 10 s.
    pub backoff_initial: Duration,
    /// Longest wait, 300 s.
    pub backoff_max: Duration,
    /// R-INIT-4: a failed init container restarts the pod.
    pub restart_pod_on_init_failure: bool,
}

/// The part of a pod that rules look at; made once.
#[derive(Clone, Debug)]
pub struct Spec;

/// All that is remembered of a pod's life.
#[derive(Clone, Debug)]
pub struct State;

impl Spec {
    /// Distils a checked and defaulted pod.
    pub fn new(_pod: &Pod, _options: &Options) -> Spec {
        todo!()
    }
}

impl State {
    /// A pod of which nothing has happened yet.
    pub fn new(_spec: &Spec, _now: Now) -> State {
        todo!()
    }
    /// When the next [`Event::Tick`] is wanted, on the monotonic clock.
    pub fn next_deadline(&self) -> Option<Duration> {
        todo!()
    }
    /// The pod's status as the API has it.
    pub fn status(&self, _spec: &Spec) -> PodStatus {
        todo!()
    }
}

/// The first actions of a pod: its images.
pub fn begin(_spec: &Spec, _state: &mut State, _now: Now) -> Vec<Action> {
    todo!()
}

/// What happened, and so what is to be done.
pub fn step(_spec: &Spec, _state: &mut State, _event: Event, _now: Now) -> Vec<Action> {
    todo!()
}
pub fn printed_status(_:&Pod)->String{todo!()}
pub fn ready_count(_:&Pod)->(usize,usize){todo!()}
pub fn restart_count(_:&Pod)->i32{todo!()}
impl Default for Options{fn default()->Self{todo!()}}
