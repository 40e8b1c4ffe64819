//! What goes wrong, as the Kubernetes API says it: a `Status` with a code, a reason and details. PURE.

use serde_json::{Value, json};

use super::kinds::Kind;

/// The reason why a request is not done.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// HTTP's status code.
    pub code: u16,
    /// The word that programs look at: `NotFound`.
    pub reason: &'static str,
    /// The sentence that users see.
    pub message: String,
    /// Tells which object, and each cause.
    pub details: Value,
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Holds a text such as `spec.containers[0].image`.
    pub field: String,
    /// Holds what is wrong and what is allowed.
    pub message: String,
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, reason, message: message.into(), details: json!({}) }
    }

    fn about(kind: &Kind, name: &str, code: u16, reason: &'static str, rest: &str) -> Failure {
        let mut failure = Failure::new(code, reason, format!("{} {name:?} {rest}", qualified(kind)));
        failure.details = json!({"name": name, "kind": kind.plural});
        if !kind.group.is_empty() {
            failure.details["group"] = kind.group.into();
        }
        failure
    }

    /// There is no such object.
    pub fn not_found(kind: &Kind, name: &str) -> Failure {
        Failure::about(kind, name, 404, "NotFound", "not found")
    }

    /// There is nothing at that path.
    pub fn no_path() -> Failure {
        Failure::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// There is one already.
    pub fn already_exists(kind: &Kind, name: &str) -> Failure {
        Failure::about(kind, name, 409, "AlreadyExists", "already exists")
    }

    /// Somebody else has changed it meanwhile.
    pub fn conflict(kind: &Kind, name: &str) -> Failure {
        let what =
            "the object has been modified; please apply your changes to the latest version and try again";
        let mut failure = Failure::about(kind, name, 409, "Conflict", "");
        failure.message = format!("Operation cannot be fulfilled on {} {name:?}: {what}", qualified(kind));
        failure
    }

    /// Refuses what contradicts what is so.
    pub fn refused_conflict(kind: &Kind, name: &str, why: &str) -> Failure {
        let mut failure = Failure::about(kind, name, 409, "Conflict", "");
        failure.message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(kind));
        failure
    }

    /// The object breaks rules: each is a cause.
    pub fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Failure {
        let mut failure = Failure::about(kind, name, 422, "Invalid", "");
        failure.set_causes(causes);
        failure.message = format!("{} {name:?} is invalid: {}", kind.kind, failure.message);
        failure.details["kind"] = kind.kind.into();
        failure
    }

    /// Says each cause, in the details and as the message.
    fn set_causes(&mut self, causes: &[Cause]) {
        let said = |cause: &Cause| match cause.field.as_str() {
            "" => cause.message.clone(),
            field => format!("{field}: {}", cause.message),
        };
        self.message = match causes {
            [one] => said(one),
            many => format!("[{}]", many.iter().map(said).collect::<Vec<_>>().join(", ")),
        };
        let cause =
            |c: &Cause| json!({"reason": cause_reason(&c.message), "message": c.message, "field": c.field});
        self.details["causes"] = causes.iter().map(cause).collect();
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Failure {
        Failure::new(400, "BadRequest", message)
    }

    /// There is no credential, or a wrong one.
    pub fn unauthorized() -> Failure {
        Failure::new(401, "Unauthorized", "Unauthorized")
    }

    /// Means that it is not for anybody to do.
    pub fn forbidden(message: impl Into<String>) -> Failure {
        Failure::new(403, "Forbidden", message)
    }

    /// The kind has no such verb.
    pub fn not_allowed() -> Failure {
        let message = "the server does not allow this method on the requested resource";
        Failure::new(405, "MethodNotAllowed", message)
    }

    /// Nothing would act on an object of the kind.
    pub fn never_kept(kind: &Kind) -> Failure {
        let message =
            format!("podctl keeps no {}: nothing on this machine would act on one", qualified(kind));
        Failure::new(405, "MethodNotAllowed", message)
    }

    /// None of the types that the client takes can be given.
    pub fn not_acceptable() -> Failure {
        let message = "only application/json can be given: as it is, as Table or as PartialObjectMetadata";
        Failure::new(406, "NotAcceptable", message)
    }

    /// The revision is older than what is remembered: list anew.
    pub fn gone(message: impl Into<String>) -> Failure {
        Failure::new(410, "Expired", message)
    }

    /// The body is longer than allowed.
    pub fn too_large(limit: usize) -> Failure {
        Failure::new(413, "RequestEntityTooLarge", format!("the body is longer than {limit} bytes"))
    }

    /// The body's type cannot be read.
    pub fn unsupported_type(message: impl Into<String>) -> Failure {
        Failure::new(415, "UnsupportedMediaType", message)
    }

    /// Means that it can be done only when something else has been.
    pub fn unprocessable(message: impl Into<String>) -> Failure {
        Failure::new(422, "Invalid", message)
    }

    /// What a request says of the list that it asks for contradicts itself: each is a cause.
    pub fn invalid_options(causes: &[Cause]) -> Failure {
        let mut failure = Failure::new(422, "Invalid", "");
        failure.set_causes(causes);
        failure.message = format!("ListOptions.meta.k8s.io \"\" is invalid: {}", failure.message);
        failure.details["group"] = "meta.k8s.io".into();
        failure.details["kind"] = "ListOptions".into();
        failure
    }

    /// The revision has not been yet: a client waits a little, or lists without one.
    pub fn too_new(kind: &Kind, wanted: u64, current: u64) -> Failure {
        let mut failure = Failure::about(kind, "", 504, "Timeout", "");
        failure.message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        failure.details["causes"] = json!([cause]);
        failure.details["retryAfterSeconds"] = 1.into();
        failure
    }

    /// Means that it is there, and does not answer.
    pub fn unavailable(message: impl Into<String>) -> Failure {
        Failure::new(503, "ServiceUnavailable", message)
    }

    /// Means that it took too long.
    pub fn timed_out(message: impl Into<String>) -> Failure {
        Failure::new(504, "Timeout", message)
    }

    /// Means that it went wrong here.
    pub fn internal(message: impl Into<String>) -> Failure {
        let mut failure = Failure::new(500, "InternalError", message);
        failure.message = format!("Internal error occurred: {}", failure.message);
        failure
    }

    /// The Status.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if self.details.as_object().is_some_and(|d| !d.is_empty()) {
            status["details"] = self.details.clone();
        }
        status
    }
}

/// The word for a kind of cause, by the beginning that the API server's sentences have.
fn cause_reason(message: &str) -> &'static str {
    match message.split(':').next() {
        Some("Required value") => "FieldValueRequired",
        Some("Duplicate value") => "FieldValueDuplicate",
        Some("Unsupported value") => "FieldValueNotSupported",
        Some("Forbidden") => "FieldValueForbidden",
        Some("Not found") => "FieldValueNotFound",
        Some("Too long") => "FieldValueTooLong",
        _ => "FieldValueInvalid",
    }
}

/// `pods`, `endpointslices.discovery.k8s.io`
fn qualified(kind: &Kind) -> String {
    if kind.group.is_empty() { kind.plural.to_owned() } else { format!("{}.{}", kind.plural, kind.group) }
}

/// Says that it was done, for what leaves no object behind.
pub fn success_status(kind: &Kind, name: &str, uid: &Value) -> Value {
    let mut details = json!({"name": name, "kind": kind.plural});
    if uid.is_string() {
        details["uid"] = uid.clone();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::kinds::find_kind;

    #[test]
    fn failures_say_what_kubectl_prints() {
        let pods = find_kind("", "v1", "pods").unwrap();
        let status = Failure::not_found(pods, "web").to_status();
        assert_eq!(status["message"], "pods \"web\" not found");
        assert_eq!(status["details"], json!({"name": "web", "kind": "pods"}));
        let cause = Cause { field: "spec.containers".into(), message: "Required value".into() };
        let invalid = Failure::invalid(pods, "web", &[cause]).to_status();
        assert_eq!(invalid["message"], "Pod \"web\" is invalid: spec.containers: Required value");
        assert_eq!(invalid["details"]["causes"][0]["reason"], "FieldValueRequired");
        let slices = find_kind("discovery.k8s.io", "v1", "endpointslices").unwrap();
        assert_eq!(
            Failure::not_found(slices, "x").message,
            "endpointslices.discovery.k8s.io \"x\" not found"
        );
    }
}
