//! Reading containers' logs: CRI log files, as they are and as they grow.
//!
//! Promises: entries of one container come in order and once; a line is given when it is whole.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use podctl_images::open_ordinary;

use super::last_lines::{find_end_of_lines, read_last_entries};
use crate::pod::{ContainerName, Uid};
use crate::state::{Error, Home, PodDir};

/// The line, or part of a long one, of a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Tells which container.
    pub container: String,
    /// The time when it was written, RFC 3339 with nanoseconds.
    pub time: String,
    /// Standard error rather than standard output.
    pub stderr: bool,
    /// More of the same line follows.
    pub partial: bool,
    /// Holds the line without the newline.
    pub text: Vec<u8>,
}

/// Reads one line of a log file; `None` for what is not in the format.
pub fn parse(container: &str, line: &[u8]) -> Option<Entry> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = String::from_utf8(parts.next()?.to_vec()).ok()?;
    let stderr = parts.next()? == b"stderr";
    let partial = parts.next()? == b"P";
    Some(Entry { container: container.into(), time, stderr, partial, text: parts.next()?.to_vec() })
}

/// Returns of what is kept of one start's entries, and is wanted, at least the last lines.
///
/// # Errors
/// [`Error::Io`].
pub fn read_last(
    container: &str,
    path: &Path,
    lines: usize,
    wanted: &dyn Fn(&Entry) -> bool,
) -> Result<Vec<Entry>, Error> {
    let files = open_log(path);
    let lengths: io::Result<Vec<_>> =
        files.iter().map(|(_, file)| Ok((file, file.metadata()?.len()))).collect();
    lengths
        .and_then(|files| read_last_entries(container, &files, lines, wanted))
        .map_err(Error::io("read", path))
}

/// Orders the entries of several containers by time. Each container's stay in the order in which they were written, also
/// where the clock was set back meanwhile.
pub fn merge_in_order(entries: Vec<Entry>) -> Vec<Entry> {
    if entries.is_sorted_by(|a, b| a.time <= b.time) {
        return entries;
    }
    let mut latest: HashMap<String, String> = HashMap::new();
    let key = |entry: Entry| {
        let latest = latest.entry(entry.container.clone()).or_default();
        if entry.time > *latest {
            latest.clone_from(&entry.time);
        }
        (latest.clone(), entry)
    };
    let mut keyed: Vec<(String, Entry)> = entries.into_iter().map(key).collect();
    keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
    keyed.into_iter().map(|(_, entry)| entry).collect()
}

/// The number of the container's last start, if it was ever started.
pub(crate) fn last_start(logs: &Path, container: &ContainerName) -> Option<u32> {
    let files = listed(&logs.join(container.as_str()));
    files.iter().filter_map(|path| path.file_stem()?.to_str()?.parse().ok()).max()
}

/// The files that were put aside of a log, oldest first: `0.log.TIME` beside `0.log`.
pub(crate) fn rotated_files(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let of_it = |p: &PathBuf| {
        let own = p.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(name));
        own.is_some_and(|rest| rest.starts_with('.'))
    };
    let mut all: Vec<PathBuf> = path.parent().map(listed).unwrap_or_default();
    all.retain(of_it);
    all.sort();
    all
}

/// Opens the files of one start's log, oldest first: those that were put aside, and the present one, if there is any. Gives each file's
/// inode as well.
pub(super) fn open_log(path: &Path) -> Vec<(u64, File)> {
    open_stable(|| rotated_files(path).into_iter().chain([path.to_owned()]).collect())
}

/// Opens files whose names a rotation may change meanwhile: what was opened is what one listing named,
/// each once and in order. Gives each file's inode as well.
fn open_stable(list: impl Fn() -> Vec<PathBuf>) -> Vec<(u64, File)> {
    loop {
        let names = list();
        let opened: Vec<(u64, File)> = names
            .iter()
            .filter_map(|name| open_ordinary(name, File::options().read(true)).ok())
            .filter_map(|file| Some((file.metadata().ok()?.ino(), file)))
            .collect();
        if list() == names {
            return opened;
        }
    }
}

/// Wakes when something about a pod changes: its status, its events, its logs.
#[derive(Debug)]
pub struct Watch(Inotify);

impl Watch {
    /// Watches the pod's directory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn new(dir: &PodDir) -> Result<Watch, Error> {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|e| Error::io("watch", &dir.path)(e.into()))?;
        let watch = Watch(watch);
        watch.add(&dir.path);
        Ok(watch)
    }

    /// Watches all pods, also those that are made later, once [`Watch::refresh`] is called.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn of_all(home: &Home) -> Result<Watch, Error> {
        let all = home.records_path();
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|e| Error::io("watch", &all)(e.into()))?;
        let watch = Watch(watch);
        watch.add(&all);
        Ok(watch)
    }

    /// Watches the pods, kept objects and volumes that have been made since.
    pub(crate) fn refresh(&self, home: &Home) {
        for dir in home.pods().unwrap_or_default() {
            self.add(&dir.path);
        }
        home.object_dirs().iter().for_each(|dir| self.add(dir));
    }

    /// A directory that does not exist (any more) has nothing to tell.
    fn add(&self, path: &Path) {
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            // A supervisor that is killed closes its lock.
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_DELETE_SELF;
        // A directory that is not there yet, or no more, is looked at again with the next change.
        let _ = self.0.add_watch(path, flags);
    }

    /// Waits for a change, at most so long; swallows all there are.
    pub fn wait(&self, timeout: Option<Duration>) {
        let timeout =
            timeout.map_or(PollTimeout::NONE, |t| PollTimeout::try_from(t).unwrap_or(PollTimeout::MAX));
        // Interrupted or not, who waits looks again.
        let _ = poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout);
        self.swallow_events();
    }

    fn swallow_events(&self) {
        while self.0.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// All containers' logs of one pod as they grow.
#[derive(Debug)]
pub struct Follow {
    watch: Option<Watch>,
    logs: PathBuf,
    /// Keyed by container and inode: a rotation changes a file's name, not what it is.
    files: HashMap<(String, u64), Growing>,
    behind: bool,
}

/// The amount of a container's log is taken at once.
const AT_ONCE: u64 = 1 << 20;

#[derive(Debug)]
struct Growing {
    file: File,
    /// The last line without its newline.
    rest: Vec<u8>,
}

impl Follow {
    /// Reads from the beginning.
    ///
    /// # Errors
    /// [`Error`] when the pod is unknown or cannot be watched.
    pub fn new(home: &Home, dir: &PodDir) -> Result<Follow, Error> {
        let pod = dir.read()?;
        let watch = Watch::new(dir)?;
        let mut follow = Follow::follow_unwatched(home, dir, &Uid::of_pod(&pod)?);
        // Made here when the pod has logged nothing yet, so that it can be watched.
        fs::create_dir_all(&follow.logs).map_err(Error::io("make directory", &follow.logs))?;
        watch.add(&follow.logs);
        follow.watch = Some(watch);
        Ok(follow)
    }

    /// Readable when [`Follow::drain`] may have more, if that is watched.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(|watch| watch.0.as_fd())
    }

    /// Reads from the beginning, for somebody who learns otherwise when there is more: to give up a watch costs a
    /// process more than ten milliseconds, which the kernel spends waiting for all processors.
    pub fn follow_unwatched(home: &Home, dir: &PodDir, uid: &Uid) -> Follow {
        let logs = home.logs(dir, uid);
        Follow { watch: None, logs, files: HashMap::new(), behind: false }
    }

    /// The last [`Follow::drain`] left something.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Returns what has come since the last call, at most some megabytes of it.
    pub fn drain(&mut self) -> Vec<Entry> {
        if let Some(watch) = &self.watch {
            watch.swallow_events();
        }
        let mut entries = Vec::new();
        self.behind = false;
        for container in listed(&self.logs) {
            if let Some(watch) = &self.watch {
                watch.add(&container);
            }
            let name = container.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            let mut left = AT_ONCE;
            let files = open_stable(|| in_order(&container));
            let present: Vec<u64> = files.iter().map(|(inode, _)| *inode).collect();
            // One that was removed meanwhile is older than all there are.
            for (_, gone) in self.files.extract_if(|(of, inode), _| *of == name && !present.contains(inode)) {
                let mut rest = gone.rest;
                // Of a file that cannot be read any more, what was read counts.
                let _ = { &gone.file }.read_to_end(&mut rest);
                entries.extend(rest.split(|b| *b == b'\n').filter_map(|l| parse(&name, l)));
            }
            for (inode, file) in files {
                let fresh = || Growing { file, rest: Vec::new() };
                let growing = self.files.entry((name.clone(), inode)).or_insert_with(fresh);
                left -= { &growing.file }.take(left).read_to_end(&mut growing.rest).unwrap_or(0) as u64;
                let whole = growing.rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
                let lines: Vec<u8> = growing.rest.drain(..whole).collect();
                entries.extend(lines.split(|b| *b == b'\n').filter_map(|l| parse(&name, l)));
                if left == 0 {
                    // What is newer has to wait for its turn.
                    self.behind = true;
                    break;
                }
            }
        }
        merge_in_order(entries)
    }

    /// Passes over what earlier starts of each container wrote. Of the last one's it returns, where `lines` says how many, at
    /// least those last lines that are wanted; all else, and what comes later, is given by [`Follow::drain`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn skip_to_last_start(
        &mut self,
        lines: Option<usize>,
        wanted: &dyn Fn(&Entry) -> bool,
    ) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for container in listed(&self.logs) {
            if let Some(watch) = &self.watch {
                watch.add(&container);
            }
            let name = container.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            let last = listed(&container).iter().map(|path| start_number(path)).max();
            let open = |earlier: bool| {
                let is_meant = |path: &PathBuf| (Some(start_number(path)) < last) == earlier;
                let files = open_stable(|| in_order(&container).into_iter().filter(is_meant).collect());
                let with_end = |(inode, file): (u64, File)| {
                    let end = find_end_of_lines(&file, file.metadata()?.len())?;
                    Ok((inode, file, end))
                };
                files
                    .into_iter()
                    .map(with_end)
                    .collect::<io::Result<Vec<_>>>()
                    .map_err(Error::io("read", &container))
            };
            let mut passed = open(true)?;
            if let Some(lines) = lines {
                let files = open(false)?;
                let places: Vec<_> = files.iter().map(|(_, file, end)| (file, *end)).collect();
                let last = read_last_entries(&name, &places, lines, wanted);
                entries.extend(last.map_err(Error::io("read", &container))?);
                passed.extend(files);
            }
            for (inode, mut file, end) in passed {
                file.seek(SeekFrom::Start(end)).map_err(Error::io("read", &container))?;
                self.files.insert((name.clone(), inode), Growing { file, rest: Vec::new() });
            }
        }
        Ok(entries)
    }

    /// Waits until there may be more, at most so long.
    pub fn wait(&self, timeout: Duration) {
        if let (false, Some(watch)) = (self.behind, &self.watch) {
            watch.wait(Some(timeout));
        }
    }
}

/// Returns a container's log files in the order in which they were written: by start, then what was put aside,
/// then the present one.
fn in_order(container: &Path) -> Vec<PathBuf> {
    let key = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let rest = name.split_once(".log").map_or("", |(_, rest)| rest);
        (start_number(path), rest.is_empty(), rest.to_owned())
    };
    let mut files = listed(container);
    files.sort_by_key(key);
    files
}

/// Returns the number of the start whose log, or a part of it, this is.
fn start_number(path: &Path) -> u32 {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    name.split_once(".log").and_then(|(start, _)| start.parse().ok()).unwrap_or(0)
}

fn listed(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

/// `name | `, as wide as the longest, in a colour that stays the container's.
#[derive(Clone, Debug)]
pub struct Prefixes {
    names: Vec<(String, String)>,
    width: usize,
    with_pod: bool,
}

impl Prefixes {
    /// Makes one for the containers of these pods, in file order.
    pub fn of(pods: impl Iterator<Item = Pod>, with_pod: bool) -> Prefixes {
        let mut names = Vec::new();
        for pod in pods {
            let name = pod.metadata.name.unwrap_or_default();
            let spec = pod.spec.unwrap_or_default();
            for container in spec.init_containers.unwrap_or_default().into_iter().chain(spec.containers) {
                names.push((name.clone(), container.name));
            }
        }
        let label =
            |(pod, container): &(String, String)| container.len() + if with_pod { pod.len() + 1 } else { 0 };
        let width = names.iter().map(label).max().unwrap_or(0);
        Prefixes { names, width, with_pod }
    }

    /// The prefix of one entry; colours vanish where the output is no terminal.
    pub fn of_entry(&self, pod: &str, entry: &Entry) -> String {
        use anstyle::AnsiColor::{Blue, Cyan, Green, Magenta, Yellow};
        let colours = [Cyan, Yellow, Green, Magenta, Blue];
        let at = self.names.iter().position(|(p, c)| p == pod && *c == entry.container).unwrap_or(0);
        let style = anstyle::Style::new().fg_color(Some(colours[at % colours.len()].into()));
        let label =
            if self.with_pod { format!("{pod}/{}", entry.container) } else { entry.container.clone() };
        format!("{style}{label:width$} |{style:#} ", width = self.width)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_line_in_the_cri_format_is_read_and_any_other_is_not() {
        let entry = parse("app", b"2026-01-01T00:00:00.000000001Z stderr P two words").unwrap();
        assert!(entry.stderr && entry.partial);
        assert_eq!(entry.text, b"two words");
        assert_eq!(parse("app", b"2026-01-01T00:00:00Z stdout F ").unwrap().text, b"");
        assert!(parse("app", b"half").is_none());
    }

    #[test]
    fn lines_of_one_container_stay_in_order_when_the_clock_is_set_back() {
        let entry =
            |container: &str, time: &str| parse(container, format!("{time} stdout F x").as_bytes()).unwrap();
        let entries =
            vec![entry("a", "12:00"), entry("a", "11:00"), entry("a", "13:00"), entry("b", "12:30")];
        let order: Vec<_> =
            merge_in_order(entries).into_iter().map(|e| format!("{} {}", e.container, e.time)).collect();
        assert_eq!(order, ["a 12:00", "a 11:00", "b 12:30", "a 13:00"]);
    }

    #[test]
    fn who_follows_is_given_nothing_before_the_last_lines_or_the_last_start() {
        let logs = tempfile::tempdir().unwrap();
        let container = logs.path().join("c");
        fs::create_dir(&container).unwrap();
        fs::write(container.join("0.log"), "T stdout F of the former start\n").unwrap();
        let mut file = File::create(container.join("1.log")).unwrap();
        let lines: String = (0..60_000).map(|number| format!("T stdout F {number:080}\n")).collect();
        assert!(lines.len() as u64 > AT_ONCE, "more than is taken at once");
        file.write_all(lines.as_bytes()).unwrap();
        file.write_all(b"T stdout F half").unwrap();
        let logs = logs.path().to_owned();
        let begin = || Follow { watch: None, logs: logs.clone(), files: HashMap::new(), behind: false };
        let texts = |entries: Vec<Entry>| -> Vec<String> {
            entries.into_iter().map(|e| String::from_utf8(e.text).unwrap()).collect()
        };
        let mut follow = begin();
        assert!(follow.skip_to_last_start(None, &|_| true).unwrap().is_empty());
        assert_eq!(texts(follow.drain())[0], format!("{:080}", 0));
        let mut follow = begin();
        let last = follow.skip_to_last_start(Some(2), &|_| true).unwrap();
        assert_eq!(texts(last), [59_998, 59_999].map(|number| format!("{number:080}")));
        assert!(follow.drain().is_empty(), "the line that is being written is not whole");
        file.write_all(b" a line\n").unwrap();
        assert_eq!(texts(follow.drain()), ["half a line"]);
    }
}
