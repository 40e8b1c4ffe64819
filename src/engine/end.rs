//! The end of a pod, asked for and waited for.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{setsockopt, sockopt::ReceiveTimeout},
    time::{TimeVal, TimeValLike},
};

use super::{Error, exec::unreachable_pod, io, sweep};
use crate::{
    state::{Home, Liveness, PodDir},
    wire::{self, Reply, Request},
};

/// Asks a living supervisor for the end; a pod that has none is forgotten at once.
pub(crate) fn request(
    home: &Home,
    dir: &PodDir,
    grace_period: Option<Duration>,
) -> Result<Option<OwnedFd>, Error> {
    if dir.liveness() != Liveness::Alive {
        sweep::remove(home, dir)?;
        return Ok(None);
    }
    let socket = match wire::dial(&dir.control_socket()) {
        Ok(socket) => socket,
        // It has just ended by itself.
        Err(_) if dir.liveness() != Liveness::Alive => {
            sweep::remove(home, dir)?;
            return Ok(None);
        }
        Err(e) => return Err(unreachable_pod(dir)(e)),
    };
    wire::send(&socket, &Request::Delete { grace_period }, &[]).map_err(unreachable_pod(dir))?;
    Ok(Some(socket))
}

/// Waits until nothing is left of it; whether that came in time.
pub(crate) fn gone(
    home: &Home,
    dir: &PodDir,
    socket: Option<OwnedFd>,
    deadline: Option<Instant>,
) -> Result<bool, Error> {
    if let Some(socket) = socket {
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
    if dir.liveness() == Liveness::Ended {
        sweep::remove(home, dir)?;
    }
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
