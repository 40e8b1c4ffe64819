//! `podctl kustomize`: a kustomization as `kustomize`, or else `kubectl`, builds it.

use crate::cli::{Error, manifest_files::build_kustomization, print};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The kustomization's directory; this one else.
    dirs: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<i32, Error> {
    let dir = match &args.dirs[..] {
        [] => ".",
        [dir] => dir,
        _ => return Err(Error::bad_value("specify one path to kustomization.yaml")),
    };
    match build_kustomization(dir) {
        Ok(built) => print(&built.text),
        // What builds it has said why it cannot.
        Err(Error::Unreadable(_)) => return Ok(1),
        Err(e) => return Err(e),
    }
    Ok(0)
}
