//! The executor as a real process against a strict agent on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod agent;

use std::path::Path;
use std::time::{Duration, Instant};

use agent::{Agent, exit_status};
use mesos_v1::{
    CheckInfo, CommandInfo, DurationInfo, HealthCheck, KillPolicy, TaskInfo, TaskState, check_info,
    executor::event, framework_info::capability, health_check, task_status::Reason,
};

fn shell(script: &str) -> CommandInfo {
    CommandInfo { value: Some(script.into()), ..Default::default() }
}

fn task(script: &str) -> TaskInfo {
    TaskInfo { name: "t".into(), task_id: "t".into(), command: Some(shell(script)), ..Default::default() }
}

fn health(script: &str, failures: u32) -> HealthCheck {
    HealthCheck {
        r#type: Some(health_check::Type::Command.into()),
        command: Some(shell(script)),
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.05),
        grace_period_seconds: Some(0.0),
        consecutive_failures: Some(failures),
        ..Default::default()
    }
}

fn check(script: &str, timeout: f64) -> CheckInfo {
    CheckInfo {
        r#type: Some(check_info::Type::Command.into()),
        command: Some(check_info::Command { command: shell(script) }),
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.05),
        timeout_seconds: Some(timeout),
        ..Default::default()
    }
}

/// An agent and an executor that runs `task`.
async fn running(task: TaskInfo) -> (Agent, tokio::process::Child) {
    let mut agent = Agent::start().await;
    let executor = agent.executor(&[]);
    agent.subscription().await;
    agent.launch(task);
    agent.expect(TaskState::TaskStarting).await;
    agent.expect(TaskState::TaskRunning).await;
    (agent, executor)
}

#[tokio::test]
async fn a_task_runs_to_its_end() {
    let (mut agent, mut executor) = running(task("exit 0")).await;
    let status = agent.update().await;
    assert_eq!(status.state(), TaskState::TaskFinished);
    assert_eq!(status.message(), "Command exited with status 0");
    assert!(executor.try_wait().unwrap().is_none(), "it waits for the acknowledgement");
    agent.acknowledge(&status);
    assert_eq!(exit_status(&mut executor).await, 0);
}

#[tokio::test]
async fn failures_are_worded_as_mesos_does() {
    for (script, message) in [
        ("exit 3", "Command exited with status 3"),
        ("kill -SEGV $$", "Command terminated with signal Segmentation fault"),
    ] {
        let (mut agent, mut executor) = running(task(script)).await;
        let status = agent.expect(TaskState::TaskFailed).await;
        assert!(status.message().starts_with(message), "{status:?}");
        assert_eq!(exit_status(&mut executor).await, 0);
    }
}

#[tokio::test]
async fn what_cannot_be_started_fails_with_the_reason() {
    let mut http = task("exit 0");
    http.health_check =
        Some(HealthCheck { r#type: Some(health_check::Type::Http.into()), ..Default::default() });
    let mut absent = task("/no/such/program");
    absent.command.as_mut().unwrap().shell = Some(false);
    for (task, message) in [
        (http, "Health checks of type HTTP are not supported"),
        (absent, "Failed to execute command '/no/such/program': No such file or directory"),
    ] {
        let mut agent = Agent::start().await;
        let mut executor = agent.executor(&[]);
        agent.subscription().await;
        agent.launch(task);
        agent.expect(TaskState::TaskStarting).await;
        let status = agent.expect(TaskState::TaskFailed).await;
        assert!(status.message().starts_with(message), "{status:?}");
        assert_eq!(exit_status(&mut executor).await, 0);
    }
}

#[tokio::test]
async fn a_kill_is_announced_only_to_frameworks_that_want_it() {
    let (mut agent, mut executor) = running(task("sleep 60 & wait")).await;
    agent.kill(None);
    let status = agent.expect(TaskState::TaskKilled).await;
    assert_eq!(status.message(), "Command terminated with signal Terminated");
    assert_eq!(exit_status(&mut executor).await, 0);

    let folder = tempfile::tempdir().unwrap();
    let listens = folder.path().join("listens");
    let mut agent = Agent::start().await;
    let mut executor = agent.executor(&[]);
    agent.subscription_with(&[capability::Type::TaskKillingState]).await;
    agent.launch(task(&format!("trap 'exit 0' TERM; : > {}; sleep 60 & wait", listens.display())));
    agent.expect(TaskState::TaskStarting).await;
    agent.expect(TaskState::TaskRunning).await;
    made(&listens).await;
    agent.kill(None);
    agent.expect(TaskState::TaskKilling).await;
    let status = agent.expect(TaskState::TaskKilled).await;
    assert_eq!(status.message(), "Command exited with status 0");
    assert_eq!(exit_status(&mut executor).await, 0);
}

/// Ignores SIGTERM, in all its processes, and makes the file `deaf` as soon as it does.
fn deaf(deaf: &Path) -> TaskInfo {
    task(&format!("trap '' TERM; : > {}; sleep 60; sleep 60", deaf.display()))
}

/// Waits until a task has made a file.
async fn made(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(20), "nobody made {}", path.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_task_that_ignores_sigterm_is_killed_after_its_grace_period() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("deaf");
    let mut deaf = deaf(&ready);
    deaf.kill_policy = Some(KillPolicy { grace_period: Some(DurationInfo { nanoseconds: 700_000_000 }) });
    let (mut agent, mut executor) = running(deaf).await;
    made(&ready).await;
    let started = Instant::now();
    agent.kill(None);
    let status = agent.expect(TaskState::TaskKilled).await;
    assert!(started.elapsed() >= Duration::from_millis(700), "{:?}", started.elapsed());
    assert_eq!(status.message(), "Command terminated with signal Killed");
    assert_eq!(exit_status(&mut executor).await, 0);
}

#[tokio::test]
async fn a_second_kill_can_only_shorten_the_grace_period() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("deaf");
    let (mut agent, _executor) = running(deaf(&ready)).await;
    made(&ready).await;
    let started = Instant::now();
    agent.kill(Some(Duration::from_mins(1)));
    agent.kill(Some(Duration::from_millis(500)));
    agent.kill(Some(Duration::from_secs(30)));
    agent.expect(TaskState::TaskKilled).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_health_check_reports_and_kills_at_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("ill");
    let mut sick = task("sleep 60 & wait");
    sick.health_check = Some(health(&format!("test ! -e {}", flag.display()), 2));
    let (mut agent, mut executor) = running(sick).await;
    let status = agent.expect(TaskState::TaskRunning).await;
    assert_eq!(status.healthy, Some(true));
    assert_eq!(status.reason(), Reason::TaskHealthCheckStatusUpdated);
    std::fs::write(&flag, "").unwrap();
    for _ in 0..2 {
        let status = agent.expect(TaskState::TaskRunning).await;
        assert_eq!((status.healthy, status.message), (Some(false), None));
    }
    let status = agent.expect(TaskState::TaskKilled).await;
    assert_eq!(status.healthy, Some(false));
    assert_eq!(status.message(), "Command terminated with signal Terminated");
    assert_eq!(exit_status(&mut executor).await, 0);
}

#[tokio::test]
async fn failures_in_the_grace_period_do_not_count() {
    let mut slow = task("sleep 60 & wait");
    slow.health_check = Some(HealthCheck { grace_period_seconds: Some(1.0), ..health("false", 1) });
    let started = Instant::now();
    let (mut agent, _executor) = running(slow).await;
    let status = agent.expect(TaskState::TaskRunning).await;
    assert_eq!(status.healthy, Some(false));
    assert!(started.elapsed() >= Duration::from_secs(1));
    agent.expect(TaskState::TaskKilled).await;
}

#[tokio::test]
async fn a_check_reports_changes_and_never_kills() {
    let folder = tempfile::tempdir().unwrap();
    let code = folder.path().join("code");
    std::fs::write(&code, "1").unwrap();
    let mut checked = task("sleep 60 & wait");
    checked.check = Some(check(&format!("exit $(cat {})", code.display()), 5.0));
    let mut agent = Agent::start().await;
    let mut executor = agent.executor(&[]);
    agent.subscription().await;
    agent.launch(checked);
    for state in [TaskState::TaskStarting, TaskState::TaskRunning] {
        let status = agent.expect(state).await.check_status.expect("an empty check status");
        assert_eq!(status.r#type(), check_info::Type::Command);
        assert_eq!(status.command.unwrap().exit_code, None);
    }
    for expected in [1, 0] {
        let status = agent.expect(TaskState::TaskRunning).await;
        assert_eq!(status.reason(), Reason::TaskCheckStatusUpdated);
        assert_eq!(status.check_status.unwrap().command.unwrap().exit_code, Some(expected));
        assert_eq!(status.healthy, None);
        // Many failures later the task still runs.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(executor.try_wait().unwrap().is_none());
        std::fs::write(&code, "0").unwrap();
    }
    agent.kill(None);
    agent.expect(TaskState::TaskKilled).await;
}

#[tokio::test]
async fn a_health_update_keeps_the_check_status() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("well");
    let mut both = task("sleep 60 & wait");
    both.check = Some(check("exit 4", 5.0));
    both.health_check = Some(HealthCheck {
        grace_period_seconds: Some(60.0),
        ..health(&format!("test -e {}", flag.display()), 1)
    });
    let (mut agent, _executor) = running(both).await;
    agent.expect(TaskState::TaskRunning).await;
    std::fs::write(&flag, "").unwrap();
    let status = agent.expect(TaskState::TaskRunning).await;
    assert_eq!(status.healthy, Some(true));
    assert_eq!(status.check_status.unwrap().command.unwrap().exit_code, Some(4));
    agent.kill(None);
    agent.expect(TaskState::TaskKilled).await;
}

#[tokio::test]
async fn a_check_that_hangs_is_ended_with_all_its_processes() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let mut hanging = task("sleep 60 & wait");
    hanging.health_check = Some(HealthCheck {
        timeout_seconds: Some(0.3),
        ..health(&format!("sleep 61 & echo $! > {}; wait", pid.display()), 1)
    });
    let (mut agent, _executor) = running(hanging).await;
    assert_eq!(agent.expect(TaskState::TaskRunning).await.healthy, Some(false));
    agent.expect(TaskState::TaskKilled).await;
    let pid = std::fs::read_to_string(pid).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    assert!(stat.is_err() || stat.unwrap().contains(") Z "), "the check's child still runs");
}

#[tokio::test]
async fn an_agent_restart_does_not_touch_the_task() {
    let (mut agent, mut executor) = running(task("sleep 1; exit 5")).await;
    // The acknowledgements arrive first.
    tokio::time::sleep(Duration::from_millis(200)).await;
    agent.stop();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(executor.try_wait().unwrap().is_none());
    agent.resume();
    // The task ended meanwhile: its update comes with the subscription.
    let subscribe = agent.subscription().await;
    assert!(subscribe.unacknowledged_tasks.is_empty(), "the agent acknowledged an update of it");
    let [update] = &subscribe.unacknowledged_updates[..] else { panic!("{subscribe:?}") };
    assert_eq!(update.status.message(), "Command exited with status 5");
    agent.acknowledge(&update.status);
    assert_eq!(exit_status(&mut executor).await, 0);
}

#[tokio::test]
async fn unacknowledged_task_and_updates_come_with_the_next_subscription() {
    let mut agent = Agent::start().await;
    let mut executor = agent.executor(&[]);
    agent.subscription().await;
    agent.launch(task("sleep 60 & wait"));
    let starting = agent.update().await;
    let running = agent.update().await;
    agent.stop();
    agent.resume();
    let subscribe = agent.subscription().await;
    assert_eq!(subscribe.unacknowledged_tasks[0].task_id.value, "t");
    let uuids: Vec<_> = subscribe.unacknowledged_updates.iter().map(|u| u.status.uuid().to_vec()).collect();
    assert_eq!(uuids, [starting.uuid().to_vec(), running.uuid().to_vec()]);
    agent.acknowledge(&starting);
    agent.acknowledge(&running);
    agent.kill(None);
    agent.expect(TaskState::TaskKilled).await;
    assert_eq!(exit_status(&mut executor).await, 0);
}

#[tokio::test]
async fn without_an_agent_the_task_ends_at_the_recovery_timeout() {
    let mut agent = Agent::start().await;
    let mut executor = agent.executor(&[("MESOS_RECOVERY_TIMEOUT", "1secs")]);
    agent.subscription().await;
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    agent.launch(task(&format!("trap 'echo > {}; exit 0' TERM; sleep 60 & wait", told.display())));
    agent.expect(TaskState::TaskStarting).await;
    agent.expect(TaskState::TaskRunning).await;
    agent.stop();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!told.exists(), "the task was ended too early");
    assert_ne!(exit_status(&mut executor).await, 0);
    assert!(told.exists());
}

#[tokio::test]
async fn without_checkpointing_the_task_ends_with_the_connection() {
    let mut agent = Agent::start().await;
    let mut executor = agent.executor(&[("MESOS_CHECKPOINT", "0")]);
    agent.subscription().await;
    agent.launch(task("sleep 60 & wait"));
    agent.expect(TaskState::TaskStarting).await;
    agent.expect(TaskState::TaskRunning).await;
    agent.stop();
    assert_ne!(exit_status(&mut executor).await, 0);
}

#[tokio::test]
async fn shutdown_ends_the_task_within_the_grace_period() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("deaf");
    let (mut agent, mut executor) = running(deaf(&ready)).await;
    made(&ready).await;
    agent.event(event::Type::Shutdown);
    agent.expect(TaskState::TaskKilled).await;
    assert_eq!(exit_status(&mut executor).await, 0);

    let mut agent = Agent::start().await;
    let mut idle = agent.executor(&[]);
    agent.subscription().await;
    agent.event(event::Type::LaunchGroup);
    assert_eq!(exit_status(&mut idle).await, 0);
}

#[tokio::test]
async fn a_second_task_is_refused() {
    let (mut agent, mut executor) = running(task("sleep 60 & wait")).await;
    agent.launch(TaskInfo { task_id: "other".into(), ..task("exit 0") });
    let status = agent.expect(TaskState::TaskFailed).await;
    assert_eq!(status.task_id.value, "other");
    assert_eq!(status.message(), "Attempted to run multiple tasks using a \"command\" executor");
    assert!(executor.try_wait().unwrap().is_none());
    agent.kill(None);
    agent.expect(TaskState::TaskKilled).await;
    assert_eq!(exit_status(&mut executor).await, 0);
}

#[tokio::test]
async fn the_maximum_completion_time_fails_the_task() {
    let mut endless = task("sleep 60");
    endless.max_completion_time = Some(DurationInfo { nanoseconds: 300_000_000 });
    let (mut agent, _executor) = running(endless).await;
    let status = agent.expect(TaskState::TaskFailed).await;
    assert_eq!(status.reason(), Reason::MaxCompletionTimeReached);
}
