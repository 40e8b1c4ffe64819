//! From a registry to the store: manifest, configuration, then layers side by side.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::credentials::{self, AuthFile};
use crate::layer::{self, Layer};
use crate::manifest::{self, Document, Platform};
use crate::registries::{self, Endpoint};
use crate::registry_error::Presence;
use crate::source::{Source, schemes};
use crate::{Error, Image, Reference, Store, certs};

/// Layers fetched at the same time.
const PARALLEL: usize = 4;

/// Hears how far each layer is.
pub trait Progress: Sync {
    /// The layer with this digest has come to `state`.
    fn layer(&self, digest: &str, state: LayerState);
}

/// How far a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// It is known, nothing has come yet.
    Waiting,
    /// Bytes come.
    Downloading {
        /// Compressed bytes so far.
        done: u64,
        /// Compressed bytes in all.
        total: u64,
    },
    /// It is unpacked.
    Done,
    /// The store had it.
    AlreadyPresent,
}

/// What a pull may be told beside the name.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which image of an index; by default this machine's.
    pub platform: Platform,
    /// Pull secrets, asked before the user's own auth files.
    pub secrets: Vec<AuthFile>,
    /// How long a registry may say nothing.
    pub stall: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { platform: Platform::default(), secrets: Vec::new(), stall: Duration::from_secs(60) }
    }
}

/// An image just pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// Compressed bytes that were fetched.
    pub bytes: u64,
    /// How long it all took.
    pub took: Duration,
}

/// Fetches `reference` and the layers the store lacks. Blocks; must not be called from async code.
pub fn pull(
    store: &Store,
    reference: &Reference,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Pulled, Error> {
    let start = Instant::now();
    let present =
        store.find(reference)?.filter(|image| options.platform.is_of(image) && store.is_whole(image));
    if let Some(image) = present.clone().filter(|_| reference.digest().is_some()) {
        // A digest names one content only; there is nothing to ask.
        return Ok(Pulled { image, bytes: 0, took: start.elapsed() });
    }
    store.sweep()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(Error::io("start threads for", &store.layer_path("")))?;
    // The client ends the process where there are none, even for plain HTTP.
    if !certs::machine_has_some() {
        return Err(Error::NoCertificates { reference: reference.to_string() });
    }
    let job = Job { store, reference: reference.to_string(), present, options, progress };
    let (image, bytes) = runtime.block_on(job.fetch(reference))?;
    Ok(Pulled { image, bytes, took: start.elapsed() })
}

/// One pull.
struct Job<'a> {
    store: &'a Store,
    reference: String,
    /// What the store already has under this name.
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
        let others = failures.iter().map(|(registry, error)| format!("{registry}: {}", error.words()));
        Err(Error::Everywhere { source: Box::new(last), others: others.collect::<Vec<_>>().join("; ") })
    }

    async fn fetch_from(&self, reference: &Reference, endpoint: &Endpoint) -> Result<(Image, u64), Error> {
        let mut failure: Option<Error> = None;
        let who = credentials::candidates(&self.options.secrets, &endpoint.registry, &endpoint.repository);
        'schemes: for &scheme in schemes(endpoint) {
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
        let wanted = &self.options.platform;
        let (manifest, digest) = match manifest::document(&self.reference, &named, wanted)? {
            Document::Manifest(manifest) => (manifest, source_digest.clone()),
            Document::Platform { digest } => {
                let inner = source.document(Some(&digest)).await?;
                match manifest::document(&self.reference, &inner, wanted)? {
                    Document::Manifest(manifest) => (manifest, digest),
                    Document::Platform { .. } => {
                        let reason = "an index within an index".to_owned();
                        return Err(manifest::invalid(&self.reference, "manifest", reason));
                    }
                }
            }
        };
        let id = manifest::digest(&self.reference, manifest.config().digest())?;
        let config = source.configuration(&id, manifest.config().size()).await?;
        let config = manifest::configuration(&self.reference, &config)?;
        wanted.check(&self.reference, &config)?;
        let layers = manifest::layers(&self.reference, &manifest, &config)?;
        let size = manifest.layers().iter().map(|layer| layer.size()).sum();
        let image = manifest::image(self.store, &self.reference, digest, id, &config, size);
        let image = Image { source: source_digest, ..image };
        let mut bytes = 0;
        loop {
            bytes += self.layers(source, &layers).await?;
            // A removal may have taken a layer that was already present; then fetch it after all.
            if self.store.publish(&image)? {
                return Ok((image, bytes));
            }
        }
    }

    /// Fetches the layers the store lacks; returns the bytes that came.
    async fn layers(&self, source: &Source, layers: &[Layer]) -> Result<u64, Error> {
        let mut missing = Vec::<&Layer>::new();
        for layer in layers {
            if missing.iter().any(|other| other.diff_id == layer.diff_id) {
                continue;
            }
            let present = self.store.layer_path(&layer.diff_id).is_dir();
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
