//! Task updates: what they change, and what follows.

use std::time::Duration;

use super::Core;
use super::frame::{AfterFailure, Decision, Effect, Frame};
use super::ids::{AgentId, Scope, TaskId, Timestamp};
use super::input::{CheckResult, TaskState, Update};
use super::listing::Presence;
use super::spec::Goal;
use super::state::{Phase, Run, Slot, TaskRecord};

/// The installer's exit status for 'not permitted' (sysexits' `EX_NOPERM`).
const EXIT_NOT_PERMITTED: i32 = 77;
/// The installer's exit status for 'the configuration or this host cannot work' (sysexits' `EX_CONFIG`).
const EXIT_CANNOT_WORK: i32 = 78;
/// The installer's exit status for 'a restart is needed and not allowed; nothing was changed'.
pub(super) const EXIT_NEEDS_RESTART: i32 = 79;
/// The installer's exit status for 'this host cannot have that step at all; nothing was changed'.
const EXIT_NOT_APPLICABLE: i32 = 80;
/// Mesos' words when it is asked about a task whose agent has told of its end, in place of the agent's own
/// (`src/master/master.cpp`). Those come later, for they were not acknowledged.
const LATEST_STATE: &str = "Reconciliation: Latest task state";
/// What is said until then.
const UNTOLD: &str = "it has ended, and the master does not say how";
/// So many launches in a row may be dropped before that counts as a failure, with its wait.
const DROPS: u32 = 3;

impl Core {
    pub(super) fn update(&mut self, now: Timestamp, mut update: Update, frame: &mut Frame) {
        if self.reconciliation.told_all(&update.task) {
            return;
        }
        self.judge_reservation(now, &mut update, frame);
        self.reconciliation.answered(&update.task);
        let ended = update.state.is_end();
        if ended && self.reconciliation.spare(&update.task) && self.index.tasks.contains_key(&update.task) {
            let limit = humantime::format_duration(self.settings.task_timeout);
            update.message = format!(
                "it was still at its beginning after {limit} (agents.task-timeout), and was ended ({})",
                update.message
            );
        }
        match self.index.tasks.get(&update.task).cloned() {
            Some(slot) => self.known(now, &slot, &update, ended, frame),
            None if ended => self.told_late(now, &update, frame),
            None if self.inventory.is_none() => {
                // Too early to judge: without an acknowledgement it comes again.
                return;
            }
            // It says when it is back.
            None if update.state == TaskState::Unreachable => {}
            None if update.agent.as_ref().is_some_and(|agent| self.index.key(agent).is_none()) => {
                // It has joined since, and is judged, when it comes again, as all others are.
                frame.effects.push(Effect::RefreshInventory);
                return;
            }
            None => self.unknown(now, &update, frame),
        }
        if let (Some(uuid), Some(agent)) = (update.uuid, update.agent) {
            frame.effects.push(Effect::Acknowledge { task: update.task, agent, uuid });
        }
    }

    fn known(&mut self, now: Timestamp, slot: &Slot, update: &Update, ended: bool, frame: &mut Frame) {
        // The index names only slots that have a record.
        let Some(before) = self.state.task(slot).cloned() else { return };
        if ended && self.is_ending(slot) {
            return self.has_ended(now, slot, &before, frame);
        }
        if before.phase.is_checked() {
            return self.look_says(now, slot, &before, update, frame);
        }
        let spec = self.spec_of(slot.task_type(), before.target.as_ref());
        let Some(goal) = spec.map(|spec| spec.goal) else {
            // A type that is gone from the configuration is left alone, but for its end.
            if ended {
                let failure = Some("it ended, and is not configured".to_owned());
                let record = TaskRecord { failure, ..TaskRecord::new(Phase::Backoff { until: now }, None) };
                self.put(frame, slot, record);
            }
            return;
        };
        let done = update.state == TaskState::Finished && goal == Goal::Finished;
        let record = match update.state {
            // Its place is no longer here: that it has ended is all that matters.
            _ if ended && !done && self.record_of(slot).is_some_and(|agent| agent.aside) => {
                TaskRecord { phase: Phase::Backoff { until: now }, recovery: None, ..before.clone() }
            }
            _ if ended && !done && self.ended_by_draining(update) => {
                frame.decisions.push(Decision::Drained { slot: slot.clone() });
                drained_record(now, &before)
            }
            TaskState::Dropped => match self.dropped(now, slot, &before, &update.message, frame) {
                Some(record) => record,
                None => self.failed(now, slot, &before, &update.message, frame),
            },
            TaskState::Starting => self.active(now, &before, Run::Starting),
            TaskState::Running => self.active(now, &before, run(goal, update)),
            TaskState::Killing => self.active(now, &before, Run::NotReady),
            // An install that must be done once can be done by another agent.
            TaskState::Unreachable if slot.task_type().scope() == Scope::Cluster => {
                self.failed(now, slot, &before, "its agent is unreachable", frame)
            }
            TaskState::Unreachable => self.active(now, &before, Run::Unreachable),
            TaskState::Finished if done => self.done_record(now, &before),
            TaskState::Finished => self.failed(now, slot, &before, "it ended by itself", frame),
            TaskState::Failed => self.failed(now, slot, &before, &update.message, frame),
            TaskState::Gone | TaskState::Drained => {
                let reason = if update.message.is_empty() { "it is gone" } else { &update.message };
                self.failed(now, slot, &before, reason, frame)
            }
        };
        if record.phase.at_goal() && !before.phase.at_goal() {
            frame.decisions.push(Decision::Reached { slot: slot.clone() });
            if done && before.reached {
                let what = before.failure.clone().unwrap_or_default();
                frame.decisions.push(Decision::PutBack { slot: slot.clone(), what });
            }
        }
        // One that never ran has shown nothing.
        if before.recovery.is_some() && record.recovery.is_none() && update.state != TaskState::Dropped {
            self.recovered(record.phase.at_goal());
        }
        self.expect_goal(now, slot, update.state, (&before.phase, &record.phase), frame);
        if matches!(record.phase, Phase::Active { .. }) && !self.dropped.is_empty() {
            self.dropped.remove(slot);
        }
        let ends = before.phase.live().is_some() && record.phase.live().is_none();
        if done && before.disruptive {
            // Whether its agent is healthy is known by what is there now.
            frame.effects.push(Effect::RefreshInventory);
        }
        let reached = record.phase.at_goal() && !before.phase.at_goal();
        if record != before {
            self.put(frame, slot, record);
        }
        if reached {
            self.close_gap(now, slot, frame);
        }
        if ends && self.leaves_reserved(slot) {
            self.demand.give_back(now);
        }
    }

    /// The record of a launch that never ran: no failure is counted, and it may be made again at once. None when that
    /// has happened too often.
    fn dropped(
        &mut self,
        now: Timestamp,
        slot: &Slot,
        before: &TaskRecord,
        reason: &str,
        frame: &mut Frame,
    ) -> Option<TaskRecord> {
        let drops = self.dropped.entry(slot.clone()).or_default();
        *drops += 1;
        if *drops > DROPS {
            return None;
        }
        let reason = if reason.is_empty() { "no reason was given" } else { reason };
        frame.decisions.push(Decision::Dropped { slot: slot.clone(), reason: reason.to_owned() });
        Some(TaskRecord {
            phase: Phase::Backoff { until: now },
            failure: Some(format!("the launch was dropped: {reason}")),
            recovery: None,
            ..before.clone()
        })
    }

    /// Whether a task that ended was ended because its agent drains.
    fn ended_by_draining(&self, update: &Update) -> bool {
        let draining = update
            .agent
            .as_ref()
            .and_then(|id| self.index.key(id))
            .is_some_and(|key| matches!(self.presence(key), Some(Presence::Draining { .. })));
        update.state == TaskState::Drained || draining && Verdict::of(&update.message) == Verdict::Retry
    }

    /// What becomes of a slot whose task has failed.
    fn failed(
        &mut self,
        now: Timestamp,
        slot: &Slot,
        before: &TaskRecord,
        reason: &str,
        frame: &mut Frame,
    ) -> TaskRecord {
        let earlier = if self.was_stable(now, before) { 0 } else { before.failures };
        let failures = earlier.saturating_add(1);
        let phase = self.after_failure(now, slot, before, Verdict::of(reason), failures);
        let is_told = reason != LATEST_STATE;
        let reason = explain(reason);
        frame.decisions.push(what_failed(now, slot, &phase, &reason));
        let failures = match phase {
            // What changed nothing has not failed.
            Phase::NeedsRestart { .. } | Phase::Skipped { .. } => 0,
            _ => failures,
        };
        if let Some((task, agent)) = before.phase.live() {
            let (task, agent) = (task.clone(), agent.clone());
            if !is_told {
                self.untold.insert(task.clone(), slot.clone());
            }
            self.reading.insert(slot.clone(), (task.clone(), Some(reason.clone())));
            frame.effects.push(Effect::ReadOutput { slot: slot.clone(), task, agent });
        }
        // What an operator must allow does not count as down: that may be for long.
        let counts = !matches!(phase, Phase::NeedsRestart { .. });
        TaskRecord {
            failures,
            failure: Some(reason),
            reached: counts && (before.reached || before.phase.is_ready()),
            disruptive: before.disruptive,
            ..TaskRecord::new(phase, before.target.clone())
        }
    }

    /// How a task ended of which the master told first that it has: its agent says that later, and that counts, unless the
    /// next launch was made meanwhile.
    fn told_late(&mut self, now: Timestamp, update: &Update, frame: &mut Frame) {
        if update.message.is_empty() || update.message == LATEST_STATE {
            return;
        }
        let Some(slot) = self.untold.remove(&update.task) else { return };
        let Some(before) = self.state.task(&slot).cloned() else { return };
        let failure = before.failure.as_deref().filter(|failure| failure.starts_with(UNTOLD));
        let (Phase::Backoff { .. } | Phase::Held { .. }, Some(known)) = (&before.phase, failure) else {
            return;
        };
        let explained = known.replacen(UNTOLD, &explain(&update.message), 1);
        let mut record = TaskRecord { failure: Some(explained.clone()), ..before.clone() };
        match self.after_failure(now, &slot, &before, Verdict::of(&update.message), before.failures) {
            // Its wait has begun.
            Phase::Backoff { .. } => {}
            phase => {
                frame.decisions.push(what_failed(now, &slot, &phase, &explained));
                if !matches!(phase, Phase::Held { .. }) {
                    record.failures = 0;
                }
                record.phase = phase;
            }
        }
        self.explain_failure(&slot, known, &explained, frame);
        self.put(frame, &slot, record);
    }

    fn after_failure(
        &self,
        now: Timestamp,
        slot: &Slot,
        before: &TaskRecord,
        verdict: Verdict,
        failures: u32,
    ) -> Phase {
        let again = Phase::Backoff { until: now.after(self.backoff(failures)) };
        let held = Phase::Held { since: now };
        let may_restart = self.wanted_of(slot.task_type()).is_some_and(|spec| spec.restart.is_some());
        match (self.had_permission(slot, before), verdict) {
            (_, Verdict::Skip) if slot.task_type().scope() == Scope::Agent => Phase::Skipped { since: now },
            // Its agent may be half way through: that is mended by trying again, as long as the slot is held.
            (Some(slot_is_held), _) => {
                if slot_is_held {
                    again
                } else {
                    held
                }
            }
            (None, Verdict::NeedsRestart) if may_restart => Phase::NeedsRestart { since: now },
            (None, Verdict::NeedsRestart | Verdict::Hold) => held,
            // What is skipped in the cluster may work on another agent.
            (None, Verdict::Retry | Verdict::Skip) => again,
        }
    }

    /// Whether this service was ready long enough for its failures to be forgotten.
    fn was_stable(&self, now: Timestamp, record: &TaskRecord) -> bool {
        matches!(&record.phase, Phase::Active { run: Run::Ready, since, .. }
            if now.since(*since) >= self.settings.stable_after)
    }

    /// The record of a live task that now does `run`.
    fn active(&self, now: Timestamp, before: &TaskRecord, run: Run) -> TaskRecord {
        let mut record = before.clone();
        if let Some((task, agent)) = before.phase.live() {
            let since = match before.phase {
                Phase::Active { run: old, since, .. } if old == run => since,
                _ => now,
            };
            // Services that die are often not ready just before.
            if run != Run::Ready && self.was_stable(now, before) {
                record.failures = 0;
            }
            record.phase = Phase::Active { task: task.clone(), agent: agent.clone(), run, since };
            // The state of earlier versions does not say that what is ready was reached.
            record.reached |= run == Run::Ready || before.phase.is_ready();
            let too_long = |at| now.since(at) >= self.settings.recovery_timeout;
            record.recovery = record.recovery.filter(|at| run != Run::Ready && !too_long(*at));
        }
        record
    }

    fn backoff(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        (self.settings.backoff_min * 2_u32.pow(doublings)).min(self.settings.backoff_max)
    }

    /// The last lines that a failed task wrote: they say more than its status.
    pub(super) fn output(&mut self, slot: &Slot, task: &TaskId, text: &str, frame: &mut Frame) {
        let Some((_, known)) = self.reading.get(slot).filter(|(reading, _)| reading == task) else {
            // Another launch has failed since.
            return;
        };
        let record = self.state.task(slot).filter(|record| !record.phase.is_ready());
        let stored = record.filter(|record| record.failure.is_some()).cloned();
        // The next launch may have another target, and know nothing of it; its agent's failure does.
        let Some(known) = stored.as_ref().map_or(known, |record| &record.failure).clone() else { return };
        let text = text.trim();
        if text.is_empty() || known.contains(text) {
            return;
        }
        let explained = format!("{known}: {text}");
        self.reading.remove(slot);
        self.explain_failure(slot, &known, &explained, frame);
        if let Some(record) = stored {
            self.put(frame, slot, TaskRecord { failure: Some(explained), ..record });
        }
    }

    /// A live task that no record tells of. It is never ended just for that: only where it would run beside
    /// another of its type.
    fn unknown(&mut self, now: Timestamp, update: &Update, frame: &mut Frame) {
        let Some(agent) = &update.agent else { return };
        self.judge_records(&update.task, frame);
        let slot = update.task.task_type().zip(self.index.key(agent)).map(|(t, key)| Slot::of(t, key));
        let reason = match &slot {
            None => "it is none of ours".to_owned(),
            Some(slot) => match self.state.task(slot).map(|record| &record.phase) {
                None
                | Some(
                    Phase::Backoff { .. }
                    | Phase::Held { .. }
                    | Phase::NeedsRestart { .. }
                    | Phase::Skipped { .. },
                ) => {
                    return self.adopt(now, slot, agent.clone(), update, frame);
                }
                Some(Phase::Done { .. } | Phase::Checking { .. }) => return,
                Some(phase) => {
                    let other = phase.live().map_or(String::new(), |(task, _)| task.to_string());
                    format!("{other} has its place")
                }
            },
        };
        if self.reconciliation.kill(now, update.task.clone(), agent.clone()) {
            // Said again by the clock only: what the master answers to a kill must not lead to the next.
            frame.decisions.push(Decision::Killed { task: update.task.clone(), reason });
            frame.effects.push(Effect::Kill { task: update.task.clone(), agent: agent.clone() });
        }
    }

    fn adopt(&mut self, now: Timestamp, slot: &Slot, agent: AgentId, update: &Update, frame: &mut Frame) {
        let task: TaskId = update.task.clone();
        let phase = Phase::Launched { task: task.clone(), agent: agent.clone(), at: now };
        let before = self.state.task(slot);
        let reached = before.is_some_and(|before| before.reached);
        let disruptive = before.is_some_and(|before| before.disruptive);
        let record = TaskRecord { reached, disruptive, ..TaskRecord::new(phase, None) };
        // It had to end for another that had its place.
        self.reconciliation.spare(&task);
        frame.decisions.push(Decision::Adopted { slot: slot.clone(), task });
        self.put(frame, slot, record);
        self.known(now, slot, update, false, frame);
        // A word that came late may be of a task that has ended since.
        self.reconciliation.ask_about(update.task.clone(), agent);
    }
}

/// The record of a task that was ended because its agent drains: that is no failure, and to launch it again once the
/// agent is back is no recovery.
fn drained_record(now: Timestamp, before: &TaskRecord) -> TaskRecord {
    TaskRecord {
        failure: Some("ended because the agent drains".to_owned()),
        failures: before.failures,
        ..TaskRecord::new(Phase::Backoff { until: now }, before.target.clone())
    }
}

/// What is told of a failure that leads to this phase.
fn what_failed(now: Timestamp, slot: &Slot, phase: &Phase, reason: &str) -> Decision {
    let (slot, reason) = (slot.clone(), reason.to_owned());
    match phase {
        Phase::NeedsRestart { .. } => Decision::NeedsRestart { slot, reason },
        Phase::Skipped { .. } => Decision::Skipped { slot, reason },
        Phase::Backoff { until } => {
            Decision::Failed { slot, reason, then: AfterFailure::Retry(until.since(now)) }
        }
        _ => Decision::Failed { slot, reason, then: AfterFailure::Hold },
    }
}

/// What the end of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It may work another time.
    Retry,
    /// Trying again mends nothing.
    Hold,
    /// It needs a restart that it was not allowed.
    NeedsRestart,
    /// Its host cannot have it.
    Skip,
}

impl Verdict {
    fn of(message: &str) -> Self {
        match exit_status(message) {
            Some(EXIT_NOT_PERMITTED | EXIT_CANNOT_WORK) => Self::Hold,
            Some(EXIT_NEEDS_RESTART) => Self::NeedsRestart,
            Some(EXIT_NOT_APPLICABLE) => Self::Skip,
            _ => Self::Retry,
        }
    }
}

fn run(goal: Goal, update: &Update) -> Run {
    let Goal::Running { check, health } = goal else { return Run::Starting };
    let checked = !check || update.check == CheckResult::Exited(0);
    let healthy = if health { update.healthy == Some(true) } else { update.healthy != Some(false) };
    if checked && healthy { Run::Ready } else { Run::NotReady }
}

/// The status in Mesos' `Command exited with status N`.
pub(super) fn exit_status(message: &str) -> Option<i32> {
    let rest = message.split("Command exited with status ").nth(1)?;
    rest.split(|c: char| !c.is_ascii_digit() && c != '-').next()?.parse().ok()
}

/// Says what the installer's exit statuses mean.
pub(super) fn explain(message: &str) -> String {
    let meaning = match exit_status(message) {
        Some(69) => "a service that it needs is not there",
        Some(70) => "a fault of the installer",
        Some(75) => "to be tried again",
        Some(EXIT_NOT_PERMITTED) => "not permitted",
        Some(EXIT_CANNOT_WORK) => "the configuration or this host cannot work",
        Some(EXIT_NEEDS_RESTART) => "a restart is needed and not allowed",
        Some(EXIT_NOT_APPLICABLE) => "this host cannot have it",
        _ if message == LATEST_STATE => return UNTOLD.to_owned(),
        _ if message.is_empty() => return "no reason was given".to_owned(),
        _ => return message.to_owned(),
    };
    format!("{message} ({meaning})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_read_from_the_executors_words() {
        assert_eq!(exit_status("Command exited with status 78"), Some(78));
        assert_eq!(exit_status("Command exited with status 1; and more"), Some(1));
        assert_eq!(exit_status("Command terminated with signal Killed"), None);
        assert_eq!(
            explain("Command exited with status 78"),
            "Command exited with status 78 (the configuration or this host cannot work)"
        );
    }
}
