//! The plan of a run: what it would do, without doing any of it.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};
use podctl_images::{KeptIds, Reference, Store};

use super::{Error, print};
use crate::{
    manifest::{Job, Manifest},
    pod::{
        ContainerExt, Place, PodExt,
        resources::{
            Amounts, effective_limits, effective_requests, oom_score_adj, qos_class, read_limits,
            read_requests,
        },
    },
    sandbox::{downward_api::memory_of_machine, host_support},
    state::Home,
    view::plain_text::show_controls,
};

/// Prints the plan of every pod. The exit code is 1 when this machine could not run one of them.
pub(super) fn explain_plan(manifest: &Manifest, home: &Home, kept: Option<KeptIds>) -> Result<i32, Error> {
    let store = Store::open(&home.images())?;
    let mut refused = false;
    let mut print_pod = |pod: &Pod| {
        let Some(spec) = &pod.spec else { return };
        // A user or a working directory is whatever an image says it is.
        print(&show_controls(&describe_pod(pod, spec, &store, kept)));
        let unmet = host_support::unmet(pod);
        if !unmet.is_empty() {
            println!("not honoured here:");
        }
        for (field, severity, why) in unmet {
            refused |= severity == crate::manifest::Severity::Error;
            println!("  {field}: {}", show_controls(&why));
        }
    };
    manifest.pods.iter().for_each(&mut print_pod);
    for job in &manifest.jobs {
        print(&show_controls(&describe_job(job)));
        print_pod(&job.pod(Place { index: 0, attempt: 0 }, 0, 0));
    }
    Ok(i32::from(refused))
}

/// Returns what a job does with its pods; the first of them is shown after it.
fn describe_job(job: &Job) -> String {
    let spec = &job.spec;
    let (places, at_a_time) = (job.count_places(), job.parallelism().min(job.count_places()));
    let mut text = format!("job {}\n", job.name);
    text += &match (spec.completions, places) {
        (None, _) => {
            format!("  {at_a_time} pods at a time until one has succeeded and the others have ended\n")
        }
        (Some(_), 1) => "  one pod\n".to_owned(),
        (Some(_), _) => format!("  {places} pods, {at_a_time} at a time\n"),
    };
    if job.is_indexed() {
        text += "  each knows its number by JOB_COMPLETION_INDEX and its host name\n";
    }
    let restarts = if job.pod.restart_policy() == "OnFailure" {
        ", restarts of their containers among them"
    } else {
        ""
    };
    match spec.backoff_limit {
        Some(i32::MAX) | None => {}
        Some(limit) => text += &format!("  fails when more than {limit} pods have failed{restarts}\n"),
    }
    if let Some(limit) = spec.backoff_limit_per_index {
        text += &format!("  an index fails when more than {limit} of its pods have failed\n");
    }
    if let Some(limit) = spec.max_failed_indexes {
        text += &format!("  fails when more than {limit} indexes have failed\n");
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        text += &format!("  fails after {seconds} s\n");
    }
    for (policy, what) in [
        (spec.pod_failure_policy.as_ref().map(|p| p.rules.len()), "what the failure of a pod means"),
        (spec.success_policy.as_ref().map(|p| p.rules.len()), "when it is complete"),
    ] {
        if let Some(rules) = policy {
            let s = if rules == 1 { "rule says" } else { "rules say" };
            text += &format!("  {rules} {s} {what}\n");
        }
    }
    text
}

fn describe_pod(pod: &Pod, spec: &PodSpec, store: &Store, kept: Option<KeptIds>) -> String {
    let mut text = format!("pod {}\n", pod.name());
    let (restart, grace) = (pod.restart_policy(), pod.grace_period_seconds());
    text += &format!("  restart policy {restart}, grace period {grace} s, QoS class {}\n", qos_class(spec));
    text += &format!(
        "  in total: requests {}; limits {}\n",
        amounts(effective_requests(spec)),
        amounts(effective_limits(spec))
    );
    if spec.share_process_namespace == Some(true) {
        text += "  shares one process namespace among its containers\n";
    }
    if spec.host_users == Some(false) {
        text += "  has a user namespace of its own\n";
    }
    if let Some(KeptIds { uid, gid }) = kept {
        text += &format!("  this user is user {uid}, group {gid} in it\n");
    }
    text += match spec.host_network {
        Some(true) => "  network: the host's own\n",
        _ => "  network: an address of its own among this user's pods, found by its name\n",
    };
    if spec.init_containers.iter().flatten().any(|c| !c.is_sidecar()) {
        text += &format!("  a failed init container {}\n", describe_init_failure(pod, restart));
    }
    for (name, on) in [("processes", spec.host_pid), ("IPC", spec.host_ipc)] {
        if on == Some(true) {
            text += &format!("  uses the host's {name}\n");
        }
    }
    for volume in spec.volumes.iter().flatten() {
        text += &format!("  volume {}: {}\n", volume.name, source(volume));
    }
    text += "start order:\n";
    let init = spec.init_containers.iter().flatten().map(|c| (c.is_sidecar(), true, c));
    let apps = spec.containers.iter().map(|c| (false, false, c));
    for (at, (sidecar, init, container)) in init.chain(apps).enumerate() {
        text += &format!("  {}. {} {}\n", at + 1, container.name, start_gate(sidecar, init, container));
        text += &container_details(spec, container, store, kept);
    }
    text
}

/// R-INIT-2, R-INIT-4.
fn describe_init_failure(pod: &Pod, restart: &str) -> &'static str {
    match (restart, pod.restarts_on_init_failure()) {
        ("Never", _) => "fails the pod",
        (_, true) => "restarts the pod: every init container runs again, from the first",
        (_, false) => {
            "is retried alone, with back-off; `run --init-failure=restart-pod` runs all of them again"
        }
    }
}

/// Returns what the next container waits for.
fn start_gate(sidecar: bool, init: bool, container: &Container) -> &'static str {
    let started = container.startup_probe.is_some();
    let hook = container.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some());
    match (sidecar, init) {
        (true, _) if started => "(sidecar: the next one waits until its startup probe has passed)",
        (true, _) if hook => "(sidecar: the next one waits until it runs and its postStart hook has ended)",
        (true, _) => "(sidecar: the next one waits until it runs)",
        (false, true) => "(init container: the next one waits until it has ended with 0)",
        (false, false) if hook => "(app: the next one waits until it runs and its postStart hook has ended)",
        (false, false) => "(app)",
    }
}

fn container_details(spec: &PodSpec, container: &Container, store: &Store, kept: Option<KeptIds>) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let policy = container.pull_policy();
    let found = image.parse::<Reference>().ok().and_then(|r| store.find(&r).ok().flatten());
    let here = if found.is_some() { "present" } else { "not present" };
    let mut lines = vec![format!("image {image} ({policy}, {here})")];
    for port in container.ports.iter().flatten() {
        let host =
            port.host_port.filter(|p| *p > 0).map(|p| format!(", published as {p}")).unwrap_or_default();
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        lines.push(format!("port {}/{protocol}{host}", port.container_port));
    }
    for mount in container.volume_mounts.iter().flatten() {
        let sub = mount
            .sub_path
            .as_deref()
            .or(mount.sub_path_expr.as_deref())
            .map(|s| format!("/{s}"))
            .unwrap_or_default();
        let how = if mount.read_only == Some(true) { " (read-only)" } else { "" };
        lines.push(format!("mount {}{sub} at {}{how}", mount.name, mount.mount_path));
    }
    lines.extend(environment(container));
    let user = found.as_ref().and_then(|i| i.config.user().clone());
    let identity = identity(spec, container, found.is_some().then(|| user.unwrap_or_default()), kept);
    lines.push(format!("runs as {identity}"));
    let resources = container.resources.as_ref();
    lines.push(format!(
        "requests {}; limits {}{}; oom_score_adj {}",
        amounts(read_requests(resources)),
        amounts(read_limits(resources)),
        storage_text(container),
        oom_score_adj(spec, container, memory_of_machine().max(0) as u64)
    ));
    lines.iter().map(|line| format!("       {line}\n")).collect()
}

/// Names and where they come from; never a value.
fn environment(container: &Container) -> Vec<String> {
    let mut lines = Vec::new();
    for from in container.env_from.iter().flatten() {
        let map = from.config_map_ref.as_ref().map(|r| format!("configMap {}", r.name));
        let secret = from.secret_ref.as_ref().map(|r| format!("secret {}", r.name));
        let prefix =
            from.prefix.as_deref().map(|p| format!(", with {p} before each name")).unwrap_or_default();
        lines.push(format!("environment from {}{prefix}", map.or(secret).unwrap_or_default()));
    }
    for var in container.env.iter().flatten() {
        let from = var.value_from.as_ref().and_then(|from| {
            let map =
                from.config_map_key_ref.as_ref().map(|r| format!("configMap {}, key {}", r.name, r.key));
            let secret = from.secret_key_ref.as_ref().map(|r| format!("secret {}, key {}", r.name, r.key));
            let field = from.field_ref.as_ref().map(|r| r.field_path.clone());
            let resource = from.resource_field_ref.as_ref().map(|r| r.resource.clone());
            map.or(secret).or(field).or(resource)
        });
        lines.push(match from {
            Some(from) => format!("environment {} from {from}", var.name),
            None => format!("environment {}", var.name),
        });
    }
    lines
}

fn identity(
    spec: &PodSpec,
    container: &Container,
    of_image: Option<String>,
    kept: Option<KeptIds>,
) -> String {
    let (pod, own) = (spec.security_context.as_ref(), container.security_context.as_ref());
    let user = own.and_then(|c| c.run_as_user).or(pod.and_then(|c| c.run_as_user));
    let group = own.and_then(|c| c.run_as_group).or(pod.and_then(|c| c.run_as_group));
    let of_image = match of_image.as_deref() {
        None => "the image's user".to_owned(),
        Some("") if kept.is_some() => "this user (the image names none)".to_owned(),
        Some("") => "root (the image names no user)".to_owned(),
        Some(name) => format!("user {name} (of the image)"),
    };
    let mut words = vec![user.map_or(of_image, |id| format!("user {id}"))];
    words.extend(group.map(|id| format!("group {id}")));
    words.extend(pod.and_then(|c| c.fs_group).map(|id| format!("fsGroup {id}")));
    let on = |flag: Option<bool>, word: &str| (flag == Some(true)).then(|| word.to_owned());
    words.extend(on(own.and_then(|c| c.privileged), "privileged"));
    words.extend(on(own.and_then(|c| c.read_only_root_filesystem), "a read-only root file system"));
    if own.and_then(|c| c.allow_privilege_escalation) == Some(false) {
        words.push("no privilege escalation".to_owned());
    }
    if let Some(change) = own.and_then(|c| c.capabilities.as_ref()) {
        words.extend(change.drop.iter().flatten().map(|name| format!("-{name}")));
        words.extend(change.add.iter().flatten().map(|name| format!("+{name}")));
    }
    words.join(", ")
}

fn source(volume: &Volume) -> String {
    let host = volume.host_path.as_ref().map(|v| format!("hostPath {}", v.path));
    let map = volume.config_map.as_ref().map(|v| format!("configMap {}", v.name));
    let secret =
        volume.secret.as_ref().and_then(|v| v.secret_name.as_ref()).map(|name| format!("secret {name}"));
    let claim = volume.persistent_volume_claim.as_ref().map(|v| format!("claim {}", v.claim_name));
    let empty = volume.empty_dir.as_ref().map(|v| {
        let place = match v.medium.as_deref().unwrap_or_default() {
            "" => "",
            "Memory" => " in memory",
            _ => " of huge pages",
        };
        let most = v.size_limit.as_ref().map(|q| format!(", at most {}", q.0)).unwrap_or_default();
        format!("emptyDir{place}{most}")
    });
    let written = || {
        serde_json::to_value(volume).ok().and_then(|v| v.as_object()?.keys().find(|k| *k != "name").cloned())
    };
    host.or(map).or(secret).or(claim).or(empty).or_else(written).unwrap_or_default()
}

/// Returns what of the disk is bounded; measured, not reserved.
fn storage_text(container: &Container) -> String {
    let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
    let limit = limits.and_then(|l| l.get("ephemeral-storage"));
    limit.map(|q| format!(", ephemeral-storage {}", q.0)).unwrap_or_default()
}

fn amounts(amounts: Amounts) -> String {
    let cpu = amounts.cpu.map(|milli| format!("cpu {milli}m"));
    let memory = amounts.memory.map(|bytes| match bytes % (1 << 20) {
        0 => format!("memory {}Mi", bytes >> 20),
        _ => format!("memory {bytes}"),
    });
    let all: Vec<String> = cpu.into_iter().chain(memory).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::manifest::{Source, load};

    /// Every file of tests/golden/dry-run with its plan; `PODCTL_BLESS=1` writes the plans anew.
    #[test]
    fn plans_are_as_before() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dry-run");
        let images = tempfile::tempdir().unwrap();
        let store = Store::open(images.path()).unwrap();
        let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "yaml")) {
            let source = Source { name: file.display().to_string(), text: fs::read_to_string(file).unwrap() };
            let manifest = load(&[source]).unwrap_or_else(|found| panic!("{found:#?}"));
            let mut said = String::new();
            for pod in &manifest.pods {
                said += &describe_pod(pod, pod.spec.as_ref().unwrap(), &store, None);
            }
            for job in &manifest.jobs {
                said += &describe_job(job);
                said += &describe_pod(&job.pod, job.pod.spec.as_ref().unwrap(), &store, None);
            }
            let golden = file.with_extension("txt");
            if std::env::var_os("PODCTL_BLESS").is_some() {
                fs::write(&golden, &said).unwrap();
            }
            let expected = fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(said, expected, "{}; if this is better, bless it", file.display());
        }
    }
}
