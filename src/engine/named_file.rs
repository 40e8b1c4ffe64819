//! A file that the user names for another process to read or write. Most names mean the same there; `/dev/fd/63`, as a shell's
//! `<(…)` has it, or `/dev/stdin` means what this process has open, and is handed over open.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::images::{ImageError, other};
use crate::process::descriptors::images::HANDED;

/// The file as the process that uses it can open it.
#[derive(Serialize, Deserialize)]
pub(super) struct NamedFile {
    /// The path there; `-` is standard input or output.
    pub(super) path: PathBuf,
    /// Holds what the user calls it.
    pub(super) shown: PathBuf,
}

impl NamedFile {
    /// Names what is to be read, with the open file where the name alone says nothing to another process.
    ///
    /// # Errors
    /// [`ImageError`], of a file that cannot be opened.
    pub(super) fn of_input(path: &Path) -> Result<(NamedFile, Option<File>), ImageError> {
        if path == Path::new("-") {
            return Ok((NamedFile { path: path.to_owned(), shown: "standard input".into() }, None));
        }
        let failed = |error: io::Error| other(format!("cannot open {}: {error}", path.display()));
        let found = fs::metadata(path).map_err(failed)?;
        match found.is_file() || found.is_dir() {
            true => Ok((Self::whole(path)?, None)),
            false => Ok(Self::hand_over(path, File::open(path).map_err(failed)?)),
        }
    }

    /// Names what is to be written, likewise; it need not be there.
    ///
    /// # Errors
    /// [`ImageError`], of a file that cannot be opened.
    pub(super) fn of_output(path: &Path) -> Result<(NamedFile, Option<File>), ImageError> {
        if path == Path::new("-") {
            return Ok((NamedFile { path: path.to_owned(), shown: "standard output".into() }, None));
        }
        match fs::metadata(path) {
            Ok(found) if !found.is_file() && !found.is_dir() => {
                let opened = OpenOptions::new().write(true).open(path);
                let failed = |error| other(format!("cannot write {}: {error}", path.display()));
                Ok(Self::hand_over(path, opened.map_err(failed)?))
            }
            _ => Ok((Self::whole(path)?, None)),
        }
    }

    fn whole(path: &Path) -> Result<NamedFile, ImageError> {
        Ok(NamedFile { path: std::path::absolute(path).map_err(other)?, shown: path.to_owned() })
    }

    fn hand_over(path: &Path, file: File) -> (NamedFile, Option<File>) {
        // Root's work is done by this very process.
        let number = if nix::unistd::geteuid().is_root() { file.as_raw_fd() } else { HANDED };
        let named = NamedFile { path: format!("/proc/self/fd/{number}").into(), shown: path.to_owned() };
        (named, Some(file))
    }
}
