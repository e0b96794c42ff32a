//! Things with a moment each, found by the earliest.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::Timestamp;

/// A set whose members have a moment each.
#[derive(Debug)]
pub(super) struct Dated<K> {
    moments: BTreeMap<K, Timestamp>,
    order: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for Dated<K> {
    fn default() -> Self {
        Self { moments: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Clone + Ord> Dated<K> {
    /// Puts it in, or gives it another moment.
    pub fn insert(&mut self, key: K, at: Timestamp) {
        self.remove(&key);
        self.order.insert((at, key.clone()));
        self.moments.insert(key, at);
    }

    pub fn remove(&mut self, key: &K) {
        if let Some((key, at)) = self.moments.remove_entry(key) {
            self.order.remove(&(at, key));
        }
    }

    pub fn get(&self, key: &K) -> Option<Timestamp> {
        self.moments.get(key).copied()
    }

    pub fn len(&self) -> usize {
        self.moments.len()
    }

    /// All of them, in the order of the keys.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.moments.keys()
    }

    /// Those of `moment` and before, the earliest first.
    pub fn until(&self, moment: Timestamp) -> impl Iterator<Item = &K> {
        self.order.iter().take_while(move |(at, _)| *at <= moment).map(|(_, key)| key)
    }

    /// Takes out the earliest, when it is of `moment` or before.
    pub fn pop_until(&mut self, moment: Timestamp) -> Option<K> {
        self.order.first().filter(|(at, _)| *at <= moment)?;
        let (_, key) = self.order.pop_first()?;
        self.moments.remove(&key);
        Some(key)
    }

    /// All moments become `now`.
    pub fn renew(&mut self, now: Timestamp) {
        self.moments.values_mut().for_each(|at| *at = now);
        self.order = self.moments.keys().map(|key| (now, key.clone())).collect();
    }

    /// Moments that are yet to come become `now`: a clock was set back since.
    pub fn not_after(&mut self, now: Timestamp) {
        while let Some((at, key)) = self.order.pop_last() {
            if at <= now {
                self.order.insert((at, key));
                return;
            }
            self.moments.insert(key.clone(), now);
            self.order.insert((now, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_none_has_two_moments() {
        let mut dated = Dated::default();
        dated.insert("a", Timestamp(3));
        dated.insert("b", Timestamp(2));
        dated.insert("a", Timestamp(1));
        assert_eq!((dated.len(), dated.get(&"a")), (2, Some(Timestamp(1))));
        assert_eq!(dated.until(Timestamp(2)).copied().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(dated.pop_until(Timestamp(0)), None);
        assert_eq!(dated.pop_until(Timestamp(1)), Some("a"));
        dated.insert("c", Timestamp(9));
        dated.insert("d", Timestamp(9));
        dated.not_after(Timestamp(5));
        assert_eq!((dated.get(&"b"), dated.get(&"c")), (Some(Timestamp(2)), Some(Timestamp(5))));
        dated.remove(&"b");
        assert_eq!(dated.until(Timestamp(5)).copied().collect::<Vec<_>>(), ["c", "d"]);
    }
}
