//! The kernel's floor: what a container and a pod cost when nothing is done but the system calls.
//!
//! usage: floor container|pod LOWER SCRATCH
//!
//! `container` runs /bin/true of the directory LOWER in a user, mount, PID, UTS and IPC namespace of
//! its own: clone3, overlay, proc, pivot_root, exec, wait. `pod` makes a network namespace besides,
//! brings its loopback up, runs one such container to its end and then two that stay until they are
//! killed; it prints the microseconds until both of them were executed. SCRATCH is an empty directory
//! for the writable layers. Peer of scripts/bench's rows; it checks nothing and cleans nothing up.

use std::{ffi::CString, fs, io, process::exit, ptr, time::Instant};

fn check(value: i64, call: &str) -> i64 {
    if value < 0 {
        eprintln!("floor: {call}: {}", io::Error::last_os_error());
        exit(1);
    }
    value
}

/// A child in new namespaces runs `child` and never returns; gives its process id.
fn clone(flags: i32, child: impl FnOnce()) -> i32 {
    let mut args = [0u64; 11];
    args[0] = flags as u64 | libc::CLONE_VFORK as u64;
    args[4] = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child has a copy of this one-threaded process, and exits in `child`.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), 88) };
    if check(pid, "clone3") == 0 {
        child();
        exit(1);
    }
    pid as i32
}

fn map_ids(uid: u32, gid: u32) {
    let _ = fs::write("/proc/self/setgroups", "deny");
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).expect("uid_map");
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).expect("gid_map");
}

fn mount(kind: &str, target: &str, options: &str) {
    let [kind, target, options] = [kind, target, options].map(|s| CString::new(s).expect("no NUL"));
    // SAFETY: three live C strings.
    let done =
        unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
    check(done.into(), "mount");
}

/// Builds the root and executes in it.
fn container(lower: &str, layer: &str, command: &[&str]) {
    // SAFETY: plain system calls on live C strings; this is a single-threaded child that execs or exits.
    unsafe {
        let slave = libc::MS_REC | libc::MS_SLAVE;
        check(
            libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), slave, ptr::null()).into(),
            "make mounts slaves",
        );
        let (upper, work, root) =
            (format!("{layer}/upper"), format!("{layer}/work"), format!("{layer}/root"));
        mount("overlay", &root, &format!("lowerdir={lower},upperdir={upper},workdir={work},userxattr"));
        mount("proc", &format!("{root}/proc"), "");
        let root = CString::new(root).expect("no NUL");
        check(libc::chdir(root.as_ptr()).into(), "chdir");
        check(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()), "pivot_root");
        check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH).into(), "umount");
        let words: Vec<CString> = command.iter().map(|w| CString::new(*w).expect("no NUL")).collect();
        let mut pointers: Vec<_> = words.iter().map(|w| w.as_ptr()).collect();
        pointers.push(ptr::null());
        libc::execv(pointers[0], pointers.as_ptr());
    }
}

fn layer(scratch: &str, name: &str) -> String {
    let layer = format!("{scratch}/{name}");
    for part in ["upper", "work", "root"] {
        fs::create_dir_all(format!("{layer}/{part}")).expect("scratch directory");
    }
    layer
}

fn wait(pid: i32) {
    // SAFETY: no status is asked for.
    check(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) }.into(), "waitpid");
}

fn loopback_up() {
    // SAFETY: ifreq is plain data for which all zeroes is a value.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        (request.ifr_name[0], request.ifr_name[1]) = (b'l' as _, b'o' as _);
        request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
        check(libc::ioctl(fd, libc::SIOCSIFFLAGS, &request).into(), "bring lo up");
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, what, lower, scratch] = args.as_slice() else {
        eprintln!("usage: floor container|pod LOWER SCRATCH");
        exit(2);
    };
    // SAFETY: these calls cannot fail.
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    let own = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    let shared = libc::CLONE_NEWUSER | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if what == "container" {
        let one = layer(scratch, "one");
        wait(clone(own | shared, || {
            map_ids(uid, gid);
            container(lower, &one, &["/bin/true"]);
        }));
        return;
    }
    let began = Instant::now();
    let layers = ["init", "a", "b"].map(|name| layer(scratch, name));
    wait(clone(shared | libc::CLONE_NEWNET, || {
        map_ids(uid, gid);
        loopback_up();
        wait(clone(own, || container(lower, &layers[0], &["/bin/true"])));
        let run = |layer: &str| clone(own, || container(lower, layer, &["/bin/sleep", "100"]));
        let both = [run(&layers[1]), run(&layers[2])];
        println!("{}", began.elapsed().as_micros());
        for pid in both {
            // SAFETY: a signal to a child that has not been waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            wait(pid);
        }
        exit(0);
    }));
}
