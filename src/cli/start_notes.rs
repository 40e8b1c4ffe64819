//! The notes of a pod's start, on standard error: its warnings, and the ports that it has on this machine.

use super::warn;
use crate::{engine::start::Started, pod::Target};

/// Shows what a start has warned of, and where the pod's ports are published.
pub(super) fn print_start_notes(started: &Started) {
    for warning in &started.warnings {
        warn(warning);
    }
    for port in &started.published {
        let protocol = if port.udp { "UDP" } else { "TCP" };
        let target = match &port.target {
            Target::Pod(number) => format!("port {number} of pod {}", started.dir.name),
            Target::Service(service, number) => format!("port {number} of service {service}"),
        };
        eprintln!("published on port {}/{protocol}: {target}", port.host);
    }
}
