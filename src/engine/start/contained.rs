//! `hostUsers: false` of root's pods: a user namespace of the pod's own, whose ids no other living pod has, and
//! the machine's files in it by id-mapped mounts. From there on it is as with an ordinary user's pods.
//!
//! The client, root of the machine, makes namespace and mounts; the supervisor, root of the pod only, puts
//! the mounts where the files are named (`supervisor/mapped_mounts.rs`).

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use podctl_runtime::{Cgroup, DeviceFilter, IdMapping, IdMappings, Process, idmapped, user_namespace};

use super::error::{Error, step};
use crate::{
    pod::PodExt,
    process::descriptors,
    sandbox::{Objects, host_path, pod_devices},
    state::{self, Home},
    wire::MappedMounts,
};

/// Ids of one pod, as a kubelet's.
const SIZE: u32 = 65_536;
/// The place where no range is set aside for this: the upper half of the ids, which nobody hands out by himself.
const UPPER_HALF: (u32, u32) = (1 << 31, (1 << 31) - SIZE);
/// Names whose ranges in /etc/subuid and /etc/subgid are for this; the kubelet's first.
const OWNERS: [&str; 3] = ["kubelet", "containers", "root"];
/// Locks on ranges, of every pod of the machine's root, whatever its home.
const RANGES: &str = "/run/podctl/ids";

/// Holds what the client has made for a pod.
pub(super) struct Contained {
    pub user_namespace: OwnedFd,
    /// The machine's id that is 0 in it.
    base: u32,
    /// The range's lock, then the mounts in the order of `mounts`.
    held: Vec<OwnedFd>,
    pub mounts: MappedMounts,
}

/// Makes it, when the pod asks for it.
///
/// # Errors
/// [`Error`] naming the step, or the volume that cannot be mapped.
pub(super) fn prepare(home: &Home, pod: &Pod, objects: &Objects) -> Result<Option<Contained>, Error> {
    let spec = pod.spec.as_ref();
    if !nix::unistd::geteuid().is_root() || spec.and_then(|s| s.host_users) != Some(false) {
        return Ok(None);
    }
    remove_lent_cgroups(Duration::ZERO);
    let (base, lock) = free_range()?;
    let ids = vec![IdMapping { container_id: 0, host_id: base, size: SIZE }];
    let user_namespace = user_namespace(&IdMappings { uids: ids.clone(), gids: ids })?;
    let namespace = user_namespace.as_fd();
    let mut held = vec![lock];
    let refused = |message: String| Error::Sandbox { pod: pod.name().to_owned(), message };
    // Not what is kept there for others: their Secrets, their volumes.
    let own = ["images", "records", "pods", "logs", "seccomp"].map(|part| home.data.join(part));
    own.iter().try_for_each(fs::create_dir_all).map_err(step("make podctl's directories"))?;
    let claims = objects.claims.values().map(|volume| volume.path.clone());
    let places: Vec<_> = own.into_iter().chain(claims).chain([home.runtime.clone()]).collect();
    for dir in &places {
        held.push(idmapped(dir, namespace, false).map_err(|e| {
            refused(format!(
                "hostUsers is false: {e}; the file system has to support id-mapped mounts, as ext4, xfs and btrfs do, and tmpfs from Linux 6.3 on"
            ))
        })?);
    }
    let (mut host_paths, mut failed) = (Vec::new(), BTreeMap::new());
    for volume in pod.volumes() {
        let Some(source) = &volume.host_path else { continue };
        let wrong = |message: String| refused(format!("volume {:?}: {message}", volume.name));
        let path = match host_path(source) {
            Ok(path) => path,
            Err(message) => {
                // The pod waits for it, as any pod does; only root of the machine could mount it later.
                let message =
                    format!("{message}; with hostUsers: false the pod has to be started again then");
                failed.insert(volume.name.clone(), message);
                continue;
            }
        };
        let tree = idmapped(&path, namespace, true).map_err(|e| {
            wrong(format!(
                "{e}; with hostUsers: false every file system of a hostPath has to support id-mapped mounts"
            ))
        })?;
        held.push(tree);
        host_paths.push(volume.name.clone());
    }
    Ok(Some(Contained { user_namespace, base, held, mounts: MappedMounts { places, host_paths, failed } }))
}

impl Contained {
    /// Returns what the supervisor is to be given, and under which numbers.
    pub(super) fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, RawFd)> {
        self.held.iter().map(AsFd::as_fd).zip(descriptors::supervisor::CONTAINED..)
    }

    /// Gives the supervisor a cgroup to divide: systemd's scope, if it is in one, else a new one. Where there is
    /// none to be had, the supervisor says what is not enforced.
    pub(super) fn lend_cgroup(&self, pod: &Pod, uid: &str, supervisor: &Process) {
        // The pod's own root may not set it. It is the second wall: what is mounted there is nodev.
        let devices = DeviceFilter::new(&pod_devices(pod));
        let own = fs::read_to_string(format!("/proc/{}/cgroup", supervisor.pid)).unwrap_or_default();
        let scope = own.lines().find_map(|line| line.strip_prefix("0::/")).filter(|path| path.contains(uid));
        if let Some(scope) = scope {
            let scope = Path::new("/sys/fs/cgroup").join(scope);
            // The pod's ids own no device; the list is the second wall.
            let _ = File::open(&scope).map(|scope| devices.attach(&scope.into()));
            let _ = Cgroup::lend_directory(&scope, self.base);
            return;
        }
        let made = Cgroup::detect_parent().and_then(|place| {
            Cgroup::create(&place, &format!("podctl-lent-{uid}")).map_err(|e| e.to_string())
        });
        let Ok(cgroup) = made else { return };
        // The supervisor cannot take it away, being in it: whoever comes next does.
        let paths: Vec<_> = cgroup.list_directories().map(|path| path.display().to_string()).collect();
        let record = Path::new(RANGES).join(self.base.to_string());
        if let Ok(mut record) = File::options().append(true).open(record) {
            // Unnoted, they stay behind empty.
            let _ = writeln!(record, "{}", paths.join("\n"));
        }
        // The pod's ids own no device, so the list is the second wall; without the loan containers have no limits, which their own cgroups tell.
        let _ = cgroup.restrict_devices(&devices);
        let _ = cgroup.lend_to(self.base, supervisor.pid);
    }
}

/// Takes away the cgroups of pods that have ended. One that is ending may be waited for so long.
pub(in crate::engine) fn remove_lent_cgroups(patience: Duration) {
    let began = Instant::now();
    let wait = || {
        std::thread::sleep(Duration::from_millis(2));
        began.elapsed() < patience
    };
    for path in fs::read_dir(RANGES).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let lent = || fs::read_to_string(&path).unwrap_or_default();
        let Ok(mut file) = File::options().append(true).open(&path) else { continue };
        let mut free = false;
        while !lent().is_empty() {
            free = file.try_lock().is_ok();
            if free || is_divided(&lent()) || !wait() {
                break;
            }
        }
        if !free {
            continue;
        }
        // The lock is free a moment before the supervisor has left its cgroup.
        let text = lent();
        let mut left: Vec<&str> = text.lines().collect();
        loop {
            left.retain(|path| Cgroup::remove_tree(Path::new(path)).is_err());
            if left.is_empty() || !wait() {
                break;
            }
        }
        let left: String = left.iter().map(|path| format!("{path}\n")).collect();
        // What is noted twice is removed once.
        let _ = file.set_len(0).and_then(|()| file.write_all(left.as_bytes()));
    }
}

/// Tells whether the pod that was lent these cgroups lives in them: at its end it takes its own away first.
fn is_divided(lent: &str) -> bool {
    let inner = lent.lines().next().and_then(|path| fs::read_dir(path).ok());
    inner.into_iter().flatten().flatten().any(|e| e.file_name().to_string_lossy().starts_with("podctl-"))
}

/// Returns a range of ids that no living pod has, and the lock that says so.
fn free_range() -> Result<(u32, OwnedFd), Error> {
    fs::create_dir_all(RANGES).map_err(state::Error::io("make directory", RANGES))?;
    let set_aside = OWNERS.iter().find_map(|owner| set_aside(owner));
    let (first, size) = set_aside.unwrap_or(UPPER_HALF);
    for base in (0..size / SIZE).map(|at| first + at * SIZE) {
        let path = Path::new(RANGES).join(base.to_string());
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(state::Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => return Ok((base, file.into())),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(state::Error::io("lock", path)(e).into()),
        }
    }
    Err(step("find free user ids for hostUsers: false")(io::Error::other(format!(
        "all {size} ids from {first} on are in use"
    ))))
}

/// The owner's range, when it is the same for users and groups and large enough for a pod.
fn set_aside(owner: &str) -> Option<(u32, u32)> {
    let of = |path: &str| {
        let text = fs::read_to_string(path).ok()?;
        text.lines().find_map(|line| {
            let mut parts = line.trim().split(':');
            let named = parts.next() == Some(owner);
            let range: (u32, u32) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            (named && range.1 >= SIZE).then_some(range)
        })
    };
    let (users, groups) = (of("/etc/subuid")?, of("/etc/subgid")?);
    (users.0 == groups.0).then_some((users.0, users.1.min(groups.1)))
}
