//! What the client that starts a pod hands its supervisor, beside the descriptors of [`crate::process::list_descriptors`].

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use podctl_images::{Image, KeptIds, read_ordinary};
use serde::{Deserialize, Serialize};

use crate::{
    lifecycle::{self, PodPart},
    logs::LogLimits,
    pod::HostPort,
    sandbox::Objects,
    state::{self, PodDir},
};

/// Holds what a supervisor is given, in a memory file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Launch {
    /// [`super::VERSION`] of who wrote it; none of what was there before versions were told.
    #[serde(default)]
    pub version: Option<String>,
    pub pod: Pod,
    pub objects: Objects,
    /// Images that are present and may be used as they are, by container.
    pub images: BTreeMap<String, Image>,
    pub options: Options,
    pub runtime_dir: PathBuf,
    pub data_dir: PathBuf,
    pub own_network: bool,
    /// The pod is to be on the network of the user's pods.
    pub on_network: bool,
    /// Tells that a command's connection is there from the start, with its request in it.
    pub first: bool,
    /// `status.hostIPs`; the client alone can know them, being in the host's network.
    pub host_ips: Vec<String>,
    /// There is a puller: an image of a container or of a volume is missing.
    pub pulls: bool,
    /// Steps are traced, from this zero on.
    pub trace: Option<u64>,
    /// It is root's pod in a user namespace; these mounts come beside it.
    pub contained: Option<MappedMounts>,
}

/// Holds what the mounts are of that a supervisor is given for a pod with a user namespace of its own, in
/// their order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MappedMounts {
    /// The reason why hostPaths of the pod are not among them, by the volume's name.
    pub failed: BTreeMap<String, String>,
    /// Directories of podctl's, in their own places.
    pub places: Vec<PathBuf>,
    /// hostPath volumes, by name.
    pub host_paths: Vec<String>,
}

/// Holds what a user may choose beside the manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// First wait of a restart's back-off.
    pub backoff_initial: Duration,
    /// Longest wait of a restart's back-off.
    pub backoff_max: Duration,
    /// R-INIT-4: a failed init container restarts the pod.
    pub restart_pod_on_init_failure: bool,
    /// Tells how much of each start's output is kept.
    pub log_limits: LogLimits,
    /// Tells that a limit that cannot be enforced stops the start.
    pub strict_limits: bool,
    /// The pod is on the network of the user's pods, unless it is on the host's; else it has loopback alone.
    pub network: bool,
    /// Every container port without a hostPort gets a free one.
    pub publish_all: bool,
    /// Ports of the pod that are published on this machine beside its hostPorts; a host port of 0 is any free one.
    #[serde(default)]
    pub publish: Vec<HostPort>,
    /// The pod is ended and forgotten with the last handle that [`Engine::run`](crate::Engine::run) gave for it, and so
    /// with the program, however that ends. A pod that is started again lives on.
    #[serde(default)]
    pub ends_with_program: bool,
    /// sysctls beyond the safe ones that pods may set; one that ends with `*` stands for all that begin so.
    #[serde(default)]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Files of images whose owners have no id here belong to root.
    #[serde(default)]
    pub squash_ids: bool,
    /// The ids that the user has in the pod, instead of those of its root: files of the user are theirs, and containers
    /// whose image names no user run as them. For ordinary users.
    #[serde(default)]
    pub kept_ids: Option<KeptIds>,
    /// Pulls show their progress on standard error.
    #[serde(default)]
    pub progress: bool,
    /// ConfigMaps and Secrets that the pod refers to may be missing: what needs them waits, as with a kubelet. Else the pod is
    /// not started.
    #[serde(default)]
    pub awaits_objects: bool,
}

impl Default for Options {
    fn default() -> Options {
        let core = lifecycle::Options::default();
        Options {
            backoff_initial: core.backoff_initial,
            backoff_max: core.backoff_max,
            restart_pod_on_init_failure: core.restart_pod_on_init_failure,
            log_limits: LogLimits::default(),
            strict_limits: false,
            network: true,
            publish_all: false,
            publish: Vec::new(),
            ends_with_program: false,
            allowed_unsafe_sysctls: Vec::new(),
            squash_ids: false,
            kept_ids: None,
            progress: false,
            awaits_objects: false,
        }
    }
}

/// Holds what a supervisor tells the client when its sandbox stands. Anything else it says is why it does not.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    pub warnings: Vec<String>,
}

/// Holds what starts a pod again: it lies in the pod's directory.
#[derive(Debug, Serialize, Deserialize)]
pub struct StartRecord {
    /// The manifest, as it was given.
    pub pod: Pod,
    /// The ConfigMaps, Secrets, claims and Services it refers to.
    pub objects: Objects,
    /// Holds what the user chose beside the manifest.
    pub options: Options,
}

/// Reads what starts the pod again.
///
/// # Errors
/// [`state::Error`].
pub fn read_start_record(dir: &PodDir) -> Result<StartRecord, state::Error> {
    dir.read()?;
    let path = dir.again_file();
    let text = read_ordinary(&path).map_err(state::Error::io("read", &path))?;
    serde_json::from_slice(&text).map_err(|e| dir.damaged(path, e))
}

/// Returns what starts the pod again as it lies on disk.
pub fn serialize_start_record(record: &StartRecord) -> Vec<u8> {
    serde_json::to_vec(record).expect("plain data")
}

/// Replaces a part of the pod as it is started again.
///
/// # Errors
/// [`state::Error`].
pub fn record_update(dir: &PodDir, new: &Pod, part: PodPart) -> Result<(), state::Error> {
    let mut record = read_start_record(dir)?;
    lifecycle::merge_pod_update(&mut record.pod, new, part);
    dir.write_again(&serialize_start_record(&record))
}

/// Replaces the objects with which the pod is started again.
///
/// # Errors
/// [`state::Error`].
pub fn record_objects(dir: &PodDir, objects: &Objects) -> Result<(), state::Error> {
    let record = StartRecord { objects: objects.clone(), ..read_start_record(dir)? };
    dir.write_again(&serialize_start_record(&record))
}
