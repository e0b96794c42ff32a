//! Every decision of the scheduler, as a pure function: `(now, input) -> Frame`.
//!
//! No clock, no I/O, no randomness: a whole cluster's life can be replayed in a test in milliseconds. The driver
//! stores a frame's changes before it carries out its effects.

mod demand;
mod frame;
mod ids;
mod input;
mod inventory;
mod offers;
mod progress;
mod reconcile;
mod resources;
mod spec;
mod state;
#[cfg(test)]
mod tests;
mod updates;
mod view;

use std::collections::{BTreeMap, HashMap};

pub use frame::{AfterFailure, Decision, Effect, Frame, Launch};
pub use ids::{AgentId, AgentKey, FrameworkId, OfferId, Scope, TargetHash, TaskId, TaskType, Timestamp};
pub use input::{Agent, CheckResult, Event, Input, Offer, TaskState, Update};
pub use resources::{Needs, Reservation, Resource, Shortage, Value, thousandths};
pub use spec::{Goal, MesosVersion, Selector, Settings, Spec};
pub use state::{AgentRecord, ClusterRecord, Phase, Run, Slot, State, StateChange, TaskRecord, Tasks};
pub use view::{AgentView, PhaseView, PlanView, Status, StepView, TaskView, View};

use demand::Demand;
use reconcile::Reconciliation;
use state::Index;

/// The scheduler's mind.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    state: State,
    index: Index,
    demand: Demand,
    reconciliation: Reconciliation,
    /// What the inventory says of each agent, as far as it is not stored; none before the first inventory.
    inventory: Option<HashMap<AgentKey, Presence>>,
    /// Which agents' last offer was too small, for what, and why.
    shortages: BTreeMap<AgentKey, (TaskType, Shortage)>,
}

/// What the last inventory said of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Presence {
    /// It takes tasks.
    Active,
    /// It takes tasks, and the operator does not want ours there.
    Excluded(String),
    /// It is not connected, or no longer listed.
    Absent { since: Timestamp },
}

impl Core {
    /// A core that goes on from `state`.
    pub fn new(settings: Settings, state: State) -> Self {
        let index = Index::of(&state);
        Self {
            settings,
            state,
            index,
            demand: Demand::default(),
            reconciliation: Reconciliation::default(),
            inventory: None,
            shortages: BTreeMap::new(),
        }
    }

    /// Decides what follows from `input`.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Frame {
        let mut frame = Frame::default();
        match input {
            Input::Event(Event::Subscribed(id)) => self.subscribed(now, id, &mut frame),
            Input::Event(Event::Offers(offers)) => self.offers(now, offers, &mut frame),
            Input::Event(Event::Update(update)) => self.update(now, update, &mut frame),
            // No offer is kept, so none can be rescinded; what a failure means comes with the tasks' updates.
            Input::Event(Event::Rescind(_)) => {}
            Input::Event(Event::Failure(_)) => frame.effects.push(Effect::RefreshInventory),
            Input::Event(Event::Error(message)) => frame.effects.push(Effect::Abort(message)),
            Input::Agents(agents) => self.agents(now, agents, &mut frame),
            Input::Output { slot, text } => self.output(&slot, &text, &mut frame),
            Input::Tick => {
                self.reconciliation_tick(now, &mut frame);
                self.retry_kills(now, &mut frame);
            }
            Input::Disconnected => self.demand.disconnected(),
        }
        self.settle_demand(now, &mut frame);
        frame
    }

    /// What is stored.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The agent's address and what else is stored of it, by the ID of its registration.
    pub fn agent(&self, id: &AgentId) -> Option<&AgentRecord> {
        self.state.agents.get(self.index.agents.get(id)?)
    }

    fn subscribed(&mut self, now: Timestamp, id: FrameworkId, frame: &mut Frame) {
        if self.state.framework_id.as_ref() != Some(&id) {
            self.change(frame, StateChange::Framework { id });
        }
        self.demand.subscribed();
        self.reconcile_all(now, frame);
        frame.effects.push(Effect::RefreshInventory);
    }

    /// The one way in which state changes.
    fn change(&mut self, frame: &mut Frame, change: StateChange) {
        self.index.update(&self.state, &change);
        let touched = match &change {
            StateChange::Framework { .. } => None,
            StateChange::Cluster(_) => Some(None),
            StateChange::Agent(record) => Some(Some(record.key.clone())),
            StateChange::Forget { key } => Some(Some(key.clone())),
        };
        self.state.apply(change.clone());
        frame.changes.push(change);
        match touched {
            Some(Some(key)) => self.reconsider(&key),
            Some(None) => self.reconsider_all(),
            None => {}
        }
    }

    /// Stores `record` in its slot.
    fn put(&mut self, frame: &mut Frame, slot: &Slot, record: TaskRecord) {
        match slot {
            Slot::Cluster(task_type) => {
                let mut cluster = self.state.cluster.clone();
                cluster.tasks.insert(*task_type, record);
                self.change(frame, StateChange::Cluster(cluster));
            }
            Slot::Agent(key, task_type) => {
                // A slot comes from the index, which is derived from the records.
                let Some(mut agent) = self.state.agents.get(key).cloned() else { return };
                agent.tasks.insert(*task_type, record);
                self.change(frame, StateChange::Agent(Box::new(agent)));
            }
        }
    }
}
