//! The files of volumes that podctl writes itself: ConfigMaps, Secrets, the downward API.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::Path,
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Secret},
    jiff::Timestamp,
};

use super::{Error, downward_api};

/// The files of a configuration volume, by their path beneath it.
#[derive(Default)]
pub(super) struct Files(BTreeMap<String, (Vec<u8>, Option<i32>)>);

impl Files {
    pub(super) fn config_map(
        &mut self,
        map: &ConfigMap,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), String> {
        let text = map.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
        let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()));
        self.keys(text.chain(binary).collect(), items, optional, "ConfigMap", map.metadata.name.as_deref())
    }

    pub(super) fn secret(
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
                    self.0.insert(clean_path(&item.path), (value.to_vec(), item.mode));
                }
                None if optional == Some(true) => {}
                None => {
                    return Err(format!("{kind} {:?} has no key {:?}", name.unwrap_or_default(), item.key));
                }
            }
        }
        Ok(())
    }

    pub(super) fn downward(
        &mut self,
        item: &DownwardAPIVolumeFile,
        facts: &downward_api::Facts,
    ) -> Result<(), Error> {
        let value = if let Some(r) = &item.field_ref {
            downward_api::value(&r.field_path, facts)?
        } else if let Some(r) = &item.resource_field_ref {
            downward_api::resource(r, None, facts)?
        } else {
            return Ok(());
        };
        self.0.insert(clean_path(&item.path), (value.into_bytes(), item.mode));
        Ok(())
    }

    /// Kubernetes' layout: the files in a dated directory, `..data` pointing at it, and a link a
    /// name, so that all of them can be replaced at once.
    pub(super) fn write(&self, root: &Path, default_mode: i32) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(root)?;
        let dated = self.put(root, default_mode)?;
        symlink(dated, root.join("..data"))?;
        self.link(root)
    }

    /// Puts these files in the place of those that are there: a reader finds all the old ones or all the
    /// new ones. `prepare` gets the directory of the new ones before anybody sees them.
    pub(super) fn replace(
        &self,
        root: &Path,
        default_mode: i32,
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let old = fs::read_link(root.join("..data"))?;
        let dated = self.put(root, default_mode)?;
        prepare(&root.join(&dated))?;
        let beside = root.join("..data_tmp");
        // One that stays makes the next step fail, which says so.
        let _ = fs::remove_file(&beside);
        symlink(dated, &beside)?;
        fs::rename(&beside, root.join("..data"))?;
        self.link(root)?;
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            // Something else is a mount point within the volume.
            if !entry.file_type()?.is_symlink() {
                continue;
            }
            let name = entry.file_name();
            let stale = name.to_str().is_some_and(|name| {
                !name.starts_with("..") && !self.0.keys().any(|path| path.split('/').next() == Some(name))
            });
            if stale {
                fs::remove_file(root.join(name))?;
            }
        }
        fs::remove_dir_all(root.join(old))
    }

    /// Writes the files into a new directory in `root`; gives its name.
    fn put(&self, root: &Path, default_mode: i32) -> io::Result<String> {
        let dir = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
        let dated = Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%9N").to_string();
        dir(&root.join(&dated))?;
        for (path, (content, mode)) in &self.0 {
            let file = root.join(&dated).join(path);
            let mode = mode.unwrap_or(default_mode) as u32 & 0o777;
            dir(file.parent().expect("joined above"))
                .and_then(|()| write_file(&file, content, mode))
                .map_err(|error| io::Error::new(error.kind(), format!("file {path:?}: {error}")))?;
        }
        Ok(dated)
    }

    fn link(&self, root: &Path) -> io::Result<()> {
        for first in self.0.keys().filter_map(|path| path.split('/').next()) {
            match symlink(format!("..data/{first}"), root.join(first)) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

fn write_file(file: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    fs::write(file, content)?;
    fs::set_permissions(file, fs::Permissions::from_mode(mode))
}

/// The path in the volume without `.`, doubled slashes and one at its end, as a kubelet writes it.
fn clean_path(path: &str) -> String {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
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
        let old = fs::read_link(root.join("..data")).unwrap();
        let mut files = Files::default();
        files.0.insert("a".into(), (b"3".to_vec(), None));
        files.0.insert("c".into(), (b"4".to_vec(), None));
        files.replace(&root, 0o644, |_| Ok(())).unwrap();
        assert_eq!(fs::read(root.join("a")).unwrap(), b"3");
        assert_eq!(fs::read(root.join("c")).unwrap(), b"4");
        assert!(!root.join("sub").is_symlink() && !root.join(old).exists());
        assert_eq!(fs::read_dir(&root).unwrap().count(), 4);
    }

    #[test]
    fn paths_are_cleaned_as_a_kubelet_does_and_one_that_is_no_files_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let item = |path: &str| KeyToPath { key: "k".into(), path: path.into(), ..Default::default() };
        let written = |paths: &[&str], root: &Path| {
            let items: Vec<_> = paths.iter().map(|path| item(path)).collect();
            let mut files = Files::default();
            let data = BTreeMap::from([("k", &b"1"[..])]);
            files.keys(data, Some(&items), None, "ConfigMap", Some("c")).unwrap();
            files.write(root, 0o644).map_err(|error| error.to_string())
        };
        let root = dir.path().join("v");
        written(&["./a/", "b//c/./d"], &root).unwrap();
        assert_eq!(
            (fs::read(root.join("a")).unwrap(), fs::read(root.join("b/c/d")).unwrap()),
            (b"1".to_vec(), b"1".to_vec())
        );
        for (paths, named) in
            [(&["x", "x/y"][..], "\"x/y\""), (&["."][..], "\"\""), (&[&*"n".repeat(300)], "nnn")]
        {
            let told = written(paths, &dir.path().join(named.len().to_string())).unwrap_err();
            assert!(told.contains("file") && told.contains(named), "{told}");
        }
    }
}
