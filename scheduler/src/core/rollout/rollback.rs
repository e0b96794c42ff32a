//! How a rollout ends: complete, halted, or by going back.
//!
//! To go back is a rollout of its own, to the last target whose rollout came to its end. It has no canaries, for these have
//! had that target; all else is as in every rollout: places, limits, windows. While the operator wants what was given up, that
//! is what is followed; a failure halts it.

use super::super::Core;
use super::super::frame::Frame;
use super::super::ids::{AgentKey, Timestamp};
use super::followed::{Wanted, targets};
use super::news::RolloutNews;
use super::record::{Earlier, GivenUp, Order, RolloutRecord, Stage};
use super::settings::OnFailure;

impl Core {
    /// No agent waits any more, none has its place, none has failed; and the cluster has what is done once.
    pub(super) fn complete(&mut self, frame: &mut Frame) {
        let rollout = &self.state.cluster.rollout;
        let rolling = &self.rolling;
        let is_over = !rolling.waits() && rolling.under_way() == 0 && rolling.failed.is_empty();
        let may_end = !rollout.complete && rolling.arrived && rollout.halted.is_none();
        if !may_end || !is_over || !self.cluster_is_current() {
            return;
        }
        let number = rollout.number;
        self.edit_rollout(frame, |rollout| rollout.complete = true);
        // The first target is no update.
        if number > 1 {
            frame.tell(RolloutNews::Complete { number });
        }
    }

    /// The rollout has failed: it halts, or goes back.
    pub(super) fn end_in_failure(&mut self, now: Timestamp, why: String, frame: &mut Frame) {
        let rollout = &self.state.cluster.rollout;
        let why = match self.settings.rollout.on_failure {
            // What goes back does not go back from that.
            OnFailure::Rollback if rollout.given_up.is_none() => match self.way_back() {
                Ok(before) => return self.roll_back(now, before, why, frame),
                Err(why_not) => format!("it cannot be rolled back, for {why_not}; {why}"),
            },
            _ => why,
        };
        let why = match self.take_back_orders(frame) {
            0 => why,
            number => format!("what was ordered on {number} other agents is not begun, order it anew; {why}"),
        };
        frame.tell(RolloutNews::Halted { why: why.clone() });
        self.edit_rollout(frame, |rollout| rollout.halted = Some(why));
    }

    /// What was ordered before a halt is not done after it: it may fail as what has failed. On how many agents it was.
    fn take_back_orders(&mut self, frame: &mut Frame) -> usize {
        let ordered = self.rolling.ordered();
        for key in &ordered {
            self.edit(key, frame, |agent| {
                let mut left = agent.orders.take();
                if let Some(orders) = &mut left {
                    orders.retain(|_, order| *order != Order::Again);
                }
                agent.orders = left.filter(|orders| !orders.is_empty());
            });
        }
        ordered.len()
    }

    /// What all agents can go back to, or why they cannot.
    fn way_back(&self) -> Result<Earlier, String> {
        let cluster = &self.state.cluster;
        let Some(before) = &cluster.rollout.before else {
            return Err("there is no earlier target whose rollout came to its end".to_owned());
        };
        let lost = before.targets.iter().find(|(_, target)| !cluster.definitions.contains_key(*target));
        match lost {
            Some((task_type, target)) => Err(format!("nobody knows what target {target} of {task_type} was")),
            None => Ok(Earlier::clone(before)),
        }
    }

    fn roll_back(&mut self, now: Timestamp, before: Earlier, why: String, frame: &mut Frame) {
        frame.tell(RolloutNews::RollsBack { why: why.clone() });
        let failed = &self.state.cluster.rollout;
        let given_up = GivenUp { number: failed.number, why, targets: targets(&self.settings) };
        let (stopped, paused) = (failed.stopped, failed.paused.clone());
        let earlier = Wanted::earlier(&before, &self.state.cluster.definitions, &self.settings);
        let wanted = Wanted::of(&self.settings);
        self.rolling.known.extend(wanted.all().map(|spec| (spec.target.clone(), spec.clone())));
        earlier.follow(&mut self.settings);
        self.rolling.given_up = Some(Box::new(wanted));
        let Earlier { targets, undone, guarded } = before.clone();
        let rollout = RolloutRecord {
            targets,
            undone,
            guarded,
            stage: Stage::Rest,
            stopped,
            paused,
            before: Some(Box::new(before)),
            given_up: Some(Box::new(given_up)),
            ..self.next_rollout(now)
        };
        self.replace_rollout(rollout, frame);
        self.retry_in_cluster(now, None, frame);
        // What is under way is so for another target: its time begins now.
        let held: Vec<AgentKey> = self.rolling.held.keys().cloned().collect();
        for key in held {
            self.edit(&key, frame, |agent| {
                if let Some(place) = &mut agent.place {
                    place.step_since = now;
                }
            });
        }
        self.review();
    }

    /// The target that was given up is tried again, as an operator says. False when there is none.
    pub(super) fn try_again(&mut self, now: Timestamp, frame: &mut Frame) -> bool {
        let Some(wanted) = self.rolling.given_up.take() else { return false };
        let left = Wanted::of(&self.settings);
        self.rolling.known.extend(left.all().map(|spec| (spec.target.clone(), spec.clone())));
        wanted.follow(&mut self.settings);
        self.start_rollout(now, frame);
        self.review();
        true
    }

    /// Another target is followed: what follows from that for each agent.
    fn review(&mut self) {
        self.reconsider_all();
        let keys: Vec<AgentKey> = self.state.agents.keys().cloned().collect();
        for key in keys {
            self.recount(&key);
            self.watch(&key);
        }
    }
}
