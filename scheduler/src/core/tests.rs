//! The core from outside: scripts of what it is told and what must follow, and a whole small world with faults.

mod constraints;
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
mod script;
mod view;
mod world;

use std::collections::BTreeMap;

use super::resources::tests::scalar;
use super::*;

/// The four task types as they are by default.
fn specs() -> BTreeMap<TaskType, Spec> {
    TaskType::ALL.into_iter().map(|task_type| (task_type, spec(task_type))).collect()
}

fn spec(task_type: TaskType) -> Spec {
    let (goal, after, min_mesos) = match task_type {
        TaskType::ClusterInit => (Goal::Finished, vec![], MesosVersion(1, 0)),
        TaskType::EtcdProxy => (Goal::Running { check: true, health: false }, vec![], MesosVersion(1, 0)),
        TaskType::Cni => (Goal::Finished, vec![], MesosVersion(1, 2)),
        TaskType::CalicoNode => {
            let goal = Goal::Running { check: true, health: true };
            (goal, vec![TaskType::ClusterInit], MesosVersion(1, 0))
        }
    };
    Spec {
        enabled: true,
        goal,
        needs: Needs { cpus: 100, mem: 64_000 },
        target: TargetHash::from(format!("target of {task_type}")),
        after,
        min_mesos,
    }
}

fn settings() -> Settings {
    Settings::new(specs())
}

/// An agent that takes tasks, at an address derived from `host`.
fn agent(host: &str, id: &str) -> Agent {
    Agent {
        key: AgentKey::from(format!("{host}:5051")),
        id: id.into(),
        version: "1.11.0".into(),
        standing: Standing::Active,
        attributes: vec![],
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
