//! The master's list of agents: it, not the offers, says which agents there are.

use std::collections::HashMap;
use std::sync::Arc;

use super::Core;
use super::frame::{Decision, Frame};
use super::ids::{AgentId, AgentKey, TaskType, Timestamp};
use super::input::Agent;
use super::listing::{Listing, Presence};
use super::state::{AgentRecord, Phase, StateChange};

impl Core {
    pub(super) fn agents(&mut self, now: Timestamp, agents: Vec<Agent>, frame: &mut Frame) {
        self.rolling.learn_domains(&agents, self.settings.rollout.domain_attribute.as_deref());
        let (first, crowded) = (self.inventory.is_none(), self.crowded());
        let before = self.inventory.take().unwrap_or_default();
        let Listing { agents: mut listed, inventory } = self.listing(agents);
        let mut changed: Vec<AgentKey> = inventory
            .presence
            .iter()
            .filter(|(key, presence)| before.presence.get(*key) != Some(presence))
            .map(|(key, _)| key.clone())
            .collect();
        // The same list, the same changes in the same order.
        changed.sort();
        for (id, (_, reason)) in &inventory.duplicates {
            if !before.duplicates.contains_key(id) {
                frame.decisions.push(Decision::Duplicate { what: format!("{id} is left alone: {reason}") });
            }
        }
        // What a changed record means for its agent depends on the new list.
        self.inventory = Some(inventory);
        let crowds = crowded != self.crowded();
        self.retain_news(&mut listed);
        let mut moved = self.moved(&listed, frame);
        for agent in listed {
            let moved = moved.remove(&agent.id);
            self.record(now, agent, moved, frame);
        }
        for key in &changed {
            self.attendance(now, key, frame);
        }
        if first {
            self.begin_rollout(now, frame);
        }
        if first || crowds {
            self.reconsider_all();
        }
        if first {
            if self.reconciliation.goes_on() && self.has_reservations() {
                self.demand.give_back(now);
            }
        } else {
            for key in &changed {
                self.reconsider(key);
                self.ask_about(key);
            }
        }
        for key in &changed {
            self.recount(key);
            self.watch(key);
        }
        if changed.iter().any(|key| self.presence(key) == Some(&Presence::Active)) {
            self.reconciliation.doubt_again(&self.settings);
        }
        self.ask_for_all(now, frame);
        self.forget(now, frame);
    }

    /// Whether there are more agents than some task type is begun for, and of how many capacities.
    fn crowded(&self) -> (bool, usize) {
        (self.settings.specs.values().any(|spec| self.is_crowded(spec)), self.exceeded().0.count())
    }

    pub(super) fn presence(&self, key: &AgentKey) -> Option<&Presence> {
        self.inventory.as_ref()?.presence.get(key)
    }

    /// Notes that an agent went away or is back. Stored, so that it is away for as long as it really is, whatever
    /// becomes of the scheduler.
    fn attendance(&mut self, now: Timestamp, key: &AgentKey, frame: &mut Frame) {
        let Some(presence) = self.presence(key) else { return };
        if *presence == Presence::Recovering {
            // As it was, until it has registered or the master has given it up.
            return;
        }
        let away = presence.is_away();
        if let Presence::Duplicate(reason) = presence {
            let what = format!("{key} is left alone: {reason}");
            frame.decisions.push(Decision::Duplicate { what });
        }
        let Some(record) = self.state.agents.get(key) else { return };
        let absent_since = match record.absent_since {
            // What lies in the future is a clock's that was set back since.
            Some(since) if away && since <= now => return,
            None if !away => return,
            _ => away.then_some(now),
        };
        if away && record.absent_since.is_none() {
            frame.decisions.push(Decision::AgentAbsent { what: key.to_string() });
        } else if !away {
            frame.decisions.push(Decision::AgentSeen { what: format!("{key} is back") });
        }
        let mut record = AgentRecord { absent_since, ..AgentRecord::clone(record) };
        if !away {
            record.look_again();
            judge_anew(&mut record);
        }
        self.change(frame, StateChange::Agent(Arc::new(record)));
    }

    /// An agent that is back may have lost its tasks while nobody was told.
    fn ask_about(&mut self, key: &AgentKey) {
        let Some(agent) = self.state.agents.get(key) else { return };
        if self.presence(key) == Some(&Presence::Active) {
            for (task, agent) in agent.live() {
                self.reconciliation.ask_about(task.clone(), agent.clone());
            }
        }
    }

    /// Leaves those of a list in the order of addresses that are not as their records say.
    fn retain_news(&self, listed: &mut Vec<Agent>) {
        let mut records = self.state.agents.iter().peekable();
        listed.retain(|agent| {
            while records.next_if(|(key, _)| **key < agent.key).is_some() {}
            records
                .next_if(|(key, _)| **key == agent.key)
                .is_none_or(|(_, record)| !is_as_before(record, agent))
        });
    }

    /// Takes out the records of known agents at new addresses, all before any is put in: they may have swapped.
    fn moved(&mut self, listed: &[Agent], frame: &mut Frame) -> HashMap<AgentId, Arc<AgentRecord>> {
        let mut moved = HashMap::new();
        for agent in listed {
            let from = self.index.key(&agent.id).filter(|key| **key != agent.key);
            if let Some(old) = from.and_then(|key| self.state.agents.get(key)).cloned() {
                let what = format!("{} is now at {}", old.key, agent.key);
                frame.decisions.push(Decision::AgentSeen { what });
                self.change(frame, StateChange::Forget { key: old.key.clone() });
                moved.insert(agent.id.clone(), old);
            }
        }
        moved
    }

    /// Brings one agent's record up to date. An agent ID is a registration: a new one at an address starts anew; a
    /// known one at a new address is the same host moved.
    fn record(&mut self, now: Timestamp, agent: Agent, moved: Option<Arc<AgentRecord>>, frame: &mut Frame) {
        let old = self.state.agents.get(&agent.key).cloned();
        let (key, is_known) = (agent.key.clone(), moved.is_some());
        let record = match (&old, moved) {
            (Some(old), None) if is_as_before(old, &agent) => return,
            (Some(old), None) if old.id == agent.id => {
                let upgraded = old.version != agent.version;
                let mut record = AgentRecord { version: agent.version, ..AgentRecord::clone(old) };
                record.look_again();
                if upgraded {
                    judge_anew(&mut record);
                }
                record
            }
            (_, Some(moved)) => {
                let moved = Arc::unwrap_or_clone(moved);
                let upgraded = moved.version != agent.version;
                let mut record =
                    AgentRecord { key: agent.key, version: agent.version, aside: false, ..moved };
                record.look_again();
                if upgraded {
                    judge_anew(&mut record);
                }
                record
            }
            (old, None) => {
                let what = match old {
                    Some(old) => format!("{} was rebuilt: {} is now {}", agent.key, old.id, agent.id),
                    None => format!("{} joined", agent.key),
                };
                frame.decisions.push(Decision::AgentSeen { what });
                AgentRecord::new(agent.key, agent.id, agent.version, now)
            }
        };
        let registered_again = agent.registered_again.or(record.registered_again);
        let record = AgentRecord { registered_again, ..record };
        if let Some(old) = old.filter(|old| old.id != record.id) {
            self.remove(&old, frame);
        }
        self.change(frame, StateChange::Agent(Arc::new(record)));
        self.attendance(now, &key, frame);
        if is_known {
            self.ask_about(&key);
        }
    }

    /// Removes a record from its address. Where tasks of ours may still run, it is put aside under its agent's ID:
    /// the agent may only be partitioned, and come back with all of them, at this address or another.
    fn remove(&mut self, record: &AgentRecord, frame: &mut Frame) {
        self.change(frame, StateChange::Forget { key: record.key.clone() });
        if record.is_over() {
            return;
        }
        for (task, agent) in record.live() {
            self.reconciliation.ask_about(task.clone(), agent.clone());
        }
        let key = AgentKey::from(format!("{}@{}", record.key, record.id));
        self.change(frame, StateChange::Agent(Arc::new(AgentRecord { key, aside: true, ..record.clone() })));
    }

    /// Forgets the agents that were away for long enough. Judged by a list that has just come and does not name them.
    fn forget(&mut self, now: Timestamp, frame: &mut Frame) {
        let due = self.index.absent.until(now.before(self.settings.forget_after));
        let due: Vec<AgentKey> =
            due.filter(|key| self.presence(key) == Some(&Presence::Absent)).cloned().collect();
        for key in due {
            self.forget_agent(now, &key, frame);
        }
    }

    /// Forgets one agent.
    pub(super) fn forget_agent(&mut self, now: Timestamp, key: &AgentKey, frame: &mut Frame) {
        let Some(record) = self.state.agents.get(key).cloned() else { return };
        let since = record.absent_since.unwrap_or(now);
        frame.decisions.push(Decision::AgentForgotten { what: format!("{key}, away since {since}") });
        self.remove(&record, frame);
        if let Some(inventory) = &mut self.inventory {
            inventory.presence.remove(key);
        }
    }
}

/// Whether nothing of what is stored is news in a list.
fn is_as_before(record: &AgentRecord, agent: &Agent) -> bool {
    let is_registered_as_before =
        agent.registered_again.is_none() || agent.registered_again == record.registered_again;
    record.id == agent.id && record.version == agent.version && is_registered_as_before
}

/// What an agent cannot have, or needs a restart for, is found out again: its host may have changed.
fn judge_anew(record: &mut AgentRecord) {
    let judged: Vec<TaskType> = record
        .tasks
        .iter()
        .filter(|(_, task)| matches!(task.phase, Phase::Skipped { .. } | Phase::NeedsRestart { .. }))
        .map(|(task_type, _)| *task_type)
        .collect();
    for task_type in judged {
        record.tasks.remove(&task_type);
    }
}
