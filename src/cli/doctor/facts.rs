//! What doctor looks at, as it is on this machine.

use std::{
    fs,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::CloneFlags,
    sys::statvfs::statvfs,
};
use podctl_runtime::{Cgroup, ExitStatus, IdMappings, grant_command};

use crate::{
    process::{Role, start_role},
    sandbox::host_support,
    state::Home,
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
    /// Tells whether an overlay could be mounted there.
    pub overlay: Result<bool, String>,
    /// Tells whether `net.ipv4.ip_forward` may be written, which root's network needs.
    pub forwarding: bool,
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
    /// The number of registries are named.
    pub registries: Result<usize, String>,
}

#[derive(Clone, Debug)]
pub(super) struct Rootless {
    /// `kernel.unprivileged_userns_clone`
    pub clone: Option<u64>,
    /// `user.max_user_namespaces`
    pub namespaces: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`
    pub apparmor: bool,
    /// Tells whether something could be mounted in one.
    pub tried: Result<bool, String>,
    /// Tells whether that could be a proc of its own.
    pub proc: bool,
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

/// Exit code of a role that could mount, but no proc.
const NO_PROC: i32 = 2;

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
        overlay: overlay(home, !root),
        forwarding: nix::unistd::access("/proc/sys/net/ipv4/ip_forward", nix::unistd::AccessFlags::W_OK)
            .is_ok(),
        tun: Path::new("/dev/net/tun").exists(),
        pasta: find_program("pasta"),
        slirp4netns: find_program("slirp4netns").is_some(),
        first_port: number("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
        cgroups: cgroups(),
        inotify: number("/proc/sys/fs/inotify/max_user_instances"),
        space: statvfs(&home.data)
            .map(|found| found.blocks_available() * found.fragment_size())
            .map_err(|e| e.desc().to_owned()),
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
    let own = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    let mappings = IdMappings::of_user();
    // Settings say nothing as long as a profile lets this program through: it is tried.
    let tried = IdMappings::of_user().and_then(|(mappings, _)| {
        start_role(&Role { namespaces: own, mappings: Some(&mappings), ..Role::named("try-namespaces") })?
            .wait()
    });
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
        proc: !matches!(tried, Ok(ExitStatus::Code(NO_PROC))),
        tried: tried.map(|status| matches!(status, ExitStatus::Code(0 | NO_PROC))).map_err(|e| e.to_string()),
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

fn overlay(home: &Home, rootless: bool) -> Result<bool, String> {
    let dir = home.data.join(format!("doctor-{}", std::process::id()));
    let tried = (|| {
        ["lower", "upper", "work"].iter().try_for_each(|part| fs::create_dir_all(dir.join(part)))?;
        let own = fs::File::open(&dir)?;
        let mappings = rootless.then(IdMappings::of_user).transpose().map_err(std::io::Error::other)?;
        let mut namespaces = CloneFlags::CLONE_NEWNS;
        if rootless {
            namespaces |= CloneFlags::CLONE_NEWUSER;
        }
        let mappings = mappings.as_ref().map(|(mappings, _)| mappings);
        let process = start_role(&Role {
            namespaces,
            mappings,
            fds: &[(own.as_fd(), 3)],
            ..Role::named("try-overlay")
        });
        process.and_then(|process| process.wait()).map_err(std::io::Error::other)
    })();
    // The kernel's own directory in `work` belongs to us as well.
    let _ = fs::set_permissions(dir.join("work/work"), fs::Permissions::from_mode(0o700));
    let _ = fs::remove_dir_all(&dir);
    tried.map(|status| status == ExitStatus::Code(0)).map_err(|e| e.to_string())
}

fn cgroups() -> Cgroups {
    let systemd = Path::new("/run/systemd/system").exists();
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    // As the supervisor's scope is asked for: of the user's systemd, of root of the machine's.
    let (bus, given) = match nix::unistd::geteuid() {
        root if root.is_root() => {
            let bus = Path::new("/run/dbus/system_bus_socket").exists();
            (bus, "/sys/fs/cgroup/cgroup.controllers".to_owned())
        }
        user => {
            let dir = std::env::var_os("XDG_RUNTIME_DIR");
            let slice = format!("/sys/fs/cgroup/user.slice/user-{user}.slice/user@{user}.service");
            (dir.is_some_and(|dir| Path::new(&dir).join("bus").exists()), slice + "/cgroup.controllers")
        }
    };
    let delegated = (systemd && unified && bus && find_program("busctl").is_some())
        .then(|| text(&given).unwrap_or_default().split_whitespace().map(str::to_owned).collect());
    Cgroups { systemd, unified, delegated, available: Cgroup::available() }
}

/// The role that tries: in namespaces of its own, over the directory at descriptor 3.
pub(crate) fn try_overlay() -> i32 {
    let none = None::<&str>;
    let private = mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none);
    // By its name: the descriptor leads into the mount namespace in which it was opened.
    let place = fs::read_link("/proc/self/fd/3").unwrap_or_default();
    let options = "lowerdir=lower,upperdir=upper,workdir=work";
    let contained = !fs::read_to_string("/proc/self/uid_map").unwrap_or_default().contains("4294967295");
    let options = if contained { format!("{options},userxattr") } else { options.to_owned() };
    let done = private.and_then(|()| nix::unistd::chdir(&place)).and_then(|()| {
        mount(Some("overlay"), "lower", Some("overlay"), MsFlags::empty(), Some(options.as_str()))
    });
    i32::from(done.is_err())
}

/// The role that tries whether a user namespace gives what it should: mounts.
pub(crate) fn try_namespaces() -> i32 {
    let none = None::<&str>;
    let private = mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none);
    let done = private.and_then(|()| mount(Some("try"), "/tmp", Some("tmpfs"), MsFlags::empty(), none));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let proc = || mount(Some("proc"), "/tmp", Some("proc"), flags, none);
    match done.map(|()| proc().is_err()) {
        Ok(false) => 0,
        Ok(true) => NO_PROC,
        Err(_) => 1,
    }
}
