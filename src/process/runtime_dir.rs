//! The user's runtime directory, as the XDG base directory specification and systemd have it.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

/// Returns the user's runtime directory: the session's, else what a session of this user would have; neither, where it
/// belongs to somebody else, as after `su`.
pub fn find_runtime_dir() -> Option<PathBuf> {
    let user = nix::unistd::geteuid();
    let set = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let usual = PathBuf::from(format!("/run/user/{user}"));
    let is_own = |dir: &PathBuf| fs::metadata(dir).is_ok_and(|m| m.is_dir() && m.uid() == user.as_raw());
    set.into_iter().chain([usual]).find(is_own)
}
