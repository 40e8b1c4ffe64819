//! Who a container runs as: securityContext over the image's USER, names looked up in the image.

use std::path::{Path, PathBuf};

use podctl_images::Tree;

use super::Error;

/// Longest /etc/passwd or /etc/group that is read; an image is not trusted to be reasonable.
const LONGEST: u64 = 4 << 20;
/// Largest user or group id, as for kube-apiserver. The kernel takes -1 (4294967295) for "as it is": root (CVE-2024-40635).
const LARGEST_ID: i64 = i32::MAX as i64;

/// The identity of a container's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Supplementary groups of the image's /etc/group.
    pub groups: Vec<u32>,
    /// Home directory, `/` when the image knows none.
    pub home: String,
}

/// Resolves the image's USER (`name`, `uid`, `user:group`), overridden by the securityContext.
///
/// # Errors
/// [`Error::Config`] for a name that the image's files do not hold.
pub fn resolve(
    layers: &[PathBuf],
    image_user: &str,
    run_as_user: Option<i64>,
    run_as_group: Option<i64>,
) -> Result<User, Error> {
    let image = Tree::open(layers).map_err(|e| Error::Config(e.to_string()))?;
    let passwd = read(&image, "etc/passwd");
    let group = read(&image, "etc/group");
    let (user, image_group) = match image_user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (image_user, None),
    };
    let wanted = match run_as_user {
        Some(uid) => uid.to_string(),
        None if user.is_empty() => "0".to_owned(),
        None => user.to_owned(),
    };
    let entry = split_rows(&passwd)
        .find(|row| row.first() == Some(&&*wanted))
        .or_else(|| split_rows(&passwd).find(|row| row.get(2) == Some(&&*wanted)));
    let uid = match (wanted.parse(), &entry) {
        (Ok(uid), _) => checked_id(uid, "user")?,
        (Err(_), Some(row)) => id_of_row(row, 2, "user")?,
        (Err(_), None) => return Err(unknown_name("user", &wanted)),
    };
    let primary = match entry.as_deref() {
        Some(row) if row.get(3).is_some_and(|id| !id.is_empty()) => id_of_row(row, 3, "group")?,
        _ => 0,
    };
    let gid = match (run_as_group, image_group) {
        (Some(gid), _) => checked_id(gid, "group")?,
        (None, Some(name)) if run_as_user.is_none() && !name.is_empty() => match name.parse() {
            Ok(gid) => checked_id(gid, "group")?,
            Err(_) => {
                let row = split_rows(&group).find(|row| row.first() == Some(&name));
                id_of_row(&row.ok_or_else(|| unknown_name("group", name))?, 2, "group")?
            }
        },
        _ => primary,
    };
    let name = entry.as_deref().and_then(|row| row.first().copied()).unwrap_or("");
    let is_member = |row: &Vec<&str>| {
        !name.is_empty() && row.get(3).is_some_and(|members| members.split(',').any(|m| m == name))
    };
    let groups: Result<Vec<_>, _> =
        split_rows(&group).filter(is_member).map(|row| id_of_row(&row, 2, "group")).collect();
    let groups = groups?.into_iter().filter(|g| *g != gid).collect();
    let home = entry
        .as_deref()
        .and_then(|row| row.get(5).copied())
        .filter(|h| !h.is_empty())
        .unwrap_or("/")
        .to_owned();
    Ok(User { uid, gid, groups, home })
}

/// Returns the id as the kernel takes it.
///
/// # Errors
/// [`Error::Config`] for one outside of 0 to 2147483647.
pub(super) fn checked_id(id: i64, kind: &str) -> Result<u32, Error> {
    let fits = (0..=LARGEST_ID).contains(&id);
    fits.then_some(id as u32).ok_or_else(|| unfit_id(&id.to_string(), kind))
}

/// The id in a row of the image's /etc/passwd or /etc/group.
fn id_of_row(row: &[&str], at: usize, kind: &str) -> Result<u32, Error> {
    let text = row.get(at).copied().unwrap_or_default();
    checked_id(text.parse().map_err(|_| unfit_id(text, kind))?, kind)
}

fn unfit_id(id: &str, kind: &str) -> Error {
    Error::Config(format!(
        "{kind} id {id:?} is not a number from 0 to {LARGEST_ID}; set securityContext.runAsUser and runAsGroup, or use another image"
    ))
}

fn unknown_name(kind: &str, name: &str) -> Error {
    let file = if kind == "user" { "/etc/passwd" } else { "/etc/group" };
    Error::Config(format!(
        "the image has no {kind} {name:?} in its {file}; give a number in securityContext.runAsUser or runAsGroup"
    ))
}

fn split_rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|l| !l.starts_with('#')).map(|l| l.split(':').collect())
}

/// The file as the image shows it; absent, hidden or too long is empty. Bytes that are no text, in a comment say, cost
/// nothing but themselves.
fn read(image: &Tree, file: &str) -> String {
    let content = image.read(Path::new(file), LONGEST).unwrap_or_default();
    String::from_utf8_lossy(&content).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(passwd: &str, group: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(dir.path().join("etc/group"), group).unwrap();
        let layers = vec![dir.path().to_owned()];
        (dir, layers)
    }

    #[test]
    fn r_sec_1_names_are_looked_up_in_the_image_and_the_security_context_wins() {
        let (_dir, layers) =
            image("root:x:0:0::/root:/bin/sh\nweb:x:33:44::/var/www:/bin/sh\n", "logs:x:7:web\nadm:x:9:\n");
        let web = User { uid: 33, gid: 44, groups: vec![7], home: "/var/www".into() };
        assert_eq!(resolve(&layers, "web", None, None).unwrap(), web);
        assert_eq!(resolve(&layers, "33", None, None).unwrap(), web);
        assert_eq!(resolve(&layers, "web:adm", None, None).unwrap().gid, 9);
        assert_eq!(resolve(&layers, "web:adm", Some(0), None).unwrap().gid, 0);
        assert_eq!(
            resolve(&layers, "", Some(1000), Some(5)).unwrap(),
            User { uid: 1000, gid: 5, groups: vec![], home: "/".into() }
        );
        assert!(
            resolve(&layers, "nobody", None, None).unwrap_err().to_string().contains("no user \"nobody\"")
        );
    }

    #[test]
    fn r_sec_1_an_id_beyond_the_largest_is_refused_wherever_it_is_written() {
        let (_dir, layers) = image(
            "evil:x:4294967295:0::/:/bin/sh\nlow:x:-1:0::/:/bin/sh\nworse:x:7:4294967295::/:/bin/sh\nmember:x:8:8::/:/bin/sh\nodd:x:y:0::/:/bin/sh\n",
            "all:x:4294967295:member\nhigh:x:2147483648:\n",
        );
        for user in [
            "4294967295",
            "2147483648",
            "4294967296",
            "18446744073709551615",
            "-1",
            "evil",
            "low",
            "worse",
            "member",
            "odd",
            "1:4294967295",
            "1:-1",
            "1:high",
            "4294967295:4294967295",
        ] {
            let refused = resolve(&layers, user, None, None);
            assert!(refused.is_err(), "{user}: {refused:?}");
        }
        for (user, group) in
            [(Some(-1), None), (Some(1 << 31), None), (None, Some(-1)), (None, Some(1 << 32))]
        {
            assert!(resolve(&layers, "", user, group).is_err(), "{user:?} {group:?}");
        }
        assert_eq!(resolve(&layers, "2147483647:2147483647", None, None).unwrap().uid, 2_147_483_647);
    }

    #[test]
    fn a_link_in_the_image_does_not_reach_the_hosts_passwd() {
        let (dir, layers) = image("", "");
        std::fs::remove_file(dir.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/etc/../../../../etc/hostile", dir.path().join("etc/passwd")).unwrap();
        assert!(resolve(&layers, "root", None, None).is_err());
    }

    #[test]
    fn a_line_that_is_no_text_costs_no_other_line() {
        let (dir, layers) = image("", "");
        let passwd = b"root:x:0:0:r\xf6\xf6t:/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\n";
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        assert_eq!(resolve(&layers, "web", None, None).unwrap().uid, 33);
        assert_eq!(resolve(&layers, "root", None, None).unwrap().home, "/root");
    }
}
