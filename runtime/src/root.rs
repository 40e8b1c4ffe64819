//! The root directory of a process and that of its mount namespace. In a chroot they are two, and then nothing that is built
//! in the namespace confines: whoever enters it, and whoever leaves a chroot of his own by an open directory, comes to the
//! namespace's root, which is the machine's.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::error::Error;
use crate::sys::{self, Sys};

/// Makes the root directory of this process, which is in a mount namespace of its own, the root of that namespace. Does
/// nothing where it is; in a chroot everything outside of it leaves the namespace.
///
/// # Errors
/// [`Error::Sys`], in a chroot that cannot be made a root: podctl must not go on there.
pub fn settle_root() -> Result<(), Error> {
    let failed = |step: &str| {
        let step = format!(
            "{step}: podctl runs in a chroot, whose containers could leave it; enter it with pivot_root, as bwrap and systemd-nspawn do, instead"
        );
        move |errno| Error::from_errno(step, errno)
    };
    let own = sys::open(c"/", libc::O_PATH | libc::O_DIRECTORY)
        .map_err(|errno| Error::from_errno("open /", errno))?;
    enter_own_namespace().map_err(|errno| Error::from_errno("enter the own mount namespace", errno))?;
    if is_root(own.as_raw_fd()).map_err(|errno| Error::from_errno("look at /", errno))? {
        return Ok(());
    }
    sys::mount(c"none", c"/", c"none", libc::MS_REC | libc::MS_SLAVE, c"")
        .map_err(failed("make mounts independent of the machine's"))?;
    let tree = sys::clone_tree(own.as_raw_fd(), sys::EMPTY, true).map_err(failed("copy the mounts at /"))?;
    replace_root(&tree).map_err(failed("make / the root of the mount namespace"))
}

fn replace_root(tree: &OwnedFd) -> Sys<()> {
    let place = sys::open(c"/", libc::O_PATH | libc::O_DIRECTORY)?;
    sys::move_mount(tree.as_raw_fd(), place.as_raw_fd())?;
    pivot_root(tree.as_raw_fd())
}

/// Puts the old root under the new one's `.` and takes it off: nothing of the host stays reachable. That is so only if the
/// old root was the mount namespace's, and so it is looked at.
pub(crate) fn pivot_root(root: RawFd) -> Sys<()> {
    sys::fchdir(root)?;
    sys::pivot_root(c".", c".")?;
    sys::umount_detach(c".")?;
    enter_own_namespace()?;
    if is_root(root)? { Ok(()) } else { Err(Errno::EXDEV) }
}

/// Working directory and root become the mount namespace's, wherever they were in it.
fn enter_own_namespace() -> Sys<()> {
    let own = sys::pidfd_open(sys::getpid())?;
    sys::setns(own.as_raw_fd(), libc::CLONE_NEWNS)
}

/// Tells whether the root directory is this one: the same directory of the same mount.
fn is_root(directory: RawFd) -> Sys<bool> {
    let root = sys::open(c"/", libc::O_PATH | libc::O_DIRECTORY)?;
    Ok(sys::place_of(root.as_raw_fd())? == sys::place_of(directory)?)
}
