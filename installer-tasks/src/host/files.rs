//! Files: what is there, and replacing them so that a crash at any moment leaves the old one or the new one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::exit::{Exit, Failure};

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
            FileError::NotRegular(_) | FileError::WrongContent { .. } => Exit::Unsuitable,
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

/// What the file at `path` is, or `None` when there is none.
pub fn print_of(path: &Path) -> Result<Option<Print>> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io("look at", path)(error)),
    };
    if !metadata.is_file() {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    let sha256 = sha256_of(path)?;
    Ok(Some(Print { sha256, mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() }))
}

/// The SHA-256 of a file's content, in hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(FileError::io("open", path))?;
    copy_hashed(file, &mut io::sink()).map_err(FileError::io("read", path))
}

/// The SHA-256 of `content`, in hexadecimal.
pub fn sha256_hex(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// Copies without holding all of it in memory: tasks have little.
fn copy_hashed(mut from: impl Read, to: &mut impl Write) -> io::Result<String> {
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

/// The content of a file, or `None` when there is none.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::io("read", path)(error)),
    }
}

/// The paths in a directory, sorted; none when there is no such directory.
pub fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::io("list", directory)(error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(FileError::io("list", directory))?;
    paths.sort();
    Ok(paths)
}

/// Whether new files can be put into `directory` by us.
pub fn is_writable_directory(directory: &Path) -> bool {
    directory.is_dir() && rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Makes a directory and those above it.
pub fn make_directory(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(FileError::io("make", directory))
}

/// Made in a directory that has no other of its filesystem beside it.
const STAGING_DIRECTORY: &str = ".calico-dcos";

/// Where a new file is written before it is moved to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Staging {
    /// Beside it, under a name that begins with a dot.
    Beside,
    /// Outside its directory: every file of a directory of network configurations is parsed by Mesos.
    Outside,
}

impl Staging {
    /// The directories to write in, best first. All are on the target's filesystem, as a rename needs; a mount
    /// point has its parent elsewhere, and there a directory in it serves, since Mesos reads only files.
    fn directories(self, target: &Path) -> Vec<PathBuf> {
        let parent = target.parent().unwrap_or(Path::new("/"));
        match self {
            Self::Beside => vec![parent.to_owned()],
            Self::Outside => parent
                .parent()
                .map(Path::to_owned)
                .into_iter()
                .chain([parent.join(STAGING_DIRECTORY)])
                .collect(),
        }
    }
}

/// Puts a file in place: written elsewhere, synced, renamed, and its directory synced.
///
/// `open` gives the content; nothing is put in place when it does not have the hash that `print` names.
pub fn put<R: Read>(
    target: &Path,
    staging: Staging,
    open: impl Fn() -> io::Result<R>,
    print: &Print,
) -> Result<()> {
    let mut outcome = Ok(());
    for directory in staging.directories(target) {
        outcome = put_through(&directory, target, &open, print);
        // Another filesystem, or a directory that is not ours to write in: the next may do.
        if !matches!(outcome, Err(FileError::Io { .. })) {
            break;
        }
    }
    outcome?;
    sync_directory(target.parent().unwrap_or(Path::new("/")))
}

fn put_through<R: Read>(
    directory: &Path,
    target: &Path,
    open: &impl Fn() -> io::Result<R>,
    print: &Print,
) -> Result<()> {
    // A directory in the target's own, which Mesos does not read, is made for this and removed again.
    let ours = directory.ends_with(STAGING_DIRECTORY);
    if ours {
        make_directory(directory)?;
    }
    let staged = staged_in(directory, target);
    let outcome = write_new(&staged, open, print)
        .and_then(|()| fs::rename(&staged, target).map_err(FileError::io("put in place", target)));
    if outcome.is_err() {
        let _ = fs::remove_file(&staged);
    }
    if ours {
        let _ = fs::remove_dir(directory);
    }
    outcome
}

/// The name is always the same: what a crash left is overwritten, not collected.
fn staged_in(directory: &Path, target: &Path) -> PathBuf {
    directory.join(format!(".{}.calico-dcos", target.file_name().unwrap_or_default().to_string_lossy()))
}

/// Removes what a crash in [`put`] may have left.
pub fn clear_leftovers(target: &Path, staging: Staging) -> Result<()> {
    for directory in staging.directories(target) {
        let staged = staged_in(&directory, target);
        if staged.exists() {
            remove(&staged)?;
        }
        if directory.ends_with(STAGING_DIRECTORY) {
            let _ = fs::remove_dir(directory);
        }
    }
    Ok(())
}

fn write_new<R: Read>(path: &Path, open: &impl Fn() -> io::Result<R>, print: &Print) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::io("remove the leftover", path)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(FileError::io("create", path))?;
    let mut finish = || {
        let content = open().map_err(FileError::io("open the content of", path))?;
        let actual = copy_hashed(content, &mut file).map_err(FileError::io("write", path))?;
        if actual != print.sha256 {
            return Err(FileError::WrongContent {
                path: path.to_owned(),
                expected: print.sha256.clone(),
                actual,
            });
        }
        // The owner first: changing it clears the set-user-ID bits.
        chown(path, Some(print.uid), Some(print.gid)).map_err(FileError::io("give an owner to", path))?;
        file.set_permissions(Permissions::from_mode(print.mode))
            .map_err(FileError::io("give a mode to", path))?;
        file.sync_all().map_err(FileError::io("sync", path))
    };
    finish().inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Removes a file, if it is there, for good.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(path.parent().unwrap_or(Path::new("/"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::io("remove", path)(error)),
    }
}

/// Makes what was renamed or removed in `directory` survive a power cut.
pub fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(FileError::io("sync", directory))
}

/// Makes a file executable.
pub fn make_executable(path: &Path) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(FileError::io("make executable", path))
}

/// The user and group that new files get: ours.
pub fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(content: &[u8], mode: u32) -> Print {
        let (uid, gid) = own_ids();
        Print { sha256: sha256_hex(content), mode, uid, gid }
    }

    #[test]
    fn a_put_file_has_content_and_mode_and_leaves_nothing_beside() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("calico");
        for (content, mode) in [(&b"one"[..], 0o755), (b"two", 0o644)] {
            put(&target, Staging::Beside, || Ok(content), &print(content, mode)).unwrap();
            assert_eq!(print_of(&target).unwrap(), Some(print(content, mode)));
        }
        assert_eq!(list(directory.path()).unwrap(), [target]);
    }

    #[test]
    fn other_content_than_promised_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("calico");
        put(&target, Staging::Beside, || Ok(&b"good"[..]), &print(b"good", 0o755)).unwrap();
        let error = put(&target, Staging::Beside, || Ok(&b"evil"[..]), &print(b"better", 0o755)).unwrap_err();
        assert!(matches!(error, FileError::WrongContent { .. }), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"good");
        assert_eq!(list(directory.path()).unwrap(), [target]);
    }

    #[test]
    fn a_crash_s_leftover_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("calico");
        fs::write(directory.path().join(".calico.calico-dcos"), "half of a longer content").unwrap();
        put(&target, Staging::Beside, || Ok(&b"new"[..]), &print(b"new", 0o755)).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(list(directory.path()).unwrap(), [target]);
    }

    /// Is read while the staged file is open: at that moment the directory must be empty.
    struct Spy<'a>(&'a Path, bool);

    impl Read for Spy<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            assert!(list(self.0).unwrap().is_empty());
            if std::mem::replace(&mut self.1, true) {
                return Ok(0);
            }
            buffer[..2].copy_from_slice(b"{}");
            Ok(2)
        }
    }

    #[test]
    fn staging_outside_never_writes_in_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("net.d");
        fs::create_dir(&config).unwrap();
        let target = config.join("calico.conf");
        put(&target, Staging::Outside, || Ok(Spy(&config, false)), &print(b"{}", 0o644)).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"{}");
        assert_eq!(list(directory.path()).unwrap(), [config]);
    }

    #[test]
    fn the_directory_can_be_a_mount_point() {
        // The one directory that is a mount point everywhere, its parent on another filesystem.
        let target = PathBuf::from(format!("/dev/shm/calico-installer-test-{}", std::process::id()));
        put(&target, Staging::Outside, || Ok(&b"{}"[..]), &print(b"{}", 0o644)).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"{}");
        for directory in Staging::Outside.directories(&target) {
            assert!(!staged_in(&directory, &target).exists());
        }
        assert!(!Path::new("/dev/shm").join(STAGING_DIRECTORY).exists());
        remove(&target).unwrap();
    }

    #[test]
    fn links_and_directories_are_not_taken_for_files() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("calico");
        std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
        assert!(matches!(print_of(&link), Err(FileError::NotRegular(_))));
        assert!(matches!(print_of(directory.path()), Err(FileError::NotRegular(_))));
        assert_eq!(print_of(&directory.path().join("none")).unwrap(), None);
    }
}
