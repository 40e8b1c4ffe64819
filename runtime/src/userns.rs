//! User namespaces for whoever is root already: a namespace without a process in it, and id-mapped mounts, by which the
//! files of the machine's ids 0 and on are those of the namespace's.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use crate::error::Error;
use crate::idmap::{IdMappings, Mapping, lines};
use crate::process::Process;
use crate::spawn::{pipe, read_pair, write_pair};
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

/// Makes a user namespace with these ids within another one, of which the caller is the owner.
///
/// # Errors
/// [`Error`] naming the step.
pub fn nested_user_namespace(around: BorrowedFd<'_>, mappings: &IdMappings) -> Result<OwnedFd, Error> {
    const STEP: &str = "make a user namespace within the user's";
    let failed = |errno| Error::from_errno(STEP, errno);
    let (read, write) = pipe()?;
    let (report_read, report_write) = pipe()?;
    let (users, groups) = (lines(&mappings.uids), lines(&mappings.gids));
    // Its ids can only be mapped by a process in the one around.
    let Some((pid, pidfd)) = sys::clone3(0, None).map_err(failed)? else {
        let made = sys::setns(around.as_raw_fd(), CloneFlags::CLONE_NEWUSER.bits())
            .and_then(|()| hold_nested(read.as_raw_fd(), write.as_raw_fd()))
            .and_then(|pid| {
                write_map(pid, b"gid_map", &groups)?;
                write_map(pid, b"uid_map", &users).map(|()| pid)
            });
        let (pid, errno) = made.map_or_else(|errno| (0, errno as i32), |pid| (pid as u32, 0));
        write_pair(report_write.as_raw_fd(), pid, errno);
        sys::exit(0)
    };
    drop(report_write);
    let between = Process { pid: Pid::from_raw(pid), pidfd: pidfd.expect("clone3 gives a pidfd") };
    let said = read_pair(&report_read);
    let namespace = said.and_then(|said| match said {
        Some((0, errno)) => Err(failed(Errno::from_raw(errno))),
        None => Err(failed(Errno::ESRCH)),
        Some((pid, _)) => {
            let path = format!("/proc/{pid}/ns/user");
            let namespace = File::open(&path).map_err(|source| Error::file("open", path, source))?;
            Ok((namespace, sys::pidfd_open(pid as i32).map_err(failed)?, pid))
        }
    });
    drop(write);
    between.wait()?;
    let (namespace, pidfd, pid) = namespace?;
    Process { pid: Pid::from_raw(pid as i32), pidfd }.wait()?;
    Ok(namespace.into())
}

/// Makes a process in a new user namespace, the caller's sibling, which ends when nobody has the writing end open any
/// more.
fn hold_nested(read: RawFd, write: RawFd) -> sys::Sys<i32> {
    let flags = (CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_PARENT).bits() as u32 as u64;
    let Some((pid, _)) = sys::clone3(flags, None)? else {
        // Stays until the caller's caller has what it wants, or is gone: both close the pipe.
        let _ = nix::unistd::close(write);
        let _ = sys::read(read, &mut [0]);
        sys::exit(0);
    };
    Ok(pid)
}

/// Writes a file of `/proc/PID`; the process is a copy of one that may have had threads, so nothing is allocated.
fn write_map(pid: i32, name: &[u8], text: &str) -> sys::Sys<()> {
    let mut digits = [0; 10];
    let (mut at, mut left) = (digits.len(), pid.unsigned_abs());
    while left > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    let mut path = [0; 64];
    let parts: [&[u8]; 4] = [b"/proc/", &digits[at..], b"/", name];
    for (place, byte) in path.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::ENAMETOOLONG)?;
    let file = sys::open(path, libc::O_WRONLY)?;
    sys::write(file.as_raw_fd(), text.as_bytes()).map(drop)
}

/// Lets the files that this thread makes belong to that user of its user namespace from now on; what it may do stays as
/// it is.
///
/// # Errors
/// [`Error::Sys`].
pub fn make_files_as(uid: u32, gid: u32) -> Result<(), Error> {
    give_files_to(uid, gid).map_err(|errno| Error::from_errno("have files belong to the user", errno))
}

/// Takes back [`make_files_as`], as a process on its way into a container does.
pub fn make_files_as_self() {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    nix::unistd::setfsgid(gid);
    // The capabilities that it takes along are those there were.
    nix::unistd::setfsuid(uid);
}

fn give_files_to(uid: u32, gid: u32) -> sys::Sys<()> {
    nix::unistd::setfsgid(gid.into());
    nix::unistd::setfsuid(uid.into());
    // These calls do not say when they fail, but what is so.
    let (users, groups) = (nix::unistd::setfsuid(uid.into()), nix::unistd::setfsgid(gid.into()));
    if (users.as_raw(), groups.as_raw()) != (uid, gid) {
        return Err(Errno::EINVAL);
    }
    // With root's id for files go the capabilities over files.
    sys::capset(u64::MAX, u64::MAX, 0)
}

/// Returns a detached mount of what is at `path`, with the ids of the user namespace; `recursive` takes what is mounted
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
