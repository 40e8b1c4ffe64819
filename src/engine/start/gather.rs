//! What a pod refers to, brought together for its supervisor: from its files first, then from the
//! local store. No more than it refers to: another pod's Secrets are none of its business.

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use podctl_images::{Reference, Store};

use super::Error;
use crate::{
    manifest::{self, Manifest, named},
    pod::{Namespace, ObjectName, image_volumes},
    sandbox::Objects,
    state::{self, Home},
};

/// Gathers the pod's objects; makes the local volumes of its claims where they are missing.
///
/// # Errors
/// [`Error::State`], [`Error::Images`].
pub fn gather(home: &Home, pod: &Pod, from: [&Manifest; 2]) -> Result<Objects, Error> {
    let namespace = &Namespace::of_pod(pod).map_err(state::Error::from)?;
    let mut objects = Objects::default();
    for reference in manifest::list_references(pod) {
        let (kind, name) = (reference.kind, reference.name);
        match kind {
            "ConfigMap" if objects.config_maps.iter().all(|o| o.metadata.name.as_deref() != Some(name)) => {
                let known = from.iter().find_map(|m| named(&m.config_maps, namespace, name));
                objects.config_maps.extend(known.cloned());
            }
            "Secret" if objects.secrets.iter().all(|o| o.metadata.name.as_deref() != Some(name)) => {
                let known = from.iter().find_map(|m| named(&m.secrets, namespace, name));
                objects.secrets.extend(known.cloned());
            }
            "PersistentVolumeClaim" => {
                let volume = ObjectName::parse(name).map_err(state::Error::from)?;
                let volume = home.volume(namespace, &volume);
                match from.iter().find_map(|m| named(&m.claims, namespace, name)) {
                    Some(claim) if volume.claim()?.is_none() => volume.make(claim)?,
                    _ => volume.make_if_missing()?,
                }
                objects.claims.insert(name.to_owned(), volume);
            }
            _ => {}
        }
    }
    let store = Store::open(&home.images())?;
    for volume in image_volumes(pod) {
        if let Some(image) = store.find(&volume.image.parse::<Reference>()?)? {
            objects.images.insert(volume.volume, image);
        }
    }
    let services = from.iter().flat_map(|m| &m.services).cloned();
    objects.services = services.map(|service| in_namespace(service, namespace)).collect();
    Ok(objects)
}

fn in_namespace(mut service: Service, namespace: &str) -> Service {
    let meta = &mut service.metadata;
    if meta.namespace.as_deref().is_none_or(|n| n == "default") {
        meta.namespace = Some(namespace.to_owned());
    }
    meta.creation_timestamp.get_or_insert_with(|| Time(Timestamp::now()));
    service
}
