//! What a list of agents says: who is who, and which of them take tasks.

use std::collections::BTreeMap;

use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use super::Core;
use super::ids::{AgentId, AgentKey, Timestamp};
use super::input::{Agent, Standing};

/// What the last inventory said of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Presence {
    /// It takes tasks.
    Active,
    /// It takes tasks, and the operator does not want ours there.
    Excluded(String),
    /// It takes tasks, and another agent is the one of its host.
    Duplicate(String),
    /// It takes no new tasks.
    Deactivated,
    /// It takes no new tasks, and those that it has are ended.
    Draining {
        /// Since when, where that is known.
        since: Option<Timestamp>,
    },
    /// It is listed, and not connected.
    Disconnected,
    /// It is not listed.
    Absent,
}

impl Presence {
    /// Whether nothing is known of what runs there.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Disconnected | Self::Absent)
    }
}

/// The last inventory, as far as it is not stored.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// Every agent that is listed or known.
    pub presence: FxHashMap<AgentKey, Presence>,
    /// Registrations that are connected at an address which another has, and why they are left alone.
    pub duplicates: BTreeMap<AgentId, (AgentKey, String)>,
    /// How many are [`Presence::Active`].
    pub active: usize,
    /// How many there are that are not left alone, whether they are there at present or not: a master that has just
    /// begun to lead does not know all of them yet.
    pub members: usize,
}

/// A list of agents, read.
pub(super) struct Listing {
    /// One an address.
    pub agents: BTreeMap<AgentKey, Agent>,
    pub inventory: Inventory,
}

impl Core {
    /// Reads a list of agents. Its order makes no difference.
    pub(super) fn listing(&self, mut listed: Vec<Agent>) -> Listing {
        listed.sort_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
        let mut ids = FxHashSet::default();
        listed.retain(|agent| ids.insert(agent.id.clone()));
        let mut duplicates = BTreeMap::new();
        let mut agents: BTreeMap<AgentKey, Agent> = BTreeMap::new();
        for same_address in listed.chunk_by(|a, b| a.key == b.key) {
            let Some(chosen) = same_address.iter().min_by_key(|agent| self.claim(agent)) else { continue };
            for other in same_address.iter().filter(|agent| agent.id != chosen.id) {
                // A registration that has ended may still be listed beside the one that took its place.
                if other.standing != Standing::Disconnected {
                    let reason = format!(
                        "{} is the address of two agents, {} and {}: only {} gets Calico; give each host a name of \
                         its own (--hostname), or exclude one",
                        chosen.key, chosen.id, other.id, chosen.id
                    );
                    duplicates.insert(other.id.clone(), (other.key.clone(), reason));
                }
            }
            agents.insert(chosen.key.clone(), chosen.clone());
        }
        let mut presence: FxHashMap<AgentKey, Presence> =
            FxHashMap::with_capacity_and_hasher(agents.len(), FxBuildHasher);
        for agent in agents.values() {
            presence.insert(agent.key.clone(), self.presence_of(agent));
        }
        self.one_a_host(&agents, &mut presence);
        for (key, record) in &self.state.agents {
            if !record.aside {
                presence.entry(key.clone()).or_insert(Presence::Absent);
            }
        }
        let active = presence.values().filter(|presence| **presence == Presence::Active).count();
        let alone = |presence: &&Presence| matches!(presence, Presence::Excluded(_) | Presence::Duplicate(_));
        let members = presence.values().filter(|presence| !alone(presence)).count();
        Listing { agents, inventory: Inventory { presence, duplicates, active, members } }
    }

    /// Who has an address that several claim: the smallest of these.
    fn claim<'a>(&self, agent: &'a Agent) -> (bool, bool, &'a AgentId) {
        let known = self.state.agents.get(&agent.key).is_some_and(|record| record.id == agent.id);
        (agent.standing == Standing::Disconnected, !known, &agent.id)
    }

    fn presence_of(&self, agent: &Agent) -> Presence {
        match (agent.standing, self.settings.excluded(agent)) {
            (Standing::Disconnected, _) => Presence::Disconnected,
            (_, Some(reason)) => Presence::Excluded(reason),
            (Standing::Draining { since }, _) => Presence::Draining { since },
            (Standing::Deactivated, _) => Presence::Deactivated,
            (Standing::Active, _) => Presence::Active,
        }
    }

    /// What we run changes the host, so that one agent of a host gets it: the one that has it already, otherwise
    /// the first by address.
    fn one_a_host(&self, agents: &BTreeMap<AgentKey, Agent>, presence: &mut FxHashMap<AgentKey, Presence>) {
        // Addresses of one host are beside each other.
        let agents: Vec<&Agent> = agents.values().collect();
        for same_host in agents.chunk_by(|a, b| a.key.host() == b.key.host()) {
            if same_host.len() < 2 {
                continue;
            }
            let claims = same_host.iter().filter(|agent| {
                let presence = presence.get(&agent.key);
                presence.is_some_and(|p| !p.is_away() && !matches!(p, Presence::Excluded(_)))
            });
            let claims: Vec<&Agent> = claims.copied().collect();
            let Some(chosen) = claims.iter().min_by_key(|agent| (!self.has_tasks(&agent.id), &agent.key))
            else {
                continue;
            };
            let reason = format!(
                "{} is the agent of the host {}: only that one gets Calico; give each host a name of its own \
                 (--hostname), or exclude one (agents.exclude)",
                chosen.key,
                chosen.key.host()
            );
            for other in claims.iter().filter(|agent| agent.id != chosen.id) {
                presence.insert(other.key.clone(), Presence::Duplicate(reason.clone()));
            }
        }
    }

    fn has_tasks(&self, id: &AgentId) -> bool {
        self.agent(id).is_some_and(|record| !record.tasks.is_empty())
    }
}
