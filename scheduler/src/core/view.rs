//! What operators see of the state, in the DC/OS SDK's terms.

use serde::Serialize;

use super::ids::{AgentId, AgentKey, FrameworkId, Scope, TargetHash, TaskId, TaskType};
use super::progress::Next;
use super::state::{AgentRecord, Phase, Run, Slot, TaskRecord};
use super::{Core, Presence};

/// Status of a step, a phase or a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Its turn has not come.
    Pending,
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
    /// A plan or phase some of whose steps are complete or under way.
    InProgress,
}

/// A consistent picture of everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// Our ID.
    pub framework_id: Option<FrameworkId>,
    /// The first install.
    pub deploy: PlanView,
    /// Every agent.
    pub agents: Vec<AgentView>,
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
    /// `active`, `excluded` or `absent`; `unknown` before the first inventory.
    pub presence: &'static str,
    /// As a whole.
    pub status: Status,
    /// What it waits for, or what went wrong.
    pub reason: String,
    /// A task type each, in order.
    pub tasks: Vec<TaskView>,
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
    /// Why it stands there.
    pub reason: String,
}

impl Core {
    /// A picture of everything, for the API.
    pub fn view(&self) -> View {
        let agents: Vec<AgentView> = self.state.agents.values().map(|agent| self.agent_view(agent)).collect();
        let mut phases = Vec::new();
        for (task_type, spec) in &self.settings.specs {
            if !spec.enabled {
                continue;
            }
            let step = |name: &str, task: &TaskView| StepView {
                id: format!("{task_type}.{name}"),
                name: name.to_owned(),
                status: task.status,
                message: task.reason.clone(),
            };
            let steps: Vec<StepView> = match task_type.scope() {
                Scope::Cluster => {
                    let task = self.task_view(*task_type, self.state.cluster.tasks.get(task_type));
                    vec![step(task_type.name(), &task)]
                }
                // An agent that is away is none of the plan's: clusters shrink.
                Scope::Agent => agents
                    .iter()
                    .filter(|agent| agent.presence == "active")
                    .filter_map(|agent| {
                        let task = agent.tasks.iter().find(|task| task.task_type == *task_type)?;
                        Some(step(&agent.agent.0, task))
                    })
                    .collect(),
            };
            let status = combined(steps.iter().map(|step| step.status));
            let (id, name) = (task_type.name().to_owned(), task_type.name());
            phases.push(PhaseView { id, name, status, strategy: "parallel", steps });
        }
        let status = match combined(phases.iter().map(|phase| phase.status)) {
            // Before the first inventory nobody knows what there is to do.
            Status::Complete | Status::InProgress if self.inventory.is_none() => Status::Pending,
            status => status,
        };
        let errors = phases
            .iter()
            .flat_map(|phase| &phase.steps)
            .filter(|step| step.status == Status::Error)
            .map(|step| format!("{}: {}", step.id, step.message))
            .collect();
        let deploy = PlanView { status, errors, strategy: "serial", phases };
        View { framework_id: self.state.framework_id.clone(), deploy, agents }
    }

    fn agent_view(&self, agent: &AgentRecord) -> AgentView {
        let presence = match self.inventory.as_ref().map(|inventory| inventory.get(&agent.key)) {
            None => "unknown",
            Some(Some(Presence::Active)) => "active",
            Some(Some(Presence::Excluded(_))) => "excluded",
            Some(Some(Presence::Absent { .. }) | None) => "absent",
        };
        let tasks: Vec<TaskView> = self
            .settings
            .specs
            .iter()
            .filter(|(t, spec)| t.scope() == Scope::Agent && Self::skipped(spec, &agent.version).is_none())
            .map(|(t, _)| self.task_view(*t, self.state.task(&Slot::Agent(agent.key.clone(), *t))))
            .collect();
        let reason = match self.next_on(&agent.key) {
            Next::Launch(task_type, not_before) => {
                let failure = self.state.task(&Slot::Agent(agent.key.clone(), task_type));
                let failure = failure.and_then(|record| record.failure.clone());
                let shortage = self.shortages.get(&agent.key);
                let shortage = shortage
                    .filter(|(short, _)| *short == task_type)
                    .map(|(_, shortage)| format!("{task_type} {shortage}"));
                let turn = if not_before.is_some() { "is launched again" } else { "waits for an offer" };
                shortage.or(failure).unwrap_or_else(|| format!("{task_type} {turn}"))
            }
            Next::Wait(reason) | Next::Held(reason) => reason,
            Next::Complete => self.skips(agent),
        };
        AgentView {
            agent: agent.key.clone(),
            agent_id: agent.id.clone(),
            version: agent.version.clone(),
            presence,
            status: combined(tasks.iter().map(|task| task.status)),
            reason,
            tasks,
        }
    }

    /// The task types that this agent does not get, and why.
    fn skips(&self, agent: &AgentRecord) -> String {
        let of_agents = self.settings.specs.iter().filter(|(t, _)| t.scope() == Scope::Agent);
        let skips = of_agents.filter_map(|(task_type, spec)| {
            Some(format!("{task_type} is skipped: {}", Self::skipped(spec, &agent.version)?))
        });
        skips.collect::<Vec<_>>().join("; ")
    }

    fn task_view(&self, task_type: TaskType, record: Option<&TaskRecord>) -> TaskView {
        let target = record.and_then(|record| record.target.clone());
        let current = self.settings.specs.get(&task_type).map(|spec| &spec.target);
        let (status, reason) = match record.map(|record| &record.phase) {
            None => (Status::Pending, String::new()),
            Some(Phase::Launched { .. }) => (Status::Starting, "launched".to_owned()),
            Some(Phase::Active { run: Run::Starting, .. }) => (Status::Starting, "starting".to_owned()),
            Some(Phase::Active { run: Run::NotReady, .. }) => (Status::Started, "not ready".to_owned()),
            Some(Phase::Active { run: Run::Unreachable, .. }) => (Status::Started, "unreachable".to_owned()),
            Some(Phase::Active { run: Run::Ready, .. }) => (Status::Complete, "ready".to_owned()),
            Some(Phase::Done { .. }) => (Status::Complete, "done".to_owned()),
            Some(Phase::Backoff { .. }) => (Status::Delayed, String::new()),
            Some(Phase::Held { .. }) => (Status::Error, String::new()),
        };
        let failure =
            record.filter(|record| !record.phase.at_goal()).and_then(|record| record.failure.clone());
        TaskView {
            task_type,
            status,
            task_id: record.and_then(|record| record.phase.live()).map(|(task, _)| task.clone()),
            outdated: record.is_some_and(|record| record.target.as_ref() != current),
            target,
            failures: record.map_or(0, |record| record.failures),
            reason: match (reason, failure) {
                (reason, None) => reason,
                (reason, Some(failure)) if reason.is_empty() => failure,
                (reason, Some(failure)) => format!("{reason}; before: {failure}"),
            },
        }
    }
}

/// The status of a whole from those of its parts.
fn combined(parts: impl Iterator<Item = Status>) -> Status {
    let parts: Vec<Status> = parts.collect();
    if parts.contains(&Status::Error) {
        Status::Error
    } else if parts.iter().all(|part| *part == Status::Complete) {
        Status::Complete
    } else if parts.iter().all(|part| *part == Status::Pending) {
        Status::Pending
    } else {
        Status::InProgress
    }
}
