//! `run --detach`: the pods go on by themselves.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podctl_runtime::trace;

use super::{
    super::{Error, delete, warn},
    Args, Wait,
    notes::{Notes, hopeless},
};
use crate::{lifecycle::job::Place, manifest::Job, state::Home, supervisor::Started};

/// The pods of a job that nobody sees to: each is started once, all at once.
pub(super) fn pods_of(job: &Job) -> Result<Vec<Pod>, Error> {
    let (name, places, at_a_time) = (&job.name, job.places(), job.parallelism());
    if places > at_a_time {
        return Err(Error::Said(format!(
            "job {name:?} runs {places} pods, {at_a_time} at a time: somebody has to see to it; run it without --detach"
        )));
    }
    if job.spec.backoff_limit != Some(0) {
        warn(&format!(
            "nobody sees to job {name:?} after --detach: a pod that fails is not replaced, and no limit or policy of the job is kept; run it without --detach"
        ));
    }
    let pod = |index| job.pod(Place { index, attempt: 0 }, 0, 0);
    Ok((0..places)
        .map(pod)
        .map(|mut pod| {
            // All start now: the job's deadline is each pod's.
            if let Some(spec) = &mut pod.spec {
                let own = spec.active_deadline_seconds.into_iter();
                spec.active_deadline_seconds = own.chain(job.spec.active_deadline_seconds).min();
            }
            pod
        })
        .collect())
}

/// Waits until the pods are as far as `--wait` says.
pub(super) fn wait(args: &Args, started: &[Started], home: &Home) -> Result<i32, Error> {
    let mut code = 0;
    for pod in started {
        let mut notes = Notes::of_warnings();
        loop {
            if args.wait == Wait::None {
                break;
            }
            let lives = pod.lives();
            let now = pod.dir.read()?;
            if let Some(message) = hopeless(&now) {
                let _ = delete::delete(home, &pod.dir, Some(Duration::ZERO), true);
                return Err(Error::Said(message));
            }
            notes.show(&now, &pod.dir, started.len() > 1);
            if let Some(why) = crash_loop(&now) {
                warn(&format!(
                    "{why}; the pod goes on trying: `podctl describe pod {0}` and `podctl logs {0}` say more",
                    pod.dir.name
                ));
                code = 1;
                break;
            }
            let status = now.status.unwrap_or_default();
            let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
            if over || reached(&status, args.wait) || !lives {
                break;
            }
            let _ = poll(&mut [PollFd::new(pod.fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        }
        trace::mark("client", "see the containers running");
        println!("pod/{} started", pod.dir.name);
    }
    Ok(code)
}

fn reached(status: &PodStatus, wait: Wait) -> bool {
    let all = status.container_statuses.as_deref().unwrap_or_default();
    !all.is_empty()
        && all.iter().all(|c| match wait {
            Wait::Ready => c.ready,
            _ => c.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some()),
        })
}

/// An app container that ends again and again may never run.
fn crash_loop(pod: &Pod) -> Option<String> {
    let all = pod.status.as_ref()?.container_statuses.iter().flatten();
    all.filter_map(|c| Some((c, c.state.as_ref()?.waiting.as_ref()?)))
        .find(|(_, w)| w.reason.as_deref() == Some("CrashLoopBackOff"))
        .map(|(c, w)| format!("container {}: {}", c.name, w.message.as_deref().unwrap_or_default()))
}
