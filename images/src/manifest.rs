//! Manifests and configurations: which blobs an image consists of, and what they promise.

use oci_spec::image::{Arch, ImageConfiguration, ImageIndex, ImageManifest, Os};

use crate::layer::Layer;
use crate::reference::is_sha256;
use crate::{Error, Image, Store};

/// No manifest or configuration is larger; what is, is no manifest.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// Either the image's manifest, or the digest of the one for this machine.
pub(crate) enum Document {
    Manifest(Box<ImageManifest>),
    Platform { digest: String },
}

pub(crate) fn document(reference: &str, bytes: &[u8]) -> Result<Document, Error> {
    #[derive(serde::Deserialize)]
    struct Kind {
        manifests: Option<serde::de::IgnoredAny>,
    }
    let invalid = |error: serde_json::Error| invalid(reference, "manifest", error.to_string());
    let kind: Kind = serde_json::from_slice(bytes).map_err(invalid)?;
    if kind.manifests.is_none() {
        return Ok(Document::Manifest(serde_json::from_slice(bytes).map_err(invalid)?));
    }
    let index: ImageIndex = serde_json::from_slice(bytes).map_err(invalid)?;
    let (os, arch) = (Os::default(), Arch::default());
    let fits = index.manifests().iter().find(|entry| match entry.platform() {
        Some(platform) => *platform.os() == os && *platform.architecture() == arch,
        None => index.manifests().len() == 1,
    });
    match fits {
        Some(entry) => Ok(Document::Platform { digest: digest(reference, entry.digest())? }),
        None => {
            let platforms = index.manifests().iter().filter_map(|entry| entry.platform().as_ref());
            let offered: Vec<_> = platforms.map(|p| format!("{}/{}", p.os(), p.architecture())).collect();
            let (wanted, offered) = (format!("{os}/{arch}"), offered.join(", "));
            Err(Error::Platform { reference: reference.to_owned(), wanted, offered })
        }
    }
}

pub(crate) fn configuration(reference: &str, bytes: &[u8]) -> Result<ImageConfiguration, Error> {
    let config: ImageConfiguration = serde_json::from_slice(bytes)
        .map_err(|error| invalid(reference, "configuration", error.to_string()))?;
    match config.rootfs().diff_ids().iter().find(|id| !is_sha256(id)) {
        Some(id) => Err(invalid(reference, "configuration", format!("{id:?} is no sha256 digest"))),
        None => Ok(config),
    }
}

/// Pairs the manifest's blobs with the configuration's diff ids.
pub(crate) fn layers(
    reference: &str,
    manifest: &ImageManifest,
    config: &ImageConfiguration,
) -> Result<Vec<Layer>, Error> {
    let (blobs, diff_ids) = (manifest.layers(), config.rootfs().diff_ids());
    if blobs.len() != diff_ids.len() {
        let reason = format!("{} layers, but the configuration names {}", blobs.len(), diff_ids.len());
        return Err(invalid(reference, "manifest", reason));
    }
    let pair = |(blob, id): (&oci_spec::image::Descriptor, &String)| {
        Ok(Layer { blob: Some((digest(reference, blob.digest())?, blob.size())), diff_id: id.clone() })
    };
    blobs.iter().zip(diff_ids).map(pair).collect()
}

pub(crate) fn digest(reference: &str, digest: &oci_spec::image::Digest) -> Result<String, Error> {
    let text = digest.to_string();
    if is_sha256(&text) { Ok(text) } else { Err(invalid(reference, "manifest", format!("digest {text}"))) }
}

pub(crate) fn image(
    store: &Store,
    reference: &str,
    digest: String,
    id: String,
    config: &ImageConfiguration,
    size: u64,
) -> Image {
    // Overlayfs refuses a directory given twice; the upper of two equal layers is the one that counts.
    let ids = config.rootfs().diff_ids();
    let last = ids.iter().enumerate().filter(|(n, id)| !ids[n + 1..].contains(id));
    Image {
        reference: reference.to_owned(),
        digest,
        id,
        layers: last.map(|(_, id)| store.layer_path(id)).collect(),
        config: config.config().clone().unwrap_or_default(),
        os: config.os().to_string(),
        architecture: config.architecture().to_string(),
        created: config.created().clone(),
        size,
    }
}

pub(crate) fn invalid(reference: &str, what: &'static str, reason: String) -> Error {
    Error::Invalid { reference: reference.to_owned(), what, reason }
}
