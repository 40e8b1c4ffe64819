//! A command in a container. Its bytes flow between it and the caller directly.

use std::{
    io::{ErrorKind, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use podctl_images::{is_misplaced, read_ordinary};
use serde::Deserialize;

use super::{
    Error, PodHandle,
    control::{check_supervisor, receive_reply},
    end::reach,
    io,
    streams::receive_started,
};
use crate::{
    pod::DEFAULT_CONTAINER_ANNOTATION,
    state::{Liveness, PodDir},
    wire::{self, Reply, Request},
};

/// The three streams of a command. They go into the container as they are: a terminal should not,
/// whatever runs there could read from it and set it up.
#[derive(Debug)]
pub struct Streams {
    /// Holds what it reads.
    pub stdin: OwnedFd,
    /// Holds what it writes.
    pub stdout: OwnedFd,
    /// Holds what it complains to.
    pub stderr: OwnedFd,
}

/// Holds what a command wrote and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// The exit code; 128 + n when signal n ended it.
    pub exit_code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// The command that runs in a container. Dropping it hangs the command up (SIGHUP), as a closed terminal
/// would.
#[derive(Debug)]
pub struct Exec {
    dir: PodDir,
    socket: OwnedFd,
}

impl Exec {
    pub(super) fn new(dir: &PodDir, socket: OwnedFd) -> Exec {
        Exec { dir: dir.clone(), socket }
    }

    /// Waits for the command's end; gives its exit code, 128 + n when signal n ended it.
    ///
    /// # Errors
    /// [`Error::Ended`] when the pod ended, and the command with it.
    pub fn wait(self) -> Result<i32, Error> {
        self.receive_end()
    }

    /// Hears that it runs.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Ended`].
    pub(super) fn receive_started(&self) -> Result<(), Error> {
        receive_started(&self.dir, &self.socket).map(drop)
    }

    /// Checks that the pod's supervisor answers, when nothing has come for long.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub(crate) fn check_supervisor(&self) -> Result<(), Error> {
        check_supervisor(&self.dir)
    }

    /// Does as [`Exec::wait`]; to be called once.
    pub(crate) fn receive_end(&self) -> Result<i32, Error> {
        match receive_reply(&self.dir, &self.socket)? {
            Some((Reply::Ended(code), _)) => Ok(code),
            Some((Reply::Refused { message, exit_code }, _)) => Err(Error::Refused { message, exit_code }),
            Some(_) | None => Err(Error::Ended(self.dir.name.to_string())),
        }
    }
}

impl AsFd for Exec {
    /// Readable when the command has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl PodHandle {
    /// Starts a command in a container: by default the one that the annotation
    /// `kubectl.kubernetes.io/default-container` names, or the first.
    ///
    /// # Errors
    /// [`Error::Refused`] when it cannot be started: 126 and 127 mean what they mean to a shell.
    /// [`Error::Ended`], [`Error::State`], [`Error::Unreachable`].
    pub fn exec(&self, container: Option<&str>, command: &[&str], streams: Streams) -> Result<Exec, Error> {
        let container = self.choose_container(container)?;
        let command = command.iter().map(ToString::to_string).collect();
        let request = Request::Exec { container, command, terminal: false, size: None };
        let fds = [streams.stdin.as_fd(), streams.stdout.as_fd(), streams.stderr.as_fd()];
        let exec = self.send_request(&request, &fds)?;
        exec.receive_started()?;
        Ok(exec)
    }

    /// Runs a command to its end without input, and collects what it writes.
    ///
    /// # Errors
    /// As [`PodHandle::exec`].
    pub fn output(&self, container: Option<&str>, command: &[&str]) -> Result<Output, Error> {
        let pipe = || std::io::pipe().map_err(io("make a pipe"));
        let null = std::fs::File::open("/dev/null").map_err(io("open /dev/null"))?;
        let ((mut out, stdout), (mut err, stderr)) = (pipe()?, pipe()?);
        let streams = Streams { stdin: null.into(), stdout: stdout.into(), stderr: stderr.into() };
        let exec = self.exec(container, command, streams)?;
        let reader = thread::Builder::new().spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).map(|_| bytes)
        });
        let reader = reader.map_err(io("start a thread"))?;
        let mut stdout = Vec::new();
        out.read_to_end(&mut stdout).map_err(io("read a command's output"))?;
        let stderr = reader.join().expect("reading does not panic").map_err(io("read a command's output"))?;
        Ok(Output { exit_code: exec.wait()?, stdout, stderr })
    }
}

/// Holds what of a pod has to be known to choose a container; the rest of it is not looked at.
#[derive(Deserialize)]
struct Outline {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    containers: Vec<Named>,
    #[serde(default)]
    init_containers: Vec<Named>,
    #[serde(default)]
    ephemeral_containers: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// The container that is meant when none is named; beside it all there are, when nothing but their order
/// chose it.
pub(crate) fn default_container(dir: &PodDir) -> Result<(String, Vec<String>), Error> {
    let path = dir.pod_file();
    let text = match read_ordinary(&path) {
        Err(e) if is_misplaced(&e) => return Err(dir.damaged(path, e).into()),
        text => text.map_err(|_| missing(dir))?,
    };
    let outline: Outline = serde_json::from_slice(&text).map_err(|e| dir.damaged(path, e))?;
    let names: Vec<_> = outline.spec.containers.into_iter().map(|c| c.name).collect();
    let annotated = outline.metadata.annotations.get(DEFAULT_CONTAINER_ANNOTATION);
    if let Some(name) = annotated.filter(|n| names.contains(n)) {
        return Ok((name.clone(), Vec::new()));
    }
    let first = names.first().cloned().ok_or_else(|| missing(dir))?;
    let ephemeral = outline.spec.ephemeral_containers.into_iter().map(|c| c.name + " (ephem)");
    let init = outline.spec.init_containers.into_iter().map(|c| c.name + " (init)");
    Ok((first, names.into_iter().chain(ephemeral).chain(init).collect()))
}

/// Returns a connection to the pod's supervisor.
pub(crate) fn dial(dir: &PodDir) -> Result<OwnedFd, Error> {
    let failure = match wire::dial(&dir.control_socket()) {
        Ok(socket) => return Ok(socket),
        Err(failure) => failure,
    };
    match dir.read_liveness() {
        Liveness::Absent => Err(missing(dir)),
        Liveness::Ended => Err(Error::Ended(dir.name.to_string())),
        // It has stopped listening, and clears away.
        Liveness::Alive if failure.kind() == ErrorKind::ConnectionRefused && dir.has_socket() => {
            Err(Error::Ended(dir.name.to_string()))
        }
        Liveness::Alive if failure.kind() == ErrorKind::TimedOut => Err(unreachable_pod(dir)(failure)),
        // Somebody has removed its socket, or it is yet to be made.
        Liveness::Alive => reach(dir)?.ok_or_else(|| Error::Ended(dir.name.to_string())),
    }
}

/// The time for which the lock of a pod may be held when a connection to its supervisor has broken because it ends.
const CLOSING: Duration = Duration::from_millis(500);

/// Returns the error of a supervisor that was not reached, or of a pod that has ended meanwhile.
pub(crate) fn unreachable_pod(dir: &PodDir) -> impl FnOnce(std::io::Error) -> Error {
    move |source| {
        let is_closed = matches!(source.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        let deadline = Instant::now() + CLOSING;
        // Of a supervisor that ends the kernel closes one descriptor after the other: the lock may be later than the connection.
        while is_closed && Instant::now() < deadline {
            if dir.read_liveness() != Liveness::Alive {
                return Error::Ended(dir.name.to_string());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Error::Unreachable { pod: dir.name.to_string(), source }
    }
}

fn missing(dir: &PodDir) -> Error {
    dir.not_found().into()
}
