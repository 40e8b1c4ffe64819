//! What a new process has to do, as data: made by the parent, carried out by the child (`steps`). A step owns every
//! string and descriptor it needs; its `what` is the start of the error message should it fail.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::Resource;

use crate::arrival::Arrival;
use crate::cgroup::Cgroup;
use crate::error::{Error, StartError};
use crate::overlay::Overlay;
use crate::process::Process;
use crate::spawn::{pipe, read_pair};
use crate::start_trace;
use crate::steps;
use crate::sys;
use crate::userns::make_files_as_self;

/// Takes the AppArmor profile of a process's next program.
pub(crate) const APPARMOR_EXEC: &CStr = c"/proc/self/attr/apparmor/exec";

/// Names what must be there for something to be mounted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// One thing to do. Paths called `path` are relative to the root file system being built, and never lead out of it.
#[derive(Debug)]
pub(crate) enum Action {
    JoinCgroup(Vec<OwnedFd>),
    Setns {
        fd: OwnedFd,
        flags: i32,
    },
    Unshare(i32),
    NewSession,
    NewKeyring,
    /// Waits until the caller lets the program start; ends the process when it never will.
    AwaitTurn(OwnedFd),
    Streams([OwnedFd; 3]),
    /// Closes every descriptor that no later step needs; which those are, [`Plan::start`] fills in.
    CloseOthers(Vec<RawFd>),
    /// Goes on as a child of the caller's in the PID namespace that was joined; the pipe holds it until this process has
    /// told its number.
    ForkInside([OwnedFd; 2]),
    /// Nobody without CAP_SYS_PTRACE over the caller can look into the process, until `execve` has changed what it is.
    Undumpable,
    /// Writes to a file of the caller's proc.
    WriteProc {
        path: CString,
        value: CString,
        optional: bool,
    },
    Propagation(u64),
    Overlay {
        flags: u64,
        overlay: Overlay,
        mountpoint: CString,
    },
    /// Keeps a directory of the root's own, made when missing, for the next [`Action::MountOwn`] that has none yet.
    HoldOwn(CString),
    MountOwn(CString),
    BindRoot {
        path: CString,
        attr: u64,
    },
    OpenRoot(CString),
    MountTree {
        tree: OwnedFd,
        path: CString,
        kind: Kind,
    },
    MountNew {
        fstype: CString,
        options: Vec<(CString, Option<CString>)>,
        attr: u64,
        path: CString,
    },
    /// Mounts the cgroup hierarchies of version 1 in a directory, each by its name there, beside links to them.
    MountCgroups {
        hierarchies: Vec<CgroupHierarchy>,
        links: Vec<(CString, CString)>,
        attr: u64,
        path: CString,
    },
    /// Mounts the proc of a mount namespace.
    BorrowProc {
        lender: OwnedFd,
        attr: u64,
        path: CString,
    },
    MountSysfs {
        attr: u64,
        path: CString,
    },
    MakeDirectory(CString),
    /// Makes a device's node; binds that of the host, named `source`, where making nodes is not allowed.
    MakeNode {
        source: CString,
        path: CString,
        mode: u32,
        device: u64,
        owner: (u32, u32),
    },
    MakeLink {
        path: CString,
        target: CString,
    },
    OpenNull,
    Mask(CString),
    ReadOnly(CString),
    ReadOnlyRoot,
    WriteInRoot {
        path: CString,
        value: CString,
    },
    Pivot,
    Hostname(CString),
    Domainname(CString),
    Rlimit {
        resource: Resource,
        soft: u64,
        hard: u64,
    },
    Terminal {
        socket: OwnedFd,
        size: Option<(u16, u16)>,
        console: bool,
    },
    /// Makes the terminal of the standard streams the controlling one.
    ClaimTerminal,
    OwnStreams(u32),
    Umask(u32),
    WorkingDirectory(CString),
    NoNewPrivileges,
    Bounding(u64),
    Groups(Vec<u32>),
    Gid(u32),
    Uid(u32),
    Capabilities {
        effective: u64,
        permitted: u64,
        inheritable: u64,
        ambient: u64,
    },
    Seccomp {
        filter: Vec<libc::sock_filter>,
        flags: u64,
    },
    DieWithParent,
    Execute {
        candidates: Vec<CString>,
        args: Vec<CString>,
        env: Vec<CString>,
    },
}

impl Action {
    /// The descriptors that it needs to be open.
    fn list_descriptors(&self) -> Vec<RawFd> {
        let raw = |fds: &[OwnedFd]| fds.iter().map(AsRawFd::as_raw_fd).collect();
        match self {
            Action::JoinCgroup(fds) => raw(fds),
            Action::Streams(fds) => raw(fds),
            Action::ForkInside(fds) => raw(fds),
            Action::Setns { fd, .. }
            | Action::AwaitTurn(fd)
            | Action::MountTree { tree: fd, .. }
            | Action::BorrowProc { lender: fd, .. }
            | Action::Terminal { socket: fd, .. } => vec![fd.as_raw_fd()],
            _ => Vec::new(),
        }
    }
}

/// The cgroup hierarchy, to be mounted as the process's cgroup namespace shows it; where the kernel does not, the host's.
#[derive(Debug)]
pub(crate) struct CgroupHierarchy {
    /// One word: its place in the directory of them all.
    pub(crate) name: CString,
    pub(crate) fstype: CString,
    pub(crate) options: Vec<(CString, Option<CString>)>,
    /// The place where the host has it mounted.
    pub(crate) hosts: CString,
}

#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) action: Action,
    pub(crate) what: String,
}

/// The steps of one process, in order.
#[derive(Debug, Default)]
pub(crate) struct Plan(Vec<Step>);

impl Plan {
    pub(crate) fn push(&mut self, action: Action, what: impl Into<String>) {
        self.0.push(Step { action, what: what.into() });
    }

    /// Makes a process in the given new namespaces and a v2 cgroup, which carries out the plan and ends up as its
    /// program.
    pub(crate) fn start(
        mut self,
        flags: u64,
        cgroup: Option<&Cgroup>,
    ) -> Result<(Process, Running), StartError> {
        self.note_descriptors();
        let (report_read, report_write) = pipe()?;
        let directory = cgroup.and_then(Cgroup::clone_into).map(AsRawFd::as_raw_fd);
        let (exec_args, exec_env) = self.pointer_arrays();
        let arrival = Arrival::of(&self.0)?;
        let leaf = || cgroup.and_then(Cgroup::open_leaf);
        let made = sys::clone3(flags, directory)
            .or_else(|errno| match (errno, leaf()) {
                (Errno::EBUSY, Some(leaf)) => sys::clone3(flags, Some(leaf.as_raw_fd())),
                _ => Err(errno),
            })
            .map_err(|errno| StartError::Create { step: "make the container's process".to_owned(), errno })?;
        let Some((pid, pidfd)) = made else {
            // Else the child would keep open itself what tells it that the parent is gone.
            drop(report_read);
            make_files_as_self();
            steps::carry_out(&self.0, (&exec_args, &exec_env), arrival.as_ref(), report_write.as_raw_fd())
        };
        drop((exec_args, exec_env));
        fcntl(&report_read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|errno| Error::from_errno("watch the container's process", errno))?;
        let process =
            Process { pid: nix::unistd::Pid::from_raw(pid), pidfd: pidfd.expect("clone3 gives a pidfd") };
        Ok((process, Running { plan: self, report: report_read }))
    }

    /// Tells each step that closes descriptors which ones the steps after it need.
    fn note_descriptors(&mut self) {
        let mut needed = Vec::new();
        for step in self.0.iter_mut().rev() {
            match &mut step.action {
                Action::CloseOthers(keep) => keep.clone_from(&needed),
                action => needed.extend(action.list_descriptors()),
            }
        }
    }

    fn trace_step(&self, index: u32, at: i32) {
        if let (Some(step), Some(zero)) = (self.0.get(index as usize), start_trace::trace_zero()) {
            start_trace::mark_at("container", &step.what, zero + u64::from(at.cast_unsigned()) * 1000);
        }
    }

    fn pointer_arrays(&self) -> (sys::Pointers<'_>, sys::Pointers<'_>) {
        let (args, env): (&[CString], &[CString]) = match self.0.last().map(|step| &step.action) {
            Some(Action::Execute { args, env, .. }) => (args, env),
            _ => (&[], &[]),
        };
        let pointers = |strings| <[CString]>::iter(strings).map(CString::as_c_str);
        (sys::Pointers::new(pointers(args)), sys::Pointers::new(pointers(env)))
    }

    fn failure(&self, index: usize, errno: Errno) -> StartError {
        let Some(step) = self.0.get(index) else {
            return Error::from_errno("start the container's process", errno).into();
        };
        match &step.action {
            Action::Execute { .. } => StartError::Exec { program: step.what.clone(), errno },
            Action::MountTree { .. } | Action::MountNew { .. } | Action::MountOwn(_)
                if errno == steps::IN_PROC =>
            {
                StartError::Spec {
                    field: "mounts[].destination".to_owned(),
                    reason: format!("{}: its place is in /proc, where nothing may be mounted", step.what),
                }
            }
            // Its value is `exec PROFILE`.
            Action::WriteProc { path, value, .. }
                if path.as_c_str() == APPARMOR_EXEC && errno == Errno::ENOENT =>
            {
                let profile = String::from_utf8_lossy(value.to_bytes()).replacen("exec ", "", 1);
                StartError::Profile { profile }
            }
            Action::WorkingDirectory(_) => StartError::WorkingDirectory { path: step.what.clone(), errno },
            _ => StartError::Create { step: step.what.clone(), errno },
        }
    }
}

/// Names what a process that carries out a plan has said.
pub(crate) enum Report {
    /// Nothing new.
    Busy,
    /// Means that it goes on as the process of this number.
    Inside(i32),
    /// Means that all is made and it waits for its turn.
    Made,
    /// The program is executing, or it is gone.
    Executing,
}

/// The plan that is being carried out. It owns all that the child was given, until that has its own.
#[derive(Debug)]
pub(crate) struct Running {
    plan: Plan,
    /// Ends when the program is executed.
    pub(crate) report: OwnedFd,
}

impl Running {
    /// Takes what the child has reported, without waiting for more.
    pub(crate) fn hear(&self) -> Result<Report, StartError> {
        loop {
            match read_pair(&self.report) {
                Ok(None) => return Ok(Report::Executing),
                Ok(Some((steps::INSIDE, pid))) => return Ok(Report::Inside(pid)),
                Ok(Some((steps::MADE, _))) => return Ok(Report::Made),
                Ok(Some((index, at))) if index & steps::DONE != 0 => {
                    self.plan.trace_step(index & !steps::DONE, at);
                }
                Ok(Some((index, errno))) => {
                    return Err(self.plan.failure(index as usize, Errno::from_raw(errno)));
                }
                Err(Error::Sys { errno: Errno::EAGAIN, .. }) => return Ok(Report::Busy),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Returns a string for the kernel; `what` names it should it hold a zero byte.
pub(crate) fn to_cstring(bytes: impl Into<Vec<u8>>, what: &str) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| Error::ZeroByte { what: what.to_owned() })
}

/// The state of a child while it carries out its plan.
pub(crate) struct Progress<'a> {
    pub(crate) root: RawFd,
    pub(crate) null: RawFd,
    pub(crate) report: RawFd,
    /// Directories of the root's own that are to be mounted; -1 where there is none.
    pub(crate) own: [RawFd; MOST_OWN],
    /// Holds what is done after the birth inside, if there is one.
    pub(crate) arrival: Option<&'a Arrival>,
}

/// Number of directories of its own that a root may have mounted.
pub(crate) const MOST_OWN: usize = 64;
