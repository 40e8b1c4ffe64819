//! What packet rules look at and do, in the kernel's encoding.
//!
//! Numbers are those of `linux/netfilter/nf_tables.h`. A register of 16 bytes is the first of four with 4 bytes each.

use std::{net::IpAddr, time::Duration};

use super::netlink::{address_bytes, attribute, text};

const EQUALS: u32 = 0;
const DIFFERS: u32 = 1;
pub(super) const NESTED: u16 = libc::NLA_F_NESTED as u16;
/// The first of the registers that have 4 bytes each; it lies where the first of 16 bytes does.
const FIRST_SHORT: u32 = 8;

/// Addresses that were seen lately. It stays when rules are replaced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Set {
    /// Another one for every other set, or time.
    pub name: String,
    /// Holds IPv4 addresses, else IPv6.
    pub v4: bool,
    /// The time for which an address is in it.
    pub timeout: Duration,
}

impl Set {
    /// The number that the nft command has for its addresses' type, at whose length alone the kernel looks; and that length.
    pub(super) fn kind_and_length(&self) -> (u32, u32) {
        if self.v4 { (7, 4) } else { (8, 16) }
    }
}

/// Names a part of a packet that a set is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The address that it comes from.
    Source,
    /// The address that it goes to.
    Destination,
    /// The protocol (`IPPROTO_TCP`, …).
    Protocol,
    /// The destination port.
    Port,
    /// The interface by which it comes in.
    Interface,
}

impl Field {
    /// The number that the nft command has for the type, and the length in bytes.
    fn kind_and_length(self, v4: bool) -> (u32, u32) {
        match self {
            Field::Source | Field::Destination if v4 => (7, 4),
            Field::Source | Field::Destination => (8, 16),
            Field::Protocol => (12, 1),
            Field::Port => (13, 2),
            Field::Interface => (41, libc::IFNAMSIZ as u32),
        }
    }
}

/// The set of what several fields are together, or the map from that to chains; it is as long as the table is there.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lookup {
    /// Another one for every other set of the table.
    pub name: &'static str,
    /// Addresses are IPv4, else IPv6.
    pub v4: bool,
    /// Its elements are these fields, one behind the other.
    pub fields: &'static [Field],
    /// Each element leads to a chain.
    pub is_map: bool,
}

impl Lookup {
    /// The type of its elements as the nft command numbers it, for whoever lists the table; and their length.
    pub(super) fn kind_and_length(&self) -> (u32, u32) {
        self.fields
            .iter()
            .map(|field| field.kind_and_length(self.v4))
            .fold((0, 0), |(kinds, sum), (kind, length)| {
                (kinds << 6 | kind, sum + length.next_multiple_of(4))
            })
    }
}

/// Names what a rule looks at, all of which must hold, or does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The packet comes from there.
    From(IpAddr),
    /// The packet goes there.
    To(IpAddr),
    /// Means that it leaves by this interface.
    Out(String),
    /// Means that it leaves by none whose name begins so.
    OutByNone(&'static str),
    /// Means that it comes in by this interface.
    In(String),
    /// Means that it is of that address' family, and the source's first so many bytes are the address'.
    FromRange(IpAddr, usize),
    /// Means that it is of that address' family, and the source's first so many bytes are others.
    FromElsewhere(IpAddr, usize),
    /// Means that it is of that address' family.
    Like(IpAddr),
    /// Means that it has this mark.
    Marked(u32),
    /// The connection has this mark.
    OfMarkedConnection(u32),
    /// The connection exists already.
    Known,
    /// The connection was redirected.
    Redirected,
    /// Means that it comes in by an interface whose name begins so.
    InBegins(&'static str),
    /// Means that it is IPv6 from no address that is good for one link only.
    FromAfar,
    /// Its fields are in that set.
    Among(&'static Lookup),
    /// Means that it is of the set's family, and its fields are not in it.
    NotAmong(&'static Lookup),
    /// Means that it goes on in the chain that the map has for its fields, if any.
    Continue(&'static Lookup),
    /// Means that it goes no further.
    Drop,
    /// Means that it goes on, past the rest of the chain.
    Accept,
    /// Means that it gets this mark.
    Mark(u32),
    /// The connection gets this mark.
    MarkConnection(u32),
    /// Means that it is counted.
    Count,
    /// Means that a TCP connection that it opens has no longer segments than its way takes.
    Clamp,
    /// Holds for one connection in so many.
    OneIn(u32),
    /// Means that it comes from an address that is in the set.
    Remembered(Set),
    /// The address that it comes from is put into the set, or its time there begins anew.
    Remember(Set),
    /// The source becomes the outgoing interface's address.
    Masquerade,
    /// Means that it goes there instead.
    Redirect(IpAddr, u16),
}

fn add_expression(b: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    attribute(b, 1 | NESTED, |b| {
        attribute(b, 1, |b| b.extend(text(name)));
        attribute(b, 2 | NESTED, fill);
    });
}

fn number(b: &mut Vec<u8>, kind: u16, value: u32) {
    attribute(b, kind, |b| b.extend(value.to_be_bytes()));
}

fn data(b: &mut Vec<u8>, kind: u16, value: &[u8]) {
    attribute(b, kind | NESTED, |b| attribute(b, 1, |b| b.extend(value)));
}

const META_IIFNAME: u32 = 6;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;

/// Appends the expressions of a rule's part.
pub(super) fn add_expressions(b: &mut Vec<u8>, part: &Part) {
    const META_MARK: u32 = 3;
    const CONNECTION_MARK: u32 = 3;
    const META_OIFNAME: u32 = 7;
    match part {
        Part::From(address) | Part::To(address) => {
            of_family(b, address.is_ipv4());
            let source = matches!(part, Part::From(_));
            let (offset, length) = match (address, source) {
                (IpAddr::V4(_), true) => (12, 4),
                (IpAddr::V4(_), false) => (16, 4),
                (IpAddr::V6(_), true) => (8, 16),
                (IpAddr::V6(_), false) => (24, 16),
            };
            add_payload(b, 1, offset, length);
            equals(b, &address_bytes(*address));
        }
        Part::FromRange(address, length) | Part::FromElsewhere(address, length) => {
            of_family(b, address.is_ipv4());
            add_payload(b, 1, if address.is_ipv4() { 12 } else { 8 }, *length as u32);
            let how = if matches!(part, Part::FromRange(..)) { EQUALS } else { DIFFERS };
            compare(b, how, &address_bytes(*address)[..*length]);
        }
        Part::Like(address) => of_family(b, address.is_ipv4()),
        Part::Out(interface) => {
            add_meta(b, META_OIFNAME);
            equals(b, &interface_name(interface));
        }
        Part::In(interface) => {
            add_meta(b, META_IIFNAME);
            equals(b, &interface_name(interface));
        }
        Part::OutByNone(begin) => {
            add_meta(b, META_OIFNAME);
            compare(b, DIFFERS, begin.as_bytes());
        }
        Part::Marked(mark) => {
            add_meta(b, META_MARK);
            equals(b, &mark.to_ne_bytes());
        }
        Part::OfMarkedConnection(mark) => {
            connection(b, CONNECTION_MARK);
            equals(b, &mark.to_ne_bytes());
        }
        Part::Mark(mark) => {
            add_immediate(b, 1, &mark.to_ne_bytes());
            add_expression(b, "meta", |b| {
                number(b, 2, META_MARK);
                number(b, 3, 1);
            });
        }
        Part::MarkConnection(mark) => {
            add_immediate(b, 1, &mark.to_ne_bytes());
            add_expression(b, "ct", |b| {
                number(b, 2, CONNECTION_MARK);
                number(b, 4, 1);
            });
        }
        Part::Known => {
            const STATE: u32 = 0;
            const ESTABLISHED_OR_RELATED: u32 = 6;
            connection(b, STATE);
            any_of(b, &ESTABLISHED_OR_RELATED.to_ne_bytes());
        }
        Part::Redirected => {
            const STATUS: u32 = 2;
            const DESTINATION_CHANGED: u32 = 0x20;
            connection(b, STATUS);
            any_of(b, &DESTINATION_CHANGED.to_ne_bytes());
        }
        Part::InBegins(begin) => {
            add_meta(b, META_IIFNAME);
            equals(b, begin.as_bytes());
        }
        Part::FromAfar => {
            const LINK_LOCAL: u8 = 0xfe;
            of_family(b, false);
            add_payload(b, 1, 8, 1);
            compare(b, DIFFERS, &[LINK_LOCAL]);
        }
        Part::Among(lookup) => look_up(b, lookup, |_| {}),
        Part::NotAmong(lookup) => look_up(b, lookup, |b| {
            const INVERTED: u32 = 1;
            number(b, 5, INVERTED);
        }),
        Part::Continue(lookup) => look_up(b, lookup, |b| {
            const VERDICT: u32 = 0;
            number(b, 3, VERDICT);
        }),
        Part::Drop => verdict(b, libc::NF_DROP),
        Part::Accept => verdict(b, libc::NF_ACCEPT),
        Part::Count => add_expression(b, "counter", |_| {}),
        Part::Clamp => {
            const FLAGS: u32 = 13;
            const SYN: u8 = 2;
            add_meta(b, META_L4PROTO);
            equals(b, &[libc::IPPROTO_TCP as u8]);
            add_payload(b, 2, FLAGS, 1);
            any_of(b, &[SYN]);
            add_expression(b, "rt", |b| {
                const SEGMENT: u32 = 3;
                number(b, 1, 1);
                number(b, 2, SEGMENT);
            });
            add_expression(b, "byteorder", |b| {
                const TO_NETWORK: u32 = 1;
                for (kind, value) in [(1, 1), (2, 1), (3, TO_NETWORK), (4, 2), (5, 2)] {
                    number(b, kind, value);
                }
            });
            add_expression(b, "exthdr", |b| {
                const LONGEST_SEGMENT: u8 = 2;
                const TCP_OPTION: u32 = 1;
                attribute(b, 2, |b| b.push(LONGEST_SEGMENT));
                for (kind, value) in [(3, 2), (4, 2), (6, TCP_OPTION), (7, 1)] {
                    number(b, kind, value);
                }
            });
        }
        Part::OneIn(count) => {
            add_expression(b, "numgen", |b| {
                number(b, 1, 1);
                number(b, 2, *count);
                const RANDOM: u32 = 1;
                number(b, 3, RANDOM);
            });
            equals(b, &[0; 4]);
        }
        Part::Remembered(set) => {
            source(b, set.v4);
            add_expression(b, "lookup", |b| {
                attribute(b, 1, |b| b.extend(text(&set.name)));
                number(b, 2, 1);
            });
        }
        Part::Remember(set) => {
            source(b, set.v4);
            add_expression(b, "dynset", |b| {
                const UPDATE: u32 = 1;
                attribute(b, 1, |b| b.extend(text(&set.name)));
                number(b, 3, UPDATE);
                number(b, 4, 1);
            });
        }
        Part::Masquerade => add_expression(b, "masq", |_| {}),
        Part::Redirect(address, port) => {
            add_immediate(b, 1, &address_bytes(*address));
            add_immediate(b, 2, &port.to_be_bytes());
            add_expression(b, "nat", |b| {
                const DESTINATION: u32 = 1;
                number(b, 1, DESTINATION);
                number(b, 2, u32::from(family(address.is_ipv4())));
                number(b, 3, 1);
                number(b, 5, 2);
            });
        }
    }
}

/// Holds for packets of one of the two families.
fn of_family(b: &mut Vec<u8>, v4: bool) {
    add_meta(b, META_NFPROTO);
    equals(b, &[family(v4)]);
}

fn family(v4: bool) -> u8 {
    (if v4 { libc::NFPROTO_IPV4 } else { libc::NFPROTO_IPV6 }) as u8
}

fn verdict(b: &mut Vec<u8>, code: i32) {
    add_expression(b, "immediate", |b| {
        const VERDICT: u32 = 0;
        number(b, 1, VERDICT);
        attribute(b, 2 | NESTED, |b| {
            attribute(b, 2 | NESTED, |b| number(b, 1, code as u32));
        });
    });
}

/// What connection tracking knows of the packet.
fn connection(b: &mut Vec<u8>, key: u32) {
    add_expression(b, "ct", |b| {
        number(b, 1, 1);
        number(b, 2, key);
    });
}

/// The register has one of these bits.
fn any_of(b: &mut Vec<u8>, bits: &[u8]) {
    add_expression(b, "bitwise", |b| {
        number(b, 1, 1);
        number(b, 2, 1);
        number(b, 3, bits.len() as u32);
        data(b, 4, bits);
        data(b, 5, &vec![0; bits.len()]);
    });
    compare(b, DIFFERS, &vec![0; bits.len()]);
}

fn add_meta(b: &mut Vec<u8>, key: u32) {
    load_meta(b, 1, key);
}

fn load_meta(b: &mut Vec<u8>, register: u32, key: u32) {
    add_expression(b, "meta", |b| {
        number(b, 2, key);
        number(b, 1, register);
    });
}

/// The packet's source address into the register.
fn source(b: &mut Vec<u8>, v4: bool) {
    let (offset, length) = if v4 { (12, 4) } else { (8, 16) };
    add_payload(b, 1, offset, length);
}

fn add_payload(b: &mut Vec<u8>, base: u32, offset: u32, length: u32) {
    load_payload(b, 1, base, offset, length);
}

fn load_payload(b: &mut Vec<u8>, register: u32, base: u32, offset: u32, length: u32) {
    add_expression(b, "payload", |b| {
        for (kind, value) in [(1, register), (2, base), (3, offset), (4, length)] {
            number(b, kind, value);
        }
    });
}

/// Asks a set for the packet's fields; `how` says what else the lookup has.
fn look_up(b: &mut Vec<u8>, lookup: &Lookup, how: impl FnOnce(&mut Vec<u8>)) {
    of_family(b, lookup.v4);
    let mut register = FIRST_SHORT;
    for field in lookup.fields {
        let (_, length) = field.kind_and_length(lookup.v4);
        let (source, destination) = if lookup.v4 { (12, 16) } else { (8, 24) };
        match field {
            Field::Source => load_payload(b, register, 1, source, length),
            Field::Destination => load_payload(b, register, 1, destination, length),
            Field::Protocol => load_meta(b, register, META_L4PROTO),
            Field::Port => load_payload(b, register, 2, 2, length),
            Field::Interface => load_meta(b, register, META_IIFNAME),
        }
        register += length.div_ceil(4);
    }
    add_expression(b, "lookup", |b| {
        attribute(b, 1, |b| b.extend(text(lookup.name)));
        number(b, 2, FIRST_SHORT);
        how(b);
    });
}

/// Pads a name to what a register holds, so that no longer name matches.
pub(super) fn interface_name(name: &str) -> Vec<u8> {
    let mut name = name.as_bytes().to_vec();
    name.resize(libc::IFNAMSIZ, 0);
    name
}

fn equals(b: &mut Vec<u8>, value: &[u8]) {
    compare(b, EQUALS, value);
}

fn compare(b: &mut Vec<u8>, how: u32, value: &[u8]) {
    add_expression(b, "cmp", |b| {
        number(b, 1, 1);
        number(b, 2, how);
        data(b, 3, value);
    });
}

fn add_immediate(b: &mut Vec<u8>, register: u32, value: &[u8]) {
    add_expression(b, "immediate", |b| {
        number(b, 1, register);
        data(b, 2, value);
    });
}
