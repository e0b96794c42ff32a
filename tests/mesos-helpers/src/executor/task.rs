//! The one task of the executor: its process, its kill, and the statuses it goes through.

use std::{io, process::ExitStatus, time::Duration};

use mesos_v1::{
    ExecutorId, TaskInfo, TaskState, TaskStatus,
    task_status::{Reason, Source},
};
use rustix::process::{Pid, Signal};
use tokio::{process::Child, sync::mpsc, time::Instant};
use uuid::Uuid;

use super::{
    checks::{self, Checks, Finding},
    process::{command, describe, signal_tree},
    settings::TaskEnvironment,
};

/// The grace period of a kill where neither the task nor the call names one.
pub const DEFAULT_KILL_GRACE_PERIOD: Duration = Duration::from_secs(3);

/// A task that has been launched.
#[derive(Debug)]
pub struct Task {
    /// As the agent sent it.
    pub info: TaskInfo,
    /// Whether any of its updates was acknowledged: then the agent knows the task.
    pub acknowledged: bool,
    last: TaskStatus,
    process: Option<Process>,
    checks: Checks,
    kill: Option<Kill>,
    unhealthy: bool,
    /// When `max_completion_time` ends the task.
    completion_deadline: Option<Instant>,
    exceeded_completion_time: bool,
}

#[derive(Debug)]
struct Process {
    child: Child,
    pid: Pid,
}

#[derive(Debug)]
struct Kill {
    started: Instant,
    /// When SIGKILL follows; `None` once it was sent.
    escalation: Option<Instant>,
}

impl Task {
    /// Takes a task on; it is not running yet.
    pub fn new(info: TaskInfo, executor_id: &ExecutorId) -> Self {
        let last = TaskStatus {
            task_id: info.task_id.clone(),
            source: Some(Source::Executor.into()),
            executor_id: Some(executor_id.clone()),
            check_status: info.check.as_ref().map(checks::empty_status),
            ..Default::default()
        };
        Self {
            info,
            acknowledged: false,
            last,
            process: None,
            checks: Checks::default(),
            kill: None,
            unhealthy: false,
            completion_deadline: None,
            exceeded_completion_time: false,
        }
    }

    /// Starts the command and its checks. The reason of a failure is worded for the framework.
    pub fn start(
        &mut self,
        environment: &TaskEnvironment,
        findings: &mpsc::UnboundedSender<Finding>,
    ) -> Result<(), String> {
        checks::validate(&self.info)?;
        let info = self.info.command.as_ref().ok_or("The task has no command")?;
        let mut command = command(info, environment)
            .ok_or_else(|| format!("Executable of task '{}' is not specified", self.info.task_id))?;
        let failed = |error: io::Error| format!("Failed to execute command '{}': {error}", info.value());
        let child = command.spawn().map_err(failed)?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        let pid = pid.ok_or_else(|| failed(io::Error::other("the process has no ID")))?;
        eprintln!("mesos-executor: forked command at {}", pid.as_raw_nonzero());
        self.process = Some(Process { child, pid });
        self.checks = Checks::start(&self.info, environment, findings);
        let limit = self.info.max_completion_time.map_or(0, |limit| limit.nanoseconds);
        self.completion_deadline =
            u64::try_from(limit).ok().filter(|n| *n > 0).map(|n| Instant::now() + Duration::from_nanos(n));
        Ok(())
    }

    /// Whether the process has been started and not been reaped yet.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Waits for the end of the process; for ever when there is none. May be dropped at any time.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        match &mut self.process {
            Some(process) => process.child.wait().await,
            None => std::future::pending().await,
        }
    }

    /// The kill grace period of a call: its own, else the task's, else the default.
    pub fn grace_period(&self, call: Option<&mesos_v1::KillPolicy>) -> Duration {
        let of = |policy: &mesos_v1::KillPolicy| policy.grace_period.map(|d| d.nanoseconds);
        call.and_then(of)
            .or_else(|| self.info.kill_policy.as_ref().and_then(of))
            .map_or(DEFAULT_KILL_GRACE_PERIOD, |n| Duration::from_nanos(n.try_into().unwrap_or(0)))
    }

    /// Begins to kill the process, or shortens the grace period of a kill that is under way; it is
    /// never prolonged. Returns whether the kill begins now.
    pub fn kill(&mut self, grace: Duration) -> bool {
        let Some(process) = &self.process else { return false };
        if let Some(kill) = &mut self.kill {
            let wanted = kill.started + grace;
            kill.escalation = kill.escalation.map(|at| at.min(wanted));
            return false;
        }
        self.checks.stop();
        self.completion_deadline = None;
        eprintln!("mesos-executor: sending SIGTERM to the process tree at {}", process.pid.as_raw_nonzero());
        signal_tree(process.pid, Signal::TERM);
        let started = Instant::now();
        self.kill = Some(Kill { started, escalation: Some(started + grace) });
        true
    }

    /// When [`Task::act_on_timer`] has something to do.
    pub fn timer(&self) -> Option<Instant> {
        self.kill.as_ref().map_or(self.completion_deadline, |kill| kill.escalation)
    }

    /// SIGKILL at the end of a grace period; the kill at the end of the completion time.
    pub fn act_on_timer(&mut self) {
        let now = Instant::now();
        if self.completion_deadline.is_some_and(|at| at <= now) {
            eprintln!("mesos-executor: the task exceeded its maximum completion time");
            self.exceeded_completion_time = true;
            self.kill(Duration::ZERO);
        }
        if let (Some(kill), Some(process)) = (&mut self.kill, &self.process)
            && kill.escalation.is_some_and(|at| at <= now)
        {
            kill.escalation = None;
            let pid = process.pid;
            eprintln!("mesos-executor: sending SIGKILL to the process tree at {}", pid.as_raw_nonzero());
            signal_tree(pid, Signal::KILL);
        }
    }

    /// A status without what earlier ones carried, as for every new state of the task.
    pub fn status(&mut self, state: TaskState, message: Option<String>) -> TaskStatus {
        self.last.healthy = None;
        self.last.check_status = self.info.check.as_ref().map(checks::empty_status);
        self.last.reason = None;
        self.last.message = message;
        self.last.state = Some(state.into());
        self.stamped()
    }

    /// The status that reports a check, with all that the one before carried; `None` when the
    /// task is being killed or has ended. The second value asks for a kill.
    pub fn check_status(&mut self, finding: Finding) -> Option<(TaskStatus, bool)> {
        if self.kill.is_some() || self.process.is_none() {
            return None;
        }
        self.last.message = None;
        let wants_kill = match finding {
            Finding::Health { healthy, kill } => {
                self.last.healthy = Some(healthy);
                self.last.reason = Some(Reason::TaskHealthCheckStatusUpdated.into());
                self.unhealthy = kill;
                kill
            }
            Finding::Check(status) => {
                self.last.check_status = Some(status);
                self.last.reason = Some(Reason::TaskCheckStatusUpdated.into());
                false
            }
        };
        Some((self.stamped(), wants_kill))
    }

    /// The terminal status for the end of the process.
    pub fn terminal_status(&mut self, ended: io::Result<ExitStatus>) -> TaskStatus {
        self.process = None;
        self.checks.stop();
        self.completion_deadline = None;
        let (state, message) = match ended {
            Ok(status) => {
                let state = if self.exceeded_completion_time {
                    TaskState::TaskFailed
                } else if self.kill.is_some() {
                    TaskState::TaskKilled
                } else if status.success() {
                    TaskState::TaskFinished
                } else {
                    TaskState::TaskFailed
                };
                (state, format!("Command {}", describe(status)))
            }
            Err(error) => (TaskState::TaskFailed, format!("Failed to get exit status for Command: {error}")),
        };
        eprintln!("mesos-executor: {message}");
        let mut status = self.status(state, Some(message));
        if self.exceeded_completion_time {
            status.reason = Some(Reason::MaxCompletionTimeReached.into());
        }
        if self.kill.is_some() && self.unhealthy {
            status.healthy = Some(false);
        }
        status
    }

    fn stamped(&mut self) -> TaskStatus {
        self.last.uuid = Some(Uuid::new_v4().as_bytes().to_vec().into());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.last.timestamp = now.ok().map(|since| since.as_secs_f64());
        self.last.clone()
    }
}
