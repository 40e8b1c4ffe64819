//! The processes that podctl consists of: this same executable, started again by another name.
//!
//! There is no second program to be installed or found: a supervisor is the program that started it.

use std::{
    ffi::OsStr,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use podctl_runtime::settle;

use crate::{
    cli::doctor,
    engine,
    network::{guard, keeper},
    supervisor,
};

/// A role's name, and its life, which gives the exit code.
type Role = (&'static str, fn() -> i32);

/// They have something to do before their ids are [`mapped`].
const EARLY: [Role; 3] =
    [("supervise", supervisor::main), ("network", keeper::main), ("network-again", keeper::again)];

const ROLES: [Role; 9] = [
    ("userns", supervisor::userns::main),
    ("pause", supervisor::pause::main),
    ("pull-agent", supervisor::pull::main),
    ("pull-quietly", supervisor::pull::quiet),
    ("network-guard", guard::main),
    ("sweep", supervisor::sweep::main),
    ("images", engine::images::main),
    ("try-namespaces", doctor::try_namespaces),
    ("try-overlay", doctor::try_overlay),
];

/// Descriptor by which a role hears that its ids are [`mapped`].
pub(crate) const MAPPED: RawFd = 15;

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Must be the first thing in `main` of every program that uses this library.
///
/// A pod's supervisor, the process that pulls its images and the one that keeps the network are this
/// program, started anew as `podctl internal ROLE`, and for `ps` of which pod. In such a process this function plays the role and
/// exits; in any other it returns at once. No thread may have been started before.
pub fn init() {
    INITIALISED.store(true, Ordering::Relaxed);
    let mut args = std::env::args_os();
    let called = [args.next(), args.next()];
    if called.iter().map(Option::as_deref).ne(["podctl", "internal"].map(OsStr::new).map(Some)) {
        return;
    }
    let name = args.next();
    let called = |(role, _): &&Role| name.as_deref() == Some(OsStr::new(role));
    if let Some((_, main)) = EARLY.iter().find(called) {
        std::process::exit(main());
    }
    if let Some((_, main)) = ROLES.iter().find(called) {
        std::process::exit(mapped().and_then(|()| hide()).map_or(1, |()| main()));
    }
}

/// Waits until the ids of this process are mapped; a role is started while they are.
///
/// # Errors
/// Who started it has given up.
pub(crate) fn mapped() -> Result<(), podctl_runtime::Error> {
    // SAFETY: a role is started with this descriptor and calls this once.
    settle(unsafe { OwnedFd::from_raw_fd(MAPPED) })
}

/// Forbids containers, which may share ids with this process and see it (hostPID), to look into it; its children, on their
/// way into a container or beside one, inherit that. Not before its ids are mapped: only its owner may do that.
///
/// # Errors
/// Those of prctl(2).
pub(crate) fn hide() -> Result<(), podctl_runtime::Error> {
    podctl_runtime::forbid_looks()
}

/// Whether [`init`] was called: without it a role would be this program's own `main`, over and over.
pub(crate) fn initialised() -> bool {
    INITIALISED.load(Ordering::Relaxed)
}
