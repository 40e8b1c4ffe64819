//! Noting what happened, and from the whole state saying what comes next (R-INIT-1, R-SIDE-1, R-APP-1).

use std::time::Duration;

use super::{
    Action, Event, Exit, Hook, ImageFailure, Now, Record, Run, Spec, StartFailure, State, ephemeral, probes,
    restart, spec::Kind, state::Phase, termination,
};

/// So long a failed pull is shown as ErrImagePull, then as ImagePullBackOff; the kubelet's next look
/// at the pod comes about as soon.
const FRESH: Duration = Duration::from_secs(1);

fn record(warning: bool, reason: &'static str, message: String, spec: &Spec, at: usize) -> Action {
    Action::Record(Record { warning, reason, message, container: Some(spec.container(at).name.clone()) })
}

/// Asks for a container's image.
pub(super) fn pull(spec: &Spec, state: &mut State, at: usize, actions: &mut Vec<Action>) {
    state.all[at].phase = Phase::Pulling;
    actions.push(Action::PullImage { container: spec.container(at).name.clone() });
}

/// Takes an event into the state.
pub(super) fn note(spec: &Spec, state: &mut State, event: Event, now: Now, actions: &mut Vec<Action>) {
    let by_name = |name: &str| spec.containers.iter().position(|(_, c)| c.name == name);
    match event {
        Event::SandboxReady { pod_ips, host_ip } => {
            (state.sandbox, state.pod_ips, state.host_ip) = (true, pod_ips, host_ip);
        }
        Event::SandboxFailed { message } => fail(state, "CreatePodSandboxError", message, now.monotonic),
        Event::ImageReady { container, image, image_id, stop_signal, pulled } => {
            let Some(at) = by_name(&container) else { return };
            let asked = spec.container(at).image.clone().unwrap_or_default();
            let message = match pulled {
                Some(p) => format!(
                    "Successfully pulled image \"{asked}\" in {0:.3?} ({0:.3?} including waiting). Image size: {1} bytes.",
                    p.took, p.size
                ),
                None => format!("Container image \"{asked}\" already present on machine"),
            };
            actions.push(record(false, "Pulled", message, spec, at));
            let one = &mut state.all[at];
            (one.image, one.image_id, one.image_stop_signal) = (image, image_id, stop_signal);
            if matches!(one.phase, Phase::Pulling | Phase::NoImage { .. }) {
                one.phase = Phase::Waiting;
            }
        }
        Event::ImageFailed { container, reason, message } => {
            let Some(at) = by_name(&container) else { return };
            let one = &mut state.all[at];
            let reason = match reason {
                ImageFailure::Pull => "ErrImagePull",
                ImageFailure::NeverPull => "ErrImageNeverPull",
                ImageFailure::InvalidName => "InvalidImageName",
            };
            let wait = one.image_backoff.unwrap_or(Duration::from_secs(10));
            one.image_backoff = Some((wait * 2).min(Duration::from_secs(300)));
            let retry = (reason != "InvalidImageName").then_some(now.monotonic + wait);
            one.phase = Phase::NoImage {
                reason,
                message: message.clone(),
                retry,
                fresh_until: Some(now.monotonic + FRESH),
            };
            let asked = &spec.container(at).image.clone().unwrap_or_default();
            let message = format!("Failed to pull image \"{asked}\": {message}");
            actions.push(record(true, "Failed", message, spec, at));
        }
        Event::Started { run, container_id } => {
            let Some(at) = state.find(spec, &run) else { return };
            let one = &mut state.all[at];
            one.phase = Phase::Running;
            one.container_id = Some(container_id);
            one.started_at = Some((now.monotonic, now.wall));
            one.terminated = None;
            actions.push(record(false, "Started", "Container started".into(), spec, at));
            let hook = spec.container(at).lifecycle.as_ref().is_some_and(|l| l.post_start.is_some());
            if hook {
                actions.push(Action::RunHook { run, hook: Hook::PostStart, timeout: None });
            } else {
                one.post_start = true;
                probes::begin(spec, state, at, now);
                probes::settle(spec, state, at);
            }
        }
        Event::StartFailed { run, reason, message } => {
            start_failed(spec, state, &run, reason, message, now, actions)
        }
        Event::Exited { run, exit, oom_killed, message } => {
            let Some(at) = state.find(spec, &run) else { return };
            let (code, signal) = match exit {
                Exit::Code(code) => (code, None),
                Exit::Signal(signal) => (128 + signal, Some(signal)),
            };
            let reason = match (oom_killed, code) {
                (true, code) if code != 0 => "OOMKilled",
                (_, 0) => "Completed",
                _ => "Error",
            };
            let terminated = restart::terminated(state, at, code, signal, reason, message, now);
            restart::ended(spec, state, at, terminated, now, actions);
        }
        Event::HookEnded { run, hook, result } => {
            let Some(at) = state.find(spec, &run) else { return };
            hook_ended(spec, state, at, hook, result, now, actions);
        }
        Event::ProbeEnded { run, probe, result } => {
            if let Some(at) = state.find(spec, &run) {
                probes::ended(spec, state, at, probe, result, now, actions);
            }
        }
        Event::Tick => {}
        Event::Delete { grace_period } => {
            termination::end_pod(state, now.monotonic + grace_period.unwrap_or(spec.grace));
        }
        Event::Restart => state.restarting = state.ending.is_none(),
        Event::Evict { message } => fail(state, "Evicted", message, now.monotonic),
        Event::AddEphemeralContainer(_) => ephemeral::added(spec, state, actions),
    }
}

fn fail(state: &mut State, reason: &'static str, message: String, by: Duration) {
    state.failed.get_or_insert((reason, message));
    termination::end_pod(state, by);
}

fn start_failed(
    spec: &Spec,
    state: &mut State,
    run: &Run,
    reason: StartFailure,
    message: String,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let Some(at) = state.find(spec, run) else { return };
    actions.push(record(true, "Failed", format!("Error: {message}"), spec, at));
    let waiting = match reason {
        StartFailure::Start { exit_code } => {
            let ended = restart::terminated(state, at, exit_code, None, "StartError", message, now);
            return restart::ended(spec, state, at, ended, now, actions);
        }
        StartFailure::CreateContainerConfig => "CreateContainerConfigError",
        StartFailure::CreateContainer => "CreateContainerError",
    };
    let retry = now.monotonic + spec.options.backoff_initial;
    state.all[at].phase = Phase::NotCreated { reason: waiting, message, retry };
}

fn hook_ended(
    spec: &Spec,
    state: &mut State,
    at: usize,
    hook: Hook,
    result: Result<(), String>,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let (reason, word) = match hook {
        Hook::PostStart => ("FailedPostStartHook", "PostStartHook"),
        Hook::PreStop => ("FailedPreStopHook", "PreStopHook"),
    };
    let failed = result.is_err();
    if let Err(message) = result {
        actions.push(record(true, reason, format!("{word} failed: {message}"), spec, at));
    }
    match hook {
        Hook::PreStop => {
            if let Some(stopping) = &mut state.all[at].stopping {
                stopping.pre_stop = false;
            }
        }
        Hook::PostStart if failed => {
            termination::stop(spec, state, at, now.monotonic + spec.grace, now, actions);
        }
        Hook::PostStart => {
            state.all[at].post_start = true;
            probes::begin(spec, state, at, now);
            probes::settle(spec, state, at);
        }
    }
}

/// Looks at the whole state and says what is to be done.
pub(super) fn advance(spec: &Spec, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    if let Some(limit) = spec.active_deadline
        && state.ending.is_none()
        && now.monotonic >= state.began.0 + limit
    {
        // R-APP-7
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        fail(state, "DeadlineExceeded", message, now.monotonic + spec.grace);
    }
    if state.restarting {
        for at in 0..state.all.len() {
            if state.all[at].phase == Phase::Running && spec.kind(at) != Kind::Ephemeral {
                termination::stop(spec, state, at, now.monotonic + spec.grace, now, actions);
            }
        }
        restart::begin_anew(spec, state, now, actions);
    }
    if state.ending.is_none() && apps_are_over(spec, state) {
        // R-SIDE-3: the sidecars are not needed any more.
        termination::end_pod(state, now.monotonic + spec.grace);
    }
    if state.ending.is_none() && !state.restarting {
        retry_images(spec, state, now, actions);
        start_next(spec, state, now, actions);
    }
    probes::run_due(spec, state, now, actions);
    termination::advance(spec, state, now, actions);
    state.set_conditions(spec, now);
    if state.ending.is_some() && !state.all.iter().any(|o| o.lives()) {
        state.finished = true;
        actions.push(Action::Finish);
    }
}

fn apps_are_over(spec: &Spec, state: &State) -> bool {
    let mut apps = (0..state.all.len()).filter(|at| spec.kind(*at) == Kind::App);
    !state.restarting && apps.all(|at| state.all[at].phase == Phase::Ended)
}

fn retry_images(spec: &Spec, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    for at in 0..state.all.len() {
        if let Phase::NoImage { retry, fresh_until, .. } = &mut state.all[at].phase {
            if fresh_until.is_some_and(|until| until <= now.monotonic) {
                *fresh_until = None;
            }
            if retry.is_some_and(|r| r <= now.monotonic) {
                pull(spec, state, at, actions);
            }
        }
    }
}

/// Starts whatever has its turn: the first init container that has not done its part, else the apps.
fn start_next(spec: &Spec, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    if !state.sandbox {
        return;
    }
    ephemeral::start(spec, state, now, actions);
    for at in 0..state.all.len() {
        let kind = spec.kind(at);
        let one = &state.all[at];
        let due = match &one.phase {
            Phase::Waiting => true,
            Phase::NotCreated { retry, .. } => *retry <= now.monotonic,
            Phase::BackOff { until } => *until <= now.monotonic,
            _ => false,
        };
        if due {
            start(spec, state, at, actions);
        }
        let one = &state.all[at];
        match kind {
            // R-INIT-1: to exit code 0.
            Kind::Init if one.phase == Phase::Ended && one.exit_code() == Some(0) => {}
            // R-SIDE-1; a sidecar that restarts later holds nothing up any more.
            Kind::Sidecar if one.started || later_has_begun(spec, state, at) => {}
            // Sidecars before this one have had their turn above, and are restarted (R-SIDE-2).
            Kind::Init | Kind::Sidecar => return,
            // R-APP-1: the next app starts when this one runs and its postStart has ended.
            Kind::App => {
                let running = one.phase == Phase::Running && one.post_start;
                let begun = one.restarts > 0 || one.terminated.is_some() || later_has_begun(spec, state, at);
                if !running && !begun {
                    return;
                }
            }
            Kind::Ephemeral => {}
        }
    }
}

/// Asks for a container's start.
pub(super) fn start(spec: &Spec, state: &mut State, at: usize, actions: &mut Vec<Action>) {
    let one = &mut state.all[at];
    if matches!(one.phase, Phase::BackOff { .. }) {
        restart::next_attempt(one);
    }
    one.phase = Phase::Starting;
    let run = Run { container: spec.container(at).name.clone(), attempt: one.attempt };
    actions.push(record(false, "Created", "Container created".into(), spec, at));
    actions.push(Action::StartContainer { run });
}

fn later_has_begun(spec: &Spec, state: &State, at: usize) -> bool {
    let mut later = (at + 1..state.all.len()).filter(|at| spec.kind(*at) != Kind::Ephemeral);
    later.any(|at| {
        let one = &state.all[at];
        one.lives() || one.terminated.is_some() || one.restarts > 0
    })
}
