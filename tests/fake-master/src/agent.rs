//! Agents as they are: processes with tasks, whose updates are sent until they are acknowledged.

mod earlier;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mesos_v1::framework_info::capability::Type as Capability;
use mesos_v1::task_status::{Reason, Source};
use mesos_v1::{
    CheckStatusInfo, FrameworkInfo, TaskInfo, TaskState, TaskStatus, check_info, check_status_info,
};

use crate::resources::Resources;
use crate::script::{End, Script};
use crate::settings::{AgentRef, AgentSpec, Time};
use crate::state::{AgentKey, TaskKey, has, is_terminal};
use crate::world::{Timer, ToAgent, ToMaster, World};

/// An agent's host.
#[derive(Debug)]
pub struct Agent {
    pub spec: AgentSpec,
    /// The agent ID in its work directory.
    pub key: Option<AgentKey>,
    /// The agent ID that the master has given to this process, which may not have heard of it.
    pub given: Option<AgentKey>,
    /// The one that it had before the host was built anew.
    pub previous: Option<AgentKey>,
    /// Whether the agent's process runs.
    pub runs: bool,
    pub partitioned: bool,
    /// Counts the starts of the process.
    pub incarnation: u32,
    /// Whether the master that leads has confirmed its registration.
    pub registered: bool,
    /// With dynamic reservations.
    pub total: Arc<Resources>,
    pub tasks: BTreeMap<TaskKey, AgentTask>,
    pub frameworks: BTreeMap<Arc<str>, Arc<FrameworkInfo>>,
    /// Messages that TCP carries when the network is whole again.
    pub held: VecDeque<Timer>,
    next_serial: u64,
}

/// A task with its executor, and the updates that the framework has not acknowledged.
#[derive(Debug)]
pub struct AgentTask {
    pub role: Arc<str>,
    pub resources: Resources,
    pub state: TaskState,
    pub healthy: Option<bool>,
    pub check: Option<CheckStatusInfo>,
    pub pending: VecDeque<Pending>,
    /// Whether it has a health check.
    has_health: bool,
    /// Which of the tasks of this ID.
    serial: u64,
    retry: Duration,
    script: Script,
    dying: bool,
    /// Whether it is killed because its agent is drained.
    drained: bool,
}

/// An update that waits for its acknowledgement.
#[derive(Debug)]
pub struct Pending {
    pub state: TaskState,
    pub uuid: [u8; 16],
    at: Time,
    source: Source,
    reason: Option<Reason>,
    message: Option<Box<str>>,
    healthy: Option<bool>,
    check: Option<CheckStatusInfo>,
}

/// What a task does next.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Start,
    Ready,
    End,
    Dead,
}

/// What an update says beside its state.
#[derive(Default)]
pub struct Said {
    pub from_agent: bool,
    pub reason: Option<Reason>,
    pub message: Option<String>,
}

impl Agent {
    pub fn new(spec: AgentSpec) -> Self {
        Self {
            total: Arc::clone(&spec.resources),
            spec,
            key: None,
            given: None,
            previous: None,
            runs: false,
            partitioned: false,
            incarnation: 0,
            registered: false,
            tasks: BTreeMap::new(),
            frameworks: BTreeMap::new(),
            held: VecDeque::new(),
            next_serial: 0,
        }
    }
}

impl World {
    /// Looks for the master, and registers there.
    pub(crate) fn seek_master(&mut self, agent: AgentRef) {
        let process = agent.index();
        let incarnation = self.agents[process].incarnation;
        if !self.agents[process].runs {
            return;
        }
        let wait = self.random.between(Duration::ZERO, self.settings.registration);
        self.after(wait, Timer::Registration { process, incarnation, attempt: 0 });
    }

    /// Asks to be registered, again and again until it is.
    pub(crate) fn registration(&mut self, process: usize, incarnation: u32, attempt: u32) {
        let agent = &self.agents[process];
        if !agent.runs || agent.incarnation != incarnation || agent.registered || !self.master.leads {
            return;
        }
        if !agent.partitioned {
            self.tell_master(process, ToMaster::Register);
        }
        let wait = (Duration::from_secs(1) * 2_u32.pow(attempt.min(6))).min(Duration::from_mins(1));
        self.after(wait, Timer::Registration { process, incarnation, attempt: attempt + 1 });
    }

    pub(crate) fn agent_receives(&mut self, process: usize, message: ToAgent) {
        match message {
            ToAgent::Registered(key) => {
                self.agents[process].key = Some(key);
                self.agents[process].registered = true;
            }
            ToAgent::Reregistered(unknown) => {
                for (task, state) in unknown {
                    self.unknown_task(process, &task, state);
                }
                self.agents[process].registered = true;
                self.resume(process, None);
            }
            ToAgent::Run { framework, role, resources, task } => {
                self.run(process, framework, role, resources, &task);
            }
            ToAgent::Kill(task) => self.kill_there(process, &task),
            ToAgent::Acknowledge(task, uuid) => self.acknowledged(process, &task, uuid),
            ToAgent::Framework(info) => {
                let Some(id) = info.id.as_ref().map(|id| Arc::<str>::from(id.value.as_str())) else { return };
                if let Some(known) = self.agents[process].frameworks.get_mut(&id) {
                    *known = info;
                    self.resume(process, Some(&id));
                }
            }
            ToAgent::ShutdownFramework(framework) => {
                let agent = &mut self.agents[process];
                agent.tasks.retain(|(owner, _), _| *owner != framework);
                agent.frameworks.remove(&framework);
            }
            ToAgent::Checkpoint(total) => self.agents[process].total = total,
            ToAgent::Drain => {
                let tasks: Vec<TaskKey> = self.agents[process].tasks.keys().cloned().collect();
                for key in &tasks {
                    if let Some(task) = self.agents[process].tasks.get_mut(key) {
                        task.drained = true;
                    }
                    self.kill_there(process, key);
                }
            }
            ToAgent::Shutdown => {
                let agent = &mut self.agents[process];
                agent.tasks.clear();
                agent.frameworks.clear();
                agent.runs = false;
                agent.registered = false;
            }
        }
    }

    fn run(
        &mut self,
        process: usize,
        framework: Arc<FrameworkInfo>,
        role: Arc<str>,
        resources: Resources,
        task: &TaskInfo,
    ) {
        let Some(id) = framework.id.as_ref().map(|id| Arc::<str>::from(id.value.as_str())) else { return };
        // Before it is registered it takes no tasks.
        if self.agents[process].key.is_none() {
            return;
        }
        let script = (self.scripts)(task, &mut self.random);
        let agent = &mut self.agents[process];
        // One string for a framework, however many tasks it has.
        let id = agent.frameworks.get_key_value(&id).map_or(id, |(known, _)| Arc::clone(known));
        agent.frameworks.insert(Arc::clone(&id), framework);
        let key: TaskKey = (id, task.task_id.value.as_str().into());
        if agent.tasks.contains_key(&key) {
            return;
        }
        agent.next_serial += 1;
        let serial = agent.next_serial;
        let check = task.check.as_ref().map(|check| CheckStatusInfo {
            r#type: Some(check.r#type().into()),
            command: (check.r#type() == check_info::Type::Command).then(check_status_info::Command::default),
            ..Default::default()
        });
        let start = script.start;
        let record = AgentTask {
            role,
            resources,
            state: TaskState::TaskStaging,
            healthy: None,
            check,
            has_health: task.health_check.is_some(),
            pending: VecDeque::new(),
            serial,
            retry: self.settings.retry.0,
            script,
            dying: false,
            drained: false,
        };
        agent.tasks.insert(key.clone(), record);
        self.after(start, Timer::Step { process, task: Box::new(key), serial, step: Step::Start });
    }

    /// A task's executor does what its script says.
    pub(crate) fn step(&mut self, process: usize, key: &TaskKey, serial: u64, step: Step) {
        let Some(task) = self.agents[process].tasks.get_mut(key) else { return };
        if task.serial != serial || is_terminal(task.state) {
            return;
        }
        match step {
            Step::Start if task.dying => {}
            Step::Start => {
                let (ready, end) = (task.script.ready, task.script.end.clone());
                self.say(process, key, TaskState::TaskStarting, Said::default());
                self.say(process, key, TaskState::TaskRunning, Said::default());
                let ready = ready.map(|wait| (wait, Step::Ready));
                let end = end.map(|(wait, _)| (wait, Step::End));
                for (wait, step) in ready.into_iter().chain(end) {
                    self.after(wait, Timer::Step { process, task: Box::new(key.clone()), serial, step });
                }
            }
            Step::Ready => {
                self.health_is(process, key, true);
                self.check_exits(process, key, 0);
            }
            Step::End => {
                let Some((_, end)) = task.script.end.clone() else { return };
                self.ends(process, key, &end);
            }
            Step::Dead => {
                let starting = task.state == TaskState::TaskStaging;
                let said = if starting {
                    Said {
                        from_agent: true,
                        reason: Some(Reason::TaskKilledDuringLaunch),
                        message: Some("Task killed before it was launched".to_owned()),
                    }
                } else {
                    Said {
                        message: Some("Command terminated with signal Terminated".to_owned()),
                        ..Said::default()
                    }
                };
                self.say(process, key, TaskState::TaskKilled, said);
            }
        }
    }

    pub(crate) fn check_exits(&mut self, process: usize, key: &TaskKey, code: i32) {
        let Some(task) = self.agents[process].tasks.get_mut(key) else { return };
        let Some(check) = &mut task.check else { return };
        let status = check_status_info::Command { exit_code: Some(code) };
        if check.command.replace(status) == Some(status) {
            return;
        }
        let reason = Some(Reason::TaskCheckStatusUpdated);
        self.say(process, key, TaskState::TaskRunning, Said { reason, ..Said::default() });
    }

    pub(crate) fn health_is(&mut self, process: usize, key: &TaskKey, healthy: bool) {
        let Some(task) = self.agents[process].tasks.get_mut(key) else { return };
        if task.has_health && task.healthy.replace(healthy) != Some(healthy) {
            let reason = Some(Reason::TaskHealthCheckStatusUpdated);
            self.say(process, key, TaskState::TaskRunning, Said { reason, ..Said::default() });
        }
    }

    pub(crate) fn ends(&mut self, process: usize, key: &TaskKey, end: &End) {
        let (state, how) = match end {
            End::Code(0) => (TaskState::TaskFinished, "exited with status 0".to_owned()),
            End::Code(code) => (TaskState::TaskFailed, format!("exited with status {code}")),
            End::Signal(signal) => (TaskState::TaskFailed, format!("terminated with signal {signal}")),
        };
        self.say(process, key, state, Said { message: Some(format!("Command {how}")), ..Said::default() });
    }

    fn kill_there(&mut self, process: usize, key: &TaskKey) {
        let agent = &mut self.agents[process];
        let announces =
            agent.frameworks.get(&key.0).is_some_and(|info| has(info, Capability::TaskKillingState));
        let Some(task) = agent.tasks.get_mut(key) else { return };
        if is_terminal(task.state) || std::mem::replace(&mut task.dying, true) {
            return;
        }
        let (serial, wait) = (task.serial, task.script.dies);
        if announces && task.state == TaskState::TaskRunning {
            self.say(process, key, TaskState::TaskKilling, Said::default());
        }
        self.after(wait, Timer::Step { process, task: Box::new(key.clone()), serial, step: Step::Dead });
    }

    /// A task that the master knows, and that never arrived here.
    fn unknown_task(&mut self, process: usize, key: &TaskKey, state: TaskState) {
        let agent = &mut self.agents[process];
        agent.next_serial += 1;
        let record = AgentTask {
            role: "*".into(),
            resources: Resources::default(),
            state: TaskState::TaskStaging,
            healthy: None,
            check: None,
            has_health: false,
            pending: VecDeque::new(),
            serial: agent.next_serial,
            retry: self.settings.retry.0,
            script: Script::default(),
            dying: false,
            drained: false,
        };
        agent.tasks.entry(key.clone()).or_insert(record);
        let said = Said {
            from_agent: true,
            reason: Some(Reason::Reconciliation),
            message: Some("Reconciliation: task unknown to the agent".to_owned()),
        };
        self.say(process, key, state, said);
    }

    /// A new update. It is sent when those before it are acknowledged.
    pub(crate) fn say(&mut self, process: usize, key: &TaskKey, state: TaskState, said: Said) {
        let (uuid, at) = (self.random.uuid(), self.now);
        let Some(task) = self.agents[process].tasks.get_mut(key) else { return };
        if std::mem::replace(&mut task.state, state) != state {
            // As the executor's: a new state says nothing of checks.
            task.healthy = None;
            if let Some(check) = &mut task.check {
                check.command = check.command.map(|_| check_status_info::Command::default());
            }
        }
        let killed = matches!(state, TaskState::TaskKilling | TaskState::TaskKilled);
        let drained = (task.drained && killed).then_some(Reason::AgentDraining);
        let pending = Pending {
            state,
            uuid,
            at,
            source: if said.from_agent { Source::Agent } else { Source::Executor },
            reason: drained.or(said.reason),
            message: said.message.map(Into::into),
            healthy: task.healthy,
            check: task.check,
        };
        task.pending.push_back(pending);
        if task.pending.len() == 1 {
            self.send_update(process, key);
        }
    }

    /// Sends the first update of a task, and again when nobody acknowledges it.
    fn send_update(&mut self, process: usize, key: &TaskKey) {
        let agent = &mut self.agents[process];
        let (Some(agent_key), true) = (agent.key, agent.runs && agent.registered && !agent.partitioned)
        else {
            return;
        };
        let Some(task) = agent.tasks.get_mut(key) else { return };
        let Some(update) = task.pending.front() else { return };
        let (serial, wait, uuid, latest) = (task.serial, task.retry, update.uuid, task.state);
        let mut status = TaskStatus {
            task_id: (&*key.1).into(),
            state: Some(update.state.into()),
            message: update.message.as_deref().map(str::to_owned),
            agent_id: Some((&**self.identities.id(agent_key)).into()),
            timestamp: Some(update.at.as_secs_f64()),
            source: Some(update.source.into()),
            reason: update.reason.map(Into::into),
            uuid: Some(update.uuid.to_vec().into()),
            healthy: update.healthy,
            check_status: update.check,
            ..Default::default()
        };
        if update.source == Source::Executor {
            status.executor_id = Some((&*key.1).into());
            status.container_status = Some(self.container_status(agent_key, &key.1));
        }
        self.tell_master(process, ToMaster::Update { task: key.clone(), status: Box::new(status), latest });
        self.after(wait, Timer::Retry { process, task: Box::new(key.clone()), serial, uuid });
    }

    pub(crate) fn retry(&mut self, process: usize, key: &TaskKey, serial: u64, uuid: [u8; 16]) {
        let most = self.settings.retry.1;
        let Some(task) = self.agents[process].tasks.get_mut(key) else { return };
        if task.serial == serial && task.pending.front().is_some_and(|update| update.uuid == uuid) {
            task.retry = (task.retry * 2).min(most);
            self.send_update(process, key);
        }
    }

    fn acknowledged(&mut self, process: usize, key: &TaskKey, uuid: [u8; 16]) {
        let Some(task) = self.agents[process].tasks.get_mut(key) else { return };
        if task.pending.front().is_none_or(|update| update.uuid != uuid) {
            return;
        }
        task.retry = self.settings.retry.0;
        let acknowledged = task.pending.pop_front();
        if acknowledged.is_some_and(|update| is_terminal(update.state)) {
            let agent = &mut self.agents[process];
            agent.tasks.remove(key);
            let from = (Arc::clone(&key.0), Arc::from(""));
            if agent.tasks.range(from..).next().is_none_or(|(next, _)| next.0 != key.0) {
                agent.frameworks.remove(&key.0);
            }
        } else {
            self.send_update(process, key);
        }
    }

    /// Sends what is unacknowledged, as if for the first time: all of it, or that of one framework.
    pub(crate) fn resume(&mut self, process: usize, framework: Option<&Arc<str>>) {
        let first = self.settings.retry.0;
        let mut waiting = Vec::new();
        for (key, task) in &mut self.agents[process].tasks {
            if !task.pending.is_empty() && framework.is_none_or(|framework| *framework == key.0) {
                task.retry = first;
                waiting.push(key.clone());
            }
        }
        for key in &waiting {
            self.send_update(process, key);
        }
    }
}
