//! Ports of the machine that lead into a pod.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use serde::{Deserialize, Serialize};

/// The published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// Address on the host; none is every address.
    pub ip: Option<IpAddr>,
    /// Port on the host; 0 is any free one.
    pub host: u16,
    /// UDP rather than TCP.
    pub udp: bool,
    /// Names who gets what comes in.
    pub target: Target,
}

/// Names who gets what comes in at a published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The pod that publishes, at this port.
    Pod(u16),
    /// The Service, by `namespace/name` and port.
    Service(String, i32),
}

impl HostPort {
    /// Returns a port of the pod at a free port of this machine, over TCP.
    pub fn any_for(port: u16) -> HostPort {
        HostPort { ip: None, host: 0, udp: false, target: Target::Pod(port) }
    }

    /// Returns a port of the pod at that port of this machine, over TCP.
    pub fn at(host: u16, port: u16) -> HostPort {
        HostPort { host, ..HostPort::any_for(port) }
    }
}

/// Writes published ports into the pod, as if they were hostPorts of its manifest: of the container that has the port,
/// else of the first. One whose number is still to be chosen becomes a port of the container.
pub fn publish_ports(pod: &mut Pod, ports: &[HostPort]) {
    let Some(spec) = &mut pod.spec else { return };
    for port in ports {
        let Target::Pod(number) = port.target else { continue };
        let protocol = if port.udp { "UDP" } else { "TCP" };
        let is_same = |p: &ContainerPort| {
            p.container_port == i32::from(number) && p.protocol.as_deref().unwrap_or("TCP") == protocol
        };
        let published = ContainerPort {
            container_port: number.into(),
            host_port: (port.host > 0).then_some(port.host.into()),
            host_ip: port.ip.map(|ip| ip.to_string()),
            protocol: Some(protocol.into()),
            ..ContainerPort::default()
        };
        let known = spec.containers.iter_mut().flat_map(|c| c.ports.iter_mut().flatten());
        let known = known.filter(|p| is_same(p)).collect::<Vec<_>>();
        let had = |host: i32| host > 0 && (port.host == 0 || host == i32::from(port.host));
        if known.iter().any(|p| p.host_port.is_some_and(had)) {
            continue;
        }
        match known.into_iter().find(|p| p.host_port.is_none()) {
            Some(known) => *known = ContainerPort { name: known.name.take(), ..published },
            None => {
                if let Some(first) = spec.containers.first_mut() {
                    first.ports.get_or_insert_default().push(published);
                }
            }
        }
    }
}

/// Finds where a port of the pod is published on this machine: the address, none for every address, and the port.
pub fn find_host_port(pod: &Pod, port: u16, udp: bool) -> Option<(Option<IpAddr>, u16)> {
    let spec = pod.spec.iter();
    let mut ports = spec
        .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
        .flat_map(|c| c.ports.iter().flatten());
    let found = ports.find(|p| {
        p.container_port == i32::from(port)
            && (p.protocol.as_deref() == Some("UDP")) == udp
            && p.host_port.is_some_and(|host| host > 0)
    })?;
    let ip =
        found.host_ip.as_deref().and_then(|ip| ip.parse().ok()).filter(|ip: &IpAddr| !ip.is_unspecified());
    Some((ip, found.host_port?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(ports: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "a", "ports": ports}]}})).unwrap()
    }

    #[test]
    fn a_published_port_is_one_of_the_container_and_is_found_again() {
        let mut web = pod(json!([{"name": "http", "containerPort": 80}]));
        let udp = HostPort { udp: true, ..HostPort::at(5353, 53) };
        let ports = [HostPort::at(8080, 80), udp, HostPort::any_for(90)];
        publish_ports(&mut web, &ports);
        publish_ports(&mut web, &ports);
        assert_eq!(find_host_port(&web, 80, false), Some((None, 8080)));
        assert_eq!(find_host_port(&web, 53, true), Some((None, 5353)));
        assert_eq!((find_host_port(&web, 53, false), find_host_port(&web, 90, false)), (None, None));
        let ports = web.spec.unwrap().containers[0].ports.clone().unwrap();
        assert_eq!(ports[0].name.as_deref(), Some("http"));
        assert_eq!(ports.len(), 3);
    }

    #[test]
    fn a_port_at_one_address_is_found_there() {
        let web = pod(json!([{"containerPort": 80, "hostPort": 81, "hostIP": "127.0.0.2"}]));
        assert_eq!(find_host_port(&web, 80, false), Some((Some("127.0.0.2".parse().unwrap()), 81)));
    }
}
