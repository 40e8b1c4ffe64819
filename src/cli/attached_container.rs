//! This terminal, and the first process of a container that runs or is still to start.

use std::{io::IsTerminal, os::fd::OwnedFd};

use super::{
    Error,
    terminal_session::{End, Session, detach_keys},
};
use crate::engine::{self, PodHandle};

/// Names what is typed to leave a container without ending it.
pub(super) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// Tells how to attach.
pub(super) struct Wanted<'a> {
    pub stdin: bool,
    pub tty: bool,
    pub quiet: bool,
    /// Gives it as `--detach-keys` has them.
    pub keys: &'a str,
}

/// Attaches to a container that runs or is still to start, until it ends or is left.
pub(super) fn attach_to(pod: &PodHandle, container: &str, wanted: &Wanted<'_>) -> Result<End, Error> {
    share_streams(pod.attach(Some(container), wanted.stdin), container, wanted)
}

/// Does as [`attach_to`], when attaching has been asked for over this connection.
pub(super) fn attach_over(
    pod: &PodHandle,
    container: &str,
    wanted: &Wanted<'_>,
    socket: OwnedFd,
) -> Result<End, Error> {
    share_streams(pod.receive_attached(socket), container, wanted)
}

fn share_streams(
    opened: Result<engine::Session, engine::Error>,
    container: &str,
    wanted: &Wanted<'_>,
) -> Result<End, Error> {
    let keys = detach_keys(wanted.keys).map_err(|e| Error::bad_value(format!("--detach-keys: {e}")))?;
    let opened = match opened {
        Ok(opened) => opened,
        Err(engine::Error::Refused { message, exit_code }) if message.is_empty() => {
            return Ok(End::Exited(exit_code));
        }
        Err(engine::Error::Refused { message, exit_code }) => return Ok(End::Refused(message, exit_code)),
        Err(engine::Error::Ended(_)) => return Ok(End::Lost),
        Err(e) => return Err(e.into()),
    };
    let engine::Session { stdin: input, stdout, stderr, terminal, process } = opened;
    let say = |words: String| {
        if !wanted.quiet {
            eprintln!("{words}");
        }
    };
    if wanted.tty && !terminal {
        say(format!("error: Unable to use a TTY - container {container} did not allocate one"));
    }
    if wanted.stdin && input.is_none() {
        say(format!(
            "warning: container {container} has no standard input to pass on (its stdin is not true)"
        ));
    }
    let raw = terminal && wanted.tty && input.is_some() && std::io::stdin().is_terminal();
    if raw {
        say("If you don't see a command prompt, try pressing enter.".to_owned());
    }
    let keys: &[u8] = if raw { &keys } else { &[] };
    Session { process: &process, input, outputs: [stdout, stderr], raw, detach_keys: keys }.run()
}
