//! User namespaces for whoever is root already: a namespace without a process in it, and id-mapped mounts, by which the
//! files of the machine's ids 0 and on are those of the namespace's.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sched::CloneFlags;
use nix::unistd::Pid;

use crate::error::Error;
use crate::idmap::{IdMappings, Mapping};
use crate::process::Process;
use crate::spawn::pipe;
use crate::sys::{self, MountAttr, attr};

/// Makes a user namespace with these ids; it lasts as long as somebody holds it.
///
/// # Errors
/// [`Error`] naming the step.
pub fn user_namespace(mappings: &IdMappings) -> Result<OwnedFd, Error> {
    let (read, write) = pipe()?;
    let flags = CloneFlags::CLONE_NEWUSER.bits() as u32 as u64;
    let made = sys::clone3(flags, None).map_err(|errno| Error::from_errno("make a user namespace", errno))?;
    let Some((pid, pidfd)) = made else {
        // Stays until the parent has what it wants, or is gone: both close the pipe.
        let _ = nix::unistd::close(write.as_raw_fd());
        let _ = sys::read(read.as_raw_fd(), &mut [0]);
        sys::exit(0);
    };
    let process = Process { pid: Pid::from_raw(pid), pidfd: pidfd.expect("clone3 gives a pidfd") };
    let path = format!("/proc/{pid}/ns/user");
    let namespace = mappings
        .begin(process.pid)
        .and_then(Mapping::finish)
        .and_then(|()| File::open(&path).map_err(|source| Error::file("open", path, source)));
    drop(write);
    process.wait()?;
    Ok(namespace?.into())
}

/// A detached mount of what is at `path`, with the ids of the user namespace; `recursive` takes what is mounted
/// beneath along.
///
/// # Errors
/// [`Error::Sys`]; `EINVAL` where a file system cannot do it.
pub fn idmapped(path: &Path, namespace: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Error> {
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::ZeroByte { what: "path of a mount".to_owned() })?;
    let failed = |errno| Error::from_errno(format!("map the ids of {}", path.display()), errno);
    let tree = sys::clone_tree(libc::AT_FDCWD, &name, recursive).map_err(failed)?;
    let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    sys::mount_setattr(tree.as_raw_fd(), recursive, &private).map_err(failed)?;
    let map = MountAttr { set: attr::IDMAP, userns_fd: namespace.as_raw_fd() as u64, ..MountAttr::default() };
    sys::mount_setattr(tree.as_raw_fd(), recursive, &map).map_err(failed)?;
    Ok(tree)
}

/// Puts a detached mount on a directory or a file.
///
/// # Errors
/// [`Error::Sys`].
pub fn attach(tree: &OwnedFd, path: &Path) -> Result<(), Error> {
    let failed = |source| Error::file("open", path.to_owned(), source);
    let target = nix::fcntl::open(
        path,
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
    .map_err(|errno| failed(errno.into()))?;
    sys::move_mount(tree.as_fd().as_raw_fd(), target.as_fd().as_raw_fd())
        .map_err(|errno| Error::from_errno(format!("mount on {}", path.display()), errno))
}
