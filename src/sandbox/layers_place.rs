//! Where containers' writable layers lie: with the pod's data on disk, or in the pod's memory where overlayfs cannot write on
//! what the data directory is on. That is so in most containers, whose root is an overlay itself.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs,
};
use podctl_runtime::try_writable_layer;

use super::{Error, Sandbox};
use crate::outer_container::{Need, OuterContainer};

/// xfs, whose number nix does not have with every C library.
const XFS_SUPER_MAGIC: FsType = FsType(0x5846_5342);
/// File systems that overlayfs can write on. With any other it is tried.
const WRITABLE: [FsType; 4] = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC];

/// Chooses the place for a pod with that data on disk, which has to be there as `memory` has to. Beside it, what the user
/// should know; `home` is podctl's data directory, which a volume could be mounted on. For a mount namespace of the caller's.
///
/// # Errors
/// [`Error::Config`] where no container could start, with what mends it.
pub(crate) fn choose_layers_place(
    home: &Path,
    data: &Path,
    memory: &Path,
) -> Result<(PathBuf, Option<String>), Error> {
    let kind = statfs(data).map(|found| found.filesystem_type());
    if kind.is_ok_and(|kind| WRITABLE.contains(&kind)) || try_writable_layer(data, data).is_ok() {
        return Ok((data.to_owned(), None));
    }
    let layers = memory.join("layers");
    fs::create_dir(&layers).map_err(Error::step("make directory", &layers))?;
    fs::set_permissions(&layers, fs::Permissions::from_mode(0o711)).map_err(Error::step("open", &layers))?;
    let on = match kind {
        Ok(OVERLAYFS_SUPER_MAGIC) => "overlayfs",
        _ => "a file system that overlayfs cannot write on",
    };
    let why = format!("podctl's data directory {} is on {on}", home.display());
    let mend = match OuterContainer::find_around() {
        Some(outer) => outer.say_mend(Need::Volume(home)),
        None => "let PODCTL_DATA_DIR name a directory on ext4, xfs or btrfs".to_owned(),
    };
    match try_writable_layer(data, &layers) {
        Ok(()) => Ok((
            layers,
            Some(format!(
                "{why}, so what containers write beside their volumes lies in memory; to have it on disk, {mend}"
            )),
        )),
        Err(e) => Err(Error::Config(format!(
            "{why}, and no container can start there: {e}; {mend}, or mount a tmpfs there (`podctl doctor` looks at the rest)"
        ))),
    }
}

impl Sandbox {
    /// Puts the containers' writable layers where overlayfs can write, and says so where that is not with the pod's data;
    /// `home` is podctl's data directory.
    ///
    /// # Errors
    /// [`Error::Config`] where no container could start.
    pub fn place_layers(&mut self, home: &Path) -> Result<(), Error> {
        let (layers, warning) = choose_layers_place(home, &self.layers, &self.memory)?;
        self.layers = layers;
        self.warnings.extend(warning);
        Ok(())
    }
}
