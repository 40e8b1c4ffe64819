//! Images from a file: `docker save` archives, OCI archives and OCI layout directories.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::inventory::Depth;
use crate::layer::{self, Layer};
use crate::manifest::{self, Document, Entry, MAX_DOCUMENT};
use crate::platform::Platform;
use crate::pull::MAX_DOCUMENTS;
use crate::unpack::clean_path;
use crate::{Error, Image, LayerState, Progress, Reference, Store, compression};

/// Loads every image in the archive or OCI layout at `path`; `-` is standard input. Errors call it `shown`.
///
/// An image that the archive gives no name is kept as `localhost/loaded`, with the beginning of its id as tag. With
/// `squash_ids` files of owners that are not mapped here belong to root.
///
/// # Errors
/// [`Error`] naming the archive, or the image in it.
pub fn load(
    store: &Store,
    path: &Path,
    shown: &Path,
    squash_ids: bool,
    progress: &dyn Progress,
) -> Result<Vec<Image>, Error> {
    store.sweep()?;
    let scratch = store.make_scratch()?;
    let path = make_seekable(path, shown, &scratch.path)?;
    let files = Files::open(path, shown)?;
    let loader = Loader { store, files, squash_ids, progress };
    let images = if loader.files.has("manifest.json") && !loader.files.has("index.json") {
        loader.load_docker()?
    } else if loader.files.has("index.json") {
        loader.load_oci()?
    } else {
        return Err(loader.files.invalid("neither index.json nor manifest.json: not an image archive"));
    };
    if images.is_empty() {
        return Err(loader.files.invalid("there is no image in it"));
    }
    // What came out of a file may be nowhere else: unlike what was pulled it is not left to the next boot.
    store.sync_images(&images)
}

/// An archive's parts are read in the order they are needed, so a stream or a compressed archive is
/// written out plain first.
fn make_seekable(path: &Path, shown: &Path, scratch: &Path) -> Result<PathBuf, Error> {
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    let stream = path == Path::new("-");
    let mut input: Box<dyn Read> = match stream {
        true => Box::new(std::io::stdin()),
        false => Box::new(File::open(path).map_err(Error::io("open", shown))?),
    };
    let mut magic = Vec::new();
    input.by_ref().take(compression::MAGIC).read_to_end(&mut magic).map_err(Error::io("read", shown))?;
    if !stream && !compression::is_compressed(&magic) && path.is_file() {
        return Ok(path.to_owned());
    }
    let plain = scratch.join("archive");
    let mut file = File::create(&plain).map_err(Error::io("create", &plain))?;
    compression::decompress_blob(std::io::Cursor::new(magic).chain(input))
        .and_then(|mut from| std::io::copy(&mut from, &mut file))
        .map_err(Error::io("decompress", shown))?;
    Ok(plain)
}

struct Loader<'a> {
    store: &'a Store,
    files: Files,
    squash_ids: bool,
    progress: &'a dyn Progress,
}

/// The image of a `docker save` archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Loader<'_> {
    fn load_docker(&self) -> Result<Vec<Image>, Error> {
        let manifest = self.files.document("manifest.json")?;
        let saved: Vec<Saved> =
            serde_json::from_slice(&manifest).map_err(|e| self.files.invalid(&e.to_string()))?;
        let mut images = Vec::new();
        for saved in saved {
            let bytes = self.files.document(&saved.config)?;
            let id = layer::sha256(&bytes);
            let mut tags = saved.repo_tags.unwrap_or_default();
            if tags.is_empty() {
                tags.push(name_by_id(&id));
            }
            let shown = &tags[0];
            let config = manifest::configuration(shown, &bytes)?;
            let ids = config.rootfs().diff_ids();
            if ids.len() != saved.layers.len() {
                return Err(manifest::invalid(
                    shown,
                    "manifest",
                    "layers and diff ids differ in number".to_owned(),
                ));
            }
            let _held = self.store.hold_layers(ids)?;
            let mut size = 0;
            for (name, diff_id) in saved.layers.iter().zip(ids) {
                size += self.files.open_file(name)?.1;
                let layer = Layer { blob: None, diff_id: diff_id.clone(), squash_ids: self.squash_ids };
                self.layer(shown, name, layer)?;
            }
            for tag in &tags {
                let reference: Reference = tag.parse()?;
                if reference.digest().is_some() {
                    let reason =
                        "it is named by a digest, which an archive of `docker save` has no manifest to prove";
                    return Err(manifest::invalid(tag, "name", reason.to_owned()));
                }
                // The archive keeps no registry manifest; the configuration identifies the image.
                let name = reference.to_string();
                images.push(self.publish(manifest::image(
                    self.store,
                    &name,
                    id.clone(),
                    id.clone(),
                    &config,
                    size,
                ))?);
            }
        }
        Ok(images)
    }

    fn load_oci(&self) -> Result<Vec<Image>, Error> {
        let index = self.files.document("index.json")?;
        let shown = self.files.shown.display().to_string();
        match manifest::document(&shown, &index)? {
            Document::Index(entries) => self.load_entries(entries),
            Document::Manifest(_) => Err(self.files.invalid("its index.json is no index")),
        }
    }

    /// Loads what the index names. An image that is none, or for another machine, is passed over where there is one for this.
    fn load_entries(&self, entries: Vec<Entry>) -> Result<Vec<Image>, Error> {
        let wanted = Platform::default();
        let is_for_here = |entry: &&Entry| {
            let offered = entry.platform.clone().unwrap_or_default();
            !offered.is_no_image() && offered.platform().is_none_or(|platform| wanted.rate_fit(&platform) > 0)
        };
        let here: Vec<&Entry> = entries.iter().filter(is_for_here).collect();
        let meant = if here.is_empty() { entries.iter().collect() } else { here };
        meant.into_iter().map(|entry| self.oci_image(entry)).collect()
    }

    fn oci_image(&self, entry: &Entry) -> Result<Image, Error> {
        let name = self.name(entry)?;
        let reference = name.to_string();
        if let Some(pinned) = name.digest() {
            layer::expect(&reference, "manifest", pinned, entry.digest.clone())?;
        }
        let wanted = Platform::default();
        let (mut left, mut others, mut looked_at) = (vec![entry.digest.clone()], Vec::new(), 0);
        while let Some(digest) = left.pop() {
            looked_at += 1;
            let bytes = self.blob(&reference, "manifest", &digest)?;
            let manifest = match manifest::document(&reference, &bytes)? {
                Document::Manifest(manifest) => manifest,
                Document::Index(entries) if looked_at < MAX_DOCUMENTS => {
                    let within = manifest::candidates(entries, &wanted, &mut others);
                    // An archive of one platform has the index of all.
                    let here = within.into_iter().filter(|digest| self.files.has(&blob_path(digest)));
                    left.extend(here.collect::<Vec<_>>().into_iter().rev());
                    continue;
                }
                Document::Index(_) => {
                    return Err(self.files.invalid("it has indexes within indexes without end"));
                }
            };
            let id = manifest::digest(&reference, manifest.config().digest())?;
            let config = self.blob(&reference, "configuration", &id)?;
            let config = manifest::configuration(&reference, &config)?;
            if !wanted.does_take(&config) {
                others.extend(Platform::of(&config).map(|platform| platform.to_string()));
                continue;
            }
            let _held = self.store.hold_layers(config.rootfs().diff_ids())?;
            for layer in manifest::layers(&reference, &manifest, &config, self.squash_ids)? {
                let name = layer.blob.as_ref().map(|(digest, _)| blob_path(digest)).unwrap_or_default();
                self.layer(&reference, &name, layer)?;
            }
            let size = manifest::sum_sizes(&manifest);
            let image = manifest::image(self.store, &reference, digest, id, &config, size);
            // What the name means to a registry is the index, if it is one.
            return self.publish(Image { source: entry.digest.clone(), ..image });
        }
        Err(manifest::no_platform(&reference, &wanted, others))
    }

    /// Containerd writes the full name; others a tag or a name; a layout may have none at all.
    fn name(&self, entry: &Entry) -> Result<Reference, Error> {
        let annotation = |key| entry.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
        let tag =
            match (annotation("io.containerd.image.name"), annotation("org.opencontainers.image.ref.name")) {
                (Some(name), _) => return name.parse(),
                (None, Some(name)) if name.contains(['/', ':']) => return name.parse(),
                (None, tag) => tag.unwrap_or("latest"),
            };
        let stem = self.files.shown.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        format!("localhost/{stem}:{tag}").parse()
    }

    fn layer(&self, reference: &str, name: &str, layer: Layer) -> Result<(), Error> {
        let digest = layer.blob.as_ref().map_or(&layer.diff_id, |(digest, _)| digest).clone();
        let path = self.store.layer_path(&layer.diff_id);
        let vouched = self.store.list_vouched_layers()?;
        if self.store.keep_layer_if_sound(&path, &vouched, Some(Depth::Sizes))? {
            self.progress.layer(&digest, LayerState::AlreadyPresent);
            return Ok(());
        }
        let (file, total) = self.files.open_file(name)?;
        self.progress.layer(&digest, LayerState::Downloading { done: 0, total });
        layer::ingest_layer(self.store, reference, &layer, file)?;
        self.progress.layer(&digest, LayerState::Done);
        Ok(())
    }

    fn publish(&self, image: Image) -> Result<Image, Error> {
        match self.store.publish(&image)? {
            Some(image) => Ok(image),
            None => Err(self.files.invalid("a layer was removed while loading; load again")),
        }
    }

    fn blob(&self, reference: &str, what: &'static str, digest: &str) -> Result<Vec<u8>, Error> {
        let bytes = self.files.document(&blob_path(digest))?;
        layer::expect(reference, what, digest, layer::sha256(&bytes))?;
        Ok(bytes)
    }
}

/// The name of an image that its archive gives none.
fn name_by_id(id: &str) -> String {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    format!("localhost/loaded:{}", &hex[..hex.len().min(12)])
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// The files of a directory, or of a tar read in place.
struct Files {
    path: PathBuf,
    /// Holds what it is called in words.
    shown: PathBuf,
    /// Offset and length of each file in the tar, or the name it links to; None for a directory.
    entries: Option<HashMap<PathBuf, Place>>,
}

enum Place {
    Bytes(u64, u64),
    Link(PathBuf),
}

impl Files {
    fn open(path: PathBuf, shown: &Path) -> Result<Self, Error> {
        let file = File::open(&path).map_err(Error::io("open", shown))?;
        let mut files = Self { path, shown: shown.to_owned(), entries: None };
        if files.path.is_dir() {
            return Ok(files);
        }
        let mut archive = tar::Archive::new(file);
        let mut entries = HashMap::new();
        let listed = archive.entries_with_seek().and_then(|all| {
            for entry in all {
                let entry = entry?;
                let name = clean_path(&entry.path()?);
                let place = match entry.link_name()? {
                    // A hard link's target is told from the archive's root, another's from where the link is.
                    Some(target) if entry.header().entry_type() == tar::EntryType::Link => {
                        Place::Link(clean_path(&target))
                    }
                    Some(target) => {
                        Place::Link(clean_path(&name.parent().unwrap_or(Path::new("")).join(target)))
                    }
                    None => Place::Bytes(entry.raw_file_position(), entry.size()),
                };
                entries.insert(name, place);
            }
            Ok(())
        });
        listed.map_err(|error| match error.raw_os_error() {
            Some(_) => files.invalid(&error.to_string()),
            None => files.invalid("not a tar archive, nor a directory with an OCI layout"),
        })?;
        files.entries = Some(entries);
        Ok(files)
    }

    fn has(&self, name: &str) -> bool {
        match &self.entries {
            Some(entries) => entries.contains_key(Path::new(name)),
            None => self.path.join(name).is_file(),
        }
    }

    fn open_file(&self, name: &str) -> Result<(std::io::Take<File>, u64), Error> {
        let name = clean_path(Path::new(name));
        let Some(entries) = &self.entries else {
            let path = self.path.join(name);
            let file = File::open(&path).map_err(Error::io("open", &path))?;
            let length = file.metadata().map_err(Error::io("stat", &path))?.len();
            return Ok((file.take(length), length));
        };
        let place = match entries.get(&name) {
            Some(Place::Link(target)) => entries.get(target),
            found => found,
        };
        let Some(Place::Bytes(offset, length)) = place else {
            return Err(self.invalid(&format!("{} is missing", name.display())));
        };
        let mut file = File::open(&self.path).map_err(Error::io("open", &self.shown))?;
        file.seek(SeekFrom::Start(*offset)).map_err(Error::io("seek in", &self.shown))?;
        Ok((file.take(*length), *length))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, Error> {
        let (mut file, length) = self.open_file(name)?;
        if length > MAX_DOCUMENT {
            return Err(self.invalid(&format!("{name} is {length} bytes long")));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", &self.shown))?;
        Ok(bytes)
    }

    fn invalid(&self, reason: &str) -> Error {
        Error::Archive { path: self.shown.clone(), reason: reason.to_owned() }
    }
}
