//! A supervisor's side of the network: joining it, and joining the next keeper when one was killed.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    net::if_::if_nametoindex,
    sys::socket::{Shutdown, SockProtocol, shutdown},
};

use super::{
    Error, Joined, PATIENCE, POD_LINK, Registration, Reply, Request, address_range, hear, netlink::Netlink,
    ports::HostPort, socket_path, step,
};
use crate::{
    state::Home,
    wire::{dial, receive, send},
};

/// First and longest wait for the next keeper.
const RETRY: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(2)];

/// The pod's place on the network, whoever keeps it.
#[derive(Debug)]
pub struct Member {
    /// None while the network has no keeper.
    pub socket: Option<OwnedFd>,
    /// The place where the pod is.
    pub joined: Joined,
    /// The network's namespace.
    pub namespace: OwnedFd,
    pod: Registration,
    ports: Vec<(HostPort, OwnedFd)>,
    ready: bool,
    retry: Option<Instant>,
    wait: Duration,
    /// Since when the network has no keeper.
    lost: Option<Instant>,
}

/// Asks to be on the network with the calling process's namespace; [`complete_join`] has the answer.
///
/// # Errors
/// [`Error::Step`].
pub fn join(socket: &OwnedFd, pod: &Registration) -> Result<(), Error> {
    let namespace = File::open("/proc/self/ns/net").map_err(step("open the pod's network namespace"))?;
    let request = Request::Join(Box::new(pod.clone()));
    // Where the kernel cannot tell who listens, everybody is taken to.
    let diag = Netlink::open(SockProtocol::NetlinkSockDiag).ok();
    let fds: Vec<_> = [namespace.as_fd()].into_iter().chain(diag.iter().map(Netlink::as_fd)).collect();
    send(socket, &request, &fds).map_err(step("join the pods' network"))
}

/// Waits for the answer to [`join`] and sets up the pod's end.
///
/// # Errors
/// [`Error::Step`] and [`Error::Refused`].
pub fn complete_join(socket: OwnedFd, pod: Registration) -> Result<Member, Error> {
    let next = || hear(&socket, PATIENCE).map_err(step("hear from the pods' network"));
    let gone = || Error::Gone;
    let mut answer = next()?;
    if let Some((Reply::Welcome { .. }, _)) = answer {
        // A client that was killed has not heard a new keeper's first words.
        answer = next()?;
    }
    let (joined, keep, namespace) = match answer {
        Some((Reply::Joined { joined, keep }, fds)) => {
            (joined, keep, fds.into_iter().next().ok_or_else(gone)?)
        }
        Some((Reply::Refused(words), _)) => return Err(Error::Refused(words)),
        _ => return Err(gone()),
    };
    let mut ports = Vec::new();
    for _ in 0..keep {
        let Some((Reply::Keep(port), fds)) = next()? else { return Err(gone()) };
        ports.extend(fds.into_iter().next().map(|fd| (port, fd)));
    }
    set_up(&joined).map_err(step("set up the pod's link to the network"))?;
    // A keeper that hangs must not make the supervisor hang.
    nonblocking(&socket).map_err(step("join the pods' network"))?;
    let socket = Some(socket);
    Ok(Member {
        socket,
        joined,
        namespace,
        pod,
        ports,
        ready: false,
        retry: None,
        wait: RETRY[0],
        lost: None,
    })
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
        route.route((Ipv6Addr::UNSPECIFIED.into(), 0), Some(address_range::LINK_GATEWAY.into()), link)?;
    }
    Ok(())
}

/// Nothing that is written there waits.
fn nonblocking(fd: &OwnedFd) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}

impl Member {
    /// Tells the network whether the pod is ready; the next keeper is told when it comes.
    pub fn tell_ready(&mut self, ready: bool) {
        self.ready = ready;
        self.tell(&Request::Ready(ready));
    }

    /// Tells the network the pod's labels; Services select by them.
    pub fn tell_labels(&mut self, labels: BTreeMap<String, String>) {
        self.pod.labels.clone_from(&labels);
        self.tell(&Request::Labels(labels));
    }

    /// Says something to the keeper. One that cannot be told hears all of it when it is joined anew.
    fn tell(&self, request: &Request) {
        if let Some(socket) = &self.socket
            && send(socket, request, &[]).is_err()
        {
            // It fails for none that is connected.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }

    /// Reads what the keeper says: which Services there are. Gives the connection back when it is over.
    pub fn hear(&mut self) -> Option<OwnedFd> {
        match receive::<Reply>(self.socket.as_ref()?) {
            // From the next keeper any word says that it has taken the pod in.
            Ok(Some((reply, _))) => {
                if let Reply::Links(services) = reply {
                    self.joined.services = services;
                }
                self.wait = RETRY[0];
                self.lost = None;
                None
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            Ok(None) | Err(_) => {
                self.put_off();
                self.lost.get_or_insert_with(Instant::now);
                self.socket.take()
            }
        }
    }

    fn put_off(&mut self) {
        self.retry = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(RETRY[1]);
    }

    /// The time until [`Member::rejoin`] is wanted, if it is.
    pub fn next(&self) -> Option<Duration> {
        Some(self.retry?.saturating_duration_since(Instant::now()))
    }

    /// Tells how long the network has had no keeper.
    pub fn lost_for(&self) -> Option<Duration> {
        Some(self.lost?.elapsed())
    }

    /// Joins the next keeper, if it is time. True when the connection is a new one.
    pub fn rejoin(&mut self, home: &Home) -> bool {
        if self.next().is_none_or(|wait| !wait.is_zero()) {
            return false;
        }
        match self.try_rejoin(home) {
            Ok(socket) => {
                self.socket = Some(socket);
                self.retry = None;
                true
            }
            Err(_) => {
                self.put_off();
                false
            }
        }
    }

    fn try_rejoin(&self, home: &Home) -> io::Result<OwnedFd> {
        let socket = dial(&socket_path(home))?;
        nonblocking(&socket)?;
        for (port, fd) in &self.ports {
            send(&socket, &Request::Publish(port.clone()), &[fd.as_fd()])?;
        }
        let request = Request::Rejoin {
            pod: Box::new(self.pod.clone()),
            addresses: self.joined.addresses,
            ready: self.ready,
        };
        let diag = Netlink::open(SockProtocol::NetlinkSockDiag).ok();
        let fds: Vec<_> =
            [self.namespace.as_fd()].into_iter().chain(diag.iter().map(Netlink::as_fd)).collect();
        send(&socket, &request, &fds)?;
        Ok(socket)
    }
}
