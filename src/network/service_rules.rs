//! What the packet filter has to know of Services and pods: where packets to a Service's address go. PURE.
//!
//! [`super::packet_filter`] tells the kernel. An endpoint is chosen per connection with equal chances, or kept for a client
//! (`sessionAffinity: ClientIP`).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::core::v1::{Service, ServicePort};

use super::{
    address_range::Addresses,
    nft::{Part, Set},
    registry::{Registry, port_protocol, session_affinity},
};

/// The address, protocol (`IPPROTO_TCP`, …) and port of a Service.
pub type ServicePlace = (IpAddr, i32, u16);

/// Holds what the packet filter is to do.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The addresses of pods, by their numbers.
    pub pods: BTreeMap<u16, Addresses>,
    /// The rules by which packets to a Service reach pods.
    pub services: BTreeMap<ServicePlace, Vec<Vec<Part>>>,
    /// The sets that these rules use, of clients that keep their endpoint.
    pub sets: BTreeSet<Set>,
}

impl Registry {
    /// Returns what the packet filter is to do.
    pub fn list_wanted_rules(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for (key, service) in self.services() {
            let Some(own) = self.virtual_addresses.get(&key) else { continue };
            for port in service.spec.iter().flat_map(|s| s.ports.iter().flatten()) {
                self.add_service_rules(&mut wanted, *own, service, port);
            }
        }
        wanted.pods = self.members.iter().map(|(number, member)| (*number, member.addresses)).collect();
        wanted
    }

    fn add_service_rules(&self, wanted: &mut Wanted, own: Addresses, service: &Service, port: &ServicePort) {
        let protocol = if port_protocol(port) == "UDP" { libc::IPPROTO_UDP } else { libc::IPPROTO_TCP };
        let Ok(from) = u16::try_from(port.port) else { return };
        let endpoints = self.endpoints(service, port);
        for address in own.all() {
            let of_family = |(to, port): &(Addresses, u16)| {
                to.all().find(|to| to.is_ipv4() == address.is_ipv4()).map(|to| (to, *port))
            };
            let endpoints: Vec<(IpAddr, u16)> = endpoints.iter().filter_map(of_family).collect();
            let (mut rules, mut chosen) = (Vec::new(), Vec::new());
            for (at, (to_address, to)) in endpoints.iter().enumerate() {
                let redirect = Part::Redirect(*to_address, *to);
                let set = session_affinity(service).map(|timeout| Set {
                    name: format!("{address}-{protocol}-{from}-{to_address}-{to}-{}", timeout.as_secs()),
                    v4: address.is_ipv4(),
                    timeout,
                });
                if let Some(set) = &set {
                    rules.push(vec![
                        Part::Remembered(set.clone()),
                        Part::Remember(set.clone()),
                        redirect.clone(),
                    ]);
                }
                // The first of three takes a third, the next half of the rest, the last all.
                let left = (endpoints.len() - at) as u32;
                let mut parts: Vec<Part> = (left > 1).then_some(Part::OneIn(left)).into_iter().collect();
                parts.extend(set.clone().map(Part::Remember));
                parts.push(redirect);
                chosen.push(parts);
                wanted.sets.extend(set);
            }
            rules.extend(chosen);
            if !rules.is_empty() {
                wanted.services.entry((address, protocol, from)).or_insert(rules);
            }
        }
    }
}
