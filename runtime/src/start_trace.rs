//! What each step of a start takes: client, supervisor and containers on one axis, a line a step on standard error. Off
//! unless it was begun, and then no more than a comparison a step.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The axis's zero in nanoseconds of the monotonic clock; 0 is off.
static ZERO: AtomicU64 = AtomicU64::new(0);
/// The place where the lines go.
static OUT: AtomicI32 = AtomicI32::new(2);
/// The time when this process's last step ended.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds of the clock that all processes share.
pub fn now() -> u64 {
    // It cannot fail: the clock exists since there is Linux.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    now.as_nanos() as u64
}

/// Begins with that zero, which another process may have chosen. Standard error is kept as it is now.
pub fn begin(zero: u64) {
    if let Ok(kept) = std::io::stderr().as_fd().try_clone_to_owned() {
        OUT.store(kept.as_raw_fd(), Relaxed);
        std::mem::forget(kept);
    }
    LAST.store(now(), Relaxed);
    ZERO.store(zero.max(1), Relaxed);
}

/// The zero, if steps are traced.
pub fn trace_zero() -> Option<u64> {
    Some(ZERO.load(Relaxed)).filter(|zero| *zero > 0)
}

/// A step of `who` has just ended.
pub fn mark(who: &str, what: &str) {
    if trace_zero().is_some() {
        mark_at(who, what, now());
    }
}

/// A step of `who` ended then.
pub fn mark_at(who: &str, what: &str, at: u64) {
    let Some(zero) = trace_zero() else { return };
    let took = at.saturating_sub(LAST.swap(at, Relaxed)) / 1000;
    let line = format!("{:>9} µs {:>+8}  {who:<10}  {what}\n", at.saturating_sub(zero) / 1000, took as i64);
    // A trace that nobody reads is lost; the start goes on.
    let _ = crate::sys::write(OUT.load(Relaxed), line.as_bytes());
}
