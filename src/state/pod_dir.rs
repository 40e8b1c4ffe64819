//! One pod's record: a directory that a reboot leaves where it is.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Event, Pod};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise, posix_fallocate};
use podctl_images::{is_misplaced, open_ordinary, read_ordinary};

use super::{
    Error,
    file_names::{make_anew, move_into_place, open_or_make, remove_tree},
};
use crate::pod::{Namespace, ObjectName};

/// Tells where one pod's state lies.
#[derive(Clone, Debug)]
pub struct PodDir {
    /// The record, `…/records/NAMESPACE_NAME` in the data directory.
    pub path: PathBuf,
    /// Holds what a reboot ends, `…/pods/NAMESPACE_NAME` in the runtime directory; there while the pod lives.
    pub runtime: PathBuf,
    /// The pod's namespace.
    pub namespace: Namespace,
    /// The pod's name.
    pub name: ObjectName,
}

/// The file that holds room for one more writing of the pod.
const RESERVE: &str = "reserve";
/// Bytes of it at least.
const LEAST_RESERVE: u64 = 16 << 10;

/// Tells whether a pod's supervisor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// There is no such pod.
    Absent,
    /// The supervisor holds the lock.
    Alive,
    /// Means that it has a directory, and nobody holds the lock: it ended, or its supervisor was killed.
    Ended,
}

impl PodDir {
    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }

    /// Tells whether what is in the control socket's place is one.
    pub fn has_socket(&self) -> bool {
        fs::symlink_metadata(self.control_socket()).is_ok_and(|found| found.file_type().is_socket())
    }

    /// The file that the supervisor holds locked as long as it lives.
    pub fn lock_file(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// The file with the pod and its status.
    pub fn pod_file(&self) -> PathBuf {
        self.path.join("pod.json")
    }

    /// The file with the pod's events.
    pub fn events_file(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// The file with the marks of a timeline.
    pub fn trace_file(&self) -> PathBuf {
        self.path.join("trace.jsonl")
    }

    /// Makes the place of what a reboot ends.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn make_runtime(&self) -> Result<(), Error> {
        self.remove_runtime()?;
        fs::create_dir_all(&self.runtime).map_err(Error::io("make directory", &self.runtime))
    }

    /// Removes what a reboot would end; the caller holds the pod's lock.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_runtime(&self) -> Result<(), Error> {
        let older = open_ordinary(&self.runtime.join("lock"), File::options().read(true));
        if older.is_ok_and(|lock| lock.try_lock_shared().is_err()) {
            return Err(Error::OtherVersion { pod: self.name.to_string() });
        }
        remove_tree(&self.runtime).map_err(Error::io("remove", &self.runtime))
    }

    /// Tells whether the pod's supervisor lives.
    pub fn read_liveness(&self) -> Liveness {
        let lock = open_ordinary(&self.lock_file(), File::options().read(true)).ok();
        if lock.as_ref().is_some_and(|lock| lock.try_lock_shared().is_err()) {
            return Liveness::Alive;
        }
        // It is held no longer than that: who wants it must not take this one for a supervisor.
        let is_lock_there = lock.map(drop).is_some();
        let is_there = is_lock_there || self.path.exists() || self.runtime.exists();
        match is_there {
            true if self.lives_without_lock(is_lock_there) => Liveness::Alive,
            true => Liveness::Ended,
            false => Liveness::Absent,
        }
    }

    /// Tells whether a supervisor lives whose lock somebody has removed or replaced. One that has ended has taken its runtime
    /// directory away, and its lock is in its place, which the caller has looked at.
    pub(super) fn lives_without_lock(&self, is_lock_there: bool) -> bool {
        (self.runtime.exists() || !is_lock_there) && !self.find_lock_holders().is_empty()
    }

    /// The pod with its status.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::Io`].
    pub fn read(&self) -> Result<Pod, Error> {
        let path = self.pod_file();
        match read_ordinary(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| self.damaged(path, e)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(self.not_found())
            }
            Err(e) if is_misplaced(&e) => Err(self.damaged(path, e)),
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }

    /// The error that a file of the record is not what we write.
    pub fn damaged(&self, path: PathBuf, source: impl Into<io::Error>) -> Error {
        Error::Damaged { path, pod: self.name.to_string(), source: source.into() }
    }

    /// The error that there is no such pod.
    pub fn not_found(&self) -> Error {
        Error::NotFound { namespace: self.namespace.to_string(), name: self.name.to_string() }
    }

    /// Replaces the pod and its status.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, pod: &Pod) -> Result<(), Error> {
        let text = serde_json::to_vec(pod).expect("a Pod is always JSON");
        replace(&self.pod_file(), &text)
    }

    /// Fills a record that nobody sees yet: with the pod, what starts it again, and room for one more writing of it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn fill(&self, pod: &Pod, again: &[u8]) -> Result<(), Error> {
        let text = serde_json::to_vec(pod).expect("a Pod is always JSON");
        for (path, text) in [(self.pod_file(), text.as_slice()), (self.again_file(), again)] {
            let mut options = File::options();
            let opened = options.create_new(true).write(true).mode(0o600).open(&path);
            opened.and_then(|file| write_out(file, text)).map_err(Error::io("write", &path))?;
        }
        self.make_reserve(text.len() as u64)
    }

    /// Keeps room on the disk for one more writing of the pod: its end is to be told when there is no other.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn keep_reserve(&self) -> Result<(), Error> {
        self.make_reserve(fs::metadata(self.pod_file()).map_or(0, |meta| meta.len()))
    }

    /// Keeps room for a pod of that many bytes, and as many more.
    fn make_reserve(&self, room: u64) -> Result<(), Error> {
        let path = self.path.join(RESERVE);
        let length = (2 * room).max(LEAST_RESERVE);
        make_anew(&path)
            .and_then(|file| Ok(posix_fallocate(file, 0, length.try_into().unwrap_or(i64::MAX))?))
            .map_err(Error::io("keep room in", path))
    }

    /// Replaces the pod where the disk has no room but what is [kept](PodDir::keep_reserve) for this.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_into_reserve(&self, pod: &Pod) -> Result<(), Error> {
        let text = serde_json::to_vec(pod).expect("a Pod is always JSON");
        let (reserve, path) = (self.path.join(RESERVE), self.pod_file());
        let opened = open_ordinary(&reserve, File::options().write(true));
        // Its blocks are written in place, and those that are not needed are given back for another reserve.
        opened
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.set_len(text.len() as u64)))
            .map_err(Error::io("write", &reserve))?;
        fs::rename(&reserve, &path).map_err(Error::io("replace", &path))
    }

    /// The pod's events, oldest first; those of the same name are given once, as last written.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn events(&self) -> Result<Vec<Event>, Error> {
        let path = self.events_file();
        let text = match read_ordinary(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let mut events: Vec<Event> = Vec::new();
        // A last line without its newline is still being written; one that a full disk has cut says nothing any more.
        let lines = text.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n"));
        for event in lines.filter_map(|line| serde_json::from_slice::<Event>(line).ok()) {
            match events.iter_mut().find(|e| e.metadata.name == event.metadata.name) {
                Some(known) => *known = event,
                None => events.push(event),
            }
        }
        Ok(events)
    }

    /// Appends one event, or its newer version.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn append_event(&self, event: &Event) -> Result<(), Error> {
        let path = self.events_file();
        let mut line = serde_json::to_vec(event).expect("an Event is always JSON");
        line.push(b'\n');
        // What stands in its place has no event to lose.
        open_or_make(&path, File::options().create(true).append(true))
            .and_then(|mut file| file.write_all(&line))
            .map_err(Error::io("write", &path))
    }

    /// Writes these events in place of all that the file says.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_events(&self, events: &[Event]) -> Result<(), Error> {
        let mut text = Vec::new();
        for event in events {
            serde_json::to_writer(&mut text, event).expect("an Event is always JSON");
            text.push(b'\n');
        }
        replace(&self.events_file(), &text)
    }

    /// Returns what is needed to start the pod again: its objects, secrets among them, and options.
    pub fn again_file(&self) -> PathBuf {
        self.path.join("again.json")
    }

    /// The file that names the directories of the pod's cgroup, for the sweep after a supervisor that was killed.
    pub fn cgroups_file(&self) -> PathBuf {
        self.path.join("cgroups")
    }

    /// Keeps what is needed to start the pod again, for its owner's eyes only.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_again(&self, text: &[u8]) -> Result<(), Error> {
        replace(&self.again_file(), text)
    }

    /// Takes the pod's directory away.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self) -> Result<(), Error> {
        remove_tree(&self.path).map_err(Error::io("remove", &self.path))
    }
}

/// Writes beside the file, for its owner's eyes only, then renames: a reader never sees a half. A power cut may bring back
/// what was there before; nothing is synced, for the start of a pod would wait for it.
fn replace(path: &Path, text: &[u8]) -> Result<(), Error> {
    let beside = path.with_extension("new");
    let is_new = !path.exists();
    let written = make_anew(&beside).and_then(|mut file| match is_new {
        true => write_out(file, text),
        false => file.write_all(text),
    });
    if let Err(e) = written {
        // What was written of it takes room that there is too little of.
        let _ = fs::remove_file(&beside);
        return Err(Error::io("write", &beside)(e));
    }
    move_into_place(&beside, path).map_err(Error::io("replace", path))
}

/// Writes a new file, begins to write it out and waits for nothing: file systems order a rename after the data only where it
/// replaces a file.
fn write_out(mut file: File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    // A kernel that does not take the advice loses no more than it would.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    Ok(())
}
