//! What operators see of the state, in the DC/OS SDK's terms.

mod picture;
mod rollout;

use serde::{Serialize, Serializer};

pub use rollout::{PlaceView, RolloutView};

use super::ids::{AgentId, AgentKey, FrameworkId, TargetHash, TaskId, TaskType, Timestamp};

/// Status of a step, a phase or a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Its turn has not come.
    Pending,
    /// Its turn has come, and it waits for what it needs.
    Prepared,
    /// Being launched.
    Starting,
    /// Running, not ready.
    Started,
    /// The goal is reached.
    Complete,
    /// An operator must act.
    Error,
    /// It failed and is tried again.
    Delayed,
    /// An operator may allow what it needs.
    Waiting,
    /// A plan or phase some of whose steps are complete or under way.
    InProgress,
}

/// A consistent picture of everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// Our ID.
    pub framework_id: Option<FrameworkId>,
    /// What every agent is to have, as it is now.
    pub deploy: PlanView,
    /// What a changed target asks for.
    pub update: PlanView,
    /// What broke.
    pub repair: PlanView,
    /// How the rollout stands.
    pub rollout: RolloutView,
    /// Services that are launched again, and whether that is held.
    pub recovery: RecoveryView,
    /// Every agent; those that are left alone because another has their address come last.
    pub agents: Vec<AgentView>,
    /// What the configuration does not serve, or soon will not.
    pub preflight: Vec<FindingView>,
}

/// Something of the cluster that the configuration does not go with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FindingView {
    /// The option that says it.
    pub check: &'static str,
    /// `fault`: agents that have nothing yet get nothing. `warning`: it is near, or an option does not do what it says.
    pub severity: &'static str,
    /// What is wrong, and what would be right.
    pub text: String,
}

/// Recoveries: services that were ready before and are launched again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecoveryView {
    /// How many are under way.
    pub under_way: usize,
    /// How many may be, at present.
    pub at_most: usize,
    /// Agents with a service that was ready before and is not now, or that went away with one a while ago.
    pub agents_down: usize,
    /// How many agents there are to count.
    pub agents: usize,
    /// With more than so many agents down, recoveries are held.
    pub mass_failure_above: usize,
    /// Since when they are held, as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    pub held_since: Option<Timestamp>,
    /// Why they are held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// The round in which it is looked whether what is installed is still there; none before the first, and where it never
    /// is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looks: Option<LooksView>,
}

/// A round in which it is looked whether what is installed is still there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LooksView {
    /// Which one it is, counted from the first install on.
    pub round: u64,
    /// When it began, as RFC 3339 has it.
    #[serde(serialize_with = "rfc3339")]
    pub since: Timestamp,
    /// How many agents are looked at now, or wait for an offer for that.
    pub under_way: usize,
    /// How many wait for their turn.
    pub waiting: usize,
}

/// A plan: phases of steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanView {
    /// As a whole.
    pub status: Status,
    /// The reasons of its steps in ERROR.
    pub errors: Vec<String>,
    /// How its phases follow each other.
    pub strategy: &'static str,
    /// A phase a task type.
    pub phases: Vec<PhaseView>,
}

/// One task type, everywhere.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseView {
    /// Names it in commands.
    pub id: String,
    /// The task type.
    pub name: &'static str,
    /// As a whole.
    pub status: Status,
    /// How its steps follow each other.
    pub strategy: &'static str,
    /// One a place.
    pub steps: Vec<StepView>,
}

/// One task type in one place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepView {
    /// Names it in commands.
    pub id: String,
    /// The agent's address, or the task type when it runs once.
    pub name: String,
    /// Where it stands.
    pub status: Status,
    /// Why.
    pub message: String,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentView {
    /// Its address.
    pub agent: AgentKey,
    /// The ID of its registration.
    pub agent_id: AgentId,
    /// Its Mesos version.
    pub version: String,
    /// `active`, `excluded`, `duplicate`, `deactivated`, `draining`, `recovering` or `absent`; `unknown` before the
    /// first inventory.
    pub presence: &'static str,
    /// Since when it is absent, as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    pub absent_since: Option<Timestamp>,
    /// As a whole.
    pub status: Status,
    /// What it waits for, or what went wrong.
    pub reason: String,
    /// What its last offer had too little of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortage: Option<ShortageView>,
    /// Since when it waits for an offer and gets none, as RFC 3339 has it; none while offers come.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    pub no_offer_since: Option<Timestamp>,
    /// The slot of `rollout.max-concurrent-restarts` that it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotView>,
    /// What it waits for before something may be restarted there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for_slot: Option<String>,
    /// How it stands in the rollout; none when it is not concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<PlaceView>,
    /// A task type each, in order.
    pub tasks: Vec<TaskView>,
}

/// A slot for a launch that may restart Docker or the Mesos agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlotView {
    /// What is, or was, launched.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Since when it is held, as RFC 3339 has it.
    #[serde(serialize_with = "rfc3339")]
    pub since: Timestamp,
    /// When the agent is given up unless it is healthy by then.
    #[serde(serialize_with = "rfc3339")]
    pub until: Timestamp,
}

/// What an agent has too little of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShortageView {
    /// What it is for.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// `cpus` or `mem`.
    pub resource: &'static str,
    /// How much is needed; `mem` in MB (2^20 bytes).
    pub needed: f64,
    /// How much the last offer had that may be used.
    pub offered: f64,
    /// Since when, as RFC 3339 has it.
    #[serde(serialize_with = "rfc3339")]
    pub since: Timestamp,
}

/// One task type on one agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskView {
    /// The task type.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Where it stands.
    pub status: Status,
    /// The launch that is alive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// What it was launched with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetHash>,
    /// Whether the configuration has changed since it was launched.
    pub outdated: bool,
    /// Failures in a row.
    pub failures: u32,
    /// Since when it stands there, as RFC 3339 has it; none where it never was, or is to be launched again.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    pub since: Option<Timestamp>,
    /// Of an install: when it was last looked at, or done, as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    pub looked_at: Option<Timestamp>,
    /// Why the agent does not get it, or gets no new one; such a step counts as complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Why it stands there.
    pub reason: String,
}

/// A moment as people read it.
fn rfc3339<S: Serializer>(moment: &impl Moment, serializer: S) -> Result<S::Ok, S::Error> {
    match moment.moment() {
        Some(moment) => serializer.collect_str(&moment),
        None => serializer.serialize_none(),
    }
}

/// A moment that may be none.
trait Moment {
    fn moment(&self) -> Option<Timestamp>;
}

impl Moment for Timestamp {
    fn moment(&self) -> Option<Timestamp> {
        Some(*self)
    }
}

impl Moment for Option<Timestamp> {
    fn moment(&self) -> Option<Timestamp> {
        *self
    }
}
