//! What offers tell of agents, and what it tells that none come: for people only.

use rustc_hash::FxHashMap;

use super::Core;
use super::ids::{AgentKey, TaskType, Timestamp};
use super::progress::Next;
use super::resources::Shortage;

/// What is known of the offers of agents that wait for one.
#[derive(Debug, Default)]
pub(super) struct Notices(FxHashMap<AgentKey, Notice>);

/// An agent that waits for an offer.
#[derive(Debug)]
struct Notice {
    /// From when on an offer may be expected: until then it is declined, or its turn has not come.
    expected: Timestamp,
    shortage: Option<Lack>,
}

/// The last offers of an agent were too small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lack {
    pub task_type: TaskType,
    pub shortage: Shortage,
    pub since: Timestamp,
}

impl Notices {
    /// Offers came to be expected of all only now.
    pub fn subscribed(&mut self, now: Timestamp) {
        for notice in self.0.values_mut() {
            notice.expected = notice.expected.max(now);
        }
    }

    /// Notes whether an agent waits for an offer.
    pub fn note(&mut self, key: &AgentKey, next: &Next, now: Timestamp) {
        match next {
            Next::Launch(_, not_before) => {
                let not_before = not_before.unwrap_or_default();
                let new = Notice { expected: not_before.max(now), shortage: None };
                let notice = self.0.entry(key.clone()).or_insert(new);
                notice.expected = notice.expected.max(not_before);
            }
            _ => {
                self.0.remove(key);
            }
        }
    }

    /// An offer of this agent came, and the next one may be expected from then on.
    pub fn offered(&mut self, key: &AgentKey, next: Timestamp) {
        if let Some(notice) = self.0.get_mut(key) {
            notice.expected = next;
        }
    }

    /// An offer of this agent was too small.
    pub fn too_small(&mut self, key: &AgentKey, now: Timestamp, task_type: TaskType, shortage: Shortage) {
        if let Some(notice) = self.0.get_mut(key) {
            let before = notice
                .shortage
                .take()
                .filter(|lack| lack.task_type == task_type && lack.shortage.name == shortage.name);
            let since = before.map_or(now, |lack| lack.since);
            notice.shortage = Some(Lack { task_type, shortage, since });
        }
    }

    /// What `key` lacks for `task_type`.
    pub fn lack(&self, key: &AgentKey, task_type: TaskType) -> Option<&Lack> {
        self.0.get(key)?.shortage.as_ref().filter(|lack| lack.task_type == task_type)
    }
}

impl Core {
    /// Since when an agent that waits for an offer gets none, where that is longer than it should be.
    pub(super) fn no_offer_since(&self, key: &AgentKey) -> Option<Timestamp> {
        let expected = self.notices.0.get(key)?.expected;
        let overdue = self.clock.now().since(expected) >= self.settings.offer_expected;
        (overdue && self.demand.is_subscribed()).then_some(expected)
    }
}
