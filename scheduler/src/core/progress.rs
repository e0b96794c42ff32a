//! What comes next on an agent.

use super::ids::{AgentKey, Scope, TaskType, Timestamp};
use super::spec::{MesosVersion, Spec};
use super::state::{Phase, Run, Slot, TaskRecord};
use super::{Core, Presence};

/// What comes next in a slot, or on an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// This is to be launched, not before the given moment.
    Launch(TaskType, Option<Timestamp>),
    /// Something else must happen first.
    Wait(String),
    /// An operator must act first.
    Held(String),
    /// All goals are reached.
    Complete,
}

impl Core {
    /// Why a task type is not for this agent, if it is not.
    pub(super) fn skipped(spec: &Spec, version: &str) -> Option<String> {
        if !spec.enabled {
            return Some("disabled".to_owned());
        }
        match MesosVersion::parse(version) {
            Some(version) if version >= spec.min_mesos => None,
            _ => {
                let MesosVersion(major, minor) = spec.min_mesos;
                Some(format!("needs Mesos {major}.{minor} or later, the agent has '{version}'"))
            }
        }
    }

    /// What comes next on an agent: the first task type in order that has not reached its goal.
    pub(super) fn next_on(&self, key: &AgentKey) -> Next {
        let Some(agent) = self.state.agents.get(key) else {
            return Next::Wait("not in the inventory yet".to_owned());
        };
        match self.inventory.as_ref().map(|inventory| inventory.get(key)) {
            None => return Next::Wait("waits for the master's list of agents".to_owned()),
            Some(Some(Presence::Active)) => {}
            Some(Some(Presence::Excluded(reason))) => return Next::Held(reason.clone()),
            Some(Some(Presence::Absent { .. }) | None) => return Next::Held("the agent is away".to_owned()),
        }
        for (task_type, spec) in self.specs(Scope::Agent) {
            if Self::skipped(spec, &agent.version).is_some() {
                continue;
            }
            let slot = Slot::Agent(key.clone(), task_type);
            match Self::next_in(task_type, spec, self.state.task(&slot)) {
                Next::Complete => {}
                next @ Next::Launch(..) => {
                    return match self.prerequisite(spec) {
                        Some(missing) => self.behind(task_type, missing),
                        None => next,
                    };
                }
                next => return next,
            }
        }
        Next::Complete
    }

    /// What comes next of the task types that run once.
    pub(super) fn next_in_cluster(&self) -> Next {
        for (task_type, spec) in self.specs(Scope::Cluster) {
            if !spec.enabled {
                continue;
            }
            match Self::next_in(task_type, spec, self.state.cluster.tasks.get(&task_type)) {
                Next::Complete => {}
                next => return next,
            }
        }
        Next::Complete
    }

    /// The first task type of the cluster that `spec` waits for.
    fn prerequisite(&self, spec: &Spec) -> Option<TaskType> {
        spec.after.iter().copied().find(|task_type| {
            let wanted = self.settings.specs.get(task_type).is_some_and(|spec| spec.enabled);
            wanted && !self.state.cluster.tasks.get(task_type).is_some_and(|record| record.phase.at_goal())
        })
    }

    /// What it means to come after a task type of the cluster: waiting, unless that waits for an operator.
    fn behind(&self, task_type: TaskType, missing: TaskType) -> Next {
        let reason = format!("{task_type} waits for {missing}");
        match self.next_in_cluster() {
            Next::Held(_) => Next::Held(reason),
            _ => Next::Wait(reason),
        }
    }

    fn specs(&self, scope: Scope) -> impl Iterator<Item = (TaskType, &Spec)> {
        self.settings.specs.iter().map(|(t, spec)| (*t, spec)).filter(move |(t, _)| t.scope() == scope)
    }

    fn next_in(task_type: TaskType, spec: &Spec, record: Option<&TaskRecord>) -> Next {
        let Some(record) = record else { return Next::Launch(task_type, None) };
        match &record.phase {
            // What failed for good was another configuration: the operator has acted.
            Phase::Held { .. } if record.target.as_ref() != Some(&spec.target) => {
                Next::Launch(task_type, None)
            }
            Phase::Backoff { until } => Next::Launch(task_type, Some(*until)),
            Phase::Launched { .. } => Next::Wait(format!("{task_type} is being launched")),
            Phase::Active { run: Run::Starting, .. } => Next::Wait(format!("{task_type} is starting")),
            Phase::Active { run: Run::NotReady, .. } => Next::Wait(format!("{task_type} is not ready")),
            Phase::Active { run: Run::Unreachable, .. } => {
                Next::Wait(format!("{task_type} is unreachable: its agent is partitioned"))
            }
            Phase::Held { .. } => {
                let reason = record.failure.as_deref().unwrap_or("an operator must act");
                Next::Held(format!("{task_type}: {reason}"))
            }
            Phase::Active { run: Run::Ready, .. } | Phase::Done { .. } => Next::Complete,
        }
    }
}
