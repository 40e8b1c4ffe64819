//! Seccomp profiles of OCI specs, compiled to BPF.

use oci_spec::runtime::LinuxSeccomp;

use crate::error::Error;

/// A compiled profile.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) filter: Vec<libc::sock_filter>,
    pub(crate) flags: u64,
}

/// Compiles a profile.
pub fn compile(_profile: &LinuxSeccomp) -> Result<Program, Error> {
    Err(Error::Seccomp { reason: "not yet".to_owned() })
}

/// Docker's default profile.
pub fn docker_default(_caps: &std::collections::HashSet<oci_spec::runtime::Capability>) -> LinuxSeccomp {
    LinuxSeccomp::default()
}
