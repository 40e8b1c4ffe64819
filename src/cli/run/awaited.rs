//! What a detached run still waits for, in one line.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};

use super::Wait;

/// The first thing that stands between the pod and where it is to be; `None` when nothing does.
pub(super) fn awaited_text(pod: &Pod, wait: Wait) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    for (at, init) in inits.iter().enumerate() {
        let known = statuses.iter().find(|s| s.name == init.name);
        let place = format!("{} of {}", at + 1, inits.len());
        let sidecar = init.restart_policy.as_deref() == Some("Always");
        match (sidecar, known) {
            (true, Some(s)) if s.started == Some(true) => {}
            (false, Some(s)) if s.ready => {}
            (true, known) => {
                return Some(format!("sidecar {} ({place}) {}", init.name, unstarted_text(init, known)));
            }
            (false, Some(s)) if is_running(s) => {
                let see = format!("`podctl logs -f {name} -c {}` shows what it does", init.name);
                return Some(format!("init container {} ({place}) has not ended; {see}", init.name));
            }
            (false, known) => {
                return Some(format!(
                    "init container {} ({place}) {}",
                    init.name,
                    unstarted_text(init, known)
                ));
            }
        }
    }
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    spec.containers.iter().find_map(|container| {
        let known = statuses.iter().find(|s| s.name == container.name);
        let what = match (wait, known) {
            (Wait::Ready, Some(s)) if s.ready => return None,
            (Wait::Ready, Some(s)) if is_running(s) && s.started == Some(true) => "is not ready".to_owned(),
            (Wait::Running, Some(s)) if is_running(s) => return None,
            _ => unstarted_text(container, known),
        };
        Some(format!("container {} {what}", container.name))
    })
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some())
}

fn unstarted_text(container: &Container, status: Option<&ContainerStatus>) -> String {
    if status.is_some_and(is_running) {
        let gate = if container.startup_probe.is_some() {
            "startup probe has not passed"
        } else {
            "postStart hook has not ended"
        };
        return format!("runs, but its {gate}");
    }
    let waiting = status.and_then(|s| s.state.as_ref()?.waiting.as_ref());
    match waiting.map(|w| (w.reason.as_deref().unwrap_or_default(), w.message.as_deref())) {
        Some((reason, Some(message))) => format!("has not started: {reason}: {message}"),
        Some((reason, None)) if !reason.is_empty() => format!("has not started: {reason}"),
        _ => "has not started".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_thing_that_is_missing_is_named() {
        let status = |name: &str, ready: bool, started: bool, state: serde_json::Value| {
            json!({
                "name": name, "ready": ready, "started": started, "state": state,
                "restartCount": 0, "image": "", "imageID": "",
            })
        };
        let (run, end) = (json!({"running": {}}), json!({"terminated": {"exitCode": 0}}));
        let held = json!({"waiting": {"reason": "PodInitializing"}});
        let says = |init: serde_json::Value, side: serde_json::Value, app: serde_json::Value, wait| {
            let pod = json!({
                "metadata": {"name": "web"},
                "spec": {
                    "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always", "startupProbe": {}}],
                    "containers": [{"name": "a"}],
                },
                "status": {"initContainerStatuses": [init, side], "containerStatuses": [app]},
            });
            awaited_text(&serde_json::from_value(pod).unwrap(), wait).unwrap_or_default()
        };
        let init = |done: bool| status("i", done, false, if done { end.clone() } else { run.clone() });
        let side = |started: bool| status("s", false, started, run.clone());
        let waits = status("a", false, false, held.clone());
        assert_eq!(
            says(init(false), status("s", false, false, held.clone()), waits.clone(), Wait::Running),
            "init container i (1 of 2) has not ended; `podctl logs -f web -c i` shows what it does"
        );
        assert_eq!(
            says(init(true), side(false), waits.clone(), Wait::Running),
            "sidecar s (2 of 2) runs, but its startup probe has not passed"
        );
        assert_eq!(
            says(init(true), side(true), waits, Wait::Running),
            "container a has not started: PodInitializing"
        );
        let up = status("a", false, true, run.clone());
        assert_eq!(says(init(true), side(true), up.clone(), Wait::Running), "");
        assert_eq!(says(init(true), side(true), up, Wait::Ready), "container a is not ready");
    }
}
