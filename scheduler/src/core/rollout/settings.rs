//! What the operator says about rollouts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::ids::{TargetHash, TaskType};
use super::super::share::Share;
use super::super::spec::Spec;
use super::super::state::Definition;
use super::windows::Windows;

/// `rollout.*`, and what else rollouts depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// In which order.
    pub strategy: RolloutStrategy,
    /// So many agents go first.
    pub canary_count: usize,
    /// So long it is waited after them.
    pub canary_soak: Duration,
    /// How many agents may be under way at the same time, of those that there are.
    pub max_agents: Share,
    /// How many of one domain may be.
    pub max_per_domain: Option<usize>,
    /// The attribute that says an agent's domain; without one its region and zone do.
    pub domain_attribute: Option<String>,
    /// When agents may begin.
    pub windows: Windows,
    /// With so many failures in a row of one step its agent has failed.
    pub max_attempts: u32,
    /// With so many failed agents nothing new is begun.
    pub max_failures: usize,
    /// What follows then for those that have begun.
    pub on_failure: OnFailure,
    /// The host that this scheduler runs on: its agents come last.
    pub own_host: Option<String>,
    /// How task types that are no longer wanted are taken back, where the operator wants that.
    pub undo: BTreeMap<TaskType, Spec>,
    /// Task types that are not wanted: what they need of others, should they come from an earlier configuration. Their goal,
    /// needs and target are that one's.
    pub unwanted: BTreeMap<TaskType, Spec>,
    /// What all that may be launched is launched with, so that it can be done again under another configuration.
    pub definitions: BTreeMap<TargetHash, Definition>,
    /// The options whose change is not safe, and their values.
    pub guarded: BTreeMap<String, String>,
    /// Those of them whose change the operator wants all the same.
    pub allow_unsafe: BTreeSet<String>,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: RolloutStrategy::Canary,
            canary_count: 1,
            canary_soak: Duration::from_mins(1),
            max_agents: Share::Percent(10),
            max_per_domain: None,
            domain_attribute: None,
            windows: Windows::default(),
            max_attempts: 5,
            max_failures: 1,
            on_failure: OnFailure::Halt,
            own_host: None,
            undo: BTreeMap::new(),
            unwanted: BTreeMap::new(),
            definitions: BTreeMap::new(),
            guarded: BTreeMap::new(),
            allow_unsafe: BTreeSet::new(),
        }
    }
}

impl RolloutStrategy {
    /// As operators name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Serial => "serial",
            Self::Parallel => "parallel",
        }
    }
}

/// What follows when a rollout has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing new is begun before an operator says so.
    Halt,
    /// All agents go back to what they had before.
    Rollback,
}

/// In which order agents are brought to a new target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutStrategy {
    /// A few first, then a pause, then the others, several at a time.
    Canary,
    /// One after the other.
    Serial,
    /// Several at a time from the beginning.
    Parallel,
}
