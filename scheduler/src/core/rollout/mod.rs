//! Rollouts: a changed target is brought to every agent, in an order and at a rate that operators trust.
//!
//! The target is what the operator wants, a hash a task type. When it is another than the stored one, a rollout begins:
//! each agent that was complete waits for a place. It gets one by its turn (`gate.rs`): canaries first, a pause, then as
//! many at a time as the limits let in, our own scheduler's agent last, and only while nothing stands against it. With a
//! place it is brought to the target step by step (`target.rs`, `places.rs`), and keeps its place until it has been healthy
//! with all of it for a while, or has failed (`failing.rs`). What is stored (`record.rs`) is enough for another scheduler to go on.

mod commands;
mod failing;
mod gate;
mod guard;
mod news;
mod places;
mod record;
mod rolling;
mod settings;
mod target;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use commands::{Command, Verb};
pub use news::RolloutNews;
pub use record::{Order, Place, Plan, RolloutRecord, Stage};
pub(super) use rolling::{Rolling, has_failed};
pub use settings::{Rollout, RolloutStrategy};
pub(super) use target::is_ordered;
pub use windows::{WindowError, Windows};

use super::Core;
use super::frame::{Decision, Frame};
use super::ids::{Scope, TargetHash, TaskType, Timestamp};
use super::spec::{Settings, Spec};
use super::state::{ClusterRecord, Definition, State, StateChange};

impl Rolling {
    /// Compares what the operator wants with what is stored. Where that is refused, `settings` become those of before.
    pub fn new(settings: &mut Settings, state: &State) -> Self {
        let rollout = &state.cluster.rollout;
        let wanted = settings.specs.clone();
        let refused = guard::contradictions(
            &rollout.guarded,
            &settings.rollout.guarded,
            &settings.rollout.allow_unsafe,
        );
        if !refused.is_empty() {
            let before = as_before(&rollout.targets, &state.cluster.definitions, &wanted);
            (settings.rollout.undo, settings.specs) =
                before.into_iter().partition(|(task_type, _)| rollout.undone.contains(task_type));
            settings.rollout.guarded.clone_from(&rollout.guarded);
        }
        let begins = rollout.number == 0 || !is_same(&targets(settings), &rollout.targets);
        let undo = settings.rollout.undo.values().map(|spec| (spec.target.clone(), spec.clone()));
        let stored = state.cluster.definitions.iter().map(|(target, definition)| {
            let like =
                settings.specs.get(&definition.task_type).or_else(|| wanted.get(&definition.task_type));
            (target.clone(), spec(target, definition, like))
        });
        let known = stored.chain(undo).collect();
        let mut rolling = Self::default();
        (rolling.known, rolling.refused, rolling.begins) = (known, refused, begins);
        rolling
    }
}

/// What each task type is launched with, and taken back with.
fn targets(settings: &Settings) -> BTreeMap<TaskType, TargetHash> {
    let undo = settings.rollout.undo.iter();
    let specs = settings.specs.iter().chain(undo);
    specs.map(|(task_type, spec)| (*task_type, spec.target.clone())).collect()
}

/// Whether agents that have the one have the other: what is fetched is there for what comes then.
fn is_same(one: &BTreeMap<TaskType, TargetHash>, other: &BTreeMap<TaskType, TargetHash>) -> bool {
    let stays = |(task_type, _): &(&TaskType, &TargetHash)| **task_type != TaskType::Prefetch;
    one.iter().filter(stays).eq(other.iter().filter(stays))
}

/// The specs of targets that were the operator's before.
fn as_before(
    targets: &BTreeMap<TaskType, TargetHash>,
    definitions: &BTreeMap<TargetHash, Definition>,
    wanted: &BTreeMap<TaskType, Spec>,
) -> BTreeMap<TaskType, Spec> {
    let specs = targets.iter().filter_map(|(task_type, target)| {
        let like = wanted.get(task_type);
        let before = definitions.get(target).map(|definition| spec(target, definition, like));
        Some((*task_type, before.or_else(|| like.cloned())?))
    });
    specs.collect()
}

/// The spec of a stored target: what it needs of others is as it is `like` today.
fn spec(target: &TargetHash, definition: &Definition, like: Option<&Spec>) -> Spec {
    let spec = Spec::new(definition.goal, definition.needs, target.clone());
    match like.cloned() {
        Some(like) => Spec { target: spec.target, goal: spec.goal, needs: spec.needs, ..like },
        None => spec,
    }
}

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
        let before = &self.state.cluster.rollout;
        // A state from before there were rollouts has agents that were complete with whatever target.
        let settled = self.state.agents.values().map(|agent| agent.settled).max().unwrap_or_default();
        let number = settled.max(before.number) + 1;
        let targets = targets(&self.settings);
        let differs = |t: &TaskType| *t != TaskType::Prefetch && before.targets.get(t) != targets.get(t);
        let changed = TaskType::ALL.into_iter().filter(differs).collect();
        if number > 1 {
            frame.tell(RolloutNews::Begins { number, changed });
        }
        let rollout = RolloutRecord {
            number,
            since: now,
            targets,
            undone: self.settings.rollout.undo.keys().copied().collect(),
            guarded: self.settings.rollout.guarded.clone(),
            paused: before.paused.clone(),
            ..RolloutRecord::default()
        };
        let definitions = Arc::new(self.definitions_in_use());
        let cluster = ClusterRecord { rollout, definitions, ..self.state.cluster.clone() };
        self.change(frame, StateChange::Cluster(cluster));
        self.recount_places();
    }

    /// What the operator's targets stand for, and those that are still somewhere.
    fn definitions_in_use(&self) -> BTreeMap<TargetHash, Definition> {
        let records = self.state.slots().filter_map(|(_, record)| record.target.clone());
        let used: BTreeSet<TargetHash> = records.collect();
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
        self.change(frame, StateChange::Cluster(cluster));
    }

    /// Whether the task types of the cluster that others wait for have the operator's target.
    pub(super) fn cluster_is_current(&self) -> bool {
        let mut awaited = self.settings.specs.values().flat_map(|spec| &spec.after);
        awaited.all(|task_type| {
            let spec = self.settings.specs.get(task_type).filter(|spec| spec.enabled);
            spec.is_none_or(|spec| {
                self.state.cluster.tasks.get(task_type).is_some_and(|record| {
                    record.phase.at_goal() && !Self::is_outdated_in_cluster(spec, record)
                })
            })
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
        let half_done = agent.holds().is_some_and(|place| place.gap.is_some());
        (is_paused && !half_done).then(|| format!("the plan {plan} is paused by an operator"))
    }

    /// Whether a task type is one of those that agents get.
    pub(super) fn is_step(task_type: TaskType) -> bool {
        task_type.scope() == Scope::Agent && task_type != TaskType::Prefetch
    }
}
