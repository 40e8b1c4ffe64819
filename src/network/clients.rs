//! Connections from a published port to a pod that bear the client's own address.
//!
//! Their sockets are of the network's namespace and have an address that is not: what a pod answers would
//! be sent on to the client itself. The packet filter marks these connections, and a rule leads what is
//! marked to this namespace, whomever it is addressed to.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{SockProtocol, setsockopt, sockopt},
};

use super::{
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

/// What the packet filter does for it.
pub fn rules() -> [(Hook, Vec<Part>); 2] {
    [
        (Hook::Own, vec![Part::Marked(SENT), Part::MarkConnection(SENT)]),
        (Hook::Answer, vec![Part::OfMarkedConnection(SENT), Part::Mark(ANSWER)]),
    ]
}

/// The address that a connection to the pod bears; none when the client's would not do there.
pub fn source(client: SocketAddr, pod: IpAddr) -> Option<SocketAddr> {
    let own = client.ip().to_canonical();
    let fits = own.is_ipv4() == pod.is_ipv4() && own != pod && !own.is_loopback() && !own.is_unspecified();
    let narrow = matches!(own, IpAddr::V6(v6) if v6.is_unicast_link_local());
    (fits && !narrow).then_some(SocketAddr::new(own, 0))
}

/// Lets a socket have anybody's address.
///
/// # Errors
/// The kernel's.
pub fn mark(socket: &impl AsFd) -> io::Result<()> {
    // The kernel has one bit for both families.
    setsockopt(socket, sockopt::IpTransparent, &true)?;
    Ok(setsockopt(socket, sockopt::Mark, &SENT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_keeps_its_address_unless_that_would_lead_nowhere() {
        let pod: IpAddr = [10, 213, 0, 2].into();
        let of = |client: &str| source(client.parse().unwrap(), pod).map(|a| a.ip().to_string());
        assert_eq!(of("192.0.2.7:1000").as_deref(), Some("192.0.2.7"));
        assert_eq!(of("[::ffff:192.0.2.7]:1000").as_deref(), Some("192.0.2.7"));
        for other in ["127.0.0.1:1000", "10.213.0.2:1000", "[2001:db8::1]:1000"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
