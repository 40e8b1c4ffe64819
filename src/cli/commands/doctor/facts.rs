//! What doctor looks at, as it is on this machine.

use super::trial::{Trial, run_trial};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;
use podctl_runtime::{Cgroup, IdMappings, grant_command};

use crate::{
    cli::systemd_unit::lingers,
    engine::Engine,
    outer_container::OuterContainer,
    process::transient_scope,
    sandbox::host_support,
    state::{Damage, Home},
};

/// Everything that a verdict depends on.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Belongs to the kernel.
    pub release: String,
    pub seccomp: bool,
    pub user: String,
    /// Capabilities of Docker's default set that root's containers cannot be given.
    pub missing_capabilities: Vec<String>,
    /// Holds what only an ordinary user's pods need.
    pub rootless: Option<Rootless>,
    /// podctl's data directory.
    pub data: PathBuf,
    /// The reason why the data is not in its usual place.
    pub moved: Option<String>,
    /// The container around podctl.
    pub outer: Option<OuterContainer>,
    /// Holds what came of doing what a start does; the error says why there are no namespaces.
    pub trial: Result<Trial, String>,
    /// Holds what becomes of an ordinary user's pods between sessions, where systemd sees to them.
    pub sessions: Option<Sessions>,
    /// `/dev/net/tun`
    pub tun: bool,
    pub pasta: Option<PathBuf>,
    pub slirp4netns: bool,
    /// `net.ipv4.ip_unprivileged_port_start`
    pub first_port: Option<u64>,
    pub cgroups: Cgroups,
    /// `fs.inotify.max_user_instances`
    pub inotify: Option<u64>,
    /// Bytes that are free beneath `data`.
    pub space: Result<u64, String>,
    /// Holds what is wrong with podctl's own files.
    pub damage: Vec<Damage>,
    /// The number of registries are named.
    pub registries: Result<usize, String>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sessions {
    /// Tells whether the user's manager, and so pods, stays after the last logout, and starts at boot.
    pub linger: bool,
    /// logind's `KillUserProcesses`, where it says.
    pub kills: Option<bool>,
}

#[derive(Clone, Debug)]
pub(super) struct Rootless {
    /// `kernel.unprivileged_userns_clone`
    pub clone: Option<u64>,
    /// `user.max_user_namespaces`
    pub namespaces: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`
    pub apparmor: bool,
    /// Tells how many user ids there are, and the warning about them.
    pub ids: Result<(u32, Option<String>), String>,
    /// The command that gives the user ids which nobody has.
    pub grant: Option<String>,
    /// Each program that maps ids: where it is, and whether it may.
    pub mappers: Vec<(&'static str, Option<(PathBuf, bool)>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Cgroups {
    pub systemd: bool,
    pub unified: bool,
    /// The controllers that systemd delegates to the user, where it can be asked for a scope.
    pub delegated: Option<Vec<String>>,
    /// The controllers that can be had without it, or why none.
    pub available: Result<Vec<&'static str>, String>,
}

/// Looks at everything; tries what can only be tried.
pub(super) fn gather(home: &Home) -> Facts {
    let root = nix::unistd::geteuid().is_root();
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    let user = user.unwrap_or_else(|| nix::unistd::geteuid().to_string());
    Facts {
        release: text("/proc/sys/kernel/osrelease").unwrap_or_default(),
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        missing_capabilities: if root { host_support::missing_capabilities() } else { Vec::new() },
        rootless: (!root).then(|| rootless(&user)),
        user,
        data: home.data.clone(),
        moved: home.explain_place(),
        outer: OuterContainer::find_around(),
        // Settings say nothing as long as a profile lets this program through: it is tried.
        trial: run_trial(home, !root),
        sessions: (!root && transient_scope::has_systemd())
            .then(|| Sessions { linger: lingers(), kills: transient_scope::read_kill_user_processes() }),
        tun: Path::new("/dev/net/tun").exists(),
        pasta: find_program("pasta"),
        slirp4netns: find_program("slirp4netns").is_some(),
        first_port: number("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
        cgroups: cgroups(),
        inotify: number("/proc/sys/fs/inotify/max_user_instances"),
        space: statvfs(&home.data)
            .map(|found| found.blocks_available() * found.fragment_size())
            .map_err(|e| e.desc().to_owned()),
        damage: Engine::over(home).check_files(false).unwrap_or_default(),
        registries: podctl_images::count_configured().map_err(|e| e.to_string()),
    }
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &str) -> Option<u64> {
    text(path)?.parse().ok()
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/sbin".into()]);
    places.map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn rootless(user: &str) -> Rootless {
    let mappings = IdMappings::of_user();
    let mapper = |name| {
        let able = |path: &PathBuf| {
            let setuid =
                fs::metadata(path).is_ok_and(|m| m.uid() == 0 && m.permissions().mode() & 0o4000 != 0);
            setuid || has_capabilities(path)
        };
        (name, find_program(name).map(|path| (path.clone(), able(&path))))
    };
    Rootless {
        clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
        namespaces: number("/proc/sys/user/max_user_namespaces"),
        apparmor: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1),
        grant: grant_command(user),
        ids: mappings
            .map(|(mappings, warning)| (mappings.uids.iter().map(|m| m.size).sum(), warning))
            .map_err(|e| e.to_string()),
        mappers: ["newuidmap", "newgidmap"].map(mapper).into(),
    }
}

fn has_capabilities(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: both names end with NUL; without a buffer the kernel only says how long the value is.
    unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

fn cgroups() -> Cgroups {
    let systemd = transient_scope::has_systemd();
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let given = match nix::unistd::geteuid() {
        root if root.is_root() => "/sys/fs/cgroup/cgroup.controllers".to_owned(),
        user => {
            format!("/sys/fs/cgroup/user.slice/user-{user}.slice/user@{user}.service/cgroup.controllers")
        }
    };
    let delegated = (unified && transient_scope::has_manager())
        .then(|| text(&given).unwrap_or_default().split_whitespace().map(str::to_owned).collect());
    Cgroups { systemd, unified, delegated, available: Cgroup::available() }
}
