//! `/dev` of a container: the spec's devices and the default ones. Made by mknod where that is allowed; elsewhere, as in a
//! user namespace, the host's own nodes are mounted in.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

use crate::defaults;
use crate::error::{Error, StartError};
use crate::mounts::relative_path;
use crate::plan::{Action, Kind, Plan, to_cstring};
use crate::sys;

struct Node {
    path: PathBuf,
    kind: u32,
    major: u32,
    minor: u32,
    mode: u32,
    owner: (u32, u32),
}

/// Adds nodes and links, unless the spec brings a `/dev` of the host's.
pub(crate) fn plan(plan: &mut Plan, spec: &Spec) -> Result<(), StartError> {
    let own_dev = spec.mounts().iter().flatten().find(|mount| mount.destination() == Path::new("/dev"));
    let bound = own_dev.is_some_and(|mount| {
        mount.typ().as_deref() == Some("bind")
            || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind")
    });
    if bound {
        return Ok(());
    }
    let extra = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let standard = defaults::DEVICES.iter().map(|&(name, major, minor)| Node {
        path: Path::new("/dev").join(name),
        kind: libc::S_IFCHR,
        major,
        minor,
        mode: 0o666,
        owner: (0, 0),
    });
    let contained = in_user_namespace();
    // A caller's mask must not keep other users of the container from /dev/null; credentials.rs sets the container's own.
    plan.push(Action::Umask(0), "clear umask");
    for node in standard.chain(extra.iter().map(node_of)) {
        let what = format!("make device {}", node.path.display());
        let path = relative_path(&node.path)?;
        let device = libc::makedev(node.major, node.minor);
        let action = if contained {
            bind(&node, device, path, &what)?
        } else {
            let source = to_cstring(node.path.as_os_str().as_encoded_bytes(), &what)?;
            Action::MakeNode { source, path, mode: node.kind | node.mode, device, owner: node.owner }
        };
        plan.push(action, what);
    }
    for (name, link) in defaults::LINKS {
        let action = Action::MakeLink {
            path: to_cstring(format!("dev/{name}"), name)?,
            target: to_cstring(link, name)?,
        };
        plan.push(action, format!("make link /dev/{name}"));
    }
    Ok(())
}

fn node_of(device: &LinuxDevice) -> Node {
    let kind = match device.typ() {
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::P => libc::S_IFIFO,
        _ => libc::S_IFCHR,
    };
    Node {
        path: device.path().clone(),
        kind,
        major: device.major() as u32,
        minor: device.minor() as u32,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
    }
}

/// The host's node of the same path, if it is that device.
fn bind(node: &Node, device: u64, path: std::ffi::CString, what: &str) -> Result<Action, Error> {
    let failed = |errno| Error::from_errno(what, errno);
    let source = to_cstring(node.path.as_os_str().as_encoded_bytes(), what)?;
    let tree = sys::clone_tree(libc::AT_FDCWD, &source, false).map_err(failed)?;
    let stat = sys::fstat(tree.as_raw_fd()).map_err(failed)?;
    if stat.st_mode & libc::S_IFMT != node.kind || stat.st_rdev != device {
        return Err(failed(Errno::ENODEV));
    }
    Ok(Action::MountTree { tree, path, kind: Kind::File })
}

/// Tells whether the spec's cgroup lets a container have every device there is. Else device nodes count for
/// nothing but in its `/dev`: not those of its image, nor those it makes or finds elsewhere.
pub(crate) fn all_allowed(spec: &Spec) -> bool {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let rules = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
    rules.last().is_some_and(|rule| {
        rule.allow() && matches!(rule.typ(), None | Some(LinuxDeviceType::A)) && rule.access().is_none()
    })
}

/// Tells whether this process is in a user namespace other than the first one.
pub(crate) fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}
