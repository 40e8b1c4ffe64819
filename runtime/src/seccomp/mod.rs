//! Seccomp: Docker's default profile, and the compiler from OCI profiles to BPF. A filter costs a binary
//! search over ranges of syscall numbers; compile once and use it for every exec.

mod bpf;
mod default_profile;

pub use bpf::{Program, compile};
pub use default_profile::docker_default;
