//! From a registry to the store: manifest, configuration, then layers side by side.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci_spec::image::{ImageConfiguration, ImageManifest};

use crate::inventory::Depth;
use crate::layer::{self, Layer};
use crate::manifest::{self, Document};
use crate::platform::Platform;
use crate::registries::{self, Endpoint};
use crate::registry_credentials::{self, AuthFile};
use crate::registry_error::Presence;
use crate::source::{Source, endpoint_schemes};
use crate::{Error, Image, Reference, Store};

/// Layers fetched at the same time.
const PARALLEL: usize = 4;

/// Documents looked at for one image, and indexes within each other.
pub(crate) const MAX_DOCUMENTS: u32 = 64;
const MAX_DEPTH: u32 = 4;

/// Hears how far each layer is.
pub trait Progress: Sync {
    /// The layer with this digest has come to `state`.
    fn layer(&self, digest: &str, state: LayerState);
}

/// Tells how far a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// Means that it is known, nothing has come yet.
    Waiting,
    /// Bytes come.
    Downloading {
        /// Compressed bytes so far.
        done: u64,
        /// Compressed bytes in all.
        total: u64,
    },
    /// Means that it is unpacked.
    Done,
    /// The store had it.
    AlreadyPresent,
}

/// Holds what a pull may be told beside the name.
#[derive(Clone, Debug)]
pub struct Options {
    /// Tells which image of an index; by default this machine's.
    pub platform: Platform,
    /// Pull secrets, asked before the user's own auth files.
    pub secrets: Vec<AuthFile>,
    /// The time for which a registry may say nothing.
    pub stall: Duration,
    /// Files of owners that are not mapped here belong to root, instead of failing the pull.
    pub squash_ids: bool,
    /// Layers that are there are compared with what was unpacked, and fetched again where they differ.
    pub verify: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            platform: Platform::default(),
            secrets: Vec::new(),
            stall: Duration::from_secs(60),
            squash_ids: false,
            verify: false,
        }
    }
}

/// The image just pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// Compressed bytes that were fetched.
    pub bytes: u64,
    /// The time for which it all took.
    pub took: Duration,
}

/// Fetches `reference` and the layers the store lacks. Blocks, and may be called from wherever blocking is allowed: the
/// asynchronous work is done on a thread of its own.
pub fn pull(
    store: &Store,
    reference: &Reference,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Pulled, Error> {
    let start = Instant::now();
    let present = store.find_verified(reference)?.filter(|image| options.platform.is_of(image));
    let present = match present {
        Some(image) if options.verify && !store.keep_if_sound(&image, Depth::Sizes)? => None,
        present => present,
    };
    if let Some(image) = present.clone().filter(|_| reference.digest().is_some()) {
        // A digest names one content only; there is nothing to ask.
        return Ok(Pulled { image, bytes: 0, took: start.elapsed() });
    }
    store.sweep()?;
    let job = Job { store, reference: reference.to_string(), present, options, progress };
    // A runtime neither runs nor ends on a thread that belongs to one, as a caller's may.
    let fetch = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::Threads)?;
        runtime.block_on(job.fetch(reference))
    };
    let (image, bytes) = std::thread::scope(|scope| {
        let fetching = std::thread::Builder::new().spawn_scoped(scope, fetch);
        let fetching = fetching.map_err(Error::Threads)?;
        fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(Pulled { image, bytes, took: start.elapsed() })
}

/// The image that was chosen.
struct Found {
    manifest: Box<ImageManifest>,
    digest: String,
    id: String,
    config: ImageConfiguration,
}

/// The pull.
struct Job<'a> {
    store: &'a Store,
    reference: String,
    /// Holds what the store already has under this name.
    present: Option<Image>,
    options: &'a Options,
    progress: &'a dyn Progress,
}

impl Job<'_> {
    /// Endpoint after endpoint, protocol after protocol, credential after credential.
    async fn fetch(&self, reference: &Reference) -> Result<(Image, u64), Error> {
        let mut failures = Vec::new();
        for endpoint in registries::endpoints(reference)? {
            match self.fetch_from(reference, &endpoint).await {
                Ok(pulled) => return Ok(pulled),
                Err(error) => failures.push((endpoint.registry, error)),
            }
        }
        // The registry itself comes last; a mirror that answered says more than a registry that did not.
        let spoke = failures.iter().rposition(|(_, error)| error.presence() == Presence::Answered);
        let (_, last) = failures.remove(spoke.unwrap_or(failures.len() - 1));
        if failures.is_empty() {
            return Err(last);
        }
        // What says the same once more says nothing.
        failures.retain(|(_, error)| error.cause() != last.cause());
        if failures.is_empty() {
            return Err(last);
        }
        let others = failures.iter().map(|(registry, error)| format!("{registry}: {}", error.cause()));
        Err(Error::Everywhere { source: Box::new(last), others: others.collect::<Vec<_>>().join("; ") })
    }

    async fn fetch_from(&self, reference: &Reference, endpoint: &Endpoint) -> Result<(Image, u64), Error> {
        let mut failure: Option<Error> = None;
        let who =
            registry_credentials::candidates(&self.options.secrets, &endpoint.registry, &endpoint.repository);
        'schemes: for &scheme in endpoint_schemes(endpoint) {
            for identity in &who {
                let source = Source::new(reference, endpoint, scheme, identity.clone(), self.options.stall)?;
                let error = match self.fetch_through(&source).await {
                    Ok(pulled) => return Ok(pulled),
                    Err(error) => error,
                };
                let (presence, refused) = (error.presence(), error.is_unauthorized());
                // A registry that answered says more than a host that did not. Of equals the first does: the first
                // refusal was of the best credential, the first protocol is the registry's own.
                let says_more = failure.as_ref().is_none_or(|earlier| {
                    presence > earlier.presence() || earlier.is_unauthorized() && !refused
                });
                if says_more {
                    failure = Some(error);
                }
                match (presence, refused) {
                    (Presence::Unreachable | Presence::HungUp, _) => continue 'schemes,
                    (Presence::Answered, true) => {}
                    (Presence::Answered, false) => break 'schemes, // to the next endpoint
                }
            }
            break; // this endpoint understands the protocol, and lets nobody in
        }
        Err(failure.expect("there is always a protocol, and someone to be"))
    }

    async fn fetch_through(&self, source: &Source) -> Result<(Image, u64), Error> {
        let named = source.document(None).await?;
        let source_digest = layer::sha256(&named);
        if let Some(image) = self.present.as_ref().filter(|image| image.source == source_digest) {
            return Ok((image.clone(), 0));
        }
        let found = self.choose(source, named, source_digest.clone()).await?;
        let Found { manifest, digest, id, config } = found;
        let layers = manifest::layers(&self.reference, &manifest, &config, self.options.squash_ids)?;
        let _held = self.store.hold_layers(config.rootfs().diff_ids())?;
        let size = manifest::sum_sizes(&manifest);
        let image = manifest::image(self.store, &self.reference, digest, id, &config, size);
        let image = Image { source: source_digest, ..image };
        let mut bytes = 0;
        loop {
            bytes += self.layers(source, &layers).await?;
            // A removal by a podctl of before the hold may have taken a layer; then fetch it after all.
            if let Some(image) = self.store.publish(&image)? {
                return Ok((image, bytes));
            }
        }
    }

    /// The manifest that `document` is, or the one in it that runs here: an index may hold indexes, and say nothing of
    /// what its images are for.
    async fn choose(&self, source: &Source, document: Bytes, digest: String) -> Result<Found, Error> {
        let wanted = &self.options.platform;
        // What is still to be looked at, the next one last.
        let (mut left, mut others, mut looked_at) = (vec![(digest, Some(document), 0)], Vec::new(), 0);
        while let Some((digest, document, depth)) = left.pop() {
            looked_at += 1;
            if looked_at > MAX_DOCUMENTS || depth > MAX_DEPTH {
                let reason = "indexes within indexes without end".to_owned();
                return Err(manifest::invalid(&self.reference, "manifest", reason));
            }
            let document = match document {
                Some(document) => document,
                None => source.document(Some(&digest)).await?,
            };
            match manifest::document(&self.reference, &document)? {
                Document::Manifest(manifest) => {
                    let id = manifest::digest(&self.reference, manifest.config().digest())?;
                    let config = source.configuration(&id, manifest.config().size()).await?;
                    let config = manifest::configuration(&self.reference, &config)?;
                    if wanted.does_take(&config) {
                        return Ok(Found { manifest, digest, id, config });
                    }
                    others.extend(Platform::of(&config).map(|platform| platform.to_string()));
                }
                Document::Index(entries) => {
                    let within = manifest::candidates(entries, wanted, &mut others);
                    left.extend(within.into_iter().rev().map(|digest| (digest, None, depth + 1)));
                }
            }
        }
        Err(manifest::no_platform(&self.reference, wanted, others))
    }

    /// Fetches the layers the store lacks; returns the bytes that came.
    async fn layers(&self, source: &Source, layers: &[Layer]) -> Result<u64, Error> {
        let mut missing = Vec::<&Layer>::new();
        let vouched = self.store.list_vouched_layers()?;
        let look = self.options.verify.then_some(Depth::Sizes);
        for layer in layers {
            if missing.iter().any(|other| other.diff_id == layer.diff_id) {
                continue;
            }
            let path = self.store.layer_path(&layer.diff_id);
            let present = self.store.keep_layer_if_sound(&path, &vouched, look)?;
            let digest = layer.blob.as_ref().map_or(&layer.diff_id, |(digest, _)| digest);
            let state = if present { LayerState::AlreadyPresent } else { LayerState::Waiting };
            self.progress.layer(digest, state);
            if !present {
                missing.push(layer);
            }
        }
        // The largest first: it is the one that would be waited for at the end.
        missing.sort_by_key(|layer| std::cmp::Reverse(layer.blob.as_ref().map_or(0, |(_, size)| *size)));
        let fetches: Vec<_> =
            missing.into_iter().map(|layer| source.layer(self.store, layer, self.progress)).collect();
        stream::iter(fetches)
            .buffer_unordered(PARALLEL)
            .try_fold(0, |sum, n| async move { Ok(sum + n) })
            .await
    }
}
