//! Which ConfigMaps, Secrets and claims a pod refers to, and where (R-VOL-3). Pure.

use k8s_openapi::{Metadata, api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{Manifest, Report, Severity, typed::join};
use crate::pod::PodExt;

/// The mention of an object by a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// `ConfigMap`, `Secret` or `PersistentVolumeClaim`.
    pub kind: &'static str,
    /// The object's name.
    pub name: &'a str,
    /// The pod can do without it.
    pub optional: bool,
    /// The field that holds the name, within the pod.
    pub path: String,
}

/// Every mention, in file order of volumes, then containers.
pub fn list_references(pod: &Pod) -> Vec<Reference<'_>> {
    let mut all = Vec::new();
    let Some(spec) = &pod.spec else { return all };
    let mut add = |kind, name, optional: Option<bool>, path| {
        all.push(Reference { kind, name, optional: optional == Some(true), path });
    };
    for (i, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        // As on a cluster, the pull is tried without a missing one.
        add("Secret", &secret.name, Some(true), format!("spec.imagePullSecrets[{i}].name"));
    }
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let at = format!("spec.volumes[{i}]");
        if let Some(v) = &volume.config_map {
            add("ConfigMap", v.name.as_str(), v.optional, format!("{at}.configMap.name"));
        }
        if let Some(v) = &volume.secret {
            let name = v.secret_name.as_deref().unwrap_or_default();
            add("Secret", name, v.optional, format!("{at}.secret.secretName"));
        }
        if let Some(v) = &volume.persistent_volume_claim {
            let path = format!("{at}.persistentVolumeClaim.claimName");
            add("PersistentVolumeClaim", v.claim_name.as_str(), None, path);
        }
        let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        for (j, part) in sources.enumerate() {
            let at = format!("{at}.projected.sources[{j}]");
            if let Some(p) = &part.config_map {
                add("ConfigMap", &p.name, p.optional, format!("{at}.configMap.name"));
            }
            if let Some(p) = &part.secret {
                add("Secret", &p.name, p.optional, format!("{at}.secret.name"));
            }
        }
    }
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(i, c)| (format!("spec.initContainers[{i}]"), c));
    let apps = spec.containers.iter().enumerate().map(|(i, c)| (format!("spec.containers[{i}]"), c));
    for (at, container) in init.chain(apps) {
        for (i, from) in container.env_from.iter().flatten().enumerate() {
            let at = format!("{at}.envFrom[{i}]");
            if let Some(r) = &from.config_map_ref {
                add("ConfigMap", &r.name, r.optional, format!("{at}.configMapRef.name"));
            }
            if let Some(r) = &from.secret_ref {
                add("Secret", &r.name, r.optional, format!("{at}.secretRef.name"));
            }
        }
        for (i, var) in container.env.iter().flatten().enumerate() {
            let at = format!("{at}.env[{i}].valueFrom");
            let from = var.value_from.as_ref();
            if let Some(r) = from.and_then(|f| f.config_map_key_ref.as_ref()) {
                add("ConfigMap", &r.name, r.optional, format!("{at}.configMapKeyRef.name"));
            }
            if let Some(r) = from.and_then(|f| f.secret_key_ref.as_ref()) {
                add("Secret", &r.name, r.optional, format!("{at}.secretKeyRef.name"));
            }
        }
    }
    all
}

/// The object that a pod of that namespace means by a name: one of its own namespace, else one of a file
/// that says no namespace. What is kept says its namespace, and when it was made.
pub fn named<'a, T: Metadata<Ty = ObjectMeta>>(all: &'a [T], namespace: &str, name: &str) -> Option<&'a T> {
    let of_name = || all.iter().filter(|o| o.metadata().name.as_deref() == Some(name));
    let anywhere = |meta: &ObjectMeta| match meta.namespace.as_deref() {
        None => true,
        Some(own) => own == "default" && meta.creation_timestamp.is_none(),
    };
    let own = of_name().find(|o| o.metadata().namespace.as_deref() == Some(namespace));
    own.or_else(|| of_name().find(|o| anywhere(o.metadata())))
}

/// Reports what the pod needs and nobody has.
pub(super) fn missing(pod: &Pod, prefix: &str, known: [&Manifest; 2], report: &mut Report<'_>) {
    let namespace = pod.namespace();
    for Reference { kind, name, path, .. } in list_references(pod).into_iter().filter(|r| !r.optional) {
        let present = known.iter().any(|m| match kind {
            "ConfigMap" => named(&m.config_maps, namespace, name).is_some(),
            "Secret" => named(&m.secrets, namespace, name).is_some(),
            // A claim that nobody has made is made when the pod starts.
            _ => true,
        });
        // An empty name is reported where names are checked.
        if present || name.is_empty() {
            continue;
        }
        let (create, flag) = match kind {
            "ConfigMap" => ("configmap", "--configmap"),
            _ => ("secret generic", "--secret"),
        };
        let help = format!(
            "put it into the same file, run with `{flag} FILE`, or keep it: `podctl create {create} {name} --from-file=…`"
        );
        report.say(Severity::Error, &join(prefix, &path), format!("{kind} {name:?} not found"), Some(help));
    }
}
