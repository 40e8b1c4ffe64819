//! What layers and archives are compressed with, told by their first bytes: media types lie, magic numbers seldom.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;

/// Bytes that tell a compression.
pub(crate) const MAGIC: u64 = 6;
/// KiB that reading xz may take; its strongest preset takes 65 MiB.
const MAX_XZ_MEMORY: u32 = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
    /// Known by name only.
    Unread(&'static str),
}

impl Compression {
    fn of(magic: &[u8]) -> Self {
        match magic {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A stream may begin with a frame to be skipped, in which a tool keeps what is its own.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Unread("lz4"),
            [0x1f, 0x9d, ..] => Self::Unread("compress (.Z)"),
            [0x5d, 0, 0, ..] => Self::Unread("lzma"),
            [b'P', b'K', 3, 4, ..] => Self::Unread("zip"),
            [b'7', b'z', 0xbc, 0xaf, ..] => Self::Unread("7z"),
            _ => Self::Plain,
        }
    }
}

/// Tells whether what begins like this has to be decompressed.
pub(crate) fn is_compressed(magic: &[u8]) -> bool {
    Compression::of(magic) != Compression::Plain
}

/// The content of `blob`, whatever it is compressed with.
///
/// # Errors
/// The reader's; one that names the compression, if it is none that is read.
pub(crate) fn decompress_blob<'a>(mut blob: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::with_capacity(MAGIC as usize);
    blob.by_ref().take(MAGIC).read_to_end(&mut magic)?;
    let compression = Compression::of(&magic);
    let blob = BufReader::with_capacity(128 << 10, io::Cursor::new(magic).chain(blob));
    Ok(match compression {
        Compression::Plain => Box::new(blob),
        Compression::Gzip => Box::new(Members::Between(blob)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(blob)?),
        Compression::Xz => Box::new(XzReader::new_mem_limit(blob, true, MAX_XZ_MEMORY)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(blob)),
        Compression::Unread(name) => {
            let words = format!("it is compressed with {name}; gzip, zstd, xz and bzip2 are read");
            return Err(io::Error::new(io::ErrorKind::Unsupported, words));
        }
    })
}

/// The members of a gzip file one after another, which zeros may follow: tapes and some registries' storage pad with them.
enum Members<R> {
    Between(R),
    Within(Box<GzDecoder<R>>),
    Over,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            *self = match std::mem::replace(self, Self::Over) {
                Self::Within(mut member) => match member.read(buffer)? {
                    0 if !buffer.is_empty() => Self::Between(member.into_inner()),
                    n => {
                        *self = Self::Within(member);
                        return Ok(n);
                    }
                },
                Self::Between(mut rest) => match skip_zeros(&mut rest)? {
                    true => Self::Within(Box::new(GzDecoder::new(rest))),
                    false => Self::Over,
                },
                Self::Over => return Ok(0),
            };
        }
    }
}

/// Tells whether anything follows the zeros.
fn skip_zeros(rest: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = rest.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if zeros < bytes.len() || bytes.is_empty() {
            let more = !bytes.is_empty();
            rest.consume(zeros);
            return Ok(more);
        }
        rest.consume(zeros);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn plain(blob: &[u8]) -> Result<String, String> {
        let mut text = String::new();
        let read = decompress_blob(blob).and_then(|mut from| from.read_to_string(&mut text));
        read.map(|_| text).map_err(|error| error.to_string())
    }

    fn gzip_text(text: &str) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(text.as_bytes()).unwrap();
        to.finish().unwrap()
    }

    #[test]
    fn gzip_has_members_and_padding_but_no_garbage_behind() {
        let padded = [gzip_text("one "), gzip_text("two"), vec![0; 700_000]].concat();
        assert_eq!(plain(&padded).as_deref(), Ok("one two"));
        assert!(plain(&[gzip_text("one"), b"garbage".to_vec()].concat()).is_err());
        assert!(plain(&gzip_text("one")[..12]).is_err());
    }

    #[test]
    fn zstd_may_begin_with_a_frame_to_be_skipped() {
        let frame = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let blob = [skipped.clone(), frame("one "), skipped, frame("two")].concat();
        assert_eq!(plain(&blob).as_deref(), Ok("one two"));
    }

    #[test]
    fn xz_and_bzip2_are_read_and_others_named() {
        // `printf hello | xz`, `printf hello | bzip2`
        let xz = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F\x02\0!\x01\x16\0\0\0t/\xe5\xa3\x01\0\x04hello\0\0\0\0\xb17\xb9\xdb\xe5\xda\x1e\x9b\0\x01\x1d\x05\xb8-\x80\xaf\x1f\xb6\xf3}\x01\0\0\0\0\x04YZ";
        assert_eq!(plain(xz).as_deref(), Ok("hello"));
        let mut to = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        to.write_all(b"hello").unwrap();
        assert_eq!(plain(&to.finish().unwrap()).as_deref(), Ok("hello"));
        assert!(plain(b"\x04\x22\x4d\x18rest").unwrap_err().contains("lz4"));
        assert_eq!(plain(b"").as_deref(), Ok(""));
    }
}
