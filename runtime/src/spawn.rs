//! Starts a program in new namespaces: the supervisor of a pod, above all. Safe to call from a program with threads: the
//! child does nothing but system calls on memory prepared before it was made.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::{Pid, pipe2};

use crate::error::Error;
use crate::idmap::{IdMappings, Mapping};
use crate::process::Process;
use crate::sys::{self, Pointers, Sys};

/// Tells where the program's standard streams go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpawnStdio {
    /// The caller's own.
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
}

/// A program and the namespaces it is to run in.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The file to execute; not searched in `PATH`.
    pub program: &'a Path,
    /// The arguments, its name first.
    pub args: &'a [CString],
    /// The whole environment.
    pub env: &'a [CString],
    /// The namespaces to make. With `CLONE_NEWUSER` in `join`, they are made in (and owned by) the joined user namespace.
    pub namespaces: CloneFlags,
    /// The ids of a new user namespace.
    pub id_mappings: Option<&'a IdMappings>,
    /// The program may start while its ids are still being mapped: under this number it gets the descriptor with which it
    /// has to [`settle`] before it does anything that needs an id.
    pub early: Option<RawFd>,
    /// Namespaces to enter, in this order; a PID namespace cannot be among them.
    pub join: &'a [(BorrowedFd<'a>, CloneFlags)],
    /// Descriptors the program gets, under these numbers. Everything else from 3 on is closed.
    pub fds: &'a [(BorrowedFd<'a>, RawFd)],
    /// The standard streams, unless `fds` names 0, 1 or 2.
    pub stdio: SpawnStdio,
}

impl<'a> Spawn<'a> {
    fn makes_users(&self) -> bool {
        self.namespaces.contains(CloneFlags::CLONE_NEWUSER)
    }

    /// The ids that are to be mapped.
    fn new_ids(&self) -> Option<&'a IdMappings> {
        self.id_mappings.filter(|_| self.makes_users())
    }
}

/// Names what the child does, in order; the number of a failed one travels to the parent.
#[derive(Clone, Copy)]
enum Stage {
    Join,
    Divide,
    Keep,
    Identity,
    Streams,
    Descriptors,
    Execute,
}

const STAGES: [&str; 7] = [
    "join the sandbox's namespaces",
    "make namespaces",
    "keep capabilities",
    "become root of the user namespace",
    "redirect standard streams to /dev/null",
    "pass file descriptors",
    "execute",
];

/// Ids are mapped; for a program that waited for them, or one that was started before.
const MAPPED: u8 = 1;
const MAPPED_MEANWHILE: u8 = 2;

/// Marks the message in which the process in between tells the id of its sibling.
const BETWEEN: u32 = u32::MAX;

/// Starts the program and returns once it is executing and its ids are mapped.
///
/// # Errors
/// [`Error::Sys`] of the step that failed; no process is left then.
pub fn spawn(spawn: &Spawn<'_>) -> Result<Process, Error> {
    begin_spawn(spawn)?.finish()
}

/// The process that is on its way to its program.
#[derive(Debug)]
pub struct Spawning {
    process: Process,
    program: PathBuf,
    /// Ends when the program is executed; else it tells which step failed.
    report: OwnedFd,
    /// Releases the process, and the program that waits for its ids.
    go: OwnedFd,
    /// The ids that are mapped while the program starts.
    mapping: Option<Mapping>,
    /// The word for a program that waits for its ids.
    word: Option<u8>,
}

/// Starts the program and does not wait until it is executing: [`Spawning::finish`] does.
///
/// # Errors
/// As [`spawn`].
pub fn begin_spawn(spawn: &Spawn<'_>) -> Result<Spawning, Error> {
    let program = CString::new(spawn.program.as_os_str().as_bytes())
        .map_err(|_| Error::ZeroByte { what: "program path".to_owned() })?;
    let source = sys::open(&program, libc::O_RDONLY)
        .map_err(|errno| Error::from_errno(format!("open {}", spawn.program.display()), errno))?;
    let (report_read, report_write) = pipe()?;
    let (go_read, go_write) = pipe()?;
    let nested = spawn.join.iter().any(|(_, kind)| kind.contains(CloneFlags::CLONE_NEWUSER));
    let early = spawn.early.is_some() && !nested && spawn.new_ids().is_some_and(IdMappings::need_mappers);
    let first = if nested {
        CloneFlags::empty()
    } else if early {
        // The child makes the others by itself, while its ids are being mapped.
        spawn.namespaces & (CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID)
    } else {
        spawn.namespaces
    };
    let word = spawn.early.map(|number| (go_read.as_raw_fd(), number));
    let fds = spawn.fds.iter().map(|(fd, number)| (fd.as_raw_fd(), *number)).chain(word).collect::<Vec<_>>();
    let min = fds.iter().map(|(_, number)| number + 1).max().unwrap_or(3).max(3);
    let mut targets: Vec<RawFd> = fds.iter().map(|&(_, number)| number).collect();
    targets.sort_unstable();
    let mut child = Child {
        spawn,
        program: &program,
        args: Pointers::new(spawn.args.iter().map(CString::as_c_str)),
        env: Pointers::new(spawn.env.iter().map(CString::as_c_str)),
        source: source.as_raw_fd(),
        go: go_read.as_raw_fd(),
        go_write: go_write.as_raw_fd(),
        report: report_write.as_raw_fd(),
        nested,
        early: early.then(|| spawn.namespaces - first),
        min,
        high: vec![-1; fds.len()],
        fds,
        targets,
    };
    let flags = first.bits() as u32 as u64;
    let made =
        sys::clone3(flags, None).map_err(|errno| Error::from_errno(namespaces_step(first, errno), errno))?;
    let Some((pid, pidfd)) = made else { child.run() };
    drop((report_write, go_read));
    let process = Process { pid: Pid::from_raw(pid), pidfd: pidfd.expect("clone3 gives a pidfd") };
    let program = spawn.program.to_owned();
    let word = spawn.early.map(|_| if early { MAPPED_MEANWHILE } else { MAPPED });
    let mut spawning = Spawning { process, program, report: report_read, go: go_write, mapping: None, word };
    match spawning.begin(spawn.new_ids(), early) {
        Ok(()) => Ok(spawning),
        Err(error) => Err(spawning.give_up(error)),
    }
}

/// Returns what was tried, and where it is refused whatever the settings say.
fn namespaces_step(wanted: CloneFlags, errno: Errno) -> String {
    match errno {
        Errno::EPERM if wanted.contains(CloneFlags::CLONE_NEWUSER) => {
            "make a user namespace (there is none in a chroot, nor in a container whose filter forbids it)"
                .to_owned()
        }
        _ => format!("make namespaces ({wanted:?})"),
    }
}

impl Spawning {
    /// The process, which may fail yet.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Begins to map the ids, and releases the process when it may go on.
    fn begin(&mut self, ids: Option<&IdMappings>, early: bool) -> Result<(), Error> {
        self.mapping = ids.map(|mappings| mappings.begin(self.process.pid)).transpose()?;
        if early {
            return Ok(());
        }
        self.mapping.take().map_or(Ok(()), Mapping::finish)?;
        self.release(MAPPED)
    }

    fn release(&self, word: u8) -> Result<(), Error> {
        let released = sys::write(self.go.as_raw_fd(), &[word]);
        released.map(drop).map_err(|errno| Error::from_errno("release the new process", errno))
    }

    /// Waits until the program is executing and its ids are mapped.
    ///
    /// # Errors
    /// As [`spawn`].
    pub fn finish(mut self) -> Result<Process, Error> {
        match self.hear_execution() {
            Ok(()) => Ok(self.process),
            Err(error) => Err(self.give_up(error)),
        }
    }

    fn hear_execution(&mut self) -> Result<(), Error> {
        let mut message = read_pair(&self.report)?;
        if let Some((BETWEEN, pid)) = message {
            // The program is a sibling, made inside the joined namespaces; the process in between has done its work.
            let pidfd = sys::pidfd_open(pid)
                .map_err(|errno| Error::from_errno(format!("open process {pid}"), errno))?;
            let between = std::mem::replace(&mut self.process, Process { pid: Pid::from_raw(pid), pidfd });
            between.wait()?;
            message = read_pair(&self.report)?;
        }
        match message {
            None => {
                self.mapping.take().map_or(Ok(()), Mapping::finish)?;
                self.word.map_or(Ok(()), |word| self.release(word))
            }
            Some((stage, errno)) => {
                let step = STAGES.get(stage as usize).copied().unwrap_or("start");
                let step = format!("{step} ({})", self.program.display());
                Err(Error::from_errno(step, Errno::from_raw(errno)))
            }
        }
    }

    /// Ends the process, which is of no use any more.
    fn give_up(self, why: Error) -> Error {
        // Its end is what matters, not how it came.
        let _ = self.process.signal(libc::SIGKILL);
        let _ = self.process.wait();
        why
    }
}

pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::from_errno("make a pipe", errno))
}

/// Returns a message of a child: two numbers, or none when it closed the pipe, which `execve` does.
pub(crate) fn read_pair(fd: &OwnedFd) -> Result<Option<(u32, i32)>, Error> {
    let mut bytes = [0u8; 8];
    let count = sys::read(fd.as_raw_fd(), &mut bytes)
        .map_err(|errno| Error::from_errno("read from the new process", errno))?;
    let (a, b) = bytes.split_at(4);
    let pair = (
        u32::from_ne_bytes(a.try_into().unwrap_or_default()),
        i32::from_ne_bytes(b.try_into().unwrap_or_default()),
    );
    Ok((count == 8).then_some(pair))
}

/// The counterpart of [`read_pair`]; a pipe takes so few bytes whole.
pub(crate) fn write_pair(fd: RawFd, a: u32, b: i32) {
    let mut bytes = [0u8; 8];
    bytes[..4].copy_from_slice(&a.to_ne_bytes());
    bytes[4..].copy_from_slice(&b.to_ne_bytes());
    // A parent that is gone needs no word.
    let _ = sys::write(fd, &bytes);
}

struct Child<'a> {
    spawn: &'a Spawn<'a>,
    program: &'a CStr,
    args: Pointers<'a>,
    env: Pointers<'a>,
    source: RawFd,
    go: RawFd,
    go_write: RawFd,
    report: RawFd,
    nested: bool,
    /// The namespaces that are made while ids are mapped.
    early: Option<CloneFlags>,
    min: RawFd,
    /// Sources and the numbers they get.
    fds: Vec<(RawFd, RawFd)>,
    high: Vec<RawFd>,
    targets: Vec<RawFd>,
}

impl Child<'_> {
    fn run(&mut self) -> ! {
        let (stage, errno) = match self.run_steps() {
            Ok(never) => never,
            Err(failure) => failure,
        };
        write_pair(self.report, stage as u32, errno as i32);
        sys::exit(127)
    }

    fn run_steps(&mut self) -> Result<(Stage, Errno), (Stage, Errno)> {
        let at = |stage: Stage| move |errno| (stage, errno);
        // A parent that dies or gives up closes the pipe: nobody else may have it open.
        let _ = nix::unistd::close(self.go_write);
        // First, for in a user namespace nothing may be raised.
        sys::reset_inheritance();
        if let Some(namespaces) = self.early {
            if !namespaces.is_empty() {
                sys::unshare(namespaces.bits()).map_err(at(Stage::Divide))?;
            }
            keep_capabilities().map_err(at(Stage::Keep))?;
        } else if sys::read(self.go, &mut [0]) != Ok(1) {
            sys::exit(127);
        }
        for (fd, kind) in self.spawn.join {
            sys::setns(fd.as_raw_fd(), kind.bits()).map_err(at(Stage::Join))?;
        }
        if self.nested {
            self.divide().map_err(at(Stage::Divide))?;
        }
        if self.nested || self.spawn.makes_users() && self.early.is_none() {
            take_identity().map_err(at(Stage::Identity))?;
        }
        if self.spawn.stdio == SpawnStdio::Null {
            null_streams().map_err(at(Stage::Streams))?;
        }
        self.pass_descriptors().map_err(at(Stage::Descriptors))?;
        sys::reset_signals();
        Err((Stage::Execute, self.execute()))
    }

    /// Makes the new namespaces inside the joined ones, in a sibling; this process ends.
    fn divide(&self) -> Sys<()> {
        let flags = self.spawn.namespaces.bits() as u32 as u64 | libc::CLONE_PARENT as u64;
        if let Some((pid, _)) = sys::clone3(flags, None)? {
            write_pair(self.report, BETWEEN, pid);
            sys::exit(0);
        }
        Ok(())
    }

    fn pass_descriptors(&mut self) -> Sys<()> {
        // All out of the way first, so that no target number is still a source.
        for (high, &(fd, _)) in self.high.iter_mut().zip(&self.fds) {
            *high = sys::dup_from(fd, self.min)?;
        }
        self.report = sys::dup_from(self.report, self.min)?;
        self.source = sys::dup_from(self.source, self.min)?;
        for (&high, &(_, number)) in self.high.iter().zip(&self.fds) {
            sys::dup3(high, number)?;
        }
        let mut next: libc::c_uint = 3;
        for &target in self.targets.iter().filter(|&&target| target >= 3) {
            let target = target as libc::c_uint;
            if target > next {
                sys::cloexec_range(next, target - 1)?;
            }
            next = target + 1;
        }
        sys::cloexec_range(next, libc::c_uint::MAX)
    }

    /// In a mount namespace of its own the program is executed through a detached, read-only mount of its file, or from a
    /// sealed copy in memory: no container can ever open `/proc/PID/exe` for writing (CVE-2019-5736).
    fn execute(&self) -> Errno {
        if !self.spawn.namespaces.contains(CloneFlags::CLONE_NEWNS) {
            return sys::execveat(self.source, sys::EMPTY, &self.args, &self.env, libc::AT_EMPTY_PATH);
        }
        let readonly = sys::MountAttr { set: sys::attr::RDONLY, ..sys::MountAttr::default() };
        let tree = sys::clone_tree(libc::AT_FDCWD, self.program, false)
            .and_then(|tree| sys::mount_setattr(tree.as_raw_fd(), false, &readonly).map(|()| tree));
        match tree.or_else(|_| sys::sealed_copy(self.source)) {
            Ok(file) => {
                sys::execveat(file.as_raw_fd(), sys::EMPTY, &self.args, &self.env, libc::AT_EMPTY_PATH)
            }
            Err(errno) => errno,
        }
    }
}

/// Without an id that the namespace knows, only ambient capabilities outlive `execve`.
fn keep_capabilities() -> Sys<()> {
    sys::capset(u64::MAX, u64::MAX, u64::MAX)?;
    sys::every_capability(|capability| {
        sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability)
    })
}

/// Waits until the ids of a program that was started [`early`](Spawn::early) are mapped, and makes it what it would be
/// otherwise: root of its new user namespace, without groups of the user's and without capabilities to pass on.
///
/// # Errors
/// [`Error::Sys`]; also when who started it has died or given up.
pub fn settle(word: OwnedFd) -> Result<(), Error> {
    let failed = |errno| Error::from_errno(STAGES[Stage::Identity as usize], errno);
    let mut byte = [0];
    match sys::read(word.as_raw_fd(), &mut byte).map_err(failed)? {
        1 if byte == [MAPPED] => Ok(()),
        1 => become_root().map_err(failed),
        _ => Err(failed(Errno::EPIPE)),
    }
}

fn become_root() -> Sys<()> {
    take_identity()?;
    sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
    sys::capset(u64::MAX, u64::MAX, 0)
}

/// Takes the mapped identity: a fresh user namespace shows us as the overflow user until we take the mapped identity.
fn take_identity() -> Sys<()> {
    match sys::setgroups(&[]) {
        Ok(()) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    sys::setresgid(0)?;
    sys::setresuid(0)
}

fn null_streams() -> Sys<()> {
    let null = sys::open(c"/dev/null", libc::O_RDWR)?;
    (0..3).try_for_each(|stream| sys::dup3(null.as_raw_fd(), stream))?;
    if null.as_raw_fd() < 3 {
        std::mem::forget(null);
    }
    Ok(())
}
