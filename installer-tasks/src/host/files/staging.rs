//! Replacing a file: written and synced elsewhere, then renamed into its place.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{FileError, Files, Print, Result, copy_hashed, parent};
use crate::host::disk::NewFile;

/// Made in a directory that has no other of its filesystem beside it.
pub(super) const STAGING_DIRECTORY: &str = ".calico-dcos";

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
    pub(super) fn directories(self, target: &Path) -> Vec<PathBuf> {
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

/// The name is always the same: what a crash left is overwritten, not collected.
pub(super) fn staged_in(directory: &Path, target: &Path) -> PathBuf {
    directory.join(format!(".{}.calico-dcos", target.file_name().unwrap_or_default().to_string_lossy()))
}

/// A new file that is written and synced, and not in its place yet.
#[derive(Debug)]
#[must_use = "it is not in its place yet"]
pub struct Staged {
    path: PathBuf,
}

impl Files {
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
}
