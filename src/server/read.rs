//! One object, and lists: as they are, as rows, as metadata alone.

use std::sync::Arc;

use http::StatusCode;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Server,
    http::{Answer, Asked, json_answer},
    kinds::Kind,
    list_options::ListOptions,
    object_access::{self, object_key},
    object_tables::{Include, make_table, partial_metadata},
    revisions::Seen,
    route::{Form, Target, choose_form},
    run_blocking,
    status::Failure,
};
use crate::{
    process::give_back_memory,
    view::{field_selector::FieldSelector, selectors::Labels},
};

/// Number of objects in a list after which the memory that it took is given back.
const MANY: usize = 50;

/// Tells which objects of a kind a request means.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub labels: Labels,
    pub fields: FieldSelector,
}

impl Choice {
    /// Reads the selectors of a request.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(asked: &Asked, target: &Target) -> Result<Choice, Failure> {
        let labels = asked.query.find("labelSelector").unwrap_or_default();
        let fields = asked.query.find("fieldSelector").unwrap_or_default();
        Ok(Choice {
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            labels: Labels::parse(labels).map_err(Failure::bad_request)?,
            fields: FieldSelector::parse(&target.kind.qualified_kind(), fields)
                .map_err(Failure::bad_request)?,
        })
    }

    /// Tells whether an object is meant.
    pub fn includes(&self, object: &Value) -> bool {
        let meta = &object["metadata"];
        let labels = serde_json::from_value(meta["labels"].clone()).ok();
        self.namespace.as_ref().is_none_or(|own| meta["namespace"] == own.as_str())
            && self.name.as_ref().is_none_or(|own| meta["name"] == own.as_str())
            && self.labels.matches(labels.as_ref())
            && self.fields.matches(object)
    }
}

/// `GET …/NAME`
///
/// # Errors
/// Why it is not given.
pub async fn answer_get(server: Arc<Server>, asked: &Asked, target: &Target) -> Result<Answer, Failure> {
    let wanted = Wanted::parse(asked)?;
    let object = server.find_object(target).await?;
    Ok(wanted.answer_object(StatusCode::OK, target.kind, object))
}

/// Tells how a client wants to have an object, whatever it does with it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    form: Form,
    include: Include,
}

impl Wanted {
    /// Reads it from a request; to be done before anything is changed.
    ///
    /// # Errors
    /// The client takes nothing that can be given.
    pub fn parse(asked: &Asked) -> Result<Wanted, Failure> {
        let form = choose_form(asked.header("accept")).ok_or_else(Failure::not_acceptable)?;
        Ok(Wanted { form, include: Include::parse(asked.query.find("includeObject")) })
    }

    /// The answer that an object is.
    pub fn answer_object(self, code: StatusCode, kind: &Kind, object: Value) -> Answer {
        let value = match self.form {
            Form::Table => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                make_table(kind.kind, &[object], metadata, self.include, Timestamp::now())
            }
            Form::Partial => partial_metadata(&object),
            Form::Plain | Form::Aggregated(_) => object,
        };
        json_answer(code, &value)
    }
}

/// `GET` of a list.
///
/// # Errors
/// Why it is not given.
pub async fn answer_list(server: Arc<Server>, asked: &Asked, target: &Target) -> Result<Answer, Failure> {
    let form = choose_form(asked.header("accept")).ok_or_else(Failure::not_acceptable)?;
    let choice = Choice::parse(asked, target)?;
    let options = ListOptions::parse(&asked.query, false)?;
    let limit = asked.query.number("limit").map_err(Failure::bad_request)?.filter(|limit| *limit > 0);
    let after = asked.query.find("continue").map(parse_continuation).transpose()?;
    let (objects, revision) = server.list_kind(target.kind, target.namespace.clone()).await?;
    options.check_revision(target.kind, revision)?;
    let mut chosen: Vec<Value> = objects.into_iter().filter(|object| choice.includes(object)).collect();
    if let Some(after) = &after {
        chosen.retain(|object| object_key(object) > *after);
    }
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok())
        && chosen.len() > limit
    {
        metadata["remainingItemCount"] = (chosen.len() - limit).into();
        chosen.truncate(limit);
        if let Some(last) = chosen.last() {
            metadata["continue"] = write_continuation(&object_key(last)).into();
        }
    }
    let include = Include::parse(asked.query.find("includeObject"));
    let value = match form {
        Form::Table => make_table(target.kind.kind, &chosen, metadata, include, Timestamp::now()),
        Form::Partial => {
            let items: Vec<Value> = chosen.iter().map(partial_metadata).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "items": items})
        }
        Form::Plain | Form::Aggregated(_) => make_list(target.kind, &chosen, metadata),
    };
    let answer = json_answer(StatusCode::OK, &value);
    if chosen.len() > MANY {
        drop((chosen, value));
        give_back_memory();
    }
    Ok(answer)
}

/// The list of a kind's objects.
pub fn make_list(kind: &Kind, items: &[Value], metadata: Value) -> Value {
    json!({"kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": metadata,
        "items": items})
}

/// Tells where the next page begins, as text that clients send back: after that namespace and name.
fn write_continuation((namespace, name): &(String, String)) -> String {
    format!("{namespace}/{name}").bytes().map(|b| format!("{b:02x}")).collect()
}

/// Reads where a page begins.
///
/// # Errors
/// It is none that was given here.
pub fn parse_continuation(text: &str) -> Result<(String, String), Failure> {
    let wrong = || Failure::bad_request("continue key is not valid: it is none that was given here");
    let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(digits).collect();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    let (namespace, name) = text.split_once('/').ok_or_else(wrong)?;
    Ok((namespace.to_owned(), name.to_owned()))
}

/// Returns an object as it was seen, with its revision.
pub fn read_seen(seen: &Seen) -> Value {
    let mut object: Value = serde_json::from_slice(&seen.text).unwrap_or_default();
    object["metadata"]["resourceVersion"] = seen.revision.to_string().into();
    object
}

/// The container that a request means: the one that it names, or the only one.
///
/// # Errors
/// There is none of that name, or several and none is named.
pub fn read_container(pod: &Value, named: Option<&str>) -> Result<String, Failure> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let names = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|container| Some(container["name"].as_str()?.to_owned())).collect()
    };
    let apps = names("containers");
    let Some(wanted) = named else {
        return match &apps[..] {
            [one] => Ok(one.clone()),
            many => Err(Failure::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                many.join(" ")
            ))),
        };
    };
    let all = [apps, names("initContainers"), names("ephemeralContainers")].concat();
    match all.iter().any(|known| known == wanted) {
        true => Ok(wanted.to_owned()),
        false => Err(Failure::bad_request(format!("container {wanted} is not valid for pod {name}"))),
    }
}

impl Server {
    /// Returns an object as it is now, with its revision.
    ///
    /// # Errors
    /// Among them that there is none.
    pub async fn find_object(self: &Arc<Server>, target: &Target) -> Result<Value, Failure> {
        let (server, target) = (self.clone(), target.clone());
        run_blocking(move || server.find_object_now(&target)).await
    }

    /// Does as [`Server::find_object`], for a thread that may wait.
    ///
    /// # Errors
    /// As [`Server::find_object`].
    pub fn find_object_now(&self, target: &Target) -> Result<Value, Failure> {
        let (namespace, name) = (target.namespace.as_deref().unwrap_or_default(), target.name.as_deref());
        let name = name.unwrap_or_default();
        let _one_at_a_time = self.refreshing.lock();
        let found = object_access::find_object(&self.engine, target.kind, namespace, name);
        if target.kind.group == "metrics.k8s.io" {
            return found;
        }
        let text = match &found {
            Ok(object) => Some(object.to_string().into_bytes()),
            Err(failure) if failure.code == 404 => None,
            Err(_) => return found,
        };
        let key = (namespace.to_owned(), name.to_owned());
        let seen = self.note_object(target.kind, key, text);
        found.map(|object| seen.as_ref().map_or(object, read_seen))
    }

    /// All objects of a kind as they are now, and the revision of the list.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn list_kind(
        self: &Arc<Server>,
        kind: &'static Kind,
        namespace: Option<String>,
    ) -> Result<(Vec<Value>, u64), Failure> {
        let server = self.clone();
        run_blocking(move || {
            if kind.group == "metrics.k8s.io" {
                let objects = object_access::list_objects(&server.engine, kind, namespace.as_deref())?;
                return Ok((objects, server.current_revision()));
            }
            let (seen, revision) = server.refresh_kind(kind)?;
            let own = |key: &(String, String)| namespace.as_ref().is_none_or(|own| key.0 == *own);
            Ok((seen.iter().filter(|(key, _)| own(key)).map(|(_, seen)| read_seen(seen)).collect(), revision))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_named_or_the_only_one() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(read_container(&pod, None).unwrap(), "a");
        assert_eq!(read_container(&pod, Some("i")).unwrap(), "i");
        assert_eq!(
            read_container(&pod, Some("x")).unwrap_err().message,
            "container x is not valid for pod p"
        );
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        assert!(read_container(&two, None).unwrap_err().message.ends_with("choose one of: [a b]"));
    }

    #[test]
    fn a_continuation_comes_back_as_it_was() {
        let key = ("default".to_owned(), "wéb".to_owned());
        assert_eq!(parse_continuation(&write_continuation(&key)).unwrap(), key);
        for wrong in ["zz", "6", "61"] {
            assert!(parse_continuation(wrong).is_err(), "{wrong}");
        }
    }
}
