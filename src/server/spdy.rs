//! SPDY/3.1 as port-forward speaks it: frames out of bytes that come in any pieces, and into bytes. PURE.
//!
//! Source: SPDY Protocol, draft 3.1. Windows are not kept: Kubernetes' clients and servers do not keep them either.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// Flag of a frame that is its stream's last.
const FIN: u8 = 1;

/// Bytes that one frame may have; what clients send is 32 KiB at most.
const LONGEST_FRAME: usize = 1 << 20;
/// Bytes that headers may have when inflated.
const LONGEST_HEADERS: usize = 64 << 10;

/// The words that headers are compressed with, each with its length before it, as the draft lists them.
const DICTIONARY_WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization cache-control connection content-base content-encoding content-language content-length content-location content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin";
/// Names what follows the words.
const DICTIONARY_TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

fn header_dictionary() -> Vec<u8> {
    let mut all = Vec::new();
    for word in DICTIONARY_WORDS.split(' ') {
        all.extend((word.len() as u32).to_be_bytes());
        all.extend(word.replace('_', " ").bytes());
    }
    all.extend(DICTIONARY_TEXT.bytes());
    all
}

/// The frame that matters here; of others only their length is looked at.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// The client opens a stream.
    Open {
        /// The number.
        stream: u32,
        /// The headers, names in lower case.
        headers: Vec<(String, String)>,
        /// The client will send nothing over it.
        ends: bool,
    },
    /// Bytes of a stream.
    Data {
        /// The number.
        stream: u32,
        /// Holds what came.
        bytes: Vec<u8>,
        /// Nothing comes after them.
        ends: bool,
    },
    /// The stream is broken off.
    Reset {
        /// The number.
        stream: u32,
    },
    /// Asks to be sent back as it is.
    Ping(u32),
    /// The client is about to leave.
    GoAway,
    /// Has no meaning here.
    Other,
}

/// The reason why a connection cannot go on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Means that a frame is longer than any that is needed.
    #[error("a SPDY frame has {0} bytes; {LONGEST_FRAME} are allowed")]
    TooLong(usize),
    /// Means that a frame is not as the protocol says.
    #[error("a SPDY frame is malformed: {0}")]
    Malformed(&'static str),
}

/// Takes bytes in and gives frames.
pub struct Decoder {
    waiting: Vec<u8>,
    inflate: Decompress,
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder { waiting: Vec::new(), inflate: Decompress::new(true) }
    }

    /// Adds bytes that have come.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// Takes the next whole frame, if there is one.
    ///
    /// # Errors
    /// [`Error`]; the connection is of no use then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        let Some(head) = self.waiting.first_chunk::<8>() else { return Ok(None) };
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if length > LONGEST_FRAME {
            return Err(Error::TooLong(length));
        }
        if self.waiting.len() < 8 + length {
            return Ok(None);
        }
        let (head, flags) = (*head, head[4]);
        let body: Vec<u8> = self.waiting.drain(..8 + length).skip(8).collect();
        let ends = flags & FIN != 0;
        if head[0] & 0x80 == 0 {
            let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            return Ok(Some(Frame::Data { stream, bytes: body, ends }));
        }
        let number = |at: usize| {
            let bytes = body.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map(u32::from_be_bytes).ok_or(Error::Malformed("it is too short for its type"))
        };
        Ok(Some(match u16::from_be_bytes([head[2], head[3]]) {
            SYN_STREAM => {
                let stream = number(0)? & 0x7fff_ffff;
                number(4)?;
                let block = body.get(10..).ok_or(Error::Malformed("it is too short for its type"))?;
                Frame::Open { stream, headers: self.inflate_headers(block)?, ends }
            }
            RST_STREAM => Frame::Reset { stream: number(0)? & 0x7fff_ffff },
            PING => Frame::Ping(number(0)?),
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        }))
    }

    fn inflate_headers(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, Error> {
        let wrong = || Error::Malformed("its headers cannot be inflated");
        let mut out = Vec::with_capacity(4096);
        let mut rest = block;
        loop {
            let (before, filled) = (self.inflate.total_in(), out.len());
            if out.capacity() - out.len() < 1024 {
                out.reserve(4096);
            }
            let result = self.inflate.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            rest = &rest[(self.inflate.total_in() - before) as usize..];
            match result {
                Err(e) if e.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(&header_dictionary()).map_err(|_| wrong())?;
                }
                Err(_) => return Err(wrong()),
                Ok(_) if out.len() > LONGEST_HEADERS => {
                    return Err(Error::Malformed("its headers are too long"));
                }
                Ok(_) if rest.is_empty() && out.len() < out.capacity() => break,
                Ok(_) if out.len() == filled && out.len() < out.capacity() => return Err(wrong()),
                Ok(_) => {}
            }
        }
        parse_headers(&out).ok_or(Error::Malformed("its headers break off"))
    }
}

fn parse_headers(mut block: &[u8]) -> Option<Vec<(String, String)>> {
    let mut take = |length: usize| {
        let (taken, rest) = block.split_at_checked(length)?;
        block = rest;
        Some(taken)
    };
    let count = u32::from_be_bytes(take(4)?.try_into().ok()?);
    let mut all = Vec::new();
    for _ in 0..count {
        let mut text = || {
            let length = u32::from_be_bytes(take(4)?.try_into().ok()?);
            String::from_utf8(take(length as usize)?.to_vec()).ok()
        };
        all.push((text()?.to_ascii_lowercase(), text()?));
    }
    Some(all)
}

/// Makes the frames that are sent.
pub struct Encoder {
    deflate: Option<Compress>,
}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder { deflate: None }
    }

    /// Accepts a stream.
    ///
    /// # Errors
    /// Memory alone could be missing.
    pub fn encode_reply(&mut self, stream: u32) -> Result<Vec<u8>, Error> {
        let wrong = |_| Error::Malformed("its headers cannot be deflated");
        let deflate = match &mut self.deflate {
            Some(deflate) => deflate,
            none => {
                let mut deflate = Compress::new(Compression::default(), true);
                deflate.set_dictionary(&header_dictionary()).map_err(wrong)?;
                none.insert(deflate)
            }
        };
        let mut block = Vec::with_capacity(256);
        // No header.
        deflate
            .compress_vec(&0u32.to_be_bytes(), &mut block, FlushCompress::Sync)
            .map_err(|_| Error::Malformed("its headers cannot be deflated"))?;
        Ok(control_frame(SYN_REPLY, 0, &[&stream.to_be_bytes(), &block]))
    }

    /// Sends bytes of a stream; `ends` when nothing follows.
    pub fn encode_data(stream: u32, bytes: &[u8], ends: bool) -> Vec<u8> {
        let length = (bytes.len() as u32).to_be_bytes();
        let mut frame = stream.to_be_bytes().to_vec();
        frame.extend([u8::from(ends), length[1], length[2], length[3]]);
        frame.extend(bytes);
        frame
    }

    /// Answers a ping.
    pub fn encode_ping(number: u32) -> Vec<u8> {
        control_frame(PING, 0, &[&number.to_be_bytes()])
    }

    /// Breaks a stream off: 5, cancelled.
    pub fn encode_reset(stream: u32) -> Vec<u8> {
        control_frame(RST_STREAM, 0, &[&stream.to_be_bytes(), &5u32.to_be_bytes()])
    }
}

fn control_frame(type_: u16, flags: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = (parts.iter().map(|p| p.len()).sum::<usize>() as u32).to_be_bytes();
    let mut frame = vec![0x80, 3];
    frame.extend(type_.to_be_bytes());
    frame.extend([flags, length[1], length[2], length[3]]);
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a client's SYN_STREAM, as kubectl sends it.
    fn open(deflate: &mut Compress, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend((text.len() as u32).to_be_bytes());
            block.extend(text.bytes());
        }
        let mut packed = Vec::with_capacity(1024);
        deflate.compress_vec(&block, &mut packed, FlushCompress::Sync).unwrap();
        control_frame(SYN_STREAM, 0, &[&stream.to_be_bytes(), &0u32.to_be_bytes(), &[0, 0], &packed])
    }

    fn deflate() -> Compress {
        let mut deflate = Compress::new(Compression::best(), true);
        deflate.set_dictionary(&header_dictionary()).unwrap();
        deflate
    }

    #[test]
    fn the_dictionary_is_the_drafts() {
        let all = header_dictionary();
        let (mut a, mut b) = (1u32, 0u32);
        for byte in &all {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((all.len(), b << 16 | a), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn streams_are_opened_by_bytes_that_come_one_by_one() {
        let mut deflate = deflate();
        let mut bytes = open(&mut deflate, 1, &[("Streamtype", "error"), ("port", "80"), ("requestid", "0")]);
        bytes.extend(open(&mut deflate, 3, &[("streamtype", "data"), ("port", "80"), ("requestid", "0")]));
        bytes.extend(Encoder::encode_data(3, b"hello", true));
        bytes.extend(Encoder::encode_ping(7));
        let mut decoder = Decoder::new();
        let mut frames = Vec::new();
        for byte in bytes {
            decoder.add_bytes(&[byte]);
            frames.extend(decoder.next_frame().unwrap());
        }
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = |kind| vec![header("streamtype", kind), header("port", "80"), header("requestid", "0")];
        assert_eq!(
            frames,
            [
                Frame::Open { stream: 1, headers: headers("error"), ends: false },
                Frame::Open { stream: 3, headers: headers("data"), ends: false },
                Frame::Data { stream: 3, bytes: b"hello".to_vec(), ends: true },
                Frame::Ping(7),
            ]
        );
    }

    #[test]
    fn replies_can_be_inflated_one_after_the_other() {
        let mut encoder = Encoder::new();
        let mut inflate = Decoder::new();
        for stream in [1, 3, 5] {
            let frame = encoder.encode_reply(stream).unwrap();
            assert_eq!(frame[..4], [0x80, 3, 0, 2]);
            assert_eq!(inflate.inflate_headers(&frame[12..]).unwrap(), []);
        }
    }

    #[test]
    fn what_is_too_long_or_damaged_is_refused() {
        let mut decoder = Decoder::new();
        decoder.add_bytes(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.next_frame(), Err(Error::TooLong(0xff_ffff)));
        let whole = open(&mut deflate(), 1, &[("streamtype", "error"), ("port", "80")]);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let mut decoder = Decoder::new();
                decoder.add_bytes(&bytes);
                while let Ok(Some(_)) = decoder.next_frame() {}
            }
        }
    }
}
