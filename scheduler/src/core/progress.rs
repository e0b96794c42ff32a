//! What comes next on an agent.

use super::Core;
use super::ids::{Scope, TaskType, Timestamp};
use super::listing::Presence;
use super::spec::{MesosVersion, Spec};
use super::state::{AgentRecord, Phase, Run, TaskRecord};

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
    pub(super) fn next_on(&self, agent: &AgentRecord) -> Next {
        self.outlook(agent).0
    }

    /// What comes next on an agent, and whether that waits for a task type of the cluster.
    pub(super) fn outlook(&self, agent: &AgentRecord) -> (Next, bool) {
        if let Some(why_not) = self.closed(agent) {
            return (why_not, false);
        }
        match self.open(agent) {
            Some((task_type, spec, next @ Next::Launch(..))) => match self.prerequisite(spec) {
                Some(missing) => (self.behind(task_type, missing), true),
                None => (next, false),
            },
            Some((.., next)) => (next, false),
            None => (Next::Complete, false),
        }
    }

    /// Why nothing is launched on an agent whatever is missing there.
    fn closed(&self, agent: &AgentRecord) -> Option<Next> {
        if self.inventory.is_none() {
            return Some(Next::Wait("waits for the master's list of agents".to_owned()));
        }
        Some(Next::Held(match self.presence(&agent.key) {
            Some(Presence::Active) => return None,
            Some(Presence::Excluded(reason) | Presence::Duplicate(reason)) => reason.clone(),
            Some(Presence::Deactivated) => {
                "the agent is deactivated: nothing is launched before it is reactivated".to_owned()
            }
            Some(Presence::Draining { since }) => {
                let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
                format!("the agent is draining{since}: nothing is launched before it is reactivated")
            }
            Some(Presence::Disconnected) => "the agent is not connected to the master".to_owned(),
            Some(Presence::Recovering) => {
                "the master has changed, and the agent has not registered with the new one yet".to_owned()
            }
            Some(Presence::Absent) | None => "the agent is away".to_owned(),
        }))
    }

    /// The first task type in order that has not reached its goal on an agent.
    fn open(&self, agent: &AgentRecord) -> Option<(TaskType, &Spec, Next)> {
        let version = agent.mesos_version();
        let wanted = self.specs(Scope::Agent).filter(|(_, spec)| spec.fits(version));
        let mut nexts = wanted.map(|(task_type, spec)| {
            (task_type, spec, Self::next_in(task_type, spec, agent.tasks.get(&task_type)))
        });
        nexts.find(|(.., next)| *next != Next::Complete)
    }

    /// What agents that wait for a task type of the cluster depend on: which task types of the cluster are done, and whether
    /// an operator must act.
    pub(super) fn cluster_stands(&self) -> (Vec<bool>, bool) {
        let types = self.specs(Scope::Cluster);
        let done = types.map(|(t, _)| self.state.cluster.tasks.get(&t).is_some_and(|r| r.phase.at_goal()));
        (done.collect(), matches!(self.next_in_cluster(), Next::Held(_)))
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
