//! What is made of the facts: ok, degraded or broken, and the command that mends it. Pure.

use super::{
    Check, State,
    facts::{Cgroups, Facts, Rootless},
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
    let mut all = vec![linux(facts), seccomp(facts)];
    if !facts.missing_capabilities.is_empty() {
        all.push(capabilities(&facts.missing_capabilities));
    }
    if let Some(rootless) = &facts.rootless {
        all.extend([user_namespaces(rootless), subordinate_ids(rootless), check_mappers(rootless)]);
    }
    all.extend([
        overlay(facts),
        check_network(facts),
        low_ports(facts),
        cgroups(&facts.cgroups, &facts.user),
        check_inotify(facts),
        check_space(facts),
        check_registries(facts),
    ]);
    all
}

fn linux(facts: &Facts) -> Check {
    let release = &facts.release;
    let mut parts = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match version >= (5, 12) {
        true => ok("linux", release),
        false => broken("linux", format!("{release}: podctl needs 5.12 or newer"), "boot a newer kernel"),
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

fn capabilities(missing: &[String]) -> Check {
    let names: Vec<String> = missing.iter().map(|name| format!("--cap-add {name}")).collect();
    degraded_check(
        "capabilities",
        format!("containers run without {}, which podctl itself does not have", missing.join(", ")),
        format!("start the container around podctl with --privileged, or with {}", names.join(" ")),
    )
}

fn user_namespaces(facts: &Rootless) -> Check {
    const NAME: &str = "user namespaces";
    if facts.clone == Some(0) {
        let mend = "sudo sysctl -w kernel.unprivileged_userns_clone=1";
        return broken(NAME, "ordinary users may not make any", mend);
    }
    if facts.namespaces == Some(0) {
        return broken(NAME, "none are allowed", "sudo sysctl -w user.max_user_namespaces=28633");
    }
    match &facts.tried {
        Ok(true) if !facts.proc => broken(
            NAME,
            "no proc can be mounted in one: that of the container around podctl is masked",
            "start that container with --security-opt systempaths=unconfined (Docker), --security-opt unmask=ALL (Podman), or procMount: Unmasked and hostUsers: false (Kubernetes)",
        ),
        Ok(true) => ok(NAME, "this user may make them"),
        _ if facts.apparmor => broken(
            NAME,
            "AppArmor restricts them",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        Ok(false) => broken(
            NAME,
            "one could be made, but nothing mounted in it",
            "run podctl outside of the sandbox or container that it is in",
        ),
        Err(e) if e.contains("in a chroot") => {
            broken(NAME, e, "run podctl outside of the chroot or container that it is in, or as root")
        }
        Err(e) => broken(NAME, e, "sudo sysctl -w user.max_user_namespaces=28633"),
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

fn overlay(facts: &Facts) -> Check {
    const NAME: &str = "overlay";
    let place = facts.data.display();
    let mend = "sudo modprobe overlay; keep the data directory on ext4, xfs or btrfs (PODCTL_DATA_DIR)";
    match &facts.overlay {
        Ok(true) => ok(NAME, format!("layers can be mounted in {place}")),
        Ok(false) => broken(NAME, format!("layers cannot be mounted in {place}: no container starts"), mend),
        Err(e) => broken(NAME, format!("could not be tried in {place}: {e}"), mend),
    }
}

fn check_network(facts: &Facts) -> Check {
    const NAME: &str = "network";
    if facts.rootless.is_none() {
        return match facts.forwarding {
            true => ok(NAME, "a link to the host's own network, which forwards for pods while there are any"),
            false => degraded_check(
                NAME,
                "/proc/sys/net/ipv4/ip_forward cannot be written: no network for pods",
                "mount -o remount,rw /proc/sys, or `podctl run --network host`",
            ),
        };
    }
    let alone = "pods reach each other alone, and nothing beyond";
    match (facts.tun, &facts.pasta, facts.slirp4netns) {
        (false, ..) => {
            degraded_check(NAME, format!("there is no /dev/net/tun: {alone}"), "sudo modprobe tun")
        }
        (true, Some(path), _) => ok(NAME, format!("pods reach the outside through {}", path.display())),
        (true, None, true) => {
            ok(NAME, "pods reach the outside through slirp4netns; pasta (package passt) is faster")
        }
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

fn cgroups(facts: &Cgroups, user: &str) -> Check {
    const NAME: &str = "cgroups";
    if let Some(delegated) = &facts.delegated {
        let wanted = ["cpu", "memory", "pids"].into_iter();
        let missing: Vec<&str> = wanted.filter(|name| !delegated.iter().any(|d| d == name)).collect();
        let mend = "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload, then log in again";
        return match missing.is_empty() {
            true => ok(NAME, "limits of cpu, memory and pids are kept: version 2, delegated by systemd"),
            false => degraded_check(NAME, format!("limits of {} are not kept", listed(&missing)), mend),
        };
    }
    match &facts.available {
        Ok(controllers) if controllers.is_empty() => degraded_check(
            NAME,
            "limits are not kept: there is no controller",
            "boot with systemd.unified_cgroup_hierarchy=1",
        ),
        Ok(controllers) => ok(NAME, format!("limits of {} are kept", listed(controllers))),
        Err(reason) => {
            let mend = match (facts.systemd, facts.unified) {
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
