//! A container's output as a CRI log file: `TIME stdout|stderr P|F TEXT`, a line a line.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::logs::rotated;

/// A longer line is written in parts, the last of them marked `F`.
const LONGEST_PART: usize = 16 << 10;

/// How much of a start's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A file that has grown so large is put aside, `0.log` as `0.log.20260101-000000.000000000`.
    pub size: u64,
    /// So many files are kept, the present one among them.
    pub files: usize,
}

impl Default for Limits {
    /// The kubelet's containerLogMaxSize and containerLogMaxFiles.
    fn default() -> Limits {
        Limits { size: 10 << 20, files: 5 }
    }
}

/// The log of one start of a container.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    limits: Limits,
    size: u64,
    /// What has come of the two streams' last lines.
    partial: [Vec<u8>; 2],
    out: Vec<u8>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout = 0,
    /// Standard error.
    Stderr = 1,
}

impl Log {
    /// Makes the file and the directories above it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path, limits: Limits) -> io::Result<Log> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = open(path)?;
        let size = file.metadata()?.len();
        Ok(Log { file, path: path.into(), limits, size, partial: Default::default(), out: Vec::new() })
    }

    /// Takes bytes as they came from a stream.
    ///
    /// # Errors
    /// Those of writing; the bytes are then lost, the log goes on.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let (full, part) = (head(stream, 'F'), head(stream, 'P'));
        let mut rest = bytes;
        let partial = &mut self.partial[stream as usize];
        loop {
            let end = memchr::memchr(b'\n', rest);
            let mut text = &rest[..end.unwrap_or(rest.len())];
            while partial.len() + text.len() >= LONGEST_PART {
                let (now, later) = text.split_at(LONGEST_PART - partial.len());
                entry(&mut self.out, &part, partial, now);
                text = later;
            }
            match end {
                Some(end) => {
                    entry(&mut self.out, &full, partial, text);
                    rest = &rest[end + 1..];
                }
                None => {
                    partial.extend_from_slice(text);
                    break;
                }
            }
        }
        self.flush()
    }

    /// The stream has ended: what stands without a newline is a line as well.
    ///
    /// # Errors
    /// Those of writing.
    pub fn end(&mut self, stream: Stream) -> io::Result<()> {
        let partial = &mut self.partial[stream as usize];
        if !partial.is_empty() {
            entry(&mut self.out, &head(stream, 'F'), partial, &[]);
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.file.write_all(&self.out);
        self.size += self.out.len() as u64;
        self.out.clear();
        if self.size >= self.limits.size {
            self.rotate()?;
        }
        done
    }

    /// Puts the file aside, begins a new one, and forgets the oldest.
    fn rotate(&mut self) -> io::Result<()> {
        let now = Timestamp::now();
        let name = self.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let time = now.strftime("%Y%m%d-%H%M%S.%9f");
        fs::rename(&self.path, self.path.with_file_name(format!("{name}.{time}")))?;
        (self.file, self.size) = (open(&self.path)?, 0);
        let mut aside = rotated(&self.path);
        let kept = self.limits.files.saturating_sub(1);
        let old = aside.len().saturating_sub(kept);
        aside.drain(..old).try_for_each(fs::remove_file)
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// `TIME STREAM TAG `, the same for all lines that came at once.
fn head(stream: Stream, tag: char) -> Vec<u8> {
    let name = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    format!("{:.9} {name} {tag} ", Timestamp::now()).into_bytes()
}

fn entry(out: &mut Vec<u8>, head: &[u8], partial: &mut Vec<u8>, text: &[u8]) {
    for part in [head, partial, text, b"\n"] {
        out.extend_from_slice(part);
    }
    partial.clear();
}

/// What one look at a stream has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pumped {
    /// So many bytes.
    pub bytes: usize,
    /// There will be no more.
    pub ended: bool,
}

/// Reads what is there, at most a megabyte, so that a flood leaves time for everything else, into the log
/// and past `also`.
pub fn pump(
    fd: &OwnedFd,
    log: &mut Log,
    stream: Stream,
    buffer: &mut [u8],
    mut also: impl FnMut(&[u8]),
) -> Pumped {
    let mut bytes = 0;
    while bytes < 1 << 20 {
        match nix::unistd::read(fd, buffer) {
            Ok(0) => return Pumped { bytes, ended: true },
            Ok(n) => {
                also(&buffer[..n]);
                // A full disk loses output, but never stops the container.
                let _ = log.write(stream, &buffer[..n]);
                bytes += n;
            }
            Err(nix::errno::Errno::EAGAIN) => break,
            Err(nix::errno::Errno::EINTR) => {}
            // EIO: the last one who had the terminal open has closed it.
            Err(_) => return Pumped { bytes, ended: true },
        }
    }
    Pumped { bytes, ended: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_long_ones_come_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0.log");
        let mut log = Log::create(&path, Limits::default()).unwrap();
        log.write(Stream::Stdout, b"one\ntw").unwrap();
        log.write(Stream::Stderr, b"err\n").unwrap();
        log.write(Stream::Stdout, b"o\n").unwrap();
        log.write(Stream::Stdout, &[b'x'; LONGEST_PART + 1]).unwrap();
        log.end(Stream::Stdout).unwrap();
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.splitn(4, ' ').skip(1).collect()).collect();
        assert_eq!(lines[0], ["stdout", "F", "one"]);
        assert_eq!(lines[1], ["stderr", "F", "err"]);
        assert_eq!(lines[2], ["stdout", "F", "two"]);
        assert_eq!((lines[3][1], lines[3][2].len()), ("P", LONGEST_PART));
        assert_eq!(lines[4], ["stdout", "F", "x"]);
    }

    #[test]
    fn a_full_file_is_put_aside_and_only_so_many_are_kept_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::create(&path, Limits { size: 1000, files: 3 }).unwrap();
        for n in 0..100 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes()).unwrap();
        }
        assert_eq!(rotated(&path).len(), 2);
        let kept: Vec<String> = crate::logs::read("c", &path)
            .unwrap()
            .into_iter()
            .map(|e| String::from_utf8(e.text).unwrap())
            .collect();
        let first = 100 - kept.len();
        assert_eq!(kept, (first..100).map(|n| format!("line {n}")).collect::<Vec<_>>());
    }

    #[test]
    fn a_long_line_that_comes_in_pieces_is_cut_where_one_that_comes_at_once_is() {
        let dir = tempfile::tempdir().unwrap();
        let line = [vec![b'x'; 3 * LONGEST_PART], b"\nnext\n".to_vec()].concat();
        let cut = |name: &str, piece: usize| {
            let path = dir.path().join(name);
            let mut log = Log::create(&path, Limits::default()).unwrap();
            for bytes in line.chunks(piece) {
                log.write(Stream::Stdout, bytes).unwrap();
            }
            let entries = crate::logs::read("c", &path).unwrap();
            entries.iter().map(|e| (e.partial, e.text.len())).collect::<Vec<_>>()
        };
        let whole =
            vec![(true, LONGEST_PART), (true, LONGEST_PART), (true, LONGEST_PART), (false, 0), (false, 4)];
        assert_eq!(cut("pieces", 1000), whole);
        assert_eq!(cut("even", LONGEST_PART), whole);
    }
}
