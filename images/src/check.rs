//! Looking through the store, and mending it: what is damaged is forgotten, so that it is pulled on demand.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::inventory::{self, Depth};
use crate::ordinary_file::read_ordinary;
use crate::{Error, Store};
use crate::{lease::is_held, store::entries};

/// Something in the store that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The place where it is.
    pub path: PathBuf,
    /// The image that it concerns, if one is known.
    pub image: Option<String>,
    /// Holds what is wrong with it.
    pub what: String,
    /// Tells whether it has been mended.
    pub mended: bool,
}

impl Store {
    /// Tells whether the layer is as it was unpacked.
    ///
    /// # Errors
    /// What is not.
    pub(crate) fn verify_layer(&self, layer: &Path, depth: Depth) -> Result<(), String> {
        let inventory = self.inventory_path(layer);
        // Of a layer that an earlier version unpacked nothing more is known than that it is there.
        if depth == Depth::Sizes && !inventory.exists() {
            return Ok(());
        }
        inventory::verify_inventory(layer, &inventory, depth)
    }

    /// Tells whether the store has the layer as it was unpacked; one that is damaged is thrown away.
    ///
    /// One that is not in `vouched` is read down to what its files hold: a power cut may lose a reference and leave the
    /// layer's directory, full of empty files.
    ///
    /// # Errors
    /// [`Error::Io`], of a damaged layer that cannot be removed.
    pub(crate) fn keep_layer_if_sound(
        &self,
        layer: &Path,
        vouched: &HashSet<PathBuf>,
        look: Option<Depth>,
    ) -> Result<bool, Error> {
        if !layer.is_dir() {
            if fs::symlink_metadata(layer).is_ok() {
                // Something else stands in its place.
                self.discard_layer(layer)?;
            }
            return Ok(false);
        }
        let depth = if vouched.contains(layer) { look } else { Some(Depth::Content) };
        if depth.is_none_or(|depth| self.verify_layer(layer, depth).is_ok()) {
            return Ok(true);
        }
        self.discard_layer(layer).map(|()| false)
    }

    /// The layers of images that were written since this machine started, or are known to have reached the disk.
    ///
    /// # Errors
    /// [`Error::Io`], of a store that cannot be read.
    pub(crate) fn list_vouched_layers(&self) -> Result<HashSet<PathBuf>, Error> {
        let sound = self.list()?.into_iter().filter(|image| !image.is_unverified());
        Ok(sound.flat_map(|image| image.layers).collect())
    }

    /// The references that cannot be used, and why: a quick look.
    ///
    /// # Errors
    /// [`Error::Io`], of a store that cannot be read.
    pub fn damaged(&self) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        for path in entries(&self.root().join("refs"))? {
            let name = reference_of(&path);
            // Editors' and other programs' files are none of ours.
            let Some(name) = name else { continue };
            let what = match self.read(&path) {
                Ok(image) => image
                    .layers
                    .iter()
                    .find(|layer| !layer.is_dir())
                    .map(|layer| format!("its layer {} is missing", layer.display())),
                Err(_) if fs::symlink_metadata(&path).is_err() => None, // removed meanwhile
                Err(reason) => Some(format!("the reference cannot be read: {reason}")),
            };
            findings.extend(what.map(|what| Finding { path, image: Some(name), what, mended: false }));
        }
        Ok(findings)
    }

    /// Looks at everything, down to what files hold. With `repair` it forgets damaged references and layers, and removes
    /// what nothing refers to; pods that run keep what they have.
    ///
    /// # Errors
    /// [`Error::Io`], of a store that cannot be read or written.
    pub fn look_through(&self, repair: bool) -> Result<Vec<Finding>, Error> {
        let mut findings = self.damaged()?;
        let mut seen: BTreeMap<PathBuf, Option<String>> = BTreeMap::new();
        for image in self.list()? {
            let told = |layer: &&PathBuf| image.unsynced_in.is_some() || self.inventory_path(layer).exists();
            for layer in image.layers.iter().filter(told) {
                let wrong = seen
                    .entry(layer.clone())
                    .or_insert_with(|| self.verify_layer(layer, Depth::Content).err());
                let finding = wrong.as_ref().map(|what| Finding {
                    path: layer.clone(),
                    image: Some(image.reference.clone()),
                    what: what.clone(),
                    mended: false,
                });
                findings.extend(finding);
            }
        }
        for path in entries(&self.root().join("leases"))? {
            let held = is_held(&path).unwrap_or(true);
            let readable =
                read_ordinary(&path).is_ok_and(|json| serde_json::from_slice::<Vec<PathBuf>>(&json).is_ok());
            if held && !readable {
                let what =
                    "a pod holds it, and it does not say which layers; they are kept until the pod ends";
                findings.push(Finding { path, image: None, what: what.to_owned(), mended: false });
            }
        }
        let lock = self.lock()?;
        lock.lock().map_err(Error::io("lock", self.root()))?;
        if let Some(needed) = self.needed_layers()? {
            let layers = entries(&self.root().join("layers"))?;
            let what = || "no image needs it".to_owned();
            let unneeded = layers.into_iter().filter(|path| !needed.contains(path));
            findings.extend(unneeded.map(|path| Finding { path, image: None, what: what(), mended: false }));
        }
        if repair {
            for finding in findings.iter_mut().filter(|finding| finding.image.is_some()) {
                finding.mended = !finding.path.exists() || self.put_away(&finding.path).is_ok();
            }
            // A reference whose layer was just thrown away names nothing.
            for path in self.damaged()?.into_iter().map(|finding| finding.path) {
                self.put_away(&path)?;
            }
            self.collect()?;
            for finding in findings.iter_mut().filter(|finding| !finding.path.exists()) {
                finding.mended = true;
            }
        }
        Ok(findings)
    }
}

/// The reference that the file of `refs/` is named after.
fn reference_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.replace("%2F", "/").replace("%25", "%");
    let reference: crate::Reference = name.parse().ok()?;
    (reference.to_string() == name).then_some(name)
}
