//! Objects made, changed and deleted.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use serde_json::{Value, json};

use super::super::{Engine, Error, ObjectKind, PodHandle};
use crate::{
    manifest::{self, Manifest, Source},
    network::kept_services,
    pod::{Namespace, ObjectName},
    state::{self, Kept},
    wire::Options,
};

/// The number of times a change is tried on an object that others change meanwhile.
const TRIES: u32 = 5;

/// Tells how an object is written.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Check, fill defaults in, answer, and keep nothing.
    pub dry_run: bool,
    /// Tells how a pod that is created is run.
    pub run: Options,
}

/// Holds what has to be so for an object to be changed or deleted.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    /// `metadata.uid` of the object.
    pub uid: Option<String>,
    /// The object as it was last seen, as [`Engine::get_object`] gave it: what has been changed since is a conflict.
    pub seen: Option<Value>,
}

/// Tells how an object is deleted.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// A pod's; its own terminationGracePeriodSeconds without.
    pub grace_period: Option<Duration>,
    /// Holds what has to be so.
    pub preconditions: Preconditions,
    /// Check and answer, and delete nothing.
    pub dry_run: bool,
}

/// Names what became of an object that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// There was none.
    Created,
    /// Means that it is not as it was.
    Configured,
    /// Means that it is as it was.
    Unchanged,
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
    ending: super::super::Ending,
}

impl PodDeletion {
    /// Waits until nothing is left of the pod, at most so long; says whether that came in time.
    ///
    /// # Errors
    /// [`Error::Start`] when something of it cannot be removed.
    pub fn wait(self, timeout: Option<Duration>) -> Result<bool, Error> {
        let deadline = timeout.map(|timeout| std::time::Instant::now() + timeout);
        super::super::gone(&self.handle.home, &self.handle.dir, self.ending, deadline)
    }
}

impl Engine {
    /// Creates an object; returns it as it then is. A pod is started.
    ///
    /// # Errors
    /// [`Error::ObjectExists`], [`Error::Manifest`] with all that is wrong with it, [`Error::Unsupported`] for kinds
    /// that are made of others, and those of [`Engine::run`].
    pub fn create_object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        object: &Value,
        options: &WriteOptions,
    ) -> Result<Value, Error> {
        if kind == ObjectKind::Namespace {
            return self.create_namespace(object, options);
        }
        let loaded = self.check_object(kind, namespace, object)?;
        let (namespace, name) = loaded.key(namespace)?;
        if self.get_object(kind, &namespace, &name).is_ok() {
            return Err(Error::ObjectExists { kind, name: name.to_string() });
        }
        if options.dry_run {
            return Ok(loaded.into_value(&namespace));
        }
        match loaded {
            Loaded::Pod(pod, manifest) => drop(self.run(&pod, &manifest, &options.run)?),
            loaded => self.keep(&namespace, loaded)?,
        }
        self.get_object(kind, &namespace, &name)
    }

    /// Replaces an object; returns it as it then is. What a living pod lets change is less, see
    /// [`PodHandle::update`].
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Conflict`] by the preconditions, [`Error::Manifest`], [`Error::Forbidden`] for
    /// what cannot be changed, [`Error::Unsupported`].
    pub fn update_object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        object: &Value,
        preconditions: &Preconditions,
        options: &WriteOptions,
    ) -> Result<Value, Error> {
        if kind == ObjectKind::Pod {
            return self.update_pod(namespace, object, preconditions, options);
        }
        let loaded = self.check_object(kind, namespace, object)?;
        let (namespace, name) = loaded.key(namespace)?;
        let known = self.get_object(kind, &namespace, &name)?;
        check_preconditions(kind, &name, &known, preconditions)?;
        check_immutable(kind, &name, &known, &loaded)?;
        if options.dry_run {
            return Ok(loaded.into_value(&namespace));
        }
        self.keep(&namespace, loaded)?;
        self.get_object(kind, &namespace, &name)
    }

    /// A pod is what it was but for what a living one lets change: what it refers to is not looked for again.
    fn update_pod(
        &self,
        namespace: &str,
        object: &Value,
        preconditions: &Preconditions,
        options: &WriteOptions,
    ) -> Result<Value, Error> {
        let kind = ObjectKind::Pod;
        let (text, otherwise) =
            (|field: &str| object["metadata"][field].as_str(), Namespace::parse(namespace)?);
        let namespace = text("namespace").map_or(Ok(otherwise), Namespace::parse)?;
        let name = ObjectName::parse(text("name").unwrap_or_default())?;
        let known = self.get_object(kind, &namespace, &name)?;
        check_preconditions(kind, &name, &known, preconditions)?;
        let unreadable =
            |e: serde_json::Error| Error::Forbidden { kind, name: name.to_string(), why: e.to_string() };
        let mut new: Pod = serde_json::from_value(object.clone()).map_err(unreadable)?;
        new.metadata.namespace = Some(namespace.to_string());
        let new = manifest::check_pod(new, None).map_err(Error::Manifest)?;
        let handle = self.pod(&namespace, &name)?;
        if options.dry_run {
            handle.check_update(&new)?;
            return Ok(super::complete::complete_pod(new.into()));
        }
        handle.update(&new)?;
        self.get_object(kind, &namespace, &name)
    }

    /// Changes an object as it then is, whoever else changes it meanwhile; returns it as it becomes.
    ///
    /// # Errors
    /// As [`Engine::update_object`].
    pub fn change_object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        change: impl Fn(&mut Value),
    ) -> Result<Value, Error> {
        for left in (0..TRIES).rev() {
            let known = self.get_object(kind, namespace, name)?;
            let mut new = known.clone();
            change(&mut new);
            let seen = Preconditions { seen: Some(known), ..Preconditions::default() };
            match self.update_object(kind, namespace, &new, &seen, &WriteOptions::default()) {
                Err(Error::Conflict { .. }) if left > 0 => {}
                done => return done,
            }
        }
        unreachable!("the last try returns")
    }

    /// Deletes an object. A claim's volume goes with its files; a pod is asked to end.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Conflict`] by the preconditions or for what is in use, [`Error::Unsupported`].
    pub fn delete_object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deletion, Error> {
        let missing = || Error::NoObject { kind, name: name.to_owned() };
        let (namespace, name) = (Namespace::parse(namespace)?, ObjectName::parse(name)?);
        let preconditions = &options.preconditions;
        if preconditions.uid.is_some() || preconditions.seen.is_some() || options.dry_run {
            let known = self.get_object(kind, &namespace, &name)?;
            check_preconditions(kind, &name, &known, preconditions)?;
        }
        if options.dry_run {
            return Ok(Deletion::Done);
        }
        let there_was_one = match kind {
            // A pod whose record is damaged can be named, if not read.
            ObjectKind::Pod => {
                let handle = self.pod(&namespace, &name).map_err(|_| missing())?;
                let ending = super::super::request(&self.home, &handle.dir, options.grace_period)?;
                return Ok(Deletion::Pod(PodDeletion { handle, ending }));
            }
            ObjectKind::ConfigMap => self.forget_kept::<ConfigMap>(&namespace, &name)?,
            ObjectKind::Secret => self.forget_kept::<Secret>(&namespace, &name)?,
            ObjectKind::PersistentVolumeClaim => self.delete_volume(&namespace, &name)?,
            ObjectKind::Service => self.delete_service(&namespace, &name)?,
            ObjectKind::Namespace => return self.delete_namespace(&name),
            ObjectKind::Endpoints | ObjectKind::EndpointSlice => {
                let why = "is made from the pods that a Service selects; delete the Service instead";
                return Err(unsupported(kind, &name, why));
            }
            ObjectKind::Event => return Err(unsupported(kind, &name, "goes with the pod that it is about")),
            ObjectKind::Node => return Err(unsupported(kind, &name, "is this machine, and stays")),
        };
        if there_was_one { Ok(Deletion::Done) } else { Err(missing()) }
    }

    /// Makes an object what it is to be: creates it, or changes it where it differs.
    ///
    /// # Errors
    /// As [`Engine::create_object`] and [`Engine::update_object`].
    pub(crate) fn apply_object<T: Kept>(
        &self,
        kind: ObjectKind,
        namespace: &Namespace,
        object: T,
    ) -> Result<Applied, Error> {
        let name = ObjectName::of_object(object.metadata())?;
        let known = self.home.object::<T>(namespace, &name)?;
        let content = |object: &T| {
            let mut value = super::complete::to_value(object);
            let meta = value["metadata"].as_object_mut();
            meta.into_iter()
                .for_each(|meta| meta.retain(|key, _| matches!(key.as_str(), "labels" | "annotations")));
            value
        };
        let applied = match &known {
            None => Applied::Created,
            Some(known) if content(known) == content(&object) => return Ok(Applied::Unchanged),
            Some(known) => {
                check_frozen(
                    kind,
                    &name,
                    &super::complete::to_value(known),
                    &super::complete::to_value(&object),
                )?;
                Applied::Configured
            }
        };
        self.home.keep(namespace, object)?;
        if let Some(kept) = self.home.object::<T>(namespace, &name)? {
            super::super::refresh::tell_pods(&self.home, namespace, kept);
        }
        Ok(applied)
    }

    /// Reads an object as if it came from a file: everything that is wrong with it is found, defaults are filled in.
    fn check_object(&self, kind: ObjectKind, namespace: &str, object: &Value) -> Result<Loaded, Error> {
        let mut object = object.clone();
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.name().into();
        // What a server fills in is not for a manifest to say, and nobody's mistake.
        if let Some(meta) = object["metadata"].as_object_mut() {
            let own = ["name", "generateName", "namespace", "labels", "annotations"];
            meta.retain(|key, _| own.contains(&key.as_str()));
        }
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
        let source = Source { name: format!("{} of a request", kind.singular()), text: object.to_string() };
        let mut manifest = self.load(namespace, &[source])?;
        let loaded = match kind {
            ObjectKind::Pod => manifest.pods.pop().map(|pod| Loaded::Pod(Box::new(pod), Box::new(manifest))),
            ObjectKind::ConfigMap => manifest.config_maps.pop().map(|map| Loaded::ConfigMap(Box::new(map))),
            ObjectKind::Secret => manifest.secrets.pop().map(|secret| Loaded::Secret(Box::new(secret))),
            ObjectKind::PersistentVolumeClaim => {
                manifest.claims.pop().map(|claim| Loaded::Claim(Box::new(claim)))
            }
            ObjectKind::Service => manifest.services.pop().map(|service| Loaded::Service(Box::new(service))),
            _ => None,
        };
        loaded
            .ok_or_else(|| Error::Unsupported(format!("{} cannot be written here", kind.qualified_plural())))
    }

    fn keep(&self, namespace: &Namespace, loaded: Loaded) -> Result<(), Error> {
        match loaded {
            Loaded::Pod(..) => {}
            Loaded::ConfigMap(map) => drop(self.apply_object(ObjectKind::ConfigMap, namespace, *map)?),
            Loaded::Secret(secret) => drop(self.apply_object(ObjectKind::Secret, namespace, *secret)?),
            Loaded::Service(service) => drop(self.keep_service(namespace, *service)?),
            Loaded::Claim(claim) => {
                let name = ObjectName::of_object(&claim.metadata)?;
                self.home.volume(namespace, &name).make(&claim)?;
            }
        }
        Ok(())
    }

    /// Keeps a Service, and has the network take it up; warnings come with it.
    ///
    /// # Errors
    /// [`Error::Network`], [`Error::State`].
    pub(crate) fn keep_service(
        &self,
        namespace: &Namespace,
        mut service: Service,
    ) -> Result<(Applied, Vec<String>), Error> {
        service.metadata.namespace = Some(namespace.to_string());
        let present = kept_services::list_present(&self.home)?;
        kept_services::complete_service(&self.home, &mut service, &present)?;
        let applied = self.apply_object(ObjectKind::Service, namespace, service)?;
        let warnings = kept_services::publish(&self.home);
        kept_services::list_present(&self.home)?;
        Ok((applied, warnings))
    }

    /// Forgets an object, and tells the pods that refer to it; says whether there was one.
    fn forget_kept<T: Kept>(&self, namespace: &Namespace, name: &ObjectName) -> Result<bool, Error> {
        let gone = self.home.forget::<T>(namespace, name)?;
        if gone {
            super::super::refresh::tell_pods_of_removal::<T>(&self.home, namespace, name);
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
        super::super::sweep::remove_tree(&volume.path)?;
        Ok(true)
    }

    fn create_namespace(&self, object: &Value, options: &WriteOptions) -> Result<Value, Error> {
        let name = Namespace::parse(object["metadata"]["name"].as_str().unwrap_or_default())?;
        if self.namespaces()?.contains(&name) {
            return Err(Error::ObjectExists { kind: ObjectKind::Namespace, name: name.to_string() });
        }
        if !options.dry_run {
            self.home.make_namespace(&name)?;
        }
        Ok(super::complete::namespace(&self.home, &name))
    }

    /// A namespace goes with what is in it, but only when nothing is: what podctl keeps is not deleted by a default.
    fn delete_namespace(&self, name: &ObjectName) -> Result<Deletion, Error> {
        let kind = ObjectKind::Namespace;
        let namespace = Namespace::parse(name)?;
        if !self.namespaces()?.contains(&namespace) {
            return Err(Error::NoObject { kind, name: name.to_string() });
        }
        for inside in [
            ObjectKind::Pod,
            ObjectKind::PersistentVolumeClaim,
            ObjectKind::Service,
            ObjectKind::ConfigMap,
            ObjectKind::Secret,
        ] {
            if !self.list_kind(inside, Some(&namespace))?.is_empty() {
                let why = format!("has {} in it; delete them first", inside.plural());
                return Err(Error::Conflict { kind, name: name.to_string(), why });
            }
        }
        self.home.forget_namespace(&namespace)?;
        Ok(Deletion::Done)
    }
}

/// An object of a kind that can be written, checked.
enum Loaded {
    Pod(Box<Pod>, Box<Manifest>),
    ConfigMap(Box<ConfigMap>),
    Secret(Box<Secret>),
    Claim(Box<PersistentVolumeClaim>),
    Service(Box<Service>),
}

impl Loaded {
    /// The namespace and the name of the object, which was checked with them.
    fn key(&self, otherwise: &str) -> Result<(Namespace, ObjectName), Error> {
        let meta = match self {
            Loaded::Pod(pod, _) => &pod.metadata,
            Loaded::ConfigMap(map) => &map.metadata,
            Loaded::Secret(secret) => &secret.metadata,
            Loaded::Claim(claim) => &claim.metadata,
            Loaded::Service(service) => &service.metadata,
        };
        Ok((Namespace::of_object(meta, &Namespace::parse(otherwise)?)?, ObjectName::of_object(meta)?))
    }

    fn to_value(&self) -> Value {
        match self {
            Loaded::Pod(pod, _) => super::complete::complete_pod(Pod::clone(pod)),
            Loaded::ConfigMap(map) => super::complete::to_value(&**map),
            Loaded::Secret(secret) => super::complete::to_value(&**secret),
            Loaded::Claim(claim) => super::complete::complete_claim((**claim).clone()),
            Loaded::Service(service) => {
                super::complete::complete_service(super::complete::to_value(&**service))
            }
        }
    }

    /// The object as it would be kept.
    fn into_value(self, namespace: &Namespace) -> Value {
        let mut value = self.to_value();
        value["metadata"]["namespace"] = json!(namespace);
        value["metadata"]["creationTimestamp"] = json!(Time(Timestamp::now()));
        value["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
        value
    }
}

fn check_preconditions(
    kind: ObjectKind,
    name: &str,
    known: &Value,
    wanted: &Preconditions,
) -> Result<(), Error> {
    let conflict = |why: String| Err(Error::Conflict { kind, name: name.to_owned(), why });
    let uid = known["metadata"]["uid"].as_str().unwrap_or_default();
    match &wanted.uid {
        Some(wanted) if wanted != uid => {
            return conflict(format!(
                "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
            ));
        }
        _ => {}
    }
    match &wanted.seen {
        Some(seen) if seen != known => conflict(
            "the object has been modified; please apply your changes to the latest version and try again"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

fn check_immutable(kind: ObjectKind, name: &str, known: &Value, new: &Loaded) -> Result<(), Error> {
    match new {
        Loaded::ConfigMap(_) | Loaded::Secret(_) => check_frozen(kind, name, known, &new.to_value()),
        _ => Ok(()),
    }
}

/// Data that says of itself that it is immutable stays as it is.
fn check_frozen(kind: ObjectKind, name: &str, known: &Value, new: &Value) -> Result<(), Error> {
    let frozen = known["immutable"] == true;
    let differs = ["data", "binaryData", "immutable"].iter().any(|field| known[*field] != new[*field]);
    if frozen && differs {
        let why = "field is immutable when `immutable` is set; delete the object first, or give the new one another name";
        return Err(Error::Forbidden { kind, name: name.to_owned(), why: why.to_owned() });
    }
    Ok(())
}

fn unsupported(kind: ObjectKind, name: &str, why: &str) -> Error {
    Error::Unsupported(format!("{} {name:?} {why}", kind.singular()))
}
