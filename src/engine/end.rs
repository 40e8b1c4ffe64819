//! The end of a pod, asked for and waited for.

use std::{
    io::ErrorKind,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{setsockopt, sockopt::ReceiveTimeout},
    time::{TimeVal, TimeValLike},
};

use super::{Error, exec::unreachable_pod, io, sweep};
use crate::{
    pod::Uid,
    state::{Home, Liveness, PodDir},
    wire::{self, Reply, Request},
};

/// How long a pod that is being started may take until it can be asked for something.
const STARTING: Duration = Duration::from_secs(30);

/// A pod that was asked to end.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Open as long as the pod lives; none when it had ended already.
    socket: Option<OwnedFd>,
    /// Another pod of its name may be there when it has ended.
    uid: Option<Uid>,
}

/// Connects to a living pod's supervisor, and waits for one that is being started; none when the pod has ended.
pub(crate) fn reach(dir: &PodDir) -> Result<Option<OwnedFd>, Error> {
    let deadline = Instant::now() + STARTING;
    loop {
        let failure = match wire::dial(&dir.control_socket()) {
            Ok(socket) => return Ok(Some(socket)),
            Err(e) => e,
        };
        if dir.liveness() != Liveness::Alive {
            return Ok(None);
        }
        let is_starting = matches!(failure.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
        if !is_starting || Instant::now() >= deadline {
            return Err(unreachable_pod(dir)(failure));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks a living supervisor for the end; a pod that has none is forgotten at once.
pub(crate) fn request(home: &Home, dir: &PodDir, grace_period: Option<Duration>) -> Result<Ending, Error> {
    let uid = dir.uid();
    let socket = reach(dir)?;
    match &socket {
        Some(socket) => {
            wire::send(socket, &Request::Delete { grace_period }, &[]).map_err(unreachable_pod(dir))?;
        }
        None => sweep::forget(home, dir, uid.as_ref())?,
    }
    Ok(Ending { socket, uid })
}

/// Waits until nothing is left of it; whether that came in time.
pub(crate) fn gone(
    home: &Home,
    dir: &PodDir,
    ending: Ending,
    deadline: Option<Instant>,
) -> Result<bool, Error> {
    if let Some(socket) = ending.socket {
        if let Some(deadline) = deadline {
            // Zero would be without end.
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let left = TimeVal::microseconds(left.as_micros() as i64);
            setsockopt(&socket, ReceiveTimeout, &left).map_err(io("wait for the pod's end"))?;
        }
        // Nothing comes: the connection ends with the supervisor.
        while let Ok(Some(_)) = wire::receive::<Reply>(&socket) {}
        if deadline.is_some_and(|d| d <= Instant::now()) && dir.liveness() == Liveness::Alive {
            return Ok(false);
        }
    }
    // The supervisor has forgotten the pod itself, unless it was killed.
    sweep::forget(home, dir, ending.uid.as_ref())?;
    sweep::tidy();
    Ok(true)
}

/// Asks for the end and does not wait; a pod that is gone already needs no asking.
pub(crate) fn ask(dir: &PodDir, grace_period: Option<Duration>) {
    tell(dir, &Request::Delete { grace_period });
}

/// The same; the pod's record stays.
pub(crate) fn ask_to_stop(dir: &PodDir, grace_period: Option<Duration>) {
    tell(dir, &Request::Stop { grace_period });
}

fn tell(dir: &PodDir, request: &Request) {
    if let Ok(socket) = wire::dial(&dir.control_socket()) {
        let _ = wire::send(&socket, request, &[]);
    }
}
