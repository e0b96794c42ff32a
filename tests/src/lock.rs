//! Locks between processes: `flock` on files in the cache, which the kernel gives back however a process ends.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Context, Error, Result};
use crate::paths;

/// A lock that is held until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct Lock {
    file: File,
}

impl Lock {
    /// The lock as a program's standard input: it is held until that has ended, too.
    pub(crate) fn share(&self) -> Result<Stdio> {
        Ok(self.file.try_clone().at("share", Path::new("a lock"))?.into())
    }
}

/// Waits for the lock that every test on a real cluster holds, so that one runs at a time on a machine.
pub fn test_lock() -> Result<Lock> {
    wait("tests")
}

/// Waits for the lock `name`.
pub(crate) fn wait(name: &str) -> Result<Lock> {
    let (path, file) = open(name)?;
    flock(&file, FlockOperation::LockExclusive).at("lock", &path)?;
    Ok(Lock { file })
}

/// How long a lock may still be held by what a dead process has left: the child that it forked last holds the lock, too,
/// until it executes its program.
const AFTER_DEATH: Duration = Duration::from_secs(2);

/// Takes the lock of a cluster's `up` and `down`, or says that another process holds it.
pub(crate) fn of_cluster(name: &str) -> Result<Lock> {
    let (path, file) = open(&format!("cluster-{name}"))?;
    let started = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock { file }),
            Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < AFTER_DEATH => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Busy(name.to_owned())),
            Err(error) => return Err(error).at("lock", &path),
        }
    }
}

fn open(name: &str) -> Result<(PathBuf, File)> {
    let folder = Path::new(paths::CACHE).join("locks");
    std::fs::create_dir_all(&folder).at("create", &folder)?;
    let path = folder.join(name);
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path).at("open", &path)?;
    Ok((path, file))
}
