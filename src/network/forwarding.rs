//! Packet forwarding of the host, link by link: only root's network needs it, and only while it stands.
//!
//! What was turned on is noted in the packet filter, beside the rules that keep those links from
//! forwarding anything but what pods get: so it is known to every network of the machine, and to
//! whoever sweeps what a killed keeper has left.

use std::{collections::BTreeSet, fs, io, net::IpAddr};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::{InterfaceFlags, if_nametoindex},
    sys::socket::SockProtocol,
};

use super::{netlink::Netlink, root_uplink::LINK};

/// Tells how a note begins.
const NOTE: &str = "forwarding-turned-on";

/// The link whose forwarding of one protocol can be turned on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Switch {
    /// The link's name.
    pub link: String,
    /// IPv6 rather than IPv4.
    pub v6: bool,
}

impl Switch {
    /// The switch's sysctl. Forwarding of IPv6 has one of its own since Linux 6.17: the older one makes the link a
    /// router's, which takes no address and no route from routers any more.
    fn path(&self) -> String {
        match self.v6 {
            false => format!("/proc/sys/net/ipv4/conf/{}/forwarding", self.link),
            true => format!("/proc/sys/net/ipv6/conf/{}/force_forwarding", self.link),
        }
    }

    fn is_on(&self) -> bool {
        is_on(&self.path())
    }

    /// Turns it on where it is off.
    ///
    /// # Errors
    /// Why it stays off.
    pub fn turn_on(&self) -> io::Result<()> {
        match self.is_on() || (self.v6 && is_forwarding_everywhere(true)) {
            true => Ok(()),
            false => {
                fs::write(self.path(), "1").or_else(|refused| self.tell_kernel(true).map_err(|_| refused))
            }
        }
    }

    /// Turns it off, unless somebody has turned on all of them since.
    pub fn turn_off(&self) {
        if !is_forwarding_everywhere(self.v6) {
            // A link that has gone forwards nothing.
            let _ = fs::write(self.path(), "0").or_else(|_| self.tell_kernel(false));
        }
    }

    /// Turns it by netlink, for where /proc/sys is read-only; so only IPv4 can be turned.
    fn tell_kernel(&self, on: bool) -> io::Result<()> {
        if self.v6 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let index = if_nametoindex(self.link.as_str())?;
        Netlink::open(SockProtocol::NetlinkRoute)?.set_forwarding(index, on)
    }

    /// The word about it in the packet filter.
    pub fn note(&self) -> String {
        format!("{NOTE}-ipv{}-{}", if self.v6 { 6 } else { 4 }, self.link)
    }

    /// Returns what such a word was about.
    pub fn of_note(note: &str) -> Option<Switch> {
        let rest = note.strip_prefix(NOTE)?;
        let v6 = rest.starts_with("-ipv6-");
        let link = rest.strip_prefix("-ipv6-").or_else(|| rest.strip_prefix("-ipv4-"))?;
        Some(Switch { link: link.to_owned(), v6 })
    }
}

fn is_on(path: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

/// Tells whether the host forwards everything.
pub fn is_forwarding_everywhere(v6: bool) -> bool {
    is_on(if v6 {
        "/proc/sys/net/ipv6/conf/all/forwarding"
    } else {
        "/proc/sys/net/ipv4/conf/all/forwarding"
    })
}

/// Tells whether IPv6 can be forwarded for pods without making the host a router.
pub fn can_v6() -> bool {
    is_forwarding_everywhere(true)
        || fs::exists("/proc/sys/net/ipv6/conf/all/force_forwarding").unwrap_or(false)
}

/// The switches that pods' networks have turned on, and those that must be on for answers from the outside: of all
/// links with an address. `noted` are those that were turned on before.
pub fn wanted(v6: bool, noted: &BTreeSet<Switch>) -> io::Result<BTreeSet<Switch>> {
    let links = getifaddrs()?.filter_map(|link| {
        let address = link.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let address = v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))?;
        let narrow = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let own = link.flags.contains(InterfaceFlags::IFF_LOOPBACK) || link.interface_name.starts_with(LINK);
        (!narrow && !own).then_some(Switch { link: link.interface_name, v6: address.is_ipv6() })
    });
    Ok(links
        .filter(|s| (v6 || !s.v6) && !s.is_on())
        .chain(noted.iter().filter(|s| s.is_on()).cloned())
        .filter(|s| !is_forwarding_everywhere(s.v6))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_which_switch_was_turned_on() {
        for switch in
            [Switch { link: "eth0.7".into(), v6: false }, Switch { link: "ipv6-tunnel".into(), v6: true }]
        {
            assert_eq!(Switch::of_note(&switch.note()), Some(switch));
        }
        assert_eq!(Switch::of_note("forward"), None);
    }
}
