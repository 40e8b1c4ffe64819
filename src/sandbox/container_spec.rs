//! One container as an OCI runtime spec: what Kubernetes says over what the image says over what
//! Docker does by default.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
    UserBuilder,
};
use podctl_images::Image;
use podctl_runtime::defaults;

use super::{
    Error, Sandbox, cgroup_limits,
    declared_volumes::{self, normalize_path},
    devices, environment, mounts,
    security_context::{self, Filter, Security},
};
use crate::pod::{mount_target, resources::oom_score_adj};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The container's `/dev`: bounded, whoever writes to it, in bytes and in files.
const DEV_OPTIONS: [&str; 5] = ["nosuid", "strictatime", "mode=755", "size=65536k", "nr_inodes=16k"];

/// A container's spec, and what has to stay open until it is created.
#[derive(Debug)]
pub struct Prepared {
    /// Holds what the runtime carries out.
    pub spec: Spec,
    /// Holds what filters its system calls; it is not in the spec, because most containers of a pod share one.
    pub filter: Option<Filter>,
    /// Sources of subPath mounts, which the spec names through their descriptors.
    _held: Vec<OwnedFd>,
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
    let mut process = build_process(container, image, sandbox, &security)?;
    process.set_apparmor_profile(security.apparmor_profile()?);
    let spec = pod.spec.clone().unwrap_or_default();
    process.set_oom_score_adj(Some(oom_score_adj(
        &spec,
        container,
        super::downward_api::memory_of_machine() as u64,
    )));
    let mut linux = linux(pod, container, sandbox, security.privileged)?;
    linux.set_devices(Some(security.list_devices()));
    // The type has 1,024 open files of its own where none are set, which not everybody may ask for: a container has the limits
    // of its supervisor, which are raised as far as the kernel lets it.
    let is_user_namespace = security_context::in_user_namespace();
    process.set_rlimits(is_user_namespace.then(most_processes).transpose()?.map(|limit| vec![limit]));
    // The type has paths of its own where none are set.
    let hidden = |paths: Vec<String>| if security.unmasked { Vec::new() } else { paths };
    linux.set_masked_paths(Some(hidden(defaults::masked_paths())));
    linux.set_readonly_paths(Some(hidden(defaults::READONLY_PATHS.map(str::to_owned).into())));
    let filter = security.seccomp(&sandbox.profiles)?;
    let mut mounts = mounts(pod, container, sandbox, &security, termination_log, &mut held)?;
    declared_volumes::add(&mut mounts, image, container)?;
    let spec = check_built(
        SpecBuilder::default()
            .version("1.2.0")
            .root(check_built(
                RootBuilder::default().path("rootfs").readonly(security.read_only_root).build(),
            )?)
            .mounts(mounts)
            .process(process)
            .linux(linux)
            .build(),
    )?;
    Ok(Prepared { spec, filter, _held: held })
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

fn build_process(
    container: &Container,
    image: &Image,
    sandbox: &Sandbox,
    security: &Security<'_>,
) -> Result<Process, Error> {
    let config = &image.config;
    let user = security.resolve_user(image, sandbox.kept_ids)?;
    let image_env = config.env().clone().unwrap_or_default();
    let environment::Environment { all: mut env, declared } =
        environment::environment(&image_env, container, &sandbox.objects, &sandbox.facts)?;
    for (name, value) in [("PATH", PATH), ("HOME", user.home.as_str())] {
        if !env.iter().any(|(n, _)| n == name) {
            env.push((name.into(), value.into()));
        }
    }
    if container.tty == Some(true) && !env.iter().any(|(n, _)| n == "TERM") {
        env.push(("TERM".into(), "xterm".into()));
    }
    let args = expand_arguments(container, image, &declared)?;
    let cwd =
        container.working_dir.clone().or_else(|| config.working_dir().clone()).filter(|d| !d.is_empty());
    // What climbs above the root stays at the root, as it does for a process that changes there.
    let cwd = cwd.map(|dir| normalize_path(Path::new(&dir)));
    let identity = UserBuilder::default().uid(user.uid).gid(user.gid).additional_gids(user.groups.clone());
    check_built(
        ProcessBuilder::default()
            .terminal(container.tty == Some(true))
            .user(check_built(identity.build())?)
            .args(args)
            .env(env.into_iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>())
            .cwd(cwd.unwrap_or_else(|| "/".into()))
            .capabilities(security.capability_sets(sandbox.device_cgroup)?)
            .no_new_privileges(security.no_new_privileges)
            .build(),
    )
}

/// Returns what bounds a fork bomb where there is no cgroup to do it: the kernel counts a user's processes
/// by user namespace.
fn most_processes() -> Result<PosixRlimit, Error> {
    use nix::sys::resource::{Resource, getrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).unwrap_or((u64::MAX, u64::MAX));
    let most = hard.min(cgroup_limits::PIDS as u64);
    check_built(PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNproc).soft(most).hard(most).build())
}

/// `command` replaces the image's entrypoint and its arguments; `args` only the arguments.
fn expand_arguments(
    container: &Container,
    image: &Image,
    env: &BTreeMap<String, String>,
) -> Result<Vec<String>, Error> {
    let set = |list: &Option<Vec<String>>| list.clone().filter(|l| !l.is_empty());
    let (command, args) = (set(&container.command), set(&container.args));
    let (entrypoint, cmd) = (set(image.config.entrypoint()), set(image.config.cmd()));
    let expand = |list: Vec<String>| list.iter().map(|a| environment::expand(a, env)).collect::<Vec<_>>();
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

fn linux(pod: &Pod, container: &Container, sandbox: &Sandbox, privileged: bool) -> Result<Linux, Error> {
    let spec = pod.spec.as_ref();
    let own = |kind| check_built(LinuxNamespaceBuilder::default().typ(kind).build());
    let mut namespaces = vec![own(LinuxNamespaceType::Mount)?, own(LinuxNamespaceType::Cgroup)?];
    if let Some(pause) = &sandbox.pid_namespace {
        let shared = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Pid).path(pause.clone());
        namespaces.push(check_built(shared.build())?);
    } else if spec.is_none_or(|s| s.host_pid != Some(true)) {
        namespaces.push(own(LinuxNamespaceType::Pid)?);
    }
    let mut resources = cgroup_limits::of_container(spec.unwrap_or(&PodSpec::default()), container)?;
    resources.set_devices(Some(devices::allowed_devices(pod, container, privileged)));
    check_built(LinuxBuilder::default().namespaces(namespaces).resources(resources).build())
}

fn mounts(
    pod: &Pod,
    container: &Container,
    sandbox: &Sandbox,
    security: &Security<'_>,
    termination_log: &Path,
    held: &mut Vec<OwnedFd>,
) -> Result<Vec<Mount>, Error> {
    let sys_flags: &[&str] = if security.privileged {
        &["nosuid", "noexec", "nodev"]
    } else {
        &["nosuid", "noexec", "nodev", "ro"]
    };
    let host = |asked: Option<bool>| asked == Some(true);
    let spec = pod.spec.as_ref();
    // Only who owns the namespaces behind them may mount these anew.
    let (host_pid, host_ipc) = (host(spec.and_then(|s| s.host_pid)), host(spec.and_then(|s| s.host_ipc)));
    let system = |path: &str, kind: &str, of_host: bool| match of_host {
        true => mount(path, "bind", path.into(), &["rbind"]),
        false => mount(path, kind, kind.into(), &["nosuid", "noexec", "nodev"]),
    };
    let shm = if host_ipc { "/dev/shm".into() } else { sandbox.memory.join("shm") };
    let mut all = vec![
        system("/proc", "proc", host_pid)?,
        mount("/dev", "tmpfs", "tmpfs".into(), &DEV_OPTIONS)?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts".into(),
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        )?,
        mount("/dev/shm", "bind", shm, &["rbind", "nosuid", "noexec", "nodev"])?,
        mount("/sys", "sysfs", "sysfs".into(), sys_flags)?,
        // A privileged one may divide its own cgroup, which its namespace shows as the root: so podctl nests with limits.
        mount("/sys/fs/cgroup", "cgroup", "cgroup".into(), sys_flags)?,
    ];
    if !host_ipc || Path::new("/dev/mqueue").exists() {
        all.push(system("/dev/mqueue", "mqueue", host_ipc)?);
    }
    let volume_mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let message_path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    let mut placed = vec![mount(message_path, "bind", termination_log.to_owned(), &["rbind"])?];
    for (target, name) in
        [("/etc/hosts", "hosts"), ("/etc/resolv.conf", "resolv.conf"), ("/etc/hostname", "hostname")]
    {
        if !volume_mounts.iter().any(|m| mount_target(m) == Path::new(target)) {
            let options: &[&str] = if security.read_only_root { &["rbind", "ro"] } else { &["rbind"] };
            placed.push(mount(target, "bind", sandbox.files().join(name), options)?);
        }
    }
    for volume_mount in volume_mounts {
        let mut volume = mounts::volume(pod, volume_mount, container, sandbox, held)?;
        if security.privileged {
            volume.options_mut().iter_mut().for_each(|options| options.retain(|name| name != "rnodev"));
        }
        placed.push(volume);
    }
    // Shallow targets first, so that a mount inside another's target is not hidden by it: /etc/hosts in a volume at /etc.
    placed.sort_by_key(|m| m.destination().components().count());
    mounts::make_mount_points(pod, container, &placed);
    all.extend(placed);
    Ok(all)
}

pub(super) fn mount(target: &str, kind: &str, source: PathBuf, options: &[&str]) -> Result<Mount, Error> {
    check_built(
        MountBuilder::default()
            .destination(target)
            .typ(kind)
            .source(source)
            .options(options.iter().map(|o| o.to_string()).collect::<Vec<_>>())
            .build(),
    )
}

pub(super) fn check_built<T>(result: Result<T, OciSpecError>) -> Result<T, Error> {
    result.map_err(|e| Error::Config(e.to_string()))
}
