//! `podctl get`: pods in kubectl's columns.

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};

use super::{Error, objects, pod_dir};
use crate::{
    lifecycle,
    state::{self, Home, Liveness},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// `[pods] [NAME…]` or `pod/NAME`; all pods of the namespace else. Also `configmap`, `secret`, `pvc`.
    names: Vec<String>,
    /// `wide`, `json` or `name`; a table else.
    #[arg(short, long)]
    output: Option<String>,
    /// Pods of every namespace.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Leave the table's first line out.
    #[arg(long)]
    no_headers: bool,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &str) -> Result<i32, Error> {
    if let Some((kind, names)) = objects::asked(&args.names) {
        let shown = objects::Shown {
            output: args.output.as_deref(),
            headers: !args.no_headers,
            all_namespaces: args.all_namespaces,
        };
        return objects::get(home, namespace, kind, &names, &shown);
    }
    let names: Vec<&String> =
        args.names.iter().filter(|n| !matches!(n.as_str(), "pod" | "pods" | "po")).collect();
    let mut pods = Vec::new();
    let dirs = match names.is_empty() {
        true => {
            home.pods()?.into_iter().filter(|d| args.all_namespaces || d.namespace == namespace).collect()
        }
        false => names.iter().map(|n| pod_dir(home, namespace, n)).collect::<Result<Vec<_>, _>>()?,
    };
    for dir in dirs {
        match dir.read() {
            Ok(mut pod) => {
                lost(&mut pod, dir.liveness());
                pods.push(pod);
            }
            // A pod that has just been deleted is in no list.
            Err(state::Error::NotFound { .. }) if names.is_empty() => {}
            Err(state::Error::NotFound { name, .. }) => {
                return Err(Error::Said(format!("pods \"{name}\" not found")));
            }
            Err(e) => return Err(e.into()),
        }
    }
    match args.output.as_deref() {
        None | Some("wide") => table(&pods, args, namespace),
        Some("name") => {
            pods.iter().for_each(|p| println!("pod/{}", p.metadata.name.as_deref().unwrap_or_default()))
        }
        Some("json") => {
            let text = match (names.len(), pods.first()) {
                (1, Some(pod)) => serde_json::to_string_pretty(pod),
                _ => serde_json::to_string_pretty(
                    &serde_json::json!({"apiVersion": "v1", "kind": "List", "items": pods, "metadata": {"resourceVersion": ""}}),
                ),
            };
            println!("{}", text.map_err(|e| Error::Said(e.to_string()))?);
        }
        Some(other) => {
            return Err(Error::Said(format!(
                "output format {other:?} is not available; use wide, json or name"
            )));
        }
    }
    Ok(0)
}

/// A pod whose supervisor was killed ended with it; its last written status does not say so.
fn lost(pod: &mut Pod, liveness: Liveness) {
    let status = pod.status.get_or_insert_default();
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if liveness == Liveness::Ended && !over {
        status.phase = Some("Failed".into());
        status.reason = Some("SupervisorLost".into());
        status.message = Some("the pod's supervisor was killed, and its containers with it".into());
    }
}

fn table(pods: &[Pod], args: &Args, namespace: &str) {
    if pods.is_empty() {
        match args.all_namespaces {
            true => eprintln!("No resources found"),
            false => eprintln!("No resources found in {namespace} namespace."),
        }
        return;
    }
    let wide = args.output.as_deref() == Some("wide");
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !args.no_headers {
        let mut head = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
        if args.all_namespaces {
            head.insert(0, "NAMESPACE");
        }
        if wide {
            head.push("IP");
        }
        rows.push(head.into_iter().map(str::to_owned).collect());
    }
    for pod in pods {
        let status = pod.status.as_ref();
        let (ready, all) = lifecycle::ready_count(pod);
        let age = pod
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|t| age(Timestamp::now().duration_since(t.0).as_secs()));
        let mut row = vec![
            pod.metadata.name.clone().unwrap_or_default(),
            format!("{ready}/{all}"),
            lifecycle::printed_status(pod),
            lifecycle::restart_count(pod).to_string(),
            age.unwrap_or_else(|| "<unknown>".into()),
        ];
        if args.all_namespaces {
            row.insert(0, pod.metadata.namespace.clone().unwrap_or_default());
        }
        if wide {
            row.push(status.and_then(|s| s.pod_ip.clone()).unwrap_or_else(|| "<none>".into()));
        }
        rows.push(row);
    }
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let line: String = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:w$}   ")).collect();
        println!("{}", line.trim_end());
    }
}

/// As kubectl words a duration: two units while they are small, then one.
pub(super) fn age(seconds: i64) -> String {
    let (s, m, h, d) = (seconds.max(0), seconds / 60, seconds / 3600, seconds / 86_400);
    match s {
        0..120 => format!("{s}s"),
        120..600 if s % 60 == 0 => format!("{m}m"),
        120..600 => format!("{m}m{}s", s % 60),
        600..10_800 => format!("{m}m"),
        10_800..28_800 if m % 60 == 0 => format!("{h}h"),
        10_800..28_800 => format!("{h}h{}m", m % 60),
        28_800..172_800 => format!("{h}h"),
        172_800..691_200 if h % 24 == 0 => format!("{d}d"),
        172_800..691_200 => format!("{d}d{}h", h % 24),
        _ if d < 730 => format!("{d}d"),
        _ if d < 2920 && d % 365 != 0 => format!("{}y{}d", d / 365, d % 365),
        _ => format!("{}y", d / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn ages_are_worded_as_kubectl_words_them() {
        for (seconds, text) in [
            (5, "5s"),
            (119, "119s"),
            (120, "2m"),
            (301, "5m1s"),
            (600, "10m"),
            (10_800, "3h"),
            (90_000, "25h"),
            (259_200, "3d"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }
}
