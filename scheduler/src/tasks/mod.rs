//! The task types: a file each, which says what is launched. To add one: a variant of
//! [`TaskType`], a file here, and its line in [`TaskTypes::new`].

mod calico_node;
mod cluster_init;
mod cni;
mod etcd_proxy;
mod launch;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::{Artifact, Config, Etcd, Proxy, Target};
use crate::core::{Goal, MesosVersion, Needs, Spec, TargetHash, TaskType};

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
            min_mesos: MesosVersion(1, 0),
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
            enabled: true,
            goal,
            needs: self.needs,
            target,
            after: self.after.clone(),
            min_mesos: self.min_mesos,
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
                TaskType::EtcdProxy => etcd_proxy::template(config),
                TaskType::Cni => cni::template(config),
                TaskType::CalicoNode => calico_node::template(config),
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

/// The flags of the network itself.
fn network_name(target: &Target) -> String {
    flag("network-name", &target.network.name)
}

#[cfg(test)]
mod tests;
