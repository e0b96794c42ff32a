//! The API's paths, status codes and forms.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::Request;
use axum::http::request::Builder;
use calico_scheduler::api::{Role, router};
use calico_scheduler::core::{ClusterRecord, Phase, State, TaskRecord, TaskType, Tasks, Timestamp};
use calico_scheduler::driver::Handle;
use calico_scheduler::mesos::Condition;
use calico_scheduler::state::Report;
use calico_scheduler::tasks::TaskTypes;
use http_body_util::Full;
use mesos_v1::http::Connection;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::loops::{config, start};
use crate::master::{AGENT, Master, SOON};

/// Serves the API of `handle`.
pub async fn serve(handle: Handle) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let since = std::time::SystemTime::now();
    let condition = Condition { master: None, since, error: Some("nobody is there".to_owned()) };
    let (_subscription, subscription) = watch::channel(condition);
    let (role, shown) = watch::channel(Role::Leading { handle, subscription });
    tokio::spawn(async move {
        let _shown = role;
        let router = router(shown, Report::default());
        axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await
    });
    authority
}

/// The answer to a GET: its status, and its body as JSON where it is that.
pub async fn get(api: &str, path: &str) -> (u16, Value) {
    ask(api, Request::get(path)).await
}

/// The same of a POST.
pub async fn post(api: &str, path: &str) -> (u16, Value) {
    ask(api, Request::post(path)).await
}

async fn ask(api: &str, request: Builder) -> (u16, Value) {
    let mut connection = Connection::open(api, SOON).await.unwrap();
    let request = request.body(Full::default()).unwrap();
    let response = connection.send(request, SOON).await.unwrap();
    let status = response.status.as_u16();
    let body = response.bytes(1024 * 1024).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// A state in which `cluster-init` stands like that, as configured now.
fn cluster_init(phase: Phase, failure: Option<&str>) -> State {
    let target = TaskTypes::new(&config()).specs()[&TaskType::ClusterInit].target.clone();
    let record = TaskRecord { failure: failure.map(str::to_owned), ..TaskRecord::new(phase, Some(target)) };
    State {
        framework_id: Some("F1".into()),
        cluster: ClusterRecord {
            tasks: Tasks::from_iter([(TaskType::ClusterInit, record)]),
            ..ClusterRecord::default()
        },
        ..State::default()
    }
}

/// The API of a scheduler that has seen the list of agents.
async fn with_inventory(state: State) -> String {
    let mut master = Master::leading(60.0).await;
    let (_store, handle, _driver) = start(&master.authority, state);
    master.subscription().await;
    while handle.view().await.unwrap().agents.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    serve(handle).await
}

/// The API of a scheduler that finds no master.
async fn without_a_master(state: State) -> String {
    serve(start("127.0.0.1:1", state).1).await
}

#[tokio::test]
async fn before_the_first_registration_the_plan_is_pending_and_all_is_alive() {
    let api = without_a_master(State::default()).await;
    assert_eq!(get(&api, "/v1/health/live").await.0, 200);
    let (status, plan) = get(&api, "/v1/plans/deploy").await;
    assert_eq!((status, &plan["status"]), (202, &json!("PENDING")));
    assert_eq!(get(&api, "/v1/agents").await, (200, json!([])));
    let (status, error) = get(&api, "/v1/state/frameworkId").await;
    assert_eq!((status, error), (404, json!({"error": "the framework is not registered yet"})));
}

#[tokio::test]
async fn what_is_not_known_before_the_list_of_agents_is_not_complete() {
    let api = without_a_master(cluster_init(Phase::Done { at: Timestamp(1) }, None)).await;
    assert_eq!(get(&api, "/v1/plans/deploy").await.0, 202);
    assert_eq!(get(&api, "/v1/state/frameworkId").await, (200, json!(["F1"])));
    let recovery =
        json!({"under_way": 0, "at_most": 1, "agents_down": 0, "agents": 0, "mass_failure_above": 1});
    assert_eq!(get(&api, "/v1/recovery").await, (200, recovery));
}

#[tokio::test]
async fn a_plan_that_is_complete_has_the_sdks_form_and_200() {
    let api = with_inventory(cluster_init(Phase::Done { at: Timestamp(1) }, None)).await;
    let step = json!({"id": "cluster-init.cluster-init", "name": "cluster-init", "status": "COMPLETE", "message": "done"});
    let phase = json!({
        "id": "cluster-init", "name": "cluster-init", "status": "COMPLETE", "strategy": "parallel", "steps": [step],
    });
    let plan = json!({"status": "COMPLETE", "errors": [], "strategy": "serial", "phases": [phase]});
    assert_eq!(get(&api, "/v1/plans/deploy").await, (200, plan));
    assert_eq!(get(&api, "/v1/plans").await, (200, json!(["deploy", "update", "recovery"])));
}

#[tokio::test]
async fn a_step_that_waits_for_an_operator_gives_417_and_its_reason() {
    let held = cluster_init(Phase::Held { since: Timestamp(1) }, Some("no such pool"));
    let api = with_inventory(held).await;
    let (status, plan) = get(&api, "/v1/plans/deploy").await;
    assert_eq!((status, &plan["status"]), (417, &json!("ERROR")));
    assert_eq!(plan["errors"], json!(["cluster-init.cluster-init: no such pool"]));
}

#[tokio::test]
async fn an_agent_is_found_by_its_address_and_what_is_not_there_is_named() {
    let api = with_inventory(State::default()).await;
    let (status, agent) = get(&api, "/v1/agents/10.0.0.11:5051").await;
    assert_eq!((status, &agent["agent_id"], &agent["presence"]), (200, &json!(AGENT), &json!("active")));
    assert_eq!(get(&api, "/v1/agents").await.1, json!([agent]));
    for (path, named) in [("/v1/agents/10.0.0.12", "10.0.0.12"), ("/v1/plans/updates", "updates")] {
        let (status, error) = get(&api, path).await;
        assert_eq!(status, 404, "{path}");
        assert!(error["error"].as_str().unwrap().contains(named), "{path}: {error}");
    }
    assert_eq!(get(&api, "/v1/nothing").await.0, 404);
}

#[tokio::test]
async fn a_loop_that_has_ended_shows_nothing() {
    let (_store, handle, driver) = start("127.0.0.1:1", State::default());
    let api = serve(handle).await;
    driver.abort();
    let _ = driver.await;
    assert_eq!(get(&api, "/v1/plans/deploy").await.0, 503);
    assert_eq!(get(&api, "/v1/agents").await.0, 503);
}
