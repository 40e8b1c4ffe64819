//! One process a pod: it lives in the pod's namespaces, carries out the lifecycle's actions and
//! reports to it what happens. It decides nothing.
//!
//! Promises: single-threaded, one epoll; nothing it waits for can block it; when it dies, the
//! kernel ends everything of the pod with it, for it is PID 1 of the pod's PID namespace.
//! [`launch`] starts it, [`control`] is how commands reach it.

mod actions;
mod attach;
pub mod bars;
pub(crate) mod children;
mod contained;
mod container_usage;
pub mod control;
mod create;
mod enter;
mod ephemeral_containers;
mod events;
mod eviction;
mod execs;
pub mod gather;
mod image_pulls;
mod launch;
mod log;
mod network;
pub mod network_handlers;
mod output_pace;
pub mod pause;
mod pod_cgroup;
mod poll;
mod publish;
pub mod pull;
pub mod refresh;
mod requests;
mod scope;
mod starting_client;
pub mod sweep;
mod timeline;
mod trim;
mod unwritten;
pub mod userns;
mod writable_layer;

pub(crate) use launch::role;
pub use launch::{Error, Options, Started, host_ip, objects, start, start_again};
pub use log::Limits as LogLimits;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodStatus},
    jiff::Timestamp,
};
use nix::sys::{
    socket::{Shutdown, shutdown},
    wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
};
use podctl_images::{Image, Store};
use podctl_runtime::{Cgroup, Process, seccomp::Program, start_trace as steps};

use self::{
    attach::Attachment,
    control::{Reply, Request},
    events::Recorder,
    execs::Exec,
    launch::{CLIENT, FIRST, LAUNCH, LOCK, Launch, NETWORK, PULLER, Ready, take},
    log::{Log, Stream, pump},
    poll::{Poll, Source},
    writable_layer::Layer,
};
use crate::{
    lifecycle::{self, Event, Exit, Now, Run},
    network::{Member, Registration, join, joined},
    roles,
    sandbox::{self, Sandbox},
    state::{Home, PodDir},
};

/// Whose steps these are when a start is traced.
const TRACED: &str = "supervisor";

/// Something in the supervisor's own work failed; shown by the client that started the pod.
type Failure = Box<dyn std::error::Error>;

/// A container whose process runs.
struct Live {
    process: Process,
    cgroup: Option<Cgroup>,
    /// As it was created; an exec takes identity and filter from it.
    spec: oci_spec::runtime::Spec,
    /// Its output streams, until they end.
    streams: HashMap<Stream, OwnedFd>,
    log: Log,
    log_path: PathBuf,
    layer: Layer,
    /// Its streams are a terminal.
    terminal: bool,
    /// `stdin`, `stdinOnce`
    input_wanted: bool,
    input_once: bool,
    /// The writing end of its standard input, kept for those who attach.
    input: Option<OwnedFd>,
    /// Its seccomp filter, which an exec has as well.
    filter: Option<Rc<Program>>,
}

struct Supervisor {
    poll: Poll,
    began: Instant,
    home: Home,
    dir: PodDir,
    pod: Pod,
    spec: lifecycle::Spec,
    state: lifecycle::State,
    sandbox: Sandbox,
    store: Store,
    images: BTreeMap<String, Image>,
    /// Shared locks on the images in use.
    leases: Vec<OwnedFd>,
    puller: Option<OwnedFd>,
    quotas: eviction::Quotas,
    cgroups: Option<pod_cgroup::PodCgroup>,
    live: HashMap<Run, Live>,
    /// Containers that do not run yet.
    making: HashMap<Run, create::Making>,
    filters: create::Filters,
    execs: HashMap<i32, Exec>,
    /// Processes on their way into a container, by number, and the last number given.
    entering: HashMap<u64, enter::Entrant>,
    last_entrant: u64,
    /// Cgroups of containers that were given up, by the process that is being ended.
    given_up: HashMap<i32, (Run, Cgroup)>,
    /// Hooks that only wait, and until when.
    sleeps: Vec<(Duration, Run, lifecycle::Hook)>,
    connections: HashMap<u64, OwnedFd>,
    attachments: Vec<Attachment>,
    recorder: Recorder,
    unwritten: unwritten::Unwritten,
    log_limits: log::Limits,
    /// What is read of an output at once.
    buffer: Vec<u8>,
    trace: timeline::Trace,
    /// What happened and has not been told to the lifecycle yet.
    pending: VecDeque<Event>,
    delete_requested: bool,
    /// Something beside the status has changed and is to be written.
    changed: bool,
    /// Layers of containers that have ended, to be removed when nothing waits for it.
    garbage: Vec<Layer>,
    /// The client that started the pod, while it stays.
    client: Option<OwnedFd>,
    /// Something has happened that it can see.
    news: bool,
    /// How often output is looked at.
    pace: output_pace::Pace,
    finished: bool,
    /// The pod's place on the network.
    network: Option<Member>,
    /// It has had no keeper for long.
    network_lost: bool,
    _lock: OwnedFd,
    /// The lock on the ids of a pod with a user namespace of its own.
    _ids: Option<OwnedFd>,
}

/// The supervisor's life, from exec to the pod's end. Gives its exit code.
pub fn main() -> i32 {
    // SAFETY: this process was started by launch with these descriptors.
    let (lock, client) = unsafe { (take(LOCK), take(CLIENT)) };
    match prepare(lock, &client) {
        Ok((mut supervisor, warnings)) => {
            let answer = serde_json::to_vec(&Ready { warnings }).expect("plain data");
            let _ = nix::unistd::write(&client, &answer);
            supervisor.keep_client(client);
            detach_from_terminal();
            supervisor.run();
            supervisor.leave();
            0
        }
        Err(failure) => {
            let _ = nix::unistd::write(&client, failure.to_string().as_bytes());
            // A socket that closes with something unread would take the answer back.
            let _ = shutdown(client.as_raw_fd(), Shutdown::Read);
            while nix::unistd::read(&client, &mut [0; 16]).is_ok_and(|read| read > 0) {}
            1
        }
    }
}

/// The supervisor, and what the user should know about its sandbox.
fn prepare(lock: OwnedFd, client: &OwnedFd) -> Result<(Supervisor, Vec<String>), Failure> {
    let entered = steps::now();
    // A Ctrl-C in the terminal is the client's business.
    let _ = nix::unistd::setsid();
    // Nor is the directory that it was started in; it could not be unmounted any more.
    let _ = nix::unistd::chdir("/");
    // SAFETY: as in main.
    let document = fs::File::from(unsafe { take(LAUNCH) });
    let launch: Launch = serde_json::from_reader(std::io::BufReader::new(document))?;
    if let Some(zero) = launch.trace {
        steps::begin(zero);
        steps::mark_at(TRACED, "begin", entered);
        steps::mark(TRACED, "read what to launch");
    }
    let filters = create::Filters::of(&launch.pod);
    roles::mapped()?;
    roles::hide()?;
    steps::mark(TRACED, "compile filters, have ids");
    let puller = (launch.images.len() < launch::containers(&launch.pod).count())
        // SAFETY: as in main; launch passes the puller's end exactly when an image is missing.
        .then(|| unsafe { take(PULLER) });
    // SAFETY: as in main; launch passes the connection exactly when the pod is to be on the network.
    let network = launch.on_network.then(|| unsafe { take(NETWORK) });
    let network = network
        .map(|socket| {
            // The network makes its end while the sandbox is made.
            let registration = Registration::of(&launch.pod, &launch.objects.services);
            join(&socket, &registration).map(|()| (socket, registration))
        })
        .transpose()?;
    let home = Home { runtime: launch.runtime_dir, data: launch.data_dir };
    let meta = &launch.pod.metadata;
    let dir =
        home.pod(meta.namespace.as_deref().unwrap_or("default"), meta.name.as_deref().unwrap_or_default());
    let data = home.pod_data(meta.uid.as_deref().unwrap_or_default());
    let contained = launch.contained.as_ref().map(|mounts| contained::enter(&home, mounts)).transpose()?;
    let (ids, host_paths) = contained.unzip();
    let host_paths = host_paths.unwrap_or_default();
    let memory = home.runtime.join("memory");
    let own_network = launch.own_network;
    let mut sandbox = sandbox::set_up(&launch.pod, &data, &memory, launch.objects, own_network, &host_paths)
        .inspect_err(|_| drop(fs::remove_dir_all(&data)))?;

    steps::mark(TRACED, "make the sandbox: proc, loopback, volumes");
    sandbox.profiles = home.data.join("seccomp");
    let spec = launch.pod.spec.as_ref();
    if spec.and_then(|s| s.share_process_namespace) == Some(true) {
        sandbox.pid_namespace = Some(pause::start().inspect_err(|_| sweep::clear(&data))?);
    }
    if spec.and_then(|s| s.host_pid) == Some(true) {
        // Else what a container leaves behind would become the host's, and outlive the pod.
        let _ = nix::sys::prctl::set_child_subreaper(true);
    }

    let mut poll = Poll::new(&dir.control_socket(), puller.as_ref())?;
    let network = network
        .map(|(socket, registration)| joined(socket, registration))
        .transpose()
        .inspect_err(|_| drop(fs::remove_dir_all(&data)))?;
    if let Some(socket) = network.as_ref().and_then(|n| n.socket.as_ref()) {
        poll.add(socket, Source::Network)?;
    }
    let place = network.as_ref().map(|n| n.joined.clone());
    // SAFETY: as in main; launch passes a first connection exactly when it says so.
    let first = launch.first.then(|| unsafe { take(FIRST) });
    let first = first.map(|socket| poll.connection(socket)).transpose()?;
    steps::mark(TRACED, "join the network");
    let pod_ips = match &place {
        Some(place) => place.addresses.all().map(|a| a.to_string()).collect(),
        None if launch.own_network => Vec::new(),
        // The one that the machine is known by comes first.
        None => {
            let others = addresses().into_iter().filter(|own| Some(own) != launch.host_ip.as_ref());
            launch.host_ip.iter().cloned().chain(others).collect()
        }
    };
    let resolver = place.as_ref().map(|j| j.gateway.v4.into());
    let host_ip = launch.host_ip.or_else(|| pod_ips.first().cloned());
    sandbox.set_addresses(&launch.pod, pod_ips.clone(), host_ip.clone(), resolver)?;
    let mut word = [0; 16];
    nix::unistd::read(client, &mut word)?;
    let (cgroups, warning) = pod_cgroup::make(&launch.pod, &dir, launch.options.strict_limits)
        .inspect_err(|_| sweep::clear(&data))?;

    steps::mark(TRACED, "make the pod's cgroup");
    let options = lifecycle::Options {
        backoff_initial: launch.options.backoff_initial,
        backoff_max: launch.options.backoff_max,
        restart_pod_on_init_failure: launch.options.restart_pod_on_init_failure,
    };
    let began = Instant::now();
    let now = Now { monotonic: Duration::ZERO, wall: Timestamp::now() };
    let spec = lifecycle::Spec::new(&launch.pod, &options);
    let state = lifecycle::State::new(&spec, now);
    let recorder = Recorder::new(&launch.pod, dir.clone());
    let trace = timeline::Trace::new(&dir);
    let store = Store::open(&home.images())?;
    let leases = sandbox.objects.images.values().map(|image| store.lease(image));
    let leases = leases.collect::<Result<Vec<_>, _>>()?;
    let uid = launch.pod.metadata.uid.as_deref().unwrap_or_default();
    let quotas = eviction::Quotas::new(&launch.pod, &sandbox, home.logs(&dir.namespace, &dir.name, uid));
    let pending = VecDeque::from([Event::SandboxReady { host_ip, pod_ips }]);
    let first_id = first.as_ref().map(|(id, _)| *id);
    let mut supervisor = Supervisor {
        poll,
        began,
        home,
        dir,
        spec,
        state,
        pod: launch.pod,
        sandbox,
        store,
        images: launch.images,
        leases,
        quotas,
        puller,
        cgroups,
        live: HashMap::new(),
        making: HashMap::new(),
        filters,
        execs: HashMap::new(),
        entering: HashMap::new(),
        last_entrant: 0,
        given_up: HashMap::new(),
        sleeps: Vec::new(),
        connections: first.into_iter().collect(),
        attachments: Vec::new(),
        recorder,
        unwritten: unwritten::Unwritten::default(),
        log_limits: launch.options.log_limits,
        buffer: vec![0; 256 << 10],
        trace,
        pending,
        delete_requested: false,
        changed: false,
        garbage: Vec::new(),
        client: None,
        news: false,
        pace: output_pace::Pace::new(began),
        finished: false,
        network,
        network_lost: false,
        _lock: lock,
        _ids: ids,
    };
    if let Some(id) = first_id {
        supervisor.serve_connection(id);
    }
    Ok((supervisor, place.and_then(|j| j.warning).into_iter().chain(warning).collect()))
}

impl Supervisor {
    fn now(&self) -> Now {
        Now { monotonic: self.began.elapsed(), wall: Timestamp::now() }
    }

    fn run(&mut self) {
        let now = self.now();
        let actions = lifecycle::begin(&self.spec, &mut self.state, now);
        self.act(actions);
        self.settle();
        while !self.finished {
            for layer in self.garbage.drain(..) {
                layer.remove();
            }
            let deadlines =
                [self.state.next_deadline(&self.spec), self.next_exec_deadline(), self.quotas.next()];
            let next = deadlines.into_iter().flatten().min();
            let rejoin = self.network.as_ref().and_then(Member::next);
            let wait = next.map(|at| at.saturating_sub(self.began.elapsed()));
            let wait = [wait, rejoin, self.next_retry()].into_iter().flatten().min();
            let sources = self.poll.wait(wait);
            let only_output = !sources.is_empty() && sources.iter().all(|s| matches!(s, Source::Output(..)));
            if only_output {
                self.pace.keep();
            }
            sources.into_iter().for_each(|source| self.serve(source));
            self.rejoin_network();
            self.write_what_waits();
            if only_output && self.pending.is_empty() && next.is_none_or(|at| at > self.began.elapsed()) {
                // The lifecycle has no interest in it, and a container that floods its log none in waiting.
                self.tell_client();
                continue;
            }
            self.end_late_execs();
            self.look_at_quotas();
            self.pending.push_back(Event::Tick);
            self.settle();
        }
    }

    /// Tells the lifecycle all that has happened, does what it answers, and shows the new state.
    fn settle(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            let now = self.now();
            self.trace.event(&event);
            if let Event::AddEphemeralContainer(container) = &event {
                self.spec.add_ephemeral(container);
            }
            let actions = lifecycle::step(&self.spec, &mut self.state, event, now);
            self.act(actions);
        }
        let mut status = self.state.status(&self.spec);
        self.mark_network(&mut status);
        if self.pod.status.as_ref() != Some(&status) || std::mem::take(&mut self.changed) {
            if let Some(network) = &mut self.network
                && ready(Some(&status)) != ready(self.pod.status.as_ref())
            {
                network.tell_ready(ready(Some(&status)));
            }
            self.pod.status = Some(status);
            self.write_status();
            steps::mark(TRACED, "write the status");
            self.news = true;
        }
        self.tell_client();
    }

    fn serve(&mut self, source: Source) {
        match source {
            Source::Children => self.reap(),
            Source::Terminate => self.pending.push_back(Event::Delete { grace_period: None }),
            Source::Puller => self.hear_puller(),
            Source::Network => self.hear_network(),
            Source::Client => self.client_gone(),
            Source::Listener => {
                if let Some((id, socket)) = self.poll.accept() {
                    self.connections.insert(id, socket);
                }
            }
            Source::Connection(id) => self.serve_connection(id),
            Source::Making(run) => self.look_at(&run),
            Source::Entering(number) => self.look_at_entrant(number),
            Source::Output(run, stream) => self.read_output(&run, stream),
        }
    }

    fn read_output(&mut self, run: &Run, stream: Stream) {
        let Some(live) = self.live.get_mut(run) else { return };
        let Some(fd) = live.streams.get(&stream) else { return };
        let attachments = &mut self.attachments;
        let mut slow = Vec::new();
        self.news = true;
        let copy = |bytes: &[u8]| slow.extend(attach::copy(attachments, &run.container, stream, bytes));
        let pumped = pump(fd, &mut live.log, stream, &mut self.buffer, copy);
        self.pace.pumped(fd, pumped.bytes);
        if pumped.ended {
            let _ = live.log.end(stream);
            self.poll.forget(&live.streams.remove(&stream).expect("looked up above"));
        }
        for id in slow {
            let message = "let go: it read too slowly; `podctl logs` has what is missing".to_owned();
            self.answer(id, &Reply::Refused { message, exit_code: 1 }, &[]);
        }
    }

    fn serve_connection(&mut self, id: u64) {
        let Some(socket) = self.connections.get(&id) else { return };
        match control::receive::<Request>(socket) {
            Ok(Some((request, fds))) => self.serve_client(id, request, fds),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => {
                if let Some(socket) = self.connections.remove(&id) {
                    self.poll.forget(&socket);
                }
                self.client_left(id);
            }
        }
    }

    /// As the API server marks an object that is being deleted; a second delete can only shorten.
    fn mark_deleted(&mut self, grace_period: Option<Duration>) {
        let own = self.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
        let seconds = grace_period.map_or(own, |g| g.as_secs() as i64);
        let meta = &mut self.pod.metadata;
        if meta.deletion_grace_period_seconds.is_none_or(|known| seconds < known) {
            let by = Timestamp::now() + k8s_openapi::jiff::SignedDuration::from_secs(seconds.max(0));
            meta.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(by));
            meta.deletion_grace_period_seconds = Some(seconds);
            self.changed = true;
        }
    }

    /// Reaps every child that has ended: containers, execs, and orphans of either.
    fn reap(&mut self) {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(status) = waitid(Id::All, look) {
            let (pid, exit) = match status {
                WaitStatus::Exited(pid, code) => (pid, Exit::Code(code)),
                WaitStatus::Signaled(pid, signal, _) => (pid, Exit::Signal(signal as i32)),
                _ => return,
            };
            // What they have said is heard while their numbers are still theirs.
            self.making_ended(pid);
            self.look_at_entrants();
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            self.given_up_ended(pid);
            if let Some(exec) = self.execs.remove(&pid.as_raw()) {
                self.exec_ended(exec, exit);
            } else if let Some(run) =
                self.live.iter().find(|(_, l)| l.process.pid == pid).map(|(r, _)| r.clone())
            {
                self.container_ended(run, exit);
            }
        }
    }

    fn container_ended(&mut self, run: Run, exit: Exit) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.read_output(&run, stream);
        }
        let Some(mut live) = self.live.remove(&run) else { return };
        self.end_execs_of(&run);
        self.attached_ended(&run.container, &Reply::Ended(exit.code()));
        for (stream, fd) in live.streams.drain() {
            let _ = live.log.end(stream);
            self.poll.forget(&fd);
        }
        let mut oom_killed = false;
        if let Some(cgroup) = live.cgroup {
            oom_killed = cgroup.oom_kills() > 0;
            let _ = cgroup.kill();
            let _ = cgroup.remove();
        }
        let message = self
            .container(&run.container)
            .map(|c| events::termination_message(c, exit, live.layer.termination_log(), &live.log_path));
        self.garbage.push(live.layer);
        self.close_log(&run.container, live.log);
        self.pending.push_back(Event::Exited { run, exit, oom_killed, message: message.unwrap_or_default() });
    }

    fn container(&self, name: &str) -> Option<&Container> {
        self.spec.containers().find(|c| c.name == name)
    }

    /// The pod is over: what is on disk of it goes, its record stays unless it was deleted.
    fn leave(&mut self) {
        self.settle();
        end_children();
        let uid = self.pod.metadata.uid.clone().unwrap_or_default();
        let data = self.home.pod_data(&uid);
        sweep::clear(&data);
        if let Some(cgroups) = self.cgroups.take() {
            cgroups.remove();
        }
        self.write_before_leaving();
        let _ = fs::remove_file(self.dir.control_socket());
        if self.delete_requested {
            let _ = fs::remove_dir_all(self.home.logs(&self.dir.namespace, &self.dir.name, &uid));
            let _ = self.dir.remove();
        }
    }
}

/// Ends what containers left in a PID namespace that is not theirs alone.
fn end_children() {
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

fn ready(status: Option<&PodStatus>) -> bool {
    let conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// For processes that outlive the terminal they were started from.
pub(crate) fn detach_from_terminal() {
    if let Ok(null) = fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}

/// The pod's addresses, as its network namespace has them.
fn addresses() -> Vec<String> {
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
