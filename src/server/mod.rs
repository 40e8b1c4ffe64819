//! The Kubernetes API over HTTPS, for `kubectl` and every other client of it: `podctl serve`.
//!
//! Promises: nothing is kept here that is not in the engine's files, so that the command line and any number of servers
//! may act at once; every request has a credential, a bound and a deadline; no client makes another wait.
//! A door as `cli/` is one: it uses the engine and the views, and nothing uses it.

mod body;
mod channels;
#[cfg(test)]
mod damaged_requests;
mod delete;
pub mod discovery;
mod event_forms;
mod handle;
mod http;
pub mod kinds;
pub mod kubeconfig;
mod list_options;
mod metrics;
mod object_access;
mod object_tables;
mod protobuf;
pub mod raw_request;
mod read;
mod revisions;
pub(crate) mod route;
pub mod serve;
pub(crate) mod server_credentials;
mod spdy;
mod status;
mod streams;
mod watch;
mod write;

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use self::{
    kinds::Kind,
    object_access::object_key,
    revisions::{Change, Key, Revisions, Seen},
    status::Failure,
};
use serde_json::Value;

use crate::{engine::Engine, process::give_back_memory};

/// The number of times it is looked whether watched objects have changed: only pods say so themselves.
const LOOK: Duration = Duration::from_secs(1);

/// Bytes of objects that are read at once, of which the memory is given back when they have been written down.
const MUCH: usize = 256 << 10;

/// Holds what all connections share.
pub(crate) struct Server {
    engine: Engine,
    revisions: Mutex<Revisions>,
    /// Held while objects are read and taken in: an older reading never follows a newer one.
    refreshing: Mutex<()>,
    /// The newest revision, for watches to wait for.
    changed: tokio::sync::watch::Sender<u64>,
    /// The kinds that are watched, and by how many.
    watched: Mutex<BTreeMap<String, (&'static Kind, usize)>>,
    begun: Condvar,
}

impl Server {
    fn new(engine: Engine) -> Arc<Server> {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let server = Arc::new(Server {
            engine,
            revisions: Mutex::new(Revisions::starting_at(start)),
            refreshing: Mutex::new(()),
            changed: tokio::sync::watch::Sender::new(start),
            watched: Mutex::new(BTreeMap::new()),
            begun: Condvar::new(),
        });
        let looking = server.clone();
        thread::spawn(move || looking.look_for_changes());
        server
    }

    /// Takes in all objects of a kind as they are; gives them, and the newest revision.
    fn refresh_kind(&self, kind: &Kind) -> Result<(Vec<(Key, Seen)>, u64), Failure> {
        let _one_at_a_time = lock(&self.refreshing);
        let objects = object_access::list_objects(&self.engine, kind, None)?;
        // One after the other: of many objects nothing is there twice.
        let write = |object: Value| (object_key(&object), object.to_string().into_bytes());
        let texts: Vec<_> = objects.into_iter().map(write).collect();
        let size: usize = texts.iter().map(|(_, text)| text.len()).sum();
        let mut revisions = lock(&self.revisions);
        let label = kind_label(kind);
        revisions.note_all(&label, texts);
        let (seen, current) = (revisions.all_seen(&label), revisions.current_revision());
        drop(revisions);
        if size > MUCH {
            give_back_memory();
        }
        self.tell_watches(current);
        Ok((seen, current))
    }

    /// Takes in one object as it is; the caller holds [`Server::refreshing`].
    fn note_object(&self, kind: &Kind, key: Key, text: Option<Vec<u8>>) -> Option<Seen> {
        let mut revisions = lock(&self.revisions);
        let seen = revisions.note_one(&kind_label(kind), key, text);
        let current = revisions.current_revision();
        drop(revisions);
        self.tell_watches(current);
        seen
    }

    fn tell_watches(&self, current: u64) {
        self.changed.send_if_modified(|known| std::mem::replace(known, current) != current);
    }

    fn current_revision(&self) -> u64 {
        lock(&self.revisions).current_revision()
    }

    /// Tells whether all changes after a revision are remembered; those of the kind; the newest revision.
    fn changes_after(&self, kind: &Kind, revision: u64) -> (bool, Vec<Change>, u64) {
        let revisions = lock(&self.revisions);
        let changes = revisions.changes_after(&kind_label(kind), revision);
        (revisions.remembers(revision), changes, revisions.current_revision())
    }

    /// Has a kind's changes looked for as long as the guard lives.
    fn watch_kind(self: &Arc<Server>, kind: &'static Kind) -> Watching {
        lock(&self.watched).entry(kind_label(kind)).or_insert((kind, 0)).1 += 1;
        self.begun.notify_all();
        Watching { server: self.clone(), kind }
    }

    /// Looks for changes of what is watched; sleeps while nothing is.
    fn look_for_changes(&self) {
        loop {
            let mut watched = lock(&self.watched);
            while watched.is_empty() {
                watched = self.begun.wait(watched).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            drop(watched);
            let Ok(objects) = self.engine.watch_objects() else {
                // Watches are used up for now: others give theirs back.
                thread::sleep(LOOK);
                continue;
            };
            loop {
                // What is made now is watched before it is read.
                objects.refresh();
                let kinds: Vec<&Kind> = lock(&self.watched).values().map(|(kind, _)| *kind).collect();
                if kinds.is_empty() {
                    break;
                }
                for kind in kinds {
                    // What cannot be read now is looked at again soon.
                    let _ = self.refresh_kind(kind);
                }
                objects.wait(Some(LOOK));
            }
        }
    }
}

/// Notes that a kind is watched.
struct Watching {
    server: Arc<Server>,
    kind: &'static Kind,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watched = lock(&self.server.watched);
        let label = kind_label(self.kind);
        if let Some((_, count)) = watched.get_mut(&label) {
            *count -= 1;
            if *count == 0 {
                watched.remove(&label);
            }
        }
    }
}

/// `v1/pods`
fn kind_label(kind: &Kind) -> String {
    format!("{}/{}", kind.api_version(), kind.plural)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs what may wait for files or pods, in a thread of its own.
async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Failure::internal(e.to_string())),
    }
}
