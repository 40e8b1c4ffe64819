//! R-TERM, R-HOOK-2, R-SIDE-4: how containers are stopped, and in which order.

use std::time::Duration;

use super::{
    Action, Hook, Now, Record, Run, Spec, State,
    spec::Kind,
    state::{Ending, Phase, Stopping},
};
use crate::pod::parse_stop_signal;

/// Names what a container still gets whose turn comes after the grace period has run out (R-SIDE-4), or whose
/// preStop hook has used it up.
const LEAST: Duration = Duration::from_secs(2);

/// Tells how one container is to be stopped.
pub(super) struct Stop {
    /// The time when SIGKILL comes.
    pub by: Duration,
    /// Holds what the event says; `None` is that it is being stopped.
    pub message: Option<String>,
    /// preStop runs first.
    pub hooks: bool,
    /// Tells that it starts again whatever its exit code.
    pub restart: bool,
}

impl Stop {
    /// Does as the whole pod ends.
    pub(super) fn stop_gracefully(by: Duration) -> Stop {
        Stop { by, message: None, hooks: true, restart: false }
    }
}

/// Begins to stop one container: preStop first, then its stop signal, SIGKILL in the end.
pub(super) fn stop(
    spec: &Spec,
    state: &mut State,
    at: usize,
    how: Stop,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let container = spec.container(at);
    let one = &mut state.all[at];
    if let Some(stopping) = &mut one.stopping {
        // A second wish can only shorten what is left; the container hears of it.
        if how.by < stopping.by {
            stopping.by = how.by;
            stopping.kill_at = stopping.kill_at.min(how.by);
            stopping.asked &= stopping.killed;
        }
        return;
    }
    let hook = container.lifecycle.as_ref().is_some_and(|l| l.pre_stop.is_some());
    let hook = hook && how.hooks && how.by > now.monotonic;
    actions.push(Action::Record(Record {
        warning: false,
        reason: "Killing",
        message: how.message.unwrap_or_else(|| format!("Stopping container {}", container.name)),
        container: Some(container.name.clone()),
    }));
    if hook {
        let run = Run { container: container.name.clone(), attempt: one.attempt };
        let timeout = Some(how.by.saturating_sub(now.monotonic));
        actions.push(Action::RunHook { run, hook: Hook::PreStop, timeout });
    }
    one.stopping = Some(Stopping {
        pre_stop: hook,
        asked: false,
        by: how.by,
        kill_at: how.by,
        killed: false,
        restart: how.restart,
    });
}

/// The whole pod is to end; a second call can only shorten the time. Without a grace period all is
/// killed at once.
pub(super) fn end_pod(state: &mut State, by: Duration, force: bool) {
    let known = state.ending.take();
    state.ending = Some(Ending {
        by: known.as_ref().map_or(by, |k| k.by.min(by)),
        force: force || known.is_some_and(|k| k.force),
    });
    (state.restarting, state.hold) = (None, None);
}

/// Goes on with everything that is being stopped.
pub(super) fn advance(spec: &Spec, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    if let Some(by) = state.stopping_all() {
        let hooks = state.restarting.as_ref().is_none_or(|r| r.hooks);
        // R-EPH-1: it outlives the pod's containers, not the pod.
        let stays = |at| state.restarting.is_some() && spec.kind(at) == Kind::Ephemeral;
        let stopped: Vec<usize> = (0..state.all.len()).filter(|at| !stays(*at)).collect();
        for at in stopped {
            if state.all[at].phase == Phase::Running {
                let how = Stop { hooks, ..Stop::stop_gracefully(by) };
                stop(spec, state, at, how, now, actions);
            }
        }
    }
    let forced = state.is_forced();
    for at in 0..state.all.len() {
        let turn = forced || state.stopping_all().is_none() || has_turn(spec, state, at);
        let late = state.stopping_all().is_some() && spec.kind(at) == Kind::Sidecar;
        let one = &mut state.all[at];
        let Some(stopping) = one.stopping.as_mut().filter(|_| one.phase == Phase::Running) else { continue };
        if forced {
            stopping.kill_at = stopping.kill_at.min(now.monotonic);
        }
        // A hook that outlasts the grace period is waited for no longer.
        stopping.pre_stop &= stopping.kill_at > now.monotonic;
        let run = Run { container: spec.container(at).name.clone(), attempt: one.attempt };
        if turn && !stopping.asked && !stopping.pre_stop {
            stopping.asked = true;
            if !forced && (late || stopping.kill_at <= now.monotonic) {
                stopping.kill_at = stopping.kill_at.max(now.monotonic + LEAST);
            }
            if stopping.kill_at > now.monotonic {
                let own = spec.container(at).lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref());
                let signal = parse_stop_signal(own.or(one.image_stop_signal.as_deref()));
                actions.push(Action::Signal { run: run.clone(), signal });
            }
        }
        if stopping.asked && !stopping.killed && stopping.kill_at <= now.monotonic {
            stopping.killed = true;
            actions.push(Action::Signal { run, signal: 9 });
        }
    }
}

/// R-SIDE-4: apps and init containers at once; a sidecar when nothing after it lives any more.
fn has_turn(spec: &Spec, state: &State, at: usize) -> bool {
    spec.kind(at) != Kind::Sidecar || !state.all[at + 1..].iter().any(|later| later.lives())
}
