//! Whether somebody listens at an address, asked of the kernel (sock_diag(7)): no connection is made for it.

use std::{io, net::SocketAddr};

use super::netlink::{Message, Netlink, address_bytes};

const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// Tells whether a connection to `to` would find a TCP listener in the namespace where `diag` was opened.
///
/// # Errors
/// The kernel's, but for that nobody listens.
pub fn listens(diag: &Netlink, to: SocketAddr) -> io::Result<bool> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // struct inet_diag_req_v2: whatever the state, from port 0 of the unspecified address, over any link.
    let mut request = vec![family as u8, libc::IPPROTO_TCP as u8, 0, 0];
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(to.port().to_be_bytes());
    request.extend([0; 2]);
    let mut own = address_bytes(to.ip());
    own.resize(16, 0);
    request.extend(own);
    request.extend([0; 16 + 4]);
    const NO_COOKIE: [u8; 8] = [0xff; 8];
    request.extend(NO_COOKIE);
    match diag.send(&Message::new(SOCK_DIAG_BY_FAMILY, 0, &request).finish(1)) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use nix::sys::socket::SockProtocol;

    use super::*;

    #[test]
    fn a_listener_is_seen_at_the_addresses_where_it_listens() {
        let diag = Netlink::open(SockProtocol::NetlinkSockDiag).unwrap();
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        assert!(listens(&diag, ([127, 0, 0, 1], port).into()).unwrap());
        assert!(!listens(&diag, ([127, 0, 0, 2], port).into()).unwrap());
        drop(one);
        assert!(!listens(&diag, ([127, 0, 0, 1], port).into()).unwrap());
        // One that takes both families is a listener for IPv4 as well.
        if let Ok(all) = TcpListener::bind("[::]:0") {
            let port = all.local_addr().unwrap().port();
            assert!(listens(&diag, ([127, 0, 0, 1], port).into()).unwrap());
        }
    }
}
