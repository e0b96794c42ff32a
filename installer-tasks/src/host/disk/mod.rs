//! The disk of the host, at the level of single operations, each of which happens as a whole or not at all.
//!
//! [`Disk`] is the seam between what we do to files ([`super::files`], [`crate::journal`]) and where it is done: on
//! the real disk, or in tests on a simulated one that loses power and keeps only what was synced.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation, flock};

#[cfg(test)]
pub mod simulated;

/// What kind of thing is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, a device, a socket.
    Other,
}

/// What is known of a path without opening it; links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// What it is.
    pub kind: Kind,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A file that is being written, under a name that nobody reads.
pub trait NewFile: Write {
    /// Gives it to a user and a group.
    fn set_owner(&mut self, uid: u32, gid: u32) -> io::Result<()>;
    /// Gives it permission bits.
    fn set_mode(&mut self, mode: u32) -> io::Result<()>;
    /// Makes its content, owner and mode survive a power cut; its name does with its directory.
    fn sync(&mut self) -> io::Result<()>;
}

/// A lock that was asked for without waiting.
#[derive(Debug)]
pub enum Locked {
    /// It is ours until this is dropped.
    Ours(Box<dyn Debug>),
    /// Another process has it.
    Theirs,
    /// The directory was removed or replaced meanwhile: to be asked for again.
    Gone,
}

/// Operations on files.
pub trait Disk: Debug {
    /// What is at `path`; `None` when nothing is.
    fn look(&self, path: &Path) -> io::Result<Option<Look>>;
    /// Reads a file.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>>;
    /// The paths in a directory, in any order.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;
    /// Where a path leads when all links are followed.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;
    /// Whether new files can be put into `directory` by us.
    fn is_writable(&self, directory: &Path) -> bool;
    /// Makes a file that only we read; it is an error when something is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;
    /// Gives a file another name, in place of what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes one directory.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory survive a power cut.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// Locks a directory against other processes.
    fn lock(&self, directory: &Path) -> io::Result<Locked>;
}

/// The disk itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn look(&self, path: &Path) -> io::Result<Option<Look>> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let kind = match metadata.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            _ => Kind::Other,
        };
        Ok(Some(Look { kind, mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(File::open(path)?))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn is_writable(&self, directory: &Path) -> bool {
        directory.is_dir() && rustix::fs::access(directory, Access::WRITE_OK).is_ok()
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn lock(&self, directory: &Path) -> io::Result<Locked> {
        let file = File::open(directory)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Locked::Theirs),
            Err(error) => return Err(error.into()),
        }
        // One that closed its journal may have removed the directory between our opening and our locking it.
        let ours = file.metadata()?;
        match fs::metadata(directory) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                Ok(Locked::Ours(Box::new(file)))
            }
            Ok(_) => Ok(Locked::Gone),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Locked::Gone),
            Err(error) => Err(error),
        }
    }
}

impl NewFile for File {
    fn set_owner(&mut self, uid: u32, gid: u32) -> io::Result<()> {
        fchown(&*self, Some(uid), Some(gid))
    }

    fn set_mode(&mut self, mode: u32) -> io::Result<()> {
        self.set_permissions(Permissions::from_mode(mode))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_not_on_a_directory_that_was_removed() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("state");
        fs::create_dir(&directory).unwrap();
        let first = RealDisk.lock(&directory).unwrap();
        assert!(matches!(first, Locked::Ours(_)));
        assert!(matches!(RealDisk.lock(&directory).unwrap(), Locked::Theirs));
        drop(first);
        assert!(matches!(RealDisk.lock(&directory).unwrap(), Locked::Ours(_)));
    }
}
