//! What commands that keep or print objects share: objects beside a run's own files, checks, plain tables.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;

use super::{Error, Namespace, files::FileArgs};
use crate::{
    engine::Engine,
    manifest::{self, Manifest, Source},
    pod::ObjectKind,
    state::{Home, Kept},
    view::yaml,
};

/// Prints an object as `json` or `yaml`.
pub(super) fn print(value: &Value, format: &str) -> Result<(), Error> {
    match format {
        "yaml" => super::print(&yaml::document(value)),
        _ => println!("{}", serde_json::to_string_pretty(value).map_err(|e| Error::Said(e.to_string()))?),
    }
    Ok(())
}

/// Tells of kept objects that cannot be read; the others of their kind are there all the same.
pub(super) fn complain_of_damaged<T: Kept>(home: &Home, namespace: &Namespace) -> Result<(), Error> {
    home.damaged_objects::<T>(namespace)?.into_iter().for_each(|e| super::print_error(&e.into()));
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
        let found = manifest::load(&sources).map_err(|all| super::run::refused(&all, &sources))?;
        let fits = match kind {
            ObjectKind::ConfigMap => !found.config_maps.is_empty() && found.secrets.is_empty(),
            _ => !found.secrets.is_empty() && found.config_maps.is_empty(),
        };
        if !fits || !found.pods.is_empty() || !found.jobs.is_empty() || !found.claims.is_empty() {
            let wanted = if *kind == ObjectKind::ConfigMap { "ConfigMaps" } else { "Secrets" };
            return Err(Error::Said(format!("{file} must hold {wanted} and nothing else")));
        }
        // The first of a name is taken: what was asked for just now goes before what was kept.
        stored.config_maps.splice(0..0, found.config_maps);
        stored.secrets.splice(0..0, found.secrets);
    }
    Ok(stored)
}

/// Checks an object that a command makes as if it had come from a file of that name.
pub(super) fn check(name: String, object: &Value) -> Result<(), Error> {
    let wrong = |all: Vec<manifest::Diagnostic>| {
        let said: Vec<String> = all.iter().map(|d| format!("{}: {}", d.path, d.message)).collect();
        Error::Said(format!("cannot create {name}: {}", said.join("; ")))
    };
    let source = Source { name: name.clone(), text: object.to_string() };
    manifest::load(&[source]).map(drop).map_err(wrong)
}

/// Prints rows in columns.
pub(super) fn table(rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let line: String = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:w$}   ")).collect();
        println!("{}", line.trim_end());
    }
}
