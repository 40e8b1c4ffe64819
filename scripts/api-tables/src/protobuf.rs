//! The fields of API types as protobuf numbers them and as patches merge them, read in the sources of k8s-pb.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::{Map, Value, json};

/// A message by its schema's name, such as `io.k8s.api.core.v1.Pod`.
pub type Messages = BTreeMap<String, Message>;

/// One message.
#[derive(Default)]
pub struct Message {
    atomic: bool,
    fields: Vec<Field>,
}

struct Field {
    /// As Rust has it: `host_pid`.
    name: String,
    number: u32,
    /// `string`, `int64`, `bool`, … or the message's schema name.
    type_: String,
    /// `` for one, `list`, `map`.
    shape: &'static str,
    notes: Vec<String>,
}

/// What a request may have in its body; all else is found from here.
const ROOTS: &[&str] = &[
    "io.k8s.api.core.v1.Pod",
    "io.k8s.api.core.v1.ConfigMap",
    "io.k8s.api.core.v1.Secret",
    "io.k8s.api.core.v1.Service",
    "io.k8s.api.core.v1.PersistentVolumeClaim",
    "io.k8s.api.core.v1.Endpoints",
    "io.k8s.api.core.v1.Event",
    "io.k8s.api.core.v1.Namespace",
    "io.k8s.api.core.v1.ServiceAccount",
    "io.k8s.api.core.v1.Node",
    "io.k8s.api.discovery.v1.EndpointSlice",
    "io.k8s.api.events.v1.Event",
    "io.k8s.api.batch.v1.Job",
    "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    "io.k8s.api.authentication.v1.SelfSubjectReview",
    "io.k8s.api.authentication.v1.TokenRequest",
    "io.k8s.api.authentication.v1.TokenReview",
    "io.k8s.api.policy.v1.Eviction",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
];

/// Reads every message of k8s-pb.
pub fn read_messages() -> Messages {
    let out = Command::new("cargo").args(["metadata", "--format-version", "1"]).output().expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&out.stdout).expect("metadata is JSON");
    let package = metadata["packages"].as_array().into_iter().flatten().find(|p| p["name"] == "k8s-pb");
    let manifest = package.expect("k8s-pb is a dependency")["manifest_path"].as_str().expect("a path");
    let mut messages = Messages::new();
    read_folder(&Path::new(manifest).with_file_name("src"), &mut Vec::new(), &mut messages);
    messages
}

fn read_folder(folder: &Path, module: &mut Vec<String>, messages: &mut Messages) {
    for entry in fs::read_dir(folder).expect("a folder of k8s-pb").flatten() {
        let path = entry.path();
        let name = path.file_stem().and_then(|n| n.to_str()).expect("a name").to_owned();
        if path.is_dir() {
            module.push(name);
            read_folder(&path, module, messages);
            module.pop();
        } else if name == "mod" {
            read_module(&fs::read_to_string(&path).expect("a file of k8s-pb"), module, messages);
        }
    }
}

fn read_module(text: &str, module: &[String], messages: &mut Messages) {
    let mut docs: Vec<&str> = Vec::new();
    let mut attribute = String::new();
    let mut current: Option<String> = None;
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim());
        } else if let Some(rest) = line.strip_prefix("#[prost(") {
            attribute = rest.to_owned();
            while !attribute.ends_with(")]") {
                attribute += lines.next().expect("the attribute's end");
            }
        } else if let Some(name) = line.strip_prefix("pub struct ") {
            let name = schema_name(module, name.trim_end_matches(['{', '}', ' ']));
            let atomic = docs.iter().any(|d| matches!(*d, "+structType=atomic" | "+mapType=atomic"));
            messages.insert(name.clone(), Message { atomic, fields: Vec::new() });
            current = (!line.ends_with('}')).then_some(name);
            docs.clear();
        } else if line == "}" {
            current = None;
            docs.clear();
        } else if let Some(rest) = line.strip_prefix("pub ").filter(|_| !attribute.is_empty()) {
            let (name, mut type_) = rest.split_once(':').map(|(n, t)| (n, t.trim().to_owned())).expect("a field");
            while !type_.ends_with(',') || type_.matches('<').count() != type_.matches('>').count() {
                type_ += lines.next().expect("the type's end");
            }
            let message = current.as_ref().and_then(|name| messages.get_mut(name)).expect("within a struct");
            message.fields.push(read_field(name.trim_start_matches("r#"), &type_, &attribute, &docs, module));
            (docs, attribute) = (Vec::new(), String::new());
        }
    }
}

fn read_field(name: &str, type_: &str, attribute: &str, docs: &[&str], module: &[String]) -> Field {
    let number = attribute.split("tag = \"").nth(1).and_then(|t| t.split('"').next()).expect("a tag");
    let number = number.parse().expect("a number");
    let message = || {
        let inner = type_.rsplit(['<', ' ']).find(|part| part.contains("::") || part.chars().any(|c| c.is_uppercase()));
        let path = inner.expect("a type").trim_matches(['<', '>', ',', ' ']);
        resolve(path, module)
    };
    let first = attribute.split([',', ')']).next().expect("a type").trim();
    let (shape, type_) = match first.strip_prefix("btree_map = \"string") {
        Some(_) => {
            let value = attribute.split('"').nth(1).and_then(|m| m.split(',').nth(1)).expect("a map's value").trim();
            ("map", if value == "message" { map_value(type_, module) } else { value.to_owned() })
        }
        None => {
            let shape = if attribute.contains("repeated") { "list" } else { "" };
            (shape, match first {
                "message" => message(),
                "bytes = \"vec\"" => "bytes".to_owned(),
                plain => plain.to_owned(),
            })
        }
    };
    // A map of byte strings has its values' type within the quotes.
    let type_ = if type_.starts_with("bytes") { "bytes".to_owned() } else { type_ };
    let tags = ["+patchMergeKey=", "+patchStrategy=", "+listType=", "+listMapKey=", "+structType=", "+mapType="];
    let notes = docs.iter().filter(|d| tags.iter().any(|t| d.starts_with(t))).map(|d| d[1..].to_owned());
    Field { name: name.to_owned(), number, type_, shape, notes: notes.collect() }
}

/// The value's type in `BTreeMap<String, path::Type>`.
fn map_value(type_: &str, module: &[String]) -> String {
    let inside = type_.split_once('<').expect("a map").1;
    let value = inside.split_once(',').expect("two types").1.trim();
    resolve(value.trim_matches(['>', ',', ' ']), module)
}

fn resolve(path: &str, module: &[String]) -> String {
    let mut at = module.to_vec();
    let mut parts: Vec<&str> = path.split("::").collect();
    let name = parts.pop().expect("a name");
    for part in parts {
        match part {
            "super" => drop(at.pop()),
            "self" | "" => {}
            other => at.push(other.trim_start_matches("r#").to_owned()),
        }
    }
    schema_name(&at, name)
}

fn schema_name(module: &[String], name: &str) -> String {
    format!("io.k8s.{}.{name}", module.join("."))
}

/// Parts that Go embeds: protobuf has them as a field, JSON has their fields in its place.
const EMBEDDED: &[&str] = &["local_object_reference", "volume_source", "handler", "ephemeral_container_common"];

/// The table: a message's name, then one field a line: JSON name, number, type, shape, how it is merged. An embedded
/// part is named `-`.
pub fn field_table(messages: &Messages, schemas: &Map<String, Value>) -> String {
    // Rust has HttpGetAction for HTTPGetAction.
    let exact: BTreeMap<String, &String> = schemas.keys().map(|name| (name.to_lowercase(), name)).collect();
    let exact = |name: &str| exact.get(&name.to_lowercase()).map_or(name.to_owned(), |n| (*n).clone());
    let mut wanted: Vec<String> = ROOTS.iter().map(|r| (*r).to_owned()).collect();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        let Some(message) = messages.get(&name).filter(|_| !texts.contains_key(&short(&exact(&name)))) else {
            continue;
        };
        let names = property_names(&name, messages, schemas, &exact);
        let mut text = format!("{}{}\n", short(&exact(&name)), if message.atomic { " atomic" } else { "" });
        for field in &message.fields {
            let plain = field.name.replace('_', "").to_lowercase();
            let json = names.iter().find(|n| n.to_lowercase().trim_start_matches('$') == plain).cloned();
            let json = match json {
                Some(json) => json,
                None if EMBEDDED.contains(&field.name.as_str()) => "-".to_owned(),
                // Wrapped values, such as Time, are no objects in JSON; the decoder knows them.
                None if names.is_empty() => camel(&field.name),
                // JSON has it no more.
                None => continue,
            };
            text += &format!(" {json} {} {}", field.number, short(&exact(&field.type_)));
            if !field.shape.is_empty() {
                text += &format!(" {}", field.shape);
            }
            text += &merge_words(field);
            text.push('\n');
            wanted.push(field.type_.clone());
        }
        texts.insert(short(&exact(&name)), text);
    }
    texts.into_values().collect()
}

/// The names that JSON has for a message's fields; those of an embedded part stand in whoever has it.
fn property_names(
    name: &str,
    messages: &Messages,
    schemas: &Map<String, Value>,
    exact: &dyn Fn(&str) -> String,
) -> Vec<String> {
    let own = |name: &str| -> Option<Vec<String>> {
        Some(schemas.get(&exact(name))?.get("properties")?.as_object()?.keys().cloned().collect())
    };
    own(name).unwrap_or_else(|| {
        let embeds = |m: &Message| m.fields.iter().any(|f| f.type_ == name && EMBEDDED.contains(&f.name.as_str()));
        messages.iter().filter(|(_, m)| embeds(m)).filter_map(|(name, _)| own(name)).flatten().collect()
    })
}

fn merge_words(field: &Field) -> String {
    let keys: Vec<&str> = field.notes.iter().filter_map(|n| n.strip_prefix("listMapKey=")).collect();
    let word = |note: &String| match note.split_once('=') {
        Some(("patchMergeKey", key)) => format!(" merge={key}"),
        Some(("patchStrategy", strategy)) => format!(" strategy={strategy}"),
        Some(("listType", "map")) => format!(" keys={}", keys.join(",")),
        Some(("listType", "set")) => " set".to_owned(),
        Some((_, "atomic")) => " atomic".to_owned(),
        _ => String::new(),
    };
    field.notes.iter().map(word).collect()
}

/// `core.v1.Pod`, `meta.v1.Time`
fn short(name: &str) -> String {
    let name = name.strip_prefix("io.k8s.api.").unwrap_or(name);
    let name = name.strip_prefix("io.k8s.apimachinery.pkg.").unwrap_or(name);
    name.strip_prefix("apis.").unwrap_or(name).to_owned()
}

fn camel(name: &str) -> String {
    let mut out = String::new();
    for (at, part) in name.split('_').enumerate() {
        let mut letters = part.chars();
        match letters.next().filter(|_| at > 0) {
            Some(first) => out.extend(first.to_uppercase().chain(letters)),
            None => out += part,
        }
    }
    out
}

/// What OpenAPI says of lists that are merged, by schema and property.
pub fn merge_keys(table: &str) -> BTreeMap<(String, String), Vec<(String, Value)>> {
    let mut all: BTreeMap<(String, String), Vec<(String, Value)>> = BTreeMap::new();
    let mut message = String::new();
    for line in table.lines() {
        let Some(line) = line.strip_prefix(' ') else {
            let name = line.split(' ').next().expect("a name");
            message = match name.split('.').next() {
                Some("meta") => format!("io.k8s.apimachinery.pkg.apis.{name}"),
                _ => format!("io.k8s.api.{name}"),
            };
            continue;
        };
        let words: Vec<&str> = line.split(' ').collect();
        let mut say = |name: &str, value: Value| {
            let field = (message.clone(), words[0].to_owned());
            all.entry(field).or_default().push((name.to_owned(), value));
        };
        for word in &words[3..] {
            match word.split_once('=') {
                Some(("merge", key)) => say("x-kubernetes-patch-merge-key", json!(key)),
                Some(("strategy", strategy)) => say("x-kubernetes-patch-strategy", json!(strategy)),
                Some(("keys", keys)) => {
                    say("x-kubernetes-list-type", json!("map"));
                    say("x-kubernetes-list-map-keys", json!(keys.split(',').collect::<Vec<_>>()));
                }
                None if *word == "set" => say("x-kubernetes-list-type", json!("set")),
                None if *word == "atomic" && words.contains(&"list") => say("x-kubernetes-list-type", json!("atomic")),
                _ => {}
            }
        }
    }
    all
}
