//! What follows from a failure: it is tried again, later and later, or never.

use std::collections::BTreeMap;
use std::time::Duration;

use calico_scheduler::core::{AgentId, Settings, TaskId, TaskType};
use mesos_v1::{TaskState, TaskStatus};

use crate::simulation::LAG;

use super::{is_alive, is_failure, is_ready};

/// An agent, or the cluster.
pub type Place = (Option<AgentId>, TaskType);

/// What is known of all places.
#[derive(Debug)]
pub struct Failures {
    places: BTreeMap<Place, Row>,
    backoff: (Duration, Duration),
}

/// The launches in one place.
#[derive(Debug)]
struct Row {
    latest: TaskId,
    /// When the first word came that it has failed.
    failed: Option<Duration>,
    /// So many in a row.
    times: u32,
    /// With an exit status of the installer that only an operator can mend.
    held: Option<i32>,
    /// The scheduler has acknowledged its end, and has heard of it in no other way: it is done, or held.
    is_final: bool,
    /// Its end may have been heard of otherwise.
    unsure: bool,
}

impl Row {
    fn new(latest: &TaskId, times: u32) -> Self {
        Self { latest: latest.clone(), failed: None, times, held: None, is_final: false, unsure: false }
    }
}

/// The exit status that an operator must mend, if the message names one.
fn operators(message: &str) -> Option<i32> {
    let code = message.strip_prefix("Command exited with status ")?.parse().ok()?;
    (77..=79).contains(&code).then_some(code)
}

impl Failures {
    pub fn new(settings: &Settings) -> Self {
        Self { places: BTreeMap::new(), backoff: (settings.backoff_min, settings.backoff_max) }
    }

    /// A launch. `is_free`: it may be at any time, and whatever was before.
    pub fn launch(&mut self, place: &Place, id: &TaskId, at: Duration, is_free: bool, clocks_jumped: bool) {
        let row = self.places.entry(place.clone()).or_insert_with(|| Row::new(id, 0));
        if !is_free {
            assert!(!row.is_final, "{id} is launched, and {} ended for good: {:?}", row.latest, row.held);
            if let Some(failed) = row.failed.filter(|_| !clocks_jumped) {
                let doublings = row.times.saturating_sub(1).min(16);
                let wait = (self.backoff.0 * 2_u32.pow(doublings)).min(self.backoff.1);
                let waited = at.saturating_sub(failed) + LAG + Duration::from_millis(1);
                assert!(waited >= wait, "{id} is launched {waited:?} after failure {} of a row", row.times);
            }
        }
        *row = Row::new(id, row.times);
    }

    /// The master says something.
    pub fn status(&mut self, place: &Place, id: &TaskId, status: &TaskStatus, at: Duration) {
        let Some(row) = self.places.get_mut(place) else { return };
        let state = status.state();
        if is_alive(state) && (row.failed.is_some() || row.latest != *id) {
            // It was said to have ended, and has its place again, or takes that of one that has.
            if row.failed.is_some() {
                *row = Row::new(id, 0);
            }
            return;
        }
        if row.latest != *id {
            return;
        }
        row.unsure |= status.uuid.is_none() && !is_alive(state);
        // What must be done once can be done by another agent.
        let given_up = place.0.is_none() && !is_alive(state) && state != TaskState::TaskFinished;
        if (given_up || is_failure(place.1, state)) && row.failed.is_none() {
            row.failed = Some(at);
            row.times += 1;
            row.held = operators(status.message());
        }
    }

    /// The scheduler acknowledges what the master said.
    pub fn acknowledged(&mut self, place: &Place, id: &TaskId, status: &TaskStatus) {
        let Some(row) = self.places.get_mut(place).filter(|row| row.latest == *id) else { return };
        if is_ready(place.1, status) {
            row.times = 0;
        }
        let done = status.state() == TaskState::TaskFinished && !is_failure(place.1, status.state());
        row.is_final |= !row.unsure && (done || row.held.is_some() && row.failed.is_some());
    }

    /// Whether this is the last launch in its place.
    pub fn is_latest(&self, place: &Place, id: &TaskId) -> bool {
        self.places.get(place).is_some_and(|row| row.latest == *id)
    }

    /// With what exit status a place may wait for an operator, and whether it must.
    pub fn held(&self, place: &Place) -> Option<(i32, bool)> {
        self.places.get(place).and_then(|row| Some((row.held?, row.is_final)))
    }
}
