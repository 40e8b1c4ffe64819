//! Writes the marks of the pod's timeline, as actions and events pass by.

use std::{collections::HashMap, fs::File, io::Write};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use podctl_images::open_ordinary;

use crate::{
    lifecycle::{Action, Event, Exit, Hook, Probe, Run},
    pod::{Mark, Span},
    state::PodDir,
};

/// The number of marks that are kept: a pod that restarts for weeks must not fill the disk; its start is long recorded
/// by then.
const MOST_MARKS: usize = 5_000;

/// Tells where marks go.
pub(super) struct Trace {
    file: Option<File>,
    written: usize,
    /// Belongs to each run's probes: whether they have passed.
    probes: HashMap<(Run, Probe), bool>,
}

impl Trace {
    /// A pod whose trace cannot be written runs all the same.
    pub(super) fn new(dir: &PodDir) -> Trace {
        let file = open_ordinary(&dir.trace_file(), File::options().create(true).append(true)).ok();
        Trace { file, written: 0, probes: HashMap::new() }
    }

    pub(super) fn mark_action(&mut self, action: &Action) {
        match action {
            Action::PullImage { container } => self.begin(container, Span::Pull),
            Action::RunHook { run, hook, .. } => self.begin(&run.container, of_hook(*hook)),
            Action::RunProbe { run, probe } if !self.probes.contains_key(&(run.clone(), *probe)) => {
                self.probes.insert((run.clone(), *probe), false);
                self.begin(&run.container, of_probe(*probe));
            }
            _ => {}
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::ImageReady { container, pulled, .. } => {
                let note = if pulled.is_some() { "" } else { "already present" };
                self.end(container, Span::Pull, true, note);
            }
            Event::ImageFailed { container, .. } => self.end(container, Span::Pull, false, "failed"),
            Event::Started { run, .. } => self.begin(&run.container, Span::Run),
            Event::StartFailed { run, .. } => self.end(&run.container, Span::Run, false, "cannot start"),
            Event::Exited { run, exit, .. } => {
                self.probes.retain(|(of, _), _| of != run);
                let note = match exit {
                    Exit::Code(code) => format!("exit {code}"),
                    Exit::Signal(signal) => format!("signal {signal}"),
                };
                self.end(&run.container, Span::Run, *exit == Exit::Code(0), &note);
            }
            Event::HookEnded { run, hook, result } => {
                self.end(
                    &run.container,
                    of_hook(*hook),
                    result.is_ok(),
                    if result.is_ok() { "" } else { "failed" },
                );
            }
            Event::ProbeEnded { run, probe, result: Ok(()) }
                if self.probes.insert((run.clone(), *probe), true) == Some(false) =>
            {
                self.end(&run.container, of_probe(*probe), true, "");
            }
            _ => {}
        }
    }

    fn begin(&mut self, container: &str, span: Span) {
        self.write(container, span, None, "");
    }

    fn end(&mut self, container: &str, span: Span, well: bool, note: &str) {
        self.write(container, span, Some(well), note);
    }

    fn write(&mut self, container: &str, span: Span, ended: Option<bool>, note: &str) {
        let Some(file) = self.file.as_mut().filter(|_| self.written < MOST_MARKS) else { return };
        self.written += 1;
        let at = MicroTime(Timestamp::now());
        let mark = Mark { at, container: container.into(), span, ended, note: note.into() };
        // A full disk must not end the pod.
        let _ = file.write_all((serde_json::to_string(&mark).unwrap_or_default() + "\n").as_bytes());
    }
}

fn of_hook(hook: Hook) -> Span {
    match hook {
        Hook::PostStart => Span::PostStart,
        Hook::PreStop => Span::PreStop,
    }
}

fn of_probe(probe: Probe) -> Span {
    match probe {
        Probe::Startup => Span::Startup,
        Probe::Liveness => Span::Liveness,
        Probe::Readiness => Span::Readiness,
    }
}
