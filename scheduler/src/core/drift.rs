//! Drift: what is installed is seen, not remembered. An upgrade of DC/OS empties directories, an operator removes a
//! network: so the host of an install that is done is looked at again, in rounds, and at once when its agent has
//! registered again or has another Mesos.
//!
//! A look is a launch of its own, which changes nothing. Where it finds that something is missing, the install was done and
//! is no longer: it is launched again as a recovery, within the limits of these. Where it cannot tell (etcd is away, say),
//! the install counts as done.
//!
//! What is to be looked at follows from what is stored: the number of the round, and that in which an install was looked at
//! last, which is taken back when its agent registers again. So nothing is counted by clocks, and another scheduler goes on
//! within a round. Offers are wanted of a part of the agents at a time, and of none between the rounds.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Core;
use super::dated::Dated;
use super::frame::{Decision, Effect, Frame, Launch};
use super::ids::{AgentKey, TargetHash, TaskId, TaskType, Timestamp};
use super::input::{Offer, TaskState, Update};
use super::listing::Presence;
use super::offers::NoRoom;
use super::progress::Next;
use super::rollout::is_ordered;
use super::share::Share;
use super::spec::{Goal, Spec};
use super::state::{AgentRecord, ClusterRecord, Phase, Slot, StateChange, TaskRecord};
use super::updates::{EXIT_NEEDS_RESTART, exit_status, explain};
use super::view::LooksView;

/// The installer's exit status for 'changes are to be made'.
const EXIT_CHANGES: i32 = 1;
/// So many agents are looked at at a time, and at least [`AT_LEAST`]: a look takes seconds, and fetches the installer.
const AT_A_TIME: Share = Share::Percent(10);
const AT_LEAST: usize = 10;
/// An agent whose turn it is and that makes no offer with room for so long is passed over until the next round.
const PATIENCE: Duration = Duration::from_mins(1);
/// What could not be told is asked again after this, and so often in a round.
const AGAIN: Duration = Duration::from_mins(1);
const TRIES: u32 = 3;

/// A round, in which all installs that are done are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Counts them; 0 before the first, in which what gets done then counts as looked at.
    pub number: u64,
    /// When it began.
    pub since: Timestamp,
}

/// When an install was last looked at, or done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedAt {
    /// In which round; 0 when its host may have changed since.
    pub round: u64,
    /// When that ended.
    pub at: Timestamp,
}

/// Whose installs are to be looked at: derived, change by change.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// Agents whose turn has not come.
    waiting: BTreeSet<AgentKey>,
    /// Agents that wait for an offer, or are being looked at, and since when.
    turn: Dated<AgentKey>,
    /// Agents that are left alone until then.
    later: Dated<AgentKey>,
}

/// What a look has found.
enum Found {
    Whole,
    Vanished,
    /// Something is missing, and to put it back takes a restart.
    NeedsRestart,
    /// It was ended, or never began, through no fault of its own.
    Interrupted,
    Unknown,
}

impl Found {
    fn of(update: &Update) -> Self {
        match (update.state, exit_status(&update.message)) {
            (TaskState::Finished, _) => Self::Whole,
            (TaskState::Failed, Some(EXIT_CHANGES)) => Self::Vanished,
            (TaskState::Failed, Some(EXIT_NEEDS_RESTART)) => Self::NeedsRestart,
            (TaskState::Failed, _) => Self::Unknown,
            _ => Self::Interrupted,
        }
    }
}

impl AgentRecord {
    /// Its host may be another than it was: all that is installed there is to be looked at.
    pub(super) fn look_again(&mut self) {
        for (_, record) in self.tasks.iter_mut() {
            record.looked_at.round = 0;
        }
    }

    /// The install that is being looked at, if one is.
    pub(super) fn looked_at_now(&self) -> Option<TaskType> {
        self.tasks.iter().find(|(_, record)| record.phase.is_checked()).map(|(task_type, _)| *task_type)
    }
}

impl Core {
    /// An install that has just become done.
    pub(super) fn done_record(&self, now: Timestamp, before: &TaskRecord) -> TaskRecord {
        let looked_at = LookedAt { round: self.state.cluster.checks.number, at: now };
        TaskRecord { looked_at, ..TaskRecord::new(Phase::Done { at: now }, before.target.clone()) }
    }

    /// What comes next on an agent that has all that it should have.
    pub(super) fn next_look(&self, agent: &AgentRecord) -> Next {
        if let Some(task_type) = agent.looked_at_now() {
            return Next::Wait(format!("{task_type} is being looked at"));
        }
        let turn = self.drift.turn.get(&agent.key).and_then(|_| self.to_look_at(agent));
        turn.map_or(Next::Complete, Next::Look)
    }

    /// What is to be looked at on an agent that has all that it should have.
    fn to_look_at(&self, agent: &AgentRecord) -> Option<TaskType> {
        let is_settled = agent.settled > 0 && !agent.aside && agent.place.is_none();
        if self.settings.verify_interval.is_none()
            || !is_settled
            || agent.disruption.is_some()
            || is_ordered(agent)
        {
            return None;
        }
        let own = agent.tasks.iter().filter(|(task_type, record)| {
            // What was fetched is for what comes then, and leaves nothing to look at.
            let is_wanted = Self::is_step(**task_type) && self.settings.specs.contains_key(task_type);
            let spec = self.spec_on(agent, **task_type).filter(|_| is_wanted);
            self.is_due(record, spec, self.is_free(agent))
                && spec.is_some_and(|spec| self.gets(agent, **task_type, spec))
        });
        // Where an agent is looked at, the cluster's are, too.
        let of_cluster = self.state.cluster.tasks.iter().filter(|(task_type, record)| {
            let spec = self.settings.specs.get(task_type).filter(|spec| spec.enabled);
            self.is_due(record, spec, true) && self.is_place(**task_type, &agent.key)
        });
        own.chain(of_cluster).map(|(task_type, _)| *task_type).next()
    }

    /// Whether an install that is done as `spec` says is to be looked at. With what one was done that was found running,
    /// nobody knows: where `is_free` to be as the operator wants it, that is what it is held to.
    fn is_due(&self, record: &TaskRecord, spec: Option<&Spec>, is_free: bool) -> bool {
        matches!(record.phase, Phase::Done { .. })
            && record.looked_at.round != self.state.cluster.checks.number
            && spec.is_some_and(|spec| {
                let is_of = |target: &TargetHash| *target == spec.target;
                spec.goal == Goal::Finished && !spec.lost && record.target.as_ref().map_or(is_free, is_of)
            })
    }

    /// Sorts an agent by whether something is to be looked at there, given what comes `next` on it.
    pub(super) fn note_look(&mut self, agent: &AgentRecord, next: &Next) {
        let key = &agent.key;
        // One that is away may be so for long: rounds go on without it.
        let is_active = self.presence(key) == Some(&Presence::Active);
        let is_looked_at = is_active && agent.looked_at_now().is_some();
        let due =
            matches!(next, Next::Look(_)) || *next == Next::Complete && self.to_look_at(agent).is_some();
        let drift = &mut self.drift;
        if is_looked_at || !due {
            drift.waiting.remove(key);
            drift.later.remove(key);
        }
        match (is_looked_at, due) {
            (true, _) if drift.turn.get(key).is_none() => drift.turn.insert(key.clone(), self.clock.now()),
            (false, false) => drift.turn.remove(key),
            (false, true) if drift.turn.get(key).is_none() && drift.later.get(key).is_none() => {
                drift.waiting.insert(key.clone());
            }
            _ => {}
        }
    }

    /// An agent is known no longer.
    pub(super) fn forget_look(&mut self, key: &AgentKey) {
        self.drift.waiting.remove(key);
        self.drift.turn.remove(key);
        self.drift.later.remove(key);
    }

    /// The cluster's installs have changed: whoever may look at them is sorted again.
    pub(super) fn reconsider_looks(&mut self) {
        let keys: Vec<AgentKey> = self.drift.turn.keys().cloned().collect();
        for key in keys {
            self.reconsider(&key);
        }
    }

    /// Offers come only from now on.
    pub(super) fn renew_turns(&mut self, now: Timestamp) {
        let keys: Vec<AgentKey> = self.drift.turn.keys().cloned().collect();
        for key in keys {
            self.drift.turn.insert(key, now);
        }
    }

    /// Ends a frame: whose turn it is to be looked at.
    pub(super) fn settle_looks(&mut self, now: Timestamp, frame: &mut Frame) {
        let Some(interval) = self.settings.verify_interval else { return };
        if self.inventory.is_none() || self.doubts(now) || !self.demand.is_subscribed() {
            return;
        }
        self.begin_round(now, interval, frame);
        while let Some(key) = self.drift.later.pop_until(now) {
            self.drift.waiting.insert(key);
        }
        while let Some(key) = self.drift.turn.pop_until(now.before(PATIENCE)) {
            let agent = self.state.agents.get(&key);
            if agent.is_some_and(|agent| agent.looked_at_now().is_some()) {
                self.drift.turn.insert(key, now);
            } else {
                // The next round begins before that.
                self.drift.later.insert(key.clone(), now.after(interval));
                self.reconsider(&key);
            }
        }
        let most = AT_A_TIME.of(self.extent().agents).max(AT_LEAST);
        while self.drift.turn.len() < most
            && let Some(key) = self.drift.waiting.pop_first()
        {
            self.drift.turn.insert(key.clone(), now);
            self.reconsider(&key);
        }
    }

    /// Begins a round when it is time, and the last one is over.
    fn begin_round(&mut self, now: Timestamp, interval: Duration, frame: &mut Frame) {
        let Round { number, since } = *self.state.cluster.checks;
        let over = self.drift.waiting.is_empty() && self.drift.turn.len() == 0;
        // What lies in the future was stored before a clock was set back.
        let due = since > now || now >= since.after(interval);
        if number > 0 && !(over && due) {
            return;
        }
        self.drift.later = Dated::default();
        let checks = Box::new(Round { number: number + 1, since: now });
        let cluster = ClusterRecord { checks, ..self.state.cluster.clone() };
        self.change(frame, StateChange::Cluster(cluster.into()));
        self.reconsider_all();
    }

    /// The round, for people; none before the first.
    pub(super) fn looks_view(&self) -> Option<LooksView> {
        self.settings.verify_interval?;
        let Round { number: round, since } = *self.state.cluster.checks;
        let (under_way, waiting) = (self.drift.turn.len(), self.drift.waiting.len());
        (round > 0).then_some(LooksView { round, since, under_way, waiting })
    }

    /// Launches a look at an install that is done.
    pub(super) fn look(
        &mut self,
        now: Timestamp,
        key: &AgentKey,
        task_type: TaskType,
        offer: &Offer,
        frame: &mut Frame,
    ) -> Result<(), NoRoom> {
        let slot = Slot::of(task_type, key);
        let Spec { needs, target: wanted, .. } = self.spec_for(key, task_type).ok_or(NoRoom)?;
        let (needs, wanted) = (*needs, wanted.clone());
        let record = self.state.task(&slot).cloned().ok_or(NoRoom)?;
        let Phase::Done { at: done } = &record.phase else { return Err(NoRoom) };
        let target = record.target.clone().unwrap_or(wanted);
        let resources = self.take(now, task_type, needs, offer)?;
        let agent = self.registered_name(&offer.agent).ok_or(NoRoom)?;
        let task = TaskId::new(task_type, key, now);
        let phase = Phase::Checking { task: task.clone(), agent: agent.clone(), since: now, done: *done };
        // Taken back when the agent registers again meanwhile.
        let looked_at = LookedAt { round: self.state.cluster.checks.number, ..record.looked_at };
        let known = Some(target.clone());
        self.put(frame, &slot, TaskRecord { phase, target: known, looked_at, failure: None, ..record });
        self.reconciliation.expected(now.after(self.settings.launch_timeout), task.clone());
        frame.decisions.push(Decision::Looks { slot, task: task.clone() });
        frame.effects.push(Effect::Launch(Launch {
            offer: offer.id.clone(),
            agent,
            task_type,
            target,
            task,
            may_restart: false,
            only_looks: true,
            resources,
            reserve: Vec::new(),
        }));
        Ok(())
    }

    /// The master or the agent says something of a look.
    pub(super) fn look_says(
        &mut self,
        now: Timestamp,
        slot: &Slot,
        before: &TaskRecord,
        update: &Update,
        frame: &mut Frame,
    ) {
        let Phase::Checking { task, agent, done, .. } = &before.phase else { return };
        // Another agent can look at what is the cluster's.
        let given_up = update.state == TaskState::Unreachable && matches!(slot, Slot::Cluster(_));
        if !update.state.is_end() && !given_up {
            return self.expect_goal(now, slot, update.state, (&before.phase, &before.phase), frame);
        }
        let found = Found::of(update);
        let tells = !matches!(found, Found::Whole | Found::Interrupted);
        let record = self.after_look(now, slot, before, (*done, found), &update.message, frame);
        self.expect_goal(now, slot, update.state, (&before.phase, &record.phase), frame);
        if tells {
            self.reading.insert(slot.clone(), (task.clone(), None));
            let (slot, task, agent) = (slot.clone(), task.clone(), agent.clone());
            frame.effects.push(Effect::ReadOutput { slot, task, agent });
        }
        let key = self.index.key(agent).cloned();
        if let Some(key) = &key {
            // What could not be told is not asked again at once.
            if matches!(record.phase, Phase::Done { .. }) && record.looked_at.round == 0 {
                self.drift.turn.remove(key);
                self.drift.later.insert(key.clone(), now.after(AGAIN));
            } else if self.drift.turn.get(key).is_some() {
                self.drift.turn.insert(key.clone(), now);
            }
        }
        self.put(frame, slot, record);
        // The record may be the cluster's.
        if let Some(key) = key {
            self.reconsider(&key);
        }
    }

    /// The record of an install after it was looked at. It is `done` since then.
    fn after_look(
        &self,
        now: Timestamp,
        slot: &Slot,
        before: &TaskRecord,
        (done, found): (Timestamp, Found),
        message: &str,
        frame: &mut Frame,
    ) -> TaskRecord {
        let done = TaskRecord {
            phase: Phase::Done { at: done },
            looked_at: LookedAt { at: now, ..before.looked_at },
            ..before.clone()
        };
        let again = LookedAt { round: 0, at: now };
        if self.record_of(slot).is_some_and(|agent| agent.aside) {
            return TaskRecord { looked_at: again, ..done };
        }
        let place = slot.clone();
        match found {
            Found::Whole => TaskRecord { failures: 0, ..done },
            Found::Interrupted => TaskRecord { looked_at: again, ..done },
            Found::Unknown => {
                let reason = format!("whether it is whole could not be told: {}", explain(message));
                frame.decisions.push(Decision::Unchecked { slot: place, reason: reason.clone() });
                let failure = Some(reason);
                match before.failures + 1 {
                    TRIES.. => TaskRecord { failure, failures: 0, ..done },
                    failures => TaskRecord { failure, failures, looked_at: again, ..done },
                }
            }
            Found::Vanished | Found::NeedsRestart => {
                let reason = format!("it is no longer as it was installed ({message})");
                frame.decisions.push(Decision::Vanished { slot: place, reason: reason.clone() });
                let spec = self.settings.specs.get(&slot.task_type());
                let restarts = spec.is_some_and(|spec| spec.restart.is_some());
                let waits = matches!(found, Found::NeedsRestart) && restarts;
                // What an operator must allow does not count as down: that may be for long.
                let (phase, reached) = if waits {
                    (Phase::NeedsRestart { since: now }, false)
                } else {
                    (Phase::Backoff { until: now }, true)
                };
                TaskRecord { reached, failure: Some(reason), ..TaskRecord::new(phase, before.target.clone()) }
            }
        }
    }

    /// What is launched before, or beside, an install that has vanished and is put back: services that were ready before do
    /// not depend on it as they did when they were installed.
    pub(super) fn beside_put_back(
        &self,
        agent: &AgentRecord,
        task_type: TaskType,
        next: &Next,
    ) -> Option<(TaskType, Next)> {
        let is_install = |t: TaskType| self.spec_on(agent, t).is_some_and(|spec| spec.goal == Goal::Finished);
        let has_vanished =
            agent.tasks.get(&task_type).is_some_and(TaskRecord::is_down) && is_install(task_type);
        if !has_vanished || agent.holds().is_some() {
            return None;
        }
        let services = self.down_on(agent).filter(|t| !is_install(*t));
        let mut nexts =
            services.filter_map(|t| Some((t, Self::next_on_agent(t, self.spec_on(agent, t)?, agent))));
        nexts.find(|(_, service)| match (service, next) {
            (Next::Launch(_, not_before), Next::Launch(_, until)) => not_before <= until,
            (Next::Launch(..), _) => true,
            _ => false,
        })
    }
}
