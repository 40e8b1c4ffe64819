//! The keeper: the one process that holds a user's network while any pod is on it.
//!
//! It made the user and network namespaces that all pods share, and is the only one that changes
//! them, so twenty pods that come and go at once cannot get into each other's way. A pod is on the
//! network as long as its supervisor holds its connection; the kernel closes that of a killed one.
//! With the last connection the keeper ends, and namespaces, rules, links and the helper with it.
//! When it is killed, links and rules stay, and the next one goes on with them (see [`super::guard`]).

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use nix::{
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, poll},
    sys::{
        socket::{SockFlag, UnixAddr, accept4, getsockname},
        stat::fstat,
    },
};
use tokio::{
    io::unix::AsyncFd,
    sync::{Notify, watch},
    task::{JoinHandle, LocalSet, spawn_local},
};

use super::{
    Joined, RECORD, Reply, Request, clients,
    host::Host,
    inside::{self, Inside, Opened},
    names::{Member, Registration, Registry, has_address, key},
    netlink::Netlink,
    nft,
    ports::{HostPort, Taken, Target},
    range::{Addresses, Pool, Range, link_name},
    relay, resolver, uplink,
};
use crate::supervisor::{
    control::{receive, send},
    detach_from_terminal,
};

/// Descriptor of the listening socket.
pub const LISTENER: RawFd = 3;
/// Descriptor of the lock under which a keeper starts and ends.
pub const LOCK: RawFd = 4;
/// Descriptor of the network namespace that a keeper which was killed has left.
pub const NAMESPACE: RawFd = 5;

/// How long one that could not begin waits for somebody to be told so, in milliseconds.
const LAST_WORDS: u16 = 1000;

const TABLE: &str = "podctl";

/// A published port that is served.
type Relay = JoinHandle<io::Result<()>>;

/// Published ports of Services, by the Service's key and port.
type Published = HashMap<(String, i32), Vec<(HostPort, Relay)>>;

/// Everything the keeper knows.
pub(super) struct State {
    pub registry: RefCell<Registry>,
    inside: Rc<Inside>,
    namespace: Arc<OwnedFd>,
    route: Netlink,
    filter: Netlink,
    range: Range,
    v6: bool,
    pool: RefCell<Pool>,
    /// Numbers of pods that a keeper before this one had let in.
    left: RefCell<HashSet<u16>>,
    services: RefCell<Published>,
    uplink: watch::Receiver<uplink::Known>,
    /// What does not work was said.
    warned: Cell<bool>,
    filter_error: RefCell<Option<io::Error>>,
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
    let _ = nix::unistd::setsid();
    detach_from_terminal();
    // SAFETY: this process was started with these descriptors, and nobody else has taken them.
    let (listener, lock) = unsafe { (OwnedFd::from_raw_fd(LISTENER), File::from_raw_fd(LOCK)) };
    // SAFETY: as above; a keeper that follows another has this one, too.
    let left = follows.then(|| unsafe { OwnedFd::from_raw_fd(NAMESPACE) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.and_then(|runtime| LocalSet::new().block_on(&runtime, keep(&listener, &lock, left)));
    let Err(why) = done else { return 0 };
    // Whoever had it started is told why; the next command starts another one.
    let _ = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], LAST_WORDS);
    while let Some(connection) = end(&listener, &lock) {
        let _ = send(&connection, &Reply::Refused(why.to_string()), &[]);
    }
    1
}

async fn keep(listener: &OwnedFd, lock: &File, left: Option<OwnedFd>) -> io::Result<()> {
    let follows = left.is_some();
    let (inside, opened) = Inside::new(left)?;
    let Opened { namespace, route, filter, range, v6, host, links, resolver, .. } = opened;
    let namespace = Arc::new(namespace);
    let record = socket_path(listener).with_file_name(RECORD);
    let host = host.then(|| Host::found(range, namespace.try_clone().ok()?, record)).flatten().map(Arc::new);
    let (outside, linked) = (namespace.clone(), host.clone());
    let (tell, uplink) = watch::channel(None);
    std::thread::Builder::new()
        .name("uplink".into())
        .spawn(move || uplink::keep(&outside, range, v6, linked.as_deref(), &tell))?;
    let state = Rc::new(State {
        registry: RefCell::default(),
        inside: Rc::new(inside),
        namespace,
        route,
        filter,
        range,
        v6,
        pool: RefCell::new(Pool::new(range, v6, &links)),
        left: RefCell::new(links.into_iter().collect()),
        services: RefCell::default(),
        uplink,
        warned: Cell::new(false),
        filter_error: RefCell::default(),
        connections: Cell::new(0),
        gone: Notify::new(),
    });
    for (udp, tcp) in resolver {
        spawn_local(resolver::serve(state.clone(), udp, tcp));
    }
    if !follows {
        state.apply();
    }
    // SAFETY: the listener is borrowed for longer than it is watched.
    let watched = unsafe { AsyncFd::register(listener.as_fd()) }?;
    loop {
        // Whoever had it started may have died before it came.
        let idle = tokio::time::sleep(Duration::from_secs(10));
        tokio::select! {
            ready = watched.readable() => {
                let mut ready = ready?;
                match accept(listener) {
                    Some(connection) => state.serve(connection),
                    None => ready.clear_ready(),
                }
            }
            () = state.gone.notified() => {}
            () = idle => {}
        }
        if state.connections.get() == 0 {
            match end(listener, lock) {
                Some(connection) => state.serve(connection),
                None => {
                    host.iter().for_each(|host| host.leave());
                    return Ok(());
                }
            }
        }
    }
}

/// Where it listens.
fn socket_path(listener: &OwnedFd) -> PathBuf {
    let name = getsockname::<UnixAddr>(listener.as_raw_fd()).ok();
    name.and_then(|name| name.path().map(Path::to_path_buf)).unwrap_or_default()
}

/// Under the lock nobody starts another keeper: whoever connects now is served, later ones find nobody.
fn end(listener: &OwnedFd, lock: &File) -> Option<OwnedFd> {
    let held = lock.lock();
    let last = accept(listener);
    if last.is_none() {
        let _ = std::fs::remove_file(socket_path(listener));
        // The lock goes with the process.
        return None;
    }
    if held.is_ok() {
        let _ = lock.unlock();
    }
    last
}

fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = accept4(listener.as_raw_fd(), flags).ok()?;
    // SAFETY: the kernel has just made it for us.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl State {
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
        let published = self.services.borrow().values().flatten().map(|(port, _)| port.clone()).collect();
        let welcome = Reply::Welcome { published };
        send(&connection, &welcome, &[user_namespace.as_fd()])?;
        // SAFETY: the connection owns its descriptor and always gives the same one.
        let connection = unsafe { AsyncFd::register(connection) }?;
        loop {
            let mut ready = connection.readable().await?;
            let Ok(message) = ready.try_io(|c| receive::<Request>(c.get_ref())) else { continue };
            let Some((request, fds)) = message? else { return Ok(()) };
            let fd = fds.into_iter().next();
            match (request, fd) {
                (Request::Publish(port), Some(fd)) => {
                    pod.ports.push((port.clone(), fd.try_clone()?));
                    self.publish(port, fd, pod);
                }
                (Request::Join(registration), Some(namespace)) => {
                    let mut joined = match self.join(*registration, &namespace, pod) {
                        Ok(joined) => joined,
                        Err(e) => {
                            send(connection.get_ref(), &Reply::Refused(e.to_string()), &[])?;
                            continue;
                        }
                    };
                    joined.warning = self.warning().await;
                    let ports = std::mem::take(&mut pod.ports);
                    let reply = Reply::Joined { joined, keep: ports.len() };
                    send(connection.get_ref(), &reply, &[self.namespace.as_fd()])?;
                    for (port, fd) in ports {
                        send(connection.get_ref(), &Reply::Keep(port), &[fd.as_fd()])?;
                    }
                }
                (Request::Rejoin { pod: registration, addresses, ready }, Some(namespace)) => {
                    pod.ports.clear();
                    self.rejoin(*registration, addresses, ready, &namespace, pod)?;
                }
                (Request::Ready(ready), _) => self.set_ready(pod, ready),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    fn publish(self: &Rc<State>, port: HostPort, fd: OwnedFd, pod: &mut OnNetwork) {
        let taken = Taken::new(&port, fd);
        match port.target.clone() {
            Target::Pod(number) => {
                let address = pod.address.clone();
                let aim = move || Some((address.get()?, number).into());
                pod.relays.push(spawn_local(relay::serve(taken, self.inside.clone(), Rc::new(aim))));
            }
            Target::Service(service, number) => {
                let (state, turn, udp) = (self.clone(), Cell::new(0_usize), port.udp);
                let name = service.clone();
                let aim = move || {
                    turn.set(turn.get().wrapping_add(1));
                    state.registry.borrow().endpoint(&name, number, udp, turn.get())
                };
                let relay = spawn_local(relay::serve(taken, self.inside.clone(), Rc::new(aim)));
                self.services.borrow_mut().entry((service, number)).or_default().push((port, relay));
            }
        }
    }

    fn join(&self, pod: Registration, namespace: &OwnedFd, on: &mut OnNetwork) -> io::Result<Joined> {
        let taken = self.pool.borrow_mut().pod();
        let (number, addresses) = taken.ok_or_else(|| io::Error::other("every address is in use"))?;
        on.number = Some(number);
        let name = link_name(number);
        self.route.veth(&name, super::POD_LINK, namespace.as_fd())?;
        let index = self.inside.run(move || Ok(if_nametoindex(name.as_str())?))?;
        on.link = Some(index);
        inside::link_up(&self.route, index, addresses.all())?;
        self.admit(number, Member { pod, addresses, ready: false }, on);
        Ok(Joined { addresses, gateway: self.range.gateway(self.v6), warning: None })
    }

    /// A pod whose link the keeper before this one has made.
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
        on.link = Some(self.inside.run(move || Ok(if_nametoindex(name.as_str())?))?);
        self.admit(number, Member { pod, addresses, ready }, on);
        Ok(())
    }

    fn admit(&self, number: u16, member: Member, on: &OnNetwork) {
        on.address.set(Some(member.addresses.v4.into()));
        let mut registry = self.registry.borrow_mut();
        for service in member.pod.services.iter().filter(|s| has_address(s)) {
            let key = key(service);
            if !registry.virtual_addresses.contains_key(&key)
                && let Some(own) = self.pool.borrow_mut().service(&key)
            {
                registry.virtual_addresses.insert(key, own);
            }
        }
        registry.members.insert(number, member);
        drop(registry);
        self.apply();
    }

    fn set_ready(&self, pod: &OnNetwork, ready: bool) {
        if let Some(number) = pod.number
            && let Some(member) = self.registry.borrow_mut().members.get_mut(&number)
        {
            member.ready = ready;
        }
        self.apply();
    }

    /// What of the network does not work; said to one pod, for all have the same.
    async fn warning(&self) -> Option<String> {
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
        if let Some(index) = pod.link {
            // Mostly gone already, with the pod's own namespace.
            let _ = self.route.delete(index);
        }
        if let Some(number) = pod.number {
            self.registry.borrow_mut().members.remove(&number);
            self.pool.borrow_mut().give_back(number);
        }
        let registry = self.registry.borrow();
        let known = registry.services();
        self.services.borrow_mut().retain(|(service, _), relays| {
            let stays = known.contains_key(service);
            if !stays {
                relays.iter().for_each(|(_, relay)| relay.abort());
            }
            stays
        });
        drop(known);
        drop(registry);
        self.apply();
    }

    /// Makes the packet rules say what the registry says.
    fn apply(&self) {
        let rules = self.registry.borrow().rules(uplink::NAME);
        let with_clients = [&rules[..], &clients::rules()].concat();
        let keeps = &self.inside.keeps_clients;
        let mut done =
            self.filter.send(&nft::replace(TABLE, &[], if keeps.get() { &with_clients } else { &rules }));
        if done.is_err() && keeps.replace(false) {
            // A kernel may have less than that takes.
            done = self.filter.send(&nft::replace(TABLE, &[], &rules));
        }
        *self.filter_error.borrow_mut() = done.err();
    }
}

/// What a connection has on the network.
#[derive(Debug, Default)]
struct OnNetwork {
    number: Option<u16>,
    link: Option<u32>,
    address: Rc<Cell<Option<std::net::IpAddr>>>,
    relays: Vec<Relay>,
    /// What was published, until the supervisor has it.
    ports: Vec<(HostPort, OwnedFd)>,
}
