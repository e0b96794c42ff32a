//! What is stored: one record an agent, one for the cluster. Changed only through [`StateChange`], so that
//! replaying the changes gives the same state.

use std::collections::BTreeMap;
use std::sync::Arc;

use litemap::LiteMap;
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::drift::{LookedAt, Round};
use super::ids::{AgentId, AgentKey, FrameworkId, Scope, TargetHash, TaskId, TaskType, Timestamp};
use super::resources::Needs;
use super::rollout::{Order, Place, RolloutRecord};
use super::spec::{Goal, MesosVersion};

/// Everything that survives a restart of the scheduler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Who we are to the master; none before the first registration.
    pub framework_id: Option<FrameworkId>,
    /// The task types that run once in the cluster.
    pub cluster: ClusterRecord,
    /// Every agent that was ever seen and is not forgotten.
    pub agents: BTreeMap<AgentKey, Arc<AgentRecord>>,
}

/// Tasks by task type. Few, and there may be tens of thousands of these.
pub type Tasks = LiteMap<TaskType, TaskRecord>;

/// What is known of the cluster as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// The progress of the task types that run once; a type that is not here was never launched.
    pub tasks: Tasks,
    /// The rollout that is, or was last.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rollout: RolloutRecord,
    /// The round of checks that is, or was last.
    #[serde(default, skip_serializing_if = "is_default")]
    pub checks: Box<Round>,
    /// What the targets that are in use stand for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub definitions: Arc<BTreeMap<TargetHash, Definition>>,
}

/// What a target stands for: enough to launch it again when the configuration is another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Of which task type it is.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// What counts as done.
    pub goal: Goal,
    /// What one launch takes.
    pub needs: Needs,
    /// All that the task is launched with, in a form that only `tasks/` reads.
    pub template: String,
}

/// What is known of one agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Its address.
    pub key: AgentKey,
    /// The ID of its present registration.
    pub id: AgentId,
    /// Its Mesos version.
    pub version: String,
    /// When it was first in the inventory.
    pub first_seen: Timestamp,
    /// When it registered again with the same master, by that master's clock: as it was when it was last seen to have
    /// done that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_again: Option<Timestamp>,
    /// Since when it is not in the inventory, or not connected; none while it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_since: Option<Timestamp>,
    /// Whether it no longer has its address: another has it, or it was forgotten, and tasks of ours may still run
    /// there. Kept until they have ended, or the agent is back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aside: bool,
    /// A launch there that may restart Docker or the Mesos agent, until the agent is seen to be healthy again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<Disruption>,
    /// The last rollout that it was brought to the end of; 0 before its first install was complete.
    #[serde(default, skip_serializing_if = "is_default")]
    pub settled: u64,
    /// Its place in a rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Box<Place>>,
    /// What operators have ordered for its steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders: Option<Box<BTreeMap<TaskType, Order>>>,
    /// Progress by task type; a type that is not here was never launched.
    pub tasks: Tasks,
}

/// What says nothing is not stored.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl AgentRecord {
    /// The record of an agent that was not known so far.
    pub fn new(key: AgentKey, id: AgentId, version: String, first_seen: Timestamp) -> Self {
        Self {
            key,
            id,
            version,
            first_seen,
            registered_again: None,
            absent_since: None,
            aside: false,
            disruption: None,
            settled: 0,
            place: None,
            orders: None,
            tasks: Tasks::new(),
        }
    }

    /// Its Mesos version; none when it cannot be read.
    pub fn mesos_version(&self) -> Option<MesosVersion> {
        MesosVersion::parse(&self.version)
    }

    /// The launches that may still be alive.
    pub fn live(&self) -> impl Iterator<Item = (&TaskId, &AgentId)> {
        self.tasks.values().filter_map(|record| record.phase.live())
    }

    /// The disruption that is under way there, and holds a slot.
    pub fn disrupted(&self) -> Option<&Disruption> {
        self.disruption.as_ref().filter(|disruption| disruption.failure.is_none())
    }

    /// The place that it holds in a rollout.
    pub fn holds(&self) -> Option<&Place> {
        self.place.as_deref().filter(|place| place.failure.is_none())
    }

    /// Whether a service of it has ended for a successor that is not ready yet.
    pub fn is_half_done(&self) -> bool {
        self.holds().is_some_and(|place| place.gap.is_some())
    }

    /// What an operator has ordered for a step.
    pub fn order(&self, task_type: TaskType) -> Option<&Order> {
        self.orders.as_ref()?.get(&task_type)
    }

    /// Whether nothing there depends on this record any more, once it is aside.
    pub(super) fn is_over(&self) -> bool {
        self.live().next().is_none() && self.disrupted().is_none() && self.holds().is_none()
    }
}

/// One of the slots of `rollout.max-concurrent-restarts`: held from before the launch that may restart something until
/// the agent is healthy, or is given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disruption {
    /// What was launched.
    pub task_type: TaskType,
    /// Since when the slot is held.
    pub since: Timestamp,
    /// Why it was given up: its slot is free then, and the agent waits for an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// One task type on one agent (or in the cluster).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Where it stands.
    #[serde(flatten)]
    pub phase: Phase,
    /// What it was last launched with; none for a task that was found running.
    pub target: Option<TargetHash>,
    /// Failures in a row.
    #[serde(default)]
    pub failures: u32,
    /// Why it failed last, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Of a service: whether it was ready before, with whatever target. Of an install: whether it was done, and something
    /// of it was found missing. To launch it again is a recovery.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reached: bool,
    /// When it was launched as a recovery; none once that has succeeded, failed, or taken too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Timestamp>,
    /// Whether it was last launched with the permission to restart Docker or the Mesos agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disruptive: bool,
    /// Of an install that is done: when it was last looked at.
    #[serde(default, skip_serializing_if = "is_default")]
    pub looked_at: LookedAt,
}

/// Since when what is on its way is as it is: the last that came to be so.
pub(super) fn under_way_since(tasks: &Tasks) -> Option<Timestamp> {
    let waits = tasks.values().filter(|record| record.phase.live().is_some() && !record.phase.at_goal());
    waits.map(|record| record.phase.moment()).max()
}

impl TaskRecord {
    /// A record without a past.
    pub fn new(phase: Phase, target: Option<TargetHash>) -> Self {
        Self {
            phase,
            target,
            failures: 0,
            failure: None,
            reached: false,
            recovery: None,
            disruptive: false,
            looked_at: LookedAt::default(),
        }
    }

    /// Whether it is a service that was ready before, and is not now; or an install that was done, and has vanished.
    pub fn is_down(&self) -> bool {
        self.reached && !self.phase.at_goal() && !matches!(self.phase, Phase::Skipped { .. })
    }
}

/// Where a task stands. A type that was never launched has no record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// The intent to launch is stored; no update has come.
    Launched {
        /// The launch.
        task: TaskId,
        /// Where.
        agent: AgentId,
        /// When.
        at: Timestamp,
    },
    /// The agent reported the task, and it has not ended.
    Active {
        /// The launch.
        task: TaskId,
        /// Where.
        agent: AgentId,
        /// What was reported last.
        run: Run,
        /// Since when it is in `run`.
        since: Timestamp,
    },
    /// An install that reached its goal.
    Done {
        /// When.
        at: Timestamp,
    },
    /// An install that reached its goal, and whose host is being looked at.
    Checking {
        /// The launch that looks.
        task: TaskId,
        /// Where.
        agent: AgentId,
        /// When.
        since: Timestamp,
        /// When the goal was reached.
        done: Timestamp,
    },
    /// It failed, and is launched again.
    Backoff {
        /// Not before.
        until: Timestamp,
    },
    /// It failed in a way that trying again does not mend: an operator must act.
    Held {
        /// Since when.
        since: Timestamp,
    },
    /// It changed nothing, for what it must change takes a restart, which it was not allowed.
    NeedsRestart {
        /// Since when.
        since: Timestamp,
    },
    /// It found that its host cannot have it, and changed nothing: nobody needs to act.
    Skipped {
        /// Since when.
        since: Timestamp,
    },
}

/// What a live task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Run {
    /// Fetching artifacts or starting.
    Starting,
    /// Running; its check has not passed, or no longer passes.
    NotReady,
    /// Running, healthy, and its check passes: a service's goal.
    Ready,
    /// Its agent is partitioned from the master; the task may well be running.
    Unreachable,
}

impl Phase {
    /// The launch that may still be alive, and where.
    pub fn live(&self) -> Option<(&TaskId, &AgentId)> {
        match self {
            Self::Launched { task, agent, .. }
            | Self::Active { task, agent, .. }
            | Self::Checking { task, agent, .. } => Some((task, agent)),
            Self::Done { .. }
            | Self::Backoff { .. }
            | Self::Held { .. }
            | Self::NeedsRestart { .. }
            | Self::Skipped { .. } => None,
        }
    }

    /// The launch, where, and since when, while it has not got beyond its beginning since it was first heard of.
    pub(super) fn beginning(&self) -> Option<(&TaskId, &AgentId, Timestamp)> {
        match self {
            Self::Active { task, agent, run: Run::Starting, since }
            | Self::Checking { task, agent, since, .. } => Some((task, agent, *since)),
            _ => None,
        }
    }

    /// Since when it is so, or until when.
    pub(super) fn moment(&self) -> Timestamp {
        match self {
            Self::Launched { at, .. } | Self::Done { at } => *at,
            Self::Active { since, .. }
            | Self::Checking { since, .. }
            | Self::Held { since }
            | Self::NeedsRestart { since }
            | Self::Skipped { since } => *since,
            Self::Backoff { until } => *until,
        }
    }

    /// Whether it is a service that is ready.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Active { run: Run::Ready, .. })
    }

    /// Whether the goal is reached: an install is done, a service is ready.
    pub fn at_goal(&self) -> bool {
        self.is_ready() || matches!(self, Self::Done { .. }) || self.is_checked()
    }

    /// Whether it is an install that is done, and is being looked at.
    pub fn is_checked(&self) -> bool {
        matches!(self, Self::Checking { .. })
    }
}

/// Whose task it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// A task type of the cluster.
    Cluster(TaskType),
    /// A task type on one agent.
    Agent(AgentKey, TaskType),
}

impl Slot {
    /// The slot of `task_type` when it is launched on `agent`.
    pub fn of(task_type: TaskType, agent: &AgentKey) -> Self {
        match task_type.scope() {
            Scope::Cluster => Self::Cluster(task_type),
            Scope::Agent => Self::Agent(agent.clone(), task_type),
        }
    }

    /// The task type.
    pub fn task_type(&self) -> TaskType {
        match self {
            Self::Cluster(task_type) | Self::Agent(_, task_type) => *task_type,
        }
    }
}

/// One stored record that changed, whole. Writing it twice is harmless.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum StateChange {
    /// Our ID.
    Framework {
        /// As the master gave it.
        id: FrameworkId,
    },
    /// The cluster's record.
    Cluster(Box<ClusterRecord>),
    /// One agent's record.
    Agent(Arc<AgentRecord>),
    /// An agent's record is no longer kept under this address.
    Forget {
        /// The address.
        key: AgentKey,
    },
}

/// What was there before a change.
#[derive(Debug)]
pub enum Replaced {
    /// Another ID, or none.
    Framework(Option<FrameworkId>),
    /// The cluster's record.
    Cluster(Box<ClusterRecord>),
    /// The agent's record, if there was one at its address.
    Agent(Option<Arc<AgentRecord>>),
}

impl State {
    /// Applies one change.
    pub fn apply(&mut self, change: StateChange) -> Replaced {
        match change {
            StateChange::Framework { id } => Replaced::Framework(self.framework_id.replace(id)),
            StateChange::Cluster(record) => {
                Replaced::Cluster(Box::new(std::mem::replace(&mut self.cluster, *record)))
            }
            StateChange::Agent(record) => Replaced::Agent(self.agents.insert(record.key.clone(), record)),
            StateChange::Forget { key } => Replaced::Agent(self.agents.remove(&key)),
        }
    }

    /// The record of a slot, if it was ever launched.
    pub fn task(&self, slot: &Slot) -> Option<&TaskRecord> {
        match slot {
            Slot::Cluster(task_type) => self.cluster.tasks.get(task_type),
            Slot::Agent(key, task_type) => self.agents.get(key)?.tasks.get(task_type),
        }
    }

    /// The last moment that any record tells of.
    pub fn newest(&self) -> Timestamp {
        let agents = self.agents.values();
        let seen = agents.flat_map(|agent| {
            let disruption = agent.disruption.as_ref().map(|disruption| disruption.since);
            [Some(agent.first_seen), agent.absent_since, disruption]
        });
        let tasks = self.slots().flat_map(|(_, record)| {
            [Some(record.phase.moment()), Some(record.looked_at.at), record.recovery]
        });
        seen.chain(tasks).flatten().max().unwrap_or_default()
    }

    /// The launches that may still be alive.
    pub fn live(&self) -> impl Iterator<Item = (&TaskId, &AgentId)> {
        let cluster = self.cluster.tasks.values().filter_map(|record| record.phase.live());
        cluster.chain(self.agents.values().flat_map(|agent| agent.live()))
    }

    /// Keeps each name once, as far as it is in many places: an agent's ID in all of its tasks, and the few targets that
    /// there are. Nothing else changes.
    pub(super) fn share_names(&mut self) {
        let mut targets: FxHashSet<TargetHash> = FxHashSet::default();
        for agent in self.agents.values_mut() {
            // What others hold has been here before.
            let Some(AgentRecord { id, tasks, .. }) = Arc::get_mut(agent) else { continue };
            for (_, record) in tasks.iter_mut() {
                if let Some(target) = &mut record.target {
                    match targets.get(target) {
                        Some(known) => *target = known.clone(),
                        None => drop(targets.insert(target.clone())),
                    }
                }
                if let Phase::Launched { agent, .. }
                | Phase::Active { agent, .. }
                | Phase::Checking { agent, .. } = &mut record.phase
                    && agent == id
                {
                    *agent = id.clone();
                }
            }
        }
    }

    /// Every slot that was ever launched.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, &TaskRecord)> {
        let cluster = self.cluster.tasks.iter().map(|(t, record)| (Slot::Cluster(*t), record));
        let agents = self.agents.values().flat_map(|agent| {
            agent.tasks.iter().map(|(t, record)| (Slot::Agent(agent.key.clone(), *t), record))
        });
        cluster.chain(agents)
    }
}
