//! Recoveries, and how many of them there may be: a service that was ready before and is launched again.
//!
//! So many as `recovery.max-concurrent` are under way at a time, each until it is ready, has failed, or has taken too
//! long. When more agents than `recovery.mass-failure` are down at the same time, what they have in common is likely
//! to be broken, and launching again mends nothing: recoveries are held. One is let through all the same, for it may
//! be just what mends it. With each that succeeds, twice as many may be under way; with one that fails or takes too
//! long, it is one again. So nothing waits for ever, and a datastore that is away costs a launch every now and then.

use std::time::Duration;

use rustc_hash::FxHashSet;

use super::Core;
use super::dated::Dated;
use super::frame::{Decision, Frame};
use super::ids::{AgentKey, TaskType, Timestamp};
use super::listing::Presence;
use super::state::{AgentRecord, TaskRecord};

/// How long offers stay away from agents whose recovery is held. Their number decides how soon one comes when a
/// recovery may begin: a REVIVE would bring those of all agents.
const HELD: Duration = Duration::from_secs(10);

/// What is down, and what follows from it. Recoveries under way are in the index, for they are stored.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Active agents with a service that was ready before, and is not now.
    down: FxHashSet<AgentKey>,
    /// Agents with such a service that went away a while ago, and since when they are away.
    away: Dated<AgentKey>,
    hold: Option<Hold>,
}

/// Recoveries are held.
#[derive(Debug, Clone, Copy)]
struct Hold {
    since: Timestamp,
    /// How many may be under way.
    let_through: usize,
}

/// How many agents are down, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub down: usize,
    pub agents: usize,
    /// More than so many are a mass failure.
    pub limit: usize,
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { down, agents, limit } = self;
        write!(f, "{down} of {agents} agents are down (recovery.mass-failure: more than {limit})")
    }
}

impl Core {
    /// Counts one agent anew.
    pub(super) fn recount(&mut self, key: &AgentKey) {
        let record = self.state.agents.get(key).cloned();
        self.recount_record(key, record.as_deref());
    }

    /// The same, by the agent's record, where there is one.
    pub(super) fn recount_record(&mut self, key: &AgentKey, record: Option<&AgentRecord>) {
        let (mut down, mut away) = (false, None);
        match (record.filter(|record| !record.aside), self.presence(key)) {
            (Some(record), Some(presence)) if presence.is_away() || presence.counts() => {
                // One that was away before the master changed is so until it is back. Where we may have restarted what
                // services need, it is no failure that the agent is away.
                away = record.absent_since.filter(|_| *presence != Presence::Active);
                away =
                    away.filter(|_| is_unexpected(record) && self.services(record).any(|task| task.reached));
                down = presence.counts() && away.is_none() && self.is_down(record);
            }
            _ => {}
        }
        let counts_until = |since: Timestamp| since.after(self.settings.away_counts);
        let away = away.filter(|since| counts_until(*since) > self.clock.now());
        if down {
            self.recovery.down.insert(key.clone());
        } else {
            self.recovery.down.remove(key);
        }
        match away {
            Some(since) => self.recovery.away.insert(key.clone(), since),
            None => self.recovery.away.remove(key),
        }
    }

    /// Where we may have restarted what services need, or replaced them, it is no failure that they are down.
    fn is_down(&self, record: &AgentRecord) -> bool {
        is_unexpected(record)
            && record.tasks.values().any(TaskRecord::is_down)
            && self.services(record).any(TaskRecord::is_down)
    }

    /// The tasks of an agent that are wanted there.
    fn services<'a>(&'a self, record: &'a AgentRecord) -> impl Iterator<Item = &'a TaskRecord> {
        let wanted = record.tasks.iter().filter(|(task_type, _)| {
            let is_wanted = self.settings.specs.contains_key(task_type);
            // What operators have left out is so with the target that the agent is on.
            let spec = self.spec_on(record, **task_type).filter(|_| is_wanted);
            spec.is_some_and(|spec| self.gets(record, **task_type, spec))
        });
        wanted.map(|(_, task)| task)
    }

    pub(super) fn extent(&self) -> Extent {
        let away = self.recovery.away.len();
        let agents = self.inventory.as_ref().map_or(0, |inventory| inventory.there) + away;
        let down = self.recovery.down.len() + away;
        Extent { down, agents, limit: self.settings.mass_failure.of(agents) }
    }

    /// Since when recoveries are held, if they are.
    pub(super) fn held_since(&self) -> Option<Timestamp> {
        self.recovery.hold.map(|hold| hold.since)
    }

    /// How many recoveries may be under way, and how many are.
    pub(super) fn recoveries(&self) -> (usize, usize) {
        let most = self.settings.max_recoveries.of(self.extent().agents);
        let most = self.recovery.hold.map_or(most, |hold| hold.let_through.min(most));
        (most, self.index.recoveries.len())
    }

    /// Whether no further recovery may begin.
    pub(super) fn recoveries_are_full(&self) -> bool {
        let (most, under_way) = self.recoveries();
        under_way >= most
    }

    /// Begins a frame: recoveries that take too long no longer count, nor do agents that are away for long.
    pub(super) fn expire_recoveries(&mut self, now: Timestamp) {
        // What lies in the future was stored before a clock was set back.
        self.index.recoveries.not_after(now);
        while self.index.recoveries.pop_until(now.before(self.settings.recovery_timeout)).is_some() {
            self.recovered(false);
        }
        while self.recovery.away.pop_until(now.before(self.settings.away_counts)).is_some() {}
    }

    /// Ends a frame: says whether recoveries are held, when that has changed.
    pub(super) fn settle_recovery(&mut self, now: Timestamp, frame: &mut Frame) {
        if self.inventory.is_none() {
            return;
        }
        let extent = self.extent();
        match (extent.down > extent.limit, self.recovery.hold) {
            (true, None) => {
                self.recovery.hold = Some(Hold { since: now, let_through: 1 });
                frame.decisions.push(Decision::MassFailure { what: extent.to_string() });
            }
            (false, Some(_)) => {
                self.recovery.hold = None;
                frame.decisions.push(Decision::MassFailureEnded { what: extent.to_string() });
            }
            _ => {}
        }
    }

    /// A recovery is no longer under way.
    pub(super) fn recovered(&mut self, succeeded: bool) {
        let most = self.settings.max_recoveries.of(self.extent().agents);
        if let Some(hold) = &mut self.recovery.hold {
            hold.let_through = if succeeded { (hold.let_through * 2).min(most) } else { 1 };
        }
    }

    /// Why a launch must wait because it is a recovery, if it must.
    pub(super) fn held_back(&self, key: &AgentKey, task_type: TaskType) -> Option<String> {
        let agent = self.state.agents.get(key)?;
        if !Self::recovers(agent, task_type) {
            return None;
        }
        if !self.recoveries_are_full() {
            return None;
        }
        let (most, under_way) = self.recoveries();
        let why = match self.recovery.hold {
            Some(_) => format!("mass failure, {}", self.extent()),
            None => "recovery.max-concurrent".to_owned(),
        };
        Some(format!("{task_type} is held: {why}; {under_way} of {most} recoveries at a time are under way"))
    }

    /// How long an offer is declined whose agent has a recovery that is held.
    pub(super) fn held_filter(&self) -> Duration {
        HELD.min(self.settings.idle_filter)
    }
}

/// Whether what is down on an agent is not so because of something that we do there, or have done: what has failed in a
/// rollout must not keep the next one from mending it.
fn is_unexpected(record: &AgentRecord) -> bool {
    record.disrupted().is_none() && record.place.is_none()
}
