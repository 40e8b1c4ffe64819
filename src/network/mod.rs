//! One network for all of a user's pods: addresses, names, Services, published ports, the outside.
//!
//! The [`keeper`] holds it and is started by the first pod; this file is what the others say to it:
//! the client that starts a pod [`connect`]s and hands the connection to the supervisor, which
//! becomes a [`Member`] with its own namespace. The network is routed: a pod's link leads to the
//! keeper's namespace alone, where Services' addresses are translated.

mod address_range;
mod client_address;
pub mod dns_message;
mod endpoint_choice;
mod forwarding;
pub mod keeper;
pub mod keeper_guard;
mod keeper_services;
pub mod kept_services;
mod listening;
mod membership;
mod namespace_thread;
mod netlink;
mod nft;
mod nft_expressions;
mod packet_filter;
pub mod ports;
mod published;
mod registry;
mod relay;
mod resolver;
mod room;
mod root_uplink;
mod service_dns;
mod service_rules;
mod splice;
mod uplink;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podctl_images::open_ordinary;
use podctl_runtime::IdMappings;
use serde::{Deserialize, Serialize};

pub use address_range::Addresses;
pub use membership::{Member, complete_join, join};
pub use registry::{Backend, Registration, Seen, does_select};

use self::ports::HostPort;
use crate::{
    outer_container::explain_refusal,
    pod::{Namespace, ObjectName, ServiceLink},
    state::Home,
    wire::{dial, receive_within, send},
};

/// Version of what is said to the keeper and by it: one more with every change after which the other side would
/// misunderstand.
const PROTOCOL: u32 = 1;
/// The pod's end of its link.
const POD_LINK: &str = "eth0";
/// The time for which the keeper may take; an uplink that has to time out is within it.
const PATIENCE: Duration = Duration::from_secs(20);
/// The time for which one that is there may take to say its first words, which it has ready.
const WELCOME: Duration = Duration::from_secs(10);
/// Names what is said of a keeper that takes longer.
const HANGS: &str = "the process that keeps it, `podctl internal network`, does not answer; when it is killed, another takes its place";
/// The time for which a keeper that ends is left to do so.
const AGAIN: Duration = Duration::from_millis(10);
/// Beside the keeper's socket: what there is on the host of it.
const RECORD: &str = "host";

/// The reason why a pod cannot be on the network.
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
        /// Names who has it, where that can be known.
        holder: Option<String>,
    },
    /// Only root may have the port.
    #[error(
        "port {port} of this machine is not for ordinary users, who may publish ports from {first} on; `sudo sysctl net.ipv4.ip_unprivileged_port_start={number}` allows it"
    )]
    PortForbidden {
        /// The port, with its address and protocol.
        port: String,
        /// The number.
        number: u16,
        /// The first port for everybody.
        first: u16,
    },
    /// The port cannot be had.
    #[error("cannot publish port {port}: {source}")]
    Port {
        /// The port, with its address and protocol.
        port: String,
        /// The reason why not.
        source: io::Error,
    },
    /// Means that a Service asks for an address that it cannot have.
    #[error(
        "Service {service:?} is invalid: spec.clusterIPs: Invalid value: [{address:?}]: failed to allocate IP {address}: {why}"
    )]
    Address {
        /// The Service's `namespace/name`.
        service: String,
        /// Holds what it asks for.
        address: String,
        /// The reason why not.
        why: String,
    },
    /// Means that a Service asks for another address than it has.
    #[error("Service {service:?} is invalid: spec.clusterIPs[0]: {}", refuse_change(address, before))]
    AddressChanges {
        /// The Service's `namespace/name`.
        service: String,
        /// Holds what it asks for.
        address: String,
        /// Holds what it has.
        before: String,
    },
    /// The keeper could not be started.
    #[error("cannot start the pods' network: {}{}", .0, explain_refusal(.0))]
    Start(#[from] podctl_runtime::Error),
    /// Means that a step on the way to the network failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// Holds what was tried.
        step: &'static str,
        /// The reason why not.
        source: io::Error,
    },
    /// The keeper could not begin.
    #[error("cannot set up the pods' network: {0}; `--network host` starts the pod without one")]
    Begin(String),
    /// The keeper is of another podctl.
    #[error(
        "the pods' network is kept by another version of podctl (it speaks version {0}, this command version {PROTOCOL}); delete the pods that are on it first, or use `--network none` or `--network host`"
    )]
    OtherVersion(u32),
    /// The keeper was killed before it had let the pod in; another one will.
    #[error("the pods' network has ended while the pod was on its way there; try again")]
    Gone,
    /// State on disk.
    #[error(transparent)]
    State(#[from] crate::state::Error),
    /// The keeper could not let the pod in.
    #[error("the pods' network cannot take the pod: {0}")]
    Refused(String),
}

impl Error {
    /// Returns which field of a Service is wrong, and what is wrong with it, where it is that.
    pub(crate) fn wrong_field(&self) -> Option<(&'static str, String)> {
        match self {
            Error::AddressChanges { address, before, .. } => {
                Some(("spec.clusterIPs[0]", refuse_change(address, before)))
            }
            _ => None,
        }
    }
}

fn refuse_change(address: &str, before: &str) -> String {
    format!("Invalid value: [{address:?}]: may not change once set; it has {before} until it is deleted")
}

fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Step { step, source: source.into() }
}

/// Names what is said to the keeper.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// The port that was taken; its descriptor comes beside it.
    Publish(HostPort),
    /// The pod that wants to be on the network; its namespace comes beside it, and a socket that tells who listens there.
    Join(Box<Registration>),
    /// The pod that is on the network, to a keeper that has followed another; the network's namespace comes beside it,
    /// and a socket as above.
    Rejoin { pod: Box<Registration>, addresses: Addresses, ready: bool },
    /// Tells whether the pod is ready.
    Ready(bool),
    /// The pod's labels, which are not what they were.
    Labels(BTreeMap<String, String>),
    /// Kept Services may have changed, and which Services are there?
    Services,
    /// The kept Service of that name has changed, or is gone; the answer is a [`Reply::Services`] of none.
    Kept { namespace: Namespace, name: ObjectName },
}

/// Names what the keeper says.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// Greets everybody who connects; the user namespace comes beside it.
    Welcome {
        /// The keeper's [`PROTOCOL`]; 0 of one that was built before there was one.
        #[serde(default)]
        version: u32,
        /// Ports that Services have already.
        published: Vec<HostPort>,
        /// Holds what tells the network's ranges.
        gateway: Addresses,
    },
    /// The network's namespace comes beside it, and after it so many [`Reply::Keep`].
    Joined {
        joined: Joined,
        keep: usize,
    },
    /// The port that was published for the pod, so that it outlives the keeper; its descriptor comes beside it.
    Keep(HostPort),
    /// After it so many [`Reply::Service`].
    Services(usize),
    Service(Box<Seen>),
    /// Tells a pod on the network that the Services of its namespace are others now.
    Links(Vec<ServiceLink>),
    Refused(String),
}

/// The pod's place on the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// The pod's own.
    pub addresses: Addresses,
    /// The way to everybody else, and its resolver.
    pub gateway: Addresses,
    /// Holds what does not work, for the user.
    pub warning: Option<String>,
    /// The Services of the pod's namespace that have an address; [`Member::hear`] keeps them as they are.
    #[serde(default)]
    pub services: Vec<ServiceLink>,
}

/// The client's connection to the keeper. The network stays as long as one is open.
#[derive(Debug)]
pub struct Connection {
    /// Goes to the pod's supervisor.
    pub socket: OwnedFd,
    /// The user namespace in which the network's pods are.
    pub user_namespace: OwnedFd,
    /// Ports that Services have already.
    pub published: Vec<HostPort>,
    /// Holds what tells the network's ranges, once the keeper has said it.
    gateway: Option<Addresses>,
    /// Holds what of a network that was started just now does not work.
    pub warnings: Vec<String>,
    /// The keeper was started with this connection, and has not spoken yet; its guard may be on the way.
    guard: Option<keeper_guard::StartingGuard>,
}

impl Connection {
    /// Waits for the first words of a keeper that was started with this connection, and publishes what kept Services want.
    /// Before, nothing else may be read from the socket, and no ports of Services are known.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Begin`] and [`Error::Step`].
    pub fn await_keeper(&mut self, home: &Home) -> Result<(), Error> {
        let Some(guard) = self.guard.take() else { return Ok(()) };
        guard.finish()?;
        let welcome = hear_welcome(&self.socket, PATIENCE)?.ok_or(Error::Gone)?;
        self.published = welcome.published;
        self.gateway = Some(welcome.gateway);
        self.warnings = kept_services::publish(home);
        Ok(())
    }

    /// Tells whether the keeper is gone.
    pub fn lost(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Hands over a port that was taken.
    ///
    /// # Errors
    /// [`Error::Step`].
    pub fn publish(&self, port: &HostPort, fd: &OwnedFd) -> Result<(), Error> {
        let request = Request::Publish(port.clone());
        send(&self.socket, &request, &[fd.as_fd()]).map_err(step("publish a port"))
    }
}

/// The ways in which links can be told to forward.
#[cfg(feature = "cli")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forwarding {
    /// All of a network at once, IPv6 as well.
    Everywhere,
    /// Each by itself, for /proc/sys is read-only; only IPv4.
    LinkByLink,
}

/// Tries how the links of this process's network namespace, which has to be a new one, can be told to forward.
///
/// # Errors
/// Why they cannot.
#[cfg(feature = "cli")]
pub fn try_forwarding() -> io::Result<Forwarding> {
    use nix::{net::if_::if_nametoindex, sys::socket::SockProtocol};
    match fs::write("/proc/sys/net/ipv4/ip_forward", "1") {
        Ok(()) => Ok(Forwarding::Everywhere),
        Err(_) => {
            let route = netlink::Netlink::open(SockProtocol::NetlinkRoute)?;
            route.set_forwarding(if_nametoindex("lo")?, true).map(|()| Forwarding::LinkByLink)
        }
    }
}

/// The keeper's socket.
const SOCKET: &str = "keeper.sock";
/// The file that the keeper holds locked as long as it lives.
const ALIVE: &str = "alive";

/// Tells where the keeper listens.
fn socket_path(home: &Home) -> PathBuf {
    home.runtime.join("network").join(SOCKET)
}

/// Opens the lock under which a keeper starts and ends.
fn open_lock(home: &Home) -> Result<File, Error> {
    let path = home.runtime.join("network/lock");
    let opened = open_ordinary(&path, File::options().create(true).append(true));
    opened.map_err(|e| crate::state::Error::io("open", path)(e).into())
}

/// Connects to the user's network; the first one starts it, and need not wait for its first words
/// ([`Connection::await_keeper`]). An ordinary user's is made in the user namespace `users`.
///
/// # Errors
/// [`Error::Start`] and [`Error::Step`].
pub fn connect(
    home: &Home,
    users: Option<BorrowedFd<'_>>,
    mappings: Option<&IdMappings>,
) -> Result<Connection, Error> {
    let path = socket_path(home);
    let network = home.runtime.join("network");
    fs::create_dir_all(&network).map_err(crate::state::Error::io("make", network))?;
    let mut started = 0;
    // A keeper that ends just now is followed by another. That those which are started here do so is not likely.
    let deadline = Instant::now() + PATIENCE;
    while started < 10 && Instant::now() < deadline {
        // One that begins has things to do before.
        let patience = if started == 0 { WELCOME } else { PATIENCE };
        match dial(&path).ok().map(|socket| await_welcome(socket, patience)).transpose() {
            // It was to be another's, who was killed while starting it: it ends now that it has said so.
            Err(Error::Begin(_)) if started == 0 => {
                std::thread::sleep(AGAIN);
                continue;
            }
            welcomed => {
                if let Some(connection) = welcomed?.flatten() {
                    return Ok(connection);
                }
            }
        }
        let lock = open_lock(home)?;
        lock.lock().map_err(step("take the network's lock"))?;
        if dial(&path).is_err() {
            let survivors = match keeper_guard::find_survivors(home) {
                keeper_guard::Found::Alive(survivors) => Some(survivors),
                // Who hangs is not waited for: the new pod gets a network of its own.
                keeper_guard::Found::Nobody | keeper_guard::Found::Silence => {
                    keeper_guard::bury_network(home);
                    None
                }
            };
            let keeper = keeper_guard::start(home, survivors.as_ref(), users, mappings)?;
            let user_namespace = keeper.open_user_namespace();
            let guard = keeper_guard::watch(home, &keeper)?;
            started += 1;
            if let Ok(socket) = dial(&path)
                && let Ok(user_namespace) = user_namespace
            {
                let (published, warnings) = (Vec::new(), Vec::new());
                let (gateway, guard) = (None, Some(guard));
                return Ok(Connection { socket, user_namespace, published, gateway, warnings, guard });
            }
            guard.finish()?;
        }
    }
    Err(step("reach the pods' network")(io::Error::other("it ends as soon as it has started")))
}

/// Holds a keeper's first words.
struct Welcome {
    published: Vec<HostPort>,
    gateway: Addresses,
    user_namespace: OwnedFd,
}

/// Waits for the first words of a keeper that was there before; none when it ends instead.
fn await_welcome(socket: OwnedFd, patience: Duration) -> Result<Option<Connection>, Error> {
    let welcome = hear_welcome(&socket, patience)?;
    Ok(welcome.map(|Welcome { published, gateway, user_namespace }| Connection {
        socket,
        user_namespace,
        published,
        gateway: Some(gateway),
        warnings: Vec::new(),
        guard: None,
    }))
}

/// Waits for a keeper's first words; none when it ends instead.
fn hear_welcome(socket: &OwnedFd, patience: Duration) -> Result<Option<Welcome>, Error> {
    match hear(socket, patience) {
        Ok(Some((Reply::Welcome { version, .. }, _))) if version != PROTOCOL => {
            Err(Error::OtherVersion(version))
        }
        Ok(Some((Reply::Welcome { published, gateway, .. }, fds))) => {
            let user_namespace = fds.into_iter().next();
            Ok(user_namespace.map(|user_namespace| Welcome { published, gateway, user_namespace }))
        }
        Ok(Some((Reply::Refused(words), _))) => Err(Error::Begin(words)),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(e) => Err(step("hear from the pods' network")(e)),
    }
}

fn hear(socket: &OwnedFd, patience: Duration) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
    receive_within(socket, patience).map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut => io::Error::new(io::ErrorKind::TimedOut, HANGS),
        _ => e,
    })
}
