//! kubectl's debugging profiles (its pkg/cmd/debug/profiles.go): what each sets on a container.

use k8s_openapi::api::core::v1::{Capabilities, SeccompProfile, SecurityContext};

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(super) enum Profile {
    /// As the image and the pod have it.
    Legacy,
    /// May trace other processes.
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

/// Changes a container's securityContext as the profile wants.
pub(super) fn apply(profile: Profile, context: &mut Option<SecurityContext>) {
    match profile {
        Profile::Legacy => {}
        Profile::General => add(context, &["SYS_PTRACE"]),
        Profile::Baseline => *context = None,
        Profile::Restricted => {
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
        Profile::Netadmin => add(context, &["NET_ADMIN", "NET_RAW"]),
        Profile::Sysadmin => context.get_or_insert_default().privileged = Some(true),
    }
}

fn add(context: &mut Option<SecurityContext>, names: &[&str]) {
    let list = context.get_or_insert_default().capabilities.get_or_insert_default();
    let list = list.add.get_or_insert_default();
    for name in names {
        if !list.iter().any(|n| n == name) {
            list.push((*name).to_owned());
        }
    }
}
