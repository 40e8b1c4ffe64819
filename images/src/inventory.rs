//! What a layer holds, written down when it is unpacked: by it a layer is known to be whole later on, and a directory that
//! the layer only implies is told from one that it has.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::compression::decompress_blob;
use crate::ordinary_file::open_ordinary;

use flate2::{Compression, write::GzEncoder};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// Holds what only the one who unpacks knows.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Checksum of each file's content, by inode.
    pub(crate) checksums: HashMap<u64, u32>,
    /// Inodes of the directories that the archive has an entry for.
    pub(crate) directories: HashSet<u64>,
}

/// The line of an inventory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) path: PathBuf,
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    checksum: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    Implied,
    File,
    Other,
}

/// The end of an inventory; one without it was cut off.
const END: &[u8] = b"end\0";

impl Record {
    /// Tells whether it is a directory that no entry of the archive is about.
    pub(crate) fn is_implied(&self) -> bool {
        self.kind == Kind::Implied
    }

    fn of(path: &Path, unpacked: &Unpacked, found: &fs::Metadata) -> Record {
        let kind = match found.file_type() {
            kind if kind.is_dir() && unpacked.directories.contains(&found.ino()) => Kind::Directory,
            kind if kind.is_dir() => Kind::Implied,
            kind if kind.is_file() => Kind::File,
            _ => Kind::Other,
        };
        Record {
            path: path.to_owned(),
            kind,
            mode: found.mode(),
            uid: found.uid(),
            gid: found.gid(),
            size: if matches!(kind, Kind::Directory | Kind::Implied) { 0 } else { found.size() },
            checksum: unpacked.checksums.get(&found.ino()).copied().filter(|_| kind == Kind::File),
        }
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let kind = match self.kind {
            Kind::Directory => 'd',
            Kind::Implied => 'i',
            Kind::File => 'f',
            Kind::Other => 'o',
        };
        let sum = self.checksum.map_or("-".to_owned(), |sum| format!("{sum:x}"));
        let Record { mode, uid, gid, size, .. } = self;
        write!(to, "{kind} {mode:o} {uid} {gid} {size} {sum} ")?;
        to.write_all(self.path.as_os_str().as_bytes())?;
        to.write_all(&[0])
    }

    fn parse(line: &[u8]) -> Option<Record> {
        let mut parts = line.splitn(7, |byte| *byte == b' ');
        let mut text = || std::str::from_utf8(parts.next()?).ok();
        let kind = match text()? {
            "d" => Kind::Directory,
            "i" => Kind::Implied,
            "f" => Kind::File,
            "o" => Kind::Other,
            _ => return None,
        };
        let mode = u32::from_str_radix(text()?, 8).ok()?;
        let (uid, gid, size) = (text()?.parse().ok()?, text()?.parse().ok()?, text()?.parse().ok()?);
        let checksum = match text()? {
            "-" => None,
            sum => Some(u32::from_str_radix(sum, 16).ok()?),
        };
        let path = Path::new(OsStr::from_bytes(parts.next()?)).to_owned();
        Some(Record { path, kind, mode, uid, gid, size, checksum })
    }
}

/// Writes down what lies in `root`, the directory itself first, into the file `to`.
pub(crate) fn write(root: &Path, unpacked: &Unpacked, to: &Path) -> io::Result<()> {
    // By gzip, not zstd, of which podctl has no more than what reads it: to compress takes as much code again.
    let out = GzEncoder::new(File::create(to)?, Compression::fast());
    let mut out = BufWriter::with_capacity(64 << 10, out);
    let mut left = vec![PathBuf::new()];
    Record::of(Path::new(""), unpacked, &fs::symlink_metadata(root)?).write(&mut out)?;
    while let Some(dir) = left.pop() {
        let entries = match fs::read_dir(root.join(&dir)) {
            // Deeper than a path can say: nobody verifies it.
            Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let path = dir.join(entry.file_name());
            let found = entry.metadata()?;
            Record::of(&path, unpacked, &found).write(&mut out)?;
            if found.is_dir() {
                left.push(path);
            }
        }
    }
    out.write_all(END)?;
    out.into_inner().map_err(|error| error.into_error())?.finish()?;
    Ok(())
}

/// The records of an inventory; the last one is an error when it was cut off.
pub(crate) fn read(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Record>>> {
    let mut from = BufReader::new(decompress_blob(open_ordinary(path, File::options().read(true))?)?);
    let mut over = false;
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut off");
    Ok(std::iter::from_fn(move || {
        if over {
            return None;
        }
        let mut line = Vec::new();
        // A line has a path of the kernel's and some numbers.
        let read = from.by_ref().take(2 * libc::PATH_MAX as u64).read_until(0, &mut line);
        over = match &read {
            Ok(_) if line == END => return None,
            Ok(_) => line.last() != Some(&0),
            Err(_) => true,
        };
        let record = read.and_then(|_| match line.pop() {
            Some(0) => Record::parse(&line).ok_or_else(cut),
            _ => Err(cut()),
        });
        over |= record.is_err();
        Some(record)
    }))
}

/// Tells how thoroughly a layer is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Kinds, owners, modes and sizes.
    Sizes,
    /// What files hold, too.
    Content,
}

/// Compares the layer in `root` with its inventory.
///
/// # Errors
/// The first thing that is not as it was unpacked.
pub(crate) fn verify_inventory(root: &Path, inventory: &Path, depth: Depth) -> Result<(), String> {
    let records = read(inventory).map_err(|error| format!("its inventory cannot be read: {error}"))?;
    let dir = File::open(root).map_err(|error| format!("it cannot be opened: {error}"))?;
    let mut above: Option<(PathBuf, File)> = None;
    for record in records {
        let record = record.map_err(|error| format!("its inventory cannot be read: {error}"))?;
        let differs = |what: &str| {
            format!("/{}: {what}", crate::registry_error::printable(&record.path.to_string_lossy()))
        };
        let path = if record.path.as_os_str().is_empty() { Path::new(".") } else { &record.path };
        // A layer's links lead nowhere here.
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // The last part itself may be a link.
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if above.as_ref().is_none_or(|(held, _)| held != parent) {
            let how = OpenHow::new().flags(flags).resolve(resolve);
            let opened = openat2(&dir, parent, how).map_err(|e| differs(e.desc()))?;
            above = Some((parent.to_owned(), File::from(opened)));
        }
        let name = path.file_name();
        let here = format!("/proc/self/fd/{}", above.as_ref().map_or(-1, |(_, fd)| fd.as_raw_fd()));
        let place = name.map_or(PathBuf::from(&here), |name| Path::new(&here).join(name));
        let found = match name {
            Some(_) => fs::symlink_metadata(&place),
            None => fs::metadata(&place),
        };
        let found = found.map_err(|error| differs(&error.to_string()))?;
        let unpacked = Unpacked { checksums: HashMap::new(), directories: HashSet::new() };
        let now = Record::of(&record.path, &unpacked, &found);
        let is_directory = |kind| matches!(kind, Kind::Directory | Kind::Implied);
        if now.kind != record.kind && !(is_directory(now.kind) && is_directory(record.kind)) {
            return Err(differs("it is another kind of file"));
        }
        if now.size != record.size {
            return Err(differs(&format!("it has {} bytes of {}", now.size, record.size)));
        }
        if (now.mode, now.uid, now.gid) != (record.mode, record.uid, record.gid) {
            return Err(differs("its owner or mode is another"));
        }
        if let Some(sum) = record.checksum.filter(|_| depth == Depth::Content)
            && file_checksum(&place).map_err(|error| differs(&error.to_string()))? != sum
        {
            return Err(differs("its content is another"));
        }
    }
    Ok(())
}

fn file_checksum(path: &Path) -> io::Result<u32> {
    let mut file = File::open(path)?;
    let mut hash = crc32fast::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// The directories that a layer only implies; none where there is no inventory, as of a layer of an earlier version.
pub(crate) fn implied_paths(inventory: &Path) -> HashSet<PathBuf> {
    let Ok(records) = read(inventory) else { return HashSet::new() };
    records.map_while(Result::ok).filter(Record::is_implied).map(|record| record.path).collect()
}
