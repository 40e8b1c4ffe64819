//! What of a pod this machine, or this user on it, cannot give; known before anything is started.

use std::{fs, path::Path};

use k8s_openapi::api::core::v1::{Pod, Volume};

use podctl_runtime::defaults;

use super::{devices, security_context};
use crate::{
    manifest::{Severity, sysctls_of_host},
    outer_container::{Need, OuterContainer},
    pod::{quantity::quantity_text, resources::effective_huge_pages},
};

/// The field's path, how bad it is, and why.
pub type Unmet = (String, Severity, String);

/// Names of the capabilities that containers have by default, but not where this process is root.
pub fn missing_capabilities() -> Vec<String> {
    security_context::missing_capabilities().iter().map(ToString::to_string).collect()
}

/// Capabilities of [`defaults::CAPABILITIES`] that root's podctl uses itself for every container: to write where image and pod have
/// other owners, to become the container's user, to cut its capabilities, to enter its root.
const USED_FOR_EVERY_CONTAINER: [&str; 4] = ["DAC_OVERRIDE", "SETGID", "SETPCAP", "SYS_CHROOT"];

/// Those of root's missing capabilities without which no container starts.
pub fn list_lost_rights(missing: &[String]) -> Vec<String> {
    missing.iter().filter(|name| USED_FOR_EVERY_CONTAINER.contains(&name.as_str())).cloned().collect()
}

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
    if !Path::new("/proc/self").exists() {
        let why = "nothing starts without /proc, which is not mounted here: `mount -t proc proc /proc`";
        found.push(("spec.containers".to_owned(), Severity::Error, why.to_owned()));
        return found;
    }
    let names = if root { missing_capabilities() } else { Vec::new() };
    let lost = list_lost_rights(&names);
    if !lost.is_empty() {
        let outer = OuterContainer::find_around().unwrap_or(OuterContainer::Other);
        let (list, mend) = (lost.join(", "), outer.say_mend(Need::Capabilities(&lost)));
        let why =
            format!("no container starts without {list}, which podctl itself is not given here; {mend}");
        found.push(("spec.containers".to_owned(), Severity::Error, why));
    } else if !names.is_empty() {
        let why =
            format!("containers run without {}, which podctl itself is not given here", names.join(", "));
        found.push(("spec.containers".to_owned(), Severity::Warning, why));
    }
    // Of the manifest's own fields the manifest says so; a flag may have chosen the host's network later.
    for name in sysctls_of_host(spec) {
        let why = format!("{name} would be set for the whole machine, whose namespace this pod has");
        found.push(("spec.securityContext.sysctls".to_owned(), Severity::Error, why));
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
                "AppArmor is not enabled on this machine; remove the field, or boot with apparmor=1"
                    .to_owned(),
            )),
            Some("RuntimeDefault") if !apparmor => found.push((
                at("appArmorProfile"),
                Severity::Warning,
                "AppArmor is not enabled on this machine; the container runs without a profile".to_owned(),
            )),
            // Root's podctl has loaded it when the container starts.
            Some("RuntimeDefault") if !root && !security_context::has_default_profile() => found.push((
                at("appArmorProfile"),
                Severity::Warning,
                format!(
                    "the kernel does not have AppArmor's profile {}, which root's podctl loads when it starts a pod; the container runs without a profile",
                    defaults::APPARMOR_PROFILE
                ),
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
    for (page, bytes) in effective_huge_pages(spec).into_iter().filter(|(_, bytes)| *bytes > 0) {
        let free = huge_pages_of_machine(page).saturating_mul(page);
        if free < bytes {
            let (size, count) = (quantity_text(page), bytes / page);
            let why = format!(
                "Insufficient hugepages-{size}: this machine has {} of them free; as root, `echo {count} >/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages` sets some aside",
                quantity_text(free),
                page / 1024
            );
            found.push(("spec.containers".to_owned(), Severity::Error, why));
        }
    }
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let medium = volume.empty_dir.as_ref().and_then(|e| e.medium.as_deref()).unwrap_or_default();
        if medium.starts_with("HugePages") && (!root || spec.host_users == Some(false)) {
            let why =
                "only root of the machine can mount huge pages; a program gets them by mmap(2) all the same";
            found.push((format!("spec.volumes[{i}].emptyDir.medium"), Severity::Error, why.to_owned()));
        }
        if root && volume.host_path.as_ref().is_some_and(devices::hides_device) {
            let why = "is a device, which containers cannot open unless its type says so: CharDevice or BlockDevice";
            found.push((format!("spec.volumes[{i}].hostPath.type"), Severity::Warning, why.to_owned()));
        }
        if let Some(host) = volume.host_path.as_ref().filter(|h| !h.path.is_empty())
            && host.type_.as_deref().is_none_or(|kind| !kind.ends_with("OrCreate"))
            && !Path::new(&host.path).exists()
        {
            let made = host.type_.as_deref().is_none_or(str::is_empty);
            let what = if made { "; an empty directory is made" } else { "" };
            let why = format!("{} does not exist on this machine{what}", host.path);
            found.push((format!("spec.volumes[{i}].hostPath.path"), Severity::Warning, why));
        }
    }
    found
}

/// The free huge pages of that size, in bytes.
fn huge_pages_of_machine(page: u64) -> u64 {
    let path = format!("/sys/kernel/mm/hugepages/hugepages-{}kB/free_hugepages", page / 1024);
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
