//! `podctl restart`: every container anew, init containers first (R-INIT-3).

use super::{Error, io, pod_dir, start};
use crate::{
    state::{Home, Liveness},
    supervisor::control::{self, Reply, Request},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// `NAME…` or `pod/NAME…`.
    #[arg(required = true)]
    names: Vec<String>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &str) -> Result<i32, Error> {
    for name in &args.names {
        let dir = pod_dir(home, namespace, name)?;
        dir.read()?;
        if dir.liveness() == Liveness::Alive {
            let failed = || io(format!("cannot reach the supervisor of pod {:?}", dir.name));
            let socket = control::dial(&dir.control_socket()).map_err(failed())?;
            control::send(&socket, &Request::Restart, &[]).map_err(failed())?;
            control::receive::<Reply>(&socket).map_err(failed())?;
        } else {
            start::start(home, &dir)?;
        }
        println!("pod \"{}\" restarted", dir.name);
    }
    Ok(0)
}
