//! nftables over netlink: podctl's own table, its rules replaced in one transaction.
//!
//! Knows the kernel's encoding and nothing of pods. Numbers are those of `linux/netfilter/nf_tables.h`.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::netlink::{Message, address_bytes, attribute, attributes, text};

const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const INET: u8 = 1;
const EQUALS: u32 = 0;
const DIFFERS: u32 = 1;
const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// Tells where a chain of the table meets packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Sees packets as they come in, before anything else: they may be dropped.
    Entry,
    /// Sees packets as they come in, before a route is chosen.
    Answer,
    /// Sees packets as this machine sends them.
    Own,
    /// Sees packets as they come in: the destination may be changed.
    Prerouting,
    /// Sees packets on their way through: they may be dropped.
    Forward,
    /// Sees packets as they leave, before anything else: they may be dropped.
    Exit,
    /// Sees packets as they leave: the source may be changed.
    Postrouting,
}

impl Hook {
    const ALL: [Hook; 7] = [
        Hook::Entry,
        Hook::Answer,
        Hook::Prerouting,
        Hook::Forward,
        Hook::Own,
        Hook::Exit,
        Hook::Postrouting,
    ];

    fn name(self) -> &'static str {
        match self {
            Hook::Entry => "entry",
            Hook::Answer => "answer",
            Hook::Own => "own",
            Hook::Prerouting => "prerouting",
            Hook::Forward => "forward",
            Hook::Exit => "exit",
            Hook::Postrouting => "postrouting",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Hook::Prerouting | Hook::Postrouting => "nat",
            _ => "filter",
        }
    }

    fn number_and_priority(self) -> (u32, i32) {
        match self {
            Hook::Entry => (0, -300),
            Hook::Answer => (0, -150),
            Hook::Own => (3, -150),
            Hook::Prerouting => (0, -100),
            Hook::Forward => (2, 0),
            Hook::Exit => (4, -300),
            Hook::Postrouting => (4, 100),
        }
    }
}

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

/// Names what a rule looks at, all of which must hold, or does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The packet comes from there.
    From(IpAddr),
    /// The packet goes there.
    To(IpAddr),
    /// The protocol (`IPPROTO_TCP`, …) and destination port.
    Port(i32, u16),
    /// Means that it leaves by this interface.
    Out(&'static str),
    /// Means that it leaves by this interface, too.
    OutBy(String),
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
    /// Means that it is IPv6 from another address than this, and from none that is good for one link only.
    Pretends(Ipv6Addr),
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

/// The transaction that makes `table` hold these rules, sets and notes, and nothing else. Notes are empty chains whose
/// names say something to whoever lists the table. `known` are the sets that are there; when that is not known the table
/// is made anew.
pub fn replace(
    table: &str,
    notes: &[String],
    rules: &[(Hook, Vec<Part>)],
    sets: &BTreeSet<Set>,
    known: Option<&BTreeSet<Set>>,
) -> Vec<u8> {
    let name = text(table);
    let create = libc::NLM_F_CREATE as u16;
    let new_table = || build_message(NEW_TABLE, create).attribute(1, &name);
    // Made before it is deleted: a table that is not there cannot be deleted.
    let mut messages = vec![new_table()];
    if known.is_none() {
        messages.extend([build_message(DELETE_TABLE, 0).attribute(1, &name), new_table()]);
    }
    let none = BTreeSet::new();
    let known = known.unwrap_or(&none);
    // All its rules; sets that no rule uses can be deleted.
    messages.push(build_message(DELETE_RULE, 0).attribute(1, &name));
    for set in known.difference(sets) {
        messages.push(build_message(DELETE_SET, 0).attribute(1, &name).attribute(2, &text(&set.name)));
    }
    for (set, id) in sets.difference(known).zip(1_u32..) {
        const TIMEOUT: u32 = 0x10;
        const FILLED_BY_RULES: u32 = 0x20;
        // As the nft command numbers its types; the kernel looks at the length only.
        let (kind, length): (u32, u32) = if set.v4 { (7, 4) } else { (8, 16) };
        let set = build_message(NEW_SET, create)
            .attribute(1, &name)
            .attribute(2, &text(&set.name))
            .attribute(3, &(TIMEOUT | FILLED_BY_RULES).to_be_bytes())
            .attribute(4, &kind.to_be_bytes())
            .attribute(5, &length.to_be_bytes())
            .attribute(10, &id.to_be_bytes())
            .attribute(11, &(set.timeout.as_millis() as u64).to_be_bytes());
        messages.push(set);
    }
    for note in notes {
        messages.push(build_message(NEW_CHAIN, create).attribute(1, &name).attribute(3, &text(note)));
    }
    for hook in Hook::ALL.into_iter().filter(|hook| rules.iter().any(|(used, _)| used == hook)) {
        let (number, priority) = hook.number_and_priority();
        let chain = build_message(NEW_CHAIN, create)
            .attribute(1, &name)
            .attribute(3, &text(hook.name()))
            .add_nested(4, |b| {
                attribute(b, 1, |b| b.extend(number.to_be_bytes()));
                attribute(b, 2, |b| b.extend(priority.to_be_bytes()));
            })
            .attribute(7, &text(hook.kind()));
        messages.push(chain);
    }
    for (hook, parts) in rules {
        let rule = build_message(NEW_RULE, create | libc::NLM_F_APPEND as u16)
            .attribute(1, &name)
            .attribute(2, &text(hook.name()))
            .add_nested(4, |b| parts.iter().for_each(|part| add_expressions(b, part)));
        messages.push(rule);
    }
    build_batch(messages)
}

/// The transaction that removes a table, which need not be there.
pub fn remove(table: &str) -> Vec<u8> {
    let name = text(table);
    let create = libc::NLM_F_CREATE as u16;
    build_batch(vec![
        build_message(NEW_TABLE, create).attribute(1, &name),
        build_message(DELETE_TABLE, 0).attribute(1, &name),
    ])
}

/// Asks for the chains of all tables.
pub fn list_chains() -> Message {
    build_message(GET_CHAIN, libc::NLM_F_DUMP as u16)
}

/// The table and the name of a chain that was listed.
pub fn chain(answer: &[u8]) -> Option<(String, String)> {
    let named = |kind| {
        let (_, value) = attributes(answer.get(4..)?).find(|(known, _)| *known == kind)?;
        Some(std::str::from_utf8(value).ok()?.trim_end_matches('\0').to_owned())
    };
    Some((named(1)?, named(3)?))
}

/// Asks for the rules that a table has at a hook.
pub fn list_rules(table: &str, hook: Hook) -> Message {
    let dump = libc::NLM_F_DUMP as u16;
    build_message(GET_RULE, dump).attribute(1, &text(table)).attribute(2, &text(hook.name()))
}

/// Tells how many packets a rule that was listed has counted.
pub fn read_counter(answer: &[u8]) -> Option<u64> {
    let inner = |bytes, kind| attributes(bytes).find(|(known, _)| *known == kind).map(|(_, value)| value);
    let expressions = inner(answer.get(4..)?, 4)?;
    attributes(expressions).find_map(|(_, expression)| {
        let counter = inner(expression, 1).is_some_and(|name| name == text("counter"));
        let packets = inner(inner(expression, 2).filter(|_| counter)?, 2)?;
        Some(u64::from_be_bytes(packets.try_into().ok()?))
    })
}

fn build_batch(messages: Vec<Message>) -> Vec<u8> {
    let edge = |kind| Message::new(kind, 0, &[0, 0, 0, SUBSYSTEM as u8]);
    let all = [edge(BATCH_BEGIN)].into_iter().chain(messages).chain([edge(BATCH_END)]);
    all.zip(1..).flat_map(|(message, sequence)| message.finish(sequence)).collect()
}

fn build_message(kind: u16, flags: u16) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, flags, &[INET, 0, 0, 0])
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

fn add_expressions(b: &mut Vec<u8>, part: &Part) {
    const META_MARK: u32 = 3;
    const CONNECTION_MARK: u32 = 3;
    const META_IIFNAME: u32 = 6;
    const META_OIFNAME: u32 = 7;
    const META_NFPROTO: u32 = 15;
    const META_L4PROTO: u32 = 16;
    match part {
        Part::From(address) | Part::To(address) => {
            add_meta(b, META_NFPROTO);
            equals(b, &[family(*address)]);
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
            add_meta(b, META_NFPROTO);
            equals(b, &[family(*address)]);
            add_payload(b, 1, if address.is_ipv4() { 12 } else { 8 }, *length as u32);
            let how = if matches!(part, Part::FromRange(..)) { EQUALS } else { DIFFERS };
            compare(b, how, &address_bytes(*address)[..*length]);
        }
        Part::Like(address) => {
            add_meta(b, META_NFPROTO);
            equals(b, &[family(*address)]);
        }
        Part::Port(protocol, port) => {
            add_meta(b, META_L4PROTO);
            equals(b, &[*protocol as u8]);
            add_payload(b, 2, 2, 2);
            equals(b, &port.to_be_bytes());
        }
        Part::Out(interface) => {
            add_meta(b, META_OIFNAME);
            equals(b, &interface_name(interface));
        }
        Part::OutBy(interface) => {
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
        Part::Pretends(own) => {
            const LINK_LOCAL: u8 = 0xfe;
            add_meta(b, META_NFPROTO);
            equals(b, &[libc::NFPROTO_IPV6 as u8]);
            add_payload(b, 1, 8, 1);
            compare(b, DIFFERS, &[LINK_LOCAL]);
            add_payload(b, 1, 8, 16);
            compare(b, DIFFERS, &own.octets());
        }
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
                number(b, 2, u32::from(family(*address)));
                number(b, 3, 1);
                number(b, 5, 2);
            });
        }
    }
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::NFPROTO_IPV4 } else { libc::NFPROTO_IPV6 }) as u8
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
    add_expression(b, "meta", |b| {
        number(b, 2, key);
        number(b, 1, 1);
    });
}

/// The packet's source address into the register.
fn source(b: &mut Vec<u8>, v4: bool) {
    let (offset, length) = if v4 { (12, 4) } else { (8, 16) };
    add_payload(b, 1, offset, length);
}

fn add_payload(b: &mut Vec<u8>, base: u32, offset: u32, length: u32) {
    add_expression(b, "payload", |b| {
        for (kind, value) in [(1, 1), (2, base), (3, offset), (4, length)] {
            number(b, kind, value);
        }
    });
}

/// Pads a name to what a register holds, so that no longer name matches.
fn interface_name(name: &str) -> Vec<u8> {
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
