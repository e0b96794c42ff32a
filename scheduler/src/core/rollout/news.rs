//! What happens in a rollout, for logs and the history.

use std::fmt;
use std::time::Duration;

use super::super::ids::{AgentKey, TaskType};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutNews {
    /// The operator wants another target than before.
    Begins {
        /// Which, counted.
        number: u64,
        /// The task types that have changed.
        changed: Vec<TaskType>,
    },
    /// The operator's target is not followed.
    Refused {
        /// Why not, and what to do.
        why: String,
    },
    /// An agent has its place.
    AgentBegins {
        /// Its address.
        agent: AgentKey,
    },
    /// A service is ended for its successor, or because it is no longer wanted.
    Ended {
        /// Where.
        agent: AgentKey,
        /// What.
        task_type: TaskType,
        /// For which rollout.
        number: u64,
    },
    /// A service has its successor.
    Replaced {
        /// Where.
        agent: AgentKey,
        /// What.
        task_type: TaskType,
        /// For how long there was none: from its end until its successor was ready.
        gap: Duration,
    },
    /// An agent has the new target, and is healthy.
    AgentUpdated {
        /// Its address.
        agent: AgentKey,
        /// For how long it had its place.
        took: Duration,
    },
    /// An agent has failed.
    AgentFailed {
        /// Its address.
        agent: AgentKey,
        /// Why.
        why: String,
    },
    /// The canaries have the new target.
    CanariesDone {
        /// So long the others wait.
        wait: Duration,
    },
    /// Nothing new is begun.
    Halted {
        /// Why.
        why: String,
    },
    /// All agents go back to what they had before.
    RollsBack {
        /// Why.
        why: String,
    },
    /// No agent is behind any more, and none has failed.
    Complete {
        /// Which rollout.
        number: u64,
    },
    /// An operator has commanded something.
    Commanded {
        /// What.
        what: String,
    },
}

impl RolloutNews {
    /// What kind of thing it is, in the history.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Begins { .. } => "rollout-begins",
            Self::Refused { .. } => "rollout-refused",
            Self::AgentBegins { .. } => "update-begins",
            Self::Ended { .. } => "ended",
            Self::Replaced { .. } => "replaced",
            Self::AgentUpdated { .. } => "updated",
            Self::AgentFailed { .. } => "update-failed",
            Self::CanariesDone { .. } => "canaries-done",
            Self::Halted { .. } => "halted",
            Self::RollsBack { .. } => "rolls-back",
            Self::Complete { .. } => "complete",
            Self::Commanded { .. } => "commanded",
        }
    }

    /// The agent that it is about.
    pub fn agent(&self) -> Option<&AgentKey> {
        match self {
            Self::AgentBegins { agent }
            | Self::Ended { agent, .. }
            | Self::Replaced { agent, .. }
            | Self::AgentUpdated { agent, .. }
            | Self::AgentFailed { agent, .. } => Some(agent),
            _ => None,
        }
    }

    /// Whether an operator should see to it.
    pub fn is_trouble(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::AgentFailed { .. } | Self::Halted { .. } | Self::RollsBack { .. }
        )
    }
}

impl fmt::Display for RolloutNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasting = |duration: &Duration| humantime::format_duration(*duration);
        match self {
            Self::Begins { number, changed } => {
                let changed: Vec<&str> = changed.iter().map(|task_type| task_type.name()).collect();
                let changed = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
                write!(f, "rollout {number} begins; changed: {changed}")
            }
            Self::Refused { why } => write!(f, "the configuration is not followed: {why}"),
            Self::AgentBegins { .. } => f.write_str("the agent has its place in the rollout"),
            Self::Ended { task_type, number, .. } => {
                write!(f, "{task_type} is ended for rollout {number}, as intended")
            }
            Self::Replaced { task_type, gap, .. } => {
                write!(f, "{task_type} is replaced; there was none for {}", lasting(gap))
            }
            Self::AgentUpdated { took, .. } => {
                write!(f, "the agent has the new target and is healthy, after {}", lasting(took))
            }
            Self::AgentFailed { why, .. } => write!(f, "the agent has failed in the rollout: {why}"),
            Self::CanariesDone { wait } => {
                write!(f, "the canaries have the new target, the others follow in {}", lasting(wait))
            }
            Self::Halted { why } => write!(f, "the rollout has halted, nothing new is begun: {why}"),
            Self::RollsBack { why } => {
                write!(f, "the rollout has failed, all agents go back to what they had before: {why}")
            }
            Self::Complete { number } => write!(f, "rollout {number} is complete"),
            Self::Commanded { what } => write!(f, "an operator has commanded: {what}"),
        }
    }
}
