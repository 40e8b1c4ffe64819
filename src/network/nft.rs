//! nftables over netlink: tables with their chains, rules, sets and elements, and the transactions that change them.
//!
//! Knows the kernel's encoding and nothing of pods. Numbers are those of `linux/netfilter/nf_tables.h`.

use super::{
    netlink::{Message, attribute, attributes, text},
    nft_expressions::{NESTED, add_expressions},
};

pub use super::nft_expressions::{Field, Lookup, Part, Set};

const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const INET: u8 = 1;
const CREATE: u16 = libc::NLM_F_CREATE as u16;

/// Longest transaction, in bytes and in messages: a socket's buffer has room for 200 KiB, and for 200 answers.
const LONGEST: usize = 64 << 10;
const MOST: usize = 100;

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

    /// The name of its chain.
    pub fn name(self) -> &'static str {
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

/// Returns the messages that make a table anew, empty.
pub fn make_table(table: &str) -> Vec<Message> {
    let [make, delete] = delete_table(table);
    vec![make, delete, build_message(NEW_TABLE, CREATE).attribute(1, &text(table))]
}

/// Returns the messages that delete a table, which need not be there: it is made first, for no other can be deleted.
fn delete_table(table: &str) -> [Message; 2] {
    let name = text(table);
    [build_message(NEW_TABLE, CREATE).attribute(1, &name), build_message(DELETE_TABLE, 0).attribute(1, &name)]
}

/// Makes the chain through which packets come at a hook.
pub fn make_base_chain(table: &str, hook: Hook) -> Message {
    let (number, priority) = hook.number_and_priority();
    make_chain(table, hook.name())
        .add_nested(4, |b| {
            attribute(b, 1, |b| b.extend(number.to_be_bytes()));
            attribute(b, 2, |b| b.extend(priority.to_be_bytes()));
        })
        .attribute(7, &text(hook.kind()))
}

/// Makes a chain to which packets come from others only.
pub fn make_chain(table: &str, chain: &str) -> Message {
    build_message(NEW_CHAIN, CREATE).attribute(1, &text(table)).attribute(3, &text(chain))
}

/// Returns the messages that delete a chain with its rules. Nothing leads there any more.
pub fn delete_chain(table: &str, chain: &str) -> [Message; 2] {
    [
        build_message(DELETE_RULE, 0).attribute(1, &text(table)).attribute(2, &text(chain)),
        build_message(DELETE_CHAIN, 0).attribute(1, &text(table)).attribute(3, &text(chain)),
    ]
}

/// Adds a rule at a chain's end.
pub fn add_rule(table: &str, chain: &str, parts: &[Part]) -> Message {
    build_message(NEW_RULE, CREATE | libc::NLM_F_APPEND as u16)
        .attribute(1, &text(table))
        .attribute(2, &text(chain))
        .add_nested(4, |b| parts.iter().for_each(|part| add_expressions(b, part)))
}

/// Makes a set that rules fill. `id` is another one for every set of a transaction.
pub fn make_set(table: &str, set: &Set, id: u32) -> Message {
    const TIMEOUT: u32 = 0x10;
    const FILLED_BY_RULES: u32 = 0x20;
    let (kind, length) = set.kind_and_length();
    build_message(NEW_SET, CREATE)
        .attribute(1, &text(table))
        .attribute(2, &text(&set.name))
        .attribute(3, &(TIMEOUT | FILLED_BY_RULES).to_be_bytes())
        .attribute(4, &kind.to_be_bytes())
        .attribute(5, &length.to_be_bytes())
        .attribute(10, &id.to_be_bytes())
        .attribute(11, &(set.timeout.as_millis() as u64).to_be_bytes())
}

/// Deletes a set that no rule uses.
pub fn delete_set(table: &str, set: &Set) -> Message {
    build_message(DELETE_SET, 0).attribute(1, &text(table)).attribute(2, &text(&set.name))
}

/// Makes a set or map whose elements are given. `id` is another one for every set of a transaction.
pub fn make_lookup(table: &str, lookup: &Lookup, id: u32) -> Message {
    const MAP: u32 = 8;
    const VERDICT: u32 = 0xffff_ff00;
    let (kind, length) = lookup.kind_and_length();
    let set = build_message(NEW_SET, CREATE)
        .attribute(1, &text(table))
        .attribute(2, &text(lookup.name))
        .attribute(3, &(if lookup.is_map { MAP } else { 0 }).to_be_bytes())
        .attribute(4, &kind.to_be_bytes())
        .attribute(5, &length.to_be_bytes());
    let set = if lookup.is_map { set.attribute(6, &VERDICT.to_be_bytes()) } else { set };
    set.attribute(10, &id.to_be_bytes())
}

/// Adds an element; a map's leads to `chain`.
pub fn add_element(table: &str, lookup: &Lookup, key: &[u8], chain: Option<&str>) -> Message {
    const JUMP: i32 = -3;
    change_element(NEW_ELEMENT, table, lookup, |b| {
        attribute(b, 1 | NESTED, |b| attribute(b, 1, |b| b.extend(key)));
        let Some(chain) = chain else { return };
        attribute(b, 2 | NESTED, |b| {
            attribute(b, 2 | NESTED, |b| {
                attribute(b, 1, |b| b.extend(JUMP.to_be_bytes()));
                attribute(b, 2, |b| b.extend(text(chain)));
            });
        });
    })
}

/// Deletes an element that is there.
pub fn delete_element(table: &str, lookup: &Lookup, key: &[u8]) -> Message {
    change_element(DELETE_ELEMENT, table, lookup, |b| {
        attribute(b, 1 | NESTED, |b| attribute(b, 1, |b| b.extend(key)));
    })
}

fn change_element(kind: u16, table: &str, lookup: &Lookup, fill: impl FnOnce(&mut Vec<u8>)) -> Message {
    build_message(kind, CREATE)
        .attribute(1, &text(table))
        .attribute(2, &text(lookup.name))
        .add_nested(3, |b| attribute(b, 1 | NESTED, fill))
}

/// The transaction that makes a table hold these rules and notes, and nothing else. Notes are empty chains whose names say
/// something to whoever lists the table.
pub fn replace(table: &str, notes: &[String], rules: &[(Hook, Vec<Part>)]) -> Vec<u8> {
    let mut messages = make_table(table);
    messages.extend(notes.iter().map(|note| make_chain(table, note)));
    messages.extend(add_hooked_rules(table, rules));
    build_batch(messages)
}

/// Returns the messages that make the chains of these hooks, and their rules.
pub fn add_hooked_rules(table: &str, rules: &[(Hook, Vec<Part>)]) -> Vec<Message> {
    let hooks = Hook::ALL.into_iter().filter(|hook| rules.iter().any(|(used, _)| used == hook));
    let chains = hooks.map(|hook| make_base_chain(table, hook));
    chains.chain(rules.iter().map(|(hook, parts)| add_rule(table, hook.name(), parts))).collect()
}

/// Makes transactions of messages, as few as there can be; those of a group are of one, if it is not longer than that may be.
pub fn build_transactions(groups: Vec<Vec<Message>>) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let (mut bytes, mut count) = (0, 0);
    for group in groups {
        let (length, number) = (group.iter().map(Message::length).sum::<usize>(), group.len());
        if count > 0 && (bytes + length > LONGEST || count + number > MOST) {
            all.push(Vec::new());
            (bytes, count) = (0, 0);
        }
        (bytes, count) = (bytes + length, count + number);
        if let Some(last) = all.last_mut() {
            last.extend(group);
        }
    }
    all.into_iter().filter(|messages| !messages.is_empty()).map(build_batch).collect()
}

/// The transaction that removes a table, which need not be there.
pub fn remove(table: &str) -> Vec<u8> {
    build_batch(delete_table(table).into())
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
