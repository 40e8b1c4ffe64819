//! `podctl start`: starts pods that were stopped, or have ended, anew.

use super::{Error, pod_dir, warn};
use crate::{
    state::{Home, PodDir},
    supervisor,
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
        start(home, &dir)?;
        println!("pod \"{}\" started", dir.name);
    }
    Ok(0)
}

/// Starts an ended pod anew.
pub(super) fn start(home: &Home, dir: &PodDir) -> Result<(), Error> {
    let started = supervisor::start_again(home, dir)?;
    started.warnings.iter().for_each(|warning| warn(warning));
    Ok(())
}
