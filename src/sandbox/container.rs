//! One container as an OCI runtime spec: what Kubernetes says over what the image says over what
//! Docker does by default.

use std::{
    collections::HashSet,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext, VolumeMount};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, Linux, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxCpuBuilder,
    LinuxMemoryBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, LinuxSeccomp, Mount, MountBuilder, Process, ProcessBuilder, RootBuilder, Spec,
    SpecBuilder, UserBuilder,
};
use podctl_images::Image;
use podctl_runtime::{defaults, seccomp};

use super::{Error, Sandbox, env, user};
use crate::manifest::{quantity_bytes, quantity_millis};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A container's spec, and what has to stay open until it is created.
#[derive(Debug)]
pub struct Prepared {
    /// What the runtime carries out.
    pub spec: Spec,
    /// Sources of subPath mounts, which the spec names through their descriptors.
    pub held: Vec<OwnedFd>,
}

/// The runtime spec of one container of the pod.
///
/// # Errors
/// [`Error::Config`] for what cannot be honoured.
pub fn container_spec(
    pod: &Pod,
    container: &Container,
    image: &Image,
    sandbox: &Sandbox,
    termination_log: &Path,
) -> Result<Prepared, Error> {
    let security = Security::of(pod, container);
    let mut held = Vec::new();
    let process = process(container, image, sandbox, &security)?;
    let mut linux = linux(pod, container, &security)?;
    if !security.privileged {
        linux.set_masked_paths(Some(defaults::MASKED_PATHS.iter().map(|p| p.to_string()).collect()));
        linux.set_readonly_paths(Some(defaults::READONLY_PATHS.iter().map(|p| p.to_string()).collect()));
    }
    linux.set_seccomp(security.seccomp()?);
    let mut mounts = mounts(pod, container, sandbox, &security, &mut held)?;
    let message_path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    mounts.push(mount(message_path, "bind", termination_log.to_owned(), &["rbind"])?);
    let spec = built(
        SpecBuilder::default()
            .version("1.2.0")
            .root(built(RootBuilder::default().path("rootfs").readonly(security.read_only_root).build())?)
            .mounts(mounts)
            .process(process)
            .linux(linux)
            .build(),
    )?;
    Ok(Prepared { spec, held })
}

/// The process of an `exec` into a container of that spec: same identity, other command.
pub fn exec_process(spec: &Spec, command: Vec<String>, terminal: bool) -> Process {
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(command));
    process.set_terminal(Some(terminal));
    let env = process.env_mut().get_or_insert_default();
    if terminal && !env.iter().any(|e| e.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    process
}

/// The pod's and the container's securityContext as one; the container's wins.
struct Security<'a> {
    pod: Option<&'a PodSecurityContext>,
    own: Option<&'a SecurityContext>,
    privileged: bool,
    read_only_root: bool,
    no_new_privileges: bool,
    run_as_user: Option<i64>,
    run_as_group: Option<i64>,
    run_as_non_root: bool,
}

impl<'a> Security<'a> {
    fn of(pod: &'a Pod, container: &'a Container) -> Security<'a> {
        let pod = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
        let own = container.security_context.as_ref();
        Security {
            pod,
            own,
            privileged: own.and_then(|s| s.privileged).unwrap_or(false),
            read_only_root: own.and_then(|s| s.read_only_root_filesystem).unwrap_or(false),
            no_new_privileges: own.and_then(|s| s.allow_privilege_escalation) == Some(false),
            run_as_user: own.and_then(|s| s.run_as_user).or(pod.and_then(|s| s.run_as_user)),
            run_as_group: own.and_then(|s| s.run_as_group).or(pod.and_then(|s| s.run_as_group)),
            run_as_non_root: own.and_then(|s| s.run_as_non_root).or(pod.and_then(|s| s.run_as_non_root))
                == Some(true),
        }
    }

    /// Docker's default set, plus `add`, less `drop`; `ALL` means all.
    fn capabilities(&self) -> Result<HashSet<Capability>, Error> {
        if self.privileged {
            return Ok(all_capabilities().into_iter().collect());
        }
        let mut set: HashSet<Capability> = defaults::CAPABILITIES.into_iter().collect();
        let change = self.own.and_then(|s| s.capabilities.as_ref());
        let (add, drop) = (change.and_then(|c| c.add.as_ref()), change.and_then(|c| c.drop.as_ref()));
        for name in drop.into_iter().flatten() {
            match name.as_str() {
                "ALL" => set.clear(),
                name => drop_one(&mut set, capability(name)?),
            }
        }
        for name in add.into_iter().flatten() {
            match name.as_str() {
                "ALL" => set.extend(all_capabilities()),
                name => {
                    set.insert(capability(name)?);
                }
            }
        }
        Ok(set)
    }

    /// Docker's profile unless the manifest asks for Unconfined.
    fn seccomp(&self) -> Result<Option<LinuxSeccomp>, Error> {
        let asked = self
            .own
            .and_then(|s| s.seccomp_profile.as_ref())
            .or(self.pod.and_then(|s| s.seccomp_profile.as_ref()));
        match asked.map(|p| p.type_.as_str()) {
            _ if self.privileged => Ok(None),
            Some("Unconfined") => Ok(None),
            None | Some("RuntimeDefault") => Ok(Some(seccomp::docker_default(&self.capabilities()?))),
            Some(other) => Err(Error::Config(format!(
                "securityContext.seccompProfile.type {other} is not supported; use RuntimeDefault or Unconfined"
            ))),
        }
    }
}

/// Every capability there is, by its kernel name.
fn all_capabilities() -> Vec<Capability> {
    const NAMES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
        NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE \
        SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL \
        SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";
    NAMES.split_whitespace().filter_map(|name| capability(name).ok()).collect()
}

fn drop_one(set: &mut HashSet<Capability>, capability: Capability) {
    set.remove(&capability);
}

fn capability(name: &str) -> Result<Capability, Error> {
    name.trim_start_matches("CAP_")
        .parse()
        .map_err(|_| Error::Config(format!("capability {name:?} is not known")))
}

fn process(
    container: &Container,
    image: &Image,
    sandbox: &Sandbox,
    security: &Security<'_>,
) -> Result<Process, Error> {
    let config = &image.config;
    let image_user = config.user().as_deref().unwrap_or("");
    let user = user::resolve(&image.layers, image_user, security.run_as_user, security.run_as_group)?;
    if security.run_as_non_root && user.uid == 0 {
        return Err(Error::Config(
            "container has runAsNonRoot and would run as root; set securityContext.runAsUser, or use an image with a numeric USER".into(),
        ));
    }
    let image_env = config.env().clone().unwrap_or_default();
    let mut env = env::environment(&image_env, container, &sandbox.objects, &sandbox.facts)?;
    for (name, value) in [("PATH", PATH), ("HOME", user.home.as_str())] {
        if !env.iter().any(|(n, _)| n == name) {
            env.push((name.into(), value.into()));
        }
    }
    if container.tty == Some(true) && !env.iter().any(|(n, _)| n == "TERM") {
        env.push(("TERM".into(), "xterm".into()));
    }
    let args = arguments(container, image, &env)?;
    let mut groups: Vec<u32> = user.groups.clone();
    let ids = security.pod.and_then(|p| p.supplemental_groups.clone()).unwrap_or_default();
    groups.extend(ids.into_iter().chain(security.pod.and_then(|p| p.fs_group)).map(|g| g as u32));
    groups.sort_unstable();
    groups.dedup();
    let cwd =
        container.working_dir.clone().or_else(|| config.working_dir().clone()).filter(|d| !d.is_empty());
    let user = UserBuilder::default().uid(user.uid).gid(user.gid).additional_gids(groups);
    built(
        ProcessBuilder::default()
            .terminal(container.tty == Some(true))
            .user(built(user.build())?)
            .args(args)
            .env(env.into_iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>())
            .cwd(cwd.unwrap_or_else(|| "/".into()))
            .capabilities(capability_sets(security, image_user)?)
            .no_new_privileges(security.no_new_privileges)
            .build(),
    )
}

/// `command` replaces the image's entrypoint and its arguments; `args` only the arguments.
fn arguments(container: &Container, image: &Image, env: &[(String, String)]) -> Result<Vec<String>, Error> {
    let set = |list: &Option<Vec<String>>| list.clone().filter(|l| !l.is_empty());
    let (command, args) = (set(&container.command), set(&container.args));
    let (entrypoint, cmd) = (set(image.config.entrypoint()), set(image.config.cmd()));
    let env = env.iter().cloned().collect();
    let expand = |list: Vec<String>| list.iter().map(|a| env::expand(a, &env)).collect::<Vec<_>>();
    let line = match (command, args) {
        (Some(command), args) => [expand(command), expand(args.unwrap_or_default())].concat(),
        (None, Some(args)) => [entrypoint.unwrap_or_default(), expand(args)].concat(),
        (None, None) => [entrypoint.unwrap_or_default(), cmd.unwrap_or_default()].concat(),
    };
    if line.is_empty() {
        return Err(Error::Config(format!(
            "no command specified: image {} has neither Entrypoint nor Cmd; give the container a command",
            image.reference
        )));
    }
    Ok(line)
}

/// A process that is not root holds its capabilities only when they are made ambient; as Docker
/// does, they are not, and stay in the bounding set.
fn capability_sets(security: &Security<'_>, _image_user: &str) -> Result<LinuxCapabilities, Error> {
    let set = security.capabilities()?;
    built(
        LinuxCapabilitiesBuilder::default()
            .bounding(set.clone())
            .effective(set.clone())
            .permitted(set)
            .inheritable(HashSet::new())
            .ambient(HashSet::new())
            .build(),
    )
}

fn linux(pod: &Pod, container: &Container, security: &Security<'_>) -> Result<Linux, Error> {
    let spec = pod.spec.as_ref();
    let mut kinds = vec![LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup];
    let shared = spec.is_some_and(|s| s.share_process_namespace == Some(true) || s.host_pid == Some(true));
    if !shared {
        kinds.push(LinuxNamespaceType::Pid);
    }
    let namespaces = kinds.into_iter().map(|k| built(LinuxNamespaceBuilder::default().typ(k).build()));
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces.collect::<Result<Vec<_>, _>>()?)
        .resources(resources(container)?);
    if let Some(sysctls) = security.pod.and_then(|p| p.sysctls.as_ref()) {
        linux = linux.sysctl(
            sysctls
                .iter()
                .map(|s| (s.name.clone(), s.value.clone()))
                .collect::<std::collections::HashMap<_, _>>(),
        );
    }
    built(linux.build())
}

/// R-RES-1, in cgroup v1's words as the runtime spec has them.
fn resources(container: &Container) -> Result<LinuxResources, Error> {
    let lists = container.resources.as_ref();
    let of = |list: Option<
        &std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    >,
              name: &str| { list.and_then(|l| l.get(name)).map(|q| q.0.clone()) };
    let limits = lists.and_then(|r| r.limits.as_ref());
    let requests = lists.and_then(|r| r.requests.as_ref());
    let wrong = |text: &str| Error::Config(format!("{text:?} is not a quantity"));
    let mut built_resources = LinuxResourcesBuilder::default();
    if let Some(limit) = of(limits, "memory") {
        let bytes = quantity_bytes(&limit).map_err(|_| wrong(&limit))? as i64;
        built_resources = built_resources.memory(built(LinuxMemoryBuilder::default().limit(bytes).build())?);
    }
    let mut cpu = LinuxCpuBuilder::default();
    if let Some(request) = of(requests, "cpu").or_else(|| of(limits, "cpu")) {
        let milli = quantity_millis(&request).map_err(|_| wrong(&request))?;
        cpu = cpu.shares((milli * 1024 / 1000).clamp(2, 262_144));
    } else {
        cpu = cpu.shares(2u64);
    }
    if let Some(limit) = of(limits, "cpu") {
        let milli = quantity_millis(&limit).map_err(|_| wrong(&limit))? as i64;
        cpu = cpu.period(100_000u64).quota((milli * 100).max(1000));
    }
    let pids = built(LinuxPidsBuilder::default().limit(4096i64).build())?;
    built(built_resources.cpu(built(cpu.build())?).pids(pids).build())
}

fn mounts(
    pod: &Pod,
    container: &Container,
    sandbox: &Sandbox,
    security: &Security<'_>,
    held: &mut Vec<OwnedFd>,
) -> Result<Vec<Mount>, Error> {
    let file = |name: &str| sandbox.memory.join(name);
    let sys_flags: &[&str] = if security.privileged {
        &["nosuid", "noexec", "nodev"]
    } else {
        &["nosuid", "noexec", "nodev", "ro"]
    };
    let mut all = vec![
        mount("/proc", "proc", "proc".into(), &["nosuid", "noexec", "nodev"])?,
        mount("/dev", "tmpfs", "tmpfs".into(), &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts".into(),
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        )?,
        mount("/dev/mqueue", "mqueue", "mqueue".into(), &["nosuid", "noexec", "nodev"])?,
        mount("/dev/shm", "bind", file("shm"), &["rbind", "nosuid", "noexec", "nodev"])?,
        mount("/sys", "sysfs", "sysfs".into(), sys_flags)?,
        mount("/sys/fs/cgroup", "cgroup", "cgroup".into(), &["nosuid", "noexec", "nodev", "ro"])?,
    ];
    let volume_mounts = container.volume_mounts.as_deref().unwrap_or_default();
    for (target, name) in
        [("/etc/hosts", "hosts"), ("/etc/resolv.conf", "resolv.conf"), ("/etc/hostname", "hostname")]
    {
        if !volume_mounts.iter().any(|m| m.mount_path == target) {
            let options: &[&str] = if security.read_only_root { &["rbind", "ro"] } else { &["rbind"] };
            all.push(mount(target, "bind", file(name), options)?);
        }
    }
    // Shallow targets first, so that a mount inside another's target is not hidden by it.
    let mut ordered: Vec<&VolumeMount> = volume_mounts.iter().collect();
    ordered.sort_by_key(|m| Path::new(&m.mount_path).components().count());
    for volume_mount in ordered {
        all.push(volume(pod, volume_mount, container, sandbox, held)?);
    }
    Ok(all)
}

fn volume(
    pod: &Pod,
    wanted: &VolumeMount,
    container: &Container,
    sandbox: &Sandbox,
    held: &mut Vec<OwnedFd>,
) -> Result<Mount, Error> {
    let base = sandbox.volumes.get(&wanted.name).ok_or_else(|| {
        Error::Config(format!("volumeMounts names the volume {:?}, which there is not", wanted.name))
    })?;
    let sub = match (&wanted.sub_path, &wanted.sub_path_expr) {
        (Some(path), _) if !path.is_empty() => Some(path.clone()),
        (_, Some(expr)) if !expr.is_empty() => {
            let env = env::environment(&[], container, &sandbox.objects, &sandbox.facts)?;
            Some(env::expand(expr, &env.into_iter().collect()))
        }
        _ => None,
    };
    let source = match sub {
        Some(sub) => {
            let found = sub_path(base, &sub, &wanted.name)?;
            let path = format!("/proc/self/fd/{}", found.as_raw_fd());
            held.push(found);
            path.into()
        }
        None => base.clone(),
    };
    let kind = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).find(|v| v.name == wanted.name);
    let written_by_podctl = kind.is_some_and(|v| {
        v.config_map.is_some() || v.secret.is_some() || v.downward_api.is_some() || v.projected.is_some()
    });
    let mut options = vec!["rbind"];
    options.push(match wanted.mount_propagation.as_deref() {
        Some("HostToContainer") => "rslave",
        Some("Bidirectional") => "rshared",
        _ => "rprivate",
    });
    if wanted.read_only == Some(true) || written_by_podctl {
        options.push(if wanted.recursive_read_only.as_deref() == Some("Enabled") { "rro" } else { "ro" });
    }
    mount(&wanted.mount_path, "bind", source, &options)
}

/// Resolves a subPath without ever leaving the volume; a directory that is missing is made.
///
/// What comes back is a descriptor of the very file that was checked, so that a container that
/// swaps a link in later gains nothing.
fn sub_path(volume: &Path, sub: &str, name: &str) -> Result<OwnedFd, Error> {
    use nix::{
        errno::Errno,
        fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
        sys::stat::{Mode, mkdirat},
    };
    let wrong = |e: Errno| Error::Volume {
        volume: name.to_owned(),
        message: format!("subPath {sub:?}: {}", e.desc()),
    };
    let how = || {
        OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
    };
    let mut at = open(volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(wrong)?;
    for part in sub.split('/').filter(|p| !p.is_empty() && *p != ".") {
        at = match openat2(&at, part, how()) {
            Err(Errno::ENOENT) => {
                match mkdirat(&at, part, Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(e) => return Err(wrong(e)),
                }
                openat2(&at, part, how()).map_err(wrong)?
            }
            found => found.map_err(wrong)?,
        };
    }
    Ok(at)
}

fn mount(target: &str, kind: &str, source: PathBuf, options: &[&str]) -> Result<Mount, Error> {
    built(
        MountBuilder::default()
            .destination(target)
            .typ(kind)
            .source(source)
            .options(options.iter().map(|o| o.to_string()).collect::<Vec<_>>())
            .build(),
    )
}

fn built<T>(result: Result<T, OciSpecError>) -> Result<T, Error> {
    result.map_err(|e| Error::Config(e.to_string()))
}
