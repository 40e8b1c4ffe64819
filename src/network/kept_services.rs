//! Services that are kept: what they are given, their ports of the host, and what the network says of them.
//!
//! The keeper reads them from the store itself; it has to be told that they have changed, and to be
//! given ports, which can be taken in the host's network only.

use std::{fs, path::Path};

use k8s_openapi::{
    api::core::v1::{Service, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    Connection, Error, PATIENCE, Reply, Request, Seen, WELCOME,
    address_range::{Addresses, Pool, Range, hash_name},
    await_welcome, hear,
    ports::{self, HostPort, Target},
    registry::{fixed_number, has_address, key, port_protocol},
    socket_path, step,
};
use crate::{
    pod::{Namespace, ObjectName},
    state::{self, Home},
    wire::{dial, send},
};

/// The place where a NodePort that is not chosen lies, as in a cluster.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Holds what is known of the network when a Service is kept.
#[derive(Debug)]
pub struct Present {
    gateway: Option<Addresses>,
    /// Every Service there is.
    pub seen: Vec<Seen>,
}

/// The Services there are: what the network says, or without a network those that are kept. Kept ones that have
/// changed are taken up.
///
/// # Errors
/// [`Error::Step`], [`Error::State`].
pub fn list_present(home: &Home) -> Result<Present, Error> {
    if let Some(connection) = reach(home)? {
        return ask_network(&connection);
    }
    let seen = kept(home)?.into_iter().map(|service| Seen { service, kept: true, backends: Vec::new() });
    Ok(Present { gateway: None, seen: seen.collect() })
}

fn ask_network(connection: &Connection) -> Result<Present, Error> {
    send(&connection.socket, &Request::Services, &[]).map_err(step("ask the pods' network"))?;
    let gone =
        || step("hear from the pods' network")(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
    let next = || hear(&connection.socket, PATIENCE).map_err(step("hear from the pods' network"));
    let Some((Reply::Services(count), _)) = next()? else { return Err(gone()) };
    let mut seen = Vec::new();
    for _ in 0..count {
        let Some((Reply::Service(one), _)) = next()? else { return Err(gone()) };
        seen.push(*one);
    }
    Ok(Present { gateway: connection.gateway, seen })
}

/// Finds the Service of that name, as [`list_present`] has it.
///
/// # Errors
/// Those of [`list_present`].
pub fn find_present(home: &Home, namespace: &Namespace, name: &ObjectName) -> Result<Option<Seen>, Error> {
    let Some(connection) = reach(home)? else {
        let kept = home.object::<Service>(namespace, name)?;
        return Ok(kept.map(|service| Seen { service, kept: true, backends: Vec::new() }));
    };
    let own = format!("{namespace}/{name}");
    Ok(ask_network(&connection)?.seen.into_iter().find(|seen| key(&seen.service) == own))
}

/// Has the network take up a kept Service that has changed or is gone, if there is a network.
///
/// # Errors
/// [`Error::Step`].
pub fn tell_network(home: &Home, namespace: &Namespace, name: &ObjectName) -> Result<(), Error> {
    let Some(connection) = reach(home)? else { return Ok(()) };
    let request = Request::Kept { namespace: namespace.clone(), name: name.clone() };
    send(&connection.socket, &request, &[]).map_err(step("tell the pods' network"))?;
    match hear(&connection.socket, PATIENCE).map_err(step("hear from the pods' network"))? {
        Some((Reply::Services(_), _)) => Ok(()),
        // One that is older knows the other request alone.
        _ => list_present(home).map(drop),
    }
}

/// Takes the ports of the host that kept Services ask for and do not have, for the network to serve. Gives what
/// does not work. Without a network nothing is to be done.
pub fn publish(home: &Home) -> Vec<String> {
    let wanted: Vec<HostPort> = kept(home).unwrap_or_default().iter().flat_map(ports::of_service).collect();
    if !wanted.is_empty() {
        // What it knows of must be wanted.
        let _ = list_present(home);
    }
    publish_ports(home, wanted)
}

/// Takes the ports of the host that are wanted, as [`publish`] does. The network knows of their Services.
pub fn publish_ports(home: &Home, wanted: Vec<HostPort>) -> Vec<String> {
    let mut wrong = Vec::new();
    if wanted.is_empty() {
        return wrong;
    }
    // A connection of its own: these ports are nobody's who comes and goes.
    let Ok(Some(connection)) = reach(home) else { return wrong };
    for mut port in wanted {
        if connection.published.contains(&port) {
            continue;
        }
        let published = ports::take(&mut port, home, None).and_then(|fd| connection.publish(&port, &fd));
        wrong.extend(published.err().map(|e| e.to_string()));
    }
    // It has taken them when it answers.
    let _ = send(&connection.socket, &Request::Services, &[]).map(|()| hear(&connection.socket, PATIENCE));
    wrong
}

fn reach(home: &Home) -> Result<Option<Connection>, Error> {
    Ok(dial(&socket_path(home)).ok().map(|socket| await_welcome(socket, WELCOME)).transpose()?.flatten())
}

fn kept(home: &Home) -> Result<Vec<Service>, state::Error> {
    let mut all = Vec::new();
    for namespace in home.namespaces()? {
        all.extend(home.objects::<Service>(&namespace)?);
    }
    Ok(all)
}

/// The address that the Service's author has chosen.
fn asked(spec: &ServiceSpec) -> Option<&str> {
    spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None")
}

/// Checks that Services which come with a pod can have the addresses that they ask for.
///
/// # Errors
/// [`Error::Address`], and those of [`list_present`].
pub fn check_addresses(home: &Home, services: &[Service]) -> Result<(), Error> {
    let asks = |service: &&Service| has_address(service) && service.spec.as_ref().and_then(asked).is_some();
    let asking: Vec<&Service> = services.iter().filter(asks).collect();
    if asking.is_empty() {
        return Ok(());
    }
    let present = list_present(home)?;
    for service in asking {
        let own = key(service);
        let (same, others): (Vec<&Seen>, Vec<&Seen>) =
            present.seen.iter().partition(|s| key(&s.service) == own);
        let asked = service.spec.as_ref().and_then(asked).unwrap_or_default();
        unchanged(&own, asked, &same)?;
        available(&own, asked, &others, present.gateway)?;
    }
    Ok(())
}

fn unchanged(own: &str, asked: &str, same: &[&Seen]) -> Result<(), Error> {
    let before = same.iter().find_map(|s| s.service.spec.as_ref().and_then(self::asked));
    match before {
        Some(before) if before != asked => Err(Error::AddressChanges {
            service: own.to_owned(),
            address: asked.to_owned(),
            before: before.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The number of an address that a Service may have.
fn available(own: &str, asked: &str, others: &[&Seen], gateway: Option<Addresses>) -> Result<u16, Error> {
    let refused = |why: String| Error::Address { service: own.to_owned(), address: asked.to_owned(), why };
    let (range, _) =
        address_range(gateway).ok_or_else(|| refused("there is no range of addresses".into()))?;
    let number = asked.parse().ok().and_then(|v4| range.number_of_service(v4));
    let number = number.ok_or_else(|| {
        let [(base, prefix), _] = range.services();
        refused(format!("provided IP is not in the valid range. The range of valid IPs is {base}/{prefix}"))
    })?;
    match others.iter().any(|s| fixed_number(&s.service) == Some(number)) {
        true => Err(refused("provided IP is already allocated".into())),
        false => Ok(number),
    }
}

/// The network's range, or the one that it would have, and whether it has IPv6.
fn address_range(gateway: Option<Addresses>) -> Option<(Range, bool)> {
    match gateway {
        Some(gateway) => Some((Range::of_gateway(gateway.v4)?, gateway.v6.is_some())),
        None => {
            let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
            Some((Range::routed_ranges(&routes).next()?, Path::new("/proc/net/if_inet6").exists()))
        }
    }
}

/// Fills in what an API server would: defaults, and addresses and node ports, which stay as they were. Its
/// namespace is set. Ports of the host that nobody could take are an error.
///
/// # Errors
/// [`Error::PortInUse`], [`Error::PortForbidden`], [`Error::Port`]; [`Error::Address`] and [`Error::AddressChanges`].
pub fn complete_service(home: &Home, service: &mut Service, present: &Present) -> Result<(), Error> {
    let own = key(service);
    let (same, others): (Vec<&Seen>, Vec<&Seen>) = present.seen.iter().partition(|s| key(&s.service) == own);
    let had: Vec<HostPort> = same.iter().flat_map(|s| ports::of_service(&s.service)).collect();
    let addressed = has_address(service);
    let Some(spec) = &mut service.spec else { return Ok(()) };
    let kind = spec.type_.get_or_insert_with(|| "ClusterIP".into()).clone();
    if kind != "ExternalName" {
        spec.session_affinity.get_or_insert_with(|| "None".into());
    }
    if addressed {
        let before = same.iter().find_map(|s| fixed_number(&s.service));
        asked(spec).map_or(Ok(()), |address| unchanged(&own, address, &same))?;
        let asked =
            asked(spec).filter(|_| before.is_none()).map(|a| available(&own, a, &others, present.gateway));
        let before = before.or(asked.transpose()?);
        let address = address(&own, before, &others, present.gateway);
        spec.cluster_ip = address.map(|a| a.v4.to_string());
        spec.cluster_ips = address.map(|a| a.all().map(|a| a.to_string()).collect());
    }
    let mut taken: Vec<(i32, String)> =
        others.iter().flat_map(|s| node_ports(&s.service)).map(|(_, p)| p).collect();
    for port in spec.ports.iter_mut().flatten() {
        let (number, protocol) = (port.port, port_protocol(port).to_owned());
        port.target_port.get_or_insert(IntOrString::Int(number));
        port.protocol = Some(protocol.clone());
        match port.node_port.filter(|p| *p != 0) {
            Some(chosen) => require_unused((chosen, protocol), &others)?,
            None if kind == "NodePort" => {
                let known = same.iter().flat_map(|s| node_ports(&s.service));
                let mut again =
                    known.filter(|(of, (_, p))| (*of, p) == (number, &protocol)).map(|(_, (n, _))| n);
                let free = || free_node_port(home, &own, number, &protocol, &taken);
                port.node_port = again.next().or_else(free);
                taken.extend(port.node_port.map(|n| (n, protocol)));
            }
            None => {}
        }
    }
    let has = |port: &HostPort| had.iter().any(|h| h.host == port.host && h.udp == port.udp);
    for mut port in ports::of_service(service).into_iter().filter(|p| !has(p)) {
        ports::take(&mut port, home, None)?;
    }
    Ok(())
}

/// The address it had before, else one by its name that no other Service has.
fn address(
    own: &str,
    before: Option<u16>,
    others: &[&Seen],
    gateway: Option<Addresses>,
) -> Option<Addresses> {
    let taken: Vec<u16> = others.iter().filter_map(|s| fixed_number(&s.service)).collect();
    let (range, v6) = address_range(gateway)?;
    let mut pool = Pool::new(range, v6, &taken);
    before.and_then(|number| pool.again(number)).or_else(|| pool.service(own))
}

/// Lists of each port that has one the node port, with its protocol.
fn node_ports(service: &Service) -> Vec<(i32, (i32, String))> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports
        .filter_map(|p| Some((p.port, (p.node_port.filter(|n| *n != 0)?, port_protocol(p).to_owned()))))
        .collect()
}

fn require_unused(wanted: (i32, String), others: &[&Seen]) -> Result<(), Error> {
    let has = |s: &&&Seen| node_ports(&s.service).iter().any(|(_, port)| *port == wanted);
    match others.iter().find(has) {
        Some(other) => Err(Error::PortInUse {
            port: format!("{}/{}", wanted.0, wanted.1),
            holder: Some(format!("service {:?}", key(&other.service))),
        }),
        None => Ok(()),
    }
}

/// The one that nobody has, by the port's name, so that it is the same again unless somebody has it then.
fn free_node_port(
    home: &Home,
    own: &str,
    number: i32,
    protocol: &str,
    taken: &[(i32, String)],
) -> Option<i32> {
    let count = NODE_PORTS.len() as u64;
    let first = hash_name(&format!("{own} {number} {protocol} {}", nix::unistd::geteuid())) % count;
    let mut all = (0..count).map(|step| NODE_PORTS.start() + ((first + step) % count) as u16);
    let free = all.find(|host| {
        let target = Target::Service(own.to_owned(), number);
        let mut port = HostPort { ip: None, host: *host, udp: protocol == "UDP", target };
        !taken.contains(&((*host).into(), protocol.to_owned())) && ports::take(&mut port, home, None).is_ok()
    });
    free.map(Into::into)
}
