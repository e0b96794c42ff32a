//! The Mesos agent as steps change it: where its flags are set, and its restart, which they take effect by.

use crate::exit::{Exit, Failure, Result};
use crate::host::agent::{Agent, AgentFlags, MesosVersion};
use crate::host::systemd::Unit;
use crate::journal::Recorded;
use crate::steps::StepName;
use crate::steps::model::Proposal;

pub mod restart;
pub mod settings;

use restart::Action;

/// What an agent says of itself.
#[derive(Debug)]
pub struct Asked {
    /// Which version runs.
    pub version: MesosVersion,
    /// What it was started with.
    pub flags: AgentFlags,
}

/// Asks an agent, which `step` may have been about to restart.
pub async fn ask(agent: &Agent, recorded: &Recorded<Action>, step: StepName) -> Result<Asked> {
    let asked = async { Ok(Asked { version: agent.version().await?, flags: agent.flags().await? }) };
    asked.await.map_err(|failure: Failure| {
        let begun = recorded.unfinished.as_ref().is_some_and(|actions| !actions.is_empty());
        if begun && failure.exit() == Exit::Unavailable {
            return failure.also(format!(
                "an earlier run was interrupted when it was to restart it: start it, or take back what was begun by \
                 `calico-installer {} undo --force`",
                step.command()
            ));
        }
        failure
    })
}

/// The agent of the unit `name` is to be restarted: what that ends is said, and what it must not end is refused.
pub async fn propose_restart(
    proposal: &mut Proposal<Action>,
    (name, unit): (&str, &Unit),
    agent: &Agent,
    flags: &AgentFlags,
    reload: bool,
    because: String,
) -> Result<()> {
    restart::refuse_if_all_ends(name, unit, flags)?;
    let ended = agent.state().await?.ended_by_restart();
    let mut why = format!("{name} must be restarted: {because}");
    if !ended.is_empty() {
        let ended = format!("that ends tasks of frameworks that do not checkpoint: {}", ended.join(", "));
        proposal.note(&*ended);
        why = format!("{why}; {ended}");
    }
    proposal.restart(why);
    proposal.action(Action::RestartAgent { reload }, because);
    Ok(())
}
