//! Jobs of a foreground run: as many pods at a time as `parallelism` says, until all have succeeded
//! or more than `backoffLimit` have failed.

use k8s_openapi::api::core::v1::Pod;

use super::{Error, delete};
use crate::{
    manifest::Job,
    state::{Liveness, PodDir},
    supervisor::Started,
};

/// The jobs of a run.
#[derive(Default)]
pub(super) struct Queue(Vec<Running>);

struct Running {
    job: Job,
    waiting: Vec<Pod>,
    active: Vec<(Pod, PodDir)>,
    failures: usize,
    /// The exit code of the pod that was one too many.
    failed: Option<i32>,
}

impl Queue {
    pub(super) fn new(jobs: Vec<Job>) -> Queue {
        let running = |mut job: Job| {
            let mut waiting = std::mem::take(&mut job.pods);
            waiting.reverse();
            Running { job, waiting, active: Vec::new(), failures: 0, failed: None }
        };
        Queue(jobs.into_iter().map(running).collect())
    }

    /// Looks after the pods that have ended, and starts those whose turn it is.
    pub(super) fn advance(
        &mut self,
        exit_code: impl Fn(&Pod) -> i32,
        start: impl Fn(Pod) -> Result<Started, Error>,
    ) -> Result<Vec<Started>, Error> {
        let mut started = Vec::new();
        for running in &mut self.0 {
            let (ended, active) = std::mem::take(&mut running.active)
                .into_iter()
                .partition(|(_, dir)| dir.liveness() != Liveness::Alive);
            running.active = active;
            for (template, dir) in ended {
                running.ended(template, dir.read().map_or(1, |pod| exit_code(&pod)));
            }
            while running.active.len() < running.job.parallelism
                && let Some(template) = running.waiting.pop()
            {
                let mut pod = template.clone();
                if running.failures > 0 {
                    // The pods that failed stay, to be looked at.
                    let name = pod.metadata.name.unwrap_or_default();
                    pod.metadata.name = Some(format!("{name}-retry-{}", running.failures));
                }
                let pod = start(pod)?;
                running.active.push((template, pod.dir.clone()));
                started.push(pod);
            }
        }
        Ok(started)
    }

    /// Starts no more pods.
    pub(super) fn stop(&mut self) {
        self.0.iter_mut().for_each(|running| running.waiting.clear());
    }

    /// Whether no pod is to be started any more.
    pub(super) fn is_over(&self) -> bool {
        self.0.iter().all(|r| r.active.is_empty() && (r.waiting.is_empty() || r.job.parallelism == 0))
    }

    /// Whether the pod is one of a job; the job then answers for it.
    pub(super) fn answers_for(&self, pod: &Pod) -> bool {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let of = |r: &Running| {
            name.strip_prefix(&r.job.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        self.0.iter().any(of)
    }

    /// 0 when every job has succeeded.
    pub(super) fn exit_code(&self) -> i32 {
        self.0.iter().find_map(|running| running.failed).unwrap_or(0)
    }
}

impl Running {
    fn ended(&mut self, template: Pod, code: i32) {
        if code == 0 || self.failed.is_some() {
            return;
        }
        self.failures += 1;
        if self.failures <= self.job.backoff_limit {
            return self.waiting.push(template);
        }
        self.failed = Some(code);
        self.waiting.clear();
        anstream::eprintln!("job {} has failed: BackoffLimitExceeded", self.job.name);
        for (_, dir) in &self.active {
            delete::ask(dir, None);
        }
    }
}
