//! What runs here as a file for elsewhere: pods as they were given, and beside them what they refer to.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use podctl_images::{Reference, Store};
use serde_json::{Value, json};

use super::{Engine, Error, ImageError, PodHandle};
use crate::{
    pod::{LAST_APPLIED_ANNOTATION, PodExt},
    view::yaml,
    wire::{StartRecord, read_start_record},
};

/// Annotations that mean something on this machine only.
const OWN_ANNOTATIONS: [&str; 2] = [LAST_APPLIED_ANNOTATION, "podctl.dev/reused"];

/// Tells how to export.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// Images by the digest that runs here, instead of by their tag.
    pub digests: bool,
}

/// Objects that any cluster takes, and what to know of them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Export {
    /// Lists them in the order in which they are to be made: ConfigMaps, Secrets and claims, Services, pods.
    pub objects: Vec<Value>,
    /// Holds what will not be there as it is here.
    pub warnings: Vec<String>,
}

impl Export {
    /// Returns the objects as one YAML text, a document each.
    pub fn to_yaml(&self) -> String {
        self.objects.iter().map(yaml::document).collect::<Vec<_>>().join("---\n")
    }

    fn add(&mut self, kind: &str, object: Value) {
        let mut whole = json!({"apiVersion": "v1", "kind": kind});
        let (Value::Object(whole_fields), Value::Object(fields)) = (&mut whole, object) else { return };
        whole_fields.extend(fields.into_iter().filter(|(name, _)| name != "status"));
        // What two pods refer to is there once.
        if !self.objects.contains(&whole) {
            self.objects.push(whole);
        }
    }
}

impl Engine {
    /// Returns the pods as they were given, without what was chosen here: no node, status, addresses or node ports; beside
    /// them the ConfigMaps, Secrets, claims and Services that they were started with.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), podctl::Error> {
    /// # let engine = podctl::Engine::of_user()?;
    /// let export = engine.export(&engine.pods(Some("default"))?, &podctl::ExportOptions::default())?;
    /// export.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    /// print!("{}", export.to_yaml());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::Image`] when digests are wanted and the image store cannot be read.
    pub fn export(&self, pods: &[PodHandle], options: &ExportOptions) -> Result<Export, Error> {
        let mut export = Export { objects: Vec::new(), warnings: Vec::new() };
        let records = pods.iter().map(|pod| Ok(read_start_record(&pod.dir)?));
        let records = records.collect::<Result<Vec<StartRecord>, Error>>()?;
        for StartRecord { objects, .. } in &records {
            for map in &objects.config_maps {
                let mut map = map.clone();
                map.metadata = portable_metadata(&map.metadata);
                export.add("ConfigMap", to_json(&map));
            }
            for secret in &objects.secrets {
                let mut secret = secret.clone();
                secret.metadata = portable_metadata(&secret.metadata);
                export.add("Secret", to_json(&secret));
            }
            for volume in objects.claims.values() {
                let volume = self.home.volume(&volume.namespace, &volume.name);
                let Some(mut claim) = volume.claim()? else { continue };
                claim.metadata = portable_metadata(&claim.metadata);
                if let Some(spec) = &mut claim.spec {
                    spec.volume_name = None;
                }
                export.warnings.push(format!(
                    "persistentvolumeclaim {:?}: its files stay here; a cluster gives it an empty volume",
                    claim.metadata.name.as_deref().unwrap_or_default()
                ));
                export.add("PersistentVolumeClaim", to_json(&claim));
            }
        }
        for service in records.iter().flat_map(|record| &record.objects.services) {
            let mut service = service.clone();
            service.metadata = portable_metadata(&service.metadata);
            if let Some(spec) = &mut service.spec {
                // Headless is a choice of the manifest's, an address is one of ours.
                spec.cluster_ip = spec.cluster_ip.take().filter(|ip| ip == "None");
                spec.cluster_ips = None;
                spec.health_check_node_port = None;
                for port in spec.ports.iter_mut().flatten() {
                    port.node_port = None;
                }
            }
            export.add("Service", to_json(&service));
        }
        for record in records {
            let mut pod = portable_pod(record.pod);
            export.warnings.extend(find_local_parts(&pod));
            self.settle_images(&mut pod, options, &mut export.warnings)?;
            export.add("Pod", to_json(&pod));
        }
        Ok(export)
    }

    /// Names images by their digests where that is wanted, and warns of those that no registry has.
    fn settle_images(
        &self,
        pod: &mut Pod,
        options: &ExportOptions,
        warnings: &mut Vec<String>,
    ) -> Result<(), Error> {
        let store = Store::open(&self.home.images()).map_err(ImageError::from)?;
        let name = pod.name().to_owned();
        for container in all_containers(pod) {
            let image = container.image.clone().unwrap_or_default();
            let known = image.parse::<Reference>().ok();
            let known = known.and_then(|reference| store.find(&reference).ok().flatten());
            let is_local =
                image.starts_with("localhost/") || container.image_pull_policy.as_deref() == Some("Never");
            if is_local {
                warnings.push(format!(
                    "pod {name:?}: container {}: image {image:?} is on this machine only; push it to a registry that the cluster can reach",
                    container.name
                ));
            }
            let Some(known) = known.filter(|_| options.digests) else { continue };
            let digest = if known.source.is_empty() { &known.digest } else { &known.source };
            container.image = Some(format!("{}@{digest}", strip_tag(&image)));
        }
        Ok(())
    }
}

fn to_json(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).expect("Kubernetes objects are always JSON")
}

/// Returns the metadata that a manifest would have.
fn portable_metadata(meta: &ObjectMeta) -> ObjectMeta {
    let mut annotations = meta.annotations.clone();
    annotations.iter_mut().for_each(|all| all.retain(|key, _| !OWN_ANNOTATIONS.contains(&key.as_str())));
    ObjectMeta {
        name: meta.name.clone(),
        // Left out, the file goes wherever it is applied to.
        namespace: meta.namespace.clone().filter(|namespace| namespace != "default"),
        labels: meta.labels.clone().filter(|labels| !labels.is_empty()),
        annotations: annotations.filter(|annotations| !annotations.is_empty()),
        ..ObjectMeta::default()
    }
}

fn portable_pod(pod: Pod) -> Pod {
    let mut spec = pod.spec.unwrap_or_default();
    spec.node_name = None;
    // What is debugged is not what runs.
    spec.ephemeral_containers = None;
    Pod { metadata: portable_metadata(&pod.metadata), spec: Some(spec), status: None }
}

fn all_containers(pod: &mut Pod) -> impl Iterator<Item = &mut Container> {
    pod.spec.iter_mut().flat_map(|spec| spec.init_containers.iter_mut().flatten().chain(&mut spec.containers))
}

/// Returns what of the pod is bound to this machine.
fn find_local_parts(pod: &Pod) -> Vec<String> {
    let name = pod.name();
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    let mut warnings = Vec::new();
    for volume in spec.volumes.iter().flatten() {
        if let Some(host_path) = &volume.host_path {
            warnings.push(format!(
                "pod {name:?}: volume {:?}: hostPath {:?} is a path of whichever node it comes to",
                volume.name, host_path.path
            ));
        }
    }
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let ports: BTreeSet<i32> = containers
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| p.host_port.filter(|p| *p > 0))
        .collect();
    if spec.host_network != Some(true) {
        for port in ports {
            warnings.push(format!(
                "pod {name:?}: hostPort {port} is one of whichever node it comes to; a Service leads there from everywhere"
            ));
        }
    }
    for (asked, field) in
        [(spec.host_network, "hostNetwork"), (spec.host_pid, "hostPID"), (spec.host_ipc, "hostIPC")]
    {
        if asked == Some(true) {
            warnings.push(format!("pod {name:?}: {field} shares what whichever node it comes to has"));
        }
    }
    warnings
}

/// Returns an image's name without tag and digest.
fn strip_tag(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_to_this_machine_is_told() {
        let pod = json!({"metadata": {"name": "web"}, "spec": {
            "hostPID": true,
            "volumes": [{"name": "data", "hostPath": {"path": "/srv"}}, {"name": "tmp", "emptyDir": {}}],
            "containers": [{"name": "app", "ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]}],
        }});
        let warnings = find_local_parts(&serde_json::from_value(pod).unwrap());
        for (at, part) in ["\"data\": hostPath \"/srv\"", "hostPort 8080", "hostPID"].iter().enumerate() {
            assert!(warnings[at].contains(part), "{warnings:?}");
        }
        assert_eq!(warnings.len(), 3);
    }

    #[test]
    fn what_was_chosen_here_is_left_out() {
        let pod = json!({
            "metadata": {
                "name": "web", "namespace": "default", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"a": "b"}, "annotations": {OWN_ANNOTATIONS[0]: "{}"},
            },
            "spec": {"nodeName": "laptop", "containers": [{"name": "app"}], "ephemeralContainers": [{"name": "d"}]},
            "status": {"phase": "Running"},
        });
        let pod = to_json(&portable_pod(serde_json::from_value(pod).unwrap()));
        assert_eq!(pod["metadata"], json!({"name": "web", "labels": {"a": "b"}}));
        assert_eq!(pod["spec"], json!({"containers": [{"name": "app"}]}));
        assert!(pod.get("status").is_none());
    }

    #[test]
    fn a_tag_is_no_port() {
        assert_eq!(strip_tag("r.example:5000/a/b:1.2"), "r.example:5000/a/b");
        assert_eq!(strip_tag("r.example:5000/a"), "r.example:5000/a");
        assert_eq!(strip_tag("busybox@sha256:0"), "busybox");
    }
}
