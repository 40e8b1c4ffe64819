//! fsGroup: a volume's files belong to a group of the pod, as a kubelet sees to it.
//!
//! Files are reached by descriptors only: what a container left in a volume may be links.

use std::{
    ffi::CStr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat},
    sys::stat::{FileStat, Mode, SFlag, fchmodat, fstat},
    unistd::{Gid, fchownat},
};

/// No tree that people make is deeper; each level keeps a descriptor open.
const DEEPEST: usize = 400;

/// Tells which files are changed, and how.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Policy {
    /// All of them, each time.
    Always,
    /// None when the volume's root is as it should be.
    OnRootMismatch,
    /// All of them; nobody is to write to them.
    ReadOnly,
}

/// Gives a volume to the group: readable and, but for [`Policy::ReadOnly`], writable by it.
pub(super) fn give_to_group(volume: &Path, group: u32, policy: Policy) -> nix::Result<()> {
    let root = open(volume, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let mask = if policy == Policy::ReadOnly { 0o440 } else { 0o660 };
    let found = fstat(&root)?;
    let wanted = mode(&found, mask);
    if policy == Policy::OnRootMismatch && found.st_gid == group && found.st_mode & wanted == wanted {
        return Ok(());
    }
    give(&root, &found, group, mask)?;
    if SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFDIR {
        return Ok(());
    }
    walk(&root, &mut |file, stat| give(file, stat, group, mask))
}

fn give(file: &OwnedFd, stat: &FileStat, group: u32, mask: u32) -> nix::Result<()> {
    fchownat(file, c"", None, Some(Gid::from_raw(group)), AtFlags::AT_EMPTY_PATH)?;
    if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits() {
        return Ok(());
    }
    let wanted = Mode::from_bits_truncate(stat.st_mode & 0o7777 | mode(stat, mask));
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    fchmodat(nix::fcntl::AT_FDCWD, path.as_str(), wanted, nix::sys::stat::FchmodatFlags::FollowSymlink)
}

/// A directory hands its group on to what is made in it.
fn mode(stat: &FileStat, mask: u32) -> u32 {
    match stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
        true => mask | 0o2110,
        false => mask,
    }
}

/// Visits everything beneath a directory, by descriptors opened with `O_PATH`; follows no link and
/// enters no other file system.
pub(crate) fn walk(
    root: &OwnedFd,
    visit: &mut dyn FnMut(&OwnedFd, &FileStat) -> nix::Result<()>,
) -> nix::Result<()> {
    let device = fstat(root)?.st_dev;
    beneath(root, device, 0, visit)
}

fn beneath(
    directory: &OwnedFd,
    device: u64,
    depth: usize,
    visit: &mut dyn FnMut(&OwnedFd, &FileStat) -> nix::Result<()>,
) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut entries = Dir::openat(directory, c".", flags, Mode::empty())?;
    for entry in entries.iter() {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match openat(directory.as_fd(), name, flags, Mode::empty()) {
            // Gone since it was listed.
            Err(Errno::ENOENT) => continue,
            file => file?,
        };
        let stat = fstat(&file)?;
        visit(&file, &stat)?;
        let directory = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        if directory && stat.st_dev == device && depth < DEEPEST {
            beneath(&file, device, depth + 1, visit)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn r_vol_2_a_volume_given_to_a_group_can_be_written_by_it_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("v"), dir.path().join("outside"));
        fs::create_dir_all(volume.join("sub")).unwrap();
        fs::write(volume.join("sub/file"), "").unwrap();
        fs::write(&outside, "").unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        set(&volume.join("sub/file"), 0o600);
        set(&outside, 0o600);
        std::os::unix::fs::symlink(&outside, volume.join("link")).unwrap();
        let group = nix::unistd::getegid().as_raw();
        give_to_group(&volume, group, Policy::Always).unwrap();
        assert_eq!(fs::metadata(volume.join("sub")).unwrap().mode() & 0o2770, 0o2770);
        assert_eq!(fs::metadata(volume.join("sub/file")).unwrap().mode() & 0o777, 0o660);
        assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o777, 0o600);
        set(&volume.join("sub/file"), 0o600);
        give_to_group(&volume, group, Policy::OnRootMismatch).unwrap();
        assert_eq!(fs::metadata(volume.join("sub/file")).unwrap().mode() & 0o777, 0o600);
    }
}
