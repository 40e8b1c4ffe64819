//! What pods and the machine use, as rates between two looks.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use super::{Error, PodHandle, objects::memory_kib};
use crate::wire::Usage;

/// Holds what one container uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUsage {
    /// The name.
    pub container: String,
    /// Billionths of a CPU.
    pub nano_cpus: u64,
    /// Bytes of memory, without what the kernel could drop.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// Watches what the containers of some pods use for that long; a pod's answer, or why it gave none, for each in order.
pub(crate) fn measure_pods(pods: &[PodHandle], during: Duration) -> Vec<Result<Vec<ContainerUsage>, Error>> {
    let first: Vec<_> = pods.iter().map(|pod| (Instant::now(), pod.usage())).collect();
    if first.iter().any(|(_, before)| before.is_ok()) {
        thread::sleep(during);
    }
    let measured = pods.iter().zip(first).map(|(pod, (began, before))| {
        let before = before?;
        let after = pod.usage()?;
        Ok(after.into_iter().map(|now| compare_usage(&before, now, began.elapsed())).collect())
    });
    measured.collect()
}

fn compare_usage(before: &[Usage], now: Usage, passed: Duration) -> ContainerUsage {
    // One that has started in between began at zero.
    let then = before.iter().find(|b| b.container == now.container).map_or(0, |b| b.cpu);
    let micros = u128::from(now.cpu.saturating_sub(then));
    let nano_cpus = micros * 1_000_000_000 / passed.as_micros().max(1);
    ContainerUsage {
        container: now.container,
        nano_cpus: u64::try_from(nano_cpus).unwrap_or(u64::MAX),
        memory: now.memory,
        pids: now.pids,
    }
}

/// Watches what the machine uses for that long: billionths of a CPU, and bytes of memory.
pub(crate) fn measure_node(during: Duration) -> (u64, u64) {
    let (began, before) = (Instant::now(), read_busy_ticks());
    thread::sleep(during);
    let ticks = read_busy_ticks().saturating_sub(before);
    // A tick is a hundredth of a second, in whatever the kernel counts itself.
    let nanos = u128::from(ticks) * 10_000_000 * 1_000_000_000 / began.elapsed().as_nanos().max(1);
    let memory = memory_kib("MemTotal").saturating_sub(memory_kib("MemAvailable")) << 10;
    (u64::try_from(nanos).unwrap_or(u64::MAX), memory)
}

/// User, nice and system time of all processors.
fn read_busy_ticks() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut numbers = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    (0..3).filter_map(|_| numbers.next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_time_that_has_passed() {
        let usage = |container: &str, cpu| Usage { container: container.into(), cpu, memory: 5, pids: 1 };
        let half = compare_usage(&[usage("a", 1000)], usage("a", 251_000), Duration::from_millis(500));
        assert_eq!((half.nano_cpus, half.memory), (500_000_000, 5));
        let new = compare_usage(&[usage("a", 1000)], usage("b", 100_000), Duration::from_secs(1));
        assert_eq!(new.nano_cpus, 100_000_000);
    }
}
