//! Control groups: where containers' may be made, what limits they take, how they are counted, killed and removed. Version
//! 2 as delegated by systemd, or the controllers of version 1 whose directories may be written; what cannot be enforced is
//! returned as data, for the caller to tell.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use crate::cgroup_v2::{self, CONTROLLERS as V2_CONTROLLERS, is_writable};
use crate::device_filter::{self, DeviceFilter};
use crate::error::Error;

const ROOT: &str = "/sys/fs/cgroup";
/// Controllers that are used. `unified` is the version 2 tree of hybrid hosts: without controllers, but it can kill.
const V1_CONTROLLERS: [&str; 8] =
    ["memory", "cpu", "cpuacct", "pids", "freezer", "unified", "devices", "hugetlb"];

/// The place where cgroups of containers can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupParent {
    /// The directory of the unified tree.
    V2(PathBuf),
    /// The directory for each controller.
    V1(Vec<(&'static str, PathBuf)>),
}

/// The cgroup of a container. Dropping it leaves it in place.
#[derive(Debug)]
pub struct Cgroup {
    place: CgroupParent,
    directory: Option<OwnedFd>,
}

/// Holds what a cgroup uses now; a number is missing where its controller is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupStats {
    /// Memory in bytes, page cache included.
    pub memory: Option<u64>,
    /// CPU time in microseconds, since the cgroup was made.
    pub cpu: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl CgroupParent {
    /// The controllers that can be had here: `cpu`, `memory`, `pids`, `hugetlb`.
    pub fn controllers(&self) -> Vec<&'static str> {
        let known = |name: &&'static str| match self {
            CgroupParent::V2(dir) => {
                let all = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
                all.split_whitespace().any(|controller| controller == *name)
            }
            CgroupParent::V1(places) => places.iter().any(|(controller, _)| controller == name),
        };
        V2_CONTROLLERS.into_iter().filter(known).collect()
    }
}

impl Cgroup {
    /// Tells where this process may make cgroups, or why it may not. With version 2 the caller may be moved
    /// into a cgroup `supervisor` beside its future children, since inner cgroups hold no processes.
    pub fn detect_parent() -> Result<CgroupParent, String> {
        let own = fs::read_to_string("/proc/self/cgroup")
            .map_err(|error| format!("no /proc/self/cgroup: {error}"))?;
        let root = Path::new(ROOT);
        if root.join("cgroup.controllers").exists() {
            let place = cgroup_v2::find_place(root, &own_directory())?;
            return cgroup_v2::take_place(place).map(CgroupParent::V2);
        }
        let place = |controller: &'static str| {
            let base = root.join(controller);
            let path = own.lines().find_map(|line| {
                let (names, path) = line.split_once(':')?.1.split_once(':')?;
                let named = names.split(',').any(|name| name == controller);
                (named || controller == "unified" && names.is_empty()).then_some(path)
            });
            let dir = base.join(path?.trim_start_matches('/'));
            [dir, base].into_iter().find(|dir| is_writable(dir)).map(|dir| (controller, dir))
        };
        let mut places: Vec<_> = V1_CONTROLLERS.into_iter().filter_map(place).collect();
        // Of two that can keep devices away, the one that costs no directory in another tree.
        if places.iter().any(|(name, _)| *name == "unified") && device_filter::is_possible() {
            places.retain(|(name, _)| *name != "devices");
        }
        if places.iter().any(|(controller, _)| *controller != "unified") {
            return Ok(CgroupParent::V1(places));
        }
        Err(format!("no cgroup below {ROOT} can be written by this user"))
    }

    /// Hands a controller of version 2 that systemd leaves at the root down to the caller's own cgroup, where this
    /// process may.
    pub fn hand_down(controller: &str) {
        let root = Path::new(ROOT);
        if root.join("cgroup.controllers").exists() {
            cgroup_v2::hand_down(root, &own_directory(), controller);
        }
    }

    /// The controllers that [`Cgroup::detect_parent`] would find, or why none; nothing is changed.
    pub fn available() -> Result<Vec<&'static str>, String> {
        let root = Path::new(ROOT);
        if !root.join("cgroup.controllers").exists() {
            return Cgroup::detect_parent().map(|parent| parent.controllers());
        }
        cgroup_v2::try_place(&cgroup_v2::find_place(root, &own_directory())?)
    }

    /// Moves the processes of the caller's own cgroup of version 2 into a leaf, where it could be divided but for them:
    /// that of a container's root, or one that was delegated. To be called by who sees them all, before there is a
    /// sandbox.
    pub fn make_room() {
        let root = Path::new(ROOT);
        if root.join("cgroup.controllers").exists() {
            cgroup_v2::make_room(root, &own_directory());
        }
    }

    /// Makes the cgroup `name` (one path component), or takes it when it exists.
    pub fn create(parent: &CgroupParent, name: &str) -> Result<Cgroup, Error> {
        let make = |dir: &Path| {
            let path = dir.join(name);
            match fs::create_dir(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    Err(Error::file("make cgroup", path, error))
                }
                _ => Ok(path),
            }
        };
        let place = match parent {
            CgroupParent::V2(dir) => CgroupParent::V2(make(dir)?),
            CgroupParent::V1(places) => {
                let made = places.iter().map(|(name, dir)| Ok((*name, make(dir)?)));
                CgroupParent::V1(made.collect::<Result<_, Error>>()?)
            }
        };
        let born_in = match &place {
            CgroupParent::V2(path) => Some(path),
            CgroupParent::V1(places) => {
                places.iter().find(|(name, _)| *name == "unified").map(|(_, dir)| dir)
            }
        };
        let open = |path| File::open(path).map_err(|error| Error::file("open cgroup", path, error));
        let directory = born_in.map(open).transpose()?.map(OwnedFd::from);
        Ok(Cgroup { place, directory })
    }

    /// Lets cgroups be made in it. With version 2 its controllers are handed on, and it can hold no process itself.
    pub fn divide(&self) -> Result<CgroupParent, Error> {
        if let CgroupParent::V2(dir) = &self.place {
            let failed = |error| Error::file("write", dir.join("cgroup.subtree_control"), error);
            cgroup_v2::divide_cgroup(dir).map_err(failed)?;
        }
        Ok(self.place.clone())
    }

    /// Gives it to a user, who may then make cgroups in it, and moves a process of that user's into it.
    pub fn lend_to(&self, owner: u32, pid: Pid) -> Result<(), Error> {
        for dir in self.list_directories() {
            Cgroup::lend_directory(dir, owner)?;
            let path = dir.join("cgroup.procs");
            fs::write(&path, pid.to_string()).map_err(|error| Error::file("write", path, error))?;
        }
        Ok(())
    }

    /// Returns what a delegated cgroup's owner has to own; its limits stay those of the one who lends it.
    pub fn lend_directory(dir: &Path, owner: u32) -> Result<(), Error> {
        let files = ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"];
        let all = files.map(|name| dir.join(name)).into_iter().filter(|path| path.exists());
        for path in std::iter::once(dir.to_owned()).chain(all) {
            std::os::unix::fs::chown(&path, Some(owner), Some(owner))
                .map_err(|error| Error::file("give away", path, error))?;
        }
        Ok(())
    }

    /// The directories: one, or with version 1 one a controller.
    pub fn list_directories(&self) -> impl Iterator<Item = &Path> {
        let (one, many) = match &self.place {
            CgroupParent::V2(dir) => (Some(dir), &[][..]),
            CgroupParent::V1(places) => (None, places.as_slice()),
        };
        one.into_iter().chain(many.iter().map(|(_, dir)| dir)).map(PathBuf::as_path)
    }

    /// Makes want of memory end all of its processes together rather than one of them (version 2).
    pub fn kill_as_a_group(&self) -> Result<(), Error> {
        match &self.place {
            CgroupParent::V2(dir) if dir.join("memory.oom.group").exists() => {
                let path = dir.join("memory.oom.group");
                fs::write(&path, "1").map_err(|error| Error::file("write", path, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes a directory of a cgroup and all below it, once no process is in them.
    pub fn remove_tree(dir: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                Cgroup::remove_tree(&entry.path())?;
            }
        }
        match fs::remove_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes such a directory as soon as the processes that were killed in it are gone; one that stays for two
    /// seconds is left.
    pub fn remove_tree_patiently(dir: &Path) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let began = Instant::now();
        while Cgroup::remove_tree(dir).is_err() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sets limits. Returns the fields of the resources that this host cannot enforce.
    pub fn apply(&self, resources: &LinuxResources) -> Result<Vec<&'static str>, Error> {
        let (mut missing, mut settings_of_files) = (Vec::new(), Vec::new());
        let settings = match self.place {
            CgroupParent::V2(_) => settings_v2(resources),
            CgroupParent::V1(_) => settings_v1(resources),
        };
        for (field, controller, file, value) in settings {
            match self.file(controller, &file).filter(|path| path.exists()) {
                Some(path) => settings_of_files.push((path, value)),
                // Without swap, or without its accounting, there is no file and nothing to limit.
                None if field == "memory.swap" => {}
                None => missing.push(field),
            }
        }
        // Version 1 takes no limit of memory above that of memory and swap, and none of the latter below it: what is refused
        // is written once more when the others are there.
        settings_of_files.retain(|(path, value)| fs::write(path, value).is_err());
        for (path, value) in settings_of_files {
            fs::write(&path, value).map_err(|error| Error::file("write", path, error))?;
        }
        for (file, value) in resources.unified().iter().flatten() {
            if let CgroupParent::V2(dir) = &self.place {
                let path = dir.join(file);
                // As above: where swap is not accounted there is none to keep away.
                if file == "memory.swap.max" && !path.exists() {
                    continue;
                }
                fs::write(&path, value).map_err(|error| Error::file("write", path, error))?;
            }
        }
        Ok(missing)
    }

    /// Lets its processes open and make only the devices of the filter's list. Gives whether the kernel sees to that:
    /// it may not let this process filter.
    pub fn restrict_devices(&self, filter: &DeviceFilter) -> Result<bool, Error> {
        let Some(dir) = self.file("devices", "").filter(|_| matches!(self.place, CgroupParent::V1(_))) else {
            let attached = self.directory.as_ref().map(|cgroup| filter.attach(cgroup));
            return Ok(matches!(attached, Some(Ok(()))));
        };
        for rule in &filter.rules {
            let path = dir.join(if rule.allow() { "devices.allow" } else { "devices.deny" });
            match fs::write(&path, device_line(rule)) {
                // The cgroup above may not have it either.
                Err(error) if rule.allow() && error.kind() == std::io::ErrorKind::PermissionDenied => {}
                written => written.map_err(|error| Error::file("write", path, error))?,
            }
        }
        Ok(true)
    }

    /// Sends SIGKILL to every process in it: at once where the kernel can, else one by one, frozen if possible.
    pub fn kill(&self) -> Result<(), Error> {
        if let Some(path) = self.file("unified", "cgroup.kill").filter(|path| path.exists()) {
            return fs::write(&path, "1").map_err(|error| Error::file("write", path, error));
        }
        // Frozen, they cannot fork while they are being killed; version 1 delivers the signal when thawed.
        let freezer = self.file("freezer", "freezer.state");
        let state = |value| freezer.as_ref().map_or(Ok(()), |path| fs::write(path, value));
        // One that cannot be frozen is killed as it runs.
        let _ = state("FROZEN");
        for pid in self.read_pids()? {
            // Ended in the meantime: all the better.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // It has no process any more, or none that could be frozen.
        let _ = state("THAWED");
        Ok(())
    }

    /// Tells how many processes the kernel has killed in it for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let file =
            if matches!(self.place, CgroupParent::V2(_)) { "memory.events" } else { "memory.oom_control" };
        self.file("memory", file).and_then(|path| field(&path, "oom_kill")).unwrap_or(0)
    }

    /// Returns what it uses now.
    pub fn stats(&self) -> CgroupStats {
        let number = |controller, file| self.file(controller, file).and_then(|path| parse(&path));
        let pids = number("pids", "pids.current");
        match self.place {
            CgroupParent::V2(_) => CgroupStats {
                memory: number("memory", "memory.current"),
                cpu: self.file("cpu", "cpu.stat").and_then(|path| field(&path, "usage_usec")),
                pids,
            },
            CgroupParent::V1(_) => CgroupStats {
                memory: number("memory", "memory.usage_in_bytes"),
                cpu: number("cpuacct", "cpuacct.usage").map(|nanoseconds| nanoseconds / 1000),
                pids,
            },
        }
    }

    /// Removes it, with what a privileged container has made in it; its processes must have ended.
    pub fn remove(&self) -> Result<(), Error> {
        self.list_directories().try_for_each(|path| {
            Cgroup::remove_tree(path).map_err(|error| Error::file("remove cgroup", path, error))
        })
    }

    /// The directory a process is to be born in, of version 2 or of a hybrid host's unified tree.
    pub(crate) fn clone_into(&self) -> Option<&OwnedFd> {
        self.directory.as_ref()
    }

    /// Opens the leaf of it that its processes are in, when one of them has divided it: what is divided takes no process.
    pub(crate) fn open_leaf(&self) -> Option<OwnedFd> {
        let CgroupParent::V2(dir) = &self.place else { return None };
        File::open(cgroup_v2::find_leaf(dir)?).ok().map(OwnedFd::from)
    }

    /// The files a process writes itself into (version 1). `tasks`, since a single thread that moves itself is
    /// spared the kernel's wait for all others, some ten milliseconds a controller on a busy machine.
    pub(crate) fn open_procs(&self) -> Result<Vec<OwnedFd>, Error> {
        let CgroupParent::V1(places) = &self.place else { return Ok(Vec::new()) };
        let open = |(_, dir): &(&str, PathBuf)| {
            let path = dir.join("tasks");
            let file = OpenOptions::new().write(true).open(&path);
            file.map(OwnedFd::from).map_err(|error| Error::file("open", path, error))
        };
        places.iter().filter(|(name, _)| *name != "unified").map(open).collect()
    }

    fn read_pids(&self) -> Result<Vec<i32>, Error> {
        let Some(dir) = self.list_directories().next() else { return Ok(Vec::new()) };
        let path = dir.join("cgroup.procs");
        let text = fs::read_to_string(&path).map_err(|error| Error::file("read", path, error))?;
        // 0 is a process outside of this PID namespace: not ours to kill, and kill(0) would reach ourselves.
        Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
    }

    fn file(&self, controller: &str, name: &str) -> Option<PathBuf> {
        match &self.place {
            CgroupParent::V2(dir) => Some(dir.join(name)),
            CgroupParent::V1(places) => {
                places.iter().find(|(known, _)| *known == controller).map(|(_, dir)| dir.join(name))
            }
        }
    }
}

/// Returns a rule as `devices.allow` and `devices.deny` of version 1 take it.
fn device_line(rule: &LinuxDeviceCgroup) -> String {
    let number = |n: Option<i64>| n.filter(|n| *n >= 0).map_or("*".to_owned(), |n| n.to_string());
    let kind = match rule.typ() {
        Some(LinuxDeviceType::B) => "b",
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => "c",
        _ => return "a".to_owned(),
    };
    let access = rule.access().as_deref().unwrap_or("rwm");
    format!("{kind} {}:{} {access}", number(rule.major()), number(rule.minor()))
}

/// The directory of this process's own cgroup of version 2.
fn own_directory() -> PathBuf {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    Path::new(ROOT).join(path.trim_start_matches('/'))
}

fn parse(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Field of the resources, controller, file, value.
type Setting = (&'static str, &'static str, Cow<'static, str>, String);

fn limit(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn settings_v2(resources: &LinuxResources) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(memory) = resources.memory() {
        all.extend(memory.limit().map(|bytes| ("memory.limit", "memory", "memory.max".into(), limit(bytes))));
        all.extend(
            memory
                .reservation()
                .map(|bytes| ("memory.reservation", "memory", "memory.low".into(), limit(bytes))),
        );
        // The spec counts memory and swap together, the kernel swap alone.
        let swap = memory
            .swap()
            .map(|total| if total < 0 { -1 } else { (total - memory.limit().unwrap_or(0)).max(0) });
        all.extend(swap.map(|bytes| ("memory.swap", "memory", "memory.swap.max".into(), limit(bytes))));
    }
    if let Some(cpu) = resources.cpu() {
        // 2..=262144 shares onto weights 1..=10000, as every OCI runtime does.
        let weight = |shares: u64| 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
        all.extend(
            cpu.shares().map(|shares| ("cpu.shares", "cpu", "cpu.weight".into(), weight(shares).to_string())),
        );
        let period = cpu.period().unwrap_or(100_000);
        all.extend(
            cpu.quota()
                .map(|quota| ("cpu.quota", "cpu", "cpu.max".into(), format!("{} {period}", limit(quota)))),
        );
    }
    all.extend(resources.pids().map(|pids| ("pids.limit", "pids", "pids.max".into(), limit(pids.limit()))));
    all.extend(huge_pages(resources, "max"));
    all
}

fn settings_v1(resources: &LinuxResources) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(memory) = resources.memory() {
        let settings = [
            ("memory.limit", "memory.limit_in_bytes", memory.limit()),
            ("memory.reservation", "memory.soft_limit_in_bytes", memory.reservation()),
            ("memory.swap", "memory.memsw.limit_in_bytes", memory.swap()),
        ];
        all.extend(settings.into_iter().filter_map(|(field, file, value)| {
            value.map(|value| (field, "memory", file.into(), value.to_string()))
        }));
    }
    if let Some(cpu) = resources.cpu() {
        all.extend(cpu.shares().map(|shares| ("cpu.shares", "cpu", "cpu.shares".into(), shares.to_string())));
        all.extend(
            cpu.period().map(|period| ("cpu.period", "cpu", "cpu.cfs_period_us".into(), period.to_string())),
        );
        all.extend(
            cpu.quota().map(|quota| ("cpu.quota", "cpu", "cpu.cfs_quota_us".into(), quota.to_string())),
        );
    }
    all.extend(resources.pids().map(|pids| ("pids.limit", "pids", "pids.max".into(), limit(pids.limit()))));
    all.extend(huge_pages(resources, "limit_in_bytes"));
    all
}

/// The limits of huge pages, in the files of that ending.
fn huge_pages(resources: &LinuxResources, ending: &str) -> Vec<Setting> {
    let all = resources.hugepage_limits().iter().flatten();
    let file = |size: &str| format!("hugetlb.{size}.{ending}").into();
    all.map(|huge| ("hugetlb", "hugetlb", file(huge.page_size()), huge.limit().to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specs_resources_become_the_files_of_version_2() {
        let resources: LinuxResources = serde_json::from_value(serde_json::json!({
            "memory": { "limit": 1000, "swap": 1500 },
            "cpu": { "shares": 1024, "quota": 50_000 },
            "pids": { "limit": -1 },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 4096 }],
        }))
        .unwrap();
        let written: Vec<_> =
            settings_v2(&resources).into_iter().map(|(_, _, file, value)| (file, value)).collect();
        let expected = [
            ("memory.max", "1000"),
            ("memory.swap.max", "500"),
            ("cpu.weight", "39"),
            ("cpu.max", "50000 100000"),
            ("pids.max", "max"),
            ("hugetlb.2MB.max", "4096"),
        ];
        assert_eq!(written, expected.map(|(file, value)| (file.into(), value.to_owned())));
    }

    /// Does what the kernel would make is made by hand: this is about which files are written, and with what.
    #[test]
    fn a_directory_of_version_2_is_divided_limited_and_killed() {
        let dir = tempfile::tempdir().unwrap();
        let make = |dir: &Path, names: &[&str]| {
            names.iter().for_each(|name| fs::write(dir.join(name), "").unwrap());
            fs::write(dir.join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        };
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        make(dir.path(), &["cgroup.procs", "cgroup.subtree_control"]);
        let place = cgroup_v2::find_place(dir.path(), dir.path()).unwrap();
        let parent = CgroupParent::V2(cgroup_v2::take_place(place).unwrap());
        assert_eq!(read(dir.path().join("cgroup.subtree_control")), "+cpu +memory +pids");

        let pod = Cgroup::create(&parent, "pod").unwrap();
        let own = dir.path().join("pod");
        make(&own, &["memory.max", "memory.oom.group", "cpu.max", "cgroup.kill", "cgroup.subtree_control"]);
        let resources: LinuxResources = serde_json::from_value(serde_json::json!({
            "memory": {"limit": 1000, "swap": 1000}, "cpu": {"quota": 50_000, "period": 100_000}, "pids": {"limit": 7},
        }))
        .unwrap();
        // Swap has nothing to limit where it is not accounted; pids.max is not there and is told.
        assert_eq!(pod.apply(&resources).unwrap(), ["pids.limit"]);
        assert_eq!(
            (read(own.join("memory.max")), read(own.join("cpu.max"))),
            ("1000".into(), "50000 100000".into())
        );
        pod.kill_as_a_group().unwrap();
        pod.divide().unwrap();
        pod.kill().unwrap();
        assert_eq!(read(own.join("memory.oom.group")), "1");
        assert_eq!(read(own.join("cgroup.subtree_control")), "+cpu +memory +pids");
        assert_eq!(read(own.join("cgroup.kill")), "1");
    }
}
