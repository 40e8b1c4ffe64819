//! Connections from a published port to a pod that bear the client's own address.
//!
//! Their sockets are of the network's namespace and have an address that is not: what a pod answers would
//! be sent on to the client itself. The packet filter marks these connections, and a rule leads what is
//! marked to this namespace, whomever it is addressed to.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
    },
};
use tokio::net::{TcpSocket, TcpStream};

use super::{
    namespace_thread::Inside,
    netlink::Netlink,
    nft::{Hook, Part},
};

/// The mark of the sockets, and of their connections.
const SENT: u32 = 0x706f_6401;
/// The mark of what comes back.
const ANSWER: u32 = 0x706f_6402;
/// The routes of what comes back.
const TABLE: u8 = 100;

/// Makes the way back; it may be there already.
///
/// # Errors
/// The kernel's.
pub fn set_up(v6: bool) -> io::Result<()> {
    let route = Netlink::open(SockProtocol::NetlinkRoute)?;
    let loopback = if_nametoindex("lo")?;
    let there = |done: io::Result<()>| match done {
        Err(e) if e.raw_os_error() != Some(libc::EEXIST) => Err(e),
        _ => Ok(()),
    };
    let every: [IpAddr; 2] = [[0; 4].into(), [0_u16; 8].into()];
    for all in every.into_iter().filter(|all| v6 || all.is_ipv4()) {
        there(route.rule(all, ANSWER, TABLE))?;
        there(route.local_range_in(TABLE, (all, 0), loopback))?;
    }
    Ok(())
}

/// Returns what the packet filter does for it.
pub fn rules() -> [(Hook, Vec<Part>); 2] {
    [
        (Hook::Own, vec![Part::Marked(SENT), Part::MarkConnection(SENT)]),
        (Hook::Answer, vec![Part::OfMarkedConnection(SENT), Part::Mark(ANSWER)]),
    ]
}

/// Connects to a pod, with the client's own address where that is possible.
///
/// # Errors
/// Why the pod does not take it.
pub async fn dial(inside: &Inside, to: SocketAddr, client: IpAddr) -> io::Result<TcpStream> {
    let towards = match (client.to_canonical(), to.ip()) {
        // A pod that does not listen there may still do so in IPv4.
        (IpAddr::V6(_), IpAddr::V4(pod)) => {
            inside.in_v6(pod).map(|pod| SocketAddr::new(pod.into(), to.port()))
        }
        _ => Some(to),
    };
    if let Some(towards) = towards
        && let Some(source) = source(inside, client, towards.ip())
        && let Ok(socket) = inside.run(move || open(towards, SockType::Stream, Some(source)))
    {
        match TcpSocket::from_std_stream(socket.into()).connect(towards).await {
            Err(_) if towards != to => {}
            done => return done,
        }
    }
    let socket = inside.run(move || open(to, SockType::Stream, None))?;
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}

/// Returns a socket for an exchange of datagrams with a pod, with the client's own address where that is possible.
///
/// # Errors
/// The kernel's.
pub fn exchange_socket(inside: &Inside, to: SocketAddr, client: IpAddr) -> io::Result<UdpSocket> {
    let source = source(inside, client, to.ip());
    let socket = UdpSocket::from(inside.run(move || open(to, SockType::Datagram, source))?);
    socket.connect(to)?;
    Ok(socket)
}

fn open(to: SocketAddr, kind: SockType, source: Option<IpAddr>) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if let Some(source) = source {
        // The kernel has one bit for both families.
        setsockopt(&fd, sockopt::IpTransparent, &true)?;
        setsockopt(&fd, sockopt::Mark, &SENT)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0)))?;
    }
    Ok(fd)
}

fn source(inside: &Inside, client: IpAddr, pod: IpAddr) -> Option<IpAddr> {
    borne_address(client, pod).filter(|_| inside.keeps_clients.get())
}

/// The address that a connection to the pod bears; none when the client's would not do there.
fn borne_address(client: IpAddr, pod: IpAddr) -> Option<IpAddr> {
    let own = client.to_canonical();
    let fits = own.is_ipv4() == pod.is_ipv4() && own != pod && !own.is_loopback() && !own.is_unspecified();
    let narrow = matches!(own, IpAddr::V6(v6) if v6.is_unicast_link_local());
    (fits && !narrow).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_keeps_its_address_unless_that_would_lead_nowhere() {
        let pod: IpAddr = [10, 213, 0, 2].into();
        let of = |client: &str| borne_address(client.parse().unwrap(), pod).map(|a| a.to_string());
        assert_eq!(of("192.0.2.7").as_deref(), Some("192.0.2.7"));
        assert_eq!(of("::ffff:192.0.2.7").as_deref(), Some("192.0.2.7"));
        for other in ["127.0.0.1", "10.213.0.2", "2001:db8::1"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
