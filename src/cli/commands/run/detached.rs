//! `run --detach`: the pods go on by themselves.

use super::{
    Args, Wait,
    notes::{Notes, end},
};
use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signalfd::SignalFd,
};
use podctl_runtime::start_trace;

use crate::{
    cli::{Error, print_error, warn},
    engine::{
        LONG_SILENCE, PodHandle, check_supervisor,
        readiness::{Goal, find_crash_loop, find_hopeless, find_obstacle},
        start::Started,
    },
    manifest::Job,
    pod::Place,
    state::Home,
};

/// The pods of a job that nobody sees to: each is started once, all at once.
pub(super) fn pods_of(job: &Job) -> Result<Vec<Pod>, Error> {
    let (name, places, at_a_time) = (&job.name, job.count_places(), job.parallelism());
    if places > at_a_time {
        return Err(Error::not_done(format!(
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

/// The time after which a wait says what it is for.
const SILENCE: Duration = Duration::from_secs(2);

/// Waits until the pods are as far as `--wait` says. A Ctrl-C ends the wait, not the pods.
pub(super) fn wait(args: &Args, started: &[Started], home: &Home, signals: &SignalFd) -> Result<i32, Error> {
    let mut code = 0;
    for pod in started {
        // kubectl's word, where it is kubectl's command.
        let word = if args.of_image.image.is_some() { "created" } else { "started" };
        match one(args, pod, started.len() > 1, home, signals)? {
            Outcome::AsWished => args.tell_started(home, &pod.dir, word)?,
            Outcome::Trying => {
                args.tell_started(home, &pod.dir, word)?;
                code = 1;
            }
            Outcome::Failed => code = 1,
            Outcome::Interrupted => {
                for pod in started {
                    let name = &pod.dir.name;
                    eprintln!(
                        "pod {name} goes on: `podctl get pod {name}` shows how far it is, `podctl delete pod {name}` ends it"
                    );
                }
                return Ok(130);
            }
        }
        start_trace::mark("client", "see the containers running");
    }
    Ok(code)
}

/// Tells how a wait ended.
enum Outcome {
    AsWished,
    /// Means that it ends again and again; somebody has been told.
    Trying,
    /// Means that it is over without having been where it was to be.
    Failed,
    Interrupted,
}

fn one(args: &Args, pod: &Started, several: bool, home: &Home, signals: &SignalFd) -> Result<Outcome, Error> {
    let mut notes = Notes::of_warnings();
    let mut said = None;
    let mut known = None;
    let mut since = Instant::now();
    if args.wait == Wait::None {
        return Ok(Outcome::AsWished);
    }
    loop {
        let lives = pod.lives();
        let now = pod.dir.read()?;
        if let Some(failure) = find_hopeless(&now, &pod.dir) {
            // The failure that is told is why; what is left of the pod shows in `get`.
            let _ = PodHandle::of(home, &pod.dir).delete(Some(Duration::ZERO));
            return Err(failure.into());
        }
        notes.show(&pod.dir, several);
        let status = now.status.clone().unwrap_or_default();
        if reached(&status, args.wait) || status.phase.as_deref() == Some("Succeeded") {
            return Ok(Outcome::AsWished);
        }
        if let Some((container, why)) = find_crash_loop(&now) {
            warn(&format!(
                "container {container}: {why}; the pod goes on trying: `podctl describe pod {0}` and `podctl logs {0} -c {container}` say more",
                pod.dir.name
            ));
            return Ok(Outcome::Trying);
        }
        if status.phase.as_deref() == Some("Failed") || !lives {
            let how = end(&now).unwrap_or_else(|| "has ended".into());
            print_error(&Error::unmet(format!("pod {} {how}", pod.dir.name)));
            return Ok(Outcome::Failed);
        }
        let goal = if args.wait == Wait::Ready { Goal::Ready } else { Goal::Running };
        let waits = find_obstacle(&now, goal).map(|obstacle| obstacle.what);
        if waits != known {
            (known, since) = (waits, Instant::now());
        }
        if let Some(what) = known.as_ref().filter(|_| said != known && since.elapsed() >= SILENCE) {
            eprintln!("{0}pod {1} waits: {what}{0:#}", anstyle::Style::new().dimmed(), pod.dir.name);
            said = known.clone();
        }
        let silence =
            (said != known).then(|| SILENCE.saturating_sub(since.elapsed()) + Duration::from_millis(1));
        let timeout = silence.unwrap_or(LONG_SILENCE).min(LONG_SILENCE);
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut fds =
            [PollFd::new(pod.fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout) == Ok(0) && silence.is_none() {
            check_supervisor(&pod.dir)?;
        }
        if let Ok(Some(_)) = signals.read_signal() {
            return Ok(Outcome::Interrupted);
        }
    }
}

fn reached(status: &PodStatus, wait: Wait) -> bool {
    let all = status.container_statuses.as_deref().unwrap_or_default();
    !all.is_empty()
        && all.iter().all(|c| match wait {
            Wait::Ready => c.ready,
            _ => has_run(c),
        })
}

/// Tells whether it runs or has run, however that ended: one that ends at once would else be seen to run or
/// not by chance.
fn has_run(container: &ContainerStatus) -> bool {
    let started = |s: &ContainerState| {
        s.running.is_some()
            || s.terminated.as_ref().is_some_and(|t| t.reason.as_deref() != Some("StartError"))
    };
    [&container.state, &container.last_state].into_iter().flatten().any(started)
}
