//! What follows from a failure: it is tried again, later and later, or never.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use calico_scheduler::core::{AgentId, Settings, Spec, TaskId, TaskType};
use mesos_v1::{TaskState, TaskStatus};

use crate::simulation::LAG;

use super::{exit_status, is_alive, is_failure, is_ready};

/// An agent, or the cluster.
pub type Place = (Option<AgentId>, TaskType);

/// What is known of all places.
#[derive(Debug)]
pub struct Failures {
    places: BTreeMap<Place, Row>,
    /// The agents that there are, as a scheduler was told last.
    there: Option<BTreeSet<AgentId>>,
    backoff: (Duration, Duration),
    /// Task types that are launched again with the permission to restart something where they need it.
    restart: BTreeSet<TaskType>,
}

/// What a launch is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// It may be at any time, and whatever was before.
    pub is_free: bool,
    /// Until when an operator, or its agent's turn, has made an end of all waiting there.
    pub freed: Option<Duration>,
    /// It may restart something.
    pub restarts: bool,
    /// How much time has passed is not known.
    pub clocks_jumped: bool,
}

/// The launches in one place.
#[derive(Debug)]
struct Row {
    latest: TaskId,
    /// When that was launched.
    at: Duration,
    /// That may restart something.
    restarts: bool,
    /// When the first word came that it has failed.
    failed: Option<Duration>,
    /// So many in a row.
    times: u32,
    verdict: Option<Verdict>,
    /// Its agent was away since: what the host needs or cannot have is found out again.
    away: bool,
    heard: Heard,
}

/// What the installer has said that makes no sense to try again as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Only an operator can mend this exit status.
    Held(i32),
    /// It needs a restart that it may have: the next launch has the permission.
    NeedsRestart,
    /// Its host cannot have it.
    Skipped,
}

/// What the scheduler has heard of the end of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// That it has ended may have been heard otherwise than with what is acknowledged.
    Unsure,
    /// It has acknowledged that it is done, or what the verdict is.
    Final,
}

impl Row {
    fn new(latest: &TaskId, at: Duration, restarts: bool, times: u32) -> Self {
        let latest = latest.clone();
        Self { latest, at, restarts, failed: None, times, verdict: None, away: false, heard: Heard::Nothing }
    }

    /// Whether it ended with what is found out again when its agent was away.
    fn is_judged_anew(&self) -> bool {
        use Verdict::{Held, NeedsRestart, Skipped};
        self.away && matches!(self.verdict, Some(NeedsRestart | Skipped | Held(79)))
    }

    /// Whether it may be launched, as far as its last end is known.
    fn is_over(&self, restarts: bool) -> bool {
        let goes_on = restarts && self.verdict == Some(Verdict::NeedsRestart);
        self.heard != Heard::Final || goes_on || self.is_judged_anew()
    }
}

impl Failures {
    pub fn new(settings: &Settings) -> Self {
        let allowed = |spec: &Spec| spec.restart.is_some_and(|restart| restart.allowed);
        let restart = settings.specs.iter().filter(|(_, spec)| allowed(spec)).map(|(t, _)| *t).collect();
        let backoff = (settings.backoff_min, settings.backoff_max);
        Self { places: BTreeMap::new(), there: None, backoff, restart }
    }

    /// A launch.
    pub fn launch(&mut self, place: &Place, id: &TaskId, at: Duration, by: Circumstances) {
        let row = self.places.entry(place.clone()).or_insert_with(|| Row::new(id, at, false, 0));
        let is_freed = by.freed.is_some_and(|freed| freed + LAG >= row.failed.unwrap_or(row.at));
        if by.is_free || is_freed {
            row.times = 0;
        } else {
            let may = row.restarts || row.verdict == Some(Verdict::NeedsRestart);
            assert!(!by.restarts || may, "{id} may restart something, and {} needs no restart", row.latest);
            let over = row.is_over(by.restarts);
            assert!(over, "{id} is launched, and {} ended for good: {:?}", row.latest, row.verdict);
            // What changed nothing has not failed.
            let failed =
                row.failed.filter(|_| !matches!(row.verdict, Some(Verdict::NeedsRestart | Verdict::Skipped)));
            if let Some(failed) = failed.filter(|_| !by.clocks_jumped) {
                let doublings = row.times.saturating_sub(1).min(16);
                let wait = (self.backoff.0 * 2_u32.pow(doublings)).min(self.backoff.1);
                let waited = at.saturating_sub(failed) + LAG + Duration::from_millis(1);
                assert!(waited >= wait, "{id} is launched {waited:?} after failure {} of a row", row.times);
            }
        }
        *row = Row::new(id, at, by.restarts, row.times);
        // Offers may come before the list that says that it is back.
        let is_there = |agent| self.there.as_ref().is_none_or(|there| there.contains(agent));
        row.away = !place.0.as_ref().is_none_or(is_there);
    }

    /// What was done in this place is there no longer.
    pub fn vanished(&mut self, place: &Place) {
        self.places.remove(place);
    }

    /// Nothing is known of an agent any more.
    pub fn forgotten(&mut self, agent: &AgentId) {
        self.places.retain(|(place, _), _| place.as_ref() != Some(agent));
    }

    /// Agents but these are away.
    pub fn there(&mut self, agents: &BTreeSet<AgentId>) {
        for ((agent, _), row) in &mut self.places {
            row.away |= agent.as_ref().is_some_and(|agent| !agents.contains(agent));
        }
        self.there = Some(agents.clone());
    }

    /// The master says something.
    pub fn status(&mut self, place: &Place, id: &TaskId, status: &TaskStatus, at: Duration) {
        let Some(row) = self.places.get_mut(place) else { return };
        let state = status.state();
        if is_alive(state) && (row.failed.is_some() || row.latest != *id) {
            // It was said to have ended, and has its place again, or takes that of one that has.
            if row.failed.is_some() {
                // As what it was launched is not known any more: what only an operator can mend is tried once more.
                // Whoever has not heard that it is back still goes by what it said.
                *row = Row {
                    heard: Heard::Unsure,
                    verdict: row.verdict,
                    ..Row::new(id, row.at, row.restarts, 0)
                };
            }
            return;
        }
        if row.latest != *id {
            return;
        }
        if status.uuid.is_none() && !is_alive(state) && row.heard == Heard::Nothing {
            row.heard = Heard::Unsure;
        }
        // What must be done once can be done by another agent.
        let given_up = place.0.is_none() && !is_alive(state) && state != TaskState::TaskFinished;
        // A launch that never ran is made again at once.
        let fails = given_up || is_failure(place.1, state);
        if fails && state != TaskState::TaskDropped && row.failed.is_none() {
            row.failed = Some(at);
            row.times += 1;
            // With the permission its host may be half way through: that is tried again.
            let held = exit_status(status).filter(|code| (77..=79).contains(code) && !row.restarts);
            // A master that only says that it has ended takes back nothing that the agent has said of it before.
            if row.heard != Heard::Unsure || exit_status(status).is_some() {
                row.verdict = held.map(Verdict::Held);
            }
        }
        match exit_status(status) {
            Some(79) if !row.restarts && self.restart.contains(&place.1) => {
                (row.verdict, row.times) = (Some(Verdict::NeedsRestart), 0);
            }
            Some(80) if place.0.is_some() => (row.verdict, row.times) = (Some(Verdict::Skipped), 0),
            _ => {}
        }
    }

    /// The scheduler acknowledges what the master said.
    pub fn acknowledged(&mut self, place: &Place, id: &TaskId, status: &TaskStatus) {
        let Some(row) = self.places.get_mut(place).filter(|row| row.latest == *id) else { return };
        if is_ready(place.1, status) {
            row.times = 0;
        }
        let done = status.state() == TaskState::TaskFinished && !is_failure(place.1, status.state());
        let judged = row.verdict.is_some() && row.failed.is_some();
        if row.heard == Heard::Nothing && (done || judged) {
            row.heard = Heard::Final;
        }
    }

    /// Whether this is the last launch in its place.
    pub fn is_latest(&self, place: &Place, id: &TaskId) -> bool {
        self.places.get(place).is_some_and(|row| row.latest == *id)
    }

    /// With what exit status a place may wait for an operator, and whether it must.
    pub fn held(&self, place: &Place) -> Option<(i32, bool)> {
        match self.places.get(place)? {
            Row { verdict: Some(Verdict::Held(code)), heard, .. } => Some((*code, *heard == Heard::Final)),
            _ => None,
        }
    }
}
