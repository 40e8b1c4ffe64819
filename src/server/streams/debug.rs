//! `…/ephemeralcontainers`: containers that are added to a pod that runs.

use k8s_openapi::api::core::v1::EphemeralContainer;
use serde_json::Value;

use crate::server::{
    Server,
    route::Target,
    status::{Cause, Failure},
};

/// Adds the ephemeral containers that an object has and the pod has not; gives the pod as it then is, or as it would be.
///
/// # Errors
/// Why they are not added.
pub fn add_containers(
    server: &Server,
    target: &Target,
    known: &Value,
    object: &Value,
    dry_run: bool,
) -> Result<Value, Failure> {
    let name = target.name.as_deref().unwrap_or_default();
    let list = |pod: &Value| pod["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
    let (present, wanted) = (list(known), list(object));
    let find = |all: &[Value], name: &Value| all.iter().any(|container| container["name"] == *name);
    if let Some(gone) = present.iter().find(|container| !find(&wanted, &container["name"])) {
        let message = format!("Forbidden: existing ephemeral containers {} may not be removed", gone["name"]);
        let cause = Cause { field: "spec.ephemeralContainers".into(), message };
        return Err(Failure::invalid(target.kind, name, &[cause]));
    }
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let failed = |e: crate::Error| Failure::bad_request(e.to_string());
    let handle = server.engine.pod(namespace, name).map_err(failed)?;
    let mut added = Vec::new();
    for container in wanted.iter().filter(|container| !find(&present, &container["name"])) {
        let mut container: EphemeralContainer = serde_json::from_value(container.clone())
            .map_err(|e| Failure::bad_request(format!("spec.ephemeralContainers: {e}")))?;
        container.termination_message_policy.get_or_insert_with(|| "File".into());
        if dry_run {
            added.push(serde_json::to_value(&container).unwrap_or_default());
            continue;
        }
        server.engine.fetch_debug_image(&container).map_err(|e| failed(e.into()))?;
        handle.add_ephemeral(container, false).map_err(failed)?;
    }
    if dry_run {
        let mut pod = known.clone();
        pod["spec"]["ephemeralContainers"] = [present, added].concat().into();
        return Ok(pod);
    }
    server.find_object_now(&Target { subresource: None, ..target.clone() })
}
