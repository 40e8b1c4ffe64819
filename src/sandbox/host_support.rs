//! What of a pod this machine, or this user on it, cannot give; known before anything is started.

use std::{fs, path::Path};

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::manifest::Severity;

/// A field's path, how bad it is, and why.
pub type Unmet = (String, Severity, String);

/// All that cannot be honoured here.
pub fn unmet(pod: &Pod) -> Vec<Unmet> {
    let mut found = Vec::new();
    let Some(spec) = &pod.spec else { return found };
    let root = nix::unistd::geteuid().is_root();
    if !root && spec.host_users == Some(true) {
        found.push((
            "spec.hostUsers".to_owned(),
            Severity::Warning,
            "true is not possible without root: the pod has the user's own ids, in a user namespace"
                .to_owned(),
        ));
    }
    let apparmor =
        fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with('Y'));
    let pod_level = spec.security_context.as_ref().and_then(|c| c.app_armor_profile.as_ref());
    let init = spec
        .init_containers
        .iter()
        .flatten()
        .enumerate()
        .map(|(i, c)| (format!("spec.initContainers[{i}]"), c));
    let apps = spec.containers.iter().enumerate().map(|(i, c)| (format!("spec.containers[{i}]"), c));
    for (path, container) in init.chain(apps) {
        let own = container.security_context.as_ref();
        let asked = own.and_then(|c| c.app_armor_profile.as_ref()).or(pod_level);
        let at = |field: &str| format!("{path}.securityContext.{field}");
        match asked.map(|profile| profile.type_.as_str()) {
            Some("Localhost") if !apparmor => found.push((
                at("appArmorProfile"),
                Severity::Error,
                "AppArmor is not enabled on this machine; remove the field, or boot with apparmor=1".to_owned(),
            )),
            Some("RuntimeDefault") => found.push((
                at("appArmorProfile"),
                Severity::Warning,
                "podctl brings no AppArmor profile of its own; the container runs under the one podctl runs under".to_owned(),
            )),
            _ => {}
        }
        if root
            && spec.host_users != Some(false)
            && own.and_then(|c| c.proc_mount.as_deref()) == Some("Unmasked")
        {
            found.push((
                at("procMount"),
                Severity::Error,
                "Unmasked wants a user namespace: set hostUsers to false".to_owned(),
            ));
        }
        let contained = !root || spec.host_users == Some(false);
        if contained && own.and_then(|c| c.privileged) == Some(true) {
            found.push((
                at("privileged"),
                Severity::Warning,
                "is as far as a user namespace goes: every capability inside of it, no seccomp filter, nothing masked; no devices and no modules of the machine".to_owned(),
            ));
        }
        for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let of_host = |v: &Volume| v.name == mount.name && v.host_path.is_some();
            if mount.mount_propagation.as_deref() == Some("Bidirectional")
                && spec.volumes.iter().flatten().any(of_host)
            {
                found.push((
                    format!("{path}.volumeMounts[{i}].mountPropagation"),
                    Severity::Warning,
                    "what the container mounts is seen by the pod's other containers, but not by this machine: no mount outlives a pod".to_owned(),
                ));
            }
        }
    }
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        if let Some(host) = volume.host_path.as_ref().filter(|h| !h.path.is_empty())
            && host.type_.as_deref().is_none_or(|kind| !kind.ends_with("OrCreate"))
            && !Path::new(&host.path).exists()
        {
            let why = format!("{} does not exist on this machine", host.path);
            found.push((format!("spec.volumes[{i}].hostPath.path"), Severity::Warning, why));
        }
    }
    found
}
