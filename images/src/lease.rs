//! Who uses an image: a file of `leases/` with its digest's name, locked by all that hold it and removed by the last.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::ordinary_file::open_ordinary;
use crate::store::{entries, serialize_value, try_lock};

/// The hold on an image: no process can remove it while any holds one. The file goes with the last.
#[derive(Debug)]
pub struct Lease {
    file: File,
    path: PathBuf,
}

impl Lease {
    /// Takes a hold on what these layers are of. The caller has the store's lock.
    pub(crate) fn take(path: PathBuf, layers: &[PathBuf]) -> Result<Lease, Error> {
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = open_ordinary(&path, &mut options).map_err(Error::own("open", &path))?;
            file.lock_shared().map_err(Error::io("lock", &path))?;
            // Whoever held it last may have removed it between the two.
            if !is_named(&file, &path) {
                continue;
            }
            // The layers, for when the reference has moved on. The name is the digest: all write the same.
            file.write_all(&serialize_value(&layers)).map_err(Error::io("write", &path))?;
            return Ok(Lease { file, path });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Where others hold it as well, the last of them removes it.
        remove_unheld(&self.file, &self.path);
    }
}

/// Removes the file if nobody else holds it.
fn remove_unheld(file: &File, path: &Path) {
    if file.try_lock().is_ok() && is_named(file, path) {
        // One that stays says nothing: it is held by nobody.
        let _ = fs::remove_file(path);
    }
}

fn is_named(file: &File, path: &Path) -> bool {
    let same =
        |held: fs::Metadata, named: fs::Metadata| held.dev() == named.dev() && held.ino() == named.ino();
    file.metadata().is_ok_and(|held| fs::metadata(path).is_ok_and(|named| same(held, named)))
}

/// Removes the leases of processes that were killed.
pub(crate) fn remove_left(leases: &Path) -> Result<(), Error> {
    for path in entries(leases)? {
        if let Ok(file) = open_held(&path) {
            remove_unheld(&file, &path);
        }
    }
    Ok(())
}

/// Opens a lease to look who holds it. What is no file of the store's, a FIFO say, is not waited for.
pub(crate) fn open_held(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Tells whether somebody holds the lease.
pub(crate) fn is_held(path: &Path) -> Result<bool, Error> {
    match open_held(path) {
        Ok(file) => Ok(try_lock(&file, path)?.is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}
