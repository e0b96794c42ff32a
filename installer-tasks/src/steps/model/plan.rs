//! From what a step wants to what there is to do.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::Action;
use crate::exit::{Exit, Failure, Result};
use crate::host::files::{Files, Print, Staging};
use crate::journal::{Run, RunFile, THIS_VERSION};
use crate::steps::StepName;

/// A file as a step wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// Where it really is: a link there is refused, see [`Files::resolve`].
    pub path: PathBuf,
    /// How it is put in place.
    pub staging: Staging,
    /// The hash of its content, its mode and its owner.
    pub print: Print,
    /// Its content.
    pub content: Content,
}

/// Where a content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file of the task's sandbox.
    Artifact(PathBuf),
    /// Made by us.
    Bytes(Vec<u8>),
}

impl Content {
    /// Reads it, from its beginning.
    pub(super) fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Artifact(path) => Box::new(File::open(path)?),
            Self::Bytes(bytes) => Box::new(Cursor::new(bytes)),
        })
    }
}

impl WantedFile {
    /// Reads it back.
    pub(super) fn verify(&self, files: &Files) -> Result<()> {
        if files.print_of(&self.path)?.as_ref() == Some(&self.print) {
            return Ok(());
        }
        let path = self.path.display();
        Err(Failure::new(Exit::TryAgain, format!("{path} was written, but is not there as it was written")))
    }
}

/// What a step wants, in the order in which it is to be done.
#[derive(Debug, Clone)]
pub struct Proposal<A> {
    items: Vec<Item<A>>,
    notes: Vec<String>,
    restart: Option<String>,
}

#[derive(Debug, Clone)]
enum Item<A> {
    Directory(PathBuf),
    File(WantedFile),
    Action { action: A, because: String },
}

impl<A> Default for Proposal<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A> Proposal<A> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { items: Vec::new(), notes: Vec::new(), restart: None }
    }

    /// A directory that is to be there, whether or not it is there already.
    pub fn directory(&mut self, path: PathBuf) {
        self.items.push(Item::Directory(path));
    }

    /// A file that is to be there, whether or not it is there already.
    pub fn file(&mut self, file: WantedFile) {
        self.items.push(Item::File(file));
    }

    /// Something that is to be done after what was proposed before it.
    pub fn action(&mut self, action: A, because: impl Into<String>) {
        self.items.push(Item::Action { action, because: because.into() });
    }

    /// Something that the operator should know, and that changes nothing.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The changes, if there are any, take a restart of something that others use: which, and why.
    pub fn restart(&mut self, because: impl Into<String>) {
        self.restart = Some(because.into());
    }
}

/// One change that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<A> {
    /// A directory is made.
    Directory(PathBuf),
    /// A file is put in place of `previous`.
    File {
        /// As it is to be.
        file: WantedFile,
        /// As it is.
        previous: Option<Print>,
        /// What differs.
        because: String,
    },
    /// Something is done.
    Action {
        /// What.
        action: A,
        /// Why.
        because: String,
    },
    /// All is as it should be, but a run was interrupted before it had verified that.
    Finish,
}

/// What a step would do on this host as it is now. Only [`super::Engine::check`] makes one.
#[derive(Debug, Clone)]
pub struct Plan<A> {
    step: StepName,
    changes: Vec<Change<A>>,
    /// All files that are to be there, also those that do not differ.
    files: Vec<WantedFile>,
    notes: Vec<String>,
    restart: Option<String>,
}

/// A plan in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All is as it should be.
    NothingToDo,
    /// Changes are to be made.
    Changes,
    /// They are, and take a restart.
    NeedsRestart,
    /// This host cannot have the step at all.
    NotApplicable,
    /// It cannot be done as things are.
    Refused,
    /// It was tried.
    Failed,
}

impl<A: Action> Plan<A> {
    /// Compares a proposal with the host.
    pub(super) fn new(
        step: StepName,
        proposal: Proposal<A>,
        files: &Files,
        interrupted: bool,
    ) -> Result<Self> {
        let Proposal { items, notes, restart } = proposal;
        let mut plan = Self { step, changes: Vec::new(), files: Vec::new(), notes, restart };
        for item in items {
            match item {
                Item::Action { action, because } => plan.changes.push(Change::Action { action, because }),
                Item::Directory(path) => plan.make_missing(&path, files)?,
                Item::File(file) => {
                    plan.files.push(file.clone());
                    let previous = files.print_of(&file.path)?;
                    let Some(because) = difference(previous.as_ref(), &file.print) else { continue };
                    let parent = file.path.parent().unwrap_or(Path::new("/"));
                    plan.make_missing(parent, files)?;
                    require_writable(parent, &file.path, files)?;
                    plan.changes.push(Change::File { file, previous, because });
                }
            }
        }
        if plan.changes.is_empty() && interrupted {
            plan.changes.push(Change::Finish);
        }
        Ok(plan)
    }

    /// A directory and those above it.
    fn make_missing(&mut self, directory: &Path, files: &Files) -> Result<()> {
        for missing in files.missing_directories(directory)? {
            let change = Change::Directory(missing);
            if !self.changes.contains(&change) {
                self.changes.push(change);
            }
        }
        Ok(())
    }
}

impl<A> Plan<A> {
    /// Whose it is.
    pub fn step(&self) -> StepName {
        self.step
    }

    /// In one word.
    pub fn verdict(&self) -> Verdict {
        match (self.changes.is_empty(), &self.restart) {
            (true, _) => Verdict::NothingToDo,
            (false, None) => Verdict::Changes,
            (false, Some(_)) => Verdict::NeedsRestart,
        }
    }

    /// What there is to do, in this order.
    pub fn changes(&self) -> &[Change<A>] {
        &self.changes
    }

    /// All files that are to be there, also those that are.
    pub fn files(&self) -> &[WantedFile] {
        &self.files
    }

    /// What the operator should know besides.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Which restart the changes take, and why; `None` also when there are none.
    pub fn restart(&self) -> Option<&str> {
        self.restart.as_deref().filter(|_| !self.changes.is_empty())
    }
}

impl<A: Action> Plan<A> {
    /// The hashes that its files have when it is done.
    pub(super) fn wanted(&self) -> Vec<(PathBuf, String)> {
        self.files.iter().map(|file| (file.path.clone(), file.print.sha256.clone())).collect()
    }

    /// As it is recorded before it is carried out.
    pub(super) fn run(&self) -> Result<Run> {
        let mut run = Run {
            step: self.step,
            by: THIS_VERSION.to_owned(),
            directories: Vec::new(),
            files: Vec::new(),
            actions: Vec::new(),
        };
        for change in &self.changes {
            match change {
                Change::Directory(path) => run.directories.push(path.clone()),
                Change::File { file, previous, .. } => run.files.push(RunFile {
                    path: file.path.clone(),
                    staging: file.staging,
                    previous: previous.clone(),
                    writes: vec![file.print.sha256.clone()],
                }),
                Change::Action { action, .. } => {
                    run.actions.push(serde_json::to_value(action).map_err(|error| {
                        Failure::new(Exit::Bug, "an action cannot be written as JSON").because(error)
                    })?);
                }
                Change::Finish => {}
            }
        }
        Ok(run)
    }
}

/// A read-only filesystem is met before anything is recorded, so that nothing is there to be taken back.
fn require_writable(directory: &Path, file: &Path, files: &Files) -> Result<()> {
    for above in directory.ancestors() {
        if files.has_directory(above)? {
            if files.is_writable_directory(above) {
                return Ok(());
            }
            let (above, file) = (above.display(), file.display());
            return Err(Failure::new(
                Exit::NotPermitted,
                format!(
                    "{file} cannot be written: {above} does not permit it, or is on a read-only filesystem"
                ),
            ));
        }
    }
    Ok(())
}

/// What is to be changed about a file, in words; `None` when it is as it should be.
fn difference(is: Option<&Print>, wanted: &Print) -> Option<String> {
    let Some(is) = is else { return Some("it is missing".to_owned()) };
    let mut differences = Vec::new();
    if is.sha256 != wanted.sha256 {
        differences.push("its content differs".to_owned());
    }
    if is.mode != wanted.mode {
        differences.push(format!("its mode is {:04o}, not {:04o}", is.mode, wanted.mode));
    }
    if (is.uid, is.gid) != (wanted.uid, wanted.gid) {
        differences.push(format!("its owner is {}:{}, not {}:{}", is.uid, is.gid, wanted.uid, wanted.gid));
    }
    (!differences.is_empty()).then(|| differences.join(", "))
}

impl<A: Action> std::fmt::Display for Change<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "make the directory {}: it is missing", path.display()),
            Self::File { file, because, .. } => write!(f, "write {}: {because}", file.path.display()),
            Self::Action { action, because } => write!(f, "{action}: {because}"),
            Self::Finish => {
                f.write_str("finish: an earlier run was interrupted before it had verified its work")
            }
        }
    }
}

impl<A: Action> Serialize for Change<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut it = serializer.serialize_struct("Change", 5)?;
        match self {
            Self::Directory(path) => {
                it.serialize_field("kind", "directory")?;
                it.serialize_field("path", path)?;
                it.serialize_field("because", "it is missing")?;
            }
            Self::File { file, because, .. } => {
                it.serialize_field("kind", "file")?;
                it.serialize_field("path", &file.path)?;
                it.serialize_field("because", because)?;
                it.serialize_field("sha256", &file.print.sha256)?;
                it.serialize_field("mode", &format!("{:04o}", file.print.mode))?;
            }
            Self::Action { action, because } => {
                it.serialize_field("kind", "action")?;
                it.serialize_field("action", &action.to_string())?;
                it.serialize_field("because", because)?;
            }
            Self::Finish => {
                it.serialize_field("kind", "finish")?;
                it.serialize_field(
                    "because",
                    "an earlier run was interrupted before it had verified its work",
                )?;
            }
        }
        it.end()
    }
}
