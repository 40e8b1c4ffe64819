//! How an image was built, as its configuration tells it: `podctl history` shows it. Nothing is decided by it.

use oci_spec::image::{History, ImageConfiguration};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The number of steps that are kept of one image: it is read with the image at each start.
const MOST_STEPS: usize = 200;

/// The number of characters that are kept of a step's command or comment.
const LONGEST_TEXT: usize = 2000;

/// One step of an image's build.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildStep {
    /// RFC 3339 time of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command that was run, in the builder's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// The remark of the builder's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The digest of the unpacked layer that the step made; none of a step that changed the configuration alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
}

/// Leaves of a configuration's history what can be read: builders write there what they like, and no image is refused
/// for it.
pub(crate) fn clean_history(history: &mut Value) {
    for entry in history.as_array_mut().into_iter().flatten() {
        if serde_json::from_value::<History>(entry.clone()).is_err() {
            let is_empty = entry["empty_layer"] == true;
            *entry = serde_json::json!({"empty_layer": is_empty});
        }
    }
    if !history.is_array() {
        *history = Value::Array(Vec::new());
    }
}

/// Returns the steps of a configuration, the first one first, the newest ones of very many; the layers that no step
/// tells of are steps without words.
pub(crate) fn read_build_steps(config: &ImageConfiguration) -> Vec<BuildStep> {
    let mut layers = config.rootfs().diff_ids().iter();
    let text = |text: &Option<String>| text.iter().flat_map(|t| t.chars()).take(LONGEST_TEXT).collect();
    let mut steps: Vec<BuildStep> = config
        .history()
        .iter()
        .flatten()
        .map(|entry| BuildStep {
            created: entry.created().clone().filter(|at| at.len() <= LONGEST_TEXT),
            created_by: text(entry.created_by()),
            comment: text(entry.comment()),
            layer: if entry.empty_layer() == Some(true) { None } else { layers.next().cloned() },
        })
        .collect();
    steps.extend(layers.map(|layer| BuildStep { layer: Some(layer.clone()), ..BuildStep::default() }));
    steps.drain(..steps.len().saturating_sub(MOST_STEPS));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::configuration;

    fn read(history: &str) -> Vec<BuildStep> {
        let text = format!(
            r#"{{"os":"linux","architecture":"amd64","history":{history},"rootfs":{{"type":"layers","diff_ids":["sha256:{0}","sha256:{1}"]}}}}"#,
            "a".repeat(64),
            "b".repeat(64)
        );
        read_build_steps(&configuration("app", text.as_bytes()).unwrap())
    }

    #[test]
    fn steps_have_the_layers_that_they_made() {
        let steps = read(
            r#"[{"created_by":"ADD x"},{"created_by":"CMD y","empty_layer":true},{"created_by":"RUN z","comment":"c"}]"#,
        );
        let told: Vec<_> =
            steps.iter().map(|s| (s.created_by.as_str(), s.layer.as_ref().map(|l| &l[7..8]))).collect();
        assert_eq!(told, [("ADD x", Some("a")), ("CMD y", None), ("RUN z", Some("b"))]);
        assert_eq!(steps[2].comment, "c");
    }

    #[test]
    fn what_cannot_be_read_of_a_history_costs_its_words_only() {
        for history in ["null", "7", r#"[{"created":5},"x"]"#, "[]"] {
            let layers = read(history).iter().filter(|step| step.layer.is_some()).count();
            assert_eq!(layers, 2, "{history}");
        }
        let many = format!("[{}]", vec![r#"{"empty_layer":true}"#; 1000].join(","));
        assert_eq!(read(&many).len(), MOST_STEPS);
    }
}
