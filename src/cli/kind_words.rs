//! Words for kinds of a cluster that podctl has no objects of: those of which there never is one, those that are seen
//! in another way, and those that it does not know.

use crate::{
    cli::Error,
    pod::ObjectKind,
    server::{
        kinds::{Kind, all_kinds},
        raw_request::Refusal,
    },
};

/// Kinds of a cluster that nobody serves here: plural, singular and short names. A word of these is never a pod's name.
const UNSERVED_KINDS: &str = "bindings componentstatuses componentstatus cs podtemplates podtemplate \
    replicationcontrollers replicationcontroller rc mutatingwebhookconfigurations \
    validatingwebhookconfigurations customresourcedefinitions customresourcedefinition crd crds \
    controllerrevisions controllerrevision daemonsets daemonset ds deployments deployment deploy replicasets replicaset \
    rs statefulsets statefulset sts horizontalpodautoscalers horizontalpodautoscaler hpa cronjobs cronjob cj \
    runtimeclasses runtimeclass priorityclasses priorityclass pc csidrivers csidriver csinodes csinode storageclasses \
    storageclass sc volumeattachments volumeattachment volumeattributesclasses resourceclaims resourceclaim \
    deviceclasses deviceclass";

/// Those of them whose pods podctl runs once: names, and the kind.
const WORKLOADS: [(&str, &str); 6] = [
    ("daemonsets daemonset ds", "DaemonSet"),
    ("deployments deployment deploy", "Deployment"),
    ("replicasets replicaset rs", "ReplicaSet"),
    ("statefulsets statefulset sts", "StatefulSet"),
    ("cronjobs cronjob cj", "CronJob"),
    ("jobs job", "Job"),
];

/// Names of the workload that Kubernetes has replaced by ReplicaSets; no file's pods are made of it.
const FORMER_WORKLOAD: &str = "replicationcontrollers replicationcontroller rc";

/// The part of a word before its version and group, and those.
fn split_group(word: &str) -> (&str, Option<&str>) {
    match word.split_once('.') {
        Some((base, group)) => (base, Some(group).filter(|group| !group.is_empty())),
        None => (word, None),
    }
}

fn is_among(list: &str, base: &str) -> bool {
    list.split_whitespace().any(|known| known.eq_ignore_ascii_case(base))
}

/// Finds the kind that is served for a word and that is none of podctl's own.
pub(super) fn find_served_kind(word: &str) -> Option<&'static Kind> {
    let (base, group) = split_group(word);
    let base = base.to_lowercase();
    let is_own = |kind: &Kind| ObjectKind::of_object(kind.kind).is_some_and(|own| own.group() == kind.group);
    all_kinds().iter().filter(|kind| !is_own(kind)).find(|kind| {
        let named =
            kind.plural == base || kind.singular() == base || kind.short_names.contains(&base.as_str());
        let versioned = format!("{}.{}", kind.version, kind.group);
        named && group.is_none_or(|group| group == kind.group || group == versioned)
    })
}

/// Finds the kind of a word of which there never is an object.
pub(super) fn find_empty_kind(word: &str) -> Option<&'static Kind> {
    find_served_kind(word).filter(|kind| kind.empty)
}

/// Tells whether the words of a list are for kinds whose objects lie in namespaces, all of them.
pub(super) fn is_namespaced(words: &str) -> bool {
    words.split(',').all(|word| find_empty_kind(word).is_some_and(|kind| kind.namespaced))
}

/// Tells whether a word is for a kind of a cluster, whatever group stands behind it, and so never a pod's name.
pub(super) fn is_kind(word: &str) -> bool {
    let base = split_group(word).0;
    is_among(UNSERVED_KINDS, base)
        || find_served_kind(word).is_some()
        || find_served_kind(base).is_some()
        || ObjectKind::of_word(base).is_some()
}

/// Returns the kind of a workload whose pods podctl runs, by its plural, singular or short name.
pub(super) fn workload_kind(word: &str) -> Option<&'static str> {
    let (base, group) = split_group(word);
    let is_own = |kind: &str| match kind {
        "Job" | "CronJob" => ["batch", "v1.batch"],
        _ => ["apps", "v1.apps"],
    };
    let found = WORKLOADS.into_iter().find(|(names, _)| is_among(names, base));
    found.map(|(_, kind)| kind).filter(|kind| group.is_none_or(|group| is_own(kind).contains(&group)))
}

/// The error that there is no object of a name, whatever kind a word is for.
pub(super) fn missing_object(word: &str, name: &str) -> Error {
    let Some(kind) = find_empty_kind(word) else { return unknown_kind(word) };
    let group = if kind.group.is_empty() { String::new() } else { format!(".{}", kind.group) };
    let message = format!("{}{group} {name:?} not found", kind.plural);
    Refusal { reason: "NotFound".to_owned(), message }.into()
}

/// The error that podctl has no objects of a kind.
pub(super) fn unknown_kind(word: &str) -> Error {
    let (base, group) = split_group(word);
    let sentence = match group {
        Some(group) => format!("the server doesn't have a resource type {base:?} in group {group:?}"),
        None => format!("the server doesn't have a resource type {base:?}"),
    };
    let instead = match find_served_kind(word).map(|kind| kind.kind) {
        Some("PodMetrics") => "`podctl top pods` shows what pods use".to_owned(),
        Some("NodeMetrics") => "`podctl top nodes` shows what the machine uses".to_owned(),
        Some("Event") => "`podctl get events` shows the same events".to_owned(),
        Some(_) if find_empty_kind(word).is_none() => {
            let message = "the server does not allow this method on the requested resource".to_owned();
            return Refusal { reason: "MethodNotAllowed".to_owned(), message }.into();
        }
        _ if workload_kind(word).is_some() || is_among(FORMER_WORKLOAD, word) => {
            format!("podctl keeps no {base}, a workload's pods are run once; `podctl get pods` shows them")
        }
        _ => return Error::absent(sentence),
    };
    Error::absent(format!("{sentence}: {instead}"))
}
