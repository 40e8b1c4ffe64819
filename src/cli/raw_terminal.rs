//! This process's terminal in raw mode, and back, whatever happens.

use std::{
    os::fd::AsFd,
    sync::{Mutex, Once},
};

use nix::{
    libc,
    sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
};

use crate::engine::resize_terminal;

/// Chosen as the terminal was; taken when it is put back.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// Standard input in raw mode until this is dropped; also a panic puts it back.
pub(super) struct Raw(());

impl Raw {
    pub(super) fn enter() -> nix::Result<Raw> {
        let stdin = std::io::stdin();
        let saved = tcgetattr(&stdin)?;
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        *SAVED.lock().expect("nothing panics while it is held") = Some(saved);
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore_terminal();
                before(info);
            }));
        });
        tcsetattr(&stdin, SetArg::TCSADRAIN, &raw)?;
        Ok(Raw(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore_terminal();
    }
}

fn restore_terminal() {
    if let Ok(mut saved) = SAVED.lock()
        && let Some(saved) = saved.take()
    {
        // A terminal that has gone needs no settings.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &saved);
    }
}

nix::ioctl_read_bad!(get_size, libc::TIOCGWINSZ, libc::winsize);

/// Rows and columns of standard input's terminal.
pub(super) fn size() -> Option<(u16, u16)> {
    use std::os::fd::AsRawFd;
    // SAFETY: winsize is plain data for which zero is a value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in this one struct.
    unsafe { get_size(std::io::stdin().as_raw_fd(), &mut size) }.ok()?;
    (size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}

/// Gives another terminal the size of ours.
pub(super) fn resize(other: impl AsFd) {
    if let Some((rows, columns)) = size() {
        resize_terminal(other.as_fd(), rows, columns);
    }
}
