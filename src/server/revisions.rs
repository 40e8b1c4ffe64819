//! Which object changed when: the revisions that clients watch from. PURE.
//!
//! podctl's files know no revisions, so they are this server's own: it compares what is with what it last saw. The
//! first revision is the time of the server's start, so that one of an earlier server is older than all that are
//! remembered, and its client lists anew (410).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Number of changes that are remembered; a client that is further behind lists anew.
const REMEMBERED: usize = 4096;

/// Bytes of objects that are remembered with these changes at most.
const REMEMBERED_BYTES: usize = 4 << 20;

/// The namespace, empty for kinds without, and a name.
pub type Key = (String, String);

/// The object as JSON text, without its resourceVersion.
pub type Text = Arc<[u8]>;

/// The object as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The revision at which it became so.
    pub revision: u64,
    /// Holds what it is.
    pub text: Text,
}

/// Means that one object is not as it was.
#[derive(Clone, Debug)]
pub struct Change {
    /// The change's own.
    pub revision: u64,
    /// The kind, such as `v1/pods`.
    pub kind: String,
    /// Gives it as it was; nothing for a new one.
    pub before: Option<Text>,
    /// Gives it as it is; nothing for one that is gone.
    pub after: Option<Text>,
}

/// Everything that was seen, and the last changes.
#[derive(Debug)]
pub struct Revisions {
    current: u64,
    kinds: BTreeMap<String, BTreeMap<Key, Seen>>,
    changes: VecDeque<Change>,
    /// Bytes of what the objects of these changes were before.
    remembered: usize,
    /// The revision after which every change is remembered.
    oldest: u64,
}

impl Revisions {
    /// Begins at that revision, in microseconds since 1970.
    pub fn starting_at(revision: u64) -> Revisions {
        Revisions {
            current: revision,
            kinds: BTreeMap::new(),
            changes: VecDeque::new(),
            remembered: 0,
            oldest: revision,
        }
    }

    /// The newest revision.
    pub fn current_revision(&self) -> u64 {
        self.current
    }

    /// Tells whether every change after that revision is remembered.
    pub fn remembers(&self, revision: u64) -> bool {
        (self.oldest..=self.current).contains(&revision)
    }

    /// The changes of a kind after that revision.
    pub fn changes_after(&self, kind: &str, revision: u64) -> Vec<Change> {
        let at = self.changes.partition_point(|change| change.revision <= revision);
        self.changes.range(at..).filter(|change| change.kind == kind).cloned().collect()
    }

    /// Takes in all objects of a kind as they are now; those that it does not name are gone.
    pub fn note_all(&mut self, kind: &str, objects: Vec<(Key, Vec<u8>)>) {
        // What there was before the server looked is no change.
        let first = !self.kinds.contains_key(kind);
        let known = self.kinds.entry(kind.to_owned()).or_default();
        let present: BTreeMap<Key, Vec<u8>> = objects.into_iter().collect();
        let gone: Vec<Key> = known.keys().filter(|key| !present.contains_key(*key)).cloned().collect();
        for key in gone {
            self.note(kind, key, None, false);
        }
        for (key, text) in present {
            self.note(kind, key, Some(text), first);
        }
    }

    /// Takes in one object of a kind as it is now; gives it as it is seen.
    pub fn note_one(&mut self, kind: &str, key: Key, text: Option<Vec<u8>>) -> Option<Seen> {
        self.note(kind, key, text, false)
    }

    fn note(&mut self, kind: &str, key: Key, text: Option<Vec<u8>>, silent: bool) -> Option<Seen> {
        let known = self.kinds.entry(kind.to_owned()).or_default();
        let before = known.get(&key).cloned();
        if before.as_ref().map(|seen| &*seen.text) == text.as_deref() {
            return before;
        }
        if !silent {
            self.current += 1;
        }
        let seen = text.map(|text| Seen { revision: self.current, text: text.into() });
        match &seen {
            Some(seen) => drop(known.insert(key.clone(), seen.clone())),
            None => drop(known.remove(&key)),
        }
        if !silent {
            let after = seen.as_ref().map(|seen| seen.text.clone());
            let before = before.map(|seen| seen.text);
            let (revision, kind) = (self.current, kind.to_owned());
            // What it is now is either that, or kept anyway.
            let count_bytes = |change: &Change| change.before.as_ref().map_or(0, |text| text.len());
            let change = Change { revision, kind, before, after };
            self.remembered += count_bytes(&change);
            self.changes.push_back(change);
            while self.changes.len() > REMEMBERED || self.remembered > REMEMBERED_BYTES {
                let Some(forgotten) = self.changes.pop_front() else { break };
                self.remembered -= count_bytes(&forgotten);
                self.oldest = forgotten.revision;
            }
        }
        seen
    }

    /// All objects of a kind as they were last seen, in order.
    pub fn all_seen(&self, kind: &str) -> Vec<(Key, Seen)> {
        self.kinds.get(kind).into_iter().flatten().map(|(key, seen)| (key.clone(), seen.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("default".into(), name.into())
    }

    #[test]
    fn what_was_there_first_is_no_change_and_all_else_has_a_revision_of_its_own() {
        let mut revisions = Revisions::starting_at(100);
        revisions.note_all("pods", vec![(key("a"), b"1".to_vec())]);
        assert_eq!(revisions.current_revision(), 100);
        revisions.note_all("pods", vec![(key("a"), b"2".to_vec()), (key("b"), b"1".to_vec())]);
        revisions.note_all("pods", vec![(key("b"), b"1".to_vec())]);
        let changes = revisions.changes_after("pods", 100);
        let told: Vec<_> =
            changes.iter().map(|c| (c.revision, c.before.is_some(), c.after.is_some())).collect();
        assert_eq!(told, [(101, true, true), (102, false, true), (103, true, false)]);
        assert_eq!(revisions.changes_after("pods", 102).len(), 1);
        assert!(revisions.changes_after("secrets", 100).is_empty());
        assert_eq!(revisions.all_seen("pods")[0].1.revision, 102);
    }

    #[test]
    fn revisions_of_another_server_are_not_remembered_and_neither_are_very_old_ones() {
        let mut revisions = Revisions::starting_at(100);
        assert!(revisions.remembers(100) && !revisions.remembers(99) && !revisions.remembers(101));
        for number in 0..=REMEMBERED {
            revisions.note_one("pods", key("a"), Some(number.to_string().into_bytes()));
        }
        assert!(!revisions.remembers(100) && revisions.remembers(101));
        assert_eq!(revisions.changes_after("pods", 101).len(), REMEMBERED);
        revisions.note_one("pods", key("a"), Some(REMEMBERED.to_string().into_bytes()));
        assert_eq!(revisions.current_revision(), 101 + REMEMBERED as u64);
    }

    #[test]
    fn large_objects_are_remembered_for_a_shorter_time() {
        let mut revisions = Revisions::starting_at(100);
        for number in 0..10_u8 {
            revisions.note_one("pods", key("a"), Some(vec![number; 1 << 20]));
        }
        let remembered = (101..=110).filter(|revision| revisions.remembers(*revision)).count();
        assert_eq!(remembered, 5);
    }
}
