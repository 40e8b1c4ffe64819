//! The process that keeps a Job: it starts the Job's pods when it is their turn, replaces those that fail, writes down how far
//! the Job has come, and ends with it.
//!
//! It is a client like any other: pods are nobody's children, so that its death ends none of them. The next command that
//! looks at the Job and finds nobody keeping it starts another, which finds the pods by what is written on them.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    time::Duration,
};

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobStatus},
        core::v1::{Event, EventSource, ObjectReference, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
    jiff::Timestamp,
};
use nix::sys::signal::{SigSet, Signal};

use super::{
    DeleteOptions, Engine, Error, ObjectKind, PodHandle, io,
    jobs::Running,
    objects::{is_finished, load_kept_job},
    start::Started,
};
use crate::{
    lifecycle::job::{Happened, Outcome, State, note_suspension},
    manifest::{self, Manifest},
    pod::{Namespace, ObjectName, Place, write_indexes},
    process::{Role, children, descriptors::tender::HOME, detach_from_terminal, start_role},
    state::{Home, JobProgress},
    wire::Options,
};

/// Labels that name a Job's pods by its uid: its own, and the one of before 1.27.
pub(super) const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
/// The annotation that says which of a Job's pods one is: `INDEX.ATTEMPT`.
const PLACE: &str = "podctl.dev/job-place";

/// Number of events of a Job that are remembered.
const MOST_EVENTS: usize = 100;

/// Starts the process that keeps a Job; it ends at once when there is one.
pub(super) fn start_tender(home: &Home, namespace: &Namespace, name: &ObjectName) -> Result<(), Error> {
    let open = |dir| File::open(dir).map_err(io("open podctl's directories"));
    let (runtime, data) = (open(&home.runtime)?, open(&home.data)?);
    let fds = [(runtime.as_fd(), HOME[0]), (data.as_fd(), HOME[1])];
    let role = format!("tend {namespace}/{name}");
    let role = Role { program: home.program.as_deref(), fds: &fds, ..Role::named(&role) };
    children::leave(&start_role(&role).map_err(super::StartError::from)?);
    Ok(())
}

/// The life of the process that keeps a Job. Gives its exit code.
pub fn main() -> i32 {
    // It can only be a leader already, as which it has no terminal either.
    let _ = nix::unistd::setsid();
    detach_from_terminal();
    // It stands in no directory's way.
    let _ = std::env::set_current_dir("/");
    // It ends with its Job, not with the terminal from which that was made.
    let _ = SigSet::from_iter([Signal::SIGHUP, Signal::SIGINT]).thread_block();
    let [runtime, data] = HOME.map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")));
    let (Ok(runtime), Ok(data)) = (runtime, data) else { return 1 };
    let home = Home { runtime, data, program: None };
    let words = std::env::args().nth(3).unwrap_or_default();
    let Some((Ok(namespace), Ok(name))) =
        words.split_once('/').map(|(namespace, name)| (Namespace::parse(namespace), ObjectName::parse(name)))
    else {
        return 1;
    };
    let Ok(lock) = home.lock_job(&namespace, &name) else { return 1 };
    // Another one keeps it.
    let Some(_lock) = lock else { return 0 };
    let tender = Tender { engine: Engine::over(&home), namespace, name };
    i32::from(tender.tend().is_err())
}

/// The one Job that this process keeps.
struct Tender {
    engine: Engine,
    namespace: Namespace,
    name: ObjectName,
}

impl Tender {
    fn tend(&self) -> Result<(), Error> {
        let home = &self.engine.home;
        let Some(kept) = home.object::<Job>(&self.namespace, &self.name)? else { return Ok(()) };
        let uid = kept.metadata.uid.clone().unwrap_or_default();
        let mut progress = home.job_progress(&self.namespace, &self.name, &uid)?.unwrap_or_default();
        if !is_finished(&progress.status) {
            match self.run_to_end(&kept, &uid, &mut progress) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(e) => {
                    let why = Outcome { complete: false, reason: "FailedCreate", message: e.to_string() };
                    add_conditions(&mut progress.status, &why, true);
                    self.note(&uid, &mut progress, &Happened::FailedCreate(why.message));
                    self.keep_progress(&uid, &progress)?;
                }
            }
        }
        self.outlive(&uid, &progress.status)
    }

    /// Runs the Job; says whether it has come to an end, rather than been deleted.
    fn run_to_end(&self, kept: &Job, uid: &str, progress: &mut JobProgress) -> Result<bool, Error> {
        let (job, manifest) = load_kept_job(&self.engine, &self.namespace, kept)?;
        // One that was suspended begins anew.
        let is_suspended =
            |condition: &JobCondition| condition.type_ == "Suspended" && condition.status == "True";
        let was_suspended = progress.status.conditions.iter().flatten().any(is_suspended);
        let began = progress.status.start_time.as_ref().filter(|_| !was_suspended);
        let began = began.map_or_else(Timestamp::now, |time| time.0);
        let options = Options::default();
        let mut running = Running::new(job, (options.backoff_initial, options.backoff_max));
        for handle in self.engine.pods(Some(&self.namespace))? {
            let Ok(pod) = handle.pod() else { continue };
            if let (Some(place), Some(uid)) = (read_place(&pod, uid), handle.dir.uid()) {
                running.adopt(place, handle.dir.clone(), uid);
            }
        }
        let watch = self.engine.watch_objects()?;
        let mut known = None;
        loop {
            // What is made now is watched before it is looked at.
            watch.refresh();
            let Some(job) = self.find_job(uid)? else { return Ok(false) };
            if let Some(spec) = &job.spec {
                running.follow(spec);
            }
            let now = Duration::try_from(Timestamp::now().duration_since(began)).unwrap_or_default();
            let indexed = running.job().is_indexed();
            let start = |place, pod| self.start_pod(pod, place, (kept, uid), indexed, &manifest);
            let mut happened = Vec::new();
            for started in running.advance(now, start)? {
                happened.push(Happened::Created(started.dir.name.to_string()));
                drop(PodHandle::started(&self.engine.home, started));
            }
            happened.extend(running.take_deleted().into_iter().map(Happened::Deleted));
            let (state, ready) = running.progress();
            write_progress(&mut progress.status, state, ready, indexed);
            if state.outcome().is_none() {
                let now = Time(Timestamp::now());
                happened.extend(note_suspension(&mut progress.status, state.is_suspended(), &now));
            }
            if let Some(outcome) = state.outcome().filter(|_| state.is_over()) {
                happened.push(Happened::Ended(outcome.clone()));
            }
            happened.iter().for_each(|happened| self.note(uid, progress, happened));
            if known.as_ref() != Some(progress) {
                self.keep_progress(uid, progress)?;
                known = Some(progress.clone());
            }
            if state.is_over() {
                return Ok(true);
            }
            watch
                .wait(running.next_deadline(now).map(|at| at.saturating_sub(now) + Duration::from_millis(1)));
        }
    }

    fn start_pod(
        &self,
        mut pod: Pod,
        place: Place,
        (job, uid): (&Job, &str),
        indexed: bool,
        manifest: &Manifest,
    ) -> Result<Started, Error> {
        let name = match indexed {
            true => format!("{}-{}-", self.name, place.index),
            false => format!("{}-", self.name),
        };
        let meta = &mut pod.metadata;
        meta.name = Some(manifest::generated_name(&name));
        meta.namespace = Some(self.namespace.to_string());
        let labels = meta.labels.get_or_insert_default();
        labels.extend(UID_LABELS.map(|label| (label.to_owned(), uid.to_owned())));
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(PLACE.into(), format!("{}.{}", place.index, place.attempt));
        meta.owner_references = Some(vec![OwnerReference {
            api_version: "batch/v1".into(),
            kind: "Job".into(),
            name: self.name.to_string(),
            uid: uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]);
        // Made of the Job's name for a pod that is called as its Job is, which this one is not.
        let template = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        if let Some(spec) = pod.spec.as_mut().filter(|_| !indexed) {
            spec.hostname = template.and_then(|spec| spec.hostname.clone());
        }
        self.engine.start(pod, [manifest, &self.engine.kept()?], &Options::default(), None)
    }

    /// Deletes the Job when it has been over for as long as it says; until then waits for somebody else to.
    fn outlive(&self, uid: &str, status: &JobStatus) -> Result<(), Error> {
        let ended = status.conditions.iter().flatten().find(|c| is_final(&c.type_));
        let ended =
            ended.and_then(|c| c.last_transition_time.as_ref()).map_or_else(Timestamp::now, |time| time.0);
        let watch = self.engine.watch_objects()?;
        while let Some(job) = self.find_job(uid)? {
            let Some(seconds) = job.spec.and_then(|spec| spec.ttl_seconds_after_finished) else { break };
            let lifetime = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            let past = Duration::try_from(Timestamp::now().duration_since(ended)).unwrap_or_default();
            if past >= lifetime {
                let options = DeleteOptions::default();
                self.engine.delete_object(ObjectKind::Job, &self.namespace, &self.name, &options)?;
                break;
            }
            watch.refresh();
            watch.wait(Some(lifetime - past));
        }
        Ok(())
    }

    /// Returns the Job as it is now; nothing when it is gone, or another one has its name.
    fn find_job(&self, uid: &str) -> Result<Option<Job>, Error> {
        let there = self.engine.home.object::<Job>(&self.namespace, &self.name)?;
        Ok(there.filter(|job| job.metadata.uid.as_deref() == Some(uid)))
    }

    fn keep_progress(&self, uid: &str, progress: &JobProgress) -> Result<(), Error> {
        Ok(self.engine.home.keep_job_progress(&self.namespace, &self.name, uid, progress)?)
    }

    /// Adds an event, or counts one that is known.
    fn note(&self, uid: &str, progress: &mut JobProgress, happened: &Happened) {
        let (type_, reason, message) = happened.words();
        let (now, events) = (Time(Timestamp::now()), &mut progress.events);
        let is_it = |event: &&mut Event| {
            event.reason.as_deref() == Some(&*reason) && event.message.as_deref() == Some(&*message)
        };
        if let Some(known) = events.iter_mut().find(is_it) {
            known.count = known.count.map(|count| count + 1);
            known.last_timestamp = Some(now);
            return;
        }
        if events.len() >= MOST_EVENTS {
            events.remove(0);
        }
        let (name, namespace) = (self.name.to_string(), Some(self.namespace.to_string()));
        let number = now.0.as_nanosecond() as u64 ^ events.len() as u64;
        events.push(Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{number:x}")),
                namespace: namespace.clone(),
                creation_timestamp: Some(now.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("batch/v1".into()),
                kind: Some("Job".into()),
                name: Some(name),
                namespace,
                uid: Some(uid.to_owned()),
                ..ObjectReference::default()
            },
            type_: Some(type_.into()),
            reason: Some(reason),
            message: Some(message),
            source: Some(EventSource { component: Some("job-controller".into()), host: None }),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Event::default()
        });
    }
}

/// Returns which of the pods of the Job of that uid one is; nothing for another's.
fn read_place(pod: &Pod, uid: &str) -> Option<Place> {
    let labels = pod.metadata.labels.as_ref()?;
    if labels.get(UID_LABELS[0]).map(String::as_str) != Some(uid) {
        return None;
    }
    let (index, attempt) = pod.metadata.annotations.as_ref()?.get(PLACE)?.split_once('.')?;
    Some(Place { index: index.parse().ok()?, attempt: attempt.parse().ok()? })
}

/// Writes into a status what is known of the Job's pods and its end.
fn write_progress(status: &mut JobStatus, state: &State, ready: u32, indexed: bool) {
    let counts = state.count_pods();
    let some = |count: u32| (count > 0).then_some(count as i32);
    status.active = some(counts.active);
    status.terminating = Some(counts.terminating as i32);
    status.ready = Some(ready.min(counts.active) as i32);
    status.succeeded = some(counts.succeeded);
    status.failed = some(counts.failed);
    if indexed {
        status.completed_indexes =
            Some(write_indexes(&counts.succeeded_indexes)).filter(|all| !all.is_empty());
        status.failed_indexes = Some(write_indexes(&counts.failed_indexes)).filter(|all| !all.is_empty());
    }
    if let Some(outcome) = state.outcome() {
        add_conditions(status, outcome, state.is_over());
    }
}

/// Adds the conditions of a Job that is to end, and of one whose pods have ended as well.
fn add_conditions(status: &mut JobStatus, outcome: &Outcome, over: bool) {
    let (reason, message) = match outcome.reason {
        "" => ("CompletionsReached", "Reached expected number of succeeded pods"),
        reason => (reason, outcome.message.as_str()),
    };
    let types = match outcome.complete {
        true => ["SuccessCriteriaMet", "Complete"],
        false => ["FailureTarget", "Failed"],
    };
    let now = Time(Timestamp::now());
    for type_ in &types[..if over { 2 } else { 1 }] {
        let all = status.conditions.get_or_insert_default();
        if all.iter().any(|condition| condition.type_ == *type_) {
            continue;
        }
        all.push(JobCondition {
            type_: (*type_).to_owned(),
            status: "True".into(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(now.clone()),
            last_transition_time: Some(now.clone()),
        });
        if *type_ == "Complete" {
            status.completion_time = Some(now.clone());
        }
    }
}

/// Tells whether a condition says that a Job is over.
pub(super) fn is_final(condition: &str) -> bool {
    matches!(condition, "Complete" | "Failed")
}
