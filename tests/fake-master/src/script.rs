//! What the tasks do: the executors of the fake agents follow scripts.

use std::time::Duration;

use mesos_v1::TaskInfo;

/// How a task ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With this exit status: `TASK_FINISHED` for 0, otherwise `TASK_FAILED`.
    Code(i32),
    /// By a signal of this name: `TASK_FAILED`.
    Signal(String),
}

/// What a task does after its launch, as far as nobody kills it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// From the launch to `TASK_STARTING` and `TASK_RUNNING`.
    pub start: Duration,
    /// From then on until its health check passes and its check exits with 0; never, when there is none.
    pub ready: Option<Duration>,
    /// From the start until it ends; it runs for ever when there is none.
    pub end: Option<(Duration, End)>,
    /// From a KILL until it is dead.
    pub dies: Duration,
}

impl Script {
    /// A service, ready after this time.
    pub fn service(ready: Duration) -> Self {
        Self { ready: Some(ready), ..Self::default() }
    }

    /// A command that exits with `code` after this time.
    pub fn exits(after: Duration, code: i32) -> Self {
        Self { end: Some((after, End::Code(code))), ..Self::default() }
    }

    /// A task with a check or a health check is a service; another ends with 0 after 1 s.
    pub fn usual(task: &TaskInfo) -> Self {
        if task.check.is_some() || task.health_check.is_some() {
            Self::service(Duration::from_secs(2))
        } else {
            Self::exits(Duration::from_secs(1), 0)
        }
    }
}

impl Default for Script {
    /// Starts after 100 ms, runs for ever, and dies 100 ms after a KILL.
    fn default() -> Self {
        let soon = Duration::from_millis(100);
        Self { start: soon, ready: None, end: None, dies: soon }
    }
}
