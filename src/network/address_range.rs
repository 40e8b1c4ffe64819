//! Which addresses the user's network has: one IPv4 and one IPv6 range, of both the lower half for
//! pods and the upper half for Services.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

/// The network's ranges: `10.N.0.0/16` and `fd70:6f64:6374:N::/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range(u8);

/// The pair of addresses of a pod or a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Always there.
    pub v4: Ipv4Addr,
    /// Missing where the machine has no IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Tells which pod or Service of the range it is.
    pub fn number(&self) -> u16 {
        let [_, _, high, low] = self.v4.octets();
        u16::from_be_bytes([high, low])
    }

    /// Both, IPv4 first.
    pub fn all(&self) -> impl Iterator<Item = IpAddr> {
        [Some(IpAddr::V4(self.v4)), self.v6.map(IpAddr::V6)].into_iter().flatten()
    }
}

/// Tells how the network's ends of pods' links begin.
pub const LINK: &str = "pod";

/// Returns what the network's end of a pod's link is called.
pub fn link_name(number: u16) -> String {
    format!("{LINK}{number}")
}

/// Names what every pod's link has as the other side.
pub const LINK_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

const FIRST_POD: u16 = 2;
const LAST_POD: u16 = 0x7ffb;
/// The uplink's two: a network of 30 bits.
const UPLINK: [u16; 2] = [0x7ffd, 0x7ffe];
const FIRST_SERVICE: u16 = 0x8001;
const LAST_SERVICE: u16 = 0xfffe;

impl Range {
    /// The ranges that no route of the host touches, the best first. `routes` is `/proc/net/route`.
    pub fn routed_ranges(routes: &str) -> impl Iterator<Item = Range> {
        let taken: Vec<(u32, u32)> = routes
            .lines()
            .skip(1)
            .filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok().map(u32::swap_bytes);
                Some((number(1)?, number(7)?))
            })
            .filter(|(_, mask)| *mask != 0)
            .collect();
        let free = move |n: &u8| {
            let base = u32::from(Ipv4Addr::new(10, *n, 0, 0));
            taken.iter().all(|(to, mask)| {
                let common = mask & 0xffff_0000;
                base & common != to & common
            })
        };
        // Away from what Docker, Podman, Kubernetes and home routers use.
        let all = || (213..=254).chain(100..=212);
        let any = all().any(|n| free(&n));
        all().filter(move |n| !any || free(n)).map(Range)
    }

    /// Tells which of the ranges it is.
    pub fn number(self) -> u8 {
        self.0
    }

    /// All of its addresses, with their prefixes.
    pub fn whole(self) -> [(IpAddr, u8); 2] {
        let base = self.address(0, true);
        [(base.v4.into(), 16), (base.v6.expect("asked for").into(), 64)]
    }

    /// The range whose gateway has that address.
    pub fn of_gateway(address: Ipv4Addr) -> Option<Range> {
        match address.octets() {
            [10, own, 0, 1] => Some(Range(own)),
            _ => None,
        }
    }

    fn address(self, number: u16, v6: bool) -> Addresses {
        let [high, low] = number.to_be_bytes();
        Addresses {
            v4: Ipv4Addr::new(10, self.0, high, low),
            v6: v6.then(|| Ipv6Addr::new(0xfd70, 0x6f64, 0x6374, u16::from(self.0), 0, 0, 0, number)),
        }
    }

    /// The zones in which the names of the range's addresses are.
    pub fn reverse_zones(self) -> [String; 2] {
        let [high, low] = [self.0 >> 4, self.0 & 15];
        [
            format!("{}.10.in-addr.arpa", self.0),
            format!("{low:x}.{high:x}.0.0.4.7.3.6.4.6.f.6.0.7.d.f.ip6.arpa"),
        ]
    }

    /// The IPv6 address of who has that IPv4 address of the range.
    pub fn beside_v4(self, own: Ipv4Addr) -> Option<Ipv6Addr> {
        let [10, range, high, low] = own.octets() else { return None };
        (range == self.0).then(|| self.address(u16::from_be_bytes([high, low]), true).v6).flatten()
    }

    /// Tells where pods send what is not for themselves, and where their resolver answers.
    pub fn gateway_addresses(self, v6: bool) -> Addresses {
        self.address(1, v6)
    }

    /// The other side of the uplink, and this side of it.
    pub fn uplink_addresses(self) -> [Ipv4Addr; 2] {
        UPLINK.map(|number| self.address(number, false).v4)
    }

    /// The host's own address on a link to it, beside the other side of the uplink.
    pub fn host_v6(self) -> IpAddr {
        self.address(UPLINK[0], true).v6.expect("asked for").into()
    }

    /// The number of a Service that has that address of the range.
    pub fn number_of_service(self, own: Ipv4Addr) -> Option<u16> {
        let number = Addresses { v4: own, v6: None }.number();
        let fits = self.address(number, false).v4 == own && (FIRST_SERVICE..=LAST_SERVICE).contains(&number);
        fits.then_some(number)
    }

    /// The Services' ranges with their prefixes.
    pub fn services(self) -> [(IpAddr, u8); 2] {
        let base = self.address(0x8000, true);
        [(base.v4.into(), 17), (base.v6.expect("asked for").into(), 113)]
    }
}

/// FNV-1a: the same for the same name, today and tomorrow.
pub fn hash_name(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Hands out numbers of a range.
#[derive(Debug)]
pub struct Pool {
    range: Range,
    v6: bool,
    next: u16,
    taken: HashSet<u16>,
}

impl Pool {
    /// All of the range is free but for these.
    pub fn new(range: Range, v6: bool, taken: &[u16]) -> Pool {
        Pool { range, v6, next: FIRST_POD, taken: taken.iter().copied().collect() }
    }

    /// The pod's addresses and their number. One that was given back is not used again soon: somebody may still
    /// remember it.
    pub fn pod(&mut self) -> Option<(u16, Addresses)> {
        for _ in FIRST_POD..=LAST_POD {
            let number = self.next;
            self.next = if number == LAST_POD { FIRST_POD } else { number + 1 };
            if self.taken.insert(number) {
                return Some((number, self.range.address(number, self.v6)));
            }
        }
        None
    }

    /// The Service's addresses: by its name, so that they are the same each time unless two names meet.
    pub fn service(&mut self, name: &str) -> Option<Addresses> {
        let hash = hash_name(name) >> 1;
        let count = u64::from(LAST_SERVICE - FIRST_SERVICE) + 1;
        (0..count)
            .map(|step| FIRST_SERVICE + ((hash + step) % count) as u16)
            .find(|number| self.taken.insert(*number))
            .map(|number| self.range.address(number, self.v6))
    }

    /// The addresses of that number, which a Service has had before; none when they are no Service's or in use.
    pub fn again(&mut self, number: u16) -> Option<Addresses> {
        let fits = (FIRST_SERVICE..=LAST_SERVICE).contains(&number) && self.taken.insert(number);
        fits.then(|| self.range.address(number, self.v6))
    }

    /// Takes a number back.
    pub fn give_back(&mut self, number: u16) {
        self.taken.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    #[test]
    fn the_range_keeps_clear_of_the_hosts_routes() {
        let first = |routes: String| Range::routed_ranges(&routes).next();
        let route = |to: &str, mask: &str| format!("eth0\t{to}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n");
        assert_eq!(first(format!("{HEADER}{}", route("00000000", "00000000"))), Some(Range(213)));
        let vpn = format!("{HEADER}{}{}", route("0000D50A", "0000FFFF"), route("0010D60A", "00F0FFFF"));
        assert_eq!(first(vpn), Some(Range(215)));
        // A network as wide as all candidates leaves no choice.
        assert_eq!(first(format!("{HEADER}{}", route("0000000A", "000000FF"))), Some(Range(213)));
    }

    #[test]
    fn a_services_address_is_the_same_each_time_and_a_pods_is_not_reused_at_once() {
        let mut one = Pool::new(Range(213), true, &[]);
        let mut two = Pool::new(Range(213), false, &[]);
        assert_eq!(one.service("default/web").unwrap().v4, two.service("default/web").unwrap().v4);
        assert_ne!(one.service("default/db"), one.service("default/db"));
        let (number, first) = one.pod().unwrap();
        one.give_back(number);
        assert_ne!(one.pod().unwrap().1, first);
    }
}
