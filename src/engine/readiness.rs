//! Whether a pod comes to where somebody waits for it to be: what stands in the way, and what will not pass by itself.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Event, Pod,
};

use super::{Error, PodHandle, pod::LOOK};
use crate::{pod::PodExt, state::PodDir};

/// Reasons to wait that do not pass by themselves while somebody waits.
const HOPELESS: &[&str] = &[
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
];
/// Number of times that something has to fail in the same way before it is taken for hopeless.
const EQUAL_FAILURES: i32 = 3;

/// Returns what ends a wait for the pod, as [`Error::CannotStart`]: an image or a volume that cannot be had, a container
/// that cannot be configured or started. Left alone, the pod would try again, as a kubelet does.
pub(crate) fn find_hopeless(pod: &Pod, dir: &PodDir) -> Option<Error> {
    let status = pod.status.as_ref()?;
    let failure = |container: Option<&str>, reason: &str, message: &str| Error::CannotStart {
        pod: pod.name().to_owned(),
        container: container.map(str::to_owned),
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    let containers =
        || status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let waiting = containers().filter_map(|c| Some((c, c.state.as_ref()?.waiting.as_ref()?)));
    let waiting = waiting.map(|(c, w)| (c, w.reason.as_deref().unwrap_or_default(), w.message.as_deref()));
    let found = waiting.into_iter().find(|(_, reason, _)| HOPELESS.contains(reason));
    let found = found.or_else(|| containers().find_map(|c| Some((c, "StartError", find_start_error(c)?))));
    if let Some((container, reason, message)) = found {
        return Some(failure(Some(&container.name), reason, message.unwrap_or_default()));
    }
    // Nothing has started yet: only events say why.
    let pending =
        status.phase.as_deref() == Some("Pending") && containers().all(|c| c.container_id.is_none());
    let events = if pending { dir.events().unwrap_or_default() } else { Vec::new() };
    let is_failed_mount = |e: &Event| {
        e.reason.as_deref() == Some("FailedMount") && e.count.is_some_and(|count| count >= EQUAL_FAILURES)
    };
    let event = events.into_iter().find(is_failed_mount)?;
    Some(failure(None, "FailedMount", &event.message.unwrap_or_default()))
}

/// Returns why a container that is started again and again does not come to run.
fn find_start_error(container: &ContainerStatus) -> Option<Option<&str>> {
    let ended = |state: &Option<ContainerState>| state.as_ref().and_then(|s| s.terminated.clone());
    let is_start_error = |t: &ContainerStateTerminated| t.reason.as_deref() == Some("StartError");
    let runs = container.state.as_ref().is_some_and(|s| s.running.is_some());
    let last = ended(&container.last_state).is_some_and(|t| is_start_error(&t));
    let again = !runs && last && container.restart_count + 1 >= EQUAL_FAILURES;
    again.then(|| container.last_state.as_ref()?.terminated.as_ref()?.message.as_deref())
}

/// Tells how far a pod is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// All containers run.
    Running,
    /// All containers are ready.
    Ready,
}

/// The container that stands between a pod and its goal.
#[derive(Debug)]
pub(crate) struct Obstacle {
    /// The name.
    pub container: String,
    /// The reason in its status; empty when it has none.
    pub reason: String,
    /// The whole clause, which names it.
    pub what: String,
}

/// Returns the first container that stands between the pod and its goal; `None` when none does.
pub(crate) fn find_obstacle(pod: &Pod, goal: Goal) -> Option<Obstacle> {
    let name = pod.name();
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    let obstacle = |container: &Container, known: Option<&ContainerStatus>, what: String| {
        let state = known.and_then(|s| s.state.as_ref());
        let waiting = state.and_then(|s| s.waiting.as_ref()?.reason.clone());
        let ended = || state.and_then(|s| s.terminated.as_ref()?.reason.clone());
        let reason = waiting.or_else(ended).unwrap_or_default();
        Some(Obstacle { container: container.name.clone(), reason, what })
    };
    for (at, init) in inits.iter().enumerate() {
        let known = statuses.iter().find(|s| s.name == init.name);
        let place = format!("{} of {}", at + 1, inits.len());
        let sidecar = init.restart_policy.as_deref() == Some("Always");
        let what = match (sidecar, known) {
            (true, Some(s)) if s.started == Some(true) => continue,
            (false, Some(s)) if s.ready => continue,
            (true, known) => format!("sidecar {} ({place}) {}", init.name, describe_unstarted(init, known)),
            (false, Some(s)) if is_running(s) => {
                let see = format!("`podctl logs -f {name} -c {}` shows what it does", init.name);
                format!("init container {} ({place}) has not ended; {see}", init.name)
            }
            (false, known) => {
                format!("init container {} ({place}) {}", init.name, describe_unstarted(init, known))
            }
        };
        return obstacle(init, known, what);
    }
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    spec.containers.iter().find_map(|container| {
        let known = statuses.iter().find(|s| s.name == container.name);
        let what = match (goal, known) {
            (Goal::Ready, Some(s)) if s.ready => return None,
            (Goal::Ready, Some(s)) if is_running(s) && s.started == Some(true) => "is not ready".to_owned(),
            (Goal::Running, Some(s)) if is_running(s) => return None,
            _ => describe_unstarted(container, known),
        };
        obstacle(container, known, format!("container {} {what}", container.name))
    })
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some())
}

fn describe_unstarted(container: &Container, status: Option<&ContainerStatus>) -> String {
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

/// Returns the container that ends again and again, and what its status says of it: it may never come to the goal.
pub(crate) fn find_crash_loop(pod: &Pod) -> Option<(&str, &str)> {
    let status = pod.status.as_ref()?;
    let all = [&status.init_container_statuses, &status.container_statuses];
    let mut waiting =
        all.into_iter().flatten().flatten().filter_map(|c| Some((c, c.state.as_ref()?.waiting.as_ref()?)));
    let (container, waiting) = waiting.find(|(_, w)| w.reason.as_deref() == Some("CrashLoopBackOff"))?;
    Some((&container.name, waiting.message.as_deref().unwrap_or_default()))
}

/// Returns why a pod has failed, as an error that names the container.
fn explain_failure(pod: &Pod) -> Error {
    let status = pod.status.clone().unwrap_or_default();
    let all = [&status.init_container_statuses, &status.container_statuses];
    let failed = all.into_iter().flatten().flatten().find_map(|c| {
        let ended = c.state.as_ref()?.terminated.as_ref().filter(|t| t.exit_code != 0)?;
        Some((c.name.clone(), ended.reason.clone(), ended.message.clone(), ended.exit_code))
    });
    let name = pod.name().to_owned();
    match (status.reason, failed) {
        (None, Some((container, reason, message, exit_code))) => Error::CannotStart {
            pod: name,
            container: Some(container),
            reason: reason.unwrap_or_else(|| "Error".into()),
            message: [Some(format!("it ended with exit code {exit_code}")), message]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(": "),
        },
        (reason, failed) => Error::CannotStart {
            pod: name,
            container: failed.map(|(container, ..)| container),
            reason: reason.unwrap_or_else(|| "Failed".into()),
            message: status.message.unwrap_or_else(|| "the pod has failed".into()),
        },
    }
}

impl PodHandle {
    /// Waits until the pod is ready; gives it as it then is. What cannot come right ends the wait at once: an image that
    /// cannot be had, a container that cannot be configured; a container that fails again and again does so when there is
    /// no timeout.
    ///
    /// # Errors
    /// [`Error::CannotStart`] and, after the timeout, [`Error::NotReady`]: both name the container and the reason.
    /// [`Error::Ended`] when the pod has succeeded instead; [`Error::State`] when it was deleted.
    pub fn wait_ready(&self, timeout: Option<Duration>) -> Result<Pod, Error> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let watch = self.watch()?;
        loop {
            let pod = self.check_hope()?;
            if pod.is_ready() {
                return Ok(pod);
            }
            if let Some((container, message)) = find_crash_loop(&pod).filter(|_| deadline.is_none()) {
                return Err(Error::CannotStart {
                    pod: self.name().to_owned(),
                    container: Some(container.to_owned()),
                    reason: "CrashLoopBackOff".into(),
                    message: message.to_owned(),
                });
            }
            let left = deadline.map_or(LOOK, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                let obstacle = find_obstacle(&pod, Goal::Ready);
                return Err(match obstacle {
                    Some(Obstacle { container, reason, what }) => {
                        Error::NotReady { pod: self.name().to_owned(), container, reason, what }
                    }
                    None => Error::TimedOut(self.name().to_owned()),
                });
            }
            watch.wait(Some(left.min(LOOK)));
        }
    }
}

impl PodHandle {
    /// Checks that the pod may yet come to what is waited for; gives it as it is.
    ///
    /// # Errors
    /// As [`PodHandle::wait_ready`].
    pub(crate) fn check_hope(&self) -> Result<Pod, Error> {
        // Asked before the pod is read: nothing changes after the end.
        let alive = self.is_alive();
        let pod = self.pod()?;
        match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
            Some("Failed") => Err(explain_failure(&pod)),
            Some("Succeeded") => Err(Error::Ended(self.name().to_owned())),
            _ if !alive => Err(Error::Ended(self.name().to_owned())),
            _ => find_hopeless(&pod, &self.dir).map_or(Ok(pod), Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_container_that_is_missing_is_named() {
        let status = |name: &str, ready: bool, started: bool, state: serde_json::Value| {
            json!({
                "name": name, "ready": ready, "started": started, "state": state,
                "restartCount": 0, "image": "", "imageID": "",
            })
        };
        let (run, end) = (json!({"running": {}}), json!({"terminated": {"exitCode": 0}}));
        let held = json!({"waiting": {"reason": "PodInitializing"}});
        let find = |init: serde_json::Value, side: serde_json::Value, app: serde_json::Value, goal| {
            let pod = json!({
                "metadata": {"name": "web"},
                "spec": {
                    "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always", "startupProbe": {}}],
                    "containers": [{"name": "a"}],
                },
                "status": {"initContainerStatuses": [init, side], "containerStatuses": [app]},
            });
            let found = find_obstacle(&serde_json::from_value(pod).unwrap(), goal);
            found.map(|o| (o.container, o.reason, o.what)).unwrap_or_default()
        };
        let init = |done: bool| status("i", done, false, if done { end.clone() } else { run.clone() });
        let side = |started: bool| status("s", false, started, run.clone());
        let waits = status("a", false, false, held.clone());
        assert_eq!(
            find(init(false), status("s", false, false, held.clone()), waits.clone(), Goal::Running).2,
            "init container i (1 of 2) has not ended; `podctl logs -f web -c i` shows what it does"
        );
        assert_eq!(
            find(init(true), side(false), waits.clone(), Goal::Running).2,
            "sidecar s (2 of 2) runs, but its startup probe has not passed"
        );
        let (container, reason, what) = find(init(true), side(true), waits, Goal::Running);
        assert_eq!((container.as_str(), reason.as_str()), ("a", "PodInitializing"));
        assert_eq!(what, "container a has not started: PodInitializing");
        let up = status("a", false, true, run.clone());
        assert_eq!(find(init(true), side(true), up.clone(), Goal::Running).2, "");
        assert_eq!(find(init(true), side(true), up, Goal::Ready).2, "container a is not ready");
    }

    #[test]
    fn a_pod_that_failed_says_of_which_container() {
        let pod = json!({"metadata": {"name": "a"}, "status": {"phase": "Failed", "containerStatuses": [{
            "name": "app", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        }]}});
        let failure = explain_failure(&serde_json::from_value(pod).unwrap());
        assert_eq!(failure.to_string(), "pod a: container app: OOMKilled: it ended with exit code 137");
    }
}
