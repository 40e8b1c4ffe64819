//! `podctl apply`: keeps the objects of files, and starts their pods.

use crate::{
    cli::{
        Error, Namespace,
        applied_files::{Manner, apply_files},
        manifest_files::FileArgs,
        output_formats::{DryRunArgs, OutputArgs},
    },
    state::Home,
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  podctl apply -f conf.yaml -f web.yaml
  podctl apply -R -f manifests/ --dry-run=server
  podctl apply -f https://example.com/pod.yaml

A pod that runs takes labels, annotations and an earlier deadline; `podctl run -d --replace FILE` gives it another spec.")]
pub(super) struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// Objects of the files with these labels only.
    #[arg(short = 'l', long, default_value = "")]
    selector: String,
    #[command(flatten)]
    dry_run: DryRunArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let (selector, dry, output) = (args.selector.as_str(), args.dry_run.dry_run, &args.output);
    apply_files(&args.files, &Manner { fresh: false, selector, dry, output }, home, namespace)
}
