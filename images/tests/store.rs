//! What lies in the store: directories that layers only imply, archives without names, and damage of every kind.

mod served;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use podctl_images::{Error, Image, Options, Store, load, pull, save};
use served::{Quiet, build_image, make_store, serve, sha256};

/// A tar of directories (`mode uid name/`) and files.
fn layer(entries: &[(u32, u64, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (mode, uid, name) in entries {
        let mut header = tar::Header::new_gnu();
        let content = if name.ends_with('/') { "" } else { "content" };
        header.set_entry_type(if name.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_mode(*mode);
        header.set_uid(*uid);
        header.set_gid(*uid);
        header.set_mtime(1_000_000);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Returns what `docker save` would write of these layers.
fn save_archive(layers: &[Vec<u8>], tags: &str) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|layer| format!("{:?}", sha256(layer))).collect();
    let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, ids.join(","));
    let names: Vec<_> = (0..layers.len()).map(|n| format!("\"{n}.tar\"")).collect();
    let manifest = format!(r#"[{{"Config":"c.json","RepoTags":{tags},"Layers":[{}]}}]"#, names.join(","));
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content).unwrap();
    };
    layers.iter().enumerate().for_each(|(n, layer)| add(&format!("{n}.tar"), layer));
    add("c.json", config.as_bytes());
    add("manifest.json", manifest.as_bytes());
    tar.into_inner().unwrap()
}

fn load_archive(store: &Store, archive: &[u8]) -> Result<Vec<Image>, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(archive).unwrap();
    load(store, file.path(), file.path(), false, &Quiet)
}

/// Mode and owner of a directory as the topmost layer that has it shows it.
fn shown(image: &Image, path: &str) -> (u32, u32) {
    let found =
        image.layers.iter().rev().find_map(|layer| fs::symlink_metadata(layer.join(path)).ok()).unwrap();
    (found.mode() & 0o7777, found.uid())
}

#[test]
fn a_directory_that_a_layer_only_implies_is_as_it_was_below() {
    let (_dir, store) = make_store();
    let low = layer(&[
        (0o700, 3, "./"),
        (0o1777, 0, "tmp/"),
        (0o700, 1000, "srv/private/"),
        (0o750, 7, "srv/gone/"),
        (0o750, 5, "opt/of-user/"),
        (0o644, 0, "opt/of-user/old"),
    ]);
    let new = layer(&[
        (0o644, 0, "tmp/seed"),
        (0o644, 1000, "srv/private/added"),
        (0o644, 0, "new/dir/file"),
        (0o644, 0, "srv/.wh.gone"),
    ]);
    let gone = layer(&[(0o644, 0, "opt/of-user/.wh.old"), (0o644, 0, "srv/gone/again")]);
    let image =
        &load_archive(&store, &save_archive(&[low.clone(), new.clone(), gone], r#"["example.com/app:1"]"#))
            .unwrap()[0];
    assert_eq!(shown(image, "tmp"), (0o1777, 0));
    assert_eq!(shown(image, "srv/private"), (0o700, 1000));
    assert_eq!(shown(image, "opt/of-user"), (0o750, 5));
    assert_eq!(shown(image, ""), (0o700, 3));
    assert_eq!(shown(image, "srv/gone"), (0o755, 0), "what was removed hands nothing on");
    assert_eq!(shown(image, "new/dir"), (0o755, 0));
    // The same layers, and another order of who is below whom.
    let other = &load_archive(
        &store,
        &save_archive(&[layer(&[(0o711, 9, "tmp/")]), new], r#"["example.com/app:2"]"#),
    )
    .unwrap()[0];
    assert_eq!((shown(other, "tmp"), shown(image, "tmp")), ((0o711, 9), (0o1777, 0)));
    // What the store made itself is mended, too.
    fs::remove_dir(other.layers.last().unwrap().join("tmp")).unwrap();
    let again = &load_archive(
        &store,
        &save_archive(
            &[
                layer(&[(0o711, 9, "tmp/")]),
                layer(&[
                    (0o644, 0, "tmp/seed"),
                    (0o644, 1000, "srv/private/added"),
                    (0o644, 0, "new/dir/file"),
                    (0o644, 0, "srv/.wh.gone"),
                ]),
            ],
            r#"["example.com/app:2"]"#,
        ),
    )
    .unwrap()[0];
    assert_eq!(shown(again, "tmp"), (0o711, 9));
    // Entries everywhere need no more than themselves.
    let whole = &load_archive(
        &store,
        &save_archive(
            &[layer(&[(0o755, 0, "./"), (0o700, 1, "a/"), (0o644, 0, "a/b")])],
            r#"["example.com/app:3"]"#,
        ),
    )
    .unwrap()[0];
    assert_eq!(whole.layers.len(), 1);
    for name in ["example.com/app:1", "example.com/app:2", "example.com/app:3"] {
        store.remove(&name.parse().unwrap()).unwrap();
    }
    assert!(served::is_empty(&_dir, "layers") && served::is_empty(&_dir, "inventories"));
}

#[test]
fn an_image_without_a_name_is_kept_by_its_id_and_a_digest_is_no_name() {
    let (_dir, store) = make_store();
    let image = &load_archive(&store, &save_archive(&[layer(&[(0o644, 0, "a")])], "null")).unwrap()[0];
    assert_eq!(image.reference, format!("localhost/loaded:{}", &image.id[7..19]));
    assert_eq!(store.resolve(&image.id).unwrap().len(), 1);
    let pinned = format!(r#"["example.com/pinned@sha256:{}"]"#, "a".repeat(64));
    let error =
        load_archive(&store, &save_archive(&[layer(&[(0o644, 0, "a")])], &pinned)).unwrap_err().to_string();
    assert!(error.contains("digest"), "{error}");
    assert_eq!(store.list().unwrap().len(), 1);
    assert!(
        load_archive(&store, &save_archive(&[], r#"["example.com/nothing:1"]"#)).unwrap()[0].layers.len()
            == 1
    );
}

#[test]
fn layers_and_archives_are_compressed_with_more_than_gzip() {
    let (_dir, store) = make_store();
    let plain = layer(&[(0o644, 0, "etc/x")]);
    let archive = save_archive(&[plain], r#"["example.com/b:1"]"#);
    let mut to = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    to.write_all(&archive).unwrap();
    assert_eq!(load_archive(&store, &to.finish().unwrap()).unwrap().len(), 1);
    let error = load_archive(&store, b"\x04\x22\x4d\x18 no lz4").unwrap_err().to_string();
    assert!(error.contains("lz4") && error.contains("xz"), "{error}");
}

fn reference_file(dir: &Path) -> PathBuf {
    fs::read_dir(dir.join("refs")).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn a_damaged_reference_hides_nothing_but_itself() {
    let (dir, store) = make_store();
    let reference = serve(build_image());
    pull(&store, &reference, &Options::default(), &Quiet).unwrap();
    let file = reference_file(dir.path());
    load_archive(&store, &save_archive(&[layer(&[(0o644, 0, "a")])], r#"["example.com/other:1"]"#)).unwrap();
    let damages: [&dyn Fn(); 5] = [
        &|| fs::write(&file, r#"{"refer"#).unwrap(),
        &|| fs::write(&file, "\0\0\0\0").unwrap(),
        &|| fs::write(&file, "{}").unwrap(),
        &|| {
            fs::remove_file(&file).unwrap();
            fs::create_dir(&file).unwrap();
        },
        &|| {
            fs::remove_file(&file).unwrap();
            nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        },
    ];
    for (number, damage) in damages.iter().enumerate() {
        damage();
        fs::create_dir_all(dir.path().join("refs/foreign")).unwrap();
        assert_eq!(store.list().unwrap().len(), 1, "damage {number}");
        assert!(store.find(&reference).unwrap().is_none());
        let told = store.damaged().unwrap();
        assert!(told.len() == 1 && told[0].path == file, "{told:?}");
        match number % 2 {
            0 => drop(store.remove(&reference).unwrap()),
            _ => assert!(store.look_through(true).unwrap().iter().all(|finding| finding.mended)),
        }
        pull(&store, &reference, &Options::default(), &Quiet).unwrap();
        assert!(store.find(&reference).unwrap().is_some() && store.damaged().unwrap().is_empty());
    }
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn a_lease_that_says_nothing_keeps_no_image_from_being_removed() {
    let (dir, store) = make_store();
    let reference = serve(build_image());
    let image = pull(&store, &reference, &Options::default(), &Quiet).unwrap().image;
    let lease = store.take_lease(&image).unwrap();
    fs::write(dir.path().join("leases/deadbeef"), "garbage").unwrap();
    fs::create_dir(dir.path().join("leases/directory")).unwrap();
    fs::write(dir.path().join("layers/foreign"), "x").unwrap();
    for file in fs::read_dir(dir.path().join("leases")).unwrap().flatten().filter(|f| f.path().is_file()) {
        fs::write(file.path(), "").unwrap();
    }
    let other =
        &load_archive(&store, &save_archive(&[layer(&[(0o644, 0, "a")])], r#"["example.com/other:1"]"#))
            .unwrap()[0];
    assert!(store.remove(&other.reference.parse().unwrap()).unwrap().layers >= 1);
    assert!(image.layers.iter().all(|layer| layer.is_dir()) && !dir.path().join("layers/foreign").exists());
    drop(lease);
    store.remove(&reference).unwrap();
    assert!(served::is_empty(&dir, "leases") && served::is_empty(&dir, "layers"));
}

#[test]
fn what_a_power_cut_took_is_fetched_again() {
    let (dir, store) = make_store();
    let reference = serve(build_image());
    let verify = Options { verify: true, ..Options::default() };
    let image = pull(&store, &reference, &Options::default(), &Quiet).unwrap().image;
    let noise = image.layers[0].join("noise");
    // In this boot a pull that is to look finds it; one that is not has nothing to do.
    fs::File::options().write(true).open(&noise).unwrap().set_len(0).unwrap();
    assert_eq!(pull(&store, &reference, &Options::default(), &Quiet).unwrap().bytes, 0);
    assert!(pull(&store, &reference, &verify, &Quiet).unwrap().bytes > 0);
    assert_eq!(noise.metadata().unwrap().len() % 32, 0);
    // After another one everybody looks, down to the content, and only once.
    let file = reference_file(dir.path());
    let reboot = || {
        let text = fs::read_to_string(&file).unwrap();
        let mut image: Image = serde_json::from_str(&text).unwrap();
        image.unsynced_in = Some("the boot before".to_owned());
        fs::write(&file, serde_json::to_vec(&image).unwrap()).unwrap();
    };
    reboot();
    assert!(store.find(&reference).unwrap().is_none());
    assert!(store.find_verified(&reference).unwrap().is_some() && store.find(&reference).unwrap().is_some());
    reboot();
    let length = noise.metadata().unwrap().len();
    fs::write(&noise, vec![0; length as usize]).unwrap();
    assert!(store.find_verified(&reference).unwrap().is_none());
    assert!(pull(&store, &reference, &Options::default(), &Quiet).unwrap().bytes > 0);
    assert!(fs::read(&noise).unwrap().iter().any(|byte| *byte != 0));
    // Its directories may be gone altogether, or their modes.
    fs::remove_dir_all(&image.layers[0]).unwrap();
    assert!(store.find(&reference).unwrap().is_none() && store.list().unwrap().is_empty());
    assert!(pull(&store, &reference, &Options::default(), &Quiet).unwrap().bytes > 0);
    fs::set_permissions(&noise, fs::Permissions::from_mode(0o600)).unwrap();
    let found = store.look_through(false).unwrap();
    assert!(found.len() == 1 && found[0].what.contains("/noise") && !found[0].mended, "{found:?}");
    assert!(store.look_through(true).unwrap()[0].mended && store.look_through(false).unwrap().is_empty());
    assert!(store.find(&reference).unwrap().is_none(), "it is pulled on demand");
}

/// Lists kind, mode, owner and device of everything beneath a directory, by name.
fn list_tree(dir: &Path, below: &Path, found: &mut Vec<(PathBuf, u32, u32, u64)>) {
    for entry in fs::read_dir(dir.join(below)).unwrap() {
        let path = below.join(entry.unwrap().file_name());
        let meta = fs::symlink_metadata(dir.join(&path)).unwrap();
        found.push((path.clone(), meta.mode(), meta.uid(), meta.rdev()));
        if meta.is_dir() {
            list_tree(dir, &path, found);
        }
    }
    found.sort();
}

#[test]
fn what_is_saved_is_loaded_as_it_was() {
    let (_dir, store) = make_store();
    let low = layer(&[
        (0o755, 0, "./"),
        (0o2750, 5, "srv/"),
        (0o4711, 5, "srv/file"),
        (0o644, 0, "srv/gone"),
        (0o755, 0, "opt/"),
        (0o755, 0, "opt/new/"),
    ]);
    let high = layer(&[
        (0o2750, 5, "srv/"),
        (0o644, 0, "srv/.wh.gone"),
        (0o755, 0, "opt/"),
        (0o755, 0, "opt/new/"),
        (0o644, 0, "opt/new/.wh..wh..opq"),
        (0o644, 7, "opt/new/file"),
    ]);
    let before = load_archive(&store, &save_archive(&[low, high], r#"["example.com/app:1"]"#)).unwrap();
    let mut archive = Vec::new();
    save(&store, &before, Path::new("-"), &mut archive).unwrap();
    let (_other, other) = make_store();
    let after = &load_archive(&other, &archive).unwrap()[0];
    assert_eq!(after.reference, before[0].reference);
    let trees = |image: &Image| -> Vec<_> {
        let each = |layer: &PathBuf| {
            let mut found = Vec::new();
            list_tree(layer, Path::new(""), &mut found);
            found
        };
        image.layers.iter().map(each).collect()
    };
    assert_eq!(trees(after), trees(&before[0]));
    assert!(
        trees(after)[1].iter().any(|(path, mode, ..)| path.ends_with("gone") && mode & 0o170000 == 0o20000)
    );
    // A second time the archive is the same, opaque directories included.
    let mut again = Vec::new();
    save(&other, std::slice::from_ref(after), Path::new("-"), &mut again).unwrap();
    assert!(again == archive);
}

#[test]
fn a_layer_may_be_a_hard_link_to_another_and_no_link_leads_out_of_the_archive() {
    let plain = layer(&[(0o644, 0, "a")]);
    for (kind, target, whole) in [
        (tar::EntryType::Link, "x/0.tar", true),
        (tar::EntryType::Symlink, "../x/0.tar", true),
        (tar::EntryType::Symlink, "/etc/passwd", false),
        (tar::EntryType::Link, "y/1.tar", false),
    ] {
        let id = sha256(&plain);
        let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{id}","{id}"]}}}}"#);
        let manifest = r#"[{"Config":"c.json","RepoTags":["links:1"],"Layers":["x/0.tar","y/1.tar"]}]"#;
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, content).unwrap();
            if name == "x/0.tar" {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(kind);
                header.set_size(0);
                archive.append_link(&mut header, "y/1.tar", target).unwrap();
            }
        };
        add("c.json", config.as_bytes());
        add("manifest.json", manifest.as_bytes());
        add("x/0.tar", &plain);
        let (_dir, store) = make_store();
        let loaded = load_archive(&store, &archive.into_inner().unwrap());
        assert_eq!(loaded.is_ok(), whole, "{kind:?} to {target}: {loaded:?}");
    }
}
