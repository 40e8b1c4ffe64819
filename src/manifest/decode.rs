//! From a document to the object it describes.

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Pod, Secret, Service},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Manifest, Report, Severity,
    tree::{Kind, Node},
};

/// A pod that is yet to be checked: its file, its document, and the path of it in there.
pub(super) type Unchecked = (String, Node, String, Pod);

/// Reads one document into the manifest; pods go to `pods`, for they are checked last.
pub(super) fn document(
    node: &Node,
    manifest: &mut Manifest,
    pods: &mut Vec<Unchecked>,
    report: &mut Report<'_>,
) {
    object(node, "", manifest, pods, report);
}

fn object(
    node: &Node,
    path: &str,
    manifest: &mut Manifest,
    pods: &mut Vec<Unchecked>,
    report: &mut Report<'_>,
) {
    let text = |name: &str| match node.get(name).map(|n| &n.kind) {
        Some(Kind::Scalar(Value::String(text))) => Some(text.as_str()),
        _ => None,
    };
    let kind = match text("kind") {
        Some(kind) => kind,
        None => {
            return report
                .error(&join(path, "kind"), "Required value: must say what the document is, such as Pod");
        }
    };
    if text("apiVersion") != Some("v1") && matches!(kind, "Pod" | "ConfigMap" | "Secret" | "Service" | "List")
    {
        return report.error(
            &join(path, "apiVersion"),
            format!("Unsupported value: supported values for {kind}: \"v1\""),
        );
    }
    match kind {
        "Pod" => {
            if let Some(pod) = decode::<Pod>(node, path, report) {
                pods.push((report.file.to_owned(), report.root.clone(), path.to_owned(), pod));
            }
        }
        "ConfigMap" => manifest.config_maps.extend(decode::<ConfigMap>(node, path, report)),
        "Secret" => manifest.secrets.extend(decode::<Secret>(node, path, report).map(|mut secret| {
            let plain = secret.string_data.take().unwrap_or_default();
            let data = secret.data.get_or_insert_default();
            data.extend(plain.into_iter().map(|(k, v)| (k, ByteString(v.into_bytes()))));
            secret
        })),
        "Service" => manifest.services.extend(
            decode::<Service>(node, path, report).inspect(|s| super::service::check(s, path, report)),
        ),
        "List" => {
            if let Some(Kind::List(items)) = node.get("items").map(|n| &n.kind) {
                for (at, item) in items.iter().enumerate() {
                    object(item, &join(path, &format!("items[{at}]")), manifest, pods, report);
                }
            }
        }
        other => report.error(
            &join(path, "kind"),
            format!(
                "Unsupported value: {other:?}: supported values: \"Pod\", \"ConfigMap\", \"Secret\", \"Service\", \"List\""
            ),
        ),
    }
}

/// Decodes, then compares what went in with what came out: a field that is lost is one that the
/// type does not have.
fn decode<T: DeserializeOwned + Serialize>(node: &Node, path: &str, report: &mut Report<'_>) -> Option<T> {
    let given = node.json();
    match serde_path_to_error::deserialize::<_, T>(&given) {
        Ok(object) => {
            let kept = serde_json::to_value(&object).unwrap_or_default();
            lost(&given, &kept, path, report);
            Some(object)
        }
        Err(e) => {
            let at = e.path().to_string();
            let at = if at == "." { path.to_owned() } else { join(path, &at) };
            let mut message = e.inner().to_string();
            let quote = message.contains("expected a string");
            if let Some(plain) = message.strip_prefix("invalid type: ") {
                message = format!("Invalid value: {plain}");
            }
            let help = quote.then(|| "put the value in quotes, so that YAML reads it as text".to_owned());
            report.say(Severity::Error, &at, message, help);
            None
        }
    }
}

fn lost(given: &Value, kept: &Value, path: &str, report: &mut Report<'_>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (name, value) in given {
                match kept.get(name) {
                    Some(known) => lost(value, known, &join(path, &key(name)), report),
                    // An empty value leaves no trace, whatever its name.
                    None if value.is_null() && near(name).is_none_or(|n| n == name) => {}
                    None if is_empty(value) && FIELDS.contains(&name.as_str()) => {}
                    None => {
                        let help = near(name).filter(|n| n != name).map(|n| format!("did you mean {n:?}?"));
                        let message = format!("unknown field {name:?}");
                        report.say(Severity::Error, &join(path, &key(name)), message, help);
                    }
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) => {
            for (at, (given, kept)) in given.iter().zip(kept).enumerate() {
                lost(given, kept, &format!("{path}[{at}]"), report);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(all) => all.is_empty(),
        Value::Array(all) => all.is_empty(),
        _ => false,
    }
}

fn key(name: &str) -> String {
    if name.contains(['.', '[', '/']) { format!("[{name:?}]") } else { name.to_owned() }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() || name.starts_with('[') { format!("{path}{name}") } else { format!("{path}.{name}") }
}

/// The known field that was probably meant.
fn near(name: &str) -> Option<&'static str> {
    let score = |known: &&'static str| strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase());
    FIELDS.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b))).filter(|known| score(known) > 0.85)
}

/// Fields of pods that people write, for "did you mean".
const FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "name",
    "namespace",
    "labels",
    "annotations",
    "spec",
    "data",
    "binaryData",
    "stringData",
    "initContainers",
    "containers",
    "volumes",
    "restartPolicy",
    "terminationGracePeriodSeconds",
    "activeDeadlineSeconds",
    "dnsPolicy",
    "dnsConfig",
    "nodeSelector",
    "serviceAccountName",
    "nodeName",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostUsers",
    "shareProcessNamespace",
    "securityContext",
    "imagePullSecrets",
    "hostname",
    "subdomain",
    "affinity",
    "schedulerName",
    "tolerations",
    "hostAliases",
    "priorityClassName",
    "readinessGates",
    "runtimeClassName",
    "topologySpreadConstraints",
    "image",
    "command",
    "args",
    "workingDir",
    "ports",
    "envFrom",
    "env",
    "resources",
    "limits",
    "requests",
    "volumeMounts",
    "volumeDevices",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "stdin",
    "stdinOnce",
    "tty",
    "containerPort",
    "hostPort",
    "hostIP",
    "protocol",
    "value",
    "valueFrom",
    "mountPath",
    "subPath",
    "subPathExpr",
    "readOnly",
    "emptyDir",
    "hostPath",
    "configMap",
    "secret",
    "secretName",
    "projected",
    "downwardAPI",
    "persistentVolumeClaim",
    "medium",
    "sizeLimit",
    "items",
    "path",
    "key",
    "mode",
    "optional",
    "defaultMode",
    "exec",
    "httpGet",
    "tcpSocket",
    "grpc",
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
    "postStart",
    "preStop",
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "fsGroup",
    "supplementalGroups",
    "privileged",
    "capabilities",
    "allowPrivilegeEscalation",
    "readOnlyRootFilesystem",
    "seccompProfile",
    "configMapKeyRef",
    "secretKeyRef",
    "configMapRef",
    "secretRef",
    "fieldRef",
    "fieldPath",
    "resourceFieldRef",
    "prefix",
    "restartPolicyRules",
    "mountPropagation",
    "scheme",
    "host",
    "port",
    "httpHeaders",
];
