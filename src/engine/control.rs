//! How long a supervisor is waited for: as long as it answers. What it is asked for may take its time, such as a pod's end; one
//! that hangs is found by asking it something else.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use super::{Error, exec::unreachable_pod};
use crate::{
    state::{Liveness, PodDir},
    wire::{self, Reply, Request},
};

/// The time for which nothing may come from a supervisor until it is asked whether it answers.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);
/// The same while a session goes on or logs are followed, where silence is usual.
pub(crate) const LONG_SILENCE: Duration = Duration::from_secs(15);

/// The time for which the lock of a pod may be held when its supervisor has closed its connections.
const LETTING_GO: Duration = Duration::from_secs(5);

/// Remembers since when nothing has come of a pod.
#[derive(Debug)]
pub(crate) struct Quiet(Instant);

impl Quiet {
    /// Begins now.
    pub(crate) fn begin() -> Quiet {
        Quiet(Instant::now())
    }

    /// Tells whether it has lasted so long that the supervisor is to be asked whether it answers; it begins anew then.
    pub(crate) fn has_lasted(&mut self) -> bool {
        let has_lasted = self.0.elapsed() > LONG_SILENCE;
        if has_lasted {
            self.0 = Instant::now();
        }
        has_lasted
    }

    /// Asks the pod's supervisor whether it answers, when nothing has come for long.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub(crate) fn check(&mut self, dir: &PodDir) -> Result<(), Error> {
        if self.has_lasted() { check_supervisor(dir) } else { Ok(()) }
    }
}

/// Receives a message from the pod's supervisor, as long as that answers; `None` when it has closed.
///
/// # Errors
/// [`Error::Unreachable`].
pub(crate) fn receive_reply(dir: &PodDir, socket: &OwnedFd) -> Result<Option<(Reply, Vec<OwnedFd>)>, Error> {
    loop {
        match wire::receive_within(socket, SILENCE) {
            Err(e) if e.kind() == io::ErrorKind::TimedOut => check_supervisor(dir)?,
            received => return received.map_err(unreachable_pod(dir)),
        }
    }
}

/// Waits until the pod's supervisor has ended, which closes this connection to it, and nobody holds its lock any more.
///
/// # Errors
/// [`Error::Unreachable`].
pub(crate) fn wait_for_end(dir: &PodDir, socket: &OwnedFd) -> Result<(), Error> {
    let uid = dir.uid();
    // A connection that breaks is as good as one that ends.
    while let Some(_said) = receive_reply(dir, socket).or_else(|e| match &e {
        Error::Unreachable { source, .. } if source.kind() != io::ErrorKind::TimedOut => Ok(None),
        Error::Ended(_) => Ok(None),
        _ => Err(e),
    })? {}
    // Its connections are closed before the kernel has ended what it was in the midst of starting, which holds the lock as well.
    let deadline = Instant::now() + LETTING_GO;
    while uid.as_ref().is_some_and(|uid| dir.is_alive_as(uid)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Asks the pod's supervisor whether it answers. One that is at its end, or not there yet, does not hang.
///
/// # Errors
/// [`Error::Unreachable`].
pub(crate) fn check_supervisor(dir: &PodDir) -> Result<(), Error> {
    let asked = wire::dial(&dir.control_socket()).and_then(|socket| {
        wire::send_request(&socket, &Request::Ping, &[])?;
        wire::receive_answer::<Reply>(&socket)
    });
    match asked {
        Err(e) if e.kind() == io::ErrorKind::TimedOut && dir.read_liveness() == Liveness::Alive => {
            Err(unreachable_pod(dir)(e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pod::{Namespace, ObjectName},
        state::{Home, Placed},
    };

    #[test]
    fn the_end_of_a_pod_is_waited_for_until_its_lock_is_free() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::at(&scratch.path().join("run"), &scratch.path().join("data")).unwrap();
        std::fs::create_dir_all(home.records_path()).unwrap();
        let dir = home.pod(&Namespace::default(), &ObjectName::parse("p").unwrap());
        let new = dir.prepare("2e0e4a22-0000-4000-8000-000000000001").unwrap();
        let Placed::Here { lock, .. } = new.place(&dir).unwrap() else { panic!("nobody has it") };
        let (ours, theirs) = wire::make_connection().unwrap();
        // The supervisor's connections are closed, and something that it was starting has its lock for a while.
        drop(theirs);
        let began = Instant::now();
        let held = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(lock);
        });
        wait_for_end(&dir, &ours).unwrap();
        assert!(dir.read_liveness() == Liveness::Ended && began.elapsed() >= Duration::from_millis(100));
        held.join().unwrap();
    }
}
