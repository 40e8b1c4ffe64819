//! The pod's sandbox from inside: its own proc, loopback, host name, memory and volumes.

use std::{
    ffi::CString,
    fs,
    net::IpAddr,
    os::fd::AsRawFd,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use k8s_openapi::{
    Metadata,
    api::core::v1::{Pod, Volume},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use podctl_images::{Image, KeptIds};

use super::{
    Error, Objects,
    downward_api::Facts,
    etc_hosts::{pod_hostname, write_hosts},
    resolv_conf::resolv_conf,
    volumes,
};
use crate::{
    manifest::{list_references, sysctls_of_host},
    outer_container::{Need, OuterContainer, explain_missing_network_right},
    pod::PodExt,
};

/// Beneath the pod's memory; volumes are not called so, for they have a directory of their own there.
const FILES: &str = "files";

/// Holds what containers of the pod share.
#[derive(Debug)]
pub struct Sandbox {
    /// Holds what the pod knows of itself.
    pub facts: Facts,
    /// Each volume's directory or file.
    pub volumes: volumes::Volumes,
    /// The containers' writable layers are here; their names have a dot in them, as no other name here. With the pod's
    /// data, or where [`Sandbox::place_layers`] has put them.
    pub layers: PathBuf,
    /// The tmpfs with `files`, `shm` and the volumes podctl writes.
    pub memory: PathBuf,
    /// The pod's objects.
    pub objects: Objects,
    /// Seccomp profiles that a manifest may name (`localhostProfile`).
    pub profiles: PathBuf,
    /// The ids that the user has in the pod, which are root's else.
    pub kept_ids: Option<KeptIds>,
    /// Tells whether the containers' cgroups keep devices away from them.
    pub device_cgroup: bool,
    /// Holds what the user should know about it.
    pub warnings: Vec<String>,
    /// The PID namespace that all containers share, with shareProcessNamespace.
    pub pid_namespace: Option<PathBuf>,
}

/// Makes the sandbox: on disk beneath `data`, the pod's own directory, and in a tmpfs on `memory`, which may be the same
/// directory for every pod, for each mounts it in its own namespace. `host_paths` has those hostPath volumes
/// that are elsewhere than the manifest says, by name.
///
/// # Errors
/// [`Error`] naming the step.
pub fn set_up(
    pod: &Pod,
    data: &Path,
    memory: &Path,
    objects: Objects,
    own_network: bool,
    host_paths: &volumes::HostPaths,
    kept_ids: Option<KeptIds>,
) -> Result<Sandbox, Error> {
    // Containers make keyrings of their own; where one cannot, it has this one and not that of the pod's owner.
    podctl_runtime::leave_session_keyring().map_err(Error::step("make a session keyring for", "the pod"))?;
    // No mount made here may reach the host.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(Error::step("keep to itself the mount tree at", "/"))?;
    // The supervisor is PID 1 of the pod's own PID namespace: /proc has to show that one.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let spec = pod.spec.as_ref();
    if spec.and_then(|s| s.host_pid) != Some(true) {
        mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).map_err(explain_proc)?;
    }
    if let Some(name) = spec.and_then(|s| sysctls_of_host(s).next()) {
        return Err(Error::Config(format!("sysctl {name} would be set for the whole machine")));
    }
    if own_network {
        open_network();
    }
    for sysctl in spec.and_then(|s| s.security_context.as_ref()?.sysctls.as_ref()).into_iter().flatten() {
        let path = format!("/proc/sys/{}", sysctl.name.replace('.', "/"));
        fs::write(&path, &sysctl.value).map_err(Error::step("set the sysctl", path))?;
    }
    if own_network {
        let explain = |errno| match errno {
            Errno::EPERM => explain_missing_network_right(&errno.into()),
            errno => errno.into(),
        };
        loopback_up().map_err(explain).map_err(Error::step("bring up", "lo"))?;
    }

    let facts = gather_facts(pod)?;
    let mut warnings = Vec::new();
    if own_network {
        match nix::unistd::sethostname(&facts.hostname) {
            // The filter of a container around podctl, which lets namespaces be made but not named.
            Err(Errno::EPERM) => warnings.push(format!(
                "the pod keeps this machine's host name: what is around podctl does not let it set {:?}",
                facts.hostname
            )),
            set => set.map_err(Error::step("set the host name to", &facts.hostname))?,
        }
    }
    for dir in [data, memory] {
        fs::create_dir_all(dir).map_err(Error::step("make directory", dir))?;
    }
    // Unnamed users of the containers pass through these on their way to a volume's files.
    fs::set_permissions(data, fs::Permissions::from_mode(0o711)).map_err(Error::step("open", data))?;
    mount(Some("tmpfs"), memory, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))
        .map_err(Error::step("mount tmpfs on", memory))?;
    let shm = memory.join("shm");
    fs::create_dir(&shm).map_err(Error::step("make directory", &shm))?;
    mount(Some("shm"), &shm, Some("tmpfs"), flags, Some("mode=1777,size=65536k,nr_inodes=16k"))
        .map_err(Error::step("mount tmpfs on", &shm))?;
    let files = memory.join(FILES);
    fs::create_dir(&files).map_err(Error::step("make directory", &files))?;
    mount(Some("tmpfs"), &files, Some("tmpfs"), flags, Some("mode=0711,size=4m,nr_inodes=4k"))
        .map_err(Error::step("mount tmpfs on", &files))?;
    let write = |name: &str, text: String| {
        let path = files.join(name);
        fs::write(&path, text).map_err(Error::step("write", path))
    };
    write("hostname", format!("{}\n", facts.hostname))?;
    write("hosts", write_hosts(pod, &facts))?;
    write("resolv.conf", resolv_conf(pod, None))?;
    // A volume may be called as one of the files above.
    let in_memory = memory.join("volumes");
    fs::create_dir(&in_memory).map_err(Error::step("make directory", &in_memory))?;
    let places =
        volumes::Places { disk: data.join("volumes"), memory: in_memory, host: host_paths.clone(), kept_ids };
    let (layers, memory) = (data.to_owned(), memory.to_owned());
    let (profiles, device_cgroup, pid_namespace) = (PathBuf::new(), false, None);
    let volumes = volumes::Volumes::at(places);
    let mut sandbox = Sandbox {
        facts,
        volumes,
        layers,
        memory,
        objects,
        profiles,
        kept_ids,
        device_cgroup,
        warnings,
        pid_namespace,
    };
    sandbox.make_volumes(pod);
    Ok(sandbox)
}

/// The kernel lets nobody see more through a new proc than through the one that is there, which runtimes mask in part.
fn explain_proc(errno: Errno) -> Error {
    match (errno, OuterContainer::find_around()) {
        (Errno::EPERM, Some(outer)) => Error::Config(format!(
            "no proc of its own can be mounted, as that of the container around podctl is masked; {}",
            outer.say_mend(Need::Proc)
        )),
        _ => Error::step("mount proc on", "/proc")(errno),
    }
}

/// Lets whoever is in the pod listen below port 1024 and ping, as containerd does: the network is the pod's own.
fn open_network() {
    let proc = Path::new("/proc/sys/net/ipv4");
    // Kernels without one of them are as they were.
    let _ = fs::write(proc.join("ip_unprivileged_port_start"), "0");
    let _ = fs::write(proc.join("ping_group_range"), format!("0 {}", last_group()));
}

/// The last of the groups from 0 on that the user namespace has.
fn last_group() -> u32 {
    const LAST: u32 = i32::MAX as u32;
    let map = fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    let mut next = 0;
    for line in map.lines() {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        if let [inside, _, count] = numbers[..]
            && inside == next
        {
            next = inside.saturating_add(count);
        }
    }
    next.saturating_sub(1).min(LAST)
}

impl Sandbox {
    /// The directory of the files that podctl makes and containers may write to: `hosts`, `resolv.conf`, `hostname`,
    /// and what each leaves as its last words. A tmpfs of its own, so that nobody fills the machine's memory or disk
    /// with them.
    pub fn files(&self) -> PathBuf {
        self.memory.join(FILES)
    }

    /// Returns the image's layers as this pod sees them, lowest first.
    pub fn layers_of(&self, image: &Image) -> Vec<PathBuf> {
        volumes::image_layers(image, self.kept_ids)
    }

    /// The pod's addresses are known: /etc/hosts names them, and /etc/resolv.conf the network's resolver.
    ///
    /// # Errors
    /// [`Error::Step`].
    pub fn set_addresses(
        &mut self,
        pod: &Pod,
        pod_ips: Vec<String>,
        host_ips: Vec<String>,
        resolver: Option<IpAddr>,
    ) -> Result<(), Error> {
        self.facts.host_ips = host_ips;
        self.facts.pod_ips = pod_ips;
        let texts = [("hosts", write_hosts(pod, &self.facts)), ("resolv.conf", resolv_conf(pod, resolver))];
        texts.into_iter().try_for_each(|(name, text)| {
            let path = self.files().join(name);
            fs::write(&path, text).map_err(Error::step("write", path))
        })
    }
}

impl Sandbox {
    /// Makes those of the pod's volumes that are not there yet; what failed, and why, is in [`volumes::Volumes::failed`].
    pub fn make_volumes(&mut self, pod: &Pod) {
        self.volumes.make(pod, &self.objects, &self.facts);
        let empty = pod.volumes().filter(|v| v.empty_dir.is_some());
        let path = |v: &Volume| Some((v.name.clone(), self.volumes.paths.get(&v.name)?.clone()));
        self.facts.volumes = empty.filter_map(path).collect();
    }

    /// ConfigMaps and Secrets have changed: containers that start have the new ones, and volumes show
    /// them at once. Gives what could not be done; those volumes stay as they were.
    pub fn refresh(&mut self, pod: &Pod, changed: &Objects) -> Vec<Error> {
        let gone = |kind: &str, meta: &ObjectMeta| {
            let name = meta.name.as_deref().unwrap_or_default();
            // What came with the pod's own file is not kept.
            meta.creation_timestamp.is_some() && changed.gone.iter().any(|(k, n)| k == kind && n == name)
        };
        self.objects.config_maps.retain(|map| !gone("ConfigMap", &map.metadata));
        self.objects.secrets.retain(|secret| !gone("Secret", &secret.metadata));
        let maps = changed.config_maps.iter().filter(|new| replace(&mut self.objects.config_maps, new));
        let mut names: Vec<_> = maps.map(|map| ("ConfigMap", map.metadata.name.clone())).collect();
        let secrets = changed.secrets.iter().filter(|new| replace(&mut self.objects.secrets, new));
        names.extend(secrets.map(|secret| ("Secret", secret.metadata.name.clone())));
        names.extend(changed.gone.iter().map(|(kind, name)| (kind.as_str(), Some(name.clone()))));
        let mentions = |at: usize| {
            let place = format!("spec.volumes[{at}].");
            let all = list_references(pod);
            all.iter().any(|r| {
                let named = |(kind, name): &(&str, Option<String>)| {
                    *kind == r.kind && name.as_deref() == Some(r.name)
                };
                r.path.starts_with(&place) && names.iter().any(named)
            })
        };
        let all = pod.volumes().enumerate();
        let shown = all.filter(|(at, _)| mentions(*at));
        let paths = &self.volumes.paths;
        shown
            .filter_map(|(_, volume)| {
                let path = paths.get(&volume.name)?;
                volumes::rewrite_files(volume, pod, &self.objects, &self.facts, path).err()
            })
            .collect()
    }
}

impl Sandbox {
    /// Labels and annotations of the pod have changed: volumes of the downward API show them at once. Returns what could
    /// not be done; those volumes stay as they were.
    pub fn refresh_metadata(&mut self, pod: &Pod) -> Vec<Error> {
        self.facts.labels = pod.metadata.labels.clone().unwrap_or_default();
        self.facts.annotations = pod.metadata.annotations.clone().unwrap_or_default();
        let projects = |v: &Volume| {
            let sources = v.projected.iter().flat_map(|p| p.sources.iter().flatten());
            v.downward_api.is_some() || sources.into_iter().any(|source| source.downward_api.is_some())
        };
        let all = pod.volumes().filter(|v| projects(v));
        all.filter_map(|volume| {
            let path = self.volumes.paths.get(&volume.name)?;
            volumes::rewrite_files(volume, pod, &self.objects, &self.facts, path).err()
        })
        .collect()
    }
}

/// Takes the new object for the one of its name; not for one of the pod's own file, which nobody keeps.
fn replace<T: Metadata<Ty = ObjectMeta> + Clone>(all: &mut Vec<T>, new: &T) -> bool {
    match all.iter_mut().find(|known| known.metadata().name == new.metadata().name) {
        Some(known) if known.metadata().creation_timestamp.is_none() => return false,
        Some(known) => *known = new.clone(),
        None => all.push(new.clone()),
    }
    true
}

fn gather_facts(pod: &Pod) -> Result<Facts, Error> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let name = meta.name.clone().unwrap_or_default();
    let node = nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_default();
    let host_network = spec.and_then(|s| s.host_network) == Some(true);
    Ok(Facts {
        hostname: if host_network { node.clone() } else { pod_hostname(pod)? },
        node,
        name,
        namespace: meta.namespace.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        labels: meta.labels.clone().unwrap_or_default(),
        annotations: meta.annotations.clone().unwrap_or_default(),
        service_account: spec
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_else(|| "default".into()),
        containers: spec
            .map(|s| s.init_containers.iter().flatten().chain(&s.containers).cloned().collect())
            .unwrap_or_default(),
        limits: spec.and_then(|s| s.resources.as_ref()).and_then(|r| r.limits.clone()).unwrap_or_default(),
        ..Facts::default()
    })
}

fn loopback_up() -> nix::Result<()> {
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let name = CString::new("lo").expect("no NUL in it");
    // SAFETY: ifreq is plain data for which all zeroes is a value; the name fits with its NUL, and
    // the kernel reads and writes only this one struct.
    let done = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &request)
    };
    Errno::result(done).map(drop)
}
