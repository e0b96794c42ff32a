//! Clusters of any size: what is stored of them, the master's list of their agents, and their offers as the master
//! sends them.

use std::collections::BTreeMap;

use bytes::Bytes;
use calico_scheduler::config::Config;
use calico_scheduler::core::{
    Agent, CheckResult, Core, Effect, Event, Input, OfferId, Settings, Standing, State, TaskId, TaskState,
    TaskType, Timestamp, Update,
};
use calico_scheduler::mesos::{Record, read};
use calico_scheduler::tasks::TaskTypes;
use mesos_v1 as mesos;
use mesos_v1::scheduler::{Event as Message, event as message};
use prost::Message as _;
use serde_json::{Value, json};

use crate::environment::environment;

/// The time in these clusters.
pub const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// Offers in one message.
pub const OFFERS: usize = 1000;
const CLUSTER: &str = "5ba4f2a8-1f4e-4d3b-9c6a-3f0a1d2e4b5c";

/// How far the agents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All is there.
    Complete,
    /// All but `calico-node`, whose turn it is.
    Next,
    /// `calico-node` was ready everywhere, has failed everywhere, and may not be launched again everywhere at a time.
    Held,
}

/// What the operator of these clusters sets besides what must be set: Docker's networks are not for so many agents.
pub const WITHOUT_DOCKER: [(&str, &str); 2] =
    [("CALICO_DOCKER_ENABLE", "false"), ("CALICO_LIBNETWORK_ENABLE", "false")];

/// What the operator of these clusters wants: networks for Mesos tasks.
pub fn tasks() -> TaskTypes {
    tasks_with(&[])
}

/// The same but for these options.
pub fn tasks_with(changes: &[(&str, &str)]) -> TaskTypes {
    TaskTypes::new(&Config::from_env(&environment(&[&WITHOUT_DOCKER, changes].concat())).unwrap())
}

/// The host name of an agent.
pub fn hostname(n: usize) -> String {
    format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250 + 1)
}

/// As long for every agent: the bytes of an offer are no more when there are more agents.
fn agent_id(n: usize) -> String {
    format!("{CLUSTER}-S{}", 100_000 + n)
}

/// What is stored of a cluster of so many agents.
pub fn state(agents: usize, progress: Progress) -> State {
    state_of((0..agents).map(agent_id), progress)
}

/// The same of agents with these IDs.
pub fn state_of(ids: impl Iterator<Item = String>, progress: Progress) -> State {
    let targets: BTreeMap<TaskType, String> =
        tasks().specs().into_iter().map(|(task_type, spec)| (task_type, spec.target.to_string())).collect();
    let live = |n: usize, id: &str, task_type: TaskType| {
        json!({
            "phase": "active", "run": "ready", "since": NOW.0 - 3_600_000, "target": targets[&task_type],
            "task": format!("{task_type}.{}.5051.18bcfe56800", hostname(n)), "agent": id, "reached": true,
        })
    };
    let done = |task_type: TaskType| {
        json!({"phase": "done", "at": NOW.0 - 3_600_000, "target": targets[&task_type], "reached": true,
        "looked_at": {"round": 1, "at": NOW.0 - 60_000}})
    };
    let agents = ids.enumerate().map(|(n, id)| {
        let mut tasks = json!({
            "etcd-proxy": live(n, &id, TaskType::EtcdProxy),
            "cni": done(TaskType::Cni),
            "calico-node": live(n, &id, TaskType::CalicoNode),
        });
        match progress {
            Progress::Complete => {}
            Progress::Next => drop(tasks.as_object_mut().unwrap().remove("calico-node")),
            Progress::Held => {
                tasks["calico-node"] = json!({
                    "phase": "backoff", "until": NOW.0 - 1000, "target": targets[&TaskType::CalicoNode],
                    "failures": 1, "failure": "Command exited with status 69", "reached": true,
                });
            }
        }
        let key = format!("{}:5051", hostname(n));
        let record = json!({
            "key": key, "id": id, "version": "1.11.0", "first_seen": NOW.0 - 7_200_000, "settled": 1, "tasks": tasks,
        });
        (key, record)
    });
    let agents: serde_json::Map<String, Value> = agents.collect();
    let wanted: BTreeMap<&TaskType, &String> =
        targets.iter().filter(|(task_type, _)| **task_type != TaskType::Prefetch).collect();
    let cluster = json!({
        "tasks": {"cluster-init": done(TaskType::ClusterInit)},
        "checks": {"number": 1, "since": NOW.0 - 60_000},
        "rollout": {"number": 1, "since": NOW.0 - 7_200_000, "targets": wanted, "guarded": {}},
    });
    let framework = format!("{CLUSTER}-0000");
    serde_json::from_value(json!({"framework_id": framework, "cluster": cluster, "agents": agents})).unwrap()
}

/// The master's list of so many agents.
pub fn inventory(agents: usize) -> Vec<Agent> {
    let agent = |n| Agent {
        key: format!("{}:5051", hostname(n)).as_str().into(),
        id: agent_id(n).as_str().into(),
        version: "1.11.0".to_owned(),
        standing: Standing::Active,
        attributes: vec!["rack:a7".to_owned()],
        domain: None,
        registered_again: None,
    };
    (0..agents).map(agent).collect()
}

/// A scheduler that is subscribed, knows the agents, and has heard of all tasks.
pub fn core(state: State) -> Core {
    let agents = state.agents.len();
    let framework = state.framework_id.clone().unwrap();
    let mut core = Core::new(Settings::new(tasks().specs()), state);
    core.handle(NOW, Input::Event(Event::Subscribed(framework)));
    let frame = core.handle(NOW, Input::Agents(inventory(agents)));
    // The master tells of every live task of which it was asked, and last of the one that there never was.
    let asked = frame.effects.iter().filter_map(|effect| match effect {
        Effect::Reconcile(tasks) => tasks.last().map(|(task, _)| task.clone()),
        _ => None,
    });
    for task in asked {
        core.handle(NOW, Input::Event(Event::Update(Update::bare(task, TaskState::Gone))));
    }
    core
}

/// What reconciliation brings of each agent's `calico-node`, in an order that is no agent's, a thousand at a time.
pub fn updates(agents: usize) -> Vec<Vec<Input>> {
    let state = state(agents, Progress::Complete);
    let tasks: Vec<&TaskId> = state
        .agents
        .values()
        .filter_map(|agent| agent.tasks.get(&TaskType::CalicoNode)?.phase.live().map(|(task, _)| task))
        .collect();
    let update = |n: usize| {
        let task = tasks[n * 7919 % agents].clone();
        let check = CheckResult::Exited(0);
        let update = Update { healthy: Some(true), check, ..Update::bare(task, TaskState::Running) };
        Input::Event(Event::Update(update))
    };
    (0..agents / OFFERS).map(|chunk| (0..OFFERS).map(|n| update(chunk * OFFERS + n)).collect()).collect()
}

fn scalar(name: &str, amount: f64) -> mesos::Resource {
    mesos::Resource {
        name: name.to_owned(),
        r#type: mesos::value::Type::Scalar.into(),
        scalar: Some(mesos::value::Scalar { value: amount }),
        ..ports(&[])
    }
}

fn ports(ranges: &[(u64, u64)]) -> mesos::Resource {
    let range = ranges.iter().map(|(begin, end)| mesos::value::Range { begin: *begin, end: *end }).collect();
    mesos::Resource {
        name: "ports".to_owned(),
        r#type: mesos::value::Type::Ranges.into(),
        ranges: (!ranges.is_empty()).then_some(mesos::value::Ranges { range }),
        allocation_info: Some(mesos::resource::AllocationInfo { role: Some("slave_public".to_owned()) }),
        ..Default::default()
    }
}

/// An agent's offer, with all that Mesos 1.11 says in one.
fn offer(n: usize, number: usize) -> mesos::Offer {
    let hostname = hostname(n);
    let domain = mesos::domain_info::FaultDomain {
        region: mesos::domain_info::fault_domain::RegionInfo { name: "eu-central-1".to_owned() },
        zone: mesos::domain_info::fault_domain::ZoneInfo { name: "eu-central-1a".to_owned() },
    };
    let rack = mesos::Attribute {
        name: "rack".to_owned(),
        r#type: mesos::value::Type::Text.into(),
        text: Some(mesos::value::Text { value: "a7".to_owned() }),
        ..Default::default()
    };
    let address = mesos::Address { hostname: Some(hostname.clone()), ip: Some(hostname.clone()), port: 5051 };
    mesos::Offer {
        id: format!("{CLUSTER}-O{}", 100_000 + number).as_str().into(),
        framework_id: format!("{CLUSTER}-0000").as_str().into(),
        agent_id: agent_id(n).as_str().into(),
        hostname,
        resources: vec![
            ports(&[(1025, 2180), (2182, 3887), (3889, 5049), (5052, 8079), (8082, 8180), (8182, 32_000)]),
            scalar("disk", 35_572.0),
            scalar("cpus", 3.8),
            scalar("mem", 14_001.0),
        ],
        attributes: vec![rack],
        url: Some(mesos::Url {
            scheme: "http".to_owned(),
            address,
            path: Some("/slave(1)".to_owned()),
            ..Default::default()
        }),
        allocation_info: Some(mesos::resource::AllocationInfo { role: Some("slave_public".to_owned()) }),
        domain: Some(mesos::DomainInfo { fault_domain: Some(domain) }),
        ..Default::default()
    }
}

/// An offer of each agent, in an order that is no agent's, as the records of the master's stream.
pub fn offers(agents: usize) -> Vec<Bytes> {
    messages(agents, agents / OFFERS)
}

/// So many records of the master's stream with offers: of all agents in turn, and each time in another order.
pub fn messages(agents: usize, number: usize) -> Vec<Bytes> {
    // Steps that have no divisor in common with these sizes meet each agent once.
    let agent = |n: usize| n % agents * (7919 + n / agents * 10) % agents;
    let message = |chunk: usize| {
        let first = chunk * OFFERS;
        offers_of(&(first..first + OFFERS).map(agent).collect::<Vec<_>>(), first).0
    };
    (0..number).map(message).collect()
}

/// An offer of each of these agents, numbered from `first` on, as a record of the master's stream; and their IDs.
pub fn offers_of(agents: &[usize], first: usize) -> (Bytes, Vec<OfferId>) {
    let offers: Vec<mesos::Offer> =
        agents.iter().enumerate().map(|(n, agent)| offer(*agent, first + n)).collect();
    let ids = offers.iter().map(|offer| offer.id.value.as_str().into()).collect();
    let message = Message {
        r#type: Some(message::Type::Offers.into()),
        offers: Some(message::Offers { offers }),
        ..Default::default()
    };
    (message.encode_to_vec().into(), ids)
}

/// Decodes an event and decides what follows from it: how many effects.
pub fn decide(core: &mut Core, record: &Bytes) -> usize {
    let Record::Offers(event) = read(record.clone()).unwrap() else { panic!("a record without offers") };
    core.handle(NOW, Input::Event(event)).effects.len()
}
