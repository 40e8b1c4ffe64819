//! A container's writable layer. Every directory costs a start and an end a tenth of a millisecond each, so there is none
//! that holds its parts: they lie side by side.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use podctl_runtime::Rootfs;

use crate::sandbox::Sandbox;

/// Holds what a container writes: on disk, but for its last words.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// `NAME.ATTEMPT`
    upper: PathBuf,
    /// overlayfs's own.
    work: PathBuf,
    /// Behind terminationMessagePath.
    termination_log: PathBuf,
}

impl Layer {
    /// The layer of that name in a pod's sandbox; it need not be there.
    pub(super) fn of(sandbox: &Sandbox, name: &str) -> Layer {
        let part = |suffix: &str| sandbox.layers.join(format!("{name}{suffix}"));
        let termination_log = sandbox.files().join(format!("{name}.termination-log"));
        Layer { upper: part(""), work: part(".work"), termination_log }
    }

    /// Makes it, to lie over these layers, the lowest first: an overlay's root has mode and owner of its topmost
    /// directory, so they become those of the image's.
    ///
    /// # Errors
    /// Of the part that could not be made.
    pub(super) fn make(&self, lower: &[PathBuf]) -> io::Result<()> {
        fs::create_dir(&self.upper)?;
        if let Some(root) = lower.last().map(fs::metadata).transpose()? {
            let made = fs::metadata(&self.upper)?;
            if (root.uid(), root.gid()) != (made.uid(), made.gid()) {
                chown(&self.upper, Some(root.uid()), Some(root.gid()))?;
            }
            fs::set_permissions(&self.upper, root.permissions())?;
        }
        fs::create_dir(&self.work)?;
        let log = fs::File::create(&self.termination_log)?;
        log.set_permissions(fs::Permissions::from_mode(0o666))
    }

    /// The file that a container may leave its last words in.
    pub(super) fn termination_log(&self) -> &Path {
        &self.termination_log
    }

    /// The layer over those of an image, lowest first.
    pub(super) fn over(&self, lower: &[PathBuf]) -> Rootfs {
        Rootfs::Overlay { lower: lower.to_vec(), upper: self.upper.clone(), work: self.work.clone() }
    }

    /// Removes what there is of it; the rest goes with the pod.
    pub(super) fn remove(&self) {
        // What is in the way goes with the pod's directory.
        let _ = fs::remove_dir_all(&self.upper);
        let _ = fs::remove_dir_all(&self.work);
        let _ = fs::remove_file(&self.termination_log);
    }
}
