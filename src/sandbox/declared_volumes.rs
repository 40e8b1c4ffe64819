//! The VOLUMEs that an image declares: as with containerd each is a directory of the container's own, with what the
//! image has there, its owner and mode, and writable also where the root is read-only.
//!
//! The container's root is such a copy already, so the volume is its own directory, mounted on itself.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::Container;
use oci_spec::runtime::Mount;
use podctl_images::Image;
use podctl_runtime::OWN_MOUNT;

use super::{Error, container_spec::mount};
use crate::pod::mount_target;

/// The place where an image may not have a volume: the kernel's file systems are mounted there.
const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Adds the image's volumes to a container's mounts, each before those that lie in it. Where the pod mounts something itself
/// the image has no say, nor where podctl does: a node's own files, such as /etc/hosts, are there all the same.
///
/// # Errors
/// [`Error::Config`] for a path that cannot be one.
pub(super) fn add(mounts: &mut Vec<Mount>, image: &Image, container: &Container) -> Result<(), Error> {
    for path in list_paths(image, container) {
        if mounts.iter().any(|mount| normalize_path(mount.destination()) == path) {
            continue;
        }
        let volume = mount(&path.to_string_lossy(), OWN_MOUNT, OWN_MOUNT.into(), &[])?;
        let inner = |m: &Mount| normalize_path(m.destination()).starts_with(&path);
        let at = mounts.iter().position(inner).unwrap_or(mounts.len());
        // Behind the last mount that it lies in.
        let outer = |m: &Mount| path.starts_with(normalize_path(m.destination()));
        let after = mounts.iter().rposition(outer).map_or(0, |index| index + 1);
        mounts.insert(at.max(after), volume);
    }
    Ok(())
}

/// The paths of the volumes, outer ones first.
fn list_paths(image: &Image, container: &Container) -> Vec<PathBuf> {
    let taken: Vec<_> =
        container.volume_mounts.iter().flatten().map(|m| normalize_path(&mount_target(m))).collect();
    let declared = image.config.volumes().iter().flatten().map(|path| normalize_path(Path::new(path)));
    let reserved = |path: &Path| path == Path::new("/") || RESERVED.iter().any(|dir| path.starts_with(dir));
    let mut paths: Vec<_> = declared.filter(|path| !reserved(path) && !taken.contains(path)).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The absolute path without `.` and `..`, as `filepath.Clean` makes it.
pub(super) fn normalize_path(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::from("/"), |mut normal, part| {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            _ => {}
        }
        normal
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(declared: &[&str], mounted: &[&str]) -> Vec<(String, String)> {
        let config = oci_spec::image::ConfigBuilder::default()
            .volumes(declared.iter().map(|path| path.to_string()).collect::<Vec<_>>())
            .build()
            .unwrap();
        let image: Image = serde_json::from_value(serde_json::json!({
            "reference": "r", "digest": "d", "id": "i", "layers": [], "config": config,
            "os": "linux", "architecture": "amd64", "created": null, "size": 0,
        }))
        .unwrap();
        let mounts: Vec<_> =
            mounted.iter().map(|path| serde_json::json!({"name": "v", "mountPath": path})).collect();
        let container =
            serde_json::from_value(serde_json::json!({"name": "c", "volumeMounts": mounts})).unwrap();
        let mut all: Vec<_> =
            mounted.iter().map(|path| mount(path, "bind", "/source".into(), &[]).unwrap()).collect();
        add(&mut all, &image, &container).unwrap();
        let said = |m: &Mount| (m.destination().display().to_string(), m.typ().clone().unwrap_or_default());
        all.iter().map(said).collect()
    }

    #[test]
    fn the_pods_mount_counts_and_a_volume_lies_between_what_is_around_it() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
        };
        assert_eq!(added(&["/data/", "data"], &["/data"]), pairs(&[("/data", "bind")]));
        assert_eq!(added(&["/data"], &["/data/in"]), pairs(&[("/data", "own"), ("/data/in", "bind")]));
        assert_eq!(
            added(&["/var/lib/db"], &["/var", "/var/lib/db/wal"]),
            pairs(&[("/var", "bind"), ("/var/lib/db", "own"), ("/var/lib/db/wal", "bind")])
        );
        // What is mounted, whoever asked for it, stays; here it is the pod.
        assert_eq!(
            added(&["/etc/hosts", "/etc/../etc/hosts/"], &["/etc/hosts"]),
            pairs(&[("/etc/hosts", "bind")])
        );
        assert_eq!(added(&["/", "/proc/x", "/dev", "/a/../.."], &[]), pairs(&[]));
    }
}
