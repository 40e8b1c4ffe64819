//! Hostile and ordinary archives. Made as root, as unpacking is.

use std::ffi::CString;
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

    fn add_dir(self, name: &str) -> Self {
        self.add(EntryType::Directory, name, "", "")
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.add(kind, name, target, "")
    }

    /// Unpacks in `outer/root`; `outer/secret` is what must stay out of reach.
    fn unpack(self) -> (tempfile::TempDir, PathBuf, Result<Unpacked, UnpackError>) {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        let limits = Limits { bytes: 1 << 20, squash_ids: false };
        let result = unpack(&*self.0.into_inner().unwrap(), &root, limits);
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
        .add_dir("d")
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
        Archive::new().add_dir("d").file("d/.wh.gone", "").file("d/.wh..wh..opq", "").unpack();
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
    let (_outer, root, result) = Archive::new().add_dir("d").file("d/su", "x").unpack();
    result.unwrap();
    let su = fs::metadata(root.join("d/su")).unwrap();
    assert_eq!((su.uid(), su.gid(), su.mode() & 0o7777, su.mtime()), (7, 8, 0o4755, 1_000_000));
    assert_eq!(fs::metadata(root.join("d")).unwrap().mtime(), 1_000_000);
}

#[test]
fn headers_cannot_fill_the_memory() {
    let (_outer, root, result) =
        Archive::new().add(EntryType::GNULongName, "n", "", &"x".repeat(8 << 20)).file("f", "x").unpack();
    assert!(matches!(result, Err(UnpackError::Archive(_))), "{result:?}");
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
}

fn pax_record(key: &str, value: &str) -> String {
    let length = key.len() + value.len() + 3;
    let digits = (length + 2).to_string().len();
    format!("{} {key}={value}\n", length + digits)
}

#[test]
fn sparse_files_come_out_as_they_were_in_every_form() {
    let one_zero = pax_record("GNU.sparse.major", "1")
        + &pax_record("GNU.sparse.minor", "0")
        + &pax_record("GNU.sparse.name", "f")
        + &pax_record("GNU.sparse.realsize", "100000");
    let mut data = "2\n5000\n3\n9000\n4\n".to_owned();
    data.extend(std::iter::repeat_n('\0', 512 - data.len()));
    let zero_one = pax_record("GNU.sparse.size", "100000")
        + &pax_record("GNU.sparse.numblocks", "2")
        + &pax_record("GNU.sparse.name", "f")
        + &pax_record("GNU.sparse.map", "5000,3,9000,4");
    let zero_zero = pax_record("GNU.sparse.size", "100000")
        + &[("5000", "3"), ("9000", "4")]
            .map(|(offset, length)| {
                pax_record("GNU.sparse.offset", offset) + &pax_record("GNU.sparse.numbytes", length)
            })
            .concat();
    for (headers, content, name) in [
        (&one_zero, data + "abcdefg", "GNUSparseFile.1/f"),
        (&zero_one, "abcdefg".to_owned(), "GNUSparseFile.1/f"),
        (&zero_zero, "abcdefg".to_owned(), "f"),
    ] {
        let archive = Archive::new().add(EntryType::XHeader, "pax", "", headers);
        let (_outer, root, result) = archive.file(name, &content).file("after", "x").unpack();
        result.unwrap();
        let file = fs::read(root.join("f")).unwrap();
        assert_eq!((file.len(), &file[5000..5003], &file[9000..9004]), (100_000, &b"abc"[..], &b"defg"[..]));
        assert_eq!(file.iter().filter(|byte| **byte != 0).count(), 7);
        assert!(root.join("after").exists() && !root.join("GNUSparseFile.1").exists());
    }
}

#[test]
fn a_sparse_file_whose_map_is_wrong_is_refused() {
    for map in ["5000,3,4000,4", "5000", "x,1", "18446744073709551615,9", "0,100", "999990,7"] {
        let headers = pax_record("GNU.sparse.size", "100000") + &pax_record("GNU.sparse.map", map);
        let archive = Archive::new().add(EntryType::XHeader, "pax", "", &headers);
        let (_outer, _root, result) = archive.file("f", "abcdefg").unpack();
        assert!(format!("{:?}", result.err().unwrap()).contains("sparse"), "{map}");
    }
}

#[test]
fn owners_that_are_not_mapped_become_root_where_that_is_wanted() {
    let archive = || {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o640);
        header.set_uid(1 << 33);
        header.set_gid(8);
        tar.append_data(&mut header, "f", std::io::empty()).unwrap();
        tar.into_inner().unwrap()
    };
    let root = tempfile::tempdir().unwrap();
    let limits = |squash_ids| Limits { bytes: 1 << 20, squash_ids };
    let error = unpack(&*archive(), root.path(), limits(false)).err().unwrap().to_string();
    assert!(error.contains("--squash-ids") && error.contains("8589934592"), "{error}");
    unpack(&*archive(), root.path(), limits(true)).unwrap();
    let file = fs::metadata(root.path().join("f")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (0, 0, 0o640));
}

#[test]
fn numbers_that_nobody_has_written_are_zero_and_others_have_to_be_numbers() {
    for (owner, is_taken) in [([0; 8], true), ([b' '; 8], true), (*b"nobody\0\0", false)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        let old = header.as_old_mut();
        old.name[0] = b'f';
        (old.uid, old.mtime) = (owner, [0; 12]);
        header.set_cksum();
        let mut tar = tar::Builder::new(Vec::new());
        tar.append(&header, std::io::empty()).unwrap();
        let root = tempfile::tempdir().unwrap();
        let limits = Limits { bytes: 1 << 20, squash_ids: false };
        assert_eq!(unpack(&*tar.into_inner().unwrap(), root.path(), limits).is_ok(), is_taken, "{owner:?}");
    }
}

#[test]
fn more_than_the_limit_is_refused_before_it_is_written() {
    let (_outer, root, result) = Archive::new().file("f", &"x".repeat(2 << 20)).unpack();
    assert!(matches!(result, Err(UnpackError::TooLarge { .. })), "{result:?}");
    assert!(!root.join("f").exists());
}

#[test]
fn overlayfs_marks_in_an_archive_are_not_overlayfs_marks() {
    let marks = pax_record("SCHILY.xattr.user.overlay.opaque", "y")
        + &pax_record("SCHILY.xattr.user.overlay.redirect", "/etc")
        + &pax_record("SCHILY.xattr.trusted.overlay.metacopy", "")
        + &pax_record("SCHILY.xattr.user.kept", "1");
    let (_outer, root, result) =
        Archive::new().add(EntryType::XHeader, "pax", "", &marks).add_dir("d").unpack();
    result.unwrap();
    let mut names = [0_u8; 256];
    let path = CString::new(root.join("d").into_os_string().into_vec()).unwrap();
    // SAFETY: the path ends in NUL, and the buffer is as long as said.
    let n = unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let names = String::from_utf8_lossy(&names[..usize::try_from(n).unwrap()]).into_owned();
    assert!(!names.contains("overlay"), "{names}");
}

#[test]
fn a_directory_that_was_whited_out_in_its_own_layer_is_opaque() {
    let said = Archive::new().file(".wh.d", "").add_dir("d").file("d/new", "x");
    let implied = Archive::new().file(".wh.d", "").file("d/new", "x");
    for archive in [said, implied] {
        let (_outer, root, result) = archive.unpack();
        result.unwrap();
        let path = CString::new(root.join("d").into_os_string().into_vec()).unwrap();
        let name = CString::new(format!("{}opaque", whiteouts::list_prefixes()[0])).unwrap();
        // SAFETY: both strings end in NUL; no value is read.
        let n = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
        assert_eq!(n, 1);
        assert!(root.join("d/new").is_file());
    }
}

#[test]
fn a_link_on_the_way_may_lead_to_where_only_a_lower_layer_has_something() {
    let (_outer, root, result) = Archive::new()
        .link(EntryType::Symlink, "lib", "usr/lib")
        .file("lib/a/b", "x")
        .link(EntryType::Symlink, "up", "/var/../../opt/./x")
        .file("up/c", "y")
        .link(EntryType::Symlink, "etc", "/config")
        .file("etc/.wh.gone", "")
        .unpack();
    result.unwrap();
    assert_eq!(fs::read_to_string(root.join("usr/lib/a/b")).unwrap(), "x");
    assert_eq!(fs::read_to_string(root.join("opt/x/c")).unwrap(), "y");
    assert_eq!(fs::read_link(root.join("lib")).unwrap(), Path::new("usr/lib"), "the link stays");
    assert!(fs::symlink_metadata(root.join("config/gone")).unwrap().file_type().is_char_device());
}

#[test]
fn links_that_lead_to_one_another_or_out_make_nothing_elsewhere() {
    let (_outer, _root, result) = Archive::new()
        .link(EntryType::Symlink, "a", "b")
        .link(EntryType::Symlink, "b", "a")
        .file("a/x", "x")
        .unpack();
    assert!(matches!(result, Err(UnpackError::Entry { errno: Errno::ELOOP, .. })), "{result:?}");
    let (outer, root, result) =
        Archive::new().link(EntryType::Symlink, "a", "../../../out").file("a/x", "x").unpack();
    result.unwrap();
    assert!(!outer.path().join("out").exists());
    assert_eq!(fs::read_to_string(root.join("out/x")).unwrap(), "x");
}
