//! The subscription and its calls, against a strict master.

use std::time::Duration;

use axum::http::StatusCode;
use calico_scheduler::core::{Event, FrameworkId};
use calico_scheduler::mesos::{Client, ClientEvent};
use calico_scheduler::state::Tenure;
use mesos_v1::FrameworkInfo;
use mesos_v1::scheduler::{Call, call};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::master::{FRAMEWORK, Master, SOON, Seen};

/// No heartbeat is missed while a test runs.
const PATIENT: f64 = 60.0;

fn start(master: &Master) -> (Client, mpsc::Receiver<ClientEvent>) {
    let framework = FrameworkInfo { user: "root".into(), name: "calico".into(), ..Default::default() };
    Client::start(crate::named(&master.authority), crate::nobody(), framework, &Tenure::endless())
}

fn revive() -> Call {
    Call { r#type: Some(call::Type::Revive.into()), ..Default::default() }
}

async fn next(events: &mut mpsc::Receiver<ClientEvent>) -> ClientEvent {
    timeout(SOON, events.recv()).await.expect("no event came").unwrap()
}

async fn subscribed(events: &mut mpsc::Receiver<ClientEvent>) {
    match next(events).await {
        ClientEvent::Event(Event::Subscribed(FrameworkId(id))) => assert_eq!(id, FRAMEWORK),
        other => panic!("{other:?}"),
    }
}

async fn disconnected(events: &mut mpsc::Receiver<ClientEvent>) {
    let event = next(events).await;
    assert!(matches!(event, ClientEvent::Disconnected), "{event:?}");
}

#[tokio::test]
async fn a_redirect_without_a_scheme_leads_to_the_leader_and_calls_go_there() {
    let mut leader = Master::leading(PATIENT).await;
    let mut follower = Master::following(&leader.authority).await;
    let (client, mut events) = start(&follower);
    assert!(matches!(follower.next().await, Seen::Redirected));
    assert_eq!(leader.subscription().await.framework_id, None);
    subscribed(&mut events).await;
    assert_eq!(client.leader().unwrap().server.authority, leader.authority);

    // The master checks the stream's ID and the framework's.
    client.send(revive()).await;
    leader.call(call::Type::Revive).await;
    client.send(revive()).await;
    leader.call(call::Type::Revive).await;
    follower.nothing(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn masters_that_send_each_to_the_other_are_no_endless_journey() {
    let mut master = Master::following("127.0.0.1:1").await;
    let (client, _events) = start(&master);
    assert!(matches!(master.next().await, Seen::Redirected));
    // Nobody is there: the next attempt begins where we were told to begin.
    assert!(matches!(master.next().await, Seen::Redirected));
    assert!(client.leader().is_none());
}

#[tokio::test]
async fn a_stream_that_ends_is_followed_by_a_subscription_with_our_id_and_another_stream() {
    let mut master = Master::leading(PATIENT).await;
    let (client, mut events) = start(&master);
    master.subscription().await;
    subscribed(&mut events).await;

    master.hang_up();
    disconnected(&mut events).await;
    let call = master.subscription().await;
    assert_eq!(call.framework_id.unwrap().value, FRAMEWORK);
    subscribed(&mut events).await;
    client.send(revive()).await;
    master.call(call::Type::Revive).await;
}

#[tokio::test]
async fn no_call_is_sent_before_there_is_a_leader_nor_after_it_is_lost() {
    let mut master = Master::leading(PATIENT).await;
    let (client, mut events) = start(&Master::following("127.0.0.1:1").await);
    client.send(revive()).await;
    assert!(client.leader().is_none());

    let (client, mut later) = start(&master);
    master.subscription().await;
    subscribed(&mut later).await;
    master.hang_up();
    disconnected(&mut later).await;
    assert!(client.leader().is_none());
    client.send(revive()).await;
    // The call was decided without a leader: the next one does not get it.
    master.subscription().await;
    subscribed(&mut later).await;
    master.nothing(Duration::from_millis(200)).await;
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn silence_for_five_heartbeats_ends_the_subscription() {
    let mut master = Master::leading(0.04).await;
    let (_client, mut events) = start(&master);
    master.subscription().await;
    subscribed(&mut events).await;
    // The stream is open, and nothing comes.
    disconnected(&mut events).await;
    assert_eq!(master.subscription().await.framework_id.unwrap().value, FRAMEWORK);
}

#[tokio::test]
async fn a_call_that_is_not_taken_ends_the_subscription_and_those_behind_it_are_dropped() {
    let mut master = Master::leading(PATIENT).await;
    let (client, mut events) = start(&master);
    master.subscription().await;
    subscribed(&mut events).await;

    master.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    client.send(revive()).await;
    client.send(revive()).await;
    master.call(call::Type::Revive).await;
    disconnected(&mut events).await;
    master.refuse(None);
    assert_eq!(master.subscription().await.framework_id.unwrap().value, FRAMEWORK);
    subscribed(&mut events).await;
    client.send(revive()).await;
    master.call(call::Type::Revive).await;
}
