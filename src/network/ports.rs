//! Ports of the host: which a pod or a Service publishes, and taking them before anything starts.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Pod, Service};
use nix::{
    errno::Errno,
    sys::socket::{
        self, AddressFamily, Shutdown, SockFlag, SockType, SockaddrStorage, bind, getsockopt, setsockopt,
        sockopt,
    },
    unistd::{Uid, User},
};

use super::{Error, registry};
pub use crate::pod::{HostPort, Target};
use crate::{
    state::{Home, Liveness, PodDir},
    wire::start_listening,
};

/// The time for which a port may be in use by what has just ended, and how often it is tried for meanwhile.
const LETTING_GO: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(20);

/// The hostPorts of the pod's containers.
pub fn of_pod(pod: &Pod) -> Vec<HostPort> {
    let spec = pod.spec.iter();
    spec.flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            Some(HostPort {
                ip: p
                    .host_ip
                    .as_deref()
                    .and_then(|ip| ip.parse().ok())
                    .filter(|ip: &IpAddr| !ip.is_unspecified()),
                host: p.host_port.filter(|port| *port > 0)?.try_into().ok()?,
                udp: p.protocol.as_deref() == Some("UDP"),
                target: Target::Pod(p.container_port.try_into().ok()?),
            })
        })
        .collect()
}

/// The ports of a NodePort or LoadBalancer Service. A nodePort that is not chosen is any free one.
pub fn of_service(service: &Service) -> Vec<HostPort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let kind = spec.type_.as_deref().unwrap_or_default();
    let ports = spec.ports.iter().flatten();
    let port = |host: i32, p: &k8s_openapi::api::core::v1::ServicePort| HostPort {
        ip: None,
        host: host.try_into().unwrap_or(0),
        udp: registry::port_protocol(p) == "UDP",
        target: Target::Service(registry::key(service), p.port),
    };
    match kind {
        "NodePort" => ports.map(|p| port(p.node_port.unwrap_or(0), p)).collect(),
        "LoadBalancer" => ports
            .flat_map(|p| {
                [Some(p.port), p.node_port]
                    .into_iter()
                    .flatten()
                    .map(|host| port(host, p))
                    .collect::<Vec<_>>()
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Takes a port of the host, for a pod or a kept Service, so that nobody else can. Fills in the number where any would
/// do.
///
/// # Errors
/// [`Error::PortInUse`], [`Error::PortForbidden`], [`Error::Port`].
pub fn take(port: &mut HostPort, home: &Home, pod: Option<&PodDir>) -> Result<OwnedFd, Error> {
    let everywhere = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    let mut outcome = Err(Errno::EADDRNOTAVAIL);
    for ip in port.ip.map_or(everywhere.to_vec(), |ip| vec![ip]) {
        outcome = match port.host {
            0 => open_any(ip, port.udp).map(|(number, fd)| {
                port.host = number;
                fd
            }),
            number => open(SocketAddr::new(ip, number), port.udp),
        };
        // Without IPv6, IPv4 alone is everything.
        if !matches!(outcome, Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL)) {
            break;
        }
    }
    outcome.map_err(|errno| {
        let name = format!(
            "{}{}/{}",
            port.ip.map(|ip| format!("{ip}:")).unwrap_or_default(),
            port.host,
            if port.udp { "UDP" } else { "TCP" }
        );
        match errno {
            Errno::EADDRINUSE => Error::PortInUse { port: name, holder: find_holder(port, home, pod) },
            Errno::EACCES => {
                let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
                Error::PortForbidden {
                    port: name,
                    number: port.host,
                    first: first.ok().and_then(|t| t.trim().parse().ok()).unwrap_or(1024),
                }
            }
            Errno::EADDRNOTAVAIL => Error::Port {
                port: name,
                source: std::io::Error::other("no link of this machine has that address"),
            },
            other => Error::Port { port: name, source: other.into() },
        }
    })
}

/// Takes a port as [`take`] does; one that is in use is waited for, so that the port of a pod which has just ended can
/// be had: the network lets go of it a moment later.
///
/// # Errors
/// As [`take`].
pub fn take_patiently(port: &mut HostPort, home: &Home, pod: Option<&PodDir>) -> Result<OwnedFd, Error> {
    let deadline = Instant::now() + LETTING_GO;
    loop {
        match take(port, home, pod) {
            Err(Error::PortInUse { .. }) if Instant::now() < deadline => thread::sleep(AGAIN),
            taken => return taken,
        }
    }
}

/// Checks that a pod can have its ports of the host, beside those that it has from the pod whose place it is to take.
///
/// # Errors
/// As [`take`].
pub fn check(home: &Home, pod: &Pod, place: &PodDir) -> Result<(), Error> {
    let had = of_pod(&place.read()?);
    let has = |port: &HostPort| had.iter().any(|p| (p.host, p.udp) == (port.host, port.udp));
    for mut port in of_pod(pod).into_iter().filter(|port| port.host > 0 && !has(port)) {
        take(&mut port, home, Some(place))?;
    }
    Ok(())
}

/// Returns a free port. Its number is asked for twice: one that the kernel has chosen it takes back when listening ends.
fn open_any(ip: IpAddr, udp: bool) -> nix::Result<(u16, OwnedFd)> {
    let mut outcome = Err(Errno::EADDRINUSE);
    for _ in 0..16 {
        let probe = open(SocketAddr::new(ip, 0), true)?;
        let number = UdpSocket::from(probe).local_addr().map_or(0, |a| a.port());
        outcome = open(SocketAddr::new(ip, number), udp).map(|fd| (number, fd));
        if !matches!(outcome, Err(Errno::EADDRINUSE)) {
            break;
        }
    }
    outcome
}

fn open(address: SocketAddr, udp: bool) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if udp { SockType::Datagram } else { SockType::Stream };
    let fd = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if !udp {
        // Connections that linger in TIME_WAIT are no reason to refuse.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &!address.ip().is_unspecified())?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    if !udp {
        // Only now it is known whether somebody else listens.
        listen(&fd)?;
        refuse(&fd)?;
    }
    Ok(fd)
}

/// Has the kernel take connections to a port.
///
/// # Errors
/// Those of listen(2).
pub fn listen(socket: &OwnedFd) -> nix::Result<()> {
    // Connections of before are no reason to refuse.
    setsockopt(socket, sockopt::ReuseAddr, &true)?;
    start_listening(socket, 1024)
}

/// Has the kernel refuse connections to a port, which stays taken: without SO_REUSEADDR nobody else can bind to it.
///
/// # Errors
/// Those of setsockopt(2).
pub fn refuse(socket: &OwnedFd) -> nix::Result<()> {
    setsockopt(socket, sockopt::ReuseAddr, &false)?;
    // Of one that does not listen, every later connection would begin at its end.
    match getsockopt(socket, sockopt::AcceptConn)? {
        true => socket::shutdown(socket.as_raw_fd(), Shutdown::Read),
        false => Ok(()),
    }
}

/// Names who has the port: a pod, else a process that this user may look into.
fn find_holder(port: &HostPort, home: &Home, own: Option<&PodDir>) -> Option<String> {
    for dir in home.pods().unwrap_or_default() {
        let same = |p: &HostPort| p.host == port.host && p.udp == port.udp;
        if own.is_none_or(|own| dir.path != own.path)
            && dir.read_liveness() == Liveness::Alive
            && dir.read().is_ok_and(|pod| of_pod(&pod).iter().any(same))
        {
            return Some(format!("pod \"{}\"", dir.name));
        }
    }
    let tables = if port.udp { ["udp", "udp6"] } else { ["tcp", "tcp6"] };
    let (inode, owner) = tables.iter().find_map(|table| {
        let text = fs::read_to_string(format!("/proc/net/{table}")).ok()?;
        text.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, number) = fields.get(1)?.split_once(':')?;
            const LISTENING: &str = "0A";
            let here =
                u16::from_str_radix(number, 16) == Ok(port.host) && (port.udp || fields[3] == LISTENING);
            here.then(|| Some((fields.get(9)?.to_string(), fields.get(7)?.parse().ok()?)))?
        })
    })?;
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut ids = processes.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let found = ids.find(|id| {
        let open = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        open.filter_map(|l| fs::read_link(l.path()).ok()).any(|to| to.as_os_str() == link.as_str())
    });
    let Some(id) = found else {
        // Only root sees what others have open.
        let owner = User::from_uid(Uid::from_raw(owner)).ok().flatten()?;
        return Some(format!("a process of {}", owner.name));
    };
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    Some(format!("{} (process {id})", name.trim()))
}

/// The socket that [`take`] has made.
#[derive(Debug)]
pub enum Taken {
    /// Connections come in here, while it listens.
    Tcp(OwnedFd),
    /// Datagrams come in here.
    Udp(UdpSocket),
}

impl Taken {
    /// Tells which of the two it is, the port says.
    pub fn new(port: &HostPort, fd: OwnedFd) -> Taken {
        if port.udp { Taken::Udp(fd.into()) } else { Taken::Tcp(fd) }
    }
}

/// Reads `[IP:]HOST:POD[/udp]`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<HostPort, String> {
    let usage = || format!("{text:?} is not [IP:]HOST:POD[/tcp|/udp]");
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let udp = match protocol {
        "tcp" => false,
        "udp" => true,
        _ => return Err(usage()),
    };
    let (rest, pod) = ports.rsplit_once(':').ok_or_else(usage)?;
    let (ip, host) = rest.rsplit_once(':').map_or((None, rest), |(ip, host)| (Some(ip), host));
    let number = |text: &str| text.parse::<u16>().ok().filter(|n| *n > 0).ok_or_else(usage);
    let ip = ip.map(|ip| ip.trim_matches(['[', ']']).parse().map_err(|_| usage())).transpose()?;
    Ok(HostPort { ip, host: number(host)?, udp, target: Target::Pod(number(pod)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_are_read_as_they_are_written() {
        let port = |ip: Option<&str>, udp| {
            Ok(HostPort { ip: ip.map(|ip| ip.parse().unwrap()), host: 8080, udp, target: Target::Pod(80) })
        };
        assert_eq!(parse("8080:80"), port(None, false));
        assert_eq!(parse("127.0.0.1:8080:80/udp"), port(Some("127.0.0.1"), true));
        assert_eq!(parse("[::1]:8080:80"), port(Some("::1"), false));
        for wrong in ["80", "a:80", "8080:0", "8080:80/sctp", "1.2.3:8080:80"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
