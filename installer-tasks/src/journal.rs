//! What was changed on this host, and what was there before, so that it can be taken back.
//!
//! On disk, in files that only their owner reads:
//!
//! ```text
//! journal.json     {"version":1,"files":[{"step","path","staging","before","wrote"}, …]}
//! backup/<sha256>  contents that were replaced
//! ```
//!
//! A change is recorded, and the record synced, before it is made. What was there before the *first* change of a
//! file is kept through all later ones.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure, Result};
use crate::host::files::{self, FileError, Print, Staging};

/// The form of journal.json that this version writes and reads.
const VERSION: u32 = 1;

/// One file that we changed, or are about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which step changed it.
    pub step: String,
    /// The file.
    pub path: PathBuf,
    /// How it is put in place.
    pub staging: Staging,
    /// What was there before; `None` when nothing was.
    pub before: Option<Print>,
    /// The SHA-256 of what we wrote. After a crash it may hold both the last content and the one that was to
    /// replace it.
    pub wrote: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    files: Vec<Entry>,
}

/// The journal, locked against other installers for as long as it lives.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    files: Vec<Entry>,
    _lock: File,
}

impl Journal {
    /// Opens the journal in `directory`, which is made if it is missing.
    pub fn open(directory: &Path) -> Result<Self> {
        loop {
            files::make_directory(directory)?;
            files::sync_directory(directory.parent().unwrap_or(Path::new("/")))?;
            let lock = lock(directory)?;
            // One that closed its journal may have removed the directory between our opening and our locking it.
            if is_at(&lock, directory)? {
                return Ok(Self {
                    directory: directory.to_owned(),
                    files: Self::read(directory)?,
                    _lock: lock,
                });
            }
        }
    }

    /// The entries in `directory`, without a lock and without making anything.
    pub fn read(directory: &Path) -> Result<Vec<Entry>> {
        let path = directory.join("journal.json");
        let Some(content) = files::read(&path)? else { return Ok(Vec::new()) };
        let document: Document = serde_json::from_slice(&content).map_err(|error| {
            Failure::unsuitable(format!("{} is not a journal of calico-installer", path.display()))
                .because(error)
        })?;
        if document.version != VERSION {
            return Err(Failure::unsuitable(format!(
                "{} has version {}, and this calico-installer knows {VERSION}: use the one that wrote it",
                path.display(),
                document.version
            )));
        }
        Ok(document.files)
    }

    /// A step's entries, in the order of the changes.
    pub fn of_step(&self, step: &str) -> Vec<Entry> {
        self.files.iter().filter(|entry| entry.step == step).cloned().collect()
    }

    /// Records that `step` is about to give `path` a content of the hash `sha256`.
    pub fn about_to_write(&mut self, step: &str, path: &Path, staging: Staging, sha256: &str) -> Result<()> {
        if let Some(entry) = self.files.iter_mut().find(|entry| entry.path == path) {
            if entry.wrote.iter().any(|wrote| wrote == sha256) {
                return Ok(());
            }
            entry.wrote.push(sha256.to_owned());
        } else {
            let before = files::print_of(path)?;
            if let Some(print) = &before {
                self.back_up(path, print)?;
            }
            let wrote = vec![sha256.to_owned()];
            self.files.push(Entry { step: step.to_owned(), path: path.to_owned(), staging, before, wrote });
        }
        self.save()
    }

    /// Records that what is at `path` was seen to have the hash `sha256`, if we ever changed it.
    pub fn has_written(&mut self, path: &Path, sha256: &str) -> Result<()> {
        match self.files.iter_mut().find(|entry| entry.path == path) {
            Some(entry) if entry.wrote != [sha256] => entry.wrote = vec![sha256.to_owned()],
            _ => return Ok(()),
        }
        self.save()
    }

    /// Takes one file back to what was there before, and verifies that it is.
    pub fn restore(&mut self, entry: &Entry) -> Result<()> {
        files::clear_leftovers(&entry.path, entry.staging)?;
        match &entry.before {
            None => files::remove(&entry.path)?,
            Some(print) => {
                let backup = self.backup(print);
                files::put(&entry.path, entry.staging, || File::open(&backup), print)?;
            }
        }
        if files::print_of(&entry.path)? != entry.before {
            return Err(Failure::new(
                Exit::TryAgain,
                format!("{} was taken back, but something changed it again at once", entry.path.display()),
            ));
        }
        self.forget(&entry.path)
    }

    /// Drops the record of a file, and with the last one everything that the journal made.
    pub fn forget(&mut self, path: &Path) -> Result<()> {
        let dropped: Vec<Entry> = self.files.extract_if(.., |entry| entry.path == path).collect();
        if self.files.is_empty() {
            files::clear_leftovers(&self.path(), Staging::Beside)?;
            files::remove(&self.path())?;
        } else {
            self.save()?;
        }
        for print in dropped.iter().filter_map(|entry| entry.before.as_ref()) {
            let needed = self
                .files
                .iter()
                .filter_map(|entry| entry.before.as_ref())
                .any(|it| it.sha256 == print.sha256);
            if !needed {
                files::remove(&self.backup(print))?;
            }
        }
        self.close();
        Ok(())
    }

    /// Removes directories of ours that are empty.
    pub fn close(&self) {
        let _ = std::fs::remove_dir(self.directory.join("backup"));
        let _ = std::fs::remove_dir(&self.directory);
    }

    fn path(&self) -> PathBuf {
        self.directory.join("journal.json")
    }

    fn backup(&self, print: &Print) -> PathBuf {
        self.directory.join("backup").join(&print.sha256)
    }

    fn back_up(&self, path: &Path, print: &Print) -> Result<()> {
        let backup = self.backup(print);
        if files::print_of(&backup)?.is_some_and(|there| there.sha256 == print.sha256) {
            return Ok(());
        }
        files::make_directory(&self.directory.join("backup"))?;
        files::sync_directory(&self.directory)?;
        files::put(&backup, Staging::Beside, || File::open(path), &private(print.sha256.clone()))?;
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let document = Document { version: VERSION, files: self.files.clone() };
        let content = serde_json::to_vec_pretty(&document).map_err(|error| {
            Failure::new(Exit::Bug, "the journal cannot be written as JSON").because(error)
        })?;
        let print = private(files::sha256_hex(&content));
        files::put(&self.path(), Staging::Beside, || io::Result::Ok(&content[..]), &print)?;
        Ok(())
    }
}

fn lock(directory: &Path) -> Result<File> {
    let file = File::open(directory).map_err(FileError::io("open", directory))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Failure::new(
            Exit::TryAgain,
            format!("another calico-installer is changing this host ({} is locked)", directory.display()),
        )),
        Err(error) => Err(FileError::io("lock", directory)(error.into()).into()),
    }
}

/// Whether `path` still names the open `file`.
fn is_at(file: &File, path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let ours = file.metadata().map_err(FileError::io("look at", path))?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FileError::io("look at", path)(error).into()),
    }
}

/// A file that only we read.
fn private(sha256: String) -> Print {
    let (uid, gid) = files::own_ids();
    Print { sha256, mode: 0o600, uid, gid }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    struct Fixture {
        root: tempfile::TempDir,
        journal: Journal,
        file: PathBuf,
    }

    fn fixture() -> Fixture {
        let root = tempfile::tempdir().unwrap();
        let journal = Journal::open(&root.path().join("state")).unwrap();
        let file = root.path().join("calico");
        Fixture { root, journal, file }
    }

    impl Fixture {
        fn write(&mut self, content: &str) {
            let sha256 = files::sha256_hex(content.as_bytes());
            self.journal.about_to_write("cni", &self.file, Staging::Beside, &sha256).unwrap();
            fs::write(&self.file, content).unwrap();
        }

        fn restore(&mut self) {
            let [entry] = &self.journal.of_step("cni")[..] else { panic!("one entry expected") };
            self.journal.restore(entry).unwrap();
        }
    }

    #[test]
    fn the_first_content_comes_back_after_many_changes() {
        let mut it = fixture();
        fs::write(&it.file, "theirs").unwrap();
        fs::set_permissions(&it.file, fs::Permissions::from_mode(0o711)).unwrap();
        let before = files::print_of(&it.file).unwrap();
        it.write("one");
        it.write("two");
        it.restore();
        assert_eq!(files::print_of(&it.file).unwrap(), before);
        assert_eq!(fs::read(&it.file).unwrap(), b"theirs");
        assert!(!it.root.path().join("state").exists(), "nothing of the journal is left");
    }

    #[test]
    fn a_file_that_was_not_there_is_removed() {
        let mut it = fixture();
        it.write("one");
        it.restore();
        assert!(!it.file.exists());
    }

    #[test]
    fn the_record_survives_the_process_and_is_written_before_the_change() {
        let Fixture { root, mut journal, file } = fixture();
        let sha256 = files::sha256_hex(b"one");
        journal.about_to_write("cni", &file, Staging::Outside, &sha256).unwrap();
        drop(journal);
        let entries = Journal::read(&root.path().join("state")).unwrap();
        let entry = Entry {
            step: "cni".into(),
            path: file,
            staging: Staging::Outside,
            before: None,
            wrote: vec![sha256],
        };
        assert_eq!(entries, [entry]);
    }

    #[test]
    fn two_installers_do_not_change_a_host_at_once() {
        let it = fixture();
        let failure = Journal::open(&it.root.path().join("state")).unwrap_err();
        assert_eq!(failure.exit(), Exit::TryAgain);
    }

    #[test]
    fn a_lock_on_a_directory_that_was_removed_is_none() {
        let it = fixture();
        let directory = it.root.path().join("state");
        let stale = File::open(&directory).unwrap();
        assert!(is_at(&stale, &directory).unwrap());
        it.journal.close();
        assert!(!is_at(&stale, &directory).unwrap());
        let _other = Journal::open(&directory).unwrap();
        assert!(!is_at(&stale, &directory).unwrap());
    }

    #[test]
    fn a_newer_or_broken_journal_is_not_overwritten() {
        let root = tempfile::tempdir().unwrap();
        for content in ["{\"version\":2,\"files\":[]}", "{"] {
            fs::write(root.path().join("journal.json"), content).unwrap();
            let failure = Journal::open(root.path()).unwrap_err();
            assert_eq!(failure.exit(), Exit::Unsuitable, "{content}");
        }
    }
}
