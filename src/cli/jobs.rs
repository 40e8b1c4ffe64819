//! Jobs of a foreground run: carries out what `lifecycle::job` says of them.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use super::{Error, delete};
use crate::{
    engine::start::Started,
    engine::with_display_status,
    lifecycle::job::{self, Action, State},
    manifest::Job,
    pod::{Place, PodExt, Uid},
    state::{Home, Liveness},
};

/// The jobs of a run.
pub(super) struct Queue {
    began: Instant,
    jobs: Vec<Running>,
}

struct Running {
    job: Job,
    spec: job::Spec,
    state: State,
    living: Vec<(Place, PodOf)>,
    /// Every pod it has had.
    all: Vec<PodOf>,
    /// The exit code of the last pod that failed.
    failed: Option<i32>,
    told: bool,
}

/// Tells which pod, though there may be another of its name by now.
#[derive(Clone)]
struct PodOf {
    dir: crate::state::PodDir,
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
    pub(super) fn new(jobs: Vec<Job>, backoff: (Duration, Duration)) -> Queue {
        let running = |job: Job| Running {
            spec: job::Spec::new(&job.spec, &job.pod, backoff),
            job,
            state: State::new(Duration::ZERO),
            living: Vec::new(),
            all: Vec::new(),
            failed: None,
            told: false,
        };
        Queue { began: Instant::now(), jobs: jobs.into_iter().map(running).collect() }
    }

    /// Looks after the pods, and starts those whose turn it is.
    pub(super) fn advance(
        &mut self,
        start: impl Fn(Pod) -> Result<Started, Error>,
    ) -> Result<Vec<Started>, Error> {
        let now = self.began.elapsed();
        let mut started = Vec::new();
        for at in 0..self.jobs.len() {
            let running = &mut self.jobs[at];
            running.look(now);
            for action in job::advance(&running.spec, &mut running.state, now) {
                match action {
                    Action::Start { place, failures, ignored } => {
                        let pod = match start(running.job.pod(place, failures, ignored)) {
                            Ok(pod) => pod,
                            Err(e) => {
                                self.abandon();
                                return Err(e);
                            }
                        };
                        let known = PodOf { dir: pod.dir.clone(), uid: pod.uid.clone() };
                        running.living.push((place, known.clone()));
                        running.all.push(known);
                        started.push(pod);
                    }
                    Action::End(place) => {
                        let known = running.living.iter().find(|(at, _)| *at == place);
                        known.iter().for_each(|(_, pod)| delete::ask(&pod.dir, None));
                    }
                }
            }
            running.tell();
        }
        Ok(started)
    }

    /// Tells when to look again, though no pod has changed.
    pub(super) fn next(&self) -> Option<Duration> {
        let now = self.began.elapsed();
        let next = self.jobs.iter().filter_map(|r| job::next_deadline(&r.spec, &r.state, now)).min();
        next.map(|at| at.saturating_sub(now))
    }

    /// Starts no more pods.
    pub(super) fn stop(&mut self) {
        self.jobs.clear();
    }

    /// Starts no more pods, and kills those that live.
    pub(super) fn abandon(&mut self) {
        for (_, pod) in self.jobs.iter().flat_map(|running| &running.living) {
            delete::ask(&pod.dir, Some(Duration::ZERO));
        }
        self.stop();
    }

    /// Tells whether every job has ended.
    pub(super) fn is_over(&self) -> bool {
        self.jobs.iter().all(|r| r.state.is_over())
    }

    /// Tells whether the pod is one of a job; the job then answers for it.
    pub(super) fn answers_for(&self, uid: &Uid) -> bool {
        self.jobs.iter().any(|r| r.all.iter().any(|pod| pod.uid == *uid))
    }

    /// 0 when every job is complete.
    pub(super) fn exit_code(&self) -> i32 {
        let failed = |r: &Running| r.state.outcome().is_some_and(|outcome| !outcome.complete);
        self.jobs.iter().find(|r| failed(r)).map_or(0, |r| r.failed.unwrap_or(1))
    }

    /// Forgets the pods of jobs that are not to outlive their end (ttlSecondsAfterFinished: 0).
    pub(super) fn forget(&self, home: &Home) -> Result<(), Error> {
        let gone = |r: &&Running| r.job.spec.ttl_seconds_after_finished == Some(0);
        for pod in self.jobs.iter().filter(gone).flat_map(|r| &r.all) {
            if pod.read().is_some() {
                delete::delete(home, &pod.dir, None, true)?;
            }
        }
        Ok(())
    }
}

impl Running {
    fn look(&mut self, now: Duration) {
        for (place, pod) in std::mem::take(&mut self.living) {
            let lives = pod.dir.read_liveness() == Liveness::Alive;
            match (pod.read(), lives) {
                (Some(read), true) => {
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

    fn tell(&mut self) {
        let Some(outcome) = self.state.outcome().filter(|_| !self.told) else { return };
        let why: Vec<&str> =
            [outcome.reason, &outcome.message].into_iter().filter(|part| !part.is_empty()).collect();
        let why = if why.is_empty() { String::new() } else { format!(": {}", why.join(": ")) };
        let how = if outcome.complete { "is complete" } else { "has failed" };
        eprintln!("job {} {how}{why}", self.job.name);
        self.told = true;
    }
}
