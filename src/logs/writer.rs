//! A container's output as a CRI log file: `TIME stdout|stderr P|F TEXT`, a line a line.
//!
//! Promises: a disk without room tears no line and loses none as long as [`MOST_WAITING`] holds them; a rotation that
//! fails leaves the log where it is.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use podctl_images::open_ordinary;
use podctl_runtime::repeat_interrupted;
use serde::{Deserialize, Serialize};

use super::reader::rotated_files;

/// A longer line is written in parts, the last of them marked `F`.
const LONGEST_PART: usize = 16 << 10;
/// Bytes of a log that wait for room on the disk; what comes when so many wait is lost, and counted.
const MOST_WAITING: usize = 1 << 20;

/// Tells how much of a start's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// The number of bytes at which a file is put aside, `0.log` as `0.log.20260101-000000.000000000`.
    pub size: u64,
    /// The number of files that are kept, the present one among them.
    pub files: usize,
    /// Logs of so many earlier starts of a container are kept.
    #[serde(default = "earlier_starts")]
    pub earlier_starts: u32,
}

/// The kubelet's maximum-dead-containers-per-container.
fn earlier_starts() -> u32 {
    1
}

impl Default for LogLimits {
    /// The kubelet's containerLogMaxSize and containerLogMaxFiles.
    fn default() -> LogLimits {
        LogLimits { size: 10 << 20, files: 5, earlier_starts: earlier_starts() }
    }
}

/// The log of one start of a container.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    limits: LogLimits,
    size: u64,
    /// The size at which it is put aside.
    full: u64,
    /// The time when it was put aside last: the names of what was put aside sort in the order of writing,
    /// whatever the clock does.
    rotated: Timestamp,
    /// Holds what has come of the two streams' last lines.
    partial: [Vec<u8>; 2],
    /// Holds what is to be written, whole lines but for the first, of which a part may be in the file already.
    out: Vec<u8>,
    /// Lines, or parts of long ones, that found no room.
    lost: u64,
}

/// Tells which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout = 0,
    /// Standard error.
    Stderr = 1,
}

impl Log {
    /// Makes the file and the directories above it, and forgets the logs of starts that are too long ago.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path, limits: LogLimits) -> io::Result<Log> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = open(path)?;
        let size = file.metadata()?.len();
        forget_earlier(path, limits.earlier_starts);
        let rotated = Timestamp::UNIX_EPOCH;
        let (partial, out) = (Default::default(), Vec::new());
        Ok(Log { file, path: path.into(), limits, size, full: limits.size, rotated, partial, out, lost: 0 })
    }

    /// The file that is written to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes bytes as they came from a stream.
    ///
    /// # Errors
    /// Those of writing; what could not be written waits for the next call, or [`Log::flush`].
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let (full, part) = (head(stream, 'F'), head(stream, 'P'));
        let mut rest = bytes;
        let crowded = self.out.len() >= MOST_WAITING;
        let partial = &mut self.partial[stream as usize];
        let mut entry = |head: &[u8], partial: &mut Vec<u8>, text: &[u8]| match crowded {
            false => append_entry(&mut self.out, head, partial, text),
            true => {
                self.lost += 1;
                partial.clear();
            }
        };
        loop {
            let end = memchr::memchr(b'\n', rest);
            let mut text = &rest[..end.unwrap_or(rest.len())];
            while partial.len() + text.len() >= LONGEST_PART {
                let (now, later) = text.split_at(LONGEST_PART - partial.len());
                entry(&part, partial, now);
                text = later;
            }
            match end {
                Some(end) => {
                    entry(&full, partial, text);
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
            append_entry(&mut self.out, &head(stream, 'F'), partial, &[]);
        }
        self.flush()
    }

    /// Tells whether something waits for room.
    pub fn is_behind(&self) -> bool {
        !self.out.is_empty()
    }

    /// The number of lines that were lost since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// Those of writing; the rest of a line that was cut is written first when there is room.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut done = 0;
        let outcome = loop {
            match repeat_interrupted(|| self.file.write(&self.out[done..])) {
                Ok(0) => break Ok(()),
                Ok(written) => done += written,
                Err(e) => break Err(e),
            }
        };
        self.out.drain(..done);
        self.size += done as u64;
        // Only between two lines.
        if self.size >= self.full && outcome.is_ok() {
            self.rotate_file()?;
        }
        outcome
    }

    /// Puts the file aside, begins a new one, and forgets the oldest.
    fn rotate_file(&mut self) -> io::Result<()> {
        // One that fails is not tried again with every line.
        self.full = self.size + self.limits.size / 4;
        let now = Timestamp::now().max(self.rotated + SignedDuration::from_nanos(1));
        let name = self.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let aside = self.path.with_file_name(format!("{name}.{}", now.strftime("%Y%m%d-%H%M%S.%9f")));
        match fs::rename(&self.path, &aside) {
            // Somebody has removed it: what is written there nobody sees.
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        match open(&self.path).or_else(|e| reuse_oldest(&self.path).ok_or(e)) {
            Ok(file) => self.file = file,
            Err(e) => {
                fs::rename(&aside, &self.path)?;
                return Err(e);
            }
        }
        (self.size, self.full, self.rotated) = (0, self.limits.size, now);
        let mut aside = rotated_files(&self.path);
        let kept = self.limits.files.saturating_sub(1);
        let old = aside.len().saturating_sub(kept);
        aside.drain(..old).try_for_each(fs::remove_file)
    }
}

/// Tells where no file can be made, for want of inodes or descriptors, the oldest one that was put aside begins anew.
fn reuse_oldest(path: &Path) -> Option<File> {
    let aside = rotated_files(path);
    let oldest = aside.first().filter(|_| aside.len() > 1)?;
    let file = File::options().append(true).open(oldest).ok()?;
    file.set_len(0).ok()?;
    fs::rename(oldest, path).ok()?;
    Some(file)
}

/// Removes the logs of starts that are more than so many ago.
fn forget_earlier(path: &Path, kept: u32) {
    let number = |path: &Path| path.file_name()?.to_str()?.split_once(".log")?.0.parse::<u32>().ok();
    let (Some(dir), Some(own)) = (path.parent(), number(path)) else { return };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if number(&entry.path()).is_some_and(|start| start.saturating_add(kept) < own) {
            // The next start tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    open_ordinary(path, File::options().create(true).append(true))
}

/// `TIME STREAM TAG `, the same for all lines that came at once.
fn head(stream: Stream, tag: char) -> Vec<u8> {
    let name = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    format!("{:.9} {name} {tag} ", Timestamp::now()).into_bytes()
}

fn append_entry(out: &mut Vec<u8>, head: &[u8], partial: &mut Vec<u8>, text: &[u8]) {
    for part in [head, partial, text, b"\n"] {
        out.extend_from_slice(part);
    }
    partial.clear();
}

/// Holds what one look at a stream has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pumped {
    /// The number of bytes.
    pub bytes: usize,
    /// There will be no more.
    pub ended: bool,
}

/// Reads what is there, at most a megabyte, so that a flood leaves time for everything else, into the log
/// and past `also`.
pub fn pump_output(
    fd: &OwnedFd,
    log: &mut Log,
    stream: Stream,
    buffer: &mut [u8],
    mut also: impl FnMut(&[u8]),
) -> Pumped {
    let mut bytes = 0;
    while bytes < 1 << 20 {
        match repeat_interrupted(|| nix::unistd::read(fd, buffer)) {
            Ok(0) => return Pumped { bytes, ended: true },
            Ok(n) => {
                also(&buffer[..n]);
                // A full disk never stops the container; what waits is written with the next flush.
                let _ = log.write(stream, &buffer[..n]);
                bytes += n;
            }
            Err(nix::errno::Errno::EAGAIN) => break,
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
        let mut log = Log::create(&path, LogLimits::default()).unwrap();
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
        let mut log = Log::create(&path, LogLimits { size: 1000, files: 3, ..LogLimits::default() }).unwrap();
        for n in 0..100 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes()).unwrap();
        }
        assert_eq!(rotated_files(&path).len(), 2);
        let kept: Vec<String> = crate::logs::read_last("c", &path, usize::MAX, &|_| true)
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
            let mut log = Log::create(&path, LogLimits::default()).unwrap();
            for bytes in line.chunks(piece) {
                log.write(Stream::Stdout, bytes).unwrap();
            }
            let entries = crate::logs::read_last("c", &path, usize::MAX, &|_| true).unwrap();
            entries.iter().map(|e| (e.partial, e.text.len())).collect::<Vec<_>>()
        };
        let whole =
            vec![(true, LONGEST_PART), (true, LONGEST_PART), (true, LONGEST_PART), (false, 0), (false, 4)];
        assert_eq!(cut("pieces", 1000), whole);
        assert_eq!(cut("even", LONGEST_PART), whole);
    }

    #[test]
    fn a_disk_without_room_tears_no_line_and_what_waits_is_written_when_there_is_some() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::create(&path, LogLimits::default()).unwrap();
        log.write(Stream::Stdout, b"before\n").unwrap();
        let own = std::mem::replace(&mut log.file, File::options().write(true).open("/dev/full").unwrap());
        assert!(log.write(Stream::Stdout, b"meanwhile\n").is_err());
        assert!(log.is_behind());
        let flood = vec![b'\n'; 2 * MOST_WAITING];
        for _ in 0..2 {
            assert!(log.write(Stream::Stdout, &flood).is_err());
        }
        assert_eq!(log.take_lost(), flood.len() as u64);
        // As after a short write.
        let mut file = own.try_clone().unwrap();
        file.write_all(&log.out.drain(..10).collect::<Vec<_>>()).unwrap();
        log.file = own;
        log.flush().unwrap();
        assert!(!log.is_behind());
        let entries = crate::logs::read_last("c", &path, usize::MAX, &|_| true).unwrap();
        let texts: Vec<_> = entries.iter().take(3).map(|e| String::from_utf8_lossy(&e.text)).collect();
        assert_eq!(texts, ["before", "meanwhile", ""]);
        assert_eq!(entries.len(), 2 + flood.len());
    }

    #[test]
    fn a_rotation_that_fails_loses_nothing_and_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let (own, moved) = (dir.path().join("c"), dir.path().join("moved"));
        let path = own.join("0.log");
        let mut log = Log::create(&path, LogLimits { size: 100, files: 9, ..LogLimits::default() }).unwrap();
        let line = [[b'x'; 40].as_slice(), b"\n"].concat();
        fs::rename(&own, &moved).unwrap();
        let written: Vec<bool> = (0..3).map(|_| log.write(Stream::Stdout, &line).is_ok()).collect();
        assert_eq!(written, [true, false, false]);
        let text = fs::read_to_string(moved.join("0.log")).unwrap();
        assert_eq!(text.lines().count(), 3);
        fs::rename(&moved, &own).unwrap();
        while rotated_files(&path).is_empty() {
            log.write(Stream::Stdout, &line).unwrap();
        }
        assert!(crate::logs::read_last("c", &path, usize::MAX, &|_| true).unwrap().len() >= 4);
    }

    #[test]
    fn logs_of_starts_that_are_long_ago_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let names = || {
            let mut all: Vec<_> = fs::read_dir(dir.path())
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            all.sort();
            all
        };
        for start in 0..12 {
            Log::create(&dir.path().join(format!("{start}.log")), LogLimits::default()).unwrap();
            fs::write(dir.path().join(format!("{start}.log.20260101-000000.000000000")), "").unwrap();
        }
        let kept =
            ["10.log", "10.log.20260101-000000.000000000", "11.log", "11.log.20260101-000000.000000000"];
        assert_eq!(names(), kept);
        Log::create(&dir.path().join("12.log"), LogLimits { earlier_starts: 0, ..LogLimits::default() })
            .unwrap();
        assert_eq!(names(), ["12.log"]);
    }
}
