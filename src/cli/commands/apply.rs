//! `podctl apply`: keeps the objects of files, and starts their pods.

use crate::{
    cli::{
        Error, Namespace,
        applied_files::{Manner, apply_files},
        manifest_files::LabeledFileArgs,
        output_formats::ChangeArgs,
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
    labeled: LabeledFileArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let manner = Manner {
        fresh: false,
        selector: &args.labeled.selector,
        dry: args.change.dry_run(),
        output: &args.change.output,
    };
    apply_files(&args.labeled.files, &manner, home, namespace)
}
