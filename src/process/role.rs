//! Starts this same program again in a role: there is no second program to be installed or found.

use std::{
    ffi::CString,
    fs,
    os::{
        fd::{BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU8, Ordering},
};

use nix::sched::CloneFlags;
use podctl_runtime::{IdMappings, Process, Spawn, SpawnStdio, Spawning, begin_spawn, settle};

use super::descriptors::{MAPPED, take_descriptor};

static STANDING: AtomicU8 = AtomicU8::new(Standing::Never as u8);

/// A process of ours to be started.
#[derive(Clone, Copy, Debug)]
pub struct Role<'a> {
    /// The role, a word of the table in `roles.rs`; what follows it is for `ps`.
    pub name: &'a str,
    /// The program that plays it; this one else.
    pub program: Option<&'a Path>,
    /// Namespaces to be made for it.
    pub namespaces: CloneFlags,
    /// The ids of its user namespace, when it gets one.
    pub mappings: Option<&'a IdMappings>,
    /// Namespaces that it enters, each with its kind.
    pub join: &'a [(BorrowedFd<'a>, CloneFlags)],
    /// Holds what it is handed, each with its number of [`super::list_descriptors`].
    pub fds: &'a [(BorrowedFd<'a>, RawFd)],
}

impl<'a> Role<'a> {
    /// The role of that name, in the namespaces of its parent and with no descriptors.
    pub fn named(name: &'a str) -> Role<'a> {
        Role { name, program: None, namespaces: CloneFlags::empty(), mappings: None, join: &[], fds: &[] }
    }
}

/// Starts this program, or the one that the role names, again in a role.
///
/// # Errors
/// [`podctl_runtime::Error`].
pub fn start_role(role: &Role<'_>) -> Result<Process, podctl_runtime::Error> {
    begin_role(role)?.finish()
}

/// Starts a role as [`start_role`] does, and does not wait until it is executing.
///
/// # Errors
/// [`podctl_runtime::Error`].
pub fn begin_role(role: &Role<'_>) -> Result<Spawning, podctl_runtime::Error> {
    // A supervisor runs from a mount without a place, which has no name but this one.
    let own = || std::env::current_exe().ok().filter(|path| path.is_file());
    let program = role.program.map(Path::to_owned).or_else(own);
    let program = program.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let args: Vec<CString> = ["podctl", "internal"]
        .into_iter()
        .chain(role.name.split(' '))
        .map(|a| CString::new(a).expect("no NUL in it"))
        .collect();
    // A supervisor outlives its caller's session, and its probes are not to find a proxy in it.
    let all = !role.name.starts_with("supervise");
    let env: Vec<CString> = std::env::vars_os()
        .map(|(variable, value)| [variable.as_bytes(), b"=", value.as_bytes()].concat())
        .filter(|entry| all || entry.starts_with(b"PODCTL_"))
        .filter_map(|entry| CString::new(entry).ok())
        .collect();
    begin_spawn(&Spawn {
        program: &program,
        args: &args,
        env: &env,
        namespaces: role.namespaces,
        id_mappings: role.mappings,
        join: role.join,
        fds: role.fds,
        early: Some(MAPPED),
        stdio: SpawnStdio::Inherit,
    })
}

/// Waits until the ids of this process are mapped; a role is started while they are.
///
/// # Errors
/// Who started it has given up.
pub fn wait_until_mapped() -> Result<(), podctl_runtime::Error> {
    // SAFETY: a role is started with this descriptor and calls this once.
    let mapped: OwnedFd = unsafe { take_descriptor(MAPPED) };
    settle(mapped)
}

/// Lets what is written beyond `ulimit -f` fail, and so be told, instead of ending the process without a word. What it executes as a
/// container gets all signals as they are by default.
pub fn endure_file_limit() {
    // SAFETY: to ignore a signal installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Lets this process hear how its children end, which whoever started it may have ignored: the kernel then tells nobody.
pub fn hear_of_children() {
    // SAFETY: to set the default installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Forbids containers, which may share ids with this process and see it (hostPID), to look into it; its children, on their
/// way into a container or beside one, inherit that. Not before its ids are mapped: only its owner may do that.
///
/// # Errors
/// Those of prctl(2).
pub fn hide_from_containers() -> Result<(), podctl_runtime::Error> {
    podctl_runtime::forbid_looks()
}

/// Tells whether this program, started again in a role, would play it: else it would be this program's own
/// `main`, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has looked at the command line.
    Never,
    /// Means that it was looked at when threads or an asynchronous runtime existed already.
    Late,
    /// Means that it was looked at before anything else.
    InTime,
}

/// Notes when the command line was looked at for a role.
pub fn note_standing(standing: Standing) {
    STANDING.store(standing as u8, Ordering::Relaxed);
}

/// Tells when the command line was looked at for a role.
pub fn find_standing() -> Standing {
    let noted = STANDING.load(Ordering::Relaxed);
    let all = [Standing::Never, Standing::Late, Standing::InTime];
    all.into_iter().find(|standing| *standing as u8 == noted).unwrap_or(Standing::Never)
}

/// Tells whether code is part of the program that was executed, and was not loaded into it later: only then it is there
/// when that program is executed again.
pub fn is_in_main_program(code: *const ()) -> bool {
    // SAFETY: plain data for which zero is a value; dladdr only writes into it.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: as above; any address may be asked for.
    if unsafe { libc::dladdr(code.cast(), &mut found) } == 0 {
        // Programs that are linked statically have nothing else.
        return true;
    }
    // SAFETY: it reads what the kernel gave this process.
    let headers = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    let base = found.dli_fbase as usize;
    // The program headers follow the ELF header, on the program's first page.
    headers == 0 || (base..base + 4096).contains(&headers)
}

/// Puts /dev/null in the place of the three streams, for processes that outlive the terminal they were started from.
pub fn detach_from_terminal() {
    if let Ok(null) = fs::File::options().read(true).write(true).open("/dev/null") {
        // Each can only fail when no descriptor is to be had; then the terminal stays open, which is no harm to the pod.
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}
