//! What is told of a Job, in the Job controller's words: its events, and the condition that says that it is suspended.

use k8s_openapi::{
    api::batch::v1::{JobCondition, JobStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::Outcome;

/// That something happened to a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A pod of that name was started.
    Created(String),
    /// A pod of that name was told to end.
    Deleted(String),
    /// A pod could not be started.
    FailedCreate(String),
    /// It waits to be resumed.
    Suspended,
    /// It goes on.
    Resumed,
    /// It is over.
    Ended(Outcome),
}

impl Happened {
    /// Returns the type, the reason and the message of its event.
    pub fn words(&self) -> (&'static str, String, String) {
        let normal = |reason: &str, message: String| ("Normal", reason.to_owned(), message);
        match self {
            Happened::Created(pod) => normal("SuccessfulCreate", format!("Created pod: {pod}")),
            Happened::Deleted(pod) => normal("SuccessfulDelete", format!("Deleted pod: {pod}")),
            Happened::FailedCreate(why) => {
                ("Warning", "FailedCreate".into(), format!("Error creating: {why}"))
            }
            Happened::Suspended => normal("Suspended", "Job suspended".into()),
            Happened::Resumed => normal("Resumed", "Job resumed".into()),
            Happened::Ended(outcome) if outcome.complete => normal("Completed", "Job completed".into()),
            Happened::Ended(outcome) => ("Warning", outcome.reason.into(), outcome.message.clone()),
        }
    }
}

/// Writes into a status whether the Job is suspended, and when it began; returns what of it is new. A resumed one begins
/// anew.
pub fn note_suspension(status: &mut JobStatus, suspended: bool, now: &Time) -> Option<Happened> {
    let conditions = status.conditions.get_or_insert_default();
    let (value, reason, message) = match suspended {
        true => ("True", "JobSuspended", "Job suspended"),
        false => ("False", "JobResumed", "Job resumed"),
    };
    let known = conditions.iter().position(|condition| condition.type_ == "Suspended");
    let is_known = known.map_or(!suspended, |at| conditions[at].status == value);
    if !is_known {
        let condition = JobCondition {
            type_: "Suspended".into(),
            status: value.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_probe_time: Some(now.clone()),
            last_transition_time: Some(now.clone()),
        };
        match known {
            Some(at) => conditions[at] = condition,
            None => conditions.push(condition),
        }
    }
    if status.conditions.as_ref().is_some_and(Vec::is_empty) {
        status.conditions = None;
    }
    if !suspended && (!is_known || status.start_time.is_none()) {
        status.start_time = Some(now.clone());
    }
    match (is_known, suspended) {
        (true, _) => None,
        (false, true) => Some(Happened::Suspended),
        (false, false) => Some(Happened::Resumed),
    }
}
