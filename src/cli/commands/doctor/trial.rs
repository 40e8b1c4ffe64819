//! What doctor tries, as a start does it: in namespaces of a pod's own, a proc, a tmpfs and an overlay are mounted, a network is
//! told to forward, a host name is set, a device made.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{Read, Seek, Write},
    os::{
        fd::AsFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::CloneFlags,
    sys::stat::{Mode, SFlag, makedev, mknod},
};
use podctl_runtime::{ExitStatus, IdMappings};
use serde::{Deserialize, Serialize};

use crate::{
    network,
    process::{
        Role, create_memory_file,
        descriptors::{take_descriptor, trial::ANSWER},
        start_role,
    },
    sandbox::choose_layers_place,
    state::Home,
};

/// The place where overlayfs lets containers write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Layers {
    /// In the data directory.
    OnDisk,
    /// In memory alone, with the reason.
    InMemory(String),
    /// Nowhere, with the reason.
    Nowhere(String),
}

/// The outcome of a trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Trial {
    /// Tells whether the root directory is a chroot's, which cannot be made the root of a pod's mounts.
    pub chroot: bool,
    /// Tells whether anything could be mounted.
    pub mounts: bool,
    /// Tells whether that could be a proc.
    pub proc: bool,
    /// Tells whether the host name could be set.
    pub name: bool,
    /// Tells whether device nodes can be made, rather than bound.
    pub devices: bool,
    /// Tells how a network is told to forward, or why it cannot be.
    pub network: Result<network::Forwarding, String>,
    pub layers: Layers,
}

/// Tries what a start does. The error says why there are no namespaces to try it in.
pub(super) fn run_trial(home: &Home, rootless: bool) -> Result<Trial, String> {
    let dir = home.data.join(format!("doctor-{}", std::process::id()));
    let tried = try_in(&dir, rootless);
    // What stays is empty, and doctor's own.
    let _ = fs::remove_dir_all(&dir);
    tried
}

fn try_in(dir: &Path, rootless: bool) -> Result<Trial, String> {
    let words = |e: std::io::Error| format!("{}: {e}", dir.display());
    ["data", "memory", "proc"]
        .iter()
        .try_for_each(|part| fs::create_dir_all(dir.join(part)))
        .map_err(words)?;
    let mut answer = create_memory_file(c"podctl-doctor").map_err(words)?;
    answer.write_all(dir.as_os_str().as_bytes()).map_err(words)?;
    let mappings = rootless.then(IdMappings::of_user).transpose().map_err(|e| e.to_string())?;
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if rootless {
        namespaces |= CloneFlags::CLONE_NEWUSER;
    }
    let role = Role {
        namespaces,
        mappings: mappings.as_ref().map(|(mappings, _)| mappings),
        fds: &[(answer.as_fd(), ANSWER)],
        ..Role::named("try-start")
    };
    let status = start_role(&role).and_then(|process| process.wait()).map_err(|e| e.to_string())?;
    let mut text = String::new();
    answer.rewind().and_then(|()| answer.read_to_string(&mut text)).map_err(words)?;
    match (status, serde_json::from_str(&text)) {
        (ExitStatus::Code(0), Ok(trial)) => Ok(trial),
        (status, _) => Err(format!("what is tried in namespaces ended with {status:?}")),
    }
}

/// Takes the path out of the file that is for the answer.
fn take_path(answer: &mut File) -> std::io::Result<PathBuf> {
    let mut path = Vec::new();
    answer.rewind()?;
    answer.read_to_end(&mut path)?;
    answer.set_len(0)?;
    answer.rewind()?;
    Ok(PathBuf::from(OsString::from_vec(path)))
}

/// Plays the role that tries, in namespaces of its own.
pub(crate) fn try_start() -> i32 {
    // SAFETY: this process was started with this descriptor, and nobody else has taken it.
    let mut answer = File::from(unsafe { take_descriptor(ANSWER) });
    // The directory comes as a path: an open one leads into the mount namespace in which it was opened.
    let Ok(dir) = take_path(&mut answer) else { return 1 };
    let chroot = podctl_runtime::settle_root().is_err();
    let none = None::<&str>;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let memory = dir.join("memory");
    let mounts = mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .and_then(|()| mount(Some("try"), &memory, Some("tmpfs"), MsFlags::MS_NOSUID, none))
        .is_ok();
    let null = makedev(1, 3);
    let made = mknod(&memory.join("null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), null);
    let home = dir.parent().unwrap_or(&dir);
    let layers = match choose_layers_place(home, &dir.join("data"), &memory) {
        Ok((_, None)) => Layers::OnDisk,
        Ok((_, Some(why))) => Layers::InMemory(why),
        Err(e) => Layers::Nowhere(e.to_string()),
    };
    let trial = Trial {
        chroot,
        mounts,
        proc: mount(Some("proc"), &dir.join("proc"), Some("proc"), flags, none).is_ok(),
        name: nix::unistd::sethostname("podctl-doctor").is_ok(),
        devices: made.is_ok(),
        network: network::try_forwarding().map_err(|e| e.to_string()),
        layers,
    };
    let text = serde_json::to_vec(&trial).expect("plain data");
    i32::from(answer.write_all(&text).is_err())
}
