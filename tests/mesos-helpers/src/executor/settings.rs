//! What the agent tells its executor: the environment and the command line.

use std::{collections::BTreeMap, env, time::Duration};

use mesos_v1::{ExecutorId, FrameworkId};
use serde::Deserialize;

use crate::duration::{self, DurationError};

/// Command line of the executor. The agent gives only these for a task without a root file
/// system of its own; with one it gives more, which is refused.
#[derive(Debug, Default, clap::Parser)]
#[command(name = "mesos-executor", about = "Runs one command task of a Mesos agent.")]
pub struct Arguments {
    /// Directory of the Mesos programs (not needed here).
    #[arg(long = "launcher_dir")]
    pub launcher_dir: Option<String>,
    /// Variables that the agent's isolators add for the task: an `Environment` message as JSON.
    #[arg(long = "task_environment", value_parser = parse_environment)]
    pub task_environment: Option<TaskEnvironment>,
}

/// Variables for the task, by name.
pub type TaskEnvironment = BTreeMap<String, String>;

fn parse_environment(json: &str) -> Result<TaskEnvironment, serde_json::Error> {
    #[derive(Deserialize)]
    struct Variable {
        name: String,
        /// Absent for a secret.
        value: Option<String>,
    }
    #[derive(Deserialize)]
    struct Environment {
        #[serde(default)]
        variables: Vec<Variable>,
    }
    let environment: Environment = serde_json::from_str(json)?;
    Ok(environment.variables.into_iter().filter_map(|v| Some((v.name, v.value?))).collect())
}

/// Why the executor cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The agent always sets it.
    #[error("expecting '{0}' to be set in the environment")]
    Missing(&'static str),
    /// A duration cannot be read.
    #[error("in {name}: {source}")]
    Duration {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        source: DurationError,
    },
}

/// The executor's identity and limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `host:port` of the agent.
    pub agent: String,
    /// The framework of the task.
    pub framework_id: FrameworkId,
    /// For command tasks the same as the task's ID.
    pub executor_id: ExecutorId,
    /// How long to look for the agent after the connection broke; `None` when the framework does
    /// not checkpoint: then the task ends with the connection.
    pub recovery_timeout: Option<Duration>,
    /// Within this time after SHUTDOWN the agent destroys the container.
    pub shutdown_grace_period: Duration,
    /// Between two attempts to subscribe.
    pub retry_interval: Duration,
    /// Variables for the task from the agent's isolators.
    pub task_environment: TaskEnvironment,
}

impl Settings {
    /// Reads the environment of this process.
    pub fn from_environment(arguments: Arguments) -> Result<Self, SettingsError> {
        Self::from_lookup(arguments, |name| env::var(name).ok())
    }

    fn from_lookup(
        arguments: Arguments,
        lookup: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let required = |name| lookup(name).ok_or(SettingsError::Missing(name));
        let duration = |name, default: Duration| match lookup(name) {
            Some(text) => duration::parse(&text).map_err(|source| SettingsError::Duration { name, source }),
            None => Ok(default),
        };
        let checkpoint = lookup("MESOS_CHECKPOINT").is_some_and(|value| value == "1");
        // The defaults are those of the agent's flags.
        let recovery_timeout = duration("MESOS_RECOVERY_TIMEOUT", Duration::from_mins(15))?;
        Ok(Self {
            agent: required("MESOS_AGENT_ENDPOINT")?,
            framework_id: required("MESOS_FRAMEWORK_ID")?.into(),
            executor_id: required("MESOS_EXECUTOR_ID")?.into(),
            recovery_timeout: checkpoint.then_some(recovery_timeout),
            shutdown_grace_period: duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", Duration::from_secs(5))?,
            // An agent waits for its executors only as long as its re-registration timeout (2 s
            // by default), so there is little time to be found again.
            retry_interval: duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", Duration::from_secs(2))?
                .min(Duration::from_millis(100)),
            task_environment: arguments.task_environment.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let lookup = |name| Some(pairs.iter().find(|(n, _)| *n == name)?.1.to_owned());
        Settings::from_lookup(Arguments::default(), lookup).map_err(|e| e.to_string())
    }

    const IDENTITY: [(&str, &str); 3] =
        [("MESOS_AGENT_ENDPOINT", "h:1"), ("MESOS_FRAMEWORK_ID", "f"), ("MESOS_EXECUTOR_ID", "e")];

    #[test]
    fn a_framework_that_does_not_checkpoint_has_no_recovery() {
        let settings = settings(&IDENTITY).unwrap();
        assert_eq!(settings.recovery_timeout, None);
        assert_eq!(settings.shutdown_grace_period, Duration::from_secs(5));
        assert_eq!(settings.retry_interval, Duration::from_millis(100));
    }

    #[test]
    fn checkpointing_and_durations() {
        let mut pairs = IDENTITY.to_vec();
        pairs.extend([("MESOS_CHECKPOINT", "1"), ("MESOS_RECOVERY_TIMEOUT", "24hrs")]);
        assert_eq!(settings(&pairs).unwrap().recovery_timeout, Some(Duration::from_hours(24)));
        pairs.push(("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "soon"));
        assert!(
            settings(&pairs).unwrap_err().starts_with("in MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD: \"soon\"")
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(settings(&IDENTITY[..2]).unwrap_err().contains("'MESOS_EXECUTOR_ID'"));
    }

    #[test]
    fn the_command_line_of_an_agent() {
        let json = r#"{"variables":[{"name":"A","type":"VALUE","value":"1"},{"name":"S","type":"SECRET"}]}"#;
        let environment = format!("--task_environment={json}");
        let arguments =
            Arguments::try_parse_from(["mesos-executor", "--launcher_dir=/x", &environment]).unwrap();
        assert_eq!(arguments.task_environment, Some([("A".to_owned(), "1".to_owned())].into()));
        let error = Arguments::try_parse_from(["mesos-executor", "--rootfs=/r"]).unwrap_err();
        assert!(error.to_string().contains("--rootfs"), "{error}");
    }
}
