//! The form of journal.json, and of the form before it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::host::files::{Print, Staging};
use crate::steps::StepName;

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
