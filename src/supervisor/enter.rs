//! Processes on their way into containers: of execs, exec probes and hooks.
//!
//! Promises: nothing waits for them. A container can stop what enters it, or be frozen; one that does not get as far as
//! its program in time is ended, and whoever asked for it is told.

use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use oci_spec::runtime::BoxBuilder;
use podctl_runtime::{Container, Entering, Stdio, exec};

use super::{
    Supervisor,
    execs::{Exec, Purpose},
    poll::Source,
};
use crate::{
    lifecycle::{Event, Run},
    sandbox,
    wire::Reply,
};

/// The time a process may take until it runs its program.
const PATIENCE: Duration = Duration::from_secs(5);

/// Holds what is to run in a container.
pub(super) struct Wanted {
    pub(super) command: Vec<String>,
    pub(super) stdio: Stdio,
    /// Rows and columns of its terminal.
    pub(super) size: Option<(u16, u16)>,
    pub(super) purpose: Purpose,
    /// The time it may take in all.
    pub(super) timeout: Option<Duration>,
    /// Holds what it writes, if it is for the supervisor.
    pub(super) output: Option<OwnedFd>,
}

/// Processes on their way into a container.
#[derive(Default)]
pub(super) struct Entrants {
    /// Keeps each by its number.
    pub all: HashMap<u64, Entrant>,
    /// The number given last.
    last: u64,
}

/// The process that does not run its program yet.
pub(super) struct Entrant {
    entering: Entering,
    purpose: Purpose,
    /// Counts on the supervisor's clock.
    began: Duration,
    timeout: Option<Duration>,
    output: Option<OwnedFd>,
}

impl Entrant {
    /// Tells when it is ended.
    pub(super) fn next_deadline(&self) -> Duration {
        self.began + self.timeout.unwrap_or(PATIENCE).min(PATIENCE)
    }
}

impl Supervisor {
    /// Begins to run a command in a container. The error has the exit code that says so.
    pub(super) fn enter(&mut self, run: &Run, wanted: Wanted) -> Result<(), (String, i32)> {
        let Wanted { command, stdio, size, purpose, timeout, output } = wanted;
        let live = self.live.get(run).ok_or_else(|| ("the container is not running".to_owned(), 1))?;
        let mut process = sandbox::exec_process(&live.spec, command, matches!(stdio, Stdio::Terminal));
        if let Some((rows, columns)) = size {
            process.set_console_size(BoxBuilder::default().height(rows).width(columns).build().ok());
        }
        let target = live.process.pidfd.as_fd();
        let entering = exec(target, &process, live.filter.as_deref(), stdio, live.cgroup.as_ref())
            .map_err(|e| (e.to_string(), e.exit_code().unwrap_or(1)))?;
        self.entrants.last += 1;
        let number = self.entrants.last;
        // An unwatched one would be looked at when a child ends; it cannot happen with an open descriptor.
        let _ = self.poll.add(entering.fd(), Source::Entering(number));
        let began = self.began.elapsed_since();
        self.entrants.all.insert(number, Entrant { entering, purpose, began, timeout, output });
        Ok(())
    }

    /// Looks how far it is: its program runs, it cannot, or it is still on its way.
    pub(super) fn look_at_entrant(&mut self, number: u64) {
        let Some(entrant) = self.entrants.all.get_mut(&number) else { return };
        let outcome = entrant.entering.outcome();
        if matches!(outcome, Ok(None)) {
            return;
        }
        let Some(entrant) = self.forget_entrant(number) else { return };
        match outcome {
            Ok(Some(container)) => self.entered(entrant, container),
            Ok(None) => {}
            Err(e) => self.entrant_failed(entrant.purpose, e.to_string(), e.exit_code().unwrap_or(1)),
        }
    }

    /// Looks at all: a child has ended, which may be one of them.
    pub(super) fn look_at_entrants(&mut self) {
        let numbers: Vec<u64> = self.entrants.all.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.look_at_entrant(number));
    }

    fn forget_entrant(&mut self, number: u64) -> Option<Entrant> {
        let entrant = self.entrants.all.remove(&number)?;
        self.poll.forget(entrant.entering.fd());
        Some(entrant)
    }

    fn entered(&mut self, entrant: Entrant, container: Container) {
        let Entrant { purpose, began, timeout, output, .. } = entrant;
        if let Purpose::Client(id) = purpose {
            let beside: Vec<_> = container.terminal.iter().map(AsFd::as_fd).collect();
            self.answer(id, &Reply::Started, &beside);
        }
        let (process, deadline) = (container.process, timeout.map(|timeout| began + timeout));
        let pid = process.pid.as_raw();
        self.execs.insert(pid, Exec { process, purpose, deadline, timed_out: false, output, handler: false });
    }

    fn entrant_failed(&mut self, purpose: Purpose, message: String, exit_code: i32) {
        match purpose {
            Purpose::Client(id) => self.answer(id, &Reply::Refused { message, exit_code }, &[]),
            Purpose::Hook(run, hook) => {
                self.pending.push_back(Event::HookEnded { run, hook, result: Err(message) });
            }
            Purpose::Probe(run, probe) => {
                self.pending.push_back(Event::ProbeEnded { run, probe, result: Err(message) });
            }
            Purpose::Look => {}
        }
    }

    /// Ends those that have run out of their time.
    pub(super) fn end_late_entrants(&mut self, now: Duration) {
        let late: Vec<u64> = self
            .entrants
            .all
            .iter()
            .filter(|(_, e)| e.next_deadline() <= now)
            .map(|(number, _)| *number)
            .collect();
        for entrant in late.into_iter().filter_map(|number| self.forget_entrant(number)).collect::<Vec<_>>() {
            entrant.entering.kill();
            let message = match entrant.timeout {
                Some(timeout) if timeout <= PATIENCE => "command timed out".to_owned(),
                _ => format!(
                    "the command did not start within {}s and was killed: the container is frozen, or stops what enters it",
                    PATIENCE.as_secs()
                ),
            };
            self.entrant_failed(entrant.purpose, message, 1);
        }
    }

    /// Ends those that are not wanted any more; nobody is told.
    pub(super) fn end_entrants(&mut self, which: impl Fn(&Purpose) -> bool) {
        let ended: Vec<u64> =
            self.entrants.all.iter().filter(|(_, e)| which(&e.purpose)).map(|(number, _)| *number).collect();
        for entrant in ended.into_iter().filter_map(|number| self.forget_entrant(number)) {
            entrant.entering.kill();
        }
    }
}
