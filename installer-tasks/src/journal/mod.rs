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

use crate::exit::{Exit, Failure, Result};
use crate::host::disk::Locked;
use crate::host::files::{self, FileError, Files, Print, Staged, Staging};
use crate::say;
use crate::steps::StepName;

mod document;
pub mod lock;
#[cfg(test)]
mod tests;

use document::JOURNAL;
pub use document::{Document, Entry, Recorded, Run, RunFile, What};

/// The version that is recorded with each change.
pub const THIS_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The content of a file as it was before our first change; `None` when there was none.
pub fn content_before(files: &Files, directory: &Path, entry: &Entry) -> Result<Option<Vec<u8>>> {
    let What::File { before: Some(print), .. } = &entry.what else { return Ok(None) };
    let backup = directory.join(BACKUP).join(&print.sha256);
    match files.read(&backup)? {
        Some(content) => Ok(Some(content)),
        // A run that was interrupted before it made the copy has not changed the file either.
        None => Ok(files.read(&entry.path)?),
    }
}

const BACKUP: &str = "backup";
/// Never there under these names: what is staged for them becomes the journal.
const SETTLED: &str = "settled.json";
const TAKEN_BACK: &str = "taken-back.json";

/// A journal that is written and not in its place yet.
#[derive(Debug)]
struct End {
    document: Document,
    /// `None` when nothing is to be recorded any more.
    staged: Option<Staged>,
}

/// The two ways in which a run can end.
#[derive(Debug)]
struct Ends {
    settled: Option<End>,
    taken_back: End,
}

/// The journal, locked against other installers for as long as it lives.
#[derive(Debug)]
pub struct Journal {
    files: Files,
    directory: PathBuf,
    document: Document,
    ends: Option<Ends>,
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
        Ok(Self { files, directory, document, ends: None, noted: false, _lock: lock })
    }

    /// Says to others who wait for the lock what is done under it.
    pub fn note(&mut self, doing: &str) {
        if !std::mem::replace(&mut self.noted, true) {
            lock::note(&self.files, &self.directory, doing);
        }
    }

    /// What it holds.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Records what is about to be changed, and keeps what is there now. `wanted` is what the step's files will have.
    ///
    /// Whichever way it ends, that is written now as well, to be renamed into place: a disk that is full by then keeps
    /// neither the end nor the way back from being recorded.
    pub fn begin(&mut self, run: Run, wanted: &[(PathBuf, String)]) -> Result<()> {
        let step = run.step;
        let begun = self.document.begun(run);
        let recorded = self.record(step, &begun, wanted);
        recorded.inspect_err(|_| {
            // As far as that goes: what is left is removed the next time.
            self.ends = None;
            let _ = self.clear_staged().and_then(|()| self.collect_garbage());
        })
    }

    fn record(&mut self, step: StepName, begun: &Document, wanted: &[(PathBuf, String)]) -> Result<()> {
        for file in begun.unfinished.iter().flat_map(|run| &run.files) {
            if let Some(previous) = &file.previous {
                self.back_up(&file.path, previous)?;
            }
        }
        let settled = self.end(SETTLED, begun.settled(step, wanted))?;
        let taken_back = self.end(TAKEN_BACK, begun.taken_back(step))?;
        self.ends = Some(Ends { settled: Some(settled), taken_back });
        let written = self.write(begun);
        self.now_is(begun.clone(), written)
    }

    fn end(&self, name: &str, document: Document) -> Result<End> {
        if document.is_empty() {
            return Ok(End { document, staged: None });
        }
        let (content, print) = written_form(&document)?;
        let target = self.directory.join(name);
        let staged = self.files.stage(&target, Staging::Beside, &|| io::Result::Ok(&content[..]), &print)?;
        Ok(End { document, staged: Some(staged) })
    }

    /// Records that all that was begun is done and verified.
    pub fn settle(&mut self, step: StepName) -> Result<()> {
        let Some(ends) = &mut self.ends else {
            return Err(Failure::new(Exit::Bug, format!("{step} is settled without having begun")));
        };
        let Some(settled) = ends.settled.take() else {
            return Err(Failure::new(Exit::Bug, format!("{step} is settled twice")));
        };
        let placed = self.come_to(settled);
        if self.document.run(step).is_some() {
            return placed;
        }
        // It is settled. That this may not survive a power cut, or that copies are left, only makes the next run finish
        // once more.
        let tidied = placed.and_then(|()| self.clear_staged()).and_then(|()| self.collect_garbage());
        if let Err(failure) = tidied {
            say::progress(format_args!("the journal is not as tidy as it could be: {}", failure.one_line()));
        }
        Ok(())
    }

    /// Records that all that was begun is taken back.
    pub fn taken_back(&mut self, step: StepName) -> Result<()> {
        match self.ends.take() {
            Some(ends) => self.come_to(ends.taken_back)?,
            None => self.save(self.document.taken_back(step))?,
        }
        self.clear_staged()?;
        self.collect_garbage()
    }

    /// Makes one of the ends the journal.
    fn come_to(&mut self, end: End) -> Result<()> {
        let End { document, staged } = end;
        let path = self.directory.join(JOURNAL);
        let placed = match staged {
            None => self.files.remove(&path).map_err(Failure::from),
            Some(staged) => {
                let (content, print) = written_form(&document)?;
                let open = || io::Result::Ok(&content[..]);
                self.files.place(staged, &path, Staging::Beside, &open, &print).map_err(Failure::from)
            }
        };
        self.now_is(document, placed)
    }

    /// Removes what is written and not in its place; also what a crash left of it.
    fn clear_staged(&self) -> Result<()> {
        for name in [JOURNAL, SETTLED, TAKEN_BACK] {
            self.files.clear_leftovers(&self.directory.join(name), Staging::Beside)?;
        }
        Ok(())
    }

    /// Drops the record of what is as it was before.
    pub fn forget(&mut self, step: StepName, paths: &[PathBuf]) -> Result<()> {
        self.save(self.document.without(step, paths))?;
        self.collect_garbage()
    }

    /// Gives a file the content, mode and owner of `wanted`, of which a copy was kept, and verifies that it has them.
    pub fn restore(&self, path: &Path, staging: Staging, wanted: Option<&Print>) -> Result<()> {
        // This syncs its directory, too: a crash may have come between the change and the sync.
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
            self.clear_staged()?;
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
        let written = self.write(&document);
        self.now_is(document, written)
    }

    /// After an attempt to make `document` the journal: when it failed, it may be in place all the same, and what is
    /// there is what counts.
    fn now_is(&mut self, document: Document, written: Result<()>) -> Result<()> {
        let there = match written {
            Ok(()) => Some(document),
            Err(_) => Document::read(&self.files, &self.directory).ok().or_else(|| {
                // It cannot be read either: the one that holds more that is to be finished is the safe one.
                (document.unfinished.len() > self.document.unfinished.len()).then_some(document)
            }),
        };
        if let Some(there) = there {
            self.document = there;
        }
        written
    }

    fn write(&self, document: &Document) -> Result<()> {
        let path = self.directory.join(JOURNAL);
        if document.is_empty() {
            self.files.remove(&path)?;
        } else {
            let (content, print) = written_form(document)?;
            self.files.put(&path, Staging::Beside, || io::Result::Ok(&content[..]), &print)?;
        }
        Ok(())
    }
}

fn written_form(document: &Document) -> Result<(Vec<u8>, Print)> {
    let content = serde_json::to_vec_pretty(document)
        .map_err(|error| Failure::new(Exit::Bug, "the journal cannot be written as JSON").because(error))?;
    let print = private(files::sha256_hex(&content));
    Ok((content, print))
}

/// A file that only we read.
fn private(sha256: String) -> Print {
    let (uid, gid) = files::own_ids();
    Print { sha256, mode: 0o600, uid, gid }
}
