//! Files: what is there, and replacing them so that a crash at any moment leaves the old one or the new one.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::disk::{Disk, Kind, Look, RealDisk};
use crate::exit::{Exit, Failure};

mod staging;
#[cfg(test)]
mod tests;

pub use staging::{Staged, Staging};

/// Something that could not be done to a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Something else than a regular file is where one should be.
    #[error("{} is not a regular file: move it away", .0.display())]
    NotRegular(PathBuf),
    /// A link that leads nowhere.
    #[error("{} is a link to something that is not there: remove it, or make what it leads to", .0.display())]
    Dangling(PathBuf),
    /// Something else than a directory is where one should be.
    #[error("{} is not a directory: move it away", .0.display())]
    NotDirectory(PathBuf),
    /// The content is not what it should be.
    #[error("{} has SHA-256 {actual}, not {expected}", path.display())]
    WrongContent {
        /// The file.
        path: PathBuf,
        /// The hash that it should have.
        expected: String,
        /// The hash that it has.
        actual: String,
    },
}

impl FileError {
    /// For `map_err`: `action` on `path` failed.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let exit = match &error {
            FileError::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Exit::NotPermitted,
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Exit::Unsuitable,
                _ => Exit::TryAgain,
            },
            FileError::NotRegular(_)
            | FileError::Dangling(_)
            | FileError::NotDirectory(_)
            | FileError::WrongContent { .. } => Exit::Unsuitable,
        };
        Self::new(exit, error.to_string())
    }
}

/// A result about files.
pub type Result<T, E = FileError> = std::result::Result<T, E>;

/// All that is compared of, and given back to, a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// The SHA-256 of its content, in hexadecimal.
    pub sha256: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// The SHA-256 of a file's content on the real disk, in hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String> {
    Files::default().sha256_of(path)
}

/// The SHA-256 of `content`, in hexadecimal.
pub fn sha256_hex(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// Copies without holding all of it in memory: tasks have little.
fn copy_hashed(mut from: impl Read, to: &mut (impl Write + ?Sized)) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hex::encode(hash.finalize())),
            Ok(count) => {
                hash.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// When a file on the real disk was last changed or put in its place; `None` when there is none.
pub fn changed_at(path: &Path) -> Option<SystemTime> {
    let metadata = fs::metadata(path).ok()?;
    let since = Duration::new(metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?);
    Some(SystemTime::UNIX_EPOCH + since)
}

/// Makes a file of ours executable.
pub fn make_executable(path: &Path) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(FileError::io("make executable", path))
}

/// Makes a directory and those above it, on the real disk.
pub fn make_directory(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(FileError::io("make", directory))
}

/// The user and group that new files get: ours.
pub fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// The directory that a path is in.
fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// The files of a host.
#[derive(Debug, Clone)]
pub struct Files {
    disk: Arc<dyn Disk>,
}

impl Default for Files {
    /// Those of the real disk.
    fn default() -> Self {
        Self::on(Arc::new(RealDisk))
    }
}

impl Files {
    /// The files on `disk`.
    pub fn on(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    /// The disk itself.
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    fn look(&self, path: &Path) -> Result<Option<Look>> {
        self.disk.look(path).map_err(FileError::io("look at", path))
    }

    /// What the file at `path` is, or `None` when there is none. Links are refused: see [`Self::resolve`].
    pub fn print_of(&self, path: &Path) -> Result<Option<Print>> {
        match self.look(path)? {
            None => Ok(None),
            Some(Look { kind: Kind::File, mode, uid, gid }) => {
                Ok(Some(Print { sha256: self.sha256_of(path)?, mode, uid, gid }))
            }
            Some(_) => Err(FileError::NotRegular(path.to_owned())),
        }
    }

    /// Whether `path` is a regular file, or leads to one.
    pub fn is_file(&self, path: &Path) -> bool {
        let look = self.disk.resolve(path).and_then(|target| self.disk.look(&target));
        look.is_ok_and(|look| look.is_some_and(|look| look.kind == Kind::File))
    }

    /// Whether `path` is a directory; something else there is an error.
    pub fn has_directory(&self, path: &Path) -> Result<bool> {
        // A link to a directory serves as one.
        let target = self.resolve(path)?;
        match self.look(&target)? {
            None => Ok(false),
            Some(look) if look.kind == Kind::Directory => Ok(true),
            Some(_) => Err(FileError::NotDirectory(path.to_owned())),
        }
    }

    /// Where `path` really is: links are followed, also to a file that is not there yet in a directory that is.
    ///
    /// A step that may find a link where its file should be (an administrator's `/etc/docker/daemon.json`) asks
    /// this first, and then speaks of nothing but the result: so the link stays, and what it leads to is written,
    /// recorded and taken back.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf> {
        match self.disk.resolve(path) {
            Ok(target) => Ok(target),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.look(path)? {
                Some(_) => Err(FileError::Dangling(path.to_owned())),
                None => Ok(path.to_owned()),
            },
            Err(error) => Err(FileError::io("follow", path)(error)),
        }
    }

    /// The SHA-256 of a file's content, in hexadecimal.
    pub fn sha256_of(&self, path: &Path) -> Result<String> {
        let file = self.disk.open(path).map_err(FileError::io("open", path))?;
        copy_hashed(file, &mut io::sink()).map_err(FileError::io("read", path))
    }

    /// The content of a file, or `None` when there is none.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let mut content = Vec::new();
        match self.disk.open(path).and_then(|mut file| file.read_to_end(&mut content)) {
            Ok(_) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::io("read", path)(error)),
        }
    }

    /// The paths in a directory, sorted; none when there is no such directory.
    pub fn list(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        match self.disk.list(directory) {
            Ok(mut paths) => {
                paths.sort();
                Ok(paths)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(FileError::io("list", directory)(error)),
        }
    }

    /// Whether new files can be put into `directory` by us.
    pub fn is_writable_directory(&self, directory: &Path) -> bool {
        self.disk.is_writable(directory)
    }

    /// Those of `directory` and the directories above it that are not there, the uppermost first.
    pub fn missing_directories(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        let mut missing = Vec::new();
        for above in directory.ancestors().filter(|above| !above.as_os_str().is_empty()) {
            if self.has_directory(above)? {
                break;
            }
            missing.push(above.to_owned());
        }
        missing.reverse();
        Ok(missing)
    }

    /// Makes a directory and those above it, for good.
    pub fn make_directory(&self, directory: &Path) -> Result<()> {
        for missing in self.missing_directories(directory)? {
            match self.disk.make_directory(&missing) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(FileError::io("make the directory", missing)(error));
                }
                _ => self.sync_directory(parent(&missing))?,
            }
        }
        // A crash may have come between the making and the sync.
        self.sync_directory(parent(directory))
    }

    /// Removes a directory if it is there and empty, for good; says whether it is gone.
    pub fn remove_empty_directory(&self, directory: &Path) -> Result<bool> {
        match self.disk.remove_directory(directory) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::io("remove the directory", directory)(error))
            }
            _ => self.sync_directory(parent(directory)).map(|()| true),
        }
    }

    /// Removes a directory, if it is there, with all that is in it, for good. Links in it are removed, not followed.
    pub fn remove_directory_with_all(&self, directory: &Path) -> Result<()> {
        for path in self.list(directory)? {
            match self.look(&path)?.map(|look| look.kind) {
                Some(Kind::Directory) => self.remove_directory_with_all(&path)?,
                Some(_) => self.remove(&path)?,
                None => {}
            }
        }
        self.remove_empty_directory(directory).map(drop)
    }

    /// Removes a file, if it is there, for good.
    pub fn remove(&self, path: &Path) -> Result<()> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::io("remove", path)(error))
            }
            // Also when it was gone already: a crash may have come between the removal and the sync.
            _ => self.sync_directory(parent(path)),
        }
    }

    /// Makes what was made, renamed or removed in `directory` survive a power cut; one that is gone has nothing.
    pub fn sync_directory(&self, directory: &Path) -> Result<()> {
        match self.disk.sync_directory(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::io("sync", directory)(error))
            }
            _ => Ok(()),
        }
    }
}
