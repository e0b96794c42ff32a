//! The master's list of agents: it, not the offers, says which agents there are.

use std::collections::{BTreeMap, HashMap};

use super::frame::{Decision, Frame};
use super::ids::{AgentId, AgentKey, Timestamp};
use super::input::Agent;
use super::state::{AgentRecord, StateChange, Tasks};
use super::{Core, Presence};

impl Core {
    pub(super) fn agents(&mut self, now: Timestamp, agents: Vec<Agent>, frame: &mut Frame) {
        let first = self.inventory.is_none();
        let mut before = self.inventory.take().unwrap_or_default();
        let listed = by_address(agents);
        let mut presence: HashMap<AgentKey, Presence> = HashMap::with_capacity(listed.len());
        for agent in listed.values() {
            let state = match self.settings.excluded(agent) {
                _ if !agent.active => Presence::Absent { since: absent_since(before.get(&agent.key), now) },
                Some(reason) => Presence::Excluded(reason),
                None => Presence::Active,
            };
            presence.insert(agent.key.clone(), state);
        }
        for key in self.state.agents.keys() {
            presence
                .entry(key.clone())
                .or_insert_with(|| Presence::Absent { since: absent_since(before.get(key), now) });
        }
        let changed: Vec<AgentKey> = presence
            .iter()
            .filter(|(key, state)| before.remove(*key).as_ref() != Some(state))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &changed {
            if let Some(Presence::Absent { .. }) = presence.get(key) {
                frame.decisions.push(Decision::AgentAbsent { what: key.to_string() });
            }
        }
        // What a changed record means for its agent depends on the new list.
        self.inventory = Some(presence);
        let mut moved = self.moved(&listed, frame);
        for agent in listed.into_values() {
            let moved = moved.remove(&agent.id);
            self.record(now, agent, moved, frame);
        }
        if first {
            self.reconsider_all();
        } else {
            for key in &changed {
                self.reconsider(key);
                self.ask_about(key);
            }
        }
    }

    /// An agent that is back may have lost its tasks while nobody was told.
    fn ask_about(&mut self, key: &AgentKey) {
        let Some(agent) = self.state.agents.get(key) else { return };
        if self.inventory.as_ref().and_then(|inventory| inventory.get(key)) == Some(&Presence::Active) {
            for (task, agent) in agent.tasks.values().filter_map(|record| record.phase.live()) {
                self.reconciliation.ask_about(task.clone(), agent.clone());
            }
        }
    }

    /// Takes out the records of known agents at new addresses, all before any is put in: they may have swapped.
    fn moved(
        &mut self,
        listed: &BTreeMap<AgentKey, Agent>,
        frame: &mut Frame,
    ) -> HashMap<AgentId, AgentRecord> {
        let mut moved = HashMap::new();
        for agent in listed.values() {
            let from = self.index.agents.get(&agent.id).filter(|key| **key != agent.key);
            if let Some(old) = from.and_then(|key| self.state.agents.get(key)).cloned() {
                let what = format!("{} is now at {}", old.key, agent.key);
                frame.decisions.push(Decision::AgentSeen { what });
                self.change(frame, StateChange::Forget { key: old.key.clone() });
                moved.insert(agent.id.clone(), old);
            }
        }
        moved
    }

    /// Brings one agent's record up to date. An agent ID is a registration: a new one at an address means that
    /// what ran there is gone; a known one at a new address is the same host moved.
    fn record(&mut self, now: Timestamp, agent: Agent, moved: Option<AgentRecord>, frame: &mut Frame) {
        let record = match (self.state.agents.get(&agent.key), moved) {
            (Some(old), None) if old.id == agent.id && old.version == agent.version => return,
            (Some(old), None) if old.id == agent.id => AgentRecord { version: agent.version, ..old.clone() },
            (_, Some(old)) => AgentRecord { key: agent.key, version: agent.version, ..old },
            (old, None) => {
                let what = match old {
                    Some(old) => format!("{} was rebuilt: {} is now {}", agent.key, old.id, agent.id),
                    None => format!("{} joined", agent.key),
                };
                frame.decisions.push(Decision::AgentSeen { what });
                let (key, id, version) = (agent.key, agent.id, agent.version);
                AgentRecord { key, id, version, first_seen: now, tasks: Tasks::new() }
            }
        };
        self.change(frame, StateChange::Agent(Box::new(record)));
    }
}

/// The agents by address. A registration that has ended may still be listed beside the one that took its place.
fn by_address(agents: Vec<Agent>) -> BTreeMap<AgentKey, Agent> {
    let mut listed: BTreeMap<AgentKey, Agent> = BTreeMap::new();
    for agent in agents {
        let shown = listed.get(&agent.key);
        if shown.is_none_or(|shown| agent.active && !shown.active) {
            listed.insert(agent.key.clone(), agent);
        }
    }
    listed
}

fn absent_since(before: Option<&Presence>, now: Timestamp) -> Timestamp {
    match before {
        Some(Presence::Absent { since }) => *since,
        _ => now,
    }
}
