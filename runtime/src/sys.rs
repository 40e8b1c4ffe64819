//! The one place for system calls. Typed and safe outside; nothing here allocates or locks, so that all of it may run
//! between `clone3` and `execve` of a program with threads. Errors are bare `errno`s: the plan they came from names them.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::resource::Resource;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::interruption::repeat_interrupted;

pub(crate) type Sys<T> = Result<T, Errno>;

pub(crate) const EMPTY: &CStr = c"";
pub(crate) const OPEN_TREE_CLONE: libc::c_uint = 1;
pub(crate) const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
pub(crate) const AT_RECURSIVE: libc::c_uint = 0x8000;
pub(crate) const AT_EMPTY_PATH: libc::c_uint = libc::AT_EMPTY_PATH as libc::c_uint;
pub(crate) const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Flags of `mount_setattr(2)` and `fsmount(2)`, from linux/mount.h.
pub(crate) mod attr {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    pub(crate) const ATIME: u64 = 0x70;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const IDMAP: u64 = 0x10_0000;
    pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;
}

const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_EMPTY_PATHS: libc::c_uint = 0x4 | 0x40;

/// `struct clone_args` of linux/sched.h, version 2 (with `cgroup`).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

macro_rules! call {
    ($number:expr $(, $arg:expr)* $(,)?) => {
        // SAFETY: every pointer handed over comes from a live reference of the caller, with the length the kernel expects.
        Errno::result(unsafe { libc::syscall($number $(, $arg)*) })
    };
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// Forks. The child sees `None`; the parent the child's id and, unless `CLONE_PARENT` is given, its pidfd.
pub(crate) fn clone3(flags: u64, cgroup: Option<RawFd>) -> Sys<Option<(libc::pid_t, Option<OwnedFd>)>> {
    let mut pidfd: RawFd = -1;
    let parented = flags & libc::CLONE_PARENT as u64 != 0;
    let mut args = CloneArgs { flags: flags | CLONE_CLEAR_SIGHAND, ..CloneArgs::default() };
    if !parented {
        args.flags |= libc::CLONE_PIDFD as u64;
        args.pidfd = ptr::from_mut(&mut pidfd) as u64;
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd as u64;
    }
    match call!(libc::SYS_clone3, ptr::from_mut(&mut args), size_of::<CloneArgs>())? {
        0 => Ok(None),
        pid => Ok(Some((pid as libc::pid_t, (!parented).then(|| owned(pidfd.into()))))),
    }
}

/// Forks; the child is the caller's sibling and sees `None`.
pub(crate) fn fork_sibling() -> Sys<Option<libc::pid_t>> {
    // Not `clone3`, which filters cannot look into and so forbid.
    let flags = libc::CLONE_PARENT as libc::c_ulong;
    let pid = call!(
        libc::SYS_clone,
        flags,
        0 as libc::c_ulong,
        0 as libc::c_ulong,
        0 as libc::c_ulong,
        0 as libc::c_ulong
    )?;
    Ok((pid > 0).then_some(pid as libc::pid_t))
}

pub(crate) fn exit(code: libc::c_int) -> ! {
    // SAFETY: `_exit` runs no handlers and touches no memory.
    unsafe { libc::_exit(code) }
}

pub(crate) fn setns(fd: RawFd, flags: libc::c_int) -> Sys<()> {
    call!(libc::SYS_setns, fd, flags).map(drop)
}

pub(crate) fn unshare(flags: libc::c_int) -> Sys<()> {
    call!(libc::SYS_unshare, flags).map(drop)
}

pub(crate) fn setsid() -> Sys<()> {
    call!(libc::SYS_setsid).map(drop)
}

pub(crate) fn dup3(from: RawFd, to: RawFd) -> Sys<()> {
    call!(libc::SYS_dup3, from, to, 0).map(drop)
}

/// Duplicates `fd` to the lowest free number from `min` on, with CLOEXEC.
pub(crate) fn dup_from(fd: RawFd, min: RawFd) -> Sys<RawFd> {
    call!(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, min).map(|fd| fd as RawFd)
}

pub(crate) fn cloexec_range(first: libc::c_uint, last: libc::c_uint) -> Sys<()> {
    call!(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC).map(drop)
}

pub(crate) fn close_range(first: libc::c_uint, last: libc::c_uint) -> Sys<()> {
    call!(libc::SYS_close_range, first, last, 0).map(drop)
}

pub(crate) fn read(fd: RawFd, buffer: &mut [u8]) -> Sys<usize> {
    let read = repeat_interrupted(|| call!(libc::SYS_read, fd, buffer.as_mut_ptr(), buffer.len()));
    read.map(|n| n as usize)
}

pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> Sys<usize> {
    call!(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()).map(|n| n as usize)
}

pub(crate) fn open(path: &CStr, flags: libc::c_int) -> Sys<OwnedFd> {
    call!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, 0).map(owned)
}

/// Opens `path` as if `root` were `/`: no symlink, absolute or with `..`, leads out of it, and no magic link is followed.
pub(crate) fn open_in_root(root: RawFd, path: &CStr, flags: libc::c_int, mode: u32) -> Sys<OwnedFd> {
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: mode.into(),
        resolve: libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
    };
    loop {
        match call!(libc::SYS_openat2, root, path.as_ptr(), ptr::from_ref(&how), size_of::<OpenHow>()) {
            // A rename raced with the walk; the kernel asks to try again.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other.map(owned),
        }
    }
}

pub(crate) fn mkdirat(dir: RawFd, name: &CStr, mode: u32) -> Sys<()> {
    call!(libc::SYS_mkdirat, dir, name.as_ptr(), mode).map(drop)
}

pub(crate) fn mknodat(dir: RawFd, name: &CStr, mode: u32, device: u64) -> Sys<()> {
    call!(libc::SYS_mknodat, dir, name.as_ptr(), mode, device).map(drop)
}

pub(crate) fn symlinkat(target: &CStr, dir: RawFd, name: &CStr) -> Sys<()> {
    call!(libc::SYS_symlinkat, target.as_ptr(), dir, name.as_ptr()).map(drop)
}

pub(crate) fn unlinkat(dir: RawFd, name: &CStr) -> Sys<()> {
    call!(libc::SYS_unlinkat, dir, name.as_ptr(), 0).map(drop)
}

pub(crate) fn fchown(fd: RawFd, uid: u32, gid: u32) -> Sys<()> {
    call!(libc::SYS_fchown, fd, uid, gid).map(drop)
}

pub(crate) fn fstat(fd: RawFd) -> Sys<libc::stat> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is written whole by a successful call and read only then.
    Errno::result(unsafe { libc::fstat(fd, stat.as_mut_ptr()) }).map(|_| unsafe { stat.assume_init() })
}

/// The mount and the inode of an open file: no other file has the same.
pub(crate) fn place_of(fd: RawFd) -> Sys<(u64, u64)> {
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_MNT_ID | libc::STATX_INO;
    call!(libc::SYS_statx, fd, EMPTY.as_ptr(), libc::AT_EMPTY_PATH, mask, found.as_mut_ptr())?;
    // SAFETY: plain data, zero before and filled by a successful call.
    let found = unsafe { found.assume_init() };
    Ok((found.stx_mnt_id, found.stx_ino))
}

pub(crate) fn getpid() -> libc::pid_t {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

pub(crate) fn chdir(path: &CStr) -> Sys<()> {
    call!(libc::SYS_chdir, path.as_ptr()).map(drop)
}

pub(crate) fn fchdir(fd: RawFd) -> Sys<()> {
    call!(libc::SYS_fchdir, fd).map(drop)
}

/// Tells whether the working directory lies under the root (the kernel marks others "(unreachable)", CVE-2024-21626).
pub(crate) fn cwd_is_reachable() -> Sys<bool> {
    let mut buffer = [0u8; libc::PATH_MAX as usize];
    call!(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()).map(|_| buffer[0] == b'/')
}

pub(crate) fn mount(source: &CStr, target: &CStr, fstype: &CStr, flags: u64, data: &CStr) -> Sys<()> {
    call!(libc::SYS_mount, source.as_ptr(), target.as_ptr(), fstype.as_ptr(), flags, data.as_ptr()).map(drop)
}

pub(crate) fn umount_detach(path: &CStr) -> Sys<()> {
    call!(libc::SYS_umount2, path.as_ptr(), libc::MNT_DETACH).map(drop)
}

pub(crate) fn pivot_root(new: &CStr, old: &CStr) -> Sys<()> {
    call!(libc::SYS_pivot_root, new.as_ptr(), old.as_ptr()).map(drop)
}

/// Returns a detached copy of the mount at `path` below `dir` (of `dir` itself when `path` is empty).
pub(crate) fn clone_tree(dir: RawFd, path: &CStr, recursive: bool) -> Sys<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    call!(libc::SYS_open_tree, dir, path.as_ptr(), flags).map(owned)
}

pub(crate) fn move_mount(tree: RawFd, target: RawFd) -> Sys<()> {
    call!(libc::SYS_move_mount, tree, EMPTY.as_ptr(), target, EMPTY.as_ptr(), MOVE_MOUNT_EMPTY_PATHS)
        .map(drop)
}

/// Mounts on a name in a directory, which is not followed should it be a link.
pub(crate) fn move_mount_to(tree: RawFd, dir: RawFd, name: &CStr) -> Sys<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
    call!(libc::SYS_move_mount, tree, EMPTY.as_ptr(), dir, name.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH).map(drop)
}

pub(crate) fn mount_setattr(tree: RawFd, recursive: bool, attr: &MountAttr) -> Sys<()> {
    let flags = if recursive { AT_EMPTY_PATH | AT_RECURSIVE } else { AT_EMPTY_PATH };
    call!(libc::SYS_mount_setattr, tree, EMPTY.as_ptr(), flags, ptr::from_ref(attr), size_of::<MountAttr>())
        .map(drop)
}

pub(crate) fn fsopen(fstype: &CStr) -> Sys<OwnedFd> {
    call!(libc::SYS_fsopen, fstype.as_ptr(), 1).map(owned)
}

pub(crate) fn fsconfig(context: RawFd, key: &CStr, value: Option<&CStr>) -> Sys<()> {
    let (command, value) =
        value.map_or((FSCONFIG_SET_FLAG, ptr::null()), |v| (FSCONFIG_SET_STRING, v.as_ptr()));
    call!(libc::SYS_fsconfig, context, command, key.as_ptr(), value, 0).map(drop)
}

pub(crate) fn fscreate(context: RawFd, attr: u64) -> Sys<OwnedFd> {
    let null = ptr::null::<libc::c_char>();
    call!(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, null, null, 0)?;
    call!(libc::SYS_fsmount, context, 1, attr as libc::c_uint).map(owned)
}

pub(crate) fn sethostname(name: &CStr) -> Sys<()> {
    call!(libc::SYS_sethostname, name.as_ptr(), name.count_bytes()).map(drop)
}

pub(crate) fn setdomainname(name: &CStr) -> Sys<()> {
    call!(libc::SYS_setdomainname, name.as_ptr(), name.count_bytes()).map(drop)
}

pub(crate) fn setrlimit(resource: Resource, soft: u64, hard: u64) -> Sys<()> {
    let limit = [soft, hard];
    call!(libc::SYS_prlimit64, 0, resource as libc::c_long, limit.as_ptr(), ptr::null::<u64>()).map(drop)
}

pub(crate) fn umask(mask: u32) {
    let _ = call!(libc::SYS_umask, mask); // Gives the old mask.
}

// The identity calls go to the kernel directly: glibc's would signal the threads of the parent, which the child does not have.

pub(crate) fn setgroups(groups: &[u32]) -> Sys<()> {
    call!(libc::SYS_setgroups, groups.len(), groups.as_ptr()).map(drop)
}

pub(crate) fn setresgid(gid: u32) -> Sys<()> {
    call!(libc::SYS_setresgid, gid, gid, gid).map(drop)
}

pub(crate) fn setresuid(uid: u32) -> Sys<()> {
    call!(libc::SYS_setresuid, uid, uid, uid).map(drop)
}

pub(crate) fn prctl(option: libc::c_int, a: u64, b: u64) -> Sys<()> {
    call!(libc::SYS_prctl, option, a, b, 0, 0).map(drop)
}

/// Does something with each capability that this kernel has, by number.
pub(crate) fn every_capability(act: impl Fn(u64) -> Sys<()>) -> Sys<()> {
    for capability in 0..64 {
        match act(capability) {
            // One more than this kernel's last capability.
            Err(Errno::EINVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

/// Sets the thread's capability sets; bit n is capability n.
pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> Sys<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let word = |set: u64, high: bool| if high { (set >> 32) as u32 } else { set as u32 };
    let data =
        [false, true].map(|high| [word(effective, high), word(permitted, high), word(inheritable, high)]);
    call!(libc::SYS_capset, header.as_ptr(), data.as_ptr()).map(drop)
}

pub(crate) fn seccomp_filter(filter: &[libc::sock_filter], flags: u64) -> Sys<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    call!(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, ptr::from_ref(&program)).map(drop)
}

/// The null-terminated array of C strings, as `execve` wants it. Points into strings that must outlive it.
pub(crate) struct Pointers<'a> {
    pointers: Vec<*const libc::c_char>,
    _strings: std::marker::PhantomData<&'a CStr>,
}

impl<'a> Pointers<'a> {
    pub(crate) fn new(strings: impl Iterator<Item = &'a CStr>) -> Self {
        let pointers = strings.map(CStr::as_ptr).chain([ptr::null()]).collect();
        Pointers { pointers, _strings: std::marker::PhantomData }
    }
}

/// Replaces the process; returns only the reason why it could not.
pub(crate) fn execveat(
    dir: RawFd,
    path: &CStr,
    args: &Pointers<'_>,
    env: &Pointers<'_>,
    flags: libc::c_int,
) -> Errno {
    call!(libc::SYS_execveat, dir, path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr(), flags)
        .expect_err("execveat returns only with an error")
}

/// Does as [`execveat`], with lists that end with null and lie wherever the caller keeps them.
pub(crate) fn execute(
    path: &CStr,
    args: *const *const libc::c_char,
    env: *const *const libc::c_char,
) -> Errno {
    call!(libc::SYS_execveat, libc::AT_FDCWD, path.as_ptr(), args, env, 0)
        .expect_err("execveat returns only with an error")
}

/// Private memory, zero and writable.
pub(crate) fn map_memory(size: usize) -> Sys<*mut u8> {
    let (mode, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    call!(libc::SYS_mmap, ptr::null::<u8>(), size, mode, kind, -1, 0).map(|base| base as *mut u8)
}

/// Gives back what [`map_memory`] gave.
pub(crate) fn unmap_memory(base: *mut u8, size: usize) {
    // It can fail only for a wrong range.
    let _ = call!(libc::SYS_munmap, base, size);
}

/// Every signal back to its default, none blocked: what a program may expect to start with.
pub(crate) fn reset_signals() {
    /// The kernel's own `struct sigaction` of the default action; the C library keeps two signals to itself.
    const DEFAULT: [u64; 4] = [0; 4];
    const NONE: u64 = 0;
    for signal in 1..=64 {
        // SIGKILL and SIGSTOP are as they are.
        let _ = call!(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), ptr::null_mut::<u64>(), 8);
    }
    let _ =
        call!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, ptr::from_ref(&NONE), ptr::null_mut::<u64>(), 8);
}

/// Takes back what a process inherits of whoever started it, beside descriptors and variables: its umask, priorities,
/// timer slack, personality and lowered limits. What only a privileged process may take back stays without privileges.
pub(crate) fn reset_inheritance() {
    const BEST_EFFORT: u64 = 0;
    const TIMER_SLACK_NANOSECONDS: u64 = 50_000;
    umask(0o022);
    // The only answer to a refusal is to go on with what there is.
    let _ = call!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, 0);
    let _ = call!(libc::SYS_ioprio_set, 1, 0, BEST_EFFORT);
    // SAFETY: the all-zero parameters are those of an ordinary process.
    let ordinary: libc::sched_param = unsafe { std::mem::zeroed() };
    let _ = call!(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, ptr::from_ref(&ordinary));
    let _ = call!(libc::SYS_personality, 0);
    let _ = prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NANOSECONDS, 0);
    let _ = prctl(libc::PR_SET_THP_DISABLE, 0, 0);
    if let Ok(file) = open(c"/proc/self/oom_score_adj", libc::O_WRONLY) {
        let _ = write(file.as_raw_fd(), b"0"); // Without privileges it can only rise.
    }
    reset_limits();
}

/// Gives the limits of a service of the machine, or what is nearest to them: the hard limit as soft limit.
fn reset_limits() {
    const INFINITY: u64 = libc::RLIM_INFINITY;
    /// Chosen as the kernel counts open files by default, and for the stack as everywhere.
    const FILES: u64 = 1 << 20;
    const STACK: u64 = 8 << 20;
    let limits = [
        (Resource::RLIMIT_CPU, INFINITY, INFINITY),
        (Resource::RLIMIT_FSIZE, INFINITY, INFINITY),
        (Resource::RLIMIT_DATA, INFINITY, INFINITY),
        (Resource::RLIMIT_STACK, STACK, INFINITY),
        (Resource::RLIMIT_CORE, INFINITY, INFINITY),
        (Resource::RLIMIT_RSS, INFINITY, INFINITY),
        (Resource::RLIMIT_AS, INFINITY, INFINITY),
        (Resource::RLIMIT_LOCKS, INFINITY, INFINITY),
        (Resource::RLIMIT_NOFILE, FILES, FILES),
    ];
    for (resource, soft, hard) in limits {
        if setrlimit(resource, soft, hard).is_err()
            && let Ok(most) = hard_limit(resource)
        {
            // Below the hard limit everybody may go.
            let _ = setrlimit(resource, soft.min(most), most);
        }
    }
}

fn hard_limit(resource: Resource) -> Sys<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    call!(
        libc::SYS_prlimit64,
        0,
        resource as libc::c_long,
        ptr::null::<libc::rlimit64>(),
        ptr::from_mut(&mut limit)
    )?;
    Ok(limit.rlim_max)
}

/// Returns a memory file with the content of `source`, sealed against every change.
pub(crate) fn sealed_copy(source: RawFd) -> Sys<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let copy = owned(call!(libc::SYS_memfd_create, c"program".as_ptr(), flags)?);
    let mut offset: libc::off_t = 0;
    while call!(libc::SYS_sendfile, copy.as_raw_fd(), source, ptr::from_mut(&mut offset), 1 << 30)? > 0 {}
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    call!(libc::SYS_fcntl, copy.as_raw_fd(), libc::F_ADD_SEALS, seals)?;
    Ok(copy)
}

pub(crate) fn pidfd_open(pid: libc::pid_t) -> Sys<OwnedFd> {
    call!(libc::SYS_pidfd_open, pid, 0).map(owned)
}

pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Sys<()> {
    call!(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, ptr::null::<libc::siginfo_t>(), 0).map(drop)
}

/// Tells whether a file has an extended attribute of that name.
pub(crate) fn has_attribute(path: &std::path::Path, name: &CStr) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    call!(libc::SYS_getxattr, path.as_ptr(), name.as_ptr(), ptr::null_mut::<u8>(), 0)
        .is_ok_and(|length| length > 0)
}

/// Gives the process a session keyring of its own, empty: that of whoever started the caller stays behind.
pub(crate) fn new_session_keyring() -> Sys<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    call!(libc::SYS_keyctl, JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>()).map(drop)
}

/// Tells whether a descriptor is of the kernel's own proc, and of nothing that looks like it (CVE-2019-16884).
pub(crate) fn is_proc(fd: RawFd) -> Sys<bool> {
    // SAFETY: the caller has the descriptor open for as long as this call takes.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(fstatfs(fd)?.filesystem_type() == PROC_SUPER_MAGIC)
}

/// `struct bpf_insn` of linux/bpf.h. `registers` has the one written to in its lower half.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) value: i32,
}

/// Hands the kernel an eBPF program that decides on devices.
pub(crate) fn load_device_program(program: &[Instruction]) -> Sys<OwnedFd> {
    const PROG_LOAD: libc::c_int = 5;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    /// The first members of `union bpf_attr`'s struct for `BPF_PROG_LOAD`.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u64; 3],
    }
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 3],
    };
    call!(libc::SYS_bpf, PROG_LOAD, ptr::from_ref(&load), size_of::<Load>()).map(owned)
}

/// Makes a program decide for a cgroup and all below it, besides those that are there already.
pub(crate) fn attach_device_program(cgroup: RawFd, program: RawFd) -> Sys<()> {
    const PROG_ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let attach = [cgroup as u32, program as u32, CGROUP_DEVICE, ALLOW_MULTI];
    call!(libc::SYS_bpf, PROG_ATTACH, attach.as_ptr(), size_of_val(&attach)).map(drop)
}

pub(crate) fn fchownat(dir: RawFd, name: &CStr, uid: u32, gid: u32) -> Sys<()> {
    call!(libc::SYS_fchownat, dir, name.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW).map(drop)
}

/// An ioctl that takes a plain number and gives one.
pub(crate) fn ioctl(fd: RawFd, request: libc::Ioctl, arg: u64) -> Sys<i32> {
    call!(libc::SYS_ioctl, fd, request, arg).map(|value| value as i32)
}

pub(crate) fn set_window_size(fd: RawFd, (rows, columns): (u16, u16)) -> Sys<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    call!(libc::SYS_ioctl, fd, libc::TIOCSWINSZ, ptr::from_ref(&size)).map(drop)
}

pub(crate) fn unlock_pty(master: RawFd) -> Sys<()> {
    let zero: libc::c_int = 0;
    call!(libc::SYS_ioctl, master, libc::TIOCSPTLCK, ptr::from_ref(&zero)).map(drop)
}

/// Sends one descriptor over a Unix socket.
pub(crate) fn send_fd(socket: RawFd, fd: RawFd) -> Sys<()> {
    // SAFETY: all of these are plain data for which zero is a value.
    let (mut message, mut control): (libc::msghdr, [u64; 4]) = unsafe { std::mem::zeroed() };
    let mut byte = 0u8;
    let mut data = libc::iovec { iov_base: ptr::from_mut(&mut byte).cast(), iov_len: 1 };
    message.msg_iov = &mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the control buffer is aligned for, and larger than, one cmsghdr with one descriptor.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
    }
    call!(libc::SYS_sendmsg, socket, ptr::from_ref(&message), libc::MSG_NOSIGNAL).map(drop)
}
