//! R-APP-8: a pod in the few words of a table.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// kubectl's STATUS word.
pub fn printed_status(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let mut word = status.reason.clone().or(status.phase.clone()).unwrap_or_else(|| "Unknown".into());
    let inits = spec.init_containers.unwrap_or_default();
    let is_sidecar =
        |name: &str| inits.iter().any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"));
    let mut initializing = false;
    for (at, one) in status.init_container_statuses.iter().flatten().enumerate() {
        let state = one.state.clone().unwrap_or_default();
        if state.terminated.as_ref().is_some_and(|t| t.exit_code == 0) {
            continue;
        }
        if is_sidecar(&one.name) && (one.started == Some(true) || state.terminated.is_some()) {
            continue;
        }
        initializing = true;
        word = match (state.terminated, state.waiting.and_then(|w| w.reason)) {
            (Some(t), _) => match t.reason.as_deref().unwrap_or("") {
                "" if t.signal.unwrap_or(0) != 0 => format!("Init:Signal:{}", t.signal.unwrap_or(0)),
                "" => format!("Init:ExitCode:{}", t.exit_code),
                reason => format!("Init:{reason}"),
            },
            (None, Some(reason)) if reason != "PodInitializing" && reason != "ContainerCreating" => {
                format!("Init:{reason}")
            }
            _ => format!("Init:{at}/{}", inits.len()),
        };
        break;
    }
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if !initializing {
        let mut running = false;
        for one in status.container_statuses.iter().flatten().rev() {
            let state = one.state.clone().unwrap_or_default();
            if let Some(reason) = state.waiting.and_then(|w| w.reason) {
                word = reason;
            } else if let Some(t) = state.terminated {
                word = match t.reason.filter(|r| !r.is_empty()) {
                    Some(reason) => reason,
                    None if t.signal.unwrap_or(0) != 0 => format!("Signal:{}", t.signal.unwrap_or(0)),
                    None => format!("ExitCode:{}", t.exit_code),
                };
            } else if one.ready && state.running.is_some() {
                running = true;
            }
        }
        if word == "Completed" && running {
            let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
            word = if ready { "Running" } else { "NotReady" }.into();
        }
        if let Some(reason) = &status.reason {
            word.clone_from(reason);
        }
    }
    if pod.metadata.deletion_timestamp.is_some() && !over {
        word = "Terminating".into();
    }
    word
}

/// Ready containers and all there are, sidecars among them.
pub fn ready_count(pod: &Pod) -> (usize, usize) {
    let spec = pod.spec.clone().unwrap_or_default();
    let counted = counted(pod);
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ready = counted.iter().filter(|s| s.ready && s.state.as_ref().is_some_and(|s| s.running.is_some()));
    (ready.count(), spec.containers.len() + sidecars.count())
}

/// Restarts of all containers together.
pub fn restart_count(pod: &Pod) -> i32 {
    counted(pod).iter().map(|s| s.restart_count).sum()
}

fn counted(pod: &Pod) -> Vec<ContainerStatus> {
    let status = pod.status.clone().unwrap_or_default();
    let inits = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    let sidecars: Vec<&str> =
        inits.filter(|c| c.restart_policy.as_deref() == Some("Always")).map(|c| c.name.as_str()).collect();
    let init = status.init_container_statuses.into_iter().flatten();
    let initialized = status.container_statuses.iter().flatten().any(|c| {
        c.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some()) || c.restart_count > 0
    });
    init.filter(|s| !initialized || sidecars.contains(&s.name.as_str()))
        .chain(status.container_statuses.into_iter().flatten())
        .collect()
}
