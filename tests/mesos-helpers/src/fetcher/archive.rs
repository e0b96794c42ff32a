//! Extracting archives. Like Mesos' libarchive this needs no program of the host.

use std::{
    fs,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

use super::{Owner, finish, own};

/// Why an archive cannot be extracted.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read, is corrupt, or its contents cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no valid zip file.
    #[error(transparent)]
    Zip(#[from] zip::result::ZipError),
    /// A part of it would be written outside the sandbox.
    #[error("it holds '{}', which lies outside the directory", .0.display())]
    Outside(PathBuf),
}

/// The kinds that Mesos knows, by the end of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tar(Compression),
    Zip,
    /// One compressed file.
    Gzip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
}

impl Kind {
    /// The kind of the archive at `path`; `None` when its name is that of no archive.
    pub fn of(path: &Path) -> Option<Self> {
        const ENDS: [(&str, Kind); 9] = [
            (".tar", Kind::Tar(Compression::None)),
            (".tgz", Kind::Tar(Compression::Gzip)),
            (".tar.gz", Kind::Tar(Compression::Gzip)),
            (".tbz2", Kind::Tar(Compression::Bzip2)),
            (".tar.bz2", Kind::Tar(Compression::Bzip2)),
            (".txz", Kind::Tar(Compression::Xz)),
            (".tar.xz", Kind::Tar(Compression::Xz)),
            (".zip", Kind::Zip),
            (".gz", Kind::Gzip),
        ];
        let name = path.file_name()?.to_str()?;
        ENDS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, kind)| *kind)
    }
}

/// Extracts the archive at `path` into `target`: first beside it, then, when all is well, moved.
pub(super) fn extract(
    kind: Kind,
    path: &Path,
    target: &Path,
    owner: Option<Owner>,
) -> Result<(), ArchiveError> {
    let file = BufReader::new(fs::File::open(path)?);
    if kind == Kind::Gzip {
        let name = path.file_stem().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
        let mut temporary = tempfile::NamedTempFile::with_prefix_in(".fetching-", target)?;
        io::copy(&mut MultiGzDecoder::new(file), &mut temporary)?;
        finish(temporary, &target.join(name), 0o644, owner)?;
        return Ok(());
    }
    let staging = tempfile::Builder::new().prefix(".extracting-").tempdir_in(target)?;
    match kind {
        Kind::Tar(Compression::None) => untar(file, staging.path())?,
        Kind::Tar(Compression::Gzip) => untar(MultiGzDecoder::new(file), staging.path())?,
        Kind::Tar(Compression::Bzip2) => untar(MultiBzDecoder::new(file), staging.path())?,
        Kind::Tar(Compression::Xz) => untar(XzReader::new(file, true), staging.path())?,
        Kind::Zip | Kind::Gzip => {
            let mut archive = zip::ZipArchive::new(file)?;
            archive.extract(staging.path())?;
        }
    }
    merge(staging.path(), target, owner)?;
    Ok(())
}

fn untar(reader: impl Read, target: &Path) -> Result<(), ArchiveError> {
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        // It refuses what would be written outside, also through links.
        if !entry.unpack_in(target)? {
            return Err(ArchiveError::Outside(entry.path()?.into_owned()));
        }
    }
    // A truncated stream shows at its end at the latest.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

/// Moves all of `from` into `to`; directories that are there already are joined.
fn merge(from: &Path, to: &Path, owner: Option<Owner>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        own(&source, owner)?;
        let is_directory = entry.file_type()?.is_dir();
        if is_directory && fs::symlink_metadata(&target).is_ok_and(|there| there.is_dir()) {
            merge(&source, &target, owner)?;
            continue;
        }
        if is_directory {
            own_all(&source, owner)?;
        }
        fs::rename(&source, &target)?;
    }
    Ok(())
}

fn own_all(folder: &Path, owner: Option<Owner>) -> io::Result<()> {
    if owner.is_none() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        own(&entry.path(), owner)?;
        if entry.file_type()?.is_dir() {
            own_all(&entry.path(), owner)?;
        }
    }
    Ok(())
}
