//! A thread in the network's own namespace, which it has made or found: sockets are opened there through it.

use std::{
    cell::Cell,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    sync::mpsc,
};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::{if_nameindex, if_nametoindex},
    sched::{CloneFlags, setns, unshare},
    sys::socket::SockProtocol,
};

use super::{
    address_range::{LINK, LINK_GATEWAY, Range},
    client_address,
    netlink::Netlink,
    root_uplink,
};
use crate::outer_container::{explain_missing_network_right, explain_missing_port_right};

type Job = Box<dyn FnOnce() + Send>;

/// The thread, to be asked.
#[derive(Debug)]
pub struct Inside {
    jobs: mpsc::Sender<Job>,
    /// Tells whether connections to pods can bear their clients' addresses.
    pub keeps_clients: Cell<bool>,
    range: Range,
    v6: bool,
}

/// Holds what is opened in the namespace from the start.
#[derive(Debug)]
pub struct Opened {
    /// The namespace.
    pub namespace: OwnedFd,
    /// Speaks of links, addresses and routes.
    pub route: Netlink,
    /// Speaks of nftables.
    pub filter: Netlink,
    /// Hears of new IPv4 routes.
    pub routes: OwnedFd,
    /// The network's addresses.
    pub range: Range,
    /// Tells whether there is IPv6.
    pub v6: bool,
    /// Tells whether there is a way back for connections that bear their clients' addresses.
    pub keeps_clients: bool,
    /// Tells whether there is a link to the host.
    pub host: bool,
    /// Tells whether each link has to be told to forward: /proc/sys is read-only, so that not all could be.
    pub link_by_link: bool,
    /// Numbers of the pods whose links are there already.
    pub links: Vec<u16>,
    /// The resolver's sockets.
    pub resolver: Vec<(UdpSocket, TcpListener)>,
}

impl Inside {
    /// Makes the namespace and what belongs to it whoever is on the network, or goes into one that was left.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(left: Option<OwnedFd>) -> io::Result<(Inside, Opened)> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        std::thread::Builder::new().name("inside".into()).spawn(move || {
            // Whoever made the thread waits for this word.
            let _ = tell.send(open(left));
            queue.into_iter().for_each(|job| job());
        })?;
        let opened = told.recv().map_err(io::Error::other)??;
        let (range, v6) = (opened.range, opened.v6);
        Ok((Inside { jobs, keeps_clients: Cell::new(opened.keeps_clients), range, v6 }, opened))
    }

    /// Tells where the pod of that IPv4 address is in IPv6.
    pub fn in_v6(&self, pod: Ipv4Addr) -> Option<Ipv6Addr> {
        self.range.beside_v4(pod).filter(|_| self.v6)
    }

    /// Runs something short there.
    ///
    /// # Errors
    /// The job's own, and that the thread is gone.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = mpsc::sync_channel(1);
        let job = Box::new(move || drop(tell.send(job())));
        self.jobs.send(job).map_err(|_| io::Error::other("the network's thread is gone"))?;
        told.recv().map_err(io::Error::other)?
    }
}

fn open(left: Option<OwnedFd>) -> io::Result<Opened> {
    let (namespace, (range, v6)) = match left {
        Some(namespace) => {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            (namespace, found()?)
        }
        None => {
            let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
            let outside = Netlink::open(SockProtocol::NetlinkRoute)?;
            unshare(CloneFlags::CLONE_NEWNET)?;
            let namespace = File::open("/proc/thread-self/ns/net")?.into();
            // Ordinary users may not; they have their helper.
            let claimed = root_uplink::claim(&outside, Range::routed_ranges(&routes), &namespace).ok();
            let range = claimed.or_else(|| Range::routed_ranges(&routes).next());
            let range = range.ok_or(io::ErrorKind::AddrNotAvailable)?;
            let v6 = make(range)?;
            if claimed.is_some() && root_uplink::set_up_inside(range).is_err() {
                Netlink::open(SockProtocol::NetlinkRoute)?.delete(if_nametoindex(root_uplink::INNER)?)?;
            }
            (namespace, (range, v6))
        }
    };
    let keeps_clients = client_address::set_up(v6).is_ok();
    let host = if_nametoindex(root_uplink::INNER).is_ok();
    let links = links()?;
    let route = Netlink::open(SockProtocol::NetlinkRoute)?;
    let filter = Netlink::open(SockProtocol::NetlinkNetFilter)?;
    let routes = Netlink::listen(SockProtocol::NetlinkRoute, libc::RTMGRP_IPV4_ROUTE as u32)?;
    let resolver = range
        .gateway_addresses(v6)
        .all()
        .map(|own| {
            let (udp, tcp) = (UdpSocket::bind((own, 53))?, TcpListener::bind((own, 53))?);
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            Ok((udp, tcp))
        })
        .collect::<io::Result<_>>()
        .map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => explain_missing_port_right(&e),
            _ => e,
        })?;
    let link_by_link = !forwards_everywhere();
    if host && link_by_link {
        route.set_forwarding(if_nametoindex(root_uplink::INNER)?, true)?;
    }
    Ok(Opened {
        namespace,
        route,
        filter,
        routes,
        range,
        v6,
        keeps_clients,
        host,
        link_by_link,
        links,
        resolver,
    })
}

/// Numbers of the pods whose links are there; to be asked there.
///
/// # Errors
/// The kernel's.
pub fn links() -> io::Result<Vec<u16>> {
    let number = |name: &str| name.strip_prefix(LINK)?.parse().ok();
    let links = if_nameindex()?;
    Ok(links.iter().filter_map(|link| number(link.name().to_str().ok()?)).collect())
}

/// Sets up a new namespace. Gives whether it has IPv6.
fn make(range: Range) -> io::Result<bool> {
    let sysctl = |name: &str| {
        let wrong = |e| io::Error::other(format!("/proc/sys/net/{name} cannot be written: {e}"));
        std::fs::write(format!("/proc/sys/net/{name}"), "1").map_err(wrong)
    };
    // A pod's packets come from the pod's own address: strict reverse path filtering (RFC 3704), links to come included.
    // Where /proc/sys is read-only, each link is told both.
    let everywhere = sysctl("ipv4/ip_forward").and_then(|()| sysctl("ipv4/conf/all/rp_filter"));
    let v6 = sysctl("ipv6/conf/all/forwarding").is_ok();
    let route = Netlink::open(SockProtocol::NetlinkRoute)?;
    let loopback = if_nametoindex("lo")?;
    everywhere.or_else(|refused| {
        route.set_forwarding(loopback, true).map_err(|second| match second.kind() {
            io::ErrorKind::PermissionDenied => explain_missing_network_right(&second),
            _ => refused,
        })
    })?;
    route.up(loopback)?;
    let [services, services_v6] = range.services();
    route.local_range(services, loopback)?;
    // Where IPv6 is compiled in but switched off, only using it tells.
    let gateway = range.gateway_addresses(v6);
    route.address(loopback, gateway.v4.into())?;
    Ok(gateway.v6.is_some_and(|own| {
        route.address(loopback, own.into()).is_ok() && route.local_range(services_v6, loopback).is_ok()
    }))
}

/// Returns what a namespace that was left was set up with.
fn found() -> io::Result<(Range, bool)> {
    let own: Vec<IpAddr> = getifaddrs()?
        .filter(|i| i.interface_name == "lo")
        .filter_map(|i| {
            let address = i.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect();
    let range = own.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Range::of_gateway(*v4),
        IpAddr::V6(_) => None,
    });
    let range = range.ok_or_else(|| io::Error::other("the namespace is none of a pods' network"))?;
    let v6 = range.gateway_addresses(true).v6.is_some_and(|v6| own.contains(&v6.into()));
    Ok((range, v6))
}

/// Tells whether every link of the calling thread's network namespace forwards IPv4.
fn forwards_everywhere() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1")
}

/// Lets a link forward that a helper has made in the network's namespace, where not all do.
///
/// # Errors
/// The kernel's.
pub fn forward_from(namespace: &OwnedFd, link: &'static str) -> io::Result<()> {
    std::thread::scope(|scope| {
        let inside = std::thread::Builder::new().spawn_scoped(scope, || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            match forwards_everywhere() {
                true => Ok(()),
                false => {
                    Netlink::open(SockProtocol::NetlinkRoute)?.set_forwarding(if_nametoindex(link)?, true)
                }
            }
        })?;
        inside.join().map_err(|_| io::Error::other("the thread has panicked"))?
    })
}

/// Brings up the network's end of a pod's link.
///
/// # Errors
/// The kernel's.
pub fn link_up(route: &Netlink, index: u32, addresses: impl Iterator<Item = IpAddr>) -> io::Result<()> {
    route.up(index)?;
    for address in addresses {
        let whole = if address.is_ipv4() {
            32
        } else {
            route.address(index, LINK_GATEWAY.into())?;
            128
        };
        route.route((address, whole), None, index)?;
    }
    Ok(())
}
