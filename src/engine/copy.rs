//! Files out of and into containers. No program in the image is needed: a child of the supervisor's packs or unpacks
//! them in the container's mounts.

use std::{
    fs::File,
    io::{Read, Seek},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use super::{Error, Exec, PodHandle, io};
use crate::{
    archive::{self, Destination, Place},
    process::create_memory_file,
    wire::Request,
};

/// Tells how files are copied.
#[derive(Clone, Debug)]
pub(crate) struct CopyOptions {
    /// Out of or into which container; the default one else.
    pub container: Option<String>,
    /// Modes and times are kept.
    pub preserve: bool,
}

/// This machine's side of a copy.
#[derive(Debug)]
pub(crate) enum CopySide {
    /// The file or directory.
    Path(PathBuf),
    /// The tar stream.
    Stream(OwnedFd),
}

impl PodHandle {
    /// Copies a file or directory out of a container, as `podctl cp POD:FROM TO` does.
    ///
    /// # Errors
    /// [`Error::Copy`], [`Error::Refused`], [`Error::Ended`], [`Error::Unreachable`].
    pub fn copy_from(
        &self,
        container: Option<&str>,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
    ) -> Result<(), Error> {
        let to = CopySide::Path(to.as_ref().to_owned());
        self.copy_whole(container, |options, warnings| self.copy_out(options, from.as_ref(), to, warnings))
    }

    /// Copies a file or directory into a container, as `podctl cp FROM POD:TO` does.
    ///
    /// # Errors
    /// As [`PodHandle::copy_from`].
    pub fn copy_to(
        &self,
        container: Option<&str>,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
    ) -> Result<(), Error> {
        let from = CopySide::Path(from.as_ref().to_owned());
        self.copy_whole(container, |options, warnings| self.copy_in(options, from, to.as_ref(), warnings))
    }

    /// Does a copy whose other side says in a memory file what went wrong.
    fn copy_whole(
        &self,
        container: Option<&str>,
        copy: impl FnOnce(&CopyOptions, BorrowedFd<'_>) -> Result<i32, Error>,
    ) -> Result<(), Error> {
        let mut warnings = create_memory_file(c"podctl-copy").map_err(io("make a memory file"))?;
        let options = CopyOptions { container: container.map(str::to_owned), preserve: true };
        if copy(&options, warnings.as_fd())? == 0 {
            return Ok(());
        }
        let mut text = String::new();
        warnings
            .rewind()
            .and_then(|()| warnings.read_to_string(&mut text))
            .map_err(io("read a memory file"))?;
        Err(Error::Copy(text.trim().trim_start_matches("error: ").to_owned()))
    }

    /// Copies out of a container; both sides write to `warnings` what they leave out. Returns the exit code of the
    /// other side, which has written there why it is not 0.
    ///
    /// # Errors
    /// As [`PodHandle::copy_from`].
    pub(crate) fn copy_out(
        &self,
        options: &CopyOptions,
        path: &Path,
        to: CopySide,
        warnings: BorrowedFd<'_>,
    ) -> Result<i32, Error> {
        let container = self.choose_container(options.container.as_deref())?;
        // A relative path starts at the container's root.
        let request = Request::CopyOut { container, path: Path::new("/").join(path) };
        let path = match to {
            CopySide::Stream(stream) => return self.begin_copy(&request, &stream, warnings)?.wait(),
            CopySide::Path(path) => path,
        };
        let (ours, theirs) = std::io::pipe().map_err(io("make a pipe"))?;
        let exec = self.begin_copy(&request, &theirs.into(), warnings)?;
        let into = Destination { path, merge: true, preserve: options.preserve, place: Place::Host };
        let unpacked = archive::unpack(&into, None, ours, &mut write_to(warnings)?);
        let code = exec.wait()?;
        match unpacked {
            // Why the stream is short, the other side has said already.
            Err(archive::Error::Stream(_)) if code != 0 => Ok(code),
            Err(e) => Err(Error::Copy(e.to_string())),
            Ok(()) => Ok(code),
        }
    }

    /// Copies into a container, as [`PodHandle::copy_out`] does out of one.
    ///
    /// # Errors
    /// As [`PodHandle::copy_from`].
    pub(crate) fn copy_in(
        &self,
        options: &CopyOptions,
        from: CopySide,
        path: &Path,
        warnings: BorrowedFd<'_>,
    ) -> Result<i32, Error> {
        if let CopySide::Path(source) = &from {
            let missing = |e| Error::Copy(format!("cannot copy {}: {e}", source.display()));
            std::fs::metadata(source).map_err(missing)?;
        }
        let container = self.choose_container(options.container.as_deref())?;
        let path = Path::new("/").join(path);
        let into = Destination { path, merge: false, preserve: options.preserve, place: Place::Container };
        let request = Request::CopyIn { container, into };
        let source = match from {
            CopySide::Stream(stream) => return self.begin_copy(&request, &stream, warnings)?.wait(),
            CopySide::Path(source) => source,
        };
        let (theirs, ours) = std::io::pipe().map_err(io("make a pipe"))?;
        let exec = self.begin_copy(&request, &theirs.into(), warnings)?;
        let packed = archive::pack_tree(&source, ours, &mut write_to(warnings)?);
        let code = exec.wait()?;
        match packed {
            // The other side left first, and has said why.
            Err(archive::Error::Sink(_)) if code != 0 => Ok(code),
            Err(e) => Err(Error::Copy(e.to_string())),
            Ok(()) => Ok(code),
        }
    }

    fn begin_copy(
        &self,
        request: &Request,
        stream: &OwnedFd,
        warnings: BorrowedFd<'_>,
    ) -> Result<Exec, Error> {
        let exec = self.send_request(request, &[stream.as_fd(), warnings])?;
        exec.receive_started()?;
        Ok(exec)
    }
}

fn write_to(fd: BorrowedFd<'_>) -> Result<File, Error> {
    fd.try_clone_to_owned().map(File::from).map_err(io("use a stream"))
}
