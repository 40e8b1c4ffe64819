//! What a node does with a pod, by the subjects of Kubernetes' own node tests.

#[path = "../common/mod.rs"]
mod common;

mod environment;
mod environments;
mod eviction;
mod identity;
mod images;
mod kept_ids;
mod lifecycle;
mod mounts;
mod network;
mod resources;
mod restricted_hosts;
mod security;
mod start;
mod user_namespaces;
mod volumes;
mod workloads;

/// A pod named `p` of one container `c` that runs a line of shell once; `pod` and `container` are further fields of theirs,
/// each line indented as fields of a spec and of a list's entry are.
fn script(line: &str, pod: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n{pod}  containers:\n  - name: c\n    image: busybox:1.36\n    command: [sh, -c, {line:?}]\n{container}"
    )
}

/// Returns what the one container of a pod of that text writes; the pod succeeds.
fn written(text: &str) -> Vec<String> {
    common::lines(&common::Home::new().run(text, &["--network=none"]))
}
