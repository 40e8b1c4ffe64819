//! What an object owns: it goes when the last of the objects that it names as its owners has been deleted.
//!
//! Of many objects that are deleted one after the other most own nothing, so one look after the last of them is for all.

use std::{collections::BTreeSet, fs, path::Path};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Secret, Service},
};
use memchr::memmem;
use podctl_images::read_ordinary;
use serde::Deserialize;
use serde_json::Value;

use super::{
    super::{Engine, Error, ErrorKind, ObjectKind, sweep},
    delete::{DeleteOptions, Deletion, HELD},
};
use crate::{
    pod::{Namespace, ObjectName},
    state::Kept,
};

/// Objects that are deleted together: [`DeletionBatch::finish`] deletes what they leave without an owner.
#[must_use = "what the objects own stays until the batch is finished"]
#[derive(Debug)]
pub struct DeletionBatch<'a> {
    engine: &'a Engine,
    /// Holds the uids of what was deleted, where what it owns is to go with it.
    gone: BTreeSet<String>,
}

impl Engine {
    /// Returns something to delete several objects with, so that only one look is needed for what they own.
    pub fn begin_deletion(&self) -> DeletionBatch<'_> {
        // Once for all of them: what a killed start has left of a pod before this one does not come back when this one is gone.
        sweep::sweep_records(&self.home);
        DeletionBatch { engine: self, gone: BTreeSet::new() }
    }

    /// Returns the uid that others may name as their owner's.
    fn find_uid(&self, kind: ObjectKind, namespace: &str, name: &str) -> Option<String> {
        let (namespace, name) = (Namespace::parse(namespace).ok()?, ObjectName::parse(name).ok()?);
        let kept = (self, &namespace, &name);
        match kind {
            ObjectKind::Pod => self.home.pod(&namespace, &name).uid().map(|uid| uid.to_string()),
            ObjectKind::ConfigMap => find_kept_uid::<ConfigMap>(kept),
            ObjectKind::Secret => find_kept_uid::<Secret>(kept),
            ObjectKind::Service => find_kept_uid::<Service>(kept),
            ObjectKind::Job => find_kept_uid::<Job>(kept),
            ObjectKind::PersistentVolumeClaim => {
                self.home.volume(&namespace, &name).claim().ok()??.metadata.uid
            }
            // These are made of what others are, or own all that is in them.
            _ => None,
        }
    }

    /// Finds what has no other owners than these, and what that owns in turn, in the order in which it goes.
    fn find_dependents(&self, owners: &BTreeSet<String>) -> Vec<(ObjectKind, Value)> {
        if !self.are_named_as_owners(owners) {
            return Vec::new();
        }
        // What cannot be read now names nobody as its owner.
        let list =
            |kind| self.list_kind(kind, None).unwrap_or_default().into_iter().map(move |one| (kind, one));
        let mut rest: Vec<(ObjectKind, Value)> = HELD.into_iter().flat_map(list).collect();
        // Pods that are ending are there still.
        rest.retain(|(_, object)| uid_of(object).is_none_or(|uid| !owners.contains(uid)));
        let (mut owners, mut found) = (owners.clone(), Vec::new());
        loop {
            let (owned, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|(_, object)| is_owned_by(object, &owners));
            if owned.is_empty() {
                break;
            }
            owners.extend(owned.iter().filter_map(|(_, object)| uid_of(object).map(str::to_owned)));
            found.extend(owned);
            rest = others;
        }
        found.sort_by_key(|(kind, _)| HELD.iter().position(|held| held == kind));
        found
    }

    /// Tells whether anything names one of these as an owner. Most objects have none: so files are searched for the word
    /// before they are read as objects.
    fn are_named_as_owners(&self, uids: &BTreeSet<String>) -> bool {
        let mentions = |path: &Path| {
            read_ordinary(path).is_ok_and(|text| {
                memmem::find(&text, b"ownerReferences").is_some() && names_owner_among(&text, uids)
            })
        };
        // What cannot be read names nobody.
        let pods = self.home.pods().unwrap_or_default();
        let kept =
            self.home.object_dirs().into_iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten());
        pods.iter().any(|dir| mentions(&dir.pod_file()))
            || kept.flatten().any(|entry| mentions(&entry.path()))
    }
}

impl DeletionBatch<'_> {
    /// Deletes an object, as [`Engine::delete_object`] does, but not yet what it owns.
    ///
    /// # Errors
    /// As [`Engine::delete_object`].
    pub fn delete_object(
        &mut self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deletion, Error> {
        let owns = !options.dry_run && !options.orphans;
        // What cannot be read has no uid that others could name.
        let uid = owns.then(|| self.engine.find_uid(kind, namespace, name)).flatten();
        let deletion = self.engine.delete_alone(kind, namespace, name, options)?;
        self.gone.extend(uid);
        Ok(deletion)
    }

    /// Deletes what these objects own, and what that owns in turn.
    ///
    /// # Errors
    /// Why something of it stays.
    pub fn finish(mut self) -> Result<(), Error> {
        self.delete_dependents()
    }

    fn delete_dependents(&mut self) -> Result<(), Error> {
        let gone = std::mem::take(&mut self.gone);
        if gone.is_empty() {
            return Ok(());
        }
        for (kind, object) in self.engine.find_dependents(&gone) {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            let options = DeleteOptions::default();
            match self.engine.delete_alone(kind, text("namespace"), text("name"), &options) {
                Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for DeletionBatch<'_> {
    fn drop(&mut self) {
        // Left early, for an error that is told: what was deleted before it takes along what it owns all the same.
        let _ = self.delete_dependents();
    }
}

fn find_kept_uid<T: Kept>((engine, namespace, name): (&Engine, &Namespace, &ObjectName)) -> Option<String> {
    engine.home.object::<T>(namespace, name).ok()??.metadata().uid.clone()
}

/// Tells whether an object, as its file has it, names one of these as an owner.
fn names_owner_among(text: &[u8], uids: &BTreeSet<String>) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Metadata {
        owner_references: Vec<Owner>,
    }
    #[derive(Deserialize)]
    struct Owner {
        uid: String,
    }
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    serde_json::from_slice::<Object>(text)
        .is_ok_and(|object| object.metadata.owner_references.iter().any(|owner| uids.contains(&owner.uid)))
}

/// Tells whether an object has owners, and all of them are among these.
fn is_owned_by(object: &Value, uids: &BTreeSet<String>) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_gone = |owner: &Value| owner["uid"].as_str().is_some_and(|uid| uids.contains(uid));
    !owners.is_empty() && owners.iter().all(is_gone)
}

fn uid_of(object: &Value) -> Option<&str> {
    object["metadata"]["uid"].as_str()
}
