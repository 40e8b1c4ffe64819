//! Clearing away what a pod leaves: on purpose after its end, and what a killed supervisor left.
//!
//! Files of a container belong to ids that only the pod's user namespace knows, so the sweep runs
//! in one.

use std::{fs, os::fd::AsFd, path::Path, time::Duration};

use nix::sched::CloneFlags;
use podctl_images::{Store, read_ordinary};
use podctl_runtime::{Cgroup, IdMappings};

use super::start::{self, Error};
use crate::{
    pod::Uid,
    process::{
        Role,
        descriptors::{sweep::DIRECTORY, take_descriptor},
        start_role,
    },
    state::{self, Home, Liveness, Placed, PodDir, Unplaced},
};

/// The time for which a supervisor that has let go of its clients takes to be gone.
const PATIENCE: Duration = Duration::from_millis(200);

/// Forgets an ended pod: its record, its logs, and what its supervisor could not clear away. One that lives stays, and
/// one of another uid, if that is known.
///
/// # Errors
/// [`Error`] when something of it cannot be removed.
pub fn forget(home: &Home, dir: &PodDir, uid: Option<&Uid>) -> Result<(), Error> {
    if let Some(ended) = dir.put_aside(uid)? {
        return remove(home, ended);
    }
    if dir.read_liveness() == Liveness::Ended && !dir.path.exists() {
        // Without a record: whoever has the name may remove what lies in the pod's other place.
        if let Placed::Here { lock, before } = dir.prepare(&uuid::Uuid::new_v4().to_string())?.place(dir)? {
            before.map_or(Ok(()), |ended| remove(home, ended))?;
            remove(home, dir.move_aside(lock.into())?)?;
        }
    }
    Ok(())
}

/// Removes all there is of a pod whose record has lost its place.
///
/// # Errors
/// [`Error`] when something of it cannot be removed; the next command tries again.
pub fn remove(home: &Home, ended: Unplaced) -> Result<(), Error> {
    let dir = &ended.dir;
    remove_cgroups(dir);
    start::remove_lent_cgroups(Duration::ZERO);
    // What a damaged record calls a uid names nothing that could be removed.
    if let Some(uid) = dir.uid() {
        let logs = home.logs(dir, &uid);
        state::remove_tree(&logs).map_err(state::Error::io("remove", logs))?;
        remove_tree_by(&home.pod_data(&uid), home.program.as_deref())?;
    }
    Ok(dir.remove()?)
}

/// Removes the records that killed commands have put aside or not put into their place, and brings those back that made room
/// for one that has not come. What cannot be removed is tried again by the next command that makes or lists names.
pub fn sweep_records(home: &Home) {
    for left in home.left_records() {
        let place =
            left.has_made_room().then(|| left.dir.read().and_then(|pod| home.place_of(&pod)).ok()).flatten();
        if place.is_some_and(|place| left.bring_back(&place).is_ok()) {
            continue;
        }
        // What is in the way now is tried again by the next command.
        let _ = remove(home, left);
    }
}

/// The same, and all else that killed processes and a reboot have left: directories and logs of no pod, half-fetched images,
/// leases of nobody.
pub fn sweep_left(home: &Home) {
    sweep_records(home);
    for orphan in home.list_orphans().unwrap_or_default() {
        // What is in the way now is tried again by the next command.
        let _ = remove_tree_by(&orphan, home.program.as_deref());
    }
    for dir in home.unrecorded_pods() {
        // A supervisor that lives ends such a pod when it looks; what is in the way now is tried again by the next command.
        let _ = super::end::ask_for_socket(&dir) || forget(home, &dir, None).is_ok();
    }
    for (volume, _lock) in home.left_volumes() {
        // As above.
        let _ = remove_tree_by(&volume, home.program.as_deref());
    }
    if home.images().exists() {
        // A store that cannot be swept is told of by who uses it.
        let _ = Store::open(&home.images()).and_then(|store| store.sweep());
    }
}

/// Takes away the cgroups that the killed supervisor of a pod left.
fn remove_cgroups(dir: &PodDir) {
    let cgroups = read_ordinary(&dir.cgroups_file()).unwrap_or_default();
    for path in String::from_utf8_lossy(&cgroups).lines() {
        // Of version 2; nothing can be left in those of version 1 but what had the host's PID namespace.
        let _ = fs::write(Path::new(path).join("cgroup.kill"), "1");
        Cgroup::remove_tree_patiently(Path::new(path));
    }
}

/// Takes away what an ended supervisor could not, being in it.
pub fn tidy_homes() {
    start::remove_lent_cgroups(PATIENCE);
}

/// Removes a directory that containers wrote to; it need not be there.
///
/// # Errors
/// [`Error`] when something in it cannot be removed.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    remove_tree_by(path, None)
}

/// Does as [`remove_tree`]; a role that has to be played for it is played by that program.
fn remove_tree_by(path: &Path, program: Option<&Path>) -> Result<(), Error> {
    if state::remove_tree(path).is_ok() {
        return Ok(());
    }
    remove_in_user_namespace(path, program)?;
    Ok(state::remove_tree(path).map_err(state::Error::io("remove", path))?)
}

/// Empties a directory as the one whom its files belong to: ids that only a user namespace maps.
fn remove_in_user_namespace(path: &Path, program: Option<&Path>) -> Result<(), Error> {
    let (mappings, _) = IdMappings::of_user()?;
    let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    let opened = state::open_directory(path).map_err(state::Error::io("open", path))?;
    if let Some(directory) = opened {
        let fds = [(directory.as_fd(), DIRECTORY)];
        let mappings = Some(&mappings);
        start_role(&Role { namespaces, mappings, fds: &fds, program, ..Role::named("sweep") })?.wait()?;
    }
    Ok(())
}

/// Plays the sweeping role: empties the directory it was handed. Gives its exit code.
pub fn main() -> i32 {
    // SAFETY: the role is started with the directory at that number, and this is called once.
    let directory = unsafe { take_descriptor(DIRECTORY) };
    i32::from(state::empty_directory(&directory).is_err())
}
