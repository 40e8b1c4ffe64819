//! The `podctl` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    podctl::cli::main()
}
