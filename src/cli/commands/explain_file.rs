//! `podctl explain-file`: what a run of manifest files would do.

use crate::{
    cli::{
        Error, Namespace,
        manifest_files::{FileArgs, read_manifest},
        run_plan::explain_plan,
        stored_objects,
    },
    state::Home,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Manifest files, `-` for standard input.
    #[arg(required = true)]
    files: Vec<String>,
}

pub(super) fn run(args: &Args, home: &Home, namespace: &Namespace) -> Result<i32, Error> {
    let stored = stored_objects::read_stored(home, &[])?;
    let sources = FileArgs::named(&args.files).read_sources()?;
    explain_plan(&read_manifest(&sources, &stored, namespace)?, home, None)
}
