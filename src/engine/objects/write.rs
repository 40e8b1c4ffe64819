//! Objects made and changed.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace as NamespaceObject, Secret, Service};
use serde_json::Value;

use super::{
    super::{Engine, Error, ErrorKind, ObjectKind, changed_objects, managed_fields::note_update},
    complete,
    request::{Loaded, load_changed_pod},
};
use crate::{
    lifecycle::PodPart,
    manifest::{Diagnostic, Severity},
    network::{kept_services, ports},
    pod::{Namespace, ObjectName},
    state::{Kept, Liveness, PodDir},
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
    /// Holds what of a pod an update is about: all else of it stays.
    pub part: PodPart,
    /// Names whose the fields that change become, in the object's managedFields; nobody's else.
    pub manager: Option<String>,
}

impl WriteOptions {
    /// Returns the object with the note of who makes it, or changes the one that is known.
    fn note_manager<'a>(&self, known: Option<&Value>, object: &'a Value) -> Cow<'a, Value> {
        match &self.manager {
            Some(manager) if self.part != PodPart::Status => {
                let mut object = object.clone();
                note_update(known, &mut object, manager);
                Cow::Owned(object)
            }
            _ => Cow::Borrowed(object),
        }
    }
}

/// Holds what has to be so for an object to be changed or deleted.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    /// `metadata.uid` of the object.
    pub uid: Option<String>,
    /// `metadata.resourceVersion` of the object as [`Engine::get_object`] gave it: what has been changed since is a
    /// conflict.
    pub resource_version: Option<String>,
}

impl Preconditions {
    /// Asks that an object is still as it was seen.
    pub fn still(seen: &Value) -> Preconditions {
        let text = |field: &str| seen["metadata"][field].as_str().map(str::to_owned);
        Preconditions { uid: text("uid"), resource_version: text("resourceVersion") }
    }

    /// Tells whether anything has to be so.
    pub(super) fn are_some(&self) -> bool {
        self.uid.is_some() || self.resource_version.is_some()
    }
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
        let object = &*options.note_manager(None, object);
        if kind == ObjectKind::Namespace {
            let name = read_namespace_name(object)?;
            if self.namespaces()?.contains(&name) {
                return Err(Error::ObjectExists { kind, name: name.to_string() });
            }
            return self.keep_namespace(&name, object, None, options);
        }
        let loaded = self.load_object(kind, namespace, object, options.run.awaits_objects)?;
        let (namespace, name) = loaded.key(namespace)?;
        if kind == ObjectKind::Pod {
            wait_for_remains(&self.home.pod(&namespace, &name));
        }
        // Which pod has a name its record tells.
        let _turn = (kind != ObjectKind::Pod && !options.dry_run).then(|| self.home.await_turn());
        if self.get_object(kind, &namespace, &name).is_ok() {
            return Err(Error::ObjectExists { kind, name: name.to_string() });
        }
        if options.dry_run {
            return Ok(loaded.into_value(&namespace, None));
        }
        match loaded {
            Loaded::Pod(pod, manifest) => {
                let handle = self.run(&pod, &manifest, &options.run)?;
                // It may have ended and gone already.
                let there = self.get_object(kind, &namespace, &name);
                return there.or_else(|_| Ok(complete::complete_pod(handle.pod().unwrap_or(*pod))));
            }
            loaded => self.keep_loaded(&namespace, loaded)?,
        }
        self.get_object(kind, &namespace, &name)
    }

    /// Replaces an object; returns it as it then is. Of a pod the part that the options name is changed, as far as a living
    /// one lets it be.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Conflict`] by the preconditions, [`Error::Manifest`] with what is wrong or cannot be
    /// changed, [`Error::Unsupported`].
    pub fn update_object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        object: &Value,
        preconditions: &Preconditions,
        options: &WriteOptions,
    ) -> Result<Value, Error> {
        // What becomes of it meanwhile is for the preconditions.
        let named = object["metadata"]["name"].as_str().filter(|_| options.manager.is_some());
        let known = named.map(|name| {
            let own = object["metadata"]["namespace"].as_str().filter(|own| !own.is_empty());
            self.get_object(kind, own.unwrap_or(namespace), name)
        });
        let object = &*options.note_manager(known.transpose()?.as_ref(), object);
        match kind {
            ObjectKind::Pod => return self.update_pod(namespace, object, preconditions, options),
            ObjectKind::Namespace => {
                let name = read_namespace_name(object)?;
                let _turn = (!options.dry_run).then(|| self.home.await_turn());
                let known = self.get_object(kind, namespace, &name)?;
                check_preconditions(kind, &name, &known, preconditions)?;
                return self.keep_namespace(&name, object, Some(&known), options);
            }
            _ => {}
        }
        let loaded = self.load_object(kind, namespace, object, options.run.awaits_objects)?;
        let (namespace, name) = loaded.key(namespace)?;
        let _turn = (!options.dry_run).then(|| self.home.await_turn());
        let known = self.get_object(kind, &namespace, &name)?;
        check_preconditions(kind, &name, &known, preconditions)?;
        if let Some(new) = loaded.frozen_fields() {
            check_frozen(kind, &name, &known, &new)?;
        }
        if options.dry_run {
            return Ok(loaded.into_value(&namespace, Some(&known)));
        }
        match loaded {
            Loaded::Job(job) => self.update_job(&namespace, *job, &known)?,
            other => self.keep_loaded(&namespace, other)?,
        }
        match self.get_object(kind, &namespace, &name) {
            // It was written, and is gone again: a Job that has ended and is to stay for no time.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(object.clone()),
            read => read,
        }
    }

    fn update_pod(
        &self,
        namespace: &str,
        object: &Value,
        preconditions: &Preconditions,
        options: &WriteOptions,
    ) -> Result<Value, Error> {
        let kind = ObjectKind::Pod;
        let text = |field: &str| object["metadata"][field].as_str();
        let namespace = Namespace::parse(text("namespace").unwrap_or(namespace))?;
        let name = ObjectName::parse(text("name").unwrap_or_default())?;
        let _turn = (!options.dry_run).then(|| self.home.pod(&namespace, &name).await_turn());
        let known = self.get_object(kind, &namespace, &name)?;
        check_preconditions(kind, &name, &known, preconditions)?;
        let mut object = object.clone();
        if options.part == PodPart::Status {
            object["spec"] = known["spec"].clone();
        }
        // What a pod has been given since its start stays, whatever is said of it here.
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.remove("nodeName");
            spec.remove("ephemeralContainers");
        }
        let status = std::mem::take(&mut object["status"]);
        let mut new = load_changed_pod(&namespace, &object)?;
        if options.part == PodPart::Status {
            new.status = serde_json::from_value(status)
                .map_err(|e| invalid_field(kind, &name, "status", format!("Invalid value: {e}")))?;
        }
        let handle = self.pod(&namespace, &name)?;
        if options.dry_run {
            let mut preview = complete::complete_pod(handle.preview_update(&new, options.part)?);
            // It is where it is.
            preview["spec"]["nodeName"] = known["spec"]["nodeName"].clone();
            return Ok(preview);
        }
        handle.update_part(&new, options.part)?;
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
        options: &WriteOptions,
    ) -> Result<Value, Error> {
        for left in (0..TRIES).rev() {
            let mut new = self.get_object(kind, namespace, name)?;
            let seen = Preconditions::still(&new);
            change(&mut new);
            match self.update_object(kind, namespace, &new, &seen, options) {
                Err(Error::Conflict { .. }) if left > 0 => {}
                done => return done,
            }
        }
        unreachable!("the last try returns")
    }

    /// Makes an object what it is to be: creates it, or changes it where it differs.
    ///
    /// # Errors
    /// As [`Engine::create_object`] and [`Engine::update_object`].
    pub(crate) fn keep_object<T: Kept>(
        &self,
        kind: ObjectKind,
        namespace: &Namespace,
        object: T,
    ) -> Result<Applied, Error> {
        let name = ObjectName::of_object(object.metadata())?;
        let known = self.home.object::<T>(namespace, &name)?;
        let content = |object: &T| {
            let mut value = complete::to_value(object);
            let said = ["labels", "annotations", "finalizers", "ownerReferences", "managedFields"];
            let meta = value["metadata"].as_object_mut();
            meta.into_iter().for_each(|meta| meta.retain(|key, _| said.contains(&key.as_str())));
            value
        };
        let applied = match &known {
            None => Applied::Created,
            Some(known) if content(known) == content(&object) => return Ok(Applied::Unchanged),
            Some(known) => {
                check_frozen(kind, &name, &complete::to_value(known), &complete::to_value(&object))?;
                Applied::Configured
            }
        };
        self.home.keep(namespace, object)?;
        if let Some(kept) = self.home.object::<T>(namespace, &name)? {
            changed_objects::tell_pods(&self.home, namespace, kept);
        }
        Ok(applied)
    }

    fn keep_loaded(&self, namespace: &Namespace, loaded: Loaded) -> Result<(), Error> {
        match loaded {
            Loaded::Pod(..) => {}
            Loaded::ConfigMap(map) => {
                self.keep_object::<ConfigMap>(ObjectKind::ConfigMap, namespace, *map)?;
            }
            Loaded::Secret(secret) => {
                self.keep_object::<Secret>(ObjectKind::Secret, namespace, *secret)?;
            }
            Loaded::Service(service) => {
                let name = service.metadata.name.clone().unwrap_or_default();
                let (_, warnings) = self.keep_service(namespace, *service)?;
                if !warnings.is_empty() {
                    let (kind, why) = (ObjectKind::Service, warnings.join("; "));
                    return Err(Error::Conflict { kind, name, why });
                }
            }
            Loaded::Job(job) => self.keep_job(namespace, *job)?,
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
        let name = ObjectName::of_object(&service.metadata)?;
        let wanted = ports::of_service(&service);
        let applied = self.keep_object(ObjectKind::Service, namespace, service)?;
        kept_services::tell_network(&self.home, namespace, &name)?;
        Ok((applied, kept_services::publish_ports(&self.home, wanted)))
    }

    /// Keeps the labels and annotations of a namespace, which is there from then on.
    fn keep_namespace(
        &self,
        name: &Namespace,
        object: &Value,
        known: Option<&Value>,
        options: &WriteOptions,
    ) -> Result<Value, Error> {
        let kind = ObjectKind::Namespace;
        let mut object = object.clone();
        for field in ["uid", "creationTimestamp"] {
            object["metadata"][field] =
                known.map(|known| known["metadata"][field].clone()).unwrap_or_default();
        }
        let read: Result<NamespaceObject, _> = serde_json::from_value(object);
        let namespace = read.map_err(|e| invalid_field(kind, name, "", format!("Invalid value: {e}")))?;
        if options.dry_run {
            return Ok(complete::finish_object(kind, complete::complete_namespace(namespace, name)));
        }
        self.home.keep(name, namespace)?;
        Ok(complete::describe_namespace(&self.home, name))
    }
}

/// Waits, at most five seconds, for what is left of a pod whose record is gone already: nobody sees it any more.
fn wait_for_remains(dir: &PodDir) {
    for _ in 0..250 {
        if dir.read_liveness() == Liveness::Absent || dir.pod_file().exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn read_namespace_name(object: &Value) -> Result<Namespace, Error> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Namespace::parse(name).map_err(|wrong| {
        let message = format!("Invalid value: {name:?}: {}", wrong.reason);
        invalid_field(ObjectKind::Namespace, name, "metadata.name", message)
    })
}

/// What of a kept Job's spec may change; its pods are run as it was created.
const JOB_CHANGES: [&str; 5] =
    ["activeDeadlineSeconds", "backoffLimit", "parallelism", "suspend", "ttlSecondsAfterFinished"];

/// Checks that only such fields of a kept Job change.
pub(super) fn check_job_spec(name: &str, known: &Value, new: &Value) -> Result<(), Error> {
    let fields = [known, new].into_iter().filter_map(Value::as_object).flat_map(|fields| fields.keys());
    let changed = fields
        .filter(|field| !JOB_CHANGES.contains(&field.as_str()))
        .find(|field| known[*field] != new[*field]);
    let message = |field: &str| format!("Invalid value: {}: field is immutable", new[field]);
    changed.map_or(Ok(()), |field| {
        Err(invalid_field(ObjectKind::Job, name, &format!("spec.{field}"), message(field)))
    })
}

pub(super) fn check_preconditions(
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
    match &wanted.resource_version {
        Some(seen) if known["metadata"]["resourceVersion"] != seen.as_str() => conflict(
            "the object has been modified; please apply your changes to the latest version and try again"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Checks that a Secret's type stays as it is, and data that says of itself that it is immutable.
fn check_frozen(kind: ObjectKind, name: &str, known: &Value, new: &Value) -> Result<(), Error> {
    if kind == ObjectKind::Secret && known["type"] != new["type"] {
        let message = format!("Invalid value: {}: field is immutable", new["type"]);
        return Err(invalid_field(kind, name, "type", message));
    }
    if known["immutable"] != true {
        return Ok(());
    }
    let changed = ["data", "binaryData", "immutable"].into_iter().find(|field| known[*field] != new[*field]);
    let message = "Forbidden: field is immutable when `immutable` is set; delete the object first, or give the new one another name";
    changed.map_or(Ok(()), |field| Err(invalid_field(kind, name, field, message.to_owned())))
}

/// The error that one field of an object is wrong.
fn invalid_field(kind: ObjectKind, name: &str, field: &str, message: String) -> Error {
    Error::Manifest(vec![Diagnostic {
        severity: Severity::Error,
        file: format!("{} {name:?}", kind.singular()),
        line: 0,
        column: 0,
        path: field.to_owned(),
        message,
        help: None,
    }])
}
