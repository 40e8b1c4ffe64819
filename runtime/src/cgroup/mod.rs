//! Control groups.

use crate::error::Error;
use std::os::fd::OwnedFd;

/// The cgroup of a container.
#[derive(Debug)]
pub struct Cgroup {
    v2: Option<OwnedFd>,
}

impl Cgroup {
    pub(crate) fn clone_into(&self) -> Option<&OwnedFd> {
        self.v2.as_ref()
    }

    pub(crate) fn procs(&self) -> Result<Vec<OwnedFd>, Error> {
        Ok(Vec::new())
    }
}
