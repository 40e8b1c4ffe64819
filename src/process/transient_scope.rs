//! A scope of systemd's for processes that outlive whoever started them: the unit, session or job that a command was called
//! in ends with all that is in it.
//!
//! Asked of the user's own manager, for root of the machine's, over its socket; where there is none, processes stay where
//! they are.

use std::{
    fs,
    io::Result,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    dbus::{Connection, Method, Values},
    find_runtime_dir,
};

/// The time for which it may take until a process is in its scope.
const PATIENCE: Duration = Duration::from_secs(10);

/// The signal by which systemd asks the processes of a scope to end: one that does nothing to those who do not wait for
/// it. What is to end in a certain order, containers above all, is not to hear of it all at once.
pub const END: nix::sys::signal::Signal = nix::sys::signal::Signal::SIGURG;

/// Holds what is asked for.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The unit's name; none of that name may be there.
    pub unit: &'a str,
    /// Describes it to whoever lists units.
    pub description: &'a str,
    /// The processes that are moved into it.
    pub processes: &'a [i32],
    /// Tells whether the processes divide its cgroup.
    pub delegate: bool,
    /// The time for which they may take to end before they are killed; none leaves it to systemd's default.
    pub grace: Option<Duration>,
}

/// The request that is on its way.
#[derive(Debug)]
pub struct Requested {
    connection: Connection,
    serial: u32,
    unit: String,
    /// The cgroups of the processes.
    memberships: Vec<PathBuf>,
}

/// Tells whether systemd runs this machine, as sd_booted(3) has it.
pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// Tells whether a manager is there that can be asked for a scope.
pub fn has_manager() -> bool {
    list_sockets().iter().any(|(socket, _)| socket.exists())
}

/// Asks systemd's logind whether it kills what a user leaves behind at the logout; none where it does not answer.
pub fn read_kill_user_processes() -> Option<bool> {
    let mut connection = Connection::open(Path::new("/run/dbus/system_bus_socket"), true).ok()?;
    let method = Method {
        destination: "org.freedesktop.login1",
        path: "/org/freedesktop/login1",
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
    };
    let mut values = Values::default();
    values.put_text("org.freedesktop.login1.Manager");
    values.put_text("KillUserProcesses");
    let serial = connection.send(&method, "ss", &values).ok()?;
    // A variant: the length of its signature, `b`, an end, and at the next multiple of four the value.
    let answer = connection.receive(serial).ok()?;
    (answer.get(1) == Some(&b'b')).then(|| answer.get(4) == Some(&1))
}

/// The sockets by which a manager is reached, and whether it is a bus in between: its own is there without one.
fn list_sockets() -> Vec<(PathBuf, bool)> {
    if !has_systemd() {
        return Vec::new();
    }
    if nix::unistd::geteuid().is_root() {
        return vec![("/run/systemd/private".into(), false), ("/run/dbus/system_bus_socket".into(), true)];
    }
    let found = find_runtime_dir();
    found.map(|dir| vec![(dir.join("systemd/private"), false), (dir.join("bus"), true)]).unwrap_or_default()
}

/// Asks for a scope; none where nobody can be asked.
pub fn request_scope(scope: &Scope<'_>) -> Option<Requested> {
    let sockets = list_sockets();
    let mut connections =
        sockets.iter().filter_map(|(socket, is_bus)| Connection::open(socket, *is_bus).ok());
    let mut connection = connections.next()?;
    let serial = send_request(&mut connection, scope).ok()?;
    let memberships = scope.processes.iter().map(|pid| format!("/proc/{pid}/cgroup").into()).collect();
    Some(Requested { connection, serial, unit: scope.unit.to_owned(), memberships })
}

fn send_request(connection: &mut Connection, scope: &Scope<'_>) -> Result<u32> {
    let method = Method {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "StartTransientUnit",
    };
    let mut values = Values::default();
    values.put_text(scope.unit);
    values.put_text("fail");
    values.put_array(8, |properties| {
        put_text(properties, "Description", scope.description);
        put_text(properties, "CollectMode", "inactive-or-failed");
        if scope.delegate {
            put_property(properties, "Delegate", "b", |value| value.put_u32(1));
        }
        put_property(properties, "KillSignal", "i", |value| value.put_u32(END as u32));
        if let Some(grace) = scope.grace {
            let microseconds = u64::try_from(grace.as_micros()).unwrap_or(u64::MAX);
            put_property(properties, "TimeoutStopUSec", "t", |value| value.put_u64(microseconds));
        }
        put_property(properties, "PIDs", "au", |value| {
            value.put_array(4, |all| scope.processes.iter().for_each(|pid| all.put_u32(*pid as u32)));
        });
    });
    // No units beside it.
    values.put_array(8, |_| {});
    connection.send(&method, "ssa(sv)a(sa(sv))", &values)
}

fn put_property(properties: &mut Values, name: &str, signature: &str, value: impl FnOnce(&mut Values)) {
    properties.begin_struct();
    properties.put_text(name);
    properties.put_signature(signature);
    value(properties);
}

fn put_text(properties: &mut Values, name: &str, text: &str) {
    put_property(properties, name, "s", |value| value.put_text(text));
}

impl Requested {
    /// Waits until the processes are in their scope, or systemd has refused: they stay where they are then.
    pub fn settle(mut self) {
        let began = Instant::now();
        if self.connection.receive(self.serial).is_err() {
            return;
        }
        // The answer only says that the job is queued; that it is done shows in the processes' cgroups.
        let has_moved = |membership: &PathBuf| match fs::read_to_string(membership) {
            Ok(own) => own.contains(&self.unit),
            // It has ended.
            Err(_) => true,
        };
        while !self.memberships.iter().all(has_moved) && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
