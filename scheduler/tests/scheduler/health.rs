//! `/v1/health` and `/v1/history`, over a loop, a file or an etcd as its store, and a test's master.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use calico_scheduler::api::{Role, router};
use calico_scheduler::config::{Service, StateLocation};
use calico_scheduler::driver::SystemClock;
use calico_scheduler::lead::{Ended, Program};
use calico_scheduler::mesos::Client;
use calico_scheduler::state::etcd::{Candidate, Kv};
use calico_scheduler::state::{Opener, StoreError, Tenure};
use mesos_v1::TaskState;
use mesos_v1::scheduler::call;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api::get;
use crate::etcd::{self, Etcd};
use crate::loops::config;
use crate::master::{Master, SOON};

/// Its main ends with it.
struct Scheduler {
    api: String,
    role: watch::Sender<Role>,
    main: JoinHandle<Ended>,
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.main.abort();
    }
}

/// An etcd in memory that may be away.
#[derive(Clone)]
struct Absent(Arc<Mutex<(Etcd, bool)>>, Instant);

impl Absent {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((Etcd::new(), false))), Instant::now())
    }

    fn is(&self, away: bool) {
        self.0.lock().unwrap().1 = away;
    }

    /// Becomes what it was at first.
    fn restore(&self) {
        self.0.lock().unwrap().0.restore(Etcd::new(), self.1.elapsed());
    }
}

impl etcd::Ask for Absent {
    async fn ask(&self, request: etcd::Request) -> Result<etcd::Answer, StoreError> {
        match &mut *self.0.lock().unwrap() {
            (_, true) => Err(etcd::away("connection refused")),
            (etcd, false) => etcd.handle(self.1.elapsed(), request),
        }
    }
}

fn in_file(path: std::path::PathBuf) -> Opener {
    let service = Service {
        name: "calico".to_owned(),
        state: StateLocation::File(path),
        user: "root".to_owned(),
        roles: vec!["*".to_owned()],
        reserve_in: Vec::new(),
        host: None,
        webui_url: None,
        failover_timeout: Duration::from_hours(1),
        api_listen: "127.0.0.1:0".parse().unwrap(),
        log: "info".to_owned(),
    };
    Opener::new(&service, "")
}

async fn lead<K: Kv>(master: String, mut opener: Opener<K>, role: watch::Sender<Role>) -> Ended {
    let program = Program { inventory_interval: Duration::from_millis(200), ..Program::new(&config()) };
    let subscribe = |framework, tenure: &Tenure| {
        Client::start(crate::named(&master), &crate::nobody(), framework, tenure)
    };
    program.lead(&mut opener, subscribe, SystemClock, |stage| drop(role.send_replace(stage.into()))).await
}

async fn scheduler<K: Kv>(master: &str, opener: Opener<K>) -> Scheduler {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = listener.local_addr().unwrap().to_string();
    let (role, shown) = watch::channel(Role::Standby("another leads".to_owned()));
    let report = opener.report();
    tokio::spawn(async move { axum::serve(listener, router(shown, report)).await });
    let (status, health) = get(&api, "/v1/health").await;
    assert_eq!(status, 503);
    assert_eq!(health["reasons"], json!(["standby: another leads"]));
    assert_eq!(health["leadership"], json!({"leads": false, "waits_for": "another leads"}));
    let main = tokio::spawn(lead(master.to_owned(), opener, role.clone()));
    Scheduler { api, role, main }
}

impl Scheduler {
    /// Waits until the reasons are of this kind; all are, one each.
    async fn shows(&self, kinds: &[&str]) -> Value {
        let started = std::time::Instant::now();
        loop {
            let (status, health) = get(&self.api, "/v1/health").await;
            let reasons: Vec<&str> =
                health["reasons"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let fits = reasons.len() == kinds.len() && reasons.iter().zip(kinds).all(|(r, k)| r.contains(k));
            assert_eq!(status, if reasons.is_empty() { 200 } else { 503 });
            assert_eq!(health["healthy"], reasons.is_empty());
            assert_eq!(get(&self.api, "/v1/health/live").await.0, 200, "it would be killed for it");
            if fits {
                return health;
            }
            assert!(started.elapsed() < SOON * 6, "{health:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn health_is_everything_and_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let alone = scheduler("127.0.0.1:1", in_file(dir.path().join("alone.json"))).await;
    let health = alone.shows(&["no subscription with a master", "was not read yet"]).await;
    assert_eq!(health["subscription"]["master"], Value::Null);
    let error = health["subscription"]["error"].as_str().unwrap();
    for part in
        ["cannot connect to 127.0.0.1:1: ", "Tasks go on running and state is kept", "mesos.master must name"]
    {
        assert!(error.contains(part), "'{part}' is not in: {error}");
    }
    let reason = health["reasons"][0].as_str().unwrap();
    assert!(reason.ends_with(error), "{reason}");

    let mut master = Master::leading(60.0).await;
    let state = dir.path().join("state.json");
    let scheduler = scheduler(&master.authority, in_file(state.clone())).await;
    master.subscription().await;
    let health = scheduler.shows(&[]).await;
    assert_eq!(health["leadership"], json!({"leads": true}));
    assert_eq!(health["subscription"]["master"], format!("http://{}", master.authority));
    assert!(health["inventory"]["read_ago"].as_f64().unwrap() < 30.0);
    assert_eq!(health["agents"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>(), 1);
    assert!(health["store"]["stored_in"].as_f64().is_some() && health["store"]["away_for"].is_null());
    let (status, history) = get(&scheduler.api, "/v1/history").await;
    assert_eq!((status, &history[0]["what"]), (200, &json!("agent")), "{history:#}");
    assert_eq!(get(&scheduler.api, "/v1/history?since=99").await, (200, json!([])));
    assert_eq!(get(&scheduler.api, "/v1/history?since=x").await.0, 400);

    scheduler.role.send_replace(Role::Standby("leadership was lost".to_owned()));
    scheduler.shows(&["standby: leadership was lost"]).await;
    assert!(state.exists());
}

/// What the history tells, oldest first.
async fn told(scheduler: &Scheduler) -> Vec<String> {
    let (status, history) = get(&scheduler.api, "/v1/history").await;
    assert_eq!(status, 200);
    history.as_array().unwrap().iter().map(|entry| entry["what"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_etcd_that_is_away_is_named_with_and_without_leadership_and_what_it_did_not_take_is_told_once() {
    let mut master = Master::leading(60.0).await;
    let absent = Absent::new();
    let candidate = Candidate::new(etcd::Client(absent.clone()), "/calico-dcos", "calico", "first");
    let scheduler = scheduler(&master.authority, Opener::in_etcd(candidate)).await;
    master.subscription().await;
    master.call(call::Type::Revive).await;
    let health = scheduler.shows(&[]).await;
    assert!(health["store"]["away_for"].is_null() && health["store"]["why"].is_null(), "{health:#}");
    assert_eq!(told(&scheduler).await, ["agent"]);

    // Nothing is to be stored yet: its lease cannot be renewed.
    absent.is(true);
    let health = scheduler.shows(&["the store is away for"]).await;
    assert_eq!(health["leadership"]["leads"], true);
    assert!(health["store"]["away_for"].is_number(), "{health:#}");
    assert_eq!(health["store"]["why"], "the simulated etcd (service.state): connection refused");
    let reason = health["reasons"][0].as_str().unwrap();
    assert!(reason.ends_with("Tasks go on running, and what is stored is kept"), "{reason}");
    assert_eq!(health["agents"], json!({"COMPLETE": 1}));
    // A launch cannot be stored.
    master.offer("o1");
    let health = scheduler.shows(&["standby: the simulated etcd", "the store is away for"]).await;
    assert_eq!(health["leadership"]["leads"], false);
    let waits_for = health["leadership"]["waits_for"].as_str().unwrap();
    for part in ["(service.state): connection refused", "Nothing is launched or ended", "tasks go on running"]
    {
        assert!(waits_for.contains(part), "'{part}' is not in: {waits_for}");
    }
    assert!(health["subscription"].is_null() && health["agents"].is_null(), "{health:#}");
    assert_eq!(told(&scheduler).await, ["agent"], "what is not stored is told");

    absent.is(false);
    master.subscription().await;
    let health = scheduler.shows(&[]).await;
    assert_eq!(health["leadership"]["leads"], true);
    assert!(health["store"]["away_for"].is_null() && health["store"]["why"].is_null(), "{health:#}");
    // Who begins with what is stored launches nothing before it has heard of all tasks.
    assert_eq!(master.call(call::Type::Reconcile).await.reconcile.unwrap().tasks, []);
    let last = master.call(call::Type::Reconcile).await.reconcile.unwrap().tasks.remove(0);
    master.nothing(Duration::from_millis(300)).await;
    master.update(&last.task_id, TaskState::TaskUnknown);
    master.call(call::Type::Revive).await;
    master.offer("o2");
    let accept = master.call(call::Type::Accept).await.accept.unwrap();
    assert_eq!(accept.offer_ids[0].value, "o2");
    assert_eq!(told(&scheduler).await, ["agent", "launched"]);
}

#[tokio::test]
async fn who_goes_on_from_a_restored_etcd_says_so_and_asks_for_all_tasks_for_as_long_as_it_has_its_doubts() {
    let mut master = Master::leading(60.0).await;
    let etcd = Absent::new();
    let candidate = Candidate::new(etcd::Client(etcd.clone()), "/calico-dcos", "calico", "first");
    let scheduler = scheduler(&master.authority, Opener::in_etcd(candidate)).await;
    master.subscription().await;
    master.call(call::Type::Revive).await;
    // To before our framework's registration: its ID is no reason to have doubts.
    etcd.restore();
    assert_eq!(master.subscription().await.framework_id, None);
    // Again after 5 s; between these it asks about one that there never was, and nothing else is done.
    let mut rounds = 0;
    while rounds < 2 {
        let asked = master.call(call::Type::Reconcile).await.reconcile.unwrap();
        rounds += usize::from(asked.tasks.is_empty());
    }
    let health = scheduler.shows(&[]).await;
    assert!(health["store"]["restored"]["what"].is_string(), "{health:#}");
}
