//! What a task is launched with, how that is stored, and what it is called by.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{docker_socket, words};
use crate::config::{Artifact, Config};
use crate::core::{Definition, Goal, MesosVersion, MostAgents, Needs, Restart, Spec, TargetHash, TaskType};

/// An artifact, and its name in the sandbox.
pub(super) type File = (String, Artifact);

/// What one task type is launched with: all of it is in the target hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    /// The user of the task.
    pub user: String,
    /// Checks the installer, then runs it.
    pub script: String,
    /// The program that does everything.
    pub installer: Artifact,
    /// The installer's arguments: sub-commands and flags.
    pub args: Vec<String>,
    /// What else it needs, by its name in the sandbox.
    pub artifacts: Vec<File>,
    /// Kills the task when it fails.
    pub health: Option<Probe>,
    /// Says whether the task is ready; never kills.
    pub check: Option<Probe>,
    /// How long it has between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// What it takes.
    pub needs: Needs,
    /// Whether it runs for ever or to its end.
    pub service: bool,
    /// What else it needs, and no cache may keep, by its name in the sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private: Vec<File>,
    /// Secrets of DC/OS by their names in the sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<(String, String)>,
    /// When it is launched: no part of what it is launched with.
    #[serde(skip)]
    pub conditions: Conditions,
}

/// When a task type is launched.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Conditions {
    /// Task types of the cluster that must be done before.
    pub after: Vec<TaskType>,
    /// Task types of the same agent without which it is of no use.
    pub requires: Vec<TaskType>,
    /// What must have reached its goal on the agent.
    pub beside: Option<TaskType>,
    /// What it may have to restart.
    pub restart: Option<Restart>,
    /// Up to how many agents it is begun.
    pub most_agents: Option<MostAgents>,
    /// The oldest Mesos that it works with, where that matters.
    pub min_mesos: Option<MesosVersion>,
}

impl Conditions {
    /// The spec of what is launched when these hold.
    pub fn of(self, spec: Spec) -> Spec {
        let Self { after, requires, beside, restart, most_agents, min_mesos } = self;
        let min_mesos = min_mesos.unwrap_or(spec.min_mesos);
        Spec { after, requires, beside, restart, most_agents, min_mesos, ..spec }
    }
}

/// A command that the executor runs again and again beside the task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Probe {
    /// The installer's arguments.
    pub args: Vec<String>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Failures before this time has passed since the start do not count (health checks only).
    pub grace: Duration,
    /// So many failures in a row kill the task (health checks only).
    pub failures: u32,
}

/// Runs the installer only when it is what the operator configured: `$0` is its SHA-256.
const SCRIPT: &str = r#"if ! echo "$0  calico-installer" | sha256sum -c --status -; then
  echo "error: calico-installer is not the artifact that is configured: its SHA-256 is not $0" >&2
  exit 78
fi
chmod u+x calico-installer || exit 78
exec ./calico-installer "$@""#;

impl Template {
    /// A task that ends by itself.
    pub fn install(config: &Config, needs: Needs, args: Vec<String>, artifacts: Vec<File>) -> Self {
        Self {
            user: config.service.user.clone(),
            script: SCRIPT.to_owned(),
            installer: config.target.installer.clone(),
            args,
            artifacts,
            health: None,
            check: None,
            grace: Duration::from_secs(10),
            needs,
            service: false,
            private: Vec::new(),
            secrets: Vec::new(),
            conditions: Conditions::default(),
        }
    }

    /// A service that supervises a container through Docker's API: `calico-installer COMMAND run` and `check`.
    pub fn container(config: &Config, needs: Needs, command: &str, args: Vec<String>) -> Self {
        // Whoever has just been started is asked again at once: what is told late is a longer gap.
        let probe = |goal: &str| Probe {
            args: [words(&[command, "check", goal, "--within=3"]), vec![docker_socket(&config.target)]]
                .concat(),
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(10),
            // An image that is not there yet is pulled first.
            grace: Duration::from_mins(5),
            failures: 6,
        };
        Self {
            service: true,
            health: Some(Probe { interval: Duration::from_secs(5), ..probe("--live") }),
            check: Some(probe("--ready")),
            grace: Duration::from_secs(30),
            ..Self::install(config, needs, args, Vec::new())
        }
    }

    /// The installer's arguments for a look at what this installs; none where nothing is.
    pub fn look(&self) -> Option<Vec<String>> {
        let mut args = self.args.clone();
        let verb = args.get_mut(1).filter(|verb| *verb == "apply")?;
        "check".clone_into(verb);
        Some(args)
    }

    /// Its target and what is stored of it.
    pub fn definition(&self, task_type: TaskType) -> (TargetHash, Definition) {
        // A template is made of texts and numbers: it has a JSON form.
        let template = serde_json::to_string(self).unwrap_or_default();
        let target = hash(&template);
        (target, Definition { task_type, goal: self.goal(), needs: self.needs, template })
    }

    /// Reads what was stored under `target`; or what is wrong with it.
    pub fn read(target: &TargetHash, definition: &Definition) -> Result<Self, String> {
        if hash(&definition.template) != *target {
            return Err("is not what that target was made of".to_owned());
        }
        serde_json::from_str(&definition.template).map_err(|error| format!("cannot be read ({error})"))
    }

    /// What the core needs to know.
    pub fn spec(&self, target: TargetHash) -> Spec {
        self.conditions.clone().of(Spec::new(self.goal(), self.needs, target))
    }

    /// Everything that it fetches.
    pub fn all_artifacts(&self) -> impl Iterator<Item = &Artifact> {
        std::iter::once(&self.installer).chain(self.artifacts.iter().map(|(_, artifact)| artifact))
    }

    fn goal(&self) -> Goal {
        if self.service {
            Goal::Running { check: self.check.is_some(), health: self.health.is_some() }
        } else {
            Goal::Finished
        }
    }
}

/// The hash of a template's stored form.
fn hash(template: &str) -> TargetHash {
    TargetHash::from(hex::encode(Sha256::digest(template.as_bytes())))
}
