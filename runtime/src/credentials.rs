//! `process` of a spec → the last steps: limits, identity, capabilities, seccomp, the program itself.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use nix::sys::resource::Resource;
use oci_spec::runtime::{Capability, PosixRlimitType, Process};

use crate::error::StartError;
use crate::plan::{Action, Plan, to_cstring};
use crate::seccomp::Program;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Adds everything that makes the process what its program is to be: limits, identity, capabilities.
pub(crate) fn become_user(
    plan: &mut Plan,
    process: &Process,
    seccomp: Option<&Program>,
) -> Result<(), StartError> {
    let user = process.user();
    for limit in process.rlimits().iter().flatten() {
        let (soft, hard) = (limit.soft(), limit.hard());
        let action = Action::Rlimit { resource: resource(limit.typ()), soft, hard };
        plan.push(action, format!("set {:?} to {soft}:{hard}", limit.typ()));
    }
    plan.push(Action::OwnStreams(user.uid()), "own the standard streams");
    plan.push(Action::Umask(user.umask().unwrap_or(0o022)), "set umask");
    let cwd = process.cwd();
    plan.push(
        Action::WorkingDirectory(to_cstring(cwd.as_os_str().as_bytes(), "process.cwd")?),
        cwd.display().to_string(),
    );
    if !process.no_new_privileges().unwrap_or(false) {
        // Without no_new_privs a filter wants CAP_SYS_ADMIN, which is about to go.
        push_seccomp(plan, seccomp);
    }
    identity(plan, process)?;
    // A change of identity may have made it dumpable again (fs.suid_dumpable).
    plan.push(Action::Undumpable, "forbid others to look into it");
    Ok(())
}

/// Adds what comes last: the program itself.
pub(crate) fn run_program(
    plan: &mut Plan,
    process: &Process,
    seccomp: Option<&Program>,
) -> Result<(), StartError> {
    plan.push(Action::DieWithParent, "die with the parent");
    if process.no_new_privileges().unwrap_or(false) {
        plan.push(Action::NoNewPrivileges, "set no_new_privs");
        push_seccomp(plan, seccomp);
    }
    execute(plan, process)
}

fn push_seccomp(plan: &mut Plan, seccomp: Option<&Program>) {
    if let Some(program) = seccomp {
        let action = Action::Seccomp { filter: program.filter.clone(), flags: program.flags };
        plan.push(action, "load the seccomp filter");
    }
}

fn identity(plan: &mut Plan, process: &Process) -> Result<(), StartError> {
    let user = process.user();
    let capabilities = process.capabilities().as_ref();
    if let Some(bounding) = capabilities.and_then(|sets| sets.bounding().as_ref()) {
        plan.push(
            Action::Bounding(capability_bits(Some(bounding))),
            "drop capabilities from the bounding set",
        );
    }
    // In a user namespace with one id the kernel denies setgroups for good: the extra groups cannot be had.
    if fs::read_to_string("/proc/self/setgroups").map_or(true, |answer| answer.trim() != "deny") {
        let groups = user.additional_gids().clone().unwrap_or_default();
        let what = format!("set supplementary groups {groups:?}");
        plan.push(Action::Groups(groups), what);
    }
    let all = [user.uid(), user.gid()].into_iter().chain(user.additional_gids().iter().flatten().copied());
    if all.into_iter().any(|id| id == u32::MAX) {
        // The kernel would leave things as they are: root.
        return Err(StartError::Spec {
            field: "process.user".to_owned(),
            reason: format!("{} is no id", u32::MAX),
        });
    }
    plan.push(Action::Gid(user.gid()), format!("become group {}", user.gid()));
    plan.push(Action::Uid(user.uid()), format!("become user {}", user.uid()));
    if let Some(sets) = capabilities {
        let action = Action::Capabilities {
            effective: capability_bits(sets.effective().as_ref()),
            permitted: capability_bits(sets.permitted().as_ref()),
            inheritable: capability_bits(sets.inheritable().as_ref()),
            ambient: capability_bits(sets.ambient().as_ref()),
        };
        plan.push(action, "set capabilities");
    }
    Ok(())
}

fn execute(plan: &mut Plan, process: &Process) -> Result<(), StartError> {
    let args = process.args().as_deref().unwrap_or_default();
    let Some(program) = args.first() else {
        return Err(StartError::Spec { field: "process.args".to_owned(), reason: "is empty".to_owned() });
    };
    let env = process.env().as_deref().unwrap_or_default();
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let strings = |all: &[String], what: &str| {
        all.iter().map(|s| to_cstring(s.as_str(), what)).collect::<Result<_, _>>()
    };
    let action = Action::Execute {
        candidates: candidates(program, path)?,
        args: strings(args, "process.args")?,
        env: strings(env, "process.env")?,
    };
    plan.push(action, program.as_str());
    Ok(())
}

/// Tells where a program may be: at its path when it has a slash, else in each directory of `PATH`.
fn candidates(program: &str, path: &str) -> Result<Vec<CString>, StartError> {
    let places: Vec<String> = match program {
        "" => Vec::new(),
        name if name.contains('/') => vec![name.to_owned()],
        name => path.split(':').filter(|dir| !dir.is_empty()).map(|dir| format!("{dir}/{name}")).collect(),
    };
    Ok(places.into_iter().map(|place| to_cstring(place, "process.args")).collect::<Result<_, _>>()?)
}

fn capability_bits(set: Option<&HashSet<Capability>>) -> u64 {
    set.into_iter().flatten().map(|capability| 1u64 << number(*capability)).fold(0, |all, bit| all | bit)
}

/// The kernel's number of a capability, from linux/capability.h.
fn number(capability: Capability) -> u8 {
    let name = format!("CAP_{capability}");
    let known = name.parse::<caps::Capability>().expect("both crates know the same capabilities");
    known.index()
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        for (capability, expected) in
            [(Capability::Chown, 0), (Capability::SysAdmin, 21), (Capability::Bpf, 39)]
        {
            assert_eq!(number(capability), expected, "{capability}");
        }
    }

    #[test]
    fn a_name_without_slash_is_looked_up_in_path() {
        assert_eq!(
            candidates("sh", "/bin::/usr/bin").unwrap(),
            [c"/bin/sh".to_owned(), c"/usr/bin/sh".to_owned()]
        );
        assert_eq!(candidates("./sh", "/bin").unwrap(), [c"./sh".to_owned()]);
    }
}
