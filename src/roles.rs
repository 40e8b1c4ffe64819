//! The processes that podctl consists of: this same executable, started again by another name.
//!
//! There is no second program to be installed or found: a supervisor is the program that started it. A program that
//! embeds podctl need not even know: a hook that runs before its `main` plays the roles.

use std::ffi::{OsStr, OsString};

#[cfg(feature = "cli")]
use crate::cli::commands::doctor;
use crate::{
    engine,
    network::{keeper, keeper_guard},
    process::{
        Standing, endure_file_limit, find_standing, hide_from_containers, is_in_main_program, note_standing,
        wait_until_mapped,
    },
    puller, supervisor, userns_holder,
};

/// The role's name, and its life, which gives the exit code.
type Role = (&'static str, fn() -> i32);

/// They have something to do before their ids are mapped.
const EARLY: [Role; 3] =
    [("supervise", supervisor::main), ("network", keeper::main), ("network-again", keeper::again)];

const ROLES: &[Role] = &[
    ("userns", userns_holder::main),
    ("pause", supervisor::pause::main),
    ("images-guard", puller::puller_guard::main),
    ("images-guard-quiet", puller::puller_guard::quiet),
    ("pull-agent", puller::main),
    ("pull-quietly", puller::quiet),
    ("network-guard", keeper_guard::main),
    ("guard-deputy", keeper_guard::stand_by),
    ("sweep", engine::sweep::main),
    ("images", engine::images::main),
    ("tend", engine::tender::main),
    #[cfg(feature = "cli")]
    ("try-start", doctor::try_start),
];

/// Plays the role that this process was started for, and exits; returns at once in any other process.
///
/// A pod's supervisor, the process that pulls its images and the one that keeps the network are this program, started
/// anew as `podctl internal ROLE`, and for `ps` of which pod. A hook (`.init_array`) has called this before `main`, so
/// that podctl works under `#[test]` and `#[tokio::main]` as well; to call it again, first in `main`, does no harm. It
/// has to be called only where there is no such hook, which [`Engine::of_user`](crate::Engine::of_user) says with
/// [`Error::NotInitialised`](crate::Error::NotInitialised): code that was loaded into another program, such as a module
/// of Python, has none, and goes with [`Engine::with_program`](crate::Engine::with_program).
pub fn init() {
    if find_standing() == Standing::InTime {
        return;
    }
    play_role(std::env::args_os());
    // A role would come to its turn too late where threads or a runtime exist before it.
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    let is_late = threads > 1 || tokio::runtime::Handle::try_current().is_ok();
    note_standing(if is_late { Standing::Late } else { Standing::InTime });
}

/// Plays the role that the command line names, and exits; returns when it names none.
fn play_role(mut args: impl Iterator<Item = OsString>) {
    let called = [args.next(), args.next()];
    if called.iter().map(Option::as_deref).ne(["podctl", "internal"].map(OsStr::new).map(Some)) {
        return;
    }
    endure_file_limit();
    let name = args.next();
    let called = |(role, _): &&Role| name.as_deref() == Some(OsStr::new(role));
    if let Some((_, main)) = EARLY.iter().find(called) {
        std::process::exit(main());
    }
    if let Some((_, main)) = ROLES.iter().find(called) {
        std::process::exit(wait_until_mapped().and_then(|()| hide_from_containers()).map_or(1, |()| main()));
    }
}

/// The hook: the C library calls what this section lists before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = init_before_main;

extern "C" fn init_before_main() {
    // The command line of a program that has only loaded this code is not ours.
    if !is_in_main_program(init_before_main as *const ()) {
        return;
    }
    let mut args = std::env::args_os();
    if args.len() == 0 {
        // musl gives no arguments to hooks: `init` has to be called in `main` there.
        return;
    }
    if args.by_ref().take(2).eq(["podctl", "internal"].map(OsString::from)) {
        // As the standard library has it, which sees to it only before `main`.
        // SAFETY: no handler is set, and nothing else runs yet.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    }
    play_role(std::env::args_os());
    note_standing(Standing::InTime);
}
