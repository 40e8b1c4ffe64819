//! R-APP-2, R-APP-3, R-INIT-2 to R-INIT-4: what follows when a container has ended.

use std::time::Duration;

use k8s_openapi::{api::core::v1::ContainerStateTerminated, apimachinery::pkg::apis::meta::v1::Time};

use super::{
    Action, Now, Record, Spec, State,
    spec::{Kind, RestartPolicy},
    state::Phase,
};

/// After so long a run the back-off begins anew.
const RESET: Duration = Duration::from_secs(600);

/// What a container's rules say of its exit code.
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
    one.stopping = None;
    one.probes.clear();
    (one.ready, one.started, one.post_start) = (false, false, false);
    if ran >= RESET {
        one.backoff = None;
    }
    one.phase = Phase::Ended;
    if state.ending.is_some() || state.restarting {
        return;
    }
    match verdict(spec, at, code) {
        Verdict::Stay if spec.kind(at) == Kind::Init && code != 0 => {
            // R-INIT-2 with Never.
            state.failed.get_or_insert(("", String::new()));
            super::termination::end_pod(state, now.monotonic + spec.grace);
        }
        Verdict::Stay => {}
        Verdict::RestartAll => state.restarting = true,
        Verdict::Restart if spec.kind(at) == Kind::Init && spec.options.restart_pod_on_init_failure => {
            state.restarting = true;
        }
        Verdict::Restart => back_off(spec, state, at, now, actions),
    }
}

fn verdict(spec: &Spec, at: usize, code: i32) -> Verdict {
    for rule in spec.container(at).restart_policy_rules.iter().flatten() {
        if let Some(codes) = &rule.exit_codes {
            let listed = codes.values.iter().flatten().any(|v| *v == code);
            if listed == (codes.operator == "In") {
                return if rule.action == "RestartAllContainers" {
                    Verdict::RestartAll
                } else {
                    Verdict::Restart
                };
            }
        }
    }
    match (spec.restart_policy(at), code) {
        (RestartPolicy::Always, _) => Verdict::Restart,
        (RestartPolicy::OnFailure, code) if code != 0 => Verdict::Restart,
        _ => Verdict::Stay,
    }
}

/// First restart at once, then initial, doubled each time, up to the longest.
pub(super) fn back_off(spec: &Spec, state: &mut State, at: usize, now: Now, actions: &mut Vec<Action>) {
    let one = &mut state.all[at];
    let (wait, next) = match one.backoff {
        None => (Duration::ZERO, spec.options.backoff_initial),
        Some(wait) => (wait, (wait * 2).min(spec.options.backoff_max)),
    };
    one.backoff = Some(next);
    one.phase = Phase::BackOff { until: now.monotonic + wait };
    if !wait.is_zero() {
        let name = spec.container(at).name.clone();
        let message = format!("Back-off restarting failed container {name}");
        actions.push(Action::Record(Record {
            warning: true,
            reason: "BackOff",
            message,
            container: Some(name),
        }));
    }
}

/// R-INIT-3: when everything has stopped, all of it starts again, init containers first.
pub(super) fn begin_anew(spec: &Spec, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    let own = (0..state.all.len()).filter(|at| spec.kind(*at) != Kind::Ephemeral);
    if !state.restarting || own.clone().any(|at| state.all[at].lives()) {
        return;
    }
    state.restarting = false;
    let failed = own.clone().find(|at| state.all[*at].exit_code().is_some_and(|c| c != 0));
    for at in own {
        let one = &mut state.all[at];
        if matches!(one.phase, Phase::Ended | Phase::BackOff { .. }) {
            next_attempt(one);
            one.phase = Phase::Waiting;
        }
    }
    // The same back-off as for one container, on the first to start.
    if failed.is_some() && spec.options.restart_pod_on_init_failure {
        let backoff = failed.and_then(|at| state.all[at].backoff);
        state.all[0].backoff = state.all[0].backoff.or(backoff);
        back_off(spec, state, 0, now, actions);
        if let Some(at) = failed {
            state.all[at].backoff = state.all[0].backoff;
        }
        state.all[0].attempt = state.all[0].attempt.saturating_sub(1);
        state.all[0].restarts -= 1;
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
