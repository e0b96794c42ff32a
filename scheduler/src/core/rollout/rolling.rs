//! What is derived of the rollout, change by change: who waits for a place, who has one, who has failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::super::Core;
use super::super::dated::Dated;
use super::super::ids::{AgentKey, TargetHash, Timestamp};
use super::super::input::Agent;
use super::super::listing::Presence;
use super::super::progress::Next;
use super::super::spec::Spec;
use super::super::state::AgentRecord;
use super::followed::Wanted;
use super::record::Place;
use super::target::is_ordered;

/// What is derived of the rollout, change by change.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each follows from something else")]
pub(in super::super) struct Rolling {
    /// What targets stand for.
    pub known: FxHashMap<TargetHash, Spec>,
    /// Why the operator's configuration is not followed.
    pub refused: Vec<String>,
    /// What the operator wants, while that has failed and the target of before is followed.
    pub given_up: Option<Box<Wanted>>,
    /// Whether the target is another than the stored one: a rollout begins when the agents are known.
    pub begins: bool,
    /// Whether agents may begin.
    pub is_open: bool,
    /// Whether a canary has been down in the pause after it, or may have been: that begins anew then.
    pub(super) was_down: bool,
    /// Whether no window is open.
    pub is_shut: bool,
    /// Agents that wait for a place as soon as they have registered with a new master.
    pub(super) returning: BTreeSet<AgentKey>,
    /// Agents that wait for a place, by their domain, in the order in which they get it.
    pub(super) waiting: BTreeMap<Option<Arc<str>>, BTreeSet<(Rank, AgentKey)>>,
    /// Where each of them is in there.
    pub(super) ranked: FxHashMap<AgentKey, (Option<Arc<str>>, Rank)>,
    /// The agents' domains, where they have one.
    pub(super) domains: FxHashMap<AgentKey, Arc<str>>,
    /// Places that are held, and since when their step is under way.
    pub(super) held: Dated<AgentKey>,
    /// How many are held in a domain.
    pub(super) held_in: BTreeMap<String, usize>,
    /// Agents that have failed in this rollout.
    pub(super) failed: BTreeSet<AgentKey>,
    /// Whether any agent was brought to its end.
    pub(super) arrived: bool,
    /// Agents with a place, or whose first install is complete, that have changed in this frame.
    pub(super) touched: BTreeSet<AgentKey>,
    /// Agents that hold a place and wait for others, or for an operator: their step's time does not pass.
    pub(super) idle: BTreeSet<AgentKey>,
    /// Agents that hold a place and have nothing to do any more, and since when.
    pub(super) settling: Dated<AgentKey>,
}

/// When an agent's turn comes: the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// The operator has asked for it.
    Ordered,
    /// It has failed before: nothing is to be lost there.
    Failed,
    Usual,
    /// Our own scheduler runs there.
    Own,
}

impl Rolling {
    /// Nothing was heard for a while: who was well must be so anew, canaries in the pause after them, too.
    pub fn attend(&mut self, now: Timestamp) {
        self.settling.renew(now);
        self.was_down = true;
    }

    /// How many places are held.
    pub fn under_way(&self) -> usize {
        self.held.len()
    }

    /// The agents that have failed in this rollout.
    pub fn failed(&self) -> &BTreeSet<AgentKey> {
        &self.failed
    }

    /// How many agents wait for a place.
    pub fn waiting(&self) -> usize {
        self.ranked.len()
    }

    /// Whether any does, or will when it has registered with a new master.
    pub(super) fn waits(&self) -> bool {
        self.waiting() > 0 || !self.returning.is_empty()
    }

    /// The agents that wait because an operator has ordered something there.
    pub fn ordered(&self) -> Vec<AgentKey> {
        let waiting = self.waiting.values().flatten();
        waiting.filter(|(rank, _)| *rank == Rank::Ordered).map(|(_, key)| key.clone()).collect()
    }

    /// Takes the agents' domains from a list of them.
    pub fn learn_domains(&mut self, agents: &[Agent], attribute: Option<&str>) {
        let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
        self.domains.clear();
        for agent in agents {
            let domain = match attribute {
                Some(name) => {
                    agent.attributes.iter().find_map(|a| a.split_once(':').filter(|(n, _)| *n == name))
                }
                None => agent.domain.as_deref().map(|domain| ("", domain)),
            };
            let Some((_, domain)) = domain else { continue };
            let shared = names.get(domain).cloned().unwrap_or_else(|| {
                let domain: Arc<str> = domain.into();
                names.insert(Arc::clone(&domain));
                domain
            });
            self.domains.insert(agent.key.clone(), shared);
        }
    }

    fn leave(&mut self, key: &AgentKey) {
        if let Some((domain, rank)) = self.ranked.remove(key)
            && let Some(group) = self.waiting.get_mut(&domain)
        {
            group.remove(&(rank, key.clone()));
            if group.is_empty() {
                self.waiting.remove(&domain);
            }
        }
    }

    fn enter(&mut self, key: &AgentKey, rank: Rank) {
        let domain = self.domains.get(key).cloned();
        if self.ranked.get(key).is_some_and(|at| *at == (domain.clone(), rank)) {
            return;
        }
        self.leave(key);
        self.waiting.entry(domain.clone()).or_default().insert((rank, key.clone()));
        self.ranked.insert(key.clone(), (domain, rank));
    }

    /// Counts the place of an agent's record, or that it has none.
    fn count(&mut self, old: Option<&AgentRecord>, new: Option<&AgentRecord>, number: u64) {
        let (before, after) = (old.and_then(AgentRecord::holds), new.and_then(AgentRecord::holds));
        let domain = |place: Option<&Place>| place.and_then(|place| place.domain.clone());
        if let Some(count) = domain(before).and_then(|domain| self.held_in.get_mut(&domain)) {
            *count = count.saturating_sub(1);
        }
        if let Some(domain) = domain(after) {
            *self.held_in.entry(domain).or_default() += 1;
        }
        let Some(key) = new.or(old).map(|record| &record.key) else { return };
        match (before, after) {
            (None, None) => {}
            (_, Some(place)) => {
                let moved = before.is_none_or(|before| before.step_since != place.step_since);
                if moved || self.held.get(key).is_none() {
                    self.held.insert(key.clone(), place.step_since);
                }
            }
            (Some(_), None) => {
                self.held.remove(key);
                self.idle.remove(key);
                self.settling.remove(key);
            }
        }
        if new.is_some_and(|record| has_failed(record, number)) {
            self.failed.insert(key.clone());
        } else {
            self.failed.remove(key);
        }
    }
}

/// Whether an agent has failed in this rollout.
pub(in super::super) fn has_failed(agent: &AgentRecord, number: u64) -> bool {
    agent.place.as_ref().is_some_and(|place| place.failure.is_some() && place.number == number)
}

impl Core {
    /// Counts what is stored, once.
    pub(in super::super) fn count_places(&mut self) {
        let number = self.number();
        self.rolling.arrived = number > 0 && self.state.agents.values().any(|agent| agent.settled == number);
        for record in self.state.agents.values() {
            self.rolling.count(None, Some(record), number);
        }
    }

    /// Counts them anew: another rollout begins.
    pub(in super::super) fn recount_places(&mut self) {
        let rolling = &mut self.rolling;
        (rolling.held, rolling.held_in, rolling.failed) = Default::default();
        self.count_places();
    }

    /// An agent's record has changed.
    pub(in super::super) fn count_place(&mut self, old: Option<&AgentRecord>, new: Option<&AgentRecord>) {
        let number = self.number();
        self.rolling.arrived |= number > 0 && new.is_some_and(|new| new.settled == number);
        if old.is_some_and(|old| old.place.is_some()) || new.is_some_and(|new| new.place.is_some()) {
            self.rolling.count(old, new, number);
        }
    }

    /// Sorts an agent by whether it waits for a place, given what comes next on it.
    pub(in super::super) fn queue(&mut self, agent: &AgentRecord, next: &Next) {
        let is_active = self.presence(&agent.key) == Some(&Presence::Active);
        let complete = agent.settled == 0 && *next == Next::Complete && is_active && !agent.aside;
        let settled = agent.settled > 0 && agent.holds().is_none() && !agent.aside;
        let behind = settled && self.is_behind(agent);
        // A rollout that changes nothing on an agent is over there.
        let concerned = settled && !behind && agent.settled < self.number();
        if agent.holds().is_some() || complete || concerned {
            self.rolling.touched.insert(agent.key.clone());
        }
        let returns = behind && self.presence(&agent.key) == Some(&Presence::Recovering);
        if returns {
            self.rolling.returning.insert(agent.key.clone());
        } else {
            self.rolling.returning.remove(&agent.key);
        }
        if behind && is_active && !has_failed(agent, self.number()) {
            let again = is_ordered(agent);
            let own = self.settings.rollout.own_host.as_deref() == Some(agent.key.host());
            let rank = match () {
                () if again => Rank::Ordered,
                () if own => Rank::Own,
                () if agent.place.is_some() => Rank::Failed,
                () => Rank::Usual,
            };
            self.rolling.enter(&agent.key, rank);
        } else {
            self.rolling.leave(&agent.key);
        }
    }

    /// An agent is known no longer.
    pub(in super::super) fn unqueue(&mut self, key: &AgentKey) {
        self.rolling.leave(key);
        self.rolling.returning.remove(key);
        self.rolling.touched.remove(key);
    }
}
