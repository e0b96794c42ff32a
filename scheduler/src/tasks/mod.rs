//! The task types: a file each, which says what is launched. To add one: a variant of
//! [`TaskType`], a file here, and its line in [`TaskTypes::new`].

mod calico_node;
mod cluster_init;
mod cni;
mod docker_cluster_store;
mod docker_network;
mod etcd_proxy;
mod launch;
mod libnetwork;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::{Artifact, Config, Etcd, Proxy, Target};
use crate::core::{Goal, MesosVersion, MostAgents, Needs, Restart, Spec, TargetHash, TaskType};

pub use launch::Place;

/// What one task type is launched with: all of it is in the target hash.
#[derive(Debug, Clone, Serialize)]
pub struct Template {
    /// The user of the task.
    user: String,
    /// Checks the installer, then runs it.
    script: &'static str,
    /// The program that does everything.
    installer: Artifact,
    /// The installer's arguments: sub-commands and flags.
    args: Vec<String>,
    /// What else it needs, by its name in the sandbox.
    artifacts: Vec<(&'static str, Artifact)>,
    /// Kills the task when it fails.
    health: Option<Probe>,
    /// Says whether the task is ready; never kills.
    check: Option<Probe>,
    /// How long it has between SIGTERM and SIGKILL.
    grace: Duration,
    /// What it takes.
    needs: Needs,
    /// Whether it runs for ever or to its end.
    service: bool,
    #[serde(skip)]
    after: Vec<TaskType>,
    #[serde(skip)]
    requires: Vec<TaskType>,
    #[serde(skip)]
    beside: Option<TaskType>,
    #[serde(skip)]
    restart: Option<Restart>,
    #[serde(skip)]
    most_agents: Option<MostAgents>,
    #[serde(skip)]
    min_mesos: MesosVersion,
}

/// A template, and the hash of it.
#[derive(Debug, Clone)]
struct Hashed {
    template: Template,
    target: TargetHash,
}

/// A command that the executor runs again and again beside the task.
#[derive(Debug, Clone, Serialize)]
struct Probe {
    /// The installer's arguments.
    args: Vec<String>,
    interval: Duration,
    timeout: Duration,
    /// Failures before this time has passed since the start do not count (health checks only).
    grace: Duration,
    /// So many failures in a row kill the task (health checks only).
    failures: u32,
}

/// Runs the installer only when it is what the operator configured: `$0` is its SHA-256.
const SCRIPT: &str = r#"chmod u+x calico-installer || exit 78
if ! echo "$0  calico-installer" | sha256sum -c --status -; then
  echo "error: calico-installer is not the artifact that is configured: its SHA-256 is not $0" >&2
  exit 78
fi
exec ./calico-installer "$@""#;

impl Template {
    /// A task that ends by itself.
    fn install(
        config: &Config,
        needs: Needs,
        args: Vec<String>,
        artifacts: Vec<(&'static str, Artifact)>,
    ) -> Self {
        Self {
            user: config.service.user.clone(),
            script: SCRIPT,
            installer: config.target.installer.clone(),
            args,
            artifacts,
            health: None,
            check: None,
            grace: Duration::from_secs(10),
            needs,
            service: false,
            after: Vec::new(),
            requires: Vec::new(),
            beside: None,
            restart: None,
            most_agents: None,
            min_mesos: MesosVersion(1, 0),
        }
    }

    /// A service that supervises a container through Docker's API: `calico-installer COMMAND run` and `check`.
    fn container(config: &Config, needs: Needs, command: &str, args: Vec<String>) -> Self {
        let probe = |goal: &str| Probe {
            args: [words(&[command, "check", goal]), vec![docker_socket(&config.target)]].concat(),
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            // An image that is not there yet is pulled first.
            grace: Duration::from_mins(5),
            failures: 10,
        };
        Self {
            service: true,
            health: Some(Probe { interval: Duration::from_secs(5), ..probe("--live") }),
            check: Some(probe("--ready")),
            grace: Duration::from_secs(30),
            ..Self::install(config, needs, args, Vec::new())
        }
    }

    fn target(&self) -> TargetHash {
        // A template is made of texts and numbers: it has a JSON form.
        let text = serde_json::to_string(self).unwrap_or_default();
        TargetHash::from(hex::encode(Sha256::digest(text.as_bytes())))
    }

    fn spec(&self, target: TargetHash) -> Spec {
        let goal = if self.service {
            Goal::Running { check: self.check.is_some(), health: self.health.is_some() }
        } else {
            Goal::Finished
        };
        Spec {
            after: self.after.clone(),
            requires: self.requires.clone(),
            beside: self.beside,
            restart: self.restart,
            most_agents: self.most_agents,
            min_mesos: self.min_mesos,
            ..Spec::new(goal, self.needs, target)
        }
    }
}

/// Every task type that the operator wants, ready to be launched.
#[derive(Debug, Default, Clone)]
pub struct TaskTypes {
    templates: BTreeMap<TaskType, Hashed>,
}

impl TaskTypes {
    /// What `config` wants.
    pub fn new(config: &Config) -> Self {
        let templates = TaskType::ALL.into_iter().filter_map(|task_type| {
            let template = match task_type {
                TaskType::ClusterInit => Some(cluster_init::template(config)),
                TaskType::Prefetch => None,
                TaskType::EtcdProxy => etcd_proxy::template(config),
                TaskType::DockerClusterStore => docker_cluster_store::template(config),
                TaskType::Cni => cni::template(config),
                TaskType::CalicoNode => calico_node::template(config),
                TaskType::Libnetwork => libnetwork::template(config),
                TaskType::DockerNetwork => docker_network::template(config),
            };
            let template = template?;
            Some((task_type, Hashed { target: template.target(), template }))
        });
        Self { templates: templates.collect() }
    }

    /// What the core needs to know of them.
    pub fn specs(&self) -> BTreeMap<TaskType, Spec> {
        let spec = |hashed: &Hashed| hashed.template.spec(hashed.target.clone());
        self.templates.iter().map(|(task_type, hashed)| (*task_type, spec(hashed))).collect()
    }
}

/// `--name=value`, for values that begin with a dash as well.
fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

/// An artifact as the installer takes it: the file in the sandbox, and what it must be.
fn artifact_flag(name: &str, (file, artifact): &(&'static str, Artifact)) -> String {
    flag(name, format_args!("./{file}#sha256={}", artifact.sha256))
}

/// How the host reaches etcd.
fn etcd_flags(etcd: &Etcd) -> Vec<String> {
    let proxy = match etcd.proxy {
        Proxy::Gateway(_) => "gateway",
        Proxy::Direct => "direct",
    };
    vec![
        flag("etcd-endpoints", etcd.endpoints.join(",")),
        flag("etcd-proxy", proxy),
        flag("etcd-listen", etcd.listen),
    ]
}

/// Flags that are given only when the operator set them.
fn optional_flags(flags: &[(&str, Option<String>)]) -> Vec<String> {
    flags.iter().filter_map(|(name, value)| Some(flag(name, value.as_ref()?))).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Docker's API.
fn docker_socket(target: &Target) -> String {
    flag("docker-socket", target.docker_socket.display())
}

/// The flags of the network itself.
fn network_name(target: &Target) -> String {
    flag("network-name", &target.network.name)
}

#[cfg(test)]
mod tests;
