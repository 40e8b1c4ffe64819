//! A pod that this process has started, as its starter sees it.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};
use podctl_runtime::Process;

use super::contained;
use crate::{network::ports::HostPort, pod::Uid, state::PodDir};

/// The pod whose supervisor runs.
#[derive(Debug)]
pub struct Started {
    /// The place where its state lies.
    pub dir: PodDir,
    /// The pod's uid.
    pub uid: Uid,
    /// Holds what the user should know: what will not work here and why.
    pub warnings: Vec<String>,
    /// Ports of the host that were chosen for it or its Services.
    pub published: Vec<HostPort>,
    /// The connection of the request that was to be served before anything starts.
    pub first: Option<OwnedFd>,
    pub(super) supervisor: Process,
    /// Open as long as the puller may write to this process's terminal.
    pub(super) _screen: OwnedFd,
    /// The supervisor says here when there is something new to see.
    pub(super) client: OwnedFd,
}

impl Started {
    /// Readable when there may be something new about the pod, and when its supervisor has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }

    /// Takes what the supervisor has said so far; `false` when it has ended.
    pub fn lives(&self) -> bool {
        let mut word = [0; 16];
        loop {
            match recv(self.client.as_raw_fd(), &mut word, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET) => {
                    // Its lock is free only when it is gone altogether.
                    self.wait();
                    return false;
                }
                Err(Errno::EAGAIN) => return true,
                _ => {}
            }
        }
    }

    /// Waits until the supervisor has ended; its pod has then ended, too.
    pub fn wait(&self) {
        // Somebody else may have reaped it: it has ended all the same.
        let _ = self.supervisor.wait();
        contained::remove_lent_cgroups(Duration::ZERO);
    }
}
