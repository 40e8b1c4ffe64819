//! The object that a request has in its body: JSON, protobuf or YAML.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{http::Asked, kinds::Kind, protobuf, status::Failure};

/// Reads the object.
///
/// # Errors
/// It is none, or of a type that is not read.
pub fn read_object(asked: &Asked) -> Result<Value, Failure> {
    let value = read_value(asked)?;
    if value.is_object() { Ok(value) } else { Err(Failure::bad_request("the body is no object")) }
}

fn read_value(asked: &Asked) -> Result<Value, Failure> {
    let type_ = asked.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match type_ {
        _ if type_ == "application/vnd.kubernetes.protobuf" || protobuf::is_protobuf(&asked.body) => {
            protobuf::decode_body(&asked.body).map_err(|e| Failure::bad_request(e.to_string()))
        }
        // Python's client sends no type.
        "" | "application/json" => parse_json(&asked.body),
        "application/yaml" | "application/x-yaml" | "text/yaml" => parse_text(&asked.body),
        other => Err(Failure::unsupported_type(format!(
            "the body of the request was in an unknown format ({other}); accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        ))),
    }
}

/// Reads JSON or YAML.
///
/// # Errors
/// It is neither.
pub fn parse_text(body: &[u8]) -> Result<Value, Failure> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let text = std::str::from_utf8(body).map_err(|_| Failure::bad_request("the body is no text"))?;
    crate::manifest::parse_yaml(text).map_err(Failure::bad_request)
}

fn parse_json(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|e| Failure::bad_request(format!("the body is no JSON object: {e}")))
}

/// Leaves away the fields that the kind has not, as an API server does that is not asked to be strict.
///
/// # Errors
/// A field has a wrong type.
pub fn drop_unknown_fields(kind: &Kind, object: Value) -> Result<Value, Failure> {
    match kind.kind {
        "Pod" => through_type::<Pod>(kind, object),
        "ConfigMap" => through_type::<ConfigMap>(kind, object),
        "Secret" => through_type::<Secret>(kind, object),
        "Service" => through_type::<Service>(kind, object),
        "PersistentVolumeClaim" => through_type::<PersistentVolumeClaim>(kind, object),
        "Namespace" => through_type::<Namespace>(kind, object),
        "Job" => through_type::<Job>(kind, object),
        _ => Ok(object),
    }
}

fn through_type<T: Serialize + DeserializeOwned>(kind: &Kind, object: Value) -> Result<Value, Failure> {
    let typed: T = serde_json::from_value(object).map_err(|e| {
        let (kind, version) = (kind.kind, kind.version);
        Failure::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {e}"))
    })?;
    serde_json::to_value(typed).map_err(|e| Failure::internal(e.to_string()))
}
