//! `podctl restart`: every container anew, init containers first (R-INIT-3).

use super::{Error, pod_handle, warn};
use crate::state::Home;

#[derive(clap::Args)]
pub(super) struct Args {
    /// `NAME…` or `pod/NAME…`.
    #[arg(required = true)]
    names: Vec<String>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &str) -> Result<i32, Error> {
    for name in &args.names {
        let pod = pod_handle(home, namespace, name)?.restart()?;
        pod.warnings().iter().for_each(|warning| warn(warning));
        println!("pod \"{}\" restarted", pod.name());
    }
    Ok(0)
}
