//! What goes on in a pod while a client is connected: commands, attached terminals, connections to its ports.
//!
//! Promises: descriptors that are given do not block; what was started ends when its connection is dropped.

use std::{
    fs::File,
    net::TcpStream,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use k8s_openapi::api::core::v1::EphemeralContainer;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, poll},
    unistd::pipe2,
};

use super::{Error, PodHandle, control::receive_reply, dial, io, unreachable_pod};
use crate::{
    state::PodDir,
    wire::{self, Reply, Request, Usage},
};

/// How many milliseconds a connection within the pod may take, whose server has a full backlog.
const CONNECTING: u16 = 30_000;

/// A command to be run in a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Command {
    pub container: String,
    pub words: Vec<String>,
    /// With a standard input.
    pub stdin: bool,
    /// With a terminal, which is its input and both outputs at once.
    pub terminal: bool,
}

/// The streams of a process in a container. Dropping it hangs a command up.
#[derive(Debug)]
pub(crate) struct Session {
    /// Holds what it reads; the terminal, if it has one.
    pub stdin: Option<OwnedFd>,
    /// Holds what it writes; the terminal, if it has one.
    pub stdout: Option<OwnedFd>,
    /// Holds what it complains to.
    pub stderr: Option<OwnedFd>,
    /// Tells that it has a terminal.
    pub terminal: bool,
    /// Readable when the process has ended.
    pub socket: OwnedFd,
    dir: PodDir,
}

impl Session {
    /// The exit code, when [`Session::socket`] is readable; waits for it else.
    ///
    /// # Errors
    /// [`Error::Ended`], [`Error::Unreachable`], [`Error::Refused`]
    pub(crate) fn receive_end(&self) -> Result<i32, Error> {
        match receive_reply(&self.dir, &self.socket)? {
            Some((Reply::Ended(code), _)) => Ok(code),
            Some((Reply::Refused { message, exit_code }, _)) => Err(Error::Refused { message, exit_code }),
            Some(_) | None => Err(Error::Ended(self.dir.name.to_string())),
        }
    }
}

/// How long a pod may take to say what it uses.
const USAGE_PATIENCE: Duration = Duration::from_secs(2);

impl PodHandle {
    /// Starts a command in a container.
    ///
    /// # Errors
    /// [`Error::Refused`], whose exit code is as a shell has it.
    pub(crate) fn open_exec(&self, command: Command) -> Result<Session, Error> {
        let dir = &self.dir;
        let socket = dial(dir)?;
        let Command { container, words, stdin, terminal } = command;
        let request = Request::Exec { container, command: words, terminal, size: None };
        let mut session =
            Session { stdin: None, stdout: None, stderr: None, terminal, socket, dir: dir.clone() };
        let mut theirs = Vec::new();
        if !terminal {
            let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(io("make a pipe"));
            let null = || File::open("/dev/null").map(OwnedFd::from).map_err(io("open /dev/null"));
            let (input, own) =
                if stdin { pipe().map(|(read, write)| (read, Some(write)))? } else { (null()?, None) };
            let ((out, stdout), (err, stderr)) = (pipe()?, pipe()?);
            (session.stdin, session.stdout, session.stderr) = (own, Some(out), Some(err));
            theirs = vec![input, stdout, stderr];
        }
        let fds: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
        wire::send_request(&session.socket, &request, &fds).map_err(unreachable_pod(dir))?;
        drop(theirs);
        match wire::receive_answer::<Reply>(&session.socket).map_err(unreachable_pod(dir))? {
            Some((Reply::Refused { message, exit_code }, _)) => {
                return Err(Error::Refused { message, exit_code });
            }
            Some((_, fds)) if terminal => session.stdout = fds.into_iter().next(),
            Some(_) => {}
            None => return Err(Error::Ended(dir.name.to_string())),
        }
        if let Some(master) = session.stdout.as_ref().filter(|_| terminal && stdin) {
            session.stdin = Some(master.try_clone().map_err(io("use the terminal"))?);
        }
        session.unblock_streams()?;
        Ok(session)
    }

    /// Shares in the streams of a container's first process, from now on.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Ended`]
    pub(crate) fn open_attach(&self, container: &str, input: bool) -> Result<Session, Error> {
        let dir = &self.dir;
        let socket = dial(dir)?;
        let request = Request::Attach { container: container.to_owned(), input };
        wire::send_request(&socket, &request, &[]).map_err(unreachable_pod(dir))?;
        let (terminal, fds) = match receive_reply(dir, &socket)? {
            Some((Reply::Attached { terminal }, fds)) => (terminal, fds),
            Some((Reply::Refused { message, exit_code }, _)) => {
                return Err(Error::Refused { message, exit_code });
            }
            Some((Reply::Ended(exit_code), _)) => {
                // It has ended: there is nothing to share in, and nothing to complain of.
                return Err(Error::Refused { message: String::new(), exit_code });
            }
            Some(_) | None => return Err(Error::Ended(dir.name.to_string())),
        };
        let mut fds = fds.into_iter();
        let stdout = fds.next();
        let stderr = if terminal { None } else { fds.next() };
        let session = Session { stdin: fds.next(), stdout, stderr, terminal, socket, dir: dir.clone() };
        session.unblock_streams()?;
        Ok(session)
    }

    /// Connects to a TCP port of the pod from inside of it, whether or not a network or a published port leads there: to
    /// 127.0.0.1, else to ::1.
    ///
    /// # Errors
    /// [`Error::Refused`] when nobody takes the connection there; [`Error::Ended`], [`Error::Unreachable`].
    pub fn dial(&self, port: u16) -> Result<TcpStream, Error> {
        // A server may listen on IPv6 alone; its refusal says less than the first.
        self.connect_port(port, false).or_else(|first| self.connect_port(port, true).map_err(|_| first))
    }

    fn connect_port(&self, port: u16, v6: bool) -> Result<TcpStream, Error> {
        let refused = |why: String| Error::Refused {
            message: format!(
                "failed to connect to localhost:{port} inside the pod's network namespace: {why}"
            ),
            exit_code: 1,
        };
        let inside = self.dial_port(port, v6).map_err(|e| match e {
            Error::Refused { message, .. } => refused(message),
            e => e,
        })?;
        let inside = TcpStream::from(inside);
        let mut ready = [PollFd::new(inside.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut ready, CONNECTING).map_err(io("connect to a port of the pod"))? == 0 {
            return Err(refused("it does not answer".into()));
        }
        match inside.take_error() {
            Ok(None) => inside.set_nonblocking(false).map_err(io("use a connection")).map(|()| inside),
            Ok(Some(e)) | Err(e) => Err(refused(e.to_string())),
        }
    }

    /// A connection to a port of the pod's loopback, made inside of it; it may not stand yet.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Ended`]
    pub(crate) fn dial_port(&self, port: u16, v6: bool) -> Result<OwnedFd, Error> {
        let (dir, socket) = (&self.dir, dial(&self.dir)?);
        wire::send_request(&socket, &Request::Dial { port, v6 }, &[]).map_err(unreachable_pod(dir))?;
        match wire::receive_answer::<Reply>(&socket).map_err(unreachable_pod(dir))? {
            Some((Reply::Started, mut fds)) => fds.pop().ok_or_else(|| Error::Ended(dir.name.to_string())),
            Some((Reply::Refused { message, exit_code }, _)) => Err(Error::Refused { message, exit_code }),
            _ => Err(Error::Ended(dir.name.to_string())),
        }
    }

    /// Returns what each running container uses now.
    ///
    /// # Errors
    /// [`Error::Ended`], [`Error::Unreachable`]
    pub(crate) fn usage(&self) -> Result<Vec<Usage>, Error> {
        let socket = dial(&self.dir)?;
        wire::send_request(&socket, &Request::Usage, &[]).map_err(unreachable_pod(&self.dir))?;
        match wire::receive_within::<Reply>(&socket, USAGE_PATIENCE).map_err(unreachable_pod(&self.dir))? {
            Some((Reply::Usage(usage), _)) => Ok(usage),
            _ => Err(Error::Ended(self.dir.name.to_string())),
        }
    }

    /// Adds an ephemeral container, whose image is present.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Ended`]
    pub(crate) fn add_ephemeral(&self, container: EphemeralContainer) -> Result<(), Error> {
        let socket = dial(&self.dir)?;
        let request = Request::Debug { container: Box::new(container), attach: false };
        wire::send_request(&socket, &request, &[]).map_err(unreachable_pod(&self.dir))?;
        match wire::receive_answer::<Reply>(&socket).map_err(unreachable_pod(&self.dir))? {
            Some((Reply::Started, _)) => Ok(()),
            Some((Reply::Refused { message, exit_code }, _)) => Err(Error::Refused { message, exit_code }),
            _ => Err(Error::Ended(self.dir.name.to_string())),
        }
    }
}

nix::ioctl_write_ptr_bad!(set_terminal_size, nix::libc::TIOCSWINSZ, nix::libc::winsize);

impl Session {
    /// Gives the terminal that many rows and columns; without one it does nothing.
    pub(crate) fn resize_terminal(&self, ws_row: u16, ws_col: u16) {
        if let Some(master) = self.stdout.as_ref().filter(|_| self.terminal) {
            let size = nix::libc::winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
            // SAFETY: the kernel reads this one struct; a descriptor that is no terminal is an error without effect.
            // Its process may have ended, and then nobody looks at it any more.
            let _ = unsafe { set_terminal_size(master.as_raw_fd(), &size) };
        }
    }

    fn unblock_streams(&self) -> Result<(), Error> {
        for fd in [&self.stdin, &self.stdout, &self.stderr].into_iter().flatten() {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(io("use a stream"))?;
        }
        Ok(())
    }
}
