//! The steps of a launch: what the pod needs is taken, then the supervisor is started with it in the pod's namespaces, and
//! beside it, when an image is missing, the puller, which needs the host's network.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{Seek, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::CloneFlags,
    unistd::pipe2,
};
use podctl_images::{Image, KeptIds, Lease, Reference, Store};
use podctl_runtime::{Cgroup, IdMappings, Process, repeat_interrupted, start_trace};

use super::{
    contained::{self, Contained},
    error::{Error, step},
    host_address::find_host_ip,
    kept_ids, publish,
    started::Started,
    user_namespace::{self, UserNamespace},
};
use crate::{
    network::{
        self, Connection,
        ports::{self, HostPort},
    },
    pod::{ContainerExt, PodExt, Uid, image_volumes},
    process::{Role, children, create_memory_file, descriptors, start_role, transient_scope},
    sandbox::Objects,
    state::{self, Home, PodDir},
    wire::{Launch, Options, Ready, Request, VERSION, make_connection, send_request, write_words},
};

/// The time for which a pod may take, beyond its grace period, when the machine goes down, until systemd
/// kills what is left.
const LAST_STEPS: Duration = Duration::from_secs(15);

/// Holds what a launch is of: the same when it is tried again on another network.
pub(super) struct Plan<'a> {
    pub home: &'a Home,
    pub dir: &'a PodDir,
    pub pod: &'a Pod,
    pub objects: &'a Objects,
    pub options: &'a Options,
    /// Holds what is served before anything starts.
    pub first: Option<&'a Request>,
}

/// Launches the pod whose lock this is, and waits until its sandbox stands. Of one that does not come so far nothing
/// runs on.
///
/// # Errors
/// [`Error`]; [`network::Error::Gone`] when the network was killed meanwhile, and another try may do.
pub(super) fn launch_supervisor(plan: &Plan<'_>, lock: &OwnedFd) -> Result<Started, Error> {
    let mut pod = plan.pod.clone();
    let (ids, warning) = read_user_ids()?;
    let kept = plan.options.kept_ids;
    let mut images = find_present_images(plan.home, &pod, kept)?;
    let objects = list_present_objects(plan)?;
    let present = |volume: &str| objects.images.contains_key(volume);
    images.all &= image_volumes(&pod).iter().all(|volume| present(&volume.volume));
    start_trace::mark("client", "look the images up");
    let mut network = take_network(plan, &mut pod, ids.as_ref())?;
    start_trace::mark("client", "connect to the network, take ports");
    let contained = contained::prepare(plan.home, &pod, plan.objects)?;
    let uid = Uid::of_pod(&pod).map_err(state::Error::from)?;
    let namespaces = choose_namespaces(&pod, &network, ids.is_some());
    let users = kept.map(|kept| {
        kept_ids::make_user_namespace(namespaces.join.map(|(around, _)| around), ids.as_ref(), kept)
    });
    let users = users.transpose()?;
    let document = write_launch(plan, pod, objects, &images, &network, contained.as_ref())?;
    let sockets = Sockets::open(plan.first)?;

    let contained_users = contained.as_ref().map(|contained| &contained.user_namespace);
    let users = contained_users.or(users.as_ref());
    let contained = contained.as_ref();
    let beside = Beside { lock, document, images: &images, network: &network, contained, users };
    if !can_ask_for_scope() {
        // Only from here are all processes of this container seen.
        Cgroup::make_room();
    }
    let supervisor = start_supervisor(plan, &namespaces, ids.as_ref(), &beside, &sockets)?;
    let unready = Unready(Some(&supervisor));
    start_trace::mark("client", "make the supervisor's namespaces, map ids, execute it");
    let scope = request_pod_scope(plan.pod, &uid, &supervisor);
    let puller =
        (!images.all).then(|| start_puller(plan, &namespaces, ids.as_ref(), &sockets)).transpose()?;
    std::iter::once(&supervisor).chain(&puller).for_each(children::leave);
    drop(beside);
    let ours = sockets.keep_ours();

    if let Some(scope) = scope {
        scope.settle();
    }
    if let Some(contained) = contained {
        contained.lend_cgroup(plan.pod, &uid, &supervisor);
    }
    if let Some(connection) = &mut network.connection {
        connection.await_keeper(plan.home)?;
        start_trace::mark("client", "hear from the network");
    }
    let ready = hear_ready(plan.dir, &ours.client, &supervisor, network.connection.as_ref())?;
    unready.keep();
    start_trace::mark("client", "hear that the sandbox stands");
    Ok(Started {
        dir: plan.dir.clone(),
        uid,
        warnings: plan
            .home
            .explain_place()
            .into_iter()
            .chain(warning)
            .chain(network.connection.into_iter().flat_map(|connection| connection.warnings))
            .chain(network.warnings)
            .chain(ready.warnings)
            .collect(),
        published: network.published,
        first: ours.first,
        supervisor,
        _screen: ours.screen,
        client: ours.client,
    })
}

fn can_ask_for_scope() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists() && transient_scope::has_manager()
}

/// Asks systemd for a scope that the supervisor may divide; it is waited for beside the rest of the start. Where there is
/// none, or with cgroups of version 1, which systemd does not delegate, the supervisor makes do with the cgroup it is in.
fn request_pod_scope(pod: &Pod, uid: &Uid, supervisor: &Process) -> Option<transient_scope::Requested> {
    let grace = u64::try_from(pod.grace_period_seconds()).unwrap_or(0);
    let scope = transient_scope::Scope {
        unit: &format!("podctl-{uid}.scope"),
        description: &format!("pod {}", pod.name()),
        processes: &[supervisor.pid.into()],
        delegate: true,
        grace: Some(Duration::from_secs(grace) + LAST_STEPS),
    };
    can_ask_for_scope().then(|| transient_scope::request_scope(&scope)).flatten()
}

/// The supervisor whose sandbox does not stand yet: nobody would ever see or end its pod, so it ends with the launch.
struct Unready<'a>(Option<&'a Process>);

impl Unready<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unready<'_> {
    fn drop(&mut self) {
        if let Some(supervisor) = self.0 {
            // It may have ended by itself, and told so.
            let _ = supervisor.signal(libc::SIGKILL);
            let _ = supervisor.wait();
        }
    }
}

/// Reads which ids an ordinary user has; root needs no mapping. Beside them, what the user should know of them.
fn read_user_ids() -> Result<(Option<IdMappings>, Option<String>), Error> {
    match nix::unistd::geteuid().is_root() {
        true => Ok((None, None)),
        false => Ok(IdMappings::of_user().map(|(mappings, warning)| (Some(mappings), warning))?),
    }
}

/// The images that need not be pulled.
struct PresentImages {
    /// Keyed by container.
    by_container: BTreeMap<String, Image>,
    /// Until the supervisor has leases of its own, nobody removes them.
    leases: Vec<Lease>,
    /// No image is missing, of a container or of a volume.
    all: bool,
}

/// Looks the pod's images up in the store.
fn find_present_images(home: &Home, pod: &Pod, kept: Option<KeptIds>) -> Result<PresentImages, Error> {
    let store = Store::open(&home.images())?;
    let mut images = PresentImages { by_container: BTreeMap::new(), leases: Vec::new(), all: true };
    // Containers of one image share its lease.
    let mut held: HashMap<Reference, Image> = HashMap::new();
    for container in pod.containers() {
        let wanted = container.image.as_deref().unwrap_or("").parse::<Reference>().ok();
        let Some(reference) = wanted.filter(|_| container.pull_policy() != "Always") else {
            images.all = false;
            continue;
        };
        if !held.contains_key(&reference)
            && let Some((image, lease)) = find_and_hold(&store, &reference)?
            && kept.is_none_or(|ids| store.is_remapped(&image, ids))
        {
            images.leases.push(lease);
            held.insert(reference.clone(), image);
        }
        let Some(image) = held.get(&reference) else {
            images.all = false;
            continue;
        };
        images.by_container.insert(container.name.clone(), image.clone());
    }
    Ok(images)
}

/// Returns what the pod refers to, of images what it can use as it is.
fn list_present_objects(plan: &Plan<'_>) -> Result<Objects, Error> {
    let mut objects = plan.objects.clone();
    if let Some(ids) = plan.options.kept_ids {
        let store = Store::open(&plan.home.images())?;
        objects.images.retain(|_, image| store.is_remapped(image, ids));
    }
    Ok(objects)
}

/// The image and a lease on it; none when it is not there, or is removed at this moment.
fn find_and_hold(store: &Store, reference: &Reference) -> Result<Option<(Image, Lease)>, Error> {
    let Some(image) = store.find(reference)? else { return Ok(None) };
    match store.take_lease(&image) {
        Ok(lease) => Ok(Some((image, lease))),
        Err(podctl_images::Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Holds what the pod has of the user's network.
struct Network {
    /// None when the pod has loopback alone, or the host's network.
    connection: Option<Connection>,
    /// The user namespace that an ordinary user's pods share, where the user wants that.
    users: Option<UserNamespace>,
    /// The pod has a network namespace of its own.
    own: bool,
    /// Ports of the host that were chosen here.
    published: Vec<HostPort>,
    warnings: Vec<String>,
}

/// Connects to the pods' network and takes the published ports; those that were chosen are written into the pod.
fn take_network(plan: &Plan<'_>, pod: &mut Pod, ids: Option<&IdMappings>) -> Result<Network, Error> {
    let own = !pod.has_host_network();
    let users = ids.filter(|_| user_namespace::has_linger());
    let users = users.map(|mappings| user_namespace::shared(plan.home, mappings)).transpose()?;
    let namespace = users.as_ref().map(|users| users.namespace.as_fd());
    let wanted = own && plan.options.network;
    let mut connection = wanted.then(|| network::connect(plan.home, namespace, ids)).transpose()?;
    let mut warnings = Vec::new();
    let published = match &mut connection {
        // Else a new keeper is waited for beside the supervisor's first steps.
        Some(network) if publish::has_ports(plan, pod) => {
            network.await_keeper(plan.home)?;
            publish::publish(plan, network, pod)
                .map_err(|e| if network.lost() { network::Error::Gone.into() } else { e })?
        }
        _ => Vec::new(),
    };
    if own && !plan.options.network && !ports::of_pod(pod).is_empty() {
        warnings.push("without a network the pod's hostPorts are not published".into());
    }
    if !published.is_empty() {
        plan.dir.write(pod)?;
    }
    Ok(Network { connection, users, own, published, warnings })
}

/// Namespaces of the supervisor and of the puller.
struct Namespaces<'a> {
    /// Those that are made for the supervisor.
    new: CloneFlags,
    /// The user namespace that both enter, when it is there already.
    join: Option<(BorrowedFd<'a>, CloneFlags)>,
}

/// Chooses the pod's namespaces: new ones, but for those of the host that it asks for and those it shares.
fn choose_namespaces<'a>(pod: &Pod, network: &'a Network, rootless: bool) -> Namespaces<'a> {
    let asks = |of: fn(&PodSpec) -> Option<bool>| pod.spec.as_ref().and_then(of) == Some(true);
    let mut new = CloneFlags::CLONE_NEWNS;
    if !asks(|s| s.host_pid) {
        new |= CloneFlags::CLONE_NEWPID;
    }
    if !asks(|s| s.host_ipc) {
        new |= CloneFlags::CLONE_NEWIPC;
    }
    // The network's pods share its user namespace: the step of mapping ids is saved, too.
    let of_network = network.connection.as_ref().map(|n| n.user_namespace.as_fd()).filter(|_| rootless);
    let shared = of_network.or(network.users.as_ref().map(|users| users.namespace.as_fd()));
    if rootless && shared.is_none() {
        new |= CloneFlags::CLONE_NEWUSER;
    }
    if network.own {
        new |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    Namespaces { new, join: shared.map(|namespace| (namespace, CloneFlags::CLONE_NEWUSER)) }
}

/// Writes what the supervisor is to launch into a memory file.
fn write_launch(
    plan: &Plan<'_>,
    pod: Pod,
    objects: Objects,
    images: &PresentImages,
    network: &Network,
    contained: Option<&Contained>,
) -> Result<File, Error> {
    let launch = Launch {
        version: Some(VERSION.to_owned()),
        pod,
        objects,
        images: images.by_container.clone(),
        options: plan.options.clone(),
        runtime_dir: plan.home.runtime.clone(),
        data_dir: plan.home.data.clone(),
        own_network: network.own,
        on_network: network.connection.is_some(),
        first: plan.first.is_some(),
        host_ips: find_host_ip().iter().map(ToString::to_string).collect(),
        pulls: !images.all,
        trace: start_trace::trace_zero(),
        contained: contained.map(|c| c.mounts.clone()),
    };
    let mut document = create_memory_file(c"podctl-launch").map_err(step("make a memory file"))?;
    let text = serde_json::to_vec(&launch).expect("plain data");
    document
        .write_all(&text)
        .and_then(|()| document.rewind())
        .map_err(step("hand the pod to its supervisor"))?;
    Ok(document)
}

/// Both ends of the connections that tie client, supervisor and puller.
struct Sockets {
    client: (OwnedFd, OwnedFd),
    /// The supervisor's end, and the puller's.
    puller: (OwnedFd, OwnedFd),
    /// Holds what the puller holds, and what this process does: it ends with this process.
    screen: (OwnedFd, OwnedFd),
    /// The connection of the request that is served first.
    first: Option<(OwnedFd, OwnedFd)>,
}

/// The ends that stay with the client.
struct Ours {
    client: OwnedFd,
    screen: OwnedFd,
    first: Option<OwnedFd>,
}

impl Sockets {
    fn open(first: Option<&Request>) -> Result<Sockets, Error> {
        let connect = || make_connection().map_err(step("make a socket pair"));
        let (client, puller) = (connect()?, connect()?);
        let screen = pipe2(OFlag::O_CLOEXEC).map_err(step("make a pipe"))?;
        let first = match first {
            Some(request) => {
                let (ours, theirs) = connect()?;
                send_request(&ours, request, &[]).map_err(step("ask the pod's supervisor"))?;
                Some((ours, theirs))
            }
            None => None,
        };
        Ok(Sockets { client, puller, screen, first })
    }

    /// Closes the ends of others, so that a connection ends with whoever has it.
    fn keep_ours(self) -> Ours {
        Ours { client: self.client.0, screen: self.screen.1, first: self.first.map(|(ours, _)| ours) }
    }
}

/// Holds what a supervisor is handed beside its sockets.
struct Beside<'a> {
    lock: &'a OwnedFd,
    document: File,
    images: &'a PresentImages,
    network: &'a Network,
    contained: Option<&'a Contained>,
    /// The pod's own user namespace, in place of the one that the user's pods share.
    users: Option<&'a OwnedFd>,
}

/// Starts the supervisor in its namespaces, with all it is handed.
fn start_supervisor(
    plan: &Plan<'_>,
    namespaces: &Namespaces<'_>,
    ids: Option<&IdMappings>,
    beside: &Beside<'_>,
    sockets: &Sockets,
) -> Result<Process, Error> {
    use descriptors::supervisor::{CLIENT, FIRST, LAUNCH, LOCK, NETWORK, PULLER, USERS};
    let mut fds: Vec<(BorrowedFd<'_>, RawFd)> = vec![
        (beside.lock.as_fd(), LOCK),
        (beside.document.as_fd(), LAUNCH),
        (sockets.client.1.as_fd(), CLIENT),
    ];
    if !beside.images.all {
        fds.push((sockets.puller.0.as_fd(), PULLER));
    }
    fds.extend(beside.network.connection.iter().map(|network| (network.socket.as_fd(), NETWORK)));
    fds.extend(beside.network.users.iter().map(|users| (users.tie.as_fd(), USERS)));
    fds.extend(sockets.first.iter().map(|(_, theirs)| (theirs.as_fd(), FIRST)));
    fds.extend(beside.contained.iter().flat_map(|contained| contained.fds()));
    let own = beside.users.map(|users| (users.as_fd(), CloneFlags::CLONE_NEWUSER));
    let join = own.or(namespaces.join);
    let new = if own.is_some() { namespaces.new - CloneFlags::CLONE_NEWUSER } else { namespaces.new };
    let name = format!("supervise {}/{}", plan.dir.namespace, plan.dir.name);
    Ok(start_role(&Role {
        name: &name,
        program: plan.home.program.as_deref(),
        namespaces: new,
        mappings: ids,
        join: join.as_slice(),
        fds: &fds,
    })?)
}

/// Starts the puller's guard and so the puller, which stay in the host's network, in a user namespace with the same ids.
fn start_puller(
    plan: &Plan<'_>,
    namespaces: &Namespaces<'_>,
    ids: Option<&IdMappings>,
    sockets: &Sockets,
) -> Result<Process, Error> {
    let new = match (ids, namespaces.join) {
        (Some(_), None) => CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS,
        (Some(_), Some(_)) => CloneFlags::CLONE_NEWNS,
        (None, _) => CloneFlags::empty(),
    };
    let store = File::open(plan.home.images()).map_err(step("open the image store"))?;
    let fds = [
        (sockets.puller.1.as_fd(), descriptors::puller::SUPERVISOR),
        (sockets.screen.0.as_fd(), descriptors::puller::SCREEN),
        (store.as_fd(), descriptors::puller::STORE),
    ];
    let name = if plan.options.progress { "images-guard" } else { "images-guard-quiet" };
    let join = namespaces.join.as_slice();
    let program = plan.home.program.as_deref();
    Ok(start_role(&Role { name, program, namespaces: new, mappings: ids, join, fds: &fds })?)
}

/// The time for which a sandbox may take: a volume with many files is given its group meanwhile.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lets the supervisor go on, and hears that the sandbox stands, or why it does not.
fn hear_ready(
    dir: &PodDir,
    client: &OwnedFd,
    supervisor: &Process,
    network: Option<&Connection>,
) -> Result<Ready, Error> {
    // It waits with its cgroup until it is in the scope; one that is gone already says why below.
    write_words(client, b"go").map_err(step("let the pod's supervisor go on"))?;
    let mut answer = vec![0; 64 << 10];
    let mut heard = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    let polled = repeat_interrupted(|| poll(&mut heard, patience));
    if polled.map_err(step("wait for the pod's supervisor"))? == 0 {
        let message = format!("its supervisor has not answered for {} seconds", PATIENCE.as_secs());
        return Err(Error::Sandbox { pod: dir.name.to_string(), message });
    }
    let read = nix::unistd::read(client, &mut answer).map_err(step("hear from the pod's supervisor"))?;
    if let Ok(ready) = serde_json::from_slice::<Ready>(&answer[..read]) {
        return Ok(ready);
    }
    if network.is_some_and(Connection::lost) {
        supervisor.wait()?;
        return Err(network::Error::Gone.into());
    }
    let message = match &answer[..read] {
        [] => format!("its supervisor ended unexpectedly ({:?})", supervisor.wait()),
        words => String::from_utf8_lossy(words).into_owned(),
    };
    Err(Error::Sandbox { pod: dir.name.to_string(), message })
}
