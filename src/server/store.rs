//! Every kind's objects as clients see them: the engine's, and those that are made of what the machine is.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    complete::{complete_object, stable_uid},
    kinds::Kind,
    node,
    status::{Cause, Failure},
};
use crate::{
    engine::{Engine, ObjectError},
    manifest::Diagnostic,
    view::service_table,
};

/// The objects of a kind, of one namespace or of all, ordered by namespace and name.
///
/// # Errors
/// What the engine says.
pub fn list_objects(engine: &Engine, kind: &Kind, namespace: Option<&str>) -> Result<Vec<Value>, Failure> {
    let failed = |e: ObjectError| to_failure(kind, "", e);
    let mut all = match (kind.group, kind.kind) {
        ("", "Service" | "Endpoints") | ("discovery.k8s.io", "EndpointSlice") => {
            let seen = engine.list_services(namespace).map_err(failed)?;
            let host = engine.host_address();
            match kind.kind {
                "Service" => seen.iter().map(|s| service_table::object(s, host.as_deref())).collect(),
                "Endpoints" => seen.iter().filter_map(service_table::endpoints).collect(),
                _ => seen.iter().flat_map(service_table::slice_rows).collect(),
            }
        }
        ("", "Node") => vec![node::describe_node(engine)],
        ("", "ServiceAccount") => {
            let names = engine.namespace_names().map_err(failed)?.into_iter();
            let own = names.filter(|name| namespace.is_none_or(|n| n == name));
            own.map(|name| json!({"metadata": {"name": "default", "namespace": name}})).collect()
        }
        ("metrics.k8s.io", "PodMetrics") => node::measure_pods(engine, namespace)?,
        ("metrics.k8s.io", "NodeMetrics") => vec![node::measure_node()],
        ("", _) => engine.list_api_objects(kind.kind, namespace).map_err(failed)?,
        _ => Vec::new(),
    };
    for object in &mut all {
        finish_object(kind, object);
    }
    all.sort_by_cached_key(object_key);
    Ok(all)
}

/// An object.
///
/// # Errors
/// [`Failure::not_found`]; what the engine says.
pub fn find_object(engine: &Engine, kind: &Kind, namespace: &str, name: &str) -> Result<Value, Failure> {
    let all = list_objects(engine, kind, kind.namespaced.then_some(namespace))?;
    let found = all.into_iter().find(|object| object["metadata"]["name"] == name);
    found.ok_or_else(|| Failure::not_found(kind, name))
}

/// Makes an object, or only says what it would be.
///
/// # Errors
/// What the engine says.
pub fn create_object(
    engine: &Engine,
    kind: &Kind,
    namespace: &str,
    object: &Value,
    dry: bool,
) -> Result<Value, Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let made = engine.create_api_object(kind.kind, namespace, object, dry);
    finished(kind, name, made)
}

/// Puts an object in the place of the one of its name, or only says what it would be.
///
/// # Errors
/// What the engine says.
pub fn replace_object(
    engine: &Engine,
    kind: &Kind,
    namespace: &str,
    object: &Value,
    dry: bool,
) -> Result<Value, Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let made = engine.replace_object(kind.kind, namespace, object, dry);
    finished(kind, name, made)
}

/// Takes an object away.
///
/// # Errors
/// What the engine says.
pub fn delete_object(
    engine: &Engine,
    kind: &Kind,
    namespace: &str,
    name: &str,
    grace: Option<Duration>,
) -> Result<(), Failure> {
    engine.delete_api_object(kind.kind, namespace, name, grace).map_err(|e| to_failure(kind, name, e))
}

/// Namespace, empty for kinds without, and name.
pub fn object_key(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

fn finished(kind: &Kind, name: &str, made: Result<Value, ObjectError>) -> Result<Value, Failure> {
    let mut object = made.map_err(|e| to_failure(kind, name, e))?;
    finish_object(kind, &mut object);
    Ok(object)
}

fn finish_object(kind: &Kind, object: &mut Value) {
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    if kind.group != "metrics.k8s.io" && !object["metadata"]["uid"].is_string() {
        object["metadata"]["uid"] = stable_uid(kind.kind, object).into();
    }
    if kind.group != "metrics.k8s.io" && object["metadata"]["creationTimestamp"].is_null() {
        object["metadata"]["creationTimestamp"] = node::start_time().into();
    }
    complete_object(kind.kind, object);
}

/// The answer to what the engine refuses.
pub fn to_failure(kind: &Kind, name: &str, error: ObjectError) -> Failure {
    match error {
        ObjectError::NotFound => Failure::not_found(kind, name),
        ObjectError::Exists => Failure::already_exists(kind, name),
        ObjectError::Invalid(all) => invalid_object(kind, name, &all),
        ObjectError::Unchangeable { field, message } => {
            Failure::invalid(kind, name, &[Cause { field, message }])
        }
        ObjectError::Refused(why) => Failure::refused_conflict(kind, name, &why),
        ObjectError::Engine(e) => Failure::internal(e.to_string()),
    }
}

/// Unknown fields are the request's fault, all else the object's.
fn invalid_object(kind: &Kind, name: &str, all: &[Diagnostic]) -> Failure {
    let is_unknown = |d: &&Diagnostic| d.message.starts_with("unknown field");
    let unknown: Vec<String> = all.iter().filter(is_unknown).map(|d| name_field(&d.path, &d.help)).collect();
    if !unknown.is_empty() {
        let (kind, version) = (kind.kind, kind.version);
        return Failure::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {}",
            unknown.join(", ")
        ));
    }
    let cause = |d: &Diagnostic| {
        let help = d.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        Cause { field: d.path.clone(), message: format!("{}{help}", d.message) }
    };
    Failure::invalid(kind, name, &all.iter().map(cause).collect::<Vec<_>>())
}

fn name_field(path: &str, help: &Option<String>) -> String {
    let help = help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("unknown field {path:?}{help}")
}
