//! Checked names as file names, and back; the removal of what lies beneath a directory of podctl's own.
//!
//! A pod's name may have 253 characters and a file's 255 bytes, so what would be too long is cut and told
//! from others by a digest. The whole name is then in the file itself.

use std::{
    ffi::{CStr, OsStr, OsString},
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::Path,
};

use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat, renameat},
    sys::stat::{Mode, SFlag, fstatat},
    unistd::{UnlinkatFlags, unlinkat},
};
use podctl_images::{is_misplaced, open_ordinary};
use sha2::{Digest, Sha256};

/// Longest file name that is made of names, in bytes; leaves room for what is added, such as `.json.new123`.
const LONGEST: usize = 200;
/// Bytes that are kept of one that is longer.
const KEPT: usize = 150;
/// Stands between what is kept and the digest; no name has it.
const CUT: char = '~';

/// Returns the file name for names that belong together, `NAMESPACE_NAME`.
pub(super) fn file_name(parts: &[&str]) -> String {
    let whole = parts.join("_");
    if whole.len() <= LONGEST {
        return whole;
    }
    let digest = Sha256::digest(&whole);
    let digest: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    // All of it is ASCII, for the names are.
    format!("{}{CUT}{digest}", &whole[..KEPT])
}

/// Tells whether a file name does not tell the whole name.
pub(super) fn is_cut(file_name: &str) -> bool {
    file_name.contains(CUT)
}

/// Opens a directory that is the last part of a path, and not through a link that stands in its place.
/// `None` when there is none.
///
/// # Errors
/// Those of openat(2).
pub fn open_directory(path: &Path) -> io::Result<Option<OwnedFd>> {
    let Some((parent, name)) = open_parent(path)? else { return Ok(None) };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(&parent, name, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Removes what the path names, a directory with all that is in it; it need not be there. Links are removed
/// and not followed, and no nesting is too deep.
///
/// # Errors
/// Of the first thing that could not be removed; the others may be gone.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let Some((parent, name)) = open_parent(path)? else { return Ok(()) };
    match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(e) => return Err(e.into()),
    }
    if let Some(directory) = open_directory(path)? {
        empty_directory(&directory)?;
    }
    ignore_missing(unlinkat(&parent, name, UnlinkatFlags::RemoveDir))
}

/// Removes everything in an open directory. Directories that lie too deep in it are moved up beside the
/// others before they are emptied: containers nest deeper than there are descriptors, and than a stack is.
///
/// # Errors
/// As [`remove_tree`].
pub fn empty_directory(top: &OwnedFd) -> io::Result<()> {
    let (mut moved, mut left) = (0, Vec::new());
    empty_in_place(top, top, 0, &mut moved, &mut left)?;
    while let Some(name) = left.pop() {
        let Some(directory) = open_beneath(top, &name)? else { continue };
        empty_in_place(top, &directory, 1, &mut moved, &mut left)?;
        ignore_missing(unlinkat(top, name.as_os_str(), UnlinkatFlags::RemoveDir))?;
    }
    Ok(())
}

/// The number of directories in each other that are open at once. To move one costs more than to remove it.
const DEEPEST_IN_PLACE: usize = 8;

/// Removes what is in `directory`, which lies so many directories below another; what lies too deep is moved up to `top`,
/// and its name there added to `left`.
fn empty_in_place(
    top: &OwnedFd,
    directory: &OwnedFd,
    depth: usize,
    moved: &mut u64,
    left: &mut Vec<OsString>,
) -> io::Result<()> {
    for entry in Dir::from_fd(directory.try_clone()?)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if !is_directory(directory, name, entry.file_type())? {
            ignore_missing(unlinkat(directory, name, UnlinkatFlags::NoRemoveDir))?;
            continue;
        }
        match unlinkat(directory, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if depth < DEEPEST_IN_PLACE => {
                let Some(below) = open_beneath(directory, OsStr::from_bytes(name.to_bytes()))? else {
                    continue;
                };
                empty_in_place(top, &below, depth + 1, moved, left)?;
                ignore_missing(unlinkat(directory, name, UnlinkatFlags::RemoveDir))?;
            }
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => left.push(move_up(directory, name, top, moved)?),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Opens a directory in another; `None` when there is none any more.
fn open_beneath(directory: &OwnedFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(directory, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

fn is_directory(directory: &OwnedFd, name: &CStr, known: Option<Type>) -> io::Result<bool> {
    match known {
        Some(kind) => Ok(kind == Type::Directory),
        // Not every file system says so in its listings.
        None => {
            let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            Ok(SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR)
        }
    }
}

/// Moves a directory up to `top` under a name that nothing has there.
fn move_up(from: &OwnedFd, name: &CStr, top: &OwnedFd, moved: &mut u64) -> io::Result<OsString> {
    loop {
        *moved += 1;
        let new = format!(".removed-{}-{moved}", std::process::id());
        match renameat(from, name, top, new.as_str()) {
            Ok(()) => return Ok(new.into()),
            // A container has a directory or file of that name.
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn ignore_missing(done: nix::Result<()>) -> io::Result<()> {
    match done {
        Err(Errno::ENOENT) => Ok(()),
        done => Ok(done?),
    }
}

/// The directory above, open, and the last part of the path; `None` when there is no such directory.
fn open_parent(path: &Path) -> io::Result<Option<(OwnedFd, &OsStr)>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no last part"));
    };
    match open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(parent) => Ok(Some((parent, name))),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Opens a file as these options say; what else stands in its place is removed first.
///
/// # Errors
/// Those of open(2).
pub(super) fn open_or_make(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    match open_ordinary(path, options) {
        Err(e) if is_misplaced(&e) && remove_tree(path).is_ok() => open_ordinary(path, options),
        opened => opened,
    }
}

/// Makes an empty file, for its owner's eyes only, in place of what is there.
///
/// # Errors
/// Those of open(2).
pub(super) fn make_anew(path: &Path) -> io::Result<File> {
    open_or_make(path, File::options().create(true).truncate(true).write(true).mode(0o600))
}

/// Puts a file in the place of another, or of what else is there.
///
/// # Errors
/// Those of rename(2).
pub(super) fn move_into_place(file: &Path, path: &Path) -> io::Result<()> {
    match fs::rename(file, path) {
        Err(e) if e.raw_os_error() == Some(libc::EISDIR) && remove_tree(path).is_ok() => {
            fs::rename(file, path)
        }
        moved => moved,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn long_names_have_file_names_of_their_own() {
        let (one, other) = ("a".repeat(253), format!("{}b", "a".repeat(252)));
        assert_eq!(file_name(&["default", "web"]), "default_web");
        assert!(file_name(&["default", &one]).len() <= LONGEST);
        assert_ne!(file_name(&["default", &one]), file_name(&["default", &other]));
        assert!(is_cut(&file_name(&["default", &one])) && !is_cut("default_web"));
    }

    #[test]
    fn a_tree_is_removed_without_leaving_it() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir_all(tree.join("a/b/c/d")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        fs::write(tree.join("a/file"), "").unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        // A name that the removal itself would choose.
        fs::create_dir_all(tree.join(format!(".removed-{}-1/x", std::process::id()))).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.join("kept").exists());
        remove_tree(&tree).unwrap();

        symlink(&outside, &tree).unwrap();
        assert!(open_directory(&tree).is_err(), "a link is no directory of ours");
        remove_tree(&tree).unwrap();
        assert!(!tree.is_symlink() && outside.join("kept").exists());
    }

    #[test]
    fn no_nesting_is_too_deep_to_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut at: OwnedFd = File::open(&tree).unwrap().into();
        for _ in 0..5000 {
            nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            at = openat(&at, "d", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
