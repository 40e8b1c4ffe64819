//! Carries out a plan in the new process: one small function a step, system calls only, no memory is allocated. What is
//! opened here stays open with CLOEXEC; the program's start closes it.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

use nix::errno::Errno;

use crate::arrival::Arrival;
use crate::plan::{Action, CgroupHierarchy, Kind, MOST_OWN, Progress, Step};
use crate::process;
use crate::pty;
use crate::start_trace;
use crate::sys::{self, MountAttr, Pointers, Sys, attr};

const PATH_ONLY: libc::c_int = libc::O_PATH;

/// The options of a new file system, most with a value.
type FsOptions = [(std::ffi::CString, Option<std::ffi::CString>)];

/// Says that something would be mounted in proc, or that a file which has to be in proc is not.
pub(crate) const IN_PROC: Errno = Errno::EXDEV;

/// Names what may be covered in proc, as other runtimes allow it: files of lxcfs's, which tell a container
/// its own limits.
const COVERED_IN_PROC: [&CStr; 8] = [
    c"proc/cpuinfo",
    c"proc/diskstats",
    c"proc/loadavg",
    c"proc/meminfo",
    c"proc/slabinfo",
    c"proc/stat",
    c"proc/swaps",
    c"proc/uptime",
];

/// Marks the message in which a traced child tells when it has done a step, in microseconds.
pub(crate) const DONE: u32 = 1 << 31;

/// Marks the message in which the process tells the number of the one that goes on in its place.
pub(crate) const INSIDE: u32 = u32::MAX;

/// Marks the message in which the process tells that all is made and it waits for its turn.
pub(crate) const MADE: u32 = u32::MAX - 1;

/// Runs the steps; reports the first that fails, by its index, and ends the process.
pub(crate) fn carry_out(
    steps: &[Step],
    (args, env): (&Pointers<'_>, &Pointers<'_>),
    arrival: Option<&Arrival>,
    report: RawFd,
) -> ! {
    let mut progress = Progress { root: -1, null: -1, report, own: [-1; MOST_OWN], arrival };
    let traced = start_trace::trace_zero();
    for (index, step) in steps.iter().enumerate() {
        if let Err(errno) = run(&step.action, &mut progress, args, env) {
            crate::spawn::write_pair(progress.report, index as u32, errno as i32);
            break;
        }
        if let Some(zero) = traced {
            let at = start_trace::now().saturating_sub(zero) / 1000;
            crate::spawn::write_pair(progress.report, DONE | index as u32, at as i32);
        }
    }
    sys::exit(127)
}

fn run(action: &Action, progress: &mut Progress<'_>, args: &Pointers<'_>, env: &Pointers<'_>) -> Sys<()> {
    let root = progress.root;
    match action {
        Action::JoinCgroup(procs) => {
            procs.iter().try_for_each(|fd| sys::write(fd.as_raw_fd(), b"0").map(drop))
        }
        Action::Setns { fd, flags } => sys::setns(fd.as_raw_fd(), *flags),
        Action::Unshare(flags) => sys::unshare(*flags),
        Action::NewSession => sys::setsid(),
        Action::NewKeyring => process::leave_session_keyring(),
        Action::AwaitTurn(turn) => await_turn(turn.as_raw_fd(), progress),
        Action::Streams(streams) => redirect_streams(streams, progress),
        Action::CloseOthers(keep) => process::close_all_but(keep.iter().copied().chain([progress.report])),
        Action::ForkInside(_) => fork_inside(progress),
        Action::Undumpable => sys::prctl(libc::PR_SET_DUMPABLE, 0, 0),
        Action::WriteProc { path, value, optional } => {
            match write_proc(sys::open(path, libc::O_WRONLY), value) {
                Err(_) if *optional => Ok(()),
                other => other,
            }
        }
        Action::Propagation(flags) => sys::mount(c"none", c"/", c"none", *flags, c""),
        Action::Overlay { overlay, mountpoint, flags } => overlay.mount(mountpoint, *flags),
        Action::HoldOwn(path) => hold_own(progress, path),
        Action::MountOwn(path) => mount_own(progress, path),
        Action::BindRoot { path, attr } => {
            let tree = sys::clone_tree(libc::AT_FDCWD, path, true)?;
            if *attr != 0 {
                let attr = MountAttr { set: *attr, ..MountAttr::default() };
                sys::mount_setattr(tree.as_raw_fd(), true, &attr)?;
            }
            let place = sys::open(path, PATH_ONLY | libc::O_DIRECTORY)?;
            sys::move_mount(tree.as_raw_fd(), place.as_raw_fd())
        }
        Action::OpenRoot(path) => {
            progress.root = sys::open(path, PATH_ONLY | libc::O_DIRECTORY)?.into_raw_fd();
            Ok(())
        }
        Action::MountTree { tree, path, kind } => mount_on(root, tree.as_raw_fd(), path, *kind),
        Action::MountNew { fstype, options, attr, path } => mount_new(root, fstype, options, *attr, path),
        Action::BorrowProc { lender, attr, path } => borrow_proc(root, lender.as_raw_fd(), *attr, path),
        Action::MountCgroups { hierarchies, links, attr, path } => {
            mount_cgroups(root, hierarchies, links, *attr, path)
        }
        Action::MountSysfs { attr, path } => mount_sysfs(root, *attr, path),
        Action::MakeDirectory(path) => target(root, path, Kind::Directory).map(drop),
        Action::MakeNode { source, path, mode, device, owner } => {
            match make_node(root, path, *mode, *device, *owner) {
                Err(Errno::EPERM) => bind_node(root, source, path, *mode, *device),
                other => other,
            }
        }
        Action::MakeLink { path, target } => make_link(root, path, target),
        Action::OpenNull => open_null(progress),
        Action::Mask(path) => mask_path(progress, path),
        Action::ReadOnly(path) => read_only(root, path),
        Action::ReadOnlyRoot => {
            sys::mount_setattr(root, false, &MountAttr { set: attr::RDONLY, ..MountAttr::default() })
        }
        Action::WriteInRoot { path, value } => {
            write_proc(sys::open_in_root(root, path, libc::O_WRONLY, 0), value)
        }
        Action::Pivot => crate::root::pivot_root(root),
        Action::Hostname(name) => sys::sethostname(name),
        Action::Domainname(name) => sys::setdomainname(name),
        Action::Rlimit { resource, soft, hard } => sys::setrlimit(*resource, *soft, *hard),
        Action::Terminal { socket, size, console } => pty::open(socket.as_raw_fd(), *size, *console),
        Action::ClaimTerminal => sys::ioctl(0, libc::TIOCSCTTY, 0).map(drop),
        Action::OwnStreams(uid) => own_streams(*uid),
        Action::Umask(mask) => {
            sys::umask(*mask);
            Ok(())
        }
        Action::WorkingDirectory(path) => {
            sys::chdir(path)?;
            if sys::cwd_is_reachable()? { Ok(()) } else { Err(Errno::ENOENT) }
        }
        Action::NoNewPrivileges => sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0),
        Action::Bounding(keep) => drop_bounding(*keep),
        Action::Groups(groups) => sys::setgroups(groups),
        Action::Gid(gid) => sys::setresgid(*gid),
        Action::Uid(uid) => {
            sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
            sys::setresuid(*uid)?;
            sys::prctl(libc::PR_SET_KEEPCAPS, 0, 0)
        }
        Action::Capabilities { effective, permitted, inheritable, ambient } => {
            sys::capset(*effective, *permitted, *inheritable)?;
            raise_ambient(*ambient)
        }
        Action::Seccomp { filter, flags } => sys::seccomp_filter(filter, *flags),
        Action::DieWithParent => process::die_with_parent(progress.report),
        Action::Execute { candidates, .. } => {
            sys::reset_signals();
            Err(execute(candidates, args, env))
        }
    }
}

/// Says whom to die with: a change of identity makes the kernel forget it: this is said here and later again.
fn await_turn(turn: RawFd, progress: &Progress<'_>) -> Sys<()> {
    process::die_with_parent(progress.report)?;
    crate::spawn::write_pair(progress.report, MADE, 0);
    match sys::read(turn, &mut [0])? {
        1 => nix::unistd::close(turn),
        _ => sys::exit(127),
    }
}

/// A process can join a PID namespace only by being born in it. The one that is born here is the first that the container
/// can see, and has nothing any more that the container does not have.
fn fork_inside(progress: &Progress<'_>) -> Sys<()> {
    let arrival = progress.arrival.ok_or(Errno::EINVAL)?;
    arrival.forget_others();
    let (held, gate) = (arrival.held, arrival.gate);
    if let Some(pid) = sys::fork_sibling()? {
        crate::spawn::write_pair(progress.report, INSIDE, pid);
        // The end of the reports has to be the other's `execve`, not whatever comes last.
        let _ = nix::unistd::close(progress.report);
        let _ = sys::write(gate, &[1]);
        sys::exit(0)
    }
    nix::unistd::close(gate)?;
    // Nothing is done before the caller can know of this process, and nothing at all when it never will.
    if sys::read(held, &mut [0])? == 1 {
        nix::unistd::close(held)?;
        let (index, errno) = arrival.carry_out(progress.report);
        crate::spawn::write_pair(progress.report, index, errno as i32);
    }
    sys::exit(127)
}

/// Tries the candidates as a shell does: an unusable one is passed over, but remembered when nothing better follows.
fn execute(candidates: &[std::ffi::CString], args: &Pointers<'_>, env: &Pointers<'_>) -> Errno {
    let mut found = Errno::ENOENT;
    for candidate in candidates {
        match sys::execveat(libc::AT_FDCWD, candidate, args, env, 0) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => found = Errno::EACCES,
            errno => return errno,
        }
    }
    found
}

fn redirect_streams(streams: &[std::os::fd::OwnedFd; 3], progress: &mut Progress<'_>) -> Sys<()> {
    // Above the numbers to be replaced, should the caller itself run without standard streams.
    progress.report = sys::dup_from(progress.report, 3)?;
    let mut high = [0; 3];
    for (high, stream) in high.iter_mut().zip(streams) {
        *high = sys::dup_from(stream.as_raw_fd(), 3)?;
    }
    high.iter().zip(0..).try_for_each(|(&fd, number)| sys::dup3(fd, number))
}

/// Labels, limits and sysctls go to the kernel itself: whoever could put another file there would take them
/// (CVE-2019-16884, CVE-2025-52881).
fn write_proc(file: Sys<std::os::fd::OwnedFd>, value: &CStr) -> Sys<()> {
    let file = file?;
    if !sys::is_proc(file.as_raw_fd())? {
        return Err(IN_PROC);
    }
    sys::write(file.as_raw_fd(), value.to_bytes()).map(drop)
}

/// Opens what is to be mounted on, and makes it (and directories above) when missing.
fn target(root: RawFd, path: &CStr, kind: Kind) -> Sys<std::os::fd::OwnedFd> {
    match sys::open_in_root(root, path, PATH_ONLY, 0) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    let mut buffer = [0u8; libc::PATH_MAX as usize];
    let mut name = [0u8; 256];
    let bytes = path.to_bytes();
    if bytes.len() >= buffer.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    if let Some((above, last)) = split_last(path, &mut buffer)
        && let Ok(dir) = sys::open_in_root(root, above, PATH_ONLY | libc::O_DIRECTORY, 0)
    {
        make(dir.as_raw_fd(), last, kind == Kind::File)?;
        return sys::open_in_root(root, path, PATH_ONLY, 0);
    }
    let mut dir = sys::open_in_root(root, c".", PATH_ONLY | libc::O_DIRECTORY, 0)?;
    let mut end = 0;
    while end < bytes.len() {
        let start = end + bytes[end..].iter().take_while(|&&b| b == b'/').count();
        end = start + bytes[start..].iter().take_while(|&&b| b != b'/').count();
        if start == end {
            break;
        }
        let last = bytes[end..].iter().all(|&b| b == b'/');
        buffer[..end].copy_from_slice(&bytes[..end]);
        buffer[end] = 0;
        let prefix = until_zero(&buffer, end)?;
        let component = &bytes[start..end];
        if component.len() >= name.len() {
            return Err(Errno::ENAMETOOLONG);
        }
        name[..component.len()].copy_from_slice(component);
        name[component.len()] = 0;
        let component = until_zero(&name, component.len())?;
        dir = match sys::open_in_root(root, prefix, PATH_ONLY, 0) {
            Err(Errno::ENOENT) => {
                make(dir.as_raw_fd(), component, last && kind == Kind::File)?;
                sys::open_in_root(root, prefix, PATH_ONLY, 0)?
            }
            other => other?,
        };
    }
    Ok(dir)
}

/// Splits a path of several names before its last one; `buffer` is for what stands before it.
fn split_last<'a>(path: &'a CStr, buffer: &'a mut [u8]) -> Option<(&'a CStr, &'a CStr)> {
    let bytes = path.to_bytes_with_nul();
    let slash = bytes.iter().rposition(|&b| b == b'/')?;
    let above = buffer.get_mut(..=slash)?;
    above[..slash].copy_from_slice(&bytes[..slash]);
    above[slash] = 0;
    let last = CStr::from_bytes_with_nul(&bytes[slash + 1..]).ok().filter(|name| !name.is_empty())?;
    Some((CStr::from_bytes_with_nul(above).ok()?, last))
}

fn until_zero(buffer: &[u8], length: usize) -> Sys<&CStr> {
    CStr::from_bytes_with_nul(&buffer[..=length]).map_err(|_| Errno::EINVAL)
}

fn make(dir: RawFd, name: &CStr, file: bool) -> Sys<()> {
    let once = || {
        if file { sys::mknodat(dir, name, libc::S_IFREG | 0o644, 0) } else { sys::mkdirat(dir, name, 0o755) }
    };
    match once() {
        // A symlink to nowhere (an image's /etc/resolv.conf, say) gives way to what is mounted in its place.
        Err(Errno::EEXIST) => sys::unlinkat(dir, name).and_then(|()| once()),
        other => other,
    }
}

pub(crate) fn mount_on(root: RawFd, tree: RawFd, path: &CStr, kind: Kind) -> Sys<()> {
    let place = target(root, path, kind)?;
    // A volume there would be taken for the kernel's word, also where a link of the image's leads there.
    if sys::is_proc(place.as_raw_fd())? && !COVERED_IN_PROC.contains(&path) {
        return Err(IN_PROC);
    }
    sys::move_mount(tree, place.as_raw_fd())
}

/// Returns a copy of the mount of the root itself, from that directory on: it stays writable when the root is
/// read-only, and what is mounted above it later does not hide it.
fn hold_own(progress: &mut Progress<'_>, path: &CStr) -> Sys<()> {
    let place = target(progress.root, path, Kind::Directory)?;
    let free = progress.own.iter_mut().find(|fd| **fd < 0).ok_or(Errno::E2BIG)?;
    *free = sys::clone_tree(place.as_raw_fd(), sys::EMPTY, false)?.into_raw_fd();
    Ok(())
}

fn mount_own(progress: &mut Progress<'_>, path: &CStr) -> Sys<()> {
    let held = progress.own[0];
    progress.own.rotate_left(1);
    progress.own[MOST_OWN - 1] = -1;
    mount_on(progress.root, held, path, Kind::Directory)
}

fn mount_new(root: RawFd, fstype: &CStr, options: &FsOptions, attr: u64, path: &CStr) -> Sys<()> {
    let tree = make_file_system(fstype, options, attr)?;
    mount_on(root, tree.as_raw_fd(), path, Kind::Directory)
}

/// Returns a new file system's mount, not mounted anywhere yet.
fn make_file_system(fstype: &CStr, options: &FsOptions, attr: u64) -> Sys<std::os::fd::OwnedFd> {
    let context = sys::fsopen(fstype)?;
    // What `df` and `mount` show where the spec names no source.
    if !options.iter().any(|(key, _)| key.as_c_str() == c"source") {
        sys::fsconfig(context.as_raw_fd(), c"source", Some(fstype))?;
    }
    for (key, value) in options {
        match sys::fsconfig(context.as_raw_fd(), key, value.as_deref()) {
            // Group 5 (tty) of a devpts is a wish: it does not exist where only one id is mapped.
            Err(Errno::EINVAL) if fstype == c"devpts" && key.as_c_str() == c"gid" => {}
            other => other?,
        }
    }
    sys::fscreate(context.as_raw_fd(), attr)
}

/// Their directory is a tmpfs of podctl's, and so their places are names in it.
fn mount_cgroups(
    root: RawFd,
    hierarchies: &[CgroupHierarchy],
    links: &[(std::ffi::CString, std::ffi::CString)],
    attr: u64,
    path: &CStr,
) -> Sys<()> {
    let context = sys::fsopen(c"tmpfs")?;
    sys::fsconfig(context.as_raw_fd(), c"mode", Some(c"0755"))?;
    let top = sys::fscreate(context.as_raw_fd(), attr & !attr::RDONLY)?;
    mount_on(root, top.as_raw_fd(), path, Kind::Directory)?;
    for CgroupHierarchy { name, fstype, options, hosts } in hierarchies {
        let new = make_file_system(fstype, options, attr).or_else(|_| clone_read_only(hosts));
        // One that can be had in neither way is left out, as on machines that do not have it.
        let Ok(tree) = new else { continue };
        match sys::mkdirat(top.as_raw_fd(), name, 0o755) {
            Err(Errno::EEXIST) => {}
            other => other?,
        }
        sys::move_mount_to(tree.as_raw_fd(), top.as_raw_fd(), name)?;
    }
    for (name, target) in links {
        match sys::symlinkat(target, top.as_raw_fd(), name) {
            Err(Errno::EEXIST) => {}
            other => other?,
        }
    }
    let read_only = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
    sys::mount_setattr(top.as_raw_fd(), false, &read_only)
}

/// Returns a copy of a mount of the host's. To close one that was not mounted waits for all processors: none is made in
/// store.
fn clone_read_only(path: &CStr) -> Sys<std::os::fd::OwnedFd> {
    let tree = sys::clone_tree(libc::AT_FDCWD, path, false)?;
    let attr = MountAttr { set: attr::RDONLY, propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    sys::mount_setattr(tree.as_raw_fd(), false, &attr)?;
    Ok(tree)
}

/// The proc of a PID namespace that is there already, as who lives in it has it: mounting a new one would take a process
/// in it, which others there could see.
fn borrow_proc(root: RawFd, lender: RawFd, attr: u64, path: &CStr) -> Sys<()> {
    let own = sys::open(c"/proc/self/ns/mnt", libc::O_RDONLY)?;
    sys::setns(lender, libc::CLONE_NEWNS)?;
    let tree = sys::clone_tree(libc::AT_FDCWD, c"/proc", false);
    sys::setns(own.as_raw_fd(), libc::CLONE_NEWNS)?;
    let tree = tree?;
    if !sys::is_proc(tree.as_raw_fd())? {
        return Err(Errno::ENODEV);
    }
    let attr = MountAttr { set: attr, clear: attr::RDONLY, ..MountAttr::default() };
    sys::mount_setattr(tree.as_raw_fd(), false, &attr)?;
    mount_on(root, tree.as_raw_fd(), path, Kind::Directory)
}

/// A new sysfs needs the network namespace to be ours; the host's, read-only, is the next best.
fn mount_sysfs(root: RawFd, attr: u64, path: &CStr) -> Sys<()> {
    match mount_new(root, c"sysfs", &[], attr, path) {
        Err(Errno::EPERM) => {}
        other => return other,
    }
    let tree = sys::clone_tree(libc::AT_FDCWD, c"/sys", true)?;
    sys::mount_setattr(
        tree.as_raw_fd(),
        true,
        &MountAttr { set: attr | attr::RDONLY, ..MountAttr::default() },
    )?;
    mount_on(root, tree.as_raw_fd(), path, Kind::Directory)
}

/// The directory that holds `path`, and the last name in it.
fn parent(root: RawFd, path: &CStr) -> Sys<(std::os::fd::OwnedFd, &CStr)> {
    let bytes = path.to_bytes_with_nul();
    let split = bytes.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    let name = CStr::from_bytes_with_nul(&bytes[split..]).map_err(|_| Errno::EINVAL)?;
    let mut buffer = [0u8; libc::PATH_MAX as usize];
    if split == 0 {
        return Ok((sys::open_in_root(root, c".", PATH_ONLY, 0)?, name));
    }
    if split >= buffer.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    buffer[..split].copy_from_slice(&bytes[..split]);
    Ok((target(root, until_zero(&buffer, split)?, Kind::Directory)?, name))
}

fn make_node(root: RawFd, path: &CStr, mode: u32, device: u64, owner: (u32, u32)) -> Sys<()> {
    let (dir, name) = parent(root, path)?;
    match sys::mknodat(dir.as_raw_fd(), name, mode, device) {
        Err(Errno::EEXIST) => return Ok(()),
        other => other?,
    }
    sys::fchownat(dir.as_raw_fd(), name, owner.0, owner.1)
}

/// The host's node, if it is that device; read-only, so that nobody changes whom it belongs to.
fn bind_node(root: RawFd, source: &CStr, path: &CStr, mode: u32, device: u64) -> Sys<()> {
    let tree = sys::clone_tree(libc::AT_FDCWD, source, false)?;
    let stat = sys::fstat(tree.as_raw_fd())?;
    if stat.st_mode & libc::S_IFMT != mode & libc::S_IFMT || stat.st_rdev != device {
        return Err(Errno::ENODEV);
    }
    sys::mount_setattr(tree.as_raw_fd(), false, &MountAttr { set: attr::RDONLY, ..MountAttr::default() })?;
    mount_on(root, tree.as_raw_fd(), path, Kind::File)
}

fn make_link(root: RawFd, path: &CStr, link: &CStr) -> Sys<()> {
    let (dir, name) = parent(root, path)?;
    match sys::symlinkat(link, dir.as_raw_fd(), name) {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// The host's `/dev/null`, and surely that: a mask made of anything else would be a way in (CVE-2025-31133).
fn open_null(progress: &mut Progress<'_>) -> Sys<()> {
    let null = sys::open(c"/dev/null", PATH_ONLY)?;
    let stat = sys::fstat(null.as_raw_fd())?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != libc::makedev(1, 3) {
        return Err(Errno::ENODEV);
    }
    progress.null = null.into_raw_fd();
    Ok(())
}

fn mask_path(progress: &Progress<'_>, path: &CStr) -> Sys<()> {
    let place = match sys::open_in_root(progress.root, path, PATH_ONLY, 0) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let stat = sys::fstat(place.as_raw_fd())?;
    let tree = if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        let context = sys::fsopen(c"tmpfs")?;
        sys::fsconfig(context.as_raw_fd(), c"nr_inodes", Some(c"1"))?;
        sys::fscreate(context.as_raw_fd(), attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)?
    } else {
        sys::clone_tree(progress.null, sys::EMPTY, false)?
    };
    sys::move_mount(tree.as_raw_fd(), place.as_raw_fd())
}

fn read_only(root: RawFd, path: &CStr) -> Sys<()> {
    let place = match sys::open_in_root(root, path, PATH_ONLY, 0) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let tree = sys::clone_tree(place.as_raw_fd(), sys::EMPTY, true)?;
    sys::mount_setattr(tree.as_raw_fd(), true, &MountAttr { set: attr::RDONLY, ..MountAttr::default() })?;
    sys::move_mount(tree.as_raw_fd(), place.as_raw_fd())
}

/// Pipes become the user's, so that opening `/dev/stdout` again works for users other than root.
fn own_streams(uid: u32) -> Sys<()> {
    for fd in 0..3 {
        let stat = sys::fstat(fd)?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFIFO && stat.st_uid != uid {
            // A pipe of someone else's (fds passed by a client) stays theirs.
            let _ = sys::fchown(fd, uid, u32::MAX);
        }
    }
    Ok(())
}

fn drop_bounding(keep: u64) -> Sys<()> {
    sys::every_capability(|capability| match keep & (1 << capability) {
        0 => sys::prctl(libc::PR_CAPBSET_DROP, capability, 0),
        _ => Ok(()),
    })
}

fn raise_ambient(set: u64) -> Sys<()> {
    (0..64).filter(|capability| set & (1 << capability) != 0).try_for_each(|capability| {
        sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability)
    })
}
