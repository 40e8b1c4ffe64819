//! Files without a name, to hand another process more than a message holds.

use std::{ffi::CStr, fs::File, io};

use nix::sys::memfd::{MFdFlags, memfd_create};

/// Creates an empty file in memory; it is gone with its last descriptor. The name is for `/proc/PID/fd`.
///
/// # Errors
/// Those of memfd_create(2).
pub fn create_memory_file(name: &CStr) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?))
}
