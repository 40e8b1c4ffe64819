//! `podctl stop`: ends pods gracefully and keeps their records, logs and what starts them again.

use std::time::Duration;

use super::{Error, io, pod_dir, run::seconds};
use crate::{
    state::{Home, Liveness},
    supervisor::control::{self, Reply, Request},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// `NAME…` or `pod/NAME…`.
    #[arg(required = true)]
    names: Vec<String>,
    /// Seconds to end in; the pod's own terminationGracePeriodSeconds else.
    #[arg(long, value_parser = seconds)]
    grace_period: Option<Duration>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &str) -> Result<i32, Error> {
    for name in &args.names {
        let dir = pod_dir(home, namespace, name)?;
        dir.read()?;
        if let (Ok(socket), Liveness::Alive) = (control::dial(&dir.control_socket()), dir.liveness()) {
            control::send(&socket, &Request::Stop { grace_period: args.grace_period }, &[])
                .map_err(io(format!("cannot reach the supervisor of pod {:?}", dir.name)))?;
            // Nothing comes: the connection ends with the supervisor.
            while let Ok(Some(_)) = control::receive::<Reply>(&socket) {}
        }
        println!("pod \"{}\" stopped", dir.name);
    }
    Ok(0)
}
