//! One network for all of a user's pods: addresses, names, Services, published ports, the outside.
//!
//! The [`keeper`] holds it and is started by the first pod; this file is what the others say to it:
//! the client that starts a pod [`connect`]s and hands the connection to the supervisor, which
//! [`join`]s with its own namespace. The network is routed: a pod's link leads to the keeper's
//! namespace alone, where Services' addresses are translated.

pub mod dns;
mod inside;
pub mod keeper;
mod names;
mod netlink;
mod nft;
pub mod ports;
mod range;
mod relay;
mod resolver;
mod uplink;

use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use nix::{
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::CloneFlags,
    sys::socket::{AddressFamily, Backlog, SockFlag, SockProtocol, SockType, UnixAddr, bind, listen, socket},
};
use podctl_runtime::IdMappings;
use serde::{Deserialize, Serialize};

pub use names::Registration;
pub use range::Addresses;

use self::{netlink::Netlink, ports::HostPort};
use crate::{
    state::Home,
    supervisor::{
        children,
        control::{dial, receive, send},
        role,
    },
};

/// The pod's end of its link.
const POD_LINK: &str = "eth0";
/// How long the keeper may take; an uplink that has to time out is within it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a pod cannot be on the network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else has the port.
    #[error(
        "port {port} of this machine is in use{}; end that first or publish another port",
        holder.as_ref().map(|h| format!(" by {h}")).unwrap_or_default()
    )]
    PortInUse {
        /// The port, with its address and protocol.
        port: String,
        /// Who has it, where that can be known.
        holder: Option<String>,
    },
    /// Only root may have the port.
    #[error(
        "port {port} of this machine is not for ordinary users, who may publish ports from {first} on; `sudo sysctl net.ipv4.ip_unprivileged_port_start={number}` allows it"
    )]
    PortForbidden {
        /// The port, with its address and protocol.
        port: String,
        /// Its number.
        number: u16,
        /// The first port for everybody.
        first: u16,
    },
    /// The port cannot be had.
    #[error("cannot publish port {port}: {source}")]
    Port {
        /// The port, with its address and protocol.
        port: String,
        /// Why not.
        source: io::Error,
    },
    /// The keeper could not be started.
    #[error("cannot start the pods' network: {0}")]
    Start(#[from] podctl_runtime::Error),
    /// A step on the way to the network failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The keeper could not let the pod in.
    #[error("the pods' network cannot take the pod: {0}")]
    Refused(String),
}

fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Step { step, source: source.into() }
}

/// What is said to the keeper.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// A port that was taken; its descriptor comes beside it.
    Publish(HostPort),
    /// A pod that wants to be on the network; its namespace comes beside it.
    Join(Box<Registration>),
    /// Whether the pod is ready.
    Ready(bool),
}

/// What the keeper says.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// To everybody who connects; the user namespace comes beside it.
    Welcome {
        /// Ports that Services have already.
        published: Vec<HostPort>,
    },
    Joined(Joined),
    Refused(String),
}

/// A pod's place on the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// The pod's own.
    pub addresses: Addresses,
    /// Its way to everybody else, and its resolver.
    pub gateway: Addresses,
    /// What does not work, for the user.
    pub warning: Option<String>,
}

/// A client's connection to the keeper. The network stays as long as one is open.
#[derive(Debug)]
pub struct Connection {
    /// To be handed to the pod's supervisor.
    pub socket: OwnedFd,
    /// The user namespace in which the network's pods are.
    pub user_namespace: OwnedFd,
    /// Ports that Services have already.
    pub published: Vec<HostPort>,
}

impl Connection {
    /// Hands over a port that was taken.
    ///
    /// # Errors
    /// [`Error::Step`].
    pub fn publish(&self, port: &HostPort, fd: &OwnedFd) -> Result<(), Error> {
        let request = Request::Publish(port.clone());
        send(&self.socket, &request, &[fd.as_fd()]).map_err(step("publish a port"))
    }
}

/// Connects to the user's network; the first one starts it. `mappings` are the ids of a rootless network.
///
/// # Errors
/// [`Error::Start`] and [`Error::Step`].
pub fn connect(home: &Home, mappings: Option<&IdMappings>) -> Result<Connection, Error> {
    let dir = home.runtime.join("network");
    fs::create_dir_all(&dir).map_err(step("make the network's directory"))?;
    let path = dir.join("keeper.sock");
    // A keeper that ends just now is followed by another; that twice in a row is not likely.
    for _ in 0..10 {
        if let Some(connection) = dial(&path).ok().map(welcome).transpose()?.flatten() {
            return Ok(connection);
        }
        let open = || File::options().create(true).append(true).open(dir.join("lock"));
        let lock = open().map_err(step("open the network's lock"))?;
        lock.lock().map_err(step("take the network's lock"))?;
        if dial(&path).is_err() {
            let keepers = open().map_err(step("open the network's lock"))?;
            start(&path, &keepers, mappings)?;
        }
    }
    Err(step("reach the pods' network")(io::Error::other("it ends as soon as it has started")))
}

/// Waits for the keeper's first words; none when it ends instead.
fn welcome(socket: OwnedFd) -> Result<Option<Connection>, Error> {
    match hear(&socket) {
        Ok(Some((Reply::Welcome { published }, fds))) => {
            Ok(fds.into_iter().next().map(|user_namespace| Connection { socket, user_namespace, published }))
        }
        Ok(_) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(e) => Err(step("hear from the pods' network")(e)),
    }
}

fn hear(socket: &OwnedFd) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout)? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => receive(socket),
    }
}

/// The socket is there before the keeper is: whoever connects meanwhile waits for it.
fn start(path: &Path, lock: &File, mappings: Option<&IdMappings>) -> Result<(), Error> {
    let _ = fs::remove_file(path);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
        .and_then(|fd| bind(fd.as_raw_fd(), &UnixAddr::new(path)?).map(|()| fd))
        .and_then(|fd| listen(&fd, Backlog::new(512)?).map(|()| fd))
        .map_err(step("make the network's socket"))?;
    // PID 1 of a PID namespace: what it starts ends with it.
    let mut namespaces = CloneFlags::CLONE_NEWPID;
    if mappings.is_some() {
        namespaces |= CloneFlags::CLONE_NEWUSER;
    }
    let fds = [(listener.as_fd(), keeper::LISTENER), (lock.as_fd(), keeper::LOCK)];
    role("network", namespaces, mappings, &[], &fds).map(|keeper| children::leave(&keeper)).map_err(|e| {
        let _ = fs::remove_file(path);
        e.into()
    })
}

/// Asks to be on the network with the calling process's namespace; [`joined`] has the answer.
///
/// # Errors
/// [`Error::Step`].
pub fn join(socket: &OwnedFd, registration: Registration) -> Result<(), Error> {
    let namespace = File::open("/proc/self/ns/net").map_err(step("open the pod's network namespace"))?;
    let request = Request::Join(Box::new(registration));
    send(socket, &request, &[namespace.as_fd()]).map_err(step("join the pods' network"))
}

/// Waits for the answer to [`join`] and sets up the pod's end.
///
/// # Errors
/// [`Error::Step`] and [`Error::Refused`].
pub fn joined(socket: &OwnedFd) -> Result<Joined, Error> {
    let joined = match hear(socket).map_err(step("hear from the pods' network"))? {
        Some((Reply::Joined(joined), _)) => joined,
        Some((Reply::Refused(words), _)) => return Err(Error::Refused(words)),
        _ => return Err(Error::Refused("it has ended; try again".into())),
    };
    set_up(&joined).map_err(step("set up the pod's link to the network"))?;
    // A keeper that hangs must not make the supervisor hang.
    keeper::nonblocking(socket).map_err(step("join the pods' network"))?;
    Ok(joined)
}

fn set_up(joined: &Joined) -> io::Result<()> {
    let route = Netlink::open(SockProtocol::NetlinkRoute)?;
    let link = if_nametoindex(POD_LINK)?;
    route.up(link)?;
    for address in joined.addresses.all() {
        route.address(link, address)?;
    }
    let gateway = joined.gateway.v4.into();
    route.route((gateway, 32), None, link)?;
    route.route((Ipv4Addr::UNSPECIFIED.into(), 0), Some(gateway), link)?;
    if joined.addresses.v6.is_some() {
        let everywhere = std::net::Ipv6Addr::UNSPECIFIED.into();
        route.route((everywhere, 0), Some(range::LINK_GATEWAY.into()), link)?;
    }
    Ok(())
}

/// Tells the network whether the pod is ready. A network that is gone needs no telling.
pub fn tell_ready(socket: &OwnedFd, ready: bool) {
    let _ = send(socket, &Request::Ready(ready), &[]);
}
