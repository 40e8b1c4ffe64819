//! The files of a local volume as a tar archive. Runs where the files' owners are seen as containers see them: as root, or in
//! the role that has the user's subordinate ids.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
};

/// Opens what is written to: a file, or standard output for `-`.
pub(super) fn create_output(path: &Path) -> io::Result<Box<dyn Write>> {
    match path == Path::new("-") {
        true => Ok(Box::new(BufWriter::new(io::stdout()))),
        false => Ok(Box::new(BufWriter::new(File::create(path)?))),
    }
}

/// Writes the files of a volume, with owners and modes, beneath `./`.
pub(super) fn export_files(files: &Path, path: &Path) -> io::Result<()> {
    let mut archive = tar::Builder::new(create_output(path)?);
    archive.follow_symlinks(false);
    archive.append_dir_all(".", files)?;
    archive.into_inner()?.flush()
}

/// Unpacks an archive into a volume. The library that does it writes nothing outside of the directory, whatever the
/// members are called.
pub(super) fn import_files(files: &Path, path: &Path) -> io::Result<()> {
    let input: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(BufReader::new(File::open(path)?)),
    };
    let mut archive = tar::Archive::new(input);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_overwrite(true);
    archive.unpack(files)
}
