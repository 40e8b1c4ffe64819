//! kubectl's debugging profiles (its pkg/cmd/debug/profiles.go): what each sets on a container.

use k8s_openapi::api::core::v1::{Capabilities, SeccompProfile, SecurityContext};

/// Names what a debug container may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DebugProfile {
    /// Leaves it as the image and the pod have it.
    Legacy,
    /// May trace other processes.
    #[default]
    General,
    /// Nothing beyond the defaults.
    Baseline,
    /// No root, no capabilities, no new privileges.
    Restricted,
    /// May change the pod's network.
    Netadmin,
    /// Privileged.
    Sysadmin,
}

impl DebugProfile {
    /// The names of all profiles, as `--profile` has them.
    pub const NAMES: [&'static str; 6] =
        ["legacy", "general", "baseline", "restricted", "netadmin", "sysadmin"];

    /// Reads a profile's name; `None` for any other word.
    pub fn parse(name: &str) -> Option<DebugProfile> {
        use DebugProfile::{Baseline, General, Legacy, Netadmin, Restricted, Sysadmin};
        let all = [Legacy, General, Baseline, Restricted, Netadmin, Sysadmin];
        DebugProfile::NAMES.iter().zip(all).find(|(known, _)| **known == name).map(|(_, profile)| profile)
    }

    /// Changes a container's securityContext as the profile wants.
    pub(super) fn change_context(self, context: &mut Option<SecurityContext>) {
        match self {
            DebugProfile::Legacy => {}
            DebugProfile::General => add_capabilities(context, &["SYS_PTRACE"]),
            DebugProfile::Baseline => *context = None,
            DebugProfile::Restricted => {
                *context = Some(SecurityContext {
                    run_as_non_root: Some(true),
                    allow_privilege_escalation: Some(false),
                    capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
                    seccomp_profile: Some(SeccompProfile {
                        type_: "RuntimeDefault".into(),
                        localhost_profile: None,
                    }),
                    ..SecurityContext::default()
                });
            }
            DebugProfile::Netadmin => add_capabilities(context, &["NET_ADMIN", "NET_RAW"]),
            DebugProfile::Sysadmin => context.get_or_insert_default().privileged = Some(true),
        }
    }
}

fn add_capabilities(context: &mut Option<SecurityContext>, names: &[&str]) {
    let list = context.get_or_insert_default().capabilities.get_or_insert_default();
    let list = list.add.get_or_insert_default();
    for name in names {
        if !list.iter().any(|n| n == name) {
            list.push((*name).to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_its_name() {
        for name in DebugProfile::NAMES {
            let profile = DebugProfile::parse(name).unwrap();
            assert_eq!(format!("{profile:?}").to_lowercase(), name);
        }
        assert_eq!(DebugProfile::parse("root"), None);
    }
}
