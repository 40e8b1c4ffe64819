//! Where cgroups of version 2 can be made. A cgroup holds processes or divides its controllers, never both: so it is the own
//! one where nobody else is in it, or the nearest above it that is divided already. In a container, or a cgroup that was
//! delegated, there is often neither: [`make_room`] moves the processes into a leaf first, as Docker-in-Docker does.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access, geteuid};

use crate::sys;

/// The controllers that are used.
pub(crate) const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "hugetlb"];
/// The leaf where the processes of a cgroup go that is to be divided; Docker-in-Docker and kind call it so, too.
const LEAF: &str = "init";
/// The leaf where this process goes by itself when nobody else is in its cgroup.
const OWN_LEAF: &str = "supervisor";
/// Number of times that processes are moved: some may fork meanwhile.
const ROUNDS: u32 = 10;

/// The use that a process's own cgroup can be put to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Cgroups can be made in this one as it is.
    Divided(PathBuf),
    /// Names this one, once this process, alone in it, has gone into a leaf.
    Alone(PathBuf),
    /// Names this one, once all of its processes have.
    Shared(PathBuf),
}

/// Finds where cgroups can be made for a process in `own`; `root` is where the tree is mounted. Changes nothing.
///
/// # Errors
/// Why there is no such place.
pub(crate) fn find_place(root: &Path, own: &Path) -> Result<Place, String> {
    let mut above = own.ancestors().take_while(|dir| dir.starts_with(root));
    if let Some(divided) = above.find(|dir| is_writable(dir) && is_divided(dir))
        && (divided == own || is_delegated(divided))
    {
        return Ok(Place::Divided(divided.to_owned()));
    }
    match is_writable(own) {
        false => Err(explain_refusal(own)),
        // Without controllers there is nothing that a process could be in the way of.
        true if is_root_of_all(own) || list_wanted(own).is_empty() => Ok(Place::Divided(own.to_owned())),
        true if is_alone(own) => Ok(Place::Alone(own.to_owned())),
        true => Ok(Place::Shared(own.to_owned())),
    }
}

/// Makes the place usable for this process.
///
/// # Errors
/// Why it stays as it is.
pub(crate) fn take_place(place: Place) -> Result<PathBuf, String> {
    let failed = |dir: &Path, error: std::io::Error| {
        format!("controllers of cgroup {} cannot be divided: {error}", dir.display())
    };
    match place {
        Place::Divided(dir) => match divide_cgroup(&dir) {
            Ok(()) => Ok(dir),
            Err(error) => Err(failed(&dir, error)),
        },
        Place::Alone(dir) => {
            let leave = || {
                let leaf = dir.join(OWN_LEAF);
                fs::create_dir_all(&leaf)?;
                fs::write(leaf.join("cgroup.procs"), "0")
            };
            divide_cgroup(&dir)
                .or_else(|_| leave().and_then(|()| divide_cgroup(&dir)))
                .map_err(|e| failed(&dir, e))?;
            Ok(dir)
        }
        Place::Shared(dir) => {
            Err(format!("cgroup {} holds other processes and cannot be divided", dir.display()))
        }
    }
}

/// Moves the processes of a cgroup that holds others into a leaf, where that makes it one to be divided: a container's, or one
/// that was delegated. What cannot be done here is told by who wants a cgroup afterwards.
pub(crate) fn make_room(root: &Path, own: &Path) {
    let Ok(Place::Shared(dir) | Place::Alone(dir)) = find_place(root, own) else { return };
    let leaf = dir.join(LEAF);
    if !is_delegated(&dir) || fs::create_dir_all(&leaf).is_err() {
        return;
    }
    for _ in 0..ROUNDS {
        for pid in list_processes(&dir) {
            // One that has ended need not be moved; 0 is one of another PID namespace, and cannot be.
            let _ = fs::write(leaf.join("cgroup.procs"), pid);
        }
        if divide_cgroup(&dir).is_ok() {
            return;
        }
    }
}

/// Returns the leaf that whoever lives in the cgroup has moved into; a process cannot join what is divided.
pub(crate) fn find_leaf(dir: &Path) -> Option<PathBuf> {
    [LEAF, OWN_LEAF].map(|name| dir.join(name)).into_iter().find(|leaf| leaf.is_dir())
}

/// Tries whether a cgroup with the place's controllers can be made in it, and takes it away again. Returns them.
///
/// # Errors
/// Why not.
pub(crate) fn try_place(place: &Place) -> Result<Vec<&'static str>, String> {
    let (Place::Divided(dir) | Place::Alone(dir) | Place::Shared(dir)) = place;
    let made = dir.join(format!("podctl-doctor-{}", std::process::id()));
    let failed = |e: std::io::Error| format!("no cgroup can be made in {}: {e}", dir.display());
    fs::create_dir(&made).map_err(failed)?;
    let removed = fs::remove_dir(&made);
    removed.map_err(failed)?;
    let available = read_file(dir, "cgroup.controllers");
    let known = |name: &&str| available.split_whitespace().any(|controller| controller == *name);
    Ok(CONTROLLERS.into_iter().filter(known).collect())
}

/// Hands the controllers on that are available and used.
pub(crate) fn divide_cgroup(dir: &Path) -> std::io::Result<()> {
    fs::write(dir.join("cgroup.subtree_control"), list_wanted(dir).join(" "))
}

/// Hands a controller down from the root to a cgroup, where that can be done: systemd manages only some of them, and leaves
/// the others at the root.
pub(crate) fn hand_down(root: &Path, dir: &Path, controller: &str) {
    let has =
        |dir: &Path, file: &str| read_file(dir, file).split_whitespace().any(|known| known == controller);
    let mut above: Vec<&Path> = dir.ancestors().skip(1).take_while(|dir| dir.starts_with(root)).collect();
    above.reverse();
    for dir in above {
        let is_handed = has(dir, "cgroup.subtree_control")
            || has(dir, "cgroup.controllers")
                && fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}")).is_ok();
        if !is_handed {
            return;
        }
    }
}

/// Lists what `cgroup.subtree_control` is to be told.
fn list_wanted(dir: &Path) -> Vec<String> {
    let available = read_file(dir, "cgroup.controllers");
    let known = |name: &&str| available.split_whitespace().any(|controller| controller == *name);
    CONTROLLERS.into_iter().filter(known).map(|name| format!("+{name}")).collect()
}

/// Tells whether all of the available controllers are handed on already.
fn is_divided(dir: &Path) -> bool {
    let handed = read_file(dir, "cgroup.subtree_control");
    let wanted = list_wanted(dir);
    !wanted.is_empty()
        && wanted.iter().all(|name| handed.split_whitespace().any(|controller| controller == &name[1..]))
}

/// Tells whether it is the machine's root, which may hold processes; it alone has no type.
fn is_root_of_all(dir: &Path) -> bool {
    !dir.join("cgroup.type").exists()
}

fn is_alone(dir: &Path) -> bool {
    let own = std::process::id().to_string();
    list_processes(dir).iter().all(|pid| *pid == own)
}

fn list_processes(dir: &Path) -> Vec<String> {
    read_file(dir, "cgroup.procs").lines().map(str::to_owned).collect()
}

/// Tells whether systemd, where there is one, leaves the cgroup to others; it marks those.
fn is_delegated(dir: &Path) -> bool {
    !Path::new("/run/systemd/system").exists() || sys::has_attribute(dir, c"user.delegate")
}

/// Tells whether cgroups can be made in it, and processes moved.
pub(crate) fn is_writable(dir: &Path) -> bool {
    access(dir, AccessFlags::W_OK).is_ok() && access(&dir.join("cgroup.procs"), AccessFlags::W_OK).is_ok()
}

fn explain_refusal(dir: &Path) -> String {
    let shown = dir.display();
    if statvfs(dir).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY)) {
        return format!("cgroup {shown} is mounted read-only");
    }
    match geteuid().is_root() {
        true => format!("cgroup {shown} cannot be written"),
        false => format!(
            "cgroup {shown} is not delegated to this user (systemd-run --user --scope -p Delegate=yes does that)"
        ),
    }
}

fn read_file(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what the kernel would make is made by hand: a cgroup of that name, its processes, and what
    /// it hands on.
    fn make_cgroup(dir: &Path, processes: &str, handed: &str) -> PathBuf {
        fs::create_dir_all(dir).unwrap();
        let files = [
            ("cgroup.controllers", "cpuset cpu io memory pids\n"),
            ("cgroup.type", "domain\n"),
            ("cgroup.procs", processes),
            ("cgroup.subtree_control", handed),
        ];
        files.iter().for_each(|(name, text)| fs::write(dir.join(name), text).unwrap());
        dir.to_owned()
    }

    #[test]
    fn a_place_is_the_own_cgroup_or_the_nearest_above_that_is_divided() {
        let dir = tempfile::tempdir().unwrap();
        let root = make_cgroup(dir.path(), "1\n2\n", "");
        assert_eq!(find_place(&root, &root), Ok(Place::Shared(root.clone())));
        let own = format!("{}\n", std::process::id());
        let alone = make_cgroup(&dir.path().join("alone"), &own, "");
        assert_eq!(find_place(&root, &alone), Ok(Place::Alone(alone.clone())));
        // Docker-in-Docker's recipe: the root is divided, its processes are in a leaf.
        make_cgroup(dir.path(), "", "cpu memory pids\n");
        let leaf = make_cgroup(&dir.path().join("init"), "1\n2\n", "");
        assert_eq!(find_place(&root, &leaf), Ok(Place::Divided(root.clone())));
        assert_eq!(find_leaf(&root), Some(leaf));
        // The machine's own root may hold processes.
        fs::remove_file(root.join("cgroup.type")).unwrap();
        make_cgroup(dir.path(), "1\n", "cpu\n");
        fs::remove_file(root.join("cgroup.type")).unwrap();
        assert_eq!(find_place(&root, &root), Ok(Place::Divided(root.clone())));
    }

    #[test]
    fn a_controller_is_handed_down_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let root = make_cgroup(dir.path(), "", "cpu memory\n");
        let middle = make_cgroup(&dir.path().join("middle"), "", "cpu pids\n");
        let own = make_cgroup(&middle.join("own"), "1\n", "");
        hand_down(&root, &own, "pids");
        let handed = |dir: &Path| read_file(dir, "cgroup.subtree_control");
        assert_eq!([&root, &middle, &own].map(|dir| handed(dir)), ["+pids", "cpu pids\n", ""]);
        hand_down(&root, &own, "hugetlb");
        assert_eq!(handed(&root), "+pids");
    }

    #[test]
    fn a_directory_that_cannot_be_divided_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent");
        let said = find_place(dir.path(), &absent).unwrap_err();
        let words = if geteuid().is_root() { "cannot be written" } else { "is not delegated to this user" };
        assert!(said.contains(words), "{said}");
        let said = take_place(Place::Shared(absent.clone())).unwrap_err();
        assert!(said.contains("holds other processes"), "{said}");
        assert!(take_place(Place::Divided(absent)).unwrap_err().contains("cannot be divided"));
    }

    #[test]
    fn processes_make_room_in_a_leaf() {
        let dir = tempfile::tempdir().unwrap();
        let root = make_cgroup(dir.path(), "1\n2\n", "");
        if !is_delegated(&root) {
            return;
        }
        make_cgroup(&dir.path().join("init"), "", "");
        make_room(&root, &root);
        assert_eq!(read_file(&root.join("init"), "cgroup.procs"), "2", "each is written by itself");
        assert_eq!(read_file(&root, "cgroup.subtree_control"), "+cpu +memory +pids");
    }
}
