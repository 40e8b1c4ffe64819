//! `mounts` of a spec → steps. Binds are opened here, in the caller's namespaces, so that what is mounted is what was
//! named, whatever happens to the path later; new file systems are made by the child, in its namespaces.

use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use nix::errno::Errno;
use oci_spec::runtime::{Mount, Spec};

use crate::error::{Error, StartError};
use crate::plan::{Action, CgroupHierarchy, Kind, MOST_OWN, Plan, to_cstring};
use crate::sys::{self, MountAttr, attr};

/// The options of one mount, sorted by who understands them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    bind: bool,
    recursive: bool,
    attr: u64,
    recursive_attr: u64,
    clear: u64,
    propagation: u64,
    data: Vec<(String, Option<String>)>,
}

/// Options that are bits of a mount: name, bits set, bits cleared.
const FLAGS: &[(&str, u64, u64)] = &[
    ("ro", attr::RDONLY, 0),
    ("rw", 0, attr::RDONLY),
    ("nosuid", attr::NOSUID, 0),
    ("suid", 0, attr::NOSUID),
    ("nodev", attr::NODEV, 0),
    ("dev", 0, attr::NODEV),
    ("noexec", attr::NOEXEC, 0),
    ("exec", 0, attr::NOEXEC),
    ("noatime", attr::NOATIME, attr::ATIME),
    ("relatime", 0, attr::ATIME),
    ("strictatime", attr::STRICTATIME, attr::ATIME),
    ("nodiratime", attr::NODIRATIME, 0),
    ("nosymfollow", attr::NOSYMFOLLOW, 0),
];

const PROPAGATIONS: &[(&str, u64)] = &[
    ("private", libc::MS_PRIVATE),
    ("rprivate", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("rslave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("rshared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
    ("runbindable", libc::MS_UNBINDABLE),
];

impl Options {
    fn parse(options: &[String]) -> Options {
        let mut parsed = Options::default();
        for option in options {
            let recursive_flag = option.strip_prefix('r').and_then(|rest| find_flag(rest));
            match option.as_str() {
                "bind" => parsed.bind = true,
                "rbind" => (parsed.bind, parsed.recursive) = (true, true),
                "defaults" | "async" | "newinstance" => {}
                name => {
                    if let Some((_, set, clear)) = find_flag(name) {
                        parsed.attr = parsed.attr & !clear | set;
                        parsed.clear |= clear;
                    } else if let Some((_, set, clear)) = recursive_flag {
                        parsed.recursive_attr = parsed.recursive_attr & !clear | set;
                    } else if let Some((_, propagation)) =
                        PROPAGATIONS.iter().find(|(known, _)| *known == name)
                    {
                        parsed.propagation = *propagation;
                    } else {
                        let (key, value) = name.split_once('=').map_or((name, None), |(k, v)| (k, Some(v)));
                        parsed.data.push((key.to_owned(), value.map(str::to_owned)));
                    }
                }
            }
        }
        parsed
    }
}

fn find_flag(name: &str) -> Option<&'static (&'static str, u64, u64)> {
    FLAGS.iter().find(|(known, ..)| *known == name)
}

/// The type of a mount of the root's own directory on itself: writable, however read-only the root is to be. This is what
/// a VOLUME of an image comes to; the mount's source means nothing.
pub const OWN: &str = "own";

/// Adds the steps that keep those directories before anything is mounted over them.
pub(crate) fn hold_own(plan: &mut Plan, spec: &Spec) -> Result<(), StartError> {
    let mounts = spec.mounts().iter().flatten().filter(|mount| mount.typ().as_deref() == Some(OWN));
    for (index, mount) in mounts.enumerate() {
        let destination = mount.destination();
        if index == MOST_OWN {
            let reason = format!("more than {MOST_OWN} mounts of type {OWN}");
            return Err(StartError::Spec { field: "mounts".to_owned(), reason });
        }
        plan.push(
            Action::HoldOwn(relative_path(destination)?),
            format!("make the volume {}", destination.display()),
        );
    }
    Ok(())
}

/// Adds the step (or steps) of one mount. `lender` is the mount namespace whose proc is taken, where the PID namespace is
/// there already.
pub(crate) fn plan(plan: &mut Plan, mount: &Mount, lender: Option<&OwnedFd>) -> Result<(), StartError> {
    let destination = mount.destination();
    let path = relative_path(destination)?;
    let mut options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = mount.typ().as_deref().unwrap_or("none");
    options.bind |= kind == "bind";
    if options.bind {
        let source = mount.source().as_deref().ok_or_else(|| StartError::Spec {
            field: format!("mounts[{}].source", destination.display()),
            reason: "a bind mount needs one".to_owned(),
        })?;
        let what = format!("mount {} on {}", source.display(), destination.display());
        let (tree, kind) = open_bind(source, &options, &what)?;
        plan.push(Action::MountTree { tree, path, kind }, what);
        return Ok(());
    }
    let what = format!("mount {kind} on {}", destination.display());
    let action = match (kind, lender) {
        (OWN, _) => Action::MountOwn(path),
        ("proc", Some(lender)) => Action::BorrowProc {
            lender: lender.try_clone().map_err(|e| Error::file("duplicate", "mount namespace", e))?,
            attr: options.attr,
            path,
        },
        ("sysfs", _) => Action::MountSysfs { attr: options.attr, path },
        ("cgroup" | "cgroup2", _) => return cgroup(plan, &options, path, what),
        _ => {
            let source = mount.source().as_ref().filter(|source| !source.as_os_str().is_empty());
            let source = source.map(|source| to_cstring(source.as_os_str().as_bytes(), &what)).transpose()?;
            let mut data: Vec<_> =
                source.into_iter().map(|source| (c"source".to_owned(), Some(source))).collect();
            for (key, value) in options.data {
                let value = value.map(|value| to_cstring(value, &what)).transpose()?;
                data.push((to_cstring(key, &what)?, value));
            }
            Action::MountNew { fstype: to_cstring(kind, &what)?, options: data, attr: options.attr, path }
        }
    };
    plan.push(action, what);
    Ok(())
}

/// The place where the host has its cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The cgroup tree, rooted at the cgroup namespace: what sizes itself by the limits in it finds the container's own.
fn cgroup(plan: &mut Plan, options: &Options, path: CString, what: String) -> Result<(), StartError> {
    if Path::new(CGROUPS).join("cgroup.controllers").exists() {
        let action =
            Action::MountNew { fstype: c"cgroup2".to_owned(), options: Vec::new(), attr: options.attr, path };
        plan.push(action, what);
        return Ok(());
    }
    // The host's do not change while this process lives, and every container is shown them.
    static HOSTS: LazyLock<HostCgroups> = LazyLock::new(HostCgroups::read);
    let hierarchies: Vec<_> = HOSTS.mounts.lines().filter_map(Hierarchy::read).collect();
    if hierarchies.is_empty() {
        return Ok(());
    }
    let hierarchies = hierarchies.iter().map(|hierarchy| hierarchy.plan(&what)).collect::<Result<_, _>>()?;
    let link = |(name, target): &(OsString, PathBuf)| {
        Ok((to_cstring(name.as_bytes(), &what)?, to_cstring(target.as_os_str().as_bytes(), &what)?))
    };
    let links = HOSTS.links.iter().map(link).collect::<Result<_, Error>>()?;
    plan.push(Action::MountCgroups { hierarchies, links, attr: options.attr, path }, what);
    Ok(())
}

/// Holds what the host has below [`CGROUPS`] with version 1.
struct HostCgroups {
    /// Lines of mountinfo.
    mounts: String,
    /// Further names: controllers of one hierarchy have one each, a link.
    links: Vec<(OsString, PathBuf)>,
}

impl HostCgroups {
    fn read() -> HostCgroups {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = text.lines().filter(|line| line.contains(CGROUPS)).collect::<Vec<_>>().join("\n");
        let entries = std::fs::read_dir(CGROUPS).into_iter().flatten().flatten();
        let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        let links = links.filter_map(|link| Some((link.file_name(), std::fs::read_link(link.path()).ok()?)));
        HostCgroups { mounts, links: links.collect() }
    }
}

/// The cgroup hierarchy that is mounted below [`CGROUPS`].
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy<'a> {
    name: &'a str,
    fstype: &'a str,
    /// Holds what tells it from the others, as options of a mount.
    options: Vec<(&'a str, Option<&'a str>)>,
}

impl Hierarchy<'_> {
    fn plan(&self, what: &str) -> Result<CgroupHierarchy, Error> {
        let option = |(key, value): &(&str, Option<&str>)| {
            Ok((to_cstring(*key, what)?, value.map(|value| to_cstring(value, what)).transpose()?))
        };
        Ok(CgroupHierarchy {
            name: to_cstring(self.name, what)?,
            fstype: to_cstring(self.fstype, what)?,
            options: self.options.iter().map(option).collect::<Result<_, Error>>()?,
            hosts: to_cstring(format!("{CGROUPS}/{}", self.name), what)?,
        })
    }

    /// Reads a line of mountinfo.
    fn read(line: &str) -> Option<Hierarchy<'_>> {
        let (mount, file_system) = line.split_once(" - ")?;
        let name = mount.split(' ').nth(4)?.strip_prefix(CGROUPS)?.strip_prefix('/')?;
        // What is mounted within a hierarchy is seen through it.
        let name = Some(name).filter(|name| !name.contains('/'))?;
        let mut words = file_system.split(' ');
        let (fstype, _, all) = (words.next()?, words.next()?, words.next()?);
        let of_whole = ["rw", "ro", "xattr", "noprefix", "clone_children", "favordynmods"];
        let own = |option: &&str| !of_whole.contains(option) && !option.starts_with("release_agent=");
        let mut options = Vec::new();
        if fstype == "cgroup" {
            options.extend(all.split(',').filter(own).map(|o| match o.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (o, None),
            }));
            if options.iter().all(|(_, value)| value.is_some()) {
                options.push(("none", None));
            }
        }
        ["cgroup", "cgroup2"].contains(&fstype).then_some(Hierarchy { name, fstype, options })
    }
}

fn open_bind(source: &Path, options: &Options, what: &str) -> Result<(OwnedFd, Kind), Error> {
    let failed = |errno| Error::from_errno(what, errno);
    let name = to_cstring(source.as_os_str().as_bytes(), what)?;
    let (tree, recursive) = match sys::clone_tree(libc::AT_FDCWD, &name, options.recursive) {
        // Mounts below that the kernel does not let us uncover: take them along.
        Err(Errno::EINVAL) if !options.recursive => (sys::clone_tree(libc::AT_FDCWD, &name, true), true),
        other => (other, options.recursive),
    };
    let tree = tree.map_err(failed)?;
    let stat = sys::fstat(tree.as_raw_fd()).map_err(failed)?;
    let propagation = if options.propagation == 0 { libc::MS_PRIVATE } else { options.propagation };
    // A change of access times has to clear the whole field first.
    let change = |propagation, set: u64| MountAttr {
        set,
        clear: if set & attr::ATIME != 0 { attr::ATIME } else { 0 },
        propagation,
        ..MountAttr::default()
    };
    // Sharing with the host is a wish of the spec's; a mount that is already so stays as it is.
    let propagation = if propagation == libc::MS_SHARED { 0 } else { propagation };
    let all = options.recursive_attr;
    let changes = match recursive {
        true => [(true, change(propagation, all)), (false, change(0, options.attr))],
        false => [(false, change(propagation, all | options.attr)), (false, MountAttr::default())],
    };
    for (recursive, change) in changes {
        if change.set != 0 || change.propagation != 0 {
            sys::mount_setattr(tree.as_raw_fd(), recursive, &change).map_err(failed)?;
        }
    }
    let kind = if stat.st_mode & libc::S_IFMT == libc::S_IFDIR { Kind::Directory } else { Kind::File };
    Ok((tree, kind))
}

/// `path` as seen from the root's descriptor. A mount on the root itself, or one that climbs, has no such form.
pub(crate) fn relative_path(path: &Path) -> Result<CString, StartError> {
    let normal =
        |part: Component<'_>| matches!(part, Component::RootDir | Component::CurDir | Component::Normal(_));
    let inner: std::path::PathBuf =
        path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    if !path.components().all(normal) || inner.as_os_str().is_empty() {
        return Err(StartError::Spec {
            field: "mounts[].destination".to_owned(),
            reason: format!("{} is not a path below the container's root", path.display()),
        });
    }
    Ok(to_cstring(inner.as_os_str().as_bytes(), "path in the container")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_sorted_by_who_understands_them() {
        let options = ["rbind", "nosuid", "rro", "rslave", "size=64k", "newinstance"].map(str::to_owned);
        let parsed = Options::parse(&options);
        assert!(parsed.bind && parsed.recursive);
        assert_eq!((parsed.attr, parsed.recursive_attr), (attr::NOSUID, attr::RDONLY));
        assert_eq!(parsed.propagation, libc::MS_SLAVE);
        assert_eq!(parsed.data, [("size".to_owned(), Some("64k".to_owned()))]);
    }

    #[test]
    fn a_hierarchy_is_told_by_its_controllers_or_its_name() {
        let read = |line| Hierarchy::read(line).map(|h| (h.name, h.fstype, h.options));
        let line =
            "29 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct";
        let options = vec![("cpu", None), ("cpuacct", None)];
        assert_eq!(read(line), Some(("cpu,cpuacct", "cgroup", options)));
        let line =
            "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd";
        let options = vec![("name", Some("systemd")), ("none", None)];
        assert_eq!(read(line), Some(("systemd", "cgroup", options)));
        let line = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(read(line), Some(("unified", "cgroup2", Vec::new())));
        for other in ["31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw", "1 2 0:3 / /proc rw - proc proc rw"]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_destination_stays_below_the_root() {
        assert_eq!(relative_path(Path::new("/a/./b/")).unwrap().as_c_str(), c"a/b");
        for path in ["/", "/a/../..", ""] {
            assert!(relative_path(Path::new(path)).is_err(), "{path}");
        }
    }
}
