//! Which names lead to whom: Services, headless ones among them, pods, and addresses back to names. PURE.
//!
//! Pods are found by their own names, by `hostname.subdomain` and through Services; only ready pods
//! are found, unless a Service publishes others as well.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

use super::{
    address_range::Addresses,
    registry::{Member, Registry, key, port_protocol, target_port},
};

/// The domain of all names of the network's own.
const ZONE: [&str; 2] = ["cluster", "local"];

/// Names what a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Addresses, none of them when nobody is ready.
    At(Vec<Addresses>),
    /// Ports: each with the name of who serves it and that one's addresses.
    Serves(Vec<(u16, String, Addresses)>),
    /// Another name.
    Alias(String),
    /// The name of an address.
    Named(String),
    /// The name is the network's to know, and it does not know it.
    Unknown,
    /// The name without a dot that only the host's search domains could make a whole one.
    Short,
    /// Somebody else's name.
    Elsewhere,
}

impl Registry {
    /// Returns what a name leads to for whoever asks from that address.
    pub fn find(&self, name: &str, asker: IpAddr) -> Found {
        let labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
        let own = self.members.values().find(|m| m.addresses.all().any(|a| a == asker));
        let own = own.map_or("default", |m| m.pod.namespace.as_str());
        if let Some(found) = self.find_reverse(&labels) {
            return found;
        }
        if let [rest @ .., last, zone, local] = labels.as_slice()
            && [*zone, *local] == ZONE
        {
            let found = match (*last, rest) {
                // Nothing is there but names below it.
                ("svc" | "pod", []) => Some(Found::At(Vec::new())),
                ("svc", [namespace]) if self.is_known(namespace) => Some(Found::At(Vec::new())),
                ("svc", [inner @ .., namespace]) => self.in_namespace(inner, namespace),
                ("pod", [pod, namespace]) => self.pod(pod, namespace),
                _ => None,
            };
            return found.unwrap_or(Found::Unknown);
        }
        if labels == ZONE {
            return Found::At(Vec::new());
        }
        if labels.ends_with(&ZONE) {
            return Found::Unknown;
        }
        let short = labels.strip_suffix(&["svc"]).unwrap_or(&labels);
        match short {
            // A name without a dot is none of the outside's as it is.
            [_] => self.in_namespace(short, own).unwrap_or(Found::Short),
            [inner @ .., namespace] => self
                .in_namespace(inner, namespace)
                .or_else(|| self.in_namespace(short, own))
                .unwrap_or(Found::Elsewhere),
            [] => Found::Elsewhere,
        }
    }

    fn is_known(&self, namespace: &str) -> bool {
        let of = |service: &&Service| service.metadata.namespace.as_deref().unwrap_or("default") == namespace;
        self.members.values().any(|m| m.pod.namespace == namespace) || self.services().values().any(of)
    }

    fn in_namespace(&self, labels: &[&str], namespace: &str) -> Option<Found> {
        let services = self.services();
        let service = |name: &str| services.get(&format!("{namespace}/{name}")).copied();
        match labels {
            [name] => match service(name) {
                Some(service) => Some(self.of_service(service)),
                None => self.pod(name, namespace),
            },
            [port, protocol, name] if port.starts_with('_') && protocol.starts_with('_') => {
                let found = self.serves(service(name)?, Some((&port[1..], &protocol[1..])));
                (!found.is_empty()).then_some(Found::Serves(found))
            }
            [of, name] if of.starts_with('_') => {
                let mut ports = service(name)?.spec.iter().flat_map(|s| s.ports.iter().flatten());
                ports.any(|p| port_protocol(p).eq_ignore_ascii_case(&of[1..])).then(|| Found::At(Vec::new()))
            }
            [host, name] => {
                let named = |m: &&Member| {
                    m.pod.namespace == namespace
                        && m.ready
                        && m.pod.subdomain.as_deref() == Some(name)
                        && m.pod.hostname == *host
                };
                let member = self.members.values().find(named).or_else(|| {
                    let backends = self.ready_backends(service(name)?);
                    backends.into_iter().find(|m| dash_address(m.addresses) == *host)
                })?;
                Some(Found::At(vec![member.addresses]))
            }
            _ => None,
        }
    }

    fn of_service(&self, service: &Service) -> Found {
        let spec = service.spec.as_ref();
        if spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName") {
            return Found::Alias(spec.and_then(|s| s.external_name.clone()).unwrap_or_default());
        }
        match self.virtual_addresses.get(&key(service)) {
            Some(own) => Found::At(vec![*own]),
            None => match self.ready_backends(service).iter().map(|m| m.addresses).collect::<Vec<_>>() {
                none if none.is_empty() => Found::Unknown,
                all => Found::At(all),
            },
        }
    }

    /// Answers for SRV: the Service's ports, or the one of that name and protocol.
    pub fn serves(&self, service: &Service, only: Option<(&str, &str)>) -> Vec<(u16, String, Addresses)> {
        let namespace = service.metadata.namespace.as_deref().unwrap_or("default");
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let domain = format!("{name}.{namespace}.svc.cluster.local");
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten()).filter(|p| {
            only.is_none_or(|(port, of)| {
                p.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(port))
                    && port_protocol(p).eq_ignore_ascii_case(of)
            })
        });
        let mut found = Vec::new();
        for port in ports {
            match self.virtual_addresses.get(&key(service)) {
                Some(own) => found.push((port.port as u16, domain.clone(), *own)),
                None => found.extend(self.ready_backends(service).into_iter().filter_map(|m| {
                    let host = match m.pod.subdomain.as_deref() == Some(name) {
                        true => m.pod.hostname.clone(),
                        false => dash_address(m.addresses),
                    };
                    Some((target_port(m, port)?, format!("{host}.{domain}"), m.addresses))
                })),
            }
        }
        found
    }

    /// The Service of that name, for whoever asks for its ports.
    pub fn serves_by_name(&self, name: &str, asker: IpAddr) -> Option<Vec<(u16, String, Addresses)>> {
        let own = self.members.values().find(|m| m.addresses.all().any(|a| a == asker));
        let labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
        let short = labels.strip_suffix(&ZONE).unwrap_or(&labels);
        let short = short.strip_suffix(&["svc"]).unwrap_or(short);
        let (name, namespace) = match short {
            [name] => (name, own.map_or("default", |m| m.pod.namespace.as_str())),
            [name, namespace] => (name, *namespace),
            _ => return None,
        };
        self.services().get(&format!("{namespace}/{name}")).map(|s| self.serves(s, None))
    }

    fn pod(&self, name: &str, namespace: &str) -> Option<Found> {
        let named = |m: &&Member| {
            m.ready
                && m.pod.namespace == namespace
                && (m.pod.name == name || dash_address(m.addresses) == name)
        };
        self.members.values().find(named).map(|m| Found::At(vec![m.addresses]))
    }

    /// The name of an address, if it is of the network's own.
    fn find_reverse(&self, labels: &[&str]) -> Option<Found> {
        let name = labels.join(".");
        let own = |zone: String| {
            name.strip_suffix(&zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if !self.range?.reverse_zones().into_iter().any(own) {
            return None;
        }
        let address: Option<IpAddr> = match labels {
            [d, c, b, a, "in-addr", "arpa"] => format!("{a}.{b}.{c}.{d}").parse().ok(),
            [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
                let text: String = nibbles.iter().rev().copied().collect();
                u128::from_str_radix(&text, 16).ok().map(|own| IpAddr::V6(own.into()))
            }
            _ => None,
        };
        let is = |all: &Addresses| address.is_some_and(|address| all.all().any(|a| a == address));
        let pod = self.members.values().find(|m| is(&m.addresses));
        let pod = pod.map(|m| (m.pod.namespace.as_str(), m.pod.name.as_str()));
        let service = || self.virtual_addresses.iter().find(|(_, own)| is(own))?.0.split_once('/');
        let found =
            pod.or_else(service).map(|(namespace, name)| format!("{name}.{namespace}.svc.cluster.local"));
        Some(found.map_or(Found::Unknown, Found::Named))
    }
}

/// `10-213-0-2`.
fn dash_address(addresses: Addresses) -> String {
    addresses.v4.to_string().replace('.', "-")
}
