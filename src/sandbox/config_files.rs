//! The files of volumes that podctl writes itself: ConfigMaps, Secrets, the downward API.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::Path,
};

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Secret};

use super::{Error, field};

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

    pub(super) fn downward(
        &mut self,
        item: &DownwardAPIVolumeFile,
        facts: &field::Facts,
    ) -> Result<(), Error> {
        let value = if let Some(r) = &item.field_ref {
            field::value(&r.field_path, facts)?
        } else if let Some(r) = &item.resource_field_ref {
            field::resource(r, None, facts)?
        } else {
            return Ok(());
        };
        self.0.insert(item.path.clone(), (value.into_bytes(), item.mode));
        Ok(())
    }

    /// Kubernetes' layout: the files in a dated directory, `..data` pointing at it, and a link a
    /// name, so that all of them can be replaced at once.
    pub(super) fn write(&self, root: &Path, default_mode: i32) -> io::Result<()> {
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
}
