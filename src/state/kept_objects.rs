//! The local store of ConfigMaps, Secrets and Services: one file an object, for its owner's eyes only.
//!
//! It lies in the data directory and not in memory: who makes a Secret expects it after a reboot.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use k8s_openapi::{
    Metadata, Resource,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use podctl_images::{is_misplaced, read_ordinary};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Error, Home,
    file_names::{file_name, make_anew, move_into_place, remove_tree},
};
use crate::pod::{Namespace, ObjectName};

/// The kind of object that is kept.
pub trait Kept: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned {}
impl Kept for k8s_openapi::api::core::v1::ConfigMap {}
impl Kept for k8s_openapi::api::core::v1::Secret {}
impl Kept for k8s_openapi::api::core::v1::Service {}
impl Kept for k8s_openapi::api::core::v1::Namespace {}
impl Kept for k8s_openapi::api::batch::v1::Job {}

impl Home {
    pub(super) fn object_dir<T: Kept>(&self, namespace: &Namespace) -> PathBuf {
        self.namespace_dir(namespace).join(T::KIND.to_lowercase())
    }

    /// Every namespace that an object or a local volume is kept in.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn namespaces(&self) -> Result<Vec<Namespace>, Error> {
        let known = names(&self.data.join("objects"))?;
        let mut all: Vec<_> = known.iter().filter_map(|name| Namespace::parse(name).ok()).collect();
        all.extend(self.volumes()?.into_iter().map(|v| v.namespace));
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// Tells where the objects of a namespace are, whether or not there are any.
    pub fn namespace_dir(&self, namespace: &Namespace) -> PathBuf {
        self.data.join("objects").join(namespace.as_str())
    }

    /// Every directory that kept objects and volumes are in; a change of one is a change of what it holds.
    pub fn object_dirs(&self) -> Vec<PathBuf> {
        let (objects, volumes) = (self.data.join("objects"), self.data.join("volumes"));
        let below = |dir: &PathBuf| {
            names(dir).unwrap_or_default().into_iter().map(|name| dir.join(name)).collect::<Vec<_>>()
        };
        let namespaces = below(&objects);
        let kinds = namespaces.iter().flat_map(below).collect::<Vec<_>>();
        let claims = below(&volumes);
        [vec![objects, volumes], namespaces, kinds, claims].concat()
    }

    /// The objects of a kind, by name. Damaged ones are passed over; [`Home::damaged_objects`] tells of them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn objects<T: Kept>(&self, namespace: &Namespace) -> Result<Vec<T>, Error> {
        let read = self.read_objects::<T>(namespace)?;
        let mut objects: Vec<T> = read.into_iter().filter_map(Result::ok).collect();
        // Long names are in the order of what is kept of them.
        objects.sort_by(|a, b| a.metadata().name.cmp(&b.metadata().name));
        Ok(objects)
    }

    /// Returns what is wrong with each object of a kind that cannot be read.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be read.
    pub fn damaged_objects<T: Kept>(&self, namespace: &Namespace) -> Result<Vec<Error>, Error> {
        Ok(self.read_objects::<T>(namespace)?.into_iter().filter_map(Result::err).collect())
    }

    fn read_objects<T: Kept>(&self, namespace: &Namespace) -> Result<Vec<Result<T, Error>>, Error> {
        let dir = self.object_dir::<T>(namespace);
        let mut names = match names(&dir) {
            // No more is hidden by it than what it should hold.
            Err(Error::Io { path, source, .. }) if is_misplaced(&source) => {
                return Ok(vec![Err(Error::DamagedObject { path, source })]);
            }
            names => names?,
        };
        names.retain(|name| name.ends_with(".json"));
        names.sort();
        Ok(names.iter().filter_map(|name| read(&dir.join(name)).transpose()).collect())
    }

    /// Reads an object; nothing where there is none.
    ///
    /// # Errors
    /// As [`Home::objects`].
    pub fn object<T: Kept>(&self, namespace: &Namespace, name: &ObjectName) -> Result<Option<T>, Error> {
        read(&self.object_file::<T>(namespace, name))
    }

    fn object_file<T: Kept>(&self, namespace: &Namespace, name: &ObjectName) -> PathBuf {
        self.object_dir::<T>(namespace).join(format!("{}.json", file_name(&[name])))
    }

    /// Stores an object in place of one of its name.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Io`].
    pub fn keep<T: Kept>(&self, namespace: &Namespace, mut object: T) -> Result<(), Error> {
        let name = ObjectName::of_object(object.metadata())?;
        let dir = self.object_dir::<T>(namespace);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(Error::io("make directory", &dir))?;
        // A damaged one makes room.
        let known = self.object::<T>(namespace, &name).ok().flatten().map(|o| o.metadata().clone());
        let meta = object.metadata_mut();
        meta.namespace = Some(namespace.to_string());
        meta.uid = known
            .as_ref()
            .and_then(|known| known.uid.clone())
            .or_else(|| meta.uid.take())
            .or_else(|| Some(uuid::Uuid::new_v4().to_string()));
        meta.creation_timestamp = known
            .and_then(|known| known.creation_timestamp)
            .or_else(|| meta.creation_timestamp.take())
            .or_else(|| Some(Time(Timestamp::now())));
        write(&self.object_file::<T>(namespace, &name), &object)
    }

    /// Forgets an object; says whether there was one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget<T: Kept>(&self, namespace: &Namespace, name: &ObjectName) -> Result<bool, Error> {
        let path = self.object_file::<T>(namespace, name);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            // Something else that stands in its place.
            Err(_) => remove_tree(&path).map(|()| true).map_err(Error::io("remove", &path)),
        }
    }
}

impl Home {
    /// Takes the place of a namespace's objects away, and what is left in it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget_namespace(&self, namespace: &Namespace) -> Result<(), Error> {
        let path = self.data.join("objects").join(namespace.as_str());
        remove_tree(&path).map_err(Error::io("remove", &path))
    }
}

/// The names in a directory, which need not be there.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", dir))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io("list", dir))?.file_name();
        names.extend(name.into_string());
    }
    Ok(names)
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let damaged = |source| Error::DamagedObject { path: path.to_owned(), source };
    match read_ordinary(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if is_misplaced(&e) => Err(damaged(e)),
        text => {
            let text = text.map_err(Error::io("read", path))?;
            serde_json::from_slice(&text).map(Some).map_err(|e| damaged(e.into()))
        }
    }
}

/// Writes beside the file, syncs, renames: this is not to be lost.
pub(super) fn write(path: &Path, object: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec(object).expect("an API object is always JSON");
    let beside = path.with_extension(format!("new{}", std::process::id()));
    let written =
        make_anew(&beside).and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    written.map_err(Error::io("write", &beside))?;
    move_into_place(&beside, path).map_err(Error::io("replace", path))
}
