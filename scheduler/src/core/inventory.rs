//! The master's list of agents: it, not the offers, says which agents there are.

use std::collections::HashMap;

use super::frame::{Decision, Frame};
use super::ids::{AgentKey, Timestamp};
use super::input::Agent;
use super::state::{AgentRecord, StateChange, Tasks};
use super::{Core, Presence};

impl Core {
    pub(super) fn agents(&mut self, now: Timestamp, agents: Vec<Agent>, frame: &mut Frame) {
        let first = self.inventory.is_none();
        let mut before = self.inventory.take().unwrap_or_default();
        let mut presence: HashMap<AgentKey, Presence> = HashMap::with_capacity(agents.len());
        for agent in agents {
            let state = match self.settings.excluded(&agent) {
                _ if !agent.active => Presence::Absent { since: absent_since(before.get(&agent.key), now) },
                Some(reason) => Presence::Excluded(reason),
                None => Presence::Active,
            };
            presence.insert(agent.key.clone(), state);
            self.record(now, agent, frame);
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
        self.inventory = Some(presence);
        if first {
            self.reconsider_all();
        } else {
            for key in &changed {
                self.reconsider(key);
            }
        }
    }

    /// Brings one agent's record up to date. An agent ID is a registration: a new one at an address means that
    /// what ran there is gone; a known one at a new address is the same host moved.
    fn record(&mut self, now: Timestamp, agent: Agent, frame: &mut Frame) {
        let moved_from = self.index.agents.get(&agent.id).filter(|key| **key != agent.key).cloned();
        let record = match (self.state.agents.get(&agent.key), moved_from) {
            (Some(old), None) if old.id == agent.id && old.version == agent.version => return,
            (Some(old), None) if old.id == agent.id => AgentRecord { version: agent.version, ..old.clone() },
            (_, Some(from)) => {
                let what = format!("{from} is now at {}", agent.key);
                frame.decisions.push(Decision::AgentSeen { what });
                let old = self.state.agents.get(&from).cloned();
                self.change(frame, StateChange::Forget { key: from });
                let (first_seen, tasks) = old.map_or((now, Tasks::new()), |old| (old.first_seen, old.tasks));
                AgentRecord { key: agent.key, id: agent.id, version: agent.version, first_seen, tasks }
            }
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

fn absent_since(before: Option<&Presence>, now: Timestamp) -> Timestamp {
    match before {
        Some(Presence::Absent { since }) => *since,
        _ => now,
    }
}
