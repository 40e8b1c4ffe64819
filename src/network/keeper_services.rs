//! The keeper's Services: which there are, the addresses they have, and the ports that are no longer theirs.

use k8s_openapi::api::core::v1::Service;

use super::{
    keeper::State,
    ports::{self, HostPort},
    published::Served,
    registry::{fixed_number, has_address, key},
};
use crate::pod::{Namespace, ObjectName};

impl State {
    /// Reads the kept Services anew.
    pub(super) fn read_kept(&self) {
        let namespaces = self.home.namespaces().unwrap_or_default();
        let all = namespaces.iter().flat_map(|n| self.home.objects::<Service>(n).unwrap_or_default());
        self.registry.borrow_mut().kept = all.map(|service| (key(&service), service)).collect();
        self.settle_services();
    }

    /// Reads one kept Service anew, which may be gone.
    pub(super) fn read_kept_service(&self, namespace: &Namespace, name: &ObjectName) {
        let service = self.home.object::<Service>(namespace, name).ok().flatten();
        let own = format!("{namespace}/{name}");
        let mut registry = self.registry.borrow_mut();
        registry.kept.remove(&own);
        registry.kept.extend(service.map(|service| (own, service)));
        drop(registry);
        self.settle_services();
    }

    /// Gives each Service its addresses, and takes back those of Services that are gone, and their ports.
    pub(super) fn settle_services(&self) {
        let mut registry = self.registry.borrow_mut();
        let mut addresses = std::mem::take(&mut registry.virtual_addresses);
        let services = registry.services();
        let mut pool = self.pool.borrow_mut();
        addresses.retain(|key, own| {
            let stays = services.get(key).is_some_and(|service| has_address(service));
            if !stays {
                pool.give_back(own.number());
            }
            stays
        });
        // Who asks for an address goes before who takes any.
        let (fixed, free): (Vec<_>, Vec<_>) = services
            .iter()
            .filter(|(_, service)| has_address(service))
            .partition(|(_, service)| fixed_number(service).is_some());
        for (key, service) in fixed.into_iter().chain(free) {
            if !addresses.contains_key(key) {
                let before = fixed_number(service).and_then(|number| pool.again(number));
                addresses.extend(before.or_else(|| pool.service(key)).map(|own| (key.clone(), own)));
            }
        }
        self.services.borrow_mut().retain(|(service, _), relays| {
            let wanted = services.get(service).map(|s| ports::of_service(s)).unwrap_or_default();
            relays.retain(|Served { port, relay, .. }| {
                let same = |w: &HostPort| {
                    w.target == port.target && w.udp == port.udp && (w.host == 0 || w.host == port.host)
                };
                let stays = wanted.iter().any(same);
                if !stays {
                    relay.abort();
                }
                stays
            });
            !relays.is_empty()
        });
        drop(services);
        registry.virtual_addresses = addresses;
    }
}
