//! What operators command over HTTP: what of it is stored when it is answered, and what is refused.

use std::time::Duration;

use calico_scheduler::config::Config;
use calico_scheduler::core::{
    AgentKey, AgentRecord, ClusterRecord, Goal, Order, Phase, Plan, RolloutRecord, Run, Scope, State,
    TargetHash, TaskRecord, TaskType, Timestamp,
};
use calico_scheduler::tasks::TaskTypes;
use serde_json::Value;

use crate::api::{get, post, serve};
use crate::environment::environment;
use crate::loops::{TestStore, start_with};
use crate::master::{AGENT, FRAMEWORK, Master};

const HERE: &str = "10.0.0.11:5051";
const AWAY: &str = "10.0.0.12:5051";
const NODE: TaskType = TaskType::CalicoNode;

fn config() -> Config {
    let options = [("CALICO_DOCKER_ENABLE", "false"), ("CALICO_LIBNETWORK_ENABLE", "false")];
    Config::from_env(&environment(&options)).unwrap()
}

/// Two agents on which all is installed, but that the CNI plugins wait for an operator.
fn installed() -> State {
    let specs = TaskTypes::new(&config()).specs();
    let at = Timestamp(1);
    let record = |task_type: TaskType, id: &str| {
        let spec = &specs[&task_type];
        let (task, agent) = (format!("{task_type}.{id}").into(), id.into());
        let phase = match spec.goal {
            _ if task_type == TaskType::Cni => Phase::Held { since: at },
            Goal::Finished => Phase::Done { at },
            Goal::Running { .. } => Phase::Active { task, agent, run: Run::Ready, since: at },
        };
        TaskRecord::new(phase, Some(spec.target.clone()))
    };
    let of_scope = |scope| {
        let types = specs.keys().copied().filter(|t| *t != TaskType::Prefetch);
        types.filter(move |t| t.scope() == scope)
    };
    let agent = |key: &str, id: &str| {
        let mut agent = AgentRecord::new(key.into(), id.into(), "1.11.0".to_owned(), at);
        agent.settled = 1;
        agent.tasks.extend(of_scope(Scope::Agent).map(|t| (t, record(t, id))));
        (AgentKey::from(key), agent.into())
    };
    let targets = specs.iter().map(|(t, spec)| (*t, spec.target.clone())).collect();
    let cluster = ClusterRecord {
        tasks: of_scope(Scope::Cluster).map(|t| (t, record(t, "none"))).collect(),
        rollout: RolloutRecord { number: 1, targets, ..RolloutRecord::default() },
        ..ClusterRecord::default()
    };
    let agents = [agent(HERE, AGENT), agent(AWAY, "S2")].into();
    State { framework_id: Some(FRAMEWORK.into()), cluster, agents }
}

/// A scheduler that has seen the list of agents, of which one is there.
struct Commanded {
    store: TestStore,
    api: String,
    _master: Master,
}

impl Commanded {
    async fn new() -> Self {
        let mut master = Master::leading(60.0).await;
        let (store, handle, _driver) = start_with(&config(), &master.authority, installed());
        master.subscription().await;
        let api = serve(handle).await;
        while get(&api, &format!("/v1/agents/{AWAY}")).await.1["presence"] != "absent" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { store, api, _master: master }
    }

    /// What is said of a command that is carried out.
    async fn order(&self, what: &str) -> String {
        let (status, said) = post(&self.api, &format!("/v1/plans/{what}")).await;
        assert_eq!(status, 200, "{what}: {said}");
        said["message"].as_str().unwrap().to_owned()
    }

    /// What is said of one that is not.
    async fn refused(&self, what: &str) -> (u16, String) {
        let (status, said) = post(&self.api, &format!("/v1/plans/{what}")).await;
        (status, said["error"].as_str().unwrap_or_default().to_owned())
    }

    fn rollout(&self) -> RolloutRecord {
        self.store.state().cluster.rollout
    }

    fn agent(&self) -> AgentRecord {
        AgentRecord::clone(&self.store.state().agents[&AgentKey::from(HERE)])
    }

    /// What is ordered for these task types.
    fn orders(&self) -> Vec<(TaskType, Order)> {
        self.agent().orders.into_iter().flat_map(|orders| *orders).collect()
    }
}

#[tokio::test]
async fn what_is_commanded_of_a_plan_is_stored_when_it_is_answered() {
    let commanded = Commanded::new().await;
    for (plan, name) in [(Plan::Deploy, "deploy"), (Plan::Update, "update"), (Plan::Recovery, "recovery")] {
        for (pause, resume) in [("pause", "resume"), ("interrupt", "continue")] {
            commanded.order(&format!("{name}/{pause}")).await;
            assert!(commanded.rollout().paused.contains(&plan));
            let said = commanded.order(&format!("{name}/{resume}")).await;
            assert_eq!(said, format!("{resume}: the plan {name}"));
            assert!(commanded.rollout().paused.is_empty());
        }
    }
    for go_on in ["start", "continue"] {
        commanded.order("update/stop").await;
        assert!(commanded.rollout().stopped);
        commanded.order(&format!("update/{go_on}")).await;
        assert!(!commanded.rollout().stopped);
    }
}

#[tokio::test]
async fn what_is_commanded_of_steps_is_stored_when_it_is_answered() {
    let commanded = Commanded::new().await;
    let target: TargetHash = TaskTypes::new(&config()).specs()[&NODE].target.clone();
    let complete = || Order::Complete { target: target.clone() };
    let id = format!("calico-node.{HERE}");
    for (command, order) in
        [("skip", Order::Skip), ("force-complete", complete()), ("forceComplete", complete())]
    {
        commanded.order(&format!("update/{command}?phase=calico-node&step={HERE}")).await;
        assert_eq!(commanded.orders(), [(NODE, order)], "{command}");
        commanded.order(&format!("update/unskip?step={id}")).await;
        assert_eq!(commanded.orders(), []);
    }
    // A step, a phase, an agent.
    for (what, types) in [
        (format!("step={id}"), vec![NODE]),
        ("phase=etcd-proxy".to_owned(), vec![TaskType::EtcdProxy]),
        (format!("step={HERE}"), vec![TaskType::EtcdProxy, TaskType::Cni, NODE]),
    ] {
        commanded.order(&format!("update/restart?{what}")).await;
        let expected: Vec<_> = types.into_iter().map(|task_type| (task_type, Order::Again)).collect();
        assert_eq!(commanded.orders(), expected, "{what}");
        commanded.order(&format!("update/unskip?step={HERE}")).await;
    }
    let held =
        |commanded: &Commanded| matches!(commanded.agent().tasks[&TaskType::Cni].phase, Phase::Held { .. });
    assert!(held(&commanded));
    commanded.order(&format!("deploy/retry?phase=cni&step={HERE}")).await;
    assert!(!held(&commanded));
    commanded.order(&format!("deploy/forget?step={AWAY}")).await;
    let state = commanded.store.state();
    // Its tasks may run there still.
    assert!(!state.agents.contains_key(&AgentKey::from(AWAY)));
    assert_eq!(get(&commanded.api, &format!("/v1/agents/{AWAY}")).await.0, 404);
}

#[tokio::test]
async fn what_is_mistyped_or_of_no_use_is_refused_with_what_would_be_right_and_changes_nothing() {
    let commanded = Commanded::new().await;
    let before = commanded.store.state();
    for (what, code, hint) in [
        ("updat/pause", 404, "deploy, update, recovery"),
        ("update/pose", 404, "pause"),
        ("update/skip?phase=node", 400, "calico-node"),
        ("update/skip?fase=calico-node", 400, "fase"),
        ("update/skip?phase=calico-node&step=10.0.0.11", 404, "host:port"),
        ("update/skip?phase=cluster-init", 400, "each agent"),
        ("deploy/retry?step=cluster-init.cluster-init", 409, "changes nothing"),
        ("update/restart?phase=calico-node&step=cni.10.0.0.11:5051", 400, "of the phase cni"),
        ("update/skip", 400, "needs a phase"),
        ("update/restart", 400, "needs a phase"),
        ("update/pause?phase=calico-node", 400, "whole plan"),
        ("deploy/stop", 400, "paused and resumed"),
        ("update/forget", 400, "step=host:port"),
        ("update/forget?step=10.0.0.11:5051", 409, "in the master's list"),
        ("update/retry?phase=calico-node", 409, "changes nothing"),
        ("update/restart?phase=libnetwork", 409, "not configured"),
        ("update/start", 409, "neither held nor paused"),
        ("recovery/resume", 409, "not paused"),
    ] {
        let (status, said) = commanded.refused(what).await;
        assert!(status == code && said.contains(hint), "{what}: {status} {said}");
    }
    let (status, _) = post(&commanded.api, "/v1/plans/update").await;
    assert_eq!(status, 405, "a plan is no command");
    assert_eq!(commanded.store.state(), before);
    let (_, rollout): (u16, Value) = get(&commanded.api, "/v1/rollout").await;
    assert_eq!(rollout["paused"].as_array().map(Vec::len), Some(0), "{rollout}");
}
