//! Watches what a pod takes of the disk: its emptyDirs with a sizeLimit (R-VOL-1) and the limits of
//! ephemeral-storage, of a container and of all together. A pod without such a limit pays nothing; of one
//! with, a child process counts, so that nothing waits for it.

use std::{
    collections::HashSet,
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::stat::{Mode, SFlag, fstat},
};

use super::{
    Supervisor,
    execs::{Exec, Purpose, in_child, result_pipe},
};
use crate::{
    pod::quantity::{quantity_bytes, quantity_text},
    sandbox::{self, Sandbox},
};

/// Least time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Looking may take one part in so many of the time.
const SHARE: u32 = 50;

/// The number of bytes, and what is said of one who takes more.
#[derive(Clone, Debug)]
struct Limit {
    bytes: u64,
    message: String,
}

/// The limits of one pod and where its files lie.
#[derive(Clone, Debug, Default)]
struct Limits {
    /// emptyDirs on disk, all of them.
    volumes: Vec<(PathBuf, Option<Limit>)>,
    containers: Vec<(String, Option<Limit>)>,
    total: Option<Limit>,
    /// Writable layers, `NAME.ATTEMPT` each.
    layers: PathBuf,
    /// The directory of each container.
    logs: PathBuf,
}

/// The limits of one pod, and when to look next.
pub(super) struct Quotas {
    limits: Limits,
    /// None while somebody looks, and when there is nothing to look for.
    next: Option<Duration>,
    began: Duration,
}

impl Quotas {
    pub(super) fn new(pod: &Pod, sandbox: &Sandbox, logs: PathBuf) -> Quotas {
        let limits = Limits::of(pod, sandbox, logs);
        let some = limits.total.is_some()
            || limits.volumes.iter().any(|(_, limit)| limit.is_some())
            || limits.containers.iter().any(|(_, limit)| limit.is_some());
        Quotas { limits, next: some.then_some(PERIOD), began: Duration::ZERO }
    }

    /// Tells when to look next; never when there is no limit.
    pub(super) fn next(&self) -> Option<Duration> {
        self.next
    }

    /// A look is over; a limit that is broken is said once.
    pub(super) fn note_look(&mut self, now: Duration, broken: bool) {
        let took = now.saturating_sub(self.began);
        self.next = (!broken).then_some(now + PERIOD.max(took * SHARE));
    }
}

impl Supervisor {
    /// Looks, when it is time.
    pub(super) fn look_at_quotas(&mut self) {
        let now = self.began.elapsed_since();
        if self.quotas.next.is_none_or(|next| now < next) {
            return;
        }
        self.quotas.began = now;
        let limits = &self.quotas.limits;
        let started = result_pipe().and_then(|(ours, theirs)| {
            let process = in_child(&theirs, &[], || limits.broken().map_or(Ok(None), Err))?;
            Ok(Exec {
                process,
                purpose: Purpose::Look,
                deadline: None,
                timed_out: false,
                output: Some(ours),
                handler: false,
            })
        });
        match started {
            Ok(exec) => {
                self.quotas.next = None;
                self.execs.insert(exec.process.pid.as_raw(), exec);
            }
            // For want of processes or descriptors; later there may be some.
            Err(_) => self.quotas.note_look(now, false),
        }
    }
}

impl Limits {
    fn of(pod: &Pod, sandbox: &Sandbox, logs: PathBuf) -> Limits {
        let spec = pod.spec.clone().unwrap_or_default();
        let volumes = spec.volumes.iter().flatten().filter_map(|v| {
            let empty = v.empty_dir.as_ref().filter(|e| e.medium.as_deref().is_none_or(str::is_empty))?;
            let message =
                |text: &str| format!("Usage of EmptyDir volume {:?} exceeds the limit {text:?}.", v.name);
            Some((sandbox.volumes.paths.get(&v.name)?.clone(), limit(empty.size_limit.as_ref(), message)))
        });
        let all = || spec.init_containers.iter().flatten().chain(&spec.containers);
        let containers = all().map(|c| {
            let message = |text: &str| {
                format!("Container {} exceeded its local ephemeral storage limit {text:?}.", c.name)
            };
            (c.name.clone(), limit(asked(c), message))
        });
        let total = crate::pod::resources::storage_limit(&spec).map(|bytes| Limit {
            bytes,
            message: format!(
                "Pod ephemeral local storage usage exceeds the total limit of containers {}.",
                quantity_text(bytes)
            ),
        });
        Limits {
            volumes: volumes.collect(),
            containers: containers.collect(),
            total,
            layers: sandbox.layers.clone(),
            logs,
        }
    }

    /// The message of the first limit that is broken, in the order in which the kubelet looks.
    fn broken(&self) -> Option<String> {
        let mut used = 0;
        for (path, limit) in &self.volumes {
            if limit.is_none() && self.total.is_none() {
                continue;
            }
            let most = limit.as_ref().map_or(u64::MAX, |l| l.bytes);
            let taken = usage(path, most);
            if taken > most {
                return limit.as_ref().map(|l| l.message.clone());
            }
            used += taken;
        }
        let layers: Vec<_> = fs::read_dir(&self.layers).into_iter().flatten().flatten().collect();
        let mut broken = None;
        for (name, limit) in &self.containers {
            if limit.is_none() && self.total.is_none() {
                continue;
            }
            let own = layers.iter().filter(|layer| {
                let layer = layer.file_name();
                layer.to_str().and_then(|l| l.rsplit_once('.')).is_some_and(|(of, _)| of == name)
            });
            let written: u64 = own.map(|layer| usage(&layer.path(), u64::MAX)).sum();
            let taken = written + usage(&self.logs.join(name), u64::MAX);
            if broken.is_none() {
                broken = limit.as_ref().filter(|l| taken > l.bytes);
            }
            used += taken;
        }
        self.total.as_ref().filter(|l| used > l.bytes).or(broken).map(|l| l.message.clone())
    }
}

fn asked(container: &Container) -> Option<&Quantity> {
    container.resources.as_ref()?.limits.as_ref()?.get("ephemeral-storage")
}

fn limit(quantity: Option<&Quantity>, message: impl FnOnce(&str) -> String) -> Option<Limit> {
    let text = &quantity?.0;
    let bytes = quantity_bytes(text).ok().filter(|bytes| *bytes > 0)?;
    Some(Limit { bytes, message: message(text) })
}

/// Returns what the files take of the disk; no more is counted than is enough to be too much. A file with several
/// names counts once.
fn usage(path: &Path, most: u64) -> u64 {
    let Ok(root) = open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()) else {
        return 0;
    };
    let (mut used, mut seen) = (0u64, HashSet::new());
    let mut count = |_: &OwnedFd, stat: &nix::sys::stat::FileStat| {
        let directory = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        if directory || stat.st_nlink <= 1 || seen.insert(stat.st_ino) {
            used = used.saturating_add(stat.st_blocks as u64 * 512);
        }
        if used > most { Err(Errno::EDQUOT) } else { Ok(()) }
    };
    if let Ok(stat) = fstat(&root) {
        // Too much is an answer, too: what was counted until then counts.
        let _ = count(&root, &stat);
    }
    // What changes under the walk is counted at the next look.
    let _ = sandbox::walk(&root, &mut count);
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_vol_1_usage_counts_a_file_with_two_names_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![1; 64 << 10]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let used = usage(dir.path(), u64::MAX);
        assert!((64 << 10..100 << 10).contains(&used), "{used}");
        assert!(usage(dir.path(), 32 << 10) > 32 << 10);
    }

    #[test]
    fn r_res_1_layers_logs_and_empty_dirs_count_as_ephemeral_storage() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str, size: usize| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![1; size]).unwrap();
        };
        make("layers/a.3/upper/f", 200 << 10);
        make("logs/a/3.log", 200 << 10);
        make("layers/ab.0/upper/f", 900 << 10);
        make("v/f", 500 << 10);
        let own = |bytes: u64, word: &str| Some(Limit { bytes: bytes << 10, message: word.into() });
        let limits = |volume, container, total| {
            let limits = Limits {
                volumes: vec![(dir.path().join("v"), volume)],
                containers: vec![("a".into(), container), ("ab".into(), None)],
                total,
                layers: dir.path().join("layers"),
                logs: dir.path().join("logs"),
            };
            limits.broken()
        };
        assert_eq!(limits(own(800, "v"), own(600, "a"), own(2000, "total")), None);
        assert_eq!(limits(None, own(300, "a"), None).as_deref(), Some("a"));
        assert_eq!(limits(None, own(300, "a"), own(1500, "total")).as_deref(), Some("total"));
        assert_eq!(limits(own(100, "v"), own(300, "a"), own(1500, "total")).as_deref(), Some("v"));
    }
}
