//! The rules of a pod's life, R-INIT to R-TERM: pure functions of what is known.
//!
//! Promises: no I/O, no clock, no thread; the same events at the same times give the same actions.
//! Stands between the supervisor, which reports [`Event`]s, and the same supervisor, which carries
//! out [`Action`]s. Each event is noted; then one function, [`advance`], looks at the whole state and
//! says what is to be done.

mod action;
mod advance;
mod ephemeral;
mod event;
mod follow_spec;
pub mod job;
mod pod_update;
mod probes;
mod restart;
mod spec;
mod state;
mod status;
mod termination;
#[cfg(test)]
mod tests;

pub use action::{Action, Record};
pub use event::{Event, Exit, Hook, ImageFailure, Probe, Pulled, Run, StartFailure};
pub use pod_update::{Broken, PodPart, check_pod_update, merge_pod_update, others_conditions};
pub use spec::Spec;
pub use state::State;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use self::advance::advance;

/// The present, by both clocks: deadlines go by one that never steps, timestamps by the wall's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Now {
    /// Since an arbitrary beginning; never steps back.
    pub monotonic: Duration,
    /// Serves humans and status.
    pub wall: Timestamp,
}

/// Holds what a user may choose beside the manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// First wait of a restart's back-off (R-APP-3), 10 s.
    pub backoff_initial: Duration,
    /// Longest wait, 300 s.
    pub backoff_max: Duration,
    /// R-INIT-4: a failed init container restarts the pod.
    pub restart_pod_on_init_failure: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            backoff_initial: Duration::from_secs(10),
            backoff_max: Duration::from_secs(300),
            restart_pod_on_init_failure: false,
        }
    }
}

/// The first actions of a pod: all its images, at once.
pub fn begin(spec: &Spec, state: &mut State, now: Now) -> Vec<Action> {
    let mut actions = Vec::new();
    for at in 0..state.all.len() {
        advance::pull(spec, state, at, &mut actions);
    }
    advance(spec, state, now, &mut actions);
    actions
}

/// Returns what happened, and so what is to be done.
pub fn step(spec: &Spec, state: &mut State, event: Event, now: Now) -> Vec<Action> {
    let mut actions = Vec::new();
    if !state.finished {
        advance::note(spec, state, event, now, &mut actions);
        advance(spec, state, now, &mut actions);
    }
    actions
}
