//! The user namespace that an ordinary user's pods share from one start to the next, where the user wants that.
//!
//! To map its ids takes two more programs, and more time than all else of a start. So a process holds the namespace
//! while a pod is in it, and a while longer: the next pod only has to join. Nobody speaks to that process. It reads a
//! FIFO, named by its process id, which every pod holds open for writing; the kernel closes it with the pod.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

use nix::{
    sched::CloneFlags,
    sys::stat::{Mode, fstat},
    unistd::mkfifo,
};
use podctl_runtime::IdMappings;

use super::error::{Error, step};
use crate::{
    process::{Role, children, descriptors::holder::FIFO, start_role},
    state::Home,
    userns_holder::read_linger,
};

/// Tells whether the user wants it.
pub(crate) fn has_linger() -> bool {
    read_linger().is_some_and(|linger| !linger.is_zero())
}

/// The namespace, and what keeps it for others who come later.
#[derive(Debug)]
pub(crate) struct UserNamespace {
    pub namespace: OwnedFd,
    /// Wants to be held by whoever lives in it.
    pub tie: OwnedFd,
}

/// The user's namespace of these ids; it is made when nobody holds one.
///
/// # Errors
/// [`Error::Spawn`] and [`Error::Step`].
pub(crate) fn shared(home: &Home, mappings: &IdMappings) -> Result<UserNamespace, Error> {
    let dir = home.runtime.join("userns");
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        if let Some(found) = join(&entry.path(), mappings) {
            return Ok(found);
        }
    }
    fs::create_dir_all(&dir).map_err(step("make a directory for the user namespace"))?;
    make(home, &dir, mappings)
}

fn open(path: &Path, options: &OpenOptions) -> io::Result<OwnedFd> {
    options.clone().custom_flags(libc::O_NONBLOCK).open(path).map(OwnedFd::from)
}

/// None when nobody reads the FIFO, or its reader's namespace has other ids.
fn join(path: &Path, mappings: &IdMappings) -> Option<UserNamespace> {
    let pid: i32 = path.file_name()?.to_str()?.parse().ok()?;
    let tie = match open(path, OpenOptions::new().write(true)) {
        Ok(tie) => tie,
        Err(_) => {
            // A holder that was killed has left it.
            let _ = fs::remove_file(path);
            return None;
        }
    };
    let proc = Path::new("/proc").join(pid.to_string());
    let (own, read) = (fstat(&tie).ok()?, fs::metadata(proc.join(format!("fd/{FIFO}"))).ok()?);
    // Else the number is another process's by now.
    let holds = (own.st_dev, own.st_ino) == (read.dev(), read.ino());
    if !holds || !mappings.are_of(pid) {
        return None;
    }
    let namespace = File::open(proc.join("ns/user")).ok()?.into();
    Some(UserNamespace { namespace, tie })
}

fn make(home: &Home, dir: &Path, mappings: &IdMappings) -> Result<UserNamespace, Error> {
    fn failed<E: Into<io::Error>>() -> impl FnOnce(E) -> Error {
        step("hold the user namespace")
    }
    let fresh = dir.join(format!("new-{}", uuid::Uuid::new_v4()));
    mkfifo(&fresh, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed())?;
    let made = open(&fresh, OpenOptions::new().read(true)).map_err(failed()).and_then(|read| {
        let tie = open(&fresh, OpenOptions::new().write(true)).map_err(failed())?;
        let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
        let holder = start_role(&Role {
            namespaces,
            mappings: Some(mappings),
            fds: &[(read.as_fd(), FIFO)],
            program: home.program.as_deref(),
            ..Role::named("userns")
        })?;
        let namespace = File::open(format!("/proc/{}/ns/user", holder.pid)).map_err(failed())?.into();
        fs::rename(&fresh, dir.join(holder.pid.to_string())).map_err(failed())?;
        children::leave(&holder);
        Ok(UserNamespace { namespace, tie })
    });
    if made.is_err() {
        // The next start makes a fresh one anyway.
        let _ = fs::remove_file(&fresh);
    }
    made
}
