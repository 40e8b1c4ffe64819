//! The `podctl` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    podctl::init();
    podctl::cli::main()
}

/// Raises to a power: the one function of the C library of mathematics that podctl is linked with, for its bars of progress. To load
/// that library takes 0.1 ms of every start, and podctl starts itself several times for a pod.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[unsafe(no_mangle)]
extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}
