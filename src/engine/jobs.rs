//! Jobs, for as long as somebody waits for them: carries out what `lifecycle::job` says of them.

use std::time::{Duration, Instant};

use k8s_openapi::api::{batch::v1::JobSpec, core::v1::Pod};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Engine, Error, PodHandle, ask, gone, request, start::Started, with_display_status};
use crate::{
    lifecycle::job::{self, Action, State},
    manifest::{Job, Manifest},
    pod::{Place, PodExt, Uid},
    state::{Home, Liveness, PodDir},
    wire::Options,
};

/// The jobs of a run.
pub(crate) struct Queue {
    began: Instant,
    jobs: Vec<Running>,
}

/// The job, and what has become of its pods.
pub(crate) struct Running {
    job: Job,
    spec: job::Spec,
    state: State,
    living: Vec<(Place, PodOf)>,
    /// Every pod it has had.
    all: Vec<PodOf>,
    /// The exit code of the last pod that failed.
    failed: Option<i32>,
    told: bool,
    /// Number of its living pods that are ready, at the last look.
    ready: u32,
    /// Names of the pods that were told to end since they were last asked for.
    deleted: Vec<String>,
}

/// Tells which pod, though there may be another of its name by now.
#[derive(Clone)]
struct PodOf {
    dir: PodDir,
    uid: Uid,
}

impl PodOf {
    fn read(&self) -> Option<Pod> {
        with_display_status(&self.dir)
            .ok()
            .filter(|pod| pod.metadata.uid.as_deref() == Some(self.uid.as_str()))
    }
}

impl Queue {
    /// `backoff` is the first and the longest wait before a failed pod is replaced.
    pub(crate) fn new(jobs: Vec<Job>, backoff: (Duration, Duration)) -> Queue {
        let running = |job: Job| Running::new(job, backoff);
        Queue { began: Instant::now(), jobs: jobs.into_iter().map(running).collect() }
    }

    /// Looks after the pods, and starts those whose turn it is.
    pub(crate) fn advance<E>(
        &mut self,
        start: impl Fn(Pod) -> Result<Started, E>,
    ) -> Result<Vec<Started>, E> {
        let now = self.began.elapsed();
        let mut started = Vec::new();
        for at in 0..self.jobs.len() {
            match self.jobs[at].advance(now, |_, pod| start(pod)) {
                Ok(pods) => started.extend(pods),
                Err(e) => {
                    self.abandon();
                    return Err(e);
                }
            }
        }
        Ok(started)
    }

    /// Tells when to look again, though no pod has changed.
    pub(crate) fn next(&self) -> Option<Duration> {
        let now = self.began.elapsed();
        let next = self.jobs.iter().filter_map(|r| r.next_deadline(now)).min();
        next.map(|at| at.saturating_sub(now))
    }

    /// Starts no more pods.
    pub(crate) fn stop(&mut self) {
        self.jobs.clear();
    }

    /// Starts no more pods, and kills those that live.
    pub(crate) fn abandon(&mut self) {
        for (_, pod) in self.jobs.iter().flat_map(|running| &running.living) {
            ask(&pod.dir, Some(Duration::ZERO));
        }
        self.stop();
    }

    /// Returns the outcomes of the jobs that have ended since.
    pub(crate) fn take_outcomes(&mut self) -> Vec<JobOutcome> {
        self.jobs.iter_mut().filter_map(Running::take_outcome).collect()
    }

    /// Tells whether every job has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.jobs.iter().all(|r| r.state.is_over())
    }

    /// Tells whether the pod is one of a job; the job then answers for it.
    pub(crate) fn answers_for(&self, uid: &Uid) -> bool {
        self.jobs.iter().any(|r| r.all.iter().any(|pod| pod.uid == *uid))
    }

    /// 0 when every job is complete.
    pub(crate) fn exit_code(&self) -> i32 {
        let failed = |r: &Running| r.state.outcome().is_some_and(|outcome| !outcome.complete);
        self.jobs.iter().find(|r| failed(r)).map_or(0, |r| r.failed.unwrap_or(1))
    }

    /// Forgets the pods of jobs that are not to outlive their end (ttlSecondsAfterFinished: 0).
    pub(crate) fn forget(&self, home: &Home) -> Result<(), Error> {
        let is_forgotten = |r: &&Running| r.job.spec.ttl_seconds_after_finished == Some(0);
        for pod in self.jobs.iter().filter(is_forgotten).flat_map(|r| &r.all) {
            if pod.read().is_some() {
                gone(home, &pod.dir, request(home, &pod.dir, None)?, None)?;
            }
        }
        Ok(())
    }
}

impl Running {
    /// Returns a job that begins at the time zero; `backoff` is the first and the longest wait before a failed pod is
    /// replaced.
    pub(crate) fn new(job: Job, backoff: (Duration, Duration)) -> Running {
        Running {
            spec: job::Spec::new(&job.spec, &job.pod, backoff),
            job,
            state: State::new(Duration::ZERO),
            living: Vec::new(),
            all: Vec::new(),
            failed: None,
            told: false,
            ready: 0,
            deleted: Vec::new(),
        }
    }

    /// Takes over what of a living job may change.
    pub(crate) fn follow(&mut self, spec: &JobSpec) {
        self.spec.follow(spec);
    }

    /// Returns the names of the pods that were told to end, once.
    pub(crate) fn take_deleted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.deleted)
    }

    /// Takes in a pod that an earlier keeper of the job has started.
    pub(crate) fn adopt(&mut self, place: Place, dir: PodDir, uid: Uid) {
        let known = PodOf { dir, uid };
        self.state.adopt(place);
        self.living.push((place, known.clone()));
        self.all.push(known);
    }

    /// Looks after the pods, and starts those whose turn it is. `now` is the time since the job began.
    pub(crate) fn advance<E>(
        &mut self,
        now: Duration,
        start: impl Fn(Place, Pod) -> Result<Started, E>,
    ) -> Result<Vec<Started>, E> {
        let mut started = Vec::new();
        self.look(now);
        for action in job::advance(&self.spec, &mut self.state, now) {
            match action {
                Action::Start { place, failures, ignored } => {
                    let pod = start(place, self.job.pod(place, failures, ignored))?;
                    let known = PodOf { dir: pod.dir.clone(), uid: pod.uid.clone() };
                    self.living.push((place, known.clone()));
                    self.all.push(known);
                    started.push(pod);
                }
                Action::End(place) => {
                    let known = self.living.iter().find(|(at, _)| *at == place);
                    if let Some((_, pod)) = known {
                        ask(&pod.dir, None);
                        self.deleted.push(pod.dir.name.to_string());
                    }
                }
            }
        }
        Ok(started)
    }

    /// Tells when to look again, though no pod has changed, as a time since the job began.
    pub(crate) fn next_deadline(&self, now: Duration) -> Option<Duration> {
        job::next_deadline(&self.spec, &self.state, now)
    }

    /// The job.
    pub(crate) fn job(&self) -> &Job {
        &self.job
    }

    /// What is known of the job's pods and its end, and the number of pods that are ready.
    pub(crate) fn progress(&self) -> (&State, u32) {
        (&self.state, self.ready)
    }

    fn look(&mut self, now: Duration) {
        self.ready = 0;
        for (place, pod) in std::mem::take(&mut self.living) {
            let lives = pod.dir.read_liveness() == Liveness::Alive;
            match (pod.read(), lives) {
                (Some(read), true) => {
                    self.ready += u32::from(read.is_ready());
                    job::seen(&self.spec, &mut self.state, place, &read, now);
                    self.living.push((place, pod));
                }
                (read, _) => {
                    let code = read.as_ref().map_or(1, PodExt::exit_code);
                    if code != 0 && self.state.outcome().is_none() {
                        self.failed = Some(code);
                    }
                    job::ended(&self.spec, &mut self.state, place, read.as_ref(), now);
                }
            }
        }
    }

    /// Returns how the job ended, once.
    fn take_outcome(&mut self) -> Option<JobOutcome> {
        let outcome = self.state.outcome().filter(|_| !self.told)?;
        self.told = true;
        Some(JobOutcome {
            name: self.job.name.clone(),
            complete: outcome.complete,
            reason: outcome.reason.to_owned(),
            message: outcome.message.clone(),
            exit_code: if outcome.complete { 0 } else { self.failed.unwrap_or(1) },
        })
    }
}

/// Tells how a Job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobOutcome {
    /// The name.
    pub name: String,
    /// Tells that it is complete; else it has failed.
    pub complete: bool,
    /// Holds a text such as `BackoffLimitExceeded`; empty when there is nothing to say.
    pub reason: String,
    /// Holds what the reason does not say.
    pub message: String,
    /// 0, or the exit code of the last pod that failed.
    pub exit_code: i32,
}

impl std::fmt::Display for JobOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = if self.complete { "is complete" } else { "has failed" };
        write!(f, "job {} {how}", self.name)?;
        [&self.reason, &self.message]
            .into_iter()
            .filter(|part| !part.is_empty())
            .try_for_each(|part| write!(f, ": {part}"))
    }
}

impl Engine {
    /// Runs a Job of a manifest to its end: starts its pods when it is their turn, replaces those that fail, and ends
    /// with the job. `see_pod` is called with each pod that is started; they stay, unless the job's
    /// ttlSecondsAfterFinished is 0.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), podctl::Error> {
    /// # let (engine, text) = (podctl::Engine::of_user()?, String::new());
    /// let source = podctl::manifest::Source { name: "job.yaml".into(), text };
    /// let manifest = engine.load("default", &[source])?;
    /// let outcome = engine.run_job(&manifest.jobs[0], &manifest, &podctl::Options::default(), |pod| {
    ///     println!("{} has started", pod.name());
    /// })?;
    /// assert!(outcome.complete, "{outcome}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Engine::run`]; its other pods are ended then. [`Error::Unsupported`] for a Job that would never end.
    pub fn run_job(
        &self,
        job: &Job,
        manifest: &Manifest,
        options: &Options,
        mut see_pod: impl FnMut(&PodHandle),
    ) -> Result<JobOutcome, Error> {
        if let Some(why) = job.find_standstill() {
            return Err(Error::Unsupported(why));
        }
        let backoff = (options.backoff_initial, options.backoff_max);
        let mut queue = Queue::new(vec![job.clone()], backoff);
        let mut living: Vec<Started> = Vec::new();
        loop {
            for started in queue.advance(|pod| self.start(pod, [manifest, &self.kept()?], options, None))? {
                see_pod(&PodHandle::of(&self.home, &started.dir));
                living.push(started);
            }
            if let Some(outcome) = queue.take_outcomes().pop() {
                living.iter().for_each(Started::wait);
                queue.forget(&self.home)?;
                return Ok(outcome);
            }
            let wait = queue.next().map(|left| left + Duration::from_micros(999));
            let mut fds: Vec<_> = living.iter().map(|pod| PollFd::new(pod.fd(), PollFlags::POLLIN)).collect();
            let wait = wait.and_then(|wait| PollTimeout::try_from(wait).ok()).unwrap_or(PollTimeout::NONE);
            // Interrupted, it looks again.
            let _ = poll(&mut fds, wait);
            living.retain(|pod| pod.lives());
        }
    }
}
