//! What a pod is. PURE: each question about one is asked and answered here, once.
//!
//! Promises: no system call, no clock, nothing imported but the Kubernetes types. What stands in a manifest has been
//! checked and defaulted by `manifest/`; the answers hold for a pod that was not, too.

mod host_port;
pub mod identifiers;
mod image_volumes;
mod job_index;
pub mod kubernetes_versions;
mod object_kinds;
pub mod quantity;
mod questions;
pub mod resources;
mod service_link;
mod stop_signal;
mod timeline_mark;

pub use host_port::{HostPort, Target, find_host_port, publish_ports};
pub use identifiers::{ContainerName, InvalidName, Namespace, ObjectName, Uid, VolumeName};
pub use image_volumes::{ImageVolume, image_volumes};
pub use job_index::{Place, parse_indexes, write_indexes};
pub use object_kinds::ObjectKind;
pub use questions::{
    ContainerExt, DEFAULT_CONTAINER_ANNOTATION, DEFAULT_GRACE_PERIOD_SECONDS, LAST_APPLIED_ANNOTATION,
    PodExt, ProbeExt, default_pull_policy, mount_target,
};
pub use service_link::ServiceLink;
pub use stop_signal::{is_api_signal, parse_stop_signal};
pub use timeline_mark::{Mark, Span};
