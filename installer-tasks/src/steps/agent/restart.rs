//! The Mesos agent before and after a restart.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::exit::{Exit, Failure, Result};
use crate::host::agent::{Agent, AgentFlags, AgentState};
use crate::host::platform;
use crate::host::systemd::{JobResult, Systemd, Unit};
use crate::options::AgentUnitOptions;
use crate::say;
use crate::steps::model::Direction;

/// How long the unit may take to stop and to start.
const RESTART_LIMIT: Duration = Duration::from_mins(5);
/// How often the agent is asked whether it is back.
const PAUSE: Duration = Duration::from_millis(500);

/// What makes the agent take what only its start takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A restart.
    RestartAgent {
        /// Whether systemd must read its units again before it.
        reload: bool,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RestartAgent { reload: false } => f.write_str("restart the Mesos agent"),
            Self::RestartAgent { reload: true } => {
                f.write_str("let systemd read its units again, and restart the Mesos agent")
            }
        }
    }
}

/// Restarts the agent for a step that is installed, and again for one that is taken back.
#[derive(Debug)]
pub struct Restarter<'a> {
    /// How the agent is run.
    pub options: &'a AgentUnitOptions,
    /// Whether it may be restarted to take back what it may have read.
    pub allowed: bool,
    /// How it was before it was restarted.
    before: RefCell<Option<Before>>,
}

impl<'a> Restarter<'a> {
    /// Of an agent that was not restarted yet.
    pub fn new(options: &'a AgentUnitOptions, allowed: bool) -> Self {
        Self { options, allowed, before: RefCell::new(None) }
    }

    /// Does it.
    pub async fn act(&self, agent: &Agent, action: &Action, direction: Direction) -> Result<()> {
        let systemd = Systemd::connect().await?;
        action.reload(&systemd).await?;
        match direction {
            Direction::Forward => {
                let before = Before::look(&systemd, self.options, agent).await?;
                let before = self.before.borrow_mut().insert(before).clone();
                restart(&systemd, agent, &before).await
            }
            Direction::Back => {
                let before = self.before.borrow().clone();
                go_back(&systemd, self.options, agent, before.as_ref(), self.allowed).await
            }
        }
    }
}

impl Action {
    /// What is done before the restart.
    async fn reload(self, systemd: &Systemd) -> Result<()> {
        let Self::RestartAgent { reload } = self;
        if reload { Ok(systemd.reload().await?) } else { Ok(()) }
    }
}

/// Restarts the agent for a step that is undone.
pub async fn undo(agent: &Agent, options: &AgentUnitOptions, action: &Action) -> Result<()> {
    let systemd = Systemd::connect().await?;
    let before = Before::look(&systemd, options, agent).await?;
    action.reload(&systemd).await?;
    restart(&systemd, agent, &before).await
}

/// Refuses an agent whose restart would end tasks that are to outlive it.
pub fn refuse_if_all_ends(name: &str, unit: &Unit, flags: &AgentFlags) -> Result<()> {
    if !flags.recovers() {
        return Err(Failure::unsuitable(
            "the agent has --recover=cleanup, by which its restart ends all tasks on this host: it must be reconnect",
        ));
    }
    if !unit.spares_others() && !flags.moves_executors() {
        return Err(Failure::unsuitable(format!(
            "a restart of {name} ends all tasks on this host: its KillMode is {}, and the agent has \
             --no-systemd_enable_support; it must be KillMode=process",
            unit.kill_mode
        )));
    }
    Ok(())
}

/// The agent before it is restarted.
#[derive(Debug, Clone)]
struct Before {
    name: String,
    unit: Unit,
    /// The agent's ID; empty when any will do.
    id: String,
    /// When the agent was started, by its own word.
    start_time: f64,
    /// How long it may take to be back.
    patience: Duration,
}

impl Before {
    /// As it is now, and is to be again.
    async fn look(systemd: &Systemd, options: &AgentUnitOptions, agent: &Agent) -> Result<Self> {
        let (name, unit) = platform::agent_unit(systemd, options.platform, options.unit.as_deref()).await?;
        let flags = agent.flags().await?;
        let patience = flags.reregistration_timeout() + Duration::from_secs(options.patience);
        let AgentState { id, start_time, .. } = agent.state().await?;
        Ok(Self { name, unit, id, start_time, patience })
    }
}

/// Restarts the agent, and waits until it is registered again as the one that it was.
async fn restart(systemd: &Systemd, agent: &Agent, before: &Before) -> Result<()> {
    let name = &before.name;
    let job = systemd.restart(name, RESTART_LIMIT).await?;
    if let JobResult::Other(result) = job {
        let unit = systemd.unit(name).await?;
        return Err(Failure::unsuitable(format!(
            "{name} did not come back from its restart ({result}): it {}; `journalctl -u {name}` tells why",
            unit.condition()
        )));
    }
    // Again would be another restart: an operator must look first.
    back(agent, before).await.map_err(Failure::for_operator)
}

/// Waits until the agent is registered again.
async fn back(agent: &Agent, before: &Before) -> Result<()> {
    let limit = before.patience;
    say::progress(format_args!("waiting for the agent to register again, up to {} s", limit.as_secs()));
    let end = Instant::now() + limit;
    loop {
        let how = match how_far(agent, before).await {
            Ok(Progress::Back) => return Ok(()),
            Ok(Progress::Other(id)) => {
                let was = &before.id;
                return Err(Failure::unsuitable(format!(
                    "the Mesos agent came back from its restart as another one: its ID is {id}, and was {was}"
                )));
            }
            Ok(Progress::Waiting(how)) => how.to_owned(),
            Err(failure) => failure.one_line(),
        };
        if Instant::now() > end {
            let (name, limit) = (&before.name, limit.as_secs());
            return Err(Failure::new(
                Exit::TryAgain,
                format!(
                    "the Mesos agent did not register again within {limit} s of its restart ({how}); \
                     `journalctl -u {name}` tells more"
                ),
            ));
        }
        sleep(PAUSE).await;
    }
}

/// How far a restart is.
enum Progress {
    /// It is over.
    Back,
    /// It is not, in words.
    Waiting(&'static str),
    /// The agent has another ID, this one.
    Other(String),
}

async fn how_far(agent: &Agent, before: &Before) -> Result<Progress> {
    let state = agent.state().await?;
    Ok(if state.start_time.to_bits() == before.start_time.to_bits() {
        Progress::Waiting("it has not restarted")
    } else if state.id.is_empty() || !agent.is_registered().await? {
        Progress::Waiting("it is not registered")
    } else if before.id.is_empty() || state.id == before.id {
        Progress::Back
    } else {
        Progress::Other(state.id)
    })
}

/// Makes the agent take what is there again, if it may have taken what was there meanwhile.
async fn go_back(
    systemd: &Systemd,
    options: &AgentUnitOptions,
    agent: &Agent,
    before: Option<&Before>,
    may_restart: bool,
) -> Result<()> {
    let (name, unit) = match before {
        Some(before) => (before.name.clone(), systemd.unit(&before.name).await?),
        None => platform::agent_unit(systemd, options.platform, options.unit.as_deref()).await?,
    };
    // Not restarted yet, so nothing of what was written was read.
    if before.is_some_and(|before| unit.is_still(&before.unit)) {
        return Ok(());
    }
    let now = if unit.is_active() { agent.state().await.ok() } else { None };
    // One that is down loses nothing by a restart.
    if unit.is_active() && !may_restart {
        let why =
            if now.is_some() { "may have read what was taken back" } else { "does not answer any more" };
        return Err(Failure::new(
            Exit::Unavailable,
            format!("the Mesos agent {why}, and may not be restarted: restart {name}"),
        ));
    }
    let patience = before.map_or_else(|| Duration::from_secs(options.patience), |before| before.patience);
    // Whichever agent it was, it is to be there again.
    let start_time = now.map_or(0.0, |state| state.start_time);
    restart(systemd, agent, &Before { name, unit, id: String::new(), start_time, patience }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_whose_tasks_end_with_it_is_not_restarted() {
        let refused = |kill_mode: &str, flags: AgentFlags| {
            let unit = Unit { kill_mode: kill_mode.into(), ..Unit::default() };
            refuse_if_all_ends("mesos-slave.service", &unit, &flags).err().map(|failure| failure.to_string())
        };
        let without_systemd = || AgentFlags::from([("systemd_enable_support", "false")]);
        for (kill_mode, flags) in [
            ("process", without_systemd()),
            ("none", without_systemd()),
            ("control-group", AgentFlags::default()),
        ] {
            assert_eq!(refused(kill_mode, flags), None, "{kill_mode}");
        }
        for kill_mode in ["control-group", "mixed", ""] {
            let said = refused(kill_mode, without_systemd()).unwrap();
            assert!(said.contains("KillMode=process") && said.contains("mesos-slave.service"), "{said}");
        }
        let said = refused("process", AgentFlags::from([("recover", "cleanup")])).unwrap();
        assert!(said.contains("--recover=cleanup"), "{said}");
    }

    #[test]
    fn what_an_earlier_run_had_begun_is_read_from_the_journal() {
        let action = Action::RestartAgent { reload: true };
        let stored = serde_json::to_value(action).unwrap();
        assert_eq!(stored, serde_json::json!({ "restart-agent": { "reload": true } }));
        assert_eq!(serde_json::from_value::<Action>(stored).unwrap(), action);
    }
}
