//! From a checked pod to a running supervisor: the client's half of a start.
//!
//! Steps: take the pod's lock, look the images up, connect to the pods' network and take the published
//! ports, start the supervisor in its namespaces, and
//! beside it, when an image is missing, the puller, which needs the host's network.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::File,
    io::{Seek, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sched::CloneFlags,
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair},
    },
    unistd::pipe2,
};
use podctl_images::{Image, Reference, Store};
use podctl_runtime::{IdMappings, Process, Spawn, spawn, start_trace};
use serde::{Deserialize, Serialize};

use super::{
    children, contained,
    control::{Request, send},
    log::Limits as LogLimits,
    publish, userns,
};
use crate::{
    lifecycle,
    network::{
        self,
        ports::{self, HostPort},
    },
    roles::MAPPED,
    sandbox::Objects,
    state::{self, Home, Liveness, PodDir},
};

/// Descriptor of the pod's lock in the supervisor.
pub(super) const LOCK: RawFd = 3;
/// Descriptor of the [`Launch`] as JSON.
pub(super) const LAUNCH: RawFd = 4;
/// Descriptor of the socket to the client that started the pod.
pub(super) const CLIENT: RawFd = 5;
/// Descriptor of the socket to the puller.
pub(super) const PULLER: RawFd = 6;
/// Descriptor of the connection to the pods' network.
pub(super) const NETWORK: RawFd = 7;
/// Descriptor of a command's connection that is there from the start.
pub(super) const FIRST: RawFd = 8;
/// Descriptor, in the puller, of the pipe that ends with the client whose terminal it writes to.
pub(super) const SCREEN: RawFd = 9;
/// Keeps the user namespace for later pods; it only has to be open.
const USERS: RawFd = 10;

/// How long a pod is started anew on a network that is killed again and again.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a supervisor is given.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    pub pod: Pod,
    pub objects: Objects,
    /// Images that are present and may be used as they are, by container.
    pub images: BTreeMap<String, Image>,
    pub options: Options,
    pub runtime_dir: PathBuf,
    pub data_dir: PathBuf,
    pub own_network: bool,
    /// The pod is to be on the network of the user's pods.
    pub on_network: bool,
    /// A command's connection is there from the start, with its request in it.
    pub first: bool,
    /// `status.hostIP`; the client alone can know it, being in the host's network.
    pub host_ip: Option<String>,
    /// Steps are traced, from this zero on.
    pub trace: Option<u64>,
    /// It is root's pod in a user namespace; these mounts come beside it.
    pub contained: Option<contained::Mounts>,
}

/// What a user may choose beside the manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// First wait of a restart's back-off.
    pub backoff_initial: Duration,
    /// Longest wait of a restart's back-off.
    pub backoff_max: Duration,
    /// R-INIT-4: a failed init container restarts the pod.
    pub restart_pod_on_init_failure: bool,
    /// How much of each start's output is kept.
    pub log_limits: LogLimits,
    /// A limit that cannot be enforced stops the start.
    pub strict_limits: bool,
    /// The pod is on the network of the user's pods, unless it is on the host's; else it has loopback alone.
    pub network: bool,
    /// Every container port without a hostPort gets a free one.
    pub publish_all: bool,
    /// Pulls show their progress on standard error.
    #[serde(default)]
    pub progress: bool,
}

impl Default for Options {
    fn default() -> Options {
        let core = lifecycle::Options::default();
        Options {
            backoff_initial: core.backoff_initial,
            backoff_max: core.backoff_max,
            restart_pod_on_init_failure: core.restart_pod_on_init_failure,
            log_limits: LogLimits::default(),
            strict_limits: false,
            network: true,
            publish_all: false,
            progress: false,
        }
    }
}

/// What a supervisor tells the client when its sandbox stands. Anything else it says is why it does not.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    pub warnings: Vec<String>,
}

/// Why a pod could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pod of this name lives.
    #[error(
        "pod \"{0}\" is running already; `podctl delete {0}` ends it, `podctl run --replace` does so first"
    )]
    Exists(String),
    /// State on disk.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The image store.
    #[error(transparent)]
    Images(#[from] podctl_images::Error),
    /// The pods' network, or a port of the host.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// A process could not be started.
    #[error("cannot start the pod's supervisor: {0}")]
    Spawn(#[from] podctl_runtime::Error),
    /// A system call of the start failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The supervisor ended before the pod's sandbox stood.
    #[error("the sandbox of pod \"{pod}\" could not be made: {message}")]
    Sandbox {
        /// The pod's name.
        pod: String,
        /// The supervisor's own words.
        message: String,
    },
}

pub(super) fn step<E: Into<std::io::Error>>(step: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Step { step, source: source.into() }
}

/// A pod whose supervisor runs.
#[derive(Debug)]
pub struct Started {
    /// Where its state lies.
    pub dir: PodDir,
    /// The pod's uid.
    pub uid: String,
    /// What the user should know: what will not work here and why.
    pub warnings: Vec<String>,
    /// Ports of the host that were chosen for it or its Services.
    pub published: Vec<HostPort>,
    /// The connection of the request that was to be served before anything starts.
    pub first: Option<OwnedFd>,
    supervisor: Process,
    /// Open as long as the puller may write to this process's terminal.
    _screen: OwnedFd,
    /// The supervisor says here when there is something new to see.
    client: OwnedFd,
}

impl Started {
    /// Readable when there may be something new about the pod, and when its supervisor has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }

    /// Takes what the supervisor has said so far; `false` when it has ended.
    pub fn lives(&self) -> bool {
        let mut word = [0; 16];
        loop {
            match recv(self.client.as_raw_fd(), &mut word, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET) => {
                    // Its lock is free only when it is gone altogether.
                    self.wait();
                    return false;
                }
                Err(Errno::EAGAIN) => return true,
                _ => {}
            }
        }
    }

    /// Waits until the supervisor has ended; its pod has then ended, too.
    pub fn wait(&self) {
        let _ = self.supervisor.wait();
        contained::tidy(Duration::ZERO);
    }
}

/// Starts the pod. Returns as soon as its supervisor has its sandbox; containers start meanwhile. The
/// supervisor serves `first` before it starts anything, so that an attached terminal misses nothing.
///
/// # Errors
/// [`Error`]; nothing of the pod is left behind then.
pub fn start(
    home: &Home,
    mut pod: Pod,
    objects: Objects,
    options: &Options,
    first: Option<&Request>,
) -> Result<Started, Error> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_else(|| "default".into());
    let dir = home.pod(&namespace, &name);
    // An ended pod's record makes room for the new pod of that name, and comes back if there will be none.
    let before = (dir.liveness() == Liveness::Ended).then(|| dir.set_aside()).transpose()?;
    let uid = uuid::Uuid::new_v4().to_string();
    let manifest = pod.clone();
    pod.metadata.uid = Some(uid);
    let now = Timestamp::now();
    pod.metadata.creation_timestamp = Some(Time(now));
    pod.status = Some(PodStatus { phase: Some("Pending".into()), ..PodStatus::default() });
    let again = Again { pod: manifest, objects: objects.clone(), options: options.clone() };
    start_trace::mark("client", "set an ended pod's record aside");

    let started = match dir.lock()? {
        None => Err(Error::Exists(name)),
        Some(lock) => {
            let mut started = dir.write(&pod).map_err(Error::from).and_then(|()| {
                dir.write_again(&serde_json::to_vec(&again).expect("plain data"))?;
                dir.keep_reserve()?;
                start_trace::mark("client", "take the pod's lock, write its record");
                launch(home, &dir, lock, pod.clone(), objects.clone(), options, first)
            });
            // A network that was killed meanwhile is followed by another.
            let deadline = Instant::now() + PATIENCE;
            while matches!(started, Err(Error::Network(network::Error::Gone)))
                && Instant::now() < deadline
                && let Some(lock) = dir.lock()?
            {
                started = launch(home, &dir, lock, pod.clone(), objects.clone(), options, first);
            }
            if started.is_err() {
                let _ = dir.remove();
            }
            started
        }
    };
    match (&started, before) {
        (Err(_), Some(before)) if dir.bring_back(&before).is_ok() => {}
        (_, Some(before)) => super::sweep::remove(home, &before)?,
        (_, None) => {}
    }
    started
}

/// What starts a pod again.
#[derive(Debug, Serialize, Deserialize)]
struct Again {
    pod: Pod,
    objects: Objects,
    options: Options,
}

/// The ConfigMaps and Secrets that a pod was started with.
///
/// # Errors
/// [`Error::State`].
pub fn objects(dir: &PodDir) -> Result<Objects, Error> {
    Ok(again(dir)?.objects)
}

fn again(dir: &PodDir) -> Result<Again, Error> {
    dir.read()?;
    let path = dir.again_file();
    let text = std::fs::read(&path).map_err(state::Error::io("read", &path))?;
    let damaged = |source| state::Error::Damaged { path, pod: dir.name.clone(), source };
    Ok(serde_json::from_slice(&text).map_err(damaged)?)
}

/// What starts the pod again has these objects from now on.
pub(super) fn keep_objects(dir: &PodDir, objects: &Objects) -> Result<(), Error> {
    let again = Again { objects: objects.clone(), ..again(dir)? };
    Ok(dir.write_again(&serde_json::to_vec(&again).expect("plain data"))?)
}

/// Starts an ended pod anew: the same manifest, objects and options; a new uid, and new logs.
///
/// # Errors
/// [`Error`]; one of a pod that lives is [`Error::Exists`].
pub fn start_again(home: &Home, dir: &PodDir) -> Result<Started, Error> {
    let Again { pod, objects, options } = again(dir)?;
    start(home, pod, objects, &options, None)
}

fn launch(
    home: &Home,
    dir: &PodDir,
    lock: OwnedFd,
    mut pod: Pod,
    objects: Objects,
    options: &Options,
    first: Option<&Request>,
) -> Result<Started, Error> {
    let rootless = !nix::unistd::geteuid().is_root();
    let mut warnings = Vec::new();
    let (mappings, warning) = match rootless {
        true => IdMappings::of_user().map(|(m, w)| (Some(m), w))?,
        false => (None, None),
    };
    warnings.extend(warning);

    let (images, all_present) = present_images(home, &pod)?;
    start_trace::mark("client", "look the images up");
    let own_network = pod.spec.as_ref().and_then(|s| s.host_network) != Some(true);
    let host = |asked: Option<bool>| asked == Some(true);
    let host_pid = host(pod.spec.as_ref().and_then(|s| s.host_pid));
    let host_ipc = host(pod.spec.as_ref().and_then(|s| s.host_ipc));
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let on_network = own_network && options.network;
    let users = mappings.as_ref().filter(|_| userns::lingers());
    let users = users.map(|mappings| userns::shared(home, mappings)).transpose()?;
    let users_namespace = users.as_ref().map(|users| users.namespace.as_fd());
    let network =
        on_network.then(|| network::connect(home, users_namespace, mappings.as_ref())).transpose()?;
    warnings.extend(network.iter().flat_map(|n| n.warnings.clone()));
    let published = match &network {
        Some(network) => publish::publish(home, dir, network, &mut pod, &objects, options.publish_all)
            .map_err(|e| if network.lost() { network::Error::Gone.into() } else { e })?,
        None => Vec::new(),
    };
    start_trace::mark("client", "connect to the network, take ports");
    if own_network && !options.network && !ports::of_pod(&pod).is_empty() {
        warnings.push("without a network the pod's hostPorts are not published".into());
    }
    if !published.is_empty() {
        dir.write(&pod)?;
    }
    let contained = contained::prepare(home, &pod, &objects)?;
    let launch = Launch {
        pod,
        objects,
        images,
        options: options.clone(),
        runtime_dir: home.runtime.clone(),
        data_dir: home.data.clone(),
        own_network,
        on_network,
        first: first.is_some(),
        host_ip: host_ip().map(|ip| ip.to_string()),
        trace: start_trace::zero(),
        contained: contained.as_ref().map(|c| c.mounts.clone()),
    };
    let mut document = memfd(c"podctl-launch")?;
    let text = serde_json::to_vec(&launch).expect("plain data");
    document
        .write_all(&text)
        .and_then(|()| document.rewind())
        .map_err(step("hand the pod to its supervisor"))?;

    let (client, supervisors_end) = pair()?;
    let (pullers_socket, pullers_end) = pair()?;
    let (pullers_screen, screen) = pipe2(OFlag::O_CLOEXEC).map_err(step("make a pipe"))?;
    let first = match first {
        Some(request) => {
            let (ours, theirs) = pair()?;
            send(&ours, request, &[]).map_err(step("ask the pod's supervisor"))?;
            Some((ours, theirs))
        }
        None => None,
    };
    let mut namespaces = CloneFlags::CLONE_NEWNS;
    if !host_pid {
        namespaces |= CloneFlags::CLONE_NEWPID;
    }
    if !host_ipc {
        namespaces |= CloneFlags::CLONE_NEWIPC;
    }
    // The network's pods share its user namespace: the step of mapping ids is saved, too.
    let networks = network.as_ref().map(|n| n.user_namespace.as_fd()).filter(|_| rootless);
    let join = networks.or(users_namespace).map(|namespace| (namespace, CloneFlags::CLONE_NEWUSER));
    let join = join.as_slice();
    if rootless && join.is_empty() {
        namespaces |= CloneFlags::CLONE_NEWUSER;
    }
    if own_network {
        namespaces |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    let mut fds = vec![(lock.as_fd(), LOCK), (document.as_fd(), LAUNCH), (supervisors_end.as_fd(), CLIENT)];
    if !all_present {
        fds.push((pullers_socket.as_fd(), PULLER));
    }
    if let Some(network) = &network {
        fds.push((network.socket.as_fd(), NETWORK));
    }
    if let Some(users) = &users {
        fds.push((users.tie.as_fd(), USERS));
    }
    if let Some((_, theirs)) = &first {
        fds.push((theirs.as_fd(), FIRST));
    }
    let called = format!("supervise {}/{}", dir.namespace, dir.name);
    fds.extend(contained.iter().flat_map(contained::Contained::fds));
    let own = contained.as_ref().map(|c| (c.user_namespace.as_fd(), CloneFlags::CLONE_NEWUSER));
    let into = if own.is_some() { own.as_slice() } else { join };
    let supervisor = role(&called, namespaces, mappings.as_ref(), into, &fds)?;
    start_trace::mark("client", "make the supervisor's namespaces, map ids, execute it");
    let scope = super::scope::ask(&uid, &supervisor);
    let puller = match all_present {
        true => None,
        false => {
            let namespaces = match rootless {
                true if join.is_empty() => CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS,
                true => CloneFlags::CLONE_NEWNS,
                false => CloneFlags::empty(),
            };
            let fds = [(pullers_end.as_fd(), PULLER), (pullers_screen.as_fd(), SCREEN)];
            let name = if options.progress { "pull-agent" } else { "pull-quietly" };
            Some(role(name, namespaces, mappings.as_ref(), join, &fds)?)
        }
    };
    std::iter::once(&supervisor).chain(&puller).for_each(children::leave);
    drop((supervisors_end, pullers_socket, pullers_end, pullers_screen, lock));
    let first = first.map(|(ours, _)| ours);

    if let Some(scope) = scope {
        scope.settle();
    }
    if let Some(contained) = contained {
        contained.lend_cgroup(&uid, &supervisor);
    }
    // It waits with its cgroup until it is in the scope; one that is gone already says why below.
    let _ = nix::unistd::write(&client, b"go");
    let mut answer = vec![0; 64 << 10];
    let read = nix::unistd::read(&client, &mut answer).map_err(step("hear from the pod's supervisor"))?;
    start_trace::mark("client", "hear that the sandbox stands");
    if let Ok(ready) = serde_json::from_slice::<Ready>(&answer[..read]) {
        warnings.extend(ready.warnings);
        return Ok(Started {
            dir: dir.clone(),
            uid,
            warnings,
            published,
            first,
            supervisor,
            _screen: screen,
            client,
        });
    }
    if network.is_some_and(|network| network.lost()) {
        supervisor.wait()?;
        return Err(network::Error::Gone.into());
    }
    let message = match &answer[..read] {
        [] => format!("its supervisor ended unexpectedly ({:?})", supervisor.wait()),
        words => String::from_utf8_lossy(words).into_owned(),
    };
    Err(Error::Sandbox { pod: dir.name.clone(), message })
}

/// Starts this program again in another role, the first word of `name`; what follows is for `ps`.
///
/// # Errors
/// [`podctl_runtime::Error`].
pub(crate) fn role(
    name: &str,
    namespaces: CloneFlags,
    mappings: Option<&IdMappings>,
    join: &[(BorrowedFd<'_>, CloneFlags)],
    fds: &[(BorrowedFd<'_>, RawFd)],
) -> Result<Process, podctl_runtime::Error> {
    // A supervisor runs from a mount without a place, which has no name but this one.
    let program = std::env::current_exe().ok().filter(|path| path.is_file());
    let program = program.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let args: Vec<CString> = ["podctl", "internal"]
        .into_iter()
        .chain(name.split(' '))
        .map(|a| CString::new(a).expect("no NUL in it"))
        .collect();
    // A supervisor outlives its caller's session, and its probes are not to find a proxy in it.
    let all = !name.starts_with("supervise");
    let env: Vec<CString> = std::env::vars_os()
        .map(|(variable, value)| [variable.as_bytes(), b"=", value.as_bytes()].concat())
        .filter(|entry| all || entry.starts_with(b"PODCTL_"))
        .filter_map(|entry| CString::new(entry).ok())
        .collect();
    spawn(&Spawn {
        program: &program,
        args: &args,
        env: &env,
        namespaces,
        id_mappings: mappings,
        join,
        fds,
        early: Some(MAPPED),
        stdio: podctl_runtime::SpawnStdio::Inherit,
    })
}

/// The images that need not be pulled, by container, and whether these are all.
fn present_images(home: &Home, pod: &Pod) -> Result<(BTreeMap<String, Image>, bool), Error> {
    let store = Store::open(&home.images())?;
    let mut images = BTreeMap::new();
    let mut all = true;
    for container in containers(pod) {
        let found = match image_policy(container) {
            "Always" => None,
            _ => container
                .image
                .as_deref()
                .unwrap_or("")
                .parse::<Reference>()
                .ok()
                .map(|r| store.find(&r))
                .transpose()?
                .flatten(),
        };
        match found {
            Some(image) => {
                images.insert(container.name.clone(), image);
            }
            None => all = false,
        }
    }
    Ok((images, all))
}

/// The container's imagePullPolicy, which the manifest's defaults have filled.
pub(super) fn image_policy(container: &Container) -> &str {
    container.image_pull_policy.as_deref().unwrap_or("IfNotPresent")
}

/// Init and app containers, in file order.
pub(super) fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
}

/// The address from which this machine would reach the outside. Nothing is sent.
pub fn host_ip() -> Option<std::net::IpAddr> {
    let route = |from: &str, to: &str| {
        let socket = std::net::UdpSocket::bind((from, 0)).ok()?;
        // Addresses of documentation: any that the default route leads to would do.
        socket.connect((to, 9)).ok()?;
        socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_unspecified())
    };
    route("0.0.0.0", "192.0.2.1").or_else(|| route("::", "2001:db8::1"))
}

pub(super) fn memfd(name: &std::ffi::CStr) -> Result<File, Error> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from).map_err(step("make a memory file"))
}

fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(step("make a socket pair"))
}

/// Takes over a descriptor that the launch put at a known number.
///
/// # Safety
/// Only in the process for which [`role`] was called with that number, and once a number.
pub(super) unsafe fn take(fd: RawFd) -> OwnedFd {
    // SAFETY: by this function's own contract the descriptor is open and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
