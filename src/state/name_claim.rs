//! Who has a pod's name. A record is moved, replaced or removed only by the holder of its lock, who has seen that the locked
//! record is the one in its place.
//!
//! A new record is made whole and locked beside the others and then renamed into its place, which the kernel refuses where
//! another one is: of any number that want a name at once, one has it. An ended record is put aside, and comes back when the
//! new pod does not start. What somebody who was killed has left beside the places is nobody's: its lock is free, and
//! [`Home::left_records`] gives it to be swept, or brought back where its place is free.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, TryLockError},
    io::{ErrorKind, Write},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use podctl_images::{is_misplaced, open_ordinary, read_ordinary};

use super::{Error, Home, Liveness, PodDir, file_names::open_or_make};
use crate::pod::{Namespace, ObjectName, Uid};

/// Tells how often, and after which time, a lock is tried for that somebody holds: who only asks whether
/// the pod lives holds it for a moment.
const TRIES: u32 = 25;
const PAUSE: Duration = Duration::from_millis(2);
/// The time for which somebody may share it who keeps the record of an ended pod in its place.
const SHARING: Duration = Duration::from_secs(10);

/// The time for which a record that is being made may be without its lock.
const YOUNG: Duration = Duration::from_secs(5);

/// Beside the places of records: one that is to take its place, one that has made room for it, and one that is forgotten.
const NEW: &str = ".new-";
const BEFORE: &str = ".before-";
const ASIDE: &str = ".aside-";

/// The record that is not in its place, and its lock.
#[derive(Debug)]
pub struct Unplaced {
    /// The place where it lies, and which pod it is of.
    pub dir: PodDir,
    lock: File,
}

/// Names what came of the wish for a name.
#[derive(Debug)]
pub enum Placed {
    /// The name is had; the ended record that had it before lies aside.
    Here { lock: OwnedFd, before: Option<Unplaced> },
    /// Means that a pod that lives, or is being started, has it.
    Held,
}

impl PodDir {
    /// Makes a record beside the others, locked; the caller fills it and then [places](Unplaced::place) it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn prepare(&self, uid: &str) -> Result<Unplaced, Error> {
        let path = self.path.with_file_name(format!("{NEW}{uid}"));
        let dir = PodDir { path, ..self.clone() };
        fs::create_dir_all(&dir.path).map_err(Error::io("make directory", &dir.path))?;
        let path = dir.lock_file();
        let made = File::options().create_new(true).append(true).open(&path).and_then(|mut lock| {
            lock.try_lock()?;
            // What a damaged record does not tell any more.
            let words = format!("{uid} {} {} {}", self.namespace, self.name, boot_id());
            lock.write_all(words.as_bytes()).map(|()| lock)
        });
        match made {
            Ok(lock) => Ok(Unplaced { dir, lock }),
            Err(e) => {
                // What stays has no name, and the next command sweeps it.
                let _ = dir.remove();
                Err(Error::io("make", path)(e))
            }
        }
    }

    /// Puts an ended record aside; `None` when the pod lives, there is none, or it is not the pod of that uid.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put_aside(&self, uid: Option<&Uid>) -> Result<Option<Unplaced>, Error> {
        let Some(lock) = self.hold()? else { return Ok(None) };
        if uid.is_some_and(|uid| self.uid().as_ref() != Some(uid)) {
            return Ok(None);
        }
        self.move_aside(lock).map(Some)
    }

    /// Lets an ended record make room for another; `None` when the pod lives, or there is none.
    fn make_room(&self) -> Result<Option<Unplaced>, Error> {
        self.hold()?.map(|lock| self.move_as(BEFORE, lock)).transpose()
    }

    /// Puts the record aside whose lock the caller holds.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn move_aside(&self, lock: File) -> Result<Unplaced, Error> {
        self.move_as(ASIDE, lock)
    }

    fn move_as(&self, kind: &str, lock: File) -> Result<Unplaced, Error> {
        // While nobody else can have the name.
        self.remove_runtime()?;
        let path = self.path.with_file_name(format!("{kind}{}", uuid::Uuid::new_v4()));
        fs::rename(&self.path, &path).map_err(Error::io("put aside", &self.path))?;
        Ok(Unplaced { dir: PodDir { path, ..self.clone() }, lock })
    }

    /// Returns whether the pod of this uid lives: another one may have its name by now.
    pub fn is_alive_as(&self, uid: &Uid) -> bool {
        self.read_liveness() == Liveness::Alive && self.uid().is_none_or(|own| own == *uid)
    }

    /// The uid of the pod that has the name, from its lock or else from its record.
    pub fn uid(&self) -> Option<Uid> {
        let words = read_words(&self.lock_file());
        let first = words.split_whitespace().next().and_then(|word| Uid::parse(word).ok());
        first.or_else(|| Uid::of_pod(&self.read().ok()?).ok())
    }

    /// Tells whether the machine was restarted since the pod was started.
    pub fn is_of_another_boot(&self) -> bool {
        let words = read_words(&self.lock_file());
        words.split_whitespace().nth(3).is_some_and(|boot| boot != boot_id())
    }

    /// Makes the lock of an ended record anew, in place of what stands there; whether there is one now.
    fn mend_lock(&self) -> Result<bool, Error> {
        let path = self.lock_file();
        if !self.path.is_dir() || !self.find_lock_holders().is_empty() {
            return Ok(false);
        }
        match open_or_make(&path, File::options().create(true).append(true)) {
            // The record was removed meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            made => made.map(|_| true).map_err(Error::io("make", path)),
        }
    }

    /// The lock of the record that is in its place; `None` when somebody holds it, or there is no record.
    fn hold(&self) -> Result<Option<File>, Error> {
        self.hold_as(File::try_lock)
    }

    /// Keeps an ended record where it is, until what it gives is dropped: nobody moves, replaces or removes it. `None` when the pod
    /// lives, or there is no record. It is not taken for a supervisor, which shares the lock with nobody.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn keep_in_place(&self) -> Result<Option<File>, Error> {
        self.hold_as(File::try_lock_shared)
    }

    fn hold_as(&self, lock: fn(&File) -> Result<(), TryLockError>) -> Result<Option<File>, Error> {
        let path = self.lock_file();
        let deadline = Instant::now() + SHARING;
        let mut tries = 0;
        while tries < TRIES {
            let file = match open_ordinary(&path, File::options().append(true)) {
                // Taken from a record, or never made.
                Err(e) if e.kind() == ErrorKind::NotFound || is_misplaced(&e) => match self.mend_lock()? {
                    true => {
                        tries += 1;
                        continue;
                    }
                    false => return Ok(None),
                },
                file => file.map_err(Error::io("open", &path))?,
            };
            match lock(&file) {
                Ok(()) if is_named(&file, &path) => {
                    return Ok((!self.lives_without_lock(true)).then_some(file));
                }
                // It was moved between the two: another one may be there.
                Ok(()) => tries += 1,
                Err(TryLockError::WouldBlock) => {
                    let is_shared = file.try_lock_shared().is_ok();
                    tries += u32::from(!is_shared || Instant::now() >= deadline);
                    drop(file);
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
            }
        }
        Ok(None)
    }
}

/// Reads what a lock says; nothing where it cannot be read.
fn read_words(lock: &Path) -> String {
    read_ordinary(lock).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

/// Returns what the kernel calls the time since the machine was started.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Tells whether a file is the one of that name, and not one that was removed.
pub(super) fn is_named(file: &File, path: &Path) -> bool {
    let same =
        |held: fs::Metadata, named: fs::Metadata| (held.dev(), held.ino()) == (named.dev(), named.ino());
    file.metadata().is_ok_and(|held| fs::metadata(path).is_ok_and(|named| same(held, named)))
}

impl Unplaced {
    /// Puts the record into its place, and an ended one that is there aside.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing of the record is left then.
    pub fn place(self, place: &PodDir) -> Result<Placed, Error> {
        let placed = self.try_place(place);
        if !matches!(placed, Ok(Some(_))) {
            // What stays has no name, and the next command sweeps it.
            let _ = self.dir.remove();
        }
        Ok(match placed? {
            Some(before) => Placed::Here { lock: self.lock.into(), before },
            None => Placed::Held,
        })
    }

    fn try_place(&self, place: &PodDir) -> Result<Option<Option<Unplaced>>, Error> {
        let mut before = None;
        let deadline = Instant::now() + 2 * SHARING;
        loop {
            match fs::rename(&self.dir.path, &place.path) {
                Ok(()) => return Ok(Some(before)),
                // Something that is no record.
                Err(e) if e.kind() == ErrorKind::NotADirectory => {
                    fs::remove_file(&place.path).map_err(Error::io("remove", &place.path))?;
                }
                Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                    match place.make_room()? {
                        Some(ended) => before = Some(ended),
                        None if place.read_liveness() == Liveness::Alive => return Ok(None),
                        // Whoever keeps it there may have been stopped.
                        None if Instant::now() >= deadline => return Ok(None),
                        None => {}
                    }
                }
                Err(e) => return Err(Error::io("make", &place.path)(e)),
            }
        }
    }

    /// Brings an ended record back, unless its place is taken.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn bring_back(&self, place: &PodDir) -> Result<(), Error> {
        fs::rename(&self.dir.path, &place.path).map_err(Error::io("bring back", &place.path))
    }

    /// Tells whether it had a name until it made room for a record that may not have come.
    pub fn has_made_room(&self) -> bool {
        self.dir.path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(BEFORE))
    }
}

/// Returns the names in a directory, of which there are none where it is not there.
fn list_names(dir: &Path) -> HashSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Tells whether a record that is to take its place has had the time to be locked.
fn is_old(entry: &fs::DirEntry) -> bool {
    // What it says was written under the lock.
    let has_been_locked = fs::metadata(entry.path().join("lock")).is_ok_and(|lock| lock.len() > 0);
    let age = |meta: fs::Metadata| meta.modified().ok()?.elapsed().ok();
    has_been_locked || entry.metadata().ok().and_then(age).is_none_or(|age| age > YOUNG)
}

impl Home {
    /// Directories and logs that belong to no record. None are told when a record cannot say which are its own.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list_orphans(&self) -> Result<Vec<PathBuf>, Error> {
        let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        // Listed first: what a pod makes that is started meanwhile is none.
        let (data, logs) = (list(self.data.join("pods")).collect(), list(self.data.join("logs")).collect());
        let mut left = self.find_unnamed(data, logs);
        // Twice, for a record may change its place while the places are listed.
        for _ in 0..2 {
            if left.is_empty() {
                break;
            }
            let records = list(self.records_path()).map(|path| self.record_at(path));
            for dir in records.chain(self.older_records()) {
                let Some(uid) = dir.uid() else {
                    if dir.read_liveness() == Liveness::Alive {
                        return Ok(Vec::new());
                    }
                    continue;
                };
                let own = [self.pod_data(&uid), self.logs(&dir, &uid)];
                left.retain(|path| !own.contains(path));
            }
        }
        Ok(left)
    }

    /// Those among pods' directories and logs whose names tell of no record that is there. No file is read for it: of a
    /// few hundred kept records every command would feel that.
    fn find_unnamed(&self, data: Vec<PathBuf>, logs: Vec<PathBuf>) -> Vec<PathBuf> {
        // `NAMESPACE_NAME_UID` of logs; a name that was cut to be a file's tells nothing.
        let parts = |path: &PathBuf| {
            let (place, uid) = path.file_name()?.to_str()?.rsplit_once('_')?;
            Some((place.to_owned(), uid.to_owned()))
        };
        let mut of_place: HashMap<String, usize> = HashMap::new();
        logs.iter().filter_map(parts).for_each(|(place, _)| *of_place.entry(place).or_default() += 1);
        let records = list_names(&self.records_path());
        let named =
            |path: &PathBuf| parts(path).filter(|(place, _)| records.contains(place) && of_place[place] == 1);
        let uids: HashSet<_> = logs.iter().filter_map(|path| Some(named(path)?.1)).collect();
        let known =
            |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| uids.contains(n));
        let data = data.into_iter().filter(|path| !known(path));
        data.chain(logs.into_iter().filter(|path| named(path).is_none())).collect()
    }

    /// Records of pods that an older podctl has started: it had them in the runtime directory.
    fn older_records(&self) -> impl Iterator<Item = PodDir> {
        let pods = fs::read_dir(self.runtime.join("pods")).into_iter().flatten().flatten();
        pods.filter(|entry| entry.path().join("lock").exists()).filter_map(|entry| {
            let dir = self.named_pod(entry.file_name().to_str()?)?;
            Some(PodDir { path: entry.path(), ..dir })
        })
    }

    /// Pods of which there is something in the runtime directory, and no record: somebody has removed it.
    pub fn unrecorded_pods(&self) -> Vec<PodDir> {
        let pods = list_names(&self.runtime.join("pods"));
        // Listed second, for a record comes before what the pod has there.
        let records = list_names(&self.records_path());
        let unrecorded = pods.difference(&records).filter_map(|name| self.named_pod(name));
        // An older podctl had its records there.
        let is_older = |dir: &PodDir| dir.runtime.join("lock").exists();
        unrecorded.filter(|dir| !dir.path.exists() && !is_older(dir)).collect()
    }

    /// Records beside the places that nobody holds any more.
    pub fn left_records(&self) -> Vec<Unplaced> {
        let entries = fs::read_dir(self.records_path()).into_iter().flatten().flatten();
        let left = entries.filter(|entry| {
            let name = entry.file_name();
            let begins = |with: &str| name.to_str().is_some_and(|name| name.starts_with(with));
            begins(ASIDE) || begins(BEFORE) || begins(NEW) && is_old(entry)
        });
        left.filter_map(|entry| self.left_record(entry.path())).collect()
    }

    fn left_record(&self, path: PathBuf) -> Option<Unplaced> {
        let lock = match open_ordinary(&path.join("lock"), File::options().append(true)) {
            // Not made anew: whoever is removing the record at this moment would find its directory not empty.
            Err(e) if e.kind() == ErrorKind::NotFound || is_misplaced(&e) => File::open(&path),
            lock => lock,
        };
        let lock = lock.ok()?;
        lock.try_lock().ok()?;
        Some(Unplaced { dir: self.record_at(path), lock })
    }

    /// The record that lies there, in its place or beside it, of the pod that its lock names. One that was killed at its
    /// first step has no name yet, and nothing that it would be needed for.
    fn record_at(&self, path: PathBuf) -> PodDir {
        let words = read_words(&path.join("lock"));
        let mut words = words.split_whitespace().skip(1);
        let namespace = words.next().and_then(|word| Namespace::parse(word).ok()).unwrap_or_default();
        let name = words.next().and_then(|word| ObjectName::parse(word).ok());
        let unnamed = || ObjectName::parse("unnamed").expect("a name");
        PodDir { path, ..self.pod(&namespace, &name.unwrap_or_else(unnamed)) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_record_that_is_kept_in_its_place_is_an_ended_one_and_stays_until_it_is_let_go() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::at(&scratch.path().join("run"), &scratch.path().join("data")).unwrap();
        fs::create_dir_all(home.records_path()).unwrap();
        let dir = home.pod(&Namespace::default(), &ObjectName::parse("p").unwrap());
        let Placed::Here { lock, .. } = dir.prepare("one").unwrap().place(&dir).unwrap() else { panic!() };
        assert!(dir.keep_in_place().unwrap().is_none(), "of a pod that lives");
        drop(lock);
        let kept = dir.keep_in_place().unwrap().unwrap();
        assert_eq!(dir.read_liveness(), Liveness::Ended);
        std::thread::scope(|scope| {
            let removed = scope.spawn(|| dir.put_aside(None).unwrap().map(|aside| aside.dir.path));
            for _ in 0..TRIES * 2 {
                std::thread::sleep(PAUSE);
                assert!(dir.path.exists() && !removed.is_finished());
            }
            drop(kept);
            assert!(removed.join().unwrap().unwrap().exists());
        });
    }

    #[test]
    fn a_record_can_be_removed_while_others_look_for_what_is_left() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::at(&scratch.path().join("run"), &scratch.path().join("data")).unwrap();
        fs::create_dir_all(home.records_path()).unwrap();
        let dir = home.pod(&Namespace::default(), &ObjectName::parse("p").unwrap());
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::SeqCst) {
                        home.left_records();
                    }
                });
            }
            let removed: Vec<_> = (0..500)
                .map(|round| {
                    let new = dir.prepare(&round.to_string()).unwrap();
                    let Placed::Here { lock, .. } = new.place(&dir).unwrap() else { panic!("nobody has it") };
                    dir.move_aside(lock.into()).unwrap().dir.remove()
                })
                .collect();
            is_over.store(true, Ordering::SeqCst);
            removed.into_iter().for_each(|removed| removed.unwrap());
        });
    }
}
