//! `undo --all`: every step that the journal holds, the last one first.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::StepName;
use super::cni::{self, CniUndo};
use super::docker_store::DockerStoreUndo;
use super::model::{Engine, Undone};
use crate::exit::{Exit, Failure, Result};
use crate::host::Host;
use crate::journal::Document;
use crate::options::UndoAllOptions;

/// What became of all steps.
#[derive(Debug, Serialize)]
pub struct AllUndone {
    undone: Vec<Undone>,
    failed: Vec<StepFailure>,
    #[serde(skip)]
    exit: Option<Exit>,
}

#[derive(Debug, Serialize)]
struct StepFailure {
    step: StepName,
    exit: u8,
    because: String,
}

impl AllUndone {
    /// What the process ends with: a failure that names all of them, with the exit code of the first.
    pub fn outcome(&self) -> Result<()> {
        let Some(exit) = self.exit else { return Ok(()) };
        let said: Vec<String> = self.failed.iter().map(|it| format!("{}: {}", it.step, it.because)).collect();
        Err(Failure::new(exit, format!("not everything was taken back: {}", said.join("; "))))
    }
}

impl fmt::Display for AllUndone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.undone.is_empty() && self.failed.is_empty() {
            return f.write_str("nothing to take back: the journal is empty");
        }
        let done = self.undone.iter().map(ToString::to_string);
        let failed = self.failed.iter().map(|it| format!("{}: not taken back: {}", it.step, it.because));
        f.write_str(&done.chain(failed).collect::<Vec<_>>().join("\n"))
    }
}

/// Takes back all that the journal holds. A step that fails does not keep the others from being taken back.
pub async fn undo_all(host: &Host, options: &UndoAllOptions) -> Result<AllUndone> {
    let lock_timeout = Duration::from_secs(options.state.lock_timeout);
    let engine = Engine { host, state_dir: &options.state.state_dir, lock_timeout };
    let document = Document::read(host.files(), &options.state.state_dir)?;
    let mut all = AllUndone { undone: Vec::new(), failed: Vec::new(), exit: None };
    for step in StepName::ALL.into_iter().rev() {
        for outcome in undo(engine, step, &document, options).await {
            match outcome {
                Ok(undone) => all.undone.push(undone),
                Err(failure) => {
                    all.exit.get_or_insert(failure.exit());
                    let (exit, because) = (failure.exit() as u8, failure.one_line());
                    all.failed.push(StepFailure { step, exit, because });
                }
            }
        }
    }
    Ok(all)
}

/// Undoes one step; a step that was installed several times (networks) has several outcomes.
async fn undo(
    engine: Engine<'_>,
    step: StepName,
    document: &Document,
    options: &UndoAllOptions,
) -> Vec<Result<Undone>> {
    let entries = document.entries_of(step);
    if entries.is_empty() && document.unfinished.iter().all(|run| run.step != step) {
        return Vec::new();
    }
    match step {
        StepName::DockerClusterStore => {
            let UndoAllOptions { force, unit, restarts, state, .. } = options;
            let (state_dir, restarts, force) = (&*state.state_dir, *restarts, *force);
            let store = DockerStoreUndo { unit, state_dir, restarts, complete: false, force };
            vec![engine.undo(&store, force).await]
        }
        StepName::Cni => {
            let mut outcomes = Vec::new();
            let networks = cni::networks_of(&entries);
            // Without a configuration only the plugins are left.
            let networks: Vec<_> =
                if networks.is_empty() { vec![None] } else { networks.iter().map(Some).collect() };
            for network in networks {
                let UndoAllOptions { force, agent, etcd_endpoints: etcd, .. } = options;
                outcomes.push(engine.undo(&CniUndo { network, force: *force, agent, etcd }, *force).await);
            }
            outcomes
        }
    }
}
