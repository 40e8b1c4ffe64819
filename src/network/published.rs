//! The keeper's published ports: of pods, and of Services, whose ports outlive the pods they came with.

use std::{cell::RefCell, collections::HashMap, io, os::fd::OwnedFd, rc::Rc, time::Instant};

use tokio::task::{JoinHandle, spawn_local};

use super::{
    endpoint_choice::Choice,
    keeper::{OnNetwork, State},
    ports::{HostPort, Taken, Target},
    registry::key,
    relay,
};

/// The published port that is served.
pub(super) type Relay = JoinHandle<io::Result<()>>;

/// The published port of a Service.
pub(super) struct Served {
    pub(super) port: HostPort,
    /// Holds one for every pod that the Service came with, so that the port outlives the keeper and the other pods.
    fd: OwnedFd,
    pub(super) relay: Relay,
}

/// Published ports of Services, by the Service's key and port.
pub(super) type Published = HashMap<(String, i32), Vec<Served>>;

impl State {
    /// Ports of Services.
    pub(super) fn served_ports(&self) -> Vec<HostPort> {
        self.services.borrow().values().flatten().map(|served| served.port.clone()).collect()
    }

    /// Serves a port for the pod, or for a Service.
    pub(super) fn publish(
        self: &Rc<State>,
        port: HostPort,
        fd: OwnedFd,
        pod: &mut OnNetwork,
    ) -> io::Result<()> {
        let (state, changed, room) = (self.clone(), self.changed.clone(), self.room.clone());
        let number = self.next_port.get();
        self.next_port.set(number + 1);
        match port.target.clone() {
            Target::Pod(inner) => {
                let address = pod.address.clone();
                let own = move || Some((address.get()?, inner).into());
                let aim = Box::new({
                    let own = own.clone();
                    move |_| own()
                });
                let answers = Box::new(move || own().is_some_and(|to| state.listens(to)));
                let goal = relay::Goal { aim, answers, changed, room, number };
                pod.relays.push(spawn_local(relay::serve(Taken::new(&port, fd), self.inside.clone(), goal)));
            }
            Target::Service(service, own) => {
                // A Service that comes with a pod is known when the pod is.
                let known = self.registry.borrow().services().contains_key(&service);
                if !known || self.served_ports().contains(&port) {
                    return Ok(());
                }
                let (name, udp, choice) = (service.clone(), port.udp, RefCell::new(Choice::default()));
                let (behind, of) = (self.clone(), name.clone());
                let aim = Box::new(move |client| {
                    let (endpoints, affinity) = behind.registry.borrow().published(&of, own, udp);
                    choice.borrow_mut().next(&endpoints, client, affinity, Instant::now())
                });
                let answers = Box::new(move || {
                    let (endpoints, _) = state.registry.borrow().published(&name, own, udp);
                    endpoints.into_iter().any(|to| state.listens(to))
                });
                let goal = relay::Goal { aim, answers, changed, room, number };
                let taken = Taken::new(&port, fd.try_clone()?);
                let relay = spawn_local(relay::serve(taken, self.inside.clone(), goal));
                let served = Served { port, fd, relay };
                self.services.borrow_mut().entry((service, own)).or_default().push(served);
            }
        }
        Ok(())
    }

    /// Publishes the ports of Services that have come with this pod.
    pub(super) fn publish_waiting(self: &Rc<State>, pod: &mut OnNetwork) -> io::Result<()> {
        for (port, fd) in std::mem::take(&mut pod.ports) {
            if matches!(port.target, Target::Service(..)) {
                self.publish(port.clone(), fd.try_clone()?, pod)?;
            }
            pod.ports.push((port, fd));
        }
        Ok(())
    }

    /// Returns what the supervisor is to have, so that it outlives the keeper: the pod's ports, and those
    /// of its Services, whoever has published them.
    pub(super) fn ports_to_keep(&self, pod: &mut OnNetwork) -> io::Result<Vec<(HostPort, OwnedFd)>> {
        let mut ports = std::mem::take(&mut pod.ports);
        let (registry, services) = (self.registry.borrow(), self.services.borrow());
        let member = pod.number.and_then(|number| registry.members.get(&number));
        let own: Vec<String> = member.iter().flat_map(|m| &m.pod.services).map(key).collect();
        for served in services.iter().filter(|((of, _), _)| own.contains(of)).flat_map(|(_, all)| all) {
            if !ports.iter().any(|(port, _)| *port == served.port) {
                ports.push((served.port.clone(), served.fd.try_clone()?));
            }
        }
        Ok(ports)
    }
}
