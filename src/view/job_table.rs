//! Jobs as rows of `kubectl get jobs`.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::age;

/// Returns the cells of a Job, all of them.
pub fn write_row(job: &Value, age: String, now: Timestamp) -> Vec<String> {
    let (spec, status) = (&job["spec"], &job["status"]);
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let duration = match (time(&status["startTime"]), time(&status["completionTime"])) {
        (None, _) => String::new(),
        (Some(start), end) => age::worded(end.unwrap_or(now).duration_since(start)),
    };
    let containers: Vec<&Value> =
        spec["template"]["spec"]["containers"].as_array().into_iter().flatten().collect();
    let words = |field: &str| {
        let all = containers.iter().map(|container| container[field].as_str().unwrap_or_default());
        all.collect::<Vec<_>>().join(",")
    };
    let labels = spec["selector"]["matchLabels"].as_object().into_iter().flatten();
    let selector = labels.map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default()));
    vec![
        job["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        name_status(status).to_owned(),
        count_completions(spec, status),
        duration,
        age,
        words("name"),
        words("image"),
        selector.collect::<Vec<_>>().join(","),
    ]
}

fn name_status(status: &Value) -> &'static str {
    let has = |wanted: &str| {
        status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["type"] == wanted && c["status"] == "True")
    };
    ["Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"]
        .into_iter()
        .find(|condition| has(condition))
        .unwrap_or("Running")
}

fn count_completions(spec: &Value, status: &Value) -> String {
    let succeeded = status["succeeded"].as_u64().unwrap_or(0);
    match (spec["completions"].as_u64(), spec["parallelism"].as_u64().unwrap_or(0)) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism @ 2..) => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_is_shown_with_its_completions_and_its_duration() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let mut job = json!({"metadata": {"name": "j"},
            "spec": {"completions": 2, "selector": {"matchLabels": {"a": "b"}},
                "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
            "status": {"startTime": "2026-01-01T00:00:00Z", "succeeded": 1}});
        assert_eq!(
            write_row(&job, "60s".into(), now),
            ["j", "Running", "1/2", "60s", "60s", "c", "i", "a=b"]
        );
        job["status"]["completionTime"] = "2026-01-01T00:00:05Z".into();
        job["status"]["conditions"] =
            json!([{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]);
        job["spec"]["completions"] = Value::Null;
        job["spec"]["parallelism"] = 3.into();
        assert_eq!(write_row(&job, "60s".into(), now)[1..4], ["Complete", "1/1 of 3", "5s"]);
    }
}
