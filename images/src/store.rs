//! The images on disk: `refs/` names them, `layers/` holds what they consist of, `inventories/` what each layer held when
//! it was unpacked, `leases/` who uses them.
//!
//! A layer directory appears by rename and never changes; a reference is one small file, written the same
//! way. The store's lock is held only for moments: shared to publish or lease, exclusive to remove. What is damaged
//! hides and blocks nothing but itself: such an image is not there, until it is pulled again.
//!
//! Nothing is synced when an image is pulled. Its reference says during which boot that was: after another one its layers
//! are compared with their inventories before they are used. A layer that no sound image names is read whole before a pull
//! takes it for its own: the reference may be what the power cut cost.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use crate::build_steps::BuildStep;
use crate::inventory::Depth;
use crate::lease::{self, Lease, is_held};
use crate::manifest::{invalid, list_distinct};
use crate::ordinary_file::{open_ordinary, read_ordinary};
use crate::{Error, Reference, crown, reference::is_sha256};

/// The image whose layers are unpacked.
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
    /// Tells how it was built, the first step first; empty of one that was fetched by a podctl that did not keep it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build_steps: Vec<BuildStep>,
    /// The boot during which it was written, as long as it is not known to have reached the disk.
    #[serde(default)]
    pub unsynced_in: Option<String>,
}

impl Image {
    /// Returns an image of which only the reference is known.
    pub fn unreadable_reference(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            digest: String::new(),
            source: String::new(),
            id: String::new(),
            layers: Vec::new(),
            config: oci_spec::image::Config::default(),
            os: String::new(),
            architecture: String::new(),
            created: None,
            size: 0,
            build_steps: Vec::new(),
            unsynced_in: None,
        }
    }

    /// Tells whether a power cut may have cost some of it: it was written before this machine started, and
    /// not looked at since.
    pub fn is_unverified(&self) -> bool {
        self.unsynced_in.as_deref().is_some_and(|boot| boot != boot_id())
    }
}

/// The kernel's name for this boot; empty where it is not told.
fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    })
}

/// Holds what [`Store::remove`] took away.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The reference that is gone.
    pub reference: String,
    /// Holds what it named, if that could still be read.
    pub image: Option<Image>,
    /// The number of layers no image needed any more.
    pub layers: usize,
}

/// The directory of images, shared by any number of processes.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store at `root`, made if it is missing.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(root).map_err(Error::io("resolve", root))?;
        for name in ["refs", "layers", "inventories", "leases", "tmp"] {
            let path = root.join(name);
            if path.is_dir() {
                continue;
            }
            match fs::create_dir_all(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let reason = "it is no directory; `podctl doctor --repair` mends it".to_owned();
                    return Err(Error::Damaged { path, reason });
                }
                made => made.map_err(Error::io("create", &path))?,
            }
        }
        Ok(Self { root })
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

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The image stored under `reference`, if it can be used as it is: its reference can be read, its layers are there,
    /// and no power cut may have cost some of them. One small read.
    ///
    /// # Errors
    /// [`Error::Io`], of a store that cannot be read.
    pub fn find(&self, reference: &Reference) -> Result<Option<Image>, Error> {
        Ok(self
            .read(&self.ref_path(reference))
            .ok()
            .filter(|image| self.is_whole(image) && !image.is_unverified()))
    }

    /// The same; an image that is older than this boot is compared with its inventories, which may take seconds.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn find_verified(&self, reference: &Reference) -> Result<Option<Image>, Error> {
        let found = self.read(&self.ref_path(reference)).ok().filter(|image| self.is_whole(image));
        let Some(image) = found.filter(Image::is_unverified) else { return self.find(reference) };
        if !self.keep_if_sound(&image, Depth::Content)? {
            return Ok(None);
        }
        // It was read from the disk since.
        let image = Image { unsynced_in: None, ..image };
        self.write(&image)?;
        Ok(Some(image))
    }

    /// Tells whether the image's layers are as they were unpacked; those that are not are thrown away.
    pub(crate) fn keep_if_sound(&self, image: &Image, depth: Depth) -> Result<bool, Error> {
        let mut sound = true;
        for layer in &image.layers {
            if self.verify_layer(layer, depth).is_err() {
                self.discard_layer(layer)?;
                sound = false;
            }
        }
        Ok(sound)
    }

    /// Tells whether all of the image's layers are there.
    pub(crate) fn is_whole(&self, image: &Image) -> bool {
        image.layers.iter().all(|layer| layer.is_dir())
    }

    /// All images whose layers are there, by reference. What is damaged [`Store::look_through`] tells.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let mut images = Vec::<Image>::new();
        for path in entries(&self.root.join("refs"))? {
            images.extend(self.read(&path).ok().filter(|image| self.is_whole(image)));
        }
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// The image that the file of `refs/` names.
    ///
    /// # Errors
    /// What is wrong with the file; also that it is gone.
    pub(crate) fn read(&self, path: &Path) -> Result<Image, String> {
        match read_ordinary(path).map_err(|error| error.to_string())? {
            json if json.is_empty() => {
                Err("it is empty, as a power cut leaves a file just written".to_owned())
            }
            json => {
                let image = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
                self.check(image).map_err(|error| error.to_string())
            }
        }
    }

    /// The references that `text` means: a name, or what an id or a digest of the store begins with.
    pub fn resolve(&self, text: &str) -> Result<Vec<Reference>, Error> {
        let named = text.parse::<Reference>();
        if let Ok(reference) = &named
            && self.ref_path(reference).exists()
        {
            return Ok(vec![reference.clone()]);
        }
        let bare = digest_hex(text);
        let is_id = bare.len() >= 4 && bare.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let images = if is_id { self.list()? } else { Vec::new() };
        let meant: Vec<_> = images
            .iter()
            .filter(|image| [&image.id, &image.digest].iter().any(|id| digest_hex(id).starts_with(bare)))
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

    /// Forgets `reference` and removes the layers that no other image and no lease needs. A damaged one is forgotten,
    /// too.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`], [`Error::Io`].
    pub fn remove(&self, reference: &Reference) -> Result<Removed, Error> {
        let lock = self.lock()?;
        lock.lock().map_err(Error::io("lock", &self.root))?;
        let (name, path) = (reference.to_string(), self.ref_path(reference));
        if !path.exists() {
            return Err(Error::NotFound { reference: name });
        }
        let image = self.read(&path).ok();
        if let Some(image) = &image
            && is_held(&self.lease_path(image))?
        {
            return Err(Error::InUse { reference: name });
        }
        self.put_away(&path)?;
        Ok(Removed { reference: name, image, layers: self.collect()? })
    }

    /// Gives the image one name more; what had that name before has it no more.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    pub fn tag(&self, image: &Image, name: &Reference) -> Result<Image, Error> {
        let lock = self.lock()?;
        lock.lock().map_err(Error::io("lock", &self.root))?;
        if !self.is_whole(image) {
            return Err(Error::NotFound { reference: image.reference.clone() });
        }
        let named = Image { reference: name.to_string(), ..image.clone() };
        self.write(&named)?;
        // Layers that only the former image of that name had are needed no more.
        self.collect()?;
        Ok(named)
    }

    /// Holds the image: no process can remove it while any holds it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    pub fn take_lease(&self, image: &Image) -> Result<Lease, Error> {
        let lock = self.lock()?;
        lock.lock_shared().map_err(Error::io("lock", &self.root))?;
        if !self.is_whole(image) {
            return Err(Error::NotFound { reference: image.reference.clone() });
        }
        Lease::take(self.lease_path(image), &image.layers)
    }

    /// Keeps these layers, those that are still to come as well, from whoever removes images meanwhile.
    pub(crate) fn hold_layers(&self, diff_ids: &[String]) -> Result<Lease, Error> {
        let mut layers: Vec<_> = list_distinct(diff_ids).map(|id| self.layer_path(id)).collect();
        layers.push(crown::locate(self, &layers));
        let lock = self.lock()?;
        lock.lock_shared().map_err(Error::io("lock", &self.root))?;
        // A name of its own: it is the layers that are held, and no image.
        Lease::take(self.root.join("leases").join(unique_name()), &layers)
    }

    /// Tells where the layer with this diff id is, or will be.
    pub(crate) fn layer_path(&self, diff_id: &str) -> PathBuf {
        self.root.join("layers").join(digest_hex(diff_id))
    }

    /// Returns what the layer at this path held when it was unpacked.
    pub(crate) fn inventory_path(&self, layer: &Path) -> PathBuf {
        self.root.join("inventories").join(layer.file_name().unwrap_or_default())
    }

    /// Lets the layer be seen that was unpacked in `scratch`, after its inventory.
    pub(crate) fn add_layer(&self, scratch: &Scratch, path: &Path) -> Result<(), Error> {
        let inventory = self.inventory_path(path);
        if path.is_dir() && inventory.is_file() {
            return Ok(()); // someone else was faster: same name, same content
        }
        if inventory.is_dir() {
            self.put_away(&inventory)?;
        }
        fs::rename(scratch.path.join("inventory"), &inventory).map_err(Error::own("create", &inventory))?;
        match fs::rename(scratch.path.join("layer"), path) {
            Err(_) if path.is_dir() => Ok(()),
            done => done.map_err(Error::own("create", path)),
        }
    }

    /// Writes the reference and gives the image as it is stored; nothing, when a layer was removed since it was seen.
    pub(crate) fn publish(&self, image: &Image) -> Result<Option<Image>, Error> {
        let mut image = Image { unsynced_in: Some(boot_id().to_owned()), ..image.clone() };
        if !self.is_whole(&image) {
            return Ok(None);
        }
        image.layers.extend(crown::make(self, &image.layers)?);
        let lock = self.lock()?;
        lock.lock_shared().map_err(Error::io("lock", &self.root))?;
        if !self.is_whole(&image) {
            return Ok(None);
        }
        self.write(&image)?;
        Ok(Some(image))
    }

    /// Waits until these images have reached the disk, and says so in their references.
    pub(crate) fn sync_images(&self, images: &[Image]) -> Result<Vec<Image>, Error> {
        let dir = File::open(&self.root).map_err(Error::io("open", &self.root))?;
        nix::unistd::syncfs(&dir).map_err(|errno| Error::io("sync", &self.root)(errno.into()))?;
        let synced = |image: &Image| {
            let image = Image { unsynced_in: None, ..image.clone() };
            self.write(&image).map(|()| image)
        };
        images.iter().map(synced).collect()
    }

    /// Writes the image's reference.
    fn write(&self, image: &Image) -> Result<(), Error> {
        let path = self.root.join("refs").join(escape_reference(&image.reference));
        let new = self.root.join("tmp").join(unique_name());
        fs::write(&new, serialize_value(image)).map_err(Error::io("write", &new))?;
        if path.is_dir() {
            self.put_away(&path)?;
        }
        fs::rename(&new, &path).map_err(Error::io("write", &path))
    }

    /// Takes away a layer that is damaged, so that it is unpacked anew.
    pub(crate) fn discard_layer(&self, path: &Path) -> Result<(), Error> {
        let lock = self.lock()?;
        lock.lock().map_err(Error::io("lock", &self.root))?;
        // What was copied of it may be damaged as well.
        self.list_copies(|layer| layer == path)?.iter().try_for_each(|copy| self.put_away(copy))?;
        if fs::symlink_metadata(path).is_ok() { self.put_away(path) } else { Ok(()) }
    }

    /// Removes a file or a directory of the store. First out of sight: a removal cut short must not leave half a layer.
    pub(crate) fn put_away(&self, path: &Path) -> Result<(), Error> {
        let gone = self.root.join("tmp").join(unique_name());
        fs::rename(path, &gone).map_err(Error::io("remove", path))?;
        remove_tree(&gone).map_err(Error::io("remove", &gone))
    }

    /// Returns a directory to unpack in, locked for as long as it lives and removed with it.
    pub(crate) fn make_scratch(&self) -> Result<Scratch, Error> {
        let lock = self.lock()?;
        // Shared: a sweep, which is exclusive, must not come between the directory and its lock.
        lock.lock_shared().map_err(Error::io("lock", &self.root))?;
        let path = self.root.join("tmp").join(unique_name());
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
        let held = File::open(&path).map_err(Error::io("open", &path))?;
        held.lock().map_err(Error::io("lock", &path))?;
        Ok(Scratch { path, _held: held })
    }

    /// Removes what dead processes left in `tmp/` and `leases/`; skipped when others are busy.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sweep(&self) -> Result<(), Error> {
        let tmp = self.root.join("tmp");
        if !entries(&tmp)?.is_empty() {
            for (path, _lock) in self.take_left(&tmp)? {
                remove_tree(&path).map_err(Error::io("remove", &path))?;
            }
        }
        lease::remove_left(&self.root.join("leases"))
    }

    /// Takes what dead processes left. The store's lock, without which a directory could be yet to be locked, is held
    /// only for this, for a removal takes its time.
    fn take_left(&self, tmp: &Path) -> Result<Vec<(PathBuf, File)>, Error> {
        let lock = self.lock()?;
        if try_lock(&lock, &self.root)?.is_none() {
            return Ok(Vec::new());
        }
        let mut left = Vec::new();
        for path in entries(tmp)? {
            // Nothing of the store's can be locked; whoever left it does not come back.
            let Ok(file) = lease::open_held(&path) else { continue };
            if try_lock(&file, &path)?.is_some() {
                left.push((path, file));
            }
        }
        Ok(left)
    }

    /// Removes, with the exclusive lock held, layers that neither a reference nor a lease needs. What cannot be removed
    /// waits for the next time.
    pub(crate) fn collect(&self) -> Result<usize, Error> {
        let Some(needed) = self.needed_layers()? else { return Ok(0) };
        let unneeded = entries(&self.root.join("layers"))?.into_iter().filter(|path| !needed.contains(path));
        let removed = unneeded.filter(|path| self.put_away(path).is_ok()).count();
        for copy in self.list_copies(|layer| !layer.exists())? {
            let _ = self.put_away(&copy); // it goes the next time
        }
        for path in entries(&self.root.join("inventories"))? {
            let layer = self.root.join("layers").join(path.file_name().unwrap_or_default());
            if !layer.exists() {
                let _ = self.put_away(&path); // it says nothing about anything
            }
        }
        Ok(removed)
    }

    /// Lists, with the exclusive lock held, the layers that references and leases need. Nothing is known of them when a lease is
    /// held that says no more of what.
    pub(crate) fn needed_layers(&self) -> Result<Option<HashSet<PathBuf>>, Error> {
        let mut needed: HashSet<PathBuf> = HashSet::new();
        let mut of_digest = HashMap::new();
        for path in entries(&self.root.join("refs"))? {
            if let Ok(image) = self.read(&path) {
                needed.extend(image.layers.iter().cloned());
                of_digest.insert(digest_hex(&image.digest).to_owned(), image.layers);
            }
        }
        for path in entries(&self.root.join("leases"))? {
            if is_held(&path).is_ok_and(|leased| !leased) {
                let _ = self.put_away(&path); // nobody holds it; the next time is as good
                continue;
            }
            let json = read_ordinary(&path).unwrap_or_default();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match (serde_json::from_slice::<Vec<PathBuf>>(&json), of_digest.get(name)) {
                (Ok(layers), _) => needed.extend(layers),
                (Err(_), Some(_)) => {} // its image's layers are needed as they are
                (Err(_), None) => return Ok(None),
            }
        }
        Ok(Some(needed))
    }

    pub(crate) fn lock(&self) -> Result<File, Error> {
        let path = self.root.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        open_ordinary(&path, &mut options).map_err(Error::own("open", &path))
    }

    fn ref_path(&self, reference: &Reference) -> PathBuf {
        self.root.join("refs").join(escape_reference(&reference.to_string()))
    }

    fn lease_path(&self, image: &Image) -> PathBuf {
        self.root.join("leases").join(digest_hex(&image.digest))
    }
}

/// The directory of this process alone.
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
    _held: File,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is swept with the next pull.
        let _ = remove_tree(&self.path);
    }
}

/// Removes a directory of `tmp/`. An image may nest directories deeper than descriptors or a stack go,
/// so none is entered: each is moved up beside `path` and emptied there.
fn remove_tree(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
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
                    let up = tmp.join(unique_name());
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
pub(crate) struct Locked;

pub(crate) fn try_lock(file: &File, path: &Path) -> Result<Option<Locked>, Error> {
    match file.try_lock() {
        Ok(()) => Ok(Some(Locked)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path)(error)),
    }
}

pub(crate) fn entries(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(path).and_then(|dir| dir.map(|entry| entry.map(|e| e.path())).collect());
    entries.map_err(Error::own("list", path))
}

pub(crate) fn serialize_value(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data serializes")
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Process ids repeat across pid namespaces, times to the nanosecond hardly.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{:x}-{}", std::process::id(), now.as_nanos(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Returns a reference as a file name; neither `/` nor `%` survives, so no two share one.
fn escape_reference(reference: &str) -> String {
    reference.replace('%', "%25").replace('/', "%2F")
}

fn damaged(reference: &str, digest: &str) -> Error {
    invalid(
        reference,
        "record",
        format!("{digest:?} is no sha256 digest; remove the image and pull it again"),
    )
}

fn digest_hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}
