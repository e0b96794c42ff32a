//! Services' resources are reserved with their launch, so that a replacement finds room; and what it needs beyond that
//! before it takes the place of the one that runs.

use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Core;
use super::frame::{Decision, Effect, Frame};
use super::ids::{AgentKey, OfferId, Scope, TaskId, TaskType, Timestamp};
use super::index::Registered;
use super::input::{Offer, TaskState, Update};
use super::listing::Presence;
use super::resources::{Claim, Resource};
use super::spec::Goal;
use super::state::Slot;

/// For so long nothing is reserved after the master did not.
const PAUSE: Duration = Duration::from_mins(15);
/// For so long offers in a role in which nothing can be reserved are sent away, for the same resources come in ours then:
/// filters are a role's. Unless none comes at all.
const OUR_ROLE: Duration = Duration::from_secs(30);
/// So often it is asked for what a successor needs beyond, in vain.
const TRIES: u32 = 3;
/// Mesos' words when a task's resources are not in its offer (`src/master/validation.cpp`): those that were to be reserved
/// are not, for the operation before the launch was dropped without a word.
const NOT_RESERVED: &str = "more than available";

/// What became of reservations.
#[derive(Debug, Default)]
pub(super) struct Reserving {
    /// Launches with a reservation, of which nothing was heard.
    tried: FxHashSet<TaskId>,
    paused_until: Option<Timestamp>,
    /// How often it was asked for what a successor needs beyond, on agents where that is not reserved yet.
    ahead: FxHashMap<AgentKey, u32>,
    /// Since when agents are waited for with an offer in our role.
    awaited: FxHashMap<AgentKey, Timestamp>,
}

impl Core {
    /// Reserves what a service takes, as far as it can be and is not yet: `taken` becomes what the task is launched with.
    /// What is to be reserved.
    pub(super) fn reserve(
        &mut self,
        now: Timestamp,
        task_type: TaskType,
        task: &TaskId,
        taken: &mut [Resource],
    ) -> Vec<Resource> {
        let reserved = self.reservable(now, task_type, taken);
        if !reserved.is_empty() {
            self.reserving.tried.insert(task.clone());
        }
        reserved
    }

    /// The same before the successor of a service that runs takes its place: what is to be reserved of what it needs
    /// beyond. Nothing when that is done, or cannot be.
    pub(super) fn reserve_ahead(
        &mut self,
        now: Timestamp,
        key: &AgentKey,
        task_type: TaskType,
        taken: &mut [Resource],
        frame: &mut Frame,
    ) -> Vec<Resource> {
        let reserved = self.reservable(now, task_type, taken);
        if reserved.is_empty() {
            self.reserving.ahead.remove(key);
            return reserved;
        }
        let tries = self.reserving.ahead.entry(key.clone()).or_default();
        *tries += 1;
        if *tries <= TRIES {
            return reserved;
        }
        // The offers that came since did not have it reserved: the master has dropped that without a word.
        self.reserving.ahead.remove(key);
        let why = format!("what {task_type} needs more on {key} was not, {TRIES} times in a row");
        self.pause_reserving(now, &why, frame);
        Vec::new()
    }

    /// What of `taken` can be reserved for a service and is not: it becomes what it is then.
    fn reservable(&self, now: Timestamp, task_type: TaskType, taken: &mut [Resource]) -> Vec<Resource> {
        let ours = &self.settings.reservations;
        if !self.reserves(now, task_type) {
            return Vec::new();
        }
        let mut reserved = Vec::new();
        for resource in taken {
            if resource.claim(&ours.service) == Claim::Free && resource.can_be_reserved(&ours.roles) {
                resource.reserve(&ours.service, ours.principal.as_deref(), task_type);
                reserved.push(resource.clone());
            }
        }
        reserved
    }

    /// The master does not reserve: what that means, and what helps.
    fn pause_reserving(&mut self, now: Timestamp, why: &str, frame: &mut Frame) -> String {
        self.reserving.paused_until = Some(now.after(PAUSE));
        let reason = format!(
            "its resources could not be reserved; for {} min nothing is: permit it to our principal (the master's \
             ACLs: reserve_resources), or set service.reserve to false ({why})",
            PAUSE.as_secs() / 60,
        );
        frame.decisions.push(Decision::NotReserved { reason: reason.clone() });
        reason
    }

    /// Whether what this task type takes is reserved.
    fn reserves(&self, now: Timestamp, task_type: TaskType) -> bool {
        let spec = self.settings.specs.get(&task_type);
        spec.is_some_and(|spec| matches!(spec.goal, Goal::Running { .. }))
            && !self.settings.reservations.roles.is_empty()
            && self.reserving.paused_until.is_none_or(|until| now >= until)
    }

    /// Whether a launch waits for an offer in a role in which `taken` can be reserved.
    pub(super) fn awaits_our_role(
        &mut self,
        now: Timestamp,
        key: &AgentKey,
        task_type: TaskType,
        taken: &[Resource],
    ) -> bool {
        let roles = &self.settings.reservations.roles;
        let in_another =
            |resource: &Resource| resource.reservations.is_empty() && !resource.can_be_reserved(roles);
        if self.reserves(now, task_type) && taken.iter().any(in_another) {
            let since = *self.reserving.awaited.entry(key.clone()).or_insert(now);
            if now.since(since) < OUR_ROLE {
                return true;
            }
        }
        self.reserving.awaited.remove(key);
        false
    }

    /// The first word of a launch tells whether its resources were reserved.
    pub(super) fn judge_reservation(&mut self, now: Timestamp, update: &mut Update, frame: &mut Frame) {
        let tried = self.reserving.tried.remove(&update.task);
        if tried && update.state == TaskState::Failed && update.message.contains(NOT_RESERVED) {
            update.message = self.pause_reserving(now, &update.message, frame);
        }
    }

    /// Gives back what is reserved for services that do not need it on its agent. False when there is nothing of that kind.
    pub(super) fn unreserve(&self, offer: &Offer, refuse: Duration, frame: &mut Frame) -> bool {
        if !offer.resources.may_be_ours() {
            return false;
        }
        let Some(Registered { record, .. }) = self.index.agents.get(&offer.agent) else { return false };
        let surplus = offer.resources.read().into_iter().filter(|resource| {
            !resource.special
                && matches!(resource.claim(&self.settings.reservations.service), Claim::Ours(of) if !self.needs(&record.key, of))
        });
        let resources: Vec<Resource> = surplus.collect();
        if resources.is_empty() {
            return false;
        }
        let id: OfferId = offer.id.clone();
        frame.effects.push(Effect::Unreserve { offer: id, resources, refuse });
        true
    }

    /// Whether anything may be reserved for us: not in tests that are of something else.
    pub(super) fn has_reservations(&self) -> bool {
        !self.settings.reservations.service.is_empty()
    }

    /// Whether the end of this service leaves reserved what nobody needs.
    pub(super) fn leaves_reserved(&self, slot: &Slot) -> bool {
        let Slot::Agent(key, task_type) = slot else { return false };
        let spec = self.settings.specs.get(task_type);
        let service = spec.is_some_and(|spec| matches!(spec.goal, Goal::Running { .. }));
        service && self.has_reservations() && !self.needs(key, Some(*task_type))
    }

    /// Whether this service is to be launched on this agent, sooner or later.
    fn needs(&self, key: &AgentKey, task_type: Option<TaskType>) -> bool {
        let Some(task_type) = task_type.filter(|t| t.scope() == Scope::Agent) else { return false };
        let (Some(spec), Some(agent)) = (self.settings.specs.get(&task_type), self.state.agents.get(key))
        else {
            return false;
        };
        let wanted = !matches!(self.presence(key), Some(Presence::Excluded(_)))
            && matches!(spec.goal, Goal::Running { .. })
            && self.skipped(task_type, spec, agent).is_none();
        // What is offered is not what the one that lives has; but its successor may need more.
        let lives = agent.tasks.get(&task_type).is_some_and(|record| record.phase.live().is_some());
        wanted && (!lives || agent.holds().is_some() && self.changes(agent, task_type))
    }
}
