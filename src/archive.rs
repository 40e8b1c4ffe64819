//! Files as a tar stream, out of and into places that are not trusted: what `cp` moves.
//!
//! Promises: reading goes from directory to directory by descriptor and follows no link beneath the
//! source; nothing is ever written outside of the destination, whatever a member is called and whatever is put there
//! meanwhile. Only a link that lay there before, on this side the user's own, leads elsewhere.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, open, openat, openat2, readlinkat},
    sys::stat::{Mode, SFlag, fchmod, fstat, fstatat, futimens, mkdirat},
    sys::time::TimeSpec,
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat},
};
use podctl_runtime::repeat_interrupted;
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, Entry, EntryType, Header};

/// Tells where a stream is unpacked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Destination {
    /// The existing directory, which the stream's members go into, or the name that its one top
    /// member is to have.
    pub path: PathBuf,
    /// Tells that an existing directory becomes the stream's top directory instead of holding it.
    pub merge: bool,
    /// Modes and times are kept; else modes follow a umask of 022.
    pub preserve: bool,
    /// Names whose files these are.
    pub place: Place,
}

/// Tells on which side of a wall a stream is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Stands in a container: a file replaces what has its name, as tar does.
    Container,
    /// Stands with the user: a file is written into what has its name, as creat(2) does, be it a link, a FIFO or a device; a new
    /// link that leads out is left out with a warning, for it would show a reader what it should not.
    Host,
}

/// The reason why something was not copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Means that a file could not be read or written.
    #[error("cannot {step} {path:?}: {source}")]
    File {
        /// Names it by a verb.
        step: &'static str,
        /// Names the file.
        path: PathBuf,
        /// The reason why not.
        source: io::Error,
    },
    /// The stream's own name for a member leads out of the destination.
    #[error("refused: the archive's member {0:?} would be written outside of the destination")]
    Outside(PathBuf),
    /// The stream broke off or is no tar.
    #[error("the archive cannot be read: {0}")]
    Stream(io::Error),
    /// The other side is gone.
    #[error("the archive cannot be written: {0}")]
    Sink(io::Error),
    /// Some members could not be read; they have been named.
    #[error("{0} files were not copied")]
    Partly(usize),
}

impl Error {
    /// Words the error as tar does, which is what a user of kubectl's sees of a container's side.
    pub fn in_words_of_tar(&self) -> String {
        match self {
            Error::File { step: "read", path, source } if source.kind() == io::ErrorKind::NotFound => {
                format!(
                    "tar: {}: No such file or directory\ntar: error exit delayed from previous errors",
                    path.display()
                )
            }
            Error::File { step: "open", path, source } if source.kind() == io::ErrorKind::NotFound => {
                format!("tar: can't change directory to '{}': No such file or directory", path.display())
            }
            other => format!("error: {other}"),
        }
    }
}

fn file<E: Into<io::Error>>(step: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
    let path = path.to_owned();
    move |e| Error::File { step, path, source: e.into() }
}

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC);
/// Neither waits for a FIFO's other side nor takes a terminal.
const READ: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// Opens a path that somebody named, with `/` as the root; links are followed, the kernel's magic ones are not.
fn open_named(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let base = open(if path.is_absolute() { "/" } else { "." }, OFlag::O_PATH | DIRECTORY, Mode::empty())?;
    open_beneath(&base, path.as_os_str(), flags, Mode::empty())
}

fn open_beneath(base: &OwnedFd, path: &OsStr, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode);
    openat2(base, path, how.resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS))
}

/// Packs a file or directory under its own name.
///
/// # Errors
/// [`Error`]; of single members that cannot be read it warns, and says so at the end.
pub fn pack_tree(source: &Path, out: impl Write, warnings: &mut impl Write) -> Result<(), Error> {
    let kind = open_named(source, OFlag::O_PATH).and_then(fstat).map_err(file("read", source))?;
    let mut tar = Builder::new(out);
    let mut packing = Packing { tar: &mut tar, warnings, failed: 0 };
    let name = PathBuf::from(source.file_name().unwrap_or(OsStr::new(".")));
    match file_type(&kind) {
        // A device or FIFO is not opened for what would be in it.
        SFlag::S_IFREG | SFlag::S_IFDIR => {
            let opened = open_named(source, READ).map_err(file("read", source))?;
            packing.add_opened(opened, &name)?;
        }
        _ => return Err(file("read", source)(io::Error::other("it is neither file nor directory"))),
    }
    let failed = packing.failed;
    tar.finish().map_err(Error::Sink)?;
    if failed == 0 { Ok(()) } else { Err(Error::Partly(failed)) }
}

fn file_type(stat: &nix::sys::stat::FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

struct Packing<'a, O: Write, W: Write> {
    tar: &'a mut Builder<O>,
    warnings: &'a mut W,
    failed: usize,
}

impl<O: Write, W: Write> Packing<'_, O, W> {
    fn add_opened(&mut self, fd: OwnedFd, name: &Path) -> Result<(), Error> {
        let opened = File::from(fd);
        let meta = opened.metadata().map_err(file("inspect", name))?;
        let mut header = Header::new_gnu();
        header.set_metadata(&meta);
        if meta.is_dir() {
            header.set_size(0);
            self.tar.append_data(&mut header, name, io::empty()).map_err(Error::Sink)?;
            return self.add_members(opened.into(), name);
        }
        if !meta.is_file() {
            return self.skip_member(name, "it changed while it was read");
        }
        // Exactly as long as the header says, also when it is written to meanwhile.
        let mut reading = Reading { file: opened, failed: None };
        let content = (&mut reading).chain(io::repeat(0)).take(meta.size());
        self.tar.append_data(&mut header, name, content).map_err(Error::Sink)?;
        match reading.failed {
            None => Ok(()),
            Some(e) => Err(file("read", name)(e)),
        }
    }

    fn add_members(&mut self, directory: OwnedFd, name: &Path) -> Result<(), Error> {
        let mut listing =
            Dir::from_fd(directory.try_clone().map_err(file("list", name))?).map_err(file("list", name))?;
        let names: Vec<_> = listing.iter().filter_map(|e| Some(e.ok()?.file_name().to_owned())).collect();
        for member in names {
            let member = OsStr::from_bytes(member.to_bytes());
            if member != "." && member != ".." {
                let done = self.member(&directory, member, &name.join(member));
                match done {
                    Err(Error::File { path, source, .. }) => {
                        self.failed += 1;
                        // A String takes everything.
                        let _ = writeln!(self.warnings, "error: cannot read {path:?}: {source}");
                    }
                    other => other?,
                }
            }
        }
        Ok(())
    }

    fn member(&mut self, directory: &OwnedFd, member: &OsStr, name: &Path) -> Result<(), Error> {
        let failed = || file::<Errno>("read", name);
        let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = openat(directory, member, OFlag::O_PATH | flags, Mode::empty()).map_err(failed())?;
        match file_type(&fstat(&found).map_err(failed())?) {
            SFlag::S_IFREG | SFlag::S_IFDIR => {
                let opened = openat(directory, member, READ | flags, Mode::empty()).map_err(failed())?;
                self.add_opened(opened, name)
            }
            SFlag::S_IFLNK => {
                let target = readlinkat(directory, member).map_err(failed())?;
                let mut header = Header::new_gnu();
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                header.set_mode(0o777);
                self.tar.append_link(&mut header, name, target).map_err(Error::Sink)
            }
            _ => self.skip_member(name, "it is a device, FIFO or socket"),
        }
    }

    fn skip_member(&mut self, name: &Path, why: &str) -> Result<(), Error> {
        writeln!(self.warnings, "warning: skipping {name:?}: {why}").map_err(Error::Sink)
    }
}

/// The file that ends where it cannot be read, and remembers why: its header has been written already.
struct Reading {
    file: File,
    failed: Option<io::Error>,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buffer) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                self.failed = Some(e);
                Ok(0)
            }
            other => other,
        }
    }
}

/// Names what becomes of the first part of every member's name.
enum Top {
    Stays,
    Becomes(OsString),
    /// Means that it is the destination itself.
    Goes,
}

/// Unpacks a stream; new files belong to `owner`, or to whoever runs this.
///
/// # Errors
/// [`Error`]; what was unpacked before stays.
pub fn unpack(
    into: &Destination,
    owner: Option<(u32, u32)>,
    input: impl Read,
    warnings: &mut impl Write,
) -> Result<(), Error> {
    let mut archive = Archive::new(input);
    let mut entries = archive.entries().map_err(Error::Stream)?.peekable();
    if let (Place::Host, Some(Ok(_)), Some(parent)) = (into.place, entries.peek(), into.path.parent()) {
        // As kubectl has it; what cannot be made is told of where it is opened.
        let _ = std::fs::create_dir_all(parent);
    }
    // A user's own paths lead wherever they lead, /dev/stdout to a pipe.
    let directory = |path: &Path| match into.place {
        Place::Host => open(path, OFlag::O_PATH | DIRECTORY, Mode::empty()),
        Place::Container => open_named(path, OFlag::O_PATH | DIRECTORY),
    };
    let (root, mut top) = match directory(&into.path) {
        Ok(root) => (root, if into.merge { Top::Goes } else { Top::Stays }),
        Err(Errno::ENOENT | Errno::ENOTDIR) if !into.path.as_os_str().as_bytes().ends_with(b"/") => {
            let name = into.path.file_name().ok_or_else(|| Error::Outside(into.path.clone()))?;
            let parent = match into.path.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) => parent,
                None => Path::new("/"),
            };
            let root = directory(parent).map_err(file("open", parent))?;
            (root, Top::Becomes(name.to_owned()))
        }
        Err(e) => return Err(file("open", &into.path)(e)),
    };
    let mut unpacking = Unpacking { root, into, owner, directories: Vec::new(), links: HashSet::new() };
    let mut first = true;
    for entry in entries {
        let mut entry = entry.map_err(Error::Stream)?;
        let name = entry.path().map_err(Error::Stream)?.into_owned();
        if std::mem::take(&mut first)
            && matches!(top, Top::Goes)
            && entry.header().entry_type() != EntryType::Directory
        {
            // A single file goes into the directory.
            top = Top::Stays;
        }
        let parts = split_below_top(&name, &top)?;
        if let Some((last, parents)) = parts.split_last() {
            unpacking.member(&mut entry, parents, last, &top, warnings)?;
        }
    }
    unpacking.finish()
}

/// Returns a member's name, part by part; none that leads up.
fn split_below_top(name: &Path, top: &Top) -> Result<Vec<OsString>, Error> {
    let mut parts = Vec::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_owned()),
            Component::CurDir | Component::RootDir => {}
            _ => return Err(Error::Outside(name.to_owned())),
        }
    }
    match top {
        Top::Stays => {}
        Top::Becomes(new) => match parts.first_mut() {
            Some(first) => *first = new.clone(),
            None => parts.push(new.clone()),
        },
        Top::Goes if parts.is_empty() => {}
        Top::Goes => drop(parts.remove(0)),
    }
    Ok(parts)
}

struct Unpacking<'a> {
    root: OwnedFd,
    into: &'a Destination,
    owner: Option<(u32, u32)>,
    /// Names whose modes and times are set at the end: a read-only one could not be filled.
    directories: Vec<(Vec<OsString>, u32, i64)>,
    /// Links that the stream has brought, by device and inode; they are not followed.
    links: HashSet<(u64, u64)>,
}

impl Unpacking<'_> {
    fn member(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        parents: &[OsString],
        last: &OsStr,
        top: &Top,
        warnings: &mut impl Write,
    ) -> Result<(), Error> {
        let named = parents.is_empty() && matches!(top, Top::Becomes(_));
        let path = match top {
            // The first part is the path's own last one.
            Top::Becomes(_) => {
                parents.iter().map(OsString::as_os_str).chain([last]).skip(1).collect::<PathBuf>()
            }
            Top::Stays | Top::Goes => parents.iter().map(OsString::as_os_str).chain([last]).collect(),
        };
        let name = &if named { self.into.path.clone() } else { self.into.path.join(path) };
        let failed = || file::<Errno>("write", name);
        let directory = self.walk(parents, name)?;
        let header = entry.header();
        let (mode, time) = (header.mode().unwrap_or(0o644) & 0o777, header.mtime().unwrap_or(0) as i64);
        match header.entry_type() {
            EntryType::Directory => {
                drop(self.enter(&directory, last).map_err(failed())?);
                let path = parents.iter().map(OsString::as_os_str).chain([last]).map(OsStr::to_owned);
                self.directories.push((path.collect(), mode, time));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let (fd, new) = match self.into.place {
                    Place::Container => (create(&directory, last).map_err(failed())?, true),
                    Place::Host => self.create_or_open(&directory, last, named).map_err(failed())?,
                };
                let mut created = File::from(fd);
                copy(entry, &mut created, name)?;
                if new {
                    self.set_owner(&created).map_err(failed())?;
                    self.finish_one(&created, mode, time).map_err(failed())?;
                }
            }
            EntryType::Symlink => {
                let target = entry.link_name().map_err(Error::Stream)?.unwrap_or_default().into_owned();
                // Of what becomes the destination itself, the parent is outside already.
                let depth = match top {
                    Top::Becomes(_) => parents.len().checked_sub(1),
                    Top::Stays | Top::Goes => Some(parents.len()),
                };
                if self.into.place == Place::Host && !depth.is_some_and(|depth| within(depth, &target)) {
                    // A String takes everything.
                    let _ = writeln!(
                        warnings,
                        "warning: skipping symlink: {name:?} -> {target:?}: it leads out of the destination"
                    );
                    return Ok(());
                }
                self.make_room(&directory, last).map_err(failed())?;
                symlinkat(target.as_path(), &directory, last).map_err(failed())?;
                let made = fstatat(&directory, last, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed())?;
                self.links.insert((made.st_dev, made.st_ino));
                if let Some((uid, gid)) = self.owner {
                    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                    fchownat(&directory, last, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed())?;
                }
            }
            EntryType::Link => {
                let target = entry.link_name().map_err(Error::Stream)?.unwrap_or_default().into_owned();
                let target = split_below_top(&target, top)?;
                let Some((other, others)) = target.split_last() else { return Ok(()) };
                let from = self.walk(others, name)?;
                self.make_room(&directory, last).map_err(failed())?;
                linkat(&from, other.as_os_str(), &directory, last, AtFlags::empty()).map_err(failed())?;
            }
            _ => {
                // A String takes everything.
                let _ = writeln!(warnings, "warning: skipping {name:?}: it is a device or FIFO");
            }
        }
        Ok(())
    }

    /// Opens what has this name on the user's side, or makes it; whether it is new. A link is followed, unless the
    /// stream has brought it; `named` is a path of the user's own, whose last part may be a link to anything.
    fn create_or_open(&self, directory: &OwnedFd, name: &OsStr, named: bool) -> nix::Result<(OwnedFd, bool)> {
        let open_it = |flags: OFlag| {
            let write = OFlag::O_WRONLY | OFlag::O_TRUNC | OFlag::O_NOCTTY | flags;
            let mode = Mode::from_bits_truncate(0o666);
            match openat(directory, name, write | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()) {
                Err(Errno::ELOOP) if self.is_brought(directory, name) => {
                    self.make_room(directory, name)?;
                    Err(Errno::ENOENT)
                }
                Err(Errno::ELOOP) if named => {
                    openat(directory, name, write | OFlag::O_CREAT | OFlag::O_CLOEXEC, mode)
                }
                Err(Errno::ELOOP) => open_beneath(directory, name, write | OFlag::O_CREAT, mode),
                other => other,
            }
        };
        let opened = match open_it(OFlag::O_NONBLOCK) {
            // A FIFO that nobody reads yet; whoever named it knows who will.
            Err(Errno::ENXIO) => open_it(OFlag::empty()),
            other => other,
        };
        match opened {
            Err(Errno::ENOENT) => create(directory, name).map(|fd| (fd, true)),
            Err(e) => Err(e),
            Ok(fd) => fcntl(&fd, FcntlArg::F_SETFL(OFlag::empty())).map(|_| (fd, false)),
        }
    }

    fn is_brought(&self, directory: &OwnedFd, name: &OsStr) -> bool {
        fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|found| self.links.contains(&(found.st_dev, found.st_ino)))
    }

    /// Takes away what has this name; on the user's side nothing but a file or a link.
    fn make_room(&self, directory: &OwnedFd, name: &OsStr) -> nix::Result<()> {
        let found = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        match found.map(|found| file_type(&found)) {
            Ok(kind)
                if self.into.place == Place::Host && kind != SFlag::S_IFREG && kind != SFlag::S_IFLNK =>
            {
                Err(Errno::EEXIST)
            }
            _ => make_room(directory, name),
        }
    }

    /// Walks from the destination down, never through a link; missing directories are made.
    fn walk(&self, parents: &[OsString], name: &Path) -> Result<OwnedFd, Error> {
        let mut at = self.root.try_clone().map_err(file("open", name))?;
        for part in parents {
            at = self.enter(&at, part).map_err(|e| match e {
                Errno::ENOTDIR | Errno::ELOOP => Error::File {
                    step: "write",
                    path: name.to_owned(),
                    source: io::Error::other(format!("{part:?} on the way to it is a link or no directory")),
                },
                e => file("write", name)(e),
            })?;
        }
        Ok(at)
    }

    fn enter(&self, at: &OwnedFd, part: &OsStr) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | DIRECTORY;
        match openat(at, part, flags, Mode::empty()) {
            Err(Errno::ENOENT) => {
                match mkdirat(at, part, Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(e) => return Err(e),
                }
                let made = openat(at, part, flags, Mode::empty())?;
                self.set_owner(&made)?;
                Ok(made)
            }
            other => other,
        }
    }

    fn set_owner(&self, fd: &impl AsFd) -> nix::Result<()> {
        match self.owner {
            Some((uid, gid)) => fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))),
            None => Ok(()),
        }
    }

    fn finish_one(&self, fd: &impl AsFd, mode: u32, time: i64) -> nix::Result<()> {
        let mode = if self.into.preserve { mode } else { mode & 0o755 };
        fchmod(fd, Mode::from_bits_truncate(mode))?;
        let time = TimeSpec::new(time, 0);
        if self.into.preserve { futimens(fd, &time, &time) } else { Ok(()) }
    }

    fn finish(self) -> Result<(), Error> {
        for (path, mode, time) in self.directories.iter().rev() {
            let name: PathBuf = path.iter().collect();
            let directory = self.walk(path, &name)?;
            self.finish_one(&directory, *mode, *time).map_err(file("write", &name))?;
        }
        Ok(())
    }
}

/// Tells apart which side failed.
fn copy(from: &mut impl Read, to: &mut File, name: &Path) -> Result<(), Error> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match repeat_interrupted(|| from.read(&mut buffer)) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count]).map_err(file("write", name))?,
            Err(e) => return Err(Error::Stream(e)),
        }
    }
}

/// Returns a new file in place of what was there. What cannot be taken away, such as a mounted file, is overwritten.
fn create(directory: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let write = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | READ;
    match make_room(directory, name) {
        Err(Errno::EBUSY) => {
            let found = openat(directory, name, write, Mode::empty())?;
            if file_type(&fstat(&found)?) != SFlag::S_IFREG {
                return Err(Errno::EINVAL);
            }
            nix::unistd::ftruncate(&found, 0)?;
            Ok(found)
        }
        Err(e) => Err(e),
        Ok(()) => {
            openat(directory, name, write | OFlag::O_CREAT | OFlag::O_EXCL, Mode::from_bits_truncate(0o600))
        }
    }
}

fn make_room(directory: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Tells whether a link so deep beneath the destination stays in it, by its words.
fn within(depth: usize, target: &Path) -> bool {
    let mut depth = depth as isize;
    target.components().all(|component| {
        match component {
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
        depth >= 0
    })
}
