//! Sparse files as GNU tar writes them in the PAX format, versions 0.0, 0.1 and 1.0 of it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Pieces of data in one file; they are held in memory.
const MAX_PIECES: usize = 1 << 20;
/// The tar's block.
const BLOCK: usize = 512;

/// Tells where the data of a sparse file lies.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    /// The file's own name; the entry's is made up.
    pub(super) name: Option<Vec<u8>>,
    size: u64,
    /// Offset and length of each piece of data.
    pieces: Vec<(u64, u64)>,
    /// The map stands before the data, not in the headers.
    map_in_data: bool,
    offset: Option<u64>,
}

impl Sparse {
    /// Takes one of the headers, without the `GNU.sparse.` of its name.
    pub(super) fn note(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = number(value)?,
            b"major" => self.map_in_data = number(value)? == 1,
            b"offset" => self.offset = Some(number(value)?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or_else(|| wrong("a length without an offset"))?;
                self.add(offset, number(value)?)?;
            }
            b"map" => {
                let mut numbers = value.split(|byte| *byte == b',');
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or_else(|| wrong("an offset without a length"))?;
                    self.add(number(offset)?, number(length)?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.checked_add(length).ok_or_else(|| wrong("a piece beyond all files"))?;
        let before = self.pieces.last().map_or(0, |(offset, length)| offset + length);
        if offset < before || self.pieces.len() == MAX_PIECES || end > i64::MAX as u64 {
            return Err(wrong("pieces that overlap, or too many"));
        }
        self.pieces.push((offset, length));
        Ok(())
    }

    /// Writes the file from the entry's data, holes left out; gives the checksum of what it then reads as.
    pub(super) fn fill(&mut self, file: &mut File, data: &mut impl Read) -> io::Result<()> {
        if self.map_in_data {
            self.read_map(data)?;
        }
        for (offset, length) in &self.pieces {
            file.seek(SeekFrom::Start(*offset))?;
            if io::copy(&mut data.by_ref().take(*length), file)? < *length {
                return Err(wrong("less data than the map says"));
            }
        }
        let end = self.pieces.last().map_or(0, |(offset, length)| offset + length);
        if end > self.size {
            return Err(wrong("more data than the file is long"));
        }
        file.set_len(self.size)?;
        file.flush()
    }

    /// The map of version 1.0: how many pieces, then offset and length of each, a line a number, padded to a block.
    fn read_map(&mut self, data: &mut impl Read) -> io::Result<()> {
        let mut taken = 0;
        let mut line = || {
            let mut text = Vec::new();
            loop {
                let mut byte = [0];
                data.read_exact(&mut byte)?;
                taken += 1;
                match byte[0] {
                    b'\n' => return number(&text),
                    byte if text.len() < 20 => text.push(byte),
                    _ => return Err(wrong("a number that is none")),
                }
            }
        };
        let count = line()?;
        let mut pairs = Vec::new();
        for _ in 0..count.min(MAX_PIECES as u64 + 1) {
            pairs.push((line()?, line()?));
        }
        pairs.into_iter().try_for_each(|(offset, length)| self.add(offset, length))?;
        let padding = (BLOCK - taken % BLOCK) % BLOCK;
        io::copy(&mut data.by_ref().take(padding as u64), &mut io::sink()).map(drop)
    }
}

fn number(text: &[u8]) -> io::Result<u64> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
    parsed.ok_or_else(|| wrong("a number that is none"))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the map of a sparse file has {what}"))
}
