//! The pod's clock. It counts the time in which the machine sleeps, as a kubelet's deadlines do: a pod that may be active for
//! an hour has had its hour when the lid is opened after two.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The moment from which time is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Duration);

impl Clock {
    /// Counts from now on.
    pub(super) fn start() -> Clock {
        Clock(since_boot())
    }

    /// The time since the start.
    pub(super) fn elapsed_since(self) -> Duration {
        since_boot().saturating_sub(self.0)
    }
}

fn since_boot() -> Duration {
    // Every kernel with the namespaces that a pod needs has it.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
