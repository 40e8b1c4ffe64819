//! Calls that the default filter denies, by every way into the kernel: the machine's own, i386's (int 0x80), x32's; through
//! the multiplexed calls of i386, and with bits where the kernel does not look (CVE-2022-0185 and others began with such a call).
#![cfg(target_arch = "x86_64")]

use std::arch::asm;

use crate::{
    common::Home,
    kit::{probe_in_a_container, probe_on_the_host},
};

/// Denied with the default capabilities, each with arguments of which none does harm.
const DENIED: &str = "acct add_key bpf clock_settime delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick get_mempolicy \
    init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_load keyctl lookup_dcookie mbind migrate_pages \
    mount mount_setattr move_mount move_pages open_by_handle_at open_tree perf_event_open personality pidfd_getfd pivot_root \
    process_madvise quotactl quotactl_fd reboot request_key set_mempolicy setdomainname sethostname setns settimeofday swapoff \
    swapon syslog umount2 unshare userfaultfd ustat vhangup";

/// `personality` is denied by its value.
const RANDOMIZATION_OFF: u64 = 0x004_0000;
const X32: u64 = 0x4000_0000;

fn native(number: u64, args: [u64; 4]) -> i64 {
    let result: i64;
    // SAFETY: the arguments are numbers, or addresses of memory that lives through the call.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") 0, in("r9") 0, lateout("rcx") _, lateout("r11") _);
    }
    result
}

fn i386(number: u64, args: [u64; 4]) -> i64 {
    let result: u64;
    // SAFETY: as above; rbx is put back.
    unsafe {
        asm!("xchg rbx, {first}", "int 0x80", "xchg rbx, {first}", first = inout(reg) args[0] => _,
            inlateout("rax") number => result, in("rcx") args[1], in("rdx") args[2], in("rsi") args[3], in("rdi") 0,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _);
    }
    i64::from(result as i32)
}

fn tell(way: &str, name: &str, result: i64) {
    let word = match -result {
        answer if answer <= 0 => "ALLOWED".to_owned(),
        errno => format!("{:?}", nix::errno::Errno::from_raw(errno as i32)),
    };
    println!("{way} {name}: {word}");
}

#[test]
#[ignore = "a probe, run by the tests below"]
fn make_denied_calls() {
    println!();
    let args = |name: &str| [if name == "personality" { RANDOMIZATION_OFF } else { 0 }, 0, 0, 0];
    for name in DENIED.split_whitespace() {
        if let Ok(number) = name.parse::<syscalls::x86_64::Sysno>() {
            tell("native", name, native(number.id() as u64, args(name)));
            tell("x32", name, native(number.id() as u64 | X32, args(name)));
        }
    }
    println!("native is over");
    for name in DENIED.split_whitespace() {
        if let Ok(number) = name.parse::<syscalls::x86::Sysno>() {
            tell("i386", name, i386(number.id() as u64, args(name)));
        }
    }
    println!("all is over");
}

#[test]
fn no_denied_call_reaches_the_kernel_by_any_way() {
    let home = Home::new();
    let said = probe_in_a_container(&home, "system_calls::make_denied_calls", "{}");
    let answers: Vec<&str> =
        said.lines().filter(|l| ["| native ", "| x32 ", "| i386 "].iter().any(|w| l.contains(w))).collect();
    let reached: Vec<&&str> = answers
        .iter()
        .filter(|l| !l.ends_with(": EPERM") && !l.ends_with(": ENOSYS") && !l.ends_with(" is over"))
        .collect();
    assert!(reached.is_empty(), "{reached:#?}");
    assert!(said.contains("native is over"), "{said}");
    let emulated = has_i386();
    assert_eq!(said.contains("all is over"), emulated, "{said}");
    assert!(answers.len() > if emulated { 140 } else { 95 }, "{} {said}", answers.len());
    // The control: without the filter, those that want no capability get further.
    let open = probe_in_a_container(
        &home,
        "system_calls::make_harmless_calls",
        "{seccompProfile: {type: Unconfined}}",
    );
    for way in ["native", "i386"].into_iter().filter(|way| emulated || *way == "native") {
        for name in ["unshare", "add_key"] {
            let answer = open.lines().find_map(|l| l.split_once(&format!("| {way} {name}: ")));
            assert!(
                answer.is_some_and(|(_, word)| !["EPERM", "ENOSYS"].contains(&word)),
                "{way} {name}: {open}"
            );
        }
    }
}

#[test]
#[ignore = "a probe, run by the test above"]
fn make_harmless_calls() {
    println!();
    for name in ["unshare", "add_key"] {
        tell("native", name, native(name.parse::<syscalls::x86_64::Sysno>().unwrap().id() as u64, [0; 4]));
    }
    for name in ["unshare", "add_key"] {
        tell("i386", name, i386(name.parse::<syscalls::x86::Sysno>().unwrap().id() as u64, [0; 4]));
    }
}

/// Tells whether this kernel knows i386's calls; without them the program is ended.
fn has_i386() -> bool {
    probe_on_the_host("system_calls::ask_i386_for_its_id").contains("i386 getpid: ALLOWED")
}

#[test]
#[ignore = "a probe, run by the test above"]
fn ask_i386_for_its_id() {
    println!();
    tell("i386", "getpid", i386(20, [0; 4]));
}

const AF_VSOCK: u64 = libc::AF_VSOCK as u64;
const AF_ALG: u64 = libc::AF_ALG as u64;

#[test]
#[ignore = "a probe, run by the test below"]
fn make_sockets() {
    println!();
    // Where i386 can name it.
    // SAFETY: a new mapping; nothing else is at this low address of a process of its own.
    let memory = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    };
    assert_ne!(memory, libc::MAP_FAILED);
    let address = memory as u64;
    for (family, name) in [(AF_VSOCK, "vsock"), (AF_ALG, "alg")] {
        for high in [0, 1 << 32, 1 << 63, 0xffff_ffff << 32] {
            tell("native", &format!("socket {name} {high:x}"), native(41, [high | family, 5, 0, 0]));
            tell(
                "native",
                &format!("socketpair {name} {high:x}"),
                native(53, [high | family, 5, 0, address]),
            );
            tell("x32", &format!("socket {name} {high:x}"), native(41 | X32, [high | family, 5, 0, 0]));
        }
    }
    println!("native is over");
    for (family, name) in [(AF_VSOCK, "vsock"), (AF_ALG, "alg")] {
        tell("i386", &format!("socket {name}"), i386(359, [family, 5, 0, 0]));
        tell("i386", &format!("socketpair {name}"), i386(360, [family, 5, 0, address]));
        for call in [1, 8] {
            let args = [family as u32, 5, 0, address as u32 + 64];
            // SAFETY: the mapping is larger, and aligned for these.
            unsafe { memory.cast::<[u32; 4]>().write(args) };
            tell("i386", &format!("socketcall {call} {name}"), i386(102, [call, address, 0, 0]));
        }
    }
    tell("i386", "socket inet", i386(359, [2, 1, 0, 0]));
}

#[test]
fn no_socket_reaches_around_the_network_namespace_or_into_the_kernels_crypto() {
    let home = Home::new();
    let said = probe_in_a_container(&home, "system_calls::make_sockets", "{}");
    let reached: Vec<&str> = said
        .lines()
        .filter(|l| {
            (l.contains("vsock") || l.contains("alg")) && !l.ends_with(": EPERM") && !l.ends_with(": ENOSYS")
        })
        .collect();
    assert!(reached.is_empty() && said.contains("native is over"), "{reached:#?} {said}");
    // The control: without the filter the kernel itself answers, that it knows the family or not.
    let open =
        probe_in_a_container(&home, "system_calls::make_sockets", "{seccompProfile: {type: Unconfined}}");
    let kernel = |name: &str| {
        let answer = open.lines().find_map(|l| Some(l.split_once(&format!("| {name}: "))?.1));
        assert!(answer.is_some_and(|word| word == "ALLOWED" || word == "EAFNOSUPPORT"), "{name}: {open}");
    };
    kernel("native socket vsock 100000000");
    if has_i386() {
        kernel("i386 socketcall 1 vsock");
        assert!(said.contains("i386 socket inet: ALLOWED"), "{said}");
    }
}
