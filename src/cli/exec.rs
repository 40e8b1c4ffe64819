//! `podctl exec`: a command in a container. Its bytes flow between it and this terminal directly.

use std::{io::IsTerminal, os::fd::AsFd};

use super::{Error, io, pod_dir};
use crate::{
    state::{self, Home, Liveness},
    supervisor::control::{self, Reply, Request},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// `NAME` or `pod/NAME`.
    pod: String,
    /// In which container; the first one else.
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal.
    #[arg(short = 't', long)]
    tty: bool,
    /// The command.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &str) -> Result<i32, Error> {
    let dir = pod_dir(home, namespace, &args.pod)?;
    let pod = dir.read()?;
    if dir.liveness() != Liveness::Alive {
        return Err(Error::Said(format!("pod {:?} has ended; nothing can be run in it", dir.name)));
    }
    if args.tty && !(args.stdin && std::io::stdin().is_terminal()) {
        return Err(Error::Said("-t needs -i and a terminal; leave -t out to pass plain bytes".into()));
    }
    if args.tty {
        return Err(Error::Said("exec -t is not available yet; leave -t out".into()));
    }
    let first = || pod.spec.as_ref().and_then(|s| s.containers.first()).map(|c| c.name.clone());
    let container = args
        .container
        .clone()
        .or_else(first)
        .ok_or_else(|| state::Error::NotFound { namespace: dir.namespace.clone(), name: dir.name.clone() })?;
    let failed = || io(format!("cannot reach the supervisor of pod {:?}", dir.name));
    let socket = control::dial(&dir.control_socket()).map_err(failed())?;
    let null = std::fs::File::open("/dev/null").map_err(io("cannot open /dev/null"))?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let input = if args.stdin { stdin.as_fd() } else { null.as_fd() };
    let request = Request::Exec { container, command: args.command.clone(), terminal: false };
    control::send(&socket, &request, &[input, stdout.as_fd(), stderr.as_fd()]).map_err(failed())?;
    loop {
        match control::receive::<Reply>(&socket).map_err(failed())? {
            Some((Reply::Started, _)) => {}
            Some((Reply::Ended(code), _)) => return Ok(code),
            Some((Reply::Refused { message, exit_code }, _)) => {
                anstream::eprintln!("{}: {message}", super::red("error"));
                return Ok(exit_code);
            }
            // The pod ended, and the command with it.
            None => return Ok(137),
        }
    }
}
