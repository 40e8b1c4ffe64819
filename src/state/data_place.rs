//! Where podctl's data lies when nobody has said: in the usual place, or, where that cannot be written, in the first that can.
//! A container's HOME is often `/`, or a user's that this one is not.

use std::{
    env,
    path::{Path, PathBuf},
};

use nix::unistd::{Uid, User};

use super::{
    Error,
    home::{data_dir, private_dir},
};

/// Finds the place for this user.
///
/// # Errors
/// [`Error::NoHome`] when there is none.
pub(super) fn find_data_place(uid: Uid) -> Result<PathBuf, Error> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = set("PODCTL_DATA_DIR") {
        return Ok(named);
    }
    let usual = match uid.is_root() {
        true => Some(PathBuf::from("/var/lib/podctl")),
        false => {
            let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
            data.map(|data| data.join("podctl"))
        }
    };
    if let Some(usual) = usual.filter(|dir| data_dir(dir).is_ok()) {
        return Ok(usual);
    }
    let others = [Path::new("/var/tmp"), &env::temp_dir()].map(|dir| dir.join(format!("podctl-{uid}-data")));
    // After `su` or `sudo -u` HOME may be another user's.
    let known = User::from_uid(uid).ok().flatten().filter(|_| !uid.is_root());
    let known = known.map(|user| user.dir.join(".local/share/podctl"));
    known.into_iter().chain(others).find(|dir| private_dir(dir).is_ok()).ok_or(Error::NoHome)
}

/// Says that the data lies in another place than the usual one, and what to do about it.
pub(super) fn explain_data_place(data: &Path) -> Option<String> {
    let name = data.file_name()?.to_str()?;
    let moved =
        name.starts_with("podctl-") && name.ends_with("-data") && env::var_os("PODCTL_DATA_DIR").is_none();
    moved.then(|| {
        let usual = if Uid::effective().is_root() { "/var/lib" } else { "the home directory (HOME)" };
        format!(
            "images and pods are kept in {}, as {usual} cannot be written; PODCTL_DATA_DIR names another place",
            data.display()
        )
    })
}
