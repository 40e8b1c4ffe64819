//! From a pod to what the runtime understands: volumes, environment, identity, one OCI runtime spec
//! a container.
//!
//! Promises: nothing of a pod is read twice in two ways; every refusal names what was asked for.
//! Runs in the supervisor, inside the pod's namespaces; calls the runtime crate's words only.

pub mod cgroup_limits;
mod config_files;
mod container_spec;
mod declared_volumes;
mod devices;
pub mod downward_api;
mod env_file;
pub mod environment;
mod etc_hosts;
mod fs_group;
pub mod host_support;
mod layers_place;
mod mounts;
mod resolv_conf;
mod seccomp_profile;
mod security_context;
mod setup;
pub mod user;
mod volumes;

pub use container_spec::{Prepared, container_spec, exec_process};
pub use devices::{all_devices, pod_devices};
pub(crate) use fs_group::walk;
pub(crate) use layers_place::choose_layers_place;
pub(crate) use security_context::in_user_namespace;
pub use security_context::{Filter, default_filter};
pub use setup::{Sandbox, set_up};
pub use volumes::HostPaths;
pub(crate) use volumes::host_path;

use std::{collections::BTreeMap, path::PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use podctl_images::Image;
use serde::{Deserialize, Serialize};

use crate::state::VolumeDir;

/// The reason why a container's configuration or a pod's sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the manifest asks for cannot be had (`CreateContainerConfigError`).
    #[error("{0}")]
    Config(String),
    /// Means that a volume could not be prepared.
    #[error("volume {volume:?}: {message}")]
    Volume {
        /// The name in the pod.
        volume: String,
        /// Holds what is wrong and with what.
        message: String,
    },
    /// Means that a step of the sandbox failed.
    #[error("cannot {step} {}: {source}", path.display())]
    Step {
        /// Holds what was tried, as a verb.
        step: &'static str,
        /// The path it happened on.
        path: PathBuf,
        /// The reason why not.
        source: std::io::Error,
    },
}

impl Error {
    /// The words without the volume's name, for who has said it.
    pub fn cause(&self) -> String {
        match self {
            Error::Volume { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    fn step<E: Into<std::io::Error>>(
        step: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Error {
        let path = path.into();
        move |source| Error::Step { step, path, source: source.into() }
    }
}

/// Holds what a pod refers to: ConfigMaps and Secrets, local volumes, images of its volumes, and the
/// Services that came with it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Objects {
    /// Belongs to the pod's namespace.
    pub config_maps: Vec<ConfigMap>,
    /// Belongs to the pod's namespace.
    pub secrets: Vec<Secret>,
    /// Keyed by the claim's name.
    pub claims: BTreeMap<String, VolumeDir>,
    /// Keyed by the volume's name.
    pub images: BTreeMap<String, Image>,
    /// Holds those of whatever namespace.
    pub services: Vec<Service>,
    /// Kind and name of what is kept no longer, when that is what has changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<(String, String)>,
}

impl Objects {
    /// The ConfigMap of that name; `None` only when it may be absent.
    ///
    /// # Errors
    /// [`Error::Config`] when it is absent and not optional.
    pub fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Option<&ConfigMap>, Error> {
        let found = self.config_maps.iter().find(|m| m.metadata.name.as_deref() == Some(name));
        required(found, "configmap", name, optional)
    }

    /// The Secret of that name; `None` only when it may be absent.
    ///
    /// # Errors
    /// [`Error::Config`] when it is absent and not optional.
    pub fn secret(&self, name: &str, optional: Option<bool>) -> Result<Option<&Secret>, Error> {
        let found = self.secrets.iter().find(|s| s.metadata.name.as_deref() == Some(name));
        required(found, "secret", name, optional)
    }
}

fn required<T>(found: Option<T>, kind: &str, name: &str, optional: Option<bool>) -> Result<Option<T>, Error> {
    match (found, optional) {
        (None, None | Some(false)) => Err(Error::Config(format!("{kind} \"{name}\" not found"))),
        (found, _) => Ok(found),
    }
}
