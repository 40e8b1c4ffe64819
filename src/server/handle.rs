//! From a request to what answers it.

use std::sync::Arc;

use http::{Method, StatusCode, header};
use serde_json::json;

use super::{
    Server, delete, discovery,
    http::{Answer, Asked, lasting_answer, typed_answer},
    read,
    route::{Form, Route, Target, choose_form, parse_path},
    status::Failure,
    streams, watch, write,
};
use crate::engine::openapi;

/// Answers a request whose credential was accepted.
///
/// # Errors
/// Why it is not done.
pub async fn answer_request(server: Arc<Server>, asked: Asked) -> Result<Answer, Failure> {
    let route = parse_path(&asked.path).ok_or_else(Failure::no_path)?;
    if let Route::Objects(target) = route {
        return answer_objects(server, asked, target).await;
    }
    if let Route::Proxy(target, path) = route {
        return streams::proxy::answer_proxy(server, asked, &target, &path).await;
    }
    if asked.method != Method::GET {
        return Err(Failure::not_allowed());
    }
    let form = choose_form(asked.header("accept"));
    let json =
        |value: serde_json::Value| Ok(lasting_answer(&asked, "application/json", value.to_string(), false));
    match route {
        Route::Root => json(discovery::root_paths()),
        Route::Version => json(discovery::version_info()),
        Route::Health => Ok(typed_answer(StatusCode::OK, "text/plain", "ok")),
        Route::CoreVersions | Route::Groups => {
            let core = route == Route::CoreVersions;
            match form {
                Some(form @ Form::Aggregated(beta)) => {
                    let text = discovery::aggregated_groups(core, beta).to_string();
                    Ok(lasting_answer(&asked, form.content_type(), text, false))
                }
                Some(_) if core => json(discovery::core_versions(asked.header("host").unwrap_or_default())),
                Some(_) => json(discovery::group_list()),
                None => Err(Failure::not_acceptable()),
            }
        }
        Route::Group(group) => json(discovery::single_group(&group).ok_or_else(Failure::no_path)?),
        Route::Resources(group, version) => {
            json(discovery::resource_list(&group, &version).ok_or_else(Failure::no_path)?)
        }
        Route::OpenApiIndex => json(openapi::document_index()),
        Route::OpenApiV2 => Ok(lasting_answer(&asked, openapi::V2_TYPE, openapi::V2_DOCUMENT, false)),
        Route::OpenApi(path) => answer_openapi(&asked, &path),
        Route::Objects(_) | Route::Proxy(..) => Err(Failure::no_path()),
    }
}

fn answer_openapi(asked: &Asked, path: &str) -> Result<Answer, Failure> {
    let packed = openapi::compressed_document(path).ok_or_else(Failure::no_path)?;
    // An address with another document's hash is an old one, and what is found there not to be kept.
    let lasts =
        asked.query.find("hash").is_some_and(|hash| openapi::document_hash(path).as_deref() == Some(hash));
    if asked.header("accept-encoding").is_some_and(|all| all.contains("gzip")) {
        let mut answer = lasting_answer(asked, "application/json", packed, lasts);
        answer.headers_mut().insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
        return Ok(answer);
    }
    let plain = openapi::plain_document(path).ok_or_else(Failure::no_path)?;
    Ok(lasting_answer(asked, "application/json", plain, lasts))
}

async fn answer_objects(server: Arc<Server>, asked: Asked, target: Target) -> Result<Answer, Failure> {
    let verb = choose_verb(&asked, &target)?;
    let own = target.subresource.as_deref().and_then(|name| target.kind.find_subresource(name));
    let allowed = own.map_or(&target.kind.verbs, |below| &below.verbs);
    if !allowed.contains(&verb) {
        let empty = target.kind.empty;
        return Err(if empty { Failure::never_kept(target.kind) } else { Failure::not_allowed() });
    }
    if target.kind.namespaced && target.namespace.is_none() && !matches!(verb, "list" | "watch") {
        return Err(Failure::bad_request("the namespace of the object may not be empty"));
    }
    match target.subresource.as_deref() {
        Some("log") => return streams::log::answer_log(server, &asked, &target).await,
        Some("exec" | "attach") => return streams::exec::answer_exec(server, asked, &target).await,
        Some("portforward") => {
            return streams::port_forward::answer_port_forward(server, asked, &target).await;
        }
        _ => {}
    }
    match verb {
        "get" => read::answer_get(server, &asked, &target).await,
        "list" => read::answer_list(server, &asked, &target).await,
        "watch" => watch::answer_watch(server, &asked, &target).await,
        "create" => write::answer_create(server, &asked, target).await,
        "update" => write::answer_update(server, &asked, target).await,
        "patch" => write::answer_patch(server, &asked, target).await,
        "delete" => delete::answer_delete(server, &asked, target).await,
        "deletecollection" => delete::answer_delete_all(server, &asked, target).await,
        _ => Err(Failure::not_allowed()),
    }
}

/// The API's verb, which the method alone does not say.
fn choose_verb(asked: &Asked, target: &Target) -> Result<&'static str, Failure> {
    let one = target.name.is_some();
    // A WebSocket begins with GET, whatever it is for.
    let streams = matches!(target.subresource.as_deref(), Some("exec" | "attach" | "portforward"));
    Ok(match asked.method {
        Method::GET | Method::HEAD if asked.query.is_true("watch") && !one => "watch",
        Method::GET | Method::HEAD if one => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST if streams => "create",
        Method::POST if one == target.subresource.is_some() => "create",
        Method::PUT if one => "update",
        Method::PATCH if one => "patch",
        Method::DELETE if one => "delete",
        Method::DELETE => "deletecollection",
        _ => return Err(Failure::not_allowed()),
    })
}

/// Tells whether a client may do something: its own user may do everything that is served.
pub fn review_access(mut review: serde_json::Value, token: &str) -> serde_json::Value {
    review["status"] = match review["kind"].as_str() {
        Some("SelfSubjectRulesReview") => json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
        Some("SelfSubjectReview") => {
            json!({"userInfo": user_info()})
        }
        // Whoever asks has shown the one token that there is.
        Some("TokenReview") if review["spec"]["token"] == token => {
            json!({"authenticated": true, "user": user_info()})
        }
        Some("TokenReview") => json!({"authenticated": false, "error": "no such token"}),
        _ => json!({"allowed": true, "reason": "everything here is this user's own"}),
    };
    review
}

fn user_info() -> serde_json::Value {
    json!({"username": user_name(), "groups": ["system:masters", "system:authenticated"]})
}

fn user_name() -> String {
    let uid = nix::unistd::geteuid();
    nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}
