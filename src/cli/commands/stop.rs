//! `podctl stop`: ends pods gracefully and keeps their records, logs and what starts them again.

use std::time::Duration;

use crate::{
    cli::{Error, Namespace, durations::parse_seconds, pod_handle, pod_selection::Named},
    state::Home,
};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pods: Named,
    /// Seconds to end in; the pod's own terminationGracePeriodSeconds else.
    #[arg(long, value_parser = parse_seconds)]
    grace_period: Option<Duration>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    for name in &args.pods.names {
        let pod = pod_handle(home, namespace, name)?;
        pod.stop(args.grace_period)?;
        println!("pod \"{}\" stopped", pod.name());
    }
    Ok(0)
}
