//! The volumes of `describe`.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Volume};

use super::{Page, container::name_indent};

pub(super) fn describe(page: &mut Page, volumes: &[Volume], indent: &str) {
    if volumes.is_empty() {
        return page.line(0, format_args!("{indent}Volumes:\t<none>"));
    }
    page.line(0, format_args!("{indent}Volumes:"));
    for volume in volumes {
        page.line(1, format_args!("{}{}:", name_indent(indent), volume.name));
        let (kind, fields) = fields(volume);
        page.field(2, "Type", kind);
        for (name, value) in fields {
            page.field(2, name, value);
        }
        if volume.downward_api.is_some() {
            page.line(2, "Items:");
        }
        for item in volume.downward_api.iter().flat_map(|d| d.items.iter().flatten()) {
            if let Some(from) = source(item) {
                page.line(3, format_args!("{from} -> {}", item.path));
            }
        }
    }
}

fn source(item: &DownwardAPIVolumeFile) -> Option<&String> {
    let field = item.field_ref.as_ref().map(|f| &f.field_path);
    field.or(item.resource_field_ref.as_ref().map(|r| &r.resource))
}

/// Returns what kind of volume it is, and what there is to say of it.
fn fields(volume: &Volume) -> (&'static str, Vec<(&'static str, String)>) {
    let yes = |flag: Option<bool>| flag.unwrap_or(false).to_string();
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    if let Some(path) = &volume.host_path {
        let kind = path.type_.clone().unwrap_or_else(|| "<none>".into());
        let fields = vec![("Path", path.path.clone()), ("HostPathType", kind)];
        ("HostPath (bare host directory volume)", fields)
    } else if let Some(dir) = &volume.empty_dir {
        let limit = dir.size_limit.as_ref().map_or_else(|| "<unset>".into(), |q| q.0.clone());
        let fields = vec![("Medium", text(&dir.medium)), ("SizeLimit", limit)];
        ("EmptyDir (a temporary directory that shares a pod's lifetime)", fields)
    } else if let Some(secret) = &volume.secret {
        let fields = vec![("SecretName", text(&secret.secret_name)), ("Optional", yes(secret.optional))];
        ("Secret (a volume populated by a Secret)", fields)
    } else if let Some(map) = &volume.config_map {
        let fields = vec![("Name", map.name.clone()), ("Optional", yes(map.optional))];
        ("ConfigMap (a volume populated by a ConfigMap)", fields)
    } else if let Some(claim) = &volume.persistent_volume_claim {
        let fields = vec![("ClaimName", claim.claim_name.clone()), ("ReadOnly", yes(claim.read_only))];
        ("PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)", fields)
    } else if volume.downward_api.is_some() {
        ("DownwardAPI (a volume populated by information about the pod)", Vec::new())
    } else if let Some(image) = &volume.image {
        let fields = vec![("Reference", text(&image.reference)), ("PullPolicy", text(&image.pull_policy))];
        ("Image (a container image or OCI artifact)", fields)
    } else if volume.ephemeral.is_some() {
        let kind = "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)";
        (kind, Vec::new())
    } else if let Some(projected) = &volume.projected {
        let mut fields = Vec::new();
        for source in projected.sources.iter().flatten() {
            if let Some(secret) = &source.secret {
                fields.extend([("SecretName", secret.name.clone()), ("Optional", yes(secret.optional))]);
            } else if source.downward_api.is_some() {
                fields.push(("DownwardAPI", "true".into()));
            } else if let Some(map) = &source.config_map {
                fields.extend([("ConfigMapName", map.name.clone()), ("Optional", yes(map.optional))]);
            } else if let Some(token) = &source.service_account_token {
                let seconds = token.expiration_seconds.unwrap_or(3600);
                fields.push(("TokenExpirationSeconds", seconds.to_string()));
            }
        }
        ("Projected (a volume that contains injected data from multiple sources)", fields)
    } else {
        ("<unknown>", Vec::new())
    }
}
