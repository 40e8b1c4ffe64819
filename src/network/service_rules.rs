//! Services as packet filter rules: by which packets to a Service's address reach its pods. PURE.
//!
//! [`super::nft`] encodes them. An endpoint is chosen per connection with equal chances, or kept for a client
//! (`sessionAffinity: ClientIP`).

use std::collections::BTreeSet;

use super::{
    address_range::link_name,
    nft::{Hook, Part, Set},
    registry::{Registry, port_protocol, session_affinity},
};

impl Registry {
    /// The rules by which packets to Services reach pods, and by which pods reach the outside; and the sets that these
    /// rules use, of clients that keep their endpoint.
    pub fn rules(&self, uplink: &'static str) -> (Vec<(Hook, Vec<Part>)>, BTreeSet<Set>) {
        let (mut rules, mut sets) = (Vec::new(), BTreeSet::new());
        for (key, service) in self.services() {
            let Some(own) = self.virtual_addresses.get(&key) else { continue };
            for port in service.spec.iter().flat_map(|s| s.ports.iter().flatten()) {
                let number = if port_protocol(port) == "UDP" { libc::IPPROTO_UDP } else { libc::IPPROTO_TCP };
                let Ok(from) = u16::try_from(port.port) else { continue };
                let endpoints = self.endpoints(service, port);
                let mut chosen = Vec::new();
                for (at, (addresses, to)) in endpoints.iter().enumerate() {
                    for (address, to_address) in own.all().zip(addresses.all()) {
                        let mut parts = vec![Part::To(address), Part::Port(number, from)];
                        let set = session_affinity(service).map(|timeout| Set {
                            name: format!(
                                "{address}-{number}-{from}-{to_address}-{to}-{}",
                                timeout.as_secs()
                            ),
                            v4: address.is_ipv4(),
                            timeout,
                        });
                        if let Some(set) = &set {
                            let again = vec![
                                Part::To(address),
                                Part::Port(number, from),
                                Part::Remembered(set.clone()),
                                Part::Remember(set.clone()),
                                Part::Redirect(to_address, *to),
                            ];
                            rules.push((Hook::Prerouting, again));
                        }
                        // The first of three takes a third, the next half of the rest, the last all.
                        let left = (endpoints.len() - at) as u32;
                        parts.extend((left > 1).then_some(Part::OneIn(left)));
                        parts.extend(set.clone().map(Part::Remember));
                        parts.push(Part::Redirect(to_address, *to));
                        chosen.push((Hook::Prerouting, parts));
                        sets.extend(set);
                    }
                }
                rules.extend(chosen);
            }
        }
        for (number, member) in &self.members {
            // The routes tell of IPv4 (see namespace_thread.rs).
            if let Some(own) = member.addresses.v6 {
                rules
                    .push((Hook::Entry, vec![Part::In(link_name(*number)), Part::Pretends(own), Part::Drop]));
            }
            for own in member.addresses.all() {
                // A pod that reaches itself through a Service must not get packets from itself.
                let parts = vec![Part::From(own), Part::To(own), Part::Masquerade];
                rules.push((Hook::Postrouting, parts));
            }
        }
        rules.push((Hook::Postrouting, vec![Part::Out(uplink), Part::Masquerade]));
        (rules, sets)
    }
}
