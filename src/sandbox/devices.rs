//! Which devices a container may open (R-SEC-1): those of every container, those its pod names one by one, or with
//! `privileged` all. Two walls: the cgroup's list, and `nodev` on all that comes from an image or a volume, so that a node
//! which lies there opens nothing.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use k8s_openapi::api::core::v1::{Container, HostPathVolumeSource, Pod, Volume};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::{Sandbox, security_context};
use crate::pod::PodExt;

/// Character devices that every container may use: major, minor. Source: runc's documentation of its default
/// devices; null, zero, full, random, urandom, tty, console, ptmx, and every terminal of a devpts.
const USABLE: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// The list that allows every device.
pub fn all_devices() -> Vec<LinuxDeviceCgroup> {
    let mut all = LinuxDeviceCgroup::default();
    all.set_allow(true);
    vec![all]
}

/// The list of the cgroup of a whole pod: what any of its containers may open.
pub fn pod_devices(pod: &Pod) -> Vec<LinuxDeviceCgroup> {
    let privileged = |c: &Container| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true);
    if pod.containers().any(privileged) {
        return all_devices();
    }
    let mut rules = Vec::new();
    for rule in pod.containers().flat_map(|container| allowed_devices(pod, container, false)) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

/// The list of a container's cgroup. A node may be made for any device, as in other runtimes; that does not open it.
pub(super) fn allowed_devices(pod: &Pod, container: &Container, privileged: bool) -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{B, C};
    if privileged {
        return all_devices();
    }
    let mut rules = vec![LinuxDeviceCgroup::default(), rule(B, None, None, "m"), rule(C, None, None, "m")];
    rules.extend(USABLE.iter().map(|&(major, minor)| rule(C, Some(major), minor, "rwm")));
    for mount in container.volume_mounts.iter().flatten() {
        let named = pod.volumes().find(|volume| volume.name == mount.name);
        let Some(path) = named.and_then(|v| v.host_path.as_ref()).filter(|host| names_device(host)) else {
            continue;
        };
        let Ok(found) = fs::metadata(&path.path) else { continue };
        let kind = if found.file_type().is_block_device() { B } else { C };
        let (major, minor) = (libc::major(found.rdev()), libc::minor(found.rdev()));
        let access = if mount.read_only == Some(true) { "r" } else { "rw" };
        rules.push(rule(kind, Some(major.into()), Some(minor.into()), access));
    }
    rules
}

/// Tells whether device nodes of a volume may be opened where it is mounted: one that is a device by its
/// type, and what lies in the machine's `/dev` as far as something else keeps the rest of it away, the
/// cgroup or an ordinary user's rights.
pub(super) fn keeps_nodes(volume: &Volume, sandbox: &Sandbox) -> bool {
    volume.host_path.as_ref().is_some_and(|host| {
        let of_dev = Path::new(&host.path).starts_with("/dev");
        names_device(host) || of_dev && (sandbox.device_cgroup || security_context::in_user_namespace())
    })
}

/// Tells whether a hostPath says that it is a device.
fn names_device(host: &HostPathVolumeSource) -> bool {
    matches!(host.type_.as_deref(), Some("CharDevice" | "BlockDevice"))
}

/// Tells whether a hostPath is a device and does not say so: root's containers cannot open it then.
pub(super) fn hides_device(host: &HostPathVolumeSource) -> bool {
    let device = |kind: fs::FileType| kind.is_char_device() || kind.is_block_device();
    !names_device(host) && fs::metadata(&host.path).is_ok_and(|found| device(found.file_type()))
}

fn rule(kind: LinuxDeviceType, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true).set_typ(Some(kind)).set_major(major).set_minor(minor);
    rule.set_access(Some(access.to_owned()));
    rule
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn r_sec_1_a_device_is_allowed_when_a_volume_of_its_type_is_mounted() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [],
            "volumes": [
                {"name": "typed", "hostPath": {"path": "/dev/null", "type": "CharDevice"}},
                {"name": "plain", "hostPath": {"path": "/dev/zero"}},
                {"name": "other", "hostPath": {"path": "/dev/full", "type": "CharDevice"}},
            ],
        }}))
        .unwrap();
        let container: Container = serde_json::from_value(json!({"name": "a", "volumeMounts": [
            {"name": "typed", "mountPath": "/n", "readOnly": true}, {"name": "plain", "mountPath": "/z"},
        ]}))
        .unwrap();
        let rules = allowed_devices(&pod, &container, false);
        assert!(!rules[0].allow() && rules[0].typ().is_none(), "all is denied first");
        let own: Vec<String> = rules[3 + USABLE.len()..].iter().map(ToString::to_string).collect();
        assert_eq!(own, ["c 1:3 r"]);
        assert!(allowed_devices(&pod, &container, true).iter().all(LinuxDeviceCgroup::allow));
    }
}
