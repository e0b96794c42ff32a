//! `status`: what is installed, as it is seen on the host now, and what the journal holds of it.
//!
//! The two are found apart from each other: the journal says where to take back, not what is there.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::StepName;
use super::cni;
use super::docker_store;
use super::libnetwork::Libnetwork;
use super::net_modules;
use super::node::CalicoNode;
use super::supervise::service;
use crate::exit::Result;
use crate::host::Host;
use crate::host::files::{FileError, Files};
use crate::journal::{Document, Entry, What};
use crate::options::StatusOptions;

/// Whether a step is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Installed {
    /// All of it is there.
    Yes,
    /// Some of it is there.
    Partly,
    /// None of it is there.
    No,
    /// It cannot be seen now.
    Unknown,
}

/// What is seen of a step on the host, without the journal.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// Whether it is installed.
    pub installed: Installed,
    /// What was seen, or why nothing was.
    pub what: Vec<String>,
}

/// What became of something that the journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Now {
    /// As we wrote it.
    AsWritten,
    /// As it was before we came.
    AsBefore,
    /// It is gone.
    Missing,
    /// Someone else changed it.
    ChangedSince,
}

/// Something that the journal holds.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    path: PathBuf,
    /// The version of calico-installer that wrote it last; `None` when that did not record it.
    by: Option<String>,
    now: Now,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct StepStatus {
    step: StepName,
    seen: Seen,
    journal: Vec<Recorded>,
    /// A run was interrupted, and is to be finished by `apply` or taken back by `undo`.
    interrupted: bool,
}

/// All steps.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    version: &'static str,
    state_dir: PathBuf,
    steps: Vec<StepStatus>,
}

/// Looks at the host. Changes nothing.
pub async fn status(host: &Host, options: &StatusOptions) -> Result<Status> {
    let state_dir = options.state.state_dir.clone();
    let document = Document::read(host.files(), &state_dir)?;
    let mut steps = Vec::new();
    for step in StepName::ALL {
        let entries = document.entries_of(step);
        let seen = match step {
            StepName::DockerClusterStore => docker_store::seen(host, &options.unit).await?,
            StepName::Cni => cni::seen(host, &options.agent).await,
            StepName::NetModules => net_modules::seen(host, &options.agent).await,
            StepName::CalicoNode => service::seen::<CalicoNode>(&options.unit.docker.socket).await,
            StepName::Libnetwork => service::seen::<Libnetwork>(&options.unit.docker.socket).await,
        };
        let recorded = |entry: &Entry| {
            let Entry { path, by, .. } = entry;
            Ok(Recorded { path: path.clone(), by: by.clone(), now: now(host.files(), entry)? })
        };
        steps.push(StepStatus {
            step,
            seen,
            journal: entries.iter().map(recorded).collect::<Result<_, FileError>>()?,
            interrupted: document.unfinished.iter().any(|run| run.step == step),
        });
    }
    Ok(Status { version: crate::journal::THIS_VERSION, state_dir, steps })
}

fn now(files: &Files, entry: &Entry) -> Result<Now, FileError> {
    let What::File { before, wrote, .. } = &entry.what else {
        return Ok(if files.has_directory(&entry.path)? { Now::AsWritten } else { Now::AsBefore });
    };
    Ok(match files.print_of(&entry.path) {
        Ok(Some(print)) if wrote.contains(&print.sha256) => Now::AsWritten,
        Ok(there) if there == *before => Now::AsBefore,
        Ok(None) => Now::Missing,
        // Something else than a file is there.
        Ok(Some(_)) | Err(FileError::NotRegular(_)) => Now::ChangedSince,
        Err(error) => return Err(error),
    })
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "calico-installer {}, journal in {}", self.version, self.state_dir.display())?;
        for StepStatus { step, seen, journal, interrupted } in &self.steps {
            let installed = match seen.installed {
                Installed::Yes => "installed",
                Installed::Partly => "installed in part",
                Installed::No => "not installed",
                Installed::Unknown => "not to be seen",
            };
            write!(f, "\n{step}: {installed}")?;
            seen.what.iter().try_for_each(|what| write!(f, "\n  {what}"))?;
            if journal.is_empty() {
                write!(f, "\n  the journal has no record of it")?;
            }
            for Recorded { path, by, now } in journal {
                let now = match now {
                    Now::AsWritten => "as it was written",
                    Now::AsBefore => "as it was before the install",
                    Now::Missing => "gone, though it was written",
                    Now::ChangedSince => "changed by someone else since it was written",
                };
                let by = by.as_deref().unwrap_or("an older version");
                write!(f, "\n  journal: {} (by {by}) is {now}", path.display())?;
            }
            if *interrupted {
                write!(f, "\n  a run was interrupted: `apply` finishes it, `undo` takes it back")?;
            }
        }
        Ok(())
    }
}
