//! Logs that are there, read piece by piece: however long they are, only a part of each container's is held.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::reader::{Entry, open_log, parse};

/// The number of bytes of a container's log that are read at once.
const PIECE: u64 = 256 << 10;

/// The entries of several containers, ordered by time. Each container's stay in the order in which they were written, also where the
/// clock was set back meanwhile.
#[derive(Debug, Default)]
pub struct Merged(Vec<Source>);

#[derive(Debug)]
struct Source {
    container: String,
    /// What is still to be read, oldest first.
    files: VecDeque<File>,
    /// The beginning of a line whose end is still to be read.
    rest: Vec<u8>,
    ready: VecDeque<Entry>,
    /// The latest time that an entry had.
    latest: String,
}

impl Merged {
    /// Adds what is kept of one start's entries, the files that were put aside among them; an absent log has none.
    pub fn add(&mut self, container: &str, path: &Path) {
        let files = open_log(path).into_iter().map(|(_, file)| file).collect();
        self.0.push(Source {
            container: container.to_owned(),
            files,
            rest: Vec::new(),
            ready: VecDeque::new(),
            latest: String::new(),
        });
    }

    /// Returns the next entries that are wanted, and none only at the end.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn read_piece(&mut self, wanted: &dyn Fn(&Entry) -> bool) -> io::Result<Vec<Entry>> {
        self.0.iter_mut().try_for_each(|source| source.fill(wanted))?;
        self.0.retain(|source| !source.ready.is_empty());
        let mut piece = Vec::new();
        while let Some(source) = self.0.iter_mut().min_by(|a, b| a.next_time().cmp(b.next_time())) {
            piece.extend(source.take());
            // What it has next may be older than what the others have.
            if source.ready.is_empty() {
                break;
            }
        }
        Ok(piece)
    }
}

impl Source {
    /// Reads until there is an entry, or nothing more.
    fn fill(&mut self, wanted: &dyn Fn(&Entry) -> bool) -> io::Result<()> {
        while self.ready.is_empty()
            && let Some(file) = self.files.front()
        {
            let is_at_end = file.take(PIECE).read_to_end(&mut self.rest)? == 0;
            let whole = match is_at_end {
                // It may be written at this moment.
                true => self.rest.len(),
                false => self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1),
            };
            let lines = self.rest[..whole].split(|b| *b == b'\n');
            self.ready.extend(lines.filter_map(|line| parse(&self.container, line)).filter(wanted));
            self.rest.drain(..whole);
            if is_at_end {
                self.files.pop_front();
            }
        }
        Ok(())
    }

    /// Tells where the next entry stands among those of others.
    fn next_time(&self) -> &str {
        self.ready.front().map_or("", |entry| entry.time.as_str().max(&self.latest))
    }

    fn take(&mut self) -> Option<Entry> {
        let entry = self.ready.pop_front()?;
        if entry.time > self.latest {
            self.latest.clone_from(&entry.time);
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(logs: &[(&str, String)]) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let mut merged = Merged::default();
        for (container, text) in logs {
            let path = dir.path().join(container).join("0.log");
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            merged.add(container, &path);
        }
        let mut all = Vec::new();
        loop {
            let piece = merged.read_piece(&|entry| !entry.stderr).unwrap();
            if piece.is_empty() {
                return all;
            }
            let shown = |entry: Entry| (entry.container, String::from_utf8(entry.text).unwrap());
            all.extend(piece.into_iter().map(shown));
        }
    }

    #[test]
    fn entries_come_by_time_however_many_pieces_they_are_in() {
        let line = |number: usize| format!("2026-01-01T00:00:00.{number:06}Z stdout F {number}\n");
        let of = |rest: usize| (0..60_000).filter(|number| number % 3 == rest).map(line).collect::<String>();
        let all = read_all(&[("a", of(0)), ("b", of(1) + &of(2))]);
        let order: Vec<usize> = all.iter().map(|(_, text)| text.parse().unwrap()).collect();
        assert_eq!(order.len(), 60_000);
        // The second half of b goes back in time: it stays behind the first.
        assert!(order.iter().filter(|n| **n % 3 != 2).is_sorted());
        assert!(order.iter().filter(|n| **n % 3 == 2).is_sorted());
    }

    #[test]
    fn what_is_not_wanted_ends_nothing_and_a_line_without_its_newline_counts() {
        let unwanted = "T stderr F x\n".repeat(100_000);
        let all = read_all(&[("a", unwanted + "T stdout F a"), ("b", String::new())]);
        assert_eq!(all, [("a".to_owned(), "a".to_owned())]);
    }
}
