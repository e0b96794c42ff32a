//! Which target an agent is on, and what comes next on it for that.
//!
//! An agent that was never complete gets what the operator wants now: that is its first install. One that was, with an
//! earlier target, is left on that, and what breaks there comes back as it was, until it gets its place in a rollout.

use super::super::Core;
use super::super::ids::{TargetHash, TaskType};
use super::super::progress::Next;
use super::super::resources::Needs;
use super::super::spec::{Goal, Spec};
use super::super::state::{AgentRecord, Phase, Run, TaskRecord};
use super::record::{Order, Place};

impl Core {
    /// The rollout that is, or was last.
    pub(in super::super) fn number(&self) -> u64 {
        self.state.cluster.rollout.number
    }

    /// What a target stands for, as far as it is known.
    pub(in super::super) fn spec_of(
        &self,
        task_type: TaskType,
        target: Option<&TargetHash>,
    ) -> Option<&Spec> {
        let current = self.settings.specs.get(&task_type);
        let Some(target) = target else { return current };
        match current {
            Some(spec) if spec.target == *target => current,
            _ => self.rolling.known.get(target).or(current),
        }
    }

    /// What a task type is launched with, or taken back with.
    pub(in super::super) fn wanted_of(&self, task_type: TaskType) -> Option<&Spec> {
        let undo = || self.settings.rollout.undo.get(&task_type);
        self.settings.specs.get(&task_type).or_else(undo)
    }

    /// What a task type is launched with on an agent.
    pub(in super::super) fn spec_on(&self, agent: &AgentRecord, task_type: TaskType) -> Option<&Spec> {
        if self.is_free(agent) {
            return self.wanted_of(task_type);
        }
        self.spec_of(task_type, agent.tasks.get(&task_type)?.target.as_ref())
    }

    /// Whether an agent gets what the operator wants now: with its first install, with its place in a rollout, and from then
    /// on until the next one.
    pub(in super::super) fn is_free(&self, agent: &AgentRecord) -> bool {
        agent.settled == 0 || agent.holds().is_some() || agent.settled >= self.number()
    }

    /// Whether what a step has is another target than `spec`'s, or is to be done again.
    fn is_outdated(
        &self,
        agent: &AgentRecord,
        task_type: TaskType,
        spec: &Spec,
        record: &TaskRecord,
    ) -> bool {
        match (&record.target, agent.order(task_type)) {
            (_, Some(Order::Again)) => true,
            (Some(target), _) => *target != spec.target,
            // It was found running, nobody knows with what.
            (None, _) => agent.settled < self.number(),
        }
    }

    /// Whether something on an agent was launched with another target than the operator's.
    pub(in super::super) fn is_mixed(&self, agent: &AgentRecord) -> bool {
        self.steps().any(|(task_type, spec)| {
            let target = agent.tasks.get(&task_type).and_then(|record| record.target.as_ref());
            target.is_some_and(|target| *target != spec.target) && !Self::is_left_out(agent, task_type, spec)
        })
    }

    /// Whether the operator has a step left out.
    pub(in super::super) fn is_left_out(agent: &AgentRecord, task_type: TaskType, spec: &Spec) -> bool {
        match agent.order(task_type) {
            Some(Order::Skip) => true,
            Some(Order::Complete { target }) => *target == spec.target,
            Some(Order::Again) | None => false,
        }
    }

    /// Whether an agent gets a task type: neither its operator nor what it is leaves that out.
    pub(in super::super) fn gets(&self, agent: &AgentRecord, task_type: TaskType, spec: &Spec) -> bool {
        !Self::is_left_out(agent, task_type, spec) && self.skipped(task_type, spec, agent).is_none()
    }

    /// Whether an agent that was complete has something to be brought to the operator's target.
    pub(in super::super) fn is_behind(&self, agent: &AgentRecord) -> bool {
        if self.is_free(agent) {
            return is_ordered(agent);
        }
        let is_behind = self.steps().any(|(task_type, _)| self.changes(agent, task_type))
            || self.surplus(agent).next().is_some();
        // One that has failed has the target of what failed, and is not well with it: unless an operator has that left out.
        is_behind || agent.place.is_some() && !self.is_well_without_the_rest(agent)
    }

    /// Whether an operator has something left out on an agent, and all else is as it should be.
    fn is_well_without_the_rest(&self, agent: &AgentRecord) -> bool {
        let mut left_out = false;
        let well = self.steps().all(|(task_type, spec)| {
            let at_goal = agent.tasks.get(&task_type).is_some_and(|record| record.phase.at_goal());
            let is_out = Self::is_left_out(agent, task_type, spec);
            left_out |= is_out;
            is_out || at_goal || self.skipped(task_type, spec, agent).is_some()
        });
        well && left_out
    }

    /// Whether one step of an agent is to be brought to the operator's target.
    pub(in super::super) fn changes(&self, agent: &AgentRecord, task_type: TaskType) -> bool {
        if agent.holds().is_none() && self.is_free(agent) && !is_ordered(agent) {
            return false;
        }
        let Some(spec) = self.settings.specs.get(&task_type).filter(|_| Self::is_step(task_type)) else {
            return self.surplus(agent).any(|(unwanted, ..)| unwanted == task_type);
        };
        let record = agent.tasks.get(&task_type);
        self.gets(agent, task_type, spec)
            && record.is_none_or(|record| self.is_outdated(agent, task_type, spec, record))
    }

    /// The task types that an agent gets, in order.
    fn steps(&self) -> impl Iterator<Item = (TaskType, &Spec)> {
        let specs = self.settings.specs.iter().map(|(task_type, spec)| (*task_type, spec));
        specs.filter(|(task_type, _)| Self::is_step(*task_type))
    }

    /// What is on an agent and no longer wanted, the last first, with what takes it back.
    pub(in super::super) fn surplus<'a>(
        &'a self,
        agent: &'a AgentRecord,
    ) -> impl Iterator<Item = (TaskType, &'a TaskRecord, Option<&'a Spec>)> {
        let unwanted = agent.tasks.iter().rev().filter(|(task_type, _)| {
            **task_type != TaskType::Prefetch
                && !self.settings.specs.contains_key(task_type)
                && agent.order(**task_type) != Some(&Order::Skip)
        });
        unwanted.filter_map(|(task_type, record)| {
            let undo = self.settings.rollout.undo.get(task_type);
            // What an install has left on the host stays unless it is taken back.
            (undo.is_some() || record.phase.live().is_some()).then_some((*task_type, record, undo))
        })
    }

    /// The first step of an agent that has a place in a rollout.
    pub(in super::super) fn open_in_rollout(&self, agent: &AgentRecord) -> Option<(TaskType, Next)> {
        let place = agent.holds()?;
        for (task_type, record, undo) in self.surplus(agent) {
            let next = match undo {
                // It is done: only its record is to go.
                Some(undo) if record.target.as_ref() == Some(&undo.target) && record.phase.at_goal() => {
                    continue;
                }
                Some(undo) => self.next_change(agent, place, task_type, undo),
                None => end(place, task_type, record),
            };
            return Some((task_type, next));
        }
        if let Some(next) = self.next_fetch(agent) {
            return Some((TaskType::Prefetch, next));
        }
        let mut steps = self.steps().filter(|(task_type, spec)| self.gets(agent, *task_type, spec));
        steps.find_map(|(task_type, spec)| {
            let next = self.next_change(agent, place, task_type, spec);
            (next != Next::Complete).then_some((task_type, next))
        })
    }

    /// What services that are to be replaced need is fetched before any of them is ended.
    fn next_fetch(&self, agent: &AgentRecord) -> Option<Next> {
        let spec = self.settings.specs.get(&TaskType::Prefetch)?;
        let replaces = self.steps().any(|(task_type, spec)| {
            agent.tasks.get(&task_type).is_some_and(|record| {
                record.phase.live().is_some()
                    && !Self::is_left_out(agent, task_type, spec)
                    && self.is_outdated(agent, task_type, spec, record)
                    && self.is_service(task_type, record)
            })
        });
        let record = agent.tasks.get(&TaskType::Prefetch);
        let record = record
            .filter(|record| record.target.as_ref() == Some(&spec.target) || record.phase.live().is_some());
        let next = Self::next_in(TaskType::Prefetch, spec, record);
        (replaces && next != Next::Complete).then_some(next)
    }

    fn is_service(&self, task_type: TaskType, record: &TaskRecord) -> bool {
        let spec = self.spec_of(task_type, record.target.as_ref());
        spec.is_some_and(|spec| matches!(spec.goal, Goal::Running { .. }))
    }

    /// What `needs` has beyond what the task of this record has.
    pub(in super::super) fn more_than(
        &self,
        needs: Needs,
        task_type: TaskType,
        record: &TaskRecord,
    ) -> Needs {
        let has = self.spec_of(task_type, record.target.as_ref()).map_or(needs, |spec| spec.needs);
        Needs { cpus: (needs.cpus - has.cpus).max(0), mem: (needs.mem - has.mem).max(0) }
    }

    /// What comes next in a step that is brought to `spec`.
    fn next_change(&self, agent: &AgentRecord, place: &Place, task_type: TaskType, spec: &Spec) -> Next {
        let Some(record) = agent.tasks.get(&task_type) else { return Next::Launch(task_type, None) };
        if !self.is_outdated(agent, task_type, spec, record) {
            return Self::next_on_agent(task_type, spec, agent);
        }
        match record.phase.live() {
            None => Next::Launch(task_type, None),
            Some(_) if self.is_service(task_type, record) => match end(place, task_type, record) {
                // An offer must show that there is room for what it needs beyond what this one has, and that its agent
                // does not go down before the successor is there.
                Next::End(_)
                    if !self.more_than(spec.needs, task_type, record).is_nothing()
                        || self.maintenance.of(&agent.id.0).is_some() =>
                {
                    Next::Launch(task_type, None)
                }
                next => next,
            },
            Some(_) => Next::Wait(format!("{task_type} of an earlier target is still under way")),
        }
    }

    /// What comes next on an agent that was complete and has no place in a rollout: what broke comes back as it was.
    pub(in super::super) fn open_as_it_was(&self, agent: &AgentRecord) -> Option<(TaskType, Next)> {
        let records = agent.tasks.iter().filter(|(task_type, _)| **task_type != TaskType::Prefetch);
        let mut first = None;
        for (task_type, record) in records {
            let Some(spec) = self.spec_of(*task_type, record.target.as_ref()) else { continue };
            if !self.gets(agent, *task_type, spec) {
                continue;
            }
            let known = record.target.as_ref() == Some(&spec.target);
            // What has failed with the operator's target is tried again with its place only.
            let ordered = agent.order(*task_type) == Some(&Order::Again) && !record.phase.at_goal();
            let is_new = self.settings.specs.get(task_type).is_some_and(|now| now.target == spec.target);
            let next = match &record.phase {
                // What failed for good waits for its place, whatever the operator wants by now.
                Phase::Held { .. } | Phase::NeedsRestart { .. } if !known => waits_for_turn(*task_type),
                Phase::Backoff { .. } if ordered && is_new => waits_for_turn(*task_type),
                Phase::Skipped { .. } => continue,
                _ => Self::next_on_agent(*task_type, spec, agent),
            };
            match next {
                Next::Complete => {}
                // Others go on meanwhile.
                Next::Held(_) => drop(first.get_or_insert((*task_type, next))),
                next => return Some((*task_type, next)),
            }
        }
        first
    }
}

/// Whether an operator has ordered that something is done again.
pub(in super::super) fn is_ordered(agent: &AgentRecord) -> bool {
    agent.orders.iter().any(|orders| orders.values().any(|order| *order == Order::Again))
}

/// Whether a step of an agent that was complete with this target has failed, and an operator has ordered that it is tried
/// again: as what it was ordered for, with a place. What has died by itself meanwhile has a failure counted.
pub(in super::super) fn is_tried_again(agent: &AgentRecord, task_type: TaskType) -> bool {
    agent.settled > 0
        && agent.order(task_type) == Some(&Order::Again)
        && agent
            .tasks
            .get(&task_type)
            .is_some_and(|record| matches!(record.phase, Phase::Backoff { .. }) && record.failures == 0)
}

/// Whether a step that operators have ordered has another target than before: that comes with a place only.
pub(in super::super) fn is_ordered_anew(agent: &AgentRecord, task_type: TaskType, spec: &Spec) -> bool {
    let target = agent.tasks.get(&task_type).and_then(|record| record.target.as_ref());
    let changes = target.is_some_and(|target| *target != spec.target);
    changes && agent.settled > 0 && agent.order(task_type) == Some(&Order::Again)
}

/// A step that its agent's place is needed for.
pub(in super::super) fn waits_for_turn(task_type: TaskType) -> Next {
    Next::Held(format!("{task_type} waits for the agent's turn in the update"))
}

/// A service of an earlier target, or one that is not wanted, is ended.
fn end(place: &Place, task_type: TaskType, record: &TaskRecord) -> Next {
    if matches!(record.phase, Phase::Active { run: Run::Unreachable, .. }) {
        Next::Wait(format!("{task_type} is unreachable: its agent is partitioned"))
    } else if place.ending == Some(task_type) {
        Next::Wait(format!("{task_type} of before is being ended"))
    } else {
        Next::End(task_type)
    }
}
