//! One container of `describe`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, ContainerState, ContainerStatus, EnvVar, EnvVarSource, Probe,
        ResourceFieldSelector, ResourceRequirements,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use serde_json::Value;

use super::Page;
use crate::{
    pod::quantity::{quantity_bytes, quantity_millis},
    view::{age, jsonpath::Template},
};

/// The pod that containers' environments refer to.
pub(super) struct Whole<'a> {
    pub pod: &'a Value,
    /// How far their heading stands in; in a template of pods, two spaces.
    pub indent: &'static str,
}

impl Whole<'_> {
    pub(super) fn describe(
        &self,
        page: &mut Page,
        heading: &str,
        containers: &[Container],
        statuses: Option<&[ContainerStatus]>,
    ) {
        page.line(0, format_args!("{}{heading}:", self.indent));
        for container in containers {
            let status = statuses.into_iter().flatten().find(|s| s.name == container.name);
            page.line(1, format_args!("{}{}:", name_indent(self.indent), container.name));
            describe_basics(page, container, status);
            command(page, "Command", container.command.as_deref());
            command(page, "Args", container.args.as_deref());
            if let Some(status) = status {
                describe_state(page, "State", status.state.as_ref());
                if status.last_state.as_ref().is_some_and(|s| s.terminated.is_some()) {
                    describe_state(page, "Last State", status.last_state.as_ref());
                }
                page.field(2, "Ready", if status.ready { "True" } else { "False" });
                page.field(2, "Restart Count", status.restart_count);
            }
            resources(page, &container.resources.clone().unwrap_or_default(), 2);
            for (name, found) in [
                ("Liveness", &container.liveness_probe),
                ("Readiness", &container.readiness_probe),
                ("Startup", &container.startup_probe),
            ] {
                if let Some(found) = found {
                    page.field(2, name, probe(found));
                }
            }
            self.environment(page, container);
            mounts(page, container);
        }
    }

    fn environment(&self, page: &mut Page, container: &Container) {
        let from = container.env_from.as_deref().unwrap_or_default();
        if !from.is_empty() {
            page.line(2, "Environment Variables from:");
        }
        for source in from {
            let (name, kind, optional) = match (&source.config_map_ref, &source.secret_ref) {
                (Some(map), _) => (&map.name, "ConfigMap", map.optional),
                (None, Some(secret)) => (&secret.name, "Secret", secret.optional),
                (None, None) => continue,
            };
            let prefix = match source.prefix.as_deref().unwrap_or_default() {
                "" => String::new(),
                prefix => format!(" with prefix '{prefix}'"),
            };
            page.line(3, format_args!("{name}\t{kind}{prefix}\tOptional: {}", optional.unwrap_or(false)));
        }
        let own = container.env.as_deref().unwrap_or_default();
        page.line(2, if own.is_empty() { "Environment:\t<none>" } else { "Environment:" });
        for variable in own {
            self.describe_variable(page, container, variable);
        }
    }

    fn describe_variable(&self, page: &mut Page, container: &Container, variable: &EnvVar) {
        let name = &variable.name;
        let Some(from) = &variable.value_from else {
            for (at, line) in variable.value.as_deref().unwrap_or_default().split('\n').enumerate() {
                page.line(3, if at == 0 { format!("{name}:\t{line}") } else { format!("\t{line}") });
            }
            return;
        };
        let set = |key: &str, kind: &str, of: &str, optional: Option<bool>| {
            format!(
                "{name}:\t<set to the key '{key}' {kind} '{of}'>\tOptional: {}",
                optional.unwrap_or(false)
            )
        };
        let line = match from {
            EnvVarSource { field_ref: Some(field), .. } => {
                // Of one label or annotation kubectl shows no value.
                let path = Some(field.field_path.as_str()).filter(|path| !path.contains('['));
                let template = path.and_then(|path| Template::path(path).ok());
                let value = template.and_then(|t| t.print(self.pod, true).ok()).unwrap_or_default();
                let version = field.api_version.as_deref().unwrap_or("v1");
                format!("{name}:\t{value} ({version}:{})", field.field_path)
            }
            EnvVarSource { resource_field_ref: Some(field), .. } => {
                let value = match resource(container, field) {
                    Some(value) => value.to_string(),
                    None if field.resource.starts_with("limits.") => "node allocatable".into(),
                    None => "0".into(),
                };
                format!("{name}:\t{value} ({})", field.resource)
            }
            EnvVarSource { secret_key_ref: Some(r), .. } => set(&r.key, "in secret", &r.name, r.optional),
            EnvVarSource { config_map_key_ref: Some(r), .. } => {
                set(&r.key, "of config map", &r.name, r.optional)
            }
            _ => format!("{name}:\t"),
        };
        page.line(3, line);
    }
}

/// `limits.cpu` and its kin in units of the divisor, rounded up.
fn resource(container: &Container, field: &ResourceFieldSelector) -> Option<i128> {
    let (list, name) = field.resource.split_once('.')?;
    let resources = container.resources.as_ref()?;
    let amounts = if list == "limits" { &resources.limits } else { &resources.requests };
    let amount = amounts.as_ref()?.get(name)?;
    let measured = |q: &Quantity| match name {
        "cpu" => quantity_millis(&q.0).ok().map(i128::from),
        _ => quantity_bytes(&q.0).ok().map(i128::from),
    };
    let unit = if name == "cpu" { 1000 } else { 1 };
    let divisor = field.divisor.as_ref().and_then(measured).filter(|d| *d > 0).unwrap_or(unit);
    measured(amount).map(|n| (n + divisor - 1) / divisor)
}

/// Returns how much further names below a heading stand in: one space where it does, as kubectl has it.
pub(super) fn name_indent(heading: &str) -> &'static str {
    if heading.is_empty() { "" } else { " " }
}

fn describe_basics(page: &mut Page, container: &Container, status: Option<&ContainerStatus>) {
    if let Some(status) = status {
        page.field(2, "Container ID", status.container_id.as_deref().unwrap_or_default());
    }
    page.field(2, "Image", container.image.as_deref().unwrap_or_default());
    if let Some(status) = status {
        page.field(2, "Image ID", &status.image_id);
    }
    let ports = container.ports.as_deref().unwrap_or_default();
    let several = |name: &str| if ports.len() > 1 { format!("{name}s") } else { name.to_owned() };
    page.field(2, &several("Port"), listed(ports, |p| p.container_port));
    page.field(2, &several("Host Port"), listed(ports, |p| p.host_port.unwrap_or(0)));
    // kubectl has no such line; what makes a sidecar one is worth being seen.
    page.field_if(2, "Restart Policy", container.restart_policy.as_ref());
    if let Some(profile) = container.security_context.as_ref().and_then(|s| s.seccomp_profile.as_ref()) {
        page.field(2, "SeccompProfile", &profile.type_);
        page.field_if(3, "LocalhostProfile", profile.localhost_profile.as_ref());
    }
}

fn listed(ports: &[ContainerPort], number: impl Fn(&ContainerPort) -> i32) -> String {
    let one = |port: &ContainerPort| {
        let name = port.name.as_ref().map(|n| format!(" ({n})")).unwrap_or_default();
        format!("{}/{}{name}", number(port), port.protocol.as_deref().unwrap_or("TCP"))
    };
    let all: Vec<String> = ports.iter().map(one).collect();
    if all.is_empty() { "<none>".into() } else { all.join(", ") }
}

fn command(page: &mut Page, name: &str, words: Option<&[String]>) {
    let Some(words) = words.filter(|w| !w.is_empty()) else { return };
    page.line(2, format_args!("{name}:"));
    words.iter().flat_map(|w| w.split('\n')).for_each(|line| page.line(3, line));
}

fn describe_state(page: &mut Page, name: &str, state: Option<&ContainerState>) {
    let state = state.cloned().unwrap_or_default();
    if let Some(running) = state.running {
        page.field(2, name, "Running");
        if let Some(time) = &running.started_at {
            page.field(3, "Started", age::dated(time));
        }
    } else if let Some(ended) = state.terminated {
        page.field(2, name, "Terminated");
        page.field_if(3, "Reason", ended.reason.as_ref());
        // Further lines of a message stand below the first.
        if let Some(message) = ended.message.filter(|m| !m.is_empty()) {
            for (at, line) in message.trim_end().split('\n').enumerate() {
                page.line(3, if at == 0 { format!("Message:\t{line}") } else { format!("\t{line}") });
            }
        }
        page.field(3, "Exit Code", ended.exit_code);
        if let Some(signal) = ended.signal.filter(|s| *s > 0) {
            page.field(3, "Signal", signal);
        }
        for (name, time) in [("Started", ended.started_at), ("Finished", ended.finished_at)] {
            if let Some(time) = time {
                page.field(3, name, age::dated(&time));
            }
        }
    } else {
        page.field(2, name, "Waiting");
        page.field_if(3, "Reason", state.waiting.and_then(|w| w.reason).as_ref());
    }
}

pub(super) fn resources(page: &mut Page, resources: &ResourceRequirements, level: usize) {
    let mut show = |name: &str, amounts: &Option<BTreeMap<String, Quantity>>| {
        let Some(amounts) = amounts.as_ref().filter(|a| !a.is_empty()) else { return };
        page.line(level, format_args!("{name}:"));
        amounts.iter().for_each(|(name, amount)| page.field(level + 1, name, &amount.0));
    };
    show("Limits", &resources.limits);
    show("Requests", &resources.requests);
}

fn probe(probe: &Probe) -> String {
    let port = |port: &IntOrString| match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    let numbers = format!(
        "delay={}s timeout={}s period={}s successThreshold={} failureThreshold={}",
        probe.initial_delay_seconds.unwrap_or(0),
        probe.timeout_seconds.unwrap_or(1),
        probe.period_seconds.unwrap_or(10),
        probe.success_threshold.unwrap_or(1),
        probe.failure_threshold.unwrap_or(3)
    );
    if let Some(exec) = &probe.exec {
        format!("exec [{}] {numbers}", exec.command.as_deref().unwrap_or_default().join(" "))
    } else if let Some(get) = &probe.http_get {
        let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let host = get.host.as_deref().unwrap_or_default();
        let path = get.path.as_deref().unwrap_or("/");
        format!("http-get {scheme}://{host}:{}{path} {numbers}", port(&get.port))
    } else if let Some(tcp) = &probe.tcp_socket {
        format!("tcp-socket {}:{} {numbers}", tcp.host.as_deref().unwrap_or_default(), port(&tcp.port))
    } else if let Some(grpc) = &probe.grpc {
        format!("grpc <pod>:{} {} {numbers}", grpc.port, grpc.service.as_deref().unwrap_or_default())
    } else {
        format!("unknown {numbers}")
    }
}

fn mounts(page: &mut Page, container: &Container) {
    let mut mounts = container.volume_mounts.clone().unwrap_or_default();
    page.line(2, if mounts.is_empty() { "Mounts:\t<none>" } else { "Mounts:" });
    mounts.sort_by(|a, b| a.mount_path.cmp(&b.mount_path));
    for mount in mounts {
        let mut flags = if mount.read_only == Some(true) { "ro" } else { "rw" }.to_owned();
        let path = mount.sub_path.or(mount.sub_path_expr).filter(|p| !p.is_empty());
        if let Some(path) = path {
            flags += &format!(",path={path:?}");
        }
        page.line(3, format_args!("{} from {} ({flags})", mount.mount_path, mount.name));
    }
}
