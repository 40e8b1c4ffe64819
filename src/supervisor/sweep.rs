//! Clearing away what a pod leaves: on purpose after its end, and what a killed supervisor left.
//!
//! Files of a container belong to ids that only the pod's user namespace knows, so the sweep runs
//! in one.

use std::{fs, path::Path, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use nix::{
    mount::{MntFlags, umount2},
    sched::CloneFlags,
};
use podctl_runtime::IdMappings;

use super::launch::{Error, role};
use crate::state::{Home, PodDir};

/// How long a supervisor that has let go of its clients takes to be gone.
const PATIENCE: Duration = Duration::from_millis(200);

/// Forgets an ended pod: its record, its logs, and what its supervisor could not clear away.
///
/// # Errors
/// [`Error`] when something of it cannot be removed.
pub fn remove(home: &Home, dir: &PodDir) -> Result<(), Error> {
    super::pod_cgroup::sweep(dir);
    super::contained::tidy(Duration::ZERO);
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

/// Takes away what an ended supervisor could not, being in it.
pub fn tidy() {
    super::contained::tidy(PATIENCE);
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
    use std::os::fd::AsFd;
    role("sweep", namespaces, Some(&mappings), &[], &[(directory.as_fd(), 3)])?.wait()?;
    fs::remove_dir_all(data).map_err(crate::state::Error::io("remove", data))?;
    Ok(())
}

/// The sweeping role: empties the directory that is open at descriptor 3.
pub fn main() -> i32 {
    let Ok(entries) = fs::read_dir("/proc/self/fd/3") else { return 1 };
    let mut failed = false;
    for entry in entries.flatten() {
        let directory = entry.file_type().is_ok_and(|t| t.is_dir());
        let done = if directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        failed |= done.is_err();
    }
    i32::from(failed)
}

/// Takes away what a living pod has on disk.
pub(super) fn clear(data: &Path) {
    unmount_below(data);
    let _ = fs::remove_dir_all(data);
}

/// Unmounts everything beneath a directory. What is mounted on a mount goes with it: each call waits for all processors.
fn unmount_below(directory: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut gone: Option<&Path> = None;
    for target in table.lines().filter_map(|l| l.split(' ').nth(4)).map(Path::new) {
        if target.starts_with(directory) && !gone.is_some_and(|above| target.starts_with(above)) {
            let _ = umount2(target, MntFlags::MNT_DETACH);
            gone = Some(target);
        }
    }
}
