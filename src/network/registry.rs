//! Who is on the network: pods and Services, and which pods serve for which Service. PURE: no sockets, no clock.
//!
//! What follows from it stands beside: `service_rules.rs` for packets, `service_dns.rs` for names.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde::{Deserialize, Serialize};

use super::address_range::{Addresses, Range};
use crate::pod::{PodExt, ServiceLink};

/// Holds what the network knows of a pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Registration {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The host name, when it has a subdomain.
    pub hostname: String,
    /// spec.subdomain.
    pub subdomain: Option<String>,
    /// Serves Services' selectors.
    pub labels: BTreeMap<String, String>,
    /// Named container ports: name, protocol, number.
    pub ports: Vec<(String, String, u16)>,
    /// Services that came in the same files.
    pub services: Vec<Service>,
}

impl Registration {
    /// Makes the registration of a defaulted pod.
    pub fn of(pod: &Pod, services: &[Service]) -> Registration {
        let name = pod.name().to_owned();
        let spec = pod.spec.as_ref();
        let ports = spec
            .iter()
            .flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
            .flat_map(|c| c.ports.iter().flatten())
            .filter_map(|p| {
                let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
                Some((p.name.clone()?, protocol, p.container_port.try_into().ok()?))
            });
        Registration {
            namespace: pod.namespace().to_owned(),
            hostname: spec.and_then(|s| s.hostname.clone()).unwrap_or_else(|| name.clone()),
            subdomain: spec.and_then(|s| s.subdomain.clone()).filter(|s| !s.is_empty()),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            ports: ports.collect(),
            services: services.to_vec(),
            name,
        }
    }
}

/// The pod on the network.
#[derive(Clone, Debug)]
pub struct Member {
    /// Holds what it said of itself.
    pub pod: Registration,
    /// The place where it is.
    pub addresses: Addresses,
    /// The Ready condition.
    pub ready: bool,
}

/// Everybody on the network.
#[derive(Debug, Default)]
pub struct Registry {
    /// Keyed by their numbers.
    pub members: BTreeMap<u16, Member>,
    /// Services that are there without a pod, by `namespace/name`.
    pub kept: BTreeMap<String, Service>,
    /// Services' addresses by `namespace/name`.
    pub virtual_addresses: HashMap<String, Addresses>,
    /// The range of whose addresses nobody else knows the names.
    pub range: Option<Range>,
}

/// The Service as the network has it, with its addresses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Has `spec.clusterIPs` filled in.
    pub service: Service,
    /// Tells that it stays without a pod.
    pub kept: bool,
    /// The pods it selects.
    pub backends: Vec<Backend>,
}

/// The pod that a Service selects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Backend {
    /// The pod's name.
    pub pod: String,
    /// The place where it is.
    pub addresses: Addresses,
    /// Connections are led to it.
    pub ready: bool,
    /// Belongs to each of the Service's ports the number that the pod has for it.
    pub ports: Vec<Option<u16>>,
}

/// Returns a Service's `namespace/name`.
pub fn key(service: &Service) -> String {
    let meta = &service.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or("default"), meta.name.as_deref().unwrap_or_default())
}

/// Tells whether it has an address of its own.
pub fn has_address(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|s| s.cluster_ip.as_deref()) != Some("None")
        && spec.and_then(|s| s.type_.as_deref()) != Some("ExternalName")
}

/// The number of the address that a kept Service was given.
pub fn fixed_number(service: &Service) -> Option<u16> {
    let own = service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok()?;
    Some(Addresses { v4: own, v6: None }.number())
}

/// Tells how long a client keeps its endpoint, with `sessionAffinity: ClientIP`.
pub(super) fn session_affinity(service: &Service) -> Option<Duration> {
    let spec = service.spec.as_ref().filter(|s| s.session_affinity.as_deref() == Some("ClientIP"))?;
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    let seconds = config.and_then(|c| c.timeout_seconds).unwrap_or(10_800);
    Some(Duration::from_secs(seconds.try_into().unwrap_or(1)))
}

/// TCP when nothing else is said.
pub fn port_protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// Tells whether a Service's selector takes a pod with these labels; without a selector it takes none.
pub fn does_select(service: &Service, labels: Option<&BTreeMap<String, String>>) -> bool {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|s| !s.is_empty());
    selector.is_some_and(|s| s.iter().all(|(name, value)| labels.and_then(|l| l.get(name)) == Some(value)))
}

fn serves(service: &Service, member: &Member) -> bool {
    member.ready || service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true)
}

/// The number of a Service's port in a pod.
pub(super) fn target_port(member: &Member, port: &ServicePort) -> Option<u16> {
    match &port.target_port {
        Some(IntOrString::Int(number)) if *number > 0 => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) if !name.is_empty() => {
            let ports = &member.pod.ports;
            let named = ports.iter().find(|(known, of, _)| known == name && of == port_protocol(port));
            named.map(|(_, _, number)| *number).or_else(|| name.parse().ok())
        }
        _ => u16::try_from(port.port).ok(),
    }
}

impl Registry {
    /// The Services there are. Of two with one name the kept one, else the one that came last.
    pub fn services(&self) -> BTreeMap<String, &Service> {
        let with_pods = self.members.values().flat_map(|m| &m.pod.services).map(|s| (key(s), s));
        with_pods.chain(self.kept.iter().map(|(key, s)| (key.clone(), s))).collect()
    }

    /// Every Service with what there is to be known of it.
    pub fn seen(&self) -> Vec<Seen> {
        let seen = |(key, service): (String, &Service)| {
            let mut shown = service.clone();
            if let (Some(own), Some(spec)) = (self.virtual_addresses.get(&key), &mut shown.spec) {
                spec.cluster_ip = Some(own.v4.to_string());
                spec.cluster_ips = Some(own.all().map(|a| a.to_string()).collect());
            }
            let ports = || service.spec.iter().flat_map(|s| s.ports.iter().flatten());
            let backend = |member: &Member| Backend {
                pod: member.pod.name.clone(),
                addresses: member.addresses,
                ready: serves(service, member),
                ports: ports().map(|port| target_port(member, port)).collect(),
            };
            let backends = self.selected_members(service).into_iter().map(backend).collect();
            Seen { service: shown, kept: self.kept.contains_key(&key), backends }
        };
        self.services().into_iter().map(seen).collect()
    }

    /// Returns the Services of each namespace that have an address, as many as a pod can be told of.
    pub fn list_links(&self) -> BTreeMap<String, Vec<ServiceLink>> {
        const MOST: usize = 200;
        let mut all: BTreeMap<String, Vec<ServiceLink>> = BTreeMap::new();
        for (key, service) in self.services() {
            let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
            let Some((namespace, name)) = key.split_once('/') else { continue };
            let Some(own) = self.virtual_addresses.get(&key) else { continue };
            let links = all.entry(namespace.to_owned()).or_default();
            if links.len() < MOST {
                links.push(ServiceLink {
                    name: name.to_owned(),
                    address: own.v4.to_string(),
                    ports: ports.map(|p| (p.name.clone(), p.port, port_protocol(p).to_owned())).collect(),
                });
            }
        }
        all
    }

    fn selected_members(&self, service: &Service) -> Vec<&Member> {
        let namespace = service.metadata.namespace.as_deref().unwrap_or("default");
        let in_namespace = self.members.values().filter(|m| m.pod.namespace == namespace);
        in_namespace.filter(|m| does_select(service, Some(&m.pod.labels))).collect()
    }

    /// The pods that serve for a Service.
    pub(super) fn ready_backends(&self, service: &Service) -> Vec<&Member> {
        let mut all = self.selected_members(service);
        all.retain(|member| serves(service, member));
        all
    }

    /// Tells where connections to a Service's port go.
    pub fn endpoints(&self, service: &Service, port: &ServicePort) -> Vec<(Addresses, u16)> {
        let backends = self.ready_backends(service);
        backends.into_iter().filter_map(|m| Some((m.addresses, target_port(m, port)?))).collect()
    }

    /// Tells where connections to a published Service's port go, and for how long a client keeps its endpoint.
    pub fn published(&self, service: &str, port: i32, udp: bool) -> (Vec<SocketAddr>, Option<Duration>) {
        let services = self.services();
        let Some(service) = services.get(service) else { return Default::default() };
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
        let ports = ports.filter(|p| p.port == port && (port_protocol(p) == "UDP") == udp);
        let endpoints = ports.flat_map(|p| self.endpoints(service, p));
        (endpoints.map(|(a, number)| (a.v4, number).into()).collect(), session_affinity(service))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{super::service_dns::Found, *};

    fn member(name: &str, last: u8, ready: bool) -> Member {
        let pod = Registration {
            namespace: "default".into(),
            name: name.into(),
            hostname: name.into(),
            labels: BTreeMap::from([("app".into(), "web".into())]),
            ports: vec![("http".into(), "TCP".into(), 8080)],
            ..Registration::default()
        };
        Member { pod, addresses: Addresses { v4: [10, 213, 0, last].into(), v6: None }, ready }
    }

    fn registry() -> Registry {
        let service = serde_json::json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        });
        let mut one = member("one", 2, true);
        one.pod.services = vec![serde_json::from_value(service).unwrap()];
        one.pod.subdomain = Some("web".into());
        let own = Addresses { v4: [10, 213, 128, 1].into(), v6: None };
        Registry {
            members: BTreeMap::from([(2, one), (3, member("two", 3, false))]),
            virtual_addresses: HashMap::from([("default/web".into(), own)]),
            range: Range::of_gateway([10, 213, 0, 1].into()),
            ..Registry::default()
        }
    }

    #[test]
    fn r_net_1_services_and_ready_pods_are_found_by_every_name_they_have() {
        let registry = registry();
        let at =
            |last: [u8; 2]| Found::At(vec![Addresses { v4: [10, 213, last[0], last[1]].into(), v6: None }]);
        let asker = IpAddr::from([10, 213, 0, 3]);
        for name in ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local."] {
            assert_eq!(registry.find(name, asker), at([128, 1]), "{name}");
        }
        for name in [
            "one",
            "one.default",
            "one.web.default.svc.cluster.local",
            "10-213-0-2.default.pod.cluster.local",
        ] {
            assert_eq!(registry.find(name, asker), at([0, 2]), "{name}");
        }
        for name in [
            "one.x.default.svc.cluster.local",
            "two.default.svc.cluster.local",
            "web.other.svc.cluster.local",
            "x.cluster.local",
        ] {
            assert_eq!(registry.find(name, asker), Found::Unknown, "{name}");
        }
        assert_eq!(registry.find("two", asker), Found::Short);
        assert_eq!(registry.find("example.org", asker), Found::Elsewhere);
        assert_eq!(
            registry.find("2.0.213.10.in-addr.arpa", asker),
            Found::Named("one.default.svc.cluster.local".into())
        );
        let v6 = |last: &str| format!("{last}{}5.d.0.0.4.7.3.6.4.6.f.6.0.7.d.f.ip6.arpa", "0.".repeat(12));
        for nobody in ["9.0.213.10.in-addr.arpa", "213.10.in-addr.arpa", &v6("9.0.0.0.")] {
            assert_eq!(registry.find(nobody, asker), Found::Unknown, "{nobody}");
        }
        for theirs in ["9.0.13.10.in-addr.arpa", "9.0.1213.10.in-addr.arpa", "8.8.8.8.in-addr.arpa"] {
            assert_eq!(registry.find(theirs, asker), Found::Elsewhere, "{theirs}");
        }
        let own = registry.virtual_addresses["default/web"];
        assert_eq!(
            registry.find("_http._tcp.web.default.svc.cluster.local", asker),
            Found::Serves(vec![(80, "web.default.svc.cluster.local".into(), own)])
        );
    }

    #[test]
    fn only_ready_pods_are_endpoints_at_their_named_ports() {
        let mut registry = registry();
        let endpoints = |r: &Registry| r.published("default/web", 80, false).0;
        let at = |last: u8| SocketAddr::from(([10, 213, 0, last], 8080));
        assert_eq!(endpoints(&registry), [at(2)]);
        registry.members.get_mut(&3).unwrap().ready = true;
        assert_eq!(endpoints(&registry), [at(2), at(3)]);
        registry.members.values_mut().for_each(|m| m.ready = false);
        assert_eq!(endpoints(&registry), []);
    }
}
