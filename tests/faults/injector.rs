//! Makes a system call of podctl's fail, or kills who calls, at a chosen place: the n-th call of that name by a process of that
//! role. Nothing of this is in the product: a seccomp filter of the test's own asks this process about every call of the table
//! by a process that was started beneath it, raw ones and those of every role among them.
//!
//! The kernel also tells when the last process beneath the filter has ended, so that none is overlooked.

use std::{
    collections::BTreeMap,
    fmt, fs,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    str::FromStr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// The time for which what was started may take to be gone when the job is over.
const LEAVING: Duration = Duration::from_secs(60);

/// Names what the machine is short of or broken in; by it the ways in which a call of the table fails.
const SPACE: &[Errno] = &[Errno::ENOSPC, Errno::EIO];
const FILES: &[Errno] = &[Errno::EMFILE, Errno::EIO, Errno::EINTR];
const READS: &[Errno] = &[Errno::EIO, Errno::EINTR];
const WRITES: &[Errno] = &[Errno::ENOSPC, Errno::EIO, Errno::EINTR];
const DESCRIPTORS: &[Errno] = &[Errno::EMFILE, Errno::ENOMEM];
const MEMORY: &[Errno] = &[Errno::ENOMEM, Errno::EAGAIN];
const KERNEL: &[Errno] = &[Errno::ENOMEM];
const WAITS: &[Errno] = &[Errno::EINTR, Errno::ENOMEM];

/// The calls that can be made to fail, and how.
const CALLS: &[(&str, libc::c_long, &[Errno])] = &[
    #[cfg(target_arch = "x86_64")]
    ("open", libc::SYS_open, FILES),
    #[cfg(target_arch = "x86_64")]
    ("rename", libc::SYS_rename, SPACE),
    #[cfg(target_arch = "x86_64")]
    ("mkdir", libc::SYS_mkdir, SPACE),
    #[cfg(target_arch = "x86_64")]
    ("unlink", libc::SYS_unlink, READS),
    #[cfg(target_arch = "x86_64")]
    ("rmdir", libc::SYS_rmdir, READS),
    #[cfg(target_arch = "x86_64")]
    ("symlink", libc::SYS_symlink, SPACE),
    #[cfg(target_arch = "x86_64")]
    ("fork", libc::SYS_fork, MEMORY),
    #[cfg(target_arch = "x86_64")]
    ("vfork", libc::SYS_vfork, MEMORY),
    ("openat", libc::SYS_openat, FILES),
    ("openat2", libc::SYS_openat2, FILES),
    ("read", libc::SYS_read, READS),
    ("getdents64", libc::SYS_getdents64, READS),
    ("write", libc::SYS_write, WRITES),
    ("pwrite64", libc::SYS_pwrite64, WRITES),
    ("writev", libc::SYS_writev, WRITES),
    ("ftruncate", libc::SYS_ftruncate, WRITES),
    ("fallocate", libc::SYS_fallocate, WRITES),
    ("renameat", libc::SYS_renameat, SPACE),
    ("renameat2", libc::SYS_renameat2, SPACE),
    ("mkdirat", libc::SYS_mkdirat, SPACE),
    ("mknodat", libc::SYS_mknodat, SPACE),
    ("linkat", libc::SYS_linkat, SPACE),
    ("symlinkat", libc::SYS_symlinkat, SPACE),
    ("unlinkat", libc::SYS_unlinkat, READS),
    ("fchmod", libc::SYS_fchmod, READS),
    ("fchmodat", libc::SYS_fchmodat, READS),
    ("fchownat", libc::SYS_fchownat, READS),
    ("flock", libc::SYS_flock, &[Errno::EINTR, Errno::ENOLCK]),
    ("mount", libc::SYS_mount, KERNEL),
    ("umount2", libc::SYS_umount2, KERNEL),
    ("pivot_root", libc::SYS_pivot_root, KERNEL),
    ("open_tree", libc::SYS_open_tree, DESCRIPTORS),
    ("move_mount", libc::SYS_move_mount, KERNEL),
    ("fsopen", libc::SYS_fsopen, DESCRIPTORS),
    ("fsconfig", libc::SYS_fsconfig, KERNEL),
    ("fsmount", libc::SYS_fsmount, DESCRIPTORS),
    ("mount_setattr", libc::SYS_mount_setattr, KERNEL),
    ("clone", libc::SYS_clone, MEMORY),
    ("clone3", libc::SYS_clone3, MEMORY),
    ("unshare", libc::SYS_unshare, KERNEL),
    ("setns", libc::SYS_setns, KERNEL),
    ("execve", libc::SYS_execve, &[Errno::ENOMEM, Errno::EIO]),
    ("execveat", libc::SYS_execveat, &[Errno::ENOMEM, Errno::EIO]),
    ("pidfd_open", libc::SYS_pidfd_open, DESCRIPTORS),
    ("socket", libc::SYS_socket, DESCRIPTORS),
    ("socketpair", libc::SYS_socketpair, DESCRIPTORS),
    ("bind", libc::SYS_bind, KERNEL),
    ("listen", libc::SYS_listen, KERNEL),
    ("accept4", libc::SYS_accept4, DESCRIPTORS),
    ("connect", libc::SYS_connect, WAITS),
    ("sendmsg", libc::SYS_sendmsg, WAITS),
    ("sendto", libc::SYS_sendto, WAITS),
    ("recvmsg", libc::SYS_recvmsg, WAITS),
    ("recvfrom", libc::SYS_recvfrom, WAITS),
    ("pipe2", libc::SYS_pipe2, DESCRIPTORS),
    ("dup", libc::SYS_dup, DESCRIPTORS),
    ("dup3", libc::SYS_dup3, DESCRIPTORS),
    ("memfd_create", libc::SYS_memfd_create, DESCRIPTORS),
    ("epoll_create1", libc::SYS_epoll_create1, DESCRIPTORS),
    ("epoll_ctl", libc::SYS_epoll_ctl, KERNEL),
    ("timerfd_create", libc::SYS_timerfd_create, DESCRIPTORS),
    ("signalfd4", libc::SYS_signalfd4, DESCRIPTORS),
    ("eventfd2", libc::SYS_eventfd2, DESCRIPTORS),
    ("inotify_init1", libc::SYS_inotify_init1, DESCRIPTORS),
    ("inotify_add_watch", libc::SYS_inotify_add_watch, &[Errno::ENOSPC]),
    ("seccomp", libc::SYS_seccomp, KERNEL),
    ("waitid", libc::SYS_waitid, &[Errno::EINTR]),
    ("poll", POLL, WAITS),
    ("syncfs", libc::SYS_syncfs, READS),
];

#[cfg(target_arch = "x86_64")]
const POLL: libc::c_long = libc::SYS_poll;
#[cfg(not(target_arch = "x86_64"))]
const POLL: libc::c_long = libc::SYS_ppoll;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Shortages that last: what the machine is short of, how calls fail for it, and in which lists they are.
const SHORTAGES: &[(&str, Errno, &[&[Errno]])] = &[
    ("space", Errno::ENOSPC, &[SPACE, WRITES]),
    ("descriptors", Errno::EMFILE, &[FILES, DESCRIPTORS]),
    ("processes", Errno::EAGAIN, &[MEMORY]),
];

/// Tells whether a call of the table is one that a shortage makes fail.
fn is_short(shortage: &str, call: &str) -> bool {
    let ways = CALLS.iter().find(|(name, ..)| *name == call).map(|(.., ways)| *ways);
    let lists = SHORTAGES.iter().find(|(name, ..)| *name == shortage).map(|(.., lists)| *lists);
    ways.zip(lists).is_some_and(|(ways, lists)| lists.contains(&ways))
}

/// Names what happens in place of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Means that it fails.
    Fails(Errno),
    /// Names who calls is killed before it is made.
    Kills,
}

/// A place in a stage of the life of podctl's processes, written `STAGE/ROLE:CALL:N:FAULT`, such as `start/supervise:openat:17:EIO`;
/// or a shortage from a place of a whole life on, until it is lifted, of all roles: `any:SHORTAGE:N+`, such as `any:space:300+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The part of a life; calls are counted from its beginning on.
    pub stage: String,
    /// The command of podctl's, or the role of an internal process.
    pub role: String,
    /// The call's name.
    pub call: String,
    /// Tells which of these calls of that role, from 1.
    pub nth: usize,
    pub fault: Fault,
    /// Tells that all later ones fail as well, of every role, for the shortage that `call` names.
    pub lasts: bool,
}

impl Point {
    /// Tells whether it is one of these calls.
    pub fn is_of(&self, (stage, role, call): &Place) -> bool {
        !self.lasts && self.stage == *stage && self.role == *role && self.call == *call
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lasts {
            return write!(f, "any:{}:{}+", self.call, self.nth);
        }
        write!(f, "{}/{}:{}:{}:", self.stage, self.role, self.call, self.nth)?;
        match self.fault {
            Fault::Fails(errno) => write!(f, "{errno:?}"),
            Fault::Kills => write!(f, "kill"),
        }
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Point, String> {
        let wrong = || format!("{text:?} is no point; write STAGE/ROLE:CALL:N:FAULT or any:SHORTAGE:N+");
        let parts: Vec<_> = text.split(':').collect();
        if let ["any", shortage, nth] = parts[..] {
            let nth = nth.strip_suffix('+').and_then(|nth| nth.parse().ok()).ok_or_else(wrong)?;
            return new_shortage(shortage, nth).ok_or_else(wrong);
        }
        let [place, call, nth, fault] = parts[..] else { return Err(wrong()) };
        let (stage, role) = place.split_once('/').ok_or_else(wrong)?;
        let ways = CALLS.iter().find(|(name, ..)| *name == call).ok_or_else(wrong)?.2;
        let fails =
            || ways.iter().find(|errno| format!("{errno:?}") == fault).map(|errno| Fault::Fails(*errno));
        let fault = if fault == "kill" { Fault::Kills } else { fails().ok_or_else(wrong)? };
        let nth = nth.parse().map_err(|_| wrong())?;
        let [stage, role, call] = [stage, role, call].map(str::to_owned);
        Ok(Point { stage, role, call, nth, fault, lasts: false })
    }
}

fn new_shortage(shortage: &str, nth: usize) -> Option<Point> {
    let (name, errno, _) = SHORTAGES.iter().find(|(name, ..)| *name == shortage)?;
    let [stage, role, call] = ["whole", "any", *name].map(str::to_owned);
    Some(Point { stage, role, call, nth, fault: Fault::Fails(*errno), lasts: true })
}

/// Tells where calls are made: in which stage, by which role, which call.
pub type Place = (String, String, String);

/// Tells how often each call was made.
pub type Counts = BTreeMap<Place, usize>;

/// The ways in which what is done at a place can go wrong.
pub fn list_faults(call: &str) -> Vec<Fault> {
    let ways = CALLS.iter().find(|(name, ..)| *name == call).expect("counted by its name").2;
    ways.iter().map(|errno| Fault::Fails(*errno)).chain([Fault::Kills]).collect()
}

/// The point at the n-th call of a place.
pub fn new_point((stage, role, call): &Place, nth: usize, fault: Fault) -> Point {
    Point { stage: stage.clone(), role: role.clone(), call: call.clone(), nth, fault, lasts: false }
}

/// Every shortage that a life with these counts can meet, by the number of calls before which it can begin.
pub fn list_shortages(counts: &Counts) -> Vec<(Point, usize)> {
    let of = |name: &str| -> usize {
        let short = counts.iter().filter(|((_, _, call), _)| is_short(name, call));
        short.map(|(_, count)| count).sum()
    };
    SHORTAGES.iter().filter_map(|(name, ..)| Some((new_shortage(name, 1)?, of(name)))).collect()
}

/// Says what is heard of while a job is done.
pub enum Watch {
    /// Means that every call of the table is counted.
    Count,
    /// Means that calls fail at these points, at most one in a stage. Only what they name is heard of: each notice costs a call
    /// as much as a hundred others.
    Break(Vec<Point>),
}

impl Watch {
    /// Numbers of the calls that are heard of.
    fn list_numbers(&self) -> Vec<libc::c_long> {
        let is_heard = |call: &str| match self {
            Watch::Count => true,
            Watch::Break(points) => {
                points.iter().any(|p| if p.lasts { is_short(&p.call, call) } else { p.call == call })
            }
        };
        CALLS.iter().filter(|(name, ..)| is_heard(name)).map(|(_, number, _)| *number).collect()
    }
}

/// Holds what came of a job beneath the filter.
pub struct Report<T> {
    pub result: T,
    pub counts: Counts,
    /// All processes that the job has started have ended.
    pub is_over: bool,
}

/// Holds what a job has to do with its injector.
pub struct Control<'a>(&'a Shared);

impl Control<'_> {
    /// Begins a stage: from now on its calls are counted, and its point is one where a call fails.
    pub fn begin(&self, stage: &str) {
        self.0.state.lock().unwrap().stage = Some(stage.to_owned());
        self.0.is_armed.store(true, Ordering::SeqCst);
    }

    /// From now on nothing fails any more, until another stage begins; tells whether something has.
    pub fn disarm(&self) -> bool {
        self.0.is_armed.store(false, Ordering::SeqCst);
        std::mem::take(&mut self.0.state.lock().unwrap().is_hit)
    }
}

struct Shared {
    watch: Watch,
    is_armed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stage: Option<String>,
    /// The stage's point was come to.
    is_hit: bool,
    counts: Counts,
    /// Number of calls so far that the point's shortage makes fail.
    short: usize,
}

/// Does a job in a thread of its own; what it starts is heard of.
pub fn run_beneath<T: Send>(watch: Watch, job: impl FnOnce(&Control<'_>) -> T + Send) -> Report<T> {
    let shared = Shared { watch, is_armed: AtomicBool::new(false), state: Mutex::default() };
    let is_done = AtomicBool::new(false);
    let (listener, heard) = mpsc::channel();
    let (result, is_over) = thread::scope(|scope| {
        let (shared, is_done) = (&shared, &is_done);
        let worker = scope.spawn(move || {
            listener.send(install_filter(&shared.watch.list_numbers())).unwrap();
            let result = job(&Control(shared));
            is_done.store(true, Ordering::SeqCst);
            result
        });
        let server = scope.spawn(move || serve(&heard.recv().unwrap(), shared, is_done));
        let result = worker.join();
        is_done.store(true, Ordering::SeqCst);
        (result.unwrap_or_else(|e| std::panic::resume_unwind(e)), server.join().unwrap())
    });
    Report { result, counts: shared.state.into_inner().unwrap().counts, is_over }
}

/// The kernel's SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP.
const WAKE_UP_HERE: u64 = 1;

/// Puts this thread, and all that it starts, beneath the filter; returns where its calls are heard of.
fn install_filter(numbers: &[libc::c_long]) -> OwnedFd {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |k: u32, jt: usize, jf: usize| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: u8::try_from(jt).unwrap(),
        jf: u8::try_from(jf).unwrap(),
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let calls = numbers.len();
    let mut program = vec![statement(load, 4), jump(ARCHITECTURE, 0, calls + 1), statement(load, 0)];
    program.extend(numbers.iter().enumerate().map(|(at, number)| jump(*number as u32, calls - at, 0)));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the program lives while the kernel copies it; the descriptor that comes is nobody else's.
    unsafe {
        let fd = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter);
        assert!(fd >= 0, "cannot install a filter: {}", Errno::last());
        // Who asks and who answers are woken on one processor: twice as fast, where the kernel can do it (6.6).
        let _ = libc::ioctl(fd as i32, libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, WAKE_UP_HERE);
        OwnedFd::from_raw_fd(fd as i32)
    }
}

/// Answers for each call until nobody is left beneath the filter; whether that came in time.
fn serve(listener: &OwnedFd, shared: &Shared, is_done: &AtomicBool) -> bool {
    let mut done_since: Option<Instant> = None;
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(100u8));
        let events = fds[0].revents().unwrap_or(PollFlags::empty());
        if events.contains(PollFlags::POLLIN) {
            answer(listener, shared);
        } else if events.contains(PollFlags::POLLHUP) {
            return true;
        }
        if is_done.load(Ordering::SeqCst) && done_since.get_or_insert_with(Instant::now).elapsed() > LEAVING {
            return false;
        }
    }
}

fn answer(listener: &OwnedFd, shared: &Shared) {
    // SAFETY: plain numbers; the kernel wants them to be zero.
    let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the struct, which is of the size that the request says.
    if unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notice) } < 0 {
        return; // who called has ended
    }
    let call = CALLS.iter().find(|(_, number, _)| *number == libc::c_long::from(notice.data.nr));
    let fault = call.and_then(|(name, ..)| choose_fault(shared, &notice, name));
    // SAFETY: as above.
    let mut reply: libc::seccomp_notif_resp = unsafe { std::mem::zeroed() };
    reply.id = notice.id;
    match fault {
        Some(Fault::Fails(errno)) => reply.error = -(errno as i32),
        Some(Fault::Kills) => kill(notice.pid),
        None => reply.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    }
    // SAFETY: as above; one that has ended meanwhile needs no answer.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut reply) };
}

fn choose_fault(shared: &Shared, notice: &libc::seccomp_notif, call: &str) -> Option<Fault> {
    if !shared.is_armed.load(Ordering::SeqCst) {
        return None;
    }
    let role = read_role(notice.pid)?;
    let points: &[Point] = if let Watch::Break(points) = &shared.watch { points } else { &[] };
    if is_never_short(notice, call, points.iter().any(|point| point.lasts)) {
        return None;
    }
    let mut state = shared.state.lock().unwrap();
    let stage = state.stage.clone()?;
    let count = state.counts.entry((stage.clone(), role.clone(), call.to_owned())).or_default();
    *count += 1;
    let count = *count;
    let point = points.iter().find(|point| point.stage == stage)?;
    let meant = if point.lasts {
        state.short += usize::from(is_short(&point.call, call));
        is_short(&point.call, call) && state.short >= point.nth
    } else {
        point.role == role && point.call == call && point.nth == count
    };
    state.is_hit |= meant;
    meant.then_some(point.fault)
}

/// Tells whether a call reads or writes what lies on no disk and fails for nothing that a machine can be short of: an eventfd,
/// a timer. The libraries take that for impossible: a runtime's waker whose eventfd is not written ends its process. Pipes and
/// sockets may break, but none is full for as long as a disk is.
fn is_never_short(notice: &libc::seccomp_notif, call: &str, lasts: bool) -> bool {
    if !matches!(call, "read" | "write" | "writev" | "pwrite64" | "ftruncate" | "fallocate") {
        return false;
    }
    let link = fs::read_link(format!("/proc/{}/fd/{}", notice.pid, notice.data.args[0] as i32));
    let of_memory = |link: &str| ["/dev/", "/proc/", "/memfd:"].iter().any(|dir| link.starts_with(dir));
    link.is_ok_and(|link| match link.to_str() {
        Some(link) if lasts => !link.starts_with('/') || of_memory(link),
        link => link.is_some_and(|link| link.starts_with("anon_inode:")),
    })
}

/// The role of a process of podctl's, or its command; none of any other.
fn read_role(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let program = words.next()?;
    if program != "podctl" && !program.ends_with("/podctl") {
        return None;
    }
    match words.next()?.as_str() {
        "internal" => words.next(),
        command => Some(command.to_owned()),
    }
}

/// Kills the process that the thread is of.
fn kill(thread: u32) {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    if let Some(group) = group {
        // Before it is answered: it cannot have ended, and its number is its own.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
    }
}
