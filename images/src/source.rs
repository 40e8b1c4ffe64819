//! One registry, spoken to in one way: documents, and layers that survive a cut connection.

use std::io::{self, Read};
use std::time::Duration;

use futures_util::StreamExt;
use oci_client::Client;
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol, SizedStream};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use tokio::sync::mpsc;

use crate::layer::{self, Layer};
use crate::manifest::{self, MAX_DOCUMENT};
use crate::registries::{self, Endpoint};
use crate::{Error, LayerState, Progress, Reference, Store, certs};

/// How often in a row a request may fail before the pull does.
const ATTEMPTS: u32 = 4;
/// What has come since the last failure, for it to count as the first one again.
const HEADWAY: u64 = 1 << 20;
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

pub(crate) struct Source {
    client: Client,
    auth: RegistryAuth,
    /// What the user asked for.
    reference: String,
    /// What this registry is asked for.
    remote: oci_client::Reference,
}

/// HTTPS; where the configuration allows, HTTP too, first on loopback, where nobody listens in.
pub(crate) fn protocols(endpoint: &Endpoint) -> Vec<ClientProtocol> {
    match endpoint.insecure {
        true if registries::is_loopback(&endpoint.registry) => {
            vec![ClientProtocol::Http, ClientProtocol::Https]
        }
        true => vec![ClientProtocol::Https, ClientProtocol::Http],
        false => vec![ClientProtocol::Https],
    }
}

impl Source {
    pub(crate) fn new(
        reference: &Reference,
        endpoint: &Endpoint,
        protocol: ClientProtocol,
        auth: RegistryAuth,
        stall: Duration,
    ) -> Result<Self, Error> {
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
            extra_root_certificates: certs::authorities(&endpoint.registry)?,
            connect_timeout: Some(stall.min(Duration::from_secs(15))),
            read_timeout: Some(stall),
            user_agent: concat!("podctl/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let reference = reference.to_string();
        certs::choose_tls_provider();
        match Client::try_from(config) {
            Ok(client) => Ok(Self { client, auth, reference, remote }),
            Err(source) => Err(Error::Registry { reference, source }),
        }
    }

    /// The manifest or index under that digest, or under the name that was asked for.
    pub(crate) async fn document(&self, digest: Option<&str>) -> Result<Vec<u8>, Error> {
        let remote = digest.map(|digest| self.remote.clone_with_digest(digest.to_owned()));
        let remote = remote.as_ref().unwrap_or(&self.remote);
        let mut failures = Failures::default();
        let bytes = loop {
            match self.client.pull_manifest_raw(remote, &self.auth, &MANIFESTS).await {
                Ok((bytes, _)) => break bytes,
                Err(error) => failures.bear(self.failed(error)).await?,
            }
        };
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(manifest::invalid(&self.reference, "manifest", format!("{} bytes", bytes.len())));
        }
        if let Some(expected) = digest.or(self.remote.digest()) {
            layer::expect(&self.reference, "manifest", expected, layer::sha256(&bytes))?;
        }
        Ok(bytes.into())
    }

    pub(crate) async fn configuration(&self, digest: &str, size: u64) -> Result<Vec<u8>, Error> {
        let mut failures = Failures::default();
        let bytes = loop {
            match self.small_blob(digest, size).await {
                Ok(bytes) => break bytes,
                Err(error) => failures.bear(error).await?,
            }
        };
        layer::expect(&self.reference, "configuration", digest, layer::sha256(&bytes))?;
        Ok(bytes)
    }

    async fn small_blob(&self, digest: &str, size: u64) -> Result<Vec<u8>, Error> {
        let mut blob = self.blob(digest, 0).await?;
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

    /// The network feeds a blocking thread that checks and unpacks; the channel's bound is the pace.
    pub(crate) async fn layer(
        &self,
        store: &Store,
        layer: &Layer,
        progress: &dyn Progress,
    ) -> Result<u64, Error> {
        let (digest, total) = layer.blob.clone().expect("a registry's layers have descriptors");
        let (sender, receiver) = mpsc::channel(16);
        let unpacking = tokio::task::spawn_blocking({
            let (store, layer, reference) = (store.clone(), layer.clone(), self.reference.clone());
            move || layer::ingest(&store, &reference, &layer, Chunks { receiver, chunk: None, at: 0 })
        });
        let fed = self.feed(&digest, total, sender, progress).await;
        let ingested = unpacking.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        match (ingested, fed) {
            (Err(error @ (Error::Digest { .. } | Error::Io { .. })), _) => Err(error),
            (Err(_), Err(error)) | (Err(error), Ok(_)) => Err(error),
            // The library, too, checks what comes in one stretch, but the store's word is enough.
            (Ok(()), fed) => {
                progress.layer(&digest, LayerState::Done);
                Ok(fed.unwrap_or(total))
            }
        }
    }

    /// Sends the blob on; a connection that is cut is taken up where it broke off.
    async fn feed(
        &self,
        digest: &str,
        total: u64,
        sender: mpsc::Sender<bytes::Bytes>,
        progress: &dyn Progress,
    ) -> Result<u64, Error> {
        let (mut done, mut failures, mut failed_at) = (0, Failures::default(), 0);
        loop {
            let error = match self.blob(digest, done).await {
                Ok(mut blob) => loop {
                    match blob.next().await {
                        Some(Ok(chunk)) => {
                            done += chunk.len() as u64;
                            progress.layer(digest, LayerState::Downloading { done: done.min(total), total });
                            if sender.send(chunk).await.is_err() {
                                return Ok(done); // the unpacking thread has given up, and says why
                            }
                        }
                        Some(Err(error)) => break self.failed(error.into()),
                        None if done >= total => return Ok(done),
                        None => {
                            let (reference, digest) = (self.reference.clone(), digest.to_owned());
                            break Error::Size { reference, digest, expected: total, actual: done };
                        }
                    }
                },
                Err(error) => error,
            };
            if done >= total {
                return Err(error); // all has come; what is wrong with it does not go away
            }
            if done - failed_at >= HEADWAY {
                failures = Failures::default();
            }
            failed_at = done;
            failures.bear(error).await?;
        }
    }

    /// The blob from `offset` on.
    async fn blob(&self, digest: &str, offset: u64) -> Result<SizedStream, Error> {
        // Asked for a part, even if for all of it, the library leaves hashing to us.
        let response = self.client.pull_blob_stream_partial(&self.remote, digest, offset, None).await;
        match response.map_err(|e| self.failed(e))? {
            BlobResponse::Partial(stream) => Ok(stream),
            BlobResponse::Full(stream) if offset == 0 => Ok(stream),
            BlobResponse::Full(mut stream) => {
                // A registry without ranges begins anew: what is known already is let pass.
                let mut left = offset;
                while left > 0 {
                    match stream.next().await {
                        Some(Ok(chunk)) if chunk.len() as u64 <= left => left -= chunk.len() as u64,
                        Some(Ok(chunk)) => {
                            let rest = chunk.slice(left as usize..);
                            let rest = futures_util::stream::iter([Ok(rest)]);
                            stream.stream = rest.chain(stream.stream).boxed();
                            left = 0;
                        }
                        Some(Err(error)) => return Err(self.failed(error.into())),
                        None => break,
                    }
                }
                Ok(stream)
            }
        }
    }

    fn failed(&self, source: OciDistributionError) -> Error {
        Error::Registry { reference: self.reference.clone(), source }
    }
}

/// Failures in a row: each is waited out longer, the last is the caller's.
#[derive(Default)]
struct Failures(u32);

impl Failures {
    async fn bear(&mut self, error: Error) -> Result<(), Error> {
        self.0 += 1;
        if self.0 >= ATTEMPTS || !error.is_passing() {
            return Err(error);
        }
        // The library keeps Retry-After to itself: a busy registry is given a second, two, four.
        let unit = if error.is_busy() { 1000 } else { 250 };
        tokio::time::sleep(Duration::from_millis(unit << (self.0 - 1))).await;
        Ok(())
    }
}

/// The receiving end of a channel of chunks, as a reader.
struct Chunks {
    receiver: mpsc::Receiver<bytes::Bytes>,
    chunk: Option<bytes::Bytes>,
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(rest) = self.chunk.as_ref().map(|chunk| &chunk[self.at..])
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
