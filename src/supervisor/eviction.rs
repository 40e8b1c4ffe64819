//! Watches the emptyDirs on disk that have a sizeLimit (R-VOL-1). Pods without one pay nothing.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::stat::Mode,
};

use crate::{manifest::quantity_bytes, sandbox};

/// Least time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// A look may take one part in so many of the time.
const SHARE: u32 = 50;

struct Limit {
    volume: String,
    path: PathBuf,
    bytes: u64,
    text: String,
}

/// The limits of one pod, and when to look next.
#[derive(Default)]
pub(super) struct Quotas {
    limits: Vec<Limit>,
    next: Duration,
}

impl Quotas {
    pub(super) fn new(pod: &Pod, paths: &BTreeMap<String, PathBuf>) -> Quotas {
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        let limits = volumes.filter_map(|v| {
            let empty = v.empty_dir.as_ref().filter(|e| e.medium.as_deref() != Some("Memory"))?;
            let text = empty.size_limit.as_ref()?.0.clone();
            let bytes = quantity_bytes(&text).ok().filter(|bytes| *bytes > 0)?;
            Some(Limit { volume: v.name.clone(), path: paths.get(&v.name)?.clone(), bytes, text })
        });
        Quotas { limits: limits.collect(), next: Duration::ZERO }
    }

    /// When to look next; never when there is no limit.
    pub(super) fn next(&self) -> Option<Duration> {
        (!self.limits.is_empty()).then_some(self.next)
    }

    /// Looks, when it is time. Gives the message of an eviction.
    pub(super) fn look(&mut self, now: Duration) -> Option<String> {
        if self.limits.is_empty() || now < self.next {
            return None;
        }
        let began = Instant::now();
        let broken = self.limits.iter().find(|limit| exceeds(limit));
        let message = broken
            .map(|l| format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}.", l.volume, l.text));
        self.next = now + PERIOD.max(began.elapsed() * SHARE);
        if message.is_some() {
            // Said once.
            self.limits.clear();
        }
        message
    }
}

/// Whether the files take more of the disk; a file with several names counts once.
fn exceeds(limit: &Limit) -> bool {
    let Ok(root) = open(&limit.path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) else { return false };
    let (mut used, mut seen) = (0u64, HashSet::new());
    let end = sandbox::walk(&root, &mut |_, stat| {
        if stat.st_nlink <= 1 || seen.insert(stat.st_ino) {
            used += stat.st_blocks as u64 * 512;
        }
        if used > limit.bytes { Err(Errno::EDQUOT) } else { Ok(()) }
    });
    end == Err(Errno::EDQUOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_vol_1_usage_counts_a_file_with_two_names_once() {
        let dir = tempfile::tempdir().unwrap();
        let limit =
            |bytes| Limit { volume: "v".into(), path: dir.path().to_owned(), bytes, text: bytes.to_string() };
        std::fs::write(dir.path().join("a"), vec![1; 64 << 10]).unwrap();
        std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert!(!exceeds(&limit(100 << 10)));
        assert!(exceeds(&limit(32 << 10)));
    }
}
