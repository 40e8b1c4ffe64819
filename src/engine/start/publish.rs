//! The ports of the host that a pod and its Services publish, taken before anything starts.

use k8s_openapi::api::core::v1::Pod;

use super::{error::Error, launch::Plan};
use crate::network::{
    Connection, kept_services,
    ports::{self, HostPort, Target},
};

/// Tells whether the pod or its Services may publish ports of the host, or ask for addresses.
pub(super) fn has_ports(plan: &Plan<'_>, pod: &Pod) -> bool {
    let options = plan.options;
    options.publish_all
        || !options.publish.is_empty()
        || !plan.objects.services.is_empty()
        || !ports::of_pod(pod).is_empty()
}

/// Takes the ports of the host that the pod and its Services publish, and hands them to the network.
/// Gives those whose numbers were chosen here.
pub(super) fn publish(plan: &Plan<'_>, network: &Connection, pod: &mut Pod) -> Result<Vec<HostPort>, Error> {
    let (home, dir, objects) = (plan.home, plan.dir, plan.objects);
    kept_services::check_addresses(home, &objects.services)?;
    let mut chosen = Vec::new();
    let known =
        |port: &HostPort| network.published.iter().any(|p| p.target == port.target && p.udp == port.udp);
    let of_services = objects.services.iter().flat_map(ports::of_service).filter(|p| !known(p));
    for mut port in ports::of_pod(pod).into_iter().chain(of_services) {
        let any = port.host == 0;
        let fd = ports::take_patiently(&mut port, home, Some(dir))?;
        network.publish(&port, &fd)?;
        chosen.extend(any.then_some(port));
    }
    let free_ones: Vec<&HostPort> = plan.options.publish.iter().filter(|port| port.host == 0).collect();
    if plan.options.publish_all || !free_ones.is_empty() {
        let spec = pod.spec.iter_mut();
        let containers = spec.flat_map(|s| s.init_containers.iter_mut().flatten().chain(&mut s.containers));
        for port in containers.flat_map(|c| c.ports.iter_mut().flatten()) {
            let Ok(number) = u16::try_from(port.container_port) else { continue };
            if port.host_port.is_some_and(|p| p > 0) {
                continue;
            }
            let udp = port.protocol.as_deref() == Some("UDP");
            let wanted = free_ones.iter().find(|p| p.udp == udp && p.target == Target::Pod(number));
            if !plan.options.publish_all && wanted.is_none() {
                continue;
            }
            let mut free = HostPort { udp, ip: wanted.and_then(|p| p.ip), ..HostPort::any_for(number) };
            let fd = ports::take(&mut free, home, Some(dir))?;
            network.publish(&free, &fd)?;
            port.host_port = Some(free.host.into());
            chosen.push(free);
        }
    }
    Ok(chosen)
}
