//! Hostile and ordinary archives. Made as root, as unpacking is.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::*;

struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Writes the name as it is: the builder's own setter refuses hostile ones.
    fn add(mut self, kind: EntryType, name: &str, link: &str, content: &str) -> Self {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o4755 });
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content.as_bytes()).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.add(EntryType::Regular, name, "", content)
    }

    fn dir(self, name: &str) -> Self {
        self.add(EntryType::Directory, name, "", "")
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.add(kind, name, target, "")
    }

    /// Unpacks in `outer/root`; `outer/secret` is what must stay out of reach.
    fn unpack(self) -> (tempfile::TempDir, PathBuf, Result<(), UnpackError>) {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        let result = unpack(&*self.0.into_inner().unwrap(), &root);
        (outer, root, result)
    }
}

#[test]
fn dotdot_and_absolute_names_stay_in_the_root() {
    let (outer, root, result) = Archive::new().file("../secret", "x").file("/abs/file", "y").unpack();
    result.unwrap();
    assert_eq!(fs::read_to_string(outer.path().join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_to_string(root.join("secret")).unwrap(), "x");
    assert_eq!(fs::read_to_string(root.join("abs/file")).unwrap(), "y");
}

#[test]
fn symlinks_on_the_way_resolve_in_the_root() {
    let (outer, root, result) = Archive::new()
        .dir("d")
        .link(EntryType::Symlink, "up", "../..")
        .file("up/secret", "x")
        .link(EntryType::Symlink, "abs", "/d")
        .file("abs/f", "y")
        .unpack();
    result.unwrap();
    assert_eq!(fs::read_to_string(outer.path().join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_to_string(root.join("secret")).unwrap(), "x");
    assert_eq!(fs::read_to_string(root.join("d/f")).unwrap(), "y");
}

#[test]
fn a_file_replaces_a_symlink_instead_of_writing_through_it() {
    let (outer, root, result) =
        Archive::new().link(EntryType::Symlink, "s", "../secret").file("s", "x").unpack();
    result.unwrap();
    assert_eq!(fs::read_to_string(outer.path().join("secret")).unwrap(), "secret");
    assert!(fs::symlink_metadata(root.join("s")).unwrap().is_file());
}

#[test]
fn hardlinks_share_an_inode_and_cannot_leave_the_root() {
    let (_outer, root, result) = Archive::new().file("a", "x").link(EntryType::Link, "b", "a").unpack();
    result.unwrap();
    assert_eq!(fs::metadata(root.join("a")).unwrap().ino(), fs::metadata(root.join("b")).unwrap().ino());

    let (outer, root, result) = Archive::new().link(EntryType::Link, "b", "../secret").unpack();
    assert!(matches!(result, Err(UnpackError::Entry { action: "link", .. })));
    assert!(!root.join("b").exists());
    assert_eq!(fs::metadata(outer.path().join("secret")).unwrap().nlink(), 1);
}

#[test]
fn whiteouts_become_overlayfs_ones() {
    let (_outer, root, result) =
        Archive::new().dir("d").file("d/.wh.gone", "").file("d/.wh..wh..opq", "").unpack();
    result.unwrap();
    let gone = fs::symlink_metadata(root.join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device());
    assert_eq!(gone.rdev(), 0);
    assert!(!root.join("d/.wh..wh..opq").exists());
}

#[test]
fn a_whiteout_must_name_something() {
    let (_outer, _root, result) = Archive::new().file(".wh...", "").unpack();
    assert!(matches!(result, Err(UnpackError::Name(_))));
}

#[test]
fn owner_mode_and_times_are_kept() {
    let (_outer, root, result) = Archive::new().dir("d").file("d/su", "x").unpack();
    result.unwrap();
    let su = fs::metadata(root.join("d/su")).unwrap();
    assert_eq!((su.uid(), su.gid(), su.mode() & 0o7777, su.mtime()), (7, 8, 0o4755, 1_000_000));
    assert_eq!(fs::metadata(root.join("d")).unwrap().mtime(), 1_000_000);
}
