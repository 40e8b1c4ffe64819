//! Marks of a pod's timeline: finer than events, which are for people, and than status, which keeps seconds only.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::{Deserialize, Serialize};

/// Names what begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Span {
    /// Means that an image is asked for, until it is there.
    Pull,
    /// The container's process.
    Run,
    /// The hook of that name.
    PostStart,
    /// The hook of that name.
    PreStop,
    /// Lasts from the first startup probe to the first that passes; so the others.
    Startup,
    /// Liveness probes.
    Liveness,
    /// Readiness probes.
    Readiness,
}

/// The beginning or the end of something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub at: MicroTime,
    /// The name of the container.
    pub container: String,
    /// The object of it.
    pub span: Span,
    /// Tells of an end whether it went well; none for a begin.
    pub ended: Option<bool>,
    /// Tells how it ended, such as `exit 3`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}
