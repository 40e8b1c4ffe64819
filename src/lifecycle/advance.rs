//! Noting what happened, and from the whole state saying what comes next (R-INIT-1, R-SIDE-1, R-APP-1).

use std::time::Duration;

use super::{
    Action, Event, Exit, Hook, ImageFailure, Now, Record, Run, Spec, StartFailure, State, ephemeral,
    follow_spec, probes, restart,
    spec::Kind,
    state::{FRESH, Phase, Restarting},
    termination::{self, Stop},
};

/// First and longest wait between two pulls of an image, as the kubelet's.
const IMAGE_BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// Exit code of a container whose process never came to run, as containerd has it.
const START_ERROR: i32 = 128;

/// The number of containers are made before their turn: more would only take the processors from the one
/// whose turn it is.
const MADE_AHEAD: usize = 2;

fn record(warning: bool, reason: &'static str, message: String, spec: &Spec, at: usize) -> Action {
    Action::Record(Record { warning, reason, message, container: Some(spec.container(at).name.clone()) })
}

fn created(spec: &Spec, at: usize) -> String {
    format!("Created container: {}", spec.container(at).name)
}

fn started(spec: &Spec, at: usize) -> String {
    format!("Started container {}", spec.container(at).name)
}

/// Asks for a container's image.
pub(super) fn pull(spec: &Spec, state: &mut State, at: usize, actions: &mut Vec<Action>) {
    state.all[at].phase = Phase::Pulling;
    state.all[at].asked_image.clone_from(&spec.container(at).image);
    actions.push(Action::PullImage { container: spec.container(at).name.clone() });
}

/// Takes an event into the state.
pub(super) fn note(spec: &Spec, state: &mut State, event: Event, now: Now, actions: &mut Vec<Action>) {
    let by_name = |name: &str| spec.containers.iter().position(|(_, c)| c.name == name);
    match event {
        Event::SandboxReady { pod_ips, host_ips } => {
            (state.sandbox, state.pod_ips, state.host_ips) = (true, pod_ips, host_ips);
        }
        Event::ImagePulling { container, image } => {
            let Some(at) = by_name(&container) else { return };
            actions.push(record(false, "Pulling", format!("Pulling image \"{image}\""), spec, at));
            state.all[at].pulling = Some(image);
        }
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
            (one.image_backoff, one.pulling) = (None, None);
            if matches!(one.phase, Phase::Pulling | Phase::NoImage { .. }) {
                one.phase = Phase::Waiting;
            }
        }
        Event::ImageFailed { container, reason, message } => {
            let Some(at) = by_name(&container) else { return };
            image_failed(spec, state, at, reason, message, now, actions);
        }
        Event::Started { run, container_id, user } => {
            let Some(at) = state.find(spec, &run, Phase::Starting) else { return };
            let one = &mut state.all[at];
            one.phase = Phase::Running;
            one.container_id = Some(container_id);
            one.user = Some(user);
            one.started_at = Some((now.monotonic, now.wall));
            actions.push(record(false, "Created", created(spec, at), spec, at));
            actions.push(record(false, "Started", started(spec, at), spec, at));
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
            let Some(at) = state.find(spec, &run, Phase::Running) else { return };
            let code = exit.code();
            let signal = match exit {
                Exit::Code(_) => None,
                Exit::Signal(signal) => Some(signal),
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
            let Some(at) = state.find(spec, &run, Phase::Running) else { return };
            hook_ended(spec, state, at, hook, result, now, actions);
        }
        Event::ProbeEnded { run, probe, result } => {
            if let Some(at) = state.find(spec, &run, Phase::Running) {
                probes::ended(spec, state, at, probe, result, now, actions);
            }
        }
        Event::ProbeWarned { run, probe, message } => {
            if let Some(at) = state.find(spec, &run, Phase::Running) {
                let message = format!("{} probe warning: {message}", probe.word());
                actions.push(record(true, "ProbeWarning", message, spec, at));
            }
        }
        Event::Tick => {}
        Event::Delete { grace_period } => {
            let grace = grace_period.unwrap_or(spec.grace);
            termination::end_pod(state, now.monotonic + grace, grace.is_zero());
        }
        Event::Restart if state.ending.is_none() => {
            let by = now.monotonic + spec.grace;
            state.hold = None;
            state.restarting = Some(Restarting { by, source: None, hooks: true });
        }
        Event::Restart => {}
        Event::Evict { message } => {
            let (reason, container) = ("Evicted", None);
            actions.push(Action::Record(Record {
                warning: true,
                reason,
                message: message.clone(),
                container,
            }));
            fail_pod(state, reason, message, now.monotonic);
        }
        Event::Resized { run, result } => {
            if let Some(at) = state.find(spec, &run, Phase::Running) {
                follow_spec::resized(state, at, result, now);
            }
        }
        Event::PodResized(result) => follow_spec::pod_resized(state, result, now),
        Event::SetConditions(conditions) => follow_spec::note_conditions(state, conditions, now),
        Event::AddEphemeralContainer(_) => ephemeral::added(spec, state, actions),
    }
}

fn fail_pod(state: &mut State, reason: &'static str, message: String, by: Duration) {
    state.failed.get_or_insert((reason, message));
    termination::end_pod(state, by, false);
}

/// The image that a container waits for.
pub(super) fn asked_image<'a>(spec: &'a Spec, state: &'a State, at: usize) -> &'a str {
    let own = spec.container(at).image.as_deref().unwrap_or_default();
    state.all[at].pulling.as_deref().unwrap_or(own)
}

fn image_failed(
    spec: &Spec,
    state: &mut State,
    at: usize,
    reason: ImageFailure,
    message: String,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let asked = asked_image(spec, state, at);
    let (reason, event, words) = match reason {
        ImageFailure::Pull => {
            ("ErrImagePull", "Failed", format!("Failed to pull image \"{asked}\": {message}"))
        }
        ImageFailure::NeverPull => ("ErrImageNeverPull", "ErrImageNeverPull", message.clone()),
        ImageFailure::InvalidName => {
            let words = format!("Failed to apply default image tag \"{asked}\": {message}");
            ("InvalidImageName", "InspectFailed", words)
        }
    };
    actions.push(record(true, event, words, spec, at));
    actions.push(record(true, "Failed", format!("Error: {reason}"), spec, at));
    let one = &mut state.all[at];
    let wait = one.image_backoff.unwrap_or(IMAGE_BACKOFF.0);
    one.image_backoff = Some((wait * 2).min(IMAGE_BACKOFF.1));
    let retry = (reason != "InvalidImageName").then_some(now.monotonic + wait);
    let fresh_until = (reason == "ErrImagePull").then_some(now.monotonic + FRESH);
    one.phase = Phase::NoImage { reason, message, retry, fresh_until };
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
    let Some(at) = state.find(spec, run, Phase::Starting) else { return };
    if reason == StartFailure::Start {
        actions.push(record(false, "Created", created(spec, at), spec, at));
    }
    actions.push(record(true, "Failed", format!("Error: {message}"), spec, at));
    let waiting = match reason {
        StartFailure::Start => {
            let ended = restart::terminated(state, at, START_ERROR, None, "StartError", message, now);
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
            let message = Some("FailedPostStartHook".to_owned());
            let how = Stop { message, ..Stop::stop_gracefully(now.monotonic + spec.grace) };
            termination::stop(spec, state, at, how, now, actions);
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
        let reason = "DeadlineExceeded";
        actions.push(Action::Record(Record {
            warning: false,
            reason,
            message: message.clone(),
            container: None,
        }));
        fail_pod(state, reason, message, now.monotonic + spec.grace);
    }
    restart::begin_anew(spec, state, now, actions);
    restart::end_hold(state, now);
    if state.ending.is_none() && apps_are_over(spec, state) {
        // R-SIDE-3: the sidecars are not needed any more.
        termination::end_pod(state, now.monotonic + spec.grace, false);
    }
    if state.stopping_all().is_none() {
        follow_spec::follow_spec(spec, state, now, actions);
        retry_images(spec, state, now, actions);
        start_next(spec, state, now, actions);
    }
    probes::run_due(spec, state, now, actions);
    termination::advance(spec, state, now, actions);
    state.finished = state.ending.is_some() && !state.all.iter().any(|o| o.lives());
    state.set_conditions(spec, now);
    if state.finished {
        actions.push(Action::Finish);
    }
}

fn apps_are_over(spec: &Spec, state: &State) -> bool {
    let mut apps = (0..state.all.len()).filter(|at| spec.kind(*at) == Kind::App);
    state.restarting.is_none() && apps.all(|at| state.all[at].phase == Phase::Ended)
}

/// Asks again for what could not be pulled; what has been shown for a while is shown as a back-off.
fn retry_images(spec: &Spec, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    for at in 0..state.all.len() {
        match &mut state.all[at].phase {
            Phase::NoImage { retry, .. } if retry.is_some_and(|r| r <= now.monotonic) => {
                pull(spec, state, at, actions);
            }
            Phase::NoImage { fresh_until, .. } if fresh_until.is_some_and(|f| f <= now.monotonic) => {
                *fresh_until = None;
                let asked = asked_image(spec, state, at);
                let message = format!("Back-off pulling image \"{asked}\"");
                actions.push(record(false, "BackOff", message, spec, at));
                actions.push(record(true, "Failed", "Error: ImagePullBackOff".into(), spec, at));
            }
            Phase::BackOff { fresh_until, .. } if fresh_until.is_some_and(|f| f <= now.monotonic) => {
                *fresh_until = None;
            }
            _ => {}
        }
    }
}

/// Starts whatever has its turn: the first init container that has not done its part, else the apps.
fn start_next(spec: &Spec, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    if !state.sandbox || state.hold.is_some() {
        return;
    }
    ephemeral::start(spec, state, now, actions);
    for at in 0..state.all.len() {
        let one = &state.all[at];
        let due = match &one.phase {
            Phase::Waiting => true,
            Phase::NotCreated { retry, .. } => *retry <= now.monotonic,
            Phase::BackOff { until, .. } => *until <= now.monotonic,
            _ => false,
        };
        if due {
            start(spec, state, at, actions);
        }
        if !lets_the_next_one_start(spec, state, at) {
            return create_ahead(spec, state, at, actions);
        }
    }
}

/// While a container holds the later ones up, the next of them are made.
fn create_ahead(spec: &Spec, state: &mut State, behind: usize, actions: &mut Vec<Action>) {
    let later = behind + 1..state.all.len();
    let next = later.filter(|at| spec.kind(*at) != Kind::Ephemeral && spec.may_be_made_ahead(*at));
    for at in next.take(MADE_AHEAD) {
        let one = &mut state.all[at];
        if one.phase == Phase::Waiting && !one.made {
            one.made = true;
            actions.push(Action::CreateContainer { run: run(spec, state, at) });
        }
    }
}

fn run(spec: &Spec, state: &State, at: usize) -> Run {
    Run { container: spec.container(at).name.clone(), attempt: state.all[at].attempt }
}

/// Asks for a container's start.
pub(super) fn start(spec: &Spec, state: &mut State, at: usize, actions: &mut Vec<Action>) {
    let one = &mut state.all[at];
    if matches!(one.phase, Phase::BackOff { .. }) {
        restart::next_attempt(one);
    }
    (one.phase, one.begun, one.made) = (Phase::Starting, true, false);
    one.resources.clone_from(&spec.container(at).resources);
    actions.push(Action::StartContainer { run: run(spec, state, at) });
}

fn lets_the_next_one_start(spec: &Spec, state: &State, at: usize) -> bool {
    let one = &state.all[at];
    let mut later = (at + 1..state.all.len()).filter(|at| spec.kind(*at) != Kind::Ephemeral);
    let later_has_begun = later.any(|at| state.all[at].begun);
    match spec.kind(at) {
        // R-INIT-1: to exit code 0.
        Kind::Init => one.phase == Phase::Ended && one.exit_code() == Some(0),
        // R-SIDE-1; a sidecar that restarts later holds nothing up any more.
        Kind::Sidecar => one.started || later_has_begun,
        // R-APP-1: when it runs and its postStart has ended. One that cannot start harms nobody else.
        Kind::App => match one.phase {
            Phase::Pulling => one.image_backoff.is_some() || later_has_begun,
            Phase::Waiting | Phase::Starting => later_has_begun,
            Phase::Running => one.post_start || later_has_begun,
            _ => true,
        },
        Kind::Ephemeral => true,
    }
}
