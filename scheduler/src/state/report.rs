//! How the store is, for people: written by the stores, read by the API.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::StoreError;
use super::history::{Chunk, Entry, History};
use crate::core::{Decision, Timestamp};

/// What is stored of the history is at most this old, while nothing else is stored.
const LATE: Duration = Duration::from_secs(10);

/// How the store is. Clones show the same one.
#[derive(Clone, Default)]
pub struct Report(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    condition: Condition,
    history: History,
    /// When the oldest entry that is not stored was made.
    waiting: Option<Instant>,
}

/// How the store is.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// Since when something is being stored.
    pub storing: Option<Instant>,
    /// When something was last stored.
    pub stored: Option<Instant>,
    /// How long that took.
    pub took: Duration,
    /// Since when it does not answer, or we do not lead in it, and why.
    pub away: Option<(Instant, String)>,
    /// Since when what is to be stored is not, and why.
    pub failing: Option<(Instant, String)>,
    /// When it was found to hold less than it did before, and what was found.
    pub restored: Option<(Instant, String)>,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Report").field(&self.condition()).finish()
    }
}

impl Report {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing is ever half done in it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is now.
    pub fn condition(&self) -> Condition {
        self.known().condition.clone()
    }

    /// What was decided last, from the number `since` on.
    pub fn history(&self, since: u64) -> Vec<Entry> {
        self.known().history.since(since)
    }

    pub(super) fn storing(&self) {
        self.known().condition.storing = Some(Instant::now());
    }

    /// Whatever was being stored is stored.
    pub(super) fn stored(&self) {
        let condition = &mut self.known().condition;
        let now = Instant::now();
        condition.took = condition.storing.take().map_or(Duration::ZERO, |since| now - since);
        condition.stored = Some(now);
        (condition.away, condition.failing) = (None, None);
    }

    /// What was to be stored is not; none: because we do not lead, which is told elsewhere.
    pub(super) fn not_stored(&self, why: Option<&StoreError>) {
        let condition = &mut self.known().condition;
        condition.storing = None;
        if let Some(why) = why {
            since(&mut condition.failing, why.to_string());
        }
    }

    /// It is opened, anew.
    pub(super) fn opened(&self) {
        let condition = &mut self.known().condition;
        (condition.storing, condition.away, condition.failing) = (None, None, None);
    }

    /// It answers.
    pub(super) fn answers(&self) {
        self.known().condition.away = None;
    }

    /// It does not do what it is asked.
    pub(super) fn away(&self, why: impl fmt::Display) {
        since(&mut self.known().condition.away, why.to_string());
    }

    /// It holds less than it did before.
    pub(super) fn restored(&self, what: String) {
        self.known().condition.restored = Some((Instant::now(), what));
    }

    pub(super) fn note(&self, at: Timestamp, decisions: &[Decision]) {
        let known = &mut *self.known();
        for decision in decisions {
            if let Decision::Outdated { what } = decision {
                known.condition.restored = Some((Instant::now(), what.clone()));
            }
        }
        known.history.note(at, decisions);
        if known.history.is_new() && known.waiting.is_none() {
            known.waiting = Some(Instant::now());
        }
    }

    pub(super) fn load_history(&self, stored: Vec<Entry>) {
        self.known().history.load(stored);
    }

    /// What was decided so far is stored, or changed nothing.
    pub(super) fn tell(&self) {
        self.known().history.tell();
    }

    /// What is to be stored of the history with something else, in at most so many values; `all`: also what was
    /// decided last, for that is what it is stored with.
    pub(super) fn chunks(&self, most: usize, all: bool) -> Vec<Chunk> {
        self.known().history.chunks(most, all)
    }

    /// Whether history has waited for so long that it is stored by itself.
    pub(super) fn is_late(&self) -> bool {
        let known = self.known();
        known.condition.away.is_none() && known.waiting.is_some_and(|since| since.elapsed() >= LATE)
    }

    /// All that the history tells is stored, or it was of no use to try.
    pub(super) fn tried_all(&self) {
        let known = &mut *self.known();
        known.history.stored_told();
        known.waiting = known.history.is_new().then(Instant::now);
    }

    /// These are stored, or it was of no use to try.
    pub(super) fn tried(&self, chunks: &[Chunk], stored: bool) {
        let known = &mut *self.known();
        if stored && let Some(last) = chunks.last() {
            known.history.stored(last.before);
        }
        known.waiting = known.history.is_new().then(Instant::now);
    }
}

/// It is so since now, or since it was so before.
fn since(trouble: &mut Option<(Instant, String)>, why: String) {
    let since = trouble.take().map_or_else(Instant::now, |(since, _)| since);
    *trouble = Some((since, why));
}
