//! `undo --all`: every step that the journal holds, the last one first, and the containers that carry our label.

use std::fmt;

use serde::Serialize;

use super::StepName;
use super::cni::{self, CniUndo};
use super::docker_store::DockerStoreUndo;
use super::libnetwork::Libnetwork;
use super::model::{Engine, Undo as _, Undone};
use super::net_modules::NetModulesUndo;
use super::node::CalicoNode;
use super::supervise::service::{self, Service};
use crate::exit::{Exit, Failure, Result};
use crate::host::Host;
use crate::journal::Document;
use crate::options::{ServiceUndoOptions, UndoAllOptions};
use crate::values::NetworkName;

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
            return f.write_str("nothing to take back: the journal is empty, and no container is ours");
        }
        let done = self.undone.iter().map(ToString::to_string);
        let failed = self.failed.iter().map(|it| format!("{}: not taken back: {}", it.step, it.because));
        f.write_str(&done.chain(failed).collect::<Vec<_>>().join("\n"))
    }
}

/// Takes back all that the journal holds, and our containers. A step that fails does not keep the others from being taken
/// back.
pub async fn undo_all(host: &Host, options: &UndoAllOptions) -> Result<AllUndone> {
    let document = Document::read(host.files(), &options.state.state_dir)?;
    let mut all = AllUndone { undone: Vec::new(), failed: Vec::new(), exit: None };
    for step in StepName::ALL.into_iter().rev() {
        let outcomes = match step {
            StepName::DockerClusterStore => docker_store(host, options, &document).await,
            StepName::Cni => cni(host, options, &document).await,
            StepName::NetModules => net_modules(host, options, &document).await,
            StepName::CalicoNode => calico_node(host, options, &document).await,
            StepName::Libnetwork => service::<Libnetwork>(host, options, &document, Ok(())).await,
        };
        for outcome in outcomes {
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

/// Whether the journal holds anything of a step.
fn holds(document: &Document, step: StepName) -> bool {
    !document.entries_of(step).is_empty() || document.unfinished.iter().any(|run| run.step == step)
}

async fn docker_store(host: &Host, options: &UndoAllOptions, document: &Document) -> Vec<Result<Undone>> {
    if !holds(document, StepName::DockerClusterStore) {
        return Vec::new();
    }
    let UndoAllOptions { force, unit, restarts, state, .. } = options;
    let store = DockerStoreUndo {
        unit,
        state_dir: &state.state_dir,
        restarts: *restarts,
        complete: false,
        force: *force,
    };
    vec![Engine::new(host, state).undo(&store, *force).await]
}

/// One outcome a network.
async fn cni(host: &Host, options: &UndoAllOptions, document: &Document) -> Vec<Result<Undone>> {
    let mut outcomes = Vec::new();
    for network in cni_networks(document) {
        let undo = cni_undo(options, network.as_ref());
        outcomes.push(Engine::new(host, &options.state).undo(&undo, options.force).await);
    }
    outcomes
}

/// The networks that are installed; without a configuration only the plugins are left.
fn cni_networks(document: &Document) -> Vec<Option<NetworkName>> {
    let networks = cni::networks_of(&document.entries_of(StepName::Cni));
    if networks.is_empty() && holds(document, StepName::Cni) {
        return vec![None];
    }
    networks.into_iter().map(Some).collect()
}

fn cni_undo<'a>(options: &'a UndoAllOptions, network: Option<&'a NetworkName>) -> CniUndo<'a> {
    let UndoAllOptions { force, restarts, agent, agent_unit, .. } = options;
    CniUndo { network, force: *force, complete: false, restarts: *restarts, agent, unit: agent_unit }
}

async fn net_modules(host: &Host, options: &UndoAllOptions, document: &Document) -> Vec<Result<Undone>> {
    if !holds(document, StepName::NetModules) {
        return Vec::new();
    }
    let undo = net_modules_undo(options);
    vec![Engine::new(host, &options.state).undo(&undo, options.force).await]
}

fn net_modules_undo(options: &UndoAllOptions) -> NetModulesUndo<'_> {
    let UndoAllOptions { force, restarts, agent, agent_unit, state, .. } = options;
    NetModulesUndo {
        force: *force,
        restarts: *restarts,
        agent,
        unit: agent_unit,
        state_dir: &state.state_dir,
    }
}

/// Tasks that keep CNI, or net-modules, from being taken back need calico-node as well.
async fn calico_node(host: &Host, options: &UndoAllOptions, document: &Document) -> Vec<Result<Undone>> {
    let mut free = Ok(());
    for network in cni_networks(document) {
        let asked = async {
            let recorded = document.of_step(StepName::Cni)?;
            cni_undo(options, network.as_ref()).next(host, &recorded).await
        };
        free = free.and(asked.await.map(drop));
    }
    if holds(document, StepName::NetModules) {
        let asked = async {
            let recorded = document.of_step(StepName::NetModules)?;
            net_modules_undo(options).next(host, &recorded).await
        };
        free = free.and(asked.await.map(drop));
    }
    service::<CalicoNode>(host, options, document, free).await
}

/// Undoes a service of which something is there, if it is `free` to go.
async fn service<S: Service>(
    host: &Host,
    options: &UndoAllOptions,
    document: &Document,
    free: Result<()>,
) -> Vec<Result<Undone>> {
    let UndoAllOptions { force, unit, state, .. } = options;
    let undone = async {
        if !service::is_there::<S>(unit).await? && !holds(document, S::STEP) {
            return Ok(None);
        }
        free?;
        let options = ServiceUndoOptions { force: *force, unit: unit.clone(), state: state.clone() };
        service::undo::<S>(host, &options).await.map(Some)
    };
    undone.await.transpose().into_iter().collect()
}
