//! A pod's volumes, made once before its first container (R-VOL-1, R-VOL-2).
//!
//! ARCHITECTURE.md lists all that a new kind of volume touches.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};
use nix::mount::{MsFlags, mount};
use podctl_images::{Image, KeptIds, remapped_layers};
use podctl_runtime::mount_layers;

use super::{Error, Objects, config_files::Files, downward_api::Facts, fs_group, user};
use crate::pod::{
    PodExt, VolumeName,
    quantity::quantity_bytes,
    resources::{effective_limits, huge_page_size},
};

/// Tells where each hostPath is, or why it is nowhere, by the volume's name.
pub type HostPaths = BTreeMap<String, Result<PathBuf, String>>;

/// Tells where a pod's volumes are made.
#[derive(Debug, Default)]
pub struct Places {
    /// Lies on disk, for emptyDir.
    pub disk: PathBuf,
    /// Lies in memory, for everything that podctl writes itself, secrets among it.
    pub memory: PathBuf,
    /// hostPath volumes that are mounted already, or why they could not be.
    pub host: HostPaths,
    /// The ids that the user has in the pod, for images' layers.
    pub kept_ids: Option<KeptIds>,
}

/// Holds what was made.
#[derive(Debug, Default)]
pub struct Volumes {
    /// The directory or file behind each name.
    pub paths: BTreeMap<String, PathBuf>,
    /// Locks on the local volumes, held as long as the pod lives.
    pub locks: Vec<File>,
    /// The reason why those that could not be made last time could not, by name.
    pub failed: BTreeMap<String, Error>,
    places: Places,
}

impl Volumes {
    /// None yet; they are made there.
    pub(super) fn at(places: Places) -> Volumes {
        Volumes { places, ..Volumes::default() }
    }

    /// Makes every volume of the pod that is not there yet; but one whose image is yet to be pulled.
    pub(super) fn make(&mut self, pod: &Pod, objects: &Objects, facts: &Facts) {
        self.failed.clear();
        for volume in pod.volumes() {
            let image_is_missing = volume.image.is_some() && !objects.images.contains_key(&volume.name);
            if self.paths.contains_key(&volume.name) || image_is_missing {
                continue;
            }
            match make_volume(volume, pod, objects, facts, &self.places, &mut self.locks) {
                Ok(path) => drop(self.paths.insert(volume.name.clone(), path)),
                Err(e) => drop(self.failed.insert(volume.name.clone(), e)),
            }
        }
    }
}

/// Makes one volume, in its owner's group and with its mounts shared where that is asked for.
fn make_volume(
    volume: &Volume,
    pod: &Pod,
    objects: &Objects,
    facts: &Facts,
    places: &Places,
    locks: &mut Vec<File>,
) -> Result<PathBuf, Error> {
    let security = pod.security_context();
    let mismatch = security.and_then(|s| s.fs_group_change_policy.as_deref()) == Some("OnRootMismatch");
    let path = one(volume, pod, objects, facts, places, locks)?;
    let shared = volume.host_path.is_some() || volume.image.is_some();
    if let Some(group) = security.and_then(|s| s.fs_group).filter(|_| !shared) {
        let policy = match written_by_podctl(volume) {
            true => fs_group::Policy::ReadOnly,
            false if mismatch => fs_group::Policy::OnRootMismatch,
            false => fs_group::Policy::Always,
        };
        let id = user::checked_id(group, "group")?;
        fs_group::give_to_group(&path, id, policy).map_err(|e| Error::Volume {
            volume: volume.name.clone(),
            message: match e {
                nix::errno::Errno::EINVAL => {
                    format!(
                        "fsGroup {group} is outside the range of group ids that /etc/subgid gives this user"
                    )
                }
                e => format!("cannot give it to fsGroup {group}: {}", e.desc()),
            },
        })?;
    }
    if mounts_are_shared(pod, &volume.name) {
        share_mounts(&path).map_err(|e| Error::Volume {
            volume: volume.name.clone(),
            message: format!("cannot share the mounts of {}: {}", path.display(), e.desc()),
        })?;
    }
    Ok(path)
}

/// Writes a volume of podctl's own anew, all of its files at once.
///
/// # Errors
/// As [`prepare`]; the old files are then still there.
pub(super) fn rewrite_files(
    volume: &Volume,
    pod: &Pod,
    objects: &Objects,
    facts: &Facts,
    path: &Path,
) -> Result<(), Error> {
    let (files, mode) = configuration(volume, objects, facts)?;
    let group = pod.security_context().and_then(|s| s.fs_group);
    let group = group.map(|group| user::checked_id(group, "group")).transpose()?;
    let give = |dir: &Path| match group {
        Some(group) => Ok(fs_group::give_to_group(dir, group, fs_group::Policy::ReadOnly)?),
        None => Ok(()),
    };
    files.replace(path, mode.unwrap_or(0o644), give).map_err(|e| Error::Volume {
        volume: volume.name.clone(),
        message: format!("{}: {e}", path.display()),
    })
}

/// Tells whether what a container mounts in it is for the others of the pod to see.
fn mounts_are_shared(pod: &Pod, volume: &str) -> bool {
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    let mut mounts = containers.flat_map(|c| c.volume_mounts.iter().flatten());
    mounts.any(|m| m.name == volume && m.mount_propagation.as_deref() == Some("Bidirectional"))
}

/// Returns a mount of the volume's own, from which those of the containers are cloned: they are its peers, or its slaves.
fn share_mounts(path: &Path) -> nix::Result<()> {
    let none = None::<&str>;
    mount(Some(path), path, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    mount(none, path, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none)
}

/// Volumes that no container may write to.
pub(super) fn written_by_podctl(v: &Volume) -> bool {
    v.config_map.is_some() || v.secret.is_some() || v.downward_api.is_some() || v.projected.is_some()
}

fn one(
    volume: &Volume,
    pod: &Pod,
    objects: &Objects,
    facts: &Facts,
    places: &Places,
    locks: &mut Vec<File>,
) -> Result<PathBuf, Error> {
    let wrong = |message: String| Error::Volume { volume: volume.name.clone(), message };
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |e: io::Error| Error::Volume { volume: volume.name.clone(), message: format!("{path}: {e}") }
    };
    let name = VolumeName::parse(&volume.name).map_err(|e| wrong(e.to_string()))?;
    if let Some(host) = &volume.host_path {
        let mounted = places.host.get(&volume.name).cloned();
        return mounted.unwrap_or_else(|| host_path(host)).map_err(wrong);
    }
    if let Some(empty) = &volume.empty_dir {
        if let Some(medium) = empty.medium.as_deref().filter(|medium| medium.starts_with("HugePages")) {
            let page = huge_page_size(medium, &pod.spec.clone().unwrap_or_default()).map_err(wrong)?;
            return huge_pages(&places.memory.join(name.as_str()), page).map_err(wrong);
        }
        let memory = pod.spec.as_ref().and_then(|s| effective_limits(s).memory);
        return empty_dir(&name, empty, memory, places).map_err(wrong);
    }
    if volume.ephemeral.is_some() {
        return empty_dir(&name, &EmptyDirVolumeSource::default(), None, places).map_err(wrong);
    }
    if let Some(source) = &volume.persistent_volume_claim {
        let dir = objects.claims.get(&source.claim_name);
        let dir = dir.ok_or_else(|| wrong(format!("there is no claim {:?}", source.claim_name)))?;
        locks.push(dir.hold().map_err(|e| wrong(e.to_string()))?);
        return Ok(dir.files());
    }
    if let Some(source) = &volume.image {
        let image = objects.images.get(&volume.name).ok_or_else(|| {
            let name = source.reference.as_deref().unwrap_or_default();
            wrong(format!("image {name:?} is not present, and its pullPolicy does not allow to pull it"))
        })?;
        let layers = image_layers(image, places.kept_ids);
        return image_files(image, &layers, &places.memory.join(name.as_str())).map_err(wrong);
    }
    let (files, mode) = configuration(volume, objects, facts)?;
    let path = places.memory.join(name.as_str());
    // What a try before has left; it was shown to nobody.
    let _ = fs::remove_dir_all(&path);
    files.write(&path, mode.unwrap_or(0o644)).map_err(io(&path))?;
    Ok(path)
}

/// The files of a volume that podctl writes itself, and their mode.
fn configuration(volume: &Volume, objects: &Objects, facts: &Facts) -> Result<(Files, Option<i32>), Error> {
    let wrong = |message: String| Error::Volume { volume: volume.name.clone(), message };
    let mut files = Files::default();
    let mode = if let Some(source) = &volume.config_map {
        if let Some(map) = objects.config_map(&source.name, source.optional)? {
            files.config_map(map, source.items.as_deref(), source.optional).map_err(wrong)?;
        }
        source.default_mode
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        if let Some(secret) = objects.secret(name, source.optional)? {
            files.secret(secret, source.items.as_deref(), source.optional).map_err(wrong)?;
        }
        source.default_mode
    } else if let Some(source) = &volume.downward_api {
        for item in source.items.iter().flatten() {
            files.downward(item, facts)?;
        }
        source.default_mode
    } else if let Some(source) = &volume.projected {
        for part in source.sources.iter().flatten() {
            if let Some(p) = &part.config_map
                && let Some(map) = objects.config_map(&p.name, p.optional)?
            {
                files.config_map(map, p.items.as_deref(), p.optional).map_err(wrong)?;
            }
            if let Some(p) = &part.secret
                && let Some(secret) = objects.secret(&p.name, p.optional)?
            {
                files.secret(secret, p.items.as_deref(), p.optional).map_err(wrong)?;
            }
            for item in part.downward_api.iter().flat_map(|d| d.items.iter().flatten()) {
                files.downward(item, facts)?;
            }
        }
        source.default_mode
    } else {
        return Err(wrong("this kind of volume is not supported".to_owned()));
    };
    Ok((files, mode))
}

/// R-VOL-1. One in memory is as large as its limit, and no larger than what the pod's containers may use together, in
/// bytes.
fn empty_dir(
    name: &VolumeName,
    source: &EmptyDirVolumeSource,
    memory: Option<u64>,
    places: &Places,
) -> Result<PathBuf, String> {
    let in_memory = match source.medium.as_deref().unwrap_or("") {
        "" => false,
        "Memory" => true,
        other => return Err(format!("medium {other:?} is not supported; use \"\" or Memory")),
    };
    let path = if in_memory { &places.memory } else { &places.disk }.join(name.as_str());
    let failed = |e: io::Error| format!("{}: {e}", path.display());
    if !in_memory {
        fs::create_dir_all(&places.disk).map_err(failed)?;
    }
    fs::create_dir_all(&path).map_err(failed)?;
    if in_memory {
        let mut options = "mode=0777".to_owned();
        let own = source.size_limit.as_ref().and_then(|q| quantity_bytes(&q.0).ok()).filter(|own| *own > 0);
        if let Some(most) = own.into_iter().chain(memory).min() {
            options += &format!(",size={most}");
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), &path, Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(|e| format!("cannot mount a tmpfs: {}", e.desc()))?;
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(failed)?;
    Ok(path)
}

/// Returns a directory of pages of that size, in bytes; how many is bounded by the cgroup of who uses them.
fn huge_pages(path: &Path, page: u64) -> Result<PathBuf, String> {
    fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("mode=0777,pagesize={page}");
    mount(Some("hugetlbfs"), path, Some("hugetlbfs"), flags, Some(options.as_str()))
        .map_err(|e| format!("cannot mount huge pages: {}", e.desc()))?;
    Ok(path.to_owned())
}

/// Returns the image's layers as a pod sees them in which the user has these ids, lowest first.
pub(super) fn image_layers(image: &Image, kept: Option<KeptIds>) -> Vec<PathBuf> {
    kept.map_or_else(|| image.layers.clone(), |ids| remapped_layers(&image.layers, ids))
}

/// The image's files as one read-only tree.
fn image_files(image: &Image, layers: &[PathBuf], path: &Path) -> Result<PathBuf, String> {
    fs::create_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
    // An overlay wants two directories; the empty one beneath changes nothing.
    let empty = path.with_extension("empty");
    fs::create_dir(&empty).map_err(|e| format!("{}: {e}", empty.display()))?;
    let lower: Vec<PathBuf> = [&empty].into_iter().chain(layers).cloned().collect();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_layers(&lower, path, flags.bits())
        .map_err(|e| format!("cannot mount image {}: {e}", image.reference))?;
    Ok(path.to_owned())
}

/// Checks a hostPath against its type, and makes what `…OrCreate` asks for; without a type a directory, as containerd
/// does.
///
/// # Errors
/// What is wrong, with the path, in a kubelet's words.
pub(crate) fn host_path(source: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = PathBuf::from(&source.path);
    let kind = source.type_.as_deref().unwrap_or("");
    let failed = |e: io::Error| format!("hostPath {}: {e}", path.display());
    match kind {
        "DirectoryOrCreate" => make_directories(&path).map_err(failed)?,
        "" if fs::symlink_metadata(&path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) => {
            make_directories(&path).map_err(failed)?;
        }
        "FileOrCreate" => {
            fs::OpenOptions::new().append(true).create(true).mode(0o644).open(&path).map_err(failed)?;
        }
        _ => {}
    }
    let (what, fits): (&str, fn(&fs::FileType) -> bool) = match kind {
        "" => ("there", |_| true),
        "Directory" | "DirectoryOrCreate" => ("a directory", fs::FileType::is_dir),
        "File" | "FileOrCreate" => ("a file", fs::FileType::is_file),
        "Socket" => ("a socket file", |t| t.is_socket()),
        "CharDevice" => ("a character device", |t| t.is_char_device()),
        "BlockDevice" => ("a block device", |t| t.is_block_device()),
        _ => return Err(format!("hostPath type {kind:?} is not known")),
    };
    let wrong = |why: &str| format!("hostPath type check failed: {} is not {what}{why}", path.display());
    match fs::metadata(&path) {
        Ok(found) if fits(&found.file_type()) => Ok(path),
        Ok(_) => Err(wrong("")),
        Err(e) if e.kind() == io::ErrorKind::NotFound && kind == "Directory" => {
            Err(wrong(": it does not exist; create it, or set type: DirectoryOrCreate"))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(wrong(": it does not exist")),
        Err(e) => Err(failed(e)),
    }
}

/// Makes a directory of the host's and those above it that are missing, whatever the caller's umask.
fn make_directories(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        match fs::create_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            Err(_) => {}
            Ok(()) => fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_vol_2_a_host_path_is_checked_against_its_type() {
        let dir = tempfile::tempdir().unwrap();
        let source = |path: &str, kind: &str| HostPathVolumeSource {
            path: dir.path().join(path).display().to_string(),
            type_: Some(kind.into()),
        };
        assert!(host_path(&source("absent", "Directory")).unwrap_err().contains("does not exist"));
        host_path(&source("made/deep", "DirectoryOrCreate")).unwrap();
        assert!(host_path(&source("made/by/nobody", "")).unwrap().is_dir());
        assert!(host_path(&source("made", "File")).unwrap_err().contains("is not a file"));
        host_path(&source("file", "FileOrCreate")).unwrap();
    }
}
