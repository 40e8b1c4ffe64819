//! What overlayfs reads from a layer's files: extended attributes that make directories opaque, and that make of empty files
//! whiteouts where the device nodes that usually are ones cannot be made.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// Linux that knows whiteouts without device nodes, and lets overlayfs lie on overlayfs.
const FIRST_WITH_MARKED_WHITEOUTS: (u32, u32) = (6, 7);

/// Returns what the attributes' names begin with. Overlayfs reads `trusted.*` for the machine's root, `user.*` (mount option
/// userxattr) for anyone else: also for root's containers in user namespaces.
pub(super) fn list_prefixes() -> &'static [&'static str] {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let initial = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let both = &["user.overlay.", "trusted.overlay."];
    if initial { both } else { &both[..1] }
}

/// Gives the file this attribute of overlayfs's, with each of the prefixes.
pub(super) fn set_all(file: &impl AsFd, prefixes: &[&str], name: &str, value: &[u8]) -> nix::Result<()> {
    prefixes
        .iter()
        .try_for_each(|prefix| set_attribute(file.as_fd(), &name_attribute(prefix, name), value, 0))
}

/// Makes an empty file that overlayfs takes for a whiteout, and tells the directory that it has such.
///
/// # Errors
/// `EOPNOTSUPP` where the kernel would show the file instead; else the kernel's.
pub(super) fn make_whiteout(dir: &OwnedFd, name: &OsStr, prefixes: &[&str]) -> nix::Result<()> {
    if read_release() < FIRST_WITH_MARKED_WHITEOUTS {
        return Err(Errno::EOPNOTSUPP);
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(dir, name, flags, Mode::S_IRUSR)?;
    set_all(&file, prefixes, "whiteout", b"y")?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let own = openat(dir, ".", flags, Mode::empty())?;
    // An opaque one stays so: there is nothing below that would have to be hidden.
    prefixes.iter().try_for_each(|prefix| {
        match set_attribute(own.as_fd(), &name_attribute(prefix, "opaque"), b"x", libc::XATTR_CREATE) {
            Err(Errno::EEXIST) => Ok(()),
            set => set,
        }
    })
}

/// Returns whether the file was made by [`make_whiteout`].
pub(super) fn is_whiteout(dir: &OwnedFd, name: &OsStr) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::empty()).is_ok_and(|file| is_marked(&file))
}

/// Returns whether overlayfs takes an empty file for a whiteout.
pub(crate) fn is_marked(file: &OwnedFd) -> bool {
    [c"user.overlay.whiteout", c"trusted.overlay.whiteout"].iter().any(|name: &&CStr| {
        // SAFETY: the descriptor is open, the name ends in NUL; a length of 0 asks for the size alone.
        unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) >= 0 }
    })
}

fn name_attribute(prefix: &str, name: &str) -> CString {
    CString::new(format!("{prefix}{name}")).expect("constants without NUL")
}

/// Sets an extended attribute, with `flags` of setxattr(2).
pub(super) fn set_attribute(file: BorrowedFd<'_>, name: &CStr, value: &[u8], flags: i32) -> nix::Result<()> {
    let fd = file.as_raw_fd();
    // SAFETY: the descriptor is open, the name ends in NUL, and pointer and length describe one slice.
    Errno::result(unsafe { libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), flags) })
        .map(drop)
}

/// Reads the kernel's version, of which two numbers count.
fn read_release() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = text.split(['.', '-']).map(|part| part.trim().parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
