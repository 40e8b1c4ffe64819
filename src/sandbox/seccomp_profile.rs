//! A seccomp profile from a file (`seccompProfile.type: Localhost`), as Docker writes them or as the runtime spec does.

use std::{
    collections::HashSet,
    fs,
    path::{Component, Path},
};

use oci_spec::runtime::{Capability, LinuxSeccomp};
use serde_json::{Value, json};

use super::{Error, security_context::parse_capability};

/// Reads the profile of that name beneath the directory of profiles, for a container with those capabilities.
pub(super) fn read(profiles: &Path, name: &str, held: &HashSet<Capability>) -> Result<LinuxSeccomp, Error> {
    let path = profiles.join(name);
    let wrong = |why: String| Error::Config(format!("seccomp profile {}: {why}", path.display()));
    if name.is_empty() || !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(wrong("localhostProfile must be a relative path without '..'".into()));
    }
    let text = fs::read_to_string(&path).map_err(|e| wrong(format!("{e}; put the file there")))?;
    parse(&text, held).map_err(wrong)
}

/// Docker's form has conditions on capabilities and architectures more than the runtime spec's; they are decided here.
fn parse(text: &str, held: &HashSet<Capability>) -> Result<LinuxSeccomp, String> {
    let mut document: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if let Some(map) =
        document.get("archMap").and_then(Value::as_array).filter(|_| document.get("architectures").is_none())
    {
        let native = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
        let own = map.iter().find(|entry| entry["architecture"] == native);
        let others = own.and_then(|entry| entry["subArchitectures"].as_array()).cloned().unwrap_or_default();
        document["architectures"] = std::iter::once(json!(native)).chain(others).collect();
    }
    if let Some(rules) = document.get_mut("syscalls").and_then(Value::as_array_mut) {
        rules.retain(|rule| {
            let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
            holds(includes, held, true) && !(is_some(excludes) && holds(excludes, held, false))
        });
        for rule in rules {
            // Docker's older form has one name a rule.
            if let Some(name) = rule.get("name").filter(|n| n.is_string()).cloned() {
                rule["names"] = json!([name]);
            }
            if rule.get("args").is_some_and(Value::is_null) {
                rule.as_object_mut().map(|rule| rule.remove("args"));
            }
        }
    }
    serde_json::from_value(document).map_err(|e| e.to_string())
}

fn is_some(condition: &Value) -> bool {
    condition.as_object().is_some_and(|all| !all.is_empty())
}

/// Tells whether a condition holds. A minKernel is taken to hold: podctl itself needs a newer one than any
/// profile names.
fn holds(condition: &Value, held: &HashSet<Capability>, all: bool) -> bool {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let caps = condition["caps"].as_array().map(|names| {
        let has = |name: &Value| {
            name.as_str().and_then(|n| parse_capability(n).ok()).is_some_and(|c| held.contains(&c))
        };
        if all { names.iter().all(has) } else { names.iter().any(has) }
    });
    let arches = condition["arches"].as_array().map(|names| names.iter().any(|name| name == architecture));
    match all {
        true => caps.unwrap_or(true) && arches.unwrap_or(true),
        false => caps.unwrap_or(false) || arches.unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_sec_1_conditions_of_a_docker_profile_are_decided_by_the_capabilities() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null},
                         {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}, "excludes": {}},
                         {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#;
        let names = |held: &[Capability]| {
            let profile = parse(text, &held.iter().copied().collect()).unwrap();
            profile.syscalls().iter().flatten().flat_map(|r| r.names().clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["read", "clone"]);
        assert_eq!(names(&[Capability::SysAdmin]), ["read", "mount"]);
        assert!(parse("{", &HashSet::new()).is_err());
    }

    #[test]
    fn a_profile_lies_beneath_its_directory() {
        for name in ["", "../x", "/etc/passwd"] {
            assert!(
                read(Path::new("/nowhere"), name, &HashSet::new())
                    .unwrap_err()
                    .to_string()
                    .contains("relative")
            );
        }
    }
}
