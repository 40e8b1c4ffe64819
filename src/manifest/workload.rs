//! Workload kinds as pods: what a controller would make of them, once, on this machine.
//!
//! Pure. A field that only a controller that runs on could honour is a warning when nothing of one
//! run depends on it, and an error else.

use k8s_openapi::{
    api::{
        apps::v1::{
            DaemonSet, DaemonSetSpec, Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec, StatefulSet,
            StatefulSetSpec,
        },
        batch::v1::JobSpec,
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use serde::Serialize;

use super::{Manifest, Report, Severity, job, typed::join};
use crate::pod::{PodExt, kubernetes_versions::take_spec};

/// Labels by which the pods of a StatefulSet are told apart.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// Most pods of one workload.
pub(super) const MOST: i32 = 1000;

/// Tells how many pods are made of a template, and how they are named.
pub(super) enum Instances {
    /// The pod as it is.
    One,
    /// Pods of one workload, by their names.
    Many(Vec<String>),
    /// Pods of a StatefulSet, from the first ordinal on, each with its name and the claims that are its own.
    Set { first: i32, pods: Vec<(String, Vec<PersistentVolumeClaim>)> },
    /// Pods that are run to their end.
    Job(Box<JobSpec>),
}

/// The template's pod, where it stands, and what is made of it.
pub(super) type Found = Option<(Pod, &'static str, Instances)>;

pub(super) fn expand_deployment(object: Deployment, path: &str, report: &mut Report<'_>) -> Found {
    let spec: DeploymentSpec = take_spec(object.spec);
    without_meaning(
        &spec,
        &["strategy", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds", "paused"],
        path,
        report,
    );
    selector(&spec.selector, &spec.template, path, report);
    let pod = pod(&object.metadata, spec.template);
    require_always(&pod, path, report);
    let names = number_names(&object.metadata, spec.replicas, path, report);
    Some((pod, "spec.template", Instances::Many(names)))
}

pub(super) fn replica_set(object: ReplicaSet, path: &str, report: &mut Report<'_>) -> Found {
    let spec: ReplicaSetSpec = take_spec(object.spec);
    without_meaning(&spec, &["minReadySeconds"], path, report);
    let template = spec.template.unwrap_or_default();
    selector(&spec.selector, &template, path, report);
    let pod = pod(&object.metadata, template);
    require_always(&pod, path, report);
    let names = number_names(&object.metadata, spec.replicas, path, report);
    Some((pod, "spec.template", Instances::Many(names)))
}

pub(super) fn daemon_set(object: DaemonSet, path: &str, report: &mut Report<'_>) -> Found {
    let spec: DaemonSetSpec = take_spec(object.spec);
    without_meaning(&spec, &["updateStrategy", "minReadySeconds", "revisionHistoryLimit"], path, report);
    selector(&spec.selector, &spec.template, path, report);
    let pod = pod(&object.metadata, spec.template);
    require_always(&pod, path, report);
    let name = object.metadata.name.clone().unwrap_or_default();
    Some((pod, "spec.template", Instances::Many(vec![name])))
}

pub(super) fn stateful_set(object: StatefulSet, path: &str, report: &mut Report<'_>) -> Found {
    let spec: StatefulSetSpec = take_spec(object.spec);
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
    require_always(&pod, path, report);
    let name = object.metadata.name.clone().unwrap_or_default();
    let first = spec.ordinals.and_then(|o| o.start).unwrap_or(0);
    let count = count_replicas(spec.replicas, path, report);
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
    let service = spec.service_name.unwrap_or_default();
    if !service.is_empty() {
        pod.spec.get_or_insert_default().subdomain = Some(service);
    }
    let pods = instances.collect();
    Some((pod, "spec.template", Instances::Set { first, pods }))
}

/// Gives a pod that is called as its workload a host name with a suffix, as all pods of workloads have in a cluster; the
/// same each time, so that nothing about the pod has changed when it is applied again.
pub(super) fn name_host_apart(pod: &mut Pod) {
    const PRIME: u32 = 16_777_619;
    const LONGEST: usize = 63 - 6;
    let name = pod.name().to_owned();
    let Some(spec) = pod.spec.as_mut().filter(|spec| spec.hostname.as_deref().is_none_or(str::is_empty))
    else {
        return;
    };
    // FNV-1a; its digits are those of a generated name.
    let hash = name.bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(PRIME));
    let digits = b"bcdfghjklmnpqrstvwxz2456789";
    let suffix = (0..5).map(|at| digits[(hash >> (6 * at)) as usize % digits.len()] as char);
    // A host name has no dots in it; a workload's name may.
    let short: String = name.split('.').next().unwrap_or_default().chars().take(LONGEST).collect();
    spec.hostname = Some(format!("{}-{}", short.trim_end_matches('-'), suffix.collect::<String>()));
}

/// Makes the pods of a checked template.
pub(super) fn expand(pod: Pod, instances: Instances, manifest: &mut Manifest) {
    match instances {
        Instances::One => manifest.pods.push(pod),
        Instances::Many(names) => {
            for name in names {
                let mut pod = pod.clone();
                // A Service is mostly called as its workload is: the pod's own name must not hide it in /etc/hosts.
                if pod.metadata.name.as_ref() == Some(&name) {
                    name_host_apart(&mut pod);
                }
                pod.metadata.name = Some(name);
                manifest.pods.push(pod);
            }
        }
        Instances::Set { first, pods } => {
            for ((name, claims), ordinal) in pods.into_iter().zip(first..) {
                let mut pod = pod.clone();
                for volume in pod.spec.iter_mut().flat_map(|s| s.volumes.iter_mut().flatten()) {
                    let own = format!("{}-{name}", volume.name);
                    if let Some(source) = &mut volume.persistent_volume_claim
                        && claims.iter().any(|c| c.metadata.name.as_ref() == Some(&own))
                    {
                        source.claim_name = own;
                    }
                }
                let labels = pod.metadata.labels.get_or_insert_default();
                labels.insert(POD_NAME.into(), name.clone());
                labels.insert(POD_INDEX.into(), ordinal.to_string());
                pod.spec.get_or_insert_default().hostname = Some(name.clone());
                pod.metadata.name = Some(name);
                manifest.claims.extend(claims);
                manifest.pods.push(pod);
            }
        }
        Instances::Job(spec) => job::expand(pod, *spec, manifest),
    }
}

fn claim_volume(volume: &str, claim: &str) -> Volume {
    let source = PersistentVolumeClaimVolumeSource { claim_name: claim.into(), read_only: None };
    Volume { name: volume.into(), persistent_volume_claim: Some(source), ..Volume::default() }
}

/// The template's pod under the workload's name.
pub(super) fn pod(owner: &ObjectMeta, template: PodTemplateSpec) -> Pod {
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.name = owner.name.clone();
    metadata.namespace = owner.namespace.clone();
    Pod { metadata, spec: template.spec, status: None }
}

/// A pod has the workload's own name; several are numbered.
fn number_names(owner: &ObjectMeta, count: Option<i32>, path: &str, report: &mut Report<'_>) -> Vec<String> {
    let name = owner.name.clone().unwrap_or_default();
    match count_replicas(count, path, report) {
        1 => vec![name],
        count => (0..count).map(|at| format!("{name}-{at}")).collect(),
    }
}

fn count_replicas(count: Option<i32>, path: &str, report: &mut Report<'_>) -> i32 {
    let count = count.unwrap_or(1);
    if count < 0 {
        report.add_error(&join(path, "spec.replicas"), "Invalid value: must be greater than or equal to 0");
    } else if count > MOST {
        report.add_error(
            &join(path, "spec.replicas"),
            format!("Invalid value: at most {MOST} pods on one machine"),
        );
    }
    count.clamp(0, MOST)
}

fn require_always(pod: &Pod, path: &str, report: &mut Report<'_>) {
    let policy = pod.restart_policy();
    if policy != "Always" {
        report.add_error(
            &join(path, "spec.template.spec.restartPolicy"),
            format!("Unsupported value: {policy:?}: supported values: \"Always\""),
        );
    }
}

fn selector(selector: &LabelSelector, template: &PodTemplateSpec, path: &str, report: &mut Report<'_>) {
    let wanted = selector.match_labels.clone().unwrap_or_default();
    if wanted.is_empty() && selector.match_expressions.as_ref().is_none_or(Vec::is_empty) {
        return report.add_error(&join(path, "spec.selector"), "Required value");
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

pub(super) fn without_meaning(spec: &impl Serialize, fields: &[&str], path: &str, report: &mut Report<'_>) {
    let written = serde_json::to_value(spec).unwrap_or_default();
    for field in fields.iter().filter(|f| written.get(f).is_some_and(|v| !v.is_null())) {
        report
            .warn(&join(path, &format!("spec.{field}")), "has no meaning on one machine and changes nothing");
    }
}
