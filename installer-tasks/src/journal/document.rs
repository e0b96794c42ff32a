//! The form of journal.json, and of the form before it.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exit::{Failure, Result};
use crate::host::files::{Files, Print, Staging};
use crate::steps::StepName;

/// The file's name in the state directory.
pub const JOURNAL: &str = "journal.json";

/// The form that this version writes.
pub const VERSION: u32 = 2;

/// All that the journal holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// What is changed on this host, in the order of the first changes.
    pub entries: Vec<Entry>,
    /// What was begun and not seen to its end, at most one of each step.
    pub unfinished: Vec<Run>,
}

impl Default for Document {
    fn default() -> Self {
        Self { version: VERSION, entries: Vec::new(), unfinished: Vec::new() }
    }
}

/// One thing that a step changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which step.
    pub step: StepName,
    /// Where.
    pub path: PathBuf,
    /// The version of calico-installer that changed it last; `None` when it was one that did not record it.
    pub by: Option<String>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    /// A file was made or replaced.
    File {
        /// How it is put in place.
        staging: Staging,
        /// What was there before our first change; `None` when nothing was.
        before: Option<Print>,
        /// The SHA-256 of what we wrote. After a crash it may have any of them, or still be as before.
        wrote: Vec<String>,
    },
    /// A directory was made, where none was.
    Directory,
}

/// Changes that a step began: recorded before the first of them, and dropped when all are verified or taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which step.
    pub step: StepName,
    /// The version of calico-installer that began it.
    pub by: String,
    /// The directories that were missing.
    pub directories: Vec<PathBuf>,
    /// The files, in the order in which they are put in place.
    pub files: Vec<RunFile>,
    /// What is done besides, in the step's own form.
    pub actions: Vec<Value>,
}

/// A file that is being replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// Where.
    pub path: PathBuf,
    /// How it is put in place.
    pub staging: Staging,
    /// What was there when this was begun.
    pub previous: Option<Print>,
    /// The SHA-256 of what is put there; several when a run was interrupted and begun again.
    pub writes: Vec<String>,
}

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
        #[derive(Deserialize)]
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

    pub(super) fn run(&self, step: StepName) -> Option<&Run> {
        self.unfinished.iter().find(|run| run.step == step)
    }

    pub(super) fn prints(&self) -> impl Iterator<Item = &Print> {
        let before = self.entries.iter().filter_map(|entry| match &entry.what {
            What::File { before, .. } => before.as_ref(),
            What::Directory => None,
        });
        let previous =
            self.unfinished.iter().flat_map(|run| &run.files).filter_map(|it| it.previous.as_ref());
        before.chain(previous)
    }

    /// The same, with a run begun. A run of the same step that was not finished is continued: what was there before it is
    /// what taking back gives.
    pub(super) fn begun(&self, run: Run) -> Self {
        let mut document = self.clone();
        match document.unfinished.iter_mut().find(|it| it.step == run.step) {
            None => document.unfinished.push(run),
            Some(interrupted) => interrupted.continue_as(run),
        }
        document
    }

    /// The same, with all that `step` began done and verified: `wanted` is what its files have then.
    pub(super) fn settled(&self, step: StepName, wanted: &[(PathBuf, String)]) -> Self {
        let mut document = self.taken_back(step);
        if let Some(run) = self.run(step) {
            let mut entries = document.entries.extract_if(.., |entry| entry.step == step).collect();
            run.add_to(&mut entries);
            for (path, sha256) in wanted {
                let written = entries.iter_mut().find(|entry| entry.path == *path);
                if let Some(Entry { by, what: What::File { wrote, .. }, .. }) = written {
                    *by = Some(run.by.clone());
                    *wrote = vec![sha256.clone()];
                }
            }
            document.entries.extend(entries);
        }
        document
    }

    /// The same, with all that `step` began taken back.
    pub(super) fn taken_back(&self, step: StepName) -> Self {
        let mut document = self.clone();
        document.unfinished.retain(|run| run.step != step);
        document
    }

    /// The same, without what is as it was before.
    pub(super) fn without(&self, step: StepName, paths: &[PathBuf]) -> Self {
        let mut document = self.clone();
        let is_one = |path: &PathBuf| paths.contains(path);
        document.entries.retain(|entry| entry.step != step || !is_one(&entry.path));
        for run in document.unfinished.iter_mut().filter(|run| run.step == step) {
            run.files.retain(|file| !is_one(&file.path));
            run.directories.retain(|directory| !is_one(directory));
        }
        let is_left = |run: &Run| !(run.files.is_empty() && run.directories.is_empty());
        document.unfinished.retain(|run| run.step != step || is_left(run));
        document
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

/// Version 1, which releases up to 0.5.0 wrote.
#[derive(Debug, Deserialize)]
pub struct DocumentV1 {
    files: Vec<EntryV1>,
}

#[derive(Debug, Deserialize)]
struct EntryV1 {
    step: StepName,
    path: PathBuf,
    staging: Staging,
    before: Option<Print>,
    wrote: Vec<String>,
}

impl From<DocumentV1> for Document {
    /// It did not say whether a change was finished: `wrote` has several hashes then, which all stay ours.
    fn from(old: DocumentV1) -> Self {
        let entry = |EntryV1 { step, path, staging, before, wrote }| Entry {
            step,
            path,
            by: None,
            what: What::File { staging, before, wrote },
        };
        Self { entries: old.files.into_iter().map(entry).collect(), ..Self::default() }
    }
}
