//! Whatever the world sends or an operator writes: no panic, and a clear error. `PROPTEST_CASES` asks for more cases.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use calico_scheduler::config::{Config, OPTIONS, StateLocation};
use calico_scheduler::core::{
    Agent, AgentRecord, Core, Disruption, Event, Goal, Input, Needs, Phase, Restart, Run, Settings, Spec,
    Standing, State, StateChange, TargetHash, TaskRecord, TaskType, Tasks, Timestamp,
};
use calico_scheduler::mesos::{self, Record};
use calico_scheduler::state::etcd::{Candidate, Txn, Write};
use calico_scheduler::state::{Opener, Store as _, StoreError};
use mesos_v1::scheduler::{Event as Message, event};
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message as _;

use crate::environment::environment;
use crate::etcd;

/// One change to some bytes.
#[derive(Debug, Clone)]
enum Edit {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index, u8),
    Repeat(Index, u8),
    End(Index),
    Flip(Index, u8),
    /// A number that is larger than any that there is, in place of what is there.
    Huge(Index),
    /// So many brackets.
    Nest(Index, u16),
    /// Anything, in place of all.
    Random(Index, Vec<u8>),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        2 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, new)| Edit::Insert(at, new)),
        2 => (any::<Index>(), 1..16_u8).prop_map(|(at, length)| Edit::Cut(at, length)),
        1 => (any::<Index>(), 1..64_u8).prop_map(|(at, length)| Edit::Repeat(at, length)),
        1 => any::<Index>().prop_map(Edit::End),
        2 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        1 => any::<Index>().prop_map(Edit::Huge),
        1 => (any::<Index>(), 1..2000_u16).prop_map(|(at, depth)| Edit::Nest(at, depth)),
        1 => (any::<Index>(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(at, all)| Edit::Random(at, all)),
    ];
    prop::collection::vec(edit, 0..6)
}

fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let (Edit::Set(at, _)
        | Edit::Insert(at, _)
        | Edit::Cut(at, _)
        | Edit::Repeat(at, _)
        | Edit::End(at)
        | Edit::Flip(at, _)
        | Edit::Huge(at)
        | Edit::Nest(at, _)
        | Edit::Random(at, _)) = edit;
        if bytes.is_empty() {
            return bytes;
        }
        let at = at.index(bytes.len());
        match edit {
            Edit::Set(_, byte) => bytes[at] = *byte,
            Edit::Insert(_, new) => drop(bytes.splice(at..at, new.iter().copied())),
            Edit::Cut(_, length) => drop(bytes.drain(at..bytes.len().min(at + usize::from(*length)))),
            Edit::Repeat(_, length) => {
                let again = bytes[at..bytes.len().min(at + usize::from(*length))].to_vec();
                drop(bytes.splice(at..at, again));
            }
            Edit::End(_) => bytes.truncate(at),
            Edit::Flip(_, bit) => bytes[at] ^= 1 << bit,
            Edit::Huge(_) => drop(bytes.splice(at..at, b"99999999999999999999999".iter().copied())),
            Edit::Nest(_, depth) => {
                let open = if depth % 2 == 0 { &b"["[..] } else { br#"{"a":"# };
                drop(bytes.splice(at..at, open.repeat(usize::from(*depth))));
            }
            Edit::Random(_, all) => bytes.clone_from(all),
        }
    }
    bytes
}

fn scalar(name: &str, value: f64) -> mesos_v1::Resource {
    mesos_v1::Resource {
        name: name.to_owned(),
        r#type: mesos_v1::value::Type::Scalar.into(),
        scalar: Some(mesos_v1::value::Scalar { value }),
        ..Default::default()
    }
}

/// An event of each kind that matters, whole.
fn messages(amount: f64, state: u8) -> Vec<Message> {
    let offer = mesos_v1::Offer {
        id: "offer".into(),
        framework_id: "framework".into(),
        agent_id: "S1".into(),
        hostname: "host".to_owned(),
        resources: vec![scalar("cpus", amount), scalar("mem", 4096.0), scalar("disk", amount)],
        allocation_info: Some(mesos_v1::resource::AllocationInfo { role: Some("*".to_owned()) }),
        ..Default::default()
    };
    let status = mesos_v1::TaskStatus {
        task_id: "cni.host.5051.1".into(),
        agent_id: Some("S1".into()),
        uuid: Some(vec![7; 16].into()),
        message: Some("Command exited with status 78".to_owned()),
        ..Default::default()
    };
    let message = |kind: event::Type| Message { r#type: Some(kind.into()), ..Default::default() };
    // Appended as bytes, for any number may stand for a state: field 5 (`update`), 1 (`status`), 2 (`state`).
    let update = Message { update: Some(event::Update { status }), ..message(event::Type::Update) };
    let mut update = update.encode_to_vec();
    update.extend([0x2a, 0x04, 0x0a, 0x02, 0x10, state]);
    vec![
        Message {
            subscribed: Some(event::Subscribed {
                framework_id: "framework".into(),
                heartbeat_interval_seconds: Some(amount),
                ..Default::default()
            }),
            ..message(event::Type::Subscribed)
        },
        Message { offers: Some(event::Offers { offers: vec![offer] }), ..message(event::Type::Offers) },
        Message::decode(&update[..]).unwrap(),
        Message {
            error: Some(event::Error { message: "Framework has been removed".to_owned() }),
            ..message(event::Type::Error)
        },
    ]
}

fn spec(task_type: TaskType) -> (TaskType, Spec) {
    let goal = match task_type {
        TaskType::ClusterInit
        | TaskType::Prefetch
        | TaskType::DockerClusterStore
        | TaskType::Cni
        | TaskType::DockerNetwork => Goal::Finished,
        _ => Goal::Running { check: true, health: true },
    };
    let needs = Needs { cpus: 100, mem: 64_000 };
    let target = TargetHash::from(format!("target of {task_type}"));
    let restart = Some(Restart { what: "it", option: "it.allow-restart", allowed: true });
    (task_type, Spec { restart, ..Spec::new(goal, needs, target) })
}

fn settings() -> Settings {
    Settings::new(TaskType::ALL.into_iter().map(spec).collect())
}

fn host() -> Agent {
    Agent {
        key: "host:5051".into(),
        id: "S1".into(),
        version: "1.11.0".into(),
        standing: Standing::Active,
        attributes: vec![],
        domain: None,
        registered_again: None,
    }
}

/// A state with a record of each kind.
fn stored() -> Vec<StateChange> {
    let at = Timestamp(7);
    let record = |phase| TaskRecord {
        failures: 2,
        failure: Some("why".to_owned()),
        reached: true,
        recovery: Some(at),
        ..TaskRecord::new(phase, Some(TargetHash::from("t".to_owned())))
    };
    let (task, agent) = ("etcd-proxy.host.5051.1".into(), "S1".into());
    let tasks = Tasks::from_iter([
        (TaskType::EtcdProxy, record(Phase::Launched { task, agent, at })),
        (TaskType::Cni, record(Phase::Held { since: at })),
        (TaskType::CalicoNode, record(Phase::Backoff { until: at })),
    ]);
    let (task, agent) = ("etcd-proxy.other.5051.1".into(), "S2".into());
    let other = Tasks::from_iter([
        (TaskType::EtcdProxy, record(Phase::Active { task, agent, run: Run::Ready, since: at })),
        (TaskType::DockerClusterStore, record(Phase::Skipped { since: at })),
        (TaskType::Cni, record(Phase::Done { at })),
    ]);
    let third = Tasks::from_iter([
        (TaskType::DockerClusterStore, record(Phase::NeedsRestart { since: at })),
        (TaskType::Cni, TaskRecord { disruptive: true, ..record(Phase::Backoff { until: at }) }),
    ]);
    let (task, agent) = ("docker-cluster-store.fourth.5051.1".into(), "S4".into());
    let fourth = Tasks::from_iter([
        (TaskType::DockerClusterStore, record(Phase::Checking { task, agent, since: at, done: at })),
        (TaskType::Cni, record(Phase::Done { at })),
    ]);
    let agent = |key: &str, id: &str, tasks| {
        let record = AgentRecord::new(key.into(), id.into(), "1.11.0".to_owned(), at);
        StateChange::Agent(AgentRecord { tasks, absent_since: Some(at), ..record }.into())
    };
    let disruption = Some(Disruption { task_type: TaskType::Cni, since: at, failure: None });
    let record = AgentRecord::new("third:5051".into(), "S3".into(), "1.11.0".to_owned(), at);
    let disrupted = StateChange::Agent(AgentRecord { tasks: third, disruption, ..record }.into());
    vec![
        StateChange::Framework { id: "framework".into() },
        agent("host:5051", "S1", tasks),
        agent("other:5051", "S2", other),
        agent("fourth:5051", "S4", fourth),
        disrupted,
    ]
}

/// A core that may have loaded anything goes through an ordinary hour.
fn live(state: State, event: Option<Event>) {
    let mut core = Core::new(settings(), state);
    let mut inputs =
        vec![Input::Event(Event::Subscribed("framework".into())), Input::Agents(vec![host()]), Input::Tick];
    inputs.extend(event.map(Input::Event));
    inputs.extend([Input::Tick, Input::Disconnected]);
    for (n, input) in (0..).zip(inputs) {
        core.handle(Timestamp(600_000 * n), input);
        core.view();
    }
}

/// An etcd that answers at once.
#[derive(Clone)]
struct InMemory(Arc<Mutex<etcd::Etcd>>);

impl Default for InMemory {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(etcd::Etcd::new())))
    }
}

impl etcd::Ask for InMemory {
    async fn ask(&self, request: etcd::Request) -> Result<etcd::Answer, StoreError> {
        self.0.lock().unwrap().handle(Duration::ZERO, request)
    }
}

impl InMemory {
    fn value(&self, key: &str) -> Vec<u8> {
        let etcd = self.0.lock().unwrap();
        etcd.below(key).next().map(|(_, value)| value.to_vec()).unwrap_or_default()
    }

    /// Edits one of the values that are there, whose key it returns, and what it holds then.
    fn damage(&self, which: Index, edits: &[Edit]) -> (String, Vec<u8>) {
        let keys: Vec<String> = {
            let etcd = self.0.lock().unwrap();
            etcd.below("/calico-dcos/calico/").map(|(key, _)| key.to_owned()).collect()
        };
        let key = which.get(&keys).clone();
        let value = edited(self.value(&key), edits);
        let put = Write::Put { key: key.clone(), value: value.clone(), lease: None };
        let txn = Txn { when: vec![], then: vec![put], or_read: None };
        self.0.lock().unwrap().handle(Duration::ZERO, etcd::Request::Txn(txn)).unwrap();
        (key, value)
    }
}

/// Values as operators write them, and worse ones.
fn values() -> impl Strategy<Value = String> {
    let known = [
        "etcd://a:1,b:2/prefix",
        "file:/x",
        "10.0.0.0/8",
        "1h",
        "18446744073709551615h",
        "-1s",
        "10%",
        "101%",
        "0.1",
        "1e400",
        "NaN",
        "-0",
        "true",
        "zk://a:1/mesos",
        "http://h:1",
        "0.0.0.0:$PORT0",
        "[::1]:80",
        "a,b,,c",
        "rack:r1",
        "🦀",
        "18446744073709551616",
    ];
    let known = prop::sample::select(known.to_vec()).prop_map(str::to_owned);
    prop_oneof![
        known.clone(),
        "\\PC{0,24}",
        (known, edits()).prop_map(|(value, edits)| {
            String::from_utf8_lossy(&edited(value.into_bytes(), &edits)).into_owned()
        })
    ]
}

proptest! {
    #[test]
    fn no_event_panics_and_what_is_refused_is_named(amount: f64, state in 0..0x80_u8, edits in edits()) {
        for message in messages(amount, state) {
            let bytes = Bytes::from(edited(message.encode_to_vec(), &edits));
            let read = mesos::read(bytes.clone());
            let Ok(message) = Message::decode(bytes) else {
                // What offers hold is read later.
                if let Ok(Record::Offers(offers)) = read {
                    live(State::default(), Some(offers));
                }
                continue;
            };
            match read.unwrap() {
                Record::Offers(offers) => prop_assert_eq!(mesos::event(message.clone()), Ok(Some(offers))),
                // By their bytes: what is no number is not equal to itself.
                Record::Other(other) => prop_assert_eq!(other.encode_to_vec(), message.encode_to_vec()),
            }
            match mesos::event(message) {
                Ok(event) => live(State::default(), event),
                Err(error) => prop_assert!(error.to_string().starts_with("the master sent "), "{error}"),
            }
        }
    }

    #[test]
    fn damaged_state_is_refused_by_name_and_left_as_it_is(edits in edits()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let mut service = Config::from_env(&environment(&[])).unwrap().service;
        service.state = StateLocation::File(path.clone());
        let mut opener = Opener::new(&service, "");
        let mut opened = runtime.block_on(opener.open(|_| {})).unwrap();
        runtime.block_on(opened.store.commit(&stored())).unwrap();
        drop(opened);
        let whole = std::fs::read(&path).unwrap();
        let bytes = edited(whole.clone(), &edits);
        std::fs::write(&path, &bytes).unwrap();
        let opened = runtime.block_on(opener.open(|_| {}));
        prop_assert_eq!(std::fs::read(&path).unwrap(), bytes.clone());
        match opened {
            // Some damage gives another state, which must not be one that panics.
            Ok(opened) => live(opened.state, None),
            Err(error @ (StoreError::Damaged { .. } | StoreError::Newer { .. })) => {
                prop_assert!(bytes != whole);
                let text = error.to_string();
                prop_assert!(text.starts_with(path.to_str().unwrap()) && text.contains("Nothing was changed"), "{text}");
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }

    #[test]
    fn damaged_state_in_etcd_is_refused_by_key(which: Index, edits in edits()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let etcd = InMemory::default();
        let open = || {
            let candidate = Candidate::new(etcd::Client(etcd.clone()), "/calico-dcos", "calico", "fuzz");
            let mut opener = Opener::in_etcd(candidate);
            runtime.block_on(async {
                let opened = opener.open(|_| {}).await?;
                let mut store = opened.store;
                if opened.state.framework_id.is_none() {
                    store.commit(&stored()).await?;
                }
                opener.resign().await;
                Ok::<_, StoreError>(opened.state)
            })
        };
        open().unwrap();
        let (key, bytes) = etcd.damage(which, &edits);
        match open() {
            Ok(state) => live(state, None),
            Err(error @ (StoreError::Damaged { .. } | StoreError::Newer { .. })) => {
                let text = error.to_string();
                prop_assert!(text.contains(&key) && text.contains("Nothing was changed"), "{key}: {text}");
                prop_assert_eq!(etcd.value(&key), bytes);
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }

    #[test]
    fn no_options_panic_and_every_fault_names_one_that_was_given(
        given in prop::collection::vec((any::<Index>(), values()), 0..6),
    ) {
        let mut env = environment(&[]);
        for (option, value) in given {
            env.insert(OPTIONS[option.index(OPTIONS.len())].env(), value);
        }
        if let Err(faults) = Config::from_env(&env) {
            let known: BTreeSet<&str> = OPTIONS.iter().map(|option| option.name).collect();
            for fault in &faults.0 {
                prop_assert!(known.contains(fault.option.as_str()), "{fault}");
                prop_assert!(fault.problem.len() > 5, "{fault}");
            }
        }
    }
}
