//! From a registry to the store: manifest, configuration, then layers side by side.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use oci_client::Client;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_spec::image::ImageManifest;
use tokio::sync::mpsc;

use crate::layer::{self, Layer};
use crate::manifest::{self, Document, MAX_DOCUMENT};
use crate::registries::{self, Endpoint};
use crate::{Error, Image, Reference, Store};

/// Layers fetched at the same time.
const PARALLEL: usize = 4;
/// Attempts for each layer whose transfer breaks off.
const ATTEMPTS: u32 = 3;
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

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
pub fn pull(store: &Store, reference: &Reference, progress: &dyn Progress) -> Result<Pulled, Error> {
    let start = Instant::now();
    store.sweep()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(Error::io("start threads for", &store.layer_path("")))?;
    // The client ends the process where there are none, even for plain HTTP.
    if rustls_native_certs::load_native_certs().certs.is_empty() {
        return Err(Error::NoCertificates { reference: reference.to_string() });
    }
    let (image, bytes) = runtime.block_on(async {
        let mut failure: Option<Error> = None;
        for endpoint in registries::endpoints(reference)? {
            for source in Source::all(reference, &endpoint) {
                match source?.pull(store, progress).await {
                    Ok(pulled) => return Ok(pulled),
                    Err(error) => {
                        let spoke = !error.is_unreachable();
                        // A registry that answered says more than a host that did not.
                        if spoke || failure.as_ref().is_none_or(Error::is_unreachable) {
                            failure = Some(error);
                        }
                        if spoke {
                            break; // to the next endpoint: this one understands the protocol
                        }
                    }
                }
            }
        }
        Err(failure.expect("there is always an endpoint"))
    })?;
    Ok(Pulled { image, bytes, took: start.elapsed() })
}

/// One registry, spoken to in one way.
struct Source {
    client: Client,
    auth: RegistryAuth,
    /// What the user asked for.
    reference: String,
    /// What this registry is asked for.
    remote: oci_client::Reference,
    pinned: Option<String>,
}

impl Source {
    /// HTTPS; where the configuration allows, HTTP too, first on loopback, where nobody listens in.
    fn all<'a>(
        reference: &'a Reference,
        endpoint: &'a Endpoint,
    ) -> impl Iterator<Item = Result<Self, Error>> + 'a {
        let protocols = match endpoint.insecure {
            true if registries::is_loopback(&endpoint.registry) => {
                vec![ClientProtocol::Http, ClientProtocol::Https]
            }
            true => vec![ClientProtocol::Https, ClientProtocol::Http],
            false => vec![ClientProtocol::Https],
        };
        protocols.into_iter().map(move |protocol| Self::new(reference, endpoint, protocol))
    }

    fn new(reference: &Reference, endpoint: &Endpoint, protocol: ClientProtocol) -> Result<Self, Error> {
        let (registry, repository) = (endpoint.registry.clone(), endpoint.repository.clone());
        let remote = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => oci_client::Reference::with_digest(registry, repository, digest.to_owned()),
            (None, tag) => {
                oci_client::Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned())
            }
        };
        let config = ClientConfig {
            protocol,
            accept_invalid_certificates: endpoint.insecure,
            connect_timeout: Some(Duration::from_secs(15)),
            read_timeout: Some(Duration::from_secs(60)),
            user_agent: concat!("podctl/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let reference_text = reference.to_string();
        let client = Client::try_from(config)
            .map_err(|source| Error::Registry { reference: reference_text.clone(), source })?;
        Ok(Self {
            client,
            auth: registries::credentials(&endpoint.registry),
            reference: reference_text,
            remote,
            pinned: reference.digest().map(str::to_owned),
        })
    }

    async fn pull(&self, store: &Store, progress: &dyn Progress) -> Result<(Image, u64), Error> {
        let (manifest, digest) = self.manifest().await?;
        let id = manifest::digest(&self.reference, manifest.config().digest())?;
        let config = self.small_blob(&id, manifest.config().size()).await?;
        layer::expect(&self.reference, "configuration", &id, layer::sha256(&config))?;
        let config = manifest::configuration(&self.reference, &config)?;
        let layers = manifest::layers(&self.reference, &manifest, &config)?;
        let size = manifest.layers().iter().map(|layer| layer.size()).sum();
        let image = manifest::image(store, &self.reference, digest, id, &config, size);
        let mut bytes = 0;
        loop {
            bytes += self.layers(store, &layers, progress).await?;
            // A removal may have taken a layer that was already present; then fetch it after all.
            if store.publish(&image)? {
                return Ok((image, bytes));
            }
        }
    }

    /// The manifest for this machine and its digest.
    async fn manifest(&self) -> Result<(ImageManifest, String), Error> {
        let (mut remote, mut expected) = (self.remote.clone(), self.pinned.clone());
        for _ in 0..2 {
            let pulled = self.client.pull_manifest_raw(&remote, &self.auth, &MANIFESTS).await;
            let (bytes, _) = pulled.map_err(|e| self.failed(e))?;
            let digest = layer::sha256(&bytes);
            if bytes.len() as u64 > MAX_DOCUMENT {
                return Err(manifest::invalid(&self.reference, "manifest", format!("{} bytes", bytes.len())));
            }
            if let Some(expected) = &expected {
                layer::expect(&self.reference, "manifest", expected, digest.clone())?;
            }
            match manifest::document(&self.reference, &bytes)? {
                Document::Manifest(manifest) => return Ok((*manifest, digest)),
                Document::Platform { digest } => {
                    remote = remote.clone_with_digest(digest.clone());
                    expected = Some(digest);
                }
            }
        }
        Err(manifest::invalid(&self.reference, "manifest", "an index within an index".to_owned()))
    }

    async fn small_blob(&self, digest: &str, size: u64) -> Result<Vec<u8>, Error> {
        let mut blob =
            self.client.pull_blob_stream(&self.remote, digest).await.map_err(|e| self.failed(e))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = blob.next().await {
            bytes.extend_from_slice(&chunk.map_err(|e| self.failed(e.into()))?);
            if bytes.len() as u64 > size.min(MAX_DOCUMENT) {
                let (reference, actual) = (self.reference.clone(), bytes.len() as u64);
                return Err(Error::Size { reference, digest: digest.to_owned(), expected: size, actual });
            }
        }
        Ok(bytes)
    }

    /// Fetches the layers the store lacks; returns the bytes that came.
    async fn layers(&self, store: &Store, layers: &[Layer], progress: &dyn Progress) -> Result<u64, Error> {
        let mut missing = Vec::<&Layer>::new();
        for layer in layers {
            if missing.iter().any(|other| other.diff_id == layer.diff_id) {
                continue;
            }
            let present = store.layer_path(&layer.diff_id).is_dir();
            let digest = layer.blob.as_ref().map_or(&layer.diff_id, |(digest, _)| digest);
            progress.layer(digest, if present { LayerState::AlreadyPresent } else { LayerState::Waiting });
            if !present {
                missing.push(layer);
            }
        }
        let fetches: Vec<_> = missing.into_iter().map(|layer| self.layer(store, layer, progress)).collect();
        stream::iter(fetches)
            .buffer_unordered(PARALLEL)
            .try_fold(0, |sum, n| async move { Ok(sum + n) })
            .await
    }

    async fn layer(&self, store: &Store, layer: &Layer, progress: &dyn Progress) -> Result<u64, Error> {
        let mut attempt = 1;
        loop {
            match self.attempt(store, layer, progress).await {
                Err(error) if attempt < ATTEMPTS && !error.is_permanent() => {
                    tokio::time::sleep(Duration::from_millis(250) * attempt).await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    /// The network feeds a blocking thread that checks and unpacks; the channel's bound is the pace.
    async fn attempt(&self, store: &Store, layer: &Layer, progress: &dyn Progress) -> Result<u64, Error> {
        let (digest, total) = layer.blob.clone().expect("a registry's layers have descriptors");
        let blob = self.client.pull_blob_stream(&self.remote, digest.as_str()).await;
        let mut blob = blob.map_err(|e| self.failed(e))?;
        let (sender, receiver) = mpsc::channel(16);
        let unpacking = tokio::task::spawn_blocking({
            let (store, layer, reference) = (store.clone(), layer.clone(), self.reference.clone());
            move || layer::ingest(&store, &reference, &layer, Chunks { receiver, chunk: None, at: 0 })
        });
        let (mut done, mut broken) = (0, None);
        while let Some(chunk) = blob.next().await {
            match chunk {
                Ok(chunk) => {
                    done += chunk.len() as u64;
                    progress.layer(&digest, LayerState::Downloading { done: done.min(total), total });
                    if sender.send(chunk).await.is_err() {
                        break; // the unpacking thread has given up, and says why below
                    }
                }
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        drop(sender);
        let ingested = unpacking.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        match (ingested, broken) {
            (Err(error @ (Error::Digest { .. } | Error::Io { .. })), _) => Err(error),
            (Err(_), Some(error)) => Err(self.failed(error.into())),
            (Err(error), None) => Err(error),
            (Ok(()), _) => {
                progress.layer(&digest, LayerState::Done);
                Ok(done)
            }
        }
    }

    fn failed(&self, source: OciDistributionError) -> Error {
        Error::Registry { reference: self.reference.clone(), source }
    }
}

/// The receiving end of a channel of chunks, as a reader.
struct Chunks<B> {
    receiver: mpsc::Receiver<B>,
    chunk: Option<B>,
    at: usize,
}

impl<B: AsRef<[u8]>> Read for Chunks<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(rest) = self.chunk.as_ref().map(|chunk| &chunk.as_ref()[self.at..])
                && !rest.is_empty()
            {
                let n = rest.len().min(buffer.len());
                buffer[..n].copy_from_slice(&rest[..n]);
                self.at += n;
                return Ok(n);
            }
            (self.chunk, self.at) = (self.receiver.blocking_recv(), 0);
            if self.chunk.is_none() {
                return Ok(0);
            }
        }
    }
}
