//! The client that started the pod, as long as it stays.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, send},
};

use super::{Supervisor, poll::Source};
use crate::{lifecycle::Event, process::trim_heap};

/// Whoever started the pod, and what is to be told there.
pub(super) struct StartingClient {
    /// Its socket, while it stays.
    pub socket: Option<OwnedFd>,
    /// The pod is deleted when it has gone.
    pub ends_pod: bool,
    /// Something has happened that it can see.
    pub has_news: bool,
}

impl Supervisor {
    /// Means that it is told of changes from now on, and its end is noticed.
    pub(super) fn keep_client(&mut self, client: OwnedFd) {
        // Unwatched it would only be noticed later.
        let _ = self.poll.add(&client, Source::Client);
        self.client.socket = Some(client);
    }

    /// Whoever started the pod has seen what it waited for: what only the start needed is given back. A pod that is to end
    /// with that program ends.
    pub(super) fn client_gone(&mut self) {
        if let Some(client) = self.client.socket.take() {
            self.poll.forget(&client);
            trim_heap();
            if self.client.ends_pod {
                let grace_period = Some(Duration::ZERO);
                self.delete_requested = true;
                self.mark_deleted(grace_period);
                self.pending.push_back(Event::Delete { grace_period });
            }
        }
    }

    /// A message says that there is something new to see; one that is still unread says it as well.
    pub(super) fn tell_client(&mut self) {
        if !std::mem::take(&mut self.client.has_news) {
            return;
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let told = self.client.socket.as_ref().map(|client| send(client.as_raw_fd(), b"n", flags));
        match told {
            Some(Ok(_) | Err(Errno::EAGAIN)) => {}
            // The kernel has no memory for a message; the client waits for one.
            Some(Err(Errno::ENOMEM | Errno::ENOBUFS | Errno::EINTR)) => self.client.has_news = true,
            // What ends with the client is told of its end by poll, in its turn.
            _ if self.client.ends_pod => {}
            _ => self.client_gone(),
        }
    }
}
