//! Agents that go down for maintenance: inverse offers are accepted, and nothing new starts there.

use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Core;
use super::frame::{Effect, Frame};
use super::ids::{AgentId, OfferId, Timestamp};
use super::input::{InverseOffer, Unavailability};

/// What is known of it. Offers and inverse offers tell; nothing is stored.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    windows: FxHashMap<AgentId, Unavailability>,
    /// When windows end.
    ends: BTreeSet<(Timestamp, AgentId)>,
    /// The inverse offers that may still be rescinded, each way.
    asked: FxHashMap<OfferId, AgentId>,
    last: FxHashMap<AgentId, OfferId>,
    /// Agents on which something would have been launched.
    waiting: FxHashSet<AgentId>,
}

impl Maintenance {
    /// The next subscription tells it again.
    pub fn disconnected(&mut self) {
        *self = Self::default();
    }

    fn learn(&mut self, agent: &AgentId, window: Unavailability) {
        if let Some(end) = window.end() {
            self.ends.insert((end, agent.clone()));
        }
        self.windows.insert(agent.clone(), window);
    }

    fn forget(&mut self, agent: &AgentId) {
        self.waiting.remove(agent);
        if let Some(end) = self.windows.remove(agent).and_then(Unavailability::end) {
            self.ends.remove(&(end, agent.clone()));
        }
        if let Some(offer) = self.last.remove(agent) {
            self.asked.remove(&offer);
        }
    }

    /// What is over is forgotten.
    pub fn tick(&mut self, now: Timestamp) {
        while let Some((end, agent)) = self.ends.pop_first() {
            if end > now {
                self.ends.insert((end, agent));
                return;
            }
            if self.windows.get(&agent).and_then(|window| window.end()) == Some(end) {
                self.forget(&agent);
            }
        }
    }

    /// An offer says of its agent what holds now, also that there is nothing.
    pub fn offered(&mut self, agent: &AgentId, window: Option<Unavailability>) {
        match window {
            Some(window) => self.learn(agent, window),
            None => self.forget(agent),
        }
    }

    /// Whether nothing new starts on this agent, from `lead` before its window begins until it ends.
    pub fn holds(&self, now: Timestamp, agent: &AgentId, lead: Duration) -> bool {
        let window = self.windows.get(agent);
        window.is_some_and(|w| w.start <= now.after(lead) && w.end().is_none_or(|end| now < end))
    }

    /// Something would have been launched there.
    pub fn waits(&mut self, agent: &AgentId) {
        self.waiting.insert(agent.clone());
    }

    /// Something is launched there all the same: its window is far.
    pub fn goes_on(&mut self, agent: &AgentId) {
        self.waiting.remove(agent);
    }

    /// The window of an agent on which something waits for its end.
    pub fn waited_for(&self, agent: &AgentId) -> Option<&Unavailability> {
        self.windows.get(agent).filter(|_| self.waiting.contains(agent))
    }

    /// The window of an agent.
    pub fn of(&self, agent: &AgentId) -> Option<&Unavailability> {
        self.windows.get(agent)
    }
}

impl Core {
    /// The services tolerate that their host goes down, so the answer is yes.
    pub(super) fn inverse_offers(&mut self, offers: Vec<InverseOffer>, frame: &mut Frame) {
        let mut accepted = Vec::with_capacity(offers.len());
        for offer in offers {
            if let Some(agent) = offer.agent {
                if let Some(before) = self.maintenance.last.insert(agent.clone(), offer.id.clone()) {
                    self.maintenance.asked.remove(&before);
                }
                self.maintenance.asked.insert(offer.id.clone(), agent.clone());
                self.maintenance.learn(&agent, offer.unavailability);
            }
            accepted.push(offer.id);
        }
        if !accepted.is_empty() {
            frame.effects.push(Effect::AcceptInverse(accepted));
        }
    }

    /// The agent does not go down after all, or at another time, which is told then.
    pub(super) fn inverse_offer_rescinded(&mut self, offer: &OfferId) {
        if let Some(agent) = self.maintenance.asked.remove(offer) {
            self.maintenance.forget(&agent);
        }
    }
}

impl std::fmt::Display for Unavailability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "goes down for maintenance from {}", self.start)?;
        match self.end() {
            Some(end) => write!(f, " until {end}"),
            None => f.write_str(" on"),
        }
    }
}
