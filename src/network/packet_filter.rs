//! The keeper's packet filter: what it has in the kernel, and what has to be told so that it does what is wanted.
//!
//! A pod or Service more costs what it takes itself, however many there are: pods are elements of sets, a Service's port is an
//! element that leads to a chain of its own. What is changed is changed in transactions of bounded length, for one that is
//! longer than the socket's buffer is refused. Nothing is asked of the kernel: it has what it was told, or the table is made anew.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use super::{
    address_range::{Addresses, LINK, link_name},
    client_address,
    netlink::{Message, Netlink, address_bytes},
    nft::{self, Field, Hook, Lookup, Part, Set},
    nft_expressions::interface_name,
    service_rules::{ServicePlace, Wanted},
};

const TABLE: &str = "podctl";

/// Holds what pods reach when they reach themselves.
static SELF_V4: Lookup =
    Lookup { name: "self4", v4: true, fields: &[Field::Source, Field::Destination], is_map: false };
static SELF_V6: Lookup = Lookup { name: "self6", v4: false, ..SELF_V4 };
/// Holds who may come by which link; the routes tell of IPv4 (see namespace_thread.rs).
static OWN_V6: Lookup =
    Lookup { name: "own6", v4: false, fields: &[Field::Interface, Field::Source], is_map: false };
/// Leads from Services' places to their chains.
static SERVICES_V4: Lookup = Lookup {
    name: "services4",
    v4: true,
    fields: &[Field::Destination, Field::Protocol, Field::Port],
    is_map: true,
};
static SERVICES_V6: Lookup = Lookup { name: "services6", v4: false, ..SERVICES_V4 };

/// Holds what the kernel has.
#[derive(Debug, Default)]
struct Installed {
    pods: BTreeMap<u16, Addresses>,
    services: BTreeMap<ServicePlace, (String, Vec<Vec<Part>>)>,
    sets: BTreeSet<Set>,
    /// The number of chains that were made.
    chains: u64,
}

/// The filter of a network namespace.
#[derive(Debug)]
pub struct PacketFilter {
    netlink: Netlink,
    uplink: &'static str,
    /// Nothing when that is not known, as after a failure.
    installed: Option<Installed>,
}

impl PacketFilter {
    /// Makes the filter of the socket's namespace; the outside is at `uplink`. The kernel has nothing of it yet, or what another
    /// process has told it.
    pub fn new(netlink: Netlink, uplink: &'static str) -> PacketFilter {
        PacketFilter { netlink, uplink, installed: None }
    }

    /// Has the kernel do what is wanted. Where it cannot have connections bear their clients' addresses, `keeps_clients` says so
    /// afterwards.
    ///
    /// # Errors
    /// The kernel's; the next call makes everything anew.
    pub fn apply(&mut self, wanted: Wanted, keeps_clients: &Cell<bool>) -> io::Result<()> {
        let is_new = self.installed.is_none();
        let mut installed = self.installed.take().unwrap_or_default();
        if is_new {
            let make = |with_clients| self.tell(vec![make_all(self.uplink, with_clients)]);
            let made = make(keeps_clients.get());
            // A kernel may have less than that takes.
            if made.is_err() && keeps_clients.replace(false) { make(false) } else { made }?;
        }
        self.tell(follow(&mut installed, wanted))?;
        self.installed = Some(installed);
        Ok(())
    }

    fn tell(&self, groups: Vec<Vec<Message>>) -> io::Result<()> {
        nft::build_transactions(groups).iter().try_for_each(|transaction| self.netlink.send(transaction))
    }
}

/// Returns the messages that make the table, without pods and Services.
fn make_all(uplink: &'static str, with_clients: bool) -> Vec<Message> {
    let mut messages = nft::make_table(TABLE);
    for (lookup, id) in [&SELF_V4, &SELF_V6, &OWN_V6, &SERVICES_V4, &SERVICES_V6].into_iter().zip(1..) {
        messages.push(nft::make_lookup(TABLE, lookup, id));
    }
    let mut rules = vec![
        (Hook::Entry, vec![Part::InBegins(LINK), Part::FromAfar, Part::NotAmong(&OWN_V6), Part::Drop]),
        (Hook::Prerouting, vec![Part::Continue(&SERVICES_V4)]),
        (Hook::Prerouting, vec![Part::Continue(&SERVICES_V6)]),
        // A pod that reaches itself through a Service must not get packets from itself.
        (Hook::Postrouting, vec![Part::Among(&SELF_V4), Part::Masquerade]),
        (Hook::Postrouting, vec![Part::Among(&SELF_V6), Part::Masquerade]),
        (Hook::Postrouting, vec![Part::Out(uplink.to_owned()), Part::Masquerade]),
    ];
    if with_clients {
        rules.extend(client_address::rules());
    }
    messages.extend(nft::add_hooked_rules(TABLE, &rules));
    messages
}

/// Returns the groups of messages after which the kernel has what is wanted, and notes that it has.
fn follow(installed: &mut Installed, wanted: Wanted) -> Vec<Vec<Message>> {
    let mut groups = Vec::new();
    for (set, id) in wanted.sets.difference(&installed.sets).zip(1..) {
        groups.push(vec![nft::make_set(TABLE, set, id)]);
    }
    for (set, key) in list_elements_only_in(&installed.pods, &wanted.pods) {
        groups.push(vec![nft::delete_element(TABLE, set, &key)]);
    }
    for (set, key) in list_elements_only_in(&wanted.pods, &installed.pods) {
        groups.push(vec![nft::add_element(TABLE, set, &key, None)]);
    }
    installed.services.retain(|place, (chain, _)| {
        let stays = wanted.services.contains_key(place);
        if !stays {
            let (map, key) = locate_service(place);
            let mut group = vec![nft::delete_element(TABLE, map, &key)];
            group.extend(nft::delete_chain(TABLE, chain));
            groups.push(group);
        }
        stays
    });
    for (place, rules) in wanted.services {
        if installed.services.get(&place).is_some_and(|(_, known)| *known == rules) {
            continue;
        }
        installed.chains += 1;
        let chain = format!("{}-{}-{}-{}", place.0, place.1, place.2, installed.chains);
        groups.push(vec![nft::make_chain(TABLE, &chain)]);
        groups.extend(rules.iter().map(|parts| vec![nft::add_rule(TABLE, &chain, parts)]));
        // Packets change from the one chain to the other at once.
        let (map, key) = locate_service(&place);
        let mut group = vec![nft::add_element(TABLE, map, &key, Some(&chain))];
        if let Some((before, _)) = installed.services.insert(place, (chain, rules)) {
            group.insert(0, nft::delete_element(TABLE, map, &key));
            group.extend(nft::delete_chain(TABLE, &before));
        }
        groups.push(group);
    }
    for set in installed.sets.difference(&wanted.sets) {
        groups.push(vec![nft::delete_set(TABLE, set)]);
    }
    installed.pods = wanted.pods;
    installed.sets = wanted.sets;
    groups
}

/// Returns the elements of pods that are not the same among others.
fn list_elements_only_in<'a>(
    pods: &'a BTreeMap<u16, Addresses>,
    others: &'a BTreeMap<u16, Addresses>,
) -> impl Iterator<Item = (&'static Lookup, Vec<u8>)> + 'a {
    let only_here = pods.iter().filter(|(number, addresses)| others.get(number) != Some(addresses));
    only_here.flat_map(|(number, addresses)| list_elements(*number, *addresses))
}

/// Returns the elements that a pod has in the table's sets.
fn list_elements(number: u16, addresses: Addresses) -> Vec<(&'static Lookup, Vec<u8>)> {
    let twice = |address: IpAddr| address_bytes(address).repeat(2);
    let mut all = vec![(&SELF_V4, twice(addresses.v4.into()))];
    if let Some(v6) = addresses.v6 {
        all.push((&SELF_V6, twice(v6.into())));
        all.push((&OWN_V6, [interface_name(&link_name(number)), v6.octets().to_vec()].concat()));
    }
    all
}

/// Returns the map that leads to a Service's chain, and its element there. Each field begins at a multiple of 4 bytes.
fn locate_service((address, protocol, port): &ServicePlace) -> (&'static Lookup, Vec<u8>) {
    let [high, low] = port.to_be_bytes();
    let rest = [*protocol as u8, 0, 0, 0, high, low, 0, 0];
    let map = if address.is_ipv4() { &SERVICES_V4 } else { &SERVICES_V6 };
    (map, [&address_bytes(*address)[..], &rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(number: u16) -> (u16, Addresses) {
        let [high, low] = number.to_be_bytes();
        let v6 = Some([0xfd00, 0, 0, 0, 0, 0, 0, number].into());
        (number, Addresses { v4: [10, 213, high, low].into(), v6 })
    }

    fn wanted(pods: u16, endpoints: u16) -> Wanted {
        let rules = (0..endpoints).map(|n| vec![Part::OneIn(9), Part::Redirect([10, 0, 0, 1].into(), n)]);
        let place = ([10, 213, 128, 1].into(), libc::IPPROTO_TCP, 80);
        let services = (endpoints > 0).then(|| (place, rules.collect())).into_iter().collect();
        Wanted { pods: (0..pods).map(pod).collect(), services, ..Wanted::default() }
    }

    #[test]
    fn a_pod_more_takes_its_own_elements_however_many_there_are() {
        let mut installed = Installed::default();
        assert_eq!(follow(&mut installed, wanted(1000, 3)).len(), 3000 + 1 + 3 + 1);
        assert_eq!(follow(&mut installed, wanted(1001, 3)).len(), 3);
        assert_eq!(follow(&mut installed, wanted(1000, 3)).len(), 3);
        assert_eq!(follow(&mut installed, wanted(1000, 3)).len(), 0);
        // An endpoint less: a chain with its rules, and the change from one to the other.
        assert_eq!(follow(&mut installed, wanted(1000, 2)).len(), 1 + 2 + 1);
        assert_eq!(follow(&mut installed, wanted(1000, 0)).len(), 1);
        assert_eq!(follow(&mut installed, wanted(0, 0)).len(), 3000);
    }

    #[test]
    fn no_transaction_is_longer_than_the_kernel_takes() {
        let groups = follow(&mut Installed::default(), wanted(5000, 3000));
        let all = nft::build_transactions(groups);
        assert!(
            all.len() < 300 && all.iter().all(|transaction| transaction.len() < 70 << 10),
            "{}",
            all.len()
        );
    }
}
