//! A pod's logs as an iterator.

use std::{collections::VecDeque, time::Duration};

use super::{Error, PodHandle};
use crate::{
    logs::{Entry, Follow, last_start, merge_in_order, read},
    pod::{ContainerName, PodExt, Uid},
    state::{self, PodDir, log_file},
};

/// Tells which of a pod's logs.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Belongs to one container; of all else.
    pub container: Option<String>,
    /// Go on as they grow, over restarts, until the pod ends.
    pub follow: bool,
    /// Of the start before the last one; not together with `follow`.
    pub previous: bool,
}

/// Entries in the order in which they were written. When following, `next` waits for one.
#[derive(Debug)]
pub struct Logs {
    dir: PodDir,
    uid: Uid,
    container: Option<String>,
    ready: VecDeque<Entry>,
    follow: Option<Follow>,
}

impl PodHandle {
    /// Returns what the containers wrote. A container that was never started has written nothing.
    ///
    /// # Errors
    /// [`Error::NoContainer`], [`Error::State`].
    pub fn logs(&self, options: &LogOptions) -> Result<Logs, Error> {
        let dir = self.dir.clone();
        let pod = dir.read()?;
        let uid = Uid::of_pod(&pod).map_err(state::Error::from)?;
        let logs = self.home.logs(&dir, &uid);
        let mut containers: Vec<String> = pod.container_names().map(str::to_owned).collect();
        let container = options.container.clone();
        if let Some(wanted) = &container {
            containers.retain(|c| c == wanted);
            if containers.is_empty() {
                return Err(Error::NoContainer { pod: dir.name.to_string(), container: wanted.clone() });
            }
        }
        if options.follow && !options.previous {
            let follow = Some(Follow::new(&self.home, &dir)?);
            return Ok(Logs { dir, uid, container, ready: VecDeque::new(), follow });
        }
        let mut entries = Vec::new();
        for container in containers {
            let own = ContainerName::parse(&container).map_err(state::Error::from)?;
            let last = last_start(&logs, &own);
            let start = if options.previous { last.and_then(|n| n.checked_sub(1)) } else { last };
            if let Some(start) = start {
                entries.extend(read(&container, &log_file(&logs, &own, start))?);
            }
        }
        Ok(Logs { dir, uid, container, ready: merge_in_order(entries).into(), follow: None })
    }
}

impl Logs {
    /// Returns what comes within that time, in the order in which it was written; nothing, when nothing
    /// does; `None` at the end.
    pub(crate) fn next_within(&mut self, wait: Duration) -> Option<Vec<Entry>> {
        if !self.ready.is_empty() {
            return Some(self.ready.drain(..).collect());
        }
        let follow = self.follow.as_mut()?;
        // Asked before the log is read: what was written before the end is then given.
        let alive = self.dir.is_alive_as(&self.uid);
        let wanted = |e: &Entry| self.container.as_ref().is_none_or(|c| *c == e.container);
        let mut entries: Vec<Entry> = follow.drain().into_iter().filter(wanted).collect();
        if entries.is_empty() && alive && !follow.is_behind() {
            follow.wait(wait);
            entries = follow.drain().into_iter().filter(wanted).collect();
        }
        if !alive && !follow.is_behind() {
            self.follow = None;
        }
        Some(entries)
    }
}

impl Iterator for Logs {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(entry);
            }
            let follow = self.follow.as_mut()?;
            // Asked before the log is read: what was written before the end is then given.
            let alive = self.dir.is_alive_as(&self.uid);
            let wanted = |e: &Entry| self.container.as_ref().is_none_or(|c| *c == e.container);
            self.ready.extend(follow.drain().into_iter().filter(wanted));
            if !alive && !follow.is_behind() {
                self.follow = None;
            } else if self.ready.is_empty() {
                // A killed supervisor changes no file: its lock is looked at now and then.
                follow.wait(Duration::from_millis(500));
            }
        }
    }
}
