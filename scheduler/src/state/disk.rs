//! What the file store needs of a file system. A simulation has one of its own, in which a process or the power may end
//! between any two of these operations; all else it runs as it is.

use std::any::Any;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// A lock that is held until this is dropped, or the process ends.
pub type Lock = Box<dyn Any + Send>;

/// A file system.
pub trait Disk: Send + Sync {
    /// Makes a directory, and those above it.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Locks a file, which is made when there is none: [`io::ErrorKind::WouldBlock`] when another holds it.
    fn lock(&self, path: &Path) -> io::Result<Lock>;

    /// All that a file holds.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// An empty file, in place of one that is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in place of one that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// What was created and renamed in a directory outlives a loss of power from now on.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub trait DiskFile: io::Write {
    /// What was written outlives a loss of power from now on.
    fn sync(&mut self) -> io::Result<()>;
}

/// The machine's.
#[derive(Debug, Clone, Copy)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
