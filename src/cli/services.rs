//! Services on the command line: kept, shown, forgotten.

use k8s_openapi::api::core::v1::{Pod, Service};

use super::{
    Error, Namespace, apply,
    objects::{self, Kind},
    warn,
};
use crate::{
    engine::start::find_host_ip,
    manifest::Manifest,
    network::{Seen, kept_services, selects},
    pod::ObjectName,
    state::Home,
    view,
};

/// The Services there are, of one namespace or of all: kept ones, and those of living pods.
pub(super) fn all(home: &Home, namespace: Option<&Namespace>) -> Result<Vec<Seen>, Error> {
    let mut seen = kept_services::present(home)?.seen;
    seen.retain(|s| namespace.is_none_or(|n| s.service.metadata.namespace.as_deref() == Some(n.as_str())));
    Ok(seen)
}

/// Keeps Services, and has the network take them up.
pub(super) fn keep(home: &Home, namespace: &Namespace, all: Vec<Service>, fresh: bool) -> Result<(), Error> {
    if all.is_empty() {
        return Ok(());
    }
    for mut service in all {
        let own = service.metadata.namespace.get_or_insert_default();
        if matches!(own.as_str(), "" | "default") {
            own.clone_from(&namespace.to_string());
        }
        let own = Namespace::parse(own)?;
        let present = kept_services::present(home)?;
        kept_services::complete(home, &mut service, &present)?;
        let same = |known: &Service| known.spec == service.spec;
        apply::keep(home, &own, service.clone(), Kind::Service, fresh, same)?;
    }
    kept_services::publish(home).iter().for_each(|wrong| warn(wrong));
    kept_services::present(home)?;
    Ok(())
}

/// Takes those Services out of the files that are not their pods' own: they select none of these, or are kept.
pub(super) fn not_of_pods(
    home: &Home,
    namespace: &Namespace,
    manifest: &mut Manifest,
) -> Result<Vec<Service>, Error> {
    let in_jobs = manifest.jobs.iter().map(|job| &job.pod);
    let pods: Vec<Pod> = manifest.pods.iter().chain(in_jobs).cloned().collect();
    let selected = |s: &Service| pods.iter().any(|pod| selects(s, pod.metadata.labels.as_ref()));
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

/// Forgets a kept Service; says whether there was one.
pub(super) fn forget(home: &Home, namespace: &Namespace, name: &ObjectName) -> Result<bool, Error> {
    if home.forget::<Service>(namespace, name)? {
        kept_services::present(home)?;
        return Ok(true);
    }
    let named = |s: &Seen| s.service.metadata.name.as_deref() == Some(name.as_str());
    match all(home, Some(namespace))?.iter().any(named) {
        true => Err(Error::Said(format!(
            "service {:?} came with a pod and ends with it; delete the pod, or keep the Service with `podctl apply`",
            name.as_str()
        ))),
        false => Ok(false),
    }
}

/// `describe service`: all of the namespace, or those whose names begin so.
pub(super) fn describe(home: &Home, namespace: &Namespace, names: &[String]) -> Result<i32, Error> {
    let seen = all(home, Some(namespace))?;
    let name = |s: &Seen| s.service.metadata.name.clone().unwrap_or_default();
    let mut chosen: Vec<&Seen> = seen.iter().filter(|_| names.is_empty()).collect();
    let mut code = 0;
    for wanted in names {
        let exact = seen.iter().filter(|s| name(s) == *wanted);
        let mut found: Vec<&Seen> = exact.collect();
        if found.is_empty() {
            found = seen.iter().filter(|s| name(s).starts_with(wanted)).collect();
        }
        if found.is_empty() {
            super::complain(&objects::not_found(Kind::Service, wanted));
            code = 1;
        }
        chosen.extend(found);
    }
    if chosen.is_empty() && code == 0 {
        eprintln!("No resources found in {namespace} namespace.");
    }
    let host = find_host_ip().map(|ip| ip.to_string());
    let pages: Vec<String> =
        chosen.iter().map(|s| view::service_table::describe(s, host.as_deref())).collect();
    super::print(&pages.join("\n\n"));
    Ok(code)
}
