//! What a container uses: from its cgroup, and from /proc what the cgroup does not count.

use std::{fs, path::Path};

use podctl_runtime::{Cgroup, Process};

use crate::wire::Usage;

/// The container whose first process this is.
pub(super) fn of(container: &str, process: &Process, cgroup: Option<&Cgroup>) -> Usage {
    let counted = cgroup.map(Cgroup::stats).unwrap_or_default();
    let mut usage = Usage { container: container.to_owned(), cpu: 0, memory: 0, pids: 0 };
    if counted.cpu.is_none() || counted.memory.is_none() || counted.pids.is_none() {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(&process.pid.to_string());
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().filter(|n| n.parse::<u32>().is_ok()) else { continue };
            if own.is_some() && namespace(pid) == own {
                add(&entry.path(), &mut usage);
            }
        }
    }
    usage.cpu = counted.cpu.unwrap_or(usage.cpu);
    usage.memory = counted.memory.unwrap_or(usage.memory);
    usage.pids = counted.pids.unwrap_or(usage.pids);
    usage
}

/// proc_pid_stat(5): utime and stime are fields 14 and 15, with those of reaped children 16 and 17,
/// num_threads is 20, rss in pages is 24; the name before them may hold spaces and parentheses.
fn add(process: &Path, usage: &mut Usage) {
    let text = fs::read_to_string(process.join("stat")).unwrap_or_default();
    let Some((_, rest)) = text.rsplit_once(')') else { return };
    let fields: Vec<u64> = rest.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as u64;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as u64;
    usage.cpu += (field(14) + field(15) + field(16) + field(17)) * 1_000_000 / ticks;
    usage.memory += field(24) * page;
    usage.pids += field(20);
}
