//! What a disk without room has kept from being written: the status, events, ends of logs. It is tried again every second,
//! and before the supervisor leaves.

use std::time::{Duration, Instant};

use super::{
    Supervisor,
    event_recorder::{Happened, Recorder},
    poll::Source,
    timeline::Trace,
};
use crate::{lifecycle::Record, logs::Log};

/// The time until it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The time for which an ended pod's supervisor stays for the sake of a status that it could not write: how
/// the pod ended.
const LAST_OF_STATUS: Duration = Duration::from_secs(60);
/// The same for events and the ends of logs.
const LAST: Duration = Duration::from_secs(2);
/// Logs of ended containers that may wait; those of a crash loop would else take all memory.
const MOST_LOGS: usize = 16;

/// What is told of the pod's life on disk.
pub(super) struct Records {
    pub events: Recorder,
    pub trace: Trace,
    pub unwritten: Unwritten,
}

/// Holds what is to be written when there is room.
#[derive(Default)]
pub(super) struct Unwritten {
    status: bool,
    /// Whoever reads the status sees another than the pod's.
    status_hidden: bool,
    /// Belongs to containers that have ended, by container.
    logs: Vec<(String, Log)>,
    /// The time when it was tried last.
    tried: Option<Instant>,
}

impl Supervisor {
    /// Writes the pod with its status. Where there is no room, into what is kept for this; and again later.
    pub(super) fn write_status(&mut self) {
        let done = self.dir.write(&self.pod);
        self.records.unwritten.status_hidden =
            done.is_err() && self.dir.write_into_reserve(&self.pod).is_err();
        if done.is_err() {
            // The next change may find room in the reserve again.
            let _ = self.dir.keep_reserve();
        } else if self.records.unwritten.status {
            let _ = self.dir.keep_reserve();
        }
        self.records.unwritten.status = done.is_err();
    }

    /// Keeps an ended container's log as long as something of it waits for room.
    pub(super) fn close_log(&mut self, container: &str, mut log: Log) {
        // What could not be written is asked for below.
        let _ = log.flush();
        self.tell_lost_lines(container, &mut log);
        if log.is_behind() && self.records.unwritten.logs.len() < MOST_LOGS {
            self.records.unwritten.logs.push((container.to_owned(), log));
        }
    }

    fn is_behind(&self) -> bool {
        let logs =
            self.live.values().any(|live| live.log.is_behind()) || !self.records.unwritten.logs.is_empty();
        self.records.unwritten.status || self.records.events.is_behind() || logs
    }

    /// The time until [`Supervisor::write_what_waits`] is wanted, if it is.
    pub(super) fn next_retry(&self) -> Option<Duration> {
        let since = self.records.unwritten.tried.map_or(RETRY, |tried| tried.elapsed());
        self.is_behind().then(|| RETRY.saturating_sub(since))
    }

    /// Tries again to write what waits, if it is time.
    pub(super) fn write_what_waits(&mut self) {
        if self.next_retry().is_none_or(|wait| !wait.is_zero()) {
            return;
        }
        self.records.unwritten.tried = Some(Instant::now());
        if self.records.unwritten.status {
            self.write_status();
        }
        let runs: Vec<_> = self.live.keys().cloned().collect();
        for run in runs {
            let Some(mut live) = self.live.remove(&run) else { continue };
            if live.log.is_behind() && live.log.flush().is_ok() {
                self.tell_lost_lines(&run.container, &mut live.log);
            }
            self.live.insert(run, live);
        }
        for (container, log) in std::mem::take(&mut self.records.unwritten.logs) {
            self.close_log(&container, log);
        }
        self.records.events.catch_up();
    }

    fn tell_lost_lines(&mut self, container: &str, log: &mut Log) {
        let lost = log.take_lost();
        if lost > 0 {
            self.records.events.write(Happened::now(Record {
                warning: true,
                reason: "LogLost",
                message: format!("{lost} lines of output are lost: the disk had no room for them"),
                container: Some(container.to_owned()),
            }));
        }
    }

    /// Stays until all is written, the pod is deleted, or its time is over.
    pub(super) fn write_before_leaving(&mut self) {
        let began = Instant::now();
        let last = |hidden: bool| if hidden { LAST_OF_STATUS } else { LAST };
        while self.is_behind()
            && !self.delete_requested
            && began.elapsed() < last(self.records.unwritten.status_hidden)
        {
            self.write_what_waits();
            let Some(wait) = self.next_retry() else { return };
            for source in self.poll.wait(Some(wait)) {
                match source {
                    Source::Terminate => return,
                    Source::Listener | Source::Connection(_) => self.serve(source),
                    _ => {}
                }
            }
        }
    }
}
