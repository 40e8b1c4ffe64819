//! From a pod of the files to one that runs: what it refers to, what the flags change.

use super::{Args, InitFailure, Network, UserNamespace};
use k8s_openapi::api::core::v1::Pod;

use crate::{
    cli::{Error, start_notes::print_start_notes},
    engine::{self, Engine, start::Started},
    logs::LogLimits,
    manifest::{Job, Manifest},
    pod::PodExt,
    state::Home,
    wire::{Options, Request},
};

/// Nothing is started when this machine cannot give what a pod asks for.
pub(super) fn check_met(pods: &[Pod], jobs: &[Job]) -> Result<(), Error> {
    let all = pods.iter().chain(jobs.iter().map(|job| &job.pod));
    Ok(all.into_iter().try_for_each(|pod| engine::unmet(pod).map(drop))?)
}

pub(super) fn start_pod(
    args: &Args,
    home: &Home,
    mut pod: Pod,
    from: [&Manifest; 2],
) -> Result<Started, Error> {
    let options = Options {
        backoff_initial: args.backoff_initial,
        backoff_max: args.backoff_max,
        restart_pod_on_init_failure: args.init_failure == InitFailure::RestartPod,
        log_limits: LogLimits {
            size: args.log_max_size,
            files: args.log_max_files.into(),
            earlier_starts: args.log_earlier_starts,
        },
        strict_limits: args.strict_limits,
        network: args.network != Network::None,
        publish_all: args.publish_all,
        publish: args.publish.clone(),
        ends_with_program: false,
        allowed_unsafe_sysctls: args.allowed_unsafe_sysctls.clone(),
        squash_ids: args.squash_ids,
        kept_ids: args.userns.and_then(UserNamespace::kept_ids),
        progress: true,
        awaits_objects: false,
    };
    let container = pod.default_container().map(str::to_owned);
    if args.stdin {
        let containers = pod.spec.iter_mut().flat_map(|s| &mut s.containers);
        for container in containers.filter(|c| Some(&c.name) == container.as_ref()) {
            (container.stdin, container.stdin_once) = (Some(true), Some(true));
            container.tty = container.tty.filter(|t| *t).or(args.tty.then_some(true));
        }
    }
    let first = container
        .filter(|_| args.stdin || args.attach)
        .map(|container| Request::Attach { container, input: args.stdin });
    if args.network == Network::Host
        && let Some(spec) = &mut pod.spec
    {
        spec.host_network = Some(true);
    }
    let engine = Engine::over(home);
    let started = match args.replace {
        true => engine.replace(pod, from, &options, first.as_ref())?,
        false => engine.start(pod, from, &options, first.as_ref())?,
    };
    print_start_notes(&started);
    Ok(started)
}
