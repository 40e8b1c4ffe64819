//! Sharing a container's streams with clients, while its log goes on being written.
//!
//! Output is copied, since the log wants it as well; input goes from the client to the container
//! directly. An attachment may wait for a container that is still to start.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::{errno::Errno, fcntl::OFlag, unistd::pipe2};
use podctl_runtime::repeat_interrupted;

use super::{Live, Supervisor, create::nonblocking};
use crate::{logs::Stream, wire::Reply};

/// So far behind a client may be.
const BEHIND: i32 = 1 << 20;

/// The client's share in one container.
pub(super) struct Attachment {
    pub(super) connection: u64,
    container: String,
    input: bool,
    /// The place where its output goes, by stream; empty until the container runs.
    outputs: Vec<(Stream, OwnedFd)>,
}

impl Attachment {
    pub(super) fn new(connection: u64, container: String, input: bool) -> Attachment {
        Attachment { connection, container, input, outputs: Vec::new() }
    }
}

impl Supervisor {
    pub(super) fn attach(&mut self, id: u64, container: String, input: bool) -> Result<(), (String, i32)> {
        if self.container(&container).is_none() {
            return Err((self.why_not_running(&container), 1));
        }
        let over = self.pod.status.iter().any(|s| {
            let all = [&s.init_container_statuses, &s.container_statuses, &s.ephemeral_container_statuses];
            all.into_iter()
                .flatten()
                .flatten()
                .any(|c| c.name == container && c.state.as_ref().is_some_and(|s| s.terminated.is_some()))
        });
        if over && self.running(&container).is_none() {
            return Err((format!("cannot attach to container {container:?}: it has ended"), 1));
        }
        self.attachments.push(Attachment::new(id, container.clone(), input));
        self.attach_waiting(&container);
        Ok(())
    }

    /// The container runs: whoever waits for it gets its streams.
    pub(super) fn attach_waiting(&mut self, container: &str) {
        let Some(run) = self.live.keys().find(|run| run.container == container).cloned() else { return };
        let Some(live) = self.live.get_mut(&run) else { return };
        for attachment in
            self.attachments.iter_mut().filter(|a| a.container == container && a.outputs.is_empty())
        {
            let Some(socket) = self.connections.get(&attachment.connection) else { continue };
            let reply = match connect(attachment, live) {
                Ok((theirs, input)) => {
                    let mut fds: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
                    fds.extend(input.as_ref().map(AsFd::as_fd));
                    crate::wire::send(socket, &Reply::Attached { terminal: live.terminal }, &fds)
                }
                Err(e) => {
                    let message = format!("cannot attach: {}", e.desc());
                    crate::wire::send(socket, &Reply::Refused { message, exit_code: 1 }, &[])
                }
            };
            // A client that has left is forgotten when its connection is seen to close.
            let _ = reply;
        }
    }

    /// The container, or its start, is over for those attached to it.
    pub(super) fn attached_ended(&mut self, container: &str, reply: &Reply) {
        let gone = self.attachments.extract_if(.., |a| a.container == container).collect::<Vec<_>>();
        for Attachment { connection, outputs, .. } in gone {
            // Closed first: the client reads to their end when it hears the code.
            drop(outputs);
            self.answer(connection, reply, &[]);
        }
    }
}

/// Makes the pipes; gives the client's ends, and the input.
fn connect(attachment: &mut Attachment, live: &mut Live) -> nix::Result<(Vec<OwnedFd>, Option<OwnedFd>)> {
    let streams: &[Stream] =
        if live.terminal { &[Stream::Stdout] } else { &[Stream::Stdout, Stream::Stderr] };
    let mut theirs = Vec::new();
    for stream in streams {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        nonblocking(&read)?;
        nonblocking(&write)?;
        // What a user may not have is a pipe so large, not the pipe.
        let _ = nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETPIPE_SZ(BEHIND));
        theirs.push(read);
        attachment.outputs.push((*stream, write));
    }
    let clone = |fd: &OwnedFd| fd.try_clone().map_err(|_| Errno::EMFILE);
    let input = match (attachment.input, live.terminal) {
        (false, _) => None,
        (true, true) if live.input_wanted => live.streams.get(&Stream::Stdout).map(clone).transpose()?,
        (true, true) => None,
        (true, false) => match live.input_once {
            // stdinOnce: with the first client's input the container's own ends.
            true => live.input.take(),
            false => live.input.as_ref().map(clone).transpose()?,
        },
    };
    Ok((theirs, input))
}

/// Copies a container's output to those attached. Who is too far behind is let go.
pub(super) fn copy(
    attachments: &mut Vec<Attachment>,
    container: &str,
    stream: Stream,
    bytes: &[u8],
) -> Vec<u64> {
    let mut slow = Vec::new();
    for attachment in attachments.iter().filter(|a| a.container == container) {
        for (_, output) in attachment.outputs.iter().filter(|(of, _)| *of == stream) {
            let mut rest = bytes;
            while !rest.is_empty() {
                match repeat_interrupted(|| nix::unistd::write(output, rest)) {
                    Ok(n) => rest = &rest[n..],
                    Err(_) => {
                        slow.push(attachment.connection);
                        break;
                    }
                }
            }
        }
    }
    attachments.retain(|a| !slow.contains(&a.connection));
    slow
}
