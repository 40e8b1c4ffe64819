//! `podctl attach`: this terminal becomes that of a container's first process.

use std::{io::IsTerminal, os::fd::OwnedFd};

use super::{
    Error, Namespace,
    exec::{Target, dial, nonblocking, reach, unreachable_pod},
    session::{End, Session, detach_keys},
    target_pod::find_target_pod,
};
use crate::{
    engine,
    state::{Home, PodDir},
    wire::{self, Reply, Request},
};

/// Names what is typed to leave a container without ending it.
pub(super) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    of: Target,
    /// Keys that leave the container running.
    #[arg(long, default_value = DETACH_KEYS)]
    detach_keys: String,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let Target { stdin, tty, quiet, .. } = args.of;
    let dir = find_target_pod(home, namespace, &args.of.pod)?;
    let (container, _) = reach(&dir, args.of.container.as_deref(), quiet)?;
    let wanted = Wanted { stdin, tty, quiet, keys: &args.detach_keys };
    let ended = attach(&dir, &container, &wanted)?.code();
    if ended.is_none() && !quiet {
        eprintln!("Session ended, resume using 'podctl attach {} -c {container} -i -t'", dir.name);
    }
    Ok(ended.unwrap_or(0))
}

/// Tells how to attach.
pub(super) struct Wanted<'a> {
    pub stdin: bool,
    pub tty: bool,
    pub quiet: bool,
    /// Written as `--detach-keys` has them.
    pub keys: &'a str,
}

/// Attaches to a container that runs or is still to start, until it ends or is left.
pub(super) fn attach(dir: &PodDir, container: &str, wanted: &Wanted<'_>) -> Result<End, Error> {
    let socket = dial(dir)?;
    let request = Request::Attach { container: container.to_owned(), input: wanted.stdin };
    wire::send_request(&socket, &request, &[]).map_err(unreachable_pod(dir))?;
    attached(dir, container, wanted, &socket)
}

/// The same, when attaching has been asked for over this connection.
pub(super) fn attached(
    dir: &PodDir,
    container: &str,
    wanted: &Wanted<'_>,
    socket: &OwnedFd,
) -> Result<End, Error> {
    let keys = detach_keys(wanted.keys).map_err(|e| Error::Said(format!("--detach-keys: {e}")))?;
    let (terminal, fds) = match engine::receive_reply(dir, socket)? {
        Some((Reply::Attached { terminal }, fds)) => (terminal, fds),
        Some((Reply::Refused { message, exit_code }, _)) => return Ok(End::Refused(message, exit_code)),
        Some((Reply::Ended(code), _)) => return Ok(End::Exited(code)),
        Some(_) | None => return Ok(End::Lost),
    };
    let say = |words: String| {
        if !wanted.quiet {
            eprintln!("{words}");
        }
    };
    if wanted.tty && !terminal {
        say(format!("error: Unable to use a TTY - container {container} did not allocate one"));
    }
    let mut fds = fds.into_iter();
    let mut next = || fds.next();
    let stdout = next();
    let stderr = if terminal { None } else { next() };
    let input: Option<OwnedFd> = next();
    if wanted.stdin && input.is_none() {
        say(format!(
            "warning: container {container} has no standard input to pass on (its stdin is not true)"
        ));
    }
    for fd in [&stdout, &stderr, &input].into_iter().flatten() {
        nonblocking(fd)?;
    }
    let raw = terminal && wanted.tty && input.is_some() && std::io::stdin().is_terminal();
    if raw {
        say("If you don't see a command prompt, try pressing enter.".to_owned());
    }
    let keys: &[u8] = if raw { &keys } else { &[] };
    Session { dir, socket, input, outputs: [stdout, stderr], raw, detach_keys: keys }.run()
}
