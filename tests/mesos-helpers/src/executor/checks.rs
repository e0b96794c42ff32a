//! Command health checks, which can end the task, and command checks, which never do.

use std::{process::Stdio, time::Duration};

use mesos_v1::{
    CheckInfo, CheckStatusInfo, CommandInfo, HealthCheck, TaskInfo, check_info, check_status_info,
    health_check,
};
use rustix::process::{Pid, Signal};
use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    process::{command, describe, signal_tree},
    settings::TaskEnvironment,
};

/// News of a check.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Finding {
    /// A health check that changed, or failed once more.
    Health {
        /// Whether the check passed.
        healthy: bool,
        /// Whether it failed so often that the task is to be killed.
        kill: bool,
    },
    /// The result of a check that differs from the one before.
    Check(CheckStatusInfo),
}

/// Says why the checks of `task` cannot be run; the master refuses most of these before.
pub fn validate(task: &TaskInfo) -> Result<(), String> {
    if let Some(check) = &task.health_check {
        if check.r#type() != health_check::Type::Command {
            let kind = check.r#type().as_str_name();
            return Err(format!("Health checks of type {kind} are not supported: use COMMAND"));
        }
        if check.command.as_ref().is_none_or(|command| command.value.is_none()) {
            return Err("The health check has no command".to_owned());
        }
    }
    if let Some(check) = &task.check {
        if check.r#type() != check_info::Type::Command {
            let kind = check.r#type().as_str_name();
            return Err(format!("Checks of type {kind} are not supported: use COMMAND"));
        }
        if check.command.as_ref().is_none_or(|check| check.command.value.is_none()) {
            return Err("The check has no command".to_owned());
        }
    }
    Ok(())
}

/// What every status of a task with this check carries before there is a result.
pub fn empty_status(check: &CheckInfo) -> CheckStatusInfo {
    CheckStatusInfo {
        r#type: Some(check.r#type().into()),
        command: Some(check_status_info::Command::default()),
        ..Default::default()
    }
}

/// The running checks of a task; they stop, with their processes, when this is dropped.
#[derive(Debug, Default)]
pub struct Checks(JoinSet<()>);

impl Checks {
    /// Starts the checks of a task that [`validate`] found good.
    pub fn start(
        task: &TaskInfo,
        environment: &TaskEnvironment,
        findings: &mpsc::UnboundedSender<Finding>,
    ) -> Self {
        let mut checks = JoinSet::new();
        if let Some(check) = task.health_check.clone() {
            checks.spawn(health_check(check, environment.clone(), findings.clone()));
        }
        if let Some(check) = task.check.clone() {
            checks.spawn(plain_check(check, environment.clone(), findings.clone()));
        }
        Self(checks)
    }

    /// Stops all checks.
    pub fn stop(&mut self) {
        self.0.abort_all();
    }
}

async fn health_check(
    check: HealthCheck,
    environment: TaskEnvironment,
    findings: mpsc::UnboundedSender<Finding>,
) {
    let info = check.command.clone().unwrap_or_default();
    let started = Instant::now();
    let grace = seconds(check.grace_period_seconds());
    let mut passed_before = false;
    let mut failures = 0_u32;
    sleep(seconds(check.delay_seconds())).await;
    loop {
        let failure = match run(&info, &environment, limit(check.timeout_seconds())).await {
            Ok(status) if status.success() => None,
            Ok(status) => Some(format!("Command {}", describe(status))),
            Err(error) => Some(error),
        };
        let finding = match failure {
            None if !passed_before || failures > 0 => {
                passed_before = true;
                failures = 0;
                Some(Finding::Health { healthy: true, kill: false })
            }
            None => None,
            Some(reason) if !passed_before && !grace.is_zero() && started.elapsed() <= grace => {
                eprintln!("mesos-executor: health check failed in its grace period: {reason}");
                None
            }
            Some(reason) => {
                failures = failures.saturating_add(1);
                eprintln!("mesos-executor: health check failed {failures} times consecutively: {reason}");
                Some(Finding::Health { healthy: false, kill: failures >= check.consecutive_failures() })
            }
        };
        if let Some(finding) = finding
            && findings.send(finding).is_err()
        {
            return;
        }
        sleep(seconds(check.interval_seconds())).await;
    }
}

async fn plain_check(
    check: CheckInfo,
    environment: TaskEnvironment,
    findings: mpsc::UnboundedSender<Finding>,
) {
    let info = check.command.clone().unwrap_or_default().command;
    let mut previous = empty_status(&check);
    sleep(seconds(check.delay_seconds())).await;
    loop {
        let mut status = empty_status(&check);
        match run(&info, &environment, limit(check.timeout_seconds())).await {
            // A signal as a shell reports it.
            Ok(end) => {
                let exit_code = end.code().or_else(|| Some(128 + end.signal()?));
                status.command = Some(check_status_info::Command { exit_code });
            }
            Err(error) => eprintln!("mesos-executor: check failed: {error}"),
        }
        if status != previous {
            previous = status;
            if findings.send(Finding::Check(status)).is_err() {
                return;
            }
        }
        sleep(seconds(check.interval_seconds())).await;
    }
}

/// Runs one check; its output goes to standard error, as Mesos has it.
async fn run(
    info: &CommandInfo,
    environment: &TaskEnvironment,
    limit: Option<Duration>,
) -> Result<ExitStatus, String> {
    let mut command = command(info, environment).ok_or("the check has no command")?;
    command.stdin(Stdio::null()).stdout(std::io::stderr()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| format!("Failed to create subprocess: {e}"))?;
    let mut tree = KillOnDrop(child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)));
    let ended = match limit {
        Some(limit) => {
            let ended = timeout(limit, child.wait()).await;
            ended.map_err(|_| format!("Command has not returned after {limit:?}; aborting"))?
        }
        None => child.wait().await,
    };
    tree.0 = None;
    ended.map_err(|e| format!("Failed to reap the command process: {e}"))
}

/// Kills a check's processes when it is given up; the child itself is not reaped before.
struct KillOnDrop(Option<Pid>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(root) = self.0 {
            signal_tree(root, Signal::KILL);
        }
    }
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::ZERO)
}

/// A timeout of zero means none.
fn limit(value: f64) -> Option<Duration> {
    Some(seconds(value)).filter(|limit| !limit.is_zero())
}
