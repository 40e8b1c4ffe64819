//! Where podctl keeps things, by the XDG base directory specification.

use std::{
    env, fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;
use podctl_images::read_ordinary;

use super::{
    Error, Liveness, PodDir,
    data_place::{explain_data_place, find_data_place},
    file_names::{file_name, is_cut},
};
use crate::{
    pod::{ContainerName, Namespace, ObjectName, PodExt, Uid},
    process::find_runtime_dir,
};

/// The two directories that hold everything of one user's pods.
#[derive(Clone, Debug)]
pub struct Home {
    /// Holds what a reboot ends: `$XDG_RUNTIME_DIR/podctl` or what a session would have for it, for root `/run/podctl`.
    pub runtime: PathBuf,
    /// Holds what stays: `$XDG_DATA_HOME/podctl`, for root `/var/lib/podctl`.
    pub data: PathBuf,
    /// The program that plays podctl's roles for these pods; the one that runs else.
    pub program: Option<Arc<Path>>,
}

impl Home {
    /// The directories of the user who runs this process, made where they are missing.
    ///
    /// `PODCTL_RUNTIME_DIR` and `PODCTL_DATA_DIR` override them; a usual place that cannot be written gives way to another.
    ///
    /// # Errors
    /// [`Error::NoHome`] when no place can be written, [`Error::Io`] when one cannot be made.
    pub fn of_user() -> Result<Home, Error> {
        let uid = nix::unistd::geteuid();
        let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let data = find_data_place(uid)?;
        if let Some(runtime) = set("PODCTL_RUNTIME_DIR") {
            return Home::at(&runtime, &data);
        }
        if uid.is_root() {
            // Of a container that is read-only as a whole, /tmp is the first to be mounted.
            let usual = PathBuf::from("/run/podctl");
            let made = private_dir(&usual).is_ok();
            return Home::at(&if made { usual } else { env::temp_dir().join("podctl-0") }, &data);
        }
        let session = find_runtime_dir().map(|dir| dir.join("podctl"));
        let chosen = session.unwrap_or_else(|| env::temp_dir().join(format!("podctl-{uid}")));
        settle_runtime_dir(Home::at(&chosen, &data)?)
    }

    /// Says where the data lies, when that is not the usual place.
    pub fn explain_place(&self) -> Option<String> {
        explain_data_place(&self.data)
    }

    /// These directories, made where they are missing; for nobody but the user who runs this process.
    ///
    /// # Errors
    /// [`Error::Io`] when one cannot be made.
    pub fn at(runtime: &Path, data: &Path) -> Result<Home, Error> {
        let absolute = |dir: &Path| std::path::absolute(dir).map_err(Error::io("find", dir));
        let runtime = absolute(runtime)?;
        private_dir(&runtime)?;
        private_dir(&runtime.join("pods"))?;
        let home = Home { runtime, data: data_dir(&absolute(data)?)?, program: None };
        private_dir(&home.records_path())?;
        Ok(home)
    }

    /// The image store's directory.
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// The directory of the pods' records.
    pub fn records_path(&self) -> PathBuf {
        self.data.join("records")
    }

    /// Tells where one pod's state lies, whether or not there is such a pod.
    pub fn pod(&self, namespace: &Namespace, name: &ObjectName) -> PodDir {
        let own = file_name(&[namespace, name]);
        PodDir {
            path: self.records_path().join(&own),
            runtime: self.runtime.join("pods").join(own),
            namespace: namespace.clone(),
            name: name.clone(),
        }
    }

    /// Tells where the state of this pod lies.
    ///
    /// # Errors
    /// [`Error::Name`] when its name or namespace is none.
    pub fn place_of(&self, pod: &Pod) -> Result<PodDir, Error> {
        Ok(self.pod(&Namespace::of_pod(pod)?, &ObjectName::parse(pod.name())?))
    }

    /// Every pod there is, alive or ended, ordered by namespace and name. What else lies there is passed over.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be read.
    pub fn pods(&self) -> Result<Vec<PodDir>, Error> {
        let dir = self.records_path();
        let mut pods = Vec::new();
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let entry = entry.map_err(Error::io("list", &dir))?;
            // One with a dot in front is a record beside its place.
            pods.extend(entry.file_name().to_str().and_then(|name| self.named_pod(name)));
        }
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(pods)
    }

    /// The pod whose directory has this name, if it is a pod's.
    pub(super) fn named_pod(&self, file_name: &str) -> Option<PodDir> {
        let (namespace, name) = file_name.split_once('_')?;
        let namespace = Namespace::parse(namespace).ok()?;
        if !is_cut(file_name) {
            return Some(self.pod(&namespace, &ObjectName::parse(name).ok()?));
        }
        // Its file has the whole name; that has to belong to this directory.
        let text = read_ordinary(&self.records_path().join(file_name).join("pod.json")).ok()?;
        let pod: Pod = serde_json::from_slice(&text).ok()?;
        let dir = self.pod(&namespace, &ObjectName::of_object(&pod.metadata).ok()?);
        dir.path.ends_with(file_name).then_some(dir)
    }

    /// The directory of a pod's logs; in it one directory a container, see [`log_file`].
    pub fn logs(&self, dir: &PodDir, uid: &Uid) -> PathBuf {
        self.data.join("logs").join(file_name(&[&dir.namespace, &dir.name, uid]))
    }

    /// The writable layers and volumes of one living pod.
    pub fn pod_data(&self, uid: &Uid) -> PathBuf {
        self.data.join("pods").join(uid.as_str())
    }
}

/// The log of one start of a container, in the [directory of its pod's logs](Home::logs).
pub fn log_file(logs: &Path, container: &ContainerName, attempt: u32) -> PathBuf {
    logs.join(container.as_str()).join(format!("{attempt}.log"))
}

/// Tells, in the data directory, where the living pods' runtime directory is.
const RUNTIME_LINK: &str = "runtime";

/// Gives a user one view, whatever the environment: with a session (login) and without one (cron, `su`, `sudo -u`) the
/// runtime directory would be another one. While pods live that were started in the other, that one it is.
fn settle_runtime_dir(chosen: Home) -> Result<Home, Error> {
    let link = chosen.data.join(RUNTIME_LINK);
    let before = fs::read_link(&link).ok();
    if before.as_ref() == Some(&chosen.runtime) {
        return Ok(chosen);
    }
    if let Some(runtime) = before.filter(|runtime| runtime.join("pods").is_dir()) {
        let other = Home { runtime, ..chosen.clone() };
        if other.pods()?.iter().any(|pod| pod.read_liveness() == Liveness::Alive) {
            return Home::at(&other.runtime, &other.data);
        }
    }
    // Replaced in one step, for another command may read it.
    let beside = chosen.data.join(format!("{RUNTIME_LINK}.{}", std::process::id()));
    let done = std::os::unix::fs::symlink(&chosen.runtime, &beside).and_then(|()| fs::rename(&beside, &link));
    match done {
        Ok(()) => Ok(chosen),
        Err(e) if e.kind() == std::io::ErrorKind::StorageFull => Ok(chosen),
        Err(e) => Err(Error::io("note the runtime directory in", &link)(e)),
    }
}

/// Makes a directory that nobody else may enter, and refuses one that somebody else owns.
pub(super) fn private_dir(dir: &Path) -> Result<(), Error> {
    let meta = match fs::symlink_metadata(dir) {
        Ok(meta) => meta,
        Err(_) => {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(Error::io("make directory", dir))?;
            fs::symlink_metadata(dir).map_err(Error::io("inspect", dir))?
        }
    };
    if !meta.is_dir() {
        return Err(Error::io("use", dir)(std::io::ErrorKind::NotADirectory.into()));
    }
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(belongs_to_another(dir));
    }
    if meta.mode() & 0o777 != 0o700 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(Error::io("protect", dir))?;
    }
    Ok(())
}

/// Makes the data directory like [`private_dir`]. It may be a link of the user's, as to a disk with more space; returned is where
/// that leads, for what is in it is reached without following links.
pub(super) fn data_dir(dir: &Path) -> Result<PathBuf, Error> {
    let link = fs::symlink_metadata(dir).ok().filter(fs::Metadata::is_symlink);
    let Some(link) = link else { return private_dir(dir).map(|()| dir.to_owned()) };
    if link.uid() != 0 && link.uid() != nix::unistd::geteuid().as_raw() {
        return Err(belongs_to_another(dir));
    }
    let real = fs::canonicalize(dir).map_err(Error::io("follow the link", dir))?;
    private_dir(&real).map(|()| real)
}

fn belongs_to_another(path: &Path) -> Error {
    Error::io("use", path)(std::io::Error::other("it belongs to another user"))
}
