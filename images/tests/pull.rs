//! Pulling from a registry that serves what the test says, over plain HTTP on loopback.

mod served;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use podctl_images::{Error, LayerState, Options, Platform, Progress, Reference, Store, load, pull};
use served::{Quiet, build_image, is_empty, make_store, serve, sha256};

#[test]
fn a_pulled_image_is_found_leased_and_removed() {
    let (dir, store) = make_store();
    let reference = serve(build_image());
    let pulled = pull(&store, &reference, &Options::default(), &Quiet).unwrap();
    assert!(pulled.bytes > 0);
    assert_eq!(fs::read_to_string(pulled.image.layers[0].join("etc/motd")).unwrap(), "hello");
    assert_eq!(pull(&store, &reference, &Options::default(), &Quiet).unwrap().bytes, 0);

    let image = store.find(&reference).unwrap().unwrap();
    assert_eq!(image.config.cmd().as_deref(), Some(&["sh".to_owned()][..]));
    let lease = store.take_lease(&image).unwrap();
    assert!(matches!(store.remove(&reference), Err(Error::InUse { .. })));
    drop(lease);
    assert_eq!(store.remove(&reference).unwrap().layers, 1);
    assert!(store.find(&reference).unwrap().is_none());
    assert!(is_empty(&dir, "layers") && is_empty(&dir, "tmp"));
}

#[test]
fn content_that_is_not_its_digest_leaves_nothing() {
    let (dir, store) = make_store();
    let mut built = build_image();
    built.blobs.get_mut(&built.layer).unwrap()[20] ^= 1;
    let error = pull(&store, &serve(built), &Options::default(), &Quiet).unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    assert!(is_empty(&dir, "layers") && is_empty(&dir, "tmp") && is_empty(&dir, "refs"));
}

#[test]
fn a_truncated_layer_leaves_nothing() {
    let (dir, store) = make_store();
    let mut built = build_image();
    built.blobs.get_mut(&built.layer).unwrap().truncate(40);
    let error = pull(&store, &serve(built), &Options::default(), &Quiet).unwrap_err();
    assert!(!error.is_permanent() || error.to_string().contains("igest"), "{error}");
    assert!(is_empty(&dir, "layers") && is_empty(&dir, "tmp") && is_empty(&dir, "refs"));
}

#[test]
fn the_registrys_words_and_the_reference_are_in_the_error() {
    let (_dir, store) = make_store();
    let reference: Reference = serve(build_image()).to_string().replace("/app:1", "/app:2").parse().unwrap();
    let error = pull(&store, &reference, &Options::default(), &Quiet).unwrap_err();
    assert!(error.is_permanent());
    let text = error.to_string();
    assert!(text.contains(&reference.to_string()) && text.contains("manifest unknown"), "{text}");
}

#[test]
fn two_pulls_at_once_agree() {
    let (dir, store) = make_store();
    let reference = serve(build_image());
    let inodes: Vec<_> = std::thread::scope(|scope| {
        let pulls = [(); 2]
            .map(|()| scope.spawn(|| pull(&store, &reference, &Options::default(), &Quiet).unwrap().image));
        pulls.map(|pull| fs::metadata(&pull.join().unwrap().layers[0]).unwrap().ino()).to_vec()
    });
    assert_eq!(inodes[0], inodes[1]);
    assert!(is_empty(&dir, "tmp"));
}

/// Writes the image as an OCI layout into an empty directory.
fn write_layout(layout: &Path, name: &str) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let built = build_image();
    let manifest = sha256(&built.manifest);
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":{},
        "annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}]}}"#,
        built.manifest.len()
    );
    fs::write(layout.join("index.json"), index).unwrap();
    fs::write(blobs.join(&manifest[7..]), &built.manifest).unwrap();
    built.blobs.iter().for_each(|(digest, blob)| fs::write(blobs.join(&digest[7..]), blob).unwrap());
}

#[test]
fn an_oci_layout_loads_as_directory_and_as_archive() {
    let layout = tempfile::tempdir().unwrap();
    write_layout(layout.path(), "example.com/app:1");
    let archive = tempfile::NamedTempFile::new().unwrap();
    let mut tar = tar::Builder::new(archive.reopen().unwrap());
    tar.append_dir_all(".", layout.path()).unwrap();
    tar.finish().unwrap();

    for path in [layout.path(), archive.path()] {
        let (_dir, store) = make_store();
        let images = load(&store, path, path, false, &Quiet).unwrap();
        assert_eq!(images[0].reference, "example.com/app:1");
        assert!(images[0].layers[0].join("etc/motd").is_file());
        assert_eq!(store.list().unwrap().len(), 1);
    }
}

#[test]
fn a_reference_lost_in_a_power_cut_is_pulled_anew() {
    let (dir, store) = make_store();
    let reference = serve(build_image());
    let image = pull(&store, &reference, &Options::default(), &Quiet).unwrap().image;
    let noise = image.layers[0].join("noise");
    let whole = fs::read(&noise).unwrap();
    let only_file_in = |dir: PathBuf| fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    // The layers' directories are there, and what they hold is lost with the reference; then what tells of it as well.
    for lost in [None, Some(only_file_in(dir.path().join("inventories")))] {
        fs::write(only_file_in(dir.path().join("refs")), "").unwrap();
        fs::write(&noise, vec![0; whole.len()]).unwrap();
        lost.map_or(Ok(()), |inventory| fs::write(inventory, "")).unwrap();
        assert!(store.list().unwrap().is_empty() && store.find(&reference).unwrap().is_none());
        assert!(pull(&store, &reference, &Options::default(), &Quiet).unwrap().bytes > 0);
        assert_eq!(store.list().unwrap().len(), 1);
        assert!(fs::read(&noise).unwrap() == whole, "what was lost is fetched again");
    }
}

/// A registry with documents beside the image's own, by digest and by the tag `1`.
fn serve_documents(built: served::Built, top: String, others: Vec<String>) -> Reference {
    let others: Vec<_> = others.into_iter().map(|text| (sha256(text.as_bytes()), text)).collect();
    let manifest = sha256(&built.manifest);
    served::app_reference(served::listen(move |request| {
        let asked = request.path.rsplit('/').next().unwrap_or_default();
        match others.iter().find(|(digest, _)| digest == asked) {
            _ if request.path.ends_with("/manifests/1") => served::Reply::new("200 OK", top.as_bytes()),
            Some((_, text)) => served::Reply::new("200 OK", text.as_bytes()),
            None if asked == manifest => served::Reply::new("200 OK", &built.manifest),
            None => served::answer_honestly(&built, request),
        }
    }))
}

#[test]
fn indexes_hold_indexes_and_say_nothing_or_odd_things_of_platforms() {
    let here = Platform::default().to_string();
    let (os, arch) = here.split_once('/').unwrap();
    let index = |entries: &[(&str, &str)]| {
        let entry = |(text, platform): &(&str, &str)| {
            format!(r#"{{"mediaType":"x","size":1,"digest":"{}"{platform}}}"#, sha256(text.as_bytes()))
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","))
    };
    let manifest = String::from_utf8(build_image().manifest).unwrap();
    let platform = format!(r#","platform":{{"os":"{os}","architecture":"{arch}"}}"#);
    let foreign = r#","platform":{"os":"plan9","architecture":"mips"}"#;
    let inner = index(&[("other", foreign), (&manifest, &platform)]);
    let nested = index(&[("none", r#","platform":{"os":"unknown","architecture":"unknown"}"#), (&inner, "")]);
    let untold = index(&[(&manifest, r#","platform":{"os":"","architecture":""}"#)]);
    for (top, others) in [(inner.clone(), vec![]), (nested, vec![inner]), (untold, vec![])] {
        let (_dir, store) = make_store();
        let reference = serve_documents(build_image(), top.clone(), others);
        let pulled = pull(&store, &reference, &Options::default(), &Quiet);
        assert!(pulled.is_ok(), "{top}: {}", pulled.unwrap_err());
        assert_eq!(pull(&store, &reference, &Options::default(), &Quiet).unwrap().bytes, 0);
    }
    let (_dir, store) = make_store();
    let refused = |top: String, others| {
        let reference = serve_documents(build_image(), top, others);
        pull(&store, &reference, &Options::default(), &Quiet).unwrap_err().to_string()
    };
    let error = refused(index(&[("other", foreign)]), vec![]);
    assert!(error.ends_with("there is plan9/mips"), "{error}");
    assert!(refused(index(&[]), vec![]).ends_with("there is no image at all in its index"));
    let chain = (0..8).fold(vec![index(&[])], |mut all, _| {
        all.push(index(&[(all.last().unwrap(), "")]));
        all
    });
    assert!(refused(chain.last().unwrap().clone(), chain).contains("without end"));
}

#[test]
fn an_image_for_another_machine_is_refused_by_both_names() {
    let (dir, store) = make_store();
    let options = Options { platform: "linux/s390x".parse().unwrap(), ..Options::default() };
    let error = pull(&store, &serve(build_image()), &options, &Quiet).unwrap_err().to_string();
    let here = Platform::default().to_string();
    assert!(error.contains("no image for linux/s390x") && error.contains(&here), "{error}");
    assert!(is_empty(&dir, "layers") && is_empty(&dir, "refs"));
}

/// Removes an image whenever a layer of another one has come.
struct Remover<'a> {
    store: &'a Store,
    unwanted: Reference,
    removed: AtomicUsize,
}

impl Progress for Remover<'_> {
    fn layer(&self, _: &str, state: LayerState) {
        if matches!(state, LayerState::Done) && self.store.remove(&self.unwanted).is_ok() {
            self.removed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn what_comes_is_kept_from_whoever_removes_another_image_meanwhile() {
    let layout = tempfile::tempdir().unwrap();
    write_layout(layout.path(), "example.com/app:1");
    for way in ["pull", "load"] {
        let (dir, store) = make_store();
        let unwanted = serve(served::built_of(tar::Builder::new(Vec::new()).into_inner().unwrap()));
        pull(&store, &unwanted, &Options::default(), &Quiet).unwrap();
        let remover = Remover { store: &store, unwanted, removed: 0.into() };
        let built = build_image();
        let once = built.blobs[&built.layer].len() as u64;
        let image = match way {
            "pull" => {
                let pulled = pull(&store, &serve(built), &Options::default(), &remover).unwrap();
                assert_eq!(pulled.bytes, once, "its layer came once");
                pulled.image
            }
            _ => load(&store, layout.path(), layout.path(), false, &remover).unwrap().remove(0),
        };
        assert_eq!(remover.removed.into_inner(), 1, "{way}: the other one was removed meanwhile");
        assert!(image.layers.iter().all(|layer| layer.is_dir()));
        assert!(served::is_empty(&dir, "leases"), "{way}: nothing is held any more");
    }
}

#[test]
fn an_archive_may_name_what_is_no_image_and_images_for_others_beside_the_one_for_here() {
    let layout = tempfile::tempdir().unwrap();
    write_layout(layout.path(), "example.com/app:1");
    let path = layout.path().join("index.json");
    let whole: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let absent = |platform: serde_json::Value| {
        let digest = sha256(platform.to_string().as_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        serde_json::json!({"mediaType": kind, "digest": digest, "size": 1, "platform": platform})
    };
    let attestation = absent(serde_json::json!({"os": "unknown", "architecture": "unknown"}));
    let other = absent(serde_json::json!({"os": "plan9", "architecture": "mips"}));
    for beside in [attestation, other] {
        let mut index = whole.clone();
        index["manifests"].as_array_mut().unwrap().insert(0, beside.clone());
        fs::write(&path, index.to_string()).unwrap();
        let (_dir, store) = make_store();
        let images = load(&store, layout.path(), layout.path(), false, &Quiet).unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].reference, "example.com/app:1");
        // Alone it is told of.
        index["manifests"] = serde_json::json!([beside]);
        fs::write(&path, index.to_string()).unwrap();
        assert!(load(&store, layout.path(), layout.path(), false, &Quiet).is_err());
    }
}
