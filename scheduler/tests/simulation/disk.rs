//! A machine's disk, of which a loss of power leaves what was synced, and any part of the rest.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use calico_scheduler::state::disk::{self, DiskFile, Lock};
use fake_master::Random;

use crate::process::STATE_FILE;
use crate::wire::Wire;

/// See above. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<Files>>);

#[derive(Debug, Default)]
struct Files {
    /// By name, as programs see them.
    seen: BTreeMap<PathBuf, Contents>,
    /// By name, as they were when their directory was synced.
    synced: BTreeMap<PathBuf, Contents>,
    /// What was done to names since then.
    renamed: Vec<Named>,
    /// Locks, and who holds them.
    locks: BTreeMap<PathBuf, String>,
    full: bool,
    /// What a file held when its directory was synced, and when; as far as nobody has asked.
    kept: Vec<(Duration, Vec<u8>)>,
}

/// What a file holds, whatever its name.
type Contents = Arc<Mutex<Content>>;

#[derive(Debug, Default)]
struct Content {
    seen: Vec<u8>,
    synced: Vec<u8>,
}

/// A file got this name, instead of another.
#[derive(Debug)]
struct Named {
    to: PathBuf,
    from: Option<PathBuf>,
    contents: Contents,
}

impl Disk {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap()
    }

    /// Who holds a lock.
    pub fn holder(&self, lock: &Path) -> Option<String> {
        self.files().locks.get(lock).cloned()
    }

    /// What a file would hold if the power went now, and all was lost that may be. What is being written may be there
    /// instead: what relies on that must wait until it is synced.
    pub fn surely(&self, path: &Path) -> Option<Vec<u8>> {
        let files = self.files();
        let kept = files.synced.get(path)?;
        let kept = kept.lock().unwrap().synced.clone();
        Some(kept)
    }

    /// What a file has held since the last question, and since when it outlives a loss of power.
    pub fn kept(&self) -> Vec<(Duration, Vec<u8>)> {
        std::mem::take(&mut self.files().kept)
    }

    /// No room is left on it, or there is again.
    pub fn set_full(&self, full: bool) {
        self.files().full = full;
    }

    /// The file is replaced by a person.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let contents: Contents = Arc::new(Mutex::new(Content { seen: bytes.clone(), synced: bytes }));
        let mut files = self.files();
        files.seen.insert(path.to_owned(), Arc::clone(&contents));
        files.synced.insert(path.to_owned(), contents);
        files.renamed.clear();
    }

    /// The power goes: of what was not synced any part is lost.
    pub fn lose_power(&self, random: &mut Random) {
        let files = &mut *self.files();
        let kept = usize::try_from(random.below(files.renamed.len() as u64 + 1)).unwrap();
        let mut names = files.synced.clone();
        for Named { to, from, contents } in std::mem::take(&mut files.renamed).into_iter().take(kept) {
            if let Some(from) = from {
                names.remove(&from);
            }
            names.insert(to, contents);
        }
        for contents in names.values().chain(files.seen.values()) {
            let content = &mut *contents.lock().unwrap();
            if content.seen != content.synced {
                let length = usize::try_from(random.below(content.seen.len() as u64 + 1)).unwrap();
                content.synced = content.seen[..length].to_vec();
            }
            content.seen.clone_from(&content.synced);
        }
        files.seen.clone_from(&names);
        files.synced = names;
        files.locks.clear();
    }
}

/// As a process has it, which may die with each operation.
#[derive(Debug, Clone)]
pub struct Mounted {
    pub disk: Disk,
    pub wire: Wire,
    pub process: String,
}

struct Guard(Disk, PathBuf, String);

impl Drop for Guard {
    fn drop(&mut self) {
        let mut files = self.0.files();
        if files.locks.get(&self.1) == Some(&self.2) {
            files.locks.remove(&self.1);
        }
    }
}

struct Open(Mounted, Contents);

fn ended() -> io::Error {
    io::Error::other("the process has ended")
}

impl Mounted {
    /// Does something that is done as a whole or not at all.
    fn operate<T>(&self, operation: impl FnOnce(&mut Files) -> io::Result<T>) -> io::Result<T> {
        if self.wire.operation() { operation(&mut self.disk.files()) } else { Err(ended()) }
    }
}

impl disk::Disk for Mounted {
    fn make_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.operate(|files| {
            if files.locks.contains_key(path) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            files.locks.insert(path.to_owned(), self.process.clone());
            Ok(Box::new(Guard(self.disk.clone(), path.to_owned(), self.process.clone())) as Lock)
        })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let files = self.disk.files();
        let contents = files.seen.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(contents.lock().unwrap().seen.clone())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let contents = self.operate(|files| {
            if let Some(there) = files.seen.get(path) {
                there.lock().unwrap().seen.clear();
                return Ok(Arc::clone(there));
            }
            let contents = Contents::default();
            files.seen.insert(path.to_owned(), Arc::clone(&contents));
            let named = Named { to: path.to_owned(), from: None, contents: Arc::clone(&contents) };
            files.renamed.push(named);
            Ok(contents)
        })?;
        Ok(Box::new(Open(self.clone(), contents)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(|files| {
            let contents = files.seen.remove(from).ok_or(io::ErrorKind::NotFound)?;
            files.seen.insert(to.to_owned(), Arc::clone(&contents));
            files.renamed.push(Named { to: to.to_owned(), from: Some(from.to_owned()), contents });
            Ok(())
        })
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        self.operate(|files| {
            files.synced.clone_from(&files.seen);
            files.renamed.clear();
            if let Some(file) = files.synced.get(Path::new(STATE_FILE)) {
                let file = file.lock().unwrap().synced.clone();
                files.kept.push((self.wire.now(), file));
            }
            Ok(())
        })
    }
}

impl io::Write for Open {
    /// Half of it at a time: a process may end in between.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self(mounted, contents) = self;
        mounted.operate(|files| {
            if files.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let some = bytes.len().div_ceil(2);
            let some = if some < 4096 { bytes.len() } else { some };
            contents.lock().unwrap().seen.extend(&bytes[..some]);
            Ok(some)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for Open {
    fn sync(&mut self) -> io::Result<()> {
        let Self(mounted, contents) = self;
        mounted.operate(|_| {
            let content = &mut *contents.lock().unwrap();
            content.synced.clone_from(&content.seen);
            Ok(())
        })
    }
}
