//! Workload kinds as pods: what a controller would make of them, once, on this machine.
//!
//! Pure. A field that only a controller that runs on could honour is a warning when nothing of one
//! run depends on it, and an error else.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::{self as batch, CronJob, JobSpec},
        core::v1::{
            EnvVar, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
        },
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use serde::Serialize;

use super::{Manifest, Report, Severity, typed::join};

/// Most pods of one workload.
const MOST: i32 = 1000;
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// How many pods are made of a template, and how they are named.
pub(super) enum Instances {
    /// The pod as it is.
    One,
    /// Pods of one workload, each with its name and the claims that are its own.
    Many(Vec<(String, Vec<PersistentVolumeClaim>)>),
    /// Pods that are run to their end.
    Job { completions: i32, parallelism: i32, backoff_limit: i32, indexed: bool },
}

/// Pods that are run to their end.
#[derive(Clone, Debug)]
pub struct Job {
    /// The job's name.
    pub name: String,
    /// One pod for each completion.
    pub pods: Vec<Pod>,
    /// How many of them run at a time.
    pub parallelism: usize,
    /// How many pods may fail before the job has failed.
    pub backoff_limit: usize,
}

type Found = Option<(Pod, &'static str, Instances)>;

pub(super) fn deployment(object: Deployment, path: &str, report: &mut Report<'_>) -> Found {
    let spec = object.spec;
    without_meaning(
        &spec,
        &["strategy", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds", "paused"],
        path,
        report,
    );
    selector(&spec.selector, &spec.template, path, report);
    let pod = pod(&object.metadata, spec.template);
    always(&pod, path, report);
    let names = numbered(&object.metadata, spec.replicas, path, report);
    Some((pod, "spec.template", Instances::Many(names)))
}

pub(super) fn replica_set(object: ReplicaSet, path: &str, report: &mut Report<'_>) -> Found {
    let spec = object.spec;
    without_meaning(&spec, &["minReadySeconds"], path, report);
    let template = spec.template.unwrap_or_default();
    selector(&spec.selector, &template, path, report);
    let pod = pod(&object.metadata, template);
    always(&pod, path, report);
    let names = numbered(&object.metadata, spec.replicas, path, report);
    Some((pod, "spec.template", Instances::Many(names)))
}

pub(super) fn daemon_set(object: DaemonSet, path: &str, report: &mut Report<'_>) -> Found {
    let spec = object.spec;
    without_meaning(&spec, &["updateStrategy", "minReadySeconds", "revisionHistoryLimit"], path, report);
    selector(&spec.selector, &spec.template, path, report);
    let pod = pod(&object.metadata, spec.template);
    always(&pod, path, report);
    Some((pod, "spec.template", Instances::One))
}

pub(super) fn stateful_set(object: StatefulSet, path: &str, report: &mut Report<'_>) -> Found {
    let spec = object.spec;
    without_meaning(
        &spec,
        &[
            "updateStrategy",
            "minReadySeconds",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
        ],
        path,
        report,
    );
    selector(&spec.selector, &spec.template, path, report);
    let templates = spec.volume_claim_templates.unwrap_or_default();
    let mut pod = pod(&object.metadata, spec.template);
    always(&pod, path, report);
    let name = object.metadata.name.clone().unwrap_or_default();
    let first = spec.ordinals.and_then(|o| o.start).unwrap_or(0);
    let count = replicas(spec.replicas, path, report);
    // A volume of a claim template is the pod's own; it replaces one of that name.
    let volumes = pod.spec.get_or_insert_default().volumes.get_or_insert_default();
    volumes.retain(|v| templates.iter().all(|t| t.metadata.name.as_ref() != Some(&v.name)));
    volumes.extend(templates.iter().map(|t| {
        let volume = t.metadata.name.clone().unwrap_or_default();
        claim_volume(&volume, &format!("{volume}-{name}-{first}"))
    }));
    let instances = (first..first + count).map(|ordinal| {
        let pod_name = format!("{name}-{ordinal}");
        let claims = templates.iter().cloned().map(|mut claim| {
            let volume = claim.metadata.name.take().unwrap_or_default();
            claim.metadata.name = Some(format!("{volume}-{pod_name}"));
            claim.metadata.namespace = object.metadata.namespace.clone();
            claim
        });
        let claims = claims.collect();
        (pod_name, claims)
    });
    Some((pod, "spec.template", Instances::Many(instances.collect())))
}

pub(super) fn job(object: batch::Job, path: &str, report: &mut Report<'_>) -> Found {
    let Some(spec) = object.spec else {
        report.error(&join(path, "spec"), "Required value");
        return None;
    };
    job_spec(&object.metadata, spec, &join(path, "spec"), "spec.template", report)
}

pub(super) fn cron_job(object: CronJob, path: &str, report: &mut Report<'_>) -> Found {
    let spec = object.spec;
    report.warn(
        &join(path, "spec.schedule"),
        "is not kept: the job of this CronJob runs once, now; a timer of systemd or cron can run it again",
    );
    let template = spec.job_template.spec.unwrap_or_default();
    let at = join(path, "spec.jobTemplate.spec");
    job_spec(&object.metadata, template, &at, "spec.jobTemplate.spec.template", report)
}

fn job_spec(
    metadata: &ObjectMeta,
    spec: JobSpec,
    path: &str,
    template: &'static str,
    report: &mut Report<'_>,
) -> Found {
    let at = |field: &str| join(path, field);
    for (field, present) in [
        ("podFailurePolicy", spec.pod_failure_policy.is_some()),
        ("successPolicy", spec.success_policy.is_some()),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.is_some()),
        ("maxFailedIndexes", spec.max_failed_indexes.is_some()),
    ] {
        if present {
            report.error(&at(field), "is not supported: podctl counts failed pods against backoffLimit only");
        }
    }
    if spec.suspend == Some(true) {
        report.error(&at("suspend"), "a suspended job would never start; leave the field out");
    }
    for (field, present) in [
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.is_some()),
        ("selector", spec.selector.is_some()),
        ("manualSelector", spec.manual_selector.is_some()),
        ("podReplacementPolicy", spec.pod_replacement_policy.is_some()),
    ] {
        if present {
            report.warn(&at(field), "has no meaning on one machine and changes nothing");
        }
    }
    for (field, value) in [
        ("completions", spec.completions),
        ("parallelism", spec.parallelism),
        ("backoffLimit", spec.backoff_limit),
    ] {
        if value.is_some_and(|v| v < 0) {
            report.error(&at(field), "Invalid value: must be greater than or equal to 0");
        } else if value.is_some_and(|v| v > MOST) && field != "backoffLimit" {
            report.error(&at(field), format!("Invalid value: at most {MOST} pods on one machine"));
        }
    }
    let mut pod = pod(metadata, spec.template);
    let policy = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
    match policy {
        Some("OnFailure") => report.warn(
            &at("backoffLimit"),
            "is not counted while restartPolicy is OnFailure: containers restart until they succeed",
        ),
        Some("Never") => {}
        _ => report.error(
            &at("template.spec.restartPolicy"),
            "Required value: valid values: \"OnFailure\", \"Never\"",
        ),
    }
    if let Some(pod_spec) = &mut pod.spec
        && pod_spec.active_deadline_seconds.is_none()
    {
        pod_spec.active_deadline_seconds = spec.active_deadline_seconds;
    }
    let parallelism = spec.parallelism.unwrap_or(1).clamp(0, MOST);
    let instances = Instances::Job {
        completions: spec.completions.unwrap_or(parallelism.max(1)).clamp(0, MOST),
        parallelism,
        backoff_limit: spec.backoff_limit.unwrap_or(6).max(0),
        indexed: spec.completion_mode.as_deref() == Some("Indexed"),
    };
    Some((pod, template, instances))
}

/// Makes the pods of a checked template.
pub(super) fn expand(pod: Pod, instances: Instances, manifest: &mut Manifest) {
    let named = |name: String| {
        let mut pod = pod.clone();
        pod.metadata.name = Some(name);
        pod
    };
    match instances {
        Instances::One => manifest.pods.push(pod),
        Instances::Many(all) => {
            for (name, claims) in all {
                let mut pod = named(name.clone());
                for volume in pod.spec.iter_mut().flat_map(|s| s.volumes.iter_mut().flatten()) {
                    let own = format!("{}-{name}", volume.name);
                    if let Some(source) = &mut volume.persistent_volume_claim
                        && claims.iter().any(|c| c.metadata.name.as_ref() == Some(&own))
                    {
                        source.claim_name = own;
                    }
                }
                manifest.claims.extend(claims);
                manifest.pods.push(pod);
            }
        }
        Instances::Job { completions, parallelism, backoff_limit, indexed } => {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let pods = (0..completions).map(|at| {
                let own = if completions == 1 { name.clone() } else { format!("{name}-{at}") };
                let mut pod = named(own);
                if indexed {
                    index(&mut pod, at);
                }
                pod
            });
            manifest.jobs.push(Job {
                name: name.clone(),
                pods: pods.collect(),
                parallelism: parallelism as usize,
                backoff_limit: backoff_limit as usize,
            });
        }
    }
}

/// Tells a pod of an indexed job which one it is.
fn index(pod: &mut Pod, at: i32) {
    pod.metadata.annotations.get_or_insert_default().insert(INDEX.into(), at.to_string());
    pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), at.to_string());
    let Some(spec) = &mut pod.spec else { return };
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let env = container.env.get_or_insert_default();
        if env.iter().all(|v| v.name != "JOB_COMPLETION_INDEX") {
            let value = Some(at.to_string());
            env.push(EnvVar { name: "JOB_COMPLETION_INDEX".into(), value, value_from: None });
        }
    }
}

fn claim_volume(volume: &str, claim: &str) -> Volume {
    let source = PersistentVolumeClaimVolumeSource { claim_name: claim.into(), read_only: None };
    Volume { name: volume.into(), persistent_volume_claim: Some(source), ..Volume::default() }
}

/// The template's pod under the workload's name.
fn pod(owner: &ObjectMeta, template: PodTemplateSpec) -> Pod {
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.name = owner.name.clone();
    metadata.namespace = owner.namespace.clone();
    Pod { metadata, spec: template.spec, status: None }
}

/// One pod has the workload's own name; several are numbered.
fn numbered(
    owner: &ObjectMeta,
    count: Option<i32>,
    path: &str,
    report: &mut Report<'_>,
) -> Vec<(String, Vec<PersistentVolumeClaim>)> {
    let name = owner.name.clone().unwrap_or_default();
    match replicas(count, path, report) {
        1 => vec![(name, Vec::new())],
        count => (0..count).map(|at| (format!("{name}-{at}"), Vec::new())).collect(),
    }
}

fn replicas(count: Option<i32>, path: &str, report: &mut Report<'_>) -> i32 {
    let count = count.unwrap_or(1);
    if count < 0 {
        report.error(&join(path, "spec.replicas"), "Invalid value: must be greater than or equal to 0");
    } else if count > MOST {
        report.error(
            &join(path, "spec.replicas"),
            format!("Invalid value: at most {MOST} pods on one machine"),
        );
    }
    count.clamp(0, MOST)
}

fn always(pod: &Pod, path: &str, report: &mut Report<'_>) {
    if let Some(policy) = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref())
        && policy != "Always"
    {
        report.error(
            &join(path, "spec.template.spec.restartPolicy"),
            format!("Unsupported value: {policy:?}: supported values: \"Always\""),
        );
    }
}

fn selector(selector: &LabelSelector, template: &PodTemplateSpec, path: &str, report: &mut Report<'_>) {
    let wanted = selector.match_labels.clone().unwrap_or_default();
    if wanted.is_empty() && selector.match_expressions.as_ref().is_none_or(Vec::is_empty) {
        return report.error(&join(path, "spec.selector"), "Required value");
    }
    let labels = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    if wanted.iter().any(|(key, value)| labels.get(key) != Some(value)) {
        report.say(
            Severity::Error,
            &join(path, "spec.template.metadata.labels"),
            "Invalid value: `selector` does not match template `labels`",
            Some("give the template every label that spec.selector.matchLabels names".into()),
        );
    }
}

fn without_meaning(spec: &impl Serialize, fields: &[&str], path: &str, report: &mut Report<'_>) {
    let written = serde_json::to_value(spec).unwrap_or_default();
    for field in fields.iter().filter(|f| written.get(f).is_some_and(|v| !v.is_null())) {
        report
            .warn(&join(path, &format!("spec.{field}")), "has no meaning on one machine and changes nothing");
    }
}
