//! Manifests and configurations: which blobs an image consists of, and what they promise.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, Os};

use crate::layer::Layer;
use crate::reference::is_sha256;
use crate::{Error, Image, Store};

/// No manifest or configuration is larger; what is, is no manifest.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// What an image runs on: `os/architecture[/variant]`, as in `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Default for Platform {
    /// This machine's.
    fn default() -> Self {
        Self { os: Os::default().to_string(), architecture: Arch::default().to_string(), variant: None }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<_> = text.split('/').map(str::to_owned).collect();
        let (os, architecture, variant) = match &*parts {
            [os, arch] => (os, arch, None),
            [os, arch, variant] => (os, arch, Some(variant.clone())),
            _ => return Err(Error::PlatformName { text: text.to_owned() }),
        };
        if parts.iter().any(String::is_empty) {
            return Err(Error::PlatformName { text: text.to_owned() });
        }
        Ok(Self { os: os.clone(), architecture: architecture.clone(), variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl Platform {
    /// An image that is no index's is for one platform; is it this one?
    pub(crate) fn check(&self, reference: &str, config: &ImageConfiguration) -> Result<(), Error> {
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        if (&os, &architecture) == (&self.os, &self.architecture) {
            return Ok(());
        }
        let (reference, wanted) = (reference.to_owned(), self.to_string());
        Err(Error::Platform { reference, wanted, offered: format!("{os}/{architecture}") })
    }

    /// Whether `image` is for it, as far as an image tells.
    pub(crate) fn is_of(&self, image: &Image) -> bool {
        self.variant.is_none() && self.os == image.os && self.architecture == image.architecture
    }

    /// How well something for `offered` runs here: 0 not at all, more is better.
    fn fit(&self, offered: &oci_spec::image::Platform) -> u32 {
        if self.os != offered.os().to_string() || self.architecture != offered.architecture().to_string() {
            return 0;
        }
        let usual = if self.architecture == "arm64" { "v8" } else { "" };
        let offered = offered.variant().as_deref().unwrap_or(usual);
        match self.variant.as_deref() {
            Some(wanted) if wanted == offered => u32::MAX,
            // Of 32-bit arm, a later processor runs what earlier ones do.
            Some(wanted) if self.architecture == "arm" && offered < wanted => level(offered),
            Some(_) => 0,
            None if offered == usual => u32::MAX,
            // Later amd64 variants need instructions that this machine may lack.
            None => 100 - level(offered).min(99),
        }
    }
}

fn level(variant: &str) -> u32 {
    variant.trim_start_matches('v').parse().unwrap_or(0) + 1
}

/// Either the image's manifest, or the digest of the one for this machine.
pub(crate) enum Document {
    Manifest(Box<ImageManifest>),
    Platform { digest: String },
}

pub(crate) fn document(reference: &str, bytes: &[u8], wanted: &Platform) -> Result<Document, Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind {
        schema_version: Option<u32>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let invalid = |error: serde_json::Error| invalid(reference, "manifest", error.to_string());
    let kind: Kind = serde_json::from_slice(bytes).map_err(invalid)?;
    if kind.schema_version == Some(1) {
        let reason = "schema 1, which no tool writes any more; push the image again with a current one";
        return Err(self::invalid(reference, "manifest", reason.to_owned()));
    }
    if kind.manifests.is_none() {
        return Ok(Document::Manifest(serde_json::from_slice(bytes).map_err(invalid)?));
    }
    let index: ImageIndex = serde_json::from_slice(bytes).map_err(invalid)?;
    let fits = |entry: &Descriptor| match entry.platform() {
        Some(platform) => wanted.fit(platform),
        None => u32::from(index.manifests().len() == 1),
    };
    // Of equals the first.
    let best = index.manifests().iter().rev().max_by_key(|entry| fits(entry)).filter(|e| fits(e) > 0);
    match best {
        Some(entry) => Ok(Document::Platform { digest: digest(reference, entry.digest())? }),
        None => {
            let platforms = index.manifests().iter().filter_map(|entry| entry.platform().as_ref());
            let platforms = platforms.filter(|p| p.os().to_string() != "unknown"); // attestations
            let variant = |p: &oci_spec::image::Platform| {
                p.variant().as_ref().map(|v| format!("/{v}")).unwrap_or_default()
            };
            let offered: Vec<_> =
                platforms.map(|p| format!("{}/{}{}", p.os(), p.architecture(), variant(p))).collect();
            let (wanted, offered) = (wanted.to_string(), offered.join(", "));
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
    let pair = |(blob, id): (&Descriptor, &String)| {
        let kind = blob.media_type().to_string();
        if ["foreign", "nondistributable", "encrypted"].iter().any(|word| kind.contains(word)) {
            return Err(invalid(reference, "manifest", format!("layers of type {kind} are not supported")));
        }
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
        source: digest.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(wanted: &str, offered: &[&str]) -> Result<String, String> {
        let entries: Vec<_> = offered
            .iter()
            .enumerate()
            .map(|(n, platform)| {
                let parts: Vec<_> = platform.split('/').collect();
                let variant = parts.get(2).map(|v| format!(r#","variant":"{v}""#)).unwrap_or_default();
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:{n:064}",
                    "platform":{{"os":"{}","architecture":"{}"{variant}}}}}"#,
                    parts[0], parts[1]
                )
            })
            .collect();
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        match document("app", index.as_bytes(), &wanted.parse().unwrap()) {
            Ok(Document::Platform { digest }) => {
                Ok(offered[digest[7..].parse::<usize>().unwrap()].to_owned())
            }
            Ok(Document::Manifest(_)) => unreachable!("an index"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_best_platform_of_an_index_is_chosen() {
        for (wanted, offered, chosen) in [
            ("linux/amd64", &["windows/amd64", "linux/arm64", "linux/amd64"][..], "linux/amd64"),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], "linux/amd64"),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64/v2"], "linux/amd64/v2"),
            ("linux/arm64", &["linux/arm64/v8"], "linux/arm64/v8"),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
        ] {
            assert_eq!(choose(wanted, offered).as_deref(), Ok(chosen), "{wanted} of {offered:?}");
        }
        let error = choose("linux/riscv64", &["linux/arm/v7", "unknown/unknown"]).unwrap_err();
        assert!(error.contains("linux/riscv64; there is linux/arm/v7"), "{error}");
        assert!(!error.contains("unknown"));
    }

    #[test]
    fn schema_1_is_refused_by_name() {
        let error = document("app", br#"{"schemaVersion":1,"fsLayers":[]}"#, &Platform::default());
        assert!(error.err().unwrap().to_string().contains("schema 1"));
    }
}
