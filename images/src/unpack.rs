//! Unpacks one layer's tar into a directory that serves as an overlay lower.
//!
//! The archive is hostile until proven otherwise: every name is resolved by the kernel beneath the layer's
//! root (`RESOLVE_IN_ROOT`), and the last component is never followed. Whiteouts become overlayfs's own.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{self, FchmodatFlags, Mode, SFlag};
use nix::sys::time::TimeSpec;
use nix::unistd::{self, LinkatFlags, UnlinkatFlags};
use tar::EntryType;

use crate::inventory::Unpacked;
use crate::registry_error::printable;
use metadata::Metadata;

mod metadata;
mod sparse;
pub(crate) mod whiteouts;

/// The reason why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The stream is no tar archive, or ends early.
    #[error("cannot read the archive: {}", printable(&.0.to_string()))]
    Archive(#[source] io::Error),
    /// The kernel refused an entry.
    #[error("cannot {action} /{}: {errno}", printable(&.path.to_string_lossy()))]
    Entry {
        /// Holds what was tried.
        action: &'static str,
        /// The entry, relative to the layer's root.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The owner has no place in this user namespace.
    #[error(
        "/{} belongs to {uid}:{gid}, which is not mapped here: give this user a larger range in /etc/subuid and /etc/subgid \
         (65536 ids serve nearly every image), or let such files belong to root (pull, load or run with --squash-ids)",
        printable(&.path.to_string_lossy())
    )]
    Unmapped {
        /// The entry.
        path: PathBuf,
        /// The user id.
        uid: u64,
        /// The group id.
        gid: u64,
    },
    /// Means that it unpacks to more than any honest layer of its size.
    #[error("it unpacks to more than {limit} {unit}; a layer of this size holds less")]
    TooLarge {
        /// Holds what is let through.
        limit: u64,
        /// The object of it.
        unit: &'static str,
    },
    /// The name cannot be a file's.
    #[error("invalid entry name {0:?}")]
    Name(PathBuf),
    /// Means that the store's file system has no extended attributes, by which overlayfs knows what a layer takes away.
    #[error(
        "it replaces /{}, which cannot be noted on a file system without extended attributes: let PODCTL_DATA_DIR name a directory on \
         another (ext4, xfs, btrfs, tmpfs)",
        printable(&.path.to_string_lossy())
    )]
    NoAttributes {
        /// Holds what it replaces.
        path: PathBuf,
    },
    /// The layer takes files of lower layers away, which cannot be noted on overlayfs before Linux 6.7.
    #[error(
        "it takes /{} away, which cannot be noted on overlayfs before Linux 6.7: {}",
        printable(&.path.to_string_lossy()),
        crate::error::ELSEWHERE
    )]
    NoWhiteouts {
        /// Holds what it takes away.
        path: PathBuf,
    },
}

impl UnpackError {
    /// Tells whether the same archive would fail again.
    pub fn is_permanent(&self) -> bool {
        !matches!(self, Self::Archive(_) | Self::Entry { errno: Errno::ENOSPC | Errno::EDQUOT, .. })
    }
}

/// Files, directories and links in one layer.
const MAX_ENTRIES: u64 = 5_000_000;
/// Number of links on the way to an entry, as the kernel has it for a path.
const MAX_LINKS: u32 = 40;
/// Long names and extended headers before one entry; they are held in memory.
const MAX_HEADERS: u64 = 4 << 20;

/// Holds what a layer is unpacked with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes that its files may have together.
    pub(crate) bytes: u64,
    /// Tells whether owners that are not mapped here become root.
    pub(crate) squash_ids: bool,
}

/// Unpacks the tar `archive` into the directory `root`.
pub(crate) fn unpack(archive: impl Read, root: &Path, limits: Limits) -> Result<Unpacked, UnpackError> {
    let limit = limits.bytes;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let fd = openat(AT_FDCWD, root, flags, Mode::empty()).map_err(at("open", Path::new("")))?;
    let buffer = vec![0; 256 << 10];
    let mut layer = Layer {
        root: fd,
        parent: None,
        directories: Vec::new(),
        marks: whiteouts::list_prefixes(),
        squash_ids: limits.squash_ids,
        implied: 0,
        unpacked: Unpacked::default(),
        buffer,
    };
    let allowance = Cell::new(MAX_HEADERS);
    let mut archive = tar::Archive::new(Metered { archive, allowance: &allowance });
    let (mut bytes, mut entries) = (0_u64, 0);
    for entry in archive.entries().map_err(UnpackError::Archive)? {
        let entry = entry.map_err(UnpackError::Archive)?;
        allowance.set(entry.size().saturating_add(MAX_HEADERS));
        bytes = bytes.saturating_add(entry.size());
        entries += 1;
        if bytes > limit {
            return Err(UnpackError::TooLarge { limit, unit: "bytes" });
        }
        if entries > MAX_ENTRIES {
            return Err(UnpackError::TooLarge { limit: MAX_ENTRIES, unit: "files" });
        }
        layer.entry(entry)?;
    }
    layer.finish()
}

/// The archive of which no more can be read than one entry and the next one's headers.
struct Metered<'a, R> {
    archive: R,
    allowance: &'a Cell<u64>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.archive.read(buffer)?;
        match self.allowance.get().checked_sub(n as u64) {
            Some(left) => self.allowance.set(left),
            None => return Err(io::Error::other(format!("headers of more than {MAX_HEADERS} bytes"))),
        }
        Ok(n)
    }
}

struct Layer {
    root: OwnedFd,
    /// The directory of the last entry: archives list a directory's files together.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Directories' times are set last, since filling a directory changes them.
    directories: Vec<(PathBuf, TimeSpec)>,
    /// Holds what overlayfs's own attributes begin with here.
    marks: &'static [&'static str],
    squash_ids: bool,
    /// Number of steps made or gone over directories that no entry named: a short archive may imply many.
    implied: u64,
    /// Holds what the layer's inventory is to say beside what can be seen.
    unpacked: Unpacked,
    /// Holds what goes from archive to file at a time.
    buffer: Vec<u8>,
}

impl Layer {
    fn entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), UnpackError> {
        let mut metadata = Metadata::of(&mut entry, self.squash_ids).map_err(UnpackError::Archive)?;
        let name = metadata.sparse.as_mut().and_then(|sparse| sparse.name.take());
        let name = name.unwrap_or_else(|| entry.path_bytes().into_owned());
        let path = clean_path(&PathBuf::from(OsString::from_vec(name)));
        let kind = match entry.header().entry_type() {
            // Archives of the seventies mark a directory by its name alone.
            EntryType::Regular if entry.path_bytes().ends_with(b"/") => EntryType::Directory,
            kind => kind,
        };
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            // The root itself has metadata but no name.
            return if kind == EntryType::Directory { self.own_directory(&path, &metadata) } else { Ok(()) };
        };
        if name.as_bytes().contains(&0) {
            return Err(UnpackError::Name(path));
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return self.apply_whiteout(&path, OsStr::from_bytes(hidden));
        }
        match kind {
            EntryType::Directory => return self.directory(&path, &name, &metadata),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let fd = self.place(&path, "create", |dir| openat(dir, &*name, flags, Mode::S_IRUSR))?;
                let mut file = File::from(fd);
                match &mut metadata.sparse {
                    Some(sparse) => sparse.fill(&mut file, &mut entry).map_err(UnpackError::Archive)?,
                    None => {
                        let sum = self.fill(&mut file, &mut entry, &path)?;
                        let inode = stat::fstat(&file).map_err(at("stat", &path))?.st_ino;
                        self.unpacked.checksums.insert(inode, sum);
                    }
                }
                return metadata.apply_to(&file, &path);
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = clean_path(Path::new(OsStr::from_bytes(&target)));
                let target_name = target.file_name().ok_or_else(|| UnpackError::Name(path.clone()))?;
                let from =
                    self.resolve(target.parent().unwrap_or(Path::new(""))).map_err(at("link", &path))?;
                // Without AT_SYMLINK_FOLLOW a symlink is linked itself, never what it points to.
                return self.place(&path, "link", |dir| {
                    unistd::linkat(&from, target_name, dir, &*name, LinkatFlags::empty())
                });
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                self.place(&path, "symlink", |dir| {
                    unistd::symlinkat(OsStr::from_bytes(&target), dir, &*name)
                })?;
            }
            EntryType::Fifo => {
                self.place(&path, "mkfifo", |dir| {
                    stat::mknodat(dir, &*name, SFlag::S_IFIFO, Mode::S_IRUSR, 0)
                })?;
            }
            EntryType::Char | EntryType::Block => {
                let header = entry.header();
                let number = |n: io::Result<Option<u32>>| n.ok().flatten().unwrap_or(0).into();
                let device = stat::makedev(number(header.device_major()), number(header.device_minor()));
                if device == 0 {
                    return Ok(()); // To overlayfs 0:0 is a whiteout, which only `.wh.` may make.
                }
                let sort = if kind == EntryType::Char { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
                let made =
                    self.place(&path, "mknod", |dir| stat::mknodat(dir, &*name, sort, Mode::S_IRUSR, device));
                match made {
                    // A user namespace has no devices; containers get theirs from the runtime.
                    Err(UnpackError::Entry { errno: Errno::EPERM, .. }) => return Ok(()),
                    made => made?,
                }
            }
            _ => return Ok(()),
        }
        let dir = self.parent(&path)?;
        metadata.apply_at(dir, &name, &path, kind == EntryType::Symlink)
    }

    /// Writes the entry's content, and gives its checksum.
    fn fill(&mut self, file: &mut File, entry: &mut impl Read, path: &Path) -> Result<u32, UnpackError> {
        let mut sum = crc32fast::Hasher::new();
        loop {
            let n = entry.read(&mut self.buffer).map_err(UnpackError::Archive)?;
            if n == 0 {
                return Ok(sum.finalize());
            }
            sum.update(&self.buffer[..n]);
            file.write_all(&self.buffer[..n]).map_err(|error| {
                at("write", path)(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
            })?;
        }
    }

    /// `.wh.X` hides the lower layers' X; `.wh..wh..opq` hides all that lower layers have in the directory.
    fn apply_whiteout(&mut self, path: &Path, hidden: &OsStr) -> Result<(), UnpackError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if hidden == ".wh..opq" {
            self.parent(path)?;
            return self.make_opaque(parent);
        }
        if hidden.as_bytes().starts_with(b".wh.") {
            return Ok(()); // aufs's own bookkeeping
        }
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(UnpackError::Name(path.to_owned()));
        }
        let prefixes = self.marks;
        let dir = self.parent(path)?;
        match stat::mknodat(dir, hidden, SFlag::S_IFCHR, Mode::empty(), 0) {
            // The layer brings its own X: a file hides the lower one as it is, a directory must be told to.
            Err(Errno::EEXIST) if is_directory(dir, hidden) => self.make_opaque(&parent.join(hidden)),
            // On overlayfs, as in a container, that device is not to be made: it would be the outer one's.
            Err(Errno::EPERM) => {
                let marked = whiteouts::make_whiteout(dir, hidden, prefixes);
                marked.map_err(|_| UnpackError::NoWhiteouts { path: parent.join(hidden) })
            }
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(at("whiteout", path)(errno)),
        }
    }

    fn directory(&mut self, path: &Path, name: &OsStr, metadata: &Metadata) -> Result<(), UnpackError> {
        let dir = self.parent(path)?;
        match stat::mkdirat(dir, name, Mode::S_IRWXU) {
            Err(Errno::EEXIST) if is_directory(dir, name) => {}
            Err(Errno::EEXIST) => {
                let hid = is_whiteout(dir, name);
                self.place(path, "mkdir", |dir| stat::mkdirat(dir, name, Mode::S_IRWXU))?;
                if hid {
                    self.make_opaque(path)?;
                }
            }
            made => made.map_err(at("mkdir", path))?,
        }
        self.own_directory(path, metadata)
    }

    fn own_directory(&mut self, path: &Path, metadata: &Metadata) -> Result<(), UnpackError> {
        let dir = self.open_directory(path).map_err(at("open", path))?;
        metadata.apply_to(&dir, path)?;
        self.unpacked.directories.insert(stat::fstat(&dir).map_err(at("stat", path))?.st_ino);
        self.directories.push((path.to_owned(), metadata.mtime));
        Ok(())
    }

    /// Makes something at `path`; what the archive put there before gives way.
    fn place<T>(
        &mut self,
        path: &Path,
        action: &'static str,
        make: impl Fn(&OwnedFd) -> nix::Result<T>,
    ) -> Result<T, UnpackError> {
        let dir = self.parent(path)?;
        match make(dir) {
            Err(Errno::EEXIST) => {
                remove(dir, path.file_name().unwrap_or_default(), 0).map_err(at("replace", path))?;
                let made = make(dir).map_err(at(action, path));
                self.parent = None; // what was replaced may have been part of the way there
                made
            }
            made => made.map_err(at(action, path)),
        }
    }

    /// The directory that holds `path`, made if the archive did not bother to.
    fn parent(&mut self, path: &Path) -> Result<&OwnedFd, UnpackError> {
        let wanted = path.parent().unwrap_or(Path::new(""));
        if self.parent.as_ref().is_none_or(|(held, _)| held != wanted) {
            let fd = match self.resolve(wanted) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => self.make_directories(wanted),
                found => found.map_err(at("open", wanted)),
            }?;
            self.parent = Some((wanted.to_owned(), fd));
        }
        Ok(&self.parent.as_ref().expect("set above").1)
    }

    /// Makes the directories on the way to `path` that are not there. A link on the way may lead to where this layer has nothing,
    /// for a lower one has it: what it leads to is made, too, and lies over that. Each step is taken from the one before, since
    /// together they may be longer than a path can be.
    fn make_directories(&mut self, path: &Path) -> Result<OwnedFd, UnpackError> {
        let failed = |errno| at("open", path)(errno);
        let mut left: Vec<OsString> = path.iter().rev().map(OsStr::to_owned).collect();
        let mut links = 0;
        let mut dir = self.resolve(Path::new("")).map_err(failed)?;
        while let Some(name) = left.pop() {
            if let Some(target) = read_link(&dir, &name) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(failed(Errno::ELOOP));
                }
                if target.is_absolute() {
                    dir = self.resolve(Path::new("")).map_err(failed)?;
                }
                let parts = target.components().rev();
                left.extend(parts.filter_map(|part| match part {
                    Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
                    _ => None,
                }));
                continue;
            }
            if name != ".." {
                self.make_directory(&dir, &name, path)?;
            } else if self.is_root(&dir).map_err(failed)? {
                continue;
            }
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            dir = openat(&dir, &*name, flags, Mode::empty()).map_err(failed)?;
        }
        Ok(dir)
    }

    /// Makes the directory `name` in `dir`, on the way to `path`, unless there is something of that name.
    fn make_directory(&mut self, dir: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), UnpackError> {
        self.implied += 1;
        if self.implied > MAX_ENTRIES {
            return Err(UnpackError::TooLarge { limit: MAX_ENTRIES, unit: "directories" });
        }
        let mode = Mode::from_bits_truncate(0o755);
        match stat::mkdirat(dir, name, mode) {
            // mkdirat obeys the umask, image directories do not.
            Ok(()) => set_mode(dir, name, mode).map_err(at("chmod", path)),
            // The layer hid it, and has something in it all the same: nothing of the lower ones is seen there.
            Err(Errno::EEXIST) if is_whiteout(dir, name) => {
                remove(dir, name, 0).map_err(at("replace", path))?;
                stat::mkdirat(dir, name, Mode::S_IRWXU).map_err(at("mkdir", path))?;
                set_mode(dir, name, mode).map_err(at("chmod", path))?;
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let own = File::from(openat(dir, name, flags, Mode::empty()).map_err(at("open", path))?);
                self.mark_opaque(&own, path)?;
                self.unpacked.directories.insert(stat::fstat(&own).map_err(at("stat", path))?.st_ino);
                Ok(())
            }
            Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(at("mkdir", path)(errno)),
        }
    }

    fn is_root(&self, dir: &OwnedFd) -> nix::Result<bool> {
        let (root, found) = (stat::fstat(&self.root)?, stat::fstat(dir)?);
        Ok((root.st_dev, root.st_ino) == (found.st_dev, found.st_ino))
    }

    fn resolve(&self, path: &Path) -> nix::Result<OwnedFd> {
        self.open_beneath(path, OFlag::O_PATH | OFlag::O_DIRECTORY)
    }

    fn open_directory(&self, path: &Path) -> nix::Result<File> {
        self.open_beneath(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).map(File::from)
    }

    fn open_beneath(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(&self.root, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
    }

    fn make_opaque(&self, path: &Path) -> Result<(), UnpackError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let dir = File::from(self.open_beneath(path, flags).map_err(at("open", path))?);
        self.mark_opaque(&dir, path)
    }

    fn mark_opaque(&self, dir: &File, path: &Path) -> Result<(), UnpackError> {
        whiteouts::set_all(dir, self.marks, "opaque", b"y").map_err(|errno| match errno {
            Errno::EOPNOTSUPP => UnpackError::NoAttributes { path: path.to_owned() },
            errno => at("make opaque", path)(errno),
        })
    }

    fn finish(self) -> Result<Unpacked, UnpackError> {
        for (path, mtime) in self.directories.iter().rev() {
            match self.open_directory(path) {
                Ok(dir) => stat::futimens(&dir, mtime, mtime).map_err(at("set times of", path))?,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {} // replaced by a later entry
                Err(errno) => return Err(at("open", path)(errno)),
            }
        }
        Ok(self.unpacked)
    }
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> UnpackError {
    move |errno| UnpackError::Entry { action, path: path.to_owned(), errno }
}

/// The path below the root that `path` names: `..` stops at the root, as it does in a chroot.
pub(crate) fn clean_path(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut clean, component| {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
        clean
    })
}

fn sort_of(dir: &OwnedFd, name: &OsStr) -> Option<(SFlag, u64)> {
    let stat = stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
    Some((SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()), stat.st_rdev))
}

fn is_directory(dir: &OwnedFd, name: &OsStr) -> bool {
    sort_of(dir, name).is_some_and(|(sort, _)| sort == SFlag::S_IFDIR)
}

/// Returns what the link `name` in `dir` leads to; nothing, when it is none.
fn read_link(dir: &OwnedFd, name: &OsStr) -> Option<PathBuf> {
    nix::fcntl::readlinkat(dir, name).ok().map(PathBuf::from)
}

fn is_whiteout(dir: &OwnedFd, name: &OsStr) -> bool {
    match sort_of(dir, name) {
        Some((SFlag::S_IFCHR, 0)) => true,
        Some((SFlag::S_IFREG, _)) => whiteouts::is_whiteout(dir, name),
        _ => false,
    }
}

/// Not for symlinks: the callers have just made what they name, and it is none.
fn set_mode(dir: &OwnedFd, name: &OsStr, mode: Mode) -> nix::Result<()> {
    stat::fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink)
}

/// Tells how deep a directory that a later entry replaces may nest.
const MAX_DEPTH: u32 = 400;

fn remove(dir: &OwnedFd, name: &OsStr, depth: u32) -> nix::Result<()> {
    match unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => {}
        done => return done,
    }
    if depth == MAX_DEPTH {
        return Err(Errno::ENAMETOOLONG);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let inner = openat(dir, name, flags, Mode::empty())?;
    let names: Vec<_> = nix::dir::Dir::from_fd(inner.try_clone().map_err(|_| Errno::EMFILE)?)?
        .into_iter()
        .filter_map(|entry| {
            entry.ok().map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
        })
        .filter(|name| name != "." && name != "..")
        .collect();
    names.iter().try_for_each(|name| remove(&inner, name, depth + 1))?;
    unistd::unlinkat(dir, name, UnlinkatFlags::RemoveDir)
}

#[cfg(test)]
mod tests;
