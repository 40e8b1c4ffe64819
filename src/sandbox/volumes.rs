//! A pod's volumes, made once before its first container (R-VOL-1, R-VOL-2).

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, Pod, Secret, Volume,
};
use nix::mount::{MsFlags, mount};

use super::{Error, Objects, field};
use crate::manifest::quantity_bytes;

/// Where a pod's volumes are made.
pub struct Places<'a> {
    /// On disk, for emptyDir.
    pub disk: &'a Path,
    /// In memory, for everything that podctl writes itself, secrets among it.
    pub memory: &'a Path,
}

/// Makes every volume of the pod; gives the directory or file behind each name.
///
/// # Errors
/// [`Error::Volume`] naming the volume, [`Error::Config`] for a missing object.
pub fn prepare(
    pod: &Pod,
    objects: &Objects,
    facts: &field::Facts,
    places: &Places<'_>,
) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut made = BTreeMap::new();
    let spec = pod.spec.as_ref();
    for volume in spec.and_then(|s| s.volumes.as_ref()).into_iter().flatten() {
        let path = one(volume, pod, objects, facts, places)?;
        made.insert(volume.name.clone(), path);
    }
    Ok(made)
}

fn one(
    volume: &Volume,
    pod: &Pod,
    objects: &Objects,
    facts: &field::Facts,
    places: &Places<'_>,
) -> Result<PathBuf, Error> {
    let wrong = |message: String| Error::Volume { volume: volume.name.clone(), message };
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |e: io::Error| Error::Volume { volume: volume.name.clone(), message: format!("{path}: {e}") }
    };
    if let Some(host) = &volume.host_path {
        return host_path(host).map_err(wrong);
    }
    if let Some(empty) = &volume.empty_dir {
        let in_memory = match empty.medium.as_deref().unwrap_or("") {
            "" => false,
            "Memory" => true,
            other => return Err(wrong(format!("medium {other:?} is not supported; use \"\" or Memory"))),
        };
        let path = if in_memory { places.memory } else { places.disk }.join(&volume.name);
        fs::create_dir(&path).map_err(io(&path))?;
        if in_memory {
            let mut options = "mode=0777".to_owned();
            if let Some(limit) = empty.size_limit.as_ref().and_then(|q| quantity_bytes(&q.0).ok()) {
                options += &format!(",size={limit}");
            }
            mount(
                Some("tmpfs"),
                &path,
                Some("tmpfs"),
                MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
                Some(options.as_str()),
            )
            .map_err(|e| wrong(format!("cannot mount a tmpfs: {e}")))?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(io(&path))?;
        return Ok(path);
    }
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
            files.downward(item, pod, facts)?;
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
                files.downward(item, pod, facts)?;
            }
        }
        source.default_mode
    } else {
        return Err(wrong("this kind of volume is not supported".to_owned()));
    };
    let path = places.memory.join(&volume.name);
    files.write(&path, mode.unwrap_or(0o644)).map_err(io(&path))?;
    Ok(path)
}

/// The files of a configuration volume, by their path beneath it.
#[derive(Default)]
struct Files(BTreeMap<String, (Vec<u8>, Option<i32>)>);

impl Files {
    fn config_map(
        &mut self,
        map: &ConfigMap,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), String> {
        let text = map.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
        let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()));
        self.keys(text.chain(binary).collect(), items, optional, "ConfigMap", map.metadata.name.as_deref())
    }

    fn secret(
        &mut self,
        secret: &Secret,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), String> {
        let data = secret.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()));
        self.keys(data.collect(), items, optional, "Secret", secret.metadata.name.as_deref())
    }

    fn keys(
        &mut self,
        data: BTreeMap<&str, &[u8]>,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        kind: &str,
        name: Option<&str>,
    ) -> Result<(), String> {
        let Some(items) = items.filter(|i| !i.is_empty()) else {
            self.0.extend(data.into_iter().map(|(key, value)| (key.to_owned(), (value.to_vec(), None))));
            return Ok(());
        };
        for item in items {
            match data.get(item.key.as_str()) {
                Some(value) => {
                    self.0.insert(item.path.clone(), (value.to_vec(), item.mode));
                }
                None if optional == Some(true) => {}
                None => {
                    return Err(format!("{kind} {:?} has no key {:?}", name.unwrap_or_default(), item.key));
                }
            }
        }
        Ok(())
    }

    fn downward(
        &mut self,
        item: &DownwardAPIVolumeFile,
        pod: &Pod,
        facts: &field::Facts,
    ) -> Result<(), Error> {
        let value = if let Some(r) = &item.field_ref {
            field::value(&r.field_path, facts)?
        } else if let Some(r) = &item.resource_field_ref {
            let name = r.container_name.as_deref().unwrap_or_default();
            field::resource(r, container(pod, name)?)?
        } else {
            return Ok(());
        };
        self.0.insert(item.path.clone(), (value.into_bytes(), item.mode));
        Ok(())
    }

    /// Kubernetes' layout: the files in a dated directory, `..data` pointing at it, and a link a
    /// name, so that all of them can be replaced at once.
    fn write(&self, root: &Path, default_mode: i32) -> io::Result<()> {
        let dated = "..2000_01_01_00_00_00.000000001";
        let dir = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
        dir(&root.join(dated))?;
        symlink(dated, root.join("..data"))?;
        for (path, (content, mode)) in &self.0 {
            let file = root.join(dated).join(path);
            dir(file.parent().expect("joined above"))?;
            let mode = mode.unwrap_or(default_mode) as u32 & 0o777;
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
            fs::write(&file, content)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
            let first = path.split('/').next().expect("split gives one");
            match symlink(format!("..data/{first}"), root.join(first)) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

fn container<'a>(pod: &'a Pod, name: &str) -> Result<&'a Container, Error> {
    let spec = pod.spec.as_ref();
    let all = spec.into_iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    all.into_iter()
        .find(|c| c.name == name)
        .ok_or_else(|| Error::Config(format!("there is no container {name:?}")))
}

/// Checks a hostPath against its type, and makes what `…OrCreate` asks for.
fn host_path(source: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = PathBuf::from(&source.path);
    let kind = source.type_.as_deref().unwrap_or("");
    let failed = |e: io::Error| format!("hostPath {}: {e}", path.display());
    match kind {
        "DirectoryOrCreate" => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(&path).map_err(failed)?
        }
        "FileOrCreate" => {
            fs::OpenOptions::new().append(true).create(true).mode(0o644).open(&path).map_err(failed)?;
        }
        _ => {}
    }
    let found = fs::metadata(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            format!("hostPath {} does not exist; create it, or set type: DirectoryOrCreate", path.display())
        }
        _ => failed(e),
    })?;
    let t = found.file_type();
    let fits = match kind {
        "" => true,
        "Directory" | "DirectoryOrCreate" => t.is_dir(),
        "File" | "FileOrCreate" => t.is_file(),
        "Socket" => t.is_socket(),
        "CharDevice" => t.is_char_device(),
        "BlockDevice" => t.is_block_device(),
        _ => return Err(format!("hostPath type {kind:?} is not known")),
    };
    if fits { Ok(path) } else { Err(format!("hostPath {} is not what type {kind} asks for", path.display())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_vol_2_configuration_files_lie_behind_one_link_that_can_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("v");
        let mut files = Files::default();
        files.0.insert("a".into(), (b"1".to_vec(), None));
        files.0.insert("sub/b".into(), (b"2".to_vec(), Some(0o400)));
        files.write(&root, 0o644).unwrap();
        assert_eq!(fs::read_link(root.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(fs::read(root.join("sub/b")).unwrap(), b"2");
        assert_eq!(fs::metadata(root.join("sub/b")).unwrap().permissions().mode() & 0o777, 0o400);
    }

    #[test]
    fn r_vol_2_a_host_path_is_checked_against_its_type() {
        let dir = tempfile::tempdir().unwrap();
        let source = |path: &str, kind: &str| HostPathVolumeSource {
            path: dir.path().join(path).display().to_string(),
            type_: Some(kind.into()),
        };
        assert!(host_path(&source("absent", "Directory")).unwrap_err().contains("does not exist"));
        host_path(&source("made/deep", "DirectoryOrCreate")).unwrap();
        assert!(host_path(&source("made", "File")).unwrap_err().contains("is not what type File asks for"));
        host_path(&source("file", "FileOrCreate")).unwrap();
    }
}
