//! The mounts that root's pod with `hostUsers: false` was given, put where the files are named: its supervisor is not
//! root of the machine, and could not have made them.

use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::Path,
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    unistd::{AccessFlags, access},
};
use podctl_runtime::attach;

use super::Failure;
use crate::{
    process::descriptors::{supervisor::CONTAINED, take_descriptor},
    sandbox::HostPaths,
    state::Home,
    wire::MappedMounts,
};

/// Names the step of a failure.
fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Failure {
    move |source| format!("cannot {step}: {}", source.into()).into()
}

/// Puts the mounts in their places: the files of `home` get their places, and the hostPaths others. Gives what has to be held,
/// and where each hostPath is.
///
/// # Errors
/// Names the step.
pub(super) fn place_mounts(home: &Home, mounts: &MappedMounts) -> Result<(OwnedFd, HostPaths), Failure> {
    let count = 1 + mounts.places.len() + mounts.host_paths.len();
    // SAFETY: launch passes these, in this order, to a supervisor that is told of them.
    let mut held = (CONTAINED..).take(count).map(|fd| unsafe { take_descriptor(fd) });
    let mut next = || held.next().expect("as many as are taken above");
    let lock = next();
    for place in &mounts.places {
        reach_directory(place)?;
        attach(&next(), place)?;
    }
    let failed = mounts.failed.iter().map(|(name, why)| (name.clone(), Err(why.clone())));
    let mut places: HostPaths = failed.collect();
    // Not beneath the pod's own directory: that is removed at its end, with all that is found in it.
    let dir = home.runtime.join("host");
    if !mounts.host_paths.is_empty() {
        fs::create_dir_all(&dir).map_err(step("make a directory for hostPaths"))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), &dir, Some("tmpfs"), flags, Some("mode=0700,size=1m"))
            .map_err(step("mount a tmpfs for hostPaths"))?;
    }
    for (at, name) in mounts.host_paths.iter().enumerate() {
        let (tree, place) = (next(), dir.join(at.to_string()));
        let of = File::from(tree.try_clone().map_err(step("inspect a hostPath"))?);
        let directory = of.metadata().map_err(step("inspect a hostPath"))?.is_dir();
        let made = if directory { fs::create_dir(&place) } else { File::create(&place).map(drop) };
        made.map_err(step("make a place for a hostPath"))?;
        attach(&tree, &place)?;
        places.insert(name.clone(), Ok(place));
    }
    Ok((lock, places))
}

/// Makes a directory's name lead to a directory. Where the machine lets nobody but its own root pass, something
/// else is put in the way, in this process's mount namespace: what is there is not for the pod.
fn reach_directory(place: &Path) -> Result<(), Failure> {
    let above: Vec<&Path> = place.ancestors().skip(1).collect();
    for dir in above.iter().rev() {
        if access(*dir, AccessFlags::X_OK) == Err(Errno::EACCES) {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("tmpfs"), *dir, Some("tmpfs"), flags, Some("mode=0755,size=64k"))
                .map_err(step("make a way to podctl's directories"))?;
            break;
        }
    }
    match fs::create_dir_all(place) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(step("make a way to podctl's directories")(e))
        }
        _ => Ok(()),
    }
}
