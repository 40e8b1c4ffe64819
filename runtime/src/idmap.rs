//! Which ids of the host a user namespace gets: the caller's own as 0, then its whole subordinate range.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Pid, Uid, User, getegid, geteuid};

use crate::error::Error;
use crate::process::collect_output;
use crate::sys;

/// The range of ids: `size` ids from `host_id` on appear in the namespace as `container_id` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMapping {
    /// First id inside the namespace.
    pub container_id: u32,
    /// First id outside of it.
    pub host_id: u32,
    /// Tells how many.
    pub size: u32,
}

/// The user and group ids of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMappings {
    /// Users.
    pub uids: Vec<IdMapping>,
    /// Groups.
    pub gids: Vec<IdMapping>,
}

/// The reason why `newuidmap` or `newgidmap` has mapped nothing in this process's life. They are not asked
/// again then.
static FAILED: OnceLock<String> = OnceLock::new();

impl IdMappings {
    /// The caller's ids as 0, and its subordinate ids (`/etc/subuid`, `/etc/subgid`) from 1 on. Without a range, or
    /// without a `newuidmap` that maps, only the caller's own id is mapped and the second value says what will not work.
    pub fn of_user() -> Result<(IdMappings, Option<String>), Error> {
        let (uid, gid) = (geteuid(), getegid());
        let own = |id| IdMapping { container_id: 0, host_id: id, size: 1 };
        let mut mappings = IdMappings { uids: vec![own(uid.as_raw())], gids: vec![own(gid.as_raw())] };
        let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
        let uids = subordinate_ids(Path::new("/etc/subuid"), name.as_deref(), uid)?;
        let gids = subordinate_ids(Path::new("/etc/subgid"), name.as_deref(), uid)?;
        let who = name.unwrap_or_else(|| uid.to_string());
        let reason = if uids.is_empty() || gids.is_empty() {
            let mend = grant_command(&who).map(|command| format!(" ({command})")).unwrap_or_default();
            format!("user {who} has no range in /etc/subuid and /etc/subgid{mend}")
        } else if let Some(problem) = ["newuidmap", "newgidmap"].into_iter().find_map(mapper_problem) {
            problem
        } else if let Some(problem) = FAILED.get() {
            problem.clone()
        } else {
            mappings.uids.extend(stack_ranges(&uids));
            mappings.gids.extend(stack_ranges(&gids));
            return Ok((mappings, None));
        };
        let warning = format!(
            "only one user id is available: {reason}; containers can run only as root inside, files of images all belong to it, and changing user or group fails"
        );
        Ok((mappings, Some(warning)))
    }

    /// The ids of a user namespace within one of these, in which its id 0, the user, is `uid` and `gid`, and the others
    /// have the places that are left, in their order.
    #[must_use]
    pub fn keep_ids(&self, uid: u32, gid: u32) -> IdMappings {
        IdMappings { uids: keep_id(&self.uids, uid), gids: keep_id(&self.gids, gid) }
    }

    /// Tells whether nothing but one's own id is mapped: then the kernel wants `setgroups` denied.
    pub fn is_single(&self) -> bool {
        let single = |maps: &[IdMapping]| maps.len() == 1 && maps[0].size == 1;
        single(&self.uids) && single(&self.gids)
    }

    /// Tells whether the namespace of that process has these ids, as the caller sees them.
    pub fn are_of(&self, pid: i32) -> bool {
        let same = |name: &str, ids: &[IdMapping]| {
            let text = fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let numbers = text.split_whitespace().map(|n| n.parse().ok());
            numbers.eq(ids.iter().flat_map(|m| [m.container_id, m.host_id, m.size]).map(Some))
        };
        same("uid_map", &self.uids) && same("gid_map", &self.gids)
    }

    /// Tells whether two more programs must map them, which takes a while.
    pub(crate) fn need_mappers(&self) -> bool {
        !geteuid().is_root() && !self.is_single()
    }

    /// Begins to give the namespace of `pid` its ids: by itself where it may, else through `newuidmap` and `newgidmap`,
    /// both at once.
    pub(crate) fn begin(&self, pid: Pid) -> Result<Mapping, Error> {
        if self.need_mappers() {
            let users = run_mapper("newuidmap", pid, &self.uids)?;
            let groups = run_mapper("newgidmap", pid, &self.gids)?;
            return Ok(Mapping(vec![("newuidmap", users), ("newgidmap", groups)]));
        }
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let write = |name: &str, content: &str| {
            let path = proc.join(name);
            fs::write(&path, content).map_err(|source| Error::file("write", path, source))
        };
        if !geteuid().is_root() {
            write("setgroups", "deny")?;
        }
        write("gid_map", &lines(&self.gids))?;
        write("uid_map", &lines(&self.uids))?;
        Ok(Mapping(Vec::new()))
    }
}

/// The programs that map ids, at work.
#[derive(Debug)]
pub(crate) struct Mapping(Vec<(&'static str, Child)>);

impl Mapping {
    /// Waits until the ids are mapped.
    pub(crate) fn finish(self) -> Result<(), Error> {
        self.0.into_iter().try_for_each(|(program, child)| {
            finish_mapper(program, child).inspect_err(|error| drop(FAILED.set(error.to_string())))
        })
    }
}

/// Each range within one of the ranges around: the kernel takes no other.
fn keep_id(around: &[IdMapping], kept: u32) -> Vec<IdMapping> {
    let total: u32 = around.iter().map(|range| range.size).sum();
    let before = kept.min(total.saturating_sub(1));
    let wanted = [(0, 1, before), (kept, 0, 1), (before + 1, before + 1, total.saturating_sub(before + 1))];
    let mut ids = Vec::new();
    for (container_id, host_id, size) in wanted {
        for range in around {
            let first = host_id.max(range.container_id);
            let end = (host_id + size).min(range.container_id + range.size);
            if first < end {
                let container_id = container_id + (first - host_id);
                ids.push(IdMapping { container_id, host_id: first, size: end - first });
            }
        }
    }
    ids
}

pub(crate) fn lines(mappings: &[IdMapping]) -> String {
    mappings.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect()
}

/// First subordinate id that useradd(8) gives, and how many a user gets.
const FIRST_SUBORDINATE: u32 = 100_000;
const SUBORDINATES: u32 = 65_536;
/// The place where ids begin that nobody gives to users.
const LAST: u32 = i32::MAX as u32;

/// Returns the command with which root gives a user subordinate ids that nobody has: who had those of another user
/// would own that user's container files. None where all are taken.
pub fn grant_command(user: &str) -> Option<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let ranges = ["/etc/subuid", "/etc/subgid"].map(read);
    let accounts = ["/etc/passwd", "/etc/group"].map(read);
    let first = free_range(&ranges, &accounts)?;
    let range = format!("{first}-{}", first + SUBORDINATES - 1);
    Some(format!("usermod --add-subuids {range} --add-subgids {range} {user}"))
}

/// The first id of a range that neither subordinate ranges nor accounts have a part in.
fn free_range(ranges: &[String], accounts: &[String]) -> Option<u32> {
    let column = |line: &str, at: usize| line.trim().split(':').nth(at)?.parse::<u32>().ok();
    let ranges = ranges.iter().flat_map(|text| text.lines());
    let ranges = ranges.filter_map(|line| Some((column(line, 1)?, column(line, 2)?)));
    let accounts = accounts.iter().flat_map(|text| text.lines());
    let accounts = accounts.filter_map(|line| Some((column(line, 2)?, 1)));
    let mut taken: Vec<_> = ranges.chain(accounts).filter(|(_, size)| *size > 0).collect();
    taken.sort_unstable();
    let mut first = FIRST_SUBORDINATE;
    for (begin, size) in taken {
        let end = begin.saturating_add(size);
        if end > first && begin < first.saturating_add(SUBORDINATES) {
            first = end;
        }
    }
    (first <= LAST - SUBORDINATES).then_some(first)
}

/// Lays the ranges one after the other, from id 1 on.
fn stack_ranges(ranges: &[(u32, u32)]) -> Vec<IdMapping> {
    let mut next = 1;
    let place = |&(host_id, size): &(u32, u32)| {
        let mapping = IdMapping { container_id: next, host_id, size };
        next += size;
        mapping
    };
    ranges.iter().map(place).collect()
}

fn subordinate_ids(path: &Path, name: Option<&str>, uid: Uid) -> Result<Vec<(u32, u32)>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(ranges_of(&text, name, uid)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::file("read", path, error)),
    }
}

/// The `(first, count)` ranges that belong to the user, by name or by number; see subuid(5).
fn ranges_of(text: &str, name: Option<&str>, uid: Uid) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let parse = |line: &str| {
        let mut parts = line.trim().split(':');
        let owner = parts.next()?;
        (Some(owner) == name || owner == number).then_some(())?;
        let range = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (range.1 > 0).then_some(range)
    };
    text.lines().filter_map(parse).collect()
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/bin".into(), "/bin".into(), "/usr/sbin".into()]);
    places.map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Returns why this user's ids cannot be mapped by that program: it takes privileges that it may not have, or not get
/// here.
fn mapper_problem(name: &str) -> Option<String> {
    use caps::Capability::{CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN};
    if geteuid().is_root() {
        return None;
    }
    let Some(path) = find_program(name) else {
        return Some(format!("{name} is not installed (package uidmap or shadow-utils)"));
    };
    let shown = path.display();
    let mode = fs::metadata(&path).map_or(0, |found| if found.uid() == 0 { found.mode() } else { 0 });
    let (set_uid, file_capabilities) =
        (mode & 0o4000 != 0, sys::has_attribute(&path, c"security.capability"));
    if !set_uid && !file_capabilities {
        return Some(format!("{shown} has neither set-uid nor capabilities (chmod u+s {shown})"));
    }
    if nix::sys::prctl::get_no_new_privs().unwrap_or(false) {
        return Some(format!(
            "no_new_privs is set, under which {name} gets no privileges (allowPrivilegeEscalation, or no-new-privileges of the container around podctl)"
        ));
    }
    if statvfs(&path).is_ok_and(|found| found.flags().contains(FsFlags::ST_NOSUID)) {
        return Some(format!("{shown} lies on a file system that is mounted nosuid"));
    }
    let is_bound = |capability| !caps::has_cap(None, caps::CapSet::Bounding, capability).unwrap_or(true);
    // Root that is no owner of the namespace needs it; who has file capabilities still is the user.
    let needed = [CAP_SETUID, CAP_SETGID, CAP_SYS_ADMIN];
    let needed = if file_capabilities { &needed[..2] } else { &needed[..] };
    let missing = needed.iter().find(|capability| is_bound(**capability))?;
    Some(format!("the container around podctl has no {missing}, without which {name} maps nothing"))
}

fn run_mapper(program: &'static str, pid: Pid, mappings: &[IdMapping]) -> Result<Child, Error> {
    let numbers = mappings.iter().flat_map(|m| [m.container_id, m.host_id, m.size]);
    Command::new(find_program(program).unwrap_or_else(|| program.into()))
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Error::IdMap { program, reason: error.to_string() })
}

fn finish_mapper(program: &'static str, child: Child) -> Result<(), Error> {
    let output =
        collect_output(child).map_err(|error| Error::IdMap { program, reason: error.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::IdMap { program, reason: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "a:100000:65536\n1001:300000:10\nb:1:1\nbroken\na:x:1\n";
        assert_eq!(ranges_of(text, Some("a"), Uid::from_raw(1001)), [(100_000, 65536), (300_000, 10)]);
        assert_eq!(ranges_of(text, None, Uid::from_raw(7)), []);
    }

    #[test]
    fn a_range_that_is_offered_is_nobodys() {
        let of = |ranges: &[&str], accounts: &[&str]| {
            let own = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            free_range(&own(ranges), &own(accounts))
        };
        assert_eq!(of(&[], &["root:x:0:0::/:\nann:x:1000:1000::/:\n"]), Some(100_000));
        assert_eq!(of(&["ann:100000:65536\n", ""], &[]), Some(165_536));
        assert_eq!(of(&["", "ann:100000:65536\nbob:231072:65536\n"], &[]), Some(165_536));
        assert_eq!(of(&["ann:90000:20000\n", "bob:165535:2\nbroken\n"], &[]), Some(165_537));
        // Ranges that lie in one another.
        assert_eq!(of(&["a:100000:1000000\nb:100001:5\n"], &[]), Some(1_100_000));
        assert_eq!(of(&[], &["far:x:120000:5::/:\n", "group:x:185000:\n"]), Some(185_001));
        assert_eq!(of(&["all:0:2147483647\n"], &[]), None);
        assert_eq!(of(&["all:1:4294967295\n"], &[]), None);
    }

    #[test]
    fn ranges_follow_the_own_id_without_gaps() {
        let maps = stack_ranges(&[(100_000, 5), (300_000, 10)]);
        assert_eq!(maps[0], IdMapping { container_id: 1, host_id: 100_000, size: 5 });
        assert_eq!(maps[1], IdMapping { container_id: 6, host_id: 300_000, size: 10 });
    }
    #[test]
    fn the_user_keeps_an_id_and_the_others_have_the_places_left() {
        let range = |container_id, host_id, size| IdMapping { container_id, host_id, size };
        // As the user namespace around sees it: the user, then two ranges.
        let around = [range(0, 1000, 1), range(1, 100_000, 5000), range(5001, 300_000, 100)];
        assert_eq!(
            keep_id(&around, 1000),
            [range(0, 1, 1000), range(1000, 0, 1), range(1001, 1001, 4000), range(5001, 5001, 100)]
        );
        assert_eq!(keep_id(&around, 0), [range(0, 0, 1), range(1, 1, 5000), range(5001, 5001, 100)]);
        assert_eq!(
            keep_id(&around, 5050),
            [range(0, 1, 5000), range(5000, 5001, 50), range(5050, 0, 1), range(5051, 5051, 50)]
        );
        // Beyond all that there are.
        assert_eq!(
            keep_id(&around, 70_000),
            [range(0, 1, 5000), range(5000, 5001, 100), range(70_000, 0, 1)]
        );
    }
}
