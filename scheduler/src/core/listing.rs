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
    /// The master leads only now, and waits for it to register again: it is as it was.
    Recovering,
    /// It is not listed.
    Absent,
}

impl Presence {
    /// Whether it is a part of the cluster that takes tasks, now or shortly.
    pub fn counts(&self) -> bool {
        matches!(self, Self::Active | Self::Recovering)
    }

    /// Whether a master that made an offer of it has learned more since.
    pub fn makes_no_offers(&self) -> bool {
        !matches!(self, Self::Active | Self::Excluded(_) | Self::Duplicate(_))
    }

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
    /// How many take tasks, now or shortly, and are not away by what is stored.
    pub there: usize,
    /// How many there are that are not left alone, whether they are there at present or not: a master that has just
    /// begun to lead does not know all of them yet.
    pub members: usize,
}

/// A list of agents, read.
pub(super) struct Listing {
    /// One an address, in the order of these.
    pub agents: Vec<Agent>,
    pub inventory: Inventory,
}

impl Core {
    /// Reads a list of agents. Its order makes no difference.
    pub(super) fn listing(&self, mut listed: Vec<Agent>) -> Listing {
        listed.sort_unstable_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
        let mut ids = FxHashSet::default();
        let recovering = listed.extract_if(.., |agent| agent.standing == Standing::Recovering);
        let recovering: Vec<Agent> = recovering.collect();
        listed.retain(|agent| ids.insert(agent.id.clone()));
        let duplicates = self.one_an_address(&mut listed);
        let agents = listed;
        let mut presence: FxHashMap<AgentKey, Presence> =
            FxHashMap::with_capacity_and_hasher(agents.len(), FxBuildHasher);
        for agent in &agents {
            // The list goes, and the record stays: the name is the record's.
            let key = self.index.key(&agent.id).filter(|key| **key == agent.key).unwrap_or(&agent.key);
            presence.insert(key.clone(), self.presence_of(agent));
        }
        let recovering = self.recovering(&recovering, &ids, &mut presence);
        self.one_a_host(agents.iter().map(|agent| (&agent.key, &agent.id)).chain(recovering), &mut presence);
        for (key, record) in &self.state.agents {
            if !record.aside {
                presence.entry(key.clone()).or_insert(Presence::Absent);
            }
        }
        let there = presence.iter().filter(|(key, presence)| self.is_there(key, presence)).count();
        let alone = |presence: &&Presence| matches!(presence, Presence::Excluded(_) | Presence::Duplicate(_));
        let members = presence.values().filter(|presence| !alone(presence)).count();
        Listing { agents, inventory: Inventory { presence, duplicates, there, members } }
    }

    /// Leaves one agent an address in a list that is in the order of these. The others, with why they are left alone.
    fn one_an_address(&self, listed: &mut Vec<Agent>) -> BTreeMap<AgentId, (AgentKey, String)> {
        let mut others = Vec::new();
        listed.dedup_by(|agent, chosen| {
            if agent.key != chosen.key {
                return false;
            }
            if self.claim(agent) < self.claim(chosen) {
                std::mem::swap(agent, chosen);
            }
            others.push(agent.clone());
            true
        });
        // A registration that has ended may still be listed beside the one that took its place.
        others.retain(|other| other.standing != Standing::Disconnected);
        let alone = others.into_iter().filter_map(|other| {
            let chosen = &listed[listed.binary_search_by(|agent| agent.key.cmp(&other.key)).ok()?];
            let reason = format!(
                "{} is the address of two agents, {} and {}: only {} gets Calico; give each host a name of its own \
                 (--hostname), or exclude one",
                chosen.key, chosen.id, other.id, chosen.id
            );
            Some((other.id, (other.key, reason)))
        });
        alone.collect()
    }

    /// The known ones of `agents` that have not registered again. What is known of them stands, at the address that they
    /// had with the master before; of others nothing is known that a record needs.
    fn recovering<'a>(
        &'a self,
        agents: &'a [Agent],
        registered: &FxHashSet<AgentId>,
        presence: &mut FxHashMap<AgentKey, Presence>,
    ) -> Vec<(&'a AgentKey, &'a AgentId)> {
        let mut recovering = Vec::new();
        for agent in agents.iter().filter(|agent| !registered.contains(&agent.id)) {
            let Some(known) = self.index.agents.get(&agent.id.0).map(|known| &*known.record) else {
                continue;
            };
            if !known.aside && !presence.contains_key(&known.key) {
                // One that is away stays so until it is there.
                let excluded = self.settings.excluded(agent).filter(|_| known.absent_since.is_none());
                let is = excluded.map_or(Presence::Recovering, Presence::Excluded);
                presence.insert(known.key.clone(), is);
                recovering.push((&known.key, &agent.id));
            }
        }
        recovering
    }

    /// Who has an address that several claim: the smallest of these.
    fn claim<'a>(&self, agent: &'a Agent) -> (bool, bool, &'a AgentId) {
        let known = self.state.agents.get(&agent.key).is_some_and(|record| record.id == agent.id);
        (agent.standing == Standing::Disconnected, !known, &agent.id)
    }

    fn is_there(&self, key: &AgentKey, presence: &Presence) -> bool {
        *presence == Presence::Active || *presence == Presence::Recovering && !self.is_away(key)
    }

    /// Whether an agent is away by what is stored.
    fn is_away(&self, key: &AgentKey) -> bool {
        self.state.agents.get(key).is_some_and(|record| record.absent_since.is_some())
    }

    fn presence_of(&self, agent: &Agent) -> Presence {
        match (agent.standing, self.settings.excluded(agent)) {
            (Standing::Disconnected, _) => Presence::Disconnected,
            (Standing::Recovering, _) => Presence::Recovering,
            (_, Some(reason)) => Presence::Excluded(reason),
            (Standing::Draining { since }, _) => Presence::Draining { since },
            (Standing::Deactivated, _) => Presence::Deactivated,
            (Standing::Active, _) => Presence::Active,
        }
    }

    /// What we run changes the host, so that one agent of a host gets it: the one that has it already, otherwise
    /// the first by address.
    fn one_a_host<'a>(
        &self,
        agents: impl Iterator<Item = (&'a AgentKey, &'a AgentId)>,
        presence: &mut FxHashMap<AgentKey, Presence>,
    ) {
        // Addresses of one host are beside each other.
        let mut agents: Vec<(&AgentKey, &AgentId)> = agents.collect();
        agents.sort_unstable();
        for same_host in agents.chunk_by(|(a, _), (b, _)| a.host() == b.host()) {
            if same_host.len() < 2 {
                continue;
            }
            let claims = same_host.iter().filter(|(key, _)| {
                let presence = presence.get(*key);
                presence.is_some_and(|p| !p.is_away() && !matches!(p, Presence::Excluded(_)))
            });
            let claims: Vec<(&AgentKey, &AgentId)> = claims.copied().collect();
            let Some((chosen, _)) = claims.iter().min_by_key(|(key, id)| (!self.has_tasks(id), *key)) else {
                continue;
            };
            let reason = format!(
                "{chosen} is the agent of the host {}: only that one gets Calico; give each host a name of its own \
                 (--hostname), or exclude one (agents.exclude)",
                chosen.host()
            );
            for (other, _) in claims.iter().filter(|(key, _)| key != chosen) {
                // What is recovering takes nothing yet, and has its place when it is back.
                if presence.get(*other) != Some(&Presence::Recovering) {
                    presence.insert((*other).clone(), Presence::Duplicate(reason.clone()));
                }
            }
        }
    }

    fn has_tasks(&self, id: &AgentId) -> bool {
        self.agent(id).is_some_and(|record| !record.tasks.is_empty())
    }
}
