//! Debugging a pod: a container beside its own (R-EPH-1, R-EPH-2), or a changed copy of the pod.

use std::os::fd::OwnedFd;

use k8s_openapi::{
    api::core::v1::{Container, EnvVar, EphemeralContainer, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use podctl_images::{Reference, Store};
use serde_json::Value;

use super::{
    DebugProfile, Engine, Error, ImageError, ImageErrorKind, PodHandle, PullOptions, dial,
    start::{self, Started},
};
use crate::{
    manifest,
    pod::{PodExt, default_pull_policy},
    wire::{Options, Request, StartRecord, read_start_record},
};

/// Tells what a debug container is.
#[derive(Clone, Debug, Default)]
pub struct DebugOptions {
    /// Its image; of a copy's container that is changed, the new one if there is to be one.
    pub image: Option<String>,
    /// Its name, or of a container of a copy that is to be changed; one is made up else.
    pub name: Option<String>,
    /// The container whose processes it sees.
    pub target: Option<String>,
    /// It has a standard input.
    pub stdin: bool,
    /// It has a terminal.
    pub tty: bool,
    /// Its variables, names and values.
    pub env: Vec<(String, String)>,
    /// What it runs instead of its image's command; empty for that.
    pub words: Vec<String>,
    /// The words are its arguments, and its image's command stays.
    pub arguments_only: bool,
    /// Always, IfNotPresent or Never; by the image's name else, and one that is present does when it cannot be fetched.
    pub pull_policy: Option<String>,
    /// Tells what it may do.
    pub profile: DebugProfile,
    /// More fields of the container, as the API has them; laid over the others.
    pub custom: Option<Value>,
    /// Show the progress of a pull on standard error.
    pub progress: bool,
}

/// Tells how a copy of a pod differs from it.
#[derive(Clone, Debug)]
pub struct DebugCopy {
    /// The copy's name.
    pub name: String,
    /// Its containers see each other's processes.
    pub share_processes: bool,
    /// Images by the names of containers; `*` stands for all.
    pub images: Vec<(String, String)>,
    /// Keep the labels.
    pub keep_labels: bool,
    /// Keep the annotations.
    pub keep_annotations: bool,
    /// Keep liveness probes.
    pub keep_liveness: bool,
    /// Keep readiness probes.
    pub keep_readiness: bool,
    /// Keep startup probes.
    pub keep_startup: bool,
    /// Run the init containers.
    pub keep_init_containers: bool,
}

impl DebugCopy {
    /// Returns a copy of that name, as `kubectl debug --copy-to` makes it: without labels and probes, with one space of
    /// processes.
    pub fn named(name: impl Into<String>) -> DebugCopy {
        DebugCopy {
            name: name.into(),
            share_processes: true,
            images: Vec::new(),
            keep_labels: false,
            keep_annotations: false,
            keep_liveness: false,
            keep_readiness: false,
            keep_startup: false,
            keep_init_containers: true,
        }
    }
}

/// The reason why something cannot be debugged as it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DebugError {
    /// No image is named; these are here.
    #[error("no image is named for the debug container; {}", match .present.is_empty() {
        true => "none is present here".to_owned(),
        false => format!("present here are: {}", .present.join(", ")),
    })]
    NoImage {
        /// References of the images that are here.
        present: Vec<String>,
    },
    /// Means that an image is meant for a container that the pod has not.
    #[error("the pod has no container {0:?}")]
    NoContainer(String),
    /// Means that a field may not be among the custom ones.
    #[error("{}{why}", if .field.is_empty() { String::new() } else { format!("{}: ", .field) })]
    CustomField {
        /// The field's name.
        field: String,
        /// The reason.
        why: String,
    },
}

impl PodHandle {
    /// Adds a debug container to the living pod, its image fetched first; returns its name. It runs until it ends by
    /// itself or with the pod; [`PodHandle::attach`] reaches it.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), podctl::Error> {
    /// let engine = podctl::Engine::of_user()?;
    /// let options = podctl::DebugOptions { image: Some("busybox:1.36".into()), words: vec!["top".into()],
    /// ..Default::default() }; println!("{} was added", engine.pod("default", "web")?.debug(&options)?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Debug`], [`Error::Image`], [`Error::Refused`] as when there is one of its name, [`Error::Ended`],
    /// [`Error::Unreachable`].
    pub fn debug(&self, options: &DebugOptions) -> Result<String, Error> {
        let container = self.make_debug_container(options)?;
        let name = container.name.clone();
        self.add_debug_container(container, options, false)?;
        Ok(name)
    }

    /// Starts a changed copy of the pod, with a debug container or a container changed; returns the copy, and the name of
    /// that container.
    ///
    /// # Errors
    /// [`Error::Debug`], and those of [`Engine::run`].
    pub fn debug_copy(
        &self,
        options: &DebugOptions,
        copy: &DebugCopy,
    ) -> Result<(PodHandle, Option<String>), Error> {
        let (pod, container) = self.make_copy(options, copy)?;
        let started = self.start_copy(pod, options, None, false)?;
        Ok((PodHandle::started(&self.home, started), container))
    }

    /// Makes the debug container that the options describe, of a pod that lives.
    pub(crate) fn make_debug_container(&self, options: &DebugOptions) -> Result<Container, Error> {
        // Before an image is fetched for a pod that has ended.
        drop(dial(&self.dir)?);
        self.make_container(options, &self.dir.read()?)
    }

    /// Fetches the container's image as its policy says, and adds it to the living pod. Returns the connection over which
    /// it is attached to, if that is wanted, and what to warn of.
    pub(crate) fn add_debug_container(
        &self,
        container: Container,
        options: &DebugOptions,
        attach: bool,
    ) -> Result<(Option<OwnedFd>, Option<String>), Error> {
        let warning = self.have_image(&container, options)?;
        let custom =
            |e: serde_json::Error| DebugError::CustomField { field: String::new(), why: e.to_string() };
        let value = serde_json::to_value(&container).map_err(custom)?;
        let added = EphemeralContainer {
            target_container_name: options.target.clone(),
            ..serde_json::from_value(value).map_err(custom)?
        };
        Ok((self.add_ephemeral(added, attach)?, warning))
    }

    /// Starts a copy that [`PodHandle::make_copy`] has made; the original may be deleted first.
    pub(crate) fn start_copy(
        &self,
        copy: Pod,
        options: &DebugOptions,
        first: Option<&Request>,
        replaces: bool,
    ) -> Result<Started, Error> {
        let StartRecord { objects, options: original, .. } = read_start_record(&self.dir)?;
        let copy = manifest::check_pod(copy, None).map_err(Error::Manifest)?;
        if replaces {
            self.delete(None)?;
        }
        let kept_ids = original.kept_ids;
        let options = Options { progress: options.progress, kept_ids, ..Options::default() };
        Ok(start::start(&self.home, copy, objects, &options, first)?)
    }

    /// Makes the changed copy of the pod, and says which container is to be attached to.
    pub(crate) fn make_copy(
        &self,
        options: &DebugOptions,
        copy: &DebugCopy,
    ) -> Result<(Pod, Option<String>), Error> {
        let original = self.dir.read()?;
        let meta = &original.metadata;
        let mut spec = original.spec.clone().unwrap_or_default();
        spec.ephemeral_containers = None;
        spec.node_name = None;
        // The host's processes are shared already.
        if spec.host_pid != Some(true) {
            spec.share_process_namespace = Some(copy.share_processes);
        }
        if !copy.keep_init_containers {
            spec.init_containers = None;
        }
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            strip_probes(copy, container);
        }
        set_images(copy, &mut spec)?;
        let changed = self.change_copy(options, copy, &original, &mut spec)?;
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(copy.name.clone()),
                namespace: meta.namespace.clone(),
                labels: meta.labels.clone().filter(|_| copy.keep_labels),
                annotations: meta.annotations.clone().filter(|_| copy.keep_annotations),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            status: None,
        };
        Ok((pod, changed))
    }

    /// Changes the named container of a copy, or adds one; returns its name.
    fn change_copy(
        &self,
        options: &DebugOptions,
        copy: &DebugCopy,
        original: &Pod,
        spec: &mut PodSpec,
    ) -> Result<Option<String>, Error> {
        if let Some(name) = &options.name
            && let Some(known) = spec.containers.iter_mut().find(|c| c.name == *name)
        {
            set_command(options, known);
            if let Some(image) = &options.image {
                check_reference(image)?;
                known.image = Some(image.clone());
            }
            (known.stdin, known.tty) = (Some(options.stdin), Some(options.tty));
            options.profile.change_context(&mut known.security_context);
            return Ok(Some(name.clone()));
        }
        if options.image.is_none() && !copy.images.is_empty() {
            return Ok(options.name.clone().or(spec.containers.first().map(|c| c.name.clone())));
        }
        let added = self.make_container(options, original)?;
        let name = added.name.clone();
        spec.containers.push(added);
        Ok(Some(name))
    }

    fn make_container(&self, options: &DebugOptions, pod: &Pod) -> Result<Container, Error> {
        let Some(image) = options.image.clone() else {
            let store = Store::open(&self.home.images()).map_err(ImageError::from)?;
            let all = store.list().map_err(ImageError::from)?;
            let present = all.into_iter().map(|image| image.reference).collect();
            return Err(DebugError::NoImage { present }.into());
        };
        check_reference(&image)?;
        let policy = options.pull_policy.as_deref().unwrap_or(default_pull_policy(&image)).to_owned();
        let variable = |(name, value): &(String, String)| EnvVar {
            name: name.clone(),
            value: Some(value.clone()),
            value_from: None,
        };
        let mut container = Container {
            name: options.name.clone().unwrap_or_else(|| manifest::generated_name("debugger-")),
            image: Some(image),
            env: (!options.env.is_empty()).then(|| options.env.iter().map(variable).collect()),
            image_pull_policy: Some(policy),
            stdin: options.stdin.then_some(true),
            tty: options.tty.then_some(true),
            termination_message_policy: Some("File".into()),
            ..Container::default()
        };
        set_command(options, &mut container);
        options.profile.change_context(&mut container.security_context);
        match &options.custom {
            Some(custom) => lay_over(&container, custom, pod),
            None => Ok(container),
        }
    }

    /// Fetches the image where its policy says so: the pod's own processes cannot. Returns what to warn of.
    fn have_image(&self, container: &Container, options: &DebugOptions) -> Result<Option<String>, Error> {
        let image = container.image.as_deref().unwrap_or_default();
        let policy = container.image_pull_policy.as_deref().unwrap_or_default();
        let store = Store::open(&self.home.images()).map_err(ImageError::from)?;
        let present = store.find(&check_reference(image)?).map_err(ImageError::from)?.is_some();
        if policy == "Never" && !present {
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            return Err(ImageError { kind: ImageErrorKind::NotFound, message }.into());
        }
        if present && policy != "Always" {
            return Ok(None);
        }
        let pull = PullOptions { progress: options.progress, ..PullOptions::default() };
        match Engine::over(&self.home).pull(image, &pull) {
            Ok(_) => Ok(None),
            Err(e) if present && options.pull_policy.is_none() => {
                Ok(Some(format!("{image} could not be fetched ({e}); the one that is present is used")))
            }
            Err(e) => Err(e.into()),
        }
    }
}

fn check_reference(image: &str) -> Result<Reference, Error> {
    Ok(image.parse::<Reference>().map_err(ImageError::from)?)
}

fn strip_probes(copy: &DebugCopy, container: &mut Container) {
    if !copy.keep_liveness {
        container.liveness_probe = None;
    }
    if !copy.keep_readiness {
        container.readiness_probe = None;
    }
    if !copy.keep_startup {
        container.startup_probe = None;
    }
}

fn set_images(copy: &DebugCopy, spec: &mut PodSpec) -> Result<(), Error> {
    for (name, image) in &copy.images {
        check_reference(image)?;
        let mut found = false;
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            if name == "*" || *name == container.name {
                container.image = Some(image.clone());
                found = true;
            }
        }
        if !found {
            return Err(DebugError::NoContainer(name.clone()).into());
        }
    }
    Ok(())
}

fn set_command(options: &DebugOptions, container: &mut Container) {
    if options.words.is_empty() {
        return;
    }
    match options.arguments_only {
        true => container.args = Some(options.words.clone()),
        false => {
            container.command = Some(options.words.clone());
            container.args = None;
        }
    }
}

/// Lays fields over a debug container, as far as they may be there.
fn lay_over(container: &Container, custom: &Value, pod: &Pod) -> Result<Container, Error> {
    let wrong = |field: &str, why: String| DebugError::CustomField { field: field.to_owned(), why };
    const OWN: &[&str] = &["name", "image", "command", "targetContainerName"];
    if let Some(name) = OWN.iter().find(|name| custom.get(name).is_some()) {
        return Err(wrong(name, "may not be set here; there is a flag for it".into()).into());
    }
    let mut value = serde_json::to_value(container).map_err(|e| wrong("container", e.to_string()))?;
    merge_fields(&mut value, custom);
    let merged: Container = serde_json::from_value(value).map_err(|e| wrong("container", e.to_string()))?;
    let known: Vec<_> = pod.volumes().map(|v| &v.name).collect();
    for mount in merged.volume_mounts.iter().flatten() {
        if mount.sub_path.is_some() || mount.sub_path_expr.is_some() {
            let why = "subPath cannot be set for an ephemeral container";
            return Err(wrong("volumeMounts", why.into()).into());
        }
        if !known.contains(&&mount.name) {
            return Err(wrong("volumeMounts", format!("the pod has no volume {:?}", mount.name)).into());
        }
    }
    Ok(merged)
}

/// Merges objects field by field, and lists of named things by name, as the API does.
fn merge_fields(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Object(value), Value::Object(over)) => {
            for (name, over) in over {
                merge_fields(value.entry(name.clone()).or_insert(Value::Null), over);
            }
        }
        (Value::Array(value), Value::Array(over)) => {
            for over in over {
                let key = |v: &Value| v.get("mountPath").or(v.get("name")).cloned();
                match value.iter_mut().find(|v| key(v).is_some() && key(v) == key(over)) {
                    Some(known) => merge_fields(known, over),
                    None => value.push(over.clone()),
                }
            }
        }
        (value, over) => *value = over.clone(),
    }
}
