//! What an entry of an archive says beside its content: owner, mode, times, attributes, and where a sparse file has holes.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{self, Mode, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{self, Gid, Uid};

use super::sparse::Sparse;
use super::{UnpackError, at, set_mode, whiteouts::set_attribute};

/// Owner, mode, times and extended attributes of one entry.
pub(super) struct Metadata {
    uid: u64,
    gid: u64,
    mode: Mode,
    pub(super) mtime: TimeSpec,
    xattrs: Vec<(CString, Vec<u8>)>,
    /// The holes of a sparse file in the PAX form.
    pub(super) sparse: Option<Sparse>,
    /// Owners that are not mapped here become root.
    squash: bool,
}

/// Returns the number in a field of a header. One that nobody has written is 0, as for Go's reader, with which images are made.
fn read_number(field: &[u8], parsed: io::Result<u64>) -> io::Result<u64> {
    match field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        true => Ok(0),
        false => parsed,
    }
}

impl Metadata {
    pub(super) fn of<R: Read>(entry: &mut tar::Entry<'_, R>, squash: bool) -> io::Result<Self> {
        let header = entry.header();
        let old = header.as_old();
        let mut mtime = TimeSpec::new(read_number(&old.mtime, header.mtime())? as i64, 0);
        let (uid, gid) = (read_number(&old.uid, header.uid())?, read_number(&old.gid, header.gid())?);
        let mode = read_number(&old.mode, header.mode().map(u64::from))? as u32;
        let mode = Mode::from_bits_truncate(mode & 0o7777);
        let (mut xattrs, mut sparse) = (Vec::new(), None::<Sparse>);
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            let (key, value) = (extension.key_bytes(), extension.value_bytes());
            if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                sparse.get_or_insert_default().note(key, value)?;
            } else if key == b"mtime" {
                mtime = pax_time(value).unwrap_or(mtime);
            } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                && (name == b"security.capability" || name.starts_with(b"user."))
                && !name.starts_with(b"user.overlay.")
                && let Ok(name) = CString::new(name)
            {
                xattrs.push((name, value.to_vec()));
            }
        }
        Ok(Self { uid, gid, mode, mtime, xattrs, sparse, squash })
    }

    /// Owner first: chown clears setuid and capabilities, which come after.
    pub(super) fn apply_to(&self, file: &File, path: &Path) -> Result<(), UnpackError> {
        self.give(path, |uid, gid| unistd::fchown(file, Some(uid), Some(gid)))?;
        stat::fchmod(file, self.mode).map_err(at("chmod", path))?;
        for (name, value) in &self.xattrs {
            match set_attribute(file.as_fd(), name, value, 0) {
                Ok(()) | Err(Errno::ENOTSUP | Errno::EPERM) => {}
                Err(errno) => return Err(at("set attributes of", path)(errno)),
            }
        }
        stat::futimens(file, &self.mtime, &self.mtime).map_err(at("set times of", path))
    }

    pub(super) fn apply_at(
        &self,
        dir: &OwnedFd,
        name: &OsStr,
        path: &Path,
        symlink: bool,
    ) -> Result<(), UnpackError> {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        self.give(path, |uid, gid| unistd::fchownat(dir, name, Some(uid), Some(gid), flags))?;
        if !symlink {
            set_mode(dir, name, self.mode).map_err(at("chmod", path))?;
        }
        stat::utimensat(dir, name, &self.mtime, &self.mtime, UtimensatFlags::NoFollowSymlink)
            .map_err(at("set times of", path))
    }

    /// Gives the entry to its owner, or to root where that one is not mapped and may be squashed.
    fn give(&self, path: &Path, chown: impl Fn(Uid, Gid) -> nix::Result<()>) -> Result<(), UnpackError> {
        let done = match (u32::try_from(self.uid), u32::try_from(self.gid)) {
            (Ok(uid), Ok(gid)) => chown(Uid::from_raw(uid), Gid::from_raw(gid)),
            _ => Err(Errno::EINVAL),
        };
        match done {
            Err(Errno::EINVAL) if self.squash => {
                chown(Uid::from_raw(0), Gid::from_raw(0)).map_err(at("chown", path))
            }
            Err(Errno::EINVAL) => {
                Err(UnpackError::Unmapped { path: path.to_owned(), uid: self.uid, gid: self.gid })
            }
            done => done.map_err(at("chown", path)),
        }
    }
}

fn pax_time(value: &[u8]) -> Option<TimeSpec> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(TimeSpec::new(seconds.parse().ok()?, nanos))
}
