//! What was changed on this host, and what was there before, so that it can be taken back.
//!
//! On disk, in files that only their owner reads:
//!
//! ```text
//! journal.json     {"version":2,"entries":[…],"unfinished":[…]}: see `Document`
//! backup/<sha256>  contents that were replaced
//! holder.json      who is at work: see `lock`
//! ```
//!
//! A change is recorded, and the record synced, before it is made. What was there before the *first* change of a
//! file is kept through all later ones, for undo; what was there before the changes that are under way is kept until
//! they are verified, for taking them back. Nothing here says that something *is* installed: that is seen on the host.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::exit::{Exit, Failure, Result};
use crate::host::disk::Locked;
use crate::host::files::{self, FileError, Files, Print, Staging};
use crate::steps::StepName;

mod document;
pub mod lock;
#[cfg(test)]
mod tests;

pub use document::{Document, Entry, Run, RunFile, What};
use document::{DocumentV1, VERSION};

/// The version that is recorded with each change.
pub const THIS_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the journal holds of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded<A> {
    /// What it changed, those changes included that are not finished; in the order of the first changes.
    pub entries: Vec<Entry>,
    /// Actions that were begun and not seen to their end: whether they took effect is not known.
    pub unfinished: Option<Vec<A>>,
}

impl<A> Recorded<A> {
    /// The record of a file or directory.
    pub fn entry(&self, path: &Path) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.unfinished.is_none()
    }
}

impl Document {
    /// The journal in `directory` as it is now, without a lock and without making anything.
    pub fn read(files: &Files, directory: &Path) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Versioned {
            version: u32,
        }
        let path = directory.join(JOURNAL);
        let Some(content) = files.read(&path)? else { return Ok(Self::default()) };
        let broken = |error| {
            Failure::unsuitable(format!("{} is not a journal of calico-installer", path.display()))
                .because(error)
        };
        match serde_json::from_slice(&content).map_err(broken)? {
            Versioned { version: 1 } => {
                serde_json::from_slice::<DocumentV1>(&content).map(Self::from).map_err(broken)
            }
            Versioned { version: VERSION } => serde_json::from_slice(&content).map_err(broken),
            Versioned { version } => Err(Failure::unsuitable(format!(
                "{} has version {version}, and this calico-installer knows 1 to {VERSION}: use the one that wrote it",
                path.display()
            ))),
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.unfinished.is_empty()
    }

    /// What it holds of a step's files and directories; those of an interrupted run are among them.
    pub fn entries_of(&self, step: StepName) -> Vec<Entry> {
        let mut entries: Vec<Entry> =
            self.entries.iter().filter(|entry| entry.step == step).cloned().collect();
        if let Some(run) = self.run(step) {
            run.add_to(&mut entries);
        }
        entries
    }

    /// What it holds of a step.
    pub fn of_step<A: DeserializeOwned>(&self, step: StepName) -> Result<Recorded<A>> {
        let entries = self.entries_of(step);
        let Some(run) = self.run(step) else { return Ok(Recorded { entries, unfinished: None }) };
        let actions = run.actions.iter().cloned().map(serde_json::from_value).collect::<Result<_, _>>();
        let unfinished = Some(actions.map_err(|error| {
            Failure::unsuitable(format!(
                "the journal holds an action of {step} that this calico-installer does not know: use the one that wrote \
                 it ({})",
                run.by
            ))
            .because(error)
        })?);
        Ok(Recorded { entries, unfinished })
    }

    fn run(&self, step: StepName) -> Option<&Run> {
        self.unfinished.iter().find(|run| run.step == step)
    }

    fn prints(&self) -> impl Iterator<Item = &Print> {
        let before = self.entries.iter().filter_map(|entry| match &entry.what {
            What::File { before, .. } => before.as_ref(),
            What::Directory => None,
        });
        let previous =
            self.unfinished.iter().flat_map(|run| &run.files).filter_map(|it| it.previous.as_ref());
        before.chain(previous)
    }
}

impl Run {
    /// Adds what it may have changed to the entries of its step.
    fn add_to(&self, entries: &mut Vec<Entry>) {
        let new = |path: &Path, what| Entry {
            step: self.step,
            path: path.to_owned(),
            by: Some(self.by.clone()),
            what,
        };
        for directory in &self.directories {
            if entries.iter().all(|entry| entry.path != *directory) {
                entries.push(new(directory, What::Directory));
            }
        }
        for RunFile { path, staging, previous, writes } in &self.files {
            match entries.iter_mut().find(|entry| entry.path == *path).map(|entry| &mut entry.what) {
                Some(What::File { wrote, .. }) => wrote.extend(writes.iter().cloned()),
                _ => entries.push(new(
                    path,
                    What::File { staging: *staging, before: previous.clone(), wrote: writes.clone() },
                )),
            }
        }
    }
}

const JOURNAL: &str = "journal.json";
const BACKUP: &str = "backup";

/// The journal, locked against other installers for as long as it lives.
#[derive(Debug)]
pub struct Journal {
    files: Files,
    directory: PathBuf,
    document: Document,
    noted: bool,
    _lock: Box<dyn Debug>,
}

impl Journal {
    /// Opens the journal in `directory`, which is made if it is missing, to do what `doing` says. Waits for another
    /// installer, at most `limit`.
    pub async fn open(files: &Files, directory: &Path, doing: &str, limit: Duration) -> Result<Self> {
        let taken = lock::take(files, directory, true, limit).await.inspect_err(|_| {
            // It may be made and not be locked; one that another has locked is left to that one.
            if let Ok(Locked::Ours(_lock)) = files.disk().lock(directory) {
                let _ = files.remove_empty_directory(directory);
            }
        });
        match taken? {
            Some(lock) => {
                let mut journal = Self::locked(files, directory, lock)?;
                journal.note(doing);
                Ok(journal)
            }
            None => Err(Failure::new(Exit::Bug, format!("{} is made and not there", directory.display()))),
        }
    }

    /// The same, but writes nothing until [`Self::note`]; `None` when there is no journal, so that nobody is at work.
    pub async fn open_existing(files: &Files, directory: &Path, limit: Duration) -> Result<Option<Self>> {
        let lock = lock::take(files, directory, false, limit).await?;
        lock.map(|lock| Self::locked(files, directory, lock)).transpose()
    }

    fn locked(files: &Files, directory: &Path, lock: Box<dyn Debug>) -> Result<Self> {
        let document = Document::read(files, directory)?;
        let (files, directory) = (files.clone(), directory.to_owned());
        Ok(Self { files, directory, document, noted: false, _lock: lock })
    }

    /// Says to others who wait for the lock what is done under it.
    pub fn note(&mut self, doing: &str) {
        lock::note(&self.files, &self.directory, doing);
        self.noted = true;
    }

    /// What it holds.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Records what is about to be changed, and keeps what is there now. A run of the same step that was not
    /// finished is continued: what was there before it is what taking back gives.
    pub fn begin(&mut self, run: Run) -> Result<()> {
        self.record(run).inspect_err(|_| {
            // As far as that goes: what is left is removed the next time.
            let _ = self.collect_garbage();
        })
    }

    fn record(&mut self, run: Run) -> Result<()> {
        let mut document = self.document.clone();
        match document.unfinished.iter_mut().find(|it| it.step == run.step) {
            None => document.unfinished.push(run),
            Some(interrupted) => interrupted.continue_as(run),
        }
        let previous: Vec<(PathBuf, Print)> = document
            .unfinished
            .iter()
            .flat_map(|run| &run.files)
            .filter_map(|file| Some((file.path.clone(), file.previous.clone()?)))
            .collect();
        for (path, print) in &previous {
            self.back_up(path, print)?;
        }
        self.save(document)
    }

    /// Records that all that was begun is done and verified.
    pub fn settle(&mut self, step: StepName) -> Result<()> {
        let mut document = self.document.clone();
        for run in document.unfinished.extract_if(.., |run| run.step == step) {
            let mut entries = document.entries.extract_if(.., |entry| entry.step == step).collect();
            run.add_to(&mut entries);
            for file in &run.files {
                let written = entries.iter_mut().find(|entry| entry.path == file.path);
                if let Some(Entry { by, what: What::File { wrote, .. }, .. }) = written {
                    *by = Some(run.by.clone());
                    *wrote = file.writes.last().cloned().into_iter().collect();
                }
            }
            document.entries.extend(entries);
        }
        let saved = self.save(document);
        if self.document.run(step).is_some() {
            return saved;
        }
        // It is settled. That this may not survive a power cut, or that copies are left, only makes the next run finish
        // once more.
        if let Err(failure) = saved.and_then(|()| self.collect_garbage()) {
            eprintln!("the journal is not as tidy as it could be: {}", failure.one_line());
        }
        Ok(())
    }

    /// Records that all that was begun is taken back.
    pub fn taken_back(&mut self, step: StepName) -> Result<()> {
        let mut document = self.document.clone();
        document.unfinished.retain(|run| run.step != step);
        self.save(document)?;
        self.collect_garbage()
    }

    /// Drops the record of what is as it was before.
    pub fn forget(&mut self, step: StepName, paths: &[PathBuf]) -> Result<()> {
        let mut document = self.document.clone();
        let is_one = |path: &PathBuf| paths.contains(path);
        document.entries.retain(|entry| entry.step != step || !is_one(&entry.path));
        for run in document.unfinished.iter_mut().filter(|run| run.step == step) {
            run.files.retain(|file| !is_one(&file.path));
            run.directories.retain(|directory| !is_one(directory));
        }
        document
            .unfinished
            .retain(|run| run.step != step || !(run.files.is_empty() && run.directories.is_empty()));
        self.save(document)?;
        self.collect_garbage()
    }

    /// Gives a file the content, mode and owner of `wanted`, of which a copy was kept, and verifies that it has them.
    pub fn restore(&self, path: &Path, staging: Staging, wanted: Option<&Print>) -> Result<()> {
        self.files.clear_leftovers(path, staging)?;
        if self.files.print_of(path)?.as_ref() != wanted {
            match wanted {
                None => self.files.remove(path)?,
                Some(print) => {
                    let backup = self.backup(print);
                    self.files.put(path, staging, || self.files.disk().open(&backup), print)?;
                }
            }
        }
        // Also when it was so already: a crash may have come before the sync.
        self.files.sync_directory(path.parent().unwrap_or(Path::new("/")))?;
        if self.files.print_of(path)?.as_ref() == wanted {
            return Ok(());
        }
        Err(Failure::new(
            Exit::TryAgain,
            format!("{} was taken back, but something changed it again at once", path.display()),
        ))
    }

    /// Ends it: what of its own is not needed any more is removed, and the lock is given up.
    pub fn close(self) -> Result<()> {
        if self.document.is_empty() {
            self.collect_garbage()?;
            self.files.clear_leftovers(&self.directory.join(JOURNAL), Staging::Beside)?;
        }
        if self.noted || self.document.is_empty() {
            lock::clear_note(&self.files, &self.directory);
        }
        if self.document.is_empty() {
            self.files.remove_empty_directory(&self.directory)?;
        }
        Ok(())
    }

    /// Removes copies that nobody needs; also those of a crash.
    fn collect_garbage(&self) -> Result<()> {
        let directory = self.directory.join(BACKUP);
        let needed: Vec<PathBuf> = self.document.prints().map(|print| self.backup(print)).collect();
        for path in self.files.list(&directory)?.iter().filter(|path| !needed.contains(path)) {
            self.files.remove(path)?;
        }
        if needed.is_empty() {
            self.files.remove_empty_directory(&directory)?;
        }
        Ok(())
    }

    fn backup(&self, print: &Print) -> PathBuf {
        self.directory.join(BACKUP).join(&print.sha256)
    }

    fn back_up(&self, path: &Path, print: &Print) -> Result<()> {
        let backup = self.backup(print);
        if self.files.print_of(&backup)?.is_some_and(|there| there.sha256 == print.sha256) {
            // Its name may not have been synced before a crash.
            return Ok(self.files.sync_directory(&self.directory.join(BACKUP))?);
        }
        self.files.make_directory(&self.directory.join(BACKUP))?;
        let open = || self.files.disk().open(path);
        match self.files.put(&backup, Staging::Beside, open, &private(print.sha256.clone())) {
            Err(FileError::WrongContent { .. }) => Err(Failure::new(
                Exit::TryAgain,
                format!("{} was changed by someone else just now", path.display()),
            )),
            outcome => Ok(outcome?),
        }
    }

    fn save(&mut self, document: Document) -> Result<()> {
        self.document = match self.write(&document) {
            Ok(()) => document,
            Err(failure) => {
                // It may be in place all the same, and what is there is what counts.
                self.document = Document::read(&self.files, &self.directory).unwrap_or(document);
                return Err(failure);
            }
        };
        Ok(())
    }

    fn write(&self, document: &Document) -> Result<()> {
        let path = self.directory.join(JOURNAL);
        if document.is_empty() {
            self.files.remove(&path)?;
        } else {
            let content = serde_json::to_vec_pretty(document).map_err(|error| {
                Failure::new(Exit::Bug, "the journal cannot be written as JSON").because(error)
            })?;
            let print = private(files::sha256_hex(&content));
            self.files.put(&path, Staging::Beside, || io::Result::Ok(&content[..]), &print)?;
        }
        Ok(())
    }
}

impl Run {
    /// This run was interrupted, and is begun again as `next`.
    fn continue_as(&mut self, next: Self) {
        self.by = next.by;
        for directory in next.directories {
            if !self.directories.contains(&directory) {
                self.directories.push(directory);
            }
        }
        for file in next.files {
            match self.files.iter_mut().find(|it| it.path == file.path) {
                None => self.files.push(file),
                Some(interrupted) => {
                    let ours = |print: &Print| interrupted.writes.contains(&print.sha256);
                    if !file.previous.as_ref().is_some_and(ours) {
                        // Someone else's change since then is what this run replaces.
                        interrupted.previous = file.previous;
                    }
                    interrupted.writes.extend(file.writes);
                }
            }
        }
        for action in next.actions {
            if !self.actions.contains(&action) {
                self.actions.push(action);
            }
        }
    }
}

/// A file that only we read.
fn private(sha256: String) -> Print {
    let (uid, gid) = files::own_ids();
    Print { sha256, mode: 0o600, uid, gid }
}
