//! `run -it` and `run --attach`: this terminal is one container's.

use super::{Args, notes::Notes};
use std::{os::fd::AsFd, time::Duration};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::SignalFd,
    },
};

use crate::{
    cli::{Error, attached_container, terminal_session::End},
    engine::{PodHandle, readiness::find_hopeless, start::Started},
    pod::PodExt,
    state::Home,
};

/// This terminal is the container's until it ends, and the pod then ends with it.
pub(super) fn attached(args: &Args, home: &Home, mut pod: Started, signals: &SignalFd) -> Result<i32, Error> {
    let container = pod.dir.read()?.default_container().unwrap_or_default().to_owned();
    let Some(socket) = pod.first.take() else { return Ok(1) };
    let mut notes = Notes::default();
    loop {
        if let Ok(now) = pod.dir.read() {
            notes.show(&pod.dir, false);
            notes.show_end(&now, &pod.dir);
            if let Some(failure) = find_hopeless(&now, &pod.dir) {
                PodHandle::of(home, &pod.dir).delete(Some(Duration::ZERO))?;
                return Err(failure.into());
            }
        }
        let mut fds =
            [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        // Interrupted or not, what there is to do is looked at now.
        let _ = poll(&mut fds, PollTimeout::from(200u16));
        let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|r| !r.is_empty());
        if ready(&fds[1]) {
            let signal = signals.read_signal().ok().flatten();
            PodHandle::of(home, &pod.dir).delete(None)?;
            // As a shell says of who was ended by that signal.
            return Ok(128 + signal.map_or(Signal::SIGINT as i32, |s| s.ssi_signo as i32));
        }
        if ready(&fds[0]) {
            break;
        }
    }
    // From here on a Ctrl-C is the attached container's, or ends this command.
    let _ = SigSet::all().thread_unblock();
    let wanted = attached_container::Wanted {
        stdin: args.stdin,
        tty: args.tty,
        quiet: args.of_image.quiet,
        keys: &args.detach_keys,
    };
    let ended =
        match attached_container::attach_over(&PodHandle::of(home, &pod.dir), &container, &wanted, socket)? {
            End::Lost => Some(pod.dir.read().map_or(137, |ended| ended.exit_code())),
            ended => ended.code(),
        };
    let Some(code) = ended else {
        eprintln!("Session ended, resume using 'podctl attach {} -c {container} -i -t'", pod.dir.name);
        return Ok(0);
    };
    // kubectl's `run` leaves the pod, unless it is told otherwise.
    if args.of_image.image.is_some() && !args.of_image.rm {
        return Ok(code);
    }
    PodHandle::of(home, &pod.dir).delete(None)?;
    if args.of_image.rm && !args.of_image.quiet {
        println!("pod \"{}\" deleted from {} namespace", pod.dir.name, pod.dir.namespace);
    }
    Ok(code)
}
