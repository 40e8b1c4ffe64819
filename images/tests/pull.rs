//! Pulling from a registry that serves what the test says, over plain HTTP on loopback.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;

use podctl_images::{Error, LayerState, Options, Progress, Reference, Store, load, pull};
use sha2::{Digest, Sha256};

struct Quiet;

impl Progress for Quiet {
    fn layer(&self, _: &str, _: LayerState) {}
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, "etc/motd", &b"hello"[..]).unwrap();
    tar.into_inner().unwrap()
}

/// An image of one layer: its files as an OCI layout, blobs by digest.
struct Built {
    manifest: Vec<u8>,
    blobs: HashMap<String, Vec<u8>>,
    layer: String,
}

fn build() -> Built {
    let plain = layer();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let blob = gzip.finish().unwrap();
    let arch = oci_spec::image::Arch::default();
    let config = format!(
        r#"{{"os":"linux","architecture":"{arch}","config":{{"Cmd":["sh"]}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        sha256(&plain)
    )
    .into_bytes();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":{}}}]}}"#,
        sha256(&config),
        config.len(),
        sha256(&blob),
        blob.len()
    )
    .into_bytes();
    let layer = sha256(&blob);
    let blobs = [config, blob].into_iter().map(|bytes| (sha256(&bytes), bytes)).collect();
    Built { manifest, blobs, layer }
}

/// Serves the image as `127.0.0.1:PORT/app:1` for as long as the test runs.
fn serve(built: Built) -> Reference {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let request = lines.next().unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let path = request.split(' ').nth(1).unwrap_or_default();
            let digest = path.rsplit('/').next().unwrap_or_default();
            let unknown = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown to us"}]}"#;
            let (status, kind, body) = match path {
                "/v2/" => ("200 OK", "application/json", &b"{}"[..]),
                "/v2/app/manifests/1" => {
                    ("200 OK", "application/vnd.oci.image.manifest.v1+json", &*built.manifest)
                }
                _ => match built.blobs.get(digest) {
                    Some(blob) => ("200 OK", "application/octet-stream", &**blob),
                    None => ("404 Not Found", "application/json", &unknown[..]),
                },
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    format!("127.0.0.1:{port}/app:1").parse().unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn is_empty(dir: &tempfile::TempDir, name: &str) -> bool {
    fs::read_dir(dir.path().join(name)).unwrap().next().is_none()
}

#[test]
fn a_pulled_image_is_found_leased_and_removed() {
    let (dir, store) = store();
    let reference = serve(build());
    let pulled = pull(&store, &reference, &Options::default(), &Quiet).unwrap();
    assert!(pulled.bytes > 0);
    assert_eq!(fs::read_to_string(pulled.image.layers[0].join("etc/motd")).unwrap(), "hello");
    assert_eq!(pull(&store, &reference, &Options::default(), &Quiet).unwrap().bytes, 0);

    let image = store.find(&reference).unwrap().unwrap();
    assert_eq!(image.config.cmd().as_deref(), Some(&["sh".to_owned()][..]));
    let lease = store.lease(&image).unwrap();
    assert!(matches!(store.remove(&reference), Err(Error::InUse { .. })));
    drop(lease);
    assert_eq!(store.remove(&reference).unwrap().layers, 1);
    assert!(store.find(&reference).unwrap().is_none());
    assert!(is_empty(&dir, "layers") && is_empty(&dir, "tmp"));
}

#[test]
fn content_that_is_not_its_digest_leaves_nothing() {
    let (dir, store) = store();
    let mut built = build();
    built.blobs.get_mut(&built.layer).unwrap()[20] ^= 1;
    let error = pull(&store, &serve(built), &Options::default(), &Quiet).unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    assert!(is_empty(&dir, "layers") && is_empty(&dir, "tmp") && is_empty(&dir, "refs"));
}

#[test]
fn a_truncated_layer_leaves_nothing() {
    let (dir, store) = store();
    let mut built = build();
    built.blobs.get_mut(&built.layer).unwrap().truncate(40);
    let error = pull(&store, &serve(built), &Options::default(), &Quiet).unwrap_err();
    assert!(!error.is_permanent() || error.to_string().contains("igest"), "{error}");
    assert!(is_empty(&dir, "layers") && is_empty(&dir, "tmp") && is_empty(&dir, "refs"));
}

#[test]
fn the_registrys_words_and_the_reference_are_in_the_error() {
    let (_dir, store) = store();
    let reference: Reference = serve(build()).to_string().replace("/app:1", "/app:2").parse().unwrap();
    let error = pull(&store, &reference, &Options::default(), &Quiet).unwrap_err();
    assert!(error.is_permanent());
    let text = error.to_string();
    assert!(text.contains(&reference.to_string()) && text.contains("manifest unknown"), "{text}");
}

#[test]
fn two_pulls_at_once_agree() {
    let (dir, store) = store();
    let reference = serve(build());
    let inodes: Vec<_> = std::thread::scope(|scope| {
        let pulls = [(); 2]
            .map(|()| scope.spawn(|| pull(&store, &reference, &Options::default(), &Quiet).unwrap().image));
        pulls.map(|pull| fs::metadata(&pull.join().unwrap().layers[0]).unwrap().ino()).to_vec()
    });
    assert_eq!(inodes[0], inodes[1]);
    assert!(is_empty(&dir, "tmp"));
}

#[test]
fn an_oci_layout_loads_as_directory_and_as_archive() {
    let layout = tempfile::tempdir().unwrap();
    let blobs = layout.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let built = build();
    let manifest = sha256(&built.manifest);
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":{},
        "annotations":{{"org.opencontainers.image.ref.name":"example.com/app:1"}}}}]}}"#,
        built.manifest.len()
    );
    fs::write(layout.path().join("index.json"), index).unwrap();
    fs::write(blobs.join(&manifest[7..]), &built.manifest).unwrap();
    built.blobs.iter().for_each(|(digest, blob)| fs::write(blobs.join(&digest[7..]), blob).unwrap());

    let archive = tempfile::NamedTempFile::new().unwrap();
    let mut tar = tar::Builder::new(archive.reopen().unwrap());
    tar.append_dir_all(".", layout.path()).unwrap();
    tar.finish().unwrap();

    for path in [layout.path(), archive.path()] {
        let (_dir, store) = store();
        let images = load(&store, path, &Quiet).unwrap();
        assert_eq!(images[0].reference, "example.com/app:1");
        assert!(images[0].layers[0].join("etc/motd").is_file());
        assert_eq!(store.list().unwrap().len(), 1);
    }
}
