//! The plans `update` and `recovery`, and how the rollout stands.

use serde::Serialize;

use super::super::Core;
use super::super::ids::{AgentKey, Scope, TaskType, Timestamp};
use super::super::listing::Presence;
use super::super::progress::Next;
use super::super::rollout::{Plan, RolloutStrategy, Stage, has_failed};
use super::super::spec::Spec;
use super::super::state::AgentRecord;
use super::picture::{combined, is_under_way};
use super::{PhaseView, PlanView, Status, StepView, rfc3339};

/// How the rollout stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RolloutView {
    /// Which one it is, counted from the first target on.
    pub number: u64,
    /// Since when its target is the operator's, as RFC 3339 has it.
    #[serde(serialize_with = "rfc3339")]
    pub since: Timestamp,
    /// `canary`, `soak` or `rest`; `complete` when no agent is behind; `rolling-back`, and `rolled-back` then, when the
    /// operator's target has failed; `unknown` before the first list of agents.
    pub stage: &'static str,
    /// When the pause after the canaries is over, as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    pub soak_until: Option<Timestamp>,
    /// The agents that went first.
    pub canaries: Vec<AgentKey>,
    /// How many agents have a place.
    pub under_way: usize,
    /// How many may have one.
    pub at_most: usize,
    /// How many wait for one.
    pub waiting: usize,
    /// Those that have failed.
    pub failed: Vec<AgentKey>,
    /// Why no agent begins, where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Why agents go back, or are back, to what they had before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
    /// Why the configuration is not followed, and what to do.
    pub refused: Vec<String>,
    /// The plans that an operator has paused.
    pub paused: Vec<Plan>,
}

/// How an agent stands in the rollout.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlaceView {
    /// `waiting`, `under-way` or `failed`.
    pub state: &'static str,
    /// The step that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<TaskType>,
    /// Since when the agent has its place, as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    pub since: Option<Timestamp>,
    /// Why it has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Core {
    /// How the rollout stands, without all else.
    pub fn view_of_rollout(&self) -> RolloutView {
        self.rollout_view(self.why_none_begins())
    }

    /// The same, where it is known why no further agent begins.
    pub(super) fn rollout_view(&self, held: Option<String>) -> RolloutView {
        let rollout = &self.state.cluster.rollout;
        let failed: Vec<AgentKey> = self.rolling.failed().iter().cloned().collect();
        let is_over = self.rolling.under_way() == 0
            && self.rolling.waiting() == 0
            && failed.is_empty()
            && !self.waits_for_cluster();
        let (stage, soak_until) = match rollout.stage {
            _ if self.inventory.is_none() => ("unknown", None),
            _ if rollout.given_up.is_some() => (if is_over { "rolled-back" } else { "rolling-back" }, None),
            _ if is_over => ("complete", None),
            Stage::Canary => ("canary", None),
            Stage::Soak { since } => ("soak", Some(since.after(self.settings.rollout.canary_soak))),
            Stage::Rest => ("rest", None),
        };
        RolloutView {
            number: rollout.number,
            since: rollout.since,
            stage,
            soak_until,
            canaries: rollout.canaries.clone(),
            under_way: self.rolling.under_way(),
            at_most: self.room().0,
            waiting: self.rolling.waiting(),
            failed,
            held,
            given_up: rollout.given_up.as_ref().map(|given_up| given_up.why.clone()),
            refused: self.rolling.refused.clone(),
            paused: rollout.paused.iter().copied().collect(),
        }
    }

    /// Whether an update waits for a task type of the cluster.
    fn waits_for_cluster(&self) -> bool {
        self.is_update() && !self.cluster_is_current()
    }

    /// Why no further agent begins, where some wait, or the cluster does.
    pub(super) fn why_none_begins(&self) -> Option<String> {
        let rollout = &self.state.cluster.rollout;
        if self.rolling.waiting() == 0 && rollout.halted.is_none() && !self.waits_for_cluster() {
            return None;
        }
        let soak = |since: Timestamp| {
            let until = since.after(self.settings.rollout.canary_soak);
            format!(
                "the canaries are done, the others follow at {until} (rollout.canary-soak), or by the command continue"
            )
        };
        let has_canaries = self.settings.rollout.strategy == RolloutStrategy::Canary;
        self.why_closed(self.clock.now()).or_else(|| match rollout.stage {
            _ if !self.cluster_is_current() => Some("waits for the task types of the cluster".to_owned()),
            _ if !has_canaries => None,
            Stage::Soak { .. } if self.is_canary_down() => Some(
                "a canary is not well, or has its place again: the pause after the canaries (rollout.canary-soak) begins anew \
                 when it is done, or ends by the command continue"
                    .to_owned(),
            ),
            Stage::Soak { since } => Some(soak(since)),
            Stage::Canary if self.room().1 == 0 && self.rolling.under_way() > 0 => {
                Some("waits for the canaries (rollout.canary-count)".to_owned())
            }
            _ => None,
        })
    }

    pub(super) fn place_view(&self, agent: &AgentRecord) -> Option<PlaceView> {
        let place = agent.place.as_deref();
        let failed = has_failed(agent, self.number());
        let state = match () {
            () if agent.holds().is_some() => "under-way",
            () if failed => "failed",
            () if agent.settled > 0 && self.is_behind(agent) => "waiting",
            () => return None,
        };
        let place = place.filter(|_| state != "waiting");
        Some(PlaceView {
            state,
            step: place.and_then(|place| place.step),
            since: place.map(|place| place.since),
            failure: place.and_then(|place| place.failure.clone()),
        })
    }

    /// The plan `update`: a phase a task type that some agent has to be brought to another target of, or was.
    pub(super) fn update_plan(&self, held: Option<&str>) -> PlanView {
        let rollout = &self.state.cluster.rollout;
        let agents = self.state.agents.values().map(AsRef::as_ref);
        let agents: Vec<&AgentRecord> = agents
            .filter(|agent| !agent.aside && agent.settled > 0)
            .filter(|agent| {
                self.presence(&agent.key).is_some_and(Presence::counts) || agent.holds().is_some()
            })
            .collect();
        // The first target is no update.
        let is_update = rollout.number > 1 || self.rolling.under_way() + self.rolling.waiting() > 0;
        let mut phases = Vec::new();
        for task_type in TaskType::ALL.into_iter().filter(|_| is_update) {
            let spec = self.settings.specs.get(&task_type);
            let steps: Vec<StepView> = match (task_type.scope(), spec) {
                (Scope::Cluster, Some(spec)) => {
                    self.cluster_update(task_type, spec, held).into_iter().collect()
                }
                (Scope::Cluster, None) => continue,
                (Scope::Agent, spec) => {
                    agents.iter().filter_map(|a| self.agent_update(a, task_type, spec, held)).collect()
                }
            };
            phases.extend(phase(task_type, self.settings.rollout.strategy.name(), steps));
        }
        let mut errors: Vec<String> = self.rolling.refused.clone();
        errors.extend(rollout.given_up.iter().map(|given_up| {
            format!(
                "rollout {} was given up, agents go back to what they had before: {}",
                given_up.number, given_up.why
            )
        }));
        errors.extend(rollout.halted.iter().map(|why| format!("halted: {why}")));
        let steps = phases.iter().flat_map(|phase| &phase.steps).filter(|step| step.status == Status::Error);
        errors.extend(steps.map(|step| format!("{}: {}", step.id, step.message)));
        let is_going_on = phases.iter().flat_map(|phase| &phase.steps).any(|step| is_under_way(step.status));
        let status = match combined(phases.iter().map(|phase| phase.status)) {
            _ if !errors.is_empty() => Status::Error,
            // Before the first list of agents nobody knows what there is to do.
            _ if self.inventory.is_none() => Status::Pending,
            Status::Complete => Status::Complete,
            _ if held.is_some() && !is_going_on => Status::Waiting,
            status => status,
        };
        PlanView { status, errors, strategy: self.settings.rollout.strategy.name(), phases }
    }

    /// The step of a task type of the cluster; none before it was launched first, which is no update.
    fn cluster_update(&self, task_type: TaskType, spec: &Spec, held: Option<&str>) -> Option<StepView> {
        let record = self.state.cluster.tasks.get(&task_type)?;
        let view = self.task_view(task_type, Some(record));
        let (status, message) = if Self::is_outdated_in_cluster(spec, record) {
            (Status::Pending, held.unwrap_or("is launched again, for its target has changed").to_owned())
        } else {
            (view.status, view.reason)
        };
        let name = task_type.name();
        Some(StepView { id: format!("{name}.{name}"), name: name.to_owned(), status, message })
    }

    /// One step of one agent; none where there is nothing to be shown.
    fn agent_update(
        &self,
        agent: &AgentRecord,
        task_type: TaskType,
        spec: Option<&Spec>,
        held: Option<&str>,
    ) -> Option<StepView> {
        let record = agent.tasks.get(&task_type);
        let surplus = || self.surplus(agent).any(|(unwanted, ..)| unwanted == task_type);
        let place = agent.holds();
        let under_way = place.and_then(|place| place.step) == Some(task_type);
        if task_type == TaskType::Prefetch {
            if !under_way && (place.is_none() || record.is_none()) {
                return None;
            }
        } else if spec.is_none() && !surplus() {
            return None;
        }
        let view = self.task_view(task_type, record);
        let changes = self.changes(agent, task_type);
        let left_out = spec.is_some_and(|spec| Self::is_left_out(agent, task_type, spec));
        let failure = agent.place.as_ref().filter(|_| has_failed(agent, self.number()));
        let failure = failure.and_then(|place| place.failure.clone());
        let is_down = record.is_some_and(|record| !record.phase.at_goal());
        let (status, message) = match () {
            () if left_out => (Status::Complete, "left out by an operator".to_owned()),
            () if under_way => self.step_under_way(agent, task_type, view.status, &view.reason),
            () if place.is_some() && changes => {
                (Status::Pending, "its turn on the agent has not come".to_owned())
            }
            () if failure.is_some() && (changes || is_down) => (Status::Error, failure.unwrap_or_default()),
            () if changes => (Status::Pending, held.unwrap_or("waits for the agent's turn").to_owned()),
            () if place.is_some() && is_down => (view.status, view.reason),
            () => (Status::Complete, "has its target".to_owned()),
        };
        let name = agent.key.to_string();
        Some(StepView { id: format!("{task_type}.{name}"), name, status, message })
    }

    fn step_under_way(
        &self,
        agent: &AgentRecord,
        task_type: TaskType,
        status: Status,
        reason: &str,
    ) -> (Status, String) {
        match self.next_on(agent) {
            Next::Launch(_, again) => (Status::Prepared, self.why_not_yet(agent, task_type, again.is_some())),
            Next::End(_) => (Status::Prepared, "its predecessor is ended".to_owned()),
            Next::Held(why) => (Status::Waiting, why),
            // Complete is what it was with the target of before.
            Next::Wait(why) if status == Status::Complete => (Status::Started, why),
            _ => (status, reason.to_owned()),
        }
    }

    /// The plan `recovery`: services that were ready before and are not now, and installs that have vanished, but for what an
    /// update does.
    pub(super) fn recovery_plan(&self) -> PlanView {
        let mut phases: Vec<PhaseView> = Vec::new();
        for task_type in TaskType::ALL {
            if task_type.scope() == Scope::Cluster {
                phases.extend(self.cluster_recovery(task_type));
                continue;
            }
            let down = self.state.agents.values().filter(|agent| {
                let record = agent.tasks.get(&task_type);
                !agent.aside
                    && agent.holds().is_none()
                    && self.presence(&agent.key).is_some_and(Presence::counts)
                    && record.is_some_and(|record| record.is_down() && self.is_known(task_type, agent))
            });
            let steps: Vec<StepView> = down
                .map(|agent| {
                    let view = self.task_view(task_type, agent.tasks.get(&task_type));
                    let held = self.held_back(&agent.key, task_type).filter(|_| !is_under_way(view.status));
                    let message = held.unwrap_or(view.reason);
                    let name = agent.key.to_string();
                    StepView { id: format!("{task_type}.{name}"), name, status: view.status, message }
                })
                .collect();
            phases.extend(phase(task_type, "parallel", steps));
        }
        let paused = self.state.cluster.rollout.paused.contains(&Plan::Recovery);
        let status = match combined(phases.iter().map(|phase| phase.status)) {
            _ if self.inventory.is_none() => Status::Pending,
            Status::Complete => Status::Complete,
            _ if paused || self.held_since().is_some() => Status::Waiting,
            status => status,
        };
        PlanView { status, errors: Vec::new(), strategy: "parallel", phases }
    }

    /// What was done once in the cluster, and has vanished.
    fn cluster_recovery(&self, task_type: TaskType) -> Option<PhaseView> {
        let record = self.state.cluster.tasks.get(&task_type).filter(|record| record.is_down())?;
        self.settings.specs.get(&task_type).filter(|spec| spec.enabled)?;
        let view = self.task_view(task_type, Some(record));
        let name = task_type.name();
        let id = format!("{name}.{name}");
        let step = StepView { id, name: name.to_owned(), status: view.status, message: view.reason };
        phase(task_type, "parallel", vec![step])
    }

    fn is_known(&self, task_type: TaskType, agent: &AgentRecord) -> bool {
        let spec = self.spec_on(agent, task_type);
        spec.is_some_and(|spec| self.skipped(task_type, spec, agent).is_none())
    }
}

/// The phase of these steps, where there are some.
fn phase(task_type: TaskType, strategy: &'static str, steps: Vec<StepView>) -> Option<PhaseView> {
    let (id, name) = (task_type.name().to_owned(), task_type.name());
    let status = combined(steps.iter().map(|step| step.status));
    (!steps.is_empty()).then_some(PhaseView { id, name, status, strategy, steps })
}
