//! What a supervisor does when its files are removed beneath it: a session's end takes the runtime directory, and anybody may
//! remove what is theirs.

use nix::sys::stat::fstat;

use super::Supervisor;
use crate::{lifecycle::Event, pod::Uid};

impl Supervisor {
    /// Makes the control socket anew when it is not where commands look for it.
    pub(super) fn mend_socket(&mut self) {
        let path = self.dir.control_socket();
        if self.poll.is_socket_there(&path) || self.finished || self.has_lost_record() {
            return;
        }
        // Who asked hears that the pod cannot be reached, and asks again.
        let _ = self.dir.make_runtime().is_ok() && self.poll.listen_again(&path).is_ok();
    }

    /// Ends a pod whose record somebody has removed: nobody could see it any more, or end it.
    pub(super) fn notice_lost_record(&mut self) {
        if !self.delete_requested && self.has_lost_record() {
            self.delete_requested = true;
            self.mark_deleted(None);
            self.pending.push_back(Event::Delete { grace_period: None });
        }
    }

    /// Tells whether the record has been removed; another pod may have the name.
    pub(super) fn has_lost_record(&self) -> bool {
        // One descriptor is looked at as long as all is well.
        let is_others = || self.dir.uid().is_some_and(|uid| Uid::of_pod(&self.pod).ok() != Some(uid));
        fstat(&self.lock).is_ok_and(|lock| lock.st_nlink == 0) && (!self.dir.path.is_dir() || is_others())
    }
}
