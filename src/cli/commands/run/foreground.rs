//! A run in the foreground: logs and notes until every pod has ended.

use super::{
    notes::Notes,
    service_manager::{notify_manager, settle_exit_code},
};
use std::{io::Write, os::fd::AsFd, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use crate::{
    cli::{Error, io},
    engine::{
        self, LONG_SILENCE, PodHandle, check_supervisor, jobs::Queue, readiness::find_hopeless,
        start::Started,
    },
    logs::{Follow, Prefixes},
    pod::PodExt,
    state::Home,
};

/// SIGINT, SIGTERM and SIGHUP as something to wait for.
pub(super) fn signals() -> Result<SignalFd, Error> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    // Of a terminal that is closed: nobody is left to end the pods.
    set.add(Signal::SIGHUP);
    set.thread_block().map_err(|e| io("cannot block signals")(e.into()))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| io("cannot wait for signals")(e.into()))
}

/// Shows logs and notes until every pod has ended; the first Ctrl-C is a graceful delete, the
/// second kills. SIGTERM, with which service managers end what they have started, ends the pods as well; how they ended
/// is then the exit code, as if they had ended by themselves. `ended_pods` gets the pods as they were at last.
pub(super) fn run_foreground(
    started: Vec<Started>,
    mut jobs: Queue,
    start: &dyn Fn(Pod) -> Result<Started, Error>,
    home: &Home,
    signals: &SignalFd,
    ended_pods: &mut Vec<Pod>,
) -> Result<i32, Error> {
    let mut follows = Vec::new();
    let mut new = started;
    new.extend(jobs.advance(start)?);
    jobs.take_outcomes().iter().for_each(|outcome| eprintln!("{outcome}"));
    let mut prefixes = Prefixes::of(new.iter().filter_map(|p| p.dir.read().ok()), new.len() > 1);
    let mut interrupts = 0;
    let mut interrupted = false;
    let mut failure = None;
    let mut told_ready = false;
    loop {
        if !new.is_empty() {
            for pod in new.drain(..) {
                let follow = Follow::follow_unwatched(home, &pod.dir, &pod.uid);
                follows.push((pod, follow, Notes::default()));
            }
            let pods = follows.iter().filter_map(|(p, ..)| p.dir.read().ok());
            prefixes = Prefixes::of(pods, follows.len() > 1);
        }
        let several = follows.len() > 1;
        let mut living = Vec::new();
        let mut ready = true;
        for (pod, follow, notes) in &mut follows {
            // Asked before the logs are drained: what was written before the end is then shown.
            living.push(pod.lives());
            let now = pod.dir.read().ok().filter(|now| now.uid() == pod.uid.as_str());
            ready &= now.as_ref().is_some_and(|now| now.is_ready() || now.phase() == "Succeeded");
            if let Some(now) = &now {
                notes.remember_state(now);
                if interrupts == 0 && failure.is_none() {
                    failure = find_hopeless(now, &pod.dir);
                    if failure.is_some() {
                        jobs.abandon();
                        notes.end_is_known();
                        engine::ask(&pod.dir, Some(Duration::ZERO));
                    }
                }
                notes.show(&pod.dir, several);
            }
            let mut out = anstream::stdout().lock();
            for entry in follow.drain() {
                // The pod lives on when nobody reads its logs.
                let _ = writeln!(
                    out,
                    "{}{}",
                    prefixes.of_entry(&pod.dir.name, &entry),
                    String::from_utf8_lossy(&entry.text)
                );
            }
            if let Some(now) = now.filter(|_| !follow.is_behind()) {
                notes.show_end(&now, &pod.dir);
            }
        }
        if ready && !told_ready && !follows.is_empty() {
            told_ready = true;
            notify_manager("READY=1\nSTATUS=ready");
        }
        new.extend(jobs.advance(start)?);
        jobs.take_outcomes().iter().for_each(|outcome| eprintln!("{outcome}"));
        if !new.is_empty() {
            continue;
        }
        if !living.contains(&true) && jobs.is_over() && !follows.iter().any(|(_, f, _)| f.is_behind()) {
            break;
        }
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        // One that has ended has nothing more to say, and would wake us at once.
        let living = follows.iter().zip(living).filter(|(_, lives)| *lives);
        fds.extend(living.map(|((pod, ..), _)| PollFd::new(pod.fd(), PollFlags::POLLIN)));
        let behind = follows.iter().any(|(_, f, _)| f.is_behind());
        let wait = if behind { Some(Duration::ZERO) } else { jobs.next() };
        // Rounded up, so that it is time when the wait is over.
        let wait = wait.map(|t| PollTimeout::try_from(t + Duration::from_micros(999)));
        let silence = PollTimeout::try_from(LONG_SILENCE).unwrap_or(PollTimeout::MAX);
        let timeout = wait.map_or(silence, |t| t.unwrap_or(PollTimeout::MAX));
        if poll(&mut fds, timeout) == Ok(0) && wait.is_none() {
            follows
                .iter()
                .filter(|(pod, ..)| pod.lives())
                .try_for_each(|(pod, ..)| check_supervisor(&pod.dir))?;
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            interrupts += 1;
            interrupted |= signal.ssi_signo == Signal::SIGINT as u32;
            jobs.stop();
            notify_manager("STOPPING=1\nSTATUS=ending");
            let grace = (interrupts > 1).then_some(Duration::ZERO);
            if interrupts == 1 {
                let (what, it) = if follows.len() > 1 { ("pods", "them") } else { ("pod", "it") };
                eprintln!("ending the {what} gracefully; Ctrl-C again kills {it}");
            }
            for (pod, _, notes) in &mut follows {
                notes.end_is_known();
                match interrupted {
                    true => engine::ask(&pod.dir, grace),
                    // Its record is read for the exit code, and then forgotten.
                    false => engine::ask_to_stop(&pod.dir, grace),
                }
            }
        }
    }
    let mut code = jobs.exit_code();
    for (pod, _, notes) in &follows {
        pod.wait();
        let ended = pod.dir.read().ok().filter(|ended| ended.uid() == pod.uid.as_str());
        ended_pods.extend(ended.clone().or_else(|| notes.last_state()));
        if code == 0 && !jobs.answers_for(&pod.uid) && !interrupted && failure.is_none() {
            code = match ended {
                Some(ended) => ended.exit_code(),
                // Of a pod that was deleted meanwhile nothing else is left to be asked.
                None => notes.exit_code_when_deleted(&pod.dir.name),
            };
        }
        if interrupts > 0 && failure.is_none() {
            PodHandle::of(home, &pod.dir).delete(Some(Duration::ZERO))?;
        }
    }
    jobs.forget(home)?;
    match failure {
        Some(failure) => Err(failure.into()),
        None if interrupted => Ok(130),
        None if interrupts > 0 => Ok(settle_exit_code(code)),
        None => Ok(code),
    }
}
