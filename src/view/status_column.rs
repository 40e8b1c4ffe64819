//! R-APP-8: the columns STATUS, READY and RESTARTS of a pod, as `kubectl get` computes them.

use crate::pod::ContainerExt;
use k8s_openapi::{
    api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod},
    jiff::Timestamp,
};

/// Holds what kubectl's table says of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// STATUS.
    pub status: String,
    /// Ready containers, sidecars among them.
    pub ready: usize,
    /// All containers, sidecars among them.
    pub containers: usize,
    /// Belongs to init containers while these run, then of sidecars and app containers.
    pub restarts: i32,
    /// The time when the last of those runs ended.
    pub last_restart: Option<Timestamp>,
}

/// Summarises a pod as kubectl's table does.
pub fn summarize_pod(pod: &Pod) -> Summary {
    let status = pod.status.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let inits = spec.init_containers.unwrap_or_default();
    let is_sidecar = |name: &str| inits.iter().any(|c| c.name == name && c.is_sidecar());
    let condition =
        |name: &str| status.conditions.iter().flatten().any(|c| c.type_ == name && c.status == "True");

    let word = status.reason.clone().or(status.phase.clone()).unwrap_or_else(|| "Unknown".into());
    let sidecars = inits.iter().filter(|c| is_sidecar(&c.name)).count();
    let mut printed = Summary {
        status: word,
        ready: 0,
        containers: spec.containers.len() + sidecars,
        restarts: 0,
        last_restart: None,
    };
    let mut of_sidecars = (0, None);
    let mut initializing = false;
    for (at, one) in status.init_container_statuses.iter().flatten().enumerate() {
        count(&mut printed.restarts, &mut printed.last_restart, one);
        let sidecar = is_sidecar(&one.name);
        if sidecar {
            count(&mut of_sidecars.0, &mut of_sidecars.1, one);
        }
        let state = one.state.clone().unwrap_or_default();
        if state.terminated.as_ref().is_some_and(|t| t.exit_code == 0) {
            continue;
        }
        if sidecar && one.started == Some(true) {
            printed.ready += usize::from(one.ready);
            continue;
        }
        initializing = true;
        printed.status = match (state.terminated, state.waiting.and_then(|w| w.reason)) {
            (Some(ended), _) => format!("Init:{}", ended_word(&ended)),
            // Of an init container the kubelet says PodInitializing for both.
            (None, Some(reason)) if reason != "PodInitializing" && reason != "ContainerCreating" => {
                format!("Init:{reason}")
            }
            _ => format!("Init:{at}/{}", inits.len()),
        };
        break;
    }
    if !initializing || condition("Initialized") {
        (printed.restarts, printed.last_restart) = of_sidecars;
        let mut running = false;
        for one in status.container_statuses.iter().flatten().rev() {
            count(&mut printed.restarts, &mut printed.last_restart, one);
            let state = one.state.clone().unwrap_or_default();
            if let Some(reason) = state.waiting.and_then(|w| w.reason) {
                printed.status = reason;
            } else if let Some(ended) = state.terminated {
                printed.status = ended_word(&ended);
            } else if one.ready && state.running.is_some() {
                running = true;
                printed.ready += 1;
            }
        }
        if printed.status == "Completed" && running {
            printed.status = if condition("Ready") { "Running" } else { "NotReady" }.into();
        }
    }
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if pod.metadata.deletion_timestamp.is_some() && !over {
        printed.status = "Terminating".into();
    } else if over && let Some(reason) = status.reason {
        // Why the pod as a whole failed says more than how its containers ended for it.
        printed.status = reason;
    }
    printed
}

fn count(restarts: &mut i32, last: &mut Option<Timestamp>, one: &ContainerStatus) {
    *restarts += one.restart_count;
    let ended =
        one.last_state.as_ref().and_then(|s| s.terminated.as_ref()).and_then(|t| t.finished_at.as_ref());
    *last = (*last).max(ended.map(|t| t.0));
}

fn ended_word(ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref().unwrap_or_default(), ended.signal.unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", ended.exit_code),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Summary {
        let sidecar = json!({"name": "side", "restartPolicy": "Always"});
        let spec = json!({"initContainers": [{"name": "init"}, sidecar], "containers": [{"name": "a"}, {"name": "b"}]});
        summarize_pod(
            &serde_json::from_value(json!({"metadata": {}, "spec": spec, "status": status})).unwrap(),
        )
    }

    fn container(name: &str, state: Value) -> Value {
        let running = state.get("running").is_some();
        json!({"name": name, "state": state, "ready": running, "started": running, "restartCount": 0, "image": "", "imageID": ""})
    }

    fn ended(code: i32, reason: &str) -> Value {
        json!({"terminated": {"exitCode": code, "reason": reason}})
    }

    #[test]
    fn r_app_8_the_status_word_is_kubectls() {
        let running = || json!({"running": {}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let done = || container("init", ended(0, "Completed"));
        let side = || container("side", running());
        let of = |inits: Vec<Value>, apps: Vec<Value>| json!({"phase": "Running", "initContainerStatuses": inits, "containerStatuses": apps});
        let init = |state: Value| {
            of(vec![container("init", state), container("side", waiting("PodInitializing"))], vec![])
        };
        let apps = |a: Value, b: Value| of(vec![done(), side()], vec![container("a", a), container("b", b)]);
        for (status, word, ready) in [
            (json!({"phase": "Pending"}), "Pending", 0),
            (init(running()), "Init:0/2", 0),
            (init(waiting("PodInitializing")), "Init:0/2", 0),
            (init(waiting("CrashLoopBackOff")), "Init:CrashLoopBackOff", 0),
            (init(ended(1, "Error")), "Init:Error", 0),
            (init(ended(3, "")), "Init:ExitCode:3", 0),
            (init(json!({"terminated": {"exitCode": 137, "signal": 9}})), "Init:Signal:9", 0),
            (of(vec![done(), container("side", waiting("PodInitializing"))], vec![]), "Init:1/2", 0),
            (apps(waiting("PodInitializing"), waiting("PodInitializing")), "PodInitializing", 1),
            (apps(running(), running()), "Running", 3),
            (apps(running(), ended(0, "Completed")), "NotReady", 2),
            (apps(waiting("CrashLoopBackOff"), running()), "CrashLoopBackOff", 2),
            (apps(ended(0, "Completed"), ended(2, "Error")), "Completed", 1),
            (apps(ended(2, ""), running()), "ExitCode:2", 2),
        ] {
            let printed = pod(status.clone());
            assert_eq!(
                (printed.status.as_str(), printed.ready, printed.containers),
                (word, ready, 3),
                "{status}"
            );
        }
    }

    #[test]
    fn restarts_are_the_init_containers_until_the_pod_is_initialized() {
        let at = "2026-01-01T00:00:00Z";
        let mut init = container("init", json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        init["restartCount"] = json!(3);
        init["lastState"] = json!({"terminated": {"exitCode": 1, "finishedAt": at}});
        let printed = pod(json!({"initContainerStatuses": [init]}));
        assert_eq!((printed.restarts, printed.last_restart), (3, Some(at.parse::<Timestamp>().unwrap())));
        init["state"] = ended(0, "Completed");
        let mut side = container("side", json!({"running": {}}));
        side["restartCount"] = json!(1);
        let printed = pod(json!({"initContainerStatuses": [init, side]}));
        assert_eq!((printed.restarts, printed.last_restart), (1, None));
    }
}
