//! `podctl attach`: this terminal becomes that of a container's first process.

use crate::{
    cli::{
        Error, Namespace,
        attached_container::{DETACH_KEYS, Wanted, attach_to},
        target_pod::{ATTACH, ContainerArgs, PatienceArgs, check_goes_on, choose_container, find_target_pod},
    },
    engine::PodHandle,
    state::Home,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// `NAME`, `pod/NAME`, `pod NAME`, `service/NAME` or `deployment/NAME`.
    #[arg(required = true, num_args = 1..=2)]
    pod: Vec<String>,
    #[command(flatten)]
    of: ContainerArgs,
    #[command(flatten)]
    patience: PatienceArgs,
    /// Keys that leave the container running.
    #[arg(long, default_value = DETACH_KEYS)]
    detach_keys: String,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let ContainerArgs { stdin, tty, quiet, .. } = args.of;
    let until = args.patience.find_deadline("\nSee 'podctl attach -h' for help and examples")?;
    let dir = find_target_pod((home, namespace), &args.pod.join("/"), ATTACH, until)?;
    check_goes_on(&dir, "attach")?;
    let container = choose_container(&dir, args.of.container.as_deref(), quiet).map_err(|e| match e {
        Error::Absent(_) => Error::absent(format!("cannot attach to the container: {e}")),
        e => e,
    })?;
    let wanted = Wanted { stdin, tty, quiet, keys: &args.detach_keys };
    let ended = attach_to(&PodHandle::of(home, &dir), &container, &wanted)?.code();
    if ended.is_none() && !quiet {
        eprintln!("Session ended, resume using 'podctl attach {} -c {container} -i -t'", dir.name);
    }
    Ok(ended.unwrap_or(0))
}
