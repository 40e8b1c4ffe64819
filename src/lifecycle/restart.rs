//! R-APP-2, R-APP-3, R-INIT-2 to R-INIT-4: what follows when a container has ended.

use std::time::Duration;

use k8s_openapi::{api::core::v1::ContainerStateTerminated, apimachinery::pkg::apis::meta::v1::Time};

use super::{
    Action, Now, Options, Record, Spec, State,
    spec::{Kind, RestartPolicy},
    state::{FRESH, Phase, Restarting},
    termination,
};
use crate::pod::kubernetes_versions::restart_rules;

/// After so long a run the back-off begins anew.
const RESET: Duration = Duration::from_secs(600);

/// Names what a container's rules say of its exit code.
enum Verdict {
    Restart,
    RestartAll,
    Stay,
}

/// The container has ended in this way.
pub(super) fn ended(
    spec: &Spec,
    state: &mut State,
    at: usize,
    terminated: ContainerStateTerminated,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let code = terminated.exit_code;
    let one = &mut state.all[at];
    let ran = one.started_at.map(|(began, _)| now.monotonic.saturating_sub(began)).unwrap_or_default();
    one.terminated = Some(terminated);
    let unhealthy = one.stopping.take().is_some_and(|s| s.restart);
    one.probes.clear();
    one.started_at = None;
    (one.ready, one.started, one.post_start) = (false, false, false);
    if ran >= RESET {
        (one.backoff, state.pod_backoff) = (None, None);
    }
    one.phase = Phase::Ended;
    if state.stopping_all().is_some() {
        return;
    }
    let restart_all = |hooks| Some(Restarting { by: now.monotonic + spec.grace, source: Some(at), hooks });
    match verdict(spec, at, code) {
        Verdict::RestartAll => state.restarting = restart_all(false),
        Verdict::Restart if spec.kind(at) == Kind::Init && spec.options.restart_pod_on_init_failure => {
            state.restarting = restart_all(true);
        }
        Verdict::Restart => back_off(spec, state, at, now, actions),
        Verdict::Stay if unhealthy => back_off(spec, state, at, now, actions),
        Verdict::Stay if spec.kind(at) == Kind::Init && code != 0 => {
            // R-INIT-2 with Never.
            state.failed.get_or_insert(("", String::new()));
            termination::end_pod(state, now.monotonic + spec.grace, false);
        }
        Verdict::Stay => {}
    }
}

/// R-APP-2: the first rule that knows the exit code, else the restart policy. An init container that
/// succeeded has done its part and is never alone restarted.
fn verdict(spec: &Spec, at: usize, code: i32) -> Verdict {
    let done = spec.kind(at) == Kind::Init && code == 0;
    for rule in restart_rules(spec.container(at)) {
        let Some((operator, codes)) = rule.exit_codes else { continue };
        match (codes.contains(&code) == (operator == "In"), rule.action) {
            (true, "RestartAllContainers") => return Verdict::RestartAll,
            (true, _) if !done => return Verdict::Restart,
            _ => {}
        }
    }
    match (spec.restart_policy(at), code) {
        (RestartPolicy::Always, _) => Verdict::Restart,
        (RestartPolicy::OnFailure, code) if code != 0 => Verdict::Restart,
        _ => Verdict::Stay,
    }
}

/// The wait that is due now: none at first, then initial, doubled each time, up to the longest.
fn next_wait(backoff: &mut Option<Duration>, options: &Options) -> Duration {
    let (wait, next) = match *backoff {
        None => (Duration::ZERO, options.backoff_initial),
        Some(wait) => (wait, wait * 2),
    };
    *backoff = Some(next.min(options.backoff_max));
    wait
}

fn back_off(spec: &Spec, state: &mut State, at: usize, now: Now, actions: &mut Vec<Action>) {
    let one = &mut state.all[at];
    let wait = next_wait(&mut one.backoff, &spec.options);
    let start_failed = one.terminated.as_ref().is_some_and(|t| t.reason.as_deref() == Some("StartError"));
    let until = now.monotonic + wait;
    let fresh_until = (start_failed && wait > FRESH).then_some(now.monotonic + FRESH);
    one.phase = Phase::BackOff { until, wait, fresh_until };
    if !wait.is_zero() {
        actions.push(backing_off(spec, at));
    }
}

fn backing_off(spec: &Spec, at: usize) -> Action {
    let name = spec.container(at).name.clone();
    let message = format!("Back-off restarting failed container {name} in pod {}", spec.pod);
    Action::Record(Record { warning: true, reason: "BackOff", message, container: Some(name) })
}

/// R-INIT-3: when everything has stopped, all of it starts again, init containers first; at once when
/// the user asked, else after the pod's own back-off (R-INIT-4).
pub(super) fn begin_anew(spec: &Spec, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    let own = |at: usize| spec.kind(at) != Kind::Ephemeral;
    if state.restarting.is_none() || state.all.iter().enumerate().any(|(at, o)| own(at) && o.lives()) {
        return;
    }
    let Some(Restarting { source, .. }) = state.restarting.take() else { return };
    let wait = match source {
        Some(_) => next_wait(&mut state.pod_backoff, &spec.options),
        None => Duration::ZERO,
    };
    for (at, one) in state.all.iter_mut().enumerate().filter(|(at, _)| own(*at)) {
        one.begun = false;
        if source.is_none() {
            one.backoff = None;
        }
        match one.phase {
            // What failed is what there is to see while the pod waits.
            Phase::Ended if source == Some(at) && !wait.is_zero() => {
                one.phase = Phase::BackOff { until: now.monotonic + wait, wait, fresh_until: None };
                actions.push(backing_off(spec, at));
            }
            Phase::Ended | Phase::BackOff { .. } => {
                next_attempt(one);
                one.phase = Phase::Waiting;
            }
            Phase::NotCreated { .. } => one.phase = Phase::Waiting,
            _ => {}
        }
    }
    state.pod_backoff = source.and(state.pod_backoff);
    state.hold = (!wait.is_zero()).then_some(now.monotonic + wait);
}

/// The pod's own back-off is over.
pub(super) fn end_hold(state: &mut State, now: Now) {
    if state.hold.is_some_and(|until| until <= now.monotonic) {
        state.hold = None;
        for one in state.all.iter_mut().filter(|o| matches!(o.phase, Phase::BackOff { .. })) {
            next_attempt(one);
            one.phase = Phase::Waiting;
        }
    }
}

/// The present run becomes the last one.
pub(super) fn next_attempt(one: &mut super::state::One) {
    if let Some(terminated) = one.terminated.take() {
        one.last = Some(terminated);
    }
    one.attempt += 1;
    one.restarts += 1;
}

/// `state.terminated` of a run that ended now.
pub(super) fn terminated(
    state: &State,
    at: usize,
    exit_code: i32,
    signal: Option<i32>,
    reason: &str,
    message: String,
    now: Now,
) -> ContainerStateTerminated {
    let one = &state.all[at];
    ContainerStateTerminated {
        exit_code,
        signal,
        reason: Some(reason.to_owned()),
        message: Some(message).filter(|m| !m.is_empty()),
        started_at: Some(Time(one.started_at.map_or(now.wall, |(_, wall)| wall))),
        finished_at: Some(Time(now.wall)),
        container_id: one.container_id.clone(),
    }
}
