//! R-UPD: what a container's life makes of a spec that has been changed, and of conditions that others set.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodCondition, ResourceRequirements},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};

use serde::Serialize;

use super::{
    Action, Now, Record, Run, Spec, State, advance,
    pod_update::same_resources,
    restart,
    spec::Kind,
    state::{One, OngoingResize, Phase, Resizing},
    termination::{self, Stop},
};

/// Time until a resize that could not be done is tried again.
const RESIZE_RETRY: Duration = Duration::from_secs(10);

impl Spec {
    /// Follows a pod whose spec has been changed as [`check_pod_update`] allows.
    pub fn follow_pod(&mut self, pod: &Pod) {
        let Some(spec) = &pod.spec else { return };
        self.generation = pod.metadata.generation.unwrap_or(self.generation);
        self.pod_resources.clone_from(&spec.resources);
        self.active_deadline = spec.active_deadline_seconds.map(|s| Duration::from_secs(s.max(0) as u64));
        for new in spec.init_containers.iter().flatten().chain(&spec.containers) {
            let known = self.containers.iter_mut().find(|(_, known)| known.name == new.name);
            if let Some((_, known)) = known {
                known.image.clone_from(&new.image);
                known.resources.clone_from(&new.resources);
            }
        }
    }
}

/// Looks whether containers are as the spec now says: another image, other resources.
pub(super) fn follow_spec(spec: &Spec, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    tell_new_resize(spec, state, actions);
    follow_pod_resources(spec, state, now, actions);
    for at in (0..state.all.len()).filter(|at| spec.kind(*at) != Kind::Ephemeral) {
        if state.all[at].asked_image != spec.container(at).image {
            follow_image(spec, state, at, now, actions);
        } else {
            follow_resources(spec, state, at, now, actions);
        }
    }
    tell_resize(spec, state, actions);
}

/// R-UPD-1: a container that runs is stopped and starts with its new image, whatever its restart policy; one that waits
/// does so with the new one; one that has ended for good stays as it is.
fn follow_image(spec: &Spec, state: &mut State, at: usize, now: Now, actions: &mut Vec<Action>) {
    let one = &mut state.all[at];
    match one.phase {
        // What was asked for is answered first.
        Phase::Pulling | Phase::Starting | Phase::Ended => return,
        Phase::Running => return stop_for_change(spec, state, at, "definition changed", now, actions),
        Phase::BackOff { .. } => restart::next_attempt(one),
        Phase::NoImage { .. } | Phase::Waiting | Phase::NotCreated { .. } => {}
    }
    (one.image_backoff, one.backoff, one.made) = (None, None, false);
    advance::pull(spec, state, at, actions);
}

/// R-UPD-2: a container that runs is given its new limits, or starts with them where its resizePolicy says so.
fn follow_resources(spec: &Spec, state: &mut State, at: usize, now: Now, actions: &mut Vec<Action>) {
    let container = spec.container(at);
    let one = &mut state.all[at];
    if one.phase != Phase::Running || one.stopping.is_some() {
        return;
    }
    if same_resources(&one.resources, &container.resources) {
        one.resizing = None;
        return;
    }
    if needs_restart(container, one) {
        return stop_for_change(spec, state, at, "resize requires restart", now, actions);
    }
    if begin_resize(&mut one.resizing, &container.resources, now) {
        let run = Run { container: container.name.clone(), attempt: one.attempt };
        actions.push(Action::Resize { run });
    }
}

/// R-UPD-2 for the pod as a whole.
fn follow_pod_resources(spec: &Spec, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    if !state.sandbox || state.stopping_all().is_some() {
        return;
    }
    if same_resources(&state.resources, &spec.pod_resources) {
        state.resizing = None;
    } else if begin_resize(&mut state.resizing, &spec.pod_resources, now) {
        actions.push(Action::ResizePod);
    }
}

/// Notes that it is to be resized, when that is due; whether it is.
fn begin_resize(resizing: &mut Option<Resizing>, wanted: &Option<ResourceRequirements>, now: Now) -> bool {
    let is_due = match &*resizing {
        None => true,
        // Without a time the answer to the last try is still to come.
        Some(Resizing { wanted: last, retry, .. }) => {
            retry.is_some_and(|retry| retry <= now.monotonic || !same_resources(last, wanted))
        }
    };
    if is_due {
        let error = resizing.take().and_then(|known| known.error);
        *resizing = Some(Resizing { wanted: wanted.clone(), retry: None, error });
    }
    is_due
}

/// Tells whether a resource that is to change is one whose change needs a restart.
fn needs_restart(container: &Container, one: &One) -> bool {
    let amounts = |all: &Option<ResourceRequirements>, name: &str| {
        let all = all.clone().unwrap_or_default();
        let amount = |map: Option<BTreeMap<String, Quantity>>| map?.get(name).cloned();
        (amount(all.limits), amount(all.requests))
    };
    container.resize_policy.iter().flatten().any(|policy| {
        let name = &policy.resource_name;
        policy.restart_policy == "RestartContainer"
            && amounts(&one.resources, name) != amounts(&container.resources, name)
    })
}

/// R-UPD-4: a resize begins when the spec says other resources, whether or not anything that runs has them already.
fn tell_new_resize(spec: &Spec, state: &mut State, actions: &mut Vec<Action>) {
    if !spec.resources().eq(&state.known_resources) {
        state.known_resources = spec.resources().cloned().collect();
        state.ongoing_resize = Some(OngoingResize { generation: spec.generation, told_error: None });
        actions.push(record_resize(spec, false, "ResizeStarted", "started", spec.generation, None));
    }
}

/// R-UPD-4: tells that a resize is done, or why it is not.
fn tell_resize(spec: &Spec, state: &mut State, actions: &mut Vec<Action>) {
    let (done, error) = (is_resized(spec, state), state.unfinished_resize().flatten());
    let Some(ongoing) = &mut state.ongoing_resize else { return };
    let generation = ongoing.generation;
    if done {
        state.ongoing_resize = None;
        actions.push(record_resize(spec, false, "ResizeCompleted", "completed", generation, None));
    } else if error.is_some() && error != ongoing.told_error {
        ongoing.told_error.clone_from(&error);
        actions.push(record_resize(spec, true, "ResizeError", "error", generation, error));
    }
}

/// Tells whether all that runs has the resources of the spec; what does not run will start with them.
fn is_resized(spec: &Spec, state: &State) -> bool {
    let mut running = (0..state.all.len())
        .filter(|at| spec.kind(*at) != Kind::Ephemeral && state.all[*at].phase == Phase::Running);
    same_resources(&state.resources, &spec.pod_resources)
        && running.all(|at| same_resources(&state.all[at].resources, &spec.container(at).resources))
}

/// An event about a resize, with what all containers are to have.
fn record_resize(
    spec: &Spec,
    warning: bool,
    reason: &'static str,
    word: &str,
    generation: i64,
    error: Option<String>,
) -> Action {
    let containers = |wanted: fn(Kind) -> bool| {
        let all = spec.containers.iter().filter(|(kind, _)| wanted(*kind));
        all.map(|(_, c)| SizedContainer { name: &c.name, resources: c.resources.clone().unwrap_or_default() })
            .collect()
    };
    let summary = ResizeSummary {
        init_containers: containers(|kind| matches!(kind, Kind::Init | Kind::Sidecar)),
        containers: containers(|kind| kind == Kind::App),
        generation,
        error,
    };
    // It is plain data: nothing of it can fail to be JSON.
    let summary = serde_json::to_string(&summary).unwrap_or_default();
    let message = format!("Pod resize {word}: {summary}");
    Action::Record(Record { warning, reason, message, container: None })
}

/// What a resize's event says, in the order in which the kubelet says it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResizeSummary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<SizedContainer<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<SizedContainer<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A container and what it is to have.
#[derive(Serialize)]
struct SizedContainer<'a> {
    name: &'a str,
    resources: ResourceRequirements,
}

fn stop_for_change(
    spec: &Spec,
    state: &mut State,
    at: usize,
    why: &str,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let one = &mut state.all[at];
    if one.stopping.as_ref().is_some_and(|stopping| stopping.restart) {
        return;
    }
    (one.backoff, one.resizing) = (None, None);
    let message = Some(format!("Container {} {why}, will be restarted", spec.container(at).name));
    let how = Stop { message, restart: true, ..Stop::stop_gracefully(now.monotonic + spec.grace) };
    termination::stop(spec, state, at, how, now, actions);
}

/// The supervisor has tried to give a container its resources.
pub(super) fn resized(state: &mut State, at: usize, result: Result<(), String>, now: Now) {
    let one = &mut state.all[at];
    end_resize(&mut one.resizing, &mut one.resources, result, now);
}

/// The supervisor has tried to give the pod its resources.
pub(super) fn pod_resized(state: &mut State, result: Result<(), String>, now: Now) {
    end_resize(&mut state.resizing, &mut state.resources, result, now);
}

fn end_resize(
    resizing: &mut Option<Resizing>,
    resources: &mut Option<ResourceRequirements>,
    result: Result<(), String>,
    now: Now,
) {
    let Some(known) = resizing else { return };
    match result {
        Ok(()) => {
            *resources = known.wanted.take();
            *resizing = None;
        }
        Err(message) => (known.error, known.retry) = (Some(message), Some(now.monotonic + RESIZE_RETRY)),
    }
}

/// Takes in the conditions that others have set; one that says nothing new keeps its time.
pub(super) fn note_conditions(state: &mut State, conditions: Vec<PodCondition>, now: Now) {
    let known = std::mem::take(&mut state.others_conditions);
    state.others_conditions = conditions
        .into_iter()
        .map(|mut new| {
            let same = known.iter().find(|k| k.type_ == new.type_ && k.status == new.status);
            let told = new.last_transition_time.take();
            let kept = same.and_then(|same| same.last_transition_time.clone());
            new.last_transition_time = kept.or(told).or(Some(Time(now.wall)));
            new
        })
        .collect();
}
