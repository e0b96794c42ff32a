//! What offers tell of agents, and what it tells that none come: for people only.

use rustc_hash::FxHashMap;

use super::Core;
use super::ids::{AgentKey, TaskType, Timestamp};
use super::index::Registered;
use super::progress::Next;
use super::resources::Shortage;

/// Agents that wait for an offer, and whose last ones were too small.
#[derive(Debug, Default)]
pub(super) struct Notices(FxHashMap<AgentKey, Lack>);

/// What they lacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lack {
    pub task_type: TaskType,
    pub shortage: Shortage,
    pub since: Timestamp,
}

impl Notices {
    /// This agent waits for no offer.
    pub fn forget(&mut self, key: &AgentKey) {
        if !self.0.is_empty() {
            self.0.remove(key);
        }
    }

    /// What `key` lacks for `task_type`.
    pub fn lack(&self, key: &AgentKey, task_type: TaskType) -> Option<&Lack> {
        self.0.get(key).filter(|lack| lack.task_type == task_type)
    }
}

impl Registered {
    /// Notes whether it waits for an offer.
    pub fn expect_offer(&mut self, next: &Next, now: Timestamp) {
        self.expected = match next {
            Next::Launch(_, not_before) => {
                Some(self.expected.unwrap_or(now).max(not_before.unwrap_or_default()))
            }
            _ => None,
        };
    }
}

impl Core {
    /// Offers came to be expected of all only now.
    pub(super) fn expect_offers(&mut self, now: Timestamp) {
        for expected in self.index.agents.values_mut().filter_map(|agent| agent.expected.as_mut()) {
            *expected = now.max(*expected);
        }
    }

    /// An offer of this agent came, and the next one may be expected from then on.
    pub(super) fn offer_came(&mut self, agent: &str, next: Timestamp) {
        if let Some(expected) = self.index.agents.get_mut(agent).and_then(|agent| agent.expected.as_mut()) {
            *expected = next;
        }
    }

    /// An offer of this agent was too small.
    pub(super) fn too_small(&mut self, agent: &str, now: Timestamp, task_type: TaskType, shortage: Shortage) {
        let Some(agent) = self.index.agents.get(agent).filter(|agent| agent.expected.is_some()) else {
            return;
        };
        let key = &agent.record.key;
        let before = self.notices.lack(key, task_type);
        let since = before.filter(|lack| lack.shortage.name == shortage.name).map_or(now, |lack| lack.since);
        self.notices.0.insert(key.clone(), Lack { task_type, shortage, since });
    }

    /// Since when an agent that waits for an offer gets none, where that is longer than it should be.
    pub(super) fn no_offer_since(&self, key: &AgentKey) -> Option<Timestamp> {
        let agent = self.state.agents.get(key)?;
        let expected = self.index.agents.get(&agent.id.0)?.expected?;
        let overdue = self.clock.now().since(expected) >= self.settings.offer_expected;
        (overdue && self.demand.is_subscribed()).then_some(expected)
    }
}
