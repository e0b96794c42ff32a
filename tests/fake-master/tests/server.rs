//! The same master over HTTP, and with as many agents as there are anywhere.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use fake_master::{AgentSpec, Server, Settings, World};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue};
use mesos_v1::http::{Connection, Response};
use mesos_v1::recordio::DEFAULT_MAX_RECORD;
use mesos_v1::scheduler::{Call, Event, call, event};
use mesos_v1::{FrameworkInfo, master};
use prost::Message as _;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);
const START: Duration = Duration::from_secs(1_700_000_000);

async fn post(authority: &str, path: &str, headers: &HeaderMap, body: Vec<u8>) -> Response {
    let mut connection = Connection::open(authority, SOON).await.unwrap();
    connection.post(path, headers, body, SOON).await.unwrap()
}

fn subscription() -> Call {
    let failover_timeout = Some(600.0);
    let info =
        FrameworkInfo { user: "root".into(), name: "x".into(), failover_timeout, ..Default::default() };
    let subscribe = call::Subscribe { framework_info: info, ..Default::default() };
    Call { r#type: Some(call::Type::Subscribe.into()), subscribe: Some(subscribe), ..Default::default() }
}

#[tokio::test]
async fn a_stream_is_served_until_it_is_closed() {
    let mut world = World::new(START, 1, Settings::default());
    world.add_agents(AgentSpec::many(2));
    world.advance(START + Duration::from_secs(5));
    let server = Server::start(world).await.unwrap();
    let follower = Server::following(Some(&server.authority)).await.unwrap();
    let path = "/api/v1/scheduler";
    let answer = post(&follower.authority, path, &HeaderMap::new(), subscription().encode_to_vec()).await;
    assert_eq!(answer.status, 307);
    assert_eq!(answer.header("location"), Some(&*format!("//{}{path}", server.authority)));

    let answer = post(&server.authority, path, &HeaderMap::new(), subscription().encode_to_vec()).await;
    let stream = answer.header("mesos-stream-id").unwrap().to_owned();
    let mut records = answer.records(DEFAULT_MAX_RECORD);
    let mut next = async || {
        let record = timeout(SOON, records.next()).await.unwrap().unwrap().unwrap();
        Event::decode(record).unwrap()
    };
    let id = next().await.subscribed.unwrap().framework_id;
    assert_eq!(next().await.r#type(), event::Type::Heartbeat);
    assert_eq!(next().await.offers.unwrap().offers.len(), 2);
    let call = Call { framework_id: Some(id), r#type: Some(call::Type::Revive.into()), ..Default::default() };
    let headers =
        HeaderMap::from_iter([("Mesos-Stream-Id".parse().unwrap(), HeaderValue::from_str(&stream).unwrap())]);
    let body = call.encode_to_vec();
    assert_eq!(post(&server.authority, path, &headers, body.clone()).await.status, 202);

    let get = master::Call { r#type: Some(master::call::Type::GetAgents.into()), ..Default::default() };
    let answer = post(&server.authority, "/api/v1", &HeaderMap::new(), get.encode_to_vec()).await;
    let agents = master::Response::decode(answer.bytes(DEFAULT_MAX_RECORD).await.unwrap()).unwrap();
    assert_eq!(agents.get_agents.unwrap().agents.len(), 2);

    drop(records);
    let closed = async {
        while post(&server.authority, path, &headers, body.clone()).await.status != 403 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, closed).await.expect("the master does not see that the stream is closed");
}

/// The memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn fifty_thousand_agents_take_little_memory() {
    let before = resident();
    let mut world = World::new(START, 1, Settings::default());
    world.add_agents(AgentSpec::many(50_000));
    world.advance(START + Duration::from_mins(1));
    let taken = resident().saturating_sub(before);
    eprintln!("50,000 agents: {} MB", taken / 1_000_000);
    assert!(taken < 200_000_000, "{taken}");
    assert_eq!(world.get_agents().agents.len(), 50_000);
}
