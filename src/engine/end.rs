//! The end of a pod, asked for and waited for.

use std::{
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, poll};
use podctl_runtime::Process;

use super::{Error, control::wait_for_end, exec::unreachable_pod, io, sweep};
use crate::{
    pod::{PodExt, Uid},
    state::{Home, Liveness, PodDir},
    wire::{self, Reply, Request},
};

/// The time for which a pod that is being started may take until it can be asked for something.
const STARTING: Duration = Duration::from_secs(30);
/// The time after which a supervisor whose socket is not there is asked for it, and again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The time after which one that has been asked cannot make it where it is looked for.
const LOST: Duration = Duration::from_secs(5);
/// The time for which a supervisor may take to hear that its pod is to end at once, until it is killed.
const HEARING: Duration = Duration::from_secs(1);
/// The time for which one that has heard may take to end the pod and clear it away, until it is killed.
const ENDING: Duration = Duration::from_secs(10);
/// The number of milliseconds a killed supervisor may take to be gone, and its containers with it.
const DYING: u16 = 500;

/// The pod that was asked to end.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Open as long as the pod lives; none when it had ended already.
    socket: Option<OwnedFd>,
    /// Another pod of its name may be there when it has ended.
    uid: Option<Uid>,
    /// Ends it at once: a supervisor that does not end it is killed.
    is_forced: bool,
}

/// Connects to a living pod's supervisor, and waits for one that is being started; none when the pod has ended.
pub(crate) fn reach(dir: &PodDir) -> Result<Option<OwnedFd>, Error> {
    reach_within(dir, STARTING)
}

fn reach_within(dir: &PodDir, limit: Duration) -> Result<Option<OwnedFd>, Error> {
    let began = Instant::now();
    let deadline = began + limit;
    let mut asked = began;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let failure = match wire::dial_within(&dir.control_socket(), left) {
            Ok(socket) => return Ok(Some(socket)),
            Err(e) => e,
        };
        if dir.read_liveness() != Liveness::Alive {
            return Ok(None);
        }
        // There is none yet, or somebody has removed it.
        if failure.kind() == ErrorKind::TimedOut || Instant::now() >= deadline {
            return Err(unreachable_pod(dir)(failure));
        }
        if asked.elapsed() >= ASK_AGAIN {
            asked = Instant::now();
            let is_there = ask_for_socket(dir);
            if is_there && began.elapsed() >= LOST {
                let words = format!(
                    "there is no socket of it in {}; it was started with another XDG_RUNTIME_DIR or PODCTL_RUNTIME_DIR",
                    dir.runtime.display()
                );
                return Err(unreachable_pod(dir)(std::io::Error::new(failure.kind(), words)));
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks a living supervisor to look whether its socket is where it should be; whether there is one.
pub(super) fn ask_for_socket(dir: &PodDir) -> bool {
    let holders = dir.find_lock_holders();
    signal_all(&holders, libc::SIGCONT);
    !holders.is_empty()
}

/// Sends a signal to each of these supervisors.
fn signal_all(holders: &[Process], signal: i32) {
    for holder in holders {
        // One that has ended meanwhile needs none; one that cannot be signalled lives on, which is seen by who waits for its end.
        let _ = holder.signal(signal);
    }
}

/// Asks a living supervisor for the end; a pod that has none is forgotten at once. With a grace period of zero it is
/// killed when it does not hear, and the pod is forgotten too.
pub(crate) fn request(home: &Home, dir: &PodDir, grace_period: Option<Duration>) -> Result<Ending, Error> {
    let uid = dir.uid();
    let is_forced = grace_period == Some(Duration::ZERO);
    let socket = if is_forced {
        match ask_at_once(dir) {
            Ok(socket) => socket,
            Err(failure) => {
                kill_supervisor(dir, failure)?;
                None
            }
        }
    } else {
        match reach(dir) {
            Err(failure) => {
                end_by_signal(dir, grace_period, failure)?;
                None
            }
            Ok(None) => None,
            Ok(Some(socket)) => {
                let sent = wire::send_request(&socket, &Request::Delete { grace_period }, &[]);
                match sent.map_err(unreachable_pod(dir)) {
                    Ok(()) => Some(socket),
                    Err(Error::Ended(_)) => None,
                    Err(failure) => return Err(failure),
                }
            }
        }
    };
    if socket.is_none() {
        sweep::forget(home, dir, uid.as_ref())?;
    }
    Ok(Ending { socket, uid, is_forced })
}

/// Asks for the end at once, and waits until that is heard; none when the pod has ended.
fn ask_at_once(dir: &PodDir) -> Result<Option<OwnedFd>, Error> {
    let socket = match reach_within(dir, HEARING) {
        // Its start has not come to a supervisor yet, so that there is nobody to kill.
        Err(_) if dir.find_lock_holders().is_empty() => reach(dir)?,
        reached => reached?,
    };
    let Some(socket) = socket else { return Ok(None) };
    let request = Request::Delete { grace_period: Some(Duration::ZERO) };
    let heard = wire::send_request(&socket, &request, &[])
        .and_then(|()| wire::receive_within::<Reply>(&socket, HEARING));
    match heard {
        // It may have ended before it could say so.
        Err(e) if dir.read_liveness() == Liveness::Alive => Err(unreachable_pod(dir)(e)),
        _ => Ok(Some(socket)),
    }
}

/// Ends a pod whose supervisor lives and cannot be reached where its socket should be: by SIGTERM, which it takes as a request
/// to stop, and after the grace period by force.
///
/// # Errors
/// The failure to reach it, when it hangs or is not to be seen from here.
pub(crate) fn end_by_signal(
    dir: &PodDir,
    grace_period: Option<Duration>,
    failure: Error,
) -> Result<(), Error> {
    let holders = dir.find_lock_holders();
    let hangs = matches!(&failure, Error::Unreachable { source, .. } if source.kind() == ErrorKind::TimedOut);
    if holders.is_empty() || hangs {
        return Err(failure);
    }
    let own = || {
        dir.read().map_or(Duration::ZERO, |pod| Duration::from_secs(pod.grace_period_seconds().max(0) as u64))
    };
    let deadline = Instant::now() + grace_period.unwrap_or_else(own) + ENDING;
    signal_all(&holders, libc::SIGTERM);
    while dir.read_liveness() == Liveness::Alive {
        if Instant::now() >= deadline {
            return kill_supervisor(dir, failure);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Kills the supervisor that does not answer, and waits until nobody holds the pod's lock; its containers end with it.
fn kill_supervisor(dir: &PodDir, failure: Error) -> Result<(), Error> {
    let holders = dir.find_lock_holders();
    signal_all(&holders, libc::SIGKILL);
    for holder in &holders {
        let mut ended = [PollFd::new(holder.pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut ended, DYING).map_err(io("wait for the supervisor's end"))?;
    }
    // In the kernel, where no signal reaches it, or not to be seen from here.
    if dir.read_liveness() == Liveness::Alive { Err(failure) } else { Ok(()) }
}

/// Ends a pod whose record somebody has removed, so that another can have what goes by its name: it notices when it is asked,
/// and is killed when that takes long.
pub(super) fn end_unrecorded(dir: &PodDir) {
    let holders = dir.find_lock_holders();
    if dir.path.exists() {
        return; // Another has come meanwhile, and may be among them.
    }
    signal_all(&holders, libc::SIGCONT);
    let deadline = Instant::now() + LOST;
    for holder in &holders {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut ended = [PollFd::new(holder.pidfd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ended, u16::try_from(left.as_millis()).unwrap_or(u16::MAX)).is_ok_and(|ended| ended > 0)
        {
            continue;
        }
        // One that is in the kernel, where no signal reaches it, is left to itself.
        let _ = holder.signal(libc::SIGKILL).is_ok() && poll(&mut ended, DYING).is_ok();
    }
}

/// Waits until nothing is left of it; whether that came in time.
pub(crate) fn gone(
    home: &Home,
    dir: &PodDir,
    ending: Ending,
    deadline: Option<Instant>,
) -> Result<bool, Error> {
    if let Some(socket) = ending.socket {
        let killed_at = ending.is_forced.then(|| Instant::now() + ENDING);
        match deadline.into_iter().chain(killed_at).min() {
            None => wait_for_end(dir, &socket)?,
            Some(until) => {
                // Nothing comes but that it has heard: the connection ends with the supervisor.
                let left = || until.saturating_duration_since(Instant::now());
                while let Ok(Some(_)) = wire::receive_within::<Reply>(&socket, left()) {}
            }
        }
        let is_over = |limit: Option<Instant>| limit.is_some_and(|limit| limit <= Instant::now());
        if (is_over(deadline) || is_over(killed_at)) && dir.read_liveness() == Liveness::Alive {
            if !is_over(killed_at) {
                return Ok(false);
            }
            kill_supervisor(dir, Error::TimedOut(dir.name.to_string()))?;
        }
    }
    // The supervisor has forgotten the pod itself, unless it was killed.
    sweep::forget(home, dir, ending.uid.as_ref())?;
    sweep::tidy_homes();
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
        // What it hears from somebody who has left it may pass over.
        let _ =
            wire::send_request(&socket, request, &[]).and_then(|()| wire::receive_answer::<Reply>(&socket));
    }
}
