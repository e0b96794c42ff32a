//! What operators command. It is stored, and holds until they say otherwise.

use std::collections::BTreeMap;

use super::super::Core;
use super::super::frame::Frame;
use super::super::ids::{AgentKey, TaskType, Timestamp};
use super::super::listing::Presence;
use super::super::state::{AgentRecord, Phase, Slot, StateChange, TaskRecord};
use super::news::RolloutNews;
use super::record::{Order, Plan, Stage};

/// What is ordered for an agent's steps.
type Orders = BTreeMap<TaskType, Order>;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Of which plan.
    pub plan: Plan,
    /// What is to be done.
    pub verb: Verb,
    /// With which task type; with all when there is none.
    pub phase: Option<TaskType>,
    /// On which agent; on all when there is none.
    pub agent: Option<AgentKey>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The plan goes on after it was stopped or has halted.
    Start,
    /// No further agent begins; those that have begun are finished.
    Stop,
    /// Nothing new is begun, also on agents that have begun.
    Pause,
    /// What was paused goes on.
    Resume,
    /// The pause after the canaries is over, or a halt, or what was paused.
    Continue,
    /// Steps count as complete with the present target.
    ForceComplete,
    /// Steps are done again, also those that are complete; without any, what was given up and rolled back.
    Restart,
    /// Steps are left as they are, whatever the target.
    Skip,
    /// They are not any more.
    Unskip,
    /// What waits for an operator is tried again.
    Retry,
    /// An agent that is away is forgotten.
    Forget,
}

/// Why a command is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It names an agent that there is not.
    #[error("no agent '{0}' is known; name it host:port, as /v1/agents does")]
    UnknownAgent(AgentKey),
    /// It is not said as it must be.
    #[error("{0}")]
    Misused(String),
    /// It would change nothing, or may not be.
    #[error("{0}")]
    Refused(String),
}

impl Verb {
    /// All there are, as operators name them.
    pub const ALL: [(&'static str, Self); 11] = [
        ("start", Self::Start),
        ("stop", Self::Stop),
        ("pause", Self::Pause),
        ("resume", Self::Resume),
        ("continue", Self::Continue),
        ("force-complete", Self::ForceComplete),
        ("restart", Self::Restart),
        ("skip", Self::Skip),
        ("unskip", Self::Unskip),
        ("retry", Self::Retry),
        ("forget", Self::Forget),
    ];

    /// As operators name it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, verb)| *verb == self).map_or("", |(name, _)| name)
    }
}

impl Core {
    /// Carries out a command: what was done, or why it cannot be.
    pub(in super::super) fn command(
        &mut self,
        now: Timestamp,
        command: &Command,
        frame: &mut Frame,
    ) -> Result<String, CommandError> {
        if let Some(agent) = &command.agent
            && !self.state.agents.contains_key(agent)
        {
            return Err(CommandError::UnknownAgent(agent.clone()));
        }
        let answer = match command.verb {
            Verb::Start | Verb::Stop | Verb::Pause | Verb::Resume | Verb::Continue => {
                self.command_plan(now, command, frame)
            }
            Verb::Forget => self.command_forget(now, command, frame),
            Verb::Restart
                if command.plan == Plan::Update && command.phase.is_none() && command.agent.is_none() =>
            {
                self.command_again(now, frame)
            }
            _ => self.command_steps(now, command, frame),
        }?;
        frame.tell(RolloutNews::Commanded { what: answer.clone() });
        Ok(answer)
    }

    fn command_plan(
        &mut self,
        now: Timestamp,
        command: &Command,
        frame: &mut Frame,
    ) -> Result<String, CommandError> {
        let (plan, verb) = (command.plan, command.verb);
        if command.phase.is_some() || command.agent.is_some() {
            let why = format!("'{}' is of a whole plan: leave out phase and step", verb.name());
            return Err(CommandError::Misused(why));
        }
        if plan != Plan::Update && matches!(verb, Verb::Start | Verb::Stop) {
            let why = format!("'{}' is of the plan update; {plan} can be paused and resumed", verb.name());
            return Err(CommandError::Misused(why));
        }
        let before = &self.state.cluster.rollout;
        let mut rollout = before.clone();
        match verb {
            Verb::Stop => rollout.stopped = true,
            Verb::Pause => drop(rollout.paused.insert(plan)),
            Verb::Resume => drop(rollout.paused.remove(&plan)),
            _ => {
                rollout.paused.remove(&plan);
                if plan == Plan::Update {
                    (rollout.stopped, rollout.halted) = (false, None);
                    if verb == Verb::Continue && matches!(rollout.stage, Stage::Soak { .. }) {
                        rollout.stage = Stage::Rest;
                    }
                }
            }
        }
        if rollout == *before {
            return Err(CommandError::Refused(self.why_unchanged(plan, verb)));
        }
        let goes_on = before.halted.is_some() && rollout.halted.is_none();
        self.edit_rollout(frame, |stored| *stored = rollout);
        if goes_on {
            // What has failed for the cluster is what all agents wait for.
            self.retry_in_cluster(now, None, frame);
        }
        self.reconsider_all();
        Ok(format!("{}: the plan {plan}", verb.name()))
    }

    fn why_unchanged(&self, plan: Plan, verb: Verb) -> String {
        let how = match (verb, &self.state.cluster.rollout.given_up) {
            (Verb::Stop, _) => "stopped already".to_owned(),
            (Verb::Pause, _) => "paused already".to_owned(),
            (Verb::Resume, _) => "not paused".to_owned(),
            (_, Some(given_up)) => {
                format!(
                    "neither held nor paused. Rollout {} was rolled back: to try its target again, 'restart' the plan",
                    given_up.number
                )
            }
            _ => "neither held nor paused".to_owned(),
        };
        format!("'{}' changes nothing: the plan {plan} is {how}", verb.name())
    }

    /// What a rollout has given up is tried again.
    fn command_again(&mut self, now: Timestamp, frame: &mut Frame) -> Result<String, CommandError> {
        if self.try_again(now, frame) {
            return Ok(format!("restart: the plan update, as rollout {}", self.number()));
        }
        let why = "'restart' needs a phase (a task type), a step (an agent, host:port), or both; only a rollout that was \
                   rolled back is done again as a whole";
        Err(CommandError::Misused(why.to_owned()))
    }

    fn command_forget(
        &mut self,
        now: Timestamp,
        command: &Command,
        frame: &mut Frame,
    ) -> Result<String, CommandError> {
        let Some(key) = &command.agent else {
            return Err(CommandError::Misused("'forget' needs an agent: step=host:port".to_owned()));
        };
        if self.presence(key) != Some(&Presence::Absent) {
            let why =
                format!("{key} is in the master's list of agents: only one that is away can be forgotten");
            return Err(CommandError::Refused(why));
        }
        self.forget_agent(now, key, frame);
        Ok(format!("forget: {key}"))
    }

    fn command_steps(
        &mut self,
        now: Timestamp,
        command: &Command,
        frame: &mut Frame,
    ) -> Result<String, CommandError> {
        let Command { verb, phase, agent, .. } = command;
        if phase.is_none() && agent.is_none() && *verb != Verb::Retry {
            return Err(CommandError::Misused(format!(
                "'{}' needs a phase (a task type), a step (an agent, host:port), or both",
                verb.name()
            )));
        }
        if let Some(task_type) = phase
            && !self.settings.specs.contains_key(task_type)
            && !self.settings.rollout.undo.contains_key(task_type)
        {
            return Err(CommandError::Refused(format!("{task_type} is not configured")));
        }
        if phase.is_some_and(|phase| !Self::is_step(phase)) && *verb != Verb::Retry {
            let why = format!("'{}' is of task types that run on each agent", verb.name());
            return Err(CommandError::Misused(why));
        }
        let keys: Vec<AgentKey> = match agent {
            Some(key) => vec![key.clone()],
            None => self.state.agents.values().filter(|a| !a.aside).map(|a| a.key.clone()).collect(),
        };
        let mut steps = 0;
        for key in keys {
            steps += self.command_agent(now, *verb, *phase, &key, frame);
        }
        if *verb == Verb::Retry && agent.is_none() {
            steps += self.retry_in_cluster(now, *phase, frame);
        }
        let of = phase.map_or("all task types", TaskType::name);
        let on = agent.as_ref().map_or("all agents".to_owned(), ToString::to_string);
        if steps == 0 {
            let why = format!("'{}' changes nothing: no step of {of} on {on} is such", verb.name());
            return Err(CommandError::Refused(why));
        }
        let steps = if steps == 1 { "1 step" } else { &*format!("{steps} steps") };
        Ok(format!("{}: {of} on {on}, {steps}", verb.name()))
    }

    /// How many steps of one agent it concerns.
    fn command_agent(
        &mut self,
        now: Timestamp,
        verb: Verb,
        phase: Option<TaskType>,
        key: &AgentKey,
        frame: &mut Frame,
    ) -> usize {
        let Some(record) = self.state.agents.get(key) else { return 0 };
        let mut agent = AgentRecord::clone(record);
        let mut orders: Orders = agent.orders.take().map(|orders| *orders).unwrap_or_default();
        let steps = match verb {
            Verb::Retry => self.retry_agent(now, phase, &mut agent, &mut orders),
            Verb::Unskip => self.unskip(phase, &agent, &mut orders),
            _ => self.order(verb, phase, &agent, &mut orders),
        };
        if steps > 0 {
            agent.orders = (!orders.is_empty()).then(|| Box::new(orders));
            self.change(frame, StateChange::Agent(agent.into()));
        }
        steps
    }

    /// Orders something of an agent's steps: of how many that was not ordered before.
    fn order(&self, verb: Verb, phase: Option<TaskType>, agent: &AgentRecord, orders: &mut Orders) -> usize {
        let ordered = concerned(phase).filter_map(|task_type| {
            let target = self.settings.specs.get(&task_type).map(|spec| &spec.target);
            let order = match verb {
                Verb::Skip => Some(Order::Skip),
                Verb::ForceComplete => target.map(|target| Order::Complete { target: target.clone() }),
                Verb::Restart => {
                    (agent.tasks.contains_key(&task_type) && target.is_some()).then_some(Order::Again)
                }
                _ => None,
            };
            Some((task_type, order?))
        });
        let is_new = |(task_type, order): &(TaskType, Order)| orders.get(task_type) != Some(order);
        let ordered: Vec<(TaskType, Order)> = ordered.filter(is_new).collect();
        let steps = ordered.len();
        orders.extend(ordered);
        steps
    }

    /// Takes back what was ordered.
    fn unskip(&self, phase: Option<TaskType>, agent: &AgentRecord, orders: &mut Orders) -> usize {
        let mut steps = 0;
        for task_type in concerned(phase) {
            if orders.remove(&task_type).is_none() {
                continue;
            }
            steps += 1;
            // Its agent's turn is over: it has one of its own.
            if agent.settled >= self.number() && self.is_behind_in(agent, task_type) {
                orders.insert(task_type, Order::Again);
            }
        }
        steps
    }

    /// What waits on an agent is tried now; where the agent has failed, it takes its turn again, before all others.
    fn retry_agent(
        &self,
        now: Timestamp,
        phase: Option<TaskType>,
        agent: &mut AgentRecord,
        orders: &mut Orders,
    ) -> usize {
        let mut steps = 0;
        // What is fetched is a step only of a rollout.
        let fetched = TaskType::Prefetch;
        let is_fetched = agent.place.is_some() && phase.is_none_or(|phase| phase == fetched);
        for task_type in concerned(phase).chain(is_fetched.then_some(fetched)) {
            if let Some(task) = agent.tasks.get_mut(&task_type) {
                steps += usize::from(retry(now, task));
            }
        }
        let failed = agent.place.as_ref().is_some_and(|place| place.failure.is_some());
        // A step that took too long waits for nothing, and is what the agent has failed with all the same.
        let is_shown = |phase| self.changes(agent, phase) || self.is_behind_in(agent, phase);
        if failed && (steps > 0 || phase.is_none_or(is_shown)) {
            agent.place = None;
            for (task_type, _) in agent.tasks.iter().filter(|(t, _)| self.is_behind_in(agent, **t)) {
                orders.entry(*task_type).or_insert(Order::Again);
            }
            steps = steps.max(1);
        }
        if agent.disruption.as_ref().is_some_and(|disruption| disruption.failure.is_some()) {
            agent.disruption = None;
            steps = steps.max(1);
        }
        steps
    }

    fn is_behind_in(&self, agent: &AgentRecord, task_type: TaskType) -> bool {
        let spec = self.settings.specs.get(&task_type).filter(|_| Self::is_step(task_type));
        let record = agent.tasks.get(&task_type);
        spec.zip(record).is_some_and(|(spec, record)| {
            record.target.as_ref() != Some(&spec.target) || !record.phase.at_goal()
        })
    }

    pub(super) fn retry_in_cluster(
        &mut self,
        now: Timestamp,
        phase: Option<TaskType>,
        frame: &mut Frame,
    ) -> usize {
        let tasks = self.state.cluster.tasks.iter().filter(|(t, _)| phase.is_none_or(|phase| phase == **t));
        let tasks: Vec<(TaskType, TaskRecord)> = tasks.map(|(t, record)| (*t, record.clone())).collect();
        let mut steps = 0;
        for (task_type, mut record) in tasks {
            if retry(now, &mut record) {
                steps += 1;
                self.put(frame, &Slot::Cluster(task_type), record);
            }
        }
        steps
    }
}

/// The task types of agents that a command is about.
fn concerned(phase: Option<TaskType>) -> impl Iterator<Item = TaskType> {
    TaskType::ALL
        .into_iter()
        .filter(move |task_type| Core::is_step(*task_type) && phase.is_none_or(|phase| phase == *task_type))
}

/// What waits for an operator, or for its backoff, may go on now.
pub(super) fn retry(now: Timestamp, record: &mut TaskRecord) -> bool {
    let waits = matches!(record.phase, Phase::Held { .. } | Phase::Backoff { .. });
    if waits {
        record.phase = Phase::Backoff { until: now };
        record.failures = 0;
    }
    waits
}
