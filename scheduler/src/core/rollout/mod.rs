//! Rollouts: a changed target is brought to every agent, in an order and at a rate that operators trust.
//!
//! The target is what the operator wants, a hash a task type. When it is another than the stored one, a rollout begins:
//! each agent that was complete waits for a place. It gets one by its turn (`gate.rs`): canaries first, a pause, then as
//! many at a time as the limits let in, our own scheduler's agent last, and only while nothing stands against it. With a
//! place it is brought to the target step by step (`target.rs`, `places.rs`), and keeps its place until it has been healthy
//! with all of it for a while, or has failed (`failing.rs`). What is stored (`record.rs`) is enough for another scheduler to go on.

mod commands;
mod domains;
mod failing;
mod followed;
mod gate;
mod guard;
mod news;
mod places;
mod record;
mod rollback;
mod rolling;
mod settings;
mod target;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use commands::{Command, CommandError, Verb};
pub(super) use domains::MAX_PER_DOMAIN;
pub use news::RolloutNews;
pub use record::{Earlier, GivenUp, Order, Place, Plan, RolloutRecord, Stage};
pub(super) use rolling::{Rolling, has_failed};
pub use settings::{OnFailure, Rollout, RolloutStrategy};
pub(super) use target::{is_ordered, is_ordered_anew, is_tried_again, waits_for_turn};
pub use windows::{WindowError, Windows};

use super::Core;
use super::frame::{Decision, Frame};
use super::ids::{Scope, TargetHash, TaskType, Timestamp};
use super::spec::Spec;
use super::state::{ClusterRecord, Definition, StateChange};
use followed::targets;

impl Frame {
    /// Tells what happens in a rollout.
    fn tell(&mut self, news: RolloutNews) {
        self.decisions.push(Decision::Rollout(news));
    }
}

impl Core {
    /// With the first list of agents: what the operator wants is stored, and a rollout begins where that has changed.
    pub(super) fn begin_rollout(&mut self, now: Timestamp, frame: &mut Frame) {
        for why in &self.rolling.refused {
            frame.tell(RolloutNews::Refused { why: why.clone() });
        }
        if !std::mem::take(&mut self.rolling.begins) {
            return;
        }
        self.start_rollout(now, frame);
    }

    /// The operator's target is brought to all agents.
    fn start_rollout(&mut self, now: Timestamp, frame: &mut Frame) {
        let before = &self.state.cluster.rollout;
        let targets = targets(&self.settings);
        let differs = |t: &TaskType| *t != TaskType::Prefetch && before.targets.get(t) != targets.get(t);
        let changed = TaskType::ALL.into_iter().filter(differs).collect();
        let rollout = RolloutRecord {
            targets,
            undone: self.settings.rollout.undo.keys().copied().collect(),
            guarded: self.settings.rollout.guarded.clone(),
            stopped: before.stopped,
            paused: before.paused.clone(),
            before: before.to_go_back_to(),
            ..self.next_rollout(now)
        };
        if rollout.number > 1 {
            frame.tell(RolloutNews::Begins { number: rollout.number, changed });
        }
        self.replace_rollout(rollout, frame);
        if self.number() > 1 {
            // As agents are: what failed before is tried with the new target.
            self.retry_in_cluster(now, None, frame);
        }
    }

    /// A rollout that comes after all that there were.
    fn next_rollout(&self, now: Timestamp) -> RolloutRecord {
        // A state from before there were rollouts has agents that were complete with whatever target.
        let settled = self.state.agents.values().map(|agent| agent.settled).max().unwrap_or_default();
        let number = settled.max(self.state.cluster.rollout.number) + 1;
        RolloutRecord { number, since: now, ..RolloutRecord::default() }
    }

    /// Stores another rollout, and what its targets stand for.
    fn replace_rollout(&mut self, rollout: RolloutRecord, frame: &mut Frame) {
        let definitions = Arc::new(self.definitions_in_use(&rollout));
        let cluster = ClusterRecord { rollout, definitions, ..self.state.cluster.clone() };
        self.change(frame, StateChange::Cluster(cluster.into()));
        self.recount_places();
    }

    /// What the targets of `rollout` stand for, those that it may go back to, and those that are still somewhere.
    fn definitions_in_use(&self, rollout: &RolloutRecord) -> BTreeMap<TargetHash, Definition> {
        let records = self.state.slots().filter_map(|(_, record)| record.target.clone());
        let before = rollout.before.iter().flat_map(|before| before.targets.values().cloned());
        let given_up = rollout.given_up.iter().flat_map(|given_up| given_up.targets.values().cloned());
        let used: BTreeSet<TargetHash> = records.chain(before).chain(given_up).collect();
        let stored = self.state.cluster.definitions.iter().filter(|(target, _)| used.contains(*target));
        let mut definitions: BTreeMap<TargetHash, Definition> =
            stored.map(|(target, definition)| (target.clone(), definition.clone())).collect();
        let wanted = self.settings.specs.values().chain(self.settings.rollout.undo.values());
        for spec in wanted {
            let of_today = self.settings.rollout.definitions.get(&spec.target);
            let definition = of_today.or_else(|| self.state.cluster.definitions.get(&spec.target));
            definitions.extend(definition.map(|definition| (spec.target.clone(), definition.clone())));
        }
        definitions
    }

    /// Stores `edit` of the rollout's record.
    fn edit_rollout(&mut self, frame: &mut Frame, edit: impl FnOnce(&mut RolloutRecord)) {
        let mut cluster = self.state.cluster.clone();
        edit(&mut cluster.rollout);
        self.change(frame, StateChange::Cluster(cluster.into()));
    }

    /// Whether the rollout is an update: some agent was complete before it.
    pub(super) fn is_update(&self) -> bool {
        let rolling = &self.rolling;
        self.number() > 1 && (rolling.arrived || rolling.under_way() > 0 || rolling.waits())
    }

    /// The task types of the cluster that others wait for, as the operator wants them; one as often as it is waited for.
    fn awaited(&self) -> impl Iterator<Item = (TaskType, &Spec)> {
        let awaited = self.settings.specs.values().flat_map(|spec| &spec.after);
        let specs = awaited.filter_map(|task_type| Some((*task_type, self.settings.specs.get(task_type)?)));
        specs.filter(|(_, spec)| spec.enabled)
    }

    /// Whether the task types of the cluster that others wait for have the operator's target.
    pub(super) fn cluster_is_current(&self) -> bool {
        self.awaited().all(|(task_type, spec)| {
            self.state
                .cluster
                .tasks
                .get(&task_type)
                .is_some_and(|record| record.phase.at_goal() && !Self::is_outdated_in_cluster(spec, record))
        })
    }

    /// Whether a task type of the cluster is to be launched again for another target.
    pub(super) fn is_outdated_in_cluster(spec: &Spec, record: &super::TaskRecord) -> bool {
        record.phase.at_goal() && record.target.as_ref().is_some_and(|target| *target != spec.target)
    }

    /// The plan that says what may be done on an agent.
    pub(super) fn plan_of(agent: &super::AgentRecord) -> Plan {
        match () {
            () if agent.settled == 0 => Plan::Deploy,
            () if agent.holds().is_some() => Plan::Update,
            () => Plan::Recovery,
        }
    }

    /// Why nothing is begun on an agent, because an operator has paused its plan.
    pub(super) fn paused(&self, agent: &super::AgentRecord) -> Option<String> {
        let plan = Self::plan_of(agent);
        let is_paused = self.state.cluster.rollout.paused.contains(&plan);
        // What was ended gets its successor.
        (is_paused && !agent.is_half_done()).then(|| format!("the plan {plan} is paused by an operator"))
    }

    /// Whether a task type is one of those that agents get.
    pub(super) fn is_step(task_type: TaskType) -> bool {
        task_type.scope() == Scope::Agent && task_type != TaskType::Prefetch
    }
}
