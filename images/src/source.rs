//! One registry, spoken to in one way: documents, and layers that survive a cut connection.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use tokio::sync::mpsc;

use crate::client::{Client, Identity, Scheme, Wanted, read_bounded};
use crate::host_names::{HostNames, run_blocking};
use crate::layer::{self, Layer};
use crate::manifest::MAX_DOCUMENT;
use crate::registries::{self, Endpoint};
use crate::registry_error::RegistryError;
use crate::{Error, LayerState, Progress, Reference, Store, certs};

/// The number of times in a row a request may fail before the pull does.
const ATTEMPTS: u32 = 4;
/// Names what has come since the last failure, for it to count as the first one again.
const HEADWAY: u64 = 1 << 20;
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// Number of times that a registry may stall before what is short has to be there.
const PATIENCE: u32 = 5;

pub(crate) struct Source {
    client: Client,
    /// Holds what the user asked for.
    reference: String,
    /// The digest that the user asked for, or the tag.
    digest: Option<String>,
    tag: String,
    /// The time in which what is short has to come whole, and of a layer the beginning: one that comes drop by drop never stalls.
    patience: Duration,
}

/// HTTPS; where the configuration allows, HTTP too, first on loopback, where nobody listens in.
pub(crate) fn endpoint_schemes(endpoint: &Endpoint) -> &'static [Scheme] {
    match endpoint.insecure {
        true if registries::is_loopback(&endpoint.registry) => &[Scheme::Http, Scheme::Https],
        true => &[Scheme::Https, Scheme::Http],
        false => &[Scheme::Https],
    }
}

/// Returns what a client of that endpoint trusts, and how long it waits.
///
/// # Errors
/// [`Error::NoCertificates`] when the registry would have to be known by one, and there is none; [`Error::Certificate`].
pub(crate) fn client_builder(
    endpoint: &Endpoint,
    scheme: Scheme,
    stall: Duration,
) -> Result<reqwest::ClientBuilder, Error> {
    certs::choose_tls_provider();
    let certificates = certs::read_registry_certificates(&endpoint.registry)?;
    let mut builder = reqwest::Client::builder();
    if let Some(identity) = certificates.identity {
        builder = builder.identity(identity);
    }
    let of_registry = certificates.authorities;
    let asks_for_none = scheme == Scheme::Http || endpoint.insecure;
    builder = match certs::machine_has_some() {
        true => builder.tls_certs_merge(of_registry),
        false if of_registry.is_empty() && !asks_for_none => {
            return Err(Error::NoCertificates { registry: endpoint.registry.clone() });
        }
        // Where the machine has none, to look for them would end the process, even for plain HTTP.
        false => builder.tls_certs_only(of_registry),
    };
    Ok(builder
        .tls_danger_accept_invalid_certs(endpoint.insecure)
        .connect_timeout(stall.min(Duration::from_secs(15)))
        .read_timeout(stall)
        .dns_resolver(HostNames)
        .user_agent(concat!("podctl/", env!("CARGO_PKG_VERSION"))))
}

impl Source {
    pub(crate) fn new(
        reference: &Reference,
        endpoint: &Endpoint,
        scheme: Scheme,
        identity: Identity,
        stall: Duration,
    ) -> Result<Self, Error> {
        let builder = client_builder(endpoint, scheme, stall)?;
        let (digest, tag) = (reference.digest().map(str::to_owned), reference.tag().unwrap_or("latest"));
        let (name, tag) = (reference.to_string(), tag.to_owned());
        match Client::new(builder, endpoint, scheme, identity) {
            Ok(client) => Ok(Self { client, reference: name, digest, tag, patience: stall * PATIENCE }),
            Err(source) => Err(Error::Registry { reference: name, source }),
        }
    }

    /// The manifest or index under that digest, or under the name that was asked for.
    pub(crate) async fn document(&self, digest: Option<&str>) -> Result<Bytes, Error> {
        let digest = digest.or(self.digest.as_deref());
        let path = format!("manifests/{}", digest.unwrap_or(&self.tag));
        let address_bytes =
            self.fetch_small(&Wanted { path, accept: Some(MANIFESTS), offset: 0 }, MAX_DOCUMENT).await?;
        if let Some(expected) = digest {
            layer::expect(&self.reference, "manifest", expected, layer::sha256(&address_bytes))?;
        }
        Ok(address_bytes)
    }

    pub(crate) async fn configuration(&self, digest: &str, size: u64) -> Result<Bytes, Error> {
        let wanted = Wanted { path: format!("blobs/{digest}"), ..Wanted::default() };
        let address_bytes = self.fetch_small(&wanted, size.min(MAX_DOCUMENT)).await?;
        layer::expect(&self.reference, "configuration", digest, layer::sha256(&address_bytes))?;
        Ok(address_bytes)
    }

    /// Returns what is asked for, of `limit` bytes at most.
    async fn fetch_small(&self, wanted: &Wanted<'_>, limit: u64) -> Result<Bytes, Error> {
        let mut failures = Failures::default();
        loop {
            let read = async {
                let response = self.client.get(wanted).await?;
                read_bounded(response, limit).await
            };
            match self.wait_for(read).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => failures.bear_error(self.failed(error)).await?,
            }
        }
    }

    /// The network feeds a thread that checks and unpacks; the channel's bound is the pace.
    pub(crate) async fn layer(
        &self,
        store: &Store,
        layer: &Layer,
        progress: &dyn Progress,
    ) -> Result<u64, Error> {
        let (digest, total) = layer.blob.clone().expect("a registry's layers have descriptors");
        let (sender, receiver) = mpsc::channel(16);
        let unpacking = run_blocking({
            let (store, layer, reference) = (store.clone(), layer.clone(), self.reference.clone());
            move || layer::ingest_layer(&store, &reference, &layer, Chunks { receiver, chunk: None, at: 0 })
        });
        let (ingested, fed) = tokio::join!(unpacking, self.feed(&digest, total, sender, progress));
        let ingested = ingested.map_err(Error::Threads)?;
        match (ingested, fed) {
            (Err(error @ (Error::Digest { .. } | Error::Io { .. })), _) => Err(error),
            (Err(_), Err(error)) | (Err(error), Ok(_)) => Err(error),
            // All of it has come, whatever became of the connection.
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
        sender: mpsc::Sender<Bytes>,
        progress: &dyn Progress,
    ) -> Result<u64, Error> {
        let (mut done, mut failures, mut failed_at) = (0, Failures::default(), 0);
        loop {
            let error = match self.blob(digest, done).await {
                Ok(mut blob) => loop {
                    match blob.next().await {
                        Ok(Some(chunk)) => {
                            done += chunk.len() as u64;
                            progress.layer(digest, LayerState::Downloading { done: done.min(total), total });
                            if sender.send(chunk).await.is_err() {
                                return Ok(done); // the unpacking thread has given up, and says why
                            }
                        }
                        Err(error) => break self.failed(error),
                        Ok(None) if done >= total => return Ok(done),
                        Ok(None) => {
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
            failures.bear_error(error).await?;
        }
    }

    /// The blob from `offset` on.
    async fn blob(&self, digest: &str, offset: u64) -> Result<Blob, Error> {
        let wanted = Wanted { path: format!("blobs/{digest}"), accept: None, offset };
        let response = self.wait_for(self.client.get(&wanted)).await.map_err(|e| self.failed(e))?;
        // A registry without ranges begins anew: what is known already is let pass.
        let known = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { offset };
        Ok(Blob { response, known })
    }

    /// Gives what is asked for, or up.
    async fn wait_for<T>(
        &self,
        asked: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let patience = self.patience;
        tokio::time::timeout(patience, asked).await.unwrap_or(Err(RegistryError::Slow { patience }))
    }

    fn failed(&self, source: RegistryError) -> Error {
        Error::Registry { reference: self.reference.clone(), source }
    }
}

/// The blob on its way.
struct Blob {
    response: reqwest::Response,
    /// Bytes to come that are known already.
    known: u64,
}

impl Blob {
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while let Some(mut chunk) = self.response.chunk().await.map_err(RegistryError::request)? {
            let skipped = chunk.len().min(usize::try_from(self.known).unwrap_or(usize::MAX));
            self.known -= skipped as u64;
            let rest = chunk.split_off(skipped);
            if !rest.is_empty() {
                return Ok(Some(rest));
            }
        }
        Ok(None)
    }
}

/// Failures in a row: each is waited out longer, the last is the caller's.
#[derive(Default)]
struct Failures(u32);

impl Failures {
    async fn bear_error(&mut self, error: Error) -> Result<(), Error> {
        self.0 += 1;
        if self.0 >= ATTEMPTS || !error.is_passing() {
            return Err(error);
        }
        tokio::time::sleep(error.wait_before(self.0 - 1)).await;
        Ok(())
    }
}

/// The receiving end of a channel of chunks, as a reader.
struct Chunks {
    receiver: mpsc::Receiver<Bytes>,
    chunk: Option<Bytes>,
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
