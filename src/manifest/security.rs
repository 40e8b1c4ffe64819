//! What kube-apiserver refuses of identity and isolation, and what a kubelet refuses (R-SEC-1).

use k8s_openapi::api::core::v1::{PodSpec, SecurityContext};

use super::Report;

/// sysctls that every kubelet allows.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Checks a pod's spec, which is at `path`.
pub(super) fn pod(spec: &PodSpec, path: &str, report: &mut Report<'_>) {
    let set = |field: Option<bool>| field == Some(true);
    if set(spec.share_process_namespace) && set(spec.host_pid) {
        report.add_error(
            &format!("{path}.shareProcessNamespace"),
            "Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    for (name, on) in
        [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)]
    {
        if set(on) && spec.host_users == Some(false) {
            report.add_error(&format!("{path}.{name}"), "Forbidden: when `hostUsers` is false");
        }
    }
    let context = spec.security_context.as_ref();
    let at = |field: &str| format!("{path}.securityContext.{field}");
    let policy = context.and_then(|c| c.supplemental_groups_policy.as_deref());
    if policy.is_some_and(|p| !matches!(p, "Merge" | "Strict")) {
        report.add_error(
            &at("supplementalGroupsPolicy"),
            format!(
                "Unsupported value: {:?}: supported values: \"Merge\", \"Strict\"",
                policy.unwrap_or_default()
            ),
        );
    }
    if let Some(context) = context {
        let ids = [
            ("runAsUser", context.run_as_user),
            ("runAsGroup", context.run_as_group),
            ("fsGroup", context.fs_group),
        ];
        ids.into_iter().for_each(|(field, id)| self::check_id(id, &at(field), report));
        for (i, group) in context.supplemental_groups.iter().flatten().enumerate() {
            check_id(Some(*group), &at(&format!("supplementalGroups[{i}]")), report);
        }
        if let Some(profile) = &context.seccomp_profile {
            self::profile(
                &profile.type_,
                profile.localhost_profile.as_deref(),
                &at("seccompProfile"),
                report,
            );
        }
        if let Some(profile) = &context.app_armor_profile {
            self::profile(
                &profile.type_,
                profile.localhost_profile.as_deref(),
                &at("appArmorProfile"),
                report,
            );
        }
        for (i, sysctl) in context.sysctls.iter().flatten().enumerate() {
            self::sysctl(&sysctl.name, spec, &at(&format!("sysctls[{i}].name")), report);
        }
    }
    let init =
        spec.init_containers.iter().flatten().enumerate().map(|(i, c)| (format!("initContainers[{i}]"), c));
    let apps = spec.containers.iter().enumerate().map(|(i, c)| (format!("containers[{i}]"), c));
    for (name, container) in init.chain(apps) {
        let path = format!("{path}.{name}");
        if let Some(context) = &container.security_context {
            self::container(context, &format!("{path}.securityContext"), report);
        }
    }
}

fn container(context: &SecurityContext, path: &str, report: &mut Report<'_>) {
    let at = |field: &str| format!("{path}.{field}");
    check_id(context.run_as_user, &at("runAsUser"), report);
    check_id(context.run_as_group, &at("runAsGroup"), report);
    if context.allow_privilege_escalation == Some(false) {
        let refused = "Invalid value: false: cannot set `allowPrivilegeEscalation` to false and";
        if context.privileged == Some(true) {
            report.add_error(&at("allowPrivilegeEscalation"), format!("{refused} `privileged` to true"));
        }
        let added = context.capabilities.as_ref().and_then(|c| c.add.as_ref());
        if added.into_iter().flatten().any(|c| matches!(c.as_str(), "CAP_SYS_ADMIN" | "SYS_ADMIN")) {
            report.add_error(
                &at("allowPrivilegeEscalation"),
                format!("{refused} `capabilities.Add` CAP_SYS_ADMIN"),
            );
        }
    }
    if let Some(mount) = context.proc_mount.as_deref().filter(|m| !matches!(*m, "Default" | "Unmasked")) {
        report.add_error(
            &at("procMount"),
            format!("Unsupported value: {mount:?}: supported values: \"Default\", \"Unmasked\""),
        );
    }
    if let Some(profile) = &context.seccomp_profile {
        self::profile(&profile.type_, profile.localhost_profile.as_deref(), &at("seccompProfile"), report);
    }
    if let Some(profile) = &context.app_armor_profile {
        self::profile(&profile.type_, profile.localhost_profile.as_deref(), &at("appArmorProfile"), report);
    }
}

fn check_id(id: Option<i64>, path: &str, report: &mut Report<'_>) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        report.add_error(path, format!("Invalid value: {id}: must be between 0 and 2147483647, inclusive"));
    }
}

fn profile(kind: &str, file: Option<&str>, path: &str, report: &mut Report<'_>) {
    match (kind, file) {
        ("Localhost", None | Some("")) => report.add_error(
            &format!("{path}.localhostProfile"),
            "Required value: must be set when the type is Localhost",
        ),
        ("Localhost", _) => {}
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("RuntimeDefault" | "Unconfined", Some(name)) => report.add_error(
            &format!("{path}.localhostProfile"),
            format!("Invalid value: {name:?}: can only be set when the type is Localhost"),
        ),
        _ => report.add_error(
            &format!("{path}.type"),
            format!("Unsupported value: {kind:?}: supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\""),
        ),
    }
}

/// Sysctls of namespaces that the pod has from the host: they would be set for the whole machine.
pub(crate) fn sysctls_of_host(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let all = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    all.map(|sysctl| sysctl.name.as_str()).filter(|name| is_of_host(name, spec))
}

fn is_of_host(name: &str, spec: &PodSpec) -> bool {
    let name = name.replace('/', ".");
    spec.host_network == Some(true) && is_of_network(&name) || spec.host_ipc == Some(true) && is_of_ipc(&name)
}

fn is_of_network(name: &str) -> bool {
    name.starts_with("net.")
}

fn is_of_ipc(name: &str) -> bool {
    ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."].iter().any(|part| name.starts_with(part))
}

fn sysctl(name: &str, spec: &PodSpec, path: &str, report: &mut Report<'_>) {
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if !name.split(['.', '/']).all(plain) {
        return report.add_error(path, format!("Invalid value: {name:?}: must be names separated by '.'"));
    }
    let name = name.replace('/', ".");
    if is_of_host(&name, spec) {
        report.add_error(path, format!("Invalid value: {name:?}: may not be used with the host's namespace"));
    } else if !is_of_network(&name) && !is_of_ipc(&name) {
        report.add_error(path, format!("Forbidden: {name:?} belongs to the whole machine, not to a pod"));
    }
}

/// Returns the pod's first sysctl that is neither safe nor among those that are allowed; `kernel.msg*` allows all that begin so.
pub fn find_forbidden_sysctl<'a>(spec: &'a PodSpec, allowed: &[String]) -> Option<(usize, &'a str)> {
    let is_allowed = |name: &str| {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        SAFE_SYSCTLS.contains(&name) || allowed.iter().any(fits)
    };
    let all = spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten()).enumerate();
    let mut names = all.map(|(at, sysctl)| (at, sysctl.name.as_str()));
    names.find(|(_, name)| !is_allowed(&name.replace('/', ".")))
}

#[cfg(test)]
mod tests {
    use crate::manifest::{Source, load};

    fn said(spec: &str) -> String {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  {spec}\n  containers:\n  - name: a\n    image: busybox\n"
        );
        with(text)
    }

    fn of_container(field: &str) -> String {
        with(format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - name: a\n    image: busybox\n    {field}\n"
        ))
    }

    fn with(text: String) -> String {
        let found = match load(&[Source { name: "f".into(), text }]) {
            Ok(manifest) => manifest.warnings,
            Err(errors) => errors,
        };
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn r_sec_1_contradictions_are_refused_in_the_api_servers_words() {
        for (spec, words) in [
            ("hostPID: true\n  shareProcessNamespace: true", "cannot both be enabled"),
            ("hostUsers: false\n  hostNetwork: true", "when `hostUsers` is false"),
            ("securityContext: {runAsUser: -1}", "must be between 0 and 2147483647"),
            ("securityContext: {supplementalGroupsPolicy: X}", "supported values: \"Merge\""),
            (
                "securityContext: {sysctls: [{name: vm.swappiness, value: '1'}]}",
                "belongs to the whole machine",
            ),
            (
                "securityContext: {seccompProfile: {type: Localhost}}",
                "must be set when the type is Localhost",
            ),
        ] {
            assert!(said(spec).contains(words), "{spec}: {}", said(spec));
        }
        for (field, words) in [
            ("securityContext: {privileged: true, allowPrivilegeEscalation: false}", "`privileged` to true"),
            ("securityContext: {procMount: X}", "supported values: \"Default\""),
        ] {
            assert!(of_container(field).contains(words), "{field}: {}", of_container(field));
        }
    }
    #[test]
    fn r_sec_1_an_unsafe_sysctl_is_forbidden_unless_it_is_allowed() {
        let spec = serde_json::json!({"containers": [], "securityContext": {"sysctls": [
            {"name": "net.ipv4.tcp_syncookies", "value": "1"}, {"name": "kernel/msgmax", "value": "1"},
        ]}});
        let spec: k8s_openapi::api::core::v1::PodSpec = serde_json::from_value(spec).unwrap();
        let found = |allowed: &str| super::find_forbidden_sysctl(&spec, &[allowed.to_owned()]);
        assert_eq!(found("net.core.somaxconn"), Some((1, "kernel/msgmax")));
        assert_eq!((found("kernel.msg*"), found("kernel.msgmax")), (None, None));
    }
}
