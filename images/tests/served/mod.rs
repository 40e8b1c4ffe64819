//! An image built in memory, and a server that says what a test wants it to say.

#![allow(dead_code)]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use podctl_images::{LayerState, Progress, Reference, Store};
use sha2::{Digest, Sha256};

pub struct Quiet;

impl Progress for Quiet {
    fn layer(&self, _: &str, _: LayerState) {}
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A small file, and one that no compression makes small.
fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut noise = Vec::new();
    while noise.len() < 100_000 {
        noise.extend(Sha256::digest(noise.len().to_le_bytes()));
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(noise.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, "noise", &*noise).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, "etc/motd", &b"hello"[..]).unwrap();
    tar.into_inner().unwrap()
}

/// An image of one layer: its files as an OCI layout, blobs by digest.
pub struct Built {
    pub manifest: Vec<u8>,
    pub blobs: HashMap<String, Vec<u8>>,
    pub layer: String,
}

pub fn build_image() -> Built {
    built_of(layer())
}

pub fn built_of(plain: Vec<u8>) -> Built {
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

/// Holds what a client asks.
pub struct Request {
    pub path: String,
    headers: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let of =
            |line: &'_ str| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).is_some();
        self.headers
            .lines()
            .find(|line| of(line))
            .and_then(|line| line.split_once(": "))
            .map(|(_, value)| value)
    }
}

/// Holds what a server answers.
pub struct Reply {
    pub status: &'static str,
    pub headers: String,
    pub body: Vec<u8>,
    /// Says no more after so many bytes of the body, and closes unless `stall`.
    pub cut: usize,
    pub stall: bool,
}

impl Reply {
    pub fn new(status: &'static str, body: &[u8]) -> Reply {
        Reply { status, headers: String::new(), body: body.to_vec(), cut: usize::MAX, stall: false }
    }

    pub fn with(mut self, header: &str) -> Reply {
        self.headers += header;
        self.headers += "\r\n";
        self
    }
}

/// Answers on a free port of loopback for as long as the test runs.
pub fn listen(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                let reply = answer(&Request { path, headers: headers.join("\n") });
                let head = format!(
                    "HTTP/1.1 {}\r\n{}Content-Length: {}\r\nConnection: close\r\n\r\n",
                    reply.status,
                    reply.headers,
                    reply.body.len()
                );
                let body = &reply.body[..reply.body.len().min(reply.cut)];
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
                if reply.stall {
                    std::thread::sleep(Duration::from_secs(30));
                }
            });
        }
    });
    port
}

/// Returns what an honest registry answers, ranges included.
pub fn answer_honestly(built: &Built, request: &Request) -> Reply {
    let digest = request.path.rsplit('/').next().unwrap_or_default();
    let unknown = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown to us"}]}"#;
    match request.path.as_str() {
        "/v2/" => Reply::new("200 OK", b"{}"),
        "/v2/app/manifests/1" => Reply::new("200 OK", &built.manifest)
            .with("Content-Type: application/vnd.oci.image.manifest.v1+json"),
        _ => match (built.blobs.get(digest), request.header("range")) {
            (Some(blob), Some(range)) => {
                let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
                Reply::new("206 Partial Content", &blob[from..])
            }
            (Some(blob), None) => Reply::new("200 OK", blob),
            (None, _) => Reply::new("404 Not Found", unknown),
        },
    }
}

/// `127.0.0.1:PORT/app:1`
pub fn app_reference(port: u16) -> Reference {
    format!("127.0.0.1:{port}/app:1").parse().unwrap()
}

/// Serves the image honestly.
pub fn serve(built: Built) -> Reference {
    app_reference(listen(move |request| answer_honestly(&built, request)))
}

pub fn make_store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

pub fn is_empty(dir: &tempfile::TempDir, name: &str) -> bool {
    fs::read_dir(dir.path().join(name)).unwrap().next().is_none()
}
