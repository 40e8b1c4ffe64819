//! Starting the keeper, and starting it again when it was killed.
//!
//! The network's namespaces outlive their keeper, for every supervisor on the network holds them. A
//! keeper that was killed is followed by one that goes into them. That must be started from the
//! host's network, where no supervisor is: the guard waits there for the keeper's end. A deputy waits for the guard's, and
//! takes its place when it is killed; so the network comes back by itself when both are killed at once. Where all three
//! were, the next command, whichever it is, does what the guard would have done.
//!
//! A service manager that ends the unit, session or job in which the first pod was started sends SIGTERM to all that
//! is in it, and SIGKILL at last. So the guard asks systemd for a scope of their own, where there is one to be had.
//! Neither the guard nor the keeper ends of SIGTERM while pods of others are on the network; with the last pod both end by
//! themselves.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::CloneFlags,
    sys::signal::{SigSet, Signal},
    unistd::pipe2,
};
use podctl_images::open_ordinary;
use podctl_runtime::{IdMappings, Process, Spawning};

use super::{ALIVE, Error, RECORD, kept_services, open_lock, root_uplink, socket_path, step};
use crate::{
    process::{
        Role, begin_role, children,
        descriptors::{
            guard::{GUARD, HOME, KEEPER, SCOPE},
            keeper, take_descriptor,
        },
        detach_from_terminal, start_role,
        transient_scope::{Scope, request_scope},
    },
    state::{Home, Liveness, remove_tree},
    wire::{Reply, Request, dial, listen_at, make_connection, receive, send, send_request},
};

/// Pods and commands that may wait until their connections are taken.
const BACKLOG: i32 = 512;

/// The time for which a supervisor may take to hand out the namespaces. Without them the pods that live are
/// on a network of their own; so a machine that is busy, or has just woken, is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time for which a guard waits where it could not start the next keeper.
const RETRY: Duration = Duration::from_secs(1);
/// The milliseconds for which nothing has to happen before the guard starts a deputy.
const SETTLING: u16 = 1000;

/// The namespaces of a network whose keeper is gone.
#[derive(Debug)]
pub(super) struct Survivors {
    user: OwnedFd,
    network: OwnedFd,
}

/// Names what the living supervisors know of a network whose keeper is gone.
#[derive(Debug)]
pub(super) enum Found {
    /// Means that it goes on in these namespaces.
    Alive(Survivors),
    /// No pod is on it.
    Nobody,
    /// Means that a supervisor did not answer in time: nobody knows.
    Silence,
}

/// Asks the living supervisors for the network's namespaces; the first that has them is enough.
pub(super) fn find_survivors(home: &Home) -> Found {
    let pods = home.pods().unwrap_or_default();
    let living = pods.iter().filter(|pod| pod.read_liveness() == Liveness::Alive);
    let mut asked: Vec<OwnedFd> = living
        .filter_map(|pod| dial(&pod.control_socket()).ok())
        .filter(|socket| send_request(socket, &Request::Network, &[]).is_ok())
        .collect();
    let deadline = Instant::now() + PATIENCE;
    while !asked.is_empty() {
        let mut fds: Vec<_> = asked.iter().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        if left.is_zero() || waited.is_err_and(|e| e != Errno::EINTR) {
            return Found::Silence;
        }
        let mut spoke = fds.iter().map(|fd| fd.any() != Some(false)).collect::<Vec<_>>().into_iter();
        let (heard, waiting): (Vec<_>, Vec<_>) = asked.into_iter().partition(|_| spoke.next() == Some(true));
        asked = waiting;
        for socket in heard {
            if let Ok(Some((Reply::Started, fds))) = receive(&socket)
                && let Ok([user, network]) = <[OwnedFd; 2]>::try_from(fds)
            {
                return Found::Alive(Survivors { user, network });
            }
        }
    }
    Found::Nobody
}

/// A keeper that was started.
pub(super) struct Begun {
    process: Process,
    /// It waits, with what is to be born in its scope, until this is closed.
    scope: OwnedFd,
}

impl Begun {
    /// Opens the user namespace that the keeper is in, whose ids are mapped.
    pub(super) fn open_user_namespace(&self) -> io::Result<OwnedFd> {
        Ok(File::open(format!("/proc/{}/ns/user", self.process.pid))?.into())
    }
}

/// Starts a keeper, of the survivors' namespaces if there are any. The caller has the network's lock.
///
/// The socket is there before the keeper is: whoever connects meanwhile waits for it.
pub(super) fn start(
    home: &Home,
    survivors: Option<&Survivors>,
    users: Option<BorrowedFd<'_>>,
    mappings: Option<&IdMappings>,
) -> Result<Begun, Error> {
    let path = socket_path(home);
    // One that is in the way makes the next step fail, which says so.
    let _ = fs::remove_file(&path);
    let listener = listen_at(&path, BACKLOG).map_err(step("make the network's socket"))?;
    let lock = open_lock(home)?;
    // PID 1 of a PID namespace: what it starts ends with it.
    let mut namespaces = CloneFlags::CLONE_NEWPID;
    let data = File::open(&home.data).map_err(step("open podctl's data directory"))?;
    let directory = File::open(home.runtime.join("network")).map_err(step("open the network's directory"))?;
    let life = hold_life(home).map_err(step("make the network's lock"))?;
    let (scoped, scope) = pipe2(OFlag::O_CLOEXEC).map_err(step("make a pipe"))?;
    let mut fds = vec![
        (listener.as_fd(), keeper::LISTENER),
        (lock.as_fd(), keeper::LOCK),
        (data.as_fd(), keeper::DATA),
        (life.as_fd(), keeper::LIFE),
        (directory.as_fd(), keeper::DIRECTORY),
        (scoped.as_fd(), keeper::SCOPE),
    ];
    let mut join: Vec<(BorrowedFd<'_>, CloneFlags)> = Vec::new();
    let name = if let Some(survivors) = survivors {
        fds.push((survivors.network.as_fd(), keeper::NAMESPACE));
        if !nix::unistd::geteuid().is_root() {
            join.push((survivors.user.as_fd(), CloneFlags::CLONE_NEWUSER));
        }
        "network-again"
    } else {
        join.extend(users.map(|users| (users, CloneFlags::CLONE_NEWUSER)));
        if join.is_empty() && mappings.is_some() {
            namespaces |= CloneFlags::CLONE_NEWUSER;
        }
        "network"
    };
    let program = home.program.as_deref();
    let role = Role { name, program, namespaces, mappings, join: &join, fds: &fds };
    let process = start_role(&role).map_err(|e| {
        // One that is in the way makes the next step fail, which says so.
        let _ = fs::remove_file(&path);
        Error::from(e)
    })?;
    Ok(Begun { process, scope })
}

/// Makes the lock that the keeper holds for life. A new file: that of a killed keeper may still be held by what it
/// started.
fn hold_life(home: &Home) -> std::io::Result<File> {
    let path = home.runtime.join("network").join(ALIVE);
    // One that is in the way makes the next step fail, which says so.
    let _ = remove_tree(&path);
    let life = File::options().create_new(true).write(true).open(path)?;
    life.lock()?;
    Ok(life)
}

/// The guard that is on its way to its program.
#[derive(Debug)]
pub(super) struct StartingGuard(Spawning);

impl StartingGuard {
    /// Waits until it runs.
    pub(super) fn finish(self) -> Result<(), Error> {
        Ok(self.0.finish().map(drop)?)
    }
}

/// Starts the keeper's guard, and leaves both to themselves.
pub(super) fn watch(home: &Home, keeper: &Begun) -> Result<StartingGuard, Error> {
    let more = (keeper.scope.as_fd(), SCOPE);
    let guard = start_beside(home, "network-guard", keeper.process.pidfd.as_fd(), more)?;
    [guard.process(), &keeper.process].into_iter().for_each(children::leave);
    Ok(StartingGuard(guard))
}

/// Starts a process that follows a killed keeper: the guard, or its deputy, each with one descriptor more.
fn start_beside(
    home: &Home,
    role: &str,
    keeper: BorrowedFd<'_>,
    more: (BorrowedFd<'_>, RawFd),
) -> Result<Spawning, Error> {
    let open = |dir: &Path| File::open(dir).map_err(step("open podctl's directories"));
    let (runtime, data) = (open(&home.runtime)?, open(&home.data)?);
    let fds = [(keeper, KEEPER), (runtime.as_fd(), HOME[0]), (data.as_fd(), HOME[1]), more];
    Ok(begin_role(&Role { program: home.program.as_deref(), fds: &fds, ..Role::named(role) })?)
}

/// Holds what a guard and its deputy have.
struct Guard {
    home: Home,
    lock: File,
    keeper: OwnedFd,
}

/// The guard's life. Gives its exit code.
pub fn main() -> i32 {
    // SAFETY: this process was started with this descriptor, and nobody else has taken it.
    let scope = unsafe { take_descriptor(SCOPE) };
    let Some(guard) = Guard::begin() else { return 1 };
    leave_unit(&guard.keeper);
    drop(scope);
    guard.keep_watch()
}

/// The life of the guard's deputy: it becomes the guard when that is killed. Gives its exit code.
pub fn stand_by() -> i32 {
    let Some(mut deputy) = Guard::begin() else { return 1 };
    // SAFETY: this process was started with this descriptor, and nobody else has taken it.
    let guard = unsafe { take_descriptor(GUARD) };
    // It says which keeper is the one to be watched.
    while let Ok(Some(((), fds))) = receive::<()>(&guard) {
        deputy.keeper = fds.into_iter().next().unwrap_or(deputy.keeper);
    }
    deputy.keep_watch()
}

impl Guard {
    fn begin() -> Option<Guard> {
        // It fails only for who leads a group already.
        let _ = nix::unistd::setsid();
        detach_from_terminal();
        // It ends with its keeper. Blocked rather than ignored, which the next keeper and its helper would inherit.
        let _ = SigSet::from_iter([Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT]).thread_block();
        // SAFETY: this process was started with this descriptor, and nobody else has taken it.
        let keeper = unsafe { take_descriptor(KEEPER) };
        let [runtime, data] = HOME.map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")));
        let home = Home { runtime: runtime.ok()?, data: data.ok()?, program: None };
        let lock = open_lock(&home).ok()?;
        Some(Guard { home, lock, keeper })
    }

    /// Sleeps until the keeper, or the deputy, is killed, and starts another; until the network is over. The first deputy
    /// starts when there has been quiet for `SETTLING`: most networks of a single short pod are over before.
    fn keep_watch(mut self) -> i32 {
        let mut deputy: Option<OwnedFd> = None;
        let mut is_deputy_due = false;
        loop {
            if has_spoken(&self.keeper) {
                match self.succeed_keeper() {
                    // It is born in the scope.
                    Ok(Some(next)) => self.keeper = next.process.pidfd,
                    Ok(None) => return 0,
                    // The machine may be short of something for a while; nobody else would try again.
                    Err(_) => std::thread::sleep(RETRY),
                }
                // It is to hear of the next keeper.
                let told = deputy.as_ref().map(|deputy| send(deputy, &(), &[self.keeper.as_fd()]));
                if told.is_some_and(|told| told.is_err()) {
                    deputy = None;
                }
                continue;
            }
            if is_deputy_due || deputy.as_ref().is_some_and(has_spoken) {
                deputy = self.start_deputy().ok();
            }
            let events = PollFlags::POLLIN;
            let mut fds = vec![PollFd::new(self.keeper.as_fd(), events)];
            fds.extend(deputy.iter().map(|deputy| PollFd::new(deputy.as_fd(), events)));
            // One that could not be started is tried again.
            let timeout = if deputy.is_some() { PollTimeout::NONE } else { SETTLING.into() };
            is_deputy_due = poll(&mut fds, timeout) == Ok(0);
        }
    }

    fn start_deputy(&self) -> Result<OwnedFd, Error> {
        let (ours, theirs) = make_connection().map_err(step("make a socket pair"))?;
        let deputy = start_beside(&self.home, "guard-deputy", self.keeper.as_fd(), (theirs.as_fd(), GUARD))?;
        let deputy = deputy.finish()?;
        children::leave(&deputy);
        Ok(ours)
    }

    /// The keeper that follows one that has ended; none when it was its time, or another has followed already.
    fn succeed_keeper(&self) -> Result<Option<Begun>, Error> {
        self.lock.lock().map_err(step("take the network's lock"))?;
        let next = follow_guard(&self.home);
        self.lock.unlock().map_err(step("leave the network's lock"))?;
        next
    }
}

/// Leaves the unit, session or job of whoever started the first pod, with the keeper.
fn leave_unit(keeper: &OwnedFd) {
    let known = fs::read_to_string(format!("/proc/self/fdinfo/{}", keeper.as_raw_fd())).unwrap_or_default();
    let pid = known.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    // Of one that has ended it is -1.
    let Some(pid) = pid.filter(|pid: &i32| *pid > 0) else { return };
    let own = std::process::id();
    let requested = request_scope(&Scope {
        unit: &format!("podctl-network-{own}.scope"),
        description: "the network of podctl's pods",
        processes: &[own as i32, pid],
        delegate: false,
        grace: None,
    });
    if let Some(requested) = requested {
        requested.settle();
    }
}

/// Tells whether the process of a pidfd has ended, or a connection has.
fn has_spoken(fd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn follow_guard(home: &Home) -> Result<Option<Begun>, Error> {
    let path = socket_path(home);
    if !path.exists() {
        // It was killed at its end, for which it held the lock, or could not take all away.
        bury_network(home);
        return Ok(None);
    }
    if dial(&path).is_ok() {
        return Ok(None);
    }
    let survivors = match find_survivors(home) {
        Found::Alive(survivors) => survivors,
        Found::Nobody => {
            bury_network(home);
            return Ok(None);
        }
        Found::Silence => {
            return Err(step("hear from the pods on the network")(io::Error::from(io::ErrorKind::TimedOut)));
        }
    };
    let next = start(home, Some(&survivors), None, None)?;
    // Nobody is there to be told what does not work; the next command that asks is.
    kept_services::publish(home);
    Ok(Some(next))
}

/// Takes away what a keeper that was killed has left where no pod needs it. The caller has the network's lock.
pub(super) fn bury_network(home: &Home) {
    root_uplink::sweep(&home.runtime.join("network").join(RECORD));
    // Nobody answers there any more; who comes next takes what is left away.
    let _ = remove_tree(&socket_path(home));
    let _ = remove_tree(&home.runtime.join("network").join(ALIVE));
}

/// Mends a network whose keeper and guard were both killed; any command may find it so. With pods on it, it gets a keeper
/// and a guard again, else what is left of it is taken away.
pub(crate) fn mend_network(home: &Home) {
    let network = home.runtime.join("network");
    let is_left = match open_ordinary(&network.join(ALIVE), File::options().read(true)) {
        // A keeper that lives holds this lock.
        Ok(life) => life.try_lock_shared().is_ok(),
        // One that was killed at its end has left what it had on the host.
        Err(_) => network.join(RECORD).exists(),
    };
    if !is_left {
        return;
    }
    // Whoever has this one does what is to be done here.
    if let Ok(lock) = open_lock(home)
        && lock.try_lock().is_ok()
        && let Ok(Some(next)) = follow_guard(home)
    {
        // Without a guard it is as good until it is killed.
        let _ = watch(home, &next).and_then(StartingGuard::finish);
    }
}
