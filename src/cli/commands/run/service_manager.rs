//! A run that is a unit of systemd's: it says when its pods are ready, and that they end (sd_notify(3)).

use std::{
    env,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Exit codes of containers that SIGTERM, and after the grace period SIGKILL, has ended.
const ENDED: [i32; 2] = [128 + libc::SIGTERM, 128 + libc::SIGKILL];

/// Tells the service manager that started this process how far it is; where there is none, nobody.
pub(super) fn notify_manager(state: &str) {
    let Some(place) = env::var_os("NOTIFY_SOCKET") else { return };
    let address = match place.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&place),
    };
    // One that does not hear waits for its time to be up, and says so.
    let _ = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
}

/// The exit code of a run that SIGTERM has ended: as a unit it was to end, and pods that did are no failure.
pub(super) fn settle_exit_code(code: i32) -> i32 {
    let own = std::process::id().to_string();
    // systemd says so to what it executes itself, and no variable of a session's is it for anybody else.
    let is_unit = env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == own);
    if is_unit && ENDED.contains(&code) { 0 } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_by_the_signals_of_an_end_is_a_failure_only_outside_of_units() {
        // Tests are no unit's own process.
        assert_eq!(settle_exit_code(143), 143);
        assert_eq!(settle_exit_code(3), 3);
    }
}
