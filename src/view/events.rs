//! Events as rows of `kubectl events`, and as they stand below `describe`.

use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use serde_json::Value;

use super::{age, object_table::list_columns};

/// The first line.
pub fn head(namespace: bool) -> Vec<String> {
    let all = ["NAMESPACE", "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
    all[usize::from(!namespace)..].iter().map(|h| (*h).to_owned()).collect()
}

/// Returns an event's line of the table.
pub fn row(event: &Event, namespace: bool, now: Timestamp) -> Vec<String> {
    let text = |field: &Option<String>| one_line(field.as_deref().unwrap_or_default());
    let object = &event.involved_object;
    let mut row = vec![
        event_interval(event, now),
        text(&event.type_),
        text(&event.reason),
        format!("{}/{}", text(&object.kind), text(&object.name)),
        text(&event.message),
    ];
    if namespace {
        row.insert(0, text(&event.metadata.namespace));
    }
    row
}

/// The same as `kubectl get` has it, by the columns of a table.
pub fn table_row(event: &Event, is_wide: bool, now: Timestamp) -> Vec<String> {
    let shown = list_columns("Event").iter().zip(build_cells(event, now));
    let shown = shown.filter(|(column, _)| is_wide || !column.is_wide());
    shown.map(|(_, cell)| cell.as_str().map_or_else(|| cell.to_string(), one_line)).collect()
}

/// Returns all cells of an Event, numbers as numbers: when it was last seen, and the kind as that of a resource.
pub fn build_cells(event: &Event, now: Timestamp) -> Vec<Value> {
    let text = |field: &Option<String>| field.as_deref().unwrap_or_default().trim().to_owned();
    let (object, source) = (&event.involved_object, event.source.as_ref());
    let last = event.last_timestamp.as_ref().or(event.first_timestamp.as_ref());
    let component = [source.and_then(|s| s.component.clone()), source.and_then(|s| s.host.clone())];
    vec![
        age::since(last, now).into(),
        text(&event.type_).into(),
        text(&event.reason).into(),
        format!("{}/{}", text(&object.kind).to_lowercase(), text(&object.name)).into(),
        text(&object.field_path).into(),
        component.into_iter().flatten().collect::<Vec<_>>().join(", ").into(),
        text(&event.message).into(),
        age::since(event.first_timestamp.as_ref(), now).into(),
        event.count.unwrap_or(1).into(),
        text(&event.metadata.name).into(),
    ]
}

/// `10s`, or `10s (x3 over 25s)` when it happened more than once.
pub fn event_interval(event: &Event, now: Timestamp) -> String {
    let first = age::since(event.first_timestamp.as_ref(), now);
    match event.count {
        Some(count) if count > 1 => {
            format!("{} (x{count} over {first})", age::since(event.last_timestamp.as_ref(), now))
        }
        _ => first,
    }
}

/// The first line; what follows is only hinted at.
fn one_line(text: &str) -> String {
    let text = text.trim();
    match text.split_once(['\n', '\r', '\x0c']) {
        Some((first, _)) => format!("{first}..."),
        None => text.to_owned(),
    }
}

/// Below `describe`, in the order of their last occurrence, with tabs to be aligned.
pub fn describe_events(events: &[Event], now: Timestamp) -> String {
    if events.is_empty() {
        return "Events:\t<none>\n".into();
    }
    let mut out =
        "Events:\n  Type\tReason\tAge\tFrom\tMessage\n  ----\t------\t----\t----\t-------\n".to_owned();
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|e| e.last_timestamp.as_ref().map(|t| t.0));
    for event in events {
        let source = event.source.as_ref().and_then(|s| s.component.clone());
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let from = source.or(event.reporting_component.clone()).unwrap_or_default();
        let message = one_line(event.message.as_deref().unwrap_or_default());
        // From kubectl 1.37 on the part of the object stands before the message.
        let part = event.involved_object.field_path.as_ref().map(|path| format!("{path}: "));
        let part = part.unwrap_or_default();
        out += &format!(
            "  {}\t{}\t{}\t{from}\t{part}{message}\n",
            text(&event.type_),
            text(&event.reason),
            event_interval(event, now)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_that_recurs_is_one_row_with_count_and_span() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let event: Event = serde_json::from_value(json!({
            "metadata": {"namespace": "default"}, "involvedObject": {"kind": "Pod", "name": "p"}, "type": "Warning",
            "reason": "BackOff", "message": "one\ntwo", "count": 3, "source": {"component": "podctl"},
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:50Z"}))
        .unwrap();
        assert_eq!(row(&event, false, now).join("|"), "10s (x3 over 60s)|Warning|BackOff|Pod/p|one...");
        assert_eq!(head(true).len(), row(&event, true, now).len());
        assert_eq!(table_row(&event, false, now).join("|"), "10s|Warning|BackOff|pod/p|one...");
        assert_eq!(table_row(&event, true, now).join("|"), "10s|Warning|BackOff|pod/p||podctl|one...|60s|3|");
        assert!(
            describe_events(&[event], now)
                .ends_with("  Warning\tBackOff\t10s (x3 over 60s)\tpodctl\tone...\n")
        );
        assert_eq!(describe_events(&[], now), "Events:\t<none>\n");
    }
}
