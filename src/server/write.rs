//! What changes objects: POST, PUT and PATCH.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Server, apply, body, delete, handle,
    http::{Answer, Asked, json_answer},
    kinds::{Kind, find_kind},
    route::Target,
    run_blocking,
    status::{Cause, Failure},
    store, streams,
};
use crate::engine::patch::{self, PatchType};

/// Tells how a request is to be carried out.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Only say what would be.
    pub dry: bool,
    /// Unknown fields are errors rather than dropped.
    pub strict: bool,
    /// Names who changes fields, as server-side apply notes it.
    pub manager: String,
    /// Take fields from their managers.
    pub force: bool,
}

impl Manner {
    fn parse(asked: &Asked) -> Result<Manner, Failure> {
        let dry = asked.query.all("dryRun").filter(|word| !word.is_empty()).collect::<Vec<_>>();
        if dry.iter().any(|word| *word != "All") {
            return Err(Failure::bad_request(format!("dryRun: {dry:?}: only All is known")));
        }
        let strict = match asked.query.find("fieldValidation") {
            None | Some("Warn" | "Ignore") => false,
            Some("Strict") => true,
            Some(other) => {
                let message = format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                );
                return Err(Failure::bad_request(message));
            }
        };
        // A client that names none is known by its program's name.
        let agent = asked.header("user-agent").unwrap_or("unknown");
        let manager =
            asked.query.find("fieldManager").unwrap_or(agent.split(['/', ' ']).next().unwrap_or(agent));
        let manager = manager.chars().take(128).collect();
        Ok(Manner { dry: !dry.is_empty(), strict, manager, force: asked.query.is_true("force") })
    }
}

/// `POST`
///
/// # Errors
/// Why nothing is made.
pub async fn answer_create(server: Arc<Server>, asked: &Asked, target: Target) -> Result<Answer, Failure> {
    let manner = Manner::parse(asked)?;
    let object = body::read_object(asked)?;
    match target.subresource.as_deref() {
        Some("eviction") => return delete::answer_eviction(server, object, target).await,
        Some(_) => return Err(Failure::forbidden("podctl keeps no tokens of service accounts")),
        None if !target.kind.allows_verb("list") => {
            let header = asked.header("authorization").unwrap_or_default();
            let token = header.split_once(' ').map_or("", |(_, token)| token);
            return Ok(json_answer(StatusCode::CREATED, &handle::review_access(object, token)));
        }
        None => {}
    }
    let object = prepare_object(object, &target, true)?;
    let made = run_blocking(move || server.create_now(&target, object, &manner)).await?;
    Ok(json_answer(StatusCode::CREATED, &made))
}

/// `PUT`
///
/// # Errors
/// Why nothing is changed.
pub async fn answer_update(server: Arc<Server>, asked: &Asked, target: Target) -> Result<Answer, Failure> {
    let manner = Manner::parse(asked)?;
    let object = prepare_object(body::read_object(asked)?, &target, false)?;
    let changed = run_blocking(move || {
        let known = server.find_object_now(&target)?;
        server.change_now(&target, &known, object, &manner)
    });
    Ok(json_answer(StatusCode::OK, &changed.await?))
}

/// `PATCH`
///
/// # Errors
/// Why nothing is changed.
pub async fn answer_patch(server: Arc<Server>, asked: &Asked, target: Target) -> Result<Answer, Failure> {
    let manner = Manner::parse(asked)?;
    let type_ = asked.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if type_ == "application/apply-patch+yaml" {
        let config = prepare_object(body::parse_text(&asked.body)?, &target, false)?;
        let (object, code) = run_blocking(move || server.apply_now(&target, &config, &manner)).await?;
        return Ok(json_answer(code, &object));
    }
    let Some(type_) = PatchType::of_content_type(type_) else {
        return Err(Failure::unsupported_type(format!(
            "a patch of type {type_:?} is not known; there are application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json and application/apply-patch+yaml"
        )));
    };
    let body = asked.body.clone();
    let changed = run_blocking(move || {
        let known = server.find_object_now(&target)?;
        let patched = patch::apply_patch(type_, &known, &body);
        let patched = patched.map_err(|e| match e {
            patch::Error::Malformed(_) => Failure::bad_request(e.to_string()),
            patch::Error::Unfitting(_) => Failure::unprocessable(e.to_string()),
        })?;
        let patched = prepare_object(patched, &target, false)?;
        server.change_now(&target, &known, patched, &manner)
    });
    Ok(json_answer(StatusCode::OK, &changed.await?))
}

/// Checks that an object is what its path says, and fills in what the path says of it.
fn prepare_object(mut object: Value, target: &Target, fresh: bool) -> Result<Value, Failure> {
    let kind = target.kind;
    if !object.is_object() {
        return Err(Failure::bad_request("the body is no object"));
    }
    for (field, expected) in [("apiVersion", kind.api_version()), ("kind", kind.kind.to_owned())] {
        match object[field].as_str().filter(|text| !text.is_empty()) {
            None => object[field] = expected.into(),
            Some(given) if given == expected => {}
            Some(given) => {
                let what = if field == "kind" { "kind" } else { "API version" };
                return Err(Failure::bad_request(format!(
                    "the {what} in the data ({given}) does not match the expected {what} ({expected})"
                )));
            }
        }
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let meta = &mut object["metadata"];
    if let Some(namespace) = &target.namespace {
        match meta["namespace"].as_str().filter(|text| !text.is_empty()) {
            Some(given) if given != namespace => {
                let message =
                    "the namespace of the provided object does not match the namespace sent on the request";
                return Err(Failure::bad_request(message));
            }
            _ => meta["namespace"] = namespace.as_str().into(),
        }
    }
    let given = meta["name"].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match (&target.name, given) {
        (Some(name), Some(given)) if *name != given => {
            return Err(Failure::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        (Some(name), _) => meta["name"] = name.as_str().into(),
        (None, Some(_)) => {}
        (None, None) => match meta["generateName"].as_str() {
            Some(prefix) if !prefix.is_empty() => meta["name"] = crate::engine::generate_name(prefix).into(),
            _ => {
                let cause = Cause {
                    field: "metadata.name".into(),
                    message: "Required value: name or generateName is required".into(),
                };
                return Err(Failure::invalid(kind, "", &[cause]));
            }
        },
    }
    if fresh && meta["resourceVersion"].as_str().is_some_and(|text| !text.is_empty()) {
        return Err(Failure::bad_request("resourceVersion should not be set on objects to be created"));
    }
    Ok(object)
}

/// Takes away what only the server says of an object; gives what it said.
fn strip_object(object: &Value, manner: &Manner, kind: &Kind) -> Result<Value, Failure> {
    let mut plain = object.clone();
    if let Some(fields) = plain.as_object_mut() {
        fields.remove("status");
    }
    if let Some(meta) = plain["metadata"].as_object_mut() {
        for field in [
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "selfLink",
        ] {
            meta.remove(field);
        }
    }
    // Go takes base64 with line breaks in it.
    for list in
        ["data", "binaryData"].into_iter().filter(|list| kind.kind == "Secret" || *list == "binaryData")
    {
        for (_, value) in plain.get_mut(list).and_then(Value::as_object_mut).into_iter().flatten() {
            if let Some(text) = value.as_str().filter(|text| text.contains(['\n', '\r'])) {
                *value = text.replace(['\n', '\r'], "").into();
            }
        }
    }
    if manner.strict { Ok(plain) } else { body::drop_unknown_fields(kind, plain) }
}

impl Server {
    fn create_now(&self, target: &Target, mut object: Value, manner: &Manner) -> Result<Value, Failure> {
        let kind = target.kind;
        let namespace = self.require_namespace(target)?;
        let plain = strip_object(&object, manner, kind)?;
        apply::note_update(None, &mut object, manner);
        let plain = keep_managers(plain, &object);
        let made = store::create_object(&self.engine, kind, &namespace, &plain, manner.dry)?;
        self.finish_write(target, made, manner)
    }

    /// The namespace of a request, which must be there.
    fn require_namespace(&self, target: &Target) -> Result<String, Failure> {
        let Some(namespace) = target.namespace.clone() else { return Ok(String::new()) };
        let names = self.engine.namespace_names().map_err(|e| store::to_failure(target.kind, "", e))?;
        match (names.contains(&namespace), find_kind("", "v1", "namespaces")) {
            (false, Some(kind)) => Err(Failure::not_found(kind, &namespace)),
            _ => Ok(namespace),
        }
    }

    /// Puts a changed object in the place of the known one.
    fn change_now(
        &self,
        target: &Target,
        known: &Value,
        mut object: Value,
        manner: &Manner,
    ) -> Result<Value, Failure> {
        let (kind, name) = (target.kind, target.name.as_deref().unwrap_or_default());
        let (before, after) = (&known["metadata"], &object["metadata"]);
        for field in ["resourceVersion", "uid"] {
            let given = after[field].as_str().filter(|text| !text.is_empty());
            if given.is_some_and(|given| before[field] != given) {
                return Err(Failure::conflict(kind, name));
            }
        }
        match target.subresource.as_deref() {
            Some("ephemeralcontainers") => {
                return streams::debug::add_containers(self, target, known, &object);
            }
            Some("finalize") => return Ok(known.clone()),
            Some(below @ ("status" | "resize")) => {
                let message = match below {
                    "status" => "the status is what the object is: nobody else can write it",
                    _ => {
                        "the resources of a container that runs cannot be changed here yet; delete the pod and create it anew"
                    }
                };
                return Err(Failure::forbidden(message));
            }
            _ => {}
        }
        if kind.kind == "Pod" {
            self.require_same_spec(target, known, &object)?;
        }
        apply::note_update(Some(known), &mut object, manner);
        let plain = keep_managers(strip_object(&object, manner, kind)?, &object);
        let namespace = target.namespace.clone().unwrap_or_default();
        let plain = keep_identity(plain, known);
        let changed = store::replace_object(&self.engine, kind, &namespace, &plain, manner.dry)?;
        self.finish_write(target, changed, manner)
    }

    /// A pod that exists keeps its spec.
    fn require_same_spec(&self, target: &Target, known: &Value, object: &Value) -> Result<(), Failure> {
        let name = target.name.as_deref().unwrap_or_default();
        if same_value(&known["spec"], &object["spec"]) {
            return Ok(());
        }
        // What came from a file has not the defaults that the server has filled in.
        let manner = Manner { dry: true, strict: true, manager: String::new(), force: false };
        let plain = strip_object(object, &manner, target.kind)?;
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let checked = self.engine.check_api_object(namespace, &plain);
        let checked = checked.map_err(|e| store::to_failure(target.kind, name, e))?;
        let mut wanted = json!({});
        if let Some(pod) = checked.pods.first() {
            wanted = serde_json::to_value(pod).unwrap_or_default();
            super::complete::complete_object("Pod", &mut wanted);
        }
        if wanted["spec"]["nodeName"].is_null() {
            wanted["spec"]["nodeName"] = known["spec"]["nodeName"].clone();
        }
        if wanted["spec"]["ephemeralContainers"].is_null() {
            wanted["spec"]["ephemeralContainers"] = known["spec"]["ephemeralContainers"].clone();
        }
        if same_value(&known["spec"], &wanted["spec"]) {
            return Ok(());
        }
        let message = "Forbidden: a pod keeps the spec that it was started with: delete it and create it anew (kubectl replace --force does both)";
        Err(Failure::invalid(target.kind, name, &[Cause { field: "spec".into(), message: message.into() }]))
    }

    fn apply_now(
        &self,
        target: &Target,
        config: &Value,
        manner: &Manner,
    ) -> Result<(Value, StatusCode), Failure> {
        if config["metadata"]["managedFields"].as_array().is_some_and(|all| !all.is_empty()) {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        match self.find_object_now(target) {
            Ok(known) => {
                let (merged, conflicts) = apply::apply_config(&known, config, target.kind, manner);
                if !conflicts.is_empty() && !manner.force {
                    return Err(apply::conflict_failure(target.kind, &conflicts));
                }
                Ok((self.change_applied(target, &known, merged, manner)?, StatusCode::OK))
            }
            Err(failure) if failure.code == 404 => {
                let namespace = self.require_namespace(target)?;
                let mut object = config.clone();
                apply::note_apply(&mut object, config, target.kind, manner);
                let plain = keep_managers(strip_object(&object, manner, target.kind)?, &object);
                let made = store::create_object(&self.engine, target.kind, &namespace, &plain, manner.dry)?;
                Ok((self.finish_write(target, made, manner)?, StatusCode::CREATED))
            }
            Err(failure) => Err(failure),
        }
    }

    fn change_applied(
        &self,
        target: &Target,
        known: &Value,
        merged: Value,
        manner: &Manner,
    ) -> Result<Value, Failure> {
        if target.kind.kind == "Pod" {
            self.require_same_spec(target, known, &merged)?;
        }
        let plain = keep_managers(strip_object(&merged, manner, target.kind)?, &merged);
        let namespace = target.namespace.clone().unwrap_or_default();
        let plain = keep_identity(plain, known);
        let changed = store::replace_object(&self.engine, target.kind, &namespace, &plain, manner.dry)?;
        self.finish_write(target, changed, manner)
    }

    /// Returns what is to be answered: the object as it now is, with its revision.
    pub fn finish_write(&self, target: &Target, made: Value, manner: &Manner) -> Result<Value, Failure> {
        if manner.dry {
            return Ok(made);
        }
        let (_, name) = store::object_key(&made);
        let one = Target { name: Some(name), subresource: None, ..target.clone() };
        match self.find_object_now(&one) {
            Ok(object) => Ok(object),
            // A pod may have ended and gone already.
            Err(failure) if failure.code == 404 => Ok(made),
            Err(failure) => Err(failure),
        }
    }
}

/// The note of who manages what stays with the object.
fn keep_managers(mut plain: Value, object: &Value) -> Value {
    if object["metadata"]["managedFields"].is_array() {
        plain["metadata"]["managedFields"] = object["metadata"]["managedFields"].clone();
    }
    plain
}

/// A changed object is the same object.
fn keep_identity(mut plain: Value, known: &Value) -> Value {
    for field in ["uid", "creationTimestamp"] {
        plain["metadata"][field] = known["metadata"][field].clone();
    }
    plain
}

/// Tells whether two values say the same: what is empty is as good as absent.
fn same_value(a: &Value, b: &Value) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let mut names: Vec<&String> = x.keys().chain(y.keys()).collect();
            names.dedup();
            names.iter().all(|name| same_value(&a[name.as_str()], &b[name.as_str()]))
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).all(|(x, y)| same_value(x, y))
        }
        _ => a == b || is_empty(a) && is_empty(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(name: Option<&str>) -> Target {
        let kind = find_kind("", "v1", "pods").unwrap();
        let own = |text: &str| text.to_owned();
        Target { kind, namespace: Some(own("default")), name: name.map(own), subresource: None }
    }

    #[test]
    fn an_object_must_be_what_its_path_says() {
        let prepared = prepare_object(json!({"metadata": {"name": "a"}}), &pods(None), true).unwrap();
        assert_eq!(
            prepared,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "default"}})
        );
        for (wrong, code) in [
            (json!([]), 400),
            (json!({"kind": "Secret"}), 400),
            (json!({"metadata": {"name": "a", "namespace": "other"}}), 400),
            (json!({"metadata": {}}), 422),
            (json!({"metadata": {"name": "a", "resourceVersion": "1"}}), 400),
        ] {
            assert_eq!(prepare_object(wrong.clone(), &pods(None), true).unwrap_err().code, code, "{wrong}");
        }
        assert_eq!(
            prepare_object(json!({"metadata": {"name": "a"}}), &pods(Some("b")), false).unwrap_err().code,
            400
        );
        let generated =
            prepare_object(json!({"metadata": {"generateName": "a-"}}), &pods(None), true).unwrap();
        assert!(generated["metadata"]["name"].as_str().unwrap().len() > 2);
    }

    #[test]
    fn what_is_empty_is_as_good_as_absent() {
        assert!(same_value(&json!({"a": [{"b": 1, "c": {}}]}), &json!({"a": [{"b": 1}], "d": []})));
        assert!(!same_value(&json!({"a": [{"b": 1}]}), &json!({"a": [{"b": 2}]})));
        assert!(!same_value(&json!({"a": [1, 2]}), &json!({"a": [1]})));
        assert!(!same_value(&json!({"a": 1}), &json!({})));
    }
}
