//! The `podctl` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    podctl::init();
    podctl::cli::main()
}
