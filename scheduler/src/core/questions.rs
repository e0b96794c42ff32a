//! What the master is asked by name, and has not answered: each question at its own time.

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher as _;
use std::time::Duration;

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::ids::{AgentId, TaskId, Timestamp};

/// The first wait for an answer; doubled by each that follows.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Tasks in one call: half a megabyte, which the master reads and answers in one go.
const BATCH: usize = 5_000;

/// Tasks that were asked about, or are to be.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: FxHashMap<TaskId, Question>,
    /// What may be due when: a question that has another moment by then is none.
    due: BTreeMap<Timestamp, VecDeque<TaskId>>,
    /// When the last call was made.
    last: Option<Timestamp>,
    /// Until when nothing is asked, for the master was asked for all.
    paused_until: Timestamp,
}

#[derive(Debug)]
struct Question {
    agent: AgentId,
    due: Timestamp,
    /// For how long it was waited for its answer last; none when it was not asked yet.
    waited: Option<Duration>,
}

impl Questions {
    /// To be asked at `due`, as if for the first time.
    pub fn put(&mut self, task: TaskId, agent: AgentId, due: Timestamp) {
        self.due.entry(due).or_default().push_back(task.clone());
        self.open.insert(task, Question { agent, due, waited: None });
    }

    /// The same, unless it is open already.
    pub fn put_new(&mut self, task: &TaskId, agent: &AgentId, due: Timestamp) {
        if !self.open.contains_key(task) {
            self.put(task.clone(), agent.clone(), due);
        }
    }

    /// An update of this task came.
    pub fn answered(&mut self, task: &TaskId) {
        if self.open.remove(task).is_some() && self.open.is_empty() {
            // There were tens of thousands, maybe, and may not be again.
            *self = Self { last: self.last, paused_until: self.paused_until, ..Self::default() };
        }
    }

    /// Takes back all questions.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The master was asked for all: it answers many of these, too.
    pub fn pause(&mut self, now: Timestamp) {
        self.paused_until = now.after(FIRST_WAIT);
    }

    /// Whether the master has had no time yet to answer the last call.
    pub fn is_under_way(&self, now: Timestamp) -> bool {
        !self.open.is_empty() && self.last.is_some_and(|last| now < last.after(FIRST_WAIT))
    }

    /// What is to be asked now, with one call: each again after twice the time, if it is not answered.
    pub fn ask(&mut self, now: Timestamp) -> Vec<(TaskId, AgentId)> {
        let mut asked = Vec::new();
        if now < self.paused_until {
            return asked;
        }
        while asked.len() < BATCH
            && let Some(mut first) = self.due.first_entry()
            && *first.key() <= now
        {
            let due = *first.key();
            let Some(task) = first.get_mut().pop_front() else {
                first.remove();
                continue;
            };
            let Some(question) = self.open.get_mut(&task).filter(|question| question.due == due) else {
                continue;
            };
            let wait = question.waited.map_or(FIRST_WAIT, |waited| (waited * 2).min(LONGEST_WAIT));
            question.waited = Some(wait);
            question.due = now.after(wait.saturating_sub(spread(&task, wait)));
            self.due.entry(question.due).or_default().push_back(task.clone());
            asked.push((task, question.agent.clone()));
        }
        asked.sort_unstable();
        if !asked.is_empty() {
            self.last = Some(now);
        }
        asked
    }
}

/// How much sooner than after `wait` a task is asked about again: up to a quarter of it, and nothing of the first one, so
/// that the thousands that were asked about together are not for ever. A task's own, for the core has no chance.
fn spread(task: &TaskId, wait: Duration) -> Duration {
    if wait <= FIRST_WAIT { Duration::ZERO } else { wait / 4 * shade(task) / 256 }
}

fn shade(task: &TaskId) -> u32 {
    // The upper bits are the well mixed ones.
    u32::try_from(FxBuildHasher.hash_one(&task.0) >> 56).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Timestamp {
        Timestamp(n * 1000)
    }

    #[test]
    fn many_questions_go_batch_by_batch_and_are_spread_when_they_are_asked_again() {
        let mut questions = Questions::default();
        let tasks = u64::try_from(BATCH).unwrap() * 2 + 1;
        for n in 0..tasks {
            questions.put(TaskId::from(format!("cni.10.0.0.1.5051.{n:x}")), "S1".into(), second(0));
        }
        let batches = [0, 1, 2, 3].map(|n| questions.ask(second(n)).len());
        assert_eq!(batches, [BATCH, BATCH, 1, 0]);
        assert!(questions.is_under_way(second(6)) && !questions.is_under_way(second(7)));
        let mut last = 0;
        let mut calls = 0;
        for n in 4..10_000 {
            let asked = questions.ask(second(n)).len();
            assert!(asked <= BATCH);
            if asked > 0 {
                (last, calls) = (n, calls + 1);
            }
            if n == 700 {
                calls = 0;
            }
        }
        assert!(last >= 10_000 - 300, "nobody is forgotten");
        // Every one at least every 5 min, at most every 225 s, and not all at once.
        assert!(calls > 1000, "{calls} calls");
    }
}
