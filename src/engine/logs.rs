//! A pod's logs as an iterator.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::BorrowedFd,
    time::Duration,
};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};

use super::{
    Error, PodHandle,
    control::{Quiet, check_supervisor},
};
use crate::{
    logs::{Entry, Follow, Merged, last_start, merge_in_order, read_last},
    pod::{ContainerName, PodExt, Uid},
    state::{self, PodDir, log_file},
};

/// The number of times a log is looked at whose supervisor may have been killed: that changes no file.
const LOOK: Duration = Duration::from_millis(500);

/// Tells which of a pod's logs.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Belongs to one container; of all else.
    pub container: Option<String>,
    /// Begin with each container's last start, as without it, and go on as the logs grow, over restarts, until the pod ends.
    pub follow: bool,
    /// Shows the log of the start before the last one, which does not grow: `follow` has no meaning then.
    pub previous: bool,
    /// Nothing that was written before.
    pub since: Option<Timestamp>,
    /// Shows of what is there already only so many last lines of each container.
    pub tail: Option<usize>,
    /// Shows of what is there already only so many first bytes of each container, newlines among them.
    pub limit_bytes: Option<usize>,
    /// Belongs to standard error only, or of standard output only.
    pub stderr: Option<bool>,
}

impl LogOptions {
    /// Tells whether the entry is one that is wanted.
    fn includes(&self, entry: &Entry) -> bool {
        let is_recent = |since: &Timestamp| entry.time.parse::<Timestamp>().is_ok_and(|time| time >= *since);
        self.container.as_ref().is_none_or(|c| *c == entry.container)
            && self.stderr.is_none_or(|stderr| stderr == entry.stderr)
            && self.since.as_ref().is_none_or(is_recent)
    }
}

impl Entry {
    /// Writes the entry as `podctl logs` does: with its time in front or not, and with a newline at a line's end.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_line(&self, timestamps: bool, out: &mut impl io::Write) -> io::Result<()> {
        if timestamps {
            write!(out, "{} ", self.time)?;
        }
        out.write_all(&self.text)?;
        if self.partial { Ok(()) } else { out.write_all(b"\n") }
    }
}

/// Entries in the order in which they were written. When following, `next` waits for one; it ends with the pod, and where the
/// pod's supervisor hangs, which [`Logs::take_failure`] tells.
#[derive(Debug)]
pub struct Logs {
    dir: PodDir,
    uid: Uid,
    options: LogOptions,
    ready: VecDeque<Entry>,
    /// What is there already and does not grow.
    present: Option<Merged>,
    /// The bytes of it that each container may have yet, where there is a limit.
    left: HashMap<String, usize>,
    follow: Option<Follow>,
    quiet: Quiet,
    failure: Option<Error>,
}

impl PodHandle {
    /// Returns what the containers wrote. A container that was never started has written nothing, which
    /// [`PodHandle::check_started`] tells.
    ///
    /// # Errors
    /// [`Error::NoContainer`], [`Error::State`].
    pub fn logs(&self, options: &LogOptions) -> Result<Logs, Error> {
        let dir = self.dir.clone();
        let pod = dir.read()?;
        let uid = Uid::of_pod(&pod).map_err(state::Error::from)?;
        let logs = self.home.logs(&dir, &uid);
        let containers = self.wanted_containers(&pod, options)?;
        let wanted = |entry: &Entry| options.includes(entry);
        let (mut follow, mut present) = (None, None);
        let mut entries = Vec::new();
        if options.follow && !options.previous && dir.is_alive_as(&uid) {
            let mut new = Follow::new(&self.home, &dir)?;
            entries = new.skip_to_last_start(options.tail, &wanted)?;
            if options.tail.is_none() {
                entries = new.drain();
            }
            follow = Some(new);
        } else {
            for container in &containers {
                let own = ContainerName::parse(container).map_err(state::Error::from)?;
                let last = last_start(&logs, &own);
                let start = if options.previous { last.and_then(|n| n.checked_sub(1)) } else { last };
                let Some(start) = start else { continue };
                let file = log_file(&logs, &own, start);
                match options.tail {
                    Some(lines) => entries.extend(read_last(container, &file, lines, &wanted)?),
                    None => present.get_or_insert_with(Merged::default).add(container, &file),
                }
            }
        }
        entries.retain(|entry| options.includes(entry));
        if options.tail.is_some() || options.limit_bytes.is_some() {
            let mut cut = Vec::new();
            for container in &containers {
                let mut own: Vec<Entry> = entries.extract_if(.., |e| e.container == *container).collect();
                let last = last_lines(&own, options.tail.unwrap_or(usize::MAX)).len();
                let last = own.split_off(own.len() - last);
                cut.extend(cut_to_bytes(last, &mut options.limit_bytes.unwrap_or(usize::MAX)));
            }
            entries = cut;
        }
        Ok(Logs {
            dir,
            uid,
            options: options.clone(),
            ready: merge_in_order(entries).into(),
            present,
            left: HashMap::new(),
            follow,
            quiet: Quiet::begin(),
            failure: None,
        })
    }

    /// Checks that a container has been started, or has been twice when its previous log is wanted: else it has no log.
    ///
    /// # Errors
    /// [`Error::NotStarted`], [`Error::NoPrevious`], [`Error::State`].
    pub fn check_started(&self, container: &str, previous: bool) -> Result<(), Error> {
        let pod = self.dir.read()?;
        let own = ContainerName::parse(container).map_err(state::Error::from)?;
        let logs = self.home.logs(&self.dir, &Uid::of_pod(&pod).map_err(state::Error::from)?);
        let (name, container) = (self.name().to_owned(), container.to_owned());
        match (last_start(&logs, &own), previous) {
            (Some(1..), true) | (Some(_), false) => Ok(()),
            (_, true) => Err(Error::NoPrevious { pod: name, container }),
            (None, false) => {
                let status = pod.status.unwrap_or_default();
                let lists = [
                    status.init_container_statuses,
                    status.container_statuses,
                    status.ephemeral_container_statuses,
                ];
                let found = lists.into_iter().flatten().flatten().find(|s| s.name == container);
                let reason = found.and_then(|s| s.state?.waiting?.reason);
                let reason = reason.unwrap_or_else(|| "ContainerCreating".into());
                Err(Error::NotStarted { pod: name, container, reason })
            }
        }
    }

    fn wanted_containers(&self, pod: &Pod, options: &LogOptions) -> Result<Vec<String>, Error> {
        let mut containers: Vec<String> = pod.container_names().map(str::to_owned).collect();
        if let Some(wanted) = &options.container {
            containers.retain(|c| c == wanted);
            if containers.is_empty() {
                return Err(Error::NoContainer { pod: self.name().to_owned(), container: wanted.clone() });
            }
        }
        Ok(containers)
    }
}

/// Returns the last lines, of which a long one may be several entries.
fn last_lines(entries: &[Entry], lines: usize) -> &[Entry] {
    let mut left = lines;
    let begins = |at: usize| at == 0 || !entries[at - 1].partial;
    for at in (0..entries.len()).rev() {
        if left == 0 {
            return &entries[at + 1..];
        }
        left -= usize::from(begins(at));
    }
    entries
}

/// Returns the first bytes, newlines among them, and counts them off what is left.
fn cut_to_bytes(mut entries: Vec<Entry>, left: &mut usize) -> Vec<Entry> {
    entries.retain_mut(|entry| {
        let was_left = *left;
        let whole = entry.text.len() + usize::from(!entry.partial);
        if whole > was_left {
            entry.text.truncate(was_left);
            entry.partial = true;
        }
        *left = was_left.saturating_sub(whole);
        was_left > 0
    });
    entries
}

impl Logs {
    /// Returns what comes within that time, in the order in which it was written; nothing, when nothing
    /// does; `None` at the end. With no time at all it never waits. Where nothing has come for 15 seconds the pod's supervisor
    /// is asked whether it answers, which takes as long as 7 more; one that does not is the end, too.
    pub fn next_within(&mut self, wait: Duration) -> Option<Vec<Entry>> {
        if !self.ready.is_empty() {
            return Some(self.ready.drain(..).collect());
        }
        if self.present.is_some() {
            return self.read_present();
        }
        let follow = self.follow.as_mut()?;
        // Asked before the log is read: what was written before the end is then given.
        let alive = self.dir.is_alive_as(&self.uid);
        let wanted = |e: &Entry| self.options.includes(e);
        let mut entries: Vec<Entry> = follow.drain().into_iter().filter(wanted).collect();
        if entries.is_empty() && alive && !follow.is_behind() && !wait.is_zero() {
            follow.wait(wait);
            entries = follow.drain().into_iter().filter(wanted).collect();
        }
        while entries.is_empty() && follow.is_behind() {
            entries = follow.drain().into_iter().filter(wanted).collect();
        }
        if !alive && !follow.is_behind() {
            self.follow = None;
        }
        if !entries.is_empty() {
            self.quiet = Quiet::begin();
        } else if alive && !wait.is_zero() {
            self.failure = self.quiet.check(&self.dir).err();
        }
        if self.failure.is_some() {
            self.follow = None;
            return None;
        }
        Some(entries)
    }

    /// Returns the next piece of what does not grow; none at its end, or where it cannot be read any more.
    fn read_present(&mut self) -> Option<Vec<Entry>> {
        while let Some(present) = &mut self.present {
            let piece = present.read_piece(&|entry| self.options.includes(entry));
            let piece = piece.map_err(state::Error::io("read a log of", &self.dir.path));
            let mut piece = piece.map_err(|e| self.failure = Some(e.into())).unwrap_or_default();
            if piece.is_empty() {
                self.present = None;
            }
            if let Some(limit) = self.options.limit_bytes {
                for entry in std::mem::take(&mut piece) {
                    let left = self.left.entry(entry.container.clone()).or_insert(limit);
                    piece.extend(cut_to_bytes(vec![entry], left));
                }
            }
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    }

    /// Takes the reason why the entries ended early: [`Error::Unreachable`] where the pod has not ended, [`Error::State`] where what
    /// is there cannot be read.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Checks that who writes the logs answers, when nothing has come for long.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub(crate) fn check_supervisor(&self) -> Result<(), Error> {
        check_supervisor(&self.dir)
    }

    /// Readable when there may be more; none when the logs do not grow. The end of a pod whose supervisor was killed
    /// does not show there: look every half second, too.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.follow.as_ref()?.fd()
    }
}

impl Iterator for Logs {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(entry);
            }
            let entries = self.next_within(LOOK)?;
            self.ready.extend(entries);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(texts: &[(&str, bool)]) -> Vec<Entry> {
        let entry = |(text, partial): &(&str, bool)| Entry {
            container: "c".into(),
            time: String::new(),
            stderr: false,
            partial: *partial,
            text: text.as_bytes().to_vec(),
        };
        texts.iter().map(entry).collect()
    }

    #[test]
    fn a_long_line_counts_once_and_bytes_are_cut_within_one() {
        let all = entries(&[("a", false), ("b", true), ("b", false), ("c", false)]);
        assert_eq!(last_lines(&all, 2), &all[1..]);
        assert_eq!(last_lines(&all, 0).len(), 0);
        assert_eq!(last_lines(&all, 9).len(), 4);
        assert_eq!(cut_to_bytes(all, &mut 3), entries(&[("a", false), ("b", true)]));
        let long = entries(&[("abc", false), ("d", false)]);
        assert_eq!(cut_to_bytes(long, &mut 2), entries(&[("ab", true)]));
    }

    #[test]
    fn an_entry_is_written_as_a_line() {
        let mut out = Vec::new();
        let mut entry = entries(&[("a", false)]).remove(0);
        entry.time = "2026-01-01T00:00:00Z".into();
        entry.write_line(true, &mut out).unwrap();
        entry.partial = true;
        entry.write_line(false, &mut out).unwrap();
        assert_eq!(out, b"2026-01-01T00:00:00Z a\na");
    }
}
