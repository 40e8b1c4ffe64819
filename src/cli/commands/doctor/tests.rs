//! doctor's words on machines that are made up; `PODCTL_BLESS=1` writes them anew.

use std::path::Path;

use super::{
    facts::{Cgroups, Facts, Rootless, Sessions},
    judge::list_checks,
    text,
    trial::{Layers, Trial},
};
use crate::{network::Forwarding, outer_container::OuterContainer};

/// Returns a laptop on which nothing is missing.
fn laptop_facts() -> Facts {
    Facts {
        release: "6.12.9-amd64".into(),
        seccomp: true,
        user: "ann".into(),
        missing_capabilities: Vec::new(),
        rootless: Some(Rootless {
            clone: Some(1),
            namespaces: Some(28_633),
            apparmor: false,
            ids: Ok((65_537, None)),
            grant: Some("usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ann".into()),
            mappers: ["newuidmap", "newgidmap"]
                .map(|name| (name, Some((format!("/usr/bin/{name}").into(), true))))
                .into(),
        }),
        data: "/home/ann/.local/share/podctl".into(),
        moved: None,
        outer: None,
        trial: Ok(Trial {
            chroot: false,
            mounts: true,
            proc: true,
            name: true,
            devices: true,
            network: Ok(Forwarding::Everywhere),
            layers: Layers::OnDisk,
        }),
        sessions: Some(Sessions { linger: true, kills: Some(false) }),
        tun: true,
        pasta: Some("/usr/bin/pasta".into()),
        slirp4netns: true,
        first_port: Some(80),
        cgroups: Cgroups {
            systemd: true,
            unified: true,
            delegated: Some(["cpu", "memory", "pids"].map(String::from).into()),
            available: Err("cgroup / cannot be written by this user".into()),
        },
        inotify: Some(128),
        space: Ok(20 << 30),
        damage: Vec::new(),
        registries: Ok(0),
    }
}

fn tried(change: impl FnOnce(&mut Trial)) -> Facts {
    with(|f| change(f.trial.as_mut().expect("it could be tried")))
}

fn rootless(change: impl FnOnce(&mut Rootless)) -> Facts {
    let mut facts = laptop_facts();
    change(facts.rootless.as_mut().expect("it is one"));
    facts
}

fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = laptop_facts();
    change(&mut facts);
    facts
}

fn list_cases() -> Vec<(&'static str, Facts)> {
    let unwritable = || Err("no cgroup below /sys/fs/cgroup can be written by this user".to_owned());
    vec![
        ("a laptop", laptop_facts()),
        (
            "root",
            with(|f| {
                (f.rootless, f.sessions) = (None, None);
                f.data = "/var/lib/podctl".into();
                f.cgroups = Cgroups {
                    systemd: false,
                    unified: false,
                    delegated: None,
                    available: Ok(vec!["cpu", "memory", "pids"]),
                };
                f.registries = Ok(2);
            }),
        ),
        (
            "a fresh Debian",
            with(|f| {
                (f.pasta, f.slirp4netns, f.first_port) = (None, false, Some(1024));
                f.cgroups.delegated = Some(["memory", "pids"].map(String::from).into());
                let rootless = f.rootless.as_mut().expect("it is one");
                rootless.mappers = vec![("newuidmap", None), ("newgidmap", None)];
                rootless.ids = Ok((
                    1,
                    Some("only one user id is available: newuidmap and newgidmap are not installed".into()),
                ));
            }),
        ),
        (
            "Ubuntu's restriction",
            with(|f| {
                f.rootless.as_mut().expect("it is one").apparmor = true;
                f.trial = Err("make namespaces (CLONE_NEWUSER): EACCES (Permission denied)".into());
            }),
        ),
        (
            "root where sysctls are read-only",
            with(|f| {
                f.rootless = None;
                f.trial.as_mut().expect("it could be tried").network = Ok(Forwarding::LinkByLink);
            }),
        ),
        (
            "root without CAP_NET_ADMIN in Kubernetes",
            with(|f| {
                (f.rootless, f.outer) = (None, Some(OuterContainer::Kubernetes));
                f.trial.as_mut().expect("it could be tried").network =
                    Err("Operation not permitted (os error 1)".into());
            }),
        ),
        (
            "a privileged container of Docker's, its data on overlayfs",
            with(|f| {
                (f.rootless, f.outer) = (None, Some(OuterContainer::Docker));
                f.data = "/var/lib/podctl".into();
                f.trial.as_mut().expect("it could be tried").layers = Layers::InMemory("so it is".into());
                f.cgroups = Cgroups {
                    systemd: false,
                    unified: true,
                    delegated: None,
                    available: Err("cgroup /sys/fs/cgroup is mounted read-only".into()),
                };
            }),
        ),
        (
            "a Podman container without rights, HOME not to be written",
            with(|f| {
                f.outer = Some(OuterContainer::Podman);
                f.trial = Err("make namespaces (CLONE_NEWUSER): EPERM (Operation not permitted)".into());
                f.moved = Some("images and pods are kept in /var/tmp/podctl-1000-data".into());
            }),
        ),
        ("no user namespaces for users", rootless(|r| r.clone = Some(0))),
        ("no user namespaces", rootless(|r| r.namespaces = Some(0))),
        ("a sandbox around podctl", tried(|t| t.mounts = false)),
        ("a container with masked paths around podctl", tried(|t| t.proc = false)),
        ("a filter that keeps the host name", tried(|t| t.name = false)),
        (
            "root with few capabilities",
            with(|f| (f.rootless, f.missing_capabilities) = (None, vec!["NET_RAW".into(), "MKNOD".into()])),
        ),
        (
            "root without what every container takes",
            with(|f| (f.rootless, f.missing_capabilities) = (None, vec!["NET_RAW".into(), "SETPCAP".into()])),
        ),
        ("no proc", with(|f| f.release.clear())),
        (
            "mappers without rights and few ids",
            rootless(|r| {
                r.mappers = vec![("newuidmap", Some(("/usr/bin/newuidmap".into(), false)))];
                r.ids = Ok((1001, None));
            }),
        ),
        ("a chroot", tried(|t| t.chroot = true)),
        ("no linger", with(|f| f.sessions = Some(Sessions { linger: false, kills: Some(true) }))),
        (
            "linger, and logouts that kill",
            with(|f| f.sessions = Some(Sessions { linger: true, kills: Some(true) })),
        ),
        ("su instead of a login", with(|f| f.cgroups.delegated = None)),
        (
            "version 1 without systemd",
            with(|f| {
                f.cgroups =
                    Cgroups { systemd: false, unified: false, delegated: None, available: unwritable() };
            }),
        ),
        (
            "version 2 without systemd",
            with(|f| {
                f.cgroups =
                    Cgroups { systemd: false, unified: true, delegated: None, available: unwritable() };
            }),
        ),
        (
            "slirp4netns alone, few watches, little space",
            with(|f| {
                (f.pasta, f.inotify, f.space) = (None, Some(16), Ok(1 << 30));
            }),
        ),
        (
            "WSL 2 without systemd",
            with(|f| {
                f.release = "6.6.87.2-microsoft-standard-WSL2".into();
                f.cgroups =
                    Cgroups { systemd: false, unified: true, delegated: None, available: unwritable() };
            }),
        ),
        ("WSL 1", with(|f| f.release = "4.4.0-19041-Microsoft".into())),
        ("Red Hat's version 8", with(|f| f.release = "4.18.0-553.el8_10.x86_64".into())),
        ("Ubuntu 20.04", with(|f| f.release = "5.4.0-216-generic".into())),
        (
            "an old kernel where much is missing",
            with(|f| {
                (f.release, f.seccomp, f.tun, f.inotify) = ("4.19.0-27-amd64".into(), false, false, None);
                f.trial.as_mut().expect("it could be tried").layers = Layers::Nowhere("EINVAL".into());
                f.space = Err("Permission denied".into());
                f.registries = Err("/etc/containers/registries.conf: expected a table".into());
            }),
        ),
    ]
}

#[test]
fn doctors_words_are_as_before() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/doctor.txt");
    let well = text(&list_checks(&laptop_facts()));
    let mut said = String::new();
    for (name, facts) in list_cases() {
        let plain = anstream::adapter::strip_str(&text(&list_checks(&facts))).to_string();
        let well = anstream::adapter::strip_str(&well).to_string();
        // Of all but the first only what differs from a machine on which all is well.
        let lines: Vec<&str> =
            plain.lines().filter(|line| name == "a laptop" || !well.lines().any(|w| w == *line)).collect();
        said += &format!("== {name}\n{}\n\n", lines.join("\n"));
    }
    if std::env::var_os("PODCTL_BLESS").is_some() {
        std::fs::create_dir_all(golden.parent().expect("joined above")).unwrap();
        std::fs::write(&golden, &said).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(said, expected, "if this is better, run again with PODCTL_BLESS=1");
}
