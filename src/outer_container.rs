//! The container that podctl itself runs in, if it is in one: what is missing is then for its runtime to give, and is said in
//! that runtime's words.
//!
//! Promises: nothing here changes what podctl does, only what it says; it stands on nothing of the house's.

use std::{env, io, path::Path};

use nix::{
    errno::Errno,
    sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs},
};

/// The runtime that made the container around this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OuterContainer {
    /// Docker, and what speaks its language (GitLab's docker executor, GitHub's `container:`).
    Docker,
    /// Podman and buildah.
    Podman,
    /// The kubelet, or OpenShift.
    Kubernetes,
    /// The runtime left no sign, such as podctl.
    Other,
}

/// The thing that podctl may lack, and the container around it could be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "cli"), allow(dead_code))] // doctor names them all
pub enum Need<'a> {
    /// Making namespaces and mounting in them.
    Namespaces,
    /// The proc of a pod's own, which the kernel refuses to a user where the outer one is masked.
    Proc,
    /// The file system that overlayfs can write on, at this place.
    Volume(&'a Path),
    /// Capabilities by name, for containers to have.
    Capabilities(&'a [String]),
    /// The cgroup tree that can be written.
    Cgroups,
    /// /dev/net/tun
    Tun,
    /// Links, addresses and forwarding.
    Network,
}

impl OuterContainer {
    /// Looks for the signs that container runtimes leave.
    pub fn find_around() -> Option<OuterContainer> {
        let named = env::var("container").unwrap_or_default();
        let there = |path: &str| Path::new(path).exists();
        if env::var_os("KUBERNETES_SERVICE_HOST").is_some() || there("/var/run/secrets/kubernetes.io") {
            return Some(OuterContainer::Kubernetes);
        }
        if there("/run/.containerenv") || named == "podman" || named == "oci" {
            return Some(OuterContainer::Podman);
        }
        if there("/.dockerenv") || named == "docker" {
            return Some(OuterContainer::Docker);
        }
        let on_layers = statfs("/").is_ok_and(|found| found.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
        (on_layers || !named.is_empty()).then_some(OuterContainer::Other)
    }

    /// Names it.
    #[cfg(feature = "cli")]
    pub fn describe_kind(self) -> &'static str {
        match self {
            OuterContainer::Docker => "a Docker container",
            OuterContainer::Podman => "a Podman container",
            OuterContainer::Kubernetes => "a container of a Kubernetes pod",
            OuterContainer::Other => "a container",
        }
    }

    /// Says how this container is to be started so that podctl has what it lacks.
    pub fn say_mend(self, need: Need<'_>) -> String {
        let [docker, podman, kubernetes] = list_ways(need);
        match self {
            OuterContainer::Docker => format!("start this container with {docker}"),
            OuterContainer::Podman => format!("start this container with {podman}"),
            OuterContainer::Kubernetes => format!("give this container {kubernetes}"),
            OuterContainer::Other if docker == podman => {
                format!(
                    "start the container around podctl with {docker} (Docker, Podman) or {kubernetes} (Kubernetes)"
                )
            }
            OuterContainer::Other => format!(
                "start the container around podctl with {docker} (Docker), {podman} (Podman) or {kubernetes} (Kubernetes)"
            ),
        }
    }
}

/// Lists how Docker, Podman and Kubernetes give it.
fn list_ways(need: Need<'_>) -> [String; 3] {
    let owned = |ways: [&str; 3]| ways.map(str::to_owned);
    match need {
        Need::Namespaces => owned([
            "--privileged, or with --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined",
            "--privileged, or with --security-opt seccomp=unconfined --security-opt unmask=ALL",
            "securityContext: {privileged: true}, or hostUsers: false with procMount: Unmasked and seccompProfile: {type: Unconfined}",
        ]),
        Need::Proc => owned([
            "--security-opt systempaths=unconfined",
            "--security-opt unmask=ALL",
            "procMount: Unmasked and hostUsers: false",
        ]),
        Need::Volume(path) => {
            let path = path.display();
            let flag = format!("a volume: -v podctl:{path}");
            [flag.clone(), flag, format!("an emptyDir mounted at {path}")]
        }
        Need::Capabilities(names) => {
            let flags: Vec<String> = names.iter().map(|name| format!("--cap-add {name}")).collect();
            let flags = format!("--privileged, or with {}", flags.join(" "));
            let added = format!("securityContext: {{capabilities: {{add: [{}]}}}}", names.join(", "));
            [flags.clone(), flags, added]
        }
        Need::Cgroups => owned([
            "--privileged, or with --cgroupns private -v /sys/fs/cgroup:/sys/fs/cgroup:rw",
            "--privileged, or with --cgroupns private -v /sys/fs/cgroup:/sys/fs/cgroup:rw",
            "securityContext: {privileged: true}",
        ]),
        Need::Tun => owned([
            "--device /dev/net/tun",
            "--device /dev/net/tun",
            "securityContext: {privileged: true}, or a device plugin that has /dev/net/tun",
        ]),
        Need::Network => owned([
            "--privileged, or with --cap-add NET_ADMIN",
            "--privileged, or with --cap-add NET_ADMIN",
            "securityContext: {capabilities: {add: [NET_ADMIN]}}",
        ]),
    }
}

/// Says what root lacks who may make network namespaces, but set no link up in them.
pub fn explain_missing_network_right(refusal: &io::Error) -> io::Error {
    io::Error::other(format!(
        "links cannot be set up without CAP_NET_ADMIN: {refusal}{}",
        say_mend_here(Need::Network)
    ))
}

/// Says what root lacks who may set links up, but not answer at the port of name servers.
pub fn explain_missing_port_right(refusal: &io::Error) -> io::Error {
    let names = ["NET_BIND_SERVICE".to_owned()];
    io::Error::other(format!(
        "names cannot be answered without CAP_NET_BIND_SERVICE: {refusal}{}",
        say_mend_here(Need::Capabilities(&names))
    ))
}

/// Says how the container around podctl is to be started, in words to be put behind others; nothing where there is none.
pub fn say_mend_here(need: Need<'_>) -> String {
    OuterContainer::find_around().map_or_else(String::new, |outer| format!("; {}", outer.say_mend(need)))
}

/// Says what to do about a refusal to make namespaces; in words to be put behind the refusal's own. Empty for other
/// errors.
pub fn explain_refusal(error: &podctl_runtime::Error) -> String {
    match error {
        podctl_runtime::Error::Sys { errno: Errno::EMFILE, .. } => {
            "; `ulimit -n 1024` lets podctl open more files, or else who set its limit".to_owned()
        }
        podctl_runtime::Error::Sys { errno: Errno::ENOSPC, .. } => {
            "; the machine allows no more namespaces: `sysctl user` says how many of each".to_owned()
        }
        podctl_runtime::Error::Sys { errno: Errno::EAGAIN, .. } => {
            "; `ulimit -u` or a limit of the container around podctl (--pids-limit) allows too few processes"
                .to_owned()
        }
        podctl_runtime::Error::Sys { errno: Errno::EPERM | Errno::EACCES | Errno::ENOSYS, .. } => {
            match OuterContainer::find_around() {
                Some(outer) => format!("; {}", outer.say_mend(Need::Namespaces)),
                None => "; `podctl doctor` says what is missing".to_owned(),
            }
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runtime_is_spoken_to_in_its_own_words() {
        let place = Need::Volume(Path::new("/var/lib/podctl"));
        let all = [OuterContainer::Docker, OuterContainer::Podman, OuterContainer::Kubernetes];
        assert_eq!(
            all.map(|outer| outer.say_mend(place)),
            [
                "start this container with a volume: -v podctl:/var/lib/podctl",
                "start this container with a volume: -v podctl:/var/lib/podctl",
                "give this container an emptyDir mounted at /var/lib/podctl",
            ]
        );
        let names = ["MKNOD".to_owned()];
        let said = OuterContainer::Other.say_mend(Need::Capabilities(&names));
        assert!(said.contains("--cap-add MKNOD (Docker, Podman)") && said.contains("add: [MKNOD]"), "{said}");
        assert!(OuterContainer::Podman.say_mend(Need::Proc).contains("unmask=ALL"));
    }

    #[test]
    fn a_refused_namespace_has_its_remedy_behind_it_and_other_errors_none() {
        let refused = podctl_runtime::Error::Sys { step: "make namespaces".into(), errno: Errno::EPERM };
        assert!(!explain_refusal(&refused).is_empty());
        let other = podctl_runtime::Error::ZeroByte { what: "x".into() };
        assert_eq!(explain_refusal(&other), "");
    }
}
