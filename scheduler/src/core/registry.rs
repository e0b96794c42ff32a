//! Agents by the IDs of their registrations. Offers come by the thousand, and most are of agents on which nothing is to be
//! done: these are known by eight bytes each, which a processor's cache holds of all agents that there are.

use rustc_hash::{FxHashMap, FxHashSet};

use super::index::Registered;

/// The registered agents.
#[derive(Debug, Default)]
pub(super) struct Registry {
    stems: Stems,
    agents: FxHashMap<Name, Registered>,
    /// Those that [rest](Self::rest_of).
    resting: FxHashSet<Name>,
}

/// An ID in eight bytes. No hash of it: two IDs have two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Name {
    stem: u32,
    number: u32,
}

/// What IDs begin with, and a number for it. A master numbers the agents that it registers, and begins each ID with its own:
/// so there is one for each master that ever led, and nothing is gained by forgetting any.
#[derive(Debug, Default)]
struct Stems(FxHashMap<Box<str>, u32>);

impl Stems {
    /// The name of an ID that may be known.
    fn find(&self, id: &str) -> Option<Name> {
        let (stem, number) = split(id);
        Some(Name { stem: *self.0.get(stem)?, number })
    }

    /// The name of an ID, which is known from now on.
    fn name(&mut self, id: &str) -> Name {
        let (stem, number) = split(id);
        if let Some(known) = self.0.get(stem) {
            return Name { stem: *known, number };
        }
        // None is ever taken out. There is no memory for so many that this would not fit.
        let new = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.insert(stem.into(), new);
        Name { stem: new, number }
    }
}

/// The number at the end of an ID, and what comes before it: 0 when there is none, for a number does not begin with a zero.
/// So both together are the ID, and no other.
fn split(id: &str) -> (&str, u32) {
    // More would not fit.
    let digits = id.bytes().rev().take(9).take_while(u8::is_ascii_digit).count();
    let number = id[id.len() - digits..].trim_start_matches('0');
    (&id[..id.len() - number.len()], number.parse().unwrap_or_default())
}

impl Registry {
    pub fn get(&self, id: &str) -> Option<&Registered> {
        self.agents.get(&self.stems.find(id)?)
    }

    /// To change it: it rests no longer.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Registered> {
        let name = self.stems.find(id)?;
        self.resting.remove(&name);
        self.agents.get_mut(&name)
    }

    /// Puts an agent in, in the place of another with its ID.
    pub fn insert(&mut self, agent: Registered) {
        let name = self.stems.name(&agent.record.id.0);
        self.resting.remove(&name);
        self.agents.insert(name, agent);
    }

    pub fn remove(&mut self, id: &str) {
        if let Some(name) = self.stems.find(id) {
            self.resting.remove(&name);
            self.agents.remove(&name);
        }
    }

    /// All of them; to change nothing that keeps an agent from resting.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Registered> {
        self.agents.values_mut()
    }

    /// Whether these agents rest: nothing was to be done on them when their last offers were sent away, and nothing is known
    /// to have changed there since, so that the next ones are sent away, too. In one go, for then the processor waits for
    /// memory once, and not with each.
    pub fn rest_of<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Vec<bool> {
        let names: Vec<Option<Name>> = ids.map(|id| self.stems.find(id)).collect();
        names.into_iter().map(|name| name.is_some_and(|name| self.resting.contains(&name))).collect()
    }

    /// This agent rests.
    pub fn rest(&mut self, id: &str) {
        if let Some(name) = self.stems.find(id) {
            self.resting.insert(name);
        }
    }

    /// None rests any longer.
    pub fn wake(&mut self) {
        self.resting.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_its_stem_and_its_number() {
        for (id, stem, number) in [
            ("5ba4-S12", "5ba4-S", 12),
            ("5ba4-S0", "5ba4-S0", 0),
            ("5ba4-S010", "5ba4-S0", 10),
            ("5ba4-S", "5ba4-S", 0),
            ("1234567890", "1", 234_567_890),
            ("10000000000", "10000000000", 0),
            ("é7", "é", 7),
            ("", "", 0),
        ] {
            assert_eq!(split(id), (stem, number), "{id}");
        }
    }

    proptest! {
        #[test]
        fn two_ids_have_two_names_and_one_has_one(ids in prop::collection::vec("[ab]?-?[0129]{0,12}", 1..40)) {
            let mut stems = Stems::default();
            let names: Vec<Name> = ids.iter().map(|id| stems.name(id)).collect();
            for (id, name) in ids.iter().zip(&names) {
                prop_assert_eq!(stems.find(id), Some(*name));
                for (other, others) in ids.iter().zip(&names) {
                    prop_assert_eq!(id == other, name == others, "{} {}", id, other);
                }
            }
        }
    }
}
