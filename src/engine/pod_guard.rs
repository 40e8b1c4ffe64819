//! A pod that ends with the value that holds it, for tests.

use std::{ops::Deref, time::Duration};

use super::{Error, PodHandle};

/// The pod that is deleted when this is dropped, without a grace period. With
/// [`Options::ends_with_program`](crate::Options::ends_with_program) it also ends when the program is killed.
#[derive(Debug)]
pub struct PodGuard {
    pod: PodHandle,
    is_kept: bool,
}

impl PodHandle {
    /// Returns what deletes the pod when it is dropped.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), podctl::Error> {
    /// # let engine = podctl::Engine::of_user()?;
    /// let pod = engine.pod("default", "web")?.guard();
    /// println!("{} is deleted at the end of this block", pod.name());
    /// # Ok(()) }
    /// ```
    pub fn guard(self) -> PodGuard {
        PodGuard { pod: self, is_kept: false }
    }
}

impl PodGuard {
    /// Deletes the pod now, and says what of it could not be removed.
    ///
    /// # Errors
    /// Those of [`PodHandle::delete`].
    pub fn delete(mut self) -> Result<(), Error> {
        self.is_kept = true;
        self.pod.delete(Some(Duration::ZERO))
    }

    /// Returns the pod's handle; the pod stays. One that is to end with the program still does.
    pub fn keep(mut self) -> PodHandle {
        self.is_kept = true;
        self.pod.clone()
    }
}

impl Deref for PodGuard {
    type Target = PodHandle;

    fn deref(&self) -> &PodHandle {
        &self.pod
    }
}

impl Drop for PodGuard {
    fn drop(&mut self) {
        if !self.is_kept {
            // Nobody can be told; what is left, the next command sweeps.
            let _ = self.pod.delete(Some(Duration::ZERO));
        }
    }
}
