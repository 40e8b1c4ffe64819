//! What a run says on standard error: each new event, what cannot come right, the end.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Event, Pod};

use crate::{cli::paint_red, pod::PodExt, state::PodDir, view::plain_text::show_controls};

/// Lifecycle notes of one pod.
#[derive(Default)]
pub(super) struct Notes {
    seen: HashSet<(String, i32)>,
    ended: bool,
    warnings_only: bool,
    /// The pod, as it was seen last.
    last: Option<Pod>,
}

impl Notes {
    /// For a run that shows nothing else.
    pub(super) fn of_warnings() -> Notes {
        Notes { warnings_only: true, ..Notes::default() }
    }

    /// The end is somebody's doing, and needs no note.
    pub(super) fn end_is_known(&mut self) {
        self.ended = true;
    }

    /// The pod as it was seen last.
    pub(super) fn last_state(&self) -> Option<Pod> {
        self.last.clone()
    }

    /// Keeps what is left of the pod when somebody deletes it.
    pub(super) fn remember_state(&mut self, pod: &Pod) {
        self.last = Some(pod.clone());
    }

    /// Says that the pod was deleted; gives the run's exit code, which is a failure's unless the pod had succeeded before.
    pub(super) fn exit_code_when_deleted(&self, name: &str) -> i32 {
        let last = self.last.as_ref();
        if last.and_then(|p| p.status.as_ref()?.phase.as_deref()) == Some("Succeeded") {
            return 0;
        }
        eprintln!("pod {name} was deleted before it ended");
        last.map_or(1, PodExt::exit_code).max(1)
    }

    /// What is new; where there are several pods, each note names its own.
    pub(super) fn show(&mut self, dir: &PodDir, several: bool) {
        for event in dir.events().unwrap_or_default() {
            let key = (event.metadata.name.clone().unwrap_or_default(), event.count.unwrap_or(1));
            let told = match self.warnings_only {
                true => event.type_.as_deref() == Some("Warning"),
                // What is created is started in the same moment.
                false => event.reason.as_deref() != Some("Created"),
            };
            if self.seen.insert(key) && told {
                eprintln!("{}", note(&event, several.then_some(dir.name.as_str())));
            }
        }
    }

    /// The end, once; to be told after all else.
    pub(super) fn show_end(&mut self, pod: &Pod, dir: &PodDir) {
        if !self.ended
            && let Some(end) = end(pod)
        {
            self.ended = true;
            eprintln!("pod {} {}", dir.name, show_controls(&end));
        }
    }
}

/// `app: Started container app`; a warning has its reason in red.
fn note(event: &Event, pod: Option<&str>) -> String {
    let path = event.involved_object.field_path.as_deref().unwrap_or_default();
    let container = path.split_once('{').map(|(_, name)| name.trim_end_matches('}'));
    let who: Vec<&str> = pod.into_iter().chain(container).collect();
    let who = if who.is_empty() { String::new() } else { format!("{}: ", who.join("/")) };
    let message = show_controls(event.message.as_deref().unwrap_or_default());
    match event.type_.as_deref() {
        Some("Warning") => {
            format!("{who}{}: {message}", paint_red(event.reason.as_deref().unwrap_or_default()))
        }
        _ => format!("{0}{who}{message}{0:#}", anstyle::Style::new().dimmed()),
    }
}

/// Tells how it ended, once it has.
pub(super) fn end(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    match status.phase.as_deref()? {
        "Succeeded" => Some("has succeeded".into()),
        "Failed" => {
            let all = [&status.container_statuses, &status.init_container_statuses];
            let failed = all.into_iter().flatten().flatten().find_map(|c| {
                let ended = c.state.as_ref()?.terminated.as_ref().filter(|t| t.exit_code != 0)?;
                let reason = ended.reason.as_deref().unwrap_or("Error");
                Some(format!("container {} ended with exit code {} ({reason})", c.name, ended.exit_code))
            });
            let why = match (&status.reason, &status.message) {
                (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
                (reason, _) => reason.clone(),
            };
            Some(match why.or(failed) {
                Some(why) => format!("has failed: {why}"),
                None => "has failed".into(),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_note_names_pod_and_container_once_each() {
        let event = |kind: &str, message: &str| -> Event {
            serde_json::from_value(json!({
                "metadata": {}, "type": kind, "reason": "R", "message": message,
                "involvedObject": {"fieldPath": "spec.containers{app}"},
            }))
            .unwrap()
        };
        let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain(note(&event("Normal", "it is so"), None)), "app: it is so");
        assert_eq!(plain(note(&event("Warning", "it is bad"), Some("web"))), "web/app: R: it is bad");
    }

    #[test]
    fn the_end_of_a_failed_pod_says_why() {
        let pod = |status: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap()
        };
        assert_eq!(end(&pod(json!({"phase": "Running"}))), None);
        assert_eq!(end(&pod(json!({"phase": "Succeeded"}))).unwrap(), "has succeeded");
        let killed = json!({"phase": "Failed", "containerStatuses": [{
            "name": "app", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        }]});
        assert_eq!(
            end(&pod(killed)).unwrap(),
            "has failed: container app ended with exit code 137 (OOMKilled)"
        );
        let late = json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long"});
        assert_eq!(end(&pod(late)).unwrap(), "has failed: DeadlineExceeded: too long");
    }
}
