//! What is derived from [`State`], kept up to date change by change: nothing is looked for among all agents.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::dated::Dated;
use super::ids::{AgentId, AgentKey, TaskId, TaskType, Timestamp};
use super::progress::Next;
use super::registry::Registry;
use super::state::{AgentRecord, Replaced, Slot, State, StateChange, Tasks};

/// The index.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Live tasks.
    pub tasks: FxHashMap<TaskId, Slot>,
    /// Agents by their present ID.
    pub agents: Registry,
    /// Since when agents are absent.
    pub absent: Dated<AgentKey>,
    /// Recoveries in flight, and when each was launched.
    pub recoveries: Dated<Slot>,
    /// Agents that hold a slot for restarts, and since when.
    pub disruptions: Dated<AgentKey>,
    /// On how many agents, or in the cluster, each task type has its goal.
    at_goal: [usize; TaskType::COUNT],
}

/// An agent, as far as most of its offers are answered by it.
#[derive(Debug)]
pub(super) struct Registered {
    /// What is stored of it.
    pub record: Arc<AgentRecord>,
    /// What comes next on it, as it was [reconsidered](super::Core::reconsider) last.
    pub next: Next,
    /// Of what there may be so many at a time only, when that is such.
    pub limit: Option<Limit>,
    /// Since when what is on its way there is as it is.
    pub waits_since: Option<Timestamp>,
    /// From when on an offer may be expected, while it waits for one: until then it is declined, or its turn has not come.
    pub expected: Option<Timestamp>,
    /// After how many REVIVEs its offers were [sent away for long](super::Core::send_away) last.
    pub sent_away: Option<u64>,
}

/// What only so many launches at a time may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// A service that was ready before is launched again.
    Recoveries,
    /// Docker or the Mesos agent may be restarted.
    Restarts,
}

impl Index {
    pub fn of(state: &State) -> Self {
        let mut index = Self::default();
        index.replace(&Tasks::new(), &state.cluster.tasks, Slot::Cluster);
        for agent in state.agents.values() {
            index.remember(agent);
        }
        index
    }

    /// Whether this task type has its goal anywhere.
    pub fn is_anywhere(&self, task_type: TaskType) -> bool {
        self.at_goal[task_type as usize] > 0
    }

    /// The address of a registration.
    pub fn key(&self, id: &AgentId) -> Option<&AgentKey> {
        self.agents.get(&id.0).map(|registered| &registered.record.key)
    }

    /// Takes out what the record that was `replaced` put in, and puts in the new one's.
    pub fn update(&mut self, replaced: &Replaced, change: &StateChange) {
        match (replaced, change) {
            (Replaced::Cluster(old), StateChange::Cluster(record)) => {
                self.replace(&old.tasks, &record.tasks, Slot::Cluster);
            }
            (Replaced::Agent(Some(old)), StateChange::Agent(record)) if old.id == record.id => {
                self.replace(&old.tasks, &record.tasks, |t| Slot::Agent(record.key.clone(), t));
                self.attend(record);
                if old.disruption != record.disruption {
                    self.note_disruption(record);
                }
            }
            (Replaced::Agent(old), change) => {
                if let Some(old) = old {
                    self.forget(old);
                }
                if let StateChange::Agent(record) = change {
                    self.remember(record);
                }
            }
            (Replaced::Framework(_) | Replaced::Cluster(_), _) => {}
        }
    }

    fn remember(&mut self, agent: &Arc<AgentRecord>) {
        self.replace(&Tasks::new(), &agent.tasks, |t| Slot::Agent(agent.key.clone(), t));
        let next = Next::Wait("it was not looked at yet".to_owned());
        self.agents.insert(Registered {
            record: Arc::clone(agent),
            next,
            limit: None,
            waits_since: None,
            expected: None,
            sent_away: None,
        });
        self.attend(agent);
        self.note_disruption(agent);
    }

    fn note_disruption(&mut self, agent: &AgentRecord) {
        match agent.disrupted() {
            Some(disruption) => self.disruptions.insert(agent.key.clone(), disruption.since),
            None => self.disruptions.remove(&agent.key),
        }
    }

    fn attend(&mut self, agent: &Arc<AgentRecord>) {
        match agent.absent_since.filter(|_| !agent.aside) {
            Some(since) => self.absent.insert(agent.key.clone(), since),
            None => self.absent.remove(&agent.key),
        }
        if let Some(registered) = self.agents.get_mut(&agent.id.0).filter(|r| r.record.key == agent.key) {
            registered.record = Arc::clone(agent);
        }
    }

    fn forget(&mut self, agent: &AgentRecord) {
        self.absent.remove(&agent.key);
        self.disruptions.remove(&agent.key);
        self.replace(&agent.tasks, &Tasks::new(), |t| Slot::Agent(agent.key.clone(), t));
        if self.key(&agent.id) == Some(&agent.key) {
            self.agents.remove(&agent.id.0);
        }
    }

    fn replace(&mut self, old: &Tasks, new: &Tasks, slot: impl Fn(TaskType) -> Slot) {
        for (task_type, record) in old {
            let kept = new.get(task_type);
            let live = record.phase.live().map(|(task, _)| task);
            self.at_goal[*task_type as usize] -= usize::from(record.phase.at_goal());
            if let Some(task) = live
                && kept.and_then(|new| new.phase.live()).is_none_or(|(new, _)| new != task)
            {
                self.tasks.remove(task);
            }
            if record.recovery.is_some() && kept.is_none_or(|new| new.recovery != record.recovery) {
                self.recoveries.remove(&slot(*task_type));
            }
        }
        for (task_type, record) in new {
            let had = old.get(task_type);
            self.at_goal[*task_type as usize] += usize::from(record.phase.at_goal());
            if let Some((task, _)) = record.phase.live()
                && had.and_then(|old| old.phase.live()).is_none_or(|(old, _)| old != task)
            {
                self.tasks.insert(task.clone(), slot(*task_type));
            }
            if let Some(at) = record.recovery
                && had.is_none_or(|old| old.recovery != record.recovery)
            {
                self.recoveries.insert(slot(*task_type), at);
            }
        }
    }
}
