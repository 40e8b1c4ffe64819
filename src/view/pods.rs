//! Pods as rows of `kubectl get`.

use k8s_openapi::{
    api::core::v1::{ContainerPort, Pod},
    jiff::{SignedDuration, Timestamp},
};

use super::{age, object_table, status_column};
use crate::pod::ObjectKind;

/// Holds what the table shows beside the usual columns.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// NAMESPACE, first.
    pub namespace: bool,
    /// IP, NODE, NOMINATED NODE, READINESS GATES; PORTS, which kubectl does not have.
    pub wide: bool,
    /// The column for each of these labels.
    pub labels: Vec<String>,
    /// LABELS, last.
    pub all_labels: bool,
    /// `pod/NAME` rather than `NAME`.
    pub kind: bool,
}

/// Returns the first line.
pub fn head(columns: &Columns) -> Vec<String> {
    let mut head = object_table::head(ObjectKind::Pod, columns.wide);
    if columns.namespace {
        head.insert(0, "NAMESPACE".into());
    }
    if columns.wide {
        head.push("PORTS".into());
    }
    head.extend(columns.labels.iter().map(|l| l.rsplit('/').next().unwrap_or_default().to_uppercase()));
    if columns.all_labels {
        head.push("LABELS".into());
    }
    head
}

/// Returns a pod's line.
pub fn row(pod: &Pod, columns: &Columns, now: Timestamp) -> Vec<String> {
    let meta = &pod.metadata;
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let printed = status_column::summarize_pod(pod);
    let restarts = match printed.last_restart {
        Some(at) if printed.restarts > 0 => {
            format!(
                "{} ({} ago)",
                printed.restarts,
                age::worded(SignedDuration::from_secs(now.duration_since(at).as_secs()))
            )
        }
        _ => printed.restarts.to_string(),
    };
    let name = meta.name.clone().unwrap_or_default();
    let mut row = vec![
        if columns.kind { format!("pod/{name}") } else { name },
        format!("{}/{}", printed.ready, printed.containers),
        printed.status,
        restarts,
        age::since(meta.creation_timestamp.as_ref(), now),
    ];
    if columns.namespace {
        row.insert(0, meta.namespace.clone().unwrap_or_default());
    }
    let or_none = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or_else(|| "<none>".into());
    if columns.wide {
        row.push(or_none(status.and_then(|s| s.pod_ip.clone())));
        row.push(or_none(spec.and_then(|s| s.node_name.clone())));
        row.push(or_none(status.and_then(|s| s.nominated_node_name.clone())));
        row.push(or_none(readiness_gates(pod)));
        row.push(or_none(Some(ports(pod).join(","))));
    }
    let labels = meta.labels.clone().unwrap_or_default();
    row.extend(columns.labels.iter().map(|l| labels.get(l).cloned().unwrap_or_default()));
    if columns.all_labels {
        let all: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        row.push(or_none(Some(all.join(","))));
    }
    row
}

/// `80/TCP`, published `8080->80/TCP` or `127.0.0.1:8080->80/TCP`.
fn ports(pod: &Pod) -> Vec<String> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    let worded = |p: &ContainerPort| {
        let host = p.host_port.filter(|port| *port > 0).map(|port| match p.host_ip.as_deref() {
            None | Some("") => format!("{port}->"),
            Some(ip) if ip.contains(':') => format!("[{ip}]:{port}->"),
            Some(ip) => format!("{ip}:{port}->"),
        });
        let protocol = p.protocol.as_deref().unwrap_or("TCP");
        format!("{}{}/{protocol}", host.unwrap_or_default(), p.container_port)
    };
    containers.flat_map(|c| c.ports.iter().flatten()).map(worded).collect()
}

/// `true/all`.
fn readiness_gates(pod: &Pod) -> Option<String> {
    let gates = pod.spec.as_ref()?.readiness_gates.as_ref().filter(|g| !g.is_empty())?;
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let met = |gate: &str| conditions.iter().any(|c| c.type_ == gate && c.status == "True");
    Some(format!("{}/{}", gates.iter().filter(|g| met(&g.condition_type)).count(), gates.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn r_app_8_a_row_has_kubectls_columns() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"app": "web", "x/tier": "front"}},
            "spec": {"nodeName": "laptop", "containers": [{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 443, "hostPort": 8443, "hostIP": "::1"}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.2", "containerStatuses": [{"name": "a", "ready": true, "image": "",
                "imageID": "", "restartCount": 3, "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:50Z"}}}]}}))
        .unwrap();
        let all = Columns {
            namespace: true,
            wide: true,
            labels: vec!["x/tier".into(), "none".into()],
            all_labels: true,
            kind: true,
        };
        assert_eq!(
            head(&all).join("|"),
            "NAMESPACE|NAME|READY|STATUS|RESTARTS|AGE|IP|NODE|NOMINATED NODE|READINESS GATES|PORTS|TIER|NONE|LABELS"
        );
        assert_eq!(
            row(&pod, &all, now).join("|"),
            "default|pod/p|1/1|Running|3 (10s ago)|60s|10.0.0.2|laptop|<none>|<none>|80/TCP,[::1]:8443->443/TCP|front||app=web,x/tier=front"
        );
        assert_eq!(row(&pod, &Columns::default(), now).join("|"), "p|1/1|Running|3 (10s ago)|60s");
    }
}
