//! Manifest files into checked, defaulted pods; what is wrong with them, all at once.
//!
//! Promises: nothing of a file is ignored in silence; every complaint names file, line, column and
//! field path. Stands first in the flow: what comes out of here is trusted by everything after.

mod checked;
mod decode;
mod defaults;
mod document_tree;
mod job;
mod json;
mod libyaml;
mod other_kinds;
mod references;
pub mod schema;
mod security;
mod service;
pub mod support;
mod typed;
mod validate;
mod workload;
mod yaml;

pub use checked::{CheckedPod, check_objects, check_pod};
pub use defaults::{complete_claim, complete_pod, complete_service, generated_name, with_defaults};
pub use job::Job;
pub use references::{Reference, list_references, named};
pub use security::find_forbidden_sysctl;
pub(crate) use security::sysctls_of_host;

use std::{collections::HashMap, fmt};

use k8s_openapi::api::core::v1::{
    ConfigMap, EphemeralContainer, PersistentVolumeClaim, Pod, Secret, Service,
};

use self::{
    decode::{Decoded, Writer},
    document_tree::Node,
};

/// The file's name, as the user gave it, and its text.
#[derive(Clone, Debug)]
pub struct Source {
    /// `<stdin>` for standard input.
    pub name: String,
    /// YAML, any number of documents.
    pub text: String,
}

/// An object as its file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The name of its [`Source`].
    pub file: String,
    /// The object, of whatever kind.
    pub object: serde_json::Value,
}

/// Holds what the files hold.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// Checked, with the API server's defaults.
    pub pods: Vec<Pod>,
    /// Holds what is kept for pods to refer to.
    pub config_maps: Vec<ConfigMap>,
    /// Holds what is kept for pods to refer to; stringData is in data.
    pub secrets: Vec<Secret>,
    /// Holds what is kept for pods to refer to.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Pods that are run to their end, one after another or side by side.
    pub jobs: Vec<Job>,
    /// Tells how pods find one another.
    pub services: Vec<Service>,
    /// The objects as they are written, whatever their kind; those of a List each.
    pub written: Vec<Written>,
    /// Holds what has no meaning on one machine.
    pub warnings: Vec<Diagnostic>,
    /// Those of the warnings that are about whole objects, which are passed over.
    pub passed_over: Vec<Diagnostic>,
}

/// Tells how bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is started.
    Error,
    /// Tells the user something.
    Warning,
}

/// Something to say about a place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// Tells how bad it is.
    pub severity: Severity,
    /// The file's name.
    pub file: String,
    /// Counted from 1; 0 for what came from no file.
    pub line: usize,
    /// Counted from 1; 0 for what came from no file.
    pub column: usize,
    /// Holds a text such as `spec.containers[0].image`; empty for the whole document.
    pub path: String,
    /// Holds what is wrong and what is allowed, as the API server words it.
    pub message: String,
    /// Holds what to do.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.severity == Severity::Error { "error" } else { "warning" };
        match self.line {
            0 => write!(f, "{}: {word}: ", self.file)?,
            line => write!(f, "{}:{line}:{}: {word}: ", self.file, self.column)?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        self.help.iter().try_for_each(|help| write!(f, "\n  help: {help}"))
    }
}

/// Tells where complaints about one document are collected.
struct Report<'a> {
    file: &'a str,
    root: &'a Node,
    found: Vec<Diagnostic>,
}

impl Report<'_> {
    fn say(&mut self, severity: Severity, path: &str, message: impl Into<String>, help: Option<String>) {
        let (line, column) = self.root.find_position(path);
        let (file, path, message) = (self.file.to_owned(), path.to_owned(), message.into());
        // What could not be read is not missing as well.
        if message.starts_with("Required value") && self.found.iter().any(|d| d.path == path) {
            return;
        }
        self.found.push(Diagnostic { severity, file, line, column, path, message, help });
    }

    fn add_error(&mut self, path: &str, message: impl Into<String>) {
        self.say(Severity::Error, path, message, None);
    }

    fn warn(&mut self, path: &str, message: impl Into<String>) {
        self.say(Severity::Warning, path, message, None);
    }
}

/// Reads files into a manifest.
///
/// # Errors
/// Every error of every file, in the order of their places.
pub fn load(sources: &[Source]) -> Result<Manifest, Vec<Diagnostic>> {
    load_beside(sources, &Manifest::default(), "default")
}

/// Reads the one document of a YAML text, whatever it holds.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn parse_yaml(text: &str) -> Result<serde_json::Value, String> {
    let source = Source { name: "yaml".into(), text: text.to_owned() };
    let mut documents = parse_documents(&source).map_err(|d| d.to_string())?;
    match documents.len() {
        0 => Ok(serde_json::Value::Null),
        1 => Ok(documents.remove(0)),
        count => Err(format!("it has {count} documents; one is expected")),
    }
}

/// Reads the documents of a YAML text, whatever they hold.
///
/// # Errors
/// Where it is no YAML.
pub(crate) fn parse_documents(source: &Source) -> Result<Vec<serde_json::Value>, Box<Diagnostic>> {
    Ok(document_tree::parse(source)?.iter().map(Node::to_json).collect())
}

/// Does as [`load`]; what pods refer to may also be in `stored`, and a pod that names no namespace gets this one.
///
/// # Errors
/// As [`load`].
pub fn load_beside(
    sources: &[Source],
    stored: &Manifest,
    namespace: &str,
) -> Result<Manifest, Vec<Diagnostic>> {
    read_sources(sources, Some(stored), namespace, Writer::Author)
}

/// Reads an object that a client of a server has sent, as [`load_beside`] reads a file: what a server notes in an
/// object's metadata stays in it. Without `stored` nobody looks whether what a pod refers to is there.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_request(
    source: &Source,
    stored: Option<&Manifest>,
    namespace: &str,
) -> Result<Manifest, Vec<Diagnostic>> {
    read_sources(std::slice::from_ref(source), stored, namespace, Writer::Server)
}

fn read_sources(
    sources: &[Source],
    stored: Option<&Manifest>,
    namespace: &str,
    writer: Writer,
) -> Result<Manifest, Vec<Diagnostic>> {
    let mut manifest = Manifest::default();
    let mut found = Vec::new();
    let mut templates = Vec::new();
    let mut met: HashMap<decode::Identity, serde_json::Value> = HashMap::new();
    for source in sources {
        let documents = match document_tree::parse(source) {
            Ok(documents) => documents,
            Err(diagnostic) => {
                found.push(*diagnostic);
                continue;
            }
        };
        for document in documents {
            let mut report = Report { file: &source.name, root: &document, found: Vec::new() };
            // Files may bring the same along; two that differ are an accident, and so are two of one pod.
            let written = document.to_json();
            if let Some(identity) = decode::identity(&document) {
                let (kind, _, name) = identity.clone();
                let before = met.insert(identity, written.clone());
                if before.is_some_and(|before| kind == "Pod" || before != written) {
                    let message =
                        format!("Duplicate value: {name:?}: the files hold another {kind} of that name");
                    report.add_error("metadata.name", message);
                }
            }
            let file = &source.name;
            let written = split_list(written).into_iter();
            manifest.written.extend(written.map(|object| Written { file: file.clone(), object }));
            let mut into = Decoded { writer, manifest: &mut manifest, templates: &mut templates };
            decode::object(&document, "", &mut into, &mut report);
            found.extend(report.found.iter().cloned());
        }
    }
    // References are looked at when every file has been read: order does not matter.
    for decode::Template { file, document, path, mut pod, instances } in templates {
        let mut report = Report { file: &file, root: &document, found: Vec::new() };
        defaults::pod(&mut pod, namespace);
        validate::pod(&pod, &path, &mut report);
        if let Some(stored) = stored {
            references::missing(&pod, &path, [&manifest, stored], &mut report);
        }
        // What could not be read has been complained about; what stands in its place is nobody's wish.
        let known =
            |d: &Diagnostic| found.iter().any(|k| (&k.file, k.line, &k.path) == (&d.file, d.line, &d.path));
        let new: Vec<_> = report.found.iter().filter(|d| !known(d)).cloned().collect();
        found.extend(new);
        workload::expand(pod, instances, &mut manifest);
    }
    let order = |file: &str| sources.iter().position(|s| s.name == file);
    found.sort_by_key(|d| (order(&d.file), d.line, d.column));
    let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(|d| d.severity == Severity::Error);
    manifest.warnings = warnings;
    if errors.is_empty() { Ok(manifest) } else { Err(errors) }
}

/// Returns the objects of a document: the items of a List each.
pub(crate) fn split_list(mut document: serde_json::Value) -> Vec<serde_json::Value> {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document.get_mut("items").map(serde_json::Value::take) {
        Some(serde_json::Value::Array(items)) if is_list => items,
        Some(other) => {
            document["items"] = other;
            vec![document]
        }
        None => vec![document],
    }
}

/// Returns what a debug container is to have beside its flags: part of one, in YAML or JSON.
///
/// # Errors
/// What is wrong with it, with places.
pub fn partial_container(source: &Source) -> Result<serde_json::Value, Vec<Diagnostic>> {
    let documents = document_tree::parse(source).map_err(|diagnostic| vec![*diagnostic])?;
    let Some(document) = documents.first() else { return Ok(serde_json::json!({})) };
    let mut report = Report { file: &source.name, root: document, found: Vec::new() };
    let value = document.to_json();
    typed::read::<EphemeralContainer>(document, "", &mut report);
    support::object("EphemeralContainer", &value, "", &mut report);
    report.found.retain(|d| d.severity == Severity::Error);
    if report.found.is_empty() { Ok(value) } else { Err(report.found) }
}

#[cfg(test)]
pub(crate) mod damaged_manifests;
#[cfg(test)]
mod tests;
