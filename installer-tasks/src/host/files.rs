//! Files: what is there, and replacing them so that a crash at any moment leaves the old one or the new one.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::disk::{Disk, Kind, Look, NewFile, RealDisk};
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
        let parent = parent(target);
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

/// The directory that a path is in.
fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// The name is always the same: what a crash left is overwritten, not collected.
fn staged_in(directory: &Path, target: &Path) -> PathBuf {
    directory.join(format!(".{}.calico-dcos", target.file_name().unwrap_or_default().to_string_lossy()))
}

/// A new file that is written and synced, and not in its place yet.
#[derive(Debug)]
#[must_use = "it is not in its place yet"]
pub struct Staged {
    path: PathBuf,
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

    /// Puts a file in place: written elsewhere, synced, renamed, and its directory synced.
    ///
    /// `open` gives the content; nothing is put in place when it does not have the hash that `print` names.
    pub fn put<R: Read>(
        &self,
        target: &Path,
        staging: Staging,
        open: impl Fn() -> io::Result<R>,
        print: &Print,
    ) -> Result<()> {
        let staged = self.stage(target, staging, &open, print)?;
        self.place(staged, target, staging, &open, print)
    }

    /// The first half of [`Self::put`], which changes nothing that anyone reads: full disks are met here.
    pub fn stage<R: Read>(
        &self,
        target: &Path,
        staging: Staging,
        open: &impl Fn() -> io::Result<R>,
        print: &Print,
    ) -> Result<Staged> {
        self.stage_in(&staging.directories(target), target, open, print)
    }

    /// The second half of [`Self::put`]: one rename.
    pub fn place<R: Read>(
        &self,
        staged: Staged,
        target: &Path,
        staging: Staging,
        open: &impl Fn() -> io::Result<R>,
        print: &Print,
    ) -> Result<()> {
        let directories = staging.directories(target);
        let mut staged = staged.path;
        while let Err(error) = self.disk.rename(&staged, target) {
            self.discard(&staged);
            let tried = directories.iter().position(|directory| staged.parent() == Some(directory));
            let others = tried.and_then(|tried| directories.get(tried + 1..)).unwrap_or_default();
            if error.kind() != io::ErrorKind::CrossesDevices || others.is_empty() {
                return Err(FileError::io("put in place", target)(error));
            }
            staged = self.stage_in(others, target, open, print)?.path;
        }
        self.sync_directory(parent(target))?;
        let from = parent(&staged);
        if from.ends_with(STAGING_DIRECTORY) {
            self.remove_empty_directory(from)?;
        } else if from != parent(target) {
            self.sync_directory(from)?;
        }
        Ok(())
    }

    fn stage_in<R: Read>(
        &self,
        directories: &[PathBuf],
        target: &Path,
        open: &impl Fn() -> io::Result<R>,
        print: &Print,
    ) -> Result<Staged> {
        let mut outcome = Err(FileError::NotDirectory(parent(target).to_owned()));
        for directory in directories {
            let path = staged_in(directory, target);
            // A directory in the target's own, which Mesos does not read, is made for this and removed again.
            let made =
                if directory.ends_with(STAGING_DIRECTORY) { self.make_directory(directory) } else { Ok(()) };
            outcome = made
                .and_then(|()| self.write_new(&path, open, print))
                .inspect_err(|_| self.discard(&path))
                .map(|()| Staged { path });
            // A directory that is not ours to write in: the next may do.
            if !matches!(outcome, Err(FileError::Io { .. })) {
                break;
            }
        }
        outcome
    }

    fn write_new<R: Read>(
        &self,
        path: &Path,
        open: &impl Fn() -> io::Result<R>,
        print: &Print,
    ) -> Result<()> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::io("remove the leftover", path)(error));
            }
            _ => {}
        }
        let mut file: Box<dyn NewFile> = self.disk.create(path).map_err(FileError::io("create", path))?;
        let content = open().map_err(FileError::io("open the content of", path))?;
        let actual = copy_hashed(content, &mut *file).map_err(FileError::io("write", path))?;
        if actual != print.sha256 {
            return Err(FileError::WrongContent {
                path: path.to_owned(),
                expected: print.sha256.clone(),
                actual,
            });
        }
        // The owner first: changing it clears the set-user-ID bits.
        file.set_owner(print.uid, print.gid).map_err(FileError::io("give an owner to", path))?;
        file.set_mode(print.mode).map_err(FileError::io("give a mode to", path))?;
        file.sync().map_err(FileError::io("sync", path))
    }

    /// Removes what was staged, as far as that goes: what is left is overwritten the next time.
    fn discard(&self, staged: &Path) {
        let _ = self.disk.remove(staged);
        if parent(staged).ends_with(STAGING_DIRECTORY) {
            let _ = self.disk.remove_directory(parent(staged));
        }
    }

    /// Removes what [`Self::stage`], or a crash in it, left.
    pub fn clear_leftovers(&self, target: &Path, staging: Staging) -> Result<()> {
        for directory in staging.directories(target) {
            self.remove(&staged_in(&directory, target))?;
            if directory.ends_with(STAGING_DIRECTORY) {
                self.remove_empty_directory(&directory)?;
            }
        }
        Ok(())
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
            Files::default().put(&target, Staging::Beside, || Ok(content), &print(content, mode)).unwrap();
            assert_eq!(Files::default().print_of(&target).unwrap(), Some(print(content, mode)));
        }
        assert_eq!(Files::default().list(directory.path()).unwrap(), [target]);
    }

    #[test]
    fn other_content_than_promised_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("calico");
        Files::default().put(&target, Staging::Beside, || Ok(&b"good"[..]), &print(b"good", 0o755)).unwrap();
        let error = Files::default()
            .put(&target, Staging::Beside, || Ok(&b"evil"[..]), &print(b"better", 0o755))
            .unwrap_err();
        assert!(matches!(error, FileError::WrongContent { .. }), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"good");
        assert_eq!(Files::default().list(directory.path()).unwrap(), [target]);
    }

    #[test]
    fn a_crash_s_leftover_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("calico");
        fs::write(directory.path().join(".calico.calico-dcos"), "half of a longer content").unwrap();
        Files::default().put(&target, Staging::Beside, || Ok(&b"new"[..]), &print(b"new", 0o755)).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(Files::default().list(directory.path()).unwrap(), [target]);
    }

    /// Is read while the staged file is open: at that moment the directory must be empty.
    struct Spy<'a>(&'a Path, bool);

    impl Read for Spy<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            assert!(Files::default().list(self.0).unwrap().is_empty());
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
        Files::default()
            .put(&target, Staging::Outside, || Ok(Spy(&config, false)), &print(b"{}", 0o644))
            .unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"{}");
        assert_eq!(Files::default().list(directory.path()).unwrap(), [config]);
    }

    #[test]
    fn the_directory_can_be_a_mount_point() {
        // The one directory that is a mount point everywhere, its parent on another filesystem.
        let target = PathBuf::from(format!("/dev/shm/calico-installer-test-{}", std::process::id()));
        Files::default().put(&target, Staging::Outside, || Ok(&b"{}"[..]), &print(b"{}", 0o644)).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"{}");
        for directory in Staging::Outside.directories(&target) {
            assert!(!staged_in(&directory, &target).exists());
        }
        assert!(!Path::new("/dev/shm").join(STAGING_DIRECTORY).exists());
        Files::default().remove(&target).unwrap();
    }

    #[test]
    fn links_and_directories_are_not_taken_for_files() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("calico");
        std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
        assert!(matches!(Files::default().print_of(&link), Err(FileError::NotRegular(_))));
        assert!(matches!(Files::default().print_of(directory.path()), Err(FileError::NotRegular(_))));
        assert_eq!(Files::default().print_of(&directory.path().join("none")).unwrap(), None);
    }
}
