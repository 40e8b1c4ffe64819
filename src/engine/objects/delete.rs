//! Objects deleted. What a namespace holds goes with it; a pod is asked to end.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use serde_json::Value;

use super::{
    super::{Ending, Engine, Error, ErrorKind, ObjectKind, PodHandle, changed_objects, gone, request, sweep},
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
    /// The pod's; its own terminationGracePeriodSeconds without.
    pub grace_period: Option<Duration>,
    /// Holds what has to be so.
    pub preconditions: Preconditions,
    /// Check and answer, and delete nothing.
    pub dry_run: bool,
    /// Leave what the object owns, such as a Job's pods; it goes with its owner else.
    pub orphans: bool,
}

/// The deletion that was asked for.
#[derive(Debug)]
pub enum Deletion {
    /// The object is gone.
    Done,
    /// Means that a pod ends; it is gone when [`PodDeletion::wait`] says so.
    Pod(PodDeletion),
}

/// The pod that is ending.
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
pub(super) const HELD: [ObjectKind; 6] = [
    ObjectKind::Job,
    ObjectKind::Pod,
    ObjectKind::PersistentVolumeClaim,
    ObjectKind::Service,
    ObjectKind::ConfigMap,
    ObjectKind::Secret,
];

impl Engine {
    /// Deletes an object, and what names it as its only owner. A claim's volume goes with its files; a pod is asked to
    /// end. A namespace goes when all that is in it has, which this waits for.
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
        let mut batch = self.begin_deletion();
        let deletion = batch.delete_object(kind, namespace, name, options)?;
        batch.finish()?;
        Ok(deletion)
    }

    pub(super) fn delete_alone(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deletion, Error> {
        let (namespace, name) = (parse_namespace(kind, namespace)?, ObjectName::parse(name)?);
        let missing = || Error::NoObject { kind, name: name.to_string() };
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
                let handle = self.find_pod(&namespace, &name).map_err(|_| missing())?;
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
            ObjectKind::Lease => {
                return Err(unsupported(kind, &name, "says that this machine lives, and stays"));
            }
            ObjectKind::Node => return Err(unsupported(kind, &name, "is this machine, and stays")),
        };
        if there_was_one { Ok(Deletion::Done) } else { Err(missing()) }
    }

    /// Forgets an object, and tells the pods that refer to it; says whether there was one.
    fn forget_kept<T: Kept>(&self, namespace: &Namespace, name: &ObjectName) -> Result<bool, Error> {
        let gone = self.home.forget::<T>(namespace, name)?;
        if gone {
            changed_objects::tell_pods_of_removal::<T>(&self.home, namespace, name);
        }
        Ok(gone)
    }

    fn delete_service(&self, namespace: &Namespace, name: &ObjectName) -> Result<bool, Error> {
        if self.home.forget::<Service>(namespace, name)? {
            kept_services::tell_network(&self.home, namespace, name)?;
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
        let _lock = match volume.lock(true) {
            Err(state::Error::VolumeGone { .. }) if volume.claim()?.is_none() => return Ok(false),
            // Something has removed the lock alone.
            Err(state::Error::VolumeGone { .. }) => None,
            Err(state::Error::VolumeInUse { name }) => return Err(Error::InUse(name)),
            lock => Some(lock?),
        };
        sweep::remove_tree(&volume.move_aside()?)?;
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

fn name_of(object: &Value) -> Option<&str> {
    object["metadata"]["name"].as_str()
}

fn unsupported(kind: ObjectKind, name: &str, why: &str) -> Error {
    Error::Unsupported(format!("{} {name:?} {why}", kind.singular()))
}
