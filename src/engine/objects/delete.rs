//! Objects deleted. What a namespace holds goes with it; a pod is asked to end.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use memchr::memmem;
use serde_json::Value;

use super::{
    super::{Ending, Engine, Error, ErrorKind, ObjectKind, PodHandle, gone, refresh, request, sweep},
    parse_namespace,
    write::{Preconditions, check_preconditions},
};
use crate::{
    network::kept_services,
    pod::{Namespace, ObjectName},
    state::{self, Kept},
};

/// Tells how an object is deleted.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// A pod's; its own terminationGracePeriodSeconds without.
    pub grace_period: Option<Duration>,
    /// Holds what has to be so.
    pub preconditions: Preconditions,
    /// Check and answer, and delete nothing.
    pub dry_run: bool,
    /// Leave what the object owns, such as a Job's pods; it goes with its owner else.
    pub orphans: bool,
}

/// A deletion that was asked for.
#[derive(Debug)]
pub enum Deletion {
    /// The object is gone.
    Done,
    /// A pod ends; it is gone when [`PodDeletion::wait`] says so.
    Pod(PodDeletion),
}

/// A pod that is ending.
#[derive(Debug)]
pub struct PodDeletion {
    handle: PodHandle,
    ending: Ending,
}

impl PodDeletion {
    /// Waits until nothing is left of the pod, at most so long; says whether that came in time.
    ///
    /// # Errors
    /// [`Error::Start`] when something of it cannot be removed.
    pub fn wait(self, timeout: Option<Duration>) -> Result<bool, Error> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        gone(&self.handle.home, &self.handle.dir, self.ending, deadline)
    }
}

/// The kinds that lie in a namespace and can be deleted, in the order in which they go: a Job would start its pods anew,
/// and a claim's volume is held by pods.
const HELD: [ObjectKind; 6] = [
    ObjectKind::Job,
    ObjectKind::Pod,
    ObjectKind::PersistentVolumeClaim,
    ObjectKind::Service,
    ObjectKind::ConfigMap,
    ObjectKind::Secret,
];

impl Engine {
    /// Deletes an object, and what names it as its only owner. A claim's volume goes with its files; a pod is asked to end.
    /// A namespace goes when all that is in it has, which this waits for.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Conflict`] by the preconditions or for what is in use, [`Error::Forbidden`] for the
    /// namespace `default`, [`Error::Unsupported`].
    pub fn delete_object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deletion, Error> {
        let owns = !options.dry_run && !options.orphans && kind != ObjectKind::Namespace;
        // What cannot be read has no uid that others could name.
        let known = owns.then(|| self.get_object(kind, namespace, name).ok()).flatten();
        let deletion = self.delete_alone(kind, namespace, name, options)?;
        let uid = known.as_ref().and_then(|known| known["metadata"]["uid"].as_str());
        if let Some(uid) = uid.filter(|uid| self.is_named_as_owner(uid, kind, name)) {
            self.delete_dependents(uid)?;
        }
        Ok(deletion)
    }

    /// Tells whether anything but the object itself could name it as an owner. Most own nothing, and many may be deleted
    /// one after the other: so files are searched for the uid before they are read as objects.
    fn is_named_as_owner(&self, uid: &str, kind: ObjectKind, name: &str) -> bool {
        let mentions = |path: &Path| {
            let holds = |text: &[u8], word: &str| memmem::find(text, word.as_bytes()).is_some();
            fs::read(path).is_ok_and(|text| holds(&text, "ownerReferences") && holds(&text, uid))
        };
        // What cannot be read names nobody.
        let pods = self.home.pods().unwrap_or_default();
        let mut others = pods.iter().filter(|dir| kind != ObjectKind::Pod || *dir.name != *name);
        let kept =
            self.home.object_dirs().into_iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten());
        let claims = || self.list_kind(ObjectKind::PersistentVolumeClaim, None).unwrap_or_default();
        others.any(|dir| mentions(&dir.pod_file()))
            || kept.flatten().any(|entry| mentions(&entry.path()))
            || claims().iter().any(|claim| is_owned_by(claim, uid))
    }

    /// Deletes what names the object of that uid as its only owner, and what that owns in turn.
    fn delete_dependents(&self, uid: &str) -> Result<(), Error> {
        let mut owners = vec![uid.to_owned()];
        let mut met = BTreeSet::new();
        while let Some(owner) = owners.pop() {
            for kind in HELD {
                // What cannot be read now names nobody as its owner.
                let all = self.list_kind(kind, None).unwrap_or_default();
                for object in all.iter().filter(|object| is_owned_by(object, &owner)) {
                    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                    // Pods that are ending are there still, and may own one another.
                    if !met.insert(text("uid").to_owned()) {
                        continue;
                    }
                    let options = DeleteOptions::default();
                    match self.delete_alone(kind, text("namespace"), text("name"), &options) {
                        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {
                            return Err(e);
                        }
                        _ => owners.push(text("uid").to_owned()),
                    }
                }
            }
        }
        Ok(())
    }

    fn delete_alone(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deletion, Error> {
        let missing = || Error::NoObject { kind, name: name.to_owned() };
        let (namespace, name) = (parse_namespace(kind, namespace)?, ObjectName::parse(name)?);
        let preconditions = &options.preconditions;
        if preconditions.are_some() || options.dry_run {
            let known = self.get_object(kind, &namespace, &name)?;
            check_preconditions(kind, &name, &known, preconditions)?;
        }
        if kind == ObjectKind::Namespace {
            self.check_namespace_goes(&name)?;
        }
        if options.dry_run {
            return Ok(Deletion::Done);
        }
        let there_was_one = match kind {
            // A pod whose record is damaged can be named, if not read.
            ObjectKind::Pod => {
                let handle = self.pod(&namespace, &name).map_err(|_| missing())?;
                let ending = request(&self.home, &handle.dir, options.grace_period)?;
                return Ok(Deletion::Pod(PodDeletion { handle, ending }));
            }
            ObjectKind::ConfigMap => self.forget_kept::<ConfigMap>(&namespace, &name)?,
            ObjectKind::Secret => self.forget_kept::<Secret>(&namespace, &name)?,
            ObjectKind::PersistentVolumeClaim => self.delete_volume(&namespace, &name)?,
            ObjectKind::Service => self.delete_service(&namespace, &name)?,
            ObjectKind::Job => self.home.forget_job(&namespace, &name)?,
            ObjectKind::Namespace => {
                self.delete_namespace(&Namespace::parse(&name)?, options.grace_period)?;
                true
            }
            ObjectKind::Endpoints | ObjectKind::EndpointSlice => {
                let why = "is made from the pods that a Service selects; delete the Service instead";
                return Err(unsupported(kind, &name, why));
            }
            ObjectKind::Event => return Err(unsupported(kind, &name, "goes with the pod that it is about")),
            ObjectKind::ServiceAccount => return Err(unsupported(kind, &name, "goes with its namespace")),
            ObjectKind::Node => return Err(unsupported(kind, &name, "is this machine, and stays")),
        };
        if there_was_one { Ok(Deletion::Done) } else { Err(missing()) }
    }

    /// Forgets an object, and tells the pods that refer to it; says whether there was one.
    fn forget_kept<T: Kept>(&self, namespace: &Namespace, name: &ObjectName) -> Result<bool, Error> {
        let gone = self.home.forget::<T>(namespace, name)?;
        if gone {
            refresh::tell_pods_of_removal::<T>(&self.home, namespace, name);
        }
        Ok(gone)
    }

    fn delete_service(&self, namespace: &Namespace, name: &ObjectName) -> Result<bool, Error> {
        if self.home.forget::<Service>(namespace, name)? {
            kept_services::list_present(&self.home)?;
            return Ok(true);
        }
        let seen = self.services(Some(namespace))?;
        match seen.iter().any(|s| s.service.metadata.name.as_deref() == Some(name.as_str())) {
            true => {
                let why = "came with a pod and ends with it; delete the pod, or keep the Service with `podctl apply`";
                Err(unsupported(ObjectKind::Service, name, why))
            }
            false => Ok(false),
        }
    }

    /// Takes a local volume away with its files; says whether there was one.
    ///
    /// # Errors
    /// [`Error::InUse`] when a pod has it.
    pub(crate) fn delete_volume(&self, namespace: &Namespace, name: &ObjectName) -> Result<bool, Error> {
        let volume = self.home.volume(namespace, name);
        if volume.claim()?.is_none() {
            return Ok(false);
        }
        let _lock = volume.lock(true).map_err(|e| match e {
            state::Error::VolumeInUse { name } => Error::InUse(name),
            e => e.into(),
        })?;
        sweep::remove_tree(&volume.path)?;
        Ok(true)
    }

    fn check_namespace_goes(&self, name: &ObjectName) -> Result<(), Error> {
        let (kind, namespace) = (ObjectKind::Namespace, Namespace::parse(name)?);
        if namespace == Namespace::default() {
            let why = "this namespace may not be deleted".to_owned();
            return Err(Error::Forbidden { kind, name: name.to_string(), why });
        }
        match self.namespaces()?.contains(&namespace) {
            true => Ok(()),
            false => Err(Error::NoObject { kind, name: name.to_string() }),
        }
    }

    /// Deletes all that is in a namespace, and then the namespace.
    fn delete_namespace(&self, namespace: &Namespace, grace_period: Option<Duration>) -> Result<(), Error> {
        let options = DeleteOptions { grace_period, ..DeleteOptions::default() };
        for kind in HELD {
            let mut ending = Vec::new();
            // A pod whose record is damaged is in no list, and goes as well.
            let names: Vec<String> = match kind {
                ObjectKind::Pod => {
                    let all = self.home.pods()?.into_iter().filter(|dir| dir.namespace == *namespace);
                    all.map(|dir| dir.name.to_string()).collect()
                }
                _ => {
                    let all = self.list_kind(kind, Some(namespace))?;
                    all.iter().filter_map(|object| Some(name_of(object)?.to_owned())).collect()
                }
            };
            for name in names {
                match self.delete_alone(kind, namespace, &name, &options) {
                    Ok(Deletion::Pod(pod)) => ending.push(pod),
                    Ok(Deletion::Done) => {}
                    // It has gone by itself, as the Services of pods do that have just ended.
                    Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {}
                    Err(e) => return Err(e),
                }
            }
            for pod in ending {
                pod.wait(None)?;
            }
        }
        Ok(self.home.forget_namespace(namespace)?)
    }
}

/// Tells whether an object has owners, and all of them are the object of that uid.
fn is_owned_by(object: &Value, uid: &str) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    !owners.is_empty() && owners.iter().all(|owner| owner["uid"] == uid)
}

fn name_of(object: &Value) -> Option<&str> {
    object["metadata"]["name"].as_str()
}

fn unsupported(kind: ObjectKind, name: &str, why: &str) -> Error {
    Error::Unsupported(format!("{} {name:?} {why}", kind.singular()))
}
