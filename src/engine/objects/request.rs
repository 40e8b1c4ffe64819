//! Objects of requests: read as a manifest is read, so that everything that is wrong with one is found and its defaults
//! are filled in.

use k8s_openapi::{
    api::batch::v1::Job,
    api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use serde_json::{Value, json};

use super::{
    super::{Engine, Error, ObjectKind},
    complete,
    jobs::{complete_job, seal_job},
};
use crate::{
    manifest::{self, Manifest, Source},
    network::Seen,
    pod::{Namespace, ObjectName},
};

/// Names what of an object's metadata the engine says, whatever a request says of it.
const OWN_FIELDS: [&str; 7] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];

/// The object of a kind that can be written, checked.
pub(super) enum Loaded {
    Pod(Box<Pod>, Box<Manifest>),
    ConfigMap(Box<ConfigMap>),
    Secret(Box<Secret>),
    Claim(Box<PersistentVolumeClaim>),
    Service(Box<Service>),
    Job(Box<Job>),
}

impl Engine {
    /// Reads an object that is to be kept; what a pod refers to has to be there, unless that is awaited. A Job's pods await
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Manifest`] with all that is wrong with it; [`Error::Unsupported`] for a kind that cannot be written.
    pub(super) fn load_object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        object: &Value,
        awaits_objects: bool,
    ) -> Result<Loaded, Error> {
        let awaits = awaits_objects && kind == ObjectKind::Pod;
        let stored = (!awaits).then(|| self.kept()).transpose()?;
        let mut manifest = read_request(kind, namespace, object, stored.as_ref())?;
        let loaded = match kind {
            ObjectKind::Pod => manifest.pods.pop().map(|pod| Loaded::Pod(Box::new(pod), Box::new(manifest))),
            ObjectKind::ConfigMap => manifest.config_maps.pop().map(|map| Loaded::ConfigMap(Box::new(map))),
            ObjectKind::Secret => manifest.secrets.pop().map(|secret| Loaded::Secret(Box::new(secret))),
            ObjectKind::PersistentVolumeClaim => {
                manifest.claims.pop().map(|claim| Loaded::Claim(Box::new(claim)))
            }
            ObjectKind::Service => manifest.services.pop().map(|service| Loaded::Service(Box::new(service))),
            ObjectKind::Job => match manifest.jobs.pop() {
                Some(job) => Some(Loaded::Job(Box::new(complete_job(read_metadata(kind, object)?, job)))),
                None => None,
            },
            _ => None,
        };
        loaded
            .ok_or_else(|| Error::Unsupported(format!("{} cannot be written here", kind.qualified_plural())))
    }
}

/// Reads a pod that takes the place of one that is there: what it refers to is not looked for again.
///
/// # Errors
/// [`Error::Manifest`] with all that is wrong with it.
pub(super) fn load_changed_pod(namespace: &str, object: &Value) -> Result<Pod, Error> {
    let mut manifest = read_request(ObjectKind::Pod, namespace, object, None)?;
    manifest.pods.pop().ok_or_else(|| Error::Unsupported("the request holds no pod".to_owned()))
}

/// Returns the metadata of a request's object, as far as it is for a request to say.
fn read_metadata(kind: ObjectKind, object: &Value) -> Result<ObjectMeta, Error> {
    let mut meta = object["metadata"].clone();
    if let Some(fields) = meta.as_object_mut() {
        fields.retain(|field, _| !OWN_FIELDS.contains(&field.as_str()));
    }
    serde_json::from_value(meta)
        .map_err(|e| Error::Unsupported(format!("{}: metadata: {e}", kind.singular())))
}

pub(super) fn read_request(
    kind: ObjectKind,
    namespace: &str,
    object: &Value,
    stored: Option<&Manifest>,
) -> Result<Manifest, Error> {
    let namespace = Namespace::parse(namespace)?;
    let mut object = object.clone();
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.name().into();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.retain(|field, _| !OWN_FIELDS.contains(&field.as_str()));
    }
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    let source = Source { name: format!("{} of a request", kind.singular()), text: object.to_string() };
    manifest::load_request(&source, stored, &namespace).map_err(Error::Manifest)
}

impl Loaded {
    /// The namespace and the name of the object, which was checked with them.
    pub(super) fn key(&self, otherwise: &str) -> Result<(Namespace, ObjectName), Error> {
        let meta = match self {
            Loaded::Pod(pod, _) => &pod.metadata,
            Loaded::ConfigMap(map) => &map.metadata,
            Loaded::Secret(secret) => &secret.metadata,
            Loaded::Claim(claim) => &claim.metadata,
            Loaded::Service(service) => &service.metadata,
            Loaded::Job(job) => &job.metadata,
        };
        Ok((Namespace::of_object(meta, &Namespace::parse(otherwise)?)?, ObjectName::of_object(meta)?))
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Loaded::Pod(pod, _) => &mut pod.metadata,
            Loaded::ConfigMap(map) => &mut map.metadata,
            Loaded::Secret(secret) => &mut secret.metadata,
            Loaded::Claim(claim) => &mut claim.metadata,
            Loaded::Service(service) => &mut service.metadata,
            Loaded::Job(job) => &mut job.metadata,
        }
    }

    /// The object as it would be shown if it were kept: as the known one's successor, or as a new one.
    pub(super) fn into_value(mut self, namespace: &Namespace, known: Option<&Value>) -> Value {
        let meta = self.metadata_mut();
        meta.namespace = Some(namespace.to_string());
        let known = known.map(|known| &known["metadata"]).unwrap_or(&Value::Null);
        let uid = known["uid"].as_str().map(str::to_owned);
        meta.uid = uid.or_else(|| Some(uuid::Uuid::new_v4().to_string()));
        let made = known["creationTimestamp"].as_str().and_then(|time| time.parse().ok());
        meta.creation_timestamp = Some(Time(made.unwrap_or_else(Timestamp::now)));
        match self {
            Loaded::Pod(pod, _) => complete::complete_pod(*pod),
            Loaded::ConfigMap(map) => {
                complete::finish_object(ObjectKind::ConfigMap, complete::to_value(&*map))
            }
            Loaded::Secret(secret) => {
                complete::finish_object(ObjectKind::Secret, complete::to_value(&*secret))
            }
            Loaded::Claim(claim) => complete::complete_claim(*claim),
            Loaded::Service(service) => {
                let seen = Seen { service: *service, kept: true, backends: Vec::new() };
                complete::complete_service(seen, None)
            }
            Loaded::Job(mut job) => {
                let uid = job.metadata.uid.clone().unwrap_or_default();
                seal_job(&mut job, &uid);
                complete::finish_object(ObjectKind::Job, complete::to_value(&*job))
            }
        }
    }

    /// Returns what a ConfigMap or a Secret holds, as far as it may be frozen.
    pub(super) fn frozen_fields(&self) -> Option<Value> {
        let value = match self {
            Loaded::ConfigMap(map) => complete::to_value(&**map),
            Loaded::Secret(secret) => complete::to_value(&**secret),
            _ => return None,
        };
        Some(
            json!({"data": value["data"], "binaryData": value["binaryData"], "immutable": value["immutable"], "type": value["type"]}),
        )
    }
}
