//! What goes on in a pod while a client is connected: commands, attached terminals, connections to its ports.
//!
//! Promises: descriptors that are given do not block; what was started ends when its connection is dropped.

use std::{
    fs::File,
    net::TcpStream,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use k8s_openapi::api::core::v1::EphemeralContainer;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, poll},
};

use super::{
    Engine, Error, Exec, PodHandle, control::receive_reply, default_container, dial, io, unreachable_pod,
};
pub use crate::wire::Usage;
use crate::{
    state::PodDir,
    wire::{self, Reply, Request, read_start_record},
};

/// The number of milliseconds a connection within the pod may take, whose server has a full backlog.
const CONNECTING: u16 = 30_000;

/// The command to be run in a container, with streams that podctl makes.
#[derive(Clone, Debug, Default)]
pub struct ExecCommand {
    /// Tells in which container; the default one else.
    pub container: Option<String>,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Gives it a standard input.
    pub stdin: bool,
    /// Gives it a terminal, which is its input and both outputs at once.
    pub terminal: bool,
    /// The rows and columns of that terminal.
    pub size: Option<(u16, u16)>,
}

/// The streams of a process in a container. Dropping it hangs a command up. The descriptors do not block, so that one
/// thread can see to all three; [`Session::set_blocking`] changes that.
#[derive(Debug)]
pub struct Session {
    /// Holds what it reads; the terminal, if it has one.
    pub stdin: Option<OwnedFd>,
    /// Holds what it writes; the terminal, if it has one.
    pub stdout: Option<OwnedFd>,
    /// Holds what it complains to.
    pub stderr: Option<OwnedFd>,
    /// Tells that it has a terminal.
    pub terminal: bool,
    /// The process; readable, and to be waited for, when it has ended.
    pub process: Exec,
}

/// The time for which a pod may take to say what it uses.
const USAGE_PATIENCE: Duration = Duration::from_secs(2);

impl PodHandle {
    /// Starts a command in a container, with pipes or a terminal for its streams.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pod = podctl::Engine::of_user()?.pod("default", "web")?;
    /// use std::io::Read;
    ///
    /// let words = ["sh", "-c", "stty size"].map(str::to_owned).to_vec();
    /// let command = podctl::ExecCommand { words, terminal: true, size: Some((24, 80)), ..Default::default() };
    /// let mut shell = pod.open_exec(command)?;
    /// shell.set_blocking()?;
    /// let mut terminal = std::fs::File::from(shell.stdout.take().expect("a terminal has one"));
    /// let mut text = Vec::new();
    /// // A terminal says EIO when nobody has its other side open any more.
    /// let _ = terminal.read_to_end(&mut text);
    /// assert_eq!(shell.process.wait()?, 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`], whose exit code is as a shell has it; [`Error::Ended`], [`Error::State`],
    /// [`Error::Unreachable`].
    pub fn open_exec(&self, command: ExecCommand) -> Result<Session, Error> {
        let ExecCommand { container, words, stdin, terminal, size } = command;
        let container = self.choose_container(container.as_deref())?;
        let request = Request::Exec { container, command: words, terminal, size };
        let mut theirs = Vec::new();
        let mut ours = (None, None, None);
        if !terminal {
            let pipe = || std::io::pipe().map_err(io("make a pipe"));
            let null = || File::open("/dev/null").map(OwnedFd::from).map_err(io("open /dev/null"));
            let (input, own) = match stdin {
                true => pipe().map(|(read, write)| (read.into(), Some(write.into())))?,
                false => (null()?, None),
            };
            let ((out, stdout), (err, stderr)) = (pipe()?, pipe()?);
            ours = (own, Some(out.into()), Some(err.into()));
            theirs = vec![input, stdout.into(), stderr.into()];
        }
        let socket = dial(&self.dir)?;
        let fds: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
        wire::send_request(&socket, &request, &fds).map_err(unreachable_pod(&self.dir))?;
        drop(theirs);
        let beside = receive_started(&self.dir, &socket)?;
        let (mut stdin_end, mut stdout, stderr) = ours;
        if terminal {
            let master = beside.into_iter().next().ok_or_else(|| Error::Ended(self.name().to_owned()))?;
            stdin_end = stdin.then(|| master.try_clone()).transpose().map_err(io("use the terminal"))?;
            stdout = Some(master);
        }
        let process = Exec::new(&self.dir, socket);
        let session = Session { stdin: stdin_end, stdout, stderr, terminal, process };
        session.set_flags(OFlag::O_NONBLOCK)?;
        Ok(session)
    }

    /// Shares in the streams of a container's first process, from now on; with its standard input if that is open and
    /// wanted.
    ///
    /// # Errors
    /// [`Error::Refused`]: without a message when the process has ended already, with its exit code. [`Error::Ended`],
    /// [`Error::Unreachable`].
    pub fn attach(&self, container: Option<&str>, input: bool) -> Result<Session, Error> {
        let container = self.choose_container(container)?;
        let socket = dial(&self.dir)?;
        let request = Request::Attach { container, input };
        wire::send_request(&socket, &request, &[]).map_err(unreachable_pod(&self.dir))?;
        self.receive_attached(socket)
    }

    /// Takes the streams that were asked for over this connection, also before the container ran.
    ///
    /// # Errors
    /// As [`PodHandle::attach`].
    pub(crate) fn receive_attached(&self, socket: OwnedFd) -> Result<Session, Error> {
        let dir = &self.dir;
        let (terminal, fds) = match receive_reply(dir, &socket)? {
            Some((Reply::Attached { terminal }, fds)) => (terminal, fds),
            Some((Reply::Refused { message, exit_code }, _)) => {
                return Err(Error::Refused { message, exit_code });
            }
            // It has ended: there is nothing to share in, and nothing to complain of.
            Some((Reply::Ended(exit_code), _)) => {
                return Err(Error::Refused { message: String::new(), exit_code });
            }
            Some(_) | None => return Err(Error::Ended(dir.name.to_string())),
        };
        let mut fds = fds.into_iter();
        let stdout = fds.next();
        let stderr = if terminal { None } else { fds.next() };
        let process = Exec::new(dir, socket);
        let session = Session { stdin: fds.next(), stdout, stderr, terminal, process };
        session.set_flags(OFlag::O_NONBLOCK)?;
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
        let beside = self.send_and_receive(&Request::Dial { port, v6 }).map_err(|e| match e {
            Error::Refused { message, .. } => refused(message),
            e => e,
        })?;
        let inside = beside.into_iter().next().ok_or_else(|| Error::Ended(self.name().to_owned()))?;
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

    /// Returns what each running container uses now.
    ///
    /// # Errors
    /// [`Error::Ended`], [`Error::Unreachable`].
    pub fn usage(&self) -> Result<Vec<Usage>, Error> {
        let socket = dial(&self.dir)?;
        wire::send_request(&socket, &Request::Usage, &[]).map_err(unreachable_pod(&self.dir))?;
        match wire::receive_within::<Reply>(&socket, USAGE_PATIENCE).map_err(unreachable_pod(&self.dir))? {
            Some((Reply::Usage(usage), _)) => Ok(usage),
            _ => Err(Error::Ended(self.name().to_owned())),
        }
    }

    /// Adds an ephemeral container, whose image is present; what is attached to it misses nothing of its output.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Ended`], [`Error::Unreachable`].
    pub(crate) fn add_ephemeral(
        &self,
        container: EphemeralContainer,
        attach: bool,
    ) -> Result<Option<OwnedFd>, Error> {
        self.remap_image(container.image.as_deref().unwrap_or_default())?;
        let socket = dial(&self.dir)?;
        let request = Request::Debug { container: Box::new(container), attach };
        wire::send_request(&socket, &request, &[]).map_err(unreachable_pod(&self.dir))?;
        receive_started(&self.dir, &socket)?;
        Ok(attach.then_some(socket))
    }

    /// Makes an image that was fetched for the living pod fit for it, where the user has the own id in it.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::Image`].
    pub(super) fn remap_image(&self, image: &str) -> Result<(), Error> {
        match read_start_record(&self.dir)?.options.kept_ids {
            Some(ids) => Ok(Engine::over(&self.home).remap_image(image, ids)?),
            None => Ok(()),
        }
    }

    /// The container that is meant: the default one when none is named.
    pub(super) fn choose_container(&self, named: Option<&str>) -> Result<String, Error> {
        named.map_or_else(|| default_container(&self.dir).map(|(name, _)| name), |name| Ok(name.to_owned()))
    }

    /// Asks for a process, whose end comes over the same connection.
    pub(super) fn send_request(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Exec, Error> {
        let socket = dial(&self.dir)?;
        wire::send_request(&socket, request, fds).map_err(unreachable_pod(&self.dir))?;
        Ok(Exec::new(&self.dir, socket))
    }

    /// Asks for something that is done at once; gives what comes beside the answer.
    fn send_and_receive(&self, request: &Request) -> Result<Vec<OwnedFd>, Error> {
        let socket = dial(&self.dir)?;
        wire::send_request(&socket, request, &[]).map_err(unreachable_pod(&self.dir))?;
        receive_started(&self.dir, &socket)
    }
}

/// Hears that what was asked for runs or is done; gives what comes beside it.
pub(super) fn receive_started(dir: &PodDir, socket: &OwnedFd) -> Result<Vec<OwnedFd>, Error> {
    match wire::receive_answer::<Reply>(socket).map_err(unreachable_pod(dir))? {
        Some((Reply::Refused { message, exit_code }, _)) => Err(Error::Refused { message, exit_code }),
        Some((_, fds)) => Ok(fds),
        None => Err(Error::Ended(dir.name.to_string())),
    }
}

nix::ioctl_write_ptr_bad!(set_terminal_size, nix::libc::TIOCSWINSZ, nix::libc::winsize);

impl Session {
    /// Gives the terminal that many rows and columns; without one it does nothing.
    pub fn resize_terminal(&self, rows: u16, columns: u16) {
        if let Some(master) = self.stdout.as_ref().filter(|_| self.terminal) {
            resize_terminal(master.as_fd(), rows, columns);
        }
    }

    /// Makes reads and writes of the streams wait, as those of files do.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn set_blocking(&self) -> Result<(), Error> {
        self.set_flags(OFlag::empty())
    }

    fn set_flags(&self, flags: OFlag) -> Result<(), Error> {
        for fd in [&self.stdin, &self.stdout, &self.stderr].into_iter().flatten() {
            fcntl(fd, FcntlArg::F_SETFL(flags)).map_err(io("use a stream"))?;
        }
        Ok(())
    }
}

/// Gives a terminal that many rows and columns.
pub(crate) fn resize_terminal(master: BorrowedFd<'_>, ws_row: u16, ws_col: u16) {
    let size = nix::libc::winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads this one struct; a descriptor that is no terminal is an error without effect.
    // Its process may have ended, and then nobody looks at it any more.
    let _ = unsafe { set_terminal_size(master.as_raw_fd(), &size) };
}
