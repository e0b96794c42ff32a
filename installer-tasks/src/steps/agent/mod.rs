//! The Mesos agent as steps change it: where its flags are set, and its restart, which they take effect by.

use crate::exit::{Exit, Failure, Result};
use crate::host::agent::{Agent, AgentFlags, AgentState, MesosVersion};
use crate::host::platform;
use crate::host::systemd::{Systemd, Unit};
use crate::journal::Recorded;
use crate::options::AgentUnitOptions;
use crate::steps::StepName;
use crate::steps::model::Proposal;

pub mod later;
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
    let mut why = format!("{name} must be restarted: {because}");
    if let Some(ended) = ended(&agent.state().await?) {
        proposal.note(&*ended);
        why = format!("{why}; {ended}");
    }
    proposal.restart(why);
    proposal.action(Action::RestartAgent { reload }, because);
    Ok(())
}

/// What a restart ends, in words, of an agent that is to be restarted when a step is undone; what it must not end is
/// refused. It may have become another since the step was installed.
pub async fn ended_by_undo(
    options: &AgentUnitOptions,
    flags: &AgentFlags,
    state: &AgentState,
) -> Result<Option<String>> {
    let systemd = Systemd::connect().await?;
    let (name, unit) = platform::agent_unit(&systemd, options.platform, options.unit.as_deref()).await?;
    restart::refuse_if_all_ends(&name, &unit, flags)?;
    Ok(ended(state))
}

/// What a restart of this agent ends although it is to outlive it, in words.
fn ended(state: &AgentState) -> Option<String> {
    let ended = state.ended_by_restart();
    (!ended.is_empty())
        .then(|| format!("that ends tasks of frameworks that do not checkpoint: {}", ended.join(", ")))
}

/// Refuses the restart that an undo takes, for `what`, where it was not allowed.
pub fn refuse_forbidden_restart(what: &str, ended: Option<&str>) -> Failure {
    let ended = ended.map(|ended| format!("; {ended}")).unwrap_or_default();
    Failure::new(
        Exit::RestartNeeded,
        format!(
            "the Mesos agent must be restarted to give up {what} (--allow-restart){ended}; nothing was changed"
        ),
    )
}
