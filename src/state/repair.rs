//! Looking through podctl's own files for what stands in their places, and mending it: somebody has taken a file's mode away,
//! or put something else where it was.
//!
//! Nothing that can be read is lost by it: an object of which no sense can be made is put beside its place.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service},
};

use nix::unistd::{AccessFlags, access, geteuid};

use super::{
    Error, Home, Liveness,
    file_names::{open_or_make, remove_tree},
    kept_objects::{self, Kept},
    plain_claim,
};
use crate::pod::Namespace;

/// Something among podctl's own files that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The place where it is.
    pub path: PathBuf,
    /// Holds what is wrong with it.
    pub what: String,
    /// Says what was done about it; nothing when it is still so.
    pub mended: Option<&'static str>,
}

/// What should be at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
}

/// Directories of the data directory that may be there.
const DIRECTORIES: [&str; 11] = [
    "logs",
    "pods",
    "records",
    "objects",
    "volumes",
    "images",
    "images/refs",
    "images/layers",
    "images/inventories",
    "images/leases",
    "images/tmp",
];

impl Home {
    /// Looks through the files of podctl's own, and with `repair` mends what it can. Records that cannot be read are for who
    /// ends pods.
    pub fn look_through_files(&self, repair: bool) -> Vec<Damage> {
        let mut look = Look { repair, found: Vec::new() };
        for name in DIRECTORIES {
            look.check_kind(&self.data.join(name), Kind::Directory);
        }
        look.check_kind(&self.data.join("images/lock"), Kind::File);
        for name in ["images/refs", "images/leases", "images/inventories"] {
            look.check_entries(&self.data.join(name), Kind::File);
        }
        for name in ["images/layers", "records", "logs", "pods"] {
            look.check_entries(&self.data.join(name), Kind::Directory);
        }
        for record in list_entries(&self.records_path()) {
            look.check_entries(&record, Kind::File);
        }
        for name in ["pods", "network", "jobs", "memory"] {
            look.check_kind(&self.runtime.join(name), Kind::Directory);
        }
        look.check_entries(&self.runtime.join("pods"), Kind::Directory);
        look.check_entries(&self.runtime.join("jobs"), Kind::File);
        for name in ["lock", "alive"] {
            look.check_kind(&self.runtime.join("network").join(name), Kind::File);
        }
        self.look_through_objects(&mut look);
        self.look_through_volumes(&mut look);
        look.found
    }

    fn look_through_objects(&self, look: &mut Look) {
        let objects = self.data.join("objects");
        look.check_entries(&objects, Kind::Directory);
        for namespace in list_entries(&objects) {
            look.check_entries(&namespace, Kind::Directory);
            list_entries(&namespace).iter().for_each(|kind| look.check_entries(kind, Kind::File));
        }
        for namespace in self.namespaces().unwrap_or_default() {
            self.look_at_kind::<ConfigMap>(&namespace, look);
            self.look_at_kind::<Secret>(&namespace, look);
            self.look_at_kind::<Service>(&namespace, look);
            self.look_at_kind::<Job>(&namespace, look);
            self.look_at_kind::<k8s_openapi::api::core::v1::Namespace>(&namespace, look);
        }
    }

    fn look_at_kind<T: Kept>(&self, namespace: &Namespace, look: &mut Look) {
        for wrong in self.damaged_objects::<T>(namespace).unwrap_or_default() {
            if let Error::DamagedObject { path, source } = wrong {
                look.put_beside(&path, &source);
            }
        }
    }

    fn look_through_volumes(&self, look: &mut Look) {
        look.check_entries(&self.data.join("volumes"), Kind::Directory);
        for volume in list_entries(&self.data.join("volumes")) {
            for name in ["lock", "claim.json"] {
                look.check_kind(&volume.join(name), Kind::File);
            }
            look.check_kind(&volume.join("data"), Kind::Directory);
            if look.repair && volume.join("claim.json").exists() {
                // Without its lock it would be none; what cannot be made now the next look makes.
                let _ = open_or_make(&volume.join("lock"), fs::File::options().create(true).append(true));
            }
            let claim = volume.join("claim.json");
            let wrong = match kept_objects::read::<PersistentVolumeClaim>(&claim) {
                Err(Error::DamagedObject { source, .. }) => source,
                _ => continue,
            };
            let of_name = volume.file_name().and_then(|name| self.named_volume(name.to_str()?));
            look.put_beside(&claim, &wrong);
            if look.repair
                && let Some(volume) = of_name
            {
                // Its files are what counts; what cannot be written now is made by the next pod that uses it.
                let _ = volume.make(&plain_claim(&volume.name, "1Gi"));
            }
        }
    }

    /// The records in their places whose pods have ended and cannot be read.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be read.
    pub fn damaged_records(&self) -> Result<Vec<(super::PodDir, Error)>, Error> {
        let ended = self.pods()?.into_iter().filter(|dir| dir.read_liveness() == Liveness::Ended);
        let wrong = ended.filter_map(|dir| dir.read().err().map(|e| (dir, e)));
        // One without a pod in it is left from a start, or of nobody.
        Ok(wrong.filter(|(_, e)| matches!(e, Error::Damaged { .. } | Error::NotFound { .. })).collect())
    }
}

/// One look through the files.
struct Look {
    repair: bool,
    found: Vec<Damage>,
}

impl Look {
    fn note(&mut self, path: &Path, what: impl Into<String>, mended: Option<&'static str>) {
        self.found.push(Damage { path: path.to_owned(), what: what.into(), mended });
    }

    /// Looks at what is in a directory.
    fn check_entries(&mut self, dir: &Path, kind: Kind) {
        list_entries(dir).iter().for_each(|path| self.check_kind(path, kind));
    }

    /// Looks at one place: whether what is there is what should be, ours, and open to us.
    fn check_kind(&mut self, path: &Path, kind: Kind) {
        let Ok(own) = fs::symlink_metadata(path) else { return };
        // A directory may be a link to where there is more room.
        let meta = if kind == Kind::Directory { fs::metadata(path).ok() } else { Some(own.clone()) };
        let fits = |meta: &fs::Metadata| match kind {
            Kind::Directory => meta.is_dir(),
            Kind::File => meta.is_file(),
        };
        let Some(meta) = meta.filter(fits) else {
            let what = if kind == Kind::Directory { "it is no directory" } else { "it is no ordinary file" };
            let mended = self.repair && remove_tree(path).is_ok();
            if mended && kind == Kind::Directory {
                // Where it stays away, it is made when it is needed.
                let _ = super::home::private_dir(path);
            }
            return self.note(path, what, mended.then_some("removed"));
        };
        let wanted = if kind == Kind::Directory { 0o700 } else { 0o600 };
        let uid = geteuid();
        if meta.uid() == uid.as_raw() && meta.mode() & wanted != wanted {
            let mode = fs::Permissions::from_mode(meta.mode() & 0o7777 | wanted);
            let mended = self.repair && fs::set_permissions(path, mode).is_ok();
            self.note(path, "its mode keeps its owner out", mended.then_some("mended"));
        } else if meta.uid() != uid.as_raw() && !is_usable(path, kind) {
            let what =
                format!("it belongs to another user; `sudo chown {uid} {}` gives it back", path.display());
            self.note(path, what, None);
        }
    }

    /// Puts what nothing can be made of beside its place.
    fn put_beside(&mut self, path: &Path, source: &std::io::Error) {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".damaged");
        let mended = self.repair && (fs::rename(path, &beside).is_ok() || remove_tree(path).is_ok());
        self.note(path, source.to_string(), mended.then_some("put beside its place, as .damaged"));
    }
}

/// Tells whether this user may do with it what podctl does.
fn is_usable(path: &Path, kind: Kind) -> bool {
    let wanted = AccessFlags::R_OK | AccessFlags::W_OK;
    let wanted = if kind == Kind::Directory { wanted | AccessFlags::X_OK } else { wanted };
    access(path, wanted).is_ok()
}

/// What is in a directory; nothing when that cannot be listed.
fn list_entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::ObjectName;

    #[test]
    fn a_volume_whose_lock_was_replaced_is_one_again() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::at(&scratch.path().join("run"), &scratch.path().join("data")).unwrap();
        let volume = home.volume(&Namespace::default(), &ObjectName::parse("v").unwrap());
        volume.make_if_missing().unwrap();
        assert!(home.look_through_files(true).is_empty());
        fs::remove_file(volume.path.join("lock")).unwrap();
        fs::create_dir(volume.path.join("lock")).unwrap();
        assert!(volume.hold().is_err() && home.look_through_files(false).len() == 1);
        assert_eq!(home.look_through_files(true)[0].mended, Some("removed"));
        assert!(volume.hold().is_ok() && home.look_through_files(false).is_empty());
    }
}
