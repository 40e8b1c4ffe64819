//! Docker's default profile, told by what it denies: every syscall the compiler knows is allowed, except those below, most
//! of which a capability unlocks. Source: Docker documentation, "Seccomp security profiles for Docker".

use std::collections::HashSet;

use oci_spec::runtime::{
    Arch, Capability, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
};

use super::bpf::{Condition, ENOSYS, Program, Verdict, assemble_filter};
use crate::error::Error;

/// Denied whatever a container's capabilities are: keyrings and other things without namespaces, old and unused calls,
/// large attack surfaces.
const NEVER: &str = "_sysctl add_key afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg gtty idle \
    io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl lock migrate_pages move_pages mpx \
    multiplexer nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname pciconfig_iobase pciconfig_read \
    pciconfig_write pivot_root prof profil putpmsg query_module request_key security sgetmask sigaction signal sigpending \
    sigsuspend ssetmask stty swapoff swapon sysfs tuxcall ulimit uselib userfaultfd ustat vm86 vm86old vserver \
    mq_open_old file_getattr file_setattr open_tree_attr rseq_slice_yield listns uprobe";

/// Allowed with the capability only.
const UNLOCKED: &[(Capability, &str)] = &[
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module finit_module init_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "ioperm iopl"),
    (Capability::SysTime, "clock_settime clock_settime64 settimeofday stime"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// `personality` values: Linux, Linux 32, both without layout randomisation of machines' names (uname 2.6), and asking.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Address families that no container gets: AF_VSOCK reaches the hypervisor around every network namespace, AF_ALG is the
/// kernel's crypto.
const FAMILIES: [u64; 2] = [libc::AF_VSOCK as u64, libc::AF_ALG as u64];

/// The calls of `socketcall(2)`, from linux/net.h, that make sockets: SYS_SOCKET, SYS_SOCKETPAIR.
const MAKE_SOCKETS: [u64; 2] = [1, 8];

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Docker's default profile for a container whose bounding set is `caps`, compiled.
///
/// # Errors
/// [`Error::Seccomp`], should it become longer than the kernel takes.
pub fn docker_default(caps: &HashSet<Capability>) -> Result<Program, Error> {
    let arches: &[Arch] = if cfg!(target_arch = "aarch64") {
        &[Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        &[Arch::ScmpArchX86_64, Arch::ScmpArchX86]
    };
    let allow = LinuxSeccompAction::ScmpActAllow.as_u32(None);
    let deny = LinuxSeccompAction::ScmpActErrno.as_u32(Some(libc::EPERM as u32));
    let rules = |name: &str, args: Vec<LinuxSeccompArg>, action: u32| {
        args.into_iter().map(|arg| (vec![Condition::for_call(name, arg)], action)).collect()
    };
    // Each of these is enough to be allowed.
    let any = |name: &str, args| Verdict { rules: rules(name, args, allow), otherwise: deny };
    // Each of these is enough to get that answer.
    let but = |name: &str, args, action| Verdict { rules: rules(name, args, action), otherwise: allow };
    let mut denied: HashSet<&str> = NEVER.split_whitespace().collect();
    denied.extend(UNLOCKED.iter().flat_map(|(_, names)| names.split_whitespace()));
    for (_, names) in UNLOCKED.iter().filter(|(capability, _)| caps.contains(capability)) {
        names.split_whitespace().for_each(|name| {
            denied.remove(name);
        });
    }
    let equal = |value| compare(0, LinuxSeccompOperator::ScmpCmpEq, value, None);
    let filter =
        assemble_filter(arches, &Verdict::plain(deny), &Verdict::plain(ENOSYS), |name| match name {
            "personality" => Some(any(name, PERSONALITIES.into_iter().map(equal).collect())),
            "socket" | "socketpair" => Some(but(name, FAMILIES.map(equal).into(), deny)),
            // Its family lies in memory, where no filter sees it; a libc that has `socket` uses that then.
            "socketcall" => Some(but(name, MAKE_SOCKETS.map(equal).into(), ENOSYS)),
            "clone" if !caps.contains(&Capability::SysAdmin) => {
                let none = compare(0, LinuxSeccompOperator::ScmpCmpMaskedEq, CLONE_NAMESPACES, Some(0));
                Some(any(name, vec![none]))
            }
            // Its flags lie in memory, where no filter sees them: libc falls back to clone.
            "clone3" if denied.contains(name) => Some(Verdict::plain(ENOSYS)),
            _ => (!denied.contains(name)).then(|| Verdict::plain(allow)),
        })?;
    Ok(Program { filter, flags: 0 })
}

pub(super) fn compare(
    index: usize,
    op: LinuxSeccompOperator,
    value: u64,
    value_two: Option<u64>,
) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default()
        .index(index)
        .op(op)
        .value(value)
        .value_two(value_two.unwrap_or_default())
        .build()
        .expect("all parts are given")
}
