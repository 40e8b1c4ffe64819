//! Clearing away what a pod leaves: on purpose after its end, and what a killed supervisor left.
//!
//! Files of a container belong to ids that only the pod's user namespace knows, so the sweep runs
//! in one.

use std::{fs, os::fd::AsFd, path::Path, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use nix::sched::CloneFlags;
use podctl_runtime::{Cgroup, IdMappings};

use super::start::{self, Error};
use crate::{
    process::{Role, descriptors::sweep::DIRECTORY, start_role},
    state::{Home, PodDir},
};

/// How long a supervisor that has let go of its clients takes to be gone.
const PATIENCE: Duration = Duration::from_millis(200);

/// Forgets an ended pod: its record, its logs, and what its supervisor could not clear away.
///
/// # Errors
/// [`Error`] when something of it cannot be removed.
pub fn remove(home: &Home, dir: &PodDir) -> Result<(), Error> {
    remove_cgroups(dir);
    start::remove_lent_cgroups(Duration::ZERO);
    if let Ok(pod) = dir.read() {
        let uid = uid(&pod);
        let logs = home.logs(&dir.namespace, &dir.name, &uid);
        if logs.exists() {
            fs::remove_dir_all(&logs).map_err(crate::state::Error::io("remove", logs))?;
        }
        let data = home.pod_data(&uid);
        if !uid.is_empty() {
            remove_tree(&data)?;
        }
    }
    Ok(dir.remove()?)
}

/// Takes away the cgroups that the killed supervisor of a pod left.
fn remove_cgroups(dir: &PodDir) {
    for path in fs::read_to_string(dir.cgroups_file()).unwrap_or_default().lines() {
        // Of version 2; nothing can be left in those of version 1 but what had the host's PID namespace.
        let _ = fs::write(Path::new(path).join("cgroup.kill"), "1");
        Cgroup::remove_tree_patiently(Path::new(path));
    }
}

/// Takes away what an ended supervisor could not, being in it.
pub fn tidy() {
    start::remove_lent_cgroups(PATIENCE);
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// Removes a directory that containers wrote to; it need not be there.
///
/// # Errors
/// [`Error`] when something in it cannot be removed.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    if path.exists() && fs::remove_dir_all(path).is_err() { in_user_namespace(path) } else { Ok(()) }
}

fn in_user_namespace(data: &Path) -> Result<(), Error> {
    let (mappings, _) = IdMappings::of_user()?;
    // The role takes the directory from its environment; nobody else has a say in that.
    let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    let directory = fs::File::open(data).map_err(crate::state::Error::io("open", data))?;
    let fds = [(directory.as_fd(), DIRECTORY)];
    start_role(&Role { namespaces, mappings: Some(&mappings), fds: &fds, ..Role::named("sweep") })?.wait()?;
    fs::remove_dir_all(data).map_err(crate::state::Error::io("remove", data))?;
    Ok(())
}

/// The sweeping role: empties the directory it was handed. Gives its exit code.
pub fn main() -> i32 {
    let Ok(entries) = fs::read_dir(format!("/proc/self/fd/{DIRECTORY}")) else { return 1 };
    let mut failed = false;
    for entry in entries.flatten() {
        let directory = entry.file_type().is_ok_and(|t| t.is_dir());
        let done = if directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        failed |= done.is_err();
    }
    i32::from(failed)
}
