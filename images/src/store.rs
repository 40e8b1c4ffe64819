//! The images on disk: `refs/` names them, `layers/` holds what they consist of, `leases/` who uses them.
//!
//! A layer directory appears by rename and never changes; a reference is one small file, written the same
//! way. The store's lock is held only for moments: shared to publish or lease, exclusive to remove.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use crate::{Error, Reference, manifest::invalid, reference::is_sha256};

/// An image whose layers are unpacked.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Image {
    /// The full reference it was stored under.
    pub reference: String,
    /// The manifest's digest.
    pub digest: String,
    /// Digest of what the registry has under the reference: the manifest, or the index it was chosen from.
    #[serde(default)]
    pub source: String,
    /// The configuration's digest.
    pub id: String,
    /// Absolute overlay lower directories, lowest first.
    pub layers: Vec<PathBuf>,
    /// Entry point, environment, user and the like.
    pub config: oci_spec::image::Config,
    /// Operating system, as in `linux`.
    pub os: String,
    /// Architecture, as in `amd64`.
    pub architecture: String,
    /// RFC 3339 time of the build.
    pub created: Option<String>,
    /// Bytes of the compressed layers.
    pub size: u64,
}

/// What [`Store::remove`] took away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The reference that is gone.
    pub reference: String,
    /// How many layers no image needed any more.
    pub layers: usize,
}

/// A directory of images, shared by any number of processes.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store at `root`, made if it is missing.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(root).map_err(Error::io("resolve", root))?;
        for name in ["refs", "layers", "leases", "tmp"] {
            let path = root.join(name);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        Ok(Self { root })
    }

    /// The image stored under `reference`: one small read.
    pub fn find(&self, reference: &Reference) -> Result<Option<Image>, Error> {
        let path = self.ref_path(reference);
        match fs::read(&path) {
            Ok(json) if json.is_empty() => Ok(None), // what a power cut leaves of a reference just written
            Ok(json) => Ok(Some(self.check(parse(&path, &json)?)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Checks an image that was read back from disk: its digests name files of this store and nothing else.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check(&self, mut image: Image) -> Result<Image, Error> {
        let digest = |name: &OsStr| name.to_str().is_some_and(|hex| is_sha256(&format!("sha256:{hex}")));
        for layer in &mut image.layers {
            let name = layer.file_name().filter(|name| digest(name)).map(OsStr::to_owned);
            let name = name.ok_or_else(|| damaged(&image.reference, &layer.display().to_string()))?;
            *layer = self.root.join("layers").join(name);
        }
        if let Some(wrong) = [&image.digest, &image.id].into_iter().find(|digest| !is_sha256(digest)) {
            return Err(damaged(&image.reference, wrong));
        }
        Ok(image)
    }

    /// Whether all of the image's layers are there.
    pub(crate) fn is_whole(&self, image: &Image) -> bool {
        image.layers.iter().all(|layer| layer.is_dir())
    }

    /// All images, by reference.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let mut images = Vec::<Image>::new();
        for path in entries(&self.root.join("refs"))? {
            match fs::read(&path) {
                Ok(json) if json.is_empty() => {}
                Ok(json) => images.push(self.check(parse(&path, &json)?)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // removed meanwhile
                Err(error) => return Err(Error::io("read", &path)(error)),
            }
        }
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// The references that `text` means: a name, or what an id or a digest of the store begins with.
    pub fn resolve(&self, text: &str) -> Result<Vec<Reference>, Error> {
        let named = text.parse::<Reference>();
        if let Ok(reference) = &named
            && self.find(reference)?.is_some()
        {
            return Ok(vec![reference.clone()]);
        }
        let bare = hex(text);
        let is_id = bare.len() >= 4 && bare.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let images = if is_id { self.list()? } else { Vec::new() };
        let meant: Vec<_> = images
            .iter()
            .filter(|image| [&image.id, &image.digest].iter().any(|id| hex(id).starts_with(bare)))
            .collect();
        if meant.windows(2).any(|pair| pair[0].id != pair[1].id) {
            return Err(Error::Ambiguous { text: text.to_owned() });
        }
        let references: Result<Vec<_>, _> = meant.iter().map(|image| image.reference.parse()).collect();
        match references? {
            none if none.is_empty() => {
                Err(Error::NotFound { reference: named.map_or(text.to_owned(), |r| r.to_string()) })
            }
            some => Ok(some),
        }
    }

    /// Forgets `reference` and removes the layers that no other image and no lease needs.
    pub fn remove(&self, reference: &Reference) -> Result<Removed, Error> {
        let lock = self.lock()?;
        lock.lock().map_err(Error::io("lock", &self.root))?;
        let name = reference.to_string();
        let image = self.find(reference)?.ok_or_else(|| Error::NotFound { reference: name.clone() })?;
        if is_leased(&self.lease_path(&image))? {
            return Err(Error::InUse { reference: name });
        }
        let path = self.ref_path(reference);
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        Ok(Removed { reference: name, layers: self.collect()? })
    }

    /// Holds the image: no process can remove it while any holds the descriptor or a copy of it.
    pub fn lease(&self, image: &Image) -> Result<OwnedFd, Error> {
        let lock = self.lock()?;
        lock.lock_shared().map_err(Error::io("lock", &self.root))?;
        if !self.is_whole(image) {
            return Err(Error::NotFound { reference: image.reference.clone() });
        }
        let path = self.lease_path(image);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(Error::io("open", &path))?;
        file.lock_shared().map_err(Error::io("lock", &path))?;
        // The layers, for when the reference has moved on. The name is the digest: all write the same.
        file.write_all(&serialize(&image.layers)).map_err(Error::io("write", &path))?;
        Ok(file.into())
    }

    /// Where the layer with this diff id is, or will be.
    pub(crate) fn layer_path(&self, diff_id: &str) -> PathBuf {
        self.root.join("layers").join(hex(diff_id))
    }

    /// Writes the reference, unless a layer was removed since it was seen: then false.
    pub(crate) fn publish(&self, image: &Image) -> Result<bool, Error> {
        let lock = self.lock()?;
        lock.lock_shared().map_err(Error::io("lock", &self.root))?;
        if !self.is_whole(image) {
            return Ok(false);
        }
        let path = self.root.join("refs").join(escape(&image.reference));
        let new = self.root.join("tmp").join(unique());
        fs::write(&new, serialize(image)).map_err(Error::io("write", &new))?;
        fs::rename(&new, &path).map_err(Error::io("write", &path))?;
        Ok(true)
    }

    /// A directory to unpack in, locked for as long as it lives and removed with it.
    pub(crate) fn scratch(&self) -> Result<Scratch, Error> {
        let lock = self.lock()?;
        // Shared: a sweep, which is exclusive, must not come between the directory and its lock.
        lock.lock_shared().map_err(Error::io("lock", &self.root))?;
        let path = self.root.join("tmp").join(unique());
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
        let held = File::open(&path).map_err(Error::io("open", &path))?;
        held.lock().map_err(Error::io("lock", &path))?;
        Ok(Scratch { path, _held: held })
    }

    /// Removes what dead processes left in `tmp/`; skipped when others are busy.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        let lock = self.lock()?;
        if try_lock(&lock, &self.root)?.is_none() {
            return Ok(());
        }
        for path in entries(&self.root.join("tmp"))? {
            let Ok(file) = File::open(&path) else { continue };
            if try_lock(&file, &path)?.is_some() {
                if path.is_dir() { remove_tree(&path) } else { fs::remove_file(&path) }
                    .map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// With the exclusive lock held: removes layers that neither a reference nor a lease needs.
    fn collect(&self) -> Result<usize, Error> {
        let mut needed: HashSet<PathBuf> = self.list()?.into_iter().flat_map(|image| image.layers).collect();
        for path in entries(&self.root.join("leases"))? {
            if is_leased(&path)? {
                let json = fs::read(&path).map_err(Error::io("read", &path))?;
                needed.extend(parse::<Vec<PathBuf>>(&path, &json)?);
            } else {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        let mut removed = 0;
        for path in entries(&self.root.join("layers"))? {
            if !needed.contains(&path) {
                // First out of sight: a removal cut short must not leave half a layer behind.
                let gone = self.root.join("tmp").join(unique());
                fs::rename(&path, &gone).map_err(Error::io("remove", &path))?;
                remove_tree(&gone).map_err(Error::io("remove", &gone))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn lock(&self) -> Result<File, Error> {
        let path = self.root.join("lock");
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("open", &path))
    }

    fn ref_path(&self, reference: &Reference) -> PathBuf {
        self.root.join("refs").join(escape(&reference.to_string()))
    }

    fn lease_path(&self, image: &Image) -> PathBuf {
        self.root.join("leases").join(hex(&image.digest))
    }
}

/// A directory of this process alone.
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
    _held: File,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.path);
    }
}

/// Removes a directory of `tmp/`. An image may nest directories deeper than descriptors or a stack go,
/// so none is entered: each is moved up beside `path` and emptied there.
fn remove_tree(path: &Path) -> io::Result<()> {
    let tmp = path.parent().unwrap_or(path);
    // A sweep elsewhere may be at the same work.
    let gone = |done: io::Result<()>| match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    };
    let mut left = vec![path.to_owned()];
    while let Some(dir) = left.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => {
                    let up = tmp.join(unique());
                    gone(fs::rename(entry.path(), &up))?;
                    left.push(up);
                }
                false => gone(fs::remove_file(entry.path()))?,
            }
        }
        gone(fs::remove_dir(&dir))?;
    }
    Ok(())
}

/// The lock was free, and is now held by `file`.
struct Locked;

fn try_lock(file: &File, path: &Path) -> Result<Option<Locked>, Error> {
    match file.try_lock() {
        Ok(()) => Ok(Some(Locked)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path)(error)),
    }
}

fn is_leased(path: &Path) -> Result<bool, Error> {
    match File::open(path) {
        Ok(file) => Ok(try_lock(&file, path)?.is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(path).and_then(|dir| dir.map(|entry| entry.map(|e| e.path())).collect());
    entries.map_err(Error::io("list", path))
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, json: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| Error::io("read", path)(error.into()))
}

fn serialize(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data serializes")
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Process ids repeat across pid namespaces, times to the nanosecond hardly.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{:x}-{}", std::process::id(), now.as_nanos(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A reference as a file name; neither `/` nor `%` survives, so no two share one.
fn escape(reference: &str) -> String {
    reference.replace('%', "%25").replace('/', "%2F")
}

fn damaged(reference: &str, digest: &str) -> Error {
    invalid(
        reference,
        "record",
        format!("{digest:?} is no sha256 digest; remove the image and pull it again"),
    )
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}
