//! Services on the command line: kept, shown, forgotten.

use k8s_openapi::api::core::v1::{Pod, Service};

use crate::{
    cli::{Error, Namespace, result_lines::print_applied, stored_objects::already_exists, warn},
    engine::{Applied, Engine},
    manifest::Manifest,
    network::does_select,
    pod::{ObjectKind, ObjectName},
    state::Home,
};

/// Keeps Services, and says so.
pub(super) fn keep_services(
    home: &Home,
    namespace: &Namespace,
    all: Vec<Service>,
    fresh: bool,
) -> Result<(), Error> {
    for service in all {
        let (_, name, applied) = keep_service(home, namespace, service, fresh)?;
        print_applied(ObjectKind::Service, &name, applied);
    }
    Ok(())
}

/// Keeps a Service, and has the network take it up; returns which it is and what became of it.
pub(super) fn keep_service(
    home: &Home,
    namespace: &Namespace,
    service: Service,
    fresh: bool,
) -> Result<(Namespace, ObjectName, Applied), Error> {
    let meta = &service.metadata;
    let own = meta.namespace.as_deref().filter(|own| !matches!(*own, "" | "default"));
    let own = own.map_or_else(|| Ok(namespace.clone()), Namespace::parse)?;
    let name = ObjectName::of_object(meta)?;
    if fresh && home.object::<Service>(&own, &name)?.is_some() {
        return Err(already_exists(ObjectKind::Service, &name));
    }
    let (applied, warnings) = Engine::over(home).apply_service(&own, service)?;
    warnings.iter().for_each(|wrong| warn(wrong));
    Ok((own, name, applied))
}

/// Takes those Services out of the files that are not their pods' own: they select none of these, or are kept.
pub(super) fn take_kept_services(
    home: &Home,
    namespace: &Namespace,
    manifest: &mut Manifest,
) -> Result<Vec<Service>, Error> {
    let in_jobs = manifest.jobs.iter().map(|job| &job.pod);
    let pods: Vec<Pod> = manifest.pods.iter().chain(in_jobs).cloned().collect();
    let selected = |s: &Service| pods.iter().any(|pod| does_select(s, pod.metadata.labels.as_ref()));
    let selector =
        |s: &Service| s.spec.as_ref().and_then(|s| s.selector.as_ref()).is_some_and(|s| !s.is_empty());
    let mut kept = Vec::new();
    for service in std::mem::take(&mut manifest.services) {
        let meta = &service.metadata;
        let own = meta.namespace.as_deref().filter(|n| *n != "default").unwrap_or(namespace);
        let known = home.object::<Service>(&Namespace::parse(own)?, &ObjectName::of_object(meta)?)?;
        if pods.is_empty() || known.is_some() || (selector(&service) && !selected(&service)) {
            kept.push(service);
        } else {
            manifest.services.push(service);
        }
    }
    Ok(kept)
}
