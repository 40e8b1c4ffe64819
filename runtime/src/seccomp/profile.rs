//! Docker's default profile, told by what it denies: every syscall the compiler knows is allowed, except those below, most
//! of which a capability unlocks. Source: Docker documentation, "Seccomp security profiles for Docker".

use std::collections::HashSet;

use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};

use super::bpf::table;

const EPERM: u32 = libc::EPERM as u32;
const ENOSYS: u32 = libc::ENOSYS as u32;

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

/// Calls allowed for some arguments only; they have rules of their own.
const CONDITIONAL: [&str; 3] = ["clone", "personality", "socket"];

/// `personality` values: Linux, Linux 32, both without layout randomisation of machines' names (uname 2.6), and asking.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Docker's default profile for a container whose bounding set is `caps`.
pub fn docker_default(caps: &HashSet<Capability>) -> LinuxSeccomp {
    let arches: &[Arch] = if cfg!(target_arch = "aarch64") {
        &[Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        &[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    };
    let known: HashSet<&str> =
        arches.iter().filter_map(|arch| table(*arch)).flatten().map(|(name, _)| name).collect();
    let mut denied: HashSet<&str> = UNLOCKED.iter().flat_map(|(_, names)| names.split_whitespace()).collect();
    for (_, names) in UNLOCKED.iter().filter(|(capability, _)| caps.contains(capability)) {
        names.split_whitespace().for_each(|name| {
            denied.remove(name);
        });
    }
    let clone3_denied = denied.contains("clone3");
    denied.extend(NEVER.split_whitespace().chain(CONDITIONAL));
    let mut rules = vec![allow(known.difference(&denied).copied(), &[])];
    for value in PERSONALITIES {
        rules.push(allow(["personality"], &[compare(0, LinuxSeccompOperator::ScmpCmpEq, value, None)]));
    }
    // All address families but AF_VSOCK, which reaches the hypervisor around every network namespace, and AF_ALG, the
    // kernel's crypto.
    for (op, value) in [
        (LinuxSeccompOperator::ScmpCmpLt, libc::AF_ALG as u64),
        (LinuxSeccompOperator::ScmpCmpEq, libc::AF_NFC as u64),
        (LinuxSeccompOperator::ScmpCmpGt, libc::AF_VSOCK as u64),
    ] {
        rules.push(allow(["socket"], &[compare(0, op, value, None)]));
    }
    if caps.contains(&Capability::SysAdmin) {
        rules.push(allow(["clone"], &[]));
    } else {
        let no_namespaces = compare(0, LinuxSeccompOperator::ScmpCmpMaskedEq, CLONE_NAMESPACES, Some(0));
        rules.push(allow(["clone"], &[no_namespaces]));
    }
    if clone3_denied {
        // Its flags lie in memory, where no filter sees them: libc falls back to clone.
        let mut rule = LinuxSyscall::default();
        rule.set_names(vec!["clone3".to_owned()])
            .set_action(LinuxSeccompAction::ScmpActErrno)
            .set_errno_ret(Some(ENOSYS));
        rules.push(rule);
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(Some(arches.to_vec()))
        .set_syscalls(Some(rules));
    profile
}

fn allow<'a>(names: impl IntoIterator<Item = &'a str>, args: &[LinuxSeccompArg]) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.into_iter().map(str::to_owned).collect())
        .set_action(LinuxSeccompAction::ScmpActAllow)
        .set_args((!args.is_empty()).then(|| args.to_vec()));
    rule
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
