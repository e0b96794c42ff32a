//! What a command says on standard output, as text or as JSON.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Action, Plan, Verdict};
use crate::exit::{Exit, Failure};

/// What `check` found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    step: &'static str,
    verdict: Verdict,
    /// What `check` exits with.
    exit: u8,
    /// Why it is refused, not applicable, or takes a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    changes: Vec<Value>,
    notes: Vec<String>,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Report {
    /// Of a plan.
    pub fn of_plan<A: Action>(plan: &Plan<A>) -> Self {
        let verdict = plan.verdict();
        let exit = match verdict {
            Verdict::NothingToDo => 0,
            Verdict::NeedsRestart => Exit::RestartNeeded as u8,
            _ => Exit::No as u8,
        };
        Self {
            step: plan.step().as_str(),
            verdict,
            exit,
            because: plan.restart().map(ToOwned::to_owned),
            changes: plan.changes().iter().filter_map(|it| serde_json::to_value(it).ok()).collect(),
            notes: plan.notes().to_vec(),
            lines: plan.changes().iter().map(ToString::to_string).collect(),
        }
    }

    /// Of a command that failed.
    pub fn of_failure(step: &'static str, failure: &Failure) -> Self {
        let verdict = match failure.exit() {
            Exit::NotApplicable => Verdict::NotApplicable,
            Exit::RestartNeeded => Verdict::NeedsRestart,
            Exit::Unavailable | Exit::NotPermitted | Exit::Unsuitable => Verdict::Refused,
            Exit::No | Exit::Bug | Exit::TryAgain | Exit::Terminated => Verdict::Failed,
        };
        Self {
            step,
            verdict,
            exit: failure.exit() as u8,
            because: Some(failure.one_line()),
            changes: Vec::new(),
            notes: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Of a step that changes no files, and so has no plan: what is missing, in its own words.
    pub fn of_missing(step: &'static str, missing: &[impl fmt::Display]) -> Self {
        let lines: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let nothing = lines.is_empty();
        Self {
            step,
            verdict: if nothing { Verdict::NothingToDo } else { Verdict::Changes },
            exit: if nothing { 0 } else { Exit::No as u8 },
            because: None,
            changes: values(&lines),
            notes: Vec::new(),
            lines,
        }
    }

    /// What the process ends with.
    pub fn outcome(&self) -> Result<(), Failure> {
        let step = self.step;
        match self.verdict {
            Verdict::NothingToDo => Ok(()),
            Verdict::NeedsRestart => Err(Failure::new(
                Exit::RestartNeeded,
                format!("{step} takes a restart: {}", self.because.as_deref().unwrap_or_default()),
            )),
            _ => Err(Failure::new(
                Exit::No,
                format!("{step} is not as it should be: {}", self.lines.join("; ")),
            )),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step;
        let because = self.because.as_deref().unwrap_or_default();
        match self.verdict {
            Verdict::NothingToDo => write!(f, "{step}: nothing to do, all is as it should be")?,
            Verdict::Changes => write!(f, "{step}: to be done:")?,
            Verdict::NeedsRestart => write!(f, "{step}: to be done, with a restart ({because}):")?,
            Verdict::NotApplicable => write!(f, "{step}: not applicable on this host: {because}")?,
            Verdict::Refused => write!(f, "{step}: cannot be done: {because}")?,
            Verdict::Failed => write!(f, "{step}: failed: {because}")?,
        }
        self.lines.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
        self.notes.iter().try_for_each(|note| write!(f, "\n  note: {note}"))
    }
}

/// Changes without a plan, as JSON.
fn values(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| json!({ "kind": "action", "action": line })).collect()
}

/// What `apply` did.
#[derive(Debug, Clone, Serialize)]
pub struct Applied {
    /// The step.
    pub step: &'static str,
    /// Whether anything was changed.
    pub changed: bool,
    /// The changes that were made, in their order.
    pub changes: Vec<Value>,
    /// The same, for people.
    #[serde(skip)]
    pub lines: Vec<String>,
    /// What the operator should know besides.
    pub notes: Vec<String>,
}

impl Applied {
    pub(super) fn of_plan<A: Action>(plan: &Plan<A>) -> Self {
        Self {
            step: plan.step().as_str(),
            changed: !plan.changes().is_empty(),
            changes: plan.changes().iter().filter_map(|it| serde_json::to_value(it).ok()).collect(),
            lines: plan.changes().iter().map(ToString::to_string).collect(),
            notes: plan.notes().to_vec(),
        }
    }

    /// Of a step that has no plan: what it did, in its own words.
    pub fn of_done(step: &'static str, done: &[impl fmt::Display]) -> Self {
        let lines: Vec<String> = done.iter().map(ToString::to_string).collect();
        Self { step, changed: !lines.is_empty(), changes: values(&lines), lines, notes: Vec::new() }
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step;
        if self.changed {
            write!(f, "{step}: installed and verified; done:")?;
            self.lines.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
        } else {
            write!(f, "{step}: nothing to do, all is as it should be")?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n  note: {note}"))
    }
}

/// What `undo` did.
#[derive(Debug, Clone, Serialize)]
pub struct Undone {
    /// The step.
    pub step: &'static str,
    /// What was taken back, in this order; empty when there was nothing.
    pub items: Vec<UndoneItem>,
    /// What the operator should know besides.
    pub notes: Vec<String>,
}

/// What became of one thing that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum UndoneItem {
    /// It is there again as it was before.
    Restored {
        /// The file.
        path: PathBuf,
    },
    /// It was not there before, and is gone.
    Removed {
        /// The file or directory.
        path: PathBuf,
    },
    /// It was as before already.
    AsBefore {
        /// The file or directory.
        path: PathBuf,
    },
    /// Others' things are in it.
    Kept {
        /// The directory.
        path: PathBuf,
    },
    /// Others rely on it by now.
    Left {
        /// The file or directory.
        path: PathBuf,
    },
    /// What we put into it was taken out; the rest was changed since, and stays.
    Rewritten {
        /// The file.
        path: PathBuf,
    },
    /// Something was done, so that it takes effect.
    Done {
        /// What.
        action: String,
    },
}

impl fmt::Display for UndoneItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restored { path } => write!(f, "restored {}", path.display()),
            Self::Removed { path } => write!(f, "removed {}", path.display()),
            Self::AsBefore { path } => write!(f, "{} is as it was before", path.display()),
            Self::Kept { path } => write!(f, "{} stays: it is not empty", path.display()),
            Self::Left { path } => write!(f, "{} stays: it is in use", path.display()),
            Self::Rewritten { path } => write!(f, "took our part out of {}", path.display()),
            Self::Done { action } => f.write_str(action),
        }
    }
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step;
        if self.items.is_empty() {
            write!(f, "{step}: nothing to take back, there is no record of it")?;
        } else {
            write!(f, "{step}: taken back; done:")?;
            self.items.iter().try_for_each(|item| write!(f, "\n  {item}"))?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n  note: {note}"))
    }
}
