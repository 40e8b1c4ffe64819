//! The files that an image shows: its layers laid over each other as overlayfs does it, read without a mount.
//!
//! Layers are hostile: links are followed inside the image alone, and what is no ordinary file is not opened.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

use crate::Error;
use crate::unpack::whiteouts;

/// Links followed on the way to one file, as in the kernel.
const MAX_LINKS: u32 = 40;

/// The layers of an image as one tree.
#[derive(Debug)]
pub struct Tree {
    root: Directory,
}

/// The directory as the image shows it: those of the layers that show through, topmost first.
#[derive(Clone, Debug)]
pub(crate) struct Directory(pub(crate) Vec<Part>);

/// The directory in one layer.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Number of the layer, the lowest being 0.
    pub(crate) layer: usize,
    pub(crate) fd: Rc<OwnedFd>,
}

/// Names what a name in a directory is.
enum Entry {
    Nothing,
    Directory(Directory),
    Link(OsString),
    Other(Part),
}

impl Tree {
    /// The tree of these layers, the lowest first.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::Io`], of a layer that cannot be opened.
    pub fn open(layers: &[PathBuf]) -> Result<Tree, Error> {
        let part = |(layer, path): (usize, &PathBuf)| {
            let opened = openat(AT_FDCWD, path, DIRECTORY, Mode::empty());
            opened
                .map(|fd| Part { layer, fd: Rc::new(fd) })
                .map_err(|errno| Error::own("open", path)(errno.into()))
        };
        let parts = layers.iter().enumerate().rev().map(part).collect::<Result<_, Error>>()?;
        Ok(Tree { root: Directory(parts) })
    }

    /// The content of the ordinary file at `path`, links followed; none when there is no such file, or when it has more
    /// than `limit` bytes.
    pub fn read(&self, path: &Path, limit: u64) -> Option<Vec<u8>> {
        let (part, name) = self.find(path).ok()??;
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        // Looked at before it is opened: opening a device may do something.
        let stat = fstatat(&*part.fd, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        if sort(&stat) != SFlag::S_IFREG {
            return None;
        }
        let file = File::from(openat(&*part.fd, name.as_os_str(), flags, Mode::empty()).ok()?);
        let mut content = Vec::new();
        file.take(limit + 1).read_to_end(&mut content).ok()?;
        (content.len() as u64 <= limit).then_some(content)
    }

    /// Tells where the file at `path` lies, and under which name; a directory is none.
    fn find(&self, path: &Path) -> nix::Result<Option<(Part, OsString)>> {
        let mut above: Vec<Directory> = Vec::new();
        let mut at = self.root.clone();
        let mut left: Vec<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == ".." {
                at = above.pop().unwrap_or_else(|| self.root.clone());
                continue;
            }
            match at.entry(&name)? {
                Entry::Nothing => return Ok(None),
                Entry::Directory(below) => above.push(std::mem::replace(&mut at, below)),
                Entry::Other(part) if left.is_empty() => return Ok(Some((part, name))),
                Entry::Other(_) => return Err(Errno::ENOTDIR),
                Entry::Link(to) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::ELOOP);
                    }
                    if to.as_bytes().starts_with(b"/") {
                        above.clear();
                        at = self.root.clone();
                    }
                    left.extend(names(Path::new(&to)));
                }
            }
        }
        Ok(None)
    }
}

/// Looks directories up one after another. What lies beside or beneath the last one is found from there, so that a layer of
/// few bytes, whose directories lie deep, does not cost a walk from the root for each of them.
pub(crate) struct Walk<'t> {
    tree: &'t Tree,
    /// The last ancestors of what was looked up last and that itself, the deepest last.
    held: Vec<(PathBuf, Directory)>,
}

/// Number of directories that a walk holds: each takes a descriptor a layer.
const HELD: usize = 4;

impl<'t> Walk<'t> {
    pub(crate) fn of(tree: &'t Tree) -> Walk<'t> {
        Walk { tree, held: Vec::new() }
    }

    /// The directory at `path`, of which no part is a link.
    pub(crate) fn directory(&mut self, path: &Path) -> nix::Result<Option<Directory>> {
        while self.held.pop_if(|(above, _)| !path.starts_with(above)).is_some() {}
        let (mut above, mut at) =
            self.held.last().cloned().unwrap_or_else(|| (PathBuf::new(), self.tree.root.clone()));
        for name in path.strip_prefix(&above).unwrap_or(path) {
            match at.entry(name)? {
                Entry::Directory(below) => at = below,
                _ => return Ok(None),
            }
            above.push(name);
            self.held.push((above.clone(), at.clone()));
            if self.held.len() > HELD {
                self.held.remove(0);
            }
        }
        Ok(Some(at))
    }
}

/// The names on a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let parts = path.as_os_str().as_bytes().split(|&b| b == b'/');
    let names = parts.filter(|part| !part.is_empty() && *part != b".");
    names.rev().map(|name| OsStr::from_bytes(name).to_owned()).collect()
}

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl Directory {
    fn entry(&self, name: &OsStr) -> nix::Result<Entry> {
        let mut below = Vec::new();
        for part in &self.0 {
            let stat = match fstatat(&*part.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => continue,
                found => found?,
            };
            match sort(&stat) {
                SFlag::S_IFDIR => {
                    let fd = Rc::new(openat(&*part.fd, name, DIRECTORY, Mode::empty())?);
                    let opaque = is_opaque(&fd);
                    below.push(Part { layer: part.layer, fd });
                    if opaque {
                        break;
                    }
                }
                // Something else ends what shows through, and counts itself only where nothing is above it.
                _ if !below.is_empty() => break,
                SFlag::S_IFCHR if stat.st_rdev == 0 => return Ok(Entry::Nothing),
                SFlag::S_IFLNK => return Ok(Entry::Link(readlinkat(&*part.fd, name)?)),
                SFlag::S_IFREG if stat.st_size == 0 && is_marked_whiteout(part, name) => {
                    return Ok(Entry::Nothing);
                }
                _ => return Ok(Entry::Other(part.clone())),
            }
        }
        Ok(if below.is_empty() { Entry::Nothing } else { Entry::Directory(Directory(below)) })
    }
}

fn sort(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Tells whether overlayfs shows nothing of the layers below in this directory.
fn is_opaque(dir: &OwnedFd) -> bool {
    [c"user.overlay.opaque", c"trusted.overlay.opaque"].iter().any(|name| {
        let mut value = [0_u8; 2];
        // SAFETY: the descriptor is open, the name ends in NUL, pointer and length are the buffer's.
        let got = unsafe {
            libc::fgetxattr(dir.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        got == 1 && value[0] == b'y'
    })
}

/// Tells whether the empty file is a whiteout in the form for file systems without device nodes.
fn is_marked_whiteout(part: &Part, name: &OsStr) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    openat(&*part.fd, name, flags, Mode::empty()).is_ok_and(|file| whiteouts::is_marked(&file))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Layers of directories, files (`path=content`) and links (`path>target`), the lowest first.
    fn tree(dir: &Path, layers: &[&[&str]]) -> Tree {
        let made = layers.iter().enumerate().map(|(number, entries)| {
            let root = dir.join(number.to_string());
            fs::create_dir_all(&root).unwrap();
            for entry in *entries {
                let path = root.join(entry.split(['=', '>']).next().unwrap());
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                match (entry.split_once('='), entry.split_once('>')) {
                    (Some((_, content)), _) => fs::write(path, content).unwrap(),
                    (_, Some((_, target))) => symlink(target, path).unwrap(),
                    _ => fs::create_dir_all(path).unwrap(),
                }
            }
            root
        });
        Tree::open(&made.collect::<Vec<_>>()).unwrap()
    }

    fn read(tree: &Tree, path: &str) -> Option<String> {
        tree.read(Path::new(path), 100).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_layer_that_cannot_be_opened_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = Tree::open(&[file.path().to_owned()]).unwrap_err().to_string();
        assert!(
            said.contains(file.path().to_str().unwrap()) && said.contains("podctl doctor --repair"),
            "{said}"
        );
    }

    #[test]
    fn a_link_leads_into_another_layer_and_never_out_of_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let layers: &[&[&str]] = &[
            &["etc/passwd=old", "etc/secret=s", "usr/lib/os=lib"],
            &["store/passwd=new"],
            &[
                "etc/passwd>/store/passwd",
                "lib>usr/lib",
                "up>../../../../etc/secret",
                "a>b",
                "b>a",
                "out>/etc/hostname-of-this-machine",
            ],
        ];
        let tree = tree(dir.path(), layers);
        assert_eq!(read(&tree, "etc/passwd").as_deref(), Some("new"));
        assert_eq!(read(&tree, "lib/os").as_deref(), Some("lib"));
        assert_eq!(read(&tree, "/up").as_deref(), Some("s"));
        assert_eq!(read(&tree, "lib/../lib/./os").as_deref(), Some("lib"));
        for nothing in ["a", "out", "etc", "etc/passwd/x", "none/etc/passwd"] {
            assert_eq!(read(&tree, nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_an_upper_layer_replaces_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let layers: &[&[&str]] =
            &[&["etc/a=1", "etc/b=1", "d/x=1"], &["etc/a/inner=2", "d=file"], &["d/y=3"]];
        let tree = tree(dir.path(), layers);
        assert_eq!(read(&tree, "etc/a/inner").as_deref(), Some("2"));
        assert_eq!(read(&tree, "etc/b").as_deref(), Some("1"));
        assert_eq!((read(&tree, "d/y").as_deref(), read(&tree, "d/x")), (Some("3"), None));
        assert_eq!(tree.read(Path::new("etc/b"), 0), None, "longer than asked for");
    }

    #[test]
    fn a_walk_finds_what_a_look_from_the_root_finds_in_whichever_order() {
        let dir = tempfile::tempdir().unwrap();
        let tree =
            tree(dir.path(), &[&["a/b/c/d/e/f/g/x=1", "a/b/k/x=1", "l>a"], &["a/b/c/d/h/x=2", "z=file"]]);
        let paths =
            ["", "a/b", "a/b/c/d/e/f/g", "a/b/c/d/h", "a/b/k", "a/none", "l", "l/b", "z", "a/b/c", "ab"];
        let parts = |found: Option<Directory>| found.map(|found| found.0.len());
        let expected = [2, 2, 1, 1, 1, 0, 0, 0, 0, 2, 0];
        for backwards in [false, true] {
            let mut all: Vec<_> = paths.iter().zip(expected).collect();
            if backwards {
                all.reverse();
            }
            let mut walk = Walk::of(&tree);
            for (path, expected) in all {
                let found = parts(walk.directory(Path::new(path)).unwrap());
                assert_eq!(found.unwrap_or(0), expected, "{path}");
            }
        }
    }
}
