//! podFailurePolicy and successPolicy: what their rules say.

use k8s_openapi::api::{
    batch::v1::{PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule},
    core::v1::{ContainerStatus, Pod},
};

use crate::pod::kubernetes_versions::condition_status;

/// A rule that matched.
pub(super) struct Matched<'a> {
    pub action: &'a str,
    /// Tells how it matched, in the controller's words.
    pub message: String,
}

/// The first rule that knows how this pod failed.
pub(super) fn matching_rule<'a>(rules: &'a [PodFailurePolicyRule], pod: &Pod) -> Option<Matched<'a>> {
    let meta = &pod.metadata;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let name = format!("{}/{}", part(&meta.namespace), part(&meta.name));
    rules.iter().enumerate().find_map(|(at, rule)| {
        let action = rule.action.as_str();
        let message = match &rule.on_exit_codes {
            Some(codes) => {
                let (container, code) = matching_exit(codes, pod)?;
                format!("Container {container} for pod {name} failed with exit code {code} matching {action} rule at index {at}")
            }
            None => {
                let condition = condition(rule, pod)?;
                format!("Pod {name} has condition {condition} matching {action} rule at index {at}")
            }
        };
        Some(Matched { action, message })
    })
}

/// A container that failed with one of the codes, apps before init containers.
fn matching_exit<'a>(codes: &PodFailurePolicyOnExitCodesRequirement, pod: &'a Pod) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let all =
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    let named = |c: &ContainerStatus| codes.container_name.as_ref().is_none_or(|name| *name == c.name);
    all.filter(|c| named(c))
        .filter_map(|c| Some((c.name.as_str(), c.state.as_ref()?.terminated.as_ref()?.exit_code)))
        .find(|(_, code)| *code != 0 && codes.values.contains(code) == (codes.operator == "In"))
}

fn condition<'a>(rule: &PodFailurePolicyRule, pod: &'a Pod) -> Option<&'a str> {
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let all = pod.status.as_ref()?.conditions.iter().flatten();
    all.filter(|c| {
        patterns.iter().any(|p| p.type_ == c.type_ && condition_status(p).unwrap_or("True") == c.status)
    })
    .map(|c| c.type_.as_str())
    .next()
}
