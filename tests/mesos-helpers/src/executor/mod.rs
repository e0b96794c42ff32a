//! The command executor: runs one task for a Mesos agent over the v1 executor API.
//!
//! One loop owns all state and waits for the agent, the task's process, its checks and its timers.
//! The task never waits for the agent: while the connection is down its updates are kept and go
//! with the next subscription.

mod checks;
mod link;
mod process;
pub mod settings;
mod task;
mod updates;

use std::{
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use mesos_v1::{
    TaskState, TaskStatus,
    executor::{Call, Event, call, event},
    framework_info::capability,
};
use tokio::{sync::mpsc, time::Instant};

use self::{
    checks::Finding,
    link::{Happening, Link},
    settings::Settings,
    task::Task,
    updates::Unacknowledged,
};

/// How long to wait for the acknowledgement of the terminal update.
const ACKNOWLEDGEMENT_LIMIT: Duration = Duration::from_mins(1);
/// Left to the agent of its shutdown grace period, for SIGKILL to work and the update to arrive.
const SHUTDOWN_RESERVE: Duration = Duration::from_secs(2);

/// Runs the executor to its end, which is a success when the task ended and the agent knows it.
pub async fn run(settings: Settings) -> ExitCode {
    let mut executor = Executor::new(settings);
    loop {
        match executor.step().await {
            Ok(()) => {}
            Err(End::Done) => return ExitCode::SUCCESS,
            Err(End::Failed(why)) => {
                eprintln!("mesos-executor: {why}");
                executor.kill_now();
                return ExitCode::FAILURE;
            }
        }
    }
}

/// Why the executor ends.
#[derive(Debug)]
enum End {
    Done,
    Failed(String),
}

struct Executor {
    settings: Settings,
    link: Link,
    /// The agent has confirmed the subscription that is there now.
    subscribed: bool,
    /// Since when it has not; the reason that was printed last.
    lost: (Instant, String),
    updates: Unacknowledged,
    task: Option<Task>,
    /// The framework wants to hear of `TASK_KILLING`.
    announces_kills: bool,
    /// When to give up, whatever is still missing.
    deadline: Option<(Instant, &'static str)>,
    shutting_down: bool,
    findings: (mpsc::UnboundedSender<Finding>, mpsc::UnboundedReceiver<Finding>),
}

impl Executor {
    fn new(settings: Settings) -> Self {
        Self {
            link: Link::new(&settings.agent, settings.retry_interval),
            settings,
            subscribed: false,
            lost: (Instant::now(), String::new()),
            updates: Unacknowledged::default(),
            task: None,
            announces_kills: false,
            deadline: None,
            shutting_down: false,
            findings: mpsc::unbounded_channel(),
        }
    }

    /// Waits for one thing to happen and acts on it.
    async fn step(&mut self) -> Result<(), End> {
        let timer = self.next_timer();
        tokio::select! {
            happening = self.link.next() => self.on_link(happening),
            ended = ended(&mut self.task) => {
                self.on_task_end(ended);
                Ok(())
            }
            Some(finding) = self.findings.1.recv() => {
                self.on_finding(finding);
                Ok(())
            }
            () = sleep_until(timer) => self.on_timer(),
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        let task = self.task.as_ref().and_then(Task::timer);
        let deadline = self.deadline.map(|(at, _)| at);
        [task, deadline, self.recovery_end()].into_iter().flatten().min()
    }

    /// When the search for the agent ends. It does not while the executor is shutting down: that
    /// has a deadline of its own.
    fn recovery_end(&self) -> Option<Instant> {
        let searching = !self.subscribed && !self.shutting_down;
        let limit = self.settings.recovery_timeout.unwrap_or(self.settings.shutdown_grace_period);
        searching.then(|| self.lost.0 + limit)
    }

    fn on_timer(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if let Some((_, why)) = self.deadline.filter(|(at, _)| *at <= now) {
            if self.recovery_end().is_none_or(|end| end <= now) {
                return Err(End::Failed(why.to_owned()));
            }
            // The agent is away: it has until the recovery timeout.
            self.await_acknowledgement();
        }
        if self.recovery_end().is_some_and(|at| at <= now) {
            eprintln!("mesos-executor: the agent did not come back in time ({})", self.lost.1);
            return self.shut_down();
        }
        if let Some(task) = &mut self.task {
            task.act_on_timer();
        }
        Ok(())
    }

    fn on_link(&mut self, happening: Happening) -> Result<(), End> {
        match happening {
            Happening::Due => self.subscribe(),
            Happening::Event(event) => return self.on_event(*event),
            Happening::Lost(error) => {
                let reason = error.to_string();
                if self.subscribed || self.lost.1 != reason {
                    eprintln!("mesos-executor: not subscribed: {reason}");
                }
                if self.subscribed {
                    self.subscribed = false;
                    self.lost.0 = Instant::now();
                    self.lost.1 = reason;
                    if self.settings.recovery_timeout.is_none() && !self.shutting_down {
                        eprintln!("mesos-executor: the framework does not checkpoint: the task ends");
                        return self.shut_down();
                    }
                } else {
                    self.lost.1 = reason;
                }
            }
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event) -> Result<(), End> {
        let missing = |kind: &str| End::Failed(format!("the agent sent a {kind} event without its body"));
        match event.r#type() {
            event::Type::Subscribed => {
                let subscribed = event.subscribed.ok_or_else(|| missing("SUBSCRIBED"))?;
                let kind = capability::Type::TaskKillingState;
                self.announces_kills =
                    subscribed.framework_info.capabilities.iter().any(|c| c.r#type() == kind);
                eprintln!("mesos-executor: subscribed on {}", subscribed.agent_info.hostname);
                self.subscribed = true;
                self.lost.1.clear();
                self.flush();
            }
            event::Type::Launch => self.launch(event.launch.ok_or_else(|| missing("LAUNCH"))?.task),
            event::Type::LaunchGroup => {
                eprintln!("mesos-executor: LAUNCH_GROUP is not supported by a command executor");
                return self.shut_down();
            }
            event::Type::Kill => {
                let kill = event.kill.ok_or_else(|| missing("KILL"))?;
                let Some(task) = self.task.as_ref().filter(|task| task.info.task_id == kill.task_id) else {
                    return Err(End::Failed(format!(
                        "asked to kill task {}, which has not been launched",
                        kill.task_id
                    )));
                };
                let grace = task.grace_period(kill.kill_policy.as_ref());
                eprintln!(
                    "mesos-executor: received kill for task {} with grace period of {grace:?}",
                    kill.task_id
                );
                self.kill(grace);
            }
            event::Type::Acknowledged => {
                let acknowledged = event.acknowledged.ok_or_else(|| missing("ACKNOWLEDGED"))?;
                return self.acknowledge(&acknowledged.uuid);
            }
            event::Type::Shutdown => {
                eprintln!("mesos-executor: shutting down");
                return self.shut_down();
            }
            event::Type::Error => {
                eprintln!(
                    "mesos-executor: error from the agent: {}",
                    event.error.unwrap_or_default().message
                );
            }
            event::Type::Message | event::Type::Heartbeat => {}
            event::Type::Unknown => {
                eprintln!("mesos-executor: ignored an event of unknown type {:?}", event.r#type);
            }
        }
        Ok(())
    }

    fn launch(&mut self, info: mesos_v1::TaskInfo) {
        if let Some(task) = &self.task {
            if task.info.task_id == info.task_id {
                eprintln!("mesos-executor: ignored a second LAUNCH of task {}", info.task_id);
                return;
            }
            let message = "Attempted to run multiple tasks using a \"command\" executor".to_owned();
            let refused =
                Task::new(info, &self.settings.executor_id).status(TaskState::TaskFailed, Some(message));
            return self.update(refused);
        }
        eprintln!("mesos-executor: starting task {}", info.task_id);
        let mut task = Task::new(info, &self.settings.executor_id);
        self.update(task.status(TaskState::TaskStarting, None));
        match task.start(&self.settings.task_environment, &self.findings.0) {
            Ok(()) => self.update(task.status(TaskState::TaskRunning, None)),
            Err(message) => {
                eprintln!("mesos-executor: {message}");
                self.update(task.status(TaskState::TaskFailed, Some(message)));
                self.await_acknowledgement();
            }
        }
        self.task = Some(task);
    }

    fn kill(&mut self, grace: Duration) {
        let Some(task) = &mut self.task else { return };
        if task.kill(grace) && self.announces_kills {
            let killing = task.status(TaskState::TaskKilling, None);
            self.update(killing);
        }
    }

    /// Ends the task within the grace period that the agent grants its executors.
    fn shut_down(&mut self) -> Result<(), End> {
        self.shutting_down = true;
        if self.task.is_none() {
            return Err(End::Done);
        }
        if self.is_running() {
            let grace = self.settings.shutdown_grace_period;
            self.deadline =
                Some((Instant::now() + grace, "the task did not end in the shutdown grace period"));
            self.kill(grace.saturating_sub(SHUTDOWN_RESERVE));
        } else {
            self.await_acknowledgement();
        }
        Ok(())
    }

    fn is_running(&self) -> bool {
        self.task.as_ref().is_some_and(Task::is_running)
    }

    fn kill_now(&mut self) {
        if let Some(task) = &mut self.task {
            task.kill(Duration::ZERO);
            task.act_on_timer();
        }
    }

    fn on_task_end(&mut self, ended: std::io::Result<ExitStatus>) {
        let Some(task) = &mut self.task else { return };
        let status = task.terminal_status(ended);
        self.update(status);
        self.await_acknowledgement();
    }

    /// Sets when to give up on the acknowledgement of the terminal update.
    fn await_acknowledgement(&mut self) {
        let limit = if self.shutting_down { SHUTDOWN_RESERVE } else { ACKNOWLEDGEMENT_LIMIT };
        self.deadline = Some((Instant::now() + limit, "the terminal update was not acknowledged"));
    }

    fn on_finding(&mut self, finding: Finding) {
        let Some(task) = &mut self.task else { return };
        if let Some((status, wants_kill)) = task.check_status(finding) {
            let grace = task.grace_period(None);
            self.update(status);
            if wants_kill {
                eprintln!("mesos-executor: killing the task: its health check failed too often");
                self.kill(grace);
            }
        }
    }

    fn acknowledge(&mut self, uuid: &[u8]) -> Result<(), End> {
        let Some(status) = self.updates.acknowledge(uuid) else {
            eprintln!("mesos-executor: the agent acknowledged an unknown update");
            return Ok(());
        };
        let Some(task) = self.task.as_mut().filter(|task| task.info.task_id == status.task_id) else {
            return Ok(());
        };
        task.acknowledged = true;
        let terminal =
            matches!(status.state(), TaskState::TaskFinished | TaskState::TaskFailed | TaskState::TaskKilled);
        if terminal { Err(End::Done) } else { Ok(()) }
    }

    /// Keeps an update until it is acknowledged, and sends it when there is a subscription.
    fn update(&mut self, status: TaskStatus) {
        self.updates.push(status);
        if self.subscribed {
            self.flush();
        }
    }

    fn flush(&mut self) {
        for update in self.updates.take_unsent() {
            let call = Call { update: Some(update), ..self.call(call::Type::Update) };
            self.link.send(&call);
        }
    }

    fn subscribe(&mut self) {
        let unacknowledged = self.task.iter().filter(|task| !task.acknowledged);
        let subscribe = call::Subscribe {
            unacknowledged_tasks: unacknowledged.map(|task| task.info.clone()).collect(),
            unacknowledged_updates: self.updates.for_subscribe(),
        };
        let call = Call { subscribe: Some(subscribe), ..self.call(call::Type::Subscribe) };
        self.link.subscribe(&call);
    }

    fn call(&self, kind: call::Type) -> Call {
        Call {
            executor_id: self.settings.executor_id.clone(),
            framework_id: self.settings.framework_id.clone(),
            r#type: Some(kind.into()),
            ..Default::default()
        }
    }
}

async fn ended(task: &mut Option<Task>) -> std::io::Result<ExitStatus> {
    match task {
        Some(task) => task.ended().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
