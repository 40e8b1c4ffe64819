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
use serde::{Deserialize, Serialize};

use super::{
    Error, Home,
    file_names::{file_name, is_cut},
    kept_objects,
};
use crate::pod::{Namespace, ObjectName};

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
    fn named_volume(&self, file_name: &str) -> Option<VolumeDir> {
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

    /// Makes the volume, or gives an existing one a new claim; its files stay.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn make(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
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
        File::options().create(true).append(true).open(&lock).map_err(Error::io("make", lock))?;
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

    /// Takes the volume's lock.
    ///
    /// # Errors
    /// [`Error::VolumeInUse`] when a pod holds it.
    pub fn lock(&self, alone: bool) -> Result<File, Error> {
        let path = self.path.join("lock");
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let taken = if alone { file.try_lock() } else { file.try_lock_shared() };
        match taken {
            Ok(()) => Ok(file),
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
