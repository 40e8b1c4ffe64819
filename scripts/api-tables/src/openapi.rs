//! OpenAPI v3 documents, one a group version.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use k8s_openapi::{
    api::{authentication::v1 as authentication, authorization::v1 as authorization, batch::v1 as batch, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery, events::v1 as events, policy::v1 as policy},
    apimachinery::pkg::apis::meta::v1 as meta,
};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::kinds::{self, Kind};

/// Every schema by its name, such as `io.k8s.api.core.v1.Pod`.
pub fn all_schemas() -> Map<String, Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    macro_rules! take {
        ($($type:ty),* $(,)?) => { $(generator.subschema_for::<$type>();)* };
    }
    take!(
        core::Pod,
        core::ConfigMap,
        core::Secret,
        core::Service,
        core::PersistentVolumeClaim,
        core::Endpoints,
        core::Event,
        core::Namespace,
        core::ServiceAccount,
        core::Node,
        core::PodTemplate,
        discovery::EndpointSlice,
        events::Event,
        batch::Job,
        coordination::Lease,
        authorization::SelfSubjectAccessReview,
        authorization::SelfSubjectRulesReview,
        authentication::SelfSubjectReview,
        authentication::TokenRequest,
        authentication::TokenReview,
        policy::Eviction,
        meta::DeleteOptions,
        meta::Status,
        meta::ListMeta,
    );
    let mut schemas = generator.definitions().clone();
    for kind in kinds::all_kinds().iter().filter(|kind| kind.allows_verb("list")) {
        let schema = schema_name(kind.group, kind.version, kind.kind);
        let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
        let list = json!({
            "description": format!("A list of {} objects.", kind.kind),
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"),
                "items": {"type": "array", "items": reference(&schema)},
            },
        });
        schemas.insert(format!("{schema}List"), list);
    }
    schemas
}

/// One group version's document: its paths, and every schema that they lead to.
pub fn document(
    group: &str,
    version: &str,
    schemas: &Map<String, Value>,
    lists: &BTreeMap<(String, String), Vec<(String, Value)>>,
) -> Option<Value> {
    let own: Vec<&Kind> = kinds::all_kinds().iter().filter(|k| (k.group, k.version) == (group, version)).collect();
    let mut wanted: BTreeSet<String> =
        ["DeleteOptions", "Status"].map(|n| format!("io.k8s.apimachinery.pkg.apis.meta.v1.{n}")).into();
    let mut paths = Map::new();
    for kind in &own {
        let schema = schema_name(kind.group, kind.version, kind.kind);
        schemas.get(&schema)?;
        wanted.insert(schema.clone());
        wanted.insert(format!("{schema}List"));
        add_paths(kind, &schema, &mut paths);
    }
    if group.is_empty() {
        wanted.insert("io.k8s.api.policy.v1.Eviction".into());
        wanted.insert("io.k8s.api.authentication.v1.TokenRequest".into());
    }
    let mut known = BTreeMap::new();
    while let Some(name) = wanted.pop_first() {
        if let Some(schema) = schemas.get(&name).filter(|_| !known.contains_key(&name)) {
            references(schema, &mut wanted);
            known.insert(name, schema.clone());
        }
    }
    for ((name, field), extensions) in lists {
        if let Some(property) = known.get_mut(name).map(|s| &mut s["properties"][field]).filter(|p| p.is_object()) {
            for (extension, value) in extensions {
                property[extension] = value.clone();
            }
        }
    }
    for kind in &own {
        let name = schema_name(kind.group, kind.version, kind.kind);
        for (name, kind_name) in [(name.clone(), kind.kind.to_owned()), (format!("{name}List"), format!("{}List", kind.kind))] {
            if let Some(schema) = known.get_mut(&name) {
                schema["x-kubernetes-group-version-kind"] =
                    json!([{"group": kind.group, "version": kind.version, "kind": kind_name}]);
            }
        }
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths,
        "components": {"schemas": known},
    }))
}

/// Compressed, the same bytes for the same document.
pub fn compress(document: &Value) -> Vec<u8> {
    let mut out = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::best());
    out.write_all(&serde_json::to_vec(document).expect("JSON")).expect("memory");
    out.finish().expect("memory")
}

fn schema_name(group: &str, version: &str, kind: &str) -> String {
    let folder = if group.is_empty() { "core" } else { group.split('.').next().expect("a first part") };
    format!("io.k8s.api.{folder}.{version}.{kind}")
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str) {
                found.insert(name.rsplit('/').next().expect("a name").to_owned());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(all) => all.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn add_paths(kind: &Kind, schema: &str, paths: &mut Map<String, Value>) {
    let root = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
    let root = format!("{root}/{}", kind.version);
    let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let list = format!("{root}{scope}/{}", kind.plural);
    let one = format!("{list}/{{name}}");
    add_operations(kind, schema, &list, &[("list", "get"), ("create", "post"), ("deletecollection", "delete")], paths);
    add_operations(kind, schema, &one, &[("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete")], paths);
    if kind.namespaced {
        add_operations(kind, schema, &format!("{root}/{}", kind.plural), &[("list", "get")], paths);
    }
}

fn add_operations(kind: &Kind, schema: &str, path: &str, operations: &[(&str, &str)], paths: &mut Map<String, Value>) {
    let mut item = Map::new();
    for (verb, method) in operations.iter().filter(|(verb, _)| kind.allows_verb(verb)) {
        let action = match *verb {
            "create" => "post",
            "update" => "put",
            other => other,
        };
        let query = |name: &str, description: &str, type_: &str| {
            json!({"name": name, "in": "query", "description": description, "schema": {"type": type_, "uniqueItems": true}})
        };
        let mut parameters = Vec::new();
        if matches!(*verb, "create" | "update" | "patch") {
            parameters.push(query("dryRun", "When present, indicates that modifications should not be persisted; the only value is All.", "string"));
            parameters.push(query("fieldManager", "The name of who makes these changes.", "string"));
            parameters.push(query("fieldValidation", "What is done about unknown and duplicate fields: Ignore, Warn or Strict.", "string"));
        }
        if *verb == "patch" {
            parameters.push(query("force", "Take fields from their present managers.", "boolean"));
        }
        if *verb == "list" {
            for name in ["labelSelector", "fieldSelector", "continue", "resourceVersion"] {
                parameters.push(query(name, "Chooses what is listed.", "string"));
            }
            parameters.push(query("watch", "Go on with changes.", "boolean"));
        }
        let given = if *verb == "list" { format!("{schema}List") } else { schema.to_owned() };
        let reference = |name: &str| json!({"schema": {"$ref": format!("#/components/schemas/{name}")}});
        let mut operation = json!({
            "operationId": format!("{verb}{}", kind.kind),
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": {"application/json": reference(&given)}}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        });
        match *verb {
            "create" | "update" => {
                operation["requestBody"] = json!({"required": true, "content": {"*/*": reference(schema)}});
            }
            "patch" => {
                let patch = json!({"schema": {"type": "object", "description": "A patch of the named type."}});
                operation["requestBody"] = json!({"required": true, "content": {
                    "application/apply-patch+yaml": patch, "application/json-patch+json": patch,
                    "application/merge-patch+json": patch, "application/strategic-merge-patch+json": patch}});
            }
            _ => {}
        }
        item.insert((*method).to_owned(), operation);
    }
    if !item.is_empty() {
        paths.insert(path.to_owned(), item.into());
    }
}
