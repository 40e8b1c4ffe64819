//! A container's volumeMounts as mounts of its runtime spec.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, mkdirat},
};
use oci_spec::runtime::Mount;

use super::{Error, Sandbox, container_spec::mount, devices, environment, volumes};
use crate::pod::{PodExt, mount_target};

/// Returns the mounts of a volumeMount; what it holds open is added to `held`.
pub(super) fn volume(
    pod: &Pod,
    wanted: &VolumeMount,
    container: &Container,
    sandbox: &Sandbox,
    held: &mut Vec<OwnedFd>,
) -> Result<Mount, Error> {
    let target = mount_target(wanted);
    if target.starts_with("/proc") && !may_cover(&target) {
        return Err(Error::Config(format!(
            "volume {:?} cannot be mounted on {}: what lies in /proc is the kernel's; choose another mountPath",
            wanted.name, wanted.mount_path
        )));
    }
    let base = sandbox.volumes.paths.get(&wanted.name).ok_or_else(|| {
        Error::Config(format!("volumeMounts names the volume {:?}, which there is not", wanted.name))
    })?;
    let sub = match (&wanted.sub_path, &wanted.sub_path_expr) {
        (Some(path), _) if !path.is_empty() => Some(path.clone()),
        (_, Some(expr)) if !expr.is_empty() => Some(expand_path(expr, wanted, container, sandbox)?),
        _ => None,
    };
    let source: PathBuf = match sub {
        Some(sub) => {
            let found = sub_path(base, &sub, &wanted.name)?;
            let path = format!("/proc/self/fd/{}", found.as_raw_fd());
            held.push(found);
            path.into()
        }
        None => base.clone(),
    };
    let kind = pod.volumes().find(|v| v.name == wanted.name);
    let claim_read_only = kind
        .and_then(|v| v.persistent_volume_claim.as_ref())
        .is_some_and(|claim| claim.read_only == Some(true));
    let image = kind.is_some_and(|v| v.image.is_some());
    let mut options = vec!["rbind"];
    options.push(match wanted.mount_propagation.as_deref() {
        Some("HostToContainer") => "rslave",
        Some("Bidirectional") => "rshared",
        _ => "rprivate",
    });
    if wanted.read_only == Some(true)
        || claim_read_only
        || image
        || kind.is_some_and(volumes::written_by_podctl)
    {
        // podctl needs a kernel that can do this for a whole tree: IfPossible is always possible.
        let recursive = matches!(wanted.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
        options.push(if recursive { "rro" } else { "ro" });
    }
    if image {
        options.push("noexec");
    }
    if !kind.is_some_and(|volume| devices::keeps_nodes(volume, sandbox)) {
        options.push("rnodev");
    }
    mount(&target.to_string_lossy(), "bind", source, &options)
}

/// Tells what lxcfs covers, as other runtimes let it: a container's own limits in the place of the machine's.
fn may_cover(path: &Path) -> bool {
    let files = ["cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"];
    path.strip_prefix("/proc").is_ok_and(|rest| files.iter().any(|file| rest == Path::new(file)))
}

/// subPathExpr with the container's variables, every one of which has to be there.
fn expand_path(
    expr: &str,
    wanted: &VolumeMount,
    container: &Container,
    sandbox: &Sandbox,
) -> Result<String, Error> {
    let env = environment::environment(&[], container, &sandbox.objects, &sandbox.facts)?;
    let path = environment::expand_all(expr, &env.declared).map_err(|name| Error::Volume {
        volume: wanted.name.clone(),
        message: format!(
            "subPathExpr {expr:?}: missing value for {name:?}: the container's env has no such variable, or an empty one"
        ),
    })?;
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(Error::Volume {
            volume: wanted.name.clone(),
            message: format!("subPathExpr {expr:?} gives {path:?}, which leads out of the volume"),
        });
    }
    Ok(path)
}

/// Makes what mounts within a read-only volume are mounted on; the container's own process could not, nor could it in
/// what podctl writes. A volume of the host's, or an image's, stays as it is.
pub(super) fn make_mount_points(pod: &Pod, container: &Container, mounts: &[Mount]) {
    let foreign = |m: &VolumeMount| {
        pod.volumes().any(|v| v.name == m.name && (v.host_path.is_some() || v.image.is_some()))
    };
    let of_volume = |mount: &Mount| {
        let own = |m: &&VolumeMount| mount_target(m) == *mount.destination();
        container.volume_mounts.iter().flatten().find(own)
    };
    let read_only = |mount: &Mount| mount.options().iter().flatten().any(|o| o == "ro" || o == "rro");
    for inner in mounts {
        let around = |outer: &&Mount| {
            inner.destination() != outer.destination() && inner.destination().starts_with(outer.destination())
        };
        let Some(outer) = mounts.iter().filter(around).max_by_key(|m| m.destination().components().count())
        else {
            continue;
        };
        let ours = read_only(outer) && of_volume(outer).is_some_and(|m| !foreign(m));
        let (Some(volume), Ok(path)) =
            (outer.source(), inner.destination().strip_prefix(outer.destination()))
        else {
            continue;
        };
        let is_dir = inner.source().as_ref().is_some_and(|source| source.is_dir());
        if ours && let Some(path) = path.to_str() {
            // What cannot be made is told by the mount that fails for it.
            let _ = make_mount_point(volume, path, is_dir);
        }
    }
}

fn make_mount_point(volume: &Path, path: &str, directory: bool) -> Result<(), Error> {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    if directory {
        return sub_path(volume, path, path).map(drop);
    }
    let parent = sub_path(volume, dir, path)?;
    let mode = Mode::from_bits_truncate(0o644);
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // One that is there will do.
    let _ = nix::fcntl::openat(&parent, name, flags, mode);
    Ok(())
}

/// Resolves a subPath without ever leaving the volume; a directory that is missing is made, with
/// the mode of the volume's root.
///
/// What comes back is a descriptor of the very file that was checked, so that a container that
/// swaps a link in later gains nothing.
fn sub_path(volume: &Path, sub: &str, name: &str) -> Result<OwnedFd, Error> {
    let wrong = |e: Errno| Error::Volume {
        volume: name.to_owned(),
        message: match e {
            Errno::EXDEV => format!("subPath {sub:?}: a link in it leads out of the volume"),
            e => format!("subPath {sub:?}: {}", e.desc()),
        },
    };
    let root = open(volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(wrong)?;
    let beneath = |path: &str| {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&root, path, how)
    };
    // With the bit that hands an fsGroup on.
    let mode = Mode::from_bits_truncate(fstat(&root).map_err(wrong)?.st_mode & 0o2777);
    let mut at = beneath(".").map_err(wrong)?;
    let mut path = String::new();
    for part in sub.split('/').filter(|p| !p.is_empty() && *p != ".") {
        path = if path.is_empty() { part.to_owned() } else { format!("{path}/{part}") };
        at = match beneath(&path) {
            Err(Errno::ENOENT) => {
                let made = mkdirat(at.as_fd(), part, mode);
                if !matches!(made, Ok(()) | Err(Errno::EEXIST)) {
                    made.map_err(wrong)?;
                }
                let new = beneath(&path).map_err(wrong)?;
                if made.is_ok() {
                    // What the umask took away.
                    let link = format!("/proc/self/fd/{}", new.as_raw_fd());
                    fchmodat(AT_FDCWD, link.as_str(), mode, FchmodatFlags::FollowSymlink).map_err(wrong)?;
                }
                new
            }
            found => found.map_err(wrong)?,
        };
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn r_vol_2_a_sub_path_is_made_and_never_leads_out_of_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir(&volume).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
        sub_path(&volume, "a/./b", "v").unwrap();
        assert_eq!(fs::metadata(volume.join("a/b")).unwrap().permissions().mode() & 0o777, 0o777);
        symlink("..", volume.join("out")).unwrap();
        symlink("/etc", volume.join("etc")).unwrap();
        symlink("../a", volume.join("a/inside")).unwrap();
        assert!(sub_path(&volume, "out/x", "v").unwrap_err().to_string().contains("leads out of the volume"));
        assert!(sub_path(&volume, "etc", "v").unwrap_err().to_string().contains("leads out of the volume"));
        sub_path(&volume, "a/inside/b", "v").unwrap();
        assert!(!dir.path().join("x").exists());
    }
}
