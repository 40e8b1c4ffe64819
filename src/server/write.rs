//! What changes objects: POST, PUT and PATCH.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Server, body, delete, handle,
    http::{Answer, Asked, json_answer},
    kinds::{Kind, find_kind},
    object_access::{self, Creation, Replacement},
    read::Wanted,
    route::Target,
    run_blocking,
    status::{Cause, Failure},
    streams,
};
use crate::engine::{
    PodPart,
    managed_fields::{Applier, Conflict, apply_config, note_apply},
    object_version,
    patch::{self, PatchType},
};

/// The number of times a change is tried on an object that others change meanwhile.
const TRIES: u32 = 5;

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

/// Returns what kubectl prints of conflicts.
fn refuse_conflicts(kind: &Kind, conflicts: &[Conflict]) -> Failure {
    let said = |c: &Conflict| format!("conflict with {:?}: {}", c.manager, c.field);
    let list: Vec<String> = conflicts.iter().map(said).collect();
    let what = match &list[..] {
        [one] => format!("Apply failed with 1 conflict: {one}"),
        many => format!("Apply failed with {} conflicts: {}", many.len(), many.join("\n")),
    };
    let mut failure = Failure::refused_conflict(kind, "", "");
    failure.message = what;
    let cause = |c: &Conflict| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {:?}", c.manager), "field": c.field});
    failure.details = json!({"causes": conflicts.iter().map(cause).collect::<Vec<_>>()});
    failure
}

impl Manner {
    fn applier(&self) -> Applier {
        Applier { name: self.manager.clone(), force: self.force }
    }

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
    let (manner, wanted) = (Manner::parse(asked)?, Wanted::parse(asked)?);
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
    let kind = target.kind;
    let made = run_blocking(move || server.create_now(&target, object, &manner)).await?;
    Ok(wanted.answer_object(StatusCode::CREATED, kind, made))
}

/// `PUT`
///
/// # Errors
/// Why nothing is changed.
pub async fn answer_update(server: Arc<Server>, asked: &Asked, target: Target) -> Result<Answer, Failure> {
    let (manner, wanted, kind) = (Manner::parse(asked)?, Wanted::parse(asked)?, target.kind);
    let object = prepare_object(body::read_object(asked)?, &target, false)?;
    let changed = run_blocking(move || {
        retry_conflicts(|| {
            let known = server.find_object_now(&target)?;
            server.change_now(&target, &known, object.clone(), &manner)
        })
    });
    Ok(wanted.answer_object(StatusCode::OK, kind, changed.await?))
}

/// `PATCH`
///
/// # Errors
/// Why nothing is changed.
pub async fn answer_patch(server: Arc<Server>, asked: &Asked, target: Target) -> Result<Answer, Failure> {
    let (manner, wanted, kind) = (Manner::parse(asked)?, Wanted::parse(asked)?, target.kind);
    let type_ = asked.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if type_ == "application/apply-patch+yaml" {
        let config = prepare_object(body::parse_text(&asked.body)?, &target, false)?;
        let applied = move || retry_conflicts(|| server.apply_now(&target, &config, &manner));
        let (object, code) = run_blocking(applied).await?;
        return Ok(wanted.answer_object(code, kind, object));
    }
    let Some(type_) = PatchType::of_content_type(type_) else {
        return Err(Failure::unsupported_type(format!(
            "a patch of type {type_:?} is not known; there are application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json and application/apply-patch+yaml"
        )));
    };
    let body = asked.body.clone();
    let patch_now = move || {
        let known = server.find_object_now(&target)?;
        let patched = patch::apply_patch(type_, &known, &body);
        let patched = patched.map_err(|e| match e {
            patch::Error::Malformed(_) | patch::Error::Unlike(_) => Failure::bad_request(e.to_string()),
            patch::Error::Unfitting(_) => Failure::unprocessable(e.to_string()),
        })?;
        let patched = prepare_object(patched, &target, false)?;
        server.change_now(&target, &known, patched, &manner)
    };
    let changed = run_blocking(move || retry_conflicts(&patch_now));
    Ok(wanted.answer_object(StatusCode::OK, kind, changed.await?))
}

/// Tries again what somebody else has changed meanwhile; whoever named a revision that is no more is told so in the end.
fn retry_conflicts<T>(attempt: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 1..TRIES {
        match attempt() {
            Err(failure) if failure.reason == "Conflict" => {}
            done => return done,
        }
    }
    attempt()
}

/// Checks that an object is what its path says, and fills in what the path says of it.
///
/// # Errors
/// What contradicts the path, or has a shape that no object has.
pub fn prepare_object(mut object: Value, target: &Target, fresh: bool) -> Result<Value, Failure> {
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
    match &object["metadata"] {
        Value::Object(_) => {}
        Value::Null => object["metadata"] = json!({}),
        _ => return Err(Failure::bad_request("metadata is no object")),
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
            Some(prefix) if !prefix.is_empty() => {
                meta["name"] = crate::manifest::generated_name(prefix).into()
            }
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

/// Takes an object of a client as an API server does that was written in Go and was not asked to be strict.
fn tidy_object(mut object: Value, manner: &Manner, kind: &Kind) -> Result<Value, Failure> {
    // Go takes base64 with line breaks in it.
    for list in
        ["data", "binaryData"].into_iter().filter(|list| kind.kind == "Secret" || *list == "binaryData")
    {
        for (_, value) in object.get_mut(list).and_then(Value::as_object_mut).into_iter().flatten() {
            if let Some(text) = value.as_str().filter(|text| text.contains(['\n', '\r'])) {
                *value = text.replace(['\n', '\r'], "").into();
            }
        }
    }
    if manner.strict { Ok(object) } else { body::drop_unknown_fields(kind, object) }
}

impl Server {
    fn create_now(&self, target: &Target, object: Value, manner: &Manner) -> Result<Value, Failure> {
        let kind = target.kind;
        let namespace = self.require_namespace(target)?;
        let object = tidy_object(object, manner, kind)?;
        let how = Creation { dry_run: manner.dry, manager: Some(&manner.manager) };
        let made = object_access::create_object(&self.engine, kind, &namespace, &object, how)?;
        self.finish_write(target, made, None, manner)
    }

    /// The namespace of a request, which must be there.
    fn require_namespace(&self, target: &Target) -> Result<String, Failure> {
        let Some(namespace) = target.namespace.clone() else { return Ok(String::new()) };
        let all = self.engine.namespaces().map_err(|e| object_access::to_failure(target.kind, "", e))?;
        match (all.iter().any(|known| *known == *namespace), find_kind("", "v1", "namespaces")) {
            (false, Some(kind)) => Err(Failure::not_found(kind, &namespace)),
            _ => Ok(namespace),
        }
    }

    /// Puts a changed object in the place of the known one.
    fn change_now(
        &self,
        target: &Target,
        known: &Value,
        object: Value,
        manner: &Manner,
    ) -> Result<Value, Failure> {
        let (kind, name) = (target.kind, target.name.as_deref().unwrap_or_default());
        let (before, after) = (&known["metadata"], &object["metadata"]);
        let given = |field: &str| after[field].as_str().filter(|text| !text.is_empty());
        // What the command line printed has the engine's own version.
        let is_known = |given: &str| before["resourceVersion"] == given || object_version(known) == given;
        if given("resourceVersion").is_some_and(|given| !is_known(given))
            || given("uid").is_some_and(|given| before["uid"] != given)
        {
            return Err(Failure::conflict(kind, name));
        }
        let part = match target.subresource.as_deref() {
            Some("ephemeralcontainers") => {
                return streams::debug::add_containers(self, target, known, &object, manner.dry);
            }
            Some("finalize") => return Ok(known.clone()),
            Some("resize") => PodPart::Resources,
            Some("status") if kind.kind == "Pod" => PodPart::Status,
            Some(_) => {
                let message = "the status is what the object is: nobody else can write it";
                return Err(Failure::forbidden(message));
            }
            None => PodPart::Object,
        };
        // Nobody manages a field that is dropped.
        let object = tidy_object(object, manner, kind)?;
        let how = Replacement { known, part, dry_run: manner.dry, manager: Some(&manner.manager) };
        self.replace_now(target, &object, how, manner)
    }

    fn replace_now(
        &self,
        target: &Target,
        object: &Value,
        how: Replacement<'_>,
        manner: &Manner,
    ) -> Result<Value, Failure> {
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let changed = object_access::replace_object(&self.engine, target.kind, namespace, object, how)?;
        self.finish_write(target, changed, Some(how.known), manner)
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
                let (merged, conflicts) = apply_config(&known, config, &manner.applier());
                if !conflicts.is_empty() && !manner.force {
                    return Err(refuse_conflicts(target.kind, &conflicts));
                }
                let part = match target.subresource.as_deref() {
                    Some("status") => PodPart::Status,
                    Some("resize") => PodPart::Resources,
                    _ => PodPart::Object,
                };
                let merged = tidy_object(merged, manner, target.kind)?;
                let how = Replacement { known: &known, part, dry_run: manner.dry, manager: None };
                Ok((self.replace_now(target, &merged, how, manner)?, StatusCode::OK))
            }
            Err(failure) if failure.code == 404 => {
                let namespace = self.require_namespace(target)?;
                let mut object = tidy_object(config.clone(), manner, target.kind)?;
                note_apply(&mut object, config, &manner.applier());
                let how = Creation { dry_run: manner.dry, manager: None };
                let made = object_access::create_object(&self.engine, target.kind, &namespace, &object, how)?;
                Ok((self.finish_write(target, made, None, manner)?, StatusCode::CREATED))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Returns what is to be answered: the object as it now is, with its revision. What was not kept has the revision of the
    /// known object that it would have replaced; else none.
    fn finish_write(
        &self,
        target: &Target,
        made: Value,
        known: Option<&Value>,
        manner: &Manner,
    ) -> Result<Value, Failure> {
        if manner.dry {
            let mut made = made;
            let revision = known.map(|known| known["metadata"]["resourceVersion"].clone());
            match (made["metadata"].as_object_mut(), revision) {
                (Some(meta), Some(revision)) => drop(meta.insert("resourceVersion".into(), revision)),
                (Some(meta), None) => drop(meta.remove("resourceVersion")),
                (None, _) => {}
            }
            return Ok(made);
        }
        let (_, name) = object_access::object_key(&made);
        let one = Target { name: Some(name), subresource: None, ..target.clone() };
        match self.find_object_now(&one) {
            Ok(object) => Ok(object),
            // A pod may have ended and gone already.
            Err(failure) if failure.code == 404 => Ok(made),
            Err(failure) => Err(failure),
        }
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
            (json!({"metadata": "a"}), 400),
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
}
