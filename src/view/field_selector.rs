//! Field selectors on objects of any kind: `status.phase!=Succeeded,spec.nodeName=laptop`. PURE.

use serde_json::Value;

/// Conditions on fields; all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<(String, bool, String)>);

/// The fields of a kind that can be selected by, beside name and namespace, as the API server has them.
fn selectable_fields(kind: &str) -> &'static [&'static str] {
    match kind {
        "Pod" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "Event" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "Event.events.k8s.io" => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        "Secret" => &["type"],
        "Namespace" => &["status.phase"],
        "Node" => &["spec.unschedulable"],
        "Service" => &["spec.clusterIP", "spec.type"],
        _ => &[],
    }
}

impl FieldSelector {
    /// Reads a selector on a kind's objects.
    ///
    /// # Errors
    /// What is wrong with it, as the API server words it.
    pub fn parse(kind: &str, text: &str) -> Result<FieldSelector, String> {
        let mut all = Vec::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (field, value, equal) = match (part.split_once("!="), part.split_once('=')) {
                (Some((field, value)), _) => (field, value, false),
                (None, Some((field, value))) => (field, value.strip_prefix('=').unwrap_or(value), true),
                (None, None) => {
                    return Err(format!("invalid selector: {text:?}; can't understand {part:?}"));
                }
            };
            if !matches!(field, "metadata.name" | "metadata.namespace")
                && !selectable_fields(kind).contains(&field)
            {
                return Err(format!("field label not supported: {field}"));
            }
            all.push((field.to_owned(), equal, value.to_owned()));
        }
        Ok(FieldSelector(all))
    }

    /// Tells whether an object is meant.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(field, equal, value)| (read_field(object, field) == *value) == *equal)
    }
}

fn read_field(object: &Value, field: &str) -> String {
    let found = match field {
        "source" => &object["source"]["component"],
        _ => field.split('.').fold(object, |value, part| &value[part]),
    };
    match found {
        Value::String(text) => text.clone(),
        Value::Bool(truth) => truth.to_string(),
        // A truth value that is absent is false.
        _ if matches!(field, "spec.hostNetwork" | "spec.unschedulable") => "false".into(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_selected_by_their_fields() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "laptop"}, "status": {"phase": "Running"}});
        for (selector, expected) in [
            ("", true),
            ("metadata.name=p,status.phase==Running", true),
            ("spec.nodeName=laptop,status.phase!=Succeeded,status.phase!=Failed", true),
            ("status.podIP=", true),
            ("spec.hostNetwork=false", true),
            ("metadata.name!=p", false),
        ] {
            assert_eq!(FieldSelector::parse("Pod", selector).unwrap().matches(&pod), expected, "{selector}");
        }
        assert_eq!(
            FieldSelector::parse("Pod", "spec.foo=x"),
            Err("field label not supported: spec.foo".into())
        );
        assert!(FieldSelector::parse("Pod", "nonsense").is_err());
    }
}
