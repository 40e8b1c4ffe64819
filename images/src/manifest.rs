//! Manifests and configurations: which blobs an image consists of, and what they promise.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::build_steps::{clean_history, read_build_steps};
use crate::layer::Layer;
use crate::platform::{Offered, Platform};
use crate::reference::is_sha256;
use crate::{Error, Image, Store};

/// No manifest or configuration is larger; what is, is no manifest.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// The image's manifest, or what an index offers.
pub(crate) enum Document {
    Manifest(Box<ImageManifest>),
    Index(Vec<Entry>),
}

/// The line of an index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) platform: Option<Offered>,
    #[serde(default)]
    pub(crate) annotations: Option<HashMap<String, String>>,
}

pub(crate) fn document(reference: &str, bytes: &[u8]) -> Result<Document, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind {
        schema_version: Option<u32>,
        manifests: Option<Vec<Entry>>,
    }
    let invalid = |error: serde_json::Error| invalid(reference, "manifest", error.to_string());
    let kind: Kind = serde_json::from_slice(bytes).map_err(invalid)?;
    if kind.schema_version == Some(1) {
        let reason = "schema 1, which no tool writes any more; push the image again with a current one";
        return Err(self::invalid(reference, "manifest", reason.to_owned()));
    }
    match kind.manifests {
        Some(entries) => match entries.iter().find(|entry| !is_sha256(&entry.digest)) {
            Some(entry) => Err(self::invalid(reference, "index", format!("digest {}", entry.digest))),
            None => Ok(Document::Index(entries)),
        },
        None => Ok(Document::Manifest(serde_json::from_slice(bytes).map_err(invalid)?)),
    }
}

/// The digests in an index that may be for `wanted`, the best first; then those that only their configuration knows.
/// What is surely for other platforms is noted in `others`.
pub(crate) fn candidates(entries: Vec<Entry>, wanted: &Platform, others: &mut Vec<String>) -> Vec<String> {
    let mut fitting = Vec::new();
    let mut untold = Vec::new();
    for entry in entries {
        let offered = entry.platform.unwrap_or_default();
        match offered.platform() {
            _ if offered.is_no_image() => {}
            Some(platform) if wanted.rate_fit(&platform) == 0 => others.push(platform.to_string()),
            Some(platform) => fitting.push((wanted.rate_fit(&platform), entry.digest)),
            None => untold.push(entry.digest),
        }
    }
    // Of equals the first.
    fitting.sort_by_key(|(fit, _)| std::cmp::Reverse(*fit));
    fitting.into_iter().map(|(_, digest)| digest).chain(untold).collect()
}

/// Nothing that was offered runs here.
pub(crate) fn no_platform(reference: &str, wanted: &Platform, mut others: Vec<String>) -> Error {
    others.dedup();
    let offered = match others.is_empty() {
        true => "no image at all in its index".to_owned(),
        false => others.join(", "),
    };
    Error::Platform { reference: reference.to_owned(), wanted: wanted.to_string(), offered }
}

/// Reads a configuration. What old and odd builders leave out is no more than empty.
pub(crate) fn configuration(reference: &str, bytes: &[u8]) -> Result<ImageConfiguration, Error> {
    let wrong = |error: serde_json::Error| invalid(reference, "configuration", error.to_string());
    let mut fields: Map<String, Value> = serde_json::from_slice(bytes).map_err(wrong)?;
    fields.retain(|_, value| !value.is_null());
    fields.get_mut("history").map(clean_history);
    for name in ["os", "architecture"] {
        fields.entry(name).or_insert_with(|| "".into());
    }
    let config: ImageConfiguration = serde_json::from_value(fields.into()).map_err(wrong)?;
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
    squash_ids: bool,
) -> Result<Vec<Layer>, Error> {
    let (blobs, diff_ids) = (manifest.layers(), config.rootfs().diff_ids());
    if blobs.len() != diff_ids.len() {
        let reason = format!("{} layers, but the configuration names {}", blobs.len(), diff_ids.len());
        return Err(invalid(reference, "manifest", reason));
    }
    let pair = |(blob, id): (&Descriptor, &String)| {
        let kind = blob.media_type().to_string();
        if kind.contains("encrypted") {
            return Err(invalid(reference, "manifest", format!("layers of type {kind} are not supported")));
        }
        let blob = Some((digest(reference, blob.digest())?, blob.size()));
        Ok(Layer { blob, diff_id: id.clone(), squash_ids })
    };
    blobs.iter().zip(diff_ids).map(pair).collect()
}

/// The layers that are mounted. Overlayfs refuses a directory given twice; the upper of two equal layers is the one that
/// counts.
pub(crate) fn list_distinct(ids: &[String]) -> impl Iterator<Item = &String> {
    ids.iter().enumerate().filter(|(n, id)| !ids[n + 1..].contains(id)).map(|(_, id)| id)
}

/// The bytes of all layers as the manifest has them; what a hostile one says may be more than a number holds.
pub(crate) fn sum_sizes(manifest: &ImageManifest) -> u64 {
    manifest.layers().iter().fold(0, |sum, layer| sum.saturating_add(layer.size()))
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
    Image {
        reference: reference.to_owned(),
        source: digest.clone(),
        digest,
        id,
        layers: list_distinct(config.rootfs().diff_ids()).map(|id| store.layer_path(id)).collect(),
        config: config.config().clone().unwrap_or_default(),
        unsynced_in: None,
        os: config.os().to_string(),
        architecture: config.architecture().to_string(),
        created: config.created().clone(),
        size,
        build_steps: read_build_steps(config),
    }
}

pub(crate) fn invalid(reference: &str, what: &'static str, reason: String) -> Error {
    Error::Invalid { reference: reference.to_owned(), what, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(wanted: &str, offered: &[&str]) -> Result<String, String> {
        let entries = offered.iter().enumerate().map(|(n, platform)| {
            let parts: Vec<_> = platform.split('/').collect();
            let platform = match &*parts {
                [""] => Value::Null,
                parts => {
                    serde_json::json!({"os": parts[0], "architecture": parts[1], "variant": parts.get(2)})
                }
            };
            serde_json::json!({"digest": format!("sha256:{n:064}"), "size": 1, "platform": platform})
        });
        let index = serde_json::json!({"schemaVersion": 2, "manifests": entries.collect::<Vec<_>>()});
        let Ok(Document::Index(entries)) = document("app", index.to_string().as_bytes()) else {
            unreachable!("an index")
        };
        let (wanted, mut others) = (wanted.parse().unwrap(), Vec::new());
        match candidates(entries, &wanted, &mut others).first() {
            Some(digest) => Ok(offered[digest[7..].parse::<usize>().unwrap()].to_owned()),
            None => Err(no_platform("app", &wanted, others).to_string()),
        }
    }

    #[test]
    fn the_best_platform_of_an_index_is_chosen() {
        for (wanted, offered, chosen) in [
            ("linux/amd64", &["windows/amd64", "linux/arm64", "linux/amd64"][..], "linux/amd64"),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], "linux/amd64"),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64/v2"], "linux/amd64/v2"),
            ("linux/amd64", &["", "linux/x86_64"], "linux/x86_64"),
            ("linux/amd64", &["linux/arm64", "", "/amd64"], ""),
            ("linux/arm64", &["linux/arm64/v8"], "linux/arm64/v8"),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
        ] {
            assert_eq!(choose(wanted, offered).as_deref(), Ok(chosen), "{wanted} of {offered:?}");
        }
        let error = choose("linux/riscv64", &["linux/arm/v7", "unknown/unknown"]).unwrap_err();
        assert!(error.contains("linux/riscv64; there is linux/arm/v7"), "{error}");
        assert!(!error.contains("unknown"));
        let error = choose("linux/riscv64", &["unknown/unknown"]).unwrap_err();
        assert!(error.ends_with("there is no image at all in its index"), "{error}");
    }

    #[test]
    fn a_configuration_may_leave_out_what_it_is_for() {
        let config =
            br#"{"history":[{"created":"never"}],"config":null,"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = configuration("app", config).unwrap();
        assert!(Platform::default().does_take(&config));
    }

    #[test]
    fn schema_1_is_refused_by_name() {
        let error = document("app", br#"{"schemaVersion":1,"fsLayers":[]}"#);
        assert!(error.err().unwrap().to_string().contains("schema 1"));
    }

    #[test]
    fn sizes_of_which_no_number_holds_the_sum_are_no_panic_and_layers_of_other_places_are_asked_for() {
        let layer = |kind: &str| {
            let digest = format!("sha256:{}", "a".repeat(64));
            serde_json::json!({"mediaType": kind, "digest": digest, "size": u64::MAX})
        };
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let nowhere = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
        let manifest = serde_json::json!({
            "schemaVersion": 2, "config": layer("c"), "layers": [layer(foreign), layer(nowhere)],
        });
        let manifest: ImageManifest = serde_json::from_value(manifest).unwrap();
        assert_eq!(sum_sizes(&manifest), u64::MAX);
        let id = format!("sha256:{}", "b".repeat(64));
        let config = serde_json::json!({"rootfs": {"type": "layers", "diff_ids": [id, id]}}).to_string();
        let config = configuration("app", config.as_bytes()).unwrap();
        assert_eq!(layers("app", &manifest, &config, false).unwrap().len(), 2);
    }
}
