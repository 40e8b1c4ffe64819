//! Every kind's objects as clients see them: the engine's, and what the machine and its pods use now.

use std::time::Duration;

use serde_json::Value;

use super::{
    event_forms,
    kinds::Kind,
    metrics,
    status::{Cause, Failure},
};
use crate::{
    engine::{
        DeleteOptions, DeletionBatch, Engine, Error, ErrorKind, ListOptions, ObjectKind, PodPart,
        Preconditions, WriteOptions, object_version,
    },
    manifest::Diagnostic,
    wire::Options,
};

/// Lists the objects of a kind, of one namespace or of all, ordered by namespace and name.
///
/// # Errors
/// What the engine says.
pub fn list_objects(engine: &Engine, kind: &Kind, namespace: Option<&str>) -> Result<Vec<Value>, Failure> {
    let mut all = match (engine_kind(kind), kind.kind) {
        (Some(of_engine), _) => list_of_engine(engine, kind, of_engine, namespace)?,
        (None, "Event") => {
            let all = list_of_engine(engine, kind, ObjectKind::Event, namespace)?;
            all.into_iter().map(event_forms::to_newer_form).collect()
        }
        (None, "PodMetrics") => metrics::measure_pods(engine, namespace)?,
        (None, "NodeMetrics") => vec![metrics::measure_node()],
        (None, _) => Vec::new(),
    };
    for object in &mut all {
        name_kind(kind, object);
    }
    all.sort_by_cached_key(object_key);
    Ok(all)
}

fn list_of_engine(
    engine: &Engine,
    kind: &Kind,
    of_engine: ObjectKind,
    namespace: Option<&str>,
) -> Result<Vec<Value>, Failure> {
    let options = ListOptions { namespace: namespace.map(str::to_owned), ..ListOptions::default() };
    engine.list_objects(of_engine, &options).map_err(|e| to_failure(kind, "", e))
}

/// Finds one object.
///
/// # Errors
/// [`Failure::not_found`]; what the engine says.
pub fn find_object(engine: &Engine, kind: &Kind, namespace: &str, name: &str) -> Result<Value, Failure> {
    let Some(of_engine) = engine_kind(kind) else {
        let all = list_objects(engine, kind, kind.namespaced.then_some(namespace))?;
        let found = all.into_iter().find(|object| object["metadata"]["name"] == name);
        return found.ok_or_else(|| Failure::not_found(kind, name));
    };
    match engine.get_object(of_engine, namespace, name) {
        Ok(object) => Ok(object),
        // What nobody can have named is not there.
        Err(Error::Name(_)) => Err(Failure::not_found(kind, name)),
        Err(e) => Err(to_failure(kind, name, e)),
    }
}

/// Tells how an object is made.
#[derive(Clone, Copy, Debug)]
pub struct Creation<'a> {
    /// Only say what it would be.
    pub dry_run: bool,
    /// Names who makes it; nobody where that is noted already.
    pub manager: Option<&'a str>,
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
    how: Creation<'_>,
) -> Result<Value, Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    // Clients of the API send files in their own order.
    let run = Options { awaits_objects: true, ..Options::default() };
    let manager = how.manager.map(str::to_owned);
    let options = WriteOptions { dry_run: how.dry_run, run, manager, ..WriteOptions::default() };
    let made = engine.create_object(writable(kind)?, namespace, object, &options);
    made.map_err(|e| to_failure(kind, name, e))
}

/// Tells how an object takes the place of the one of its name.
#[derive(Clone, Copy, Debug)]
pub struct Replacement<'a> {
    /// The object that is there, as the change was made of it: what has become of it since is a conflict.
    pub known: &'a Value,
    /// Tells which part of it.
    pub part: PodPart,
    /// Only say what it would be.
    pub dry_run: bool,
    /// Names who changes it; nobody where that is noted already.
    pub manager: Option<&'a str>,
}

/// Puts an object in the place of the one of its name.
///
/// # Errors
/// What the engine says.
pub fn replace_object(
    engine: &Engine,
    kind: &Kind,
    namespace: &str,
    object: &Value,
    how: Replacement<'_>,
) -> Result<Value, Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let uid = how.known["metadata"]["uid"].as_str().map(str::to_owned);
    let seen = Preconditions { uid, resource_version: Some(object_version(how.known)) };
    let manager = how.manager.map(str::to_owned);
    let options = WriteOptions { dry_run: how.dry_run, part: how.part, manager, ..WriteOptions::default() };
    let made = engine.update_object(writable(kind)?, namespace, object, &seen, &options);
    made.map_err(|e| to_failure(kind, name, e))
}

/// Takes an object away, but not yet what it owns.
///
/// # Errors
/// What the engine says.
pub fn delete_object(
    batch: &mut DeletionBatch<'_>,
    kind: &Kind,
    namespace: &str,
    name: &str,
    (grace_period, orphans): (Option<Duration>, bool),
) -> Result<(), Failure> {
    let options = DeleteOptions { grace_period, orphans, ..DeleteOptions::default() };
    let deleted = batch.delete_object(writable(kind)?, namespace, name, &options);
    deleted.map(drop).map_err(|e| to_failure(kind, name, e))
}

/// Takes away what deleted objects own.
///
/// # Errors
/// What the engine says.
pub fn finish_deletion(batch: DeletionBatch<'_>, kind: &Kind) -> Result<(), Failure> {
    batch.finish().map_err(|e| to_failure(kind, "", e))
}

/// Checks that an object could be taken away.
///
/// # Errors
/// What the engine says.
pub fn check_deletion(engine: &Engine, kind: &Kind, namespace: &str, name: &str) -> Result<(), Failure> {
    let options = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    let checked = engine.delete_object(writable(kind)?, namespace, name, &options);
    checked.map(drop).map_err(|e| to_failure(kind, name, e))
}

/// Namespace, empty for kinds without, and name.
pub fn object_key(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// The engine's word for a kind; none for one that only this server has.
fn engine_kind(kind: &Kind) -> Option<ObjectKind> {
    ObjectKind::of_object(kind.kind).filter(|known| known.group() == kind.group)
}

fn writable(kind: &Kind) -> Result<ObjectKind, Failure> {
    engine_kind(kind).ok_or_else(Failure::not_allowed)
}

/// Says of what this server measures which kind it is.
fn name_kind(kind: &Kind, object: &mut Value) {
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
}

/// Returns the answer to what the engine refuses.
pub fn to_failure(kind: &Kind, name: &str, error: Error) -> Failure {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::NotFound => Failure::not_found(kind, name),
        ErrorKind::AlreadyExists => Failure::already_exists(kind, name),
        ErrorKind::Invalid => invalid_object(kind, name, &error.causes()),
        ErrorKind::Conflict => {
            let why = if let Error::Conflict { why, .. } = error { why } else { message };
            Failure::refused_conflict(kind, name, &why)
        }
        ErrorKind::Forbidden => Failure::forbidden(message),
        ErrorKind::Unsupported => match error {
            Error::Unmet { field, why, .. } => Failure::invalid(kind, name, &[Cause { field, message: why }]),
            _ => Failure::refused_conflict(kind, name, &message),
        },
        ErrorKind::BadRequest => Failure::bad_request(message),
        ErrorKind::Timeout => Failure::timed_out(message),
        ErrorKind::Gone => Failure::refused_conflict(kind, name, &message),
        ErrorKind::Unavailable => Failure::unavailable(message),
        _ => Failure::internal(message),
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
