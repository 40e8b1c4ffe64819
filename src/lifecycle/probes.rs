//! R-PROBE: when probes run and what their results mean.

use std::time::Duration;

use k8s_openapi::api::core::v1;

use super::{
    Action, Now, Probe, Record, Run, Spec, State,
    spec::RestartPolicy,
    state::{Phase, Probing, key},
    termination::{Stop, stop},
};
use crate::pod::ProbeExt;

const ALL: [Probe; 3] = [Probe::Startup, Probe::Liveness, Probe::Readiness];

fn spec_of(spec: &Spec, at: usize, probe: Probe) -> Option<&v1::Probe> {
    let container = spec.container(at);
    match probe {
        Probe::Startup => container.startup_probe.as_ref(),
        Probe::Liveness => container.liveness_probe.as_ref(),
        Probe::Readiness => container.readiness_probe.as_ref(),
    }
}

/// A container's process runs: its probes begin, the startup probe gating the other two.
pub(super) fn begin(spec: &Spec, state: &mut State, at: usize, now: Now) {
    let one = &mut state.all[at];
    one.probes.clear();
    let gated = spec_of(spec, at, Probe::Startup).is_some() && !one.started;
    for probe in ALL {
        if (probe == Probe::Startup) != gated {
            continue;
        }
        if let Some(p) = spec_of(spec, at, probe) {
            let began = one.started_at.map_or(now.monotonic, |(at, _)| at);
            let next = (began + p.initial_delay()).max(now.monotonic);
            one.probes.insert(key(probe), Probing { next, ..Probing::default() });
        }
    }
}

/// Starts every probe whose time has come.
pub(super) fn run_due(spec: &Spec, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    let ending = state.stopping_all().is_some();
    for at in 0..state.all.len() {
        let one = &mut state.all[at];
        if one.phase != Phase::Running {
            continue;
        }
        let stopping = ending || one.stopping.is_some();
        for probe in ALL {
            // R-PROBE-2: readiness goes on while a pod ends.
            if stopping && probe != Probe::Readiness {
                one.probes.remove(&key(probe));
                continue;
            }
            let Some(p) = spec_of(spec, at, probe) else { continue };
            if let Some(probing) = one.probes.get_mut(&key(probe))
                && !probing.running
                && probing.next <= now.monotonic
            {
                probing.running = true;
                probing.next = now.monotonic + p.period();
                let run = Run { container: spec.container(at).name.clone(), attempt: one.attempt };
                actions.push(Action::RunProbe { run, probe });
            }
        }
    }
}

/// A probe has answered.
pub(super) fn ended(
    spec: &Spec,
    state: &mut State,
    at: usize,
    probe: Probe,
    result: Result<(), String>,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let Some(p) = spec_of(spec, at, probe) else { return };
    let name = spec.container(at).name.clone();
    let one = &mut state.all[at];
    let Some(probing) = one.probes.get_mut(&key(probe)) else { return };
    probing.running = false;
    let word = probe.word();
    match result {
        Ok(()) => {
            probing.failures = 0;
            probing.successes += 1;
            if probing.successes >= p.successes_wanted() {
                match probe {
                    Probe::Startup => {
                        one.started = true;
                        begin(spec, state, at, now);
                        settle(spec, state, at);
                    }
                    Probe::Readiness => one.ready = true,
                    Probe::Liveness => {}
                }
            }
        }
        Err(message) => {
            probing.successes = 0;
            probing.failures += 1;
            let message = format!("{word} probe failed: {message}");
            actions.push(Action::Record(Record {
                warning: true,
                reason: "Unhealthy",
                message,
                container: Some(name.clone()),
            }));
            if probing.failures < p.failures_allowed() {
                return;
            }
            match probe {
                Probe::Readiness => one.ready = false,
                Probe::Startup | Probe::Liveness => {
                    // The kubelet restarts it whatever its exit code, unless it never restarts.
                    let restart = spec.restart_policy(at) != RestartPolicy::Never;
                    let end = if restart { ", will be restarted" } else { "" };
                    let message = format!("Container {name} failed {} probe{end}", word.to_lowercase());
                    let own =
                        p.termination_grace_period_seconds.map(|s| Duration::from_secs(s.max(0) as u64));
                    let by = now.monotonic + own.unwrap_or(spec.grace);
                    let how = Stop { by, message: Some(message), hooks: true, restart };
                    stop(spec, state, at, how, now, actions);
                }
            }
        }
    }
}

/// Without the probe that would say so, a container is ready, and started, as soon as it runs.
pub(super) fn settle(spec: &Spec, state: &mut State, at: usize) {
    let one = &mut state.all[at];
    if !one.post_start {
        return;
    }
    one.started |= spec_of(spec, at, Probe::Startup).is_none();
    one.ready |= one.started && spec_of(spec, at, Probe::Readiness).is_none();
}
