use super::Error;
use crate::state::Home;
#[derive(clap::Args)]
pub(super) struct Args {}
pub(super) fn run(_: &Args, _: &Home, _: &str) -> Result<i32, Error> {
    Ok(0)
}
