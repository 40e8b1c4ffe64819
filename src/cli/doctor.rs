//! `podctl doctor`: what this machine offers pods, and the command that mends what is missing.

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
use podctl_runtime::{Cgroup, ExitStatus, IdMappings};
use serde::Serialize;

use super::Error;
use crate::{state::Home, supervisor};

/// Below this an image of a usual size does not fit.
const LITTLE_SPACE: u64 = 2 << 30;

#[derive(clap::Args)]
pub(super) struct Args {
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Pods run, without something.
    Degraded,
    /// Pods do not run.
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    /// What was found; when it is not well, what will not work.
    found: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, state: State::Ok, found: found.into(), mend: None }
}

fn degraded(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name, state: State::Degraded, found: found.into(), mend: Some(mend.into()) }
}

fn broken(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name, state: State::Broken, found: found.into(), mend: Some(mend.into()) }
}

/// The exit code is 1 when something is broken.
pub(super) fn run(args: &Args, home: &Home) -> Result<i32, Error> {
    let rootless = !nix::unistd::geteuid().is_root();
    let mut checks = vec![linux(), seccomp()];
    if rootless {
        checks.extend([user_namespaces(), subordinate_ids(), mappers()]);
    }
    checks.extend([
        overlay(home, rootless),
        network(rootless),
        low_ports(rootless),
        cgroups(),
        inotify(),
        space(home),
        registries(),
    ]);
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&checks).expect("plain data")),
        Output::Text => checks.iter().for_each(print),
    }
    Ok(i32::from(checks.iter().any(|check| check.state == State::Broken)))
}

fn print(check: &Check) {
    let (word, colour) = match check.state {
        State::Ok => ("ok", anstyle::AnsiColor::Green),
        State::Degraded => ("degraded", anstyle::AnsiColor::Yellow),
        State::Broken => ("broken", anstyle::AnsiColor::Red),
    };
    let style = anstyle::Style::new().fg_color(Some(colour.into()));
    anstream::println!("{style}{word:<9}{style:#} {:<17} {}", check.name, check.found);
    if let Some(mend) = &check.mend {
        anstream::println!("{:<28}mend: {mend}", "");
    }
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &str) -> Option<u64> {
    text(path)?.parse().ok()
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/sbin".into()]);
    places.map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn linux() -> Check {
    const NAME: &str = "linux";
    let release = text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match version >= (5, 12) {
        true => ok(NAME, release),
        false => broken(NAME, format!("{release}: podctl needs 5.12 or newer"), "boot a newer kernel"),
    }
}

fn seccomp() -> Check {
    match Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        true => ok("seccomp", "the kernel filters system calls"),
        false => broken(
            "seccomp",
            "the kernel has no seccomp filters",
            "boot a kernel with CONFIG_SECCOMP_FILTER=y",
        ),
    }
}

fn user_namespaces() -> Check {
    const NAME: &str = "user namespaces";
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return broken(
            NAME,
            "ordinary users may not make any",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        );
    }
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        return broken(NAME, "none are allowed", "sudo sysctl -w user.max_user_namespaces=28633");
    }
    // That it is set says nothing as long as a profile lets this program through: it is tried.
    let restricted = number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1);
    let own = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    let tried = IdMappings::of_user()
        .and_then(|(mappings, _)| supervisor::role("try-namespaces", own, Some(&mappings), &[], &[])?.wait());
    match tried {
        Ok(ExitStatus::Code(0)) => ok(NAME, "can be made"),
        _ if restricted => broken(
            NAME,
            "AppArmor restricts them",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        Ok(_) => broken(
            NAME,
            "one could be made, but nothing mounted in it",
            "run podctl outside of that sandbox or container",
        ),
        Err(e) => broken(NAME, e.to_string(), "sudo sysctl -w user.max_user_namespaces=28633"),
    }
}

fn subordinate_ids() -> Check {
    const NAME: &str = "subordinate ids";
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    let user = user.unwrap_or_else(|| nix::unistd::geteuid().to_string());
    let mend = format!("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}");
    match IdMappings::of_user() {
        Ok((mappings, _)) if mappings.uids.len() > 1 && mappings.gids.len() > 1 => {
            let size: u32 = mappings.uids.iter().map(|m| m.size).sum();
            match size > 65_535 {
                true => ok(NAME, format!("{size} user ids")),
                false => {
                    degraded(NAME, format!("{size} user ids: files of higher ids cannot be unpacked"), mend)
                }
            }
        }
        Ok((_, Some(warning))) => degraded(NAME, warning, mend),
        Ok((_, None)) => degraded(NAME, "none", mend),
        Err(e) => broken(NAME, e.to_string(), mend),
    }
}

fn mappers() -> Check {
    const NAME: &str = "newuidmap";
    for name in ["newuidmap", "newgidmap"] {
        let Some(path) = program(name) else {
            return degraded(
                NAME,
                format!("{name} is not installed: one user id works in containers"),
                "sudo apt install uidmap",
            );
        };
        let setuid = fs::metadata(&path).is_ok_and(|m| m.uid() == 0 && m.permissions().mode() & 0o4000 != 0);
        if !setuid && !has_capabilities(&path) {
            let mend = format!("sudo chmod u+s {}", path.display());
            return degraded(NAME, format!("{} has neither setuid nor capabilities", path.display()), mend);
        }
    }
    ok(NAME, "newuidmap and newgidmap may map ids")
}

fn has_capabilities(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: both names end with NUL; without a buffer the kernel only says how long the value is.
    unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

fn overlay(home: &Home, rootless: bool) -> Check {
    const NAME: &str = "overlay";
    let mend = "sudo modprobe overlay; keep the data directory on ext4, xfs or btrfs (PODCTL_DATA_DIR)";
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
        let process = supervisor::role("try-overlay", namespaces, mappings, &[], &[(own.as_fd(), 3)]);
        process.and_then(|process| process.wait()).map_err(std::io::Error::other)
    })();
    // The kernel's own directory in `work` belongs to us as well.
    let _ = fs::set_permissions(dir.join("work/work"), fs::Permissions::from_mode(0o700));
    let _ = fs::remove_dir_all(&dir);
    match tried {
        Ok(ExitStatus::Code(0)) => ok(NAME, format!("works in {}", home.data.display())),
        Ok(_) => broken(NAME, format!("cannot be mounted over {}", home.data.display()), mend),
        Err(e) => broken(NAME, format!("could not be tried: {e}"), mend),
    }
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
    i32::from(done.is_err())
}

fn network(rootless: bool) -> Check {
    const NAME: &str = "network";
    let sysctls = Path::new("/proc/sys/net/ipv4/ip_forward");
    if let Err(e) = nix::unistd::access(sysctls, nix::unistd::AccessFlags::W_OK)
        && !rootless
    {
        let found = format!("{} cannot be written ({}): no network for pods", sysctls.display(), e.desc());
        return degraded(NAME, found, "mount -o remount,rw /proc/sys, or `podctl run --network host`");
    }
    if !rootless {
        return ok(NAME, "a link to the host's own network, which forwards for pods while there are any");
    }
    if !Path::new("/dev/net/tun").exists() {
        return degraded(
            NAME,
            "no /dev/net/tun: pods reach each other alone, and nothing beyond",
            "sudo modprobe tun",
        );
    }
    match (program("pasta"), program("slirp4netns")) {
        (Some(path), _) => ok(NAME, format!("{}", path.display())),
        (None, Some(path)) => ok(NAME, format!("{}; pasta (package passt) is faster", path.display())),
        (None, None) => degraded(
            NAME,
            "neither pasta nor slirp4netns is installed: pods reach each other alone, and nothing beyond",
            "sudo apt install passt",
        ),
    }
}

fn low_ports(rootless: bool) -> Check {
    const NAME: &str = "low ports";
    match number("/proc/sys/net/ipv4/ip_unprivileged_port_start") {
        Some(first) if rootless && first > 80 => degraded(
            NAME,
            format!("hostPorts below {first} cannot be published"),
            "sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80",
        ),
        _ => ok(NAME, "hostPorts from 80 on can be published"),
    }
}

fn cgroups() -> Check {
    const NAME: &str = "cgroups";
    let systemd = Path::new("/run/systemd/system").exists();
    let bus = std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| Path::new(&dir).join("bus").exists());
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
        && systemd
        && bus
        && program("busctl").is_some()
    {
        let unit = format!(
            "/sys/fs/cgroup/user.slice/user-{0}.slice/user@{0}.service/cgroup.controllers",
            nix::unistd::geteuid()
        );
        let given = text(&unit).unwrap_or_default();
        let missing: Vec<&str> = ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|name| !given.split(' ').any(|g| g == *name))
            .collect();
        let mend = "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload, then log in again";
        return match missing.is_empty() {
            true => ok(NAME, "version 2, delegated by systemd"),
            false => degraded(NAME, format!("limits of {} are not enforced", missing.join(" and ")), mend),
        };
    }
    match Cgroup::available() {
        Ok(controllers) => ok(NAME, format!("writable: {}", controllers.join(" "))),
        Err(reason) => degraded(
            NAME,
            format!("limits are not enforced: {reason}"),
            "log in through systemd (ssh, console or machinectl shell), not with su or sudo",
        ),
    }
}

fn inotify() -> Check {
    const NAME: &str = "inotify";
    let path = "/proc/sys/fs/inotify/max_user_instances";
    match number(path) {
        Some(few) if few < 64 => degraded(
            NAME,
            format!("{few} instances: `podctl logs -f` of many pods fails"),
            "sudo sysctl -w fs.inotify.max_user_instances=128",
        ),
        Some(many) => ok(NAME, format!("{many} instances")),
        None => degraded(
            NAME,
            "the kernel has none: logs cannot be followed",
            "boot a kernel with CONFIG_INOTIFY_USER=y",
        ),
    }
}

fn space(home: &Home) -> Check {
    const NAME: &str = "space";
    let place = home.data.display();
    match statvfs(&home.data) {
        Ok(found) => {
            let free = found.blocks_available() * found.fragment_size();
            let words = format!("{} MiB free in {place}", free >> 20);
            match free >= LITTLE_SPACE {
                true => ok(NAME, words),
                false => degraded(
                    NAME,
                    format!("{words}: larger images do not fit"),
                    "podctl images, then podctl rmi IMAGE",
                ),
            }
        }
        Err(e) => broken(
            NAME,
            format!("{place}: {}", e.desc()),
            "set PODCTL_DATA_DIR to a directory that can be written",
        ),
    }
}

fn registries() -> Check {
    const NAME: &str = "registries.conf";
    match podctl_images::configured() {
        Ok(0) => ok(NAME, "names no registry; short names mean Docker Hub"),
        Ok(named) => ok(NAME, format!("{named} named")),
        Err(e) => {
            broken(NAME, e.to_string(), "correct the file, or point CONTAINERS_REGISTRIES_CONF to another")
        }
    }
}
