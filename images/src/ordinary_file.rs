//! Files of podctl's own, opened so that nothing else that stands in their place is waited for, followed, or read without end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The number of bytes of the longest file that is read: more than any of ours has.
const LONGEST: u64 = 64 << 20;

/// Tells why a file is none of ours.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Misfit {
    #[error("it is no ordinary file")]
    Kind,
    #[error("it is longer than any file of podctl's")]
    Length,
}

impl From<Misfit> for io::Error {
    fn from(misfit: Misfit) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, misfit)
    }
}

/// Opens a file as these options say. A link in its place is not followed, and a FIFO not waited for.
///
/// # Errors
/// Those of open(2), and that it is no ordinary file.
pub fn open_ordinary(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = match options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY).open(path) {
        Err(e)
            if matches!(e.raw_os_error(), Some(libc::ELOOP | libc::ENXIO | libc::EISDIR | libc::ENODEV)) =>
        {
            return Err(Misfit::Kind.into());
        }
        file => file?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(Misfit::Kind.into()) }
}

/// Reads a file.
///
/// # Errors
/// As [`open_ordinary`], and that it is longer than any of ours.
pub fn read_ordinary(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_ordinary(path, File::options().read(true))?;
    let length = file.metadata()?.len();
    if length > LONGEST {
        return Err(Misfit::Length.into());
    }
    // Room for all of it and for finding its end: else it is read in pieces of 32, 32, 64 ... bytes.
    let mut text = Vec::with_capacity(length as usize + 1);
    file.take(LONGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST { Err(Misfit::Length.into()) } else { Ok(text) }
}

/// Tells whether a file could not be opened or read because of what it is, not of what the machine is short of.
pub fn is_misplaced(error: &io::Error) -> bool {
    let known = [libc::EACCES, libc::EPERM, libc::EISDIR, libc::ENOTDIR, libc::ELOOP, libc::ENXIO];
    error.get_ref().is_some_and(|inner| inner.is::<Misfit>())
        || error.raw_os_error().is_some_and(|errno| known.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_stands_in_a_files_place_is_not_waited_for_followed_or_read_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("plain"), "text").unwrap();
        assert_eq!(read_ordinary(&path("plain")).unwrap(), b"text");
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::create_dir(path("directory")).unwrap();
        symlink(path("plain"), path("link")).unwrap();
        symlink("/dev/zero", path("device")).unwrap();
        File::create(path("long")).unwrap().set_len(1 << 40).unwrap();
        for name in ["fifo", "directory", "link", "device", "long"] {
            assert!(is_misplaced(&read_ordinary(&path(name)).unwrap_err()), "{name}");
        }
        for name in ["fifo", "directory", "link", "device"] {
            let opened = open_ordinary(&path(name), File::options().create(true).append(true));
            assert!(is_misplaced(&opened.unwrap_err()), "{name}");
        }
        assert!(!is_misplaced(&read_ordinary(&path("none")).unwrap_err()));
    }
}
