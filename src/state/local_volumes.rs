//! Local volumes: the directories behind PersistentVolumeClaims. They outlive pods and reboots.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::PathBuf,
};

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
    jiff::Timestamp,
};
use podctl_images::open_ordinary;
use serde::{Deserialize, Serialize};

use super::{
    Error, Home,
    file_names::{file_name, is_cut},
    kept_objects,
    name_claim::is_named,
};
use crate::pod::{Namespace, ObjectName};

/// Number of times that a volume is made while others remove it.
const TRIES: u32 = 20;
/// Begins the name of one that is being removed.
const GONE: &str = ".gone-";

/// The local volume's directory: `claim.json`, `lock`, and its files in `data/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeDir {
    /// `…/volumes/NAMESPACE_NAME`
    pub path: PathBuf,
    /// The claim's namespace.
    pub namespace: Namespace,
    /// The claim's name.
    pub name: ObjectName,
}

impl Home {
    /// Tells where the volume of that claim lies, whether or not there is one.
    pub fn volume(&self, namespace: &Namespace, name: &ObjectName) -> VolumeDir {
        let path = self.data.join("volumes").join(file_name(&[namespace, name]));
        VolumeDir { path, namespace: namespace.clone(), name: name.clone() }
    }

    /// The volume whose directory has this name, if it is a volume's.
    pub(super) fn named_volume(&self, file_name: &str) -> Option<VolumeDir> {
        let (namespace, name) = file_name.split_once('_')?;
        let namespace = Namespace::parse(namespace).ok()?;
        if !is_cut(file_name) {
            return Some(self.volume(&namespace, &ObjectName::parse(name).ok()?));
        }
        // Its claim has the whole name; that has to belong to this directory.
        let path = self.data.join("volumes").join(file_name).join("claim.json");
        let claim: PersistentVolumeClaim = kept_objects::read(&path).ok()??;
        let volume = self.volume(&namespace, &ObjectName::parse(claim.metadata.name.as_deref()?).ok()?);
        volume.path.ends_with(file_name).then_some(volume)
    }

    /// Every local volume, ordered by namespace and name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn volumes(&self) -> Result<Vec<VolumeDir>, Error> {
        let mut all = Vec::new();
        for name in kept_objects::names(&self.data.join("volumes"))? {
            all.extend(self.named_volume(&name));
        }
        all.retain(|v| v.path.join("claim.json").exists());
        all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(all)
    }

    /// Volumes whose removal was killed, each with the lock that its remover had.
    pub fn left_volumes(&self) -> Vec<(PathBuf, Option<File>)> {
        let entries = fs::read_dir(self.data.join("volumes")).into_iter().flatten().flatten();
        let gone =
            entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(GONE)));
        let left = gone.filter_map(|entry| {
            match open_ordinary(&entry.path().join("lock"), File::options().read(true)) {
                Ok(lock) => lock.try_lock().ok().map(|()| (entry.path(), Some(lock))),
                Err(_) => Some((entry.path(), None)),
            }
        });
        left.collect()
    }
}

impl VolumeDir {
    /// The files that pods see.
    pub fn files(&self) -> PathBuf {
        self.path.join("data")
    }

    /// The claim; `None` when there is no such volume.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DamagedObject`].
    pub fn claim(&self) -> Result<Option<PersistentVolumeClaim>, Error> {
        kept_objects::read(&self.path.join("claim.json"))
    }

    /// Makes the volume, or gives an existing one a new claim; its files stay. It may be removed meanwhile, and is made anew.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn make(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        for _ in 0..TRIES {
            // Who removes it is kept away by the lock; a pod that has the volume alone keeps it, too.
            let _lock = match self.lock(false) {
                Err(Error::VolumeGone { .. } | Error::VolumeInUse { .. }) => None,
                lock => Some(lock?),
            };
            match self.fill(claim) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                made => return made,
            }
        }
        self.fill(claim)
    }

    fn fill(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(Error::io("make directory", &self.path))?;
        let files = self.files();
        match fs::create_dir(&files) {
            // Whoever a container runs as may write, as in an emptyDir.
            Ok(()) => fs::set_permissions(&files, fs::Permissions::from_mode(0o777)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
        }
        .map_err(Error::io("make directory", &files))?;
        let lock = self.path.join("lock");
        open_ordinary(&lock, File::options().create(true).append(true)).map_err(Error::io("make", lock))?;
        let mut claim = claim.clone();
        claim.metadata.name = Some(self.name.to_string());
        claim.metadata.namespace = Some(self.namespace.to_string());
        let known = self.claim()?.map(|known| known.metadata).unwrap_or_default();
        claim.metadata.uid = known.uid.or_else(|| Some(uuid::Uuid::new_v4().to_string()));
        claim.metadata.creation_timestamp = known.creation_timestamp.or_else(|| Some(Time(Timestamp::now())));
        kept_objects::write(&self.path.join("claim.json"), &claim)
    }

    /// Makes the volume with a claim that nobody wrote, when there is none.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DamagedObject`].
    pub fn make_if_missing(&self) -> Result<(), Error> {
        match self.claim()? {
            Some(_) => Ok(()),
            None => self.make(&plain_claim(&self.name, "1Gi")),
        }
    }

    /// Holds the volume for a pod: alone when its claim says ReadWriteOncePod, else beside others.
    ///
    /// # Errors
    /// [`Error::VolumeInUse`], [`Error::Io`], [`Error::DamagedObject`].
    pub fn hold(&self) -> Result<File, Error> {
        let spec = self.claim()?.and_then(|c| c.spec).unwrap_or_default();
        let alone = spec.access_modes.iter().flatten().any(|mode| mode == "ReadWriteOncePod");
        self.lock(alone)
    }

    /// Takes the volume out of its place, so that nobody sees it half removed; the caller has its lock, alone.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn move_aside(&self) -> Result<PathBuf, Error> {
        let aside = self.path.with_file_name(format!("{GONE}{}", uuid::Uuid::new_v4()));
        fs::rename(&self.path, &aside).map_err(Error::io("put aside", &self.path))?;
        Ok(aside)
    }

    /// Takes the volume's lock.
    ///
    /// # Errors
    /// [`Error::VolumeInUse`] when a pod holds it, [`Error::VolumeGone`] when it has been removed.
    pub fn lock(&self, alone: bool) -> Result<File, Error> {
        let path = self.path.join("lock");
        let gone = || Error::VolumeGone { name: self.name.to_string() };
        let file = match open_ordinary(&path, File::options().read(true)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(gone()),
            file => file.map_err(Error::io("open", &path))?,
        };
        let taken = if alone { file.try_lock() } else { file.try_lock_shared() };
        match taken {
            Ok(()) if is_named(&file, &path) => Ok(file),
            Ok(()) => Err(gone()),
            Err(TryLockError::WouldBlock) => Err(Error::VolumeInUse { name: self.name.to_string() }),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", &path)(e)),
        }
    }
}

/// Returns a claim of that size, for ReadWriteOnce.
pub fn plain_claim(name: &str, size: &str) -> PersistentVolumeClaim {
    let storage = [("storage".to_owned(), Quantity(size.into()))];
    PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(storage.into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_volume_can_be_made_and_held_while_others_remove_it() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::at(&scratch.path().join("run"), &scratch.path().join("data")).unwrap();
        let volume = home.volume(&Namespace::default(), &ObjectName::parse("v").unwrap());
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    if volume.claim().is_ok_and(|claim| claim.is_some())
                        && let Ok(_lock) = volume.lock(true)
                        && let Ok(aside) = volume.move_aside()
                    {
                        fs::remove_dir_all(aside).unwrap();
                    }
                }
            });
            let made: Vec<_> =
                (0..300).map(|_| volume.make_if_missing().and_then(|()| volume.hold())).collect();
            is_over.store(true, Ordering::SeqCst);
            let known = |e: &Error| matches!(e, Error::VolumeInUse { .. } | Error::VolumeGone { .. });
            let wrong: Vec<_> =
                made.iter().filter_map(|made| made.as_ref().err()).filter(|e| !known(e)).collect();
            assert!(wrong.is_empty(), "{wrong:?}");
        });
        volume.make_if_missing().unwrap();
        assert!(volume.hold().is_ok() && home.left_volumes().is_empty());
    }
}
