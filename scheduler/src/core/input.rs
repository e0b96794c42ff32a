//! What the core is told: checked, and free of any protocol's form.

use std::time::Duration;

use bytestring::ByteString;

use super::ids::{AgentId, AgentKey, FrameworkId, OfferId, TaskId, Timestamp};
use super::offered::Resources;
use super::rollout::Command;
use super::state::Slot;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The master said something.
    Event(Event),
    /// The master's list of agents, whole.
    Agents(Vec<Agent>),
    /// The last lines of a failed task's stderr, as [`Effect::ReadOutput`](super::Effect::ReadOutput) asked for.
    Output {
        /// What failed, where.
        slot: Slot,
        /// The task.
        task: TaskId,
        /// The lines.
        text: String,
    },
    /// An operator commands something.
    Command(Command),
    /// Time went by.
    Tick,
    /// The subscription is lost, and with it every offer.
    Disconnected,
    /// Nothing was decided for a while: state could not be stored, the process stood still, or the clock was set. What
    /// happened meanwhile is yet to be told.
    Unattended,
}

/// What the master says.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The master takes offer constraints. Comes right before [`Subscribed`](Self::Subscribed), and holds until the
    /// subscription ends.
    TakesConstraints,
    /// We are subscribed. Says who we are.
    Subscribed(FrameworkId),
    /// Resources that we may use.
    Offers(Vec<Offer>),
    /// An offer is no longer valid.
    Rescind(OfferId),
    /// Agents of ours go down for maintenance.
    InverseOffers(Vec<InverseOffer>),
    /// An inverse offer is no longer valid.
    RescindInverseOffer(OfferId),
    /// A task's state.
    Update(Update),
    /// An agent was removed, or an executor ended; the updates of its tasks follow.
    Failure(Option<AgentId>),
    /// The master refuses us: the subscription is over for good.
    Error(String),
}

/// Resources of one agent, allocated to one role.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// To be accepted or declined.
    pub id: OfferId,
    /// Whose resources they are: an [`AgentId`], which most often is in memory already.
    pub agent: ByteString,
    /// What there is.
    pub resources: Resources,
    /// When its agent goes down for maintenance, if it does.
    pub unavailability: Option<Unavailability>,
}

/// When an agent goes down for maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailability {
    /// From then on.
    pub start: Timestamp,
    /// For how long; without an end when there is none.
    pub duration: Option<Duration>,
}

impl Unavailability {
    /// When it is over, if ever.
    pub fn end(self) -> Option<Timestamp> {
        Some(self.start.after(self.duration?))
    }
}

/// The master asks whether an agent may go down.
#[derive(Debug, Clone, PartialEq)]
pub struct InverseOffer {
    /// To be accepted.
    pub id: OfferId,
    /// Which agent; none when the whole framework is meant.
    pub agent: Option<AgentId>,
    /// When.
    pub unavailability: Unavailability,
}

/// One agent of the inventory.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Its address.
    pub key: AgentKey,
    /// The ID of its registration.
    pub id: AgentId,
    /// Its Mesos version.
    pub version: String,
    /// What the master says of it.
    pub standing: Standing,
    /// Its attributes as `name:value`, as far as they are texts or numbers.
    pub attributes: Vec<String>,
    /// Its fault domain as `region/zone`, where it has one.
    pub domain: Option<String>,
    /// When it registered again with this master, by the master's clock; none of one that has done that once only. So it is
    /// not by a change of masters.
    pub registered_again: Option<Timestamp>,
}

/// What the master says of an agent that it lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is connected and takes tasks.
    Active,
    /// It is not connected.
    Disconnected,
    /// It was registered with the master before this one, which has not heard of it yet. The list says no more of it
    /// than who it is, and where.
    Recovering,
    /// An operator deactivated it (`DEACTIVATE_AGENT`): its tasks go on, and it gets nothing new.
    Deactivated,
    /// An operator drains it (`DRAIN_AGENT`): Mesos ends its tasks, and it gets nothing new before `REACTIVATE_AGENT`.
    Draining {
        /// Since when, where the master says it.
        since: Option<Timestamp>,
    },
}

/// A task's state as the master or the agent tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The task.
    pub task: TaskId,
    /// Its agent; the master leaves it out for tasks that it does not know.
    pub agent: Option<AgentId>,
    /// Its state.
    pub state: TaskState,
    /// For people, and the executor's word on how the command ended.
    pub message: String,
    /// The result of the health check, where there is one.
    pub healthy: Option<bool>,
    /// The result of the check, where there is one.
    pub check: CheckResult,
    /// To be acknowledged with; none when no acknowledgement is wanted.
    pub uuid: Option<Vec<u8>>,
}

impl Update {
    /// One that says no more than the state, and wants no acknowledgement: as the master answers about a task that it does
    /// not know.
    pub fn bare(task: TaskId, state: TaskState) -> Self {
        Self {
            task,
            agent: None,
            state,
            message: String::new(),
            healthy: None,
            check: CheckResult::None,
            uuid: None,
        }
    }
}

/// What the task's check said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckResult {
    /// The update does not say, or the task has no check.
    None,
    /// There is a check, and no result yet.
    Pending,
    /// The check's command exited with this status.
    Exited(i32),
}

/// Mesos' task states, as far as they make a difference here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Known, and not running yet (`TASK_STAGING`, `TASK_STARTING`).
    Starting,
    /// `TASK_RUNNING`.
    Running,
    /// `TASK_KILLING`.
    Killing,
    /// `TASK_FINISHED`.
    Finished,
    /// Ended otherwise (`TASK_FAILED`, `TASK_KILLED`, `TASK_ERROR`).
    Failed,
    /// Ended because its agent drains (`TASK_KILLED` or `TASK_GONE_BY_OPERATOR` with `REASON_AGENT_DRAINING`).
    Drained,
    /// Never started, through no fault of its own (`TASK_DROPPED`): its offer was no longer valid, or its agent was lost
    /// in that moment.
    Dropped,
    /// Lost with its agent, or never heard of (`TASK_GONE`, `TASK_GONE_BY_OPERATOR`, `TASK_UNKNOWN`).
    Gone,
    /// Its agent is partitioned: it may come back (`TASK_UNREACHABLE`, `TASK_LOST`).
    Unreachable,
}

impl TaskState {
    /// Whether the task is over.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Drained | Self::Dropped | Self::Gone)
    }
}
