//! Agents that go down for maintenance: inverse offers are accepted, and nothing new starts there.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::Core;
use super::frame::{Effect, Frame};
use super::ids::{AgentId, OfferId, Timestamp};
use super::input::{InverseOffer, Unavailability};

/// What is known of it. Offers and inverse offers tell; nothing is stored.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    agents: FxHashMap<AgentId, Planned>,
    /// When windows end.
    ends: BTreeSet<(Timestamp, AgentId)>,
    /// The inverse offers that may still be rescinded, and whose they are.
    asked: FxHashMap<OfferId, AgentId>,
    /// Agents of which it is known since a moment ago that they go down, or not any more.
    changed: Vec<AgentId>,
}

/// An agent that goes down.
#[derive(Debug)]
struct Planned {
    window: Unavailability,
    /// The inverse offer that told of it last.
    asked: Option<OfferId>,
    /// Whether something would have been launched there.
    waited_for: bool,
}

impl Maintenance {
    /// The next subscription tells it again.
    pub fn disconnected(&mut self) {
        let changed = std::mem::take(&mut self.agents).into_keys().collect();
        *self = Self { changed, ..Self::default() };
    }

    fn learn(&mut self, agent: &str, window: Unavailability) -> &mut Planned {
        let agent = AgentId::from(agent);
        if let Some(end) = window.end() {
            self.ends.insert((end, agent.clone()));
        }
        let planned = match self.agents.entry(agent) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                self.changed.push(unknown.key().clone());
                unknown.insert(Planned { window, asked: None, waited_for: false })
            }
        };
        planned.window = window;
        planned
    }

    fn forget(&mut self, agent: &str) {
        // Of most agents nothing is known.
        let Some((agent, planned)) = self.agents.remove_entry(agent) else { return };
        if let Some(end) = planned.window.end() {
            self.ends.remove(&(end, agent.clone()));
        }
        self.changed.push(agent);
        if let Some(offer) = planned.asked {
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
            if self.of(&agent.0).and_then(|window| window.end()) == Some(end) {
                self.forget(&agent.0);
            }
        }
    }

    /// An offer says of its agent what holds now, also that there is nothing.
    pub fn offered(&mut self, agent: &str, window: Option<Unavailability>) {
        match window {
            Some(window) => drop(self.learn(agent, window)),
            None if self.agents.is_empty() => {}
            None => self.forget(agent),
        }
    }

    /// Whether nothing new starts on this agent, from `lead` before its window begins until it ends.
    pub fn holds(&self, now: Timestamp, agent: &str, lead: Duration) -> bool {
        self.of(agent).is_some_and(|w| w.start <= now.after(lead) && w.end().is_none_or(|end| now < end))
    }

    /// Whether something would have been launched there, but for its window.
    pub fn waits(&mut self, agent: &str, waits: bool) {
        if let Some(planned) = self.agents.get_mut(agent) {
            planned.waited_for = waits;
        }
    }

    /// The window of an agent on which something waits for its end.
    pub fn waited_for(&self, agent: &str) -> Option<&Unavailability> {
        self.agents.get(agent).filter(|planned| planned.waited_for).map(|planned| &planned.window)
    }

    /// The window of an agent.
    pub fn of(&self, agent: &str) -> Option<&Unavailability> {
        self.agents.get(agent).map(|planned| &planned.window)
    }
}

impl Core {
    /// What comes next on an agent depends on whether it goes down.
    pub(super) fn maintenance_changed(&mut self) {
        for agent in std::mem::take(&mut self.maintenance.changed) {
            if let Some(key) = self.index.key(&agent).cloned() {
                self.reconsider(&key);
            }
        }
    }

    /// The services tolerate that their host goes down, so the answer is yes.
    pub(super) fn inverse_offers(&mut self, offers: Vec<InverseOffer>, frame: &mut Frame) {
        let mut accepted = Vec::with_capacity(offers.len());
        for offer in offers {
            if let Some(agent) = offer.agent {
                let planned = self.maintenance.learn(&agent.0, offer.unavailability);
                if let Some(before) = planned.asked.replace(offer.id.clone()) {
                    self.maintenance.asked.remove(&before);
                }
                self.maintenance.asked.insert(offer.id.clone(), agent);
            }
            accepted.push(offer.id);
        }
        self.maintenance_changed();
        if !accepted.is_empty() {
            frame.effects.push(Effect::AcceptInverse(accepted));
        }
    }

    /// The agent does not go down after all, or at another time, which is told then.
    pub(super) fn inverse_offer_rescinded(&mut self, offer: &OfferId) {
        if let Some(agent) = self.maintenance.asked.remove(offer) {
            self.maintenance.forget(&agent.0);
            self.maintenance_changed();
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
