//! What takes objects away: DELETE of one and of many, evictions, and what clients say about an end.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Server, body,
    http::{Answer, Asked, json_answer},
    object_access,
    read::{Choice, make_list},
    route::Target,
    run_blocking,
    status::{Failure, success_status},
};
use crate::{
    engine::{DeletionBatch, ObjectKind, object_version},
    pod::DEFAULT_GRACE_PERIOD_SECONDS,
};

/// `DELETE` of one.
///
/// # Errors
/// Why it stays.
pub async fn answer_delete(server: Arc<Server>, asked: &Asked, target: Target) -> Result<Answer, Failure> {
    let options = DeleteOptions::parse(asked)?;
    let answer = run_blocking(move || server.delete_now(&target, &options)).await?;
    Ok(json_answer(StatusCode::OK, &answer))
}

/// `DELETE` of a list.
///
/// # Errors
/// Why what is left stays.
pub async fn answer_delete_all(
    server: Arc<Server>,
    asked: &Asked,
    target: Target,
) -> Result<Answer, Failure> {
    let options = DeleteOptions::parse(asked)?;
    let choice = Choice::parse(asked, &target)?;
    let (objects, revision) = server.list_kind(target.kind, target.namespace.clone()).await?;
    let chosen: Vec<Value> = objects.into_iter().filter(|object| choice.includes(object)).collect();
    let kind = target.kind;
    let items = chosen.clone();
    run_blocking(move || {
        let mut batch = server.engine.begin_deletion();
        for object in &chosen {
            let (namespace, name) = object_access::object_key(object);
            let one = Target { namespace: Some(namespace), name: Some(name), ..target.clone() };
            match server.delete_in_batch(&one, &options, &mut batch) {
                Ok(_) => {}
                Err(failure) if failure.code == 404 => {}
                Err(failure) => return Err(failure),
            }
        }
        object_access::finish_deletion(batch, target.kind)?;
        // Watches hear of it at once.
        let _ = server.refresh_kind(target.kind);
        Ok(())
    })
    .await?;
    Ok(json_answer(
        StatusCode::OK,
        &make_list(kind, &items, json!({"resourceVersion": revision.to_string()})),
    ))
}

/// `POST …/eviction`
///
/// # Errors
/// Why the pod stays.
pub async fn answer_eviction(
    server: Arc<Server>,
    eviction: Value,
    target: Target,
) -> Result<Answer, Failure> {
    let options = DeleteOptions::read(&eviction["deleteOptions"])?;
    run_blocking(move || server.delete_now(&Target { subresource: None, ..target }, &options)).await?;
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(json_answer(StatusCode::CREATED, &status))
}

/// Holds what a client says about an object's end.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    grace: Option<Duration>,
    uid: Option<String>,
    revision: Option<String>,
    dry: bool,
    /// Tells whether what the object has made stays, if the client says anything of it.
    orphans: Option<bool>,
}

impl DeleteOptions {
    /// Reads the body, or the query of clients that have none.
    ///
    /// # Errors
    /// What is of no use; an unknown word for a dry run among it, lest it be none.
    pub fn parse(asked: &Asked) -> Result<DeleteOptions, Failure> {
        let mut options = match asked.body.is_empty() {
            true => DeleteOptions::default(),
            false => DeleteOptions::read(&body::read_object(asked)?)?,
        };
        let seconds = asked.query.number("gracePeriodSeconds").map_err(Failure::bad_request)?;
        options.grace = options.grace.or(seconds.map(read_grace).transpose()?);
        for word in asked.query.all("dryRun").filter(|word| !word.is_empty()) {
            options.dry |= read_dry_run(word)?;
        }
        options.orphans = options.orphans.or(read_propagation(asked.query.find("propagationPolicy"))?);
        Ok(options)
    }

    fn read(value: &Value) -> Result<DeleteOptions, Failure> {
        let grace = match &value["gracePeriodSeconds"] {
            Value::Null => None,
            number => {
                let seconds = number.as_u64().ok_or_else(|| {
                    Failure::bad_request(format!(
                        "gracePeriodSeconds: {number} is no number of seconds from 0"
                    ))
                })?;
                Some(read_grace(seconds)?)
            }
        };
        let orphans = value["orphanDependents"].as_bool();
        let orphans = read_propagation(value["propagationPolicy"].as_str())?.or(orphans);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let conditions = &value["preconditions"];
        let mut dry = false;
        match &value["dryRun"] {
            Value::Null => {}
            Value::Array(all) => {
                for word in all {
                    dry |= read_dry_run(word.as_str().unwrap_or_default())?;
                }
            }
            other => return Err(Failure::bad_request(format!("dryRun: {other} is no list"))),
        }
        Ok(DeleteOptions {
            grace,
            uid: text(&conditions["uid"]),
            revision: text(&conditions["resourceVersion"]),
            dry,
            orphans,
        })
    }
}

/// Reads a number of seconds, which objects say with a sign.
fn read_grace(seconds: u64) -> Result<Duration, Failure> {
    match i64::try_from(seconds) {
        Ok(_) => Ok(Duration::from_secs(seconds)),
        Err(_) => Err(Failure::bad_request(format!("gracePeriodSeconds: {seconds} is too large"))),
    }
}

/// Reads one word of what is to be only tried.
fn read_dry_run(word: &str) -> Result<bool, Failure> {
    match word {
        "All" => Ok(true),
        other => Err(Failure::bad_request(format!(
            "dryRun: Unsupported value: {other:?}: supported values: \"All\""
        ))),
    }
}

/// Tells whether what the object has made is to stay, by the word of a client.
fn read_propagation(policy: Option<&str>) -> Result<Option<bool>, Failure> {
    match policy {
        None => Ok(None),
        Some(policy @ ("Background" | "Foreground" | "Orphan")) => Ok(Some(policy == "Orphan")),
        Some(other) => Err(Failure::bad_request(format!(
            "propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
        ))),
    }
}

impl Server {
    fn delete_now(&self, target: &Target, options: &DeleteOptions) -> Result<Value, Failure> {
        let mut batch = self.engine.begin_deletion();
        let known = self.delete_in_batch(target, options, &mut batch)?;
        object_access::finish_deletion(batch, target.kind)?;
        if options.dry || target.kind.kind == "Namespace" {
            return Ok(known);
        }
        // Watches hear of it at once.
        let _ = self.refresh_kind(target.kind);
        Ok(self.describe_deleted(target, options, known))
    }

    /// Deletes an object, but not yet what it owns; returns it as it was.
    fn delete_in_batch(
        &self,
        target: &Target,
        options: &DeleteOptions,
        batch: &mut DeletionBatch<'_>,
    ) -> Result<Value, Failure> {
        let (kind, name) = (target.kind, target.name.as_deref().unwrap_or_default());
        let mut known = self.find_object_now(target)?;
        let meta = &known["metadata"];
        for (wanted, field) in [(&options.uid, "uid"), (&options.revision, "resourceVersion")] {
            if let Some(wanted) = wanted
                && meta[field] != wanted.as_str()
                && (field == "uid" || object_version(&known) != *wanted)
            {
                let why = format!(
                    "Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {}",
                    meta[field]
                );
                return Err(Failure::refused_conflict(kind, name, &why));
            }
        }
        if options.dry {
            return Ok(known);
        }
        let namespace = target.namespace.clone().unwrap_or_default();
        if kind.kind == "Namespace" {
            object_access::check_deletion(&self.engine, kind, &namespace, name)?;
            self.delete_namespace_behind(name);
            known["status"]["phase"] = "Terminating".into();
            known["metadata"]["deletionTimestamp"] = format!("{:.0}", Timestamp::now()).into();
            return Ok(known);
        }
        // A Job's pods stay unless the client says otherwise, as the API server has it since batch/v1 began.
        let orphans = options.orphans.unwrap_or(kind.kind == "Job");
        object_access::delete_object(batch, kind, &namespace, name, (options.grace, orphans))?;
        Ok(known)
    }

    /// Returns what a client hears of an object that was deleted: a pod is there until it has ended.
    fn describe_deleted(&self, target: &Target, options: &DeleteOptions, mut known: Value) -> Value {
        let (kind, name) = (target.kind, target.name.as_deref().unwrap_or_default());
        let uid = known["metadata"]["uid"].clone();
        if kind.kind != "Pod" {
            return success_status(kind, name, &uid);
        }
        if let Ok(ending) = self.find_object_now(target)
            && ending["metadata"]["uid"] == uid
        {
            known = ending;
        }
        let own = &known["spec"]["terminationGracePeriodSeconds"];
        let seconds = options.grace.map_or_else(
            || own.as_u64().unwrap_or(DEFAULT_GRACE_PERIOD_SECONDS.unsigned_abs()),
            |grace| grace.as_secs(),
        );
        let meta = &mut known["metadata"];
        if meta["deletionTimestamp"].is_null() {
            let at = Timestamp::now() + Duration::from_secs(seconds.min(1 << 30));
            meta["deletionTimestamp"] = format!("{at:.0}").into();
            meta["deletionGracePeriodSeconds"] = seconds.into();
        }
        known
    }

    /// What is in a namespace has to end first; its client watches.
    fn delete_namespace_behind(&self, name: &str) {
        let (engine, name) = (self.engine.clone(), name.to_owned());
        std::thread::spawn(move || {
            // What cannot be removed stays to be seen, and can be deleted again.
            let _ = engine.delete_object(ObjectKind::Namespace, "", &name, &Default::default());
        });
    }
}
