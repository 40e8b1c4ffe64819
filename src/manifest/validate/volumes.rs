//! Volumes: one source each, of a kind that one machine can have.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PersistentVolumeClaim, PodSpec, ProjectedVolumeSource, Volume,
};

use super::{
    super::{Report, Severity},
    env::{file_field, required, resource},
    well_formed::{dns_label, dns_subdomain, inner_path, one_of},
};
use crate::pod::{
    kubernetes_versions::asks_for_certificate, quantity::quantity_bytes, resources::huge_page_size,
};

const SUPPORTED: &[&str] = &[
    "emptyDir",
    "hostPath",
    "configMap",
    "secret",
    "downwardAPI",
    "projected",
    "persistentVolumeClaim",
    "ephemeral",
    "image",
];
const HOST_PATH_TYPES: &[&str] =
    &["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];

/// Checks the volumes; gives them by name.
pub(super) fn volumes<'a>(
    spec: &'a PodSpec,
    path: &str,
    report: &mut Report<'_>,
) -> HashMap<&'a str, &'a Volume> {
    let mut names = HashMap::new();
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let at = format!("{path}[{i}]");
        dns_label(&volume.name, &format!("{at}.name"), report);
        if names.insert(volume.name.as_str(), volume).is_some() {
            report.add_error(&format!("{at}.name"), format!("Duplicate value: {:?}", volume.name));
        }
        source(volume, spec, &at, report);
    }
    names
}

fn source(volume: &Volume, spec: &PodSpec, path: &str, report: &mut Report<'_>) {
    let written = serde_json::to_value(volume).unwrap_or_default();
    let kinds: Vec<&String> =
        written.as_object().into_iter().flat_map(|o| o.keys()).filter(|k| *k != "name").collect();
    let help = format!("kinds of volumes here: {}", SUPPORTED.join(", "));
    match kinds.as_slice() {
        [] => {
            report.say(Severity::Error, path, "Required value: must specify a volume type", Some(help));
        }
        // Whether it is supported the table of fields says.
        [_] => {}
        _ => report.add_error(path, "Forbidden: may not specify more than 1 volume type"),
    }
    let at = |field: &str| format!("{path}.{field}");
    if let Some(v) = &volume.config_map {
        required(&v.name, &at("configMap.name"), report);
        check_items(v.items.as_deref(), v.default_mode, &at("configMap"), report);
    }
    if let Some(v) = &volume.secret {
        required(v.secret_name.as_deref().unwrap_or_default(), &at("secret.secretName"), report);
        check_items(v.items.as_deref(), v.default_mode, &at("secret"), report);
    }
    if let Some(v) = &volume.downward_api {
        mode(v.default_mode, &at("downwardAPI.defaultMode"), report);
        downward(v.items.as_deref(), spec, &at("downwardAPI"), report);
    }
    if let Some(v) = &volume.projected {
        check_projected(v, spec, &at("projected"), report);
    }
    if let Some(v) = &volume.host_path {
        if v.path.is_empty() {
            report.add_error(&at("hostPath.path"), "Required value");
        } else if v.path.split('/').any(|part| part == "..") {
            report.add_error(
                &at("hostPath.path"),
                format!("Invalid value: {:?}: must not contain '..'", v.path),
            );
        } else if !v.path.starts_with('/') {
            report.add_error(
                &at("hostPath.path"),
                format!("Invalid value: {:?}: must be an absolute path", v.path),
            );
        }
        one_of(v.type_.as_deref(), HOST_PATH_TYPES, &at("hostPath.type"), report);
    }
    if let Some(v) = &volume.persistent_volume_claim {
        match v.claim_name.as_str() {
            "" => report.add_error(&at("persistentVolumeClaim.claimName"), "Required value"),
            name => dns_subdomain(name, &at("persistentVolumeClaim.claimName"), report),
        }
    }
    if let Some(v) = &volume.ephemeral {
        match &v.volume_claim_template {
            None => report.add_error(&at("ephemeral.volumeClaimTemplate"), "Required value"),
            Some(template) => {
                let named = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                    name: Some(volume.name.clone()),
                    ..template.metadata.clone().unwrap_or_default()
                };
                let claim = PersistentVolumeClaim {
                    metadata: named,
                    spec: Some(template.spec.clone()),
                    status: None,
                };
                super::claim(&claim, &at("ephemeral.volumeClaimTemplate"), report);
            }
        }
    }
    if let Some(v) = &volume.image {
        let image = v.reference.as_deref().unwrap_or_default();
        required(image, &at("image.reference"), report);
        if !image.is_empty()
            && let Err(e) = image.parse::<podctl_images::Reference>()
        {
            report.add_error(&at("image.reference"), format!("Invalid value: {e}"));
        }
        let policies = &["Always", "IfNotPresent", "Never"];
        one_of(v.pull_policy.as_deref(), policies, &at("image.pullPolicy"), report);
    }
    if let Some(v) = &volume.empty_dir {
        let huge = |medium: &str| medium.starts_with("HugePages");
        one_of(v.medium.as_deref().filter(|m| !huge(m)), &["", "Memory"], &at("emptyDir.medium"), report);
        if let Some(medium) = v.medium.as_deref().filter(|m| huge(m))
            && let Err(message) = huge_page_size(medium, spec)
        {
            report.add_error(&at("emptyDir.medium"), format!("Invalid value: {medium:?}: {message}"));
        }
        if let Some((limit, Err(e))) = v.size_limit.as_ref().map(|limit| (limit, quantity_bytes(&limit.0))) {
            report.add_error(&at("emptyDir.sizeLimit"), format!("Invalid value: {:?}: {e}", limit.0));
        }
    }
}

fn check_projected(v: &ProjectedVolumeSource, spec: &PodSpec, path: &str, report: &mut Report<'_>) {
    mode(v.default_mode, &format!("{path}.defaultMode"), report);
    for (i, part) in v.sources.iter().flatten().enumerate() {
        let at = |field: &str| format!("{path}.sources[{i}].{field}");
        let set = [
            part.config_map.is_some(),
            part.secret.is_some(),
            part.downward_api.is_some(),
            part.service_account_token.is_some(),
            part.cluster_trust_bundle.is_some(),
            asks_for_certificate(part),
        ];
        if set.iter().filter(|s| **s).count() > 1 {
            report.add_error(
                &format!("{path}.sources[{i}]"),
                "Forbidden: may not specify more than 1 volume type per source",
            );
        }
        if let Some(p) = &part.config_map {
            required(&p.name, &at("configMap.name"), report);
            check_items(p.items.as_deref(), None, &at("configMap"), report);
        }
        if let Some(p) = &part.secret {
            required(&p.name, &at("secret.name"), report);
            check_items(p.items.as_deref(), None, &at("secret"), report);
        }
        if let Some(p) = &part.downward_api {
            downward(p.items.as_deref(), spec, &at("downwardAPI"), report);
        }
    }
}

fn check_items(items: Option<&[KeyToPath]>, default_mode: Option<i32>, path: &str, report: &mut Report<'_>) {
    mode(default_mode, &format!("{path}.defaultMode"), report);
    for (i, item) in items.unwrap_or_default().iter().enumerate() {
        let at = |field: &str| format!("{path}.items[{i}].{field}");
        required(&item.key, &at("key"), report);
        file(&item.path, &at("path"), report);
        mode(item.mode, &at("mode"), report);
    }
}

fn downward(items: Option<&[DownwardAPIVolumeFile]>, spec: &PodSpec, path: &str, report: &mut Report<'_>) {
    for (i, item) in items.unwrap_or_default().iter().enumerate() {
        let at = |field: &str| format!("{path}.items[{i}].{field}");
        file(&item.path, &at("path"), report);
        mode(item.mode, &at("mode"), report);
        match (&item.field_ref, &item.resource_field_ref) {
            (None, None) => report.add_error(
                &format!("{path}.items[{i}]"),
                "Required value: one of fieldRef and resourceFieldRef is required",
            ),
            (Some(_), Some(_)) => report.add_error(
                &format!("{path}.items[{i}]"),
                "Invalid value: \"resource\": fieldRef and resourceFieldRef can not be specified simultaneously",
            ),
            (Some(r), None) => file_field(r, &at("fieldRef"), report),
            (None, Some(r)) => resource(r, spec, true, &at("resourceFieldRef"), report),
        }
    }
}

/// The path of a file that podctl writes into a volume.
fn file(text: &str, path: &str, report: &mut Report<'_>) {
    required(text, path, report);
    inner_path(text, path, report);
    if text.starts_with("..") && !text.starts_with("../") && text != ".." {
        report.add_error(path, format!("Invalid value: {text:?}: must not start with '..'"));
    }
}

fn mode(mode: Option<i32>, path: &str, report: &mut Report<'_>) {
    if mode.is_some_and(|m| !(0..=0o777).contains(&m)) {
        let help = "write it as YAML's octal number, such as 0644".to_owned();
        let message = format!(
            "Invalid value: {}: must be a number between 0 and 0777 (octal), both inclusive",
            mode.unwrap_or_default()
        );
        report.say(Severity::Error, path, message, Some(help));
    }
}
