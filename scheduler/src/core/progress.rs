//! What comes next on an agent.

use super::Core;
use super::ids::{AgentKey, Scope, TaskType, Timestamp};
use super::listing::Presence;
use super::rollout::{Order, Plan, is_ordered_anew, is_tried_again, waits_for_turn};
use super::spec::{Capacity, MesosVersion, MostAgents, Restart, Spec};
use super::state::{AgentRecord, Disruption, Phase, Run, TaskRecord};

/// What comes next in a slot, or on an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// This is to be launched, not before the given moment.
    Launch(TaskType, Option<Timestamp>),
    /// The task of this type is to be ended, so that another can take its place.
    End(TaskType),
    /// All goals are reached, and whether that is so is to be looked at.
    Look(TaskType),
    /// Something else must happen first.
    Wait(String),
    /// Nothing is to be done before an operator acts, or something changes elsewhere.
    Held(String),
    /// All goals are reached.
    Complete,
}

impl Core {
    /// Why a task type is not for this agent, if it is not. What is there already is never left out for the cluster's size.
    pub(super) fn skipped(&self, task_type: TaskType, spec: &Spec, agent: &AgentRecord) -> Option<String> {
        if !spec.enabled {
            return Some("disabled".to_owned());
        }
        if !spec.fits(agent.mesos_version()) {
            let MesosVersion(major, minor) = spec.min_mesos;
            let version = &agent.version;
            return Some(format!("needs Mesos {major}.{minor} or later, the agent has '{version}'"));
        }
        match agent.tasks.get(&task_type) {
            None => {
                if let Some(MostAgents { option, number }) =
                    spec.most_agents.filter(|_| self.is_crowded(spec))
                {
                    let agents = self.inventory.as_ref().map_or(0, |inventory| inventory.members);
                    return Some(format!("more than {option} = {number} agents (there are {agents})"));
                }
            }
            // Another configuration may fit.
            Some(record) => {
                let judged = matches!(record.phase, Phase::Skipped { .. });
                let again = agent.order(task_type) == Some(&Order::Again);
                if judged && !again && record.target.as_ref() == Some(&spec.target) {
                    return Some(record.failure.clone().unwrap_or_else(|| "not applicable".to_owned()));
                }
            }
        }
        spec.requires.iter().find_map(|required| match self.settings.specs.get(required) {
            None => Some(format!("needs {required}, which is not configured")),
            Some(spec) => {
                let why = self.skipped(*required, spec, agent)?;
                Some(format!("needs {required}, which is skipped: {why}"))
            }
        })
    }

    /// Whether there are more agents than this task type is begun for.
    pub(super) fn is_crowded(&self, spec: &Spec) -> bool {
        let agents = self.inventory.as_ref().map_or(0, |inventory| inventory.members);
        spec.most_agents.is_some_and(|most| agents > most.number)
    }

    /// Which capacities there are more agents than, and how many agents there are.
    pub(super) fn exceeded(&self) -> (impl Iterator<Item = &Capacity>, usize) {
        let agents = self.inventory.as_ref().map_or(0, |inventory| inventory.members);
        (self.settings.capacities.iter().filter(move |capacity| agents > capacity.number), agents)
    }

    /// Why nothing is begun on an agent that has nothing yet, where the configuration does not serve so many.
    fn beyond(&self, agent: &AgentRecord) -> Option<String> {
        if !agent.tasks.is_empty() {
            return None;
        }
        let (mut exceeded, agents) = self.exceeded();
        exceeded.next().map(|capacity| capacity.refusal(agents))
    }

    /// Whether a launch on this agent would be a recovery: not where we may have restarted what the service needs, or have
    /// replaced it.
    pub(super) fn recovers(agent: &AgentRecord, task_type: TaskType) -> bool {
        let expected = agent.disrupted().is_some() || agent.holds().is_some();
        !expected && agent.tasks.get(&task_type).is_some_and(|record| record.reached)
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
        let (next, behind) = match self.open(agent) {
            Some((task_type, next @ (Next::Launch(..) | Next::End(_)))) => {
                match self.prerequisite(agent, task_type) {
                    Some(missing) => (self.behind(task_type, missing), true),
                    None => (next, false),
                }
            }
            Some((_, next)) => (next, false),
            None => (Next::Complete, false),
        };
        if let Some(why) = self.lost(agent, &next) {
            // Others that have died come back.
            return (self.meanwhile(agent).unwrap_or(Next::Held(why)), false);
        }
        match (&next, self.paused(agent)) {
            (Next::Launch(..) | Next::End(_), Some(why)) => {
                // A pause of the update keeps no service dead.
                let dead = agent.holds().and_then(|_| self.meanwhile(agent));
                (dead.unwrap_or(Next::Held(why)), false)
            }
            (Next::Complete, _) => (self.next_look(agent), false),
            _ => (next, behind),
        }
    }

    /// Why what comes next cannot be done, where nobody knows what it is.
    fn lost(&self, agent: &AgentRecord, next: &Next) -> Option<String> {
        let (task_type, spec) = match next {
            Next::Launch(task_type, _) => (task_type, self.spec_on(agent, *task_type)),
            Next::End(task_type) => (task_type, self.wanted_of(*task_type)),
            _ => return None,
        };
        spec.filter(|spec| spec.lost).map(|spec| why_lost(*task_type, spec))
    }

    /// Why nothing is launched on an agent whatever is missing there.
    fn closed(&self, agent: &AgentRecord) -> Option<Next> {
        if self.inventory.is_none() {
            return Some(Next::Wait("waits for the master's list of agents".to_owned()));
        }
        Some(Next::Held(match self.presence(&agent.key) {
            Some(Presence::Active) => return self.beyond(agent).map(Next::Held),
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
    fn open(&self, agent: &AgentRecord) -> Option<(TaskType, Next)> {
        let (task_type, next) = match () {
            () if agent.holds().is_some() => self.open_in_rollout(agent),
            () if self.is_free(agent) => self.open_at_first(agent),
            () => self.open_as_it_was(agent),
        }?;
        let waits_for_operator = matches!(next, Next::Held(_))
            && agent.tasks.get(&task_type).is_some_and(|record| {
                matches!(record.phase, Phase::NeedsRestart { .. }) || agent.disruption.is_some()
            });
        match waits_for_operator.then(|| self.meanwhile(agent)).flatten() {
            Some(Next::Launch(down, not_before)) => Some((down, Next::Launch(down, not_before))),
            _ => self.beside_put_back(agent, task_type, &next).or(Some((task_type, next))),
        }
    }

    /// The same, where it gets what the operator wants now.
    fn open_at_first(&self, agent: &AgentRecord) -> Option<(TaskType, Next)> {
        let steps = self
            .specs(Scope::Agent)
            .filter(|(task_type, spec)| Self::is_step(*task_type) && self.gets(agent, *task_type, spec));
        let mut waits = None;
        for (task_type, spec) in steps {
            match Self::next_on_agent(task_type, spec, agent) {
                Next::Complete => {}
                // Others go on meanwhile.
                next if is_tried_again(agent, task_type)
                    || matches!(next, Next::Launch(..)) && is_ordered_anew(agent, task_type, spec) =>
                {
                    waits.get_or_insert((task_type, waits_for_turn(task_type)));
                }
                next => return Some((task_type, next)),
            }
        }
        waits
    }

    /// What comes next in an agent's slot.
    pub(super) fn next_on_agent(task_type: TaskType, spec: &Spec, agent: &AgentRecord) -> Next {
        let record = agent.tasks.get(&task_type);
        let same = record.is_some_and(|record| record.target.as_ref() == Some(&spec.target));
        match agent.disruption.as_ref().filter(|disruption| disruption.task_type == task_type && same) {
            Some(Disruption { failure: Some(why), .. }) => Next::Held(why.clone()),
            _ => Self::next_in(task_type, spec, record),
        }
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
            let record = self.state.cluster.tasks.get(&task_type);
            let next = match record.filter(|record| Self::is_outdated_in_cluster(spec, record)) {
                Some(record) if record.phase.is_checked() => {
                    Next::Wait(format!("{task_type} of an earlier target is being looked at"))
                }
                Some(_) if self.rolling.is_open => Next::Launch(task_type, None),
                _ => Self::next_in(task_type, spec, record),
            };
            match next {
                Next::Complete => {}
                Next::Launch(..) if spec.lost => return Next::Held(why_lost(task_type, spec)),
                next @ Next::Launch(..) => {
                    return self.waits_beside(task_type, spec).map_or(next, Next::Held);
                }
                next => return next,
            }
        }
        Next::Complete
    }

    /// What comes next of the task types that run once, as far as it may run on this agent.
    pub(super) fn next_in_cluster_on(&self, key: &AgentKey) -> Next {
        match self.next_in_cluster() {
            Next::Launch(task_type, _) if !self.is_place(task_type, key) => Next::Complete,
            next => next,
        }
    }

    pub(super) fn is_place(&self, task_type: TaskType, key: &AgentKey) -> bool {
        let Some(beside) = self.settings.specs.get(&task_type).and_then(|spec| spec.beside) else {
            return true;
        };
        let record = self.state.agents.get(key).and_then(|agent| agent.tasks.get(&beside));
        record.is_some_and(|record| record.phase.at_goal())
    }

    /// Whether there is an agent for each task type of the cluster that does not run on any.
    pub(super) fn has_place(&self) -> bool {
        let mut beside = self.specs(Scope::Cluster).filter_map(|(_, spec)| spec.beside);
        beside.all(|beside| self.index.is_anywhere(beside))
    }

    /// Why a task type of the cluster can be launched nowhere, if that is so.
    pub(super) fn waits_beside(&self, task_type: TaskType, spec: &Spec) -> Option<String> {
        let beside = spec.beside.filter(|beside| !self.index.is_anywhere(*beside))?;
        Some(format!("{task_type} waits for the first {beside} to be ready"))
    }

    /// The first task type of the cluster that this one waits for. What was there before does not wait again: what has died, or
    /// was ended for its successor.
    fn prerequisite(&self, agent: &AgentRecord, task_type: TaskType) -> Option<TaskType> {
        let was_there = agent.tasks.get(&task_type).is_some_and(TaskRecord::is_down);
        if was_there || agent.is_half_done() || Self::plan_of(agent) == Plan::Recovery {
            return None;
        }
        self.spec_on(agent, task_type)?.after.iter().copied().find(|task_type| {
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

    pub(super) fn next_in(task_type: TaskType, spec: &Spec, record: Option<&TaskRecord>) -> Next {
        let Some(record) = record else { return Next::Launch(task_type, None) };
        match &record.phase {
            // What failed for good was another configuration: the operator has acted.
            Phase::Held { .. } | Phase::NeedsRestart { .. } | Phase::Skipped { .. }
                if record.target.as_ref() != Some(&spec.target) =>
            {
                Next::Launch(task_type, None)
            }
            Phase::NeedsRestart { .. } => match spec.restart {
                Some(restart) if restart.allowed => Next::Launch(task_type, None),
                restart => Next::Held(needs_permission(task_type, restart, record)),
            },
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
            Phase::Active { run: Run::Ready, .. }
            | Phase::Done { .. }
            | Phase::Checking { .. }
            | Phase::Skipped { .. } => Next::Complete,
        }
    }
}

/// Why a target cannot be launched of which nobody knows what it stands for.
fn why_lost(task_type: TaskType, spec: &Spec) -> String {
    format!(
        "{task_type} is left as it is: what was stored of its target {} cannot be read. Set back what is refused, or allow it; \
         after a rollback, restart the plan update",
        spec.target
    )
}

/// What an operator must allow for a step that needs a restart.
pub(super) fn needs_permission(task_type: TaskType, restart: Option<Restart>, record: &TaskRecord) -> String {
    let failure = record.failure.as_deref().unwrap_or("a restart is needed and not allowed");
    let advice = restart.map_or(String::new(), |Restart { what, option, .. }| {
        format!("; set {option} to true to have {what} restarted, a few agents at a time")
    });
    format!("{task_type} waits: {failure}{advice}")
}
