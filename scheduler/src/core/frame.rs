//! What the core answers: what to store, what to do once that is stored, and why.

use std::collections::BTreeSet;
use std::time::Duration;

use super::ids::{AgentId, OfferId, TargetHash, TaskId, TaskType};
use super::resources::Resource;
use super::rollout::{CommandError, RolloutNews};
use super::state::{Slot, StateChange};

/// The answer to one input.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    /// To be stored before any effect is carried out.
    pub changes: Vec<StateChange>,
    /// Calls to the master, in this order.
    pub effects: Vec<Effect>,
    /// Why: for logs.
    pub decisions: Vec<Decision>,
    /// What became of an operator's command; none without one.
    pub answer: Option<Result<String, CommandError>>,
}

/// Something to be done in the world. Each may be lost; the core sees to it that none is needed twice, or that
/// doing it twice is harmless.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Launch one task with part of an offer.
    Launch(Launch),
    /// Give offers back, not to be offered again for a while unless there is more.
    Decline {
        /// The offers.
        offers: Vec<OfferId>,
        /// How long resources that are no more than these stay away.
        refuse: Duration,
    },
    /// Give an offer back, and with it reservations of ours that are no longer needed.
    Unreserve {
        /// The offer.
        offer: OfferId,
        /// The reserved resources.
        resources: Vec<Resource>,
        /// How long resources that are no more than these stay away.
        refuse: Duration,
    },
    /// Reserve a part of an offer, and launch nothing with it yet. The rest goes back.
    Reserve {
        /// The offer.
        offer: OfferId,
        /// The part, with the reservations that it is to have.
        resources: Vec<Resource>,
        /// How long resources that are no more than these stay away.
        refuse: Duration,
    },
    /// Agree that agents go down for maintenance.
    AcceptInverse(Vec<OfferId>),
    /// Confirm that an update is stored.
    Acknowledge {
        /// The task.
        task: TaskId,
        /// Its agent.
        agent: AgentId,
        /// As the update had it.
        uuid: Vec<u8>,
    },
    /// End a task.
    Kill {
        /// The task.
        task: TaskId,
        /// Its agent.
        agent: AgentId,
    },
    /// Ask for the state of these tasks; of all when there are none.
    Reconcile(Vec<(TaskId, AgentId)>),
    /// Read the last lines that a failed task wrote to its stderr, and tell the core.
    ReadOutput {
        /// What, where.
        slot: Slot,
        /// The task.
        task: TaskId,
        /// Its agent.
        agent: AgentId,
    },
    /// Take offers again, and forget all filters.
    Revive,
    /// Want offers of the agents with these host names only; of all when there is no list.
    Constrain(Option<BTreeSet<String>>),
    /// Take no more offers.
    Suppress,
    /// Ask for the inventory now.
    RefreshInventory,
    /// Stop: going on is not possible.
    Abort(String),
}

/// One launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// The offer that pays.
    pub offer: OfferId,
    /// Where.
    pub agent: AgentId,
    /// What.
    pub task_type: TaskType,
    /// With which configuration.
    pub target: TargetHash,
    /// Its ID.
    pub task: TaskId,
    /// Whether it may restart Docker or the Mesos agent.
    pub may_restart: bool,
    /// Whether it only looks: the installer's `check`, where otherwise it is `apply`.
    pub only_looks: bool,
    /// The part of the offer that it takes, with the reservations that it is to have.
    pub resources: Vec<Resource>,
    /// What of that must be reserved first.
    pub reserve: Vec<Resource>,
}

/// Why something was, or was not, done.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// A launch.
    Launched {
        /// What, where.
        slot: Slot,
        /// The task.
        task: TaskId,
        /// Its configuration.
        target: TargetHash,
    },
    /// A goal was reached.
    Reached {
        /// What, where.
        slot: Slot,
    },
    /// A task failed.
    Failed {
        /// What, where.
        slot: Slot,
        /// Why.
        reason: String,
        /// What follows.
        then: AfterFailure,
    },
    /// An install needs a restart of Docker or the Mesos agent.
    NeedsRestart {
        /// What, where.
        slot: Slot,
        /// As it said.
        reason: String,
    },
    /// An agent cannot have a task type.
    Skipped {
        /// What, where.
        slot: Slot,
        /// As it said.
        reason: String,
    },
    /// A launch may restart something: its agent takes a slot.
    Disrupts {
        /// What, where.
        slot: Slot,
    },
    /// An agent that was disrupted is healthy: its slot is free.
    DisruptionEnded {
        /// What, where.
        slot: Slot,
    },
    /// An agent that was disrupted is not healthy in time: its slot is free, and it waits for an operator.
    DisruptionFailed {
        /// What, where.
        slot: Slot,
        /// What is not as it should be.
        reason: String,
    },
    /// An install that is done is looked at.
    Looks {
        /// What, where.
        slot: Slot,
        /// The task.
        task: TaskId,
    },
    /// An install was done, and something of it is missing or has changed since.
    Vanished {
        /// What, where.
        slot: Slot,
        /// As it said.
        reason: String,
    },
    /// What had vanished is there again.
    PutBack {
        /// What, where.
        slot: Slot,
        /// What it was, as it was said.
        what: String,
    },
    /// Whether an install that is done is whole could not be told.
    Unchecked {
        /// What, where.
        slot: Slot,
        /// Why.
        reason: String,
    },
    /// What happens in a rollout.
    Rollout(RolloutNews),
    /// A task was found running that no record tells of, and taken over.
    Adopted {
        /// What, where.
        slot: Slot,
        /// The task.
        task: TaskId,
    },
    /// A task is ended that must not run.
    Killed {
        /// The task.
        task: TaskId,
        /// Why.
        reason: String,
    },
    /// Mesos dropped a launch: it is made again.
    Dropped {
        /// What, where.
        slot: Slot,
        /// Mesos' words.
        reason: String,
    },
    /// A task was ended because its agent drains.
    Drained {
        /// What, where.
        slot: Slot,
    },
    /// So many agents are down that recoveries are held.
    MassFailure {
        /// How many, of how many, and what follows.
        what: String,
    },
    /// Recoveries are no longer held.
    MassFailureEnded {
        /// How many agents are still down, of how many.
        what: String,
    },
    /// An agent is left alone because another has its place.
    Duplicate {
        /// Which, and why.
        what: String,
    },
    /// An agent was away for so long that its record is removed.
    AgentForgotten {
        /// Its address and since when it was away.
        what: String,
    },
    /// The master did not reserve what it was asked to.
    NotReserved {
        /// What it said, what follows, and what helps.
        reason: String,
    },
    /// A task is running that was launched after all that was stored when we began: what is stored was older than what
    /// had been done.
    Outdated {
        /// The task, when it was launched, and how far the records went.
        what: String,
    },
    /// An agent joined, came back, or was rebuilt.
    AgentSeen {
        /// Its address and what is new about it.
        what: String,
    },
    /// An agent is no longer in the inventory.
    AgentAbsent {
        /// Its address.
        what: String,
    },
}

/// What a failure leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Launched again after this time.
    Retry(Duration),
    /// Nothing until an operator acts.
    Hold,
}
