//! In which order a step is undone.

use std::path::{Path, PathBuf};

use super::{Action, WantedFile};
use crate::journal::Recorded;

/// One thing that undoing does to what is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Back {
    /// It becomes what it was before our first change. Refused, unless forced, when someone else changed it since.
    Restore(PathBuf),
    /// A directory that we made goes with all that is in it; a file is as with [`Self::Restore`].
    Clear(PathBuf),
    /// It stays as it is, and is not ours any more.
    Leave(PathBuf),
    /// A file gets this content, which still has what others changed since and not what we put in. What it replaces
    /// must be what the step just read.
    Rewrite(WantedFile),
}

impl Back {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Restore(path) | Self::Clear(path) | Self::Leave(path) => path,
            Self::Rewrite(file) => &file.path,
        }
    }
}

/// What can be undone in one go; the next stage is described when this one is done, from what is seen then.
#[derive(Debug, Clone)]
pub struct Stage<A> {
    pub(super) back: Vec<Back>,
    pub(in crate::steps) actions: Vec<A>,
    pub(in crate::steps) notes: Vec<String>,
    pub(super) last: bool,
}

impl<A: Action> Stage<A> {
    /// All that is recorded, the last change first: the last stage.
    pub fn all(recorded: &Recorded<A>) -> Self {
        Self::of(recorded.entries.iter().rev().map(|entry| Back::Restore(entry.path.clone())).collect())
    }

    /// These, in this order: the last stage.
    pub fn of(back: Vec<Back>) -> Self {
        Self { back, actions: Vec::new(), notes: Vec::new(), last: true }
    }

    /// An action that is done, in [`super::Direction::Back`], when the files are back.
    #[must_use]
    pub fn then(mut self, action: A) -> Self {
        self.actions.push(action);
        self
    }

    /// The step is to be asked again after this.
    #[must_use]
    pub fn and_more(mut self) -> Self {
        self.last = false;
        self
    }

    /// Something that the operator should know.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}
