//! `podctl delete`: ends pods and forgets them.

use std::time::{Duration, Instant};

use super::{
    Error, Namespace, objects,
    run::{self, seconds},
    wait::duration,
    which::{Told, not_found},
};
pub(super) use crate::engine::ask;
use crate::{
    engine::{gone, request},
    state::{Home, Liveness, PodDir},
};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pods: Told,
    /// Seconds to end in; the pod's own terminationGracePeriodSeconds else. 0 needs --force.
    #[arg(long, value_parser = seconds)]
    grace_period: Option<Duration>,
    /// The same as --grace-period=1.
    #[arg(long, conflicts_with = "grace_period")]
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
    /// How long to wait for that, such as `30s`; without end else.
    #[arg(long, default_value = "0s", value_parser = duration)]
    timeout: Duration,
    /// `client` or `server`: say what would be deleted, and delete nothing.
    #[arg(long, default_value = "none", value_parser = ["none", "client", "server"])]
    dry_run: String,
    /// Has no meaning here: nothing depends on a pod.
    #[arg(long, hide = true)]
    cascade: Option<String>,
    /// `name` prints `pod/NAME`.
    #[arg(short, long, value_parser = ["name"])]
    output: Option<String>,
}

impl Args {
    /// With kubectl's meaning: only --force kills at once.
    fn grace(&self) -> Result<Option<Duration>, Error> {
        match (self.force, self.now, self.grace_period) {
            (true, false, Some(grace)) if !grace.is_zero() => {
                let what = "--force and --grace-period greater than 0 cannot be specified together";
                Err(Error::Said(what.into()))
            }
            (true, ..) => Ok(Some(Duration::ZERO)),
            (false, true, _) => Ok(Some(Duration::from_secs(1))),
            (false, false, Some(Duration::ZERO)) => Ok(Some(Duration::from_secs(1))),
            (false, false, grace) => Ok(grace),
        }
    }
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    if let Some((kind, names)) = objects::asked(&args.pods.which.names) {
        if args.dry_run != "none" {
            return Err(Error::Said("--dry-run is for pods; other objects would be deleted".into()));
        }
        return objects::delete(
            home,
            namespace,
            kind,
            &names,
            (args.pods.all, args.pods.which.selector.as_deref()),
            args.ignore_not_found,
        );
    }
    let grace = args.grace()?;
    let mut failed = false;
    let mut missing = |name: &str| {
        if !args.ignore_not_found {
            super::complain(&not_found(name));
            failed = true;
        }
    };
    let mut dirs = Vec::new();
    let selected = args.pods.which.selector.is_some() || args.pods.which.field_selector.is_some();
    if args.pods.which.names_pods() && !selected {
        // A pod whose file is damaged can be named, if not read.
        dirs = args.pods.which.named(home, namespace)?;
    } else if args.pods.all && !selected {
        let all = home.pods()?.into_iter();
        dirs.extend(all.filter(|d| args.pods.which.all_namespaces || d.namespace == *namespace));
    } else if selected {
        dirs.extend(args.pods.which.choose(home, namespace)?.found.into_iter().map(|f| f.dir));
    } else {
        let what = "resource(s) were provided, but no name was specified; name pods, or use -f, -l or --all";
        return Err(Error::Said(what.into()));
    }
    let named = run::names(&args.pods.which.filename, namespace)?;
    let forgotten = objects::forget(home, &named, args.dry_run != "none")?;
    if dirs.is_empty() && forgotten == 0 {
        println!("No resources found");
    }
    // All are asked before one is waited for: they end side by side.
    let mut asked = Vec::new();
    for dir in dirs {
        if dir.liveness() == Liveness::Absent {
            if !args.pods.all {
                missing(&dir.name);
            }
            continue;
        }
        let dry = match args.dry_run.as_str() {
            "none" => "",
            "server" => " (server dry run)",
            _ => " (dry run)",
        };
        if dry.is_empty() {
            let socket = request(home, &dir, grace)?;
            asked.push((dir.clone(), socket));
        }
        let how = if args.force { "force deleted" } else { "deleted" };
        match &args.output {
            Some(_) => println!("pod/{}", dir.name),
            None => println!("pod \"{}\" {how}{dry}", dir.name),
        }
    }
    let deadline = (!args.timeout.is_zero()).then(|| Instant::now() + args.timeout);
    if args.wait {
        for (dir, socket) in asked {
            if !gone(home, &dir, socket, deadline)? {
                super::complain(&Error::Said(format!(
                    "timed out waiting for the condition on pods/{}",
                    dir.name
                )));
                failed = true;
            }
        }
    }
    Ok(i32::from(failed))
}

/// Ends the pod, when it lives, and forgets it.
pub(super) fn delete(
    home: &Home,
    dir: &PodDir,
    grace_period: Option<Duration>,
    wait: bool,
) -> Result<(), Error> {
    let socket = request(home, dir, grace_period)?;
    if wait {
        gone(home, dir, socket, None)?;
    }
    Ok(())
}
