//! `net-modules`: the modules by which an agent of Mesos 0.28 puts containers on Calico's network. By hand only: the
//! scheduler never launches it, because Mesos offers it nothing of such agents.
//!
//! Programs first, then the file that names them, then the flags that use what is in that: whenever the agent is started
//! meanwhile, it finds all that it is told of. It loads modules only when it starts, so it is restarted at the end, which
//! must be allowed. Undo goes the other way.

use std::path::Path;

use crate::exit::{Failure, Result};
use crate::host::Host;
use crate::host::agent::{Agent, AgentFlags};
use crate::journal::Recorded;
use crate::options::{FindAgentOptions, NetModulesOptions};
use crate::steps::StepName;
use crate::steps::agent::restart::{Action, Restarter};
use crate::steps::model::{Acts, Change, Direction, Plan, Proposal, Step};
use crate::steps::status::{Installed, Seen};

pub mod modules_json;
pub mod place;
mod survey;
mod undo;

use modules_json::{HOOK, ISOLATOR};
use place::{HOOKS, ISOLATION, MODULES};
pub use survey::serves;
pub use undo::NetModulesUndo;

/// The library's name.
const LIBRARY: &str = "libmesos_network_isolator.so";
/// What the isolator runs for each container.
const COMMAND: &str = "/calico/calico_mesos";

/// The step, as it is installed.
#[derive(Debug)]
pub struct NetModules<'a> {
    options: &'a NetModulesOptions,
    /// Whether it is only compared with what there is. Checksums do for that: artifacts need not be there.
    compares: bool,
    restarter: Restarter<'a>,
}

impl<'a> NetModules<'a> {
    /// With these options.
    pub fn new(options: &'a NetModulesOptions) -> Self {
        let restarter = Restarter::new(&options.unit, options.step.restarts.allow_restart);
        Self { options, compares: false, restarter }
    }

    /// The same, to be compared only.
    #[must_use]
    pub fn compared(self) -> Self {
        Self { compares: true, ..self }
    }

    async fn agent(&self, host: &Host) -> Result<Agent> {
        Ok(Agent::at(self.options.step.agent_url(host).await?))
    }
}

impl Acts for NetModules<'_> {
    type Action = Action;
    const NAME: StepName = StepName::NetModules;

    async fn act(&self, host: &Host, action: &Action, direction: Direction) -> Result<()> {
        self.restarter.act(&self.agent(host).await?, action, direction).await
    }
}

impl Step for NetModules<'_> {
    async fn check(&self, host: &Host, recorded: &Recorded<Action>) -> Result<Proposal<Action>> {
        survey::survey(host, self, recorded).await
    }

    async fn verify(&self, host: &Host, plan: &Plan<Action>) -> Result<()> {
        if !plan.changes().iter().any(|change| matches!(change, Change::Action { .. })) {
            return Ok(());
        }
        let missing = not_loaded(&self.agent(host).await?.flags().await?);
        if missing.is_empty() {
            return Ok(());
        }
        Err(Failure::unsuitable(format!(
            "the Mesos agent was restarted, and has not loaded {} all the same: something else sets its flags",
            missing.join(" and ")
        )))
    }
}

/// Our modules that a running agent has not loaded, or does not use.
fn not_loaded(flags: &AgentFlags) -> Vec<&'static str> {
    // How Mesos prints the file of modules is its own; the names are in it.
    let loads = |module: &str| flags.get(MODULES).is_some_and(|modules| modules.contains(module));
    let uses = |flag: &str, module: &str| {
        flags.get(flag).is_some_and(|list| place::names(list).any(|name| name == module))
    };
    let missing = |(flag, module): &(&str, &'static str)| !(loads(module) && uses(flag, module));
    [(ISOLATION, ISOLATOR), (HOOKS, HOOK)].into_iter().filter(missing).map(|(_, module)| module).collect()
}

/// Whether a file is one of our programs, and not something that names them.
fn is_program(path: &Path) -> bool {
    let command = Path::new(COMMAND).file_name();
    path.file_name() == Some(LIBRARY.as_ref()) || path.file_name() == command
}

/// What is seen of it: what the running agent has loaded.
pub async fn seen(host: &Host, agent: &FindAgentOptions) -> Seen {
    let look = async { Agent::at(agent.url(host).await?).flags().await };
    match look.await {
        Err(failure) => Seen { installed: Installed::Unknown, what: vec![failure.one_line()] },
        Ok(flags) => seen_in(&flags),
    }
}

fn seen_in(flags: &AgentFlags) -> Seen {
    let missing = not_loaded(flags);
    let loaded = |module: &&str| !missing.contains(module);
    let what = [ISOLATOR, HOOK].iter().filter(|module| loaded(module));
    let what: Vec<String> = what.map(|module| format!("the agent has loaded {module}")).collect();
    let installed = match missing.len() {
        0 => Installed::Yes,
        1 => Installed::Partly,
        _ => Installed::No,
    };
    Seen { installed, what }
}

#[cfg(test)]
mod tests;
