//! A cgroup of the pod's own, from systemd: a transient scope that the supervisor is moved into and may divide.
//!
//! Asked for by the client as soon as the supervisor exists, and waited for beside the rest of the start. Where there is
//! no systemd to ask, the supervisor makes do with the cgroup it is in; what that lacks, it says itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use podctl_runtime::Process;

/// The time for which systemd may take; a laptop under load answers in a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that is on its way.
pub(super) struct Asked {
    client: Child,
    unit: String,
    membership: PathBuf,
}

/// Returns whether there is a systemd to ask for a scope: not with cgroups of version 1, which it does not delegate.
pub(super) fn can_ask() -> bool {
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let bus = match nix::unistd::geteuid().is_root() {
        false => std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("bus")),
        true => Some("/run/dbus/system_bus_socket".into()),
    };
    unified && bus.is_some_and(|bus| bus.exists()) && Path::new("/run/systemd/system").exists()
}

/// Asks for a scope; `None` where there is none to be had.
pub(super) fn ask(uid: &str, supervisor: &Process) -> Option<Asked> {
    if !can_ask() {
        return None;
    }
    let rootless = !nix::unistd::geteuid().is_root();
    let unit = format!("podctl-{uid}.scope");
    let mut command = Command::new("busctl");
    command.args([if rootless { "--user" } else { "--system" }, "--quiet", "call"]);
    command.args([
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
    ]);
    command.args(["StartTransientUnit", "ssa(sv)a(sa(sv))", &unit, "fail", "4"]);
    command.args([
        "Description",
        "s",
        "podctl pod",
        "Delegate",
        "b",
        "true",
        "CollectMode",
        "s",
        "inactive-or-failed",
    ]);
    command.args(["PIDs", "au", "1", &supervisor.pid.to_string(), "0"]);
    let client = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    Some(Asked { client, unit, membership: format!("/proc/{}/cgroup", supervisor.pid).into() })
}

impl Asked {
    /// Waits until the supervisor is in its scope, or systemd has refused.
    pub(super) fn settle(mut self) {
        let began = Instant::now();
        if !self.client.wait().is_ok_and(|status| status.success()) {
            return;
        }
        // The answer only says that the job is queued; that it is done shows in the supervisor's cgroup.
        let moved = || fs::read_to_string(&self.membership).is_ok_and(|own| own.contains(&self.unit));
        while !moved() && self.membership.exists() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
