//! What was decided last, for people: kept apart from state, and bounded. Nothing is ever decided by it, and losing
//! it is harmless.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::core::{AfterFailure, Decision, Slot, TaskId, TaskType, Timestamp};

/// How many are kept.
pub(super) const KEPT: usize = 1000;
/// How many are stored together, as one value.
const TOGETHER: u64 = 20;
/// How many such values there are; each is used again when its turn comes.
pub(super) const PLACES: u64 = KEPT as u64 / TOGETHER;
/// Bytes of one entry's text: 20 of them are far below what etcd takes.
const TEXT: usize = 400;

/// Something of consequence that was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts up by one; newer ones are higher.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at: Timestamp,
    /// What kind of thing: `launched`, `failed`, `held`, `adopted`, `killed`, `outdated`, `agent`,
    /// `agent-absent`, `skipped`, `needs-restart`, `slot-taken`, `slot-freed`, `given-up`, `vanished`, `put-back`,
    /// `unchecked`, or one of
    /// [`RolloutNews::kind`](crate::core::RolloutNews::kind).
    pub what: String,
    /// The agent's address; none for the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The task type.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub task_type: Option<TaskType>,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Why, or what else is to be said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// The last ones.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    /// The next one's number.
    next: u64,
    /// From this one on, what they tell of is not stored yet, and may be decided anew.
    held: u64,
    /// All before this one are stored.
    stored: u64,
}

/// Some entries that are stored together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chunk {
    /// Below [`PLACES`].
    pub place: u64,
    pub value: Vec<u8>,
    /// When it is stored, all before this number are.
    pub before: u64,
}

impl History {
    /// Adds what is of consequence. Nobody is told before [`Self::tell`].
    pub fn note(&mut self, at: Timestamp, decisions: &[Decision]) {
        for decision in decisions {
            if let Some(entry) = entry(self.next, at, decision) {
                self.push(entry);
            }
        }
    }

    /// What the decisions so far have changed is stored.
    pub fn tell(&mut self) {
        self.held = self.next;
    }

    fn push(&mut self, entry: Entry) {
        self.next = entry.number + 1;
        self.entries.push_back(entry);
        if self.entries.len() > KEPT {
            self.entries.pop_front();
        }
    }

    /// Takes what was stored; what is not stored yet comes after it. What was not told yet is decided anew, or it is
    /// stored: with what it changed, when only the answer was lost.
    pub fn load(&mut self, mut stored: Vec<Entry>) {
        stored.sort_by_key(|entry| entry.number);
        stored.dedup_by_key(|entry| entry.number);
        let is_stored = |entry: &Entry| {
            let found = stored.binary_search_by_key(&entry.number, |stored| stored.number);
            found.is_ok_and(|index| stored[index] == *entry)
        };
        let (from, until) = (self.stored, self.held);
        let told = self.entries.drain(..).filter(|entry| (from..until).contains(&entry.number));
        let new: Vec<Entry> = told.filter(|entry| !is_stored(entry)).collect();
        (self.next, self.stored) = (0, 0);
        // A number beyond all counting is nobody's.
        for entry in stored.into_iter().filter(|entry| entry.number < u64::MAX >> 1) {
            self.push(entry);
        }
        self.stored = self.next;
        for entry in new {
            self.push(Entry { number: self.next, ..entry });
        }
        self.tell();
    }

    /// Those from `since` on, in their order.
    pub fn since(&self, since: u64) -> Vec<Entry> {
        self.entries.iter().filter(|entry| (since..self.held).contains(&entry.number)).cloned().collect()
    }

    /// Whether something is not stored.
    pub fn is_new(&self) -> bool {
        self.stored < self.next
    }

    /// What is to be stored next, in at most so many values; `all`: also what nobody is told yet, because what it
    /// changed is stored with it.
    pub fn chunks(&self, most: usize, all: bool) -> Vec<Chunk> {
        // What fell out before it was stored is lost.
        let oldest = self.entries.front().map_or(self.next, |entry| entry.number);
        let (first, next) = (self.stored.max(oldest), if all { self.next } else { self.held });
        if first >= next {
            return Vec::new();
        }
        let chunks = first / TOGETHER..=(next - 1) / TOGETHER;
        chunks
            .take(most)
            .filter_map(|chunk| {
                let numbers = chunk * TOGETHER..((chunk + 1) * TOGETHER).min(next);
                let together: Vec<&Entry> =
                    self.entries.iter().filter(|entry| numbers.contains(&entry.number)).collect();
                // An entry can always be encoded: its keys are strings.
                let value = serde_json::to_vec(&together).ok()?;
                Some(Chunk { place: chunk % PLACES, value, before: numbers.end })
            })
            .collect()
    }

    /// All before this number are stored.
    pub fn stored(&mut self, before: u64) {
        self.stored = self.stored.max(before.min(self.next));
    }

    /// All that was told is stored.
    pub fn stored_told(&mut self) {
        self.stored(self.held);
    }
}

/// What [`Chunk::value`] holds; nothing when that is no history.
pub(super) fn decode(value: &[u8]) -> Vec<Entry> {
    serde_json::from_slice(value).unwrap_or_default()
}

fn entry(number: u64, at: Timestamp, decision: &Decision) -> Option<Entry> {
    // There may be more kinds one day, and they need not be named here.
    #[allow(clippy::match_wildcard_for_single_variants)]
    if let Decision::Rollout(news) = decision {
        let (agent, text) = (news.agent().map(ToString::to_string), shortened(&news.to_string()));
        return Some(Entry {
            number,
            at,
            what: news.kind().to_owned(),
            agent,
            task_type: None,
            task: None,
            text,
        });
    }
    let (what, slot, task, text) = match decision {
        Decision::Launched { slot, task, .. } => ("launched", Some(slot), Some(task), ""),
        Decision::Failed { slot, reason, then } => {
            let what = if matches!(then, AfterFailure::Hold) { "held" } else { "failed" };
            (what, Some(slot), None, reason.as_str())
        }
        Decision::NeedsRestart { slot, reason } => ("needs-restart", Some(slot), None, reason.as_str()),
        Decision::Skipped { slot, reason } => ("skipped", Some(slot), None, reason.as_str()),
        Decision::Disrupts { slot } => ("slot-taken", Some(slot), None, ""),
        Decision::DisruptionEnded { slot } => ("slot-freed", Some(slot), None, ""),
        Decision::DisruptionFailed { slot, reason } => ("given-up", Some(slot), None, reason.as_str()),
        Decision::Vanished { slot, reason } => ("vanished", Some(slot), None, reason.as_str()),
        Decision::PutBack { slot, what } => ("put-back", Some(slot), None, what.as_str()),
        Decision::Unchecked { slot, reason } => ("unchecked", Some(slot), None, reason.as_str()),
        Decision::Adopted { slot, task } => ("adopted", Some(slot), Some(task), ""),
        Decision::Killed { task, reason } => ("killed", None, Some(task), reason.as_str()),
        Decision::Outdated { what } => ("outdated", None, None, what.as_str()),
        Decision::AgentSeen { what } => ("agent", None, None, what.as_str()),
        Decision::AgentAbsent { what } => ("agent-absent", None, None, what.as_str()),
        // What comes of them is not of consequence, or is told by what follows.
        _ => return None,
    };
    let agent = match slot {
        Some(Slot::Agent(key, _)) => Some(key.to_string()),
        _ => None,
    };
    Some(Entry {
        number,
        at,
        what: what.to_owned(),
        agent,
        task_type: slot.map(Slot::task_type),
        task: task.cloned(),
        text: shortened(text),
    })
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn seen(n: usize) -> Decision {
        Decision::AgentSeen { what: format!("10.0.0.{n}:5051 joined") }
    }

    /// The places as a store has them.
    fn store(history: &mut History, places: &mut [Vec<u8>], most: usize) -> usize {
        let chunks = history.chunks(most, true);
        let count = chunks.len();
        for chunk in chunks {
            places[usize::try_from(chunk.place).unwrap()] = chunk.value;
            history.stored(chunk.before);
        }
        count
    }

    #[test]
    fn the_last_ones_are_kept_and_stored_in_as_many_places_as_there_are() {
        let mut places = vec![Vec::new(); usize::try_from(PLACES).unwrap()];
        let mut history = History::default();
        assert_eq!(history.chunks(4, true), []);
        for n in 0..KEPT + 333 {
            history.note(Timestamp(7), &[seen(n)]);
            if n % 3 == 0 {
                assert!(history.is_new());
                assert_eq!(
                    store(&mut history, &mut places, 4),
                    if n % 20 < 2 && n > 20 { 2 } else { 1 },
                    "{n}"
                );
                assert!(!history.is_new() && history.chunks(4, true).is_empty());
            }
        }
        store(&mut history, &mut places, 4);
        let mut read = History::default();
        history.tell();
        read.note(Timestamp(8), &[seen(9)]);
        read.tell();
        read.load(places.iter().flat_map(|value| decode(value)).collect());
        let kept = read.since(0);
        // In the place that is being filled again, what is not overwritten yet is gone.
        assert!(
            kept.len() > KEPT - usize::try_from(TOGETHER).unwrap() && kept.len() <= KEPT,
            "{}",
            kept.len()
        );
        assert_eq!(kept[..kept.len() - 1], history.since(kept[0].number));
        assert_eq!(kept.last().unwrap().at, Timestamp(8), "what was new comes last");
        assert!(read.is_new());
        let longest = places.iter().map(Vec::len).max().unwrap();
        assert!(longest < 20 * 1024, "{longest}");
    }

    #[test]
    fn what_comes_all_at_once_is_stored_bit_by_bit() {
        let mut places = vec![Vec::new(); usize::try_from(PLACES).unwrap()];
        let mut history = History::default();
        history.note(Timestamp(7), &(0..3000).map(seen).collect::<Vec<_>>());
        let mut rounds = 0;
        while store(&mut history, &mut places, 4) > 0 {
            rounds += 1;
        }
        assert_eq!(rounds, 13);
        history.tell();
        let mut read = History::default();
        read.load(places.iter().flat_map(|value| decode(value)).collect());
        assert_eq!(read.since(0), history.since(0));
        assert_eq!(read.since(2990).len(), 10);
    }

    #[test]
    fn damage_is_no_history_and_texts_are_bounded() {
        let mut history = History::default();
        history.load(decode(br#"[{"number": 18446744073709551615, "at": 1, "what": "x"}]"#));
        history.load(decode(b"what?"));
        let slot = Slot::Agent("a:1".into(), TaskType::Cni);
        let failed =
            Decision::Failed { slot: slot.clone(), reason: "ü".repeat(999), then: AfterFailure::Hold };
        history.note(Timestamp(7), &[failed, Decision::Reached { slot }]);
        history.tell();
        let [entry] = &history.since(0)[..] else { panic!("{history:?}") };
        assert_eq!((entry.number, entry.what.as_str(), entry.text.len()), (0, "held", TEXT));
    }

    #[test]
    fn what_is_not_stored_is_not_told_and_what_may_be_is_told_once() {
        let told = |history: &History| -> Vec<String> {
            history.since(0).into_iter().map(|entry| entry.text).collect()
        };
        let text = |n: usize| format!("10.0.0.{n}:5051 joined");
        let mut places = vec![Vec::new(); usize::try_from(PLACES).unwrap()];
        let mut history = History::default();
        history.note(Timestamp(7), &[seen(1)]);
        history.tell();
        history.note(Timestamp(8), &[seen(2)]);
        assert_eq!(told(&history), [text(1)]);
        // With something else than what the last one changed.
        let [chunk] = &history.chunks(4, false)[..] else { panic!("{history:?}") };
        assert_eq!((decode(&chunk.value).len(), chunk.before), (1, 1));
        // It could not be stored, and is decided anew.
        history.load(Vec::new());
        assert_eq!(told(&history), [text(1)], "what was told is kept");
        history.note(Timestamp(9), &[seen(2)]);
        // It was stored, but for the answer.
        for chunk in history.chunks(4, true) {
            places[usize::try_from(chunk.place).unwrap()] = chunk.value;
        }
        history.load(places.iter().flat_map(|value| decode(value)).collect());
        assert_eq!(told(&history), [text(1), text(2)]);
        assert!(!history.is_new());
    }
}
