//! The keeper: the one process that holds a user's network while any pod is on it.
//!
//! It made the user and network namespaces that all pods share, and is the only one that changes
//! them, so twenty pods that come and go at once cannot get into each other's way. A pod is on the
//! network as long as its supervisor holds its connection; the kernel closes that of a killed one.
//! With the last connection the keeper ends, and namespaces, rules, links and the helper with it.
//! When it is killed, links and rules stay, and the next one goes on with them (see [`super::guard`]).
//! At SIGTERM it ends as soon as no pod is on the network, and not before: pods that end are told so themselves.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        socket::{SockFlag, SockProtocol, accept4},
        stat::fstat,
    },
};
use tokio::{
    io::unix::AsyncFd,
    sync::{Notify, watch},
    task::{JoinHandle, LocalSet, spawn_local},
};

use super::{
    ALIVE, Joined, PROTOCOL, RECORD, Reply, Request, SOCKET,
    address_range::{Addresses, Pool, Range, link_name},
    listening,
    namespace_thread::{self, Inside, Opened},
    netlink::Netlink,
    packet_filter::PacketFilter,
    ports::HostPort,
    published::{Published, Relay},
    registry::{Member, Registration, Registry},
    relay, resolver,
    room::{Room, raise_descriptor_limit},
    root_uplink::Host,
    uplink,
};
use crate::{
    pod::ServiceLink,
    process::{
        descriptors::{
            keeper::{DATA, DIRECTORY, LISTENER, LOCK, NAMESPACE, SCOPE},
            take_descriptor,
        },
        detach_from_terminal, transient_scope, wait_until_mapped,
    },
    state::Home,
    wire::{receive, send},
};

/// The time for which it stays when nobody comes.
const IDLE: Duration = Duration::from_secs(10);
/// The number of times it looks whether pods that should come back are gone.
const LOOK: Duration = Duration::from_millis(500);

/// The time for which one that could not begin waits for somebody to be told so, in milliseconds.
const LAST_WORDS: u16 = 1000;

/// The time for which a connection waits that could not be accepted, for want of a descriptor or memory.
const SHORTAGE: Duration = Duration::from_millis(50);

/// Descriptors that connections to published ports leave to everything else: pods, their ports, questions of the
/// resolver. Where so many are not to be had, half of all.
const RESERVE: usize = 4096;
/// Questions to the outside that may be on their way at once.
const QUESTIONS: usize = 512;

/// Everything the keeper knows.
pub(super) struct State {
    pub registry: RefCell<Registry>,
    pub(super) inside: Rc<Inside>,
    namespace: Arc<OwnedFd>,
    route: Netlink,
    /// Tells whether each pod's link has to be told to forward.
    link_by_link: bool,
    filter: RefCell<PacketFilter>,
    range: Range,
    v6: bool,
    pub(super) pool: RefCell<Pool>,
    /// Numbers of pods that a keeper before this one had let in.
    left: RefCell<HashSet<u16>>,
    pub(super) services: RefCell<Published>,
    /// The place where Services are kept.
    pub(super) home: Home,
    uplink: watch::Receiver<uplink::Known>,
    /// Holds what does not work was said.
    warned: Cell<bool>,
    filter_error: RefCell<Option<io::Error>>,
    /// Sockets that tell who listens in a pod, by the pods' numbers.
    diags: RefCell<HashMap<u16, Netlink>>,
    /// Tells whether the kernel can tell.
    telling: OnceCell<bool>,
    /// Names who serves or listens may have changed.
    pub(super) changed: Rc<Notify>,
    /// The Services that pods of each namespace are told of.
    links: RefCell<BTreeMap<String, Vec<ServiceLink>>>,
    /// Tells that these have changed: with every pod that comes, all others would be woken by `changed`.
    links_changed: Notify,
    /// The place where connections to published ports find room.
    pub(super) room: Rc<Room<u64>>,
    /// The place where questions to the outside find room, by who asks.
    pub(super) questions: Rc<Room<IpAddr>>,
    /// The number of the next published port in `room`.
    pub(super) next_port: Cell<u64>,
    connections: Cell<usize>,
    gone: Notify,
}

/// The first keeper's life. Gives its exit code.
pub fn main() -> i32 {
    live(false)
}

/// The life of one that takes over what a killed keeper left.
pub fn again() -> i32 {
    live(true)
}

fn live(follows: bool) -> i32 {
    let _ = nix::unistd::setsid(); // Whoever leads a group already stays as it is.
    detach_from_terminal();
    // Blocked before there are threads: as PID 1 it would not hear of it otherwise.
    let terminations = SigSet::from_iter([Signal::SIGTERM, transient_scope::END]);
    let _ = terminations.thread_block();
    // SAFETY: this process was started with these descriptors, and nobody else has taken them.
    let (listener, lock) = unsafe { (take_descriptor(LISTENER), File::from(take_descriptor(LOCK))) };
    // SAFETY: as above; a keeper that follows another has this one, too.
    let left = follows.then(|| unsafe { take_descriptor(NAMESPACE) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime
        .and_then(|runtime| LocalSet::new().block_on(&runtime, keep(&listener, &lock, left, &terminations)));
    let Err(why) = done else { return 0 };
    // Whoever had it started is told why; the next command starts another one.
    let _ = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], LAST_WORDS);
    while let Some(connection) = end(&listener, &lock) {
        let _ = send(&connection, &Reply::Refused(why.to_string()), &[]);
    }
    1
}

async fn keep(
    listener: &OwnedFd,
    lock: &File,
    left: Option<OwnedFd>,
    terminations: &SigSet,
) -> io::Result<()> {
    let signals = SignalFd::with_flags(terminations, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let descriptors = raise_descriptor_limit()?;
    let for_ports = descriptors - RESERVE.min(descriptors / 2);
    let follows = left.is_some();
    // Capabilities are enough for this; the ids may still be being mapped.
    let (inside, opened) = Inside::new(left)?;
    wait_until_mapped().map_err(io::Error::other)?;
    let Opened { namespace, route, filter, routes, range, v6, host, link_by_link, links, resolver, .. } =
        opened;
    let namespace = Arc::new(namespace);
    let record = beside_socket(RECORD);
    let host = host.then(|| Host::found(range, namespace.try_clone().ok()?, record)).flatten().map(Arc::new);
    // SAFETY: a keeper is started with this descriptor, and nobody else has taken it.
    let scope = transient_scope::has_systemd().then(|| unsafe { take_descriptor(SCOPE) });
    let within = uplink::Within { namespace: namespace.clone(), routes, range, v6, scope };
    let linked = host.clone();
    let (tell, uplink) = watch::channel(None);
    std::thread::Builder::new()
        .name("uplink".into())
        .spawn(move || uplink::keep(&within, linked.as_deref(), &tell))?;
    // The directory's name may mean another one to whoever is root of a user namespace.
    let home = Home { runtime: PathBuf::new(), data: format!("/proc/self/fd/{DATA}").into(), program: None };
    let state = Rc::new(State {
        registry: RefCell::new(Registry { range: Some(range), ..Registry::default() }),
        inside: Rc::new(inside),
        namespace,
        route,
        link_by_link,
        filter: RefCell::new(PacketFilter::new(filter, uplink::NAME)),
        range,
        v6,
        pool: RefCell::new(Pool::new(range, v6, &links)),
        left: RefCell::new(links.into_iter().collect()),
        services: RefCell::default(),
        home,
        uplink,
        warned: Cell::new(false),
        filter_error: RefCell::default(),
        diags: RefCell::default(),
        telling: OnceCell::new(),
        changed: Rc::default(),
        links: RefCell::default(),
        links_changed: Notify::new(),
        room: Room::new(for_ports / relay::DESCRIPTORS),
        questions: Room::new(QUESTIONS),
        next_port: Cell::new(0),
        connections: Cell::new(0),
        gone: Notify::new(),
    });
    for (udp, tcp) in resolver {
        spawn_local(resolver::serve(state.clone(), udp, tcp));
    }
    state.read_kept();
    if !follows {
        state.apply();
    }
    // SAFETY: the listener is borrowed for longer than it is watched.
    let watched = unsafe { AsyncFd::register(listener.as_fd()) }?;
    // SAFETY: the descriptor of signals lives as long as this function.
    let signalled = unsafe { AsyncFd::register(signals.as_fd()) }?;
    let mut to_end = false;
    let mut heard = Instant::now();
    loop {
        // While pods are on the network and all have come back, their connections tell all there is: nothing wakes this process.
        let all_came_back = state.left.borrow().is_empty();
        let sleeps = all_came_back && state.connections.get() > 0;
        let wait = tokio::time::sleep(if all_came_back { IDLE } else { LOOK });
        let mut fewer = true;
        tokio::select! {
            ready = watched.readable() => {
                let mut ready = ready?;
                match accept(listener) {
                    Ok(connection) => state.serve(connection),
                    Err(Errno::EAGAIN) => ready.clear_ready(),
                    // Nobody tells when there is one again.
                    Err(_) => tokio::time::sleep(SHORTAGE).await,
                }
                heard = Instant::now();
            }
            ready = signalled.readable() => {
                while let Ok(Some(_)) = signals.read_signal() {
                    to_end = true;
                }
                ready?.clear_ready();
            }
            () = state.gone.notified() => heard = Instant::now(),
            () = wait, if !sleeps => fewer = state.forget_lost(),
        }
        // Pods that an earlier keeper has let in come back at any moment. Whoever had it started may have died.
        let alone = to_end || heard.elapsed() >= IDLE || fewer && state.left.borrow().is_empty();
        if state.connections.get() == 0 && alone {
            match end(listener, lock) {
                Some(connection) => state.serve(connection),
                None => {
                    host.iter().for_each(|host| host.leave());
                    // The next one need not wait for all that the kernel has to do when this process ends.
                    let _ = lock.unlock();
                    return Ok(());
                }
            }
        }
    }
}

/// The file of that name beside the keeper's socket. The directory's name may mean another one to this process.
fn beside_socket(name: &str) -> PathBuf {
    Path::new("/proc/self/fd").join(DIRECTORY.to_string()).join(name)
}

/// Under the lock nobody starts another keeper: whoever connects now is served, later ones find nobody.
fn end(listener: &OwnedFd, lock: &File) -> Option<OwnedFd> {
    let held = lock.lock();
    let last = accept(listener).ok();
    if last.is_none() {
        // The next one makes both anew.
        let _ = fs::remove_file(beside_socket(SOCKET));
        let _ = fs::remove_file(beside_socket(ALIVE));
        // The lock goes with the process.
        return None;
    }
    if held.is_ok() {
        let _ = lock.unlock();
    }
    last
}

fn accept(listener: &OwnedFd) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl State {
    /// Pods whose links are gone do not come back. Says whether there were any.
    fn forget_lost(&self) -> bool {
        let mut left = self.left.borrow_mut();
        let before = left.len();
        let Ok(links) = self.inside.run(namespace_thread::links) else { return false };
        left.retain(|number| links.contains(number));
        left.len() < before
    }

    fn serve(self: &Rc<State>, connection: OwnedFd) {
        self.connections.set(self.connections.get() + 1);
        let state = self.clone();
        spawn_local(async move {
            let mut pod = OnNetwork::default();
            // A connection that speaks nonsense is as good as closed.
            let _ = state.converse(connection, &mut pod).await;
            state.leave(&pod);
            state.connections.set(state.connections.get() - 1);
            state.gone.notify_one();
        });
    }

    async fn converse(self: &Rc<State>, connection: OwnedFd, pod: &mut OnNetwork) -> io::Result<()> {
        let user_namespace = File::open("/proc/self/ns/user")?;
        let welcome = Reply::Welcome {
            version: PROTOCOL,
            published: self.served_ports(),
            gateway: self.range.gateway_addresses(self.v6),
        };
        send(&connection, &welcome, &[user_namespace.as_fd()])?;
        // SAFETY: the connection owns its descriptor and always gives the same one.
        let connection = unsafe { AsyncFd::register(connection) }?;
        loop {
            self.tell_links(connection.get_ref(), pod);
            let mut ready = tokio::select! {
                ready = connection.readable() => ready?,
                () = self.links_changed.notified() => continue,
            };
            let Ok(message) = ready.try_io(|c| receive::<Request>(c.get_ref())) else { continue };
            let Some((request, fds)) = message? else { return Ok(()) };
            let mut fds = fds.into_iter();
            let (fd, diag) = (fds.next(), fds.next().map(Netlink::of));
            match (request, fd) {
                (Request::Publish(port), Some(fd)) => {
                    pod.ports.push((port.clone(), fd.try_clone()?));
                    self.publish(port, fd, pod)?;
                }
                (Request::Join(registration), Some(namespace)) => {
                    let mut joined = match self.join(*registration, &namespace, pod) {
                        Ok(joined) => {
                            self.diagnose_pod(pod, diag);
                            joined
                        }
                        Err(e) => {
                            send(connection.get_ref(), &Reply::Refused(e.to_string()), &[])?;
                            continue;
                        }
                    };
                    self.publish_waiting(pod)?;
                    joined.warning = self.uplink_warning().await;
                    let ports = self.ports_to_keep(pod)?;
                    let reply = Reply::Joined { joined, keep: ports.len() };
                    send(connection.get_ref(), &reply, &[self.namespace.as_fd()])?;
                    for (port, fd) in ports {
                        send(connection.get_ref(), &Reply::Keep(port), &[fd.as_fd()])?;
                    }
                }
                (Request::Rejoin { pod: registration, addresses, ready }, Some(namespace)) => {
                    self.rejoin(*registration, addresses, ready, &namespace, pod)?;
                    self.diagnose_pod(pod, diag);
                    self.publish_waiting(pod)?;
                    pod.ports.clear();
                }
                (Request::Ready(ready), _) => self.change_member(pod, |member| member.ready = ready),
                (Request::Labels(labels), _) => self.change_member(pod, |member| member.pod.labels = labels),
                (Request::Services, _) => {
                    self.read_kept();
                    self.apply();
                    let all = self.registry.borrow().seen();
                    send(connection.get_ref(), &Reply::Services(all.len()), &[])?;
                    for reply in all.into_iter().map(|seen| Reply::Service(Box::new(seen))) {
                        // Whoever asks may be slower than this.
                        while let Err(e) = send(connection.get_ref(), &reply, &[]) {
                            match e.kind() {
                                io::ErrorKind::WouldBlock => connection.writable().await?.clear_ready(),
                                _ => return Err(e),
                            }
                        }
                    }
                }
                (Request::Kept { namespace, name }, _) => {
                    self.read_kept_service(&namespace, &name);
                    self.apply();
                    send(connection.get_ref(), &Reply::Services(0), &[])?;
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Tells a pod the Services of its namespace when they are not what it was told last. One that reads nothing hears it
    /// with the next change.
    fn tell_links(&self, connection: &OwnedFd, pod: &mut OnNetwork) {
        let registry = self.registry.borrow();
        let Some(member) = pod.number.and_then(|number| registry.members.get(&number)) else { return };
        let links = self.links_of(&member.pod.namespace);
        if pod.links.as_ref() != Some(&links) {
            let reply = Reply::Links(links);
            let sent = send(connection, &reply, &[]).is_ok();
            pod.links = match reply {
                Reply::Links(links) if sent => Some(links),
                _ => None,
            };
        }
    }

    /// Tells whether somebody listens there in a pod.
    pub(super) fn listens(&self, to: SocketAddr) -> bool {
        let IpAddr::V4(v4) = to.ip() else { return true };
        // A kernel that cannot tell says of the resolver that it does not listen.
        let telling = self.telling.get_or_init(|| {
            let own = (self.range.gateway_addresses(false).v4, 53).into();
            let asked = self.inside.run(move || {
                let diag = Netlink::open(SockProtocol::NetlinkSockDiag)?;
                listening::listens(&diag, own)
            });
            asked.unwrap_or(false)
        });
        let number = Addresses { v4, v6: None }.number();
        match self.diags.borrow().get(&number) {
            Some(diag) if *telling => listening::listens(diag, to).unwrap_or(true),
            _ => true,
        }
    }

    fn diagnose_pod(&self, pod: &OnNetwork, diag: Option<Netlink>) {
        let entry = pod.number.zip(diag);
        self.diags.borrow_mut().extend(entry);
        self.changed.notify_waiters();
    }

    fn join(&self, pod: Registration, namespace: &OwnedFd, on: &mut OnNetwork) -> io::Result<Joined> {
        let taken = self.pool.borrow_mut().pod();
        let (number, addresses) = taken.ok_or_else(|| io::Error::other("every address is in use"))?;
        on.number = Some(number);
        let name = link_name(number);
        let find = |name: String| self.inside.run(move || Ok(if_nametoindex(name.as_str())?));
        let make = || self.route.add_veth(&name, super::POD_LINK, namespace.as_fd());
        make().or_else(|e| match e.kind() {
            // Of a pod that has left, whose namespace somebody holds.
            io::ErrorKind::AlreadyExists => self.route.delete(find(name.clone())?).and_then(|()| make()),
            _ => Err(e),
        })?;
        let index = find(name)?;
        namespace_thread::link_up(&self.route, index, addresses.all())?;
        if self.link_by_link {
            self.route.set_forwarding(index, true)?;
        }
        let own = pod.namespace.clone();
        self.admit_member(number, Member { pod, addresses, ready: false }, on);
        let services = self.links_of(&own);
        on.links = Some(services.clone());
        Ok(Joined { addresses, gateway: self.range.gateway_addresses(self.v6), warning: None, services })
    }

    /// Returns a pod whose link the keeper before this one has made.
    fn rejoin(
        &self,
        pod: Registration,
        addresses: Addresses,
        ready: bool,
        namespace: &OwnedFd,
        on: &mut OnNetwork,
    ) -> io::Result<()> {
        let same = fstat(namespace)?.st_ino == fstat(&*self.namespace)?.st_ino;
        let number = addresses.number();
        if !same || !self.left.borrow_mut().remove(&number) {
            return Err(io::Error::other("it is not of this network"));
        }
        on.number = Some(number);
        let name = link_name(number);
        self.inside.run(move || Ok(if_nametoindex(name.as_str())?))?;
        self.admit_member(number, Member { pod, addresses, ready }, on);
        Ok(())
    }

    fn admit_member(&self, number: u16, member: Member, on: &OnNetwork) {
        on.address.set(Some(member.addresses.v4.into()));
        self.registry.borrow_mut().members.insert(number, member);
        self.settle_services();
        self.apply();
    }

    fn change_member(&self, pod: &OnNetwork, change: impl FnOnce(&mut Member)) {
        if let Some(number) = pod.number
            && let Some(member) = self.registry.borrow_mut().members.get_mut(&number)
        {
            change(member);
        }
        self.apply();
    }

    /// Returns what of the network does not work; said to one pod, for all have the same.
    async fn uplink_warning(&self) -> Option<String> {
        let mut uplink = self.uplink.clone();
        let known = uplink.wait_for(Option::is_some).await.ok().and_then(|k| k.clone());
        let outside = known.and_then(Result::err);
        let filter = self
            .filter_error
            .borrow()
            .as_ref()
            .map(|e| format!("neither Services nor the outside can be reached: nftables: {e}"));
        let warning = filter.or(outside)?;
        (!self.warned.replace(true)).then_some(warning)
    }

    fn leave(&self, pod: &OnNetwork) {
        pod.relays.iter().for_each(JoinHandle::abort);
        // Its link goes with the pod's own namespace; to delete it would keep everybody waiting.
        if let Some(number) = pod.number {
            self.registry.borrow_mut().members.remove(&number);
            // The kernel takes its time to close it.
            let diag = self.diags.borrow_mut().remove(&number);
            let _ = std::thread::Builder::new().spawn(move || drop(diag));
            self.pool.borrow_mut().give_back(number);
        }
        self.settle_services();
        if self.connections.get() > 1 {
            // With the last one all rules go, or another pod's coming makes them anew.
            self.apply();
        }
    }

    fn links_of(&self, namespace: &str) -> Vec<ServiceLink> {
        self.links.borrow().get(namespace).cloned().unwrap_or_default()
    }

    /// Makes the packet rules say what the registry says.
    fn apply(&self) {
        let registry = self.registry.borrow();
        let (wanted, links) = (registry.list_wanted_rules(), registry.list_links());
        let done = self.filter.borrow_mut().apply(wanted, &self.inside.keeps_clients);
        *self.filter_error.borrow_mut() = done.err();
        self.changed.notify_waiters();
        if *self.links.borrow() != links {
            self.links.replace(links);
            self.links_changed.notify_waiters();
        }
    }
}

/// Holds what a connection has on the network.
#[derive(Debug, Default)]
pub(super) struct OnNetwork {
    pub number: Option<u16>,
    pub address: Rc<Cell<Option<std::net::IpAddr>>>,
    pub relays: Vec<Relay>,
    /// Holds what was published, until the supervisor has it.
    pub ports: Vec<(HostPort, OwnedFd)>,
    /// The Services that its supervisor was told of last.
    pub links: Option<Vec<ServiceLink>>,
}
