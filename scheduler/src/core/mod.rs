//! Every decision of the scheduler, as a pure function: `(now, input) -> Frame`.
//!
//! No clock, no I/O, no randomness: a whole cluster's life can be replayed in a test in milliseconds. The driver
//! stores a frame's changes before it carries out its effects.

mod clock;
mod dated;
mod demand;
mod disruption;
mod drift;
mod frame;
mod ids;
mod index;
mod input;
mod inventory;
mod listing;
mod maintenance;
mod notices;
mod offered;
mod offers;
mod progress;
mod questions;
mod reconcile;
mod recovery;
mod registry;
mod reservations;
mod resources;
mod rollout;
mod share;
mod spec;
mod state;
#[cfg(test)]
mod tests;
mod updates;
mod view;

use std::collections::HashMap;
use std::sync::Arc;

pub use drift::{LookedAt, Round};
pub use frame::{AfterFailure, Decision, Effect, Frame, Launch};
pub use ids::{AgentId, AgentKey, FrameworkId, OfferId, Scope, TargetHash, TaskId, TaskType, Timestamp};
pub use input::{
    Agent, CheckResult, Event, Input, InverseOffer, Offer, Standing, TaskState, Unavailability, Update,
};
pub use offered::Resources;
pub use resources::{Needs, RESERVATION_LABEL, Reservation, Resource, Shortage, thousandths};
pub use rollout::{
    Command, CommandError, Earlier, GivenUp, OnFailure, Order, Place, Plan, Rollout, RolloutNews,
    RolloutRecord, RolloutStrategy, Stage, Verb, WindowError, Windows,
};
pub use share::{Share, ShareError};
pub use spec::{Capacity, Goal, MesosVersion, MostAgents, Reservations, Restart, Selector, Settings, Spec};
pub use state::{
    AgentRecord, ClusterRecord, Definition, Disruption, Phase, Replaced, Run, Slot, State, StateChange,
    TaskRecord, Tasks,
};
pub use view::{
    AgentView, FindingView, LooksView, PhaseView, PlaceView, PlanView, RecoveryView, RolloutView,
    ShortageView, Status, StepView, TaskView, View,
};

use clock::Clock;
use demand::Demand;
use disruption::Settling;
use drift::Drift;
use index::Index;
use listing::Inventory;
use maintenance::Maintenance;
use notices::Notices;
use reconcile::Reconciliation;
use recovery::Recovery;
use reservations::Reserving;
use rollout::Rolling;

/// The scheduler's mind.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    state: State,
    index: Index,
    demand: Demand,
    reconciliation: Reconciliation,
    maintenance: Maintenance,
    reserving: Reserving,
    /// None before the first inventory.
    inventory: Option<Inventory>,
    recovery: Recovery,
    settling: Settling,
    drift: Drift,
    rolling: Rolling,
    notices: Notices,
    /// Whose last words are being read, and what is known of its failure until then.
    reading: HashMap<Slot, (TaskId, Option<String>)>,
    /// Tasks that have ended, as the master told when it was asked, and of which nobody has said how.
    untold: HashMap<TaskId, Slot>,
    /// Whose launches Mesos dropped, and how often in a row.
    dropped: HashMap<Slot, u32>,
    clock: Clock,
}

impl Core {
    /// A core that goes on from `state`.
    pub fn new(mut settings: Settings, mut state: State) -> Self {
        state.share_names();
        let rolling = Rolling::new(&mut settings, &state);
        let index = Index::of(&state);
        let reconciliation = Reconciliation::new(&settings, &state);
        let mut core = Self {
            settings,
            state,
            index,
            demand: Demand::default(),
            reconciliation,
            maintenance: Maintenance::default(),
            reserving: Reserving::default(),
            inventory: None,
            recovery: Recovery::default(),
            settling: Settling::default(),
            drift: Drift::default(),
            rolling,
            notices: Notices::default(),
            reading: HashMap::new(),
            untold: HashMap::new(),
            dropped: HashMap::new(),
            clock: Clock::default(),
        };
        core.count_places();
        core
    }

    /// Decides what follows from `input`, at the time that the wall clock says. Where that was set back, time goes on
    /// all the same, at half its speed until the clock has caught up.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Frame {
        let now = self.clock.tell(now);
        let mut frame = Frame::default();
        if input == Input::Unattended {
            // Before anything is too late.
            self.attend(now);
        }
        self.expire_recoveries(now);
        self.expire_disruptions(now, &mut frame);
        match input {
            Input::Event(Event::Subscribed(id)) => self.subscribed(now, id, &mut frame),
            Input::Event(Event::Offers(offers)) => self.offers(now, offers, &mut frame),
            Input::Event(Event::Update(update)) => self.update(now, update, &mut frame),
            // No offer is kept, so none can be rescinded; what a failure means comes with the tasks' updates.
            Input::Event(Event::Rescind(_)) | Input::Unattended => {}
            Input::Event(Event::TakesConstraints) => self.demand.takes_constraints(),
            Input::Event(Event::InverseOffers(offers)) => self.inverse_offers(offers, &mut frame),
            Input::Event(Event::RescindInverseOffer(offer)) => self.inverse_offer_rescinded(&offer),
            Input::Event(Event::Failure(_)) => frame.effects.push(Effect::RefreshInventory),
            Input::Event(Event::Error(message)) => frame.effects.push(Effect::Abort(message)),
            Input::Agents(agents) => self.agents(now, agents, &mut frame),
            Input::Output { slot, task, text } => self.output(&slot, &task, &text, &mut frame),
            Input::Command(command) => frame.answer = Some(self.command(now, &command, &mut frame)),
            Input::Tick => {
                self.maintenance.tick(now);
                self.maintenance_changed();
                self.reconciliation_tick(now, &mut frame);
                self.retry_kills(now, &mut frame);
            }
            Input::Disconnected => {
                self.demand.disconnected();
                self.maintenance.disconnected();
                self.maintenance_changed();
            }
        }
        self.settle_disruptions(now, &mut frame);
        self.settle_rollout(now, &mut frame);
        self.settle_recovery(now, &mut frame);
        self.settle_looks(now, &mut frame);
        self.settle_demand(now, &mut frame);
        frame
    }

    /// Nothing was heard for a while: nobody's time has gone by, and who was well must be so anew.
    fn attend(&mut self, now: Timestamp) {
        self.reconciliation.attend(now);
        self.index.recoveries.renew(now);
        self.settling.renew(now);
        self.rolling.attend(now);
    }

    /// What is stored.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The agent's address and what else is stored of it, by the ID of its registration.
    pub fn agent(&self, id: &AgentId) -> Option<&AgentRecord> {
        self.state.agents.get(self.index.key(id)?).map(AsRef::as_ref)
    }

    fn subscribed(&mut self, now: Timestamp, id: FrameworkId, frame: &mut Frame) {
        if self.state.framework_id.as_ref() != Some(&id) {
            self.change(frame, StateChange::Framework { id });
        }
        self.demand.subscribed();
        self.end_again();
        self.expect_offers(now);
        self.renew_turns(now);
        self.reconcile_all(now, frame);
        frame.effects.push(Effect::RefreshInventory);
    }

    /// The one way in which state changes.
    fn change(&mut self, frame: &mut Frame, change: StateChange) {
        let had_place = self.has_place();
        let replaced = self.state.apply(change.clone());
        self.index.update(&replaced, &change);
        if let Replaced::Agent(old) = &replaced {
            let new = match &change {
                StateChange::Agent(record) => Some(record.as_ref()),
                _ => None,
            };
            self.count_place(old.as_deref(), new);
        }
        match &change {
            StateChange::Framework { .. } => {}
            StateChange::Cluster(_) => {
                self.reconsider_cluster();
                self.reconsider_looks();
            }
            StateChange::Agent(record) => {
                self.reconsider_record(record);
                self.recount_record(&record.key, Some(record));
                self.watch_record(&record.key, Some(record));
            }
            StateChange::Forget { key } => {
                self.reconsider(key);
                self.recount(key);
                self.watch(key);
                self.unqueue(key);
                self.forget_look(key);
            }
        }
        if self.has_place() != had_place {
            self.reconsider_cluster();
        }
        frame.changes.push(change);
    }

    /// Stores `record` in its slot.
    fn put(&mut self, frame: &mut Frame, slot: &Slot, record: TaskRecord) {
        match slot {
            Slot::Cluster(task_type) => {
                let mut cluster = self.state.cluster.clone();
                cluster.tasks.insert(*task_type, record);
                self.change(frame, StateChange::Cluster(cluster.into()));
            }
            Slot::Agent(key, task_type) => {
                self.edit(key, frame, |agent| drop(agent.tasks.insert(*task_type, record)));
            }
        }
    }

    /// Stores `edit` of an agent's record, where there is one.
    fn edit(&mut self, key: &AgentKey, frame: &mut Frame, edit: impl FnOnce(&mut AgentRecord)) {
        if let Some(record) = self.state.agents.get(key).cloned() {
            self.edit_record(&record, frame, edit);
        }
    }

    /// The same of a record that is stored. What is kept aside goes when nothing of ours is left there.
    fn edit_record(&mut self, record: &AgentRecord, frame: &mut Frame, edit: impl FnOnce(&mut AgentRecord)) {
        let mut record = record.clone();
        edit(&mut record);
        let change = if record.aside && record.is_over() {
            StateChange::Forget { key: record.key }
        } else {
            StateChange::Agent(Arc::new(record))
        };
        self.change(frame, change);
    }

    /// The record that a slot is in, of an agent's slot.
    fn record_of(&self, slot: &Slot) -> Option<&AgentRecord> {
        match slot {
            Slot::Cluster(_) => None,
            Slot::Agent(key, _) => self.state.agents.get(key).map(AsRef::as_ref),
        }
    }
}
