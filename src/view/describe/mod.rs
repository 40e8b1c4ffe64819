//! A pod, a Job and a node in full, as `kubectl describe` lays them out.

mod container;
mod job;
mod node;
#[cfg(test)]
mod tests;
mod volume;

use std::{collections::BTreeMap, fmt::Display};

use k8s_openapi::{
    api::core::v1::{Container, Event, Pod, PodSpec, PodStatus, Toleration},
    jiff::Timestamp,
};
use serde_json::Value;

pub use self::{
    job::job,
    node::{DescribedNode, node},
};
use super::{age, events, tab_stops};
use crate::pod::{LAST_APPLIED_ANNOTATION, PodExt};

/// Longer annotations begin on a line of their own, and are cut.
const LONGEST_ANNOTATION: usize = 140;

/// Text with tabs in it, indented by levels.
#[derive(Default)]
pub(super) struct Page(pub(super) String);

impl Page {
    pub(super) fn line(&mut self, level: usize, text: impl Display) {
        self.0 += &format!("{:width$}{text}\n", "", width = level * 2);
    }

    /// `Name:<tab>value`
    pub(super) fn field(&mut self, level: usize, name: &str, value: impl Display) {
        self.line(level, format_args!("{name}:\t{value}"));
    }

    /// The same, unless there is no value.
    fn field_if(&mut self, level: usize, name: &str, value: Option<&String>) {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            self.field(level, name, value);
        }
    }

    /// Several values below each other, `<none>` for none.
    pub(super) fn list(&mut self, name: &str, values: &[String]) {
        let none = ["<none>".to_owned()];
        let values = if values.is_empty() { &none } else { values };
        for (at, value) in values.iter().enumerate() {
            self.0 += &if at == 0 { format!("{name}:\t{value}\n") } else { format!("\t{value}\n") };
        }
    }
}

/// Describes a pod; without `events` their table is left out.
pub fn pod(pod: &Pod, events: Option<&[Event]>, now: Timestamp) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let mut page = Page::default();
    head(&mut page, pod, &spec, &status, now);
    let json = serde_json::to_value(pod).unwrap_or_default();
    let whole = container::Whole { pod: &json, indent: "" };
    if let Some(inits) = spec.init_containers.as_deref().filter(|i| !i.is_empty()) {
        whole.describe(&mut page, "Init Containers", inits, status.init_container_statuses.as_deref());
    }
    whole.describe(&mut page, "Containers", &spec.containers, status.container_statuses.as_deref());
    if let Some(ephemeral) = spec.ephemeral_containers.as_ref().filter(|e| !e.is_empty()) {
        // Every field of one that is shown is a container's as well.
        let all = ephemeral.iter().filter_map(|e| serde_json::from_value(serde_json::to_value(e).ok()?).ok());
        let all: Vec<Container> = all.collect();
        whole.describe(
            &mut page,
            "Ephemeral Containers",
            &all,
            status.ephemeral_container_statuses.as_deref(),
        );
    }
    describe_conditions(&mut page, &spec, &status);
    volume::describe(&mut page, spec.volumes.as_deref().unwrap_or_default(), "");
    page.field(0, "QoS Class", status.qos_class.as_deref().unwrap_or("BestEffort"));
    page.list("Node-Selectors", &pairs(spec.node_selector.as_ref(), "="));
    list_tolerations(&mut page, "", spec.tolerations.as_deref());
    with_events(page, events, now)
}

/// Aligns a page, and puts the table of events below it.
fn with_events(page: Page, events: Option<&[Event]>, now: Timestamp) -> String {
    let mut text = tab_stops::align_columns(&page.0, 0, 2);
    if let Some(events) = events {
        // Its columns are its own, unless it is a line like the others.
        text = match events.is_empty() {
            true => tab_stops::align_columns(&(page.0 + &events::describe_events(events, now)), 0, 2),
            false => text + &tab_stops::align_columns(&events::describe_events(events, now), 0, 2),
        };
    }
    text
}

fn head(page: &mut Page, pod: &Pod, spec: &PodSpec, status: &PodStatus, now: Timestamp) {
    let meta = &pod.metadata;
    page.field(0, "Name", meta.name.as_deref().unwrap_or_default());
    page.field(0, "Namespace", meta.namespace.as_deref().unwrap_or_default());
    page.field(0, "Priority", spec.priority.unwrap_or(0));
    page.field_if(0, "Priority Class Name", spec.priority_class_name.as_ref());
    page.field_if(0, "Runtime Class Name", spec.runtime_class_name.as_ref());
    page.field_if(0, "Service Account", spec.service_account_name.as_ref());
    match &spec.node_name {
        Some(node) => {
            page.field(0, "Node", format_args!("{node}/{}", status.host_ip.as_deref().unwrap_or_default()))
        }
        None => page.field(0, "Node", "<none>"),
    }
    if let Some(time) = &status.start_time {
        page.field(0, "Start Time", age::dated(time));
    }
    page.list("Labels", &pairs(meta.labels.as_ref(), "="));
    page.list("Annotations", &annotations(meta.annotations.as_ref()));
    let phase = status.phase.as_deref().unwrap_or_default();
    match &meta.deletion_timestamp {
        Some(time) if !matches!(phase, "Succeeded" | "Failed") => {
            page.field(0, "Status", format_args!("Terminating (lasts {})", age::since(Some(time), now)));
            let own = pod.grace_period_seconds();
            let grace = meta.deletion_grace_period_seconds.unwrap_or(own);
            page.field(0, "Termination Grace Period", format_args!("{grace}s"));
        }
        _ => page.field(0, "Status", phase),
    }
    page.field_if(0, "Reason", status.reason.as_ref());
    page.field_if(0, "Message", status.message.as_ref());
    if let Some(profile) = spec.security_context.as_ref().and_then(|s| s.seccomp_profile.as_ref()) {
        page.field(0, "SeccompProfile", &profile.type_);
        page.field_if(0, "LocalhostProfile", profile.localhost_profile.as_ref());
    }
    page.field(0, "IP", status.pod_ip.as_deref().unwrap_or_default());
    match status.pod_ips.as_deref().unwrap_or_default() {
        [] => page.field(0, "IPs", "<none>"),
        ips => {
            page.line(0, "IPs:");
            ips.iter().for_each(|ip| page.field(1, "IP", &ip.ip));
        }
    }
    if let Some(owner) = meta.owner_references.iter().flatten().find(|o| o.controller == Some(true)) {
        page.field(0, "Controlled By", format_args!("{}/{}", owner.kind, owner.name));
    }
    page.field_if(0, "NominatedNodeName", status.nominated_node_name.as_ref());
    if let Some(resources) = &spec.resources {
        page.line(0, "Resources:");
        container::resources(page, resources, 1);
    }
}

fn describe_conditions(page: &mut Page, spec: &PodSpec, status: &PodStatus) {
    let all = status.conditions.as_deref().unwrap_or_default();
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    if !gates.is_empty() {
        page.0 += "Readiness Gates:\n  Type\tStatus\n";
        for gate in gates {
            let found = all.iter().find(|c| c.type_ == gate.condition_type);
            let status = found.map_or("<none>", |c| c.status.as_str());
            page.line(1, format_args!("{} \t{status} ", gate.condition_type));
        }
    }
    if !all.is_empty() {
        page.0 += "Conditions:\n  Type\tStatus\n";
        all.iter().for_each(|c| page.line(1, format_args!("{} \t{} ", c.type_, c.status)));
    }
}

fn pairs(map: Option<&BTreeMap<String, String>>, between: &str) -> Vec<String> {
    map.into_iter().flatten().map(|(k, v)| format!("{k}{between}{v}")).collect()
}

/// Returns the lines of the annotations that a JSON object has.
pub(super) fn annotations_of(meta: &Value) -> Vec<String> {
    let all = meta["annotations"].as_object().into_iter().flatten();
    let all: BTreeMap<String, String> =
        all.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
    annotations(Some(&all))
}

fn annotations(map: Option<&BTreeMap<String, String>>) -> Vec<String> {
    let cut = |line: &str| match line.chars().count() > LONGEST_ANNOTATION - 2 {
        true => line.chars().take(LONGEST_ANNOTATION - 2).collect::<String>() + "...",
        false => line.to_owned(),
    };
    let mut lines = Vec::new();
    for (key, value) in map.into_iter().flatten().filter(|(key, _)| *key != LAST_APPLIED_ANNOTATION) {
        let value = value.strip_suffix('\n').unwrap_or(value);
        if key.len() + value.len() + 2 > LONGEST_ANNOTATION || value.contains('\n') {
            lines.push(format!("{key}:"));
            lines.extend(value.split('\n').map(|line| format!("  {}", cut(line))));
        } else {
            lines.push(format!("{key}: {value}"));
        }
    }
    lines
}

fn list_tolerations(page: &mut Page, indent: &str, tolerations: Option<&[Toleration]>) {
    let all: Vec<String> = tolerations.into_iter().flatten().map(toleration_text).collect();
    page.list(&format!("{indent}Tolerations"), &all);
}

fn toleration_text(t: &Toleration) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let mut out = text(&t.key);
    if !text(&t.value).is_empty() {
        out += &format!("={}", text(&t.value));
    }
    if !text(&t.effect).is_empty() {
        out += &format!(":{}", text(&t.effect));
    }
    if t.operator.as_deref() == Some("Exists") && text(&t.value).is_empty() {
        out += if text(&t.key).is_empty() { "op=Exists" } else { " op=Exists" };
    }
    if let Some(seconds) = t.toleration_seconds {
        out += &format!(" for {seconds}s");
    }
    out
}
