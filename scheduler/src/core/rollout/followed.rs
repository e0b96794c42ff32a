//! Which configuration is followed: the operator's, or the stored one, where that is not safe to change or has failed.

use std::collections::BTreeMap;

use super::super::ids::{TargetHash, TaskType};
use super::super::spec::{Settings, Spec};
use super::super::state::{Definition, State};
use super::guard;
use super::record::{Earlier, RolloutRecord};
use super::rolling::Rolling;

/// The part of the settings that is a target: another one may be followed in its place.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Wanted {
    specs: BTreeMap<TaskType, Spec>,
    undo: BTreeMap<TaskType, Spec>,
    guarded: BTreeMap<String, String>,
}

impl Wanted {
    pub(super) fn of(settings: &Settings) -> Self {
        let (specs, undo) = (settings.specs.clone(), settings.rollout.undo.clone());
        Self { specs, undo, guarded: settings.rollout.guarded.clone() }
    }

    /// It is followed from now on.
    pub(super) fn follow(self, settings: &mut Settings) {
        (settings.specs, settings.rollout.undo, settings.rollout.guarded) =
            (self.specs, self.undo, self.guarded);
    }

    /// All that may be launched by it.
    pub(super) fn all(&self) -> impl Iterator<Item = &Spec> {
        self.specs.values().chain(self.undo.values())
    }

    /// An earlier one, as far as it is stored what it stands for. What it needs of others is as it is with `settings`.
    pub(super) fn earlier(
        earlier: &Earlier,
        definitions: &BTreeMap<TargetHash, Definition>,
        settings: &Settings,
    ) -> Self {
        let specs = earlier.targets.iter().filter_map(|(task_type, target)| {
            let like = like(settings, *task_type);
            let spec = match definitions.get(target) {
                Some(definition) => spec(target, definition, like),
                // What the operator wants instead is what must not be launched.
                None => Spec { target: target.clone(), lost: like?.target != *target, ..like?.clone() },
            };
            Some((*task_type, spec))
        });
        let (undo, specs) = specs.partition(|(task_type, _)| earlier.undone.contains(task_type));
        Self { specs, undo, guarded: earlier.guarded.clone() }
    }
}

impl RolloutRecord {
    /// Its target.
    pub(super) fn target(&self) -> Earlier {
        let (targets, undone) = (self.targets.clone(), self.undone.clone());
        Earlier { targets, undone, guarded: self.guarded.clone() }
    }

    /// What a rollout after this one goes back to.
    pub(super) fn to_go_back_to(&self) -> Option<Box<Earlier>> {
        if self.complete { Some(Box::new(self.target())) } else { self.before.clone() }
    }
}

impl Rolling {
    /// Compares what the operator wants with what is stored. Where that is refused, or was given up, `settings` become those
    /// of before.
    pub fn new(settings: &mut Settings, state: &State) -> Self {
        let rollout = &state.cluster.rollout;
        let definitions = &state.cluster.definitions;
        let refused = guard::contradictions(
            &rollout.guarded,
            &settings.rollout.guarded,
            &settings.rollout.allow_unsafe,
        );
        let given_up = rollout.given_up.as_ref();
        let is_given_up = given_up.is_some_and(|given_up| is_same(&targets(settings), &given_up.targets));
        // Another configuration ends that.
        let ends = given_up.is_some() && !is_given_up && refused.is_empty();
        let stored = definitions.iter().map(|(target, definition)| {
            (target.clone(), spec(target, definition, like(settings, definition.task_type)))
        });
        let undo = settings.rollout.undo.values().map(|spec| (spec.target.clone(), spec.clone()));
        let known = stored.chain(undo).collect();
        let wanted = Wanted::of(settings);
        if is_given_up || !refused.is_empty() {
            Wanted::earlier(&rollout.target(), definitions, settings).follow(settings);
        }
        let mut rolling = Self { known, refused, ..Self::default() };
        rolling.begins = rollout.number == 0 || !is_same(&targets(settings), &rollout.targets) || ends;
        rolling.given_up = is_given_up.then(|| Box::new(wanted));
        rolling
    }
}

/// What each task type is launched with, and taken back with.
pub(super) fn targets(settings: &Settings) -> BTreeMap<TaskType, TargetHash> {
    let undo = settings.rollout.undo.iter();
    let specs = settings.specs.iter().chain(undo);
    specs.map(|(task_type, spec)| (*task_type, spec.target.clone())).collect()
}

/// Whether agents that have the one have the other: what is fetched is there for what comes then.
fn is_same(one: &BTreeMap<TaskType, TargetHash>, other: &BTreeMap<TaskType, TargetHash>) -> bool {
    let stays = |(task_type, _): &(&TaskType, &TargetHash)| **task_type != TaskType::Prefetch;
    one.iter().filter(stays).eq(other.iter().filter(stays))
}

/// A task type as it is today, whether it is wanted or not.
fn like(settings: &Settings, task_type: TaskType) -> Option<&Spec> {
    settings.specs.get(&task_type).or_else(|| settings.rollout.unwanted.get(&task_type))
}

/// The spec of a stored target: what it needs of others is as it is `like` today.
fn spec(target: &TargetHash, definition: &Definition, like: Option<&Spec>) -> Spec {
    let spec = Spec::new(definition.goal, definition.needs, target.clone());
    match like.cloned() {
        Some(like) => Spec { target: spec.target, goal: spec.goal, needs: spec.needs, ..like },
        None => spec,
    }
}
