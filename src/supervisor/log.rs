//! A container's output as a CRI log file: `TIME stdout|stderr P|F TEXT`, a line a line.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::OwnedFd,
    path::Path,
};

use k8s_openapi::jiff::Timestamp;

/// A longer line is written in parts, the last of them marked `F`.
const LONGEST_PART: usize = 16 << 10;

/// The log of one start of a container.
#[derive(Debug)]
pub struct Log {
    file: File,
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
    pub fn create(path: &Path) -> io::Result<Log> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Log { file, partial: Default::default(), out: Vec::new() })
    }

    /// Takes bytes as they came from a stream.
    ///
    /// # Errors
    /// Those of writing; the bytes are then lost, the log goes on.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let now = Timestamp::now();
        let partial = &mut self.partial[stream as usize];
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            partial.extend_from_slice(&rest[..end]);
            entry(&mut self.out, now, stream, true, partial);
            partial.clear();
            rest = &rest[end + 1..];
        }
        partial.extend_from_slice(rest);
        while partial.len() >= LONGEST_PART {
            entry(&mut self.out, now, stream, false, &partial[..LONGEST_PART]);
            partial.drain(..LONGEST_PART);
        }
        self.flush()
    }

    /// The stream has ended: what stands without a newline is a line as well.
    ///
    /// # Errors
    /// Those of writing.
    pub fn end(&mut self, stream: Stream) -> io::Result<()> {
        let partial = std::mem::take(&mut self.partial[stream as usize]);
        if !partial.is_empty() {
            entry(&mut self.out, Timestamp::now(), stream, true, &partial);
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.file.write_all(&self.out);
        self.out.clear();
        done
    }
}

fn entry(out: &mut Vec<u8>, now: Timestamp, stream: Stream, full: bool, text: &[u8]) {
    let name = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let tag = if full { 'F' } else { 'P' };
    write!(out, "{now:.9} {name} {tag} ").expect("memory takes everything");
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// Reads what is there, at most a few pipes full, into the log and past `also`. `false` when the
/// stream has ended.
pub fn pump(fd: &OwnedFd, log: &mut Log, stream: Stream, mut also: impl FnMut(&[u8])) -> bool {
    let mut buffer = [0; 64 << 10];
    for _ in 0..16 {
        match nix::unistd::read(fd, &mut buffer) {
            Ok(0) => return false,
            // A full disk loses output, but never stops the container.
            Ok(n) => {
                also(&buffer[..n]);
                drop(log.write(stream, &buffer[..n]));
            }
            Err(nix::errno::Errno::EAGAIN) => return true,
            Err(nix::errno::Errno::EINTR) => {}
            // EIO: the last one who had the terminal open has closed it.
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_long_ones_come_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0.log");
        let mut log = Log::create(&path).unwrap();
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
}
