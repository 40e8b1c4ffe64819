//! The puller's guard: a small process beside it that starts another when it is killed, by the kernel for want of memory
//! say. A supervisor could not, being in the pod's network.
//!
//! Both have the supervisor's socket; the guard only writes to it, that a puller was killed. What a puller has left half
//! fetched the guard takes away.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv},
};
use podctl_images::Store;
use podctl_runtime::ExitStatus;

use crate::{
    process::{
        Role,
        descriptors::{
            puller::{SCREEN, STORE, SUPERVISOR},
            take_descriptor,
        },
        detach_from_terminal, start_role,
    },
    wire::{self, PullAnswer, PullOutcome},
};

/// The guard's life, of a puller that shows its progress.
pub fn main() -> i32 {
    keep("pull-agent")
}

/// The same, of one that shows nothing.
pub fn quiet() -> i32 {
    keep("pull-quietly")
}

fn keep(name: &str) -> i32 {
    // SAFETY: this process was started by launch with these descriptors.
    let (socket, screen, store) =
        unsafe { (take_descriptor(SUPERVISOR), take_descriptor(SCREEN), take_descriptor(STORE)) };
    // It fails only for who leads a group already.
    let _ = nix::unistd::setsid();
    let fds = [(socket.as_fd(), SUPERVISOR), (screen.as_fd(), SCREEN)];
    loop {
        let Ok(puller) = start_role(&Role { fds: &fds, ..Role::named(name) }) else { return 1 };
        // Only the first one shows its progress: by then the client may be gone, and its terminal is not to be kept.
        detach_from_terminal();
        let ended = puller.wait();
        clear_scratch(&store);
        if let Ok(ExitStatus::Code(code)) = ended {
            return code;
        }
        let killed = PullAnswer { container: String::new(), outcome: PullOutcome::Killed };
        // The next one is started when there is something to do: a request, or the end, which takes no puller.
        let told = wire::send(&socket, &killed, &[]);
        let waited = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        if told.is_err() || waited.is_err() || recv(socket.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK) == Ok(0)
        {
            return 0;
        }
    }
}

/// Removes what a puller that has ended was unpacking. What is in the way, the next pull or list removes.
fn clear_scratch(store: &OwnedFd) {
    let path = fs::read_link(format!("/proc/self/fd/{}", store.as_raw_fd()));
    // What stays is swept with the next pull.
    let _ = path.map(|path| Store::open(&path).and_then(|store| store.sweep()));
}
