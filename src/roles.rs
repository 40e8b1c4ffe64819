//! The processes that podctl consists of: this same executable, started again by another name.
//!
//! There is no second program to be installed or found: a supervisor is the program that started it.

use std::ffi::OsStr;

use crate::{
    cli::doctor,
    engine,
    network::{guard, keeper},
    process::{hide_from_containers, note_initialised, wait_until_mapped},
    puller, supervisor, userns_holder,
};

/// A role's name, and its life, which gives the exit code.
type Role = (&'static str, fn() -> i32);

/// They have something to do before their ids are mapped.
const EARLY: [Role; 3] =
    [("supervise", supervisor::main), ("network", keeper::main), ("network-again", keeper::again)];

const ROLES: [Role; 11] = [
    ("userns", userns_holder::main),
    ("pause", supervisor::pause::main),
    ("images-guard", puller::guard::main),
    ("images-guard-quiet", puller::guard::quiet),
    ("pull-agent", puller::main),
    ("pull-quietly", puller::quiet),
    ("network-guard", guard::main),
    ("sweep", engine::sweep::main),
    ("images", engine::images::main),
    ("try-namespaces", doctor::try_namespaces),
    ("try-overlay", doctor::try_overlay),
];

/// Must be the first thing in `main` of every program that uses this library.
///
/// A pod's supervisor, the process that pulls its images and the one that keeps the network are this
/// program, started anew as `podctl internal ROLE`, and for `ps` of which pod. In such a process this function plays the role and
/// exits; in any other it returns at once. No thread may have been started before.
pub fn init() {
    note_initialised();
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
        std::process::exit(wait_until_mapped().and_then(|()| hide_from_containers()).map_or(1, |()| main()));
    }
}
