//! Sandboxes, containers and execs on Linux namespaces, as the OCI runtime spec says.
//!
//! [`spawn`] starts a program in new namespaces; from inside of them, [`create`] starts containers and [`exec`] further
//! processes in them. All three plan first and then do: what the new process has to carry out is prepared before it is
//! made, it only performs system calls, and a failure comes back as the step that failed with its object.
//! The crate knows nothing of images, pods or YAML. Linux 5.12 or newer is required.

mod arrival;
mod cgroup;
mod cgroup_v2;
mod container;
mod credentials;
pub mod defaults;
mod device_filter;
mod devices;
mod error;
mod idmap;
mod interruption;
mod mounts;
mod overlay;
mod plan;
mod process;
mod pty;
mod root;
pub mod seccomp;
mod spawn;
pub mod start_trace;
mod steps;
mod sys;
mod userns;

pub use cgroup::{Cgroup, CgroupParent, CgroupStats};
pub use container::{Container, Created, Entering, Rootfs, Stdio, create, exec};
pub use device_filter::DeviceFilter;
pub use error::{Error, StartError};
pub use idmap::{IdMapping, IdMappings, grant_command};
pub use interruption::{Interruption, repeat_interrupted};
pub use mounts::OWN as OWN_MOUNT;
pub use overlay::{mount_layers, try_writable_layer};
pub use process::{
    ExitStatus, Process, close_other_descriptors, collect_output, forbid_looks, leave_session_keyring,
};
pub use root::settle_root;
pub use spawn::{Spawn, SpawnStdio, Spawning, begin_spawn, settle, spawn};
pub use userns::{
    attach, idmapped, make_files_as, make_files_as_self, nested_user_namespace, user_namespace,
};
