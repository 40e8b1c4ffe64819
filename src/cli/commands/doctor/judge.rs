//! What is made of the facts: ok, degraded or broken, and the command that mends it. Pure.

use super::{
    Check, State,
    facts::{Facts, Rootless, Sessions},
    trial::{Layers, Trial},
};
use crate::{
    network::Forwarding,
    outer_container::{Need, OuterContainer},
    sandbox::host_support::list_lost_rights,
    state::Damage,
};

/// Below this an image of a usual size does not fit.
const LITTLE_SPACE: u64 = 2 << 30;
/// Below this the logs of many pods cannot be followed.
const FEW_INSTANCES: u64 = 64;

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, state: State::Ok, found: found.into(), mend: None }
}

fn degraded_check(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name, state: State::Degraded, found: found.into(), mend: Some(mend.into()) }
}

fn broken(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name, state: State::Broken, found: found.into(), mend: Some(mend.into()) }
}

/// Every check, in the order in which a start needs them.
pub(super) fn list_checks(facts: &Facts) -> Vec<Check> {
    if facts.release.is_empty() {
        // Nothing else can be known without it.
        return vec![broken("linux", "/proc is not mounted: nothing starts", "mount -t proc proc /proc")];
    }
    let mut all = vec![linux(facts), seccomp(facts)];
    all.extend(
        facts.outer.map(|outer| ok("container", format!("podctl itself runs in {}", outer.describe_kind()))),
    );
    if !facts.missing_capabilities.is_empty() {
        all.push(capabilities(facts, &facts.missing_capabilities));
    }
    match &facts.rootless {
        Some(rootless) => {
            all.extend([
                user_namespaces(facts, rootless),
                subordinate_ids(rootless),
                check_mappers(rootless),
            ]);
        }
        None => all.push(check_namespaces(facts)),
    }
    all.extend(facts.moved.as_ref().map(|why| degraded_check("place", why, "set HOME, or PODCTL_DATA_DIR")));
    // Without namespaces neither can be tried; what is in the way is said already.
    if let Ok(trial) = &facts.trial {
        all.extend([check_overlay(facts, trial), check_network(facts, trial)]);
    }
    all.extend([low_ports(facts), cgroups(facts)]);
    all.extend(facts.sessions.map(check_sessions));
    all.extend([check_inotify(facts), check_space(facts), check_registries(facts)]);
    all.extend(facts.damage.first().map(|first| check_files(facts, first)));
    all
}

fn check_files(facts: &Facts, first: &Damage) -> Check {
    let more = match facts.damage.len() {
        1 => String::new(),
        all => format!(", and {} more", all - 1),
    };
    let found = format!("{}: {}{more}", first.path.display(), first.what);
    degraded_check("files", found, "podctl doctor --repair")
}

fn linux(facts: &Facts) -> Check {
    let release = &facts.release;
    let mut parts = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match version >= (5, 12) {
        true if is_wsl(release) => ok("linux", format!("{release}: a virtual machine of Windows (WSL 2)")),
        true => ok("linux", release),
        false => {
            broken("linux", format!("{release}: podctl needs 5.12 or newer"), name_newer_kernel(release))
        }
    }
}

/// WSL's kernels are called Microsoft's.
fn is_wsl(release: &str) -> bool {
    release.to_lowercase().contains("microsoft")
}

/// Tells how whoever runs this kernel gets one that is new enough. Red Hat's 4.18 has newer parts in it, but not the mount API
/// of 5.12 and its id-mapped mounts.
fn name_newer_kernel(release: &str) -> &'static str {
    match release {
        _ if is_wsl(release) => "this is WSL 1: in Windows, wsl --set-version DISTRIBUTION 2",
        _ if release.contains(".el7") || release.contains(".el8") => {
            "use version 9 (Linux 5.14) of this distribution or newer, or a mainline kernel (kernel-ml of ELRepo)"
        }
        _ if release.ends_with("-generic") => "sudo apt install linux-generic-hwe-$(lsb_release -rs)",
        _ if release.contains("-amd64") || release.contains("-arm64") => {
            "install the kernel of Debian's backports, or Debian 12 or newer"
        }
        _ => "boot a newer kernel",
    }
}

fn seccomp(facts: &Facts) -> Check {
    match facts.seccomp {
        true => ok("seccomp", "system calls of containers are filtered"),
        false => broken(
            "seccomp",
            "the kernel has no seccomp filters: no container starts",
            "boot a kernel with CONFIG_SECCOMP_FILTER=y",
        ),
    }
}

/// Returns what mends it: said to the container around podctl where there is one, else to this machine.
fn choose_mend(facts: &Facts, need: Need<'_>, here: &str) -> String {
    facts.outer.map_or_else(|| here.to_owned(), |outer| outer.say_mend(need))
}

fn capabilities(facts: &Facts, missing: &[String]) -> Check {
    const NAME: &str = "capabilities";
    let outer = facts.outer.unwrap_or(OuterContainer::Other);
    let lost = list_lost_rights(missing);
    if !lost.is_empty() {
        let found =
            format!("no container starts without {}, which podctl itself does not have", lost.join(", "));
        return broken(NAME, found, outer.say_mend(Need::Capabilities(&lost)));
    }
    degraded_check(
        NAME,
        format!("containers run without {}, which podctl itself does not have", missing.join(", ")),
        outer.say_mend(Need::Capabilities(missing)),
    )
}

/// Root's own.
fn check_namespaces(facts: &Facts) -> Check {
    const NAME: &str = "namespaces";
    let outside = "run podctl outside of the sandbox or container that it is in";
    match &facts.trial {
        Ok(trial) if !trial.mounts || !trial.proc => broken(
            NAME,
            "they could be made, but no file system could be mounted in them",
            choose_mend(facts, Need::Namespaces, outside),
        ),
        Ok(trial) if !trial.name => degraded_check(
            NAME,
            "pods keep this machine's host name, which a filter around podctl does not let them change",
            choose_mend(facts, Need::Namespaces, outside),
        ),
        Ok(trial) if !trial.devices => {
            ok(NAME, "root may make them; containers get this machine's own device nodes")
        }
        Ok(_) => ok(NAME, "root may make them"),
        Err(e) => broken(NAME, e, choose_mend(facts, Need::Namespaces, outside)),
    }
}

fn user_namespaces(facts: &Facts, rootless: &Rootless) -> Check {
    const NAME: &str = "user namespaces";
    const APPARMOR: &str = "install podctl's package, whose AppArmor profile allows them for podctl, or sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
    let sysctl = |line: &str| choose_mend(facts, Need::Namespaces, &format!("sudo sysctl -w {line}"));
    if rootless.clone == Some(0) {
        return broken(NAME, "ordinary users may not make any", sysctl("kernel.unprivileged_userns_clone=1"));
    }
    if rootless.namespaces == Some(0) {
        let on = facts.outer.map_or("", |_| "on the machine around this container, ");
        return broken(
            NAME,
            "none are allowed",
            format!("{on}sudo sysctl -w user.max_user_namespaces=28633"),
        );
    }
    match &facts.trial {
        Ok(trial) if trial.mounts && !trial.proc => broken(
            NAME,
            "no proc can be mounted in one: that of the container around podctl is masked",
            facts.outer.unwrap_or(OuterContainer::Other).say_mend(Need::Proc),
        ),
        Ok(trial) if trial.mounts && !trial.name => degraded_check(
            NAME,
            "pods keep this machine's host name, which a filter around podctl does not let them change",
            choose_mend(facts, Need::Namespaces, "run podctl outside of the sandbox that it is in"),
        ),
        Ok(trial) if trial.mounts => ok(NAME, "this user may make them"),
        _ if rootless.apparmor => broken(NAME, "AppArmor restricts them", APPARMOR),
        Ok(_) => broken(
            NAME,
            "one could be made, but nothing mounted in it",
            choose_mend(
                facts,
                Need::Namespaces,
                "run podctl outside of the sandbox or container that it is in",
            ),
        ),
        Err(e) if e.contains("in a chroot") => {
            broken(NAME, e, "run podctl outside of the chroot or container that it is in, or as root")
        }
        Err(e) => broken(NAME, e, sysctl("user.max_user_namespaces=28633")),
    }
}

fn subordinate_ids(facts: &Rootless) -> Check {
    const NAME: &str = "subordinate ids";
    let mend = match facts.mappers.iter().any(|(_, found)| found.is_none()) {
        true => "sudo apt install uidmap".to_owned(),
        false => match &facts.grant {
            Some(command) => format!("sudo {command}"),
            None => {
                "give this user a range in /etc/subuid and /etc/subgid; all usual ones are taken".to_owned()
            }
        },
    };
    match &facts.ids {
        Ok((_, Some(warning))) => degraded_check(NAME, warning, mend),
        Ok((size, None)) if *size > 65_535 => ok(NAME, format!("containers have {size} user ids")),
        Ok((size, None)) => {
            let found = format!("containers have {size} user ids: files of higher ids cannot be unpacked");
            degraded_check(NAME, found, mend)
        }
        Err(e) => broken(NAME, e, mend),
    }
}

fn check_mappers(facts: &Rootless) -> Check {
    const NAME: &str = "newuidmap";
    for (name, found) in &facts.mappers {
        match found {
            None => {
                let found = format!("{name} is not installed: one user id works in containers");
                return degraded_check(NAME, found, "sudo apt install uidmap");
            }
            Some((path, false)) => {
                let path = path.display();
                let found =
                    format!("{path} has neither setuid nor capabilities: one user id works in containers");
                return degraded_check(NAME, found, format!("sudo chmod u+s {path}"));
            }
            Some((_, true)) => {}
        }
    }
    ok(NAME, "newuidmap and newgidmap may map ids")
}

fn check_overlay(facts: &Facts, trial: &Trial) -> Check {
    const NAME: &str = "overlay";
    let place = facts.data.display();
    let here = "sudo modprobe overlay; keep the data directory on ext4, xfs or btrfs (PODCTL_DATA_DIR)";
    let mend = choose_mend(facts, Need::Volume(&facts.data), here);
    match &trial.layers {
        _ if trial.chroot => broken(
            NAME,
            "podctl runs in a chroot, whose containers could leave it: no container starts",
            "enter it with pivot_root, as bwrap and systemd-nspawn do, instead of chroot",
        ),
        Layers::OnDisk => ok(NAME, format!("layers can be mounted in {place}")),
        Layers::InMemory(_) => degraded_check(
            NAME,
            format!(
                "what containers write beside their volumes lies in memory: overlayfs cannot write in {place}"
            ),
            mend,
        ),
        Layers::Nowhere(_) => {
            broken(NAME, format!("layers cannot be mounted in {place}: no container starts"), mend)
        }
    }
}

fn check_network(facts: &Facts, trial: &Trial) -> Check {
    const NAME: &str = "network";
    if let Err(why) = &trial.network {
        return degraded_check(
            NAME,
            format!("no network for pods: its links cannot be told to forward ({why})"),
            choose_mend(facts, Need::Network, "podctl run --network host, or --network none"),
        );
    }
    let narrow = match trial.network {
        Ok(Forwarding::LinkByLink) => "; IPv4 alone, as /proc/sys is read-only",
        _ => "",
    };
    if facts.rootless.is_none() {
        return ok(
            NAME,
            format!("a link to the host's own network, which forwards for pods while there are any{narrow}"),
        );
    }
    let alone = "pods reach each other alone, and nothing beyond";
    match (facts.tun, &facts.pasta, facts.slirp4netns) {
        (false, ..) => degraded_check(
            NAME,
            format!("there is no /dev/net/tun: {alone}"),
            choose_mend(facts, Need::Tun, "sudo modprobe tun"),
        ),
        (true, Some(path), _) => {
            ok(NAME, format!("pods reach the outside through {}{narrow}", path.display()))
        }
        (true, None, true) => ok(
            NAME,
            format!("pods reach the outside through slirp4netns{narrow}; pasta (package passt) is faster"),
        ),
        (true, None, false) => degraded_check(
            NAME,
            format!("neither pasta nor slirp4netns is installed: {alone}"),
            "sudo apt install passt",
        ),
    }
}

fn low_ports(facts: &Facts) -> Check {
    const NAME: &str = "low ports";
    match (&facts.rootless, facts.first_port) {
        (None, _) | (_, None) => ok(NAME, "every hostPort can be published"),
        (Some(_), Some(first)) if first > 80 => degraded_check(
            NAME,
            format!("hostPorts below {first} cannot be published"),
            "sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80",
        ),
        (Some(_), Some(first)) => ok(NAME, format!("hostPorts from {first} on can be published")),
    }
}

fn cgroups(facts: &Facts) -> Check {
    const NAME: &str = "cgroups";
    let (cgroups, user) = (&facts.cgroups, &facts.user);
    if let Some(delegated) = &cgroups.delegated {
        let wanted = ["cpu", "memory", "pids"].into_iter();
        let missing: Vec<&str> = wanted.filter(|name| !delegated.iter().any(|d| d == name)).collect();
        let mend = "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload, then log in again";
        return match missing.is_empty() {
            true => ok(NAME, "limits of cpu, memory and pids are kept: version 2, delegated by systemd"),
            false => degraded_check(NAME, format!("limits of {} are not kept", listed(&missing)), mend),
        };
    }
    match &cgroups.available {
        Ok(controllers) if controllers.is_empty() => degraded_check(
            NAME,
            "limits are not kept: there is no controller",
            choose_mend(facts, Need::Cgroups, "boot with systemd.unified_cgroup_hierarchy=1"),
        ),
        Ok(controllers) => ok(NAME, format!("limits of {} are kept", listed(controllers))),
        Err(reason) => {
            let mend = match (cgroups.systemd, cgroups.unified) {
                (false, _) if is_wsl(&facts.release) => {
                    "put systemd=true below [boot] in /etc/wsl.conf, then wsl --shutdown in Windows"
                        .to_owned()
                }
                _ if facts.outer.is_some() => choose_mend(facts, Need::Cgroups, ""),
                (true, _) => "log in through systemd (ssh, console or machinectl shell), not with su or sudo"
                    .to_owned(),
                // A shell that is in the cgroup itself keeps it from being divided.
                (false, true) => {
                    "run podctl as root; version 2 gives users limits through systemd".to_owned()
                }
                (false, false) => format!(
                    "sudo sh -c \"for c in cpu memory pids; do mkdir -p /sys/fs/cgroup/\\$c/{user} && cd /sys/fs/cgroup/\\$c/{user} && chown {user} . * && echo $$ >cgroup.procs; done\""
                ),
            };
            degraded_check(NAME, format!("limits are not kept: {reason}"), mend)
        }
    }
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

fn check_sessions(facts: Sessions) -> Check {
    const NAME: &str = "sessions";
    match (facts.linger, facts.kills) {
        (true, Some(true)) => {
            ok(NAME, "pods outlive the logout: this user lingers, and KillUserProcesses does not reach them")
        }
        (true, _) => ok(NAME, "pods outlive the logout, and can start at boot: this user lingers"),
        (false, _) => degraded_check(
            NAME,
            "pods end with this user's last session, and none starts at boot: this user does not linger",
            "loginctl enable-linger",
        ),
    }
}

fn check_inotify(facts: &Facts) -> Check {
    const NAME: &str = "inotify";
    match facts.inotify {
        Some(few) if few < FEW_INSTANCES => degraded_check(
            NAME,
            format!("{few} commands of a user's can watch at a time: `podctl logs -f` of many pods fails"),
            "sudo sysctl -w fs.inotify.max_user_instances=128",
        ),
        Some(many) => ok(NAME, format!("{many} commands of a user's can watch at a time")),
        None => degraded_check(
            NAME,
            "the kernel has none: logs cannot be followed",
            "boot a kernel with CONFIG_INOTIFY_USER=y",
        ),
    }
}

fn check_space(facts: &Facts) -> Check {
    const NAME: &str = "space";
    let place = facts.data.display();
    match &facts.space {
        Ok(free) => {
            let words = format!("{} MiB are free in {place}", free >> 20);
            match *free >= LITTLE_SPACE {
                true => ok(NAME, words),
                false => degraded_check(
                    NAME,
                    format!("{words}: larger images do not fit"),
                    "podctl images, then podctl rmi IMAGE",
                ),
            }
        }
        Err(e) => {
            broken(NAME, format!("{place}: {e}"), "set PODCTL_DATA_DIR to a directory that can be written")
        }
    }
}

fn check_registries(facts: &Facts) -> Check {
    const NAME: &str = "registries.conf";
    match &facts.registries {
        Ok(0) => ok(NAME, "names no registry; short names mean Docker Hub"),
        Ok(1) => ok(NAME, "names one registry; short names mean Docker Hub"),
        Ok(named) => ok(NAME, format!("names {named} registries; short names mean Docker Hub")),
        Err(e) => broken(NAME, e, "correct the file, or point CONTAINERS_REGISTRIES_CONF to another"),
    }
}
