//! From exec to a supervisor whose sandbox stands: takes what `engine/start/launch.rs` hands over, in its order.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs,
    io::Read,
    os::fd::OwnedFd,
    path::Path,
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use podctl_images::Store;
use podctl_runtime::{make_files_as, start_trace as steps};

use super::{
    Failure, Supervisor, TRACED,
    clock::Clock,
    create::{Creation, Filters},
    enter::Entrants,
    event_recorder::Recorder,
    eviction::Quotas,
    image_pulls::Pulls,
    leave::clear_data,
    mapped_mounts::place_mounts,
    mounting::Mounting,
    network::{Membership, find_service_links},
    output_pace::Output,
    pause, pod_cgroup,
    poll::{Poll, Source},
    starting_client::StartingClient,
    timeline::Trace,
    unwritten::{Records, Unwritten},
};
use crate::{
    lifecycle::{self, Event, Now},
    network::{Joined, Member, Registration, complete_join, join},
    pod::Uid,
    process::{
        descriptors::{
            supervisor::{FIRST, LAUNCH, NETWORK, PULLER},
            take_descriptor,
        },
        hide_from_containers, wait_until_mapped,
    },
    sandbox::{self, HostPaths, Sandbox},
    state::Home,
    wire::{Launch, VERSION},
};

/// Makes the pod's sandbox and the supervisor in it. Beside it, what the user should know about the sandbox.
pub(super) fn prepare(lock: OwnedFd, client: &OwnedFd) -> Result<(Supervisor, Vec<String>), Failure> {
    let entered = steps::now();
    // A Ctrl-C in the terminal is the client's business.
    let _ = nix::unistd::setsid();
    // Nor is the directory that it was started in; it could not be unmounted any more.
    let _ = nix::unistd::chdir("/");
    let mut launch = read_launch(entered)?;
    let filters = Filters::of(&launch.pod);
    wait_until_mapped()?;
    hide_from_containers()?;
    podctl_runtime::settle_root()?;
    if let Some(ids) = launch.options.kept_ids {
        // It is root of the pod here, and all it writes is the user's.
        make_files_as(ids.uid, ids.gid)?;
    }
    steps::mark(TRACED, "compile filters, have ids");
    let puller = take_puller(&launch);
    // The network makes its end while the sandbox is made.
    let joining = ask_to_join(&launch)?;
    let home = Home { runtime: launch.runtime_dir.clone(), data: launch.data_dir.clone(), program: None };
    let dir = home.place_of(&launch.pod)?;
    let uid = Uid::of_pod(&launch.pod)?;
    let (data, logs) = (home.pod_data(&uid), home.logs(&dir, &uid));
    let (ids, host_paths) = launch.contained.as_ref().map(|m| place_mounts(&home, m)).transpose()?.unzip();
    let mut sandbox = make_sandbox(&mut launch, &home, &data, &host_paths.unwrap_or_default())?;
    steps::mark(TRACED, "make the sandbox: proc, loopback, volumes");

    let mut poll = Poll::new(&dir.control_socket(), puller.as_ref())?;
    wait_for_client(client)?;
    let network = finish_joining(joining, &mut poll).inspect_err(|_| clear_data(&data))?;
    let place = network.as_ref().map(|n| n.joined.clone());
    let first = take_first_connection(&launch, &mut poll)?;
    steps::mark(TRACED, "join the network");
    let addresses = find_addresses(&launch, place.as_ref());
    let resolver = place.as_ref().map(|j| j.gateway.v4.into());
    let Addresses { pod_ips, host_ips } = addresses;
    sandbox.facts.services = find_service_links(&launch.pod, place.as_ref());
    sandbox.set_addresses(&launch.pod, pod_ips.clone(), host_ips.clone(), resolver)?;
    let (cgroups, warning) = pod_cgroup::make(&launch.pod, &dir, launch.options.strict_limits)
        .inspect_err(|_| clear_data(&data))?;
    sandbox.device_cgroup = cgroups.as_ref().is_some_and(|own| own.restricts_devices);
    if !sandbox.device_cgroup && !sandbox::in_user_namespace() {
        let why = "no cgroup keeps devices away from containers here: those without privileged cannot make device nodes";
        sandbox.warnings.push(why.to_owned());
    }
    let warnings = std::mem::take(&mut sandbox.warnings);
    steps::mark(TRACED, "make the pod's cgroup");

    let options = lifecycle::Options {
        backoff_initial: launch.options.backoff_initial,
        backoff_max: launch.options.backoff_max,
        restart_pod_on_init_failure: launch.options.restart_pod_on_init_failure,
    };
    let began = Clock::start();
    let now = Now { monotonic: Duration::ZERO, wall: Timestamp::now() };
    let spec = lifecycle::Spec::new(&launch.pod, &options);
    let state = lifecycle::State::new(&spec, now);
    let records = Records {
        events: Recorder::new(&launch.pod, dir.clone()),
        trace: Trace::new(&dir),
        unwritten: Unwritten::default(),
    };
    let mut pulls = Pulls {
        store: Store::open(&home.images())?,
        images: BTreeMap::new(),
        leases: BTreeMap::new(),
        puller,
        pulling: Vec::new(),
        volumes: BTreeMap::new(),
        squash_ids: launch.options.squash_ids,
    };
    // The client holds these images until it hears that all is ready.
    sandbox.objects.images.values().chain(launch.images.values()).try_for_each(|image| pulls.hold(image))?;
    pulls.images = launch.images;
    let quotas = Quotas::new(&launch.pod, &sandbox, logs.clone());
    let ready = Event::SandboxReady { host_ips, pod_ips };
    let (pending, mounting) = match sandbox.volumes.failed.is_empty() {
        true => (VecDeque::from([ready]), None),
        false => (VecDeque::new(), Some(Mounting::new(ready))),
    };
    let first_id = first.as_ref().map(|(id, _)| *id);
    let mut supervisor = Supervisor {
        poll,
        began,
        home,
        dir,
        data,
        logs,
        spec,
        state,
        pod: launch.pod,
        sandbox,
        pulls,
        quotas,
        cgroups,
        live: HashMap::new(),
        creation: Creation::new(filters),
        execs: HashMap::new(),
        entrants: Entrants::default(),
        sleeps: Vec::new(),
        connections: first.into_iter().collect(),
        attachments: Vec::new(),
        records,
        output: Output::new(launch.options.log_limits),
        pending,
        delete_requested: false,
        changed: false,
        garbage: Vec::new(),
        client: StartingClient { socket: None, ends_pod: launch.options.ends_with_program, has_news: false },
        finished: false,
        network: Membership { member: network, is_lost: false },
        mounting,
        lock,
        _ids: ids,
    };
    if let Some(id) = first_id {
        supervisor.serve_connection(id);
    }
    Ok((supervisor, place.and_then(|j| j.warning).into_iter().chain(warning).chain(warnings).collect()))
}

/// Reads what is to be launched; begins the trace of the start where one is wanted.
fn read_launch(entered: u64) -> Result<Launch, Failure> {
    // SAFETY: this process was started by `engine/start/launch.rs` with this descriptor.
    let mut document = fs::File::from(unsafe { take_descriptor(LAUNCH) });
    let mut text = Vec::new();
    document.read_to_end(&mut text)?;
    let launch: Launch = match serde_json::from_slice(&text) {
        Ok(launch) => launch,
        Err(e) => return Err(explain_version(&text).unwrap_or_else(|| e.into())),
    };
    if let Some(zero) = launch.trace {
        steps::begin(zero);
        steps::mark_at(TRACED, "begin", entered);
        steps::mark(TRACED, "read what to launch");
    }
    Ok(launch)
}

/// Says that who launches is of another version, if it is so: the two then need not understand each other.
fn explain_version(text: &[u8]) -> Option<Failure> {
    #[derive(serde::Deserialize)]
    struct Writer {
        version: Option<String>,
    }
    let writer = serde_json::from_slice::<Writer>(text).ok()?.version;
    let version = writer.as_deref().unwrap_or("before 0.1.0");
    (version != VERSION).then(|| {
        format!("a program of podctl {VERSION} cannot keep pods for one of podctl {version}; have both of one version").into()
    })
}

/// Takes the socket to the puller, which there is when an image is missing.
fn take_puller(launch: &Launch) -> Option<OwnedFd> {
    launch
        .pulls
        // SAFETY: launch passes the puller's end exactly when it says so.
        .then(|| unsafe { take_descriptor(PULLER) })
}

/// Asks the network's keeper for a place, when the pod is to be on the network.
fn ask_to_join(launch: &Launch) -> Result<Option<(OwnedFd, Registration)>, Failure> {
    if !launch.on_network {
        return Ok(None);
    }
    // SAFETY: launch passes the connection exactly when the pod is to be on the network.
    let socket = unsafe { take_descriptor(NETWORK) };
    let registration = Registration::of(&launch.pod, &launch.objects.services);
    join(&socket, &registration)?;
    Ok(Some((socket, registration)))
}

/// Makes the sandbox from inside: mounts, memory, volumes, and a PID namespace for all containers where it is wanted.
fn make_sandbox(
    launch: &mut Launch,
    home: &Home,
    data: &Path,
    host_paths: &HostPaths,
) -> Result<Sandbox, Failure> {
    let memory = home.runtime.join("memory");
    let objects = std::mem::take(&mut launch.objects);
    let mut sandbox = sandbox::set_up(
        &launch.pod,
        data,
        &memory,
        objects,
        launch.own_network,
        host_paths,
        launch.options.kept_ids,
    )
    .inspect_err(|_| clear_data(data))?;
    sandbox.profiles = home.data.join("seccomp");
    sandbox.place_layers(&home.data).inspect_err(|_| clear_data(data))?;
    let spec = launch.pod.spec.as_ref();
    if spec.and_then(|s| s.share_process_namespace) == Some(true) {
        sandbox.pid_namespace = Some(pause::start().inspect_err(|_| clear_data(data))?);
    }
    if spec.and_then(|s| s.host_pid) == Some(true) {
        // Else what a container leaves behind would become the host's, and outlive the pod.
        let _ = nix::sys::prctl::set_child_subreaper(true);
    }
    Ok(sandbox)
}

/// Hears which place on the network the pod has.
fn finish_joining(
    joining: Option<(OwnedFd, Registration)>,
    poll: &mut Poll,
) -> Result<Option<Member>, Failure> {
    let Some((socket, registration)) = joining else { return Ok(None) };
    let member = complete_join(socket, registration)?;
    if let Some(socket) = &member.socket {
        poll.add(socket, Source::Network)?;
    }
    Ok(Some(member))
}

/// Takes the connection of the request that is served before anything starts.
fn take_first_connection(launch: &Launch, poll: &mut Poll) -> Result<Option<(u64, OwnedFd)>, Failure> {
    // SAFETY: launch passes a first connection exactly when it says so.
    let first = launch.first.then(|| unsafe { take_descriptor(FIRST) });
    Ok(first.map(|socket| poll.connection(socket)).transpose()?)
}

/// Waits until the client has put this process into its cgroup, and has heard a new keeper's first words, which are not for
/// this process; a client that has ended is not waited for.
fn wait_for_client(client: &OwnedFd) -> Result<(), Failure> {
    let mut word = [0; 16];
    nix::unistd::read(client, &mut word)?;
    Ok(())
}

/// `status.podIPs` and `status.hostIPs`.
struct Addresses {
    pod_ips: Vec<String>,
    host_ips: Vec<String>,
}

/// Finds the pod's addresses: those it was given on the network, or the machine's with the host's network.
fn find_addresses(launch: &Launch, joined: Option<&Joined>) -> Addresses {
    let pod_ips: Vec<String> = match joined {
        Some(joined) => joined.addresses.all().map(|a| a.to_string()).collect(),
        None if launch.own_network => Vec::new(),
        // Those that the machine is known by come first.
        None => {
            let others = list_host_addresses().into_iter().filter(|own| !launch.host_ips.contains(own));
            launch.host_ips.iter().cloned().chain(others).collect()
        }
    };
    let own = launch.host_ips.is_empty() || !launch.own_network;
    let host_ips = if own { pod_ips.clone() } else { launch.host_ips.clone() };
    Addresses { pod_ips, host_ips }
}

/// Lists the addresses of this network namespace, without those of loopback and of links to pods.
fn list_host_addresses() -> Vec<String> {
    let found = nix::ifaddrs::getifaddrs().into_iter().flatten();
    // Links of root's pods are not the machine's.
    let found = found.filter(|i| !i.interface_name.starts_with("podctl"));
    let mut all: Vec<std::net::IpAddr> = found
        .filter_map(|i| {
            let address = i.address?;
            let v4 = address.as_sockaddr_in().map(|a| std::net::IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| std::net::IpAddr::V6(a.ip())))
        })
        .filter(|ip| match ip {
            std::net::IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            std::net::IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        })
        .collect();
    all.sort();
    all.iter().map(ToString::to_string).collect()
}
