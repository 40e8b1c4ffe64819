//! `podctl exec`: a command in a container. Its bytes flow between it and this process directly.

use std::{
    fs::File,
    io::IsTerminal,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::pipe2,
};

use super::{
    Error, Namespace, io,
    session::{Session, refused},
    target_pod::find_target_pod,
    terminal,
};
use crate::{
    engine,
    state::{Home, PodDir},
    wire::{self, Reply, Request},
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl exec web -- date
  podctl exec -it web -c app -- sh
  podctl exec -i web -- tar xf - <files.tar")]
pub(super) struct Args {
    #[command(flatten)]
    of: Target,
    /// Words before `--`.
    #[arg(hide = true)]
    undivided: Vec<String>,
    /// The command.
    #[arg(last = true)]
    command: Vec<String>,
}

/// A container, and what of this terminal goes there.
#[derive(clap::Args)]
pub(super) struct Target {
    /// `NAME` or `pod/NAME`.
    pub pod: String,
    /// Which container; the one of the annotation kubectl.kubernetes.io/default-container or the first else.
    #[arg(short, long)]
    pub container: Option<String>,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// With a terminal.
    #[arg(short = 't', long)]
    pub tty: bool,
    /// Only the container's own output.
    #[arg(short, long)]
    pub quiet: bool,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if !args.undivided.is_empty() {
        return Err(Error::Said(
            "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead".into(),
        ));
    }
    if args.command.is_empty() {
        return Err(Error::Said("you must specify at least one command for the container".into()));
    }
    let Target { stdin, tty, quiet, .. } = args.of;
    let dir = find_target_pod(home, namespace, &args.of.pod)?;
    let (container, socket) = reach(&dir, args.of.container.as_deref(), quiet)?;
    let terminal = tty && std::io::stdin().is_terminal();
    if tty && !terminal && !quiet {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    let size = terminal.then(terminal::size).flatten();
    let command = args.command.clone();
    let request = Request::Exec { container, command, terminal, size };
    let code = match terminal {
        true => with_terminal(&dir, &socket, &request, stdin),
        false => with_streams(&dir, &socket, &request, stdin),
    }?;
    if code != 0 && !quiet {
        eprintln!("command terminated with exit code {code}");
    }
    Ok(code)
}

/// The container that is meant, and a connection to its pod's supervisor.
pub(super) fn reach(dir: &PodDir, container: Option<&str>, quiet: bool) -> Result<(String, OwnedFd), Error> {
    let container = match container {
        Some(name) => name.to_owned(),
        None => default_container(dir, quiet)?,
    };
    Ok((container, dial(dir)?))
}

/// A connection to the pod's supervisor.
pub(super) fn dial(dir: &PodDir) -> Result<OwnedFd, Error> {
    Ok(engine::dial(dir)?)
}

pub(super) fn unreachable_pod(dir: &PodDir) -> impl FnOnce(std::io::Error) -> Error {
    let failed = engine::unreachable_pod(dir);
    move |source| failed(source).into()
}

pub(super) fn default_container(dir: &PodDir, quiet: bool) -> Result<String, Error> {
    let (name, out_of) = engine::default_container(dir)?;
    if out_of.len() > 1 && !quiet {
        eprintln!("Defaulted container {name:?} out of: {}", out_of.join(", "));
    }
    Ok(name)
}

fn with_terminal(dir: &PodDir, socket: &OwnedFd, request: &Request, pass_input: bool) -> Result<i32, Error> {
    wire::send_request(socket, request, &[]).map_err(unreachable_pod(dir))?;
    let mut fds = match wire::receive_answer::<Reply>(socket).map_err(unreachable_pod(dir))? {
        Some((Reply::Refused { message, exit_code }, _)) => return Ok(refused(&message, exit_code)),
        Some((_, fds)) => fds,
        None => return Ok(lose_pod()),
    };
    let master = fds.pop().ok_or_else(|| Error::Said("the terminal did not come".into()))?;
    nonblocking(&master)?;
    let input = pass_input.then(|| master.try_clone()).transpose().map_err(io("cannot use the terminal"))?;
    // Without -i our keys stay ours: Ctrl-C ends this command, and the other with it.
    let session =
        Session { dir, socket, input, outputs: [Some(master), None], raw: pass_input, detach_keys: &[] };
    Ok(session.run()?.code().unwrap_or(0))
}

/// Says that the pod ended before the command could answer for itself; gives the exit code that says so.
fn lose_pod() -> i32 {
    refused("the pod ended, and the process with it", 137)
}

/// A stream that is a terminal does not go into the container, which could read from it and set it
/// up: a pipe goes instead. Everything else is passed as it is.
fn with_streams(dir: &PodDir, socket: &OwnedFd, request: &Request, pass_input: bool) -> Result<i32, Error> {
    let null = File::open("/dev/null").map_err(io("cannot open /dev/null"))?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut session =
        Session { dir, socket, input: None, outputs: [None, None], raw: false, detach_keys: &[] };
    let mut theirs: [Option<OwnedFd>; 3] = [None, None, None];
    if pass_input && stdin.is_terminal() {
        let (read, write) = pipe()?;
        nonblocking(&write)?;
        (theirs[0], session.input) = (Some(read), Some(write));
    }
    for (at, terminal) in [(0, stdout.is_terminal()), (1, stderr.is_terminal())] {
        if terminal {
            let (read, write) = pipe()?;
            nonblocking(&read)?;
            (theirs[at + 1], session.outputs[at]) = (Some(write), Some(read));
        }
    }
    let input = if pass_input { stdin.as_fd() } else { null.as_fd() };
    let ours = [input, stdout.as_fd(), stderr.as_fd()];
    let fds: Vec<BorrowedFd<'_>> =
        theirs.iter().zip(ours).map(|(t, o)| t.as_ref().map_or(o, AsFd::as_fd)).collect();
    wire::send_request(socket, request, &fds).map_err(unreachable_pod(dir))?;
    drop(theirs);
    match wire::receive_answer::<Reply>(socket).map_err(unreachable_pod(dir))? {
        Some((Reply::Refused { message, exit_code }, _)) => Ok(refused(&message, exit_code)),
        Some((Reply::Ended(code), _)) => Ok(code),
        Some(_) => Ok(session.run()?.code().unwrap_or(0)),
        None => Ok(lose_pod()),
    }
}

pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe2(OFlag::O_CLOEXEC).map_err(|e| io("cannot make a pipe")(e.into()))
}

pub(super) fn nonblocking(fd: &OwnedFd) -> Result<(), Error> {
    let failed = |e: nix::errno::Errno| io("cannot set up a stream")(e.into());
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop).map_err(failed)
}
