//! What commands that keep or print objects share: objects beside a run's own files, checks, plain tables.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};

use crate::{
    cli::{
        Error, Namespace,
        manifest_files::{FileArgs, refuse_files},
        output_formats::DryRun,
        print_error,
    },
    engine::{self, Engine, WriteOptions},
    manifest::{self, Manifest, Source},
    pod::ObjectKind,
    state::{Home, Kept},
};

/// Tells of kept objects that cannot be read; the others of their kind are there all the same.
pub(super) fn complain_of_damaged<T: Kept>(home: &Home, namespace: &Namespace) -> Result<(), Error> {
    home.damaged_objects::<T>(namespace)?.into_iter().for_each(|e| print_error(&e.into()));
    Ok(())
}

/// Returns what pods may refer to beside their own files: the local store, and files that hold nothing else.
pub(super) fn read_stored(home: &Home, files: &[(ObjectKind, &String)]) -> Result<Manifest, Error> {
    let mut stored = Engine::over(home).kept()?;
    for namespace in home.namespaces()? {
        complain_of_damaged::<ConfigMap>(home, &namespace)?;
        complain_of_damaged::<Secret>(home, &namespace)?;
    }
    for (kind, file) in files {
        let sources = FileArgs::named(&[(*file).clone()]).read_sources()?;
        let found = manifest::load(&sources).map_err(|all| refuse_files(&all, &sources))?;
        let fits = match kind {
            ObjectKind::ConfigMap => !found.config_maps.is_empty() && found.secrets.is_empty(),
            _ => !found.secrets.is_empty() && found.config_maps.is_empty(),
        };
        if !fits || !found.pods.is_empty() || !found.jobs.is_empty() || !found.claims.is_empty() {
            let wanted = if *kind == ObjectKind::ConfigMap { "ConfigMaps" } else { "Secrets" };
            return Err(Error::unreadable(format!("{file} must hold {wanted} and nothing else")));
        }
        // The first of a name is taken: what was asked for just now goes before what was kept.
        stored.config_maps.splice(0..0, found.config_maps);
        stored.secrets.splice(0..0, found.secrets);
    }
    Ok(stored)
}

/// Checks an object that a command makes as if it had come from a file of that name.
pub(super) fn check(kind: ObjectKind, object: &Value) -> Result<(), Error> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let wrong = |all: Vec<manifest::Diagnostic>| Error::about(kind, name, engine::Error::Manifest(all));
    let source = Source { name: name.to_owned(), text: object.to_string() };
    manifest::load(&[source]).map(drop).map_err(wrong)
}

/// Makes an object of a kind that podctl keeps, as far as it is not only tried; returns it as it is or would be.
///
/// # Errors
/// As [`Engine::create_object`].
pub(super) fn make_kept(
    kind: ObjectKind,
    mut object: Value,
    (dry, manager): (DryRun, Option<&str>),
    home: &Home,
    namespace: &Namespace,
) -> Result<Value, Error> {
    if kind.is_namespaced() && namespace.as_str() != "default" {
        object["metadata"]["namespace"] = json!(namespace);
    }
    if dry == DryRun::Client {
        return Ok(object);
    }
    let manager = manager.map(str::to_owned);
    let options = WriteOptions { dry_run: dry.is_dry(), manager, ..WriteOptions::default() };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Engine::over(home)
        .create_object(kind, namespace, &object, &options)
        .map_err(|e| Error::about(kind, name, e))
}

/// The error that there is an object of that name already.
pub(super) fn already_exists(kind: ObjectKind, name: &str) -> Error {
    engine::Error::ObjectExists { kind, name: name.to_owned() }.into()
}
