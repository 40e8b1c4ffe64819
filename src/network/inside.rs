//! A thread in the network's own namespace, which it has made: sockets are opened there through it.

use std::{
    fs::File,
    io,
    net::{IpAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    sync::mpsc,
};

use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
    sys::socket::SockProtocol,
};

use super::{
    netlink::Netlink,
    range::{LINK_GATEWAY, Range},
};

type Job = Box<dyn FnOnce() + Send>;

/// The thread, to be asked.
#[derive(Debug)]
pub struct Inside {
    jobs: mpsc::Sender<Job>,
}

/// What is opened in the namespace from the start.
#[derive(Debug)]
pub struct Opened {
    /// The namespace.
    pub namespace: OwnedFd,
    /// For links, addresses and routes.
    pub route: Netlink,
    /// For nftables.
    pub filter: Netlink,
    /// Whether there is IPv6.
    pub v6: bool,
    /// The resolver's sockets.
    pub resolver: Vec<(UdpSocket, TcpListener)>,
}

impl Inside {
    /// Makes the namespace and what belongs to it whoever is on the network.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(range: Range) -> io::Result<(Inside, Opened)> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        std::thread::Builder::new().name("inside".into()).spawn(move || {
            let _ = tell.send(open(range));
            queue.into_iter().for_each(|job| job());
        })?;
        let opened = told.recv().map_err(io::Error::other)??;
        Ok((Inside { jobs }, opened))
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

fn open(range: Range) -> io::Result<Opened> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let namespace = File::open("/proc/thread-self/ns/net")?.into();
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    let v6 = std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").is_ok();
    let route = Netlink::open(SockProtocol::NetlinkRoute)?;
    let filter = Netlink::open(SockProtocol::NetlinkNetFilter)?;
    let loopback = if_nametoindex("lo")?;
    route.up(loopback)?;
    let [services, services_v6] = range.services();
    route.local_range(services, loopback)?;
    // Where IPv6 is compiled in but switched off, only using it tells.
    let gateway = range.gateway(v6);
    route.address(loopback, gateway.v4.into())?;
    let v6 = gateway.v6.is_some_and(|own| {
        route.address(loopback, own.into()).is_ok() && route.local_range(services_v6, loopback).is_ok()
    });
    let resolver = range
        .gateway(v6)
        .all()
        .map(|own| {
            let (udp, tcp) = (UdpSocket::bind((own, 53))?, TcpListener::bind((own, 53))?);
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            Ok((udp, tcp))
        })
        .collect::<io::Result<_>>()?;
    Ok(Opened { namespace, route, filter, v6, resolver })
}

/// The network's end of a pod's link.
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
