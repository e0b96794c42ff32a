//! The task types: a file each, which says what is launched. To add one: a variant of
//! [`TaskType`], a file here, and its line in [`wanted`].

mod calico_node;
mod cluster_init;
mod cni;
mod docker_cluster_store;
mod docker_network;
mod etcd_proxy;
mod files;
mod launch;
mod libnetwork;
mod prefetch;
mod template;
mod undo;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Artifact, Config, Etcd, Target};
use crate::core::{Definition, Goal, Needs, Spec, TargetHash, TaskType};
use template::{Conditions, File, Probe, Template};

pub use launch::Place;

/// Every task type that the operator wants, and everything else that can be launched: each by its target, for an agent
/// that a rollout has not reached yet is on one that an earlier configuration made.
#[derive(Debug, Default, Clone)]
pub struct TaskTypes {
    specs: BTreeMap<TaskType, Spec>,
    undo: BTreeMap<TaskType, Spec>,
    unwanted: BTreeMap<TaskType, Spec>,
    definitions: BTreeMap<TargetHash, Definition>,
    templates: BTreeMap<TargetHash, (TaskType, Arc<Template>)>,
}

/// A target of an earlier configuration that cannot be launched again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{task_type} of target {target} cannot be launched again: its stored definition {problem}. It was stored by another \
     version of this scheduler, or was changed since: agents that are on it are not recovered with it until they have got \
     the present target; to recover them before, start the version that stored it"
)]
pub struct UnreadableTarget {
    /// The target.
    pub target: TargetHash,
    /// Of which task type it is.
    pub task_type: TaskType,
    /// What is wrong with it.
    pub problem: String,
}

impl TaskTypes {
    /// What `config` wants.
    pub fn new(config: &Config) -> Self {
        let mut tasks = Self::default();
        for task_type in TaskType::ALL {
            if let Some(template) = wanted(config, task_type) {
                let spec = tasks.add(task_type, template);
                tasks.specs.insert(task_type, spec);
                continue;
            }
            let nothing = Spec::new(Goal::Finished, Needs { cpus: 0, mem: 0 }, TargetHash::from("none"));
            tasks.unwanted.insert(task_type, conditions(config, task_type).of(nothing));
            if config.rollout.undo_disabled
                && let Some(template) = undo::template(config, task_type)
            {
                let spec = tasks.add(task_type, template);
                tasks.undo.insert(task_type, spec);
            }
        }
        tasks
    }

    /// What the core needs to know of what is wanted.
    pub fn specs(&self) -> BTreeMap<TaskType, Spec> {
        self.specs.clone()
    }

    /// How task types that are not wanted are taken back on an agent, where the operator wants that.
    pub fn undo(&self) -> BTreeMap<TaskType, Spec> {
        self.undo.clone()
    }

    /// What task types that are not wanted need of others, should one of an earlier configuration be launched: nothing else
    /// of these is meant.
    pub fn unwanted(&self) -> BTreeMap<TaskType, Spec> {
        self.unwanted.clone()
    }

    /// What all that this configuration may launch is launched with, to be stored before it is.
    pub fn definitions(&self) -> BTreeMap<TargetHash, Definition> {
        self.definitions.clone()
    }

    /// These, and besides them what earlier configurations `defined`. What cannot be read is left out, and told.
    #[must_use]
    pub fn learn(&self, defined: &BTreeMap<TargetHash, Definition>) -> (Self, Vec<UnreadableTarget>) {
        let (mut all, mut unreadable) = (self.clone(), Vec::new());
        for (target, definition) in defined {
            if all.templates.contains_key(target) {
                continue;
            }
            let task_type = definition.task_type;
            match Template::read(target, definition) {
                Ok(template) => drop(all.templates.insert(target.clone(), (task_type, Arc::new(template)))),
                Err(problem) => {
                    unreadable.push(UnreadableTarget { target: target.clone(), task_type, problem });
                }
            }
        }
        (all, unreadable)
    }

    /// Makes `template` one that can be launched.
    fn add(&mut self, task_type: TaskType, template: Template) -> Spec {
        let (target, definition) = template.definition(task_type);
        let spec = template.spec(target.clone());
        self.definitions.insert(target.clone(), definition);
        self.templates.insert(target, (task_type, Arc::new(template)));
        spec
    }
}

/// What `config` wants of a task type; none when it does not want it.
fn wanted(config: &Config, task_type: TaskType) -> Option<Template> {
    match task_type {
        TaskType::ClusterInit => Some(cluster_init::template(config)),
        TaskType::Prefetch => prefetch::template(config),
        TaskType::EtcdProxy => etcd_proxy::template(config),
        TaskType::DockerClusterStore => docker_cluster_store::template(config),
        TaskType::Cni => cni::template(config),
        TaskType::CalicoNode => calico_node::template(config),
        TaskType::Libnetwork => libnetwork::template(config),
        TaskType::DockerNetwork => docker_network::template(config),
    }
}

/// When a task type is launched, whether it is wanted or not.
fn conditions(config: &Config, task_type: TaskType) -> Conditions {
    match task_type {
        TaskType::ClusterInit | TaskType::Prefetch | TaskType::EtcdProxy => Conditions::default(),
        TaskType::DockerClusterStore => docker_cluster_store::conditions(&config.target),
        TaskType::Cni => cni::conditions(&config.target),
        TaskType::CalicoNode => calico_node::conditions(),
        TaskType::Libnetwork => libnetwork::conditions(),
        TaskType::DockerNetwork => docker_network::conditions(&config.target),
    }
}

/// `--name=value`, for values that begin with a dash as well.
fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

/// An artifact as the installer takes it: the file in the sandbox, and what it must be.
fn artifact_flag(name: &str, (file, artifact): &File) -> String {
    flag(name, format_args!("./{file}#sha256={}", artifact.sha256))
}

/// What a task finds in its sandbox as `name`.
fn file(name: &str, artifact: &Artifact) -> File {
    (name.to_owned(), artifact.clone())
}

/// How the host reaches etcd.
fn etcd_flags(etcd: &Etcd) -> Vec<String> {
    let mut flags =
        vec![upstream_flag(etcd), flag("etcd-proxy", etcd.proxy.word()), flag("etcd-listen", etcd.listen)];
    flags.extend(files::tls_flags(etcd));
    flags
}

/// Where etcd itself is.
fn upstream_flag(etcd: &Etcd) -> String {
    match &etcd.discovery_srv {
        Some(name) => flag("etcd-discovery-srv", name),
        None => flag("etcd-endpoints", etcd.endpoints.join(",")),
    }
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
