//! From a document to the objects it describes.

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::{CronJob, Job},
        core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
    },
};
use serde_json::Value;

use super::{
    Manifest, Report, Severity, defaults,
    document_tree::{Kind, Node},
    job, other_kinds, support,
    typed::{join, nearest_field, read},
    validate,
    workload::{self, Instances},
};

/// The kinds that can be read, and the apiVersion of each.
const KINDS: &[(&str, &str)] = &[
    ("Pod", "v1"),
    ("ConfigMap", "v1"),
    ("Secret", "v1"),
    ("PersistentVolumeClaim", "v1"),
    ("Service", "v1"),
    ("List", "v1"),
    ("Deployment", "apps/v1"),
    ("StatefulSet", "apps/v1"),
    ("DaemonSet", "apps/v1"),
    ("ReplicaSet", "apps/v1"),
    ("Job", "batch/v1"),
    ("CronJob", "batch/v1"),
];

/// The pod that is yet to be checked: once, however many are made of it.
pub(super) struct Template {
    pub file: String,
    pub document: Node,
    /// The place where the pod stands in the document; empty when it is the document.
    pub path: String,
    pub pod: Pod,
    pub instances: Instances,
}

fn text<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    match &node.get(name)?.kind {
        Kind::Scalar(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// Kind, namespace and name.
pub(super) type Identity = (String, String, String);

/// Returns what a cluster would have one of; none for what has no name.
pub(super) fn identity(node: &Node) -> Option<Identity> {
    let meta = node.get("metadata")?;
    let namespace = text(meta, "namespace").filter(|own| !own.is_empty()).unwrap_or("default");
    Some((text(node, "kind")?.to_owned(), namespace.to_owned(), text(meta, "name")?.to_owned()))
}

/// The object with a name, when it leaves that to the API server (`generateName`).
fn named(node: &Node) -> Option<Node> {
    let meta = node.get("metadata").filter(|meta| match meta.get("name").map(|name| &name.kind) {
        Some(Kind::Scalar(Value::String(name))) => name.is_empty(),
        name => matches!(name, None | Some(Kind::Scalar(Value::Null))),
    })?;
    let name = defaults::generated_name(text(meta, "generateName").filter(|prefix| !prefix.is_empty())?);
    let mut node = node.clone();
    let meta = node.get_mut("metadata")?;
    let (line, column) = (meta.line, meta.column);
    let Kind::Map(fields) = &mut meta.kind else { return None };
    let name = Node { line, column, kind: Kind::Scalar(Value::String(name)) };
    fields.retain(|(key, ..)| key != "name");
    fields.push(("name".to_owned(), (line, column), name));
    Some(node)
}

/// The fields that an API server or a controller writes into every object, so that they stand in whatever
/// was printed by one.
const SERVER_FIELDS: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Names what of these a server of this machine has a say in: it stays in an object that such a server gives.
const KEPT_SERVER_FIELDS: &[&str] = &["managedFields", "ownerReferences"];

/// Names who wrote a text, and so what of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// Stands for a person: what some server has added to an object is not of this machine.
    Author,
    /// The server of this machine, in the name of a client.
    Server,
}

/// Holds what has been read.
pub(super) struct Decoded<'a> {
    pub writer: Writer,
    pub manifest: &'a mut Manifest,
    /// Pods are checked last, when all that they may refer to has been read.
    pub templates: &'a mut Vec<Template>,
}

/// The object without what a server has added to it, which is worth no word.
fn without_server_fields(node: &Node, writer: Writer) -> Node {
    let mut node = node.clone();
    if let Kind::Map(entries) = &mut node.kind {
        entries.retain(|(key, ..)| key != "status");
    }
    if let Some(Kind::Map(entries)) = node.get_mut("metadata").map(|meta| &mut meta.kind) {
        let stays = |key: &str| writer == Writer::Server && KEPT_SERVER_FIELDS.contains(&key);
        entries.retain(|(key, ..)| !SERVER_FIELDS.contains(&key.as_str()) || stays(key));
    }
    node
}

/// Reads the objects of a list. In one of a kind, such as a PodList, each of them may leave its own kind out.
fn list(node: &Node, kind: &str, path: &str, into: &mut Decoded<'_>, report: &mut Report<'_>) {
    let of = kind.trim_end_matches("List");
    let Some(Kind::List(items)) = node.get("items").map(|n| &n.kind) else { return };
    for (at, item) in items.iter().enumerate() {
        let mut item = item.clone();
        let place = (item.line, item.column);
        if let Kind::Map(entries) = &mut item.kind {
            for (key, value) in [("kind", Some(of)), ("apiVersion", text(node, "apiVersion"))] {
                let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
                if !of.is_empty() && entries.iter().all(|(known, ..)| known != key) {
                    let (line, column) = place;
                    let kind = Kind::Scalar(Value::String(value.to_owned()));
                    entries.push((key.to_owned(), place, Node { line, column, kind }));
                }
            }
        }
        object(&item, &join(path, &format!("items[{at}]")), into, report);
    }
}

/// Reads one object.
pub(super) fn object(node: &Node, path: &str, into: &mut Decoded<'_>, report: &mut Report<'_>) {
    let generated = named(node);
    let node = generated.as_ref().unwrap_or(node);
    let text = |name: &str| text(node, name);
    if !matches!(node.kind, Kind::Map(_)) {
        let message = "Invalid value: an object is a map, with apiVersion, kind and metadata";
        return report.add_error(path, message);
    }
    let Some(kind) = text("kind") else {
        return report
            .add_error(&join(path, "kind"), "Required value: must say what the document is, such as Pod");
    };
    if kind.ends_with("List")
        && matches!(node.get("items").map(|n| &n.kind), Some(Kind::List(_) | Kind::Scalar(_)))
    {
        return list(node, kind, path, into, report);
    }
    let version = text("apiVersion").unwrap_or_default();
    let expected = KINDS.contains(&(kind, version));
    if !expected && other_kinds::pass_over(node, path, &mut into.manifest.passed_over, report) {
        return;
    }
    let Some((kind, version)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<&str> = KINDS.iter().map(|(known, _)| *known).collect();
        let help = nearest_field(kind, &known).map(|meant| format!("did you mean {meant:?}?"));
        let list: Vec<String> = known.iter().map(|known| format!("{known:?}")).collect();
        let message = format!("Unsupported value: {kind:?}: supported values: {}", list.join(", "));
        return report.say(Severity::Error, &join(path, "kind"), message, help);
    };
    if text("apiVersion") != Some(version) {
        let message = match text("apiVersion") {
            Some(other) => format!("Unsupported value: {other:?}: supported values for {kind}: {version:?}"),
            None if node.get("apiVersion").is_some() => {
                format!("Invalid value: must be {version:?} for a {kind}")
            }
            None => format!("Required value: {version} for a {kind}"),
        };
        return report.add_error(&join(path, "apiVersion"), message);
    }
    let stripped = without_server_fields(node, into.writer);
    let node = &stripped;
    if let Some(meta) = without_server_fields(node, Writer::Author).get("metadata") {
        support::object("ObjectMeta", &meta.to_json(), &join(path, "metadata"), report);
    }
    let mut template = |(pod, at, instances): (Pod, &str, Instances), report: &mut Report<'_>| {
        let (file, document) = (report.file.to_owned(), report.root.clone());
        let path = if at.is_empty() { path.to_owned() } else { join(path, at) };
        into.templates.push(Template { file, document, path, pod, instances });
    };
    macro_rules! workload {
        ($type:ty, $read:path) => {
            if let Some(object) = read::<$type>(node, path, report) {
                validate::check_metadata(&object.metadata, path, report);
                if let Some(found) = $read(object, path, report) {
                    template(found, report);
                }
            }
        };
    }
    match *kind {
        "Pod" => {
            if let Some(pod) = read::<Pod>(node, path, report) {
                validate::check_metadata(&pod.metadata, path, report);
                template((pod, "", Instances::One), report);
            }
        }
        "ConfigMap" => {
            if let Some(map) = read::<ConfigMap>(node, path, report) {
                validate::config_map(&map, path, report);
                into.manifest.config_maps.push(map);
            }
        }
        "Secret" => {
            if let Some(mut secret) = read::<Secret>(node, path, report) {
                validate::secret(&secret, path, report);
                let plain = secret.string_data.take().unwrap_or_default();
                let data = secret.data.get_or_insert_default();
                data.extend(plain.into_iter().map(|(k, v)| (k, ByteString(v.into_bytes()))));
                secret.type_.get_or_insert_with(|| "Opaque".into());
                into.manifest.secrets.push(secret);
            }
        }
        "PersistentVolumeClaim" => {
            if let Some(claim) = read::<PersistentVolumeClaim>(node, path, report) {
                validate::claim(&claim, path, report);
                let spec = serde_json::to_value(&claim.spec).unwrap_or_default();
                support::object("PersistentVolumeClaimSpec", &spec, &join(path, "spec"), report);
                into.manifest.claims.push(claim);
            }
        }
        "Service" => {
            if let Some(service) = read::<Service>(node, path, report) {
                super::service::check(&service, path, report);
                into.manifest.services.push(service);
            }
        }
        "Deployment" => workload!(Deployment, workload::expand_deployment),
        "ReplicaSet" => workload!(ReplicaSet, workload::replica_set),
        "DaemonSet" => workload!(DaemonSet, workload::daemon_set),
        "StatefulSet" => workload!(StatefulSet, workload::stateful_set),
        "Job" => workload!(Job, job::job),
        "CronJob" => workload!(CronJob, job::cron_job),
        _ => report.add_error(&join(path, "items"), "Required value: the list of objects"),
    }
}
