//! The client that started the pod, as long as it stays, and how often containers' output is looked at.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, send},
};

use super::{Supervisor, poll::Source, trim};

/// Output that comes so soon after the last is a stream …
const STREAM: Duration = Duration::from_micros(200);
/// … and is left to gather for so long; a pipe of 256 KiB does not fill much faster.
const GATHER: Duration = Duration::from_micros(400);

impl Supervisor {
    /// It is told of changes from now on, and its end is noticed.
    pub(super) fn keep_client(&mut self, client: OwnedFd) {
        // Unwatched it would only be noticed later.
        let _ = self.poll.add(&client, Source::Client);
        self.client = Some(client);
    }

    /// Whoever started the pod has seen what it waited for: what only the start needed is given back.
    pub(super) fn client_gone(&mut self) {
        if let Some(client) = self.client.take() {
            self.poll.forget(&client);
            trim::trim();
        }
    }

    /// One message says that there is something new to see; one that is still unread says it as well.
    pub(super) fn tell_client(&mut self) {
        if !std::mem::take(&mut self.news) {
            return;
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let told = self.client.as_ref().map(|client| send(client.as_raw_fd(), b"n", flags));
        if !matches!(told, Some(Ok(_) | Err(Errno::EAGAIN))) {
            self.client_gone();
        }
    }

    /// Output that comes in a stream of small pieces is left to gather: a turn a piece would cost more than the piece.
    pub(super) fn pace(&mut self) {
        if self.last_output.elapsed() < STREAM {
            std::thread::sleep(GATHER);
        }
        self.last_output = Instant::now();
    }
}
