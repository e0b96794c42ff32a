//! When an agent has failed in a rollout, and what follows.

use super::super::Core;
use super::super::frame::Frame;
use super::super::ids::{AgentKey, TaskType, Timestamp};
use super::super::index::Limit;
use super::super::listing::Presence;
use super::super::progress::Next;
use super::super::state::{AgentRecord, Phase, Slot, TaskRecord};
use super::news::RolloutNews;
use super::record::{RolloutRecord, Stage};

impl Core {
    /// Why an agent with a place has failed, if it has.
    pub(super) fn why_failed(&self, agent: &AgentRecord) -> Option<String> {
        if let Some(why) = agent.disruption.as_ref().and_then(|disruption| disruption.failure.clone()) {
            return Some(why);
        }
        agent.tasks.iter().find_map(|(task_type, record)| {
            let spec = self.spec_on(agent, *task_type)?;
            if record.target.as_ref() != Some(&spec.target) || Self::is_left_out(agent, *task_type, spec) {
                return None;
            }
            self.why_given_up(*task_type, record)
        })
    }

    /// Why a step is not tried any more, if it is not.
    fn why_given_up(&self, task_type: TaskType, record: &TaskRecord) -> Option<String> {
        let reason = record.failure.as_deref().unwrap_or("no reason was given");
        match record.phase {
            Phase::Held { .. } => Some(format!("{task_type}: {reason}")),
            Phase::Backoff { .. } if record.failures >= self.settings.rollout.max_attempts => Some(format!(
                "{task_type} failed {} times in a row (rollout.max-attempts): {reason}",
                record.failures
            )),
            _ => None,
        }
    }

    /// A task type of the cluster that others wait for, and that has failed in an update. Where all are installed first nothing
    /// is to be lost, and it is tried for ever; so is what was done and has vanished since.
    pub(super) fn judge_cluster(&mut self, now: Timestamp, frame: &mut Frame) {
        if self.state.cluster.rollout.complete || !self.is_update() {
            return;
        }
        let failed = self.awaited().find_map(|(task_type, spec)| {
            let record = self.state.cluster.tasks.get(&task_type)?;
            let is_its = !record.is_down() && record.target.as_ref() == Some(&spec.target);
            let why = self.why_given_up(task_type, record).filter(|_| is_its)?;
            Some((task_type, record.clone(), why))
        });
        let Some((task_type, record, why)) = failed else { return };
        if matches!(record.phase, Phase::Backoff { .. }) {
            let record = TaskRecord { phase: Phase::Held { since: now }, ..record };
            self.put(frame, &Slot::Cluster(task_type), record);
        }
        if self.state.cluster.rollout.halted.is_none() {
            self.end_in_failure(now, why, frame);
        }
    }

    /// An agent has failed: its place is free, it waits for an operator or another target. What runs there goes on.
    pub(super) fn fail(&mut self, now: Timestamp, key: &AgentKey, why: &str, frame: &mut Frame) {
        let number = self.number();
        let Some(agent) = self.state.agents.get(key).cloned() else { return };
        // It may not have been told yet, and would not be replaced.
        if let Some(task_type) = agent.holds().and_then(|place| place.ending)
            && let Some((task, _)) = agent.tasks.get(&task_type).and_then(|record| record.phase.live())
        {
            self.reconciliation.spare(&task.clone());
        }
        let given_up: Vec<TaskType> = agent
            .tasks
            .iter()
            .filter(|(task_type, record)| {
                let spec = self.spec_on(&agent, **task_type);
                matches!(record.phase, Phase::Backoff { .. })
                    && spec.is_some_and(|spec| record.target.as_ref() == Some(&spec.target))
            })
            .map(|(task_type, _)| *task_type)
            .collect();
        let failed = self.rolling.failed.len() + usize::from(!self.rolling.failed.contains(key));
        self.edit(key, frame, |agent| {
            if let Some(place) = &mut agent.place {
                (place.number, place.ending, place.gap, place.step) = (number, None, None, None);
                place.failure = Some(why.to_owned());
            }
            for task_type in given_up {
                if let Some(record) = agent.tasks.get_mut(&task_type) {
                    record.phase = Phase::Held { since: now };
                }
            }
        });
        if self.has_reservations() {
            // What was reserved for a successor may be so for nobody.
            self.demand.give_back(now);
        }
        frame.tell(RolloutNews::AgentFailed { agent: key.clone(), why: why.to_owned() });
        let rollout = &self.state.cluster.rollout;
        let is_canary = rollout.stage == Stage::Canary && rollout.canaries.contains(key);
        let most = self.settings.rollout.max_failures;
        if (is_canary || failed >= most) && rollout.halted.is_none() {
            let reason = if is_canary {
                format!("the canary {key} has failed: {why}")
            } else {
                let agents = if failed == 1 { "an agent has" } else { &*format!("{failed} agents have") };
                format!("{agents} failed (rollout.max-failures = {most}), the last one is {key}: {why}")
            };
            self.end_in_failure(now, reason, frame);
        }
    }

    /// Places whose step takes too long. Not counted is the time in which it waits for its turn, or for an operator: also
    /// for one who drains its host.
    pub(super) fn expire_places(&mut self, now: Timestamp, frame: &mut Frame) {
        self.rolling.held.not_after(now);
        let Some(due_by) = self.too_late(now).filter(|_| !self.doubts(now)) else { return };
        let due = self.rolling.held.until(due_by);
        let due: Vec<AgentKey> = due.cloned().collect();
        for key in due {
            // Where one that has failed makes all go back, the others have another target, and their time.
            if self.rolling.held.get(&key).is_none_or(|since| since > due_by) {
                continue;
            }
            let Some(agent) = self.state.agents.get(&key).cloned() else { continue };
            if self.presence(&key) == Some(&Presence::Recovering)
                || self.rolling.settling.get(&key).is_some()
                || self.waits_its_turn(now, &agent, &self.outlook(&agent))
            {
                self.rolling.held.insert(key, now);
                continue;
            }
            let why = self.why_late(&agent);
            self.fail(now, &key, &why, frame);
        }
    }

    /// Whether an agent with a place waits for others, or for an operator, given its [`outlook`](Self::outlook).
    pub(super) fn waits_its_turn(
        &self,
        now: Timestamp,
        agent: &AgentRecord,
        (next, waits_for_cluster): &(Next, bool),
    ) -> bool {
        match self.presence(&agent.key) {
            Some(Presence::Active) => {}
            // Its operator wants nothing new there for now.
            Some(Presence::Deactivated | Presence::Draining { .. }) => return true,
            _ => return false,
        }
        match next {
            _ if *waits_for_cluster => true,
            Next::Launch(..) if self.maintenance.holds(now, &agent.id.0, self.settings.maintenance_lead) => {
                true
            }
            // Nothing has failed: what is needed is the operator's permission.
            Next::Held(_) => true,
            next => {
                self.limit_of(agent, next) == Some(Limit::Restarts)
                    && self.is_full(Limit::Restarts, &agent.key)
            }
        }
    }

    fn why_late(&self, agent: &AgentRecord) -> String {
        let timeout = humantime::format_duration(self.settings.agent_timeout);
        let what = if self.presence(&agent.key) == Some(&Presence::Active) {
            match self.next_on(agent) {
                Next::Launch(task_type, _) => self.why_not_yet(agent, task_type, false),
                Next::Wait(why) | Next::Held(why) => why,
                Next::End(task_type) => format!("{task_type} is to be ended"),
                Next::Complete | Next::Look(_) => "a service is not ready".to_owned(),
            }
        } else {
            "the agent is away or takes no tasks".to_owned()
        };
        format!("a step took longer than rollout.agent-timeout ({timeout}): {what}")
    }

    /// A failed task's last lines are known only after its agent has failed for it: they are a part of the reason.
    pub(in super::super) fn explain_failure(
        &mut self,
        slot: &Slot,
        known: &str,
        explained: &str,
        frame: &mut Frame,
    ) {
        let explain = |why: &str| why.replacen(known, explained, 1);
        let name = match slot {
            Slot::Cluster(task_type) => task_type.name(),
            Slot::Agent(key, _) => &*key.0,
        };
        let is_its = |why: &&str| why.contains(name) && why.ends_with(known);
        let RolloutRecord { halted, given_up, .. } = &self.state.cluster.rollout;
        let halted = halted.as_deref().filter(is_its).map(explain);
        let given_up = given_up.as_ref().map(|given_up| &*given_up.why).filter(is_its).map(explain);
        if halted.is_some() || given_up.is_some() {
            self.edit_rollout(frame, |rollout| {
                rollout.halted = halted.or_else(|| rollout.halted.take());
                if let (Some(given_up), Some(why)) = (&mut rollout.given_up, given_up) {
                    given_up.why = why;
                }
            });
        }
        let Slot::Agent(key, _) = slot else { return };
        let of_agent = self.state.agents.get(key).and_then(|agent| agent.place.as_ref()?.failure.as_ref());
        let Some(failure) = of_agent.filter(|failure| failure.ends_with(known)).cloned() else { return };
        self.edit(key, frame, |agent| {
            if let Some(place) = &mut agent.place {
                place.failure = Some(explain(&failure));
            }
        });
    }
}
