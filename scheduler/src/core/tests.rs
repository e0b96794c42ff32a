//! The core from outside: scripts of what it is told and what must follow, and a whole small world with faults.

mod constraints;
mod disruption;
mod docker;
mod drift;
mod failover;
mod failures;
mod hanging;
mod inventory;
mod maintenance;
mod offers;
mod order;
mod properties;
mod reconciliation;
mod recovery;
mod reservations;
mod restart;
mod rollout;
mod script;
mod view;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::resources::tests::scalar;
use super::*;

/// The task types of a cluster whose Docker is left alone.
fn specs() -> BTreeMap<TaskType, Spec> {
    use TaskType::{CalicoNode, ClusterInit, Cni, EtcdProxy};
    [ClusterInit, EtcdProxy, Cni, CalicoNode].into_iter().map(|t| (t, spec(t))).collect()
}

/// All task types. What they must restart they may.
fn docker_specs() -> BTreeMap<TaskType, Spec> {
    TaskType::ALL.into_iter().filter(|t| *t != TaskType::Prefetch).map(|t| (t, spec(t))).collect()
}

/// What each agent gets, in order.
fn agent_types() -> impl Iterator<Item = TaskType> {
    docker_specs().into_keys().filter(|task_type| task_type.scope() == Scope::Agent)
}

fn spec(task_type: TaskType) -> Spec {
    let goal = match task_type {
        TaskType::EtcdProxy => Goal::Running { check: true, health: false },
        TaskType::CalicoNode | TaskType::Libnetwork => Goal::Running { check: true, health: true },
        _ => Goal::Finished,
    };
    let target = TargetHash::from(format!("target of {task_type}"));
    let spec = Spec::new(goal, Needs { cpus: 100, mem: 64_000 }, target);
    match task_type {
        TaskType::ClusterInit | TaskType::Prefetch | TaskType::EtcdProxy => spec,
        TaskType::DockerClusterStore => {
            let restart = Some(Restart { what: "Docker", option: "docker.allow-restart", allowed: true });
            let most_agents = Some(MostAgents { option: "docker.max-agents", number: 500 });
            Spec { restart, most_agents, ..spec }
        }
        TaskType::Cni => {
            let restart =
                Some(Restart { what: "the Mesos agent", option: "mesos.allow-restart", allowed: true });
            Spec { restart, min_mesos: MesosVersion(1, 2), ..spec }
        }
        TaskType::CalicoNode => Spec { after: vec![TaskType::ClusterInit], ..spec },
        TaskType::Libnetwork => Spec { requires: vec![TaskType::DockerClusterStore], ..spec },
        TaskType::DockerNetwork => Spec { beside: Some(TaskType::Libnetwork), ..spec },
    }
}

fn settings() -> Settings {
    Settings::new(specs())
}

fn docker_settings() -> Settings {
    Settings::new(docker_specs())
}

/// An agent that takes tasks, at an address derived from `host`.
fn agent(host: &str, id: &str) -> Agent {
    Agent {
        key: AgentKey::from(format!("{host}:5051")),
        id: id.into(),
        version: "1.11.0".into(),
        standing: Standing::Active,
        attributes: vec![],
        domain: None,
        registered_again: None,
    }
}

/// Room for every task type at once.
fn plenty() -> Vec<Resource> {
    vec![scalar("cpus", 4000, None), scalar("mem", 8_000_000, None)]
}

/// What a store gives back: the records through their stored form.
fn through_json(state: &State) -> State {
    let text = serde_json::to_string(state).unwrap();
    serde_json::from_str(&text).unwrap()
}
