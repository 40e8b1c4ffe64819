//! `podctl system prune`: what nothing uses any more of all that is podctl's.

use crate::{
    cli::{
        Error,
        pruning::{PruneArgs, prune_all},
    },
    state::Home,
};

#[derive(clap::Args)]
pub(super) struct SystemPruneArgs {
    #[command(flatten)]
    how: PruneArgs,
    /// Volumes that no pod uses as well, with the files in them.
    #[arg(long)]
    volumes: bool,
}

/// Names what is podctl's on this machine as a whole.
#[derive(clap::Subcommand)]
pub(super) enum SystemCommand {
    /// Remove pods that have ended, and images and volumes that no pod uses.
    Prune(SystemPruneArgs),
}

pub(super) fn prune_system(args: &SystemPruneArgs, home: &Home) -> Result<i32, Error> {
    prune_all(home, &args.how, args.volumes)
}
