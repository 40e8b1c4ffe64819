//! Volumes that could not be made: tried again, ever less often, before any container starts. As with a kubelet the pod is
//! pending meanwhile, and its events say why.

use std::time::Duration;

use super::{Supervisor, event_recorder::Happened};
use crate::lifecycle::{Event, Record};

/// First and longest wait between two tries, a kubelet's.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(122));

/// Holds what is left to be done before the sandbox is ready.
pub(super) struct Mounting {
    /// Holds what the lifecycle is told then.
    ready: Event,
    /// The time when it is tried again, on the supervisor's clock.
    next: Duration,
    wait: Duration,
}

impl Mounting {
    pub(super) fn new(ready: Event) -> Mounting {
        Mounting { ready, next: Duration::ZERO, wait: WAITS.0 }
    }
}

impl Supervisor {
    /// Tells when volumes are to be tried again.
    pub(super) fn next_mount(&self) -> Option<Duration> {
        self.mounting.as_ref().map(|mounting| mounting.next)
    }

    /// Tries again what could not be made, when it is time.
    pub(super) fn mount_again(&mut self) {
        let now = self.began.elapsed_since();
        let Some(mounting) = self.mounting.as_mut().filter(|mounting| mounting.next <= now) else { return };
        mounting.next = now + mounting.wait;
        mounting.wait = (mounting.wait * 2).min(WAITS.1);
        self.sandbox.make_volumes(&self.pod);
        for (volume, failure) in &self.sandbox.volumes.failed {
            self.records.events.write(Happened::now(Record {
                warning: true,
                reason: "FailedMount",
                message: format!("MountVolume.SetUp failed for volume {volume:?} : {}", failure.cause()),
                container: None,
            }));
            self.client.has_news = true;
        }
        if self.sandbox.volumes.failed.is_empty()
            && let Some(mounting) = self.mounting.take()
        {
            self.pending.push_back(mounting.ready);
        }
    }
}
