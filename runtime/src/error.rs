//! The errors of this crate. Each is made where it happens and names the step and its object.

use std::path::PathBuf;

use nix::errno::Errno;

/// The reason why something of a sandbox could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Means that a system call failed.
    #[error("{step}: {}", describe(*.errno))]
    Sys {
        /// Holds what was being done, with its object.
        step: String,
        /// Holds what the kernel answered.
        errno: Errno,
    },
    /// Means that a file could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// `read`, `write`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// `newuidmap` or `newgidmap` refused.
    #[error("{program} could not map ids: {reason}")]
    IdMap {
        /// Tells which of the two.
        program: &'static str,
        /// Holds what it wrote to its standard error, or why it did not run.
        reason: String,
    },
    /// Means that a string with a zero byte cannot be given to the kernel.
    #[error("{what} contains a zero byte")]
    ZeroByte {
        /// The place where the string comes from.
        what: String,
    },
    /// The seccomp profile that cannot be compiled.
    #[error("seccomp profile: {reason}")]
    Seccomp {
        /// Tells which part of it.
        reason: String,
    },
}

impl Error {
    pub(crate) fn from_errno(step: impl Into<String>, errno: Errno) -> Self {
        Error::Sys { step: step.into(), errno }
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::File { action, path: path.into(), source }
    }
}

/// The reason why a container or an exec did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The spec asks for something this runtime does not do, or contradicts itself.
    #[error("{field}: {reason}")]
    Spec {
        /// The field, as the OCI runtime spec writes it.
        field: String,
        /// Holds what is wrong with it.
        reason: String,
    },
    /// Something before the new process failed.
    #[error(transparent)]
    Prepare(#[from] Error),
    /// Means that a step of the new process failed before its program was to run.
    #[error("{step}: {}{}", describe(*.errno), find_hint(step, *.errno))]
    Create {
        /// Holds what was being done, with its object.
        step: String,
        /// Holds what the kernel answered.
        errno: Errno,
    },
    /// The process was ended from outside before it ran its program.
    #[error(
        "the process that was to enter the container was killed on its way: the container has ended, or memory has run out"
    )]
    Killed,
    /// The kernel does not have an AppArmor profile of that name.
    #[error(
        "AppArmor has no profile {profile:?}: load it with apparmor_parser, or give the container another"
    )]
    Profile {
        /// `process.apparmorProfile`.
        profile: String,
    },
    /// The program could not be executed.
    #[error("{}", exec_message(program, *.errno))]
    Exec {
        /// `args[0]`.
        program: String,
        /// Holds what the kernel answered.
        errno: Errno,
    },
    /// The working directory could not be entered.
    #[error("enter working directory {path}: {}", describe(*.errno))]
    WorkingDirectory {
        /// `process.cwd`.
        path: String,
        /// Holds what the kernel answered.
        errno: Errno,
    },
}

impl StartError {
    /// The exit code a shell or a kubelet would show: 127 command not found, 126 not executable, 128 for what else went
    /// wrong when executing; none when the container was never ready to execute anything.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            StartError::Exec { errno: Errno::ENOENT | Errno::ENOTDIR, .. } => Some(127),
            StartError::Exec {
                errno: Errno::EACCES | Errno::ENOEXEC | Errno::EISDIR | Errno::EPERM, ..
            } => Some(126),
            StartError::Exec { .. } | StartError::WorkingDirectory { .. } => Some(128),
            _ => None,
        }
    }
}

fn describe(errno: Errno) -> String {
    format!("{errno:?} ({})", errno.desc())
}

fn exec_message(program: &str, errno: Errno) -> String {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => format!("exec {program:?}: command not found ({errno:?})"),
        Errno::ENOEXEC => format!("exec {program:?}: not a program for this machine (ENOEXEC)"),
        _ => format!("exec {program:?}: {}", describe(errno)),
    }
}

/// Returns what a failure comes from that is not to be seen from its number, and what a person can do about it.
fn find_hint(step: &str, errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM if step.starts_with("mount proc") => {
            "; a /proc with masked paths around this process (a container without --privileged?) forbids mounting proc"
        }
        Errno::ESRCH => "; the container has ended",
        Errno::ENOSYS => "; podctl needs Linux 5.12 or newer",
        _ => "",
    }
}
