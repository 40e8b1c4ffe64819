//! Jobs: what kube-apiserver refuses of one, and the pod of each of its completions.

use std::collections::HashSet;

use k8s_openapi::{
    api::{
        batch::v1::{self as batch, CronJob, CronJobSpec, JobSpec, PodFailurePolicyRule, SuccessPolicyRule},
        core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Manifest, Report,
    typed::join,
    validate::{one_of, within},
    workload::{self, Found, Instances, MOST},
};
use crate::pod::{
    Place, PodExt,
    kubernetes_versions::{asks_for_scheduling, condition_status, take_spec},
    parse_indexes,
};

const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const NAME: &str = "batch.kubernetes.io/job-name";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// Chosen as the API server counts.
const MOST_RULES: usize = 20;
const MOST_VALUES: usize = 255;
/// The conditions that podctl sets.
const CONDITIONS: &[&str] =
    &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// Pods that are run to their end.
#[derive(Clone, Debug)]
pub struct Job {
    /// The job's name.
    pub name: String,
    /// Holds the Job with the API server's defaults; its template is `pod`.
    pub spec: JobSpec,
    /// Made of the template: checked, with defaults.
    pub pod: Pod,
}

impl Job {
    /// Tells how many pods there are to be at least; each has a number below it.
    pub fn count_places(&self) -> u32 {
        self.spec.completions.or(self.spec.parallelism).unwrap_or(1).max(0) as u32
    }

    /// The number of them run at a time.
    pub fn parallelism(&self) -> u32 {
        self.spec.parallelism.unwrap_or(1).max(0) as u32
    }

    /// Tells why it would never end by itself, if that is so.
    pub fn find_standstill(&self) -> Option<String> {
        let why = match (self.spec.suspend, self.spec.parallelism) {
            (Some(true), _) => "suspended",
            (_, Some(0)) => "of parallelism 0",
            _ => return None,
        };
        Some(format!(
            "job {:?} is {why}, so that it would be waited for without an end; `podctl apply` keeps it until that is changed",
            self.name
        ))
    }

    /// Every completion has its number.
    pub fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    /// The pod of one place. Pods that failed before keep their names, to be looked at.
    pub fn pod(&self, place: Place, failures: u32, ignored: u32) -> Pod {
        let mut pod = self.pod.clone();
        let Place { index, attempt } = place;
        let numbered = format!("{}-{index}", self.name);
        let name = if self.count_places() == 1 { self.name.clone() } else { numbered.clone() };
        if self.count_places() == 1 {
            workload::name_host_apart(&mut pod);
        }
        let meta = &mut pod.metadata;
        meta.name = Some(match attempt {
            0 => name,
            again => format!("{name}-retry-{again}"),
        });
        let labels = meta.labels.get_or_insert_default();
        labels.insert(NAME.into(), self.name.clone());
        labels.insert("job-name".into(), self.name.clone());
        if self.is_indexed() {
            labels.insert(INDEX.into(), index.to_string());
            let annotations = meta.annotations.get_or_insert_default();
            annotations.insert(INDEX.into(), index.to_string());
            if self.spec.backoff_limit_per_index.is_some() {
                annotations.insert(FAILURES.into(), failures.to_string());
                if ignored > 0 {
                    annotations.insert(IGNORED.into(), ignored.to_string());
                }
            }
            if let Some(spec) = &mut pod.spec {
                tell_index(spec, numbered);
            }
        }
        pod
    }
}

/// A pod of an indexed job knows which one it is, and others find it by its host name.
fn tell_index(spec: &mut PodSpec, hostname: String) {
    spec.hostname = Some(hostname);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let env = container.env.get_or_insert_default();
        if env.iter().all(|v| v.name != "JOB_COMPLETION_INDEX") {
            let field_path = format!("metadata.labels['{INDEX}']");
            let field_ref = Some(ObjectFieldSelector { api_version: None, field_path });
            let value_from = Some(EnvVarSource { field_ref, ..EnvVarSource::default() });
            env.push(EnvVar { name: "JOB_COMPLETION_INDEX".into(), value: None, value_from });
        }
    }
}

/// Makes the job of a checked template.
pub(super) fn expand(pod: Pod, spec: JobSpec, manifest: &mut Manifest) {
    let name = pod.name().to_owned();
    manifest.jobs.push(Job { name, spec, pod });
}

pub(super) fn job(object: batch::Job, path: &str, report: &mut Report<'_>) -> Found {
    let Some(spec) = object.spec else {
        report.add_error(&join(path, "spec"), "Required value");
        return None;
    };
    read(&object.metadata, spec, path, &join(path, "spec"), "spec.template", report)
}

pub(super) fn cron_job(object: CronJob, path: &str, report: &mut Report<'_>) -> Found {
    let spec: CronJobSpec = take_spec(object.spec);
    report.warn(
        &join(path, "spec.schedule"),
        "is not kept: the job of this CronJob runs once, now; a timer of systemd or cron can run it again",
    );
    workload::without_meaning(
        &spec,
        &[
            "concurrencyPolicy",
            "failedJobsHistoryLimit",
            "startingDeadlineSeconds",
            "successfulJobsHistoryLimit",
            "suspend",
            "timeZone",
        ],
        path,
        report,
    );
    let template = spec.job_template.spec.unwrap_or_default();
    let at = join(path, "spec.jobTemplate.spec");
    read(&object.metadata, template, path, &at, "spec.jobTemplate.spec.template", report)
}

fn read(
    metadata: &ObjectMeta,
    mut spec: JobSpec,
    object: &str,
    path: &str,
    template: &'static str,
    report: &mut Report<'_>,
) -> Found {
    let pod = workload::pod(metadata, std::mem::take(&mut spec.template));
    check(&spec, &pod, object, path, report);
    set_defaults(&mut spec);
    Some((pod, template, Instances::Job(Box::new(spec))))
}

/// Does what the API server fills in.
fn set_defaults(spec: &mut JobSpec) {
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
    }
    spec.parallelism.get_or_insert(1);
    let limit = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
    spec.backoff_limit.get_or_insert(limit);
    let replacement = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
    spec.pod_replacement_policy.get_or_insert_with(|| replacement.into());
}

fn check(spec: &JobSpec, pod: &Pod, object: &str, path: &str, report: &mut Report<'_>) {
    let at = |field: &str| join(path, field);
    for (field, value) in [
        ("completions", spec.completions),
        ("parallelism", spec.parallelism),
        ("backoffLimit", spec.backoff_limit),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index),
        ("maxFailedIndexes", spec.max_failed_indexes),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished),
    ] {
        within(value.map(i64::from), 0, i64::MAX, &at(field), report);
        if matches!(field, "completions" | "parallelism") && value.is_some_and(|v| v > MOST) {
            report.add_error(&at(field), format!("Invalid value: at most {MOST} pods on one machine"));
        }
    }
    within(spec.active_deadline_seconds, 0, i64::MAX, &at("activeDeadlineSeconds"), report);
    not_here(spec, path, report);
    one_of(spec.completion_mode.as_deref(), &["NonIndexed", "Indexed"], &at("completionMode"), report);
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    if indexed && spec.completions.is_none() {
        report.add_error(&at("completions"), "Required value: when completion mode is Indexed");
    }
    let last = spec.completions.unwrap_or(1) - 1;
    let name = format!("{}-{last}", pod.name());
    if indexed && name.len() > 63 {
        let message =
            format!("Invalid value: {name:?}: must be no more than 63 characters, for it is a host name");
        report.add_error(&join(object, "metadata.name"), message);
    }
    for (field, given) in [
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.is_some()),
        ("maxFailedIndexes", spec.max_failed_indexes.is_some()),
        ("successPolicy", spec.success_policy.is_some()),
    ] {
        if given && !indexed {
            report.add_error(&at(field), "Invalid value: requires indexed completion mode");
        }
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        report.add_error(&at("backoffLimitPerIndex"), "Required value: when maxFailedIndexes is specified");
    }
    if let (Some(most), Some(completions)) = (spec.max_failed_indexes, spec.completions)
        && most > completions
    {
        let message = format!("Invalid value: {most}: must be less than or equal to completions");
        report.add_error(&at("maxFailedIndexes"), message);
    }
    let allowed: &[&str] =
        if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    one_of(spec.pod_replacement_policy.as_deref(), allowed, &at("podReplacementPolicy"), report);
    restart_policy(spec, pod, &at("template.spec.restartPolicy"), report);
    if let Some(policy) = &spec.pod_failure_policy {
        too_many(policy.rules.len(), MOST_RULES, &at("podFailurePolicy.rules"), report);
        for (i, rule) in policy.rules.iter().enumerate() {
            failure_rule(rule, spec, pod, &at(&format!("podFailurePolicy.rules[{i}]")), report);
        }
    }
    if let Some(policy) = spec.success_policy.as_ref().filter(|_| indexed) {
        let rules = at("successPolicy.rules");
        if policy.rules.is_empty() {
            let what =
                "Required value: at least one rules must be specified when the successPolicy is specified";
            report.add_error(&rules, what);
        }
        too_many(policy.rules.len(), MOST_RULES, &rules, report);
        for (i, rule) in policy.rules.iter().enumerate() {
            success_rule(rule, spec.completions.unwrap_or(0), &format!("{rules}[{i}]"), report);
        }
    }
}

/// What one machine, or a run that is waited for, gives no meaning.
fn not_here(spec: &JobSpec, path: &str, report: &mut Report<'_>) {
    let at = |field: &str| join(path, field);
    if spec.managed_by.as_deref().is_some_and(|by| by != "kubernetes.io/job-controller") {
        report
            .add_error(&at("managedBy"), "is not supported: podctl runs the job itself; leave the field out");
    }
    if spec.ttl_seconds_after_finished.is_some_and(|seconds| seconds > 0) {
        report.warn(
            &at("ttlSecondsAfterFinished"),
            "is not waited for: the job's pods stay until `podctl delete`; with 0 they are forgotten at its end",
        );
    }
    for (field, given) in [
        ("selector", spec.selector.is_some()),
        ("manualSelector", spec.manual_selector == Some(true)),
        ("scheduling", asks_for_scheduling(spec)),
    ] {
        if given {
            report.warn(&at(field), "has no meaning on one machine and changes nothing");
        }
    }
}

fn restart_policy(spec: &JobSpec, pod: &Pod, path: &str, report: &mut Report<'_>) {
    match pod.restart_policy() {
        "OnFailure" if spec.pod_failure_policy.is_some() => report.add_error(
            path,
            "Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
        ),
        "OnFailure" | "Never" => {}
        "Always" => {
            report.add_error(path, "Required value: valid values: \"OnFailure\", \"Never\"");
        }
        // Said where the pod is checked.
        _ => {}
    }
}

fn too_many(count: usize, most: usize, path: &str, report: &mut Report<'_>) {
    if count > most {
        report.add_error(path, format!("Too many: {count}: must have at most {most} items"));
    }
}

fn failure_rule(rule: &PodFailurePolicyRule, spec: &JobSpec, pod: &Pod, path: &str, report: &mut Report<'_>) {
    let at = |field: &str| join(path, field);
    let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
    match rule.action.as_str() {
        "" => report.add_error(
            &at("action"),
            "Required value: valid values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\"",
        ),
        "FailIndex" if spec.backoff_limit_per_index.is_none() => report.add_error(
            &at("action"),
            "Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
        ),
        action => one_of(Some(action), &actions, &at("action"), report),
    }
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
    match (&rule.on_exit_codes, conditions.is_empty()) {
        (Some(_), false) => {
            report.add_error(
                path,
                "Invalid value: specifying both OnExitCodes and OnPodConditions is not supported",
            );
        }
        (None, true) => {
            report.add_error(
                path,
                "Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            );
        }
        _ => {}
    }
    too_many(conditions.len(), MOST_RULES, &at("onPodConditions"), report);
    for (i, pattern) in conditions.iter().enumerate() {
        let at = |field: &str| at(&format!("onPodConditions[{i}].{field}"));
        one_of(condition_status(pattern), &["False", "True", "Unknown"], &at("status"), report);
        if pattern.type_.is_empty() {
            report.add_error(&at("type"), "Required value");
        } else if !CONDITIONS.contains(&pattern.type_.as_str()) {
            report.warn(&at("type"), "no pod of podctl's has this condition: the rule does not match by it");
        }
    }
    let Some(codes) = &rule.on_exit_codes else { return };
    let at = |field: &str| at(&format!("onExitCodes.{field}"));
    one_of(Some(&codes.operator), &["In", "NotIn"], &at("operator"), report);
    if let Some(name) = &codes.container_name
        && !pod.containers().any(|c| c.name == *name)
    {
        report.add_error(
            &at("containerName"),
            format!("Invalid value: {name:?}: must be one of the container or initContainer names in the pod template"),
        );
    }
    if codes.values.is_empty() {
        report.add_error(&at("values"), "Invalid value: at least one value is required");
    }
    too_many(codes.values.len(), MOST_VALUES, &at("values"), report);
    let mut known = HashSet::new();
    for (i, code) in codes.values.iter().enumerate() {
        let at = at(&format!("values[{i}]"));
        if *code == 0 && codes.operator == "In" {
            report.add_error(&at, "Invalid value: 0: must not be 0 for the In operator");
        }
        if !known.insert(code) {
            report.add_error(&at, format!("Duplicate value: {code}"));
        }
    }
    if !codes.values.is_sorted() {
        report.add_error(&at("values"), "Invalid value: must be ordered");
    }
}

fn success_rule(rule: &SuccessPolicyRule, completions: i32, path: &str, report: &mut Report<'_>) {
    let at = |field: &str| join(path, field);
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let what = "Required value: at least one of succeededCount or succeededIndexes must be specified";
        report.add_error(path, what);
    }
    let listed =
        rule.succeeded_indexes.as_ref().map(|text| (text, parse_indexes(text, completions.max(0) as u32)));
    if let Some((text, Err(why))) = &listed {
        let message = format!("Invalid value: {text:?}: error parsing succeededIndexes: {why}");
        report.add_error(&at("succeededIndexes"), message);
    }
    within(rule.succeeded_count.map(i64::from), 0, i64::MAX, &at("succeededCount"), report);
    let mut at_most = |most: i32, what: &str| {
        if let Some(count) = rule.succeeded_count.filter(|count| *count > most) {
            let message = format!("Invalid value: {count}: must be less than or equal to {most} ({what})");
            report.add_error(&at("succeededCount"), message);
        }
    };
    at_most(completions, "the number of specified completions");
    if let Some((_, Ok(listed))) = &listed {
        let what = "the number of indexes in the specified succeededIndexes field";
        at_most(listed.len() as i32, what);
    }
}
