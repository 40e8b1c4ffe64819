//! Objects of every kind as JSON, for whoever speaks the Kubernetes API: listed, made, replaced, taken away.
//!
//! Promises: what is made has passed the same checks as a manifest on the command line; an error says what kind of
//! refusal it is. Nothing is kept here: two callers may act at once.

use std::{path::PathBuf, time::Duration};

use k8s_openapi::{
    api::core::v1::{
        ConfigMap, EphemeralContainer, Namespace as NamespaceObject, PersistentVolumeClaim,
        PersistentVolumeClaimStatus, Pod, Secret, Service,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Value, json};

use super::{Engine, Error, PodHandle, Watch, refresh, start::find_host_ip, sweep, with_display_status};
use crate::{
    manifest::{Diagnostic, Manifest, Source, generated_name},
    network::{Seen, kept_services},
    pod::{InvalidName, Namespace, ObjectName, default_pull_policy},
    state::{self, Home, Kept, Liveness, PodDir},
    wire::Options,
};

/// The reason why nothing was done with an object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    /// There is none of that name.
    #[error("not found")]
    NotFound,
    /// There is one of that name.
    #[error("already exists")]
    Exists,
    /// Means that it breaks rules.
    #[error("invalid")]
    Invalid(Vec<Diagnostic>),
    /// A field is not one that can be changed now.
    #[error("{field}: {message}")]
    Unchangeable {
        /// Tells which one.
        field: String,
        /// The reason why not.
        message: String,
    },
    /// Something uses it, or it is not for anybody to change.
    #[error("{0}")]
    Refused(String),
    /// The engine says why not.
    #[error(transparent)]
    Engine(#[from] Error),
}

impl From<state::Error> for ObjectError {
    fn from(error: state::Error) -> ObjectError {
        match error {
            state::Error::NotFound { .. } => ObjectError::NotFound,
            state::Error::VolumeInUse { name } => {
                ObjectError::Refused(format!("volume {name:?} is in use by a pod; delete the pod first"))
            }
            other => ObjectError::Engine(other.into()),
        }
    }
}

impl From<InvalidName> for ObjectError {
    fn from(error: InvalidName) -> ObjectError {
        ObjectError::Engine(error.into())
    }
}

type Result<T> = std::result::Result<T, ObjectError>;

impl Engine {
    /// The objects of a kind, of one namespace or of all; kinds that nobody keeps have none here.
    pub(crate) fn list_api_objects(&self, kind: &str, namespace: Option<&str>) -> Result<Vec<Value>> {
        let home = &self.home;
        let mut all = Vec::new();
        match kind {
            "Pod" => {
                for dir in pod_dirs(home, namespace)? {
                    // One that has just been removed is no error.
                    match with_display_status(&dir) {
                        Ok(pod) => all.push(to_value(&pod)),
                        Err(Error::State(state::Error::NotFound { .. })) => {}
                        Err(e) => return Err(e.into()),
                    }
                }
            }
            "Event" => {
                for dir in pod_dirs(home, namespace)? {
                    all.extend(dir.events()?.iter().map(to_value));
                }
            }
            "ConfigMap" => all = kept_values::<ConfigMap>(home, namespace)?,
            "Secret" => all = kept_values::<Secret>(home, namespace)?,
            "Namespace" => {
                for name in self.namespace_names()? {
                    all.push(namespace_value(home, &name)?);
                }
            }
            "PersistentVolumeClaim" => {
                for volume in home.volumes()? {
                    if namespace.is_none_or(|n| volume.namespace == *n)
                        && let Some(claim) = volume.claim()?
                    {
                        all.push(to_value(&bound_claim(claim)));
                    }
                }
            }
            _ => {}
        }
        Ok(all)
    }

    /// The Services there are, of one namespace or of all, with where they lead.
    pub(crate) fn list_services(&self, namespace: Option<&str>) -> Result<Vec<Seen>> {
        let mut seen =
            kept_services::list_present(&self.home).map_err(|e| ObjectError::Refused(e.to_string()))?.seen;
        seen.retain(|s| namespace.is_none_or(|n| s.service.metadata.namespace.as_deref() == Some(n)));
        Ok(seen)
    }

    /// This machine's address, as a load balancer's is.
    pub(crate) fn host_address(&self) -> Option<String> {
        find_host_ip().map(|ip| ip.to_string())
    }

    /// Every namespace that is kept or in use, and `default`.
    pub(crate) fn namespace_names(&self) -> Result<Vec<String>> {
        let mut all = self.home.namespaces()?;
        all.extend(self.home.pods()?.into_iter().map(|dir| dir.namespace));
        all.push(Namespace::default());
        all.sort();
        all.dedup();
        Ok(all.into_iter().map(String::from).collect())
    }

    /// Checks an object as one of a manifest, and gives it with its defaults. What a server adds to an object's metadata,
    /// which a manifest's reader passes over, stays with it.
    pub(crate) fn check_api_object(&self, namespace: &str, object: &Value) -> Result<Manifest> {
        let source = Source { name: "request".into(), text: object.to_string() };
        let mut manifest = self.load(namespace, &[source]).map_err(|e| match e {
            Error::Manifest(all) => ObjectError::Invalid(all),
            other => other.into(),
        })?;
        let given: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap_or_default();
        let all = (manifest.pods.iter_mut().map(|pod| &mut pod.metadata))
            .chain(manifest.config_maps.iter_mut().map(|map| &mut map.metadata))
            .chain(manifest.secrets.iter_mut().map(|secret| &mut secret.metadata))
            .chain(manifest.claims.iter_mut().map(|claim| &mut claim.metadata))
            .chain(manifest.services.iter_mut().map(|service| &mut service.metadata));
        for meta in all {
            meta.uid.clone_from(&given.uid);
            meta.creation_timestamp.clone_from(&given.creation_timestamp);
            meta.managed_fields.clone_from(&given.managed_fields);
        }
        Ok(manifest)
    }

    /// Makes an object, or only says what it would be; a pod is started.
    pub(crate) fn create_api_object(
        &self,
        kind: &str,
        namespace: &str,
        object: &Value,
        dry: bool,
    ) -> Result<Value> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let home = &self.home;
        if kind == "Namespace" {
            let known = self.namespace_names()?.iter().any(|known| known == name);
            return if known { Err(ObjectError::Exists) } else { self.keep_namespace(object, dry) };
        }
        let manifest = self.check_api_object(namespace, object)?;
        match kind {
            "Pod" => {
                let pod = first(&manifest.pods)?;
                let dir = pod_dir(home, namespace, name)?;
                wait_for_remains(&dir);
                if dir.read_liveness() != Liveness::Absent {
                    return Err(ObjectError::Exists);
                }
                if dry {
                    return Ok(to_value(pod));
                }
                let handle = self.run(pod, &manifest, &Options::default())?;
                Ok(to_value(&handle.pod()?))
            }
            "ConfigMap" => self.keep_new(namespace, first(&manifest.config_maps)?, dry),
            "Secret" => self.keep_new(namespace, first(&manifest.secrets)?, dry),
            "Service" => {
                if self
                    .list_services(Some(namespace))?
                    .iter()
                    .any(|s| s.service.metadata.name.as_deref() == Some(name))
                {
                    return Err(ObjectError::Exists);
                }
                self.keep_api_service(namespace, first(&manifest.services)?, dry)
            }
            "PersistentVolumeClaim" => {
                let claim = first(&manifest.claims)?;
                let volume = volume_dir(home, namespace, name)?;
                if volume.claim()?.is_some() {
                    return Err(ObjectError::Exists);
                }
                if !dry {
                    volume.make(claim)?;
                }
                Ok(to_value(&bound_claim(volume.claim()?.unwrap_or_else(|| claim.clone()))))
            }
            _ => Err(unwritable(kind)),
        }
    }

    /// Puts an object in the place of the one of its name, or only says what it would be.
    pub(crate) fn replace_object(
        &self,
        kind: &str,
        namespace: &str,
        object: &Value,
        dry: bool,
    ) -> Result<Value> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let home = &self.home;
        match kind {
            "Namespace" => return self.keep_namespace(object, dry),
            "Pod" => return self.change_pod(namespace, name, object, dry),
            _ => {}
        }
        let manifest = self.check_api_object(namespace, object)?;
        match kind {
            "ConfigMap" => self.keep_changed(namespace, first(&manifest.config_maps)?, dry),
            "Secret" => self.keep_changed(namespace, first(&manifest.secrets)?, dry),
            "Service" => self.keep_api_service(namespace, first(&manifest.services)?, dry),
            "PersistentVolumeClaim" => {
                let claim = first(&manifest.claims)?;
                let volume = volume_dir(home, namespace, name)?;
                if volume.claim()?.is_none() {
                    return Err(ObjectError::NotFound);
                }
                if !dry {
                    volume.make(claim)?;
                }
                Ok(to_value(&bound_claim(claim.clone())))
            }
            _ => Err(unwritable(kind)),
        }
    }

    /// Takes an object away; a pod has that long to end, and goes on ending when this returns.
    pub(crate) fn delete_api_object(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        grace: Option<Duration>,
    ) -> Result<()> {
        // It lies in no namespace.
        if kind == "Namespace" {
            return self.delete_api_namespace(name, grace);
        }
        let home = &self.home;
        let (space, own) = (Namespace::parse(namespace)?, ObjectName::parse(name)?);
        let found = match kind {
            "Pod" => {
                let dir = pod_dir(home, namespace, name)?;
                if dir.read_liveness() == Liveness::Absent {
                    return Err(ObjectError::NotFound);
                }
                super::request(home, &dir, grace)?;
                true
            }
            "ConfigMap" => home.forget::<ConfigMap>(&space, &own)?,
            "Secret" => home.forget::<Secret>(&space, &own)?,
            "Service" => {
                let found = home.forget::<Service>(&space, &own)?;
                let seen = self.list_services(Some(namespace))?;
                if !found && seen.iter().any(|s| s.service.metadata.name.as_deref() == Some(name)) {
                    return Err(ObjectError::Refused(
                        "it came with a pod and ends with it; delete the pod".into(),
                    ));
                }
                found
            }
            "PersistentVolumeClaim" => {
                let volume = volume_dir(home, namespace, name)?;
                if volume.claim()?.is_none() {
                    return Err(ObjectError::NotFound);
                }
                let _lock = volume.lock(true)?;
                sweep::remove_tree(&volume.path).map_err(Error::from)?;
                true
            }
            _ => return Err(unwritable(kind)),
        };
        if found { Ok(()) } else { Err(ObjectError::NotFound) }
    }

    fn delete_api_namespace(&self, name: &str, grace: Option<Duration>) -> Result<()> {
        if name == "default" {
            return Err(ObjectError::Refused("the namespace default is always there".into()));
        }
        if !self.namespace_names()?.iter().any(|known| known == name) {
            return Err(ObjectError::NotFound);
        }
        let home = &self.home;
        for dir in pod_dirs(home, Some(name))? {
            super::request(home, &dir, grace)?;
        }
        // A volume can be removed when its pods have ended.
        while pod_dirs(home, Some(name))?.iter().any(|dir| dir.read_liveness() == Liveness::Alive) {
            std::thread::sleep(Duration::from_millis(50));
        }
        for kind in ["PersistentVolumeClaim", "Service", "ConfigMap", "Secret"] {
            let objects = match kind {
                "Service" => kept_values::<Service>(home, Some(name))?,
                _ => self.list_api_objects(kind, Some(name))?,
            };
            for object in objects {
                let own = object["metadata"]["name"].as_str().unwrap_or_default();
                match self.delete_api_object(kind, name, own, grace) {
                    Ok(()) | Err(ObjectError::NotFound) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        home.forget_namespace(&Namespace::parse(name)?)?;
        Ok(())
    }

    fn keep_namespace(&self, object: &Value, dry: bool) -> Result<Value> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let namespace: NamespaceObject =
            serde_json::from_value(object.clone()).map_err(|e| ObjectError::Refused(e.to_string()))?;
        if let Err(wrong) = Namespace::parse(name) {
            let message = format!("Invalid value: {name:?}: {}", wrong.reason);
            return Err(ObjectError::Unchangeable { field: "metadata.name".into(), message });
        }
        if dry {
            return Ok(finish_namespace(to_value(&namespace)));
        }
        self.home.keep(&Namespace::parse(name)?, namespace)?;
        namespace_value(&self.home, name)
    }

    fn keep_new<T: Kept + Clone>(&self, namespace: &str, object: &T, dry: bool) -> Result<Value> {
        let name = ObjectName::of_object(object.metadata())?;
        match self.home.object::<T>(&Namespace::parse(namespace)?, &name)? {
            Some(_) => Err(ObjectError::Exists),
            None => self.keep_object(namespace, object, dry),
        }
    }

    fn keep_changed<T: Kept + Clone>(&self, namespace: &str, object: &T, dry: bool) -> Result<Value> {
        let name = ObjectName::of_object(object.metadata())?;
        let known = self.home.object::<T>(&Namespace::parse(namespace)?, &name)?;
        let Some(known) = known else { return Err(ObjectError::NotFound) };
        let (before, after) = (to_value(&known), to_value(object));
        if before["immutable"] == true {
            for field in ["data", "binaryData", "immutable"] {
                if before[field] != after[field] {
                    let message = "Forbidden: field is immutable when `immutable` is set".to_owned();
                    return Err(ObjectError::Unchangeable { field: field.into(), message });
                }
            }
        }
        self.keep_object(namespace, object, dry)
    }

    fn keep_object<T: Kept + Clone>(&self, namespace: &str, object: &T, dry: bool) -> Result<Value> {
        if dry {
            return Ok(to_value(object));
        }
        let (namespace, name) = (Namespace::parse(namespace)?, ObjectName::of_object(object.metadata())?);
        self.home.keep(&namespace, object.clone())?;
        let kept = self.home.object::<T>(&namespace, &name)?.ok_or(ObjectError::NotFound)?;
        let value = to_value(&kept);
        refresh::tell_pods(&self.home, &namespace, kept);
        Ok(value)
    }

    fn keep_api_service(&self, namespace: &str, service: &Service, dry: bool) -> Result<Value> {
        let refused = |e: crate::network::Error| ObjectError::Refused(e.to_string());
        let mut service = service.clone();
        service.metadata.namespace = Some(namespace.to_owned());
        let present = kept_services::list_present(&self.home).map_err(refused)?;
        kept_services::complete_service(&self.home, &mut service, &present).map_err(refused)?;
        if dry {
            return Ok(to_value(&service));
        }
        let (namespace, name) = (Namespace::parse(namespace)?, ObjectName::of_object(&service.metadata)?);
        self.home.keep(&namespace, service)?;
        if let Some(wrong) = kept_services::publish(&self.home).first() {
            return Err(ObjectError::Refused(wrong.clone()));
        }
        // The network takes it up.
        kept_services::list_present(&self.home).map_err(refused)?;
        Ok(to_value(&self.home.object::<Service>(&namespace, &name)?.ok_or(ObjectError::NotFound)?))
    }

    /// A pod's metadata may change; of what runs already, its spec stays.
    fn change_pod(&self, namespace: &str, name: &str, object: &Value, dry: bool) -> Result<Value> {
        let dir = pod_dir(&self.home, namespace, name)?;
        let mut known = dir.read()?;
        let wanted: Pod =
            serde_json::from_value(object.clone()).map_err(|e| ObjectError::Refused(e.to_string()))?;
        let meta = &mut known.metadata;
        meta.labels = wanted.metadata.labels;
        meta.annotations = wanted.metadata.annotations;
        meta.finalizers = wanted.metadata.finalizers;
        meta.owner_references = wanted.metadata.owner_references;
        meta.managed_fields = wanted.metadata.managed_fields;
        if dry {
            return Ok(to_value(&known));
        }
        PodHandle::of(&self.home, &dir).update(&known)?;
        Ok(to_value(&with_display_status(&dir)?))
    }
}

/// Waits, at most seconds, for what is left of a pod whose record is gone already: nobody sees it any more.
fn wait_for_remains(dir: &PodDir) {
    for _ in 0..250 {
        if dir.read_liveness() == Liveness::Absent || dir.pod_file().exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn first<T>(all: &[T]) -> Result<&T> {
    all.first().ok_or_else(|| ObjectError::Refused("the body holds no object of this kind".into()))
}

fn to_value(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn unwritable(kind: &str) -> ObjectError {
    ObjectError::Refused(format!(
        "nobody can change a {kind}: it is made of what the machine and its pods are"
    ))
}

fn pod_dirs(home: &Home, namespace: Option<&str>) -> Result<Vec<PodDir>> {
    let all = home.pods()?.into_iter();
    Ok(all.filter(|dir| namespace.is_none_or(|n| *dir.namespace == *n)).collect())
}

fn pod_dir(home: &Home, namespace: &str, name: &str) -> Result<PodDir> {
    Ok(home.pod(&Namespace::parse(namespace)?, &ObjectName::parse(name)?))
}

fn volume_dir(home: &Home, namespace: &str, name: &str) -> Result<state::VolumeDir> {
    Ok(home.volume(&Namespace::parse(namespace)?, &ObjectName::parse(name)?))
}

fn kept_values<T: Kept>(home: &Home, namespace: Option<&str>) -> Result<Vec<Value>> {
    let namespaces = match namespace {
        Some(namespace) => vec![Namespace::parse(namespace)?],
        None => home.namespaces()?,
    };
    let mut all = Vec::new();
    for namespace in namespaces {
        all.extend(home.objects::<T>(&namespace)?.iter().map(to_value));
    }
    Ok(all)
}

fn namespace_value(home: &Home, name: &str) -> Result<Value> {
    let kept = home.object::<NamespaceObject>(&Namespace::parse(name)?, &ObjectName::parse(name)?)?;
    let plain = || NamespaceObject {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..NamespaceObject::default()
    };
    Ok(finish_namespace(to_value(&kept.unwrap_or_else(plain))))
}

fn finish_namespace(mut value: Value) -> Value {
    if let Some(meta) = value["metadata"].as_object_mut() {
        // It lies in a namespace on disk only.
        meta.remove("namespace");
        let name = meta.get("name").cloned().unwrap_or_default();
        let labels = meta.entry("labels").or_insert_with(|| json!({}));
        labels["kubernetes.io/metadata.name"] = name;
    }
    value["spec"] = json!({"finalizers": ["kubernetes"]});
    value["status"] = json!({"phase": "Active"});
    value
}

fn bound_claim(mut claim: PersistentVolumeClaim) -> PersistentVolumeClaim {
    let spec = claim.spec.get_or_insert_default();
    spec.volume_name.get_or_insert_with(|| claim.metadata.name.clone().unwrap_or_default());
    claim.status = Some(PersistentVolumeClaimStatus {
        access_modes: spec.access_modes.clone(),
        capacity: spec.resources.as_ref().and_then(|r| r.requests.clone()),
        phase: Some("Bound".into()),
        ..PersistentVolumeClaimStatus::default()
    });
    claim
}

impl Engine {
    /// Tells where the server keeps its credentials and its port.
    pub(crate) fn server_dir(&self) -> PathBuf {
        self.home.data.join("server")
    }

    /// Something that wakes when a pod changes.
    pub(crate) fn watch_pods(&self) -> Result<Watch> {
        Ok(Watch::of_all(&self.home)?)
    }

    /// Has it wake for pods that were made since.
    pub(crate) fn refresh_watch(&self, watch: &Watch) {
        watch.refresh(&self.home);
    }

    /// Has the image of a debug container here, for the pod's own processes cannot fetch it.
    pub(crate) fn fetch_debug_image(&self, container: &EphemeralContainer) -> std::result::Result<(), Error> {
        let image = container.image.as_deref().unwrap_or_default();
        let policy =
            container.image_pull_policy.clone().unwrap_or_else(|| default_pull_policy(image).to_owned());
        Ok(self.have_image(image, &policy, &Options::default())?)
    }
}

/// A name that begins so, and is nobody else's.
pub(crate) fn generate_name(prefix: &str) -> String {
    generated_name(prefix)
}

/// The one document of a YAML text.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn parse_yaml(text: &str) -> std::result::Result<Value, String> {
    let source = Source { name: "yaml".into(), text: text.to_owned() };
    let mut documents = crate::manifest::parse_documents(&source).map_err(|d| d.to_string())?;
    match documents.len() {
        0 => Ok(Value::Null),
        1 => Ok(documents.remove(0)),
        count => Err(format!("it has {count} documents; one is expected")),
    }
}
