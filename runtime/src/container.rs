//! Containers and execs: a spec becomes a plan, the plan becomes a process.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType, Process as ProcessSpec, Spec};

use crate::cgroup::Cgroup;
use crate::error::{Error, StartError};
use crate::overlay::Overlay;
use crate::plan::{APPARMOR_EXEC, Action, Plan, Report, Running, to_cstring};
use crate::process::Process;
use crate::seccomp::Program;
use crate::{credentials, defaults, devices, mounts, pty, spawn, sys};

/// Tells where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rootfs {
    /// Layers under a writable directory. `work` is an empty directory on the file system of `upper`.
    Overlay {
        /// The layers, lowest first.
        lower: Vec<PathBuf>,
        /// Receives what the container writes.
        upper: PathBuf,
        /// overlayfs's own.
        work: PathBuf,
    },
    /// The directory as it is.
    Directory(PathBuf),
}

/// The standard streams of a container.
#[derive(Debug)]
pub enum Stdio {
    /// Three descriptors; they are used and closed.
    Streams {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// The new pseudo terminal of the container's `/dev/pts`.
    Terminal,
}

/// The program that is executing in a container: its first, or that of an exec.
#[derive(Debug)]
pub struct Container {
    /// The process; a child of the caller.
    pub process: Process,
    /// The master of its terminal, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
}

/// The process on its way into a container. The container may stop it: whoever starts it never waits for it, but looks
/// for its [`outcome`](Entering::outcome) and ends it when it takes too long.
#[derive(Debug)]
pub struct Entering {
    /// Prepares all; a child of the caller. `None` once its program is executing.
    outside: Option<Process>,
    /// Holds what it goes on as in a PID namespace that is there already; a child of the caller, too.
    inside: Option<Process>,
    /// Tells that it goes on as another.
    divided: bool,
    /// Tells that all is made and the process waits for its turn.
    made: bool,
    running: Running,
    terminal: Option<OwnedFd>,
}

impl Entering {
    /// Readable when [`outcome`](Entering::outcome) may have something new to say.
    pub fn fd(&self) -> &OwnedFd {
        &self.running.report
    }

    /// Returns without waiting: `None` as long as the program is not executing. Its processes are the caller's to reap, once this
    /// has been asked after their end: until then nobody may take their numbers.
    ///
    /// # Errors
    /// The step that failed; the process is gone then, or about to go.
    pub fn outcome(&mut self) -> Result<Option<Container>, StartError> {
        loop {
            match self.running.hear()? {
                Report::Busy => return Ok(None),
                Report::Inside(pid) => self.inside = Process::of_own_child(pid).ok(),
                Report::Made => self.made = true,
                Report::Executing => {
                    let process = if self.divided { &mut self.inside } else { &mut self.outside };
                    let process = process.take().ok_or(StartError::Killed)?;
                    let terminal = finish(&process, self.terminal.as_ref())?;
                    return Ok(Some(Container { process, terminal }));
                }
            }
        }
    }

    /// Tells whether it has this number, where it is now or where it began.
    pub fn is(&self, pid: Pid) -> bool {
        self.outside.iter().chain(&self.inside).any(|process| process.pid == pid)
    }

    /// Ends it, wherever it is.
    pub fn kill(&self) {
        for process in self.outside.iter().chain(&self.inside) {
            // One that is gone already needs no signal.
            let _ = process.signal(libc::SIGKILL);
        }
    }
}

/// The container that is being made. Its process builds it by itself and then waits to be told to
/// [`start`](Created::start).
#[derive(Debug)]
pub struct Created {
    entering: Entering,
    turn: Option<OwnedFd>,
}

impl Created {
    /// Lets the program start as soon as the container is made. Whether that worked, [`outcome`](Created::outcome) says.
    pub fn start(&mut self) {
        if let Some(turn) = self.turn.take() {
            // A process that is gone already has said why.
            let _ = sys::write(turn.as_raw_fd(), &[1]);
        }
    }

    /// Tells whether it was told to start.
    pub fn is_started(&self) -> bool {
        self.turn.is_none()
    }

    /// Readable when [`outcome`](Created::outcome) may have something new to say.
    pub fn fd(&self) -> &OwnedFd {
        self.entering.fd()
    }

    /// Tells whether all is made and only its turn is missing, as far as [`outcome`](Created::outcome) has heard.
    pub fn is_made(&self) -> bool {
        self.entering.made
    }

    /// The number of its process in the caller's PID namespace; `None` once its program is executing.
    pub fn pid(&self) -> Option<Pid> {
        self.entering.outside.as_ref().map(|process| process.pid)
    }

    /// Takes the master of its terminal before the program starts; [`Container::terminal`] is empty then.
    ///
    /// # Errors
    /// [`StartError`] before it [`is_made`](Created::is_made): then there is none yet.
    pub fn take_terminal(&mut self) -> Result<Option<OwnedFd>, StartError> {
        self.entering
            .terminal
            .take()
            .map(|socket| pty::receive(&socket))
            .transpose()
            .map_err(StartError::from)
    }

    /// Does as [`Entering::outcome`].
    ///
    /// # Errors
    /// As [`Entering::outcome`].
    pub fn outcome(&mut self) -> Result<Option<Container>, StartError> {
        self.entering.outcome()
    }

    /// Does as [`Entering::is`].
    pub fn is(&self, pid: Pid) -> bool {
        self.entering.is(pid)
    }

    /// Does as [`Entering::kill`].
    pub fn kill(&self) {
        self.entering.kill();
    }
}

/// Builds the container of `spec`, under the filter that was compiled of its profile; its program waits for
/// [`Created::start`]. Returns while the container's process is still at work.
///
/// # Errors
/// [`StartError`] when there is something in the spec that cannot be had, or no process.
pub fn create(
    spec: &Spec,
    filter: Option<&Program>,
    rootfs: &Rootfs,
    stdio: Stdio,
    cgroup: Option<&Cgroup>,
) -> Result<Created, StartError> {
    let process = process_of(spec)?;
    let linux = spec.linux().as_ref();
    let namespaces = Namespaces::of(spec)?;
    let mut plan = Plan::default();
    begin(&mut plan, process, cgroup)?;
    let joined = namespaces.pid;
    if joined.is_none() {
        plan.push(Action::NewSession, "make a session");
    }
    let terminal = streams(&mut plan, stdio, process, true)?;
    plan.push(Action::CloseOthers(Vec::new()), "close other file descriptors");
    for (kind, fd) in namespaces.join {
        plan.push(Action::Setns { fd, flags: kind as i32 }, format!("join the {kind} namespace"));
    }
    let lender = joined.as_ref().map(|pid| &pid.mounts);
    if let Some(JoinedPid { namespace, .. }) = &joined {
        let fd = namespace.try_clone().map_err(|e| Error::file("duplicate", "PID namespace", e))?;
        plan.push(Action::Setns { fd, flags: libc::CLONE_NEWPID }, "join the PID namespace");
    }
    if namespaces.cgroup {
        // Only now, so that its root is the cgroup just joined.
        plan.push(Action::Unshare(libc::CLONE_NEWCGROUP), "make a cgroup namespace");
    }
    let propagation = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
    let flags = match propagation {
        Some("private" | "rprivate") => libc::MS_PRIVATE,
        _ => libc::MS_SLAVE,
    };
    plan.push(Action::Propagation(flags | libc::MS_REC), "make mounts independent of the host's");
    mount_root(&mut plan, rootfs, !devices::all_allowed(spec))?;
    mounts::hold_own(&mut plan, spec)?;
    plan.push(Action::OpenNull, "open /dev/null (which must be the null device)");
    for mount in spec.mounts().iter().flatten() {
        mounts::plan(&mut plan, mount, lender)?;
    }
    devices::plan(&mut plan, spec)?;
    finish_root(&mut plan, spec, process, &namespaces.new)?;
    if let Some(terminal) = terminal.action {
        plan.push(terminal, "open a terminal on /dev/pts");
        if joined.is_none() {
            plan.push(Action::ClaimTerminal, "make it the controlling terminal");
        }
    }
    let (its_turn, turn) = spawn::pipe()?;
    // It may take long, so nothing of the caller's stays open meanwhile.
    plan.push(Action::CloseOthers(Vec::new()), "close other file descriptors");
    plan.push(Action::AwaitTurn(its_turn), "wait for its turn");
    credentials::become_user(&mut plan, process, filter)?;
    if joined.is_some() {
        go_on_inside(&mut plan, terminal.socket.is_some())?;
    }
    credentials::run_program(&mut plan, process, filter)?;
    let (outside, running) = plan.start(namespaces.flags, cgroup)?;
    let terminal = terminal.socket;
    let entering = Entering {
        outside: Some(outside),
        inside: None,
        divided: joined.is_some(),
        made: false,
        running,
        terminal,
    };
    Ok(Created { entering, turn: Some(turn) })
}

/// A process can join a PID namespace only by being born in it: the last steps are another's, which those who are there
/// already can see, and which has nothing that they could not have.
fn go_on_inside(plan: &mut Plan, terminal: bool) -> Result<(), Error> {
    let (held, gate) = spawn::pipe()?;
    plan.push(Action::CloseOthers(Vec::new()), "close other file descriptors");
    plan.push(Action::ForkInside([held, gate]), "go on in the container's PID namespace");
    plan.push(Action::NewSession, "make a session");
    if terminal {
        plan.push(Action::ClaimTerminal, "make it the controlling terminal");
    }
    Ok(())
}

/// Runs another process in the container whose first process `target` is. It gets the container's namespaces (all but the
/// user namespace, which is the caller's) and is a child of the caller. Returns while it is still on its way.
///
/// All is done outside of the container's PID namespace, into which the process is born last, with the container's root,
/// identity and filter and nothing open: there is no moment at which the container could borrow anything from it.
///
/// # Errors
/// [`StartError`] when there is something in the spec that cannot be had, or no process.
pub fn exec(
    target: BorrowedFd<'_>,
    process: &ProcessSpec,
    filter: Option<&Program>,
    stdio: Stdio,
    cgroup: Option<&Cgroup>,
) -> Result<Entering, StartError> {
    let mut plan = Plan::default();
    begin(&mut plan, process, cgroup)?;
    let terminal = streams(&mut plan, stdio, process, false)?;
    plan.push(Action::CloseOthers(Vec::new()), "close other file descriptors");
    let fd = target.try_clone_to_owned().map_err(|e| Error::file("duplicate", "pidfd", e))?;
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP | libc::CLONE_NEWPID | kill_others(target);
    plan.push(Action::Setns { fd, flags }, "join the container's namespaces");
    if let Some(terminal) = terminal.action {
        plan.push(terminal, "open a terminal on the container's /dev/pts");
    }
    credentials::become_user(&mut plan, process, filter)?;
    go_on_inside(&mut plan, terminal.socket.is_some())?;
    credentials::run_program(&mut plan, process, filter)?;
    let (outside, running) = plan.start(0, cgroup)?;
    let terminal = terminal.socket;
    Ok(Entering { outside: Some(outside), inside: None, divided: true, made: false, running, terminal })
}

/// Tells which of these namespaces the target does not share with the caller. Those of the host, which a
/// caller without privileges may share but not join, must be left out.
fn kill_others(target: BorrowedFd<'_>) -> i32 {
    let info =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", target.as_raw_fd())).unwrap_or_default();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap_or_default().trim().to_owned();
    let inode =
        |of: &str, name: &str| std::fs::metadata(format!("/proc/{of}/ns/{name}")).map(|file| file.ino());
    let all = [("uts", libc::CLONE_NEWUTS), ("ipc", libc::CLONE_NEWIPC), ("net", libc::CLONE_NEWNET)];
    let shared =
        |name: &str| matches!((inode("self", name), inode(&pid, name)), (Ok(own), Ok(its)) if own == its);
    all.into_iter().filter(|(name, _)| !shared(name)).map(|(_, flag)| flag).sum()
}

/// The terminal of a process that is executing.
fn finish(process: &Process, socket: Option<&OwnedFd>) -> Result<Option<OwnedFd>, StartError> {
    socket.map(pty::receive).transpose().map_err(|error| {
        // It is of no use without; whoever reaps its end need not wait for it here.
        let _ = process.signal(libc::SIGKILL);
        error.into()
    })
}

fn process_of(spec: &Spec) -> Result<&ProcessSpec, StartError> {
    let missing = || StartError::Spec { field: "process".to_owned(), reason: "is missing".to_owned() };
    spec.process().as_ref().ok_or_else(missing)
}

/// The steps that need the caller's view: its `/proc`, its cgroup files.
fn begin(plan: &mut Plan, process: &ProcessSpec, cgroup: Option<&Cgroup>) -> Result<(), StartError> {
    plan.push(Action::Undumpable, "forbid others to look into it");
    if let Some(adjustment) = process.oom_score_adj() {
        let value = to_cstring(adjustment.to_string(), "process.oomScoreAdj")?;
        // Without privileges it can only rise; a lower wish stays one.
        let action =
            Action::WriteProc { path: c"/proc/self/oom_score_adj".to_owned(), value, optional: true };
        plan.push(action, format!("set oom_score_adj to {adjustment}"));
    }
    if let Some(cgroup) = cgroup {
        plan.push(Action::JoinCgroup(cgroup.open_procs()?), "join the cgroup");
    }
    if let Some(profile) = process.apparmor_profile() {
        // For the next `execve`, which is the program's; said while /proc is the caller's, and no image has a hand in it.
        let action = Action::WriteProc {
            path: APPARMOR_EXEC.to_owned(),
            value: to_cstring(format!("exec {profile}"), "process.apparmorProfile")?,
            optional: profile == defaults::APPARMOR_PROFILE,
        };
        plan.push(action, format!("change to the AppArmor profile {profile:?}"));
    }
    plan.push(Action::NewKeyring, "make a session keyring");
    Ok(())
}

struct Terminal {
    action: Option<Action>,
    socket: Option<OwnedFd>,
}

fn streams(
    plan: &mut Plan,
    stdio: Stdio,
    process: &ProcessSpec,
    console: bool,
) -> Result<Terminal, StartError> {
    match stdio {
        Stdio::Streams { stdin, stdout, stderr } => {
            plan.push(Action::Streams([stdin, stdout, stderr]), "redirect standard streams");
            Ok(Terminal { action: None, socket: None })
        }
        Stdio::Terminal => {
            let (own, socket) = pty::pty_channel()?;
            let size = process.console_size().map(|size| (size.height() as u16, size.width() as u16));
            Ok(Terminal { action: Some(Action::Terminal { socket, size, console }), socket: Some(own) })
        }
    }
}

fn mount_root(plan: &mut Plan, rootfs: &Rootfs, nodev: bool) -> Result<(), StartError> {
    match rootfs {
        Rootfs::Directory(path) => {
            let name = to_cstring(path.as_os_str().as_bytes(), "rootfs")?;
            let attr = if nodev { sys::attr::NODEV } else { 0 };
            let action = Action::BindRoot { path: name.clone(), attr };
            plan.push(action, format!("mount {} as root", path.display()));
            plan.push(Action::OpenRoot(name), format!("open root {}", path.display()));
        }
        Rootfs::Overlay { lower, upper, work } => {
            let mountpoint = to_cstring(upper.as_os_str().as_bytes(), "rootfs upper")?;
            let overlay = Overlay::new(lower, Some((upper, work)))?;
            let what = format!("mount overlay of {} layers with upper {}", lower.len(), upper.display());
            let flags = if nodev { libc::MS_NODEV } else { 0 };
            plan.push(Action::Overlay { overlay, mountpoint: mountpoint.clone(), flags }, what);
            plan.push(Action::OpenRoot(mountpoint), format!("open root {}", upper.display()));
        }
    }
    Ok(())
}

/// Returns what is left once everything is mounted: sysctls, masks, the pivot, names.
fn finish_root(
    plan: &mut Plan,
    spec: &Spec,
    process: &ProcessSpec,
    new: &[LinuxNamespaceType],
) -> Result<(), StartError> {
    let linux = spec.linux().as_ref();
    for (name, value) in linux.and_then(|linux| linux.sysctl().as_ref()).into_iter().flatten() {
        let path = to_cstring(format!("proc/sys/{}", name.replace('.', "/")), "linux.sysctl")?;
        let action = Action::WriteInRoot { path, value: to_cstring(value.as_str(), "linux.sysctl")? };
        plan.push(action, format!("set sysctl {name}={value}"));
    }
    if process.cwd() != Path::new("/") {
        let path = mounts::relative_path(process.cwd())?;
        plan.push(Action::MakeDirectory(path), format!("make working directory {}", process.cwd().display()));
    }
    for path in linux.and_then(|linux| linux.readonly_paths().as_ref()).into_iter().flatten() {
        plan.push(
            Action::ReadOnly(mounts::relative_path(Path::new(path))?),
            format!("make {path} read-only"),
        );
    }
    for path in linux.and_then(|linux| linux.masked_paths().as_ref()).into_iter().flatten() {
        plan.push(Action::Mask(mounts::relative_path(Path::new(path))?), format!("mask {path}"));
    }
    if spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
        plan.push(Action::ReadOnlyRoot, "make the root file system read-only");
    }
    plan.push(Action::Pivot, "pivot into the root file system");
    if new.contains(&LinuxNamespaceType::Uts) {
        if let Some(name) = spec.hostname() {
            plan.push(
                Action::Hostname(to_cstring(name.as_str(), "hostname")?),
                format!("set hostname {name}"),
            );
        }
        if let Some(name) = spec.domainname() {
            plan.push(
                Action::Domainname(to_cstring(name.as_str(), "domainname")?),
                format!("set domain name {name}"),
            );
        }
    }
    Ok(())
}

/// The PID namespace that is there already.
struct JoinedPid {
    namespace: OwnedFd,
    /// The mount namespace of the process that it was named by, which has its proc.
    mounts: OwnedFd,
}

/// `linux.namespaces`, sorted by when each is made or joined. A mount namespace is always made.
struct Namespaces {
    flags: u64,
    new: Vec<LinuxNamespaceType>,
    cgroup: bool,
    pid: Option<JoinedPid>,
    join: Vec<(LinuxNamespaceType, OwnedFd)>,
}

impl Namespaces {
    fn of(spec: &Spec) -> Result<Namespaces, StartError> {
        let mut all = Namespaces {
            flags: libc::CLONE_NEWNS as u64,
            new: Vec::new(),
            cgroup: false,
            pid: None,
            join: Vec::new(),
        };
        let listed =
            spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        for namespace in listed {
            let kind = namespace.typ();
            match (kind, namespace.path()) {
                (LinuxNamespaceType::Mount, None) => {}
                (LinuxNamespaceType::Cgroup, None) => all.cgroup = true,
                (LinuxNamespaceType::User | LinuxNamespaceType::Time, None)
                | (LinuxNamespaceType::Mount, Some(_)) => {
                    return Err(StartError::Spec {
                        field: format!("linux.namespaces[{kind}]"),
                        reason: "is the sandbox's to make, not the container's".to_owned(),
                    });
                }
                (_, None) => {
                    all.flags |= kind as u64;
                    all.new.push(kind);
                }
                (_, Some(path)) => {
                    let fd = open_namespace(path)?;
                    match kind {
                        LinuxNamespaceType::Pid => {
                            let mounts = open_namespace(&path.with_file_name("mnt"))?;
                            all.pid = Some(JoinedPid { namespace: fd, mounts });
                        }
                        _ => all.join.push((kind, fd)),
                    }
                }
            }
        }
        Ok(all)
    }
}

fn open_namespace(path: &Path) -> Result<OwnedFd, Error> {
    let name = to_cstring(path.as_os_str().as_bytes(), "linux.namespaces[].path")?;
    sys::open(&name, libc::O_RDONLY)
        .map_err(|errno| Error::from_errno(format!("open namespace {}", path.display()), errno))
}
