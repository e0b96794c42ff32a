//! `/v1/health` and `/v1/history`, over a loop, a file as its store, and a test's master.

use std::time::Duration;

use calico_scheduler::api::{Role, router};
use calico_scheduler::config::{Service, StateLocation};
use calico_scheduler::core::{Core, Settings};
use calico_scheduler::driver::{Driver, Ended, SystemClock};
use calico_scheduler::mesos::Client;
use calico_scheduler::state::{Opened, Opener};
use mesos_v1::FrameworkInfo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::get;
use crate::loops::task_types;
use crate::master::{Master, SOON};

struct Scheduler {
    dir: tempfile::TempDir,
    api: String,
    role: watch::Sender<Role>,
    driver: JoinHandle<Ended>,
}

async fn scheduler(master: &str) -> Scheduler {
    let dir = tempfile::tempdir().unwrap();
    let service = Service {
        name: "calico".to_owned(),
        state: StateLocation::File(dir.path().join("state.json")),
        user: "root".to_owned(),
        roles: vec!["*".to_owned()],
        reserve_in: Vec::new(),
        webui_url: None,
        failover_timeout: Duration::from_hours(1),
        api_listen: "127.0.0.1:0".parse().unwrap(),
        log: "info".to_owned(),
    };
    let mut opener = Opener::new(&service, "");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = listener.local_addr().unwrap().to_string();
    let (role, shown) = watch::channel(Role::Standby("another leads".to_owned()));
    let report = opener.report();
    tokio::spawn(async move { axum::serve(listener, router(shown, report)).await });
    let (status, health) = get(&api, "/v1/health").await;
    assert_eq!(status, 503);
    assert_eq!(health["reasons"], json!(["standby: another leads"]));
    assert_eq!(health["leadership"], json!({"leads": false, "waits_for": "another leads"}));

    let Opened { store, state, tenure, .. } = opener.open(|_| ()).await.unwrap();
    let tasks = task_types();
    let framework = FrameworkInfo { user: "root".into(), name: "calico".into(), ..Default::default() };
    let client = Client::start(crate::named(master), crate::nobody(), framework, &tenure);
    let subscription = client.0.condition();
    let core = Core::new(Settings::new(tasks.specs()), state);
    let interval = Duration::from_millis(200);
    let roles = vec!["*".to_owned()];
    let (driver, handle) =
        Driver::new(core, (store, tenure), tasks.into(), roles, interval, client, SystemClock);
    role.send_replace(Role::Leading { handle, subscription });
    Scheduler { dir, api, role, driver: tokio::spawn(driver.run()) }
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
    // Nobody listens there.
    let alone = scheduler("127.0.0.1:1").await;
    let health = alone.shows(&["no subscription with a master", "was not read yet"]).await;
    assert_eq!(health["subscription"]["master"], Value::Null);
    assert!(health["subscription"]["error"].as_str().is_some(), "{health:#}");
    alone.driver.abort();

    let mut master = Master::leading(60.0).await;
    let scheduler = scheduler(&master.authority).await;
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
    scheduler.driver.abort();
    assert!(scheduler.dir.path().join("state.json").exists());
}
