//! What the core is configured with: each task type's goal and needs, and the times that it keeps.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::{TargetHash, TaskType};
use super::input::Agent;
use super::resources::Needs;
use super::rollout::Rollout;
use super::share::Share;

/// The operator's configuration, as far as decisions depend on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Whether more was done than is stored: then the master has its time to tell of all tasks before anything is
    /// launched, and is asked again when an agent joins or is back.
    pub doubtful: bool,
    /// One for every task type; a type without one is not there.
    pub specs: BTreeMap<TaskType, Spec>,
    /// Up to how many agents the configuration serves.
    pub capacities: Vec<Capacity>,
    /// Agents that are left alone.
    pub exclude: Vec<Selector>,
    /// When not empty: only these agents get anything.
    pub only: Vec<Selector>,
    /// Whose reservations are ours, and in which roles we make them.
    pub reservations: Reservations,
    /// How long a launch may go without an update before the master is asked about it.
    pub launch_timeout: Duration,
    /// How long a task may be at its beginning: an install until it is done, a service until it runs. Fetching artifacts
    /// is a part of that. Readiness is not: a service that runs is never ended for it.
    pub task_timeout: Duration,
    /// The first wait after a failure; doubled by each that follows.
    pub backoff_min: Duration,
    /// The longest wait after a failure.
    pub backoff_max: Duration,
    /// A service that was ready for so long starts counting its failures anew.
    pub stable_after: Duration,
    /// How long offers of agents on which nothing is to be done stay away.
    pub idle_filter: Duration,
    /// How long offers of agents whose turn comes soon stay away.
    pub turn_filter: Duration,
    /// The longest time for which offers of agents stay away that wait for a task of theirs.
    pub longest_wait_filter: Duration,
    /// When nothing was to be launched for so long, offers are suppressed, whatever is on its way.
    pub quiet: Duration,
    /// The shortest time between two REVIVE calls: each brings every agent's offer.
    pub revive_interval: Duration,
    /// Of so many agents at most are offers asked for by name.
    pub most_constrained: usize,
    /// So long before an agent goes down for maintenance nothing new starts there.
    pub maintenance_lead: Duration,
    /// How often the master is asked about all tasks.
    pub reconcile_interval: Duration,
    /// How long an agent may be away before it is forgotten.
    pub forget_after: Duration,
    /// How many services are recovered at the same time, of the active agents.
    pub max_recoveries: Share,
    /// When more of the agents than this are down at the same time, recoveries are held.
    pub mass_failure: Share,
    /// How long a recovery counts as under way when it neither succeeds nor fails.
    pub recovery_timeout: Duration,
    /// How often installs that are done are looked at; none when they are not.
    pub verify_interval: Option<Duration>,
    /// How many agents may be disrupted at the same time, of the active ones.
    pub max_restarts: Share,
    /// How long an agent has to become healthy after it was disrupted.
    pub agent_timeout: Duration,
    /// For so long it must be healthy until that is believed.
    pub stability: Duration,
    /// How a changed target comes to the agents.
    pub rollout: Rollout,
    /// How long an agent that went away counts as down: for so long the master waits for agents after a failover.
    pub away_counts: Duration,
    /// How long an agent that waits for an offer may get none before that is shown.
    pub offer_expected: Duration,
}

impl Settings {
    /// The times that are used unless a test says otherwise.
    pub fn new(specs: BTreeMap<TaskType, Spec>) -> Self {
        Self {
            doubtful: false,
            specs,
            capacities: Vec::new(),
            exclude: Vec::new(),
            only: Vec::new(),
            reservations: Reservations::default(),
            launch_timeout: Duration::from_mins(1),
            task_timeout: Duration::from_mins(15),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_mins(5),
            stable_after: Duration::from_mins(5),
            idle_filter: Duration::from_hours(1),
            turn_filter: Duration::from_secs(1),
            longest_wait_filter: Duration::from_mins(1),
            quiet: Duration::from_mins(1),
            revive_interval: Duration::from_secs(5),
            most_constrained: 500,
            maintenance_lead: Duration::from_hours(1),
            reconcile_interval: Duration::from_mins(15),
            forget_after: Duration::from_hours(24),
            max_recoveries: Share::Percent(10),
            mass_failure: Share::Percent(20),
            recovery_timeout: Duration::from_mins(5),
            verify_interval: Some(Duration::from_hours(1)),
            max_restarts: Share::Number(1),
            agent_timeout: Duration::from_mins(15),
            stability: Duration::from_secs(10),
            rollout: Rollout::default(),
            away_counts: Duration::from_mins(10),
            offer_expected: Duration::from_mins(1),
        }
    }

    /// Why `agent` is left alone, if it is.
    pub fn excluded(&self, agent: &Agent) -> Option<String> {
        if let Some(selector) = self.exclude.iter().find(|s| s.selects(agent)) {
            return Some(format!("excluded by agents.exclude ({})", selector.0));
        }
        if !self.only.is_empty() && !self.only.iter().any(|s| s.selects(agent)) {
            return Some("not selected by agents.only".to_owned());
        }
        None
    }
}

/// How services' resources are reserved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reservations {
    /// The framework's name: a label of our reservations.
    pub service: String,
    /// Who makes them: the framework's principal.
    pub principal: Option<String>,
    /// The roles in which they are made; nothing is reserved when there is none.
    pub roles: Vec<String>,
}

/// One task type's part of the target.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Whether the operator wants it.
    pub enabled: bool,
    /// What counts as done.
    pub goal: Goal,
    /// What one launch takes.
    pub needs: Needs,
    /// Identifies what it is launched with.
    pub target: TargetHash,
    /// Task types of the cluster that must be done before.
    pub after: Vec<TaskType>,
    /// Task types of the same agent without which it is of no use: skipped where one of them is.
    pub requires: Vec<TaskType>,
    /// Of a task type of the cluster: what must have reached its goal on the agent that it is launched on.
    pub beside: Option<TaskType>,
    /// Whether it may have to restart Docker or the Mesos agent; none when it never does.
    pub restart: Option<Restart>,
    /// In a cluster of more agents than this it is not begun.
    pub most_agents: Option<MostAgents>,
    /// The oldest Mesos that it works with.
    pub min_mesos: MesosVersion,
    /// Whether nobody knows any more what its target stands for: what has it is left as it is.
    pub lost: bool,
}

impl Spec {
    /// A task type without conditions.
    pub fn new(goal: Goal, needs: Needs, target: TargetHash) -> Self {
        Self {
            enabled: true,
            goal,
            needs,
            target,
            after: Vec::new(),
            requires: Vec::new(),
            beside: None,
            restart: None,
            most_agents: None,
            min_mesos: MesosVersion(1, 0),
            lost: false,
        }
    }

    /// Whether it is wanted on an agent of this Mesos version.
    pub(super) fn fits(&self, version: Option<MesosVersion>) -> bool {
        self.enabled && version.is_some_and(|version| version >= self.min_mesos)
    }
}

/// Whether a task type may restart what others use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// What it would restart, for people.
    pub what: &'static str,
    /// The option that allows it.
    pub option: &'static str,
    /// Whether the operator does.
    pub allowed: bool,
}

/// Up to how many agents a task type is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MostAgents {
    /// The option that says it.
    pub option: &'static str,
    /// So many.
    pub number: usize,
}

/// Up to how many agents a configuration serves: where there are more, nothing is begun on an agent that has nothing yet,
/// and what has begun goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// The option that says it.
    pub option: &'static str,
    /// So many.
    pub number: usize,
    /// Why it is so, and what would serve more.
    pub because: String,
}

impl Capacity {
    /// What an operator is told where there are more.
    pub(super) fn refusal(&self, agents: usize) -> String {
        let Self { option, number, because } = self;
        format!("{option}: there are {agents} agents, and at most {number} are served: {because}")
    }
}

/// What counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// It runs, is healthy, and its check passes (where it has them).
    Running {
        /// It has a check: ready when that exits 0.
        check: bool,
        /// It has a health check.
        health: bool,
    },
    /// It ends with status 0.
    Finished,
}

/// A Mesos version's first two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MesosVersion(pub u32, pub u32);

impl MesosVersion {
    /// Reads `1.11.0` and the like.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-']).map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

/// Selects agents: a host name, an address (`host:port`), or an attribute (`name:value`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(pub String);

impl Selector {
    fn selects(&self, agent: &Agent) -> bool {
        let address = &agent.key.0;
        **address == *self.0
            || address.rsplit_once(':').is_some_and(|(host, _)| *host == *self.0)
            || agent.attributes.contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::Standing;
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(MesosVersion::parse("1.11.0") > MesosVersion::parse("1.2.3"));
        assert_eq!(MesosVersion::parse("1.4.0-dev"), Some(MesosVersion(1, 4)));
        assert_eq!(MesosVersion::parse("new"), None);
    }

    #[test]
    fn an_agent_is_selected_by_host_address_or_attribute() {
        let agent = Agent {
            key: "10.0.0.1:5051".into(),
            id: "S1".into(),
            version: "1.11.0".into(),
            standing: Standing::Active,
            attributes: vec!["rack:a".into()],
            domain: None,
            registered_again: None,
        };
        let mut settings = Settings::new(BTreeMap::new());
        assert_eq!(settings.excluded(&agent), None);
        for selector in ["10.0.0.1", "10.0.0.1:5051", "rack:a"] {
            settings.exclude = vec![Selector(selector.into())];
            assert!(settings.excluded(&agent).unwrap().contains(selector));
        }
        settings.exclude = vec![Selector("10.0.0.10".into())];
        assert_eq!(settings.excluded(&agent), None);
        settings.only = vec![Selector("rack:b".into())];
        assert!(settings.excluded(&agent).is_some());
    }
}
