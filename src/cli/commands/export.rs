//! `podctl export`: what runs here as YAML for `kubectl apply -f` elsewhere.

use crate::{
    cli::{
        Error, Namespace,
        pod_selection::{Which, not_found},
        print, warn,
    },
    engine::{Engine, ExportOptions, PodHandle},
    state::Home,
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl export web >web.yaml            # kubectl apply -f web.yaml, on any cluster
  podctl export -l app=shop --digests    # the very images that run here")]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Name images by the digest that runs here.
    #[arg(long)]
    digests: bool,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let chosen = args.which.choose(home, namespace)?;
    if let Some(name) = chosen.missing.first() {
        return Err(not_found(name));
    }
    if chosen.found.is_empty() {
        return Err(Error::absent(format!("there is no pod to export in namespace {namespace}")));
    }
    let pods: Vec<_> = chosen.found.iter().map(|found| PodHandle::of(home, &found.dir)).collect();
    let export = Engine::over(home).export(&pods, &ExportOptions { digests: args.digests })?;
    export.warnings.iter().for_each(|warning| warn(warning));
    print(&export.to_yaml());
    Ok(0)
}
