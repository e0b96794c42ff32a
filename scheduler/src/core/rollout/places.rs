//! What is done on an agent that has a place in a rollout.

use super::super::Core;
use super::super::frame::{Effect, Frame};
use super::super::ids::{AgentId, AgentKey, TaskId, TaskType, Timestamp};
use super::super::listing::Presence;
use super::super::progress::Next;
use super::super::spec::Spec;
use super::super::state::{AgentRecord, Phase, Slot, TaskRecord};
use super::news::RolloutNews;
use super::record::Order;

impl Core {
    /// Looks at an agent that has changed: what is to be ended, what has failed, and whether all is done.
    pub(super) fn look_at(&mut self, now: Timestamp, key: &AgentKey, frame: &mut Frame) {
        let Some(agent) = self.state.agents.get(key).cloned() else { return };
        let number = self.number();
        let Some(place) = agent.holds() else {
            let complete = agent.settled == 0 && self.next_on(&agent) == Next::Complete;
            let concerned = agent.settled > 0 && agent.settled < number && !self.is_behind(&agent);
            if number > 0 && !agent.aside && (complete || concerned) {
                // What was begun with an earlier target comes to this one in its turn.
                let mixed = complete && self.is_mixed(&agent);
                let settled = if mixed { (number - 1).max(1) } else { number };
                self.edit(key, frame, |agent| (agent.settled, agent.place) = (settled, None));
                self.rolling.touched.remove(key);
            }
            return;
        };
        // What is taken back is no longer there.
        let gone: Vec<TaskType> = self.taken_back(&agent).collect();
        if !gone.is_empty() {
            self.edit(key, frame, |agent| gone.iter().for_each(|t| drop(agent.tasks.remove(t))));
            return;
        }
        if let Some(why) = self.why_failed(&agent) {
            return self.fail(now, key, &why, frame);
        }
        let outlook = self.outlook(&agent);
        if let Next::End(task_type) = outlook.0 {
            return self.end(now, key, task_type, frame);
        }
        if let Some((task, id)) = Self::to_be_ended(&agent) {
            if !self.still_ends(&agent) {
                self.reconciliation.spare(&task);
            } else if !self.reconciliation.kills(&task) {
                self.reconciliation.kill_at_next_tick(task, id);
            }
        }
        let step = self.open_in_rollout(&agent).map(|(task_type, _)| task_type);
        if place.step != step {
            self.edit(key, frame, |agent| {
                if let Some(place) = &mut agent.place {
                    (place.step, place.step_since) = (step, now);
                }
            });
            self.rolling.touched.remove(key);
        }
        // What it has waited for does not count as its own time.
        if self.waits_its_turn(now, &agent, &outlook) {
            self.rolling.idle.insert(key.clone());
        } else if self.rolling.idle.remove(key) {
            self.rolling.held.insert(key.clone(), now);
        }
        if self.has_arrived(&agent) {
            if self.rolling.settling.get(key).is_none() {
                self.rolling.settling.insert(key.clone(), now);
            }
        } else {
            self.rolling.settling.remove(key);
        }
    }

    /// The task types whose step on the host has been taken back, or whose task was ended, because they are not wanted.
    fn taken_back<'a>(&'a self, agent: &'a AgentRecord) -> impl Iterator<Item = TaskType> + 'a {
        let unwanted = agent.tasks.iter().filter(|(task_type, record)| {
            let undo = self.settings.rollout.undo.get(task_type);
            let is_done =
                |undo: &Spec| record.target.as_ref() == Some(&undo.target) && record.phase.at_goal();
            **task_type != TaskType::Prefetch
                && !self.settings.specs.contains_key(task_type)
                && undo.is_some_and(is_done)
        });
        unwanted.map(|(task_type, _)| *task_type)
    }

    fn has_arrived(&self, agent: &AgentRecord) -> bool {
        self.presence(&agent.key) == Some(&Presence::Active)
            && agent.disruption.is_none()
            && self.open_in_rollout(agent).is_none()
            && self.down_on(agent).next().is_none()
    }

    /// Ends a service, so that another of its type can take its place.
    pub(in super::super) fn end(
        &mut self,
        now: Timestamp,
        key: &AgentKey,
        task_type: TaskType,
        frame: &mut Frame,
    ) {
        let record = self.state.agents.get(key).and_then(|agent| agent.tasks.get(&task_type));
        let Some((task, id)) = record.and_then(|record| record.phase.live()) else { return };
        let (task, id) = (task.clone(), id.clone());
        self.edit(key, frame, |agent| {
            if let Some(place) = &mut agent.place {
                place.ending = Some(task_type);
                (place.step, place.step_since) = (Some(task_type), now);
            }
        });
        self.rolling.touched.remove(key);
        self.reconciliation.kill(now, task.clone(), id.clone());
        let (agent, number) = (key.clone(), self.number());
        frame.tell(RolloutNews::Ended { agent, task_type, number });
        frame.effects.push(Effect::Kill { task, agent: id });
    }

    /// After a subscription: what is being ended is to end, whoever began that.
    pub(in super::super) fn end_again(&mut self) {
        let agents = self.rolling.held.keys().filter_map(|key| self.state.agents.get(key));
        let agents = agents.filter(|agent| self.still_ends(agent));
        let tasks: Vec<_> = agents.filter_map(|agent| Self::to_be_ended(agent)).collect();
        for (task, id) in tasks {
            self.reconciliation.kill_at_next_tick(task, id);
        }
    }

    /// The service of an agent that has been told to end for its successor, or is to be, and lives.
    fn to_be_ended(agent: &AgentRecord) -> Option<(TaskId, AgentId)> {
        let task_type = agent.holds()?.ending?;
        let (task, id) = agent.tasks.get(&task_type)?.phase.live()?;
        Some((task.clone(), id.clone()))
    }

    /// Whether what an agent has that is to be ended would be ended now, too. Since that was decided another target may
    /// have come, for which nothing is fetched yet, or an operator may have left it out: who was not told to end by then
    /// lives on until it is.
    fn still_ends(&self, agent: &AgentRecord) -> bool {
        let mut anew = agent.clone();
        let ending = anew.place.as_mut().and_then(|place| place.ending.take());
        // One whose successor needs more than it has waits for an offer before it is ended.
        let next =
            self.open_in_rollout(&anew).filter(|(_, next)| matches!(next, Next::End(_) | Next::Launch(..)));
        ending.is_some() && next.map(|(task_type, _)| task_type) == ending
    }

    /// Whether this task is ended for its successor.
    pub(in super::super) fn is_ending(&self, slot: &Slot) -> bool {
        let place = self.record_of(slot).and_then(AgentRecord::holds);
        place.is_some_and(|place| place.ending == Some(slot.task_type()))
    }

    /// A service that was to end has ended, without its `record`'s having failed.
    pub(in super::super) fn has_ended(
        &mut self,
        now: Timestamp,
        slot: &Slot,
        before: &TaskRecord,
        frame: &mut Frame,
    ) {
        let task_type = slot.task_type();
        let Slot::Agent(key, _) = slot else { return };
        let wanted = self.settings.specs.contains_key(&task_type)
            || self.settings.rollout.undo.contains_key(&task_type);
        if !self.settings.specs.contains_key(&task_type) && self.has_reservations() {
            self.demand.give_back(now);
        }
        let phase = Phase::Backoff { until: now };
        let record = TaskRecord { reached: before.reached, ..TaskRecord::new(phase, before.target.clone()) };
        self.edit(key, frame, |agent| {
            if let Some(place) = &mut agent.place {
                place.ending = None;
                place.gap = wanted.then_some((task_type, now));
            }
            if wanted {
                agent.tasks.insert(task_type, record);
            } else {
                agent.tasks.remove(&task_type);
            }
        });
    }

    /// A service is ready whose predecessor was ended: how long there was none.
    pub(in super::super) fn close_gap(&mut self, now: Timestamp, slot: &Slot, frame: &mut Frame) {
        let Slot::Agent(key, task_type) = slot else { return };
        let place = self.state.agents.get(key).and_then(|agent| agent.holds());
        let Some((_, since)) = place.and_then(|place| place.gap).filter(|(t, _)| t == task_type) else {
            return;
        };
        self.edit(key, frame, |agent| {
            if let Some(place) = &mut agent.place {
                place.gap = None;
            }
        });
        let (agent, task_type, gap) = (key.clone(), *task_type, now.since(since));
        frame.tell(RolloutNews::Replaced { agent, task_type, gap });
    }

    /// An agent has the new target, and was healthy with it for long enough.
    pub(super) fn arrive(&mut self, now: Timestamp, key: &AgentKey, frame: &mut Frame) {
        let Some(agent) = self.state.agents.get(key).cloned() else { return };
        let Some(place) = agent.holds() else { return };
        if !self.has_arrived(&agent) {
            return;
        }
        let took = now.since(place.since);
        // Another target may have become the operator's meanwhile: it came to that.
        let number = self.number();
        self.edit(key, frame, |agent| {
            agent.place = None;
            agent.settled = number;
            // What is ordered and was not done cannot be: it is left out on this agent.
            agent.orders = agent.orders.take().and_then(|mut orders| {
                orders.retain(|_, order| *order != Order::Again);
                (!orders.is_empty()).then_some(orders)
            });
        });
        self.rolling.touched.remove(key);
        frame.tell(RolloutNews::AgentUpdated { agent: key.clone(), took });
    }
}
