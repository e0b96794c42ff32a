//! What is stored of a rollout: as a whole with the cluster's record, and with each agent that has a place in it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::ids::{AgentKey, TargetHash, TaskType, Timestamp};

/// The rollout that is, or was last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// Counts the targets that there were; 0 before the first.
    pub number: u64,
    /// Since when this target is the operator's.
    pub since: Timestamp,
    /// What each task type is launched with.
    pub targets: BTreeMap<TaskType, TargetHash>,
    /// Those of them that are not wanted: what they are launched with takes them back.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub undone: BTreeSet<TaskType>,
    /// The options whose change is not safe, as this target has them.
    pub guarded: BTreeMap<String, String>,
    /// The last target before whose rollout came to its end: what agents go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Earlier>>,
    /// What the operator wants, when this rollout goes back from that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<Box<GivenUp>>,
    /// Whether it has come to its end: no agent waited, had its place or had failed any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
    /// How far it is.
    #[serde(default)]
    pub stage: Stage,
    /// The agents that went first.
    #[serde(default)]
    pub canaries: Vec<AgentKey>,
    /// Why it has halted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
    /// Whether the operator has stopped it: no agent begins before it is started again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// The plans that the operator has paused.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub paused: BTreeSet<Plan>,
}

/// A target that was the operator's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    /// What each task type is launched with.
    pub targets: BTreeMap<TaskType, TargetHash>,
    /// Those of them that are not wanted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub undone: BTreeSet<TaskType>,
    /// The options whose change is not safe, as it has them.
    pub guarded: BTreeMap<String, String>,
}

/// A target that is the operator's still, and has failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GivenUp {
    /// The rollout that has failed.
    pub number: u64,
    /// Why.
    pub why: String,
    /// What each task type was launched with.
    pub targets: BTreeMap<TaskType, TargetHash>,
}

/// A plan's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// What an agent gets first.
    Deploy,
    /// What a changed target asks for.
    Update,
    /// What broke.
    Recovery,
}

impl Plan {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Deploy, Self::Update, Self::Recovery];

    /// As operators name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Update => "update",
            Self::Recovery => "recovery",
        }
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How far a rollout is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum Stage {
    /// The canaries go first; where the strategy has none, nothing has begun.
    #[default]
    Canary,
    /// They are done: the others wait for a while.
    Soak {
        /// Since when.
        since: Timestamp,
    },
    /// The others.
    Rest,
}

/// An agent's place in a rollout: held, and stored, from before its first step until it is healthy with the new target,
/// or has failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The rollout in which it began.
    pub number: u64,
    /// Since when it is held.
    pub since: Timestamp,
    /// The step that is under way; none when all are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<TaskType>,
    /// Since when that is so.
    pub step_since: Timestamp,
    /// The agent's domain, where only so many of one may be under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The service that is being ended for its successor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<TaskType>,
    /// The service that has ended, whose successor is not ready yet, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<(TaskType, Timestamp)>,
    /// Why the agent has failed: its place is free then, and it waits for an operator or another target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// What an operator has ordered for a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Order {
    /// It is left as it is, whatever the target, until that is taken back.
    Skip,
    /// It counts as complete with this target.
    Complete {
        /// The target.
        target: TargetHash,
    },
    /// It is to be done again.
    Again,
}
