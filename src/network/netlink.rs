//! The few netlink messages a pod's network is made of: links, addresses, routes.
//!
//! A socket speaks to the network namespace of the thread that opened it. Every request waits for
//! the kernel's word, so that an error is known at the step that caused it.

use std::{
    io::{self, Error},
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};
use podctl_runtime::repeat_interrupted;

/// Create it; fail when it is there.
pub const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// The message under construction.
#[derive(Debug)]
pub struct Message(Vec<u8>);

impl Message {
    /// Returns a request of this type, with its fixed header.
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Message {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend(header);
        Message(bytes)
    }

    /// Adds an attribute.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        attribute(&mut self.0, kind, |bytes| bytes.extend(value));
        self
    }

    /// Adds an attribute that consists of others.
    pub fn add_nested(mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) -> Message {
        attribute(&mut self.0, kind | libc::NLA_F_NESTED as u16, fill);
        self
    }

    /// Tells how long it is, in bytes.
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// The whole message, its length and number filled in.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// Appends an attribute whose value `fill` writes.
pub fn attribute(bytes: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend([0; 4]);
    fill(bytes);
    let length = (bytes.len() - start) as u16;
    bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Gives it without the two flags of an attribute's kind.
const TYPE_MASK: u16 = 0x3fff;

/// The attributes that these bytes consist of: what each is, and its value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & TYPE_MASK, value))
    })
}

/// Returns an attribute that is a text with its NUL.
pub fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The netlink socket.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open(protocol: SockProtocol) -> io::Result<Netlink> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Netlink(fd))
    }

    /// The one that was opened elsewhere, and speaks to the namespace of there.
    pub fn of(fd: OwnedFd) -> Netlink {
        Netlink(fd)
    }

    fn tell(&self, bytes: &[u8]) -> nix::Result<usize> {
        repeat_interrupted(|| send(self.0.as_raw_fd(), bytes, MsgFlags::empty()))
    }

    fn read(&self, into: &mut [u8], flags: MsgFlags) -> nix::Result<usize> {
        repeat_interrupted(|| recv(self.0.as_raw_fd(), into, flags))
    }

    /// Sends messages as one and gives the first error that the kernel has with any of them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.tell(bytes)?;
        let mut answer = vec![0; 64 << 10];
        let mut first = None;
        // The kernel has worked before send returns; every answer waits already.
        while let Ok(read) = self.read(&mut answer, MsgFlags::MSG_DONTWAIT) {
            let mut rest = &answer[..read];
            while let Some(length) = rest.first_chunk::<4>().map(|l| u32::from_ne_bytes(*l) as usize) {
                let Some(message) = rest.get(..length).filter(|m| m.len() >= 20) else { break };
                let kind = u16::from_ne_bytes([message[4], message[5]]);
                let code = i32::from_ne_bytes([message[16], message[17], message[18], message[19]]);
                if i32::from(kind) == libc::NLMSG_ERROR && code != 0 {
                    first.get_or_insert(-code);
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
        first.map_or(Ok(()), |code| Err(Error::from_raw_os_error(code)))
    }

    /// Opens one that hears of changes, in the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn listen(protocol: SockProtocol, groups: u32) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(fd)
    }

    /// Asks for a list; gives what the kernel has to say of each of its parts.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list(&self, message: Message) -> io::Result<Vec<Vec<u8>>> {
        self.tell(&message.finish(1))?;
        let mut answer = vec![0; 64 << 10];
        let mut parts = Vec::new();
        loop {
            let read = self.read(&mut answer, MsgFlags::empty())?;
            let mut rest = &answer[..read];
            while let Some(length) = rest.first_chunk::<4>().map(|l| u32::from_ne_bytes(*l) as usize) {
                let Some(message) = rest.get(..length).filter(|m| m.len() >= 16) else { break };
                let code = message.get(16..20).map_or(0, |c| i32::from_ne_bytes([c[0], c[1], c[2], c[3]]));
                match i32::from(u16::from_ne_bytes([message[4], message[5]])) {
                    libc::NLMSG_DONE => return Ok(parts),
                    libc::NLMSG_ERROR if code == 0 => return Ok(parts),
                    libc::NLMSG_ERROR => return Err(Error::from_raw_os_error(-code)),
                    _ => parts.push(message[16..].to_vec()),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    fn request(&self, message: Message) -> io::Result<()> {
        self.send(&message.finish(1))
    }

    /// Makes a veth pair: one end here, the other as `peer` in another namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_veth(&self, name: &str, peer: &str, namespace: BorrowedFd<'_>) -> io::Result<()> {
        let nested = libc::NLA_F_NESTED as u16;
        let message = Message::new(libc::RTM_NEWLINK, CREATE, &link_header(0, 0, 0))
            .attribute(libc::IFLA_IFNAME, &text(name))
            .add_nested(libc::IFLA_LINKINFO, |info| {
                attribute(info, libc::IFLA_INFO_KIND, |b| b.extend(b"veth"));
                attribute(info, libc::IFLA_INFO_DATA | nested, |data| {
                    const VETH_INFO_PEER: u16 = 1;
                    attribute(data, VETH_INFO_PEER | nested, |b| {
                        b.extend(link_header(0, 0, 0));
                        attribute(b, libc::IFLA_IFNAME, |b| b.extend(text(peer)));
                        let fd = namespace.as_raw_fd() as u32;
                        attribute(b, libc::IFLA_NET_NS_FD, |b| b.extend(fd.to_ne_bytes()));
                    });
                });
            });
        self.request(message)
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// The kernel's.
    pub fn up(&self, index: u32) -> io::Result<()> {
        let flag = libc::IFF_UP as u32;
        self.request(Message::new(libc::RTM_NEWLINK, 0, &link_header(index, flag, flag)))
    }

    /// Turns a link's forwarding of IPv4 on or off, and strict reverse path filtering (RFC 3704) with it: what
    /// `net.ipv4.conf.LINK` says, for where /proc/sys is read-only. IPv6 has no message for that.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_forwarding(&self, index: u32, on: bool) -> io::Result<()> {
        // linux/if_link.h and linux/ip.h
        const INET_CONF: u16 = 1;
        const FORWARDING: u16 = 1;
        const REVERSE_PATH_FILTER: u16 = 8;
        let nested = libc::NLA_F_NESTED as u16;
        let mut switches = vec![(FORWARDING, u32::from(on))];
        if on {
            switches.push((REVERSE_PATH_FILTER, 1));
        }
        let header = link_header(index, 0, 0);
        let message =
            Message::new(libc::RTM_SETLINK, 0, &header).add_nested(libc::IFLA_AF_SPEC, |families| {
                attribute(families, libc::AF_INET as u16 | nested, |inet| {
                    attribute(inet, INET_CONF | nested, |all| {
                        for (switch, value) in &switches {
                            attribute(all, *switch, |b| b.extend(value.to_ne_bytes()));
                        }
                    });
                });
            });
        self.request(message)
    }

    /// Removes a link, and the other end of a pair with it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete(&self, index: u32) -> io::Result<()> {
        self.request(Message::new(libc::RTM_DELLINK, 0, &link_header(index, 0, 0)))
    }

    /// Gives a link an address that is usable at once and brings no route along.
    ///
    /// # Errors
    /// The kernel's.
    pub fn address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let bytes = address_bytes(address);
        let host = bytes.len() as u8 * 8;
        let prefix = if is_link_local(address) { 64 } else { host };
        let scope = if is_link_local(address) { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
        let mut header = vec![family(address), prefix, libc::IFA_F_NODAD as u8, scope];
        header.extend(index.to_ne_bytes());
        let message = Message::new(libc::RTM_NEWADDR, CREATE, &header)
            .attribute(libc::IFA_LOCAL, &bytes)
            .attribute(libc::IFA_ADDRESS, &bytes);
        self.request(message)
    }

    /// Adds a route to `to` and its prefix, through a gateway or directly over the link.
    ///
    /// # Errors
    /// The kernel's.
    pub fn route(&self, to: (IpAddr, u8), via: Option<IpAddr>, index: u32) -> io::Result<()> {
        let scope = if via.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        self.add_route(to, via, index, libc::RTN_UNICAST, libc::RT_TABLE_MAIN, scope)
    }

    /// Makes a range unreachable where no narrower route says otherwise.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_unreachable(&self, range: (IpAddr, u8)) -> io::Result<()> {
        let scope = libc::RT_SCOPE_UNIVERSE;
        self.add_route(range, None, 0, libc::RTN_UNREACHABLE, libc::RT_TABLE_MAIN, scope)
    }

    /// Makes every address of a range one of this namespace itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_range(&self, range: (IpAddr, u8), index: u32) -> io::Result<()> {
        self.add_route(range, None, index, libc::RTN_LOCAL, libc::RT_TABLE_LOCAL, libc::RT_SCOPE_HOST)
    }

    /// The same in a table of its own, for what a [`Netlink::rule`] leads there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_range_in(&self, table: u8, range: (IpAddr, u8), index: u32) -> io::Result<()> {
        self.add_route(range, None, index, libc::RTN_LOCAL, table, libc::RT_SCOPE_HOST)
    }

    /// Packets of the family of `like` with that mark go by the routes of a table.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rule(&self, like: IpAddr, mark: u32, table: u8) -> io::Result<()> {
        const TO_TABLE: u8 = 1;
        const MARK: u16 = 10;
        let header = [family(like), 0, 0, 0, table, 0, 0, TO_TABLE, 0, 0, 0, 0];
        let message = Message::new(libc::RTM_NEWRULE, CREATE, &header);
        self.request(message.attribute(MARK, &mark.to_ne_bytes()))
    }

    fn add_route(
        &self,
        (to, prefix): (IpAddr, u8),
        via: Option<IpAddr>,
        index: u32,
        kind: u8,
        table: u8,
        scope: u8,
    ) -> io::Result<()> {
        let protocol = libc::RTPROT_STATIC;
        let header = [family(to), prefix, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0];
        let mut message = Message::new(libc::RTM_NEWROUTE, CREATE, &header);
        if prefix > 0 {
            message = message.attribute(libc::RTA_DST, &address_bytes(to));
        }
        if let Some(via) = via {
            message = message.attribute(libc::RTA_GATEWAY, &address_bytes(via));
        }
        if index > 0 {
            message = message.attribute(libc::RTA_OIF, &index.to_ne_bytes());
        }
        self.request(message)
    }
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    for part in [index, flags, change] {
        header.extend(part.to_ne_bytes());
    }
    header
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The address as the kernel has it.
pub fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
