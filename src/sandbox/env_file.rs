//! Files of variables that an earlier container has written into an emptyDir (`fileKeyRef`). Who writes them is not trusted.

use std::{fs::File, io::Read, path::Path};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{Mode, SFlag, fstat},
};

/// Number of bytes that such a file may have.
const LONGEST: u64 = 64 << 10;

/// Returns a key's value in the file at `path` of a volume; `None` when the file or the key is not there.
///
/// # Errors
/// Why the file cannot be read.
pub(super) fn read_key(volume: &Path, path: &str, key: &str) -> Result<Option<String>, String> {
    let failed = |why: &str| format!("environment variable file {path:?}: {why}");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(volume, flags, Mode::empty()).map_err(|e| failed(e.desc()))?;
    // Neither leads a link in it anywhere else, nor waits a FIFO for anybody.
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(&root, path, how) {
        Ok(file) => file,
        Err(nix::errno::Errno::ENOENT) => return Ok(None),
        Err(e) => return Err(failed(e.desc())),
    };
    let kind = fstat(&file).map_err(|e| failed(e.desc()))?.st_mode & SFlag::S_IFMT.bits();
    if kind != SFlag::S_IFREG.bits() {
        return Err(failed("is not a file"));
    }
    let mut text = String::new();
    let read = File::from(file).take(LONGEST + 1).read_to_string(&mut text);
    match read.map_err(|e| failed(&e.to_string()))? as u64 {
        0..=LONGEST => find_value(&text, key).map_err(|why| failed(&why)),
        _ => Err(failed("is longer than 64 KiB")),
    }
}

/// Returns the key's value: between single quotes, over lines if need be, else what is left of its line.
fn find_value(text: &str, key: &str) -> Result<Option<String>, String> {
    let mut rest = text;
    while !rest.is_empty() {
        let line = rest.lines().next().unwrap_or_default();
        let after_line = rest.get(line.len()..).unwrap_or_default().trim_start_matches('\r');
        let begin = line.trim_start();
        let Some((name, value)) = begin.split_once('=').filter(|_| !begin.starts_with('#')) else {
            rest = after_line.strip_prefix('\n').unwrap_or_default();
            continue;
        };
        let quoted = value.strip_prefix('\'').map(|value| &rest[offset(rest, value)..]);
        let (value, after) = match quoted {
            Some(quoted) => quoted
                .split_once('\'')
                .ok_or_else(|| format!("the quote of {:?} is not closed", name.trim()))?,
            None => (value.split('#').next().unwrap_or_default().trim_end(), after_line),
        };
        if name.trim_end() == key {
            return Ok(Some(value.to_owned()));
        }
        rest = after.split_once('\n').map_or("", |(_, next)| next);
    }
    Ok(None)
}

/// Tells where a part of a text begins in it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_env_1_a_file_of_variables_has_a_line_for_each_or_quotes() {
        let text = "# first\nA='x y'\r\nB='two\nlines' # more\n  C=plain # comment\nD=\nA='again'\n";
        let value = |key: &str| find_value(text, key).unwrap();
        assert_eq!(value("A").as_deref(), Some("x y"));
        assert_eq!(value("B").as_deref(), Some("two\nlines"));
        assert_eq!(value("C").as_deref(), Some("plain"));
        assert_eq!(value("D").as_deref(), Some(""));
        assert_eq!(value("E"), None);
        assert!(find_value("A='x\n", "A").is_err());
    }

    #[test]
    fn r_env_1_a_file_of_variables_is_one_of_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("env"), "A='1'\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("out")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).unwrap();
        assert_eq!(read_key(dir.path(), "env", "A").unwrap().as_deref(), Some("1"));
        assert_eq!(read_key(dir.path(), "absent", "A"), Ok(None));
        assert!(read_key(dir.path(), "out", "root").is_err());
        assert!(read_key(dir.path(), "fifo", "A").is_err());
    }
}
