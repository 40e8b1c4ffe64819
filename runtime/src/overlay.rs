//! Overlay mounts of any number of layers, wherever they lie.
//!
//! The kernel takes the names of all layers as one string, in which some characters mean something and which has to fit
//! a page: sixty names of digests do not. So each directory is opened, and named by its descriptor's number in
//! /proc/self/fd. Between clone and exec this allocates nothing.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::devices;
use crate::error::{Error, StartError};
use crate::sys::{self, Sys};

/// Number of layers that overlayfs takes (`OVL_MAX_STACK`).
const MOST_LAYERS: usize = 500;
/// Bytes of mount options that the kernel takes: a page.
const MOST_OPTIONS: usize = 4096;

/// The overlay to be mounted.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// Topmost first, as the kernel wants them.
    lower: Vec<CString>,
    /// The writable directory and overlayfs's own; without them the overlay is read-only.
    upper: Option<(CString, CString)>,
    in_user_namespace: bool,
}

impl Overlay {
    /// Returns an overlay of `lower`, whose lowest layer comes first, under `upper` and its work directory.
    pub(crate) fn new(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<Self, StartError> {
        if lower.len() > MOST_LAYERS {
            let reason = format!("the image has {} layers; overlayfs takes {MOST_LAYERS}", lower.len());
            return Err(StartError::Spec { field: "rootfs".to_owned(), reason });
        }
        let name = |path: &Path| {
            CString::new(path.as_os_str().as_bytes())
                .map_err(|_| Error::ZeroByte { what: format!("the layer {}", path.display()) })
        };
        let lower = lower.iter().rev().map(|layer| name(layer)).collect::<Result<_, _>>()?;
        let upper = upper.map(|(upper, work)| Ok::<_, Error>((name(upper)?, name(work)?))).transpose()?;
        Ok(Self { lower, upper, in_user_namespace: devices::in_user_namespace() })
    }

    /// Mounts it on `mountpoint`, an absolute path. The working directory is another one afterwards.
    pub(crate) fn mount(&self, mountpoint: &CStr, flags: u64) -> Sys<()> {
        let mut held = [const { None }; MOST_LAYERS + 2];
        let mut held = held.iter_mut();
        let mut options = Options { text: [0; MOST_OPTIONS], length: 0 };
        let mut add = |before: &[u8], path: &CStr| {
            let fd = sys::open(path, libc::O_PATH | libc::O_DIRECTORY)?;
            options.push(before)?;
            options.push_number(fd.as_raw_fd() as u32)?;
            let place: &mut Option<OwnedFd> = held.next().ok_or(Errno::E2BIG)?;
            *place = Some(fd);
            Ok(())
        };
        for (index, layer) in self.lower.iter().enumerate() {
            add(if index == 0 { b"lowerdir=" } else { b":" }, layer)?;
        }
        if let Some((upper, work)) = &self.upper {
            add(b",upperdir=", upper)?;
            add(b",workdir=", work)?;
            // The layer ends with the container: nothing in it needs to reach the disk, least of all before the unmount,
            // which would sync the whole file system of `upper`.
            options.push(b",volatile")?;
        }
        if self.in_user_namespace {
            // trusted.* is not ours to write there.
            options.push(b",userxattr")?;
        }
        sys::chdir(c"/proc/self/fd")?;
        sys::mount(c"overlay", mountpoint, c"overlay", flags, options.text()?)
    }
}

/// Mount options, without memory of the heap's.
struct Options {
    text: [u8; MOST_OPTIONS],
    length: usize,
}

impl Options {
    fn push(&mut self, bytes: &[u8]) -> Sys<()> {
        // The last byte stays zero.
        let place = self.text[..MOST_OPTIONS - 1].get_mut(self.length..self.length + bytes.len());
        place.ok_or(Errno::E2BIG)?.copy_from_slice(bytes);
        self.length += bytes.len();
        Ok(())
    }

    fn push_number(&mut self, number: u32) -> Sys<()> {
        let mut digits = [0; 10];
        let (mut at, mut left) = (digits.len(), number);
        loop {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                return self.push(&digits[at..]);
            }
        }
    }

    fn text(&self) -> Sys<&CStr> {
        CStr::from_bytes_with_nul(&self.text[..=self.length]).map_err(|_| Errno::EINVAL)
    }
}

/// Mounts layers, lowest first, as one read-only tree, with `flags` of mount(2).
///
/// # Errors
/// [`StartError`] naming the mount, or what is wrong with the layers.
pub fn mount_layers(lower: &[PathBuf], mountpoint: &Path, flags: u64) -> Result<(), StartError> {
    let overlay = Overlay::new(lower, None)?;
    let what = || format!("mount {} layers on {}", lower.len(), mountpoint.display());
    let failed = |errno| Error::from_errno(what(), errno);
    let target = CString::new(mountpoint.as_os_str().as_bytes())
        .map_err(|_| Error::ZeroByte { what: "the place of a mount".to_owned() })?;
    let here = sys::open(c".", libc::O_PATH | libc::O_DIRECTORY).map_err(failed)?;
    let mounted = overlay.mount(&target, flags | libc::MS_RDONLY);
    sys::fchdir(here.as_raw_fd()).map_err(failed)?;
    Ok(mounted.map_err(failed)?)
}

/// Tries whether overlayfs can write in `place`, a directory of the caller's, over layers that lie in `layers`: what it
/// takes for that is made in both, mounted, and taken away again. For a mount namespace of the caller's own.
///
/// # Errors
/// [`StartError`] naming the mount, with the kernel's answer.
pub fn try_writable_layer(layers: &Path, place: &Path) -> Result<(), StartError> {
    let lower = layers.join(format!(".lower-{}", std::process::id()));
    let tried = place.join(format!(".overlay-{}", std::process::id()));
    let (upper, work) = (tried.join("upper"), tried.join("work"));
    let made = [&lower, &upper, &work].into_iter().try_for_each(std::fs::create_dir_all);
    let done = made.map_err(|e| Error::file("make", &tried, e).into()).and_then(|()| {
        let what = || format!("mount an overlay with its upper directory in {}", place.display());
        let failed = |errno| Error::from_errno(what(), errno);
        let overlay = Overlay::new(std::slice::from_ref(&lower), Some((&upper, &work)))?;
        let target = CString::new(upper.as_os_str().as_bytes())
            .map_err(|_| Error::ZeroByte { what: "the place of a mount".to_owned() })?;
        let here = sys::open(c".", libc::O_PATH | libc::O_DIRECTORY).map_err(failed)?;
        let mounted = overlay.mount(&target, 0);
        sys::fchdir(here.as_raw_fd()).map_err(failed)?;
        mounted.map_err(failed)?;
        nix::mount::umount2(&upper, nix::mount::MntFlags::MNT_DETACH).map_err(failed)?;
        Ok(())
    });
    // The kernel's own directory in it may be removed by its owner only when it may be read.
    let inner = work.join("work");
    // What cannot be removed goes with the directory that all of this is tried in.
    let _ = std::fs::set_permissions(&inner, std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let _ = std::fs::remove_dir_all(&tried);
    let _ = std::fs::remove_dir(&lower);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_text_and_end_at_a_page() {
        let mut options = Options { text: [0; MOST_OPTIONS], length: 0 };
        options.push(b"lowerdir=").unwrap();
        [0, 7, 4294967295].iter().try_for_each(|n| options.push_number(*n)).unwrap();
        assert_eq!(options.text().unwrap(), c"lowerdir=074294967295");
        assert_eq!(options.push(&[b'x'; MOST_OPTIONS]), Err(Errno::E2BIG));
    }

    #[test]
    fn more_layers_than_overlayfs_takes_are_refused_by_number() {
        let lower = vec![PathBuf::from("/l"); MOST_LAYERS + 1];
        let error = Overlay::new(&lower, None).unwrap_err().to_string();
        assert!(error.contains("501 layers") && error.contains("takes 500"), "{error}");
    }
}
