//! A kept ConfigMap or Secret has changed: the living pods that refer to it are told, and follow (R-VOL-2).

use std::os::fd::AsFd;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::{
    manifest::list_references,
    pod::Namespace,
    sandbox::Objects,
    state::{Home, Kept, Liveness, PodDir},
    wire::{self, Request},
};

/// Tells every living pod of the namespace that refers to the object that it is kept no longer.
pub fn tell_pods_of_removal<T: Kept>(home: &Home, namespace: &str, name: &str) {
    let gone = vec![(T::KIND.to_owned(), name.to_owned())];
    tell_referring::<T>(home, namespace, name, &Objects { gone, ..Objects::default() });
}

/// Tells every living pod of the namespace that refers to the object. One that cannot be reached has the
/// old one until it starts again.
pub fn tell_pods<T: Kept>(home: &Home, namespace: &Namespace, object: T) {
    let name = object.metadata().name.clone().unwrap_or_default();
    let Ok(object) = serde_json::to_value(object) else { return };
    let mut changed = Objects::default();
    // Pods hold nothing of the other kinds.
    match T::KIND {
        "ConfigMap" => changed.config_maps.extend(serde_json::from_value::<ConfigMap>(object).ok()),
        "Secret" => changed.secrets.extend(serde_json::from_value::<Secret>(object).ok()),
        _ => return,
    }
    tell_referring::<T>(home, namespace, &name, &changed);
}

fn tell_referring<T: Kept>(home: &Home, namespace: &str, name: &str, changed: &Objects) {
    let mentioned = |dir: &PodDir| {
        let pod = dir.read().unwrap_or_default();
        list_references(&pod).iter().any(|r| r.kind == T::KIND && r.name == name)
    };
    let all = home.pods().unwrap_or_default().into_iter();
    let living = all.filter(|dir| dir.namespace == *namespace && dir.read_liveness() == Liveness::Alive);
    for dir in living.filter(mentioned) {
        let Ok(socket) = wire::dial(&dir.control_socket()) else { continue };
        // One for each: they share no place in it.
        if let Ok(document) = wire::write_document(changed) {
            // A pod that is about to end needs no newer volumes.
            let _ = wire::send_request(&socket, &Request::Refresh, &[document.as_fd()]);
        }
    }
}
