//! A small framework for tests and the demo: runs single tasks and tells what became of them.
//!
//! It holds offers only while a task waits for one, so it does not stand in the product's way, and
//! the master removes it with all its tasks when it is dropped.

mod driver;
mod offers;
mod sandbox;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{collections::BTreeMap, io};

use mesos_v1::{CheckInfo, HealthCheck, TaskId, TaskState, TaskStatus, command_info};
use tokio::sync::mpsc;

use driver::Command;

/// How long the master may take to take the framework in.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(15);

/// Why a probe did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The framework's thread cannot be started.
    #[error("cannot start the probe: {0}")]
    Start(#[from] io::Error),
    /// The master is not there, refused the framework, or ended it.
    #[error("the probe at {master} has ended: {reason}")]
    Ended {
        /// The master that was given.
        master: String,
        /// Why.
        reason: String,
    },
    /// What was waited for did not come.
    #[error("{task} did not become {awaited} within {limit:?}; last seen: {last}")]
    Timeout {
        /// The task, or the probe itself.
        task: String,
        /// What was waited for.
        awaited: &'static str,
        /// The limit.
        limit: Duration,
        /// The task's last status, or why it has none.
        last: String,
    },
    /// The task ended instead of running.
    #[error("{task} ended instead of running: {last}")]
    NotRunning {
        /// The task.
        task: String,
        /// Its last status.
        last: String,
    },
    /// The task's output cannot be read.
    #[error("cannot read the output of {task}: {reason}")]
    Sandbox {
        /// The task.
        task: String,
        /// Why.
        reason: String,
    },
}

/// A task to run.
#[derive(Debug, Clone)]
pub struct ProbeTask {
    /// Shown by Mesos; the task's ID begins with it.
    pub name: String,
    /// The host name under which the agent is registered.
    pub hostname: String,
    /// The CNI network to join; none for the host's own.
    pub network: Option<String>,
    /// Labels on that network.
    pub labels: Vec<(String, String)>,
    /// A shell command.
    pub command: String,
    /// CPUs.
    pub cpus: f64,
    /// Memory in MB.
    pub mem: f64,
    /// Files to fetch first.
    pub uris: Vec<command_info::Uri>,
    /// Ends the task when it fails too often.
    pub health_check: Option<HealthCheck>,
    /// Is only reported.
    pub check: Option<CheckInfo>,
}

impl Default for ProbeTask {
    /// A small task that does nothing.
    fn default() -> Self {
        Self {
            name: "probe".to_owned(),
            hostname: String::new(),
            network: None,
            labels: Vec::new(),
            command: "true".to_owned(),
            cpus: 0.1,
            mem: 32.0,
            uris: Vec::new(),
            health_check: None,
            check: None,
        }
    }
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// A terminal state.
    pub state: TaskState,
    /// Mesos' words, such as `Command exited with status 0`.
    pub message: String,
}

/// The framework. Dropping it tears it down: its tasks are killed.
#[derive(Debug)]
pub struct Probe {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Registers with the master at `http://HOST:PORT` or `HOST:PORT`; a master that does not lead
    /// sends on to the one that does.
    pub fn connect(master: &str) -> Result<Self, ProbeError> {
        let authority = master.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let shared = Arc::new(Shared::new(&authority));
        let (commands, inbox) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("probe".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                let reason = match runtime.block_on(driver::drive(&shared, inbox)) {
                    Ok(()) => "it was closed".to_owned(),
                    Err(error) => error.to_string(),
                };
                shared.update(|state| state.ended = Some(reason));
            }
        })?;
        let probe = Self { shared, commands, thread: Some(thread) };
        probe.shared.wait(SUBSCRIBE_LIMIT, |state| state.subscribed.then_some(Ok(()))).unwrap_or_else(
            || {
                Err(ProbeError::Timeout {
                    task: format!("the probe at {authority}"),
                    awaited: "registered",
                    limit: SUBSCRIBE_LIMIT,
                    last: "no answer".to_owned(),
                })
            },
        )?;
        Ok(probe)
    }

    /// Asks for a task; it is launched with the first offer of its agent that is large enough.
    pub fn launch(&self, task: ProbeTask) -> ProbeHandle {
        let label = format!("task '{}' on {}", task.name, task.hostname);
        let id = self.shared.update(|state| {
            state.launched += 1;
            // Unlike the number alone it is unique over all probes of a cluster.
            let started = self.shared.started;
            let id = TaskId::from(format!("{}-{started:x}-{}", task.name, state.launched));
            state.tasks.insert(id.value.clone(), Seen::default());
            id
        });
        // A probe that has ended says so to whoever waits.
        let _ = self.commands.send(Command::Launch(id.clone(), Box::new(task)));
        ProbeHandle { shared: Arc::clone(&self.shared), commands: self.commands.clone(), id, label }
    }

    /// Tears the framework down; the master has taken the call when this returns.
    pub fn close(self) {}
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Close);
        if let Some(thread) = self.thread.take() {
            // All that it does has limits.
            let _ = thread.join();
        }
    }
}

/// A task that was asked for.
#[derive(Debug)]
pub struct ProbeHandle {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    id: TaskId,
    label: String,
}

impl ProbeHandle {
    /// The task's ID.
    pub fn id(&self) -> &str {
        &self.id.value
    }

    /// The last status, if there was any.
    pub fn status(&self) -> Option<TaskStatus> {
        self.shared.lock().tasks.get(&self.id.value)?.status.clone()
    }

    /// Waits until the task runs; its addresses on the networks that it joined, else its host's.
    pub fn wait_running(&self, limit: Duration) -> Result<Vec<IpAddr>, ProbeError> {
        self.wait(limit, "running", |seen| {
            let status = seen.status.as_ref()?;
            if status.state() == TaskState::TaskRunning {
                return Some(Ok(addresses(status)));
            }
            let ended = is_terminal(status.state());
            ended.then(|| Err(ProbeError::NotRunning { task: self.label.clone(), last: seen.describe() }))
        })
    }

    /// Waits until the task has ended, however it did.
    pub fn wait_finished(&self, limit: Duration) -> Result<Finished, ProbeError> {
        self.wait(limit, "finished", |seen| {
            let status = seen.status.as_ref().filter(|status| is_terminal(status.state()))?;
            Some(Ok(Finished { state: status.state(), message: status.message().to_owned() }))
        })
    }

    /// Asks for the end of the task, within `grace` or Mesos' default of 3 s.
    pub fn kill(&self, grace: Option<Duration>) {
        let _ = self.commands.send(Command::Kill(self.id.clone(), grace));
    }

    /// What the task has written to its standard output so far.
    pub fn stdout(&self) -> Result<String, ProbeError> {
        self.output("stdout")
    }

    /// What the task, its executor and the fetcher have written to standard error so far.
    pub fn stderr(&self) -> Result<String, ProbeError> {
        self.output("stderr")
    }

    fn output(&self, file: &str) -> Result<String, ProbeError> {
        let agent = self.shared.lock().tasks.get(&self.id.value).and_then(|seen| seen.agent);
        let found = agent.ok_or_else(|| "it has not been launched".to_owned());
        found
            .and_then(|agent| sandbox::read(agent, &self.id.value, file))
            .map_err(|reason| ProbeError::Sandbox { task: self.label.clone(), reason })
    }

    fn wait<T>(
        &self,
        limit: Duration,
        awaited: &'static str,
        test: impl Fn(&Seen) -> Option<Result<T, ProbeError>>,
    ) -> Result<T, ProbeError> {
        let seen = |state: &State| state.tasks.get(&self.id.value).and_then(&test);
        self.shared.wait(limit, seen).unwrap_or_else(|| {
            let last = self.shared.lock().tasks.get(&self.id.value).map(Seen::describe);
            let last = last.unwrap_or_default();
            Err(ProbeError::Timeout { task: self.label.clone(), awaited, limit, last })
        })
    }
}

fn addresses(status: &TaskStatus) -> Vec<IpAddr> {
    let networks = status.container_status.iter().flat_map(|container| &container.network_infos);
    let addresses = networks.flat_map(|network| &network.ip_addresses);
    addresses.filter_map(|address| address.ip_address().parse().ok()).collect()
}

fn is_terminal(state: TaskState) -> bool {
    use TaskState::{
        TaskDropped, TaskError, TaskFailed, TaskFinished, TaskGone, TaskGoneByOperator, TaskKilled, TaskLost,
    };
    matches!(
        state,
        TaskFinished
            | TaskFailed
            | TaskKilled
            | TaskError
            | TaskLost
            | TaskDropped
            | TaskGone
            | TaskGoneByOperator
    )
}

/// What is known of a task.
#[derive(Debug, Default)]
struct Seen {
    /// The API of the agent that runs it.
    agent: Option<SocketAddr>,
    status: Option<TaskStatus>,
    /// Why it waits for an offer.
    waiting: Option<String>,
}

impl Seen {
    fn describe(&self) -> String {
        match (&self.status, &self.waiting) {
            (Some(status), _) => {
                let healthy =
                    status.healthy.map(|healthy| format!(", healthy: {healthy}")).unwrap_or_default();
                format!("{} \"{}\"{healthy}", status.state().as_str_name(), status.message())
            }
            (None, _) if self.agent.is_some() => "launched, no status yet".to_owned(),
            (None, Some(why)) => format!("not launched: {why}"),
            (None, None) => "not launched: no offer of that agent".to_owned(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    subscribed: bool,
    ended: Option<String>,
    launched: u32,
    tasks: BTreeMap<String, Seen>,
}

/// What the framework's thread tells those who wait.
#[derive(Debug)]
struct Shared {
    master: String,
    /// Nanoseconds since the epoch.
    started: u128,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn new(master: &str) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            master: master.to_owned(),
            started: now.map_or(0, |since| since.as_nanos()),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes those who wait.
    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `test` gives a result or the framework has ended; `None` at the limit.
    fn wait<T>(
        &self,
        limit: Duration,
        test: impl Fn(&State) -> Option<Result<T, ProbeError>>,
    ) -> Option<Result<T, ProbeError>> {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(result) = test(&state) {
                return Some(result);
            }
            if let Some(reason) = &state.ended {
                return Some(Err(ProbeError::Ended { master: self.master.clone(), reason: reason.clone() }));
            }
            let left = end.checked_duration_since(Instant::now())?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// An agent's own API, from its offer.
fn agent_address(offer: &mesos_v1::Offer) -> Option<SocketAddr> {
    let address = &offer.url.as_ref()?.address;
    let ip = address.ip.as_ref()?.parse().ok()?;
    Some(SocketAddr::new(ip, address.port.try_into().ok()?))
}
