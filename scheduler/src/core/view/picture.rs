//! How the picture is made.

use super::super::Core;
use super::super::ids::{Scope, Timestamp};
use super::super::listing::Presence;
use super::super::progress::Next;
use super::super::rollout::MAX_PER_DOMAIN;
use super::super::spec::{Capacity, Spec};
use super::super::state::{AgentRecord, Phase, Run, TaskRecord};
use super::{
    AgentView, FindingView, PhaseView, PlanView, RecoveryView, ShortageView, SlotView, Status, StepView,
    TaskType, TaskView, View,
};

/// The presences of agents that the plan is of.
const COUNTED: [&str; 2] = ["active", "recovering"];

impl Core {
    /// A picture of everything, for the API.
    pub fn view(&self) -> View {
        let known = self.state.agents.values().filter(|agent| !agent.aside);
        let mut agents: Vec<AgentView> = known.map(|agent| self.agent_view(agent)).collect();
        // Agents that are there, or come back from a change of masters, are the plan's. One that is away is not:
        // clusters shrink, but not to nothing.
        let counts = |agent: &AgentView| COUNTED.contains(&agent.presence);
        let left_out = |agent: &AgentView| ["excluded", "duplicate"].contains(&agent.presence);
        let nobody = !agents.iter().any(counts) && !agents.iter().all(left_out);
        let mut phases = Vec::new();
        for (task_type, spec) in &self.settings.specs {
            if !spec.enabled || *task_type == TaskType::Prefetch {
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
                    let counted = agents.iter().filter(|agent| counts(agent));
                    vec![step(task_type.name(), &self.cluster_task_view(*task_type, counted))]
                }
                Scope::Agent => agents
                    .iter()
                    .filter(|agent| counts(agent))
                    .filter_map(|agent| {
                        let task = agent.tasks.iter().find(|task| task.task_type == *task_type)?;
                        Some(step(&agent.agent.0, task))
                    })
                    .collect(),
            };
            let status = match combined(steps.iter().map(|step| step.status)) {
                // Nothing is known of those that there are.
                Status::Complete if nobody && task_type.scope() == Scope::Agent => Status::Pending,
                status => status,
            };
            let (id, name) = (task_type.name().to_owned(), task_type.name());
            phases.push(PhaseView { id, name, status, strategy: "parallel", steps });
        }
        let status = match combined(phases.iter().map(|phase| phase.status)) {
            // Before the first inventory nobody knows what there is to do.
            Status::Complete | Status::InProgress | Status::Waiting if self.inventory.is_none() => {
                Status::Pending
            }
            // Agents that wait for those that wait for an operator are not under way.
            Status::InProgress
                if phases.iter().any(|phase| phase.status == Status::Waiting)
                    && !phases
                        .iter()
                        .flat_map(|phase| &phase.steps)
                        .any(|step| is_under_way(step.status)) =>
            {
                Status::Waiting
            }
            status => status,
        };
        let errors = phases
            .iter()
            .flat_map(|phase| &phase.steps)
            .filter(|step| step.status == Status::Error)
            .map(|step| format!("{}: {}", step.id, step.message))
            .collect();
        let deploy = PlanView { status, errors, strategy: "serial", phases };
        agents.extend(self.duplicate_views());
        let framework_id = self.state.framework_id.clone();
        let held = self.why_none_begins();
        View {
            framework_id,
            deploy,
            update: self.update_plan(held.as_deref()),
            repair: self.recovery_plan(),
            rollout: self.rollout_view(held),
            recovery: self.recovery_view(),
            agents,
            preflight: self.preflight_view(),
        }
    }

    fn preflight_view(&self) -> Vec<FindingView> {
        let (exceeded, agents) = self.exceeded();
        let faults = exceeded.map(|capacity| FindingView {
            check: capacity.option,
            severity: "fault",
            text: capacity.refusal(agents),
        });
        let near = |capacity: &&Capacity| agents <= capacity.number && agents * 10 > capacity.number * 9;
        let warnings = self.settings.capacities.iter().filter(near).map(|capacity| FindingView {
            check: capacity.option,
            severity: "warning",
            text: format!(
                "{}: there are {agents} agents, and at most {} are served: {}",
                capacity.option, capacity.number, capacity.because
            ),
        });
        let unlimited = self.without_domain().map(|text| FindingView {
            check: MAX_PER_DOMAIN,
            severity: "warning",
            text,
        });
        faults.chain(warnings).chain(unlimited).collect()
    }

    fn recovery_view(&self) -> RecoveryView {
        let extent = self.extent();
        let (at_most, under_way) = self.recoveries();
        let held_since = self.held_since();
        RecoveryView {
            under_way,
            at_most,
            agents_down: extent.down,
            agents: extent.agents,
            mass_failure_above: extent.limit,
            held_since,
            held: held_since.map(|_| format!("mass failure: {extent}")),
            looks: self.looks_view(),
        }
    }

    /// Agents without a record, because another has their address.
    fn duplicate_views(&self) -> impl Iterator<Item = AgentView> {
        let duplicates = self.inventory.iter().flat_map(|inventory| &inventory.duplicates);
        duplicates.map(|(id, (key, reason))| AgentView {
            agent: key.clone(),
            agent_id: id.clone(),
            version: String::new(),
            presence: "duplicate",
            absent_since: None,
            status: Status::Pending,
            reason: reason.clone(),
            shortage: None,
            no_offer_since: None,
            slot: None,
            waits_for_slot: None,
            rollout: None,
            tasks: Vec::new(),
        })
    }

    fn agent_view(&self, agent: &AgentRecord) -> AgentView {
        let presence = match self.presence(&agent.key) {
            _ if self.inventory.is_none() => "unknown",
            Some(Presence::Active) => "active",
            Some(Presence::Recovering) => "recovering",
            Some(Presence::Excluded(_)) => "excluded",
            Some(Presence::Duplicate(_)) => "duplicate",
            Some(Presence::Deactivated) => "deactivated",
            Some(Presence::Draining { .. }) => "draining",
            Some(Presence::Disconnected | Presence::Absent) | None => "absent",
        };
        let tasks: Vec<TaskView> = self
            .settings
            .specs
            .iter()
            .filter(|(t, spec)| Self::is_step(**t) && spec.enabled)
            .map(|(t, spec)| self.agent_task_view(*t, spec, agent))
            .collect();
        let next = self.next_on(agent);
        let waits_for = match &next {
            Next::Launch(task_type, _) => Some(*task_type),
            _ => None,
        };
        let waits_for_slot = waits_for.and_then(|task_type| self.waits_for_slot(agent, task_type));
        let lack = waits_for.and_then(|task_type| self.notices.lack(&agent.key, task_type));
        let no_offer_since = waits_for.and_then(|_| self.no_offer_since(&agent.key));
        let reason = match next {
            Next::Launch(task_type, not_before) => self.why_not_yet(agent, task_type, not_before.is_some()),
            Next::Wait(reason) | Next::Held(reason) => reason,
            Next::End(task_type) => format!("{task_type} is ended for its successor"),
            Next::Complete | Next::Look(_) => {
                let maintenance =
                    self.maintenance.of(&agent.id.0).map(|window| format!("the agent {window}"));
                maintenance.into_iter().chain(self.skips(agent)).collect::<Vec<_>>().join("; ")
            }
        };
        AgentView {
            agent: agent.key.clone(),
            agent_id: agent.id.clone(),
            version: agent.version.clone(),
            presence,
            absent_since: agent.absent_since,
            status: combined(tasks.iter().map(|task| task.status)),
            reason,
            shortage: lack.map(|lack| ShortageView {
                task_type: lack.task_type,
                resource: lack.shortage.name,
                needed: whole(lack.shortage.needed),
                offered: whole(lack.shortage.offered),
                since: lack.since,
            }),
            no_offer_since,
            slot: agent.disrupted().map(|disruption| SlotView {
                task_type: disruption.task_type,
                since: disruption.since,
                until: self
                    .attended_since()
                    .map_or(disruption.since, |at| at.max(disruption.since))
                    .after(self.settings.agent_timeout),
            }),
            waits_for_slot,
            rollout: self.place_view(agent),
            tasks,
        }
    }

    fn agent_task_view(&self, task_type: TaskType, spec: &Spec, agent: &AgentRecord) -> TaskView {
        let record = agent.tasks.get(&task_type);
        let mut view = self.task_view(task_type, record);
        let given_up = agent.disruption.as_ref().and_then(|disruption| disruption.failure.as_ref());
        if let Some(why) = self.skipped(task_type, spec, agent) {
            (view.status, view.reason) = (Status::Complete, format!("skipped: {why}"));
            view.skipped = Some(why);
        } else if let Some(why) = given_up
            && Self::next_on_agent(task_type, spec, agent) == Next::Held(why.clone())
        {
            (view.status, view.reason) = (Status::Error, why.clone());
        } else if let Some(record) = record.filter(|r| matches!(r.phase, Phase::NeedsRestart { .. })) {
            match Self::next_in(task_type, spec, Some(record)) {
                Next::Held(why) => (view.status, view.reason) = (Status::Waiting, why),
                _ => view.reason = self.waits_for_slot(agent, task_type).unwrap_or(view.reason),
            }
        }
        view
    }

    /// `agents` are those that the plan is of.
    fn cluster_task_view<'a>(
        &self,
        task_type: TaskType,
        agents: impl Iterator<Item = &'a AgentView>,
    ) -> TaskView {
        let mut view = self.task_view(task_type, self.state.cluster.tasks.get(&task_type));
        if let Some(spec) = self.settings.specs.get(&task_type)
            && view.status == Status::Pending
            && let Some(why) = self.waits_beside(task_type, spec)
        {
            view.reason = why;
            let mut beside = agents.flat_map(|a| a.tasks.iter().filter(|t| Some(t.task_type) == spec.beside));
            // It waits for the first agent that can have what it needs, which may never join.
            if beside.next().is_some_and(|task| task.skipped.is_some()) && beside.all(|t| t.skipped.is_some())
            {
                view.status = Status::Complete;
                view.reason = format!("skipped: {}, and each agent skips it", view.reason);
            }
        }
        view
    }

    /// Why what comes next on an agent is not launched yet.
    pub(in super::super) fn why_not_yet(
        &self,
        agent: &AgentRecord,
        task_type: TaskType,
        again: bool,
    ) -> String {
        let key = &agent.key;
        if let Some(waits) = self.waits_for_slot(agent, task_type).or_else(|| self.held_back(key, task_type))
        {
            return waits;
        }
        let none = self.no_offer_since(key).map(|since| {
            format!(
                "no offer since {since}; Mesos makes none of an agent that has less than 0.01 cpus and 32 MB left, \
                 or whose role is not one of service.role"
            )
        });
        let lack = self.notices.lack(key, task_type);
        let lack = lack.map(|lack| format!("{task_type} {} (since {})", lack.shortage, lack.since));
        let failure = agent.tasks.get(&task_type).and_then(|record| record.failure.clone());
        let unavailable = self.maintenance.waited_for(&agent.id.0);
        let unavailable = unavailable.map(|window| format!("{task_type} waits: the agent {window}"));
        let turn = if again { "is launched again" } else { "waits for an offer" };
        match (unavailable.or(lack).or(failure), none) {
            (Some(why), Some(none)) => format!("{why}; {none}"),
            (Some(why), None) => why,
            (None, Some(none)) => format!("{task_type} {turn}: {none}"),
            (None, None) => format!("{task_type} {turn}"),
        }
    }

    /// The task types that this agent does not get, and why.
    fn skips(&self, agent: &AgentRecord) -> Vec<String> {
        let of_agents = self.settings.specs.iter().filter(|(t, _)| t.scope() == Scope::Agent);
        let skips = of_agents.filter_map(|(task_type, spec)| {
            Some(format!("{task_type} is skipped: {}", self.skipped(*task_type, spec, agent)?))
        });
        skips.collect()
    }

    pub(super) fn task_view(&self, task_type: TaskType, record: Option<&TaskRecord>) -> TaskView {
        let target = record.and_then(|record| record.target.clone());
        let current = self.settings.specs.get(&task_type).map(|spec| &spec.target);
        let (status, reason) = match record.map(|record| &record.phase) {
            None | Some(Phase::NeedsRestart { .. }) => (Status::Pending, String::new()),
            Some(Phase::Launched { .. }) => (Status::Starting, "launched".to_owned()),
            Some(Phase::Active { run: Run::Starting, .. }) => (Status::Starting, "starting".to_owned()),
            Some(Phase::Active { run: Run::NotReady, .. }) => (Status::Started, "not ready".to_owned()),
            Some(Phase::Active { run: Run::Unreachable, .. }) => (Status::Started, "unreachable".to_owned()),
            Some(Phase::Active { run: Run::Ready, .. }) => (Status::Complete, "ready".to_owned()),
            Some(Phase::Done { .. }) => (Status::Complete, "done".to_owned()),
            Some(Phase::Checking { .. }) => (Status::Complete, "done, and looked at again".to_owned()),
            Some(Phase::Backoff { .. }) => (Status::Delayed, String::new()),
            Some(Phase::Held { .. }) => (Status::Error, String::new()),
            Some(Phase::Skipped { .. }) => (Status::Complete, String::new()),
        };
        let is_done = |record: &TaskRecord| matches!(record.phase, Phase::Done { .. });
        let failure = record.filter(|record| !record.phase.at_goal() || is_done(record));
        let failure = failure.and_then(|record| record.failure.clone());
        TaskView {
            task_type,
            status,
            // What only looks is not the step's task.
            task_id: record
                .filter(|record| !record.phase.is_checked())
                .and_then(|record| record.phase.live())
                .map(|(task, _)| task.clone()),
            outdated: record.is_some_and(|record| record.target.as_ref() != current),
            target,
            failures: record.map_or(0, |record| record.failures),
            since: record.and_then(|record| match record.phase {
                Phase::Backoff { .. } => None,
                Phase::Checking { done, .. } => Some(done),
                _ => Some(record.phase.moment()),
            }),
            looked_at: record.map(|record| record.looked_at.at).filter(|at| *at > Timestamp::default()),
            skipped: None,
            reason: match (reason, failure) {
                (reason, None) => reason,
                (reason, Some(failure)) if reason.is_empty() => failure,
                (reason, Some(failure)) if record.is_some_and(is_done) => format!("{reason}; {failure}"),
                (reason, Some(failure)) => format!("{reason}; before: {failure}"),
            },
        }
    }
}

/// The status of a whole from those of its parts.
pub(super) fn combined(parts: impl Iterator<Item = Status>) -> Status {
    let parts: Vec<Status> = parts.collect();
    if parts.contains(&Status::Error) {
        Status::Error
    } else if parts.iter().all(|part| *part == Status::Complete) {
        Status::Complete
    } else if parts.iter().all(|part| *part == Status::Pending) {
        Status::Pending
    } else if parts.contains(&Status::Waiting) && !parts.iter().any(|part| is_under_way(*part)) {
        Status::Waiting
    } else {
        Status::InProgress
    }
}

pub(super) fn is_under_way(status: Status) -> bool {
    matches!(
        status,
        Status::Prepared | Status::Starting | Status::Started | Status::Delayed | Status::InProgress
    )
}

/// Thousandths as a number of the API's.
#[expect(clippy::cast_precision_loss, reason = "no agent has 2^53 thousandths of anything")]
fn whole(thousandths: i64) -> f64 {
    thousandths as f64 / 1000.0
}
