//! Probes and hooks: exactly one handler, with numbers that make sense.

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, LifecycleHandler, PodSpec, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    super::Report,
    well_formed::{one_of, port_name, within},
};
use crate::pod::{DEFAULT_GRACE_PERIOD_SECONDS, is_api_signal};

pub(super) fn probe(probe: &Probe, name: &str, c: &Container, path: &str, report: &mut Report<'_>) {
    let set =
        [probe.exec.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.grpc.is_some()];
    exactly_one(&set, path, report);
    check_actions(
        probe.exec.as_ref().map(|e| e.command.as_deref().unwrap_or_default()),
        probe.http_get.as_ref(),
        probe.tcp_socket.as_ref(),
        c,
        path,
        report,
    );
    if let Some(grpc) = &probe.grpc {
        within(Some(grpc.port.into()), 1, 65_535, &format!("{path}.grpc.port"), report);
    }
    for (field, value, least) in [
        ("initialDelaySeconds", probe.initial_delay_seconds, 0),
        ("timeoutSeconds", probe.timeout_seconds, 1),
        ("periodSeconds", probe.period_seconds, 1),
        ("successThreshold", probe.success_threshold, 1),
        ("failureThreshold", probe.failure_threshold, 1),
    ] {
        within(value.map(Into::into), least, i64::MAX, &format!("{path}.{field}"), report);
    }
    let grace = format!("{path}.terminationGracePeriodSeconds");
    within(probe.termination_grace_period_seconds, 1, i64::MAX, &grace, report);
    if name == "readinessProbe" && probe.termination_grace_period_seconds.is_some() {
        report.add_error(&grace, "Invalid value: must not be set for readinessProbes");
    }
    if name != "readinessProbe"
        && let Some(value) = probe.success_threshold.filter(|v| *v > 1)
    {
        report.add_error(&format!("{path}.successThreshold"), format!("Invalid value: {value}: must be 1"));
    }
}

pub(super) fn hook(
    hook: &LifecycleHandler,
    c: &Container,
    spec: &PodSpec,
    path: &str,
    report: &mut Report<'_>,
) {
    let set = [hook.exec.is_some(), hook.http_get.is_some(), hook.tcp_socket.is_some(), hook.sleep.is_some()];
    exactly_one(&set, path, report);
    check_actions(
        hook.exec.as_ref().map(|e| e.command.as_deref().unwrap_or_default()),
        hook.http_get.as_ref(),
        hook.tcp_socket.as_ref(),
        c,
        path,
        report,
    );
    if let Some(sleep) = &hook.sleep {
        let grace = spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_PERIOD_SECONDS);
        if !(0..=grace).contains(&sleep.seconds) {
            report.add_error(
                &format!("{path}.sleep.seconds"),
                format!(
                    "Invalid value: {}: must be non-negative and less than terminationGracePeriodSeconds ({grace})",
                    sleep.seconds
                ),
            );
        }
    }
}

/// Checks a stop signal as the API server does.
pub(super) fn stop_signal(name: &str, spec: &PodSpec, path: &str, report: &mut Report<'_>) {
    if !is_api_signal(name) {
        let message = format!("Unsupported value: {name:?}: write a signal's name, such as \"SIGQUIT\"");
        return report.add_error(path, message);
    }
    if spec.os.is_none() {
        report.warn(path, "a cluster refuses this without `os: {name: linux}` in the pod's spec");
    }
}

fn check_actions(
    exec: Option<&[String]>,
    http_get: Option<&HTTPGetAction>,
    tcp_socket: Option<&TCPSocketAction>,
    c: &Container,
    path: &str,
    report: &mut Report<'_>,
) {
    if exec.is_some_and(<[String]>::is_empty) {
        report.add_error(&format!("{path}.exec.command"), "Required value");
    }
    if let Some(get) = http_get {
        let at = |field: &str| format!("{path}.httpGet.{field}");
        check_port(&get.port, c, &at("port"), report);
        one_of(get.scheme.as_deref(), &["HTTP", "HTTPS"], &at("scheme"), report);
        for (i, header) in get.http_headers.iter().flatten().enumerate() {
            let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            if header.name.is_empty() || !header.name.bytes().all(token) {
                report.add_error(
                    &at(&format!("httpHeaders[{i}].name")),
                    format!("Invalid value: {:?}: a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name')", header.name),
                );
            }
        }
    }
    if let Some(socket) = tcp_socket {
        check_port(&socket.port, c, &format!("{path}.tcpSocket.port"), report);
    }
}

/// Checks a number, or the name of one of the container's ports.
fn check_port(port: &IntOrString, c: &Container, path: &str, report: &mut Report<'_>) {
    match port {
        IntOrString::Int(number) => within(Some((*number).into()), 1, 65_535, path, report),
        IntOrString::String(name) => {
            let before = report.found.len();
            port_name(name, path, report);
            let known = c.ports.iter().flatten().any(|p| p.name.as_ref() == Some(name));
            // The API takes any name; a kubelet then fails every time.
            if report.found.len() == before && !known {
                report
                    .add_error(path, format!("Not found: {name:?}: the container has no port of that name"));
            }
        }
    }
}

fn exactly_one(set: &[bool], path: &str, report: &mut Report<'_>) {
    match set.iter().filter(|s| **s).count() {
        0 => report.add_error(path, "Required value: must specify a handler type"),
        1 => {}
        _ => report.add_error(path, "Forbidden: may not specify more than 1 handler type"),
    }
}
