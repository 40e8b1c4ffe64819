//! Images into a file: an OCI archive, with what `docker load` reads as well.
//!
//! Layers are written as they were unpacked: whiteouts and opaque directories are said in an archive's own way. What
//! runs here sees the files' owners as containers do.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{BuildStep, Error, Image, Store, crown, unpack::whiteouts};

/// The blob that is ready.
struct Blob {
    digest: String,
    size: u64,
}

/// Writes images, each under its name, as one archive. Errors call what it is written to `shown`.
///
/// # Errors
/// [`Error::Io`].
pub fn save(store: &Store, images: &[Image], shown: &Path, out: &mut dyn Write) -> Result<(), Error> {
    let scratch = store.make_scratch()?;
    let blobs = scratch.path.join("blobs");
    fs::create_dir(&blobs).map_err(Error::io("create", &blobs))?;
    let (mut manifests, mut docker) = (Vec::new(), Vec::new());
    let mut layers: HashMap<&PathBuf, Blob> = HashMap::new();
    for image in images {
        for layer in &image.layers {
            if !layers.contains_key(layer) {
                layers.insert(layer, write_layer(layer, &blobs).map_err(Error::io("save", layer))?);
            }
        }
        let own: Vec<&Blob> = image.layers.iter().map(|layer| &layers[layer]).collect();
        let (manifest, entry) = write_image(image, &own, &blobs).map_err(Error::io("write", &blobs))?;
        manifests.push(manifest);
        docker.push(entry);
    }
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
    let documents = [
        ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
        ("index.json", index),
        ("manifest.json", Value::from(docker)),
    ];
    write_archive(&documents, &blobs, out).map_err(Error::io("write an archive to", shown))
}

/// Writes an image's configuration and manifest; gives the index's entry and docker's.
fn write_image(image: &Image, layers: &[&Blob], blobs: &Path) -> io::Result<(Value, Value)> {
    let digests: Vec<&String> = layers.iter().map(|layer| &layer.digest).collect();
    let mut config = json!({"os": image.os, "architecture": image.architecture, "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": digests}});
    if let Some(created) = &image.created {
        config["created"] = created.as_str().into();
    }
    let made_layers = image.build_steps.iter().filter(|step| step.layer.is_some()).count();
    // Who reads it counts: of a layer that came twice, or one of podctl's own, the builder's steps know nothing.
    if made_layers == layers.len() {
        let step = |step: &BuildStep| {
            json!({"created": step.created, "created_by": step.created_by, "comment": step.comment,
                "empty_layer": step.layer.is_none()})
        };
        config["history"] = image.build_steps.iter().map(step).collect();
    }
    let config = write_blob(config.to_string().as_bytes(), blobs)?;
    let describe =
        |kind: &str, blob: &Blob| json!({"mediaType": kind, "digest": blob.digest, "size": blob.size});
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|layer| describe(tar, layer)).collect::<Vec<_>>()});
    let manifest = write_blob(manifest.to_string().as_bytes(), blobs)?;
    let mut entry = describe("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": image.reference,
        "io.containerd.image.name": image.reference});
    let path = |blob: &Blob| format!("blobs/sha256/{}", blob.digest.trim_start_matches("sha256:"));
    let docker = json!({"Config": path(&config), "RepoTags": [image.reference],
        "Layers": layers.iter().map(|layer| path(layer)).collect::<Vec<_>>()});
    Ok((entry, docker))
}

fn write_blob(bytes: &[u8], blobs: &Path) -> io::Result<Blob> {
    let digest = hex(&Sha256::digest(bytes));
    fs::write(blobs.join(&digest), bytes)?;
    Ok(Blob { digest: format!("sha256:{digest}"), size: bytes.len() as u64 })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Counts and digests what goes through.
struct Digested {
    file: io::BufWriter<File>,
    digest: Sha256,
    size: u64,
}

impl Write for Digested {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a layer's directory as an archive.
fn write_layer(layer: &Path, blobs: &Path) -> io::Result<Blob> {
    let new = blobs.join("new");
    let file = io::BufWriter::new(File::create(&new)?);
    let mut archive = tar::Builder::new(Digested { file, digest: Sha256::new(), size: 0 });
    archive.mode(tar::HeaderMode::Complete);
    let mut links = HashMap::new();
    add_directory(&mut archive, layer, Path::new(""), &mut links)?;
    let mut written = archive.into_inner()?;
    written.flush()?;
    let digest = hex(&written.digest.finalize());
    fs::rename(&new, blobs.join(&digest))?;
    Ok(Blob { digest: format!("sha256:{digest}"), size: written.size })
}

/// Adds what is in a directory of the layer, in the order of names.
fn add_directory(
    archive: &mut tar::Builder<Digested>,
    layer: &Path,
    below: &Path,
    links: &mut HashMap<u64, PathBuf>,
) -> io::Result<()> {
    let dir = layer.join(below);
    if crown::is_opaque(&File::open(&dir)?.into()) {
        add_empty(archive, &below.join(".wh..wh..opq"))?;
    }
    let mut names: Vec<_> =
        fs::read_dir(&dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let (path, below) = (dir.join(&name), below.join(&name));
        let meta = fs::symlink_metadata(&path)?;
        let kind = meta.file_type();
        let marked = || File::open(&path).is_ok_and(|file| whiteouts::is_marked(&file.into()));
        if kind.is_char_device() && meta.rdev() == 0 || kind.is_file() && meta.len() == 0 && marked() {
            let mut hidden = std::ffi::OsString::from(".wh.");
            hidden.push(&name);
            add_empty(archive, &below.with_file_name(hidden))?;
            continue;
        }
        if kind.is_socket() {
            continue;
        }
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&meta);
        if kind.is_dir() {
            archive.append_data(&mut header, &below, io::empty())?;
            add_directory(archive, layer, &below, links)?;
        } else if kind.is_symlink() {
            header.set_size(0);
            archive.append_link(&mut header, &below, fs::read_link(&path)?)?;
        } else if let Some(first) = links.get(&meta.ino()).filter(|_| meta.nlink() > 1) {
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(0);
            archive.append_link(&mut header, &below, first)?;
        } else if kind.is_file() {
            links.insert(meta.ino(), below.clone());
            add_attributes(archive, &path)?;
            archive.append_data(&mut header, &below, File::open(&path)?.take(meta.len()))?;
        } else {
            header.set_size(0);
            archive.append_data(&mut header, &below, io::empty())?;
        }
    }
    Ok(())
}

/// Adds the extended attributes of the file that comes next.
fn add_attributes(archive: &mut tar::Builder<Digested>, path: &Path) -> io::Result<()> {
    let all = crown::user_xattrs(&File::open(path)?.into());
    let named: Vec<(String, &[u8])> = all
        .iter()
        .map(|(name, value)| (format!("SCHILY.xattr.{}", name.to_string_lossy()), &value[..]))
        .collect();
    match named.is_empty() {
        true => Ok(()),
        false => archive.append_pax_extensions(named.iter().map(|(name, value)| (name.as_str(), *value))),
    }
}

fn add_empty(archive: &mut tar::Builder<Digested>, path: &Path) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    set_as_root(&mut header, 0);
    archive.append_data(&mut header, path, io::empty())
}

/// Describes a file of root's that is in no layer. Every number is set, for readers refuse a header in which one is not.
fn set_as_root(header: &mut tar::Header, size: u64) {
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
}

fn write_archive(documents: &[(&str, Value)], blobs: &Path, out: &mut dyn Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    for (name, value) in documents {
        let text = value.to_string();
        let mut header = tar::Header::new_gnu();
        set_as_root(&mut header, text.len() as u64);
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    let mut names: Vec<_> =
        fs::read_dir(blobs)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let mut file = File::open(blobs.join(&name))?;
        let mut header = tar::Header::new_gnu();
        set_as_root(&mut header, file.metadata()?.len());
        archive.append_data(&mut header, Path::new("blobs/sha256").join(&name), &mut file)?;
    }
    archive.into_inner()?.flush()
}
