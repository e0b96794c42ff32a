//! Locks between processes: `flock` on files in the cache, which the kernel gives back however a process ends.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Context, Error, Result};
use crate::paths;

/// A lock that is held until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct Lock {
    _file: File,
}

/// Waits for the lock that every test on a real cluster holds, so that one runs at a time on a machine.
pub fn test_lock() -> Result<Lock> {
    wait("tests")
}

/// Waits for the lock `name`.
pub(crate) fn wait(name: &str) -> Result<Lock> {
    let (path, file) = open(name)?;
    flock(&file, FlockOperation::LockExclusive).at("lock", &path)?;
    Ok(Lock { _file: file })
}

/// Takes the lock of a cluster's `up` and `down`, or says that another process holds it.
pub(crate) fn of_cluster(name: &str) -> Result<Lock> {
    let (path, file) = open(&format!("cluster-{name}"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Busy(name.to_owned())),
        Err(error) => Err(error).at("lock", &path),
    }
}

fn open(name: &str) -> Result<(PathBuf, File)> {
    let folder = Path::new(paths::CACHE).join("locks");
    std::fs::create_dir_all(&folder).at("create", &folder)?;
    let path = folder.join(name);
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path).at("open", &path)?;
    Ok((path, file))
}
