//! System calls that a signal interrupts, which says nothing of what they were to do.

use std::io;

use nix::errno::Errno;

/// An error that may say that a signal came first.
pub trait Interruption {
    /// Tells whether it says no more than that.
    fn is_interruption(&self) -> bool;
}

impl Interruption for Errno {
    fn is_interruption(&self) -> bool {
        *self == Errno::EINTR
    }
}

impl Interruption for io::Error {
    fn is_interruption(&self) -> bool {
        self.kind() == io::ErrorKind::Interrupted
    }
}

/// Makes a call again as often as a signal interrupts it.
///
/// # Errors
/// Those of the call, but for the interruption.
pub fn repeat_interrupted<T, E: Interruption>(mut call: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    loop {
        match call() {
            Err(e) if e.is_interruption() => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_made_again_until_no_signal_interrupts_it() {
        let mut answers = [Err(Errno::EINTR), Err(Errno::EINTR), Ok(7)].into_iter();
        assert_eq!(repeat_interrupted(|| answers.next().unwrap()), Ok(7));
        let mut answers =
            [Err(io::ErrorKind::Interrupted.into()), Err(io::Error::from(Errno::EIO))].into_iter();
        let failed: io::Result<()> = repeat_interrupted(|| answers.next().unwrap());
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
    }
}
