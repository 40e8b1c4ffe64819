//! A Job in full, and the template of its pods.

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Event, PodTemplateSpec},
    },
    jiff::Timestamp,
};
use serde_json::Value;

use super::{Page, annotations, container, list_tolerations, pairs, volume, with_events};
use crate::view::age;

/// Completed indexes beyond this many characters are cut at the next comma.
const LONGEST_INDEXES: usize = 50;

/// How far the parts of a template stand in.
const INDENT: &str = "  ";

/// Describes a Job; without `events` their table is left out.
pub fn job(job: &Job, events: Option<&[Event]>, now: Timestamp) -> String {
    let mut page = Page::default();
    describe_head(&mut page, job);
    describe_progress(&mut page, job);
    if let Some(spec) = &job.spec {
        describe_template(&mut page, &spec.template);
    }
    with_events(page, events, now)
}

fn describe_head(page: &mut Page, job: &Job) {
    let meta = &job.metadata;
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    page.field(0, "Name", meta.name.as_deref().unwrap_or_default());
    page.field(0, "Namespace", meta.namespace.as_deref().unwrap_or_default());
    page.field(0, "Selector", pairs(selector.and_then(|s| s.match_labels.as_ref()), "=").join(","));
    page.list("Labels", &pairs(meta.labels.as_ref(), "="));
    page.list("Annotations", &annotations(meta.annotations.as_ref()));
    if let Some(owner) = meta.owner_references.iter().flatten().find(|o| o.controller == Some(true)) {
        page.field(0, "Controlled By", format_args!("{}/{}", owner.kind, owner.name));
    }
}

fn describe_progress(page: &mut Page, job: &Job) {
    let spec = job.spec.clone().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let mut field_if = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            page.field(0, name, value);
        }
    };
    let text = |number: Option<i32>| number.map(|n| n.to_string());
    field_if("Parallelism", text(spec.parallelism));
    field_if("Completions", Some(text(spec.completions).unwrap_or_else(|| "<unset>".into())));
    field_if("Completion Mode", spec.completion_mode.clone());
    field_if("Suspend", spec.suspend.map(|suspended| suspended.to_string()));
    field_if("Backoff Limit", text(spec.backoff_limit));
    field_if("TTL Seconds After Finished", text(spec.ttl_seconds_after_finished));
    field_if("Start Time", status.start_time.as_ref().map(age::dated));
    field_if("Completed At", status.completion_time.as_ref().map(age::dated));
    let both = status.start_time.as_ref().zip(status.completion_time.as_ref());
    field_if("Duration", both.map(|(start, end)| age::worded(end.0.duration_since(start.0))));
    field_if("Active Deadline Seconds", spec.active_deadline_seconds.map(|seconds| format!("{seconds}s")));
    let ready = status.ready.map(|ready| format!(" ({ready} Ready)")).unwrap_or_default();
    let [active, succeeded, failed] =
        [status.active, status.succeeded, status.failed].map(Option::unwrap_or_default);
    let pods = format!("{active} Active{ready} / {succeeded} Succeeded / {failed} Failed");
    field_if("Pods Statuses", Some(pods));
    if spec.completion_mode.as_deref() == Some("Indexed") {
        field_if("Completed Indexes", Some(cut_indexes(status.completed_indexes.as_deref())));
    }
}

fn cut_indexes(indexes: Option<&str>) -> String {
    let Some(indexes) = indexes.filter(|i| !i.is_empty()) else { return "<none>".into() };
    match indexes.get(LONGEST_INDEXES..).and_then(|rest| rest.find(',')) {
        Some(comma) => format!("{}...", &indexes[..=LONGEST_INDEXES + comma]),
        None => indexes.to_owned(),
    }
}

fn describe_template(page: &mut Page, template: &PodTemplateSpec) {
    let meta = template.metadata.clone().unwrap_or_default();
    let spec = template.spec.clone().unwrap_or_default();
    page.line(0, "Pod Template:");
    page.list("  Labels", &pairs(meta.labels.as_ref(), "="));
    if meta.annotations.as_ref().is_some_and(|all| !all.is_empty()) {
        page.list("  Annotations", &annotations(meta.annotations.as_ref()));
    }
    page.field_if(1, "Service Account", spec.service_account_name.as_ref());
    // No pod is there yet whose fields the environment could have.
    let whole = container::Whole { pod: &Value::Null, indent: INDENT };
    if let Some(inits) = spec.init_containers.as_deref().filter(|i| !i.is_empty()) {
        whole.describe(page, "Init Containers", inits, None);
    }
    whole.describe(page, "Containers", &spec.containers, None);
    volume::describe(page, spec.volumes.as_deref().unwrap_or_default(), INDENT);
    page.field_if(1, "Priority Class Name", spec.priority_class_name.as_ref());
    page.list("  Node-Selectors", &pairs(spec.node_selector.as_ref(), "="));
    list_tolerations(page, INDENT, spec.tolerations.as_deref());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_indexes_are_cut_at_a_comma() {
        let long = (0..40).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(cut_indexes(Some(&long)), format!("{}...", &long[..=long[50..].find(',').unwrap() + 50]));
        assert_eq!((cut_indexes(Some("0-3")), cut_indexes(None)), ("0-3".to_owned(), "<none>".to_owned()));
    }
}
