//! A whole loop over an etcd that is slow, or out of space.

use std::net::SocketAddr;

use http_body_util::Full;
use mesos_v1::http::Connection;
use mesos_v1::scheduler::call;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use super::slow::delayed;
use super::*;
use crate::api::{Role, router};
use crate::config::EtcdLocation;
use crate::driver::SystemClock;
use crate::link::{self, Loop};
use crate::mesos::Condition;
use crate::state::{Opened, Opener};

const SOON: Duration = Duration::from_secs(30);

/// Opens the store with the lease that is usual.
async fn open(location: EtcdLocation) -> (Opened, Report) {
    let mut opener = Opener::in_etcd(Candidate::new(Client::new(location), "/test", "team/calico", "first"));
    let begin = timeout(Duration::from_mins(2), opener.open(silent)).await.expect("it never leads").unwrap();
    (begin, opener.report())
}

async fn next(running: &mut Loop, kind: call::Type) {
    let wanted = async { while running.calls.recv().await.unwrap().r#type() != kind {} };
    timeout(SOON, wanted).await.unwrap_or_else(|_| panic!("no {kind:?} comes"));
}

/// `/v1/health` of one that leads with this loop.
async fn health(running: &Loop, report: Report) -> SocketAddr {
    let condition = Condition { master: None, since: std::time::SystemTime::now(), error: None };
    let subscription = watch::channel(condition).1;
    let (_, role) = watch::channel(Role::Leading { handle: running.handle.clone(), subscription });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router(role, report)).await });
    address
}

async fn said(api: SocketAddr) -> String {
    let mut connection = Connection::open(&api.to_string(), SOON).await.unwrap();
    let request = http::Request::get("/v1/health").body(Full::default()).unwrap();
    let answer = connection.send(request, SOON).await.unwrap().bytes(usize::MAX).await.unwrap();
    String::from_utf8(answer.to_vec()).unwrap()
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn an_etcd_without_space_stops_all_effects_is_told_of_and_all_goes_on_when_it_has_some() {
    let server = Server::start(&["--quota-backend-bytes", "4000000"]).await;
    let (Opened { store, state, tenure, .. }, report) = open(server.location.clone()).await;
    let agents = link::agents(1);
    let mut running =
        link::start((store, state, tenure.clone()), agents.clone(), Duration::ZERO, SystemClock).await;
    let api = health(&running, report.clone()).await;
    next(&mut running, call::Type::Revive).await;
    let mut etcd = server.client().await.unwrap();
    while etcd.put("fill", vec![b'x'; 100_000], None).await.is_ok() {}

    running.offer(&agents).await;
    let started = Instant::now();
    while report.condition().failing.is_none() {
        assert!(started.elapsed() < SOON, "nothing fails");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let health = said(api).await;
    for part in ["out of space", "(service.state)", "etcdctl alarm disarm", "tasks go on running"] {
        assert!(health.to_lowercase().contains(part), "'{part}' is not in {health}");
    }
    // Over two more attempts.
    let failing = report.condition().failing.unwrap().0;
    while failing.elapsed() < Duration::from_secs(5) {
        assert!(running.calls.try_recv().is_err(), "a launch is sent that is not stored");
        assert!(running.handle.idle() < SOON && tenure.holds());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(report.condition().failing.is_some());

    // What the advice says.
    let revision = server.revision().await.unwrap();
    // Only what is physically gone is freed by what follows.
    server.ctl(&["compact", "--physical", &revision.to_string()]);
    server.ctl(&["defrag"]);
    server.ctl(&["alarm", "disarm"]);
    let started = Instant::now();
    while report.condition().failing.is_some() {
        assert!(started.elapsed() < SOON, "it does not go on: {:?}", report.condition());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    next(&mut running, call::Type::Accept).await;
    assert!(report.condition().failing.is_none() && tenure.holds());
}

#[tokio::test]
#[ignore = "needs etcd: ETCD_BINARY"]
async fn a_list_of_1700_agents_is_stored_in_an_etcd_that_takes_2_s_for_each_answer() {
    let server = Server::start(&[]).await;
    let mut location = server.location.clone();
    location.members = vec![delayed(location.members[0].clone()).await];
    let (Opened { store, state, tenure, .. }, report) = open(location).await;
    let (started, agents) = (Instant::now(), link::agents(1700));
    let mut running = link::start((store, state, tenure.clone()), agents, Duration::ZERO, SystemClock).await;
    let revives = async { while running.calls.recv().await.unwrap().r#type() != call::Type::Revive {} };
    tokio::pin!(revives);
    while timeout(Duration::from_millis(50), &mut revives).await.is_err() {
        assert!(running.handle.idle() < Duration::from_secs(10), "Marathon would kill it");
        assert!(tenure.holds(), "leadership was lost: {:?}", report.condition());
        assert!(started.elapsed() < Duration::from_mins(3));
    }
    assert!(started.elapsed() > Duration::from_secs(30), "it was not slow");
    let count = GetOptions::new().with_prefix().with_count_only();
    let found = server.client().await.unwrap().get("/test/team__calico/agents/", Some(count)).await.unwrap();
    assert_eq!(found.count(), 1700);
}
