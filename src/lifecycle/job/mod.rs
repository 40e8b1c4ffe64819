//! The Job controller's rules: which pods of a job are to run, and how the job ends.
//!
//! Pure, as all of `lifecycle`: whoever runs the job tells what he sees of its pods with [`seen`] and
//! [`ended`], then [`advance`] looks at the whole state and says what is to be done.

mod happened;
mod pod_failure_policy;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::{
    batch::v1::{JobSpec, PodFailurePolicyRule},
    core::v1::Pod,
};

pub use happened::{Happened, note_suspension};

use crate::pod::{Place, PodExt, parse_indexes};

/// Distilled from a checked Job; made once.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Without a number the first success is enough.
    completions: Option<u32>,
    parallelism: u32,
    backoff_limit: u32,
    /// Each index fails by itself: backoffLimitPerIndex and maxFailedIndexes.
    per_index: Option<(u32, Option<u32>)>,
    /// restartPolicy OnFailure: restarts of containers count, too.
    restarts_count: bool,
    deadline: Option<Duration>,
    /// No pod is to run until it is resumed.
    suspended: bool,
    failure_rules: Vec<PodFailurePolicyRule>,
    success_rules: Vec<SuccessRule>,
    /// Tells that a pod that is being deleted has failed already, and is replaced at once (podReplacementPolicy).
    replaces_terminating: bool,
    /// First and longest wait before a failed pod is replaced.
    backoff: (Duration, Duration),
}

#[derive(Clone, Debug)]
struct SuccessRule {
    indexes: Option<BTreeSet<u32>>,
    count: Option<u32>,
}

/// Something to do for the job, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a pod.
    Start {
        /// Tells which one.
        place: Place,
        /// The number of pods of its index have failed.
        failures: u32,
        /// The number of more have failed and are ignored (podFailurePolicy).
        ignored: u32,
    },
    /// Delete a pod that lives.
    End(Place),
}

/// Tells how the job ended; its conditions' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `Complete` rather than `Failed`.
    pub complete: bool,
    /// Holds a text such as `BackoffLimitExceeded`; empty when all pods succeeded.
    pub reason: &'static str,
    /// Says it in the controller's words.
    pub message: String,
}

/// The number of a job's pods, by what has become of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pods that live and are not being deleted.
    pub active: u32,
    /// Pods that are being deleted.
    pub terminating: u32,
    /// Completions.
    pub succeeded: u32,
    /// Pods that failed.
    pub failed: u32,
    /// The indexes that are complete.
    pub succeeded_indexes: BTreeSet<u32>,
    /// The indexes that have failed for good.
    pub failed_indexes: BTreeSet<u32>,
}

/// All that is remembered of a job.
#[derive(Clone, Debug, Default)]
pub struct State {
    began: Duration,
    living: BTreeMap<Place, Living>,
    indexes: BTreeMap<u32, Index>,
    failed: u32,
    backoff: Backoff,
    /// Tells that a rule with the action FailJob has matched.
    failing: Option<String>,
    /// Nothing until it is looked at first.
    suspended: Option<bool>,
    outcome: Option<Outcome>,
}

#[derive(Clone, Debug, Default)]
struct Living {
    restarts: u32,
    terminating: bool,
    /// Counts as a failure, though it lives.
    counted: bool,
    /// Deleted because it is not wanted now: what becomes of it counts for nothing.
    released: bool,
}

#[derive(Clone, Debug, Default)]
struct Index {
    attempts: u32,
    failures: u32,
    ignored: u32,
    succeeded: bool,
    failed: bool,
    backoff: Backoff,
}

/// Failures in a row, and the last of them.
#[derive(Clone, Debug, Default)]
struct Backoff {
    failures: u32,
    last: Duration,
}

impl Backoff {
    fn failed(&mut self, now: Duration) {
        *self = Backoff { failures: self.failures + 1, last: now };
    }

    /// Before that time no replacement starts.
    fn until(&self, (initial, longest): (Duration, Duration)) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            n => self.last + initial.saturating_mul(1 << (n - 1).min(30)).min(longest),
        }
    }
}

impl Spec {
    /// Distils a job with the API server's defaults.
    pub fn new(job: &JobSpec, pod: &Pod, backoff: (Duration, Duration)) -> Spec {
        let number = |n: Option<i32>| n.map(|n| n.max(0) as u32);
        let completions = number(job.completions);
        let rules = job.success_policy.iter().flat_map(|policy| &policy.rules);
        let parse = |text: &String| parse_indexes(text, completions.unwrap_or(0)).unwrap_or_default();
        let success_rules = rules.map(|rule| SuccessRule {
            indexes: rule.succeeded_indexes.as_ref().map(parse),
            count: number(rule.succeeded_count),
        });
        let failure = job.pod_failure_policy.as_ref();
        Spec {
            completions,
            parallelism: number(job.parallelism).unwrap_or(1),
            backoff_limit: number(job.backoff_limit).unwrap_or(6),
            per_index: number(job.backoff_limit_per_index).map(|n| (n, number(job.max_failed_indexes))),
            restarts_count: pod.restart_policy() == "OnFailure",
            deadline: job.active_deadline_seconds.map(|s| Duration::from_secs(s.max(0) as u64)),
            suspended: job.suspend == Some(true),
            failure_rules: failure.map(|policy| policy.rules.clone()).unwrap_or_default(),
            success_rules: success_rules.collect(),
            replaces_terminating: job.pod_replacement_policy.as_deref() == Some("TerminatingOrFailed"),
            backoff,
        }
    }

    /// Takes over what of a living job may change.
    pub fn follow(&mut self, job: &JobSpec) {
        let number = |n: Option<i32>| n.map(|n| n.max(0) as u32);
        self.parallelism = number(job.parallelism).unwrap_or(1);
        self.backoff_limit = number(job.backoff_limit).unwrap_or(6);
        self.deadline = job.active_deadline_seconds.map(|s| Duration::from_secs(s.max(0) as u64));
        self.suspended = job.suspend == Some(true);
    }
}

impl State {
    /// Returns a job that begins now.
    pub fn new(now: Duration) -> State {
        State { began: now, ..State::default() }
    }

    /// Tells whether it is suspended, since the last look.
    pub fn is_suspended(&self) -> bool {
        self.suspended == Some(true)
    }

    /// Tells how it ends, once that is decided; some pods may still have to.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Tells that it has ended, and so have its pods.
    pub fn is_over(&self) -> bool {
        self.outcome.is_some() && self.living.is_empty()
    }

    /// Takes in a pod that an earlier keeper of the job has started; what has become of it is to be told next.
    pub fn adopt(&mut self, place: Place) {
        let index = self.indexes.entry(place.index).or_default();
        index.attempts = index.attempts.max(place.attempt + 1);
        self.living.insert(place, Living::default());
    }

    /// Counts the job's pods.
    pub fn count_pods(&self) -> Counts {
        let of = |is_so: fn(&Index) -> bool| {
            self.indexes.iter().filter(|(_, index)| is_so(index)).map(|(number, _)| *number).collect()
        };
        let active = self.active_places().count() as u32;
        Counts {
            active,
            terminating: self.living.len() as u32 - active,
            succeeded: self.count_succeeded(),
            failed: self.failed,
            succeeded_indexes: of(|index| index.succeeded),
            failed_indexes: of(|index| index.failed),
        }
    }

    fn count_succeeded(&self) -> u32 {
        self.indexes.values().filter(|i| i.succeeded).count() as u32
    }

    fn failed_indexes(&self) -> u32 {
        self.indexes.values().filter(|i| i.failed).count() as u32
    }

    fn active_places(&self) -> impl Iterator<Item = &Place> {
        self.living.iter().filter(|(_, pod)| !pod.terminating).map(|(place, _)| place)
    }
}

/// A pod that lives.
pub fn seen(spec: &Spec, state: &mut State, place: Place, pod: &Pod, now: Duration) {
    let Some(living) = state.living.get_mut(&place) else { return };
    let status = pod.status.as_ref();
    living.restarts = match status.and_then(|s| s.phase.as_deref()) {
        Some("Running" | "Pending") => {
            let all = [status.map(|s| &s.init_container_statuses), status.map(|s| &s.container_statuses)];
            all.into_iter().flatten().flatten().flatten().map(|c| c.restart_count.max(0) as u32).sum()
        }
        _ => 0,
    };
    if pod.metadata.deletion_timestamp.is_some() && !living.terminating && !living.released {
        living.terminating = true;
        if spec.replaces_terminating && state.outcome.is_none() {
            living.counted = true;
            failed(spec, state, place.index, None, now);
        }
    }
}

/// A pod has ended; none, when it was deleted and there is no more to know.
pub fn ended(spec: &Spec, state: &mut State, place: Place, pod: Option<&Pod>, now: Duration) {
    let Some(living) = state.living.remove(&place) else { return };
    if living.released {
        return;
    }
    let phase = pod.and_then(|p| p.status.as_ref()?.phase.as_deref());
    if phase == Some("Succeeded") {
        let index = state.indexes.entry(place.index).or_default();
        index.succeeded = true;
        (index.backoff, state.backoff) = (Backoff::default(), Backoff::default());
    } else if !living.counted && state.outcome.is_none() {
        failed(spec, state, place.index, pod, now);
    }
}

fn failed(spec: &Spec, state: &mut State, index: u32, pod: Option<&Pod>, now: Duration) {
    let rule = pod.and_then(|pod| pod_failure_policy::matching_rule(&spec.failure_rules, pod));
    let index = state.indexes.entry(index).or_default();
    state.backoff.failed(now);
    index.backoff.failed(now);
    match &rule {
        Some(rule) if rule.action == "Ignore" => return index.ignored += 1,
        Some(rule) if rule.action == "FailJob" => {
            state.failing.get_or_insert(rule.message.clone());
        }
        Some(rule) if rule.action == "FailIndex" => index.failed = true,
        _ => {}
    }
    state.failed += 1;
    index.failures += 1;
    index.failed |= spec.per_index.is_some_and(|(limit, _)| index.failures > limit);
}

/// Looks at the whole state and says what is to be done.
pub fn advance(spec: &Spec, state: &mut State, now: Duration) -> Vec<Action> {
    if state.outcome.is_some() {
        return Vec::new();
    }
    state.outcome = verdict(spec, state, now);
    if state.outcome.is_some() {
        return state.active_places().copied().map(Action::End).collect();
    }
    if state.suspended == Some(true) && !spec.suspended {
        // Its deadline begins anew.
        state.began = now;
    }
    state.suspended = Some(spec.suspended);
    let mut actions = release_unwanted(spec, state);
    let starts = if actions.is_empty() { due_starts(spec, state, now) } else { Vec::new() };
    for number in starts {
        let index = state.indexes.entry(number).or_default();
        let place = Place { index: number, attempt: index.attempts };
        index.attempts += 1;
        actions.push(Action::Start { place, failures: index.failures, ignored: index.ignored });
        state.living.insert(place, Living::default());
    }
    let enough = match spec.completions {
        None => state.count_succeeded() > 0,
        Some(completions) => state.count_succeeded() >= completions,
    };
    if enough && state.active_places().next().is_none() {
        state.outcome = Some(Outcome { complete: true, reason: "", message: String::new() });
    }
    actions
}

/// Looks in the order in which the controller does.
fn verdict(spec: &Spec, state: &State, now: Duration) -> Option<Outcome> {
    let failed =
        |reason, message: &str| Some(Outcome { complete: false, reason, message: message.to_owned() });
    if let Some(message) = &state.failing {
        return failed("PodFailurePolicy", message);
    }
    let restarts: u32 = state.living.values().map(|pod| pod.restarts).sum();
    let restarted = spec.restarts_count && restarts > 0 && restarts >= spec.backoff_limit;
    if state.failed > spec.backoff_limit || restarted {
        return failed("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    // What was suspended until now begins its time now.
    let counts = !spec.suspended && state.suspended != Some(true);
    if counts && spec.deadline.is_some_and(|deadline| now >= state.began + deadline) {
        return failed("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    if let Some((_, most)) = spec.per_index {
        let failures = state.failed_indexes();
        if most.is_some_and(|most| failures > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return failed("MaxFailedIndexesExceeded", message);
        }
        if failures > 0 && spec.completions.is_some_and(|all| failures + state.count_succeeded() >= all) {
            return failed("FailedIndexes", "Job has failed indexes");
        }
    }
    let succeeded: BTreeSet<u32> =
        state.indexes.iter().filter(|(_, index)| index.succeeded).map(|(number, _)| *number).collect();
    let met = spec.success_rules.iter().position(|rule| {
        let within =
            rule.indexes.as_ref().map_or(succeeded.len(), |all| all.intersection(&succeeded).count());
        let wanted = rule.count.map(|n| n as usize).or(rule.indexes.as_ref().map(BTreeSet::len));
        wanted.is_some_and(|wanted| within >= wanted)
    });
    met.map(|at| Outcome {
        complete: true,
        reason: "SuccessPolicy",
        message: format!("Matched rules at index {at}"),
    })
}

/// The number of pods that are to run.
fn count_wanted(spec: &Spec, state: &State) -> u32 {
    match spec.completions {
        _ if spec.suspended => 0,
        None if state.count_succeeded() > 0 => state.active_places().count() as u32,
        None => spec.parallelism,
        Some(completions) => {
            completions.saturating_sub(state.count_succeeded() + state.failed_indexes()).min(spec.parallelism)
        }
    }
}

/// Takes leave of the pods that are more than are to run: the job is suspended, or its parallelism is less than it was. The
/// last of them go first.
fn release_unwanted(spec: &Spec, state: &mut State) -> Vec<Action> {
    let active: Vec<Place> = state.active_places().copied().collect();
    let unwanted = active.len().saturating_sub(count_wanted(spec, state) as usize);
    let places: Vec<Place> = active.into_iter().rev().take(unwanted).collect();
    for place in &places {
        let living = state.living.entry(*place).or_default();
        (living.terminating, living.released) = (true, true);
    }
    places.into_iter().map(Action::End).collect()
}

/// The indexes of which a pod is to start.
fn due_starts(spec: &Spec, state: &State, now: Duration) -> Vec<u32> {
    let active = state.active_places().count() as u32;
    let wanted = count_wanted(spec, state);
    let busy = if spec.replaces_terminating { active } else { state.living.len() as u32 };
    if spec.per_index.is_none() && now < state.backoff.until(spec.backoff) {
        return Vec::new();
    }
    let taken = |number: u32| {
        let here = |place: &Place| place.index == number;
        match spec.replaces_terminating {
            true => state.active_places().any(here),
            false => state.living.keys().any(here),
        }
    };
    let free = (0..spec.completions.unwrap_or(spec.parallelism)).filter(|number| {
        let waits = |index: &Index| spec.per_index.is_some() && now < index.backoff.until(spec.backoff);
        let done = |index: &Index| index.succeeded || index.failed || waits(index);
        !taken(*number) && !state.indexes.get(number).is_some_and(done)
    });
    free.take(wanted.saturating_sub(busy) as usize).collect()
}

/// Tells when to look again, though no pod has changed.
pub fn next_deadline(spec: &Spec, state: &State, now: Duration) -> Option<Duration> {
    if state.outcome.is_some() {
        return None;
    }
    let waits = match spec.per_index {
        None => vec![state.backoff.until(spec.backoff)],
        Some(_) => state.indexes.values().map(|index| index.backoff.until(spec.backoff)).collect(),
    };
    let deadline = spec.deadline.filter(|_| !spec.suspended).map(|deadline| state.began + deadline);
    waits.into_iter().chain(deadline).filter(|at| *at > now).min()
}
