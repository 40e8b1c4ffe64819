//! The topmost layer of an image, with nothing but directories: those whose mode, owner or attributes the other layers show
//! wrongly together.
//!
//! A layer may add a file without an entry of the directories above it; alone, it has them as any new directory is. Layers
//! are shared between images, so each stays as it is, and what such a directory was below is said once more above them
//! all. Overlayfs merges it with the others and shows its attributes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::inventory::{self, Depth, Unpacked};
use crate::merged_tree::{Directory, Tree, Walk};
use crate::{Error, Store, layer};

/// Mode, owner and extended attributes of a directory.
#[derive(Debug, PartialEq, Eq)]
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    xattrs: Vec<(CString, Vec<u8>)>,
}

/// Tells where the crown of these layers is, or would be.
pub(crate) fn locate(store: &Store, layers: &[PathBuf]) -> PathBuf {
    let names: Vec<_> = layers.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    store.layer_path(&layer::sha256(format!("crown of {}", names.join(" ")).as_bytes()))
}

/// Makes the crown of these layers, the lowest first, where they need one; an image without layers needs one, too.
pub(crate) fn make(store: &Store, layers: &[PathBuf]) -> Result<Option<PathBuf>, Error> {
    let implied: Vec<_> =
        layers.iter().map(|path| inventory::implied_paths(&store.inventory_path(path))).collect();
    let failed = |errno: nix::Error| Error::io("look through the layers in", store.root())(errno.into());
    let tree = Tree::open(layers)?;
    let mut wanted = BTreeMap::new();
    let mut walk = Walk::of(&tree);
    for path in implied.iter().flatten().collect::<BTreeSet<_>>() {
        let Some(found) = walk.directory(path).map_err(failed)? else { continue };
        let said = said_by(&found, path, &implied);
        let (Some(top), Some(said)) = (found.0.first(), said) else { continue };
        let differ = attributes(&top.fd).and_then(|top| Ok(top != attributes(&said)?));
        if differ.map_err(Error::io("inspect", path))? {
            wanted.insert(path.clone(), said);
        }
    }
    if wanted.is_empty() && !layers.is_empty() {
        return Ok(None);
    }
    // Every directory on the way is on top, too.
    let mut above = BTreeSet::new();
    for path in wanted.keys() {
        // Where one is known, so are those above it.
        let new = |dir: &&Path| !wanted.contains_key(*dir) && above.insert(dir.to_path_buf());
        path.ancestors().skip(1).take_while(new).for_each(drop);
    }
    for above in above {
        let Some(found) = walk.directory(&above).map_err(failed)? else { continue };
        let shown = said_by(&found, &above, &implied).or(found.0.first().map(|part| part.fd.clone()));
        wanted.extend(shown.map(|shown| (above, shown)));
    }
    let path = locate(store, layers);
    match path.is_dir() {
        true if store.verify_layer(&path, Depth::Sizes).is_ok() => return Ok(Some(path)),
        true => store.discard_layer(&path)?,
        false => {}
    }
    let scratch = store.make_scratch()?;
    let root = scratch.path.join("layer");
    let mut unpacked = Unpacked::default();
    fs::create_dir(&root).map_err(Error::io("create", &root))?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).map_err(Error::io("chmod", &root))?;
    for below in wanted.keys().filter(|below| !below.as_os_str().is_empty()) {
        let place = root.join(below);
        fs::create_dir(&place).map_err(Error::io("create", &place))?;
    }
    for (below, said) in wanted.iter().rev() {
        let place = root.join(below);
        let inode = copy(said, &place).map_err(Error::io("set mode and owner of", &place))?;
        unpacked.directories.insert(inode);
    }
    let record = scratch.path.join("inventory");
    inventory::write(&root, &unpacked, &record).map_err(Error::io("write", &record))?;
    store.add_layer(&scratch, &path)?;
    Ok(Some(path))
}

/// The topmost directory that is more than implied by its layer.
fn said_by(found: &Directory, path: &Path, implied: &[HashSet<PathBuf>]) -> Option<Rc<OwnedFd>> {
    found.0.iter().find(|part| !implied[part.layer].contains(path)).map(|part| part.fd.clone())
}

fn attributes(dir: &OwnedFd) -> std::io::Result<Attributes> {
    let stat = File::from(dir.try_clone()?).metadata()?;
    Ok(Attributes { mode: stat.mode() & 0o7777, uid: stat.uid(), gid: stat.gid(), xattrs: user_xattrs(dir) })
}

/// Makes the new directory at `place` as `said` is; gives its inode.
fn copy(said: &OwnedFd, place: &Path) -> std::io::Result<u64> {
    let Attributes { mode, uid, gid, xattrs } = attributes(said)?;
    let dir = File::open(place)?;
    fchown(&dir, Some(uid), Some(gid))?;
    dir.set_permissions(fs::Permissions::from_mode(mode))?;
    for (name, value) in xattrs {
        // As when the layer was unpacked: where there are no attributes, there are none to lose.
        // SAFETY: the descriptor is open, the name ends in NUL, pointer and length are the value's.
        let _ =
            unsafe { libc::fsetxattr(dir.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    }
    let times = File::from(said.try_clone()?).metadata()?.modified()?;
    dir.set_modified(times)?;
    Ok(dir.metadata()?.ino())
}

/// The attributes that an archive may bring; overlayfs's own are its layer's affair.
pub(crate) fn user_xattrs(dir: &OwnedFd) -> Vec<(CString, Vec<u8>)> {
    read_xattrs(dir, |name| name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Tells whether a directory hides what layers below have in its place.
pub(crate) fn is_opaque(dir: &OwnedFd) -> bool {
    let marks: [&[u8]; 2] = [b"user.overlay.opaque", b"trusted.overlay.opaque"];
    read_xattrs(dir, |name| marks.contains(&name)).iter().any(|(_, value)| value == b"y")
}

pub(crate) fn read_xattrs(dir: &OwnedFd, wanted: impl Fn(&[u8]) -> bool) -> Vec<(CString, Vec<u8>)> {
    let mut names = vec![0_u8; 64 << 10];
    // SAFETY: the descriptor is open, pointer and length are the buffer's.
    let length = unsafe { libc::flistxattr(dir.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    let names = names.get(..length.max(0) as usize).unwrap_or_default();
    let names =
        names.split(|byte| *byte == 0).filter(|name| wanted(name)).filter_map(|name| CString::new(name).ok());
    let value = |name: CString| {
        let mut value = vec![0_u8; 64 << 10];
        // SAFETY: as above, and the name ends in NUL.
        let length = unsafe {
            libc::fgetxattr(dir.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        value.truncate(usize::try_from(length).ok()?);
        Some((name, value))
    };
    names.filter_map(value).collect()
}
