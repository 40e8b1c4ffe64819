//! One layer, from compressed bytes to a directory in the store, in a single pass over two threads:
//! one hashes the blob and inflates it, the other hashes what comes out and unpacks it.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest, Sha256};

use crate::compression::decompress_blob;
use crate::unpack::{Limits, UnpackError, unpack};
use crate::{Error, Store, inventory};

/// Inflated bytes that go from thread to thread at a time, and how many such pieces may wait.
const PIECE: usize = 256 << 10;
const PIECES: usize = 8;

/// Holds what a layer is promised to be.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Digest and size of the blob as fetched; docker-archive promises neither.
    pub(crate) blob: Option<(String, u64)>,
    pub(crate) diff_id: String,
    /// Owners that are not mapped here become root.
    pub(crate) squash_ids: bool,
}

/// Unpacks `blob` into the store, and lets it be seen only if it is what `layer` promises.
pub(crate) fn ingest_layer(
    store: &Store,
    reference: &str,
    layer: &Layer,
    blob: impl Read + Send,
) -> Result<(), Error> {
    let scratch = store.make_scratch()?;
    let root = scratch.path.join("layer");
    fs::create_dir(&root).map_err(Error::io("create", &root))?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).map_err(Error::io("chmod", &root))?;

    // One byte more than promised is enough to see that there is more.
    let limit = layer.blob.as_ref().map_or(u64::MAX, |(_, size)| size.saturating_add(1));
    // Compression makes a hundredth of ordinary files, and next to nothing of empty ones.
    let most =
        layer.blob.as_ref().map_or(u64::MAX, |(_, size)| size.saturating_mul(100).saturating_add(16 << 30));
    let limits = Limits { bytes: most, squash_ids: layer.squash_ids };
    let mut compressed = Hashed::new(blob.take(limit));
    let unpacked = std::thread::scope(|scope| {
        let (full, pieces) = sync_channel(PIECES);
        let (spare, spares) = sync_channel(PIECES);
        let inflating = std::thread::Builder::new()
            .spawn_scoped(scope, || inflate_blob(&mut compressed, full, spares))
            .map_err(UnpackError::Archive)?;
        let mut plain = Pieces { pieces, spare, piece: Vec::new(), at: 0, hash: Sha256::new() };
        // Padding after the archive's end belongs to the digests.
        let unpacked = unpack(&mut plain, &root, limits).and_then(|unpacked| {
            io::copy(&mut plain, &mut io::sink()).map_err(UnpackError::Archive)?;
            Ok(unpacked)
        });
        let digest = text(plain.hash.finalize().as_ref());
        drop(plain.pieces); // an inflater that is not listened to any more ends
        let inflated = inflating.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // An archive that breaks off does so because inflating failed.
        inflated.map_err(UnpackError::Archive).and(unpacked).map(|unpacked| (digest, unpacked))
    });
    // A wrong blob explains a broken archive, never the other way round.
    io::copy(&mut compressed, &mut io::sink()).ok();
    let named = || reference.to_owned();
    if let Some((digest, size)) = &layer.blob {
        if compressed.bytes != *size {
            let (expected, actual) = (*size, compressed.bytes);
            return Err(Error::Size { reference: named(), digest: digest.clone(), expected, actual });
        }
        expect(reference, "layer", digest, compressed.digest())?;
    }
    let (actual, unpacked) = unpacked.map_err(|source| {
        let digest = layer.blob.as_ref().map_or(&layer.diff_id, |(digest, _)| digest).clone();
        Error::Unpack { reference: named(), digest, source }
    })?;
    expect(reference, "unpacked layer", &layer.diff_id, actual)?;

    let record = scratch.path.join("inventory");
    inventory::write(&root, &unpacked, &record).map_err(Error::io("write", &record))?;
    store.add_layer(&scratch, &store.layer_path(&layer.diff_id))
}

pub(crate) fn expect(
    reference: &str,
    what: &'static str,
    expected: &str,
    actual: String,
) -> Result<(), Error> {
    if expected == actual {
        return Ok(());
    }
    Err(Error::Digest { reference: reference.to_owned(), what, expected: expected.to_owned(), actual })
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    text(Sha256::digest(bytes).as_ref())
}

fn text(digest: &[u8]) -> String {
    digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Sends the blob's content on, in buffers that come back to be filled again.
fn inflate_blob(blob: impl Read, full: SyncSender<Vec<u8>>, spares: Receiver<Vec<u8>>) -> io::Result<()> {
    let mut plain = decompress_blob(blob)?;
    loop {
        let mut piece = spares.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut filled = 0;
        while filled < PIECE {
            match plain.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let last = filled < PIECE;
        piece.truncate(filled);
        if full.send(piece).is_err() || last {
            return Ok(());
        }
    }
}

/// The receiving end of [`inflate_blob`]: hashes each piece as it comes.
struct Pieces {
    pieces: Receiver<Vec<u8>>,
    spare: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    hash: Sha256,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let Ok(next) = self.pieces.recv() else { return Ok(0) };
            self.hash.update(&next);
            // More spares than can be used are let go.
            let _ = self.spare.try_send(std::mem::replace(&mut self.piece, next));
            self.at = 0;
        }
        let n = buffer.len().min(self.piece.len() - self.at);
        buffer[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Counts and hashes what is read through it.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R> Hashed<R> {
    fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    fn digest(self) -> String {
        text(self.hash.finalize().as_ref())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}
