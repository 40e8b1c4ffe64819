//! Copies of layers for pods in which the user keeps the own id: there the image's ids are others on disk. The kernel maps
//! them in a mount for the machine's root alone, so an ordinary user gets a copy with other owners, made once, in `remapped/`.
//! It is kept for as long as its layer.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};

use crate::crown::read_xattrs;
use crate::store::entries;
use crate::{Error, Image, Store};

/// The ids that a user has in a pod, instead of root's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptIds {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl KeptIds {
    /// Returns which id has the place of a pod's `id`, where the user is 0 and the subordinate ids follow.
    fn place(kept: u32, id: u32) -> u32 {
        match id {
            id if id == kept => 0,
            id if id < kept => id + 1,
            id => id,
        }
    }
}

/// Names the copies of layers, which [`Store::remap_layers`] makes.
pub fn remapped_layers(layers: &[PathBuf], ids: KeptIds) -> Vec<PathBuf> {
    let name = |layer: &Path| {
        let name = layer.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("{name}.{}.{}", ids.uid, ids.gid)
    };
    let place = |layer: &PathBuf| {
        let store = layer.ancestors().nth(2).unwrap_or(Path::new("/"));
        store.join("remapped").join(name(layer))
    };
    layers.iter().map(place).collect()
}

impl Store {
    /// Tells whether the image can be used by a pod with these ids as it is.
    pub fn is_remapped(&self, image: &Image, ids: KeptIds) -> bool {
        remapped_layers(&image.layers, ids).iter().all(|copy| copy.is_dir())
    }

    /// Makes copies of the image's layers for these ids, as far as there are none. The caller holds the image, in a user
    /// namespace in which the user is 0 and the subordinate ids follow.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remap_layers(&self, image: &Image, ids: KeptIds) -> Result<(), Error> {
        let copies = remapped_layers(&image.layers, ids);
        let missing: Vec<_> = image.layers.iter().zip(copies).filter(|(_, copy)| !copy.is_dir()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let place = self.root().join("remapped");
        fs::create_dir_all(&place).map_err(Error::io("create", &place))?;
        let mut made = Vec::new();
        for (layer, copy) in missing {
            let scratch = self.make_scratch()?;
            let root = scratch.path.join("layer");
            copy_tree(layer, &root, ids).map_err(Error::io("copy", layer))?;
            made.push((scratch, root, copy));
        }
        // Nothing tells later whether a power cut has cost some of it.
        let dir = File::open(&place).map_err(Error::io("open", &place))?;
        nix::unistd::syncfs(&dir).map_err(|errno| Error::io("sync", &place)(errno.into()))?;
        for (_scratch, root, copy) in made {
            match fs::rename(&root, &copy) {
                // Someone else was faster.
                Err(_) if copy.is_dir() => {}
                done => done.map_err(Error::io("create", &copy))?,
            }
        }
        Ok(())
    }

    /// Returns the copies whose layers `is_gone` tells of.
    pub(crate) fn list_copies(&self, is_gone: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, Error> {
        let place = self.root().join("remapped");
        if !place.is_dir() {
            return Ok(Vec::new());
        }
        let of = |copy: &PathBuf| {
            let name = copy.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.root().join("layers").join(name.split('.').next().unwrap_or_default())
        };
        Ok(entries(&place)?.into_iter().filter(|copy| is_gone(&of(copy))).collect())
    }
}

/// Copies a layer with other owners. Nobody changes it meanwhile, and links in it are not followed.
fn copy_tree(from: &Path, to: &Path, ids: KeptIds) -> io::Result<()> {
    let mut links = HashMap::new();
    let mut directories = vec![PathBuf::new()];
    fs::create_dir(to)?;
    let mut at = 0;
    while let Some(dir) = directories.get(at).cloned() {
        at += 1;
        for entry in fs::read_dir(from.join(&dir))? {
            let entry = entry?;
            let (below, meta) = (dir.join(entry.file_name()), entry.metadata()?);
            let copy = to.join(&below);
            if meta.is_dir() {
                fs::create_dir(&copy)?;
                directories.push(below);
                continue;
            }
            if meta.nlink() > 1 {
                match links.entry(meta.ino()) {
                    std::collections::hash_map::Entry::Occupied(first) => {
                        fs::hard_link(first.get(), &copy)?;
                        continue;
                    }
                    std::collections::hash_map::Entry::Vacant(first) => drop(first.insert(copy.clone())),
                }
            }
            copy_content(&entry.path(), &copy, &meta)?;
            copy_attributes(&entry.path(), &copy, &meta, ids)?;
        }
    }
    // Last, for what is made in a directory changes its times; those below first, while all may be entered.
    for below in directories.iter().rev() {
        let (said, copy) = (from.join(below), to.join(below));
        copy_attributes(&said, &copy, &fs::symlink_metadata(&said)?, ids)?;
    }
    Ok(())
}

fn copy_content(from: &Path, to: &Path, meta: &fs::Metadata) -> io::Result<()> {
    if meta.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if !meta.is_file() {
        // A whiteout, or a FIFO: a user has no other nodes.
        let kind = SFlag::from_bits_truncate(meta.mode() & SFlag::S_IFMT.bits());
        return Ok(mknod(to, kind, Mode::S_IRUSR, meta.rdev())?);
    }
    let (mut read, mut write) = (File::open(from)?, File::create_new(to)?);
    write.set_len(meta.size())?;
    let mut at = 0;
    // Holes stay: a layer may have files larger than the disk.
    while let Some(data) = seek(&read, at, libc::SEEK_DATA)? {
        let end = seek(&read, data, libc::SEEK_HOLE)?.unwrap_or(meta.size());
        read.seek(SeekFrom::Start(data))?;
        write.seek(SeekFrom::Start(data))?;
        io::copy(&mut Read::by_ref(&mut read).take(end - data), &mut write)?;
        at = end;
    }
    write.flush()
}

/// Returns where data or a hole begins; none beyond the last.
fn seek(file: &File, at: u64, what: libc::c_int) -> io::Result<Option<u64>> {
    // SAFETY: the descriptor is open.
    let found = unsafe { libc::lseek(file.as_raw_fd(), at as libc::off_t, what) };
    match Errno::result(found) {
        Ok(found) => Ok(Some(found as u64)),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Owner first: chown clears setuid and capabilities, which come after.
fn copy_attributes(from: &Path, to: &Path, meta: &fs::Metadata, ids: KeptIds) -> io::Result<()> {
    let owner = (KeptIds::place(ids.uid, meta.uid()), KeptIds::place(ids.gid, meta.gid()));
    lchown(to, Some(owner.0), Some(owner.1))?;
    if !meta.is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    if meta.is_dir() || meta.is_file() {
        let wanted = |name: &[u8]| name.starts_with(b"user.") || name == b"security.capability";
        for (name, value) in read_xattrs(&File::open(from)?.into(), wanted) {
            set_attribute(to, &name, &value)?;
        }
    }
    let times = [(meta.atime(), meta.atime_nsec()), (meta.mtime(), meta.mtime_nsec())];
    let [atime, mtime] = times.map(|(seconds, nanos)| TimeSpec::new(seconds, nanos));
    Ok(utimensat(AT_FDCWD, to, &atime, &mtime, UtimensatFlags::NoFollowSymlink)?)
}

fn set_attribute(path: &Path, name: &CStr, value: &[u8]) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both strings end in NUL, pointer and length are the value's.
    let set = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Ok(Errno::result(set).map(drop)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_has_the_kept_id_and_all_others_move_up() {
        assert_eq!(
            [0, 999, 1000, 1001, 65_536].map(|id| KeptIds::place(1000, id)),
            [1, 1000, 0, 1001, 65_536]
        );
        assert_eq!([0, 1].map(|id| KeptIds::place(0, id)), [0, 1]);
        let places: std::collections::HashSet<_> = (0..5000).map(|id| KeptIds::place(1000, id)).collect();
        assert_eq!(places.len(), 5000);
    }

    #[test]
    fn a_copy_has_all_but_the_owners() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(from.join("d/e")).unwrap();
        fs::write(from.join("d/file"), "text").unwrap();
        fs::set_permissions(from.join("d/file"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::hard_link(from.join("d/file"), from.join("d/e/same")).unwrap();
        symlink("nowhere", from.join("link")).unwrap();
        File::create(from.join("holes")).unwrap().set_len(1 << 40).unwrap();
        fs::set_permissions(from.join("d"), fs::Permissions::from_mode(0o555)).unwrap();
        // The one who tests is, in either place.
        let own = fs::metadata(&from).unwrap();
        copy_tree(&from, &to, KeptIds { uid: own.uid() + 1, gid: own.gid() + 1 })
            .or_else(|e| if own.uid() == 0 { Err(e) } else { Ok(()) })
            .unwrap();
        if own.uid() != 0 {
            return;
        }
        let meta = |path: &str| fs::symlink_metadata(to.join(path)).unwrap();
        assert_eq!((meta("d/file").mode() & 0o7777, meta("d/file").uid()), (0o4750, 1));
        assert_eq!(meta("d/file").ino(), meta("d/e/same").ino());
        assert_eq!(meta("d").mode() & 0o7777, 0o555);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("nowhere"));
        assert_eq!((meta("holes").size(), meta("holes").blocks()), (1 << 40, 0));
        assert_eq!(fs::read_to_string(to.join("d/file")).unwrap(), "text");
        assert_eq!(meta("d").mtime_nsec(), fs::metadata(from.join("d")).unwrap().mtime_nsec());
    }
}
