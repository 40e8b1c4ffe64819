//! `podctl delete`: ends pods and forgets them.

use std::time::Duration;

use super::{Error, io, objects, pod_dir, run::seconds};
use crate::{
    state::{Home, Liveness, PodDir},
    supervisor::{
        control::{self, Reply, Request},
        sweep,
    },
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// `NAME…`, `pod NAME…` or `pod/NAME…`.
    #[arg(required_unless_present = "all")]
    names: Vec<String>,
    /// Every pod of the namespace.
    #[arg(long)]
    all: bool,
    /// Seconds to end in; the pod's own terminationGracePeriodSeconds else.
    #[arg(long, value_parser = seconds)]
    grace_period: Option<Duration>,
    /// The same as --grace-period=1.
    #[arg(long)]
    now: bool,
    /// Kill at once.
    #[arg(long)]
    force: bool,
    /// No error when there is no such pod.
    #[arg(long)]
    ignore_not_found: bool,
    /// Return when the pods are gone.
    #[arg(long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    wait: bool,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &str) -> Result<i32, Error> {
    if let Some((kind, names)) = objects::asked(&args.names) {
        return objects::delete(home, namespace, kind, &names, args.all, args.ignore_not_found);
    }
    let grace = match args {
        Args { force: true, .. } => Some(Duration::ZERO),
        Args { now: true, .. } => Some(Duration::from_secs(1)),
        _ => args.grace_period,
    };
    let mut dirs = Vec::new();
    if args.all {
        dirs.extend(home.pods()?.into_iter().filter(|d| d.namespace == namespace));
    }
    let kinds = ["pod", "pods", "po"];
    let names = args.names.iter().enumerate().filter(|(i, n)| !(*i == 0 && kinds.contains(&n.as_str())));
    for (_, name) in names {
        dirs.push(pod_dir(home, namespace, name)?);
    }
    for dir in dirs {
        if dir.liveness() == Liveness::Absent {
            if args.ignore_not_found {
                continue;
            }
            return Err(Error::Said(format!("pods \"{}\" not found", dir.name)));
        }
        delete(home, &dir, grace, args.wait)?;
        println!("pod \"{}\" deleted", dir.name);
    }
    Ok(0)
}

/// Ends the pod, when it lives, and forgets it.
pub(super) fn delete(
    home: &Home,
    dir: &PodDir,
    grace_period: Option<Duration>,
    wait: bool,
) -> Result<(), Error> {
    if dir.liveness() == Liveness::Alive {
        let failed = || io(format!("cannot reach the supervisor of pod {:?}", dir.name));
        let socket = match control::dial(&dir.control_socket()) {
            Ok(socket) => socket,
            // It has just ended by itself.
            Err(_) if dir.liveness() != Liveness::Alive => return Ok(sweep::remove(home, dir)?),
            Err(e) => return Err(failed()(e)),
        };
        control::send(&socket, &Request::Delete { grace_period }, &[]).map_err(failed())?;
        if !wait {
            return Ok(());
        }
        // Nothing comes: the connection ends with the supervisor.
        while let Ok(Some(_)) = control::receive::<Reply>(&socket) {}
    }
    // The supervisor has forgotten the pod itself, unless it was killed.
    if dir.liveness() == Liveness::Ended { Ok(sweep::remove(home, dir)?) } else { Ok(()) }
}

/// Asks for the end and does not wait; a pod that is gone already needs no asking.
pub(super) fn ask(dir: &PodDir, grace_period: Option<Duration>) {
    if let Ok(socket) = control::dial(&dir.control_socket()) {
        let _ = control::send(&socket, &Request::Delete { grace_period }, &[]);
    }
}
