//! `run --report FILE`: how each container ended, for the programs that gather test results: JUnit's XML where the file's name
//! ends so, else JSON.

use std::{fmt::Write as _, fs, path::Path};

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod},
    jiff::Timestamp,
};
use serde::Serialize;

use crate::{
    cli::{Error, io},
    pod::{ContainerExt, PodExt},
};

/// The pod at the end of its run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodReport {
    namespace: String,
    name: String,
    phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    exit_code: i32,
    containers: Vec<ContainerReport>,
}

/// The container at the end of its pod's run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerReport {
    name: String,
    /// `init`, `sidecar` or `app`.
    kind: &'static str,
    image: String,
    restarts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
    /// Seconds that its last run took.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
}

/// Writes the report of these pods.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write_report(file: &Path, pods: &[Pod]) -> Result<(), Error> {
    let reports: Vec<_> = pods.iter().map(report_pod).collect();
    let text = match file.extension().is_some_and(|kind| kind == "xml") {
        true => render_junit(&reports),
        false => {
            let document = serde_json::json!({ "pods": reports });
            format!("{}\n", serde_json::to_string_pretty(&document).expect("plain data"))
        }
    };
    fs::write(file, text).map_err(io(format!("cannot write the report {}", file.display())))
}

fn report_pod(pod: &Pod) -> PodReport {
    let status = pod.status.clone().unwrap_or_default();
    let all =
        || status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let spec = pod.spec.as_ref();
    let inits = spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    let inits = inits.map(|c| (c, if c.is_sidecar() { "sidecar" } else { "init" }));
    let apps = spec.iter().flat_map(|s| &s.containers).map(|c| (c, "app"));
    let containers = inits.chain(apps).map(|(container, kind)| {
        let known = all().find(|status| status.name == container.name);
        report_container(&container.name, container.image.as_deref(), kind, known)
    });
    PodReport {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.name().to_owned(),
        phase: status.phase.clone().unwrap_or_default(),
        reason: status.reason.clone(),
        message: status.message.clone(),
        exit_code: pod.exit_code(),
        containers: containers.collect(),
    }
}

fn report_container(
    name: &str,
    image: Option<&str>,
    kind: &'static str,
    status: Option<&ContainerStatus>,
) -> ContainerReport {
    let state = status.and_then(|s| s.state.as_ref());
    let ended = state.and_then(|s| s.terminated.as_ref());
    let waiting = state.and_then(|s| s.waiting.as_ref());
    let times = ended.map(|t| (t.started_at.as_ref().map(|t| t.0), t.finished_at.as_ref().map(|t| t.0)));
    let (began, over) = times.unwrap_or_default();
    let seconds =
        began.zip(over).map(|(began, over): (Timestamp, Timestamp)| over.duration_since(began).as_secs_f64());
    ContainerReport {
        name: name.to_owned(),
        kind,
        image: image.unwrap_or_default().to_owned(),
        restarts: status.map_or(0, |s| s.restart_count),
        exit_code: ended.map(|t| t.exit_code),
        reason: ended.and_then(|t| t.reason.clone()).or_else(|| waiting.and_then(|w| w.reason.clone())),
        message: ended.and_then(|t| t.message.clone()).or_else(|| waiting.and_then(|w| w.message.clone())),
        started_at: began.map(|t| t.to_string()),
        finished_at: over.map(|t| t.to_string()),
        seconds,
    }
}

/// Renders JUnit's XML: a suite a pod, a case a container. One that has not run is skipped, as one that waited for a
/// failed init container is.
fn render_junit(pods: &[PodReport]) -> String {
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
    for pod in pods {
        let of = |wanted: fn(&ContainerReport) -> bool| pod.containers.iter().filter(|c| wanted(c)).count();
        let seconds: f64 = pod.containers.iter().filter_map(|c| c.seconds).sum();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}/{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\">",
            escape_xml(&pod.namespace),
            escape_xml(&pod.name),
            pod.containers.len(),
            of(ContainerReport::has_failed),
            of(|c| c.exit_code.is_none()),
        );
        for container in &pod.containers {
            let (name, time) = (escape_xml(&container.name), container.seconds.unwrap_or(0.0));
            // A String takes everything.
            let _ = write!(
                text,
                "    <testcase classname=\"{}.{}\" name=\"{name}\" time=\"{time:.3}\"",
                escape_xml(&pod.name),
                container.kind
            );
            let reason = escape_xml(container.reason.as_deref().unwrap_or_default());
            let message = escape_xml(container.message.as_deref().unwrap_or_default());
            // A String takes everything.
            let _ = match container.exit_code {
                Some(code) if container.has_failed() => writeln!(
                    text,
                    ">\n      <failure message=\"exit code {code} ({reason})\">{message}</failure>\n    </testcase>"
                ),
                Some(_) => writeln!(text, "/>"),
                None => writeln!(
                    text,
                    ">\n      <skipped message=\"{reason}\">{message}</skipped>\n    </testcase>"
                ),
            };
        }
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

impl ContainerReport {
    /// Tells whether it counts against the pod: a sidecar that is ended with its pod does not.
    fn has_failed(&self) -> bool {
        self.kind != "sidecar" && self.exit_code.is_some_and(|code| code != 0)
    }
}

/// Returns the text as XML has it; characters that XML cannot have become a question mark.
fn escape_xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        let ended = |name: &str, code: i32, reason: &str| {
            json!({
                "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 1,
                "state": {"terminated": {
                    "exitCode": code, "reason": reason, "message": "a <b> & \u{1b}c",
                    "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:02Z",
                }},
            })
        };
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "initContainers": [
                    {"name": "prep", "image": "i:1"},
                    {"name": "side", "image": "s:1", "restartPolicy": "Always"},
                ],
                "containers": [{"name": "app", "image": "a:1"}, {"name": "late", "image": "l:1"}],
            },
            "status": {
                "phase": "Failed",
                "initContainerStatuses": [ended("prep", 0, "Completed"), ended("side", 143, "Error")],
                "containerStatuses": [ended("app", 3, "Error")],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_report_says_of_each_container_how_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        write_report(&file, &[pod()]).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let pod = &report["pods"][0];
        assert_eq!(
            (&pod["name"], &pod["phase"], &pod["exitCode"]),
            (&json!("web"), &json!("Failed"), &json!(3))
        );
        let names: Vec<_> = (0..4)
            .map(|n| (pod["containers"][n]["name"].clone(), pod["containers"][n]["kind"].clone()))
            .collect();
        assert_eq!(
            json!(names),
            json!([["prep", "init"], ["side", "sidecar"], ["app", "app"], ["late", "app"]])
        );
        let app = &pod["containers"][2];
        assert_eq!(
            (&app["exitCode"], &app["seconds"], &app["restarts"]),
            (&json!(3), &json!(2.0), &json!(1))
        );
    }

    #[test]
    fn junit_has_a_case_a_container_and_only_what_xml_can_hold() {
        let text = render_junit(&[report_pod(&pod())]);
        assert!(
            text.contains(
                "<testsuite name=\"default/web\" tests=\"4\" failures=\"1\" skipped=\"1\" time=\"6.000\">"
            ),
            "{text}"
        );
        assert!(
            text.contains("<testcase classname=\"web.sidecar\" name=\"side\" time=\"2.000\"/>"),
            "{text}"
        );
        assert!(
            text.contains("<failure message=\"exit code 3 (Error)\">a &lt;b&gt; &amp; ?c</failure>"),
            "{text}"
        );
        assert!(text.contains("name=\"late\" time=\"0.000\">\n      <skipped"), "{text}");
    }
}
