//! The subscription and its calls, against a strict master.

use std::time::Duration;

use axum::http::StatusCode;
use calico_scheduler::core::{Event, FrameworkId};
use calico_scheduler::mesos::{Client, ClientEvent, StreamNumber};
use calico_scheduler::state::Tenure;
use mesos_v1::FrameworkInfo;
use mesos_v1::scheduler::{Call, call};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::master::{FRAMEWORK, Master, SOON, Seen};

/// No heartbeat is missed while a test runs.
const PATIENT: f64 = 60.0;
const ROLES: [&str; 2] = ["*", "slave_public"];

fn start(master: &Master) -> (Client, mpsc::Receiver<ClientEvent>) {
    let roles = ROLES.map(str::to_owned).to_vec();
    let framework = FrameworkInfo { user: "root".into(), name: "calico".into(), roles, ..Default::default() };
    Client::start(crate::named(&master.authority), &crate::nobody(), framework, &Tenure::endless())
}

fn revive() -> Call {
    Call { r#type: Some(call::Type::Revive.into()), ..Default::default() }
}

async fn next(events: &mut mpsc::Receiver<ClientEvent>) -> ClientEvent {
    timeout(SOON, events.recv()).await.expect("no event came").unwrap()
}

async fn subscribed(events: &mut mpsc::Receiver<ClientEvent>) -> StreamNumber {
    match next(events).await {
        ClientEvent::Event(stream, Event::Subscribed(FrameworkId(id))) => {
            assert_eq!(id, FRAMEWORK);
            stream
        }
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
    let stream = subscribed(&mut events).await;
    assert_eq!(client.leader().unwrap().server.authority, leader.authority);

    // The master checks the stream's ID and the framework's.
    client.send(stream, revive()).await;
    leader.call(call::Type::Revive).await;
    client.send(stream, revive()).await;
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
    let call = master.subscription().await;
    assert_eq!(call.subscribe.unwrap().suppressed_roles, ROLES, "no offers before they are asked for");
    subscribed(&mut events).await;

    master.hang_up();
    disconnected(&mut events).await;
    let call = master.subscription().await;
    assert_eq!(call.framework_id.unwrap().value, FRAMEWORK);
    assert_eq!(call.subscribe.unwrap().suppressed_roles, ROLES, "nor with what the master has forgotten");
    let stream = subscribed(&mut events).await;
    client.send(stream, revive()).await;
    master.call(call::Type::Revive).await;
}

#[tokio::test]
async fn a_call_is_sent_in_the_subscription_that_it_was_decided_for_and_in_no_other() {
    let mut master = Master::leading(PATIENT).await;
    let (client, mut events) = start(&master);
    master.subscription().await;
    let first = subscribed(&mut events).await;
    master.hang_up();
    disconnected(&mut events).await;
    assert!(client.leader().is_none());
    client.send(first, revive()).await;
    master.subscription().await;
    let second = subscribed(&mut events).await;
    client.send(first, revive()).await;
    master.nothing(Duration::from_millis(200)).await;
    // Those were dropped, and are no reason to end this subscription.
    client.send(second, revive()).await;
    master.call(call::Type::Revive).await;
}

#[tokio::test]
async fn its_condition_says_with_whom_since_when_and_what_went_wrong() {
    let mut master = Master::leading(PATIENT).await;
    master.refuse_subscriptions(Some((StatusCode::FORBIDDEN, "not you")));
    let (client, mut events) = start(&master);
    let mut condition = client.condition();
    let begun = condition.borrow().since;
    let refused = condition.wait_for(|condition| condition.error.is_some());
    let refused = timeout(SOON, refused).await.unwrap().unwrap().clone();
    assert_eq!((&refused.master, refused.since), (&None, begun));
    let error = refused.error.unwrap();
    assert!(error.contains(&master.authority) && error.contains("403 Forbidden: not you"), "{error}");

    master.refuse_subscriptions(None);
    subscribed(&mut events).await;
    let fine = condition.borrow().clone();
    assert_eq!(fine.master.unwrap().authority, master.authority);
    assert!(fine.since > begun);
    master.hang_up();
    disconnected(&mut events).await;
    let lost = condition.borrow().clone();
    assert_eq!(lost.master, None);
    assert!(lost.since > fine.since && lost.error.unwrap().contains("closed the event stream"));
    while !matches!(master.next().await, Seen::Subscribe(_)) {}
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
    let stream = subscribed(&mut events).await;

    master.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    client.send(stream, revive()).await;
    client.send(stream, revive()).await;
    master.call(call::Type::Revive).await;
    disconnected(&mut events).await;
    master.refuse(None);
    assert_eq!(master.subscription().await.framework_id.unwrap().value, FRAMEWORK);
    let stream = subscribed(&mut events).await;
    client.send(stream, revive()).await;
    master.call(call::Type::Revive).await;
}

/// The next subscription, by a master that takes offer constraints or not.
async fn subscribed_with(events: &mut mpsc::Receiver<ClientEvent>, constraints: bool) -> StreamNumber {
    if constraints {
        let event = next(events).await;
        assert!(matches!(event, ClientEvent::Event(_, Event::TakesConstraints)), "{event:?}");
    }
    subscribed(events).await
}

fn update() -> Call {
    Call {
        r#type: Some(call::Type::UpdateFramework.into()),
        update_framework: Some(call::UpdateFramework::default()),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_master_that_refuses_constraints_is_subscribed_with_anew_and_not_asked_again() {
    let mut master = Master::leading(PATIENT).await;
    master.is("1.11.0");
    let (client, mut events) = start(&master);
    master.subscription().await;
    let stream = subscribed_with(&mut events, true).await;
    client.send(stream, update()).await;
    // Who we are is what SUBSCRIBE said, with the ID.
    let call = master.call(call::Type::UpdateFramework).await;
    let info = call.update_framework.unwrap().framework_info;
    assert_eq!((info.name.as_str(), info.id.unwrap().value.as_str()), ("calico", FRAMEWORK));
    client.send(stream, revive()).await;
    master.call(call::Type::Revive).await;

    // Who asks is another matter than what is asked: a token may have expired.
    master.refuse(Some(StatusCode::UNAUTHORIZED));
    client.send(stream, update()).await;
    master.call(call::Type::UpdateFramework).await;
    disconnected(&mut events).await;
    master.refuse(None);
    master.subscription().await;
    let stream = subscribed_with(&mut events, true).await;

    master.refuse(Some(StatusCode::BAD_REQUEST));
    client.send(stream, update()).await;
    master.call(call::Type::UpdateFramework).await;
    disconnected(&mut events).await;
    master.refuse(None);
    master.subscription().await;
    subscribed_with(&mut events, false).await;
}

#[tokio::test]
async fn an_older_master_is_not_asked_for_constraints() {
    let mut master = Master::leading(PATIENT).await;
    master.is("1.10.1");
    let (_client, mut events) = start(&master);
    master.subscription().await;
    subscribed_with(&mut events, false).await;
}

#[tokio::test]
async fn what_asking_again_does_not_mend_is_told_and_what_may_pass_is_not() {
    let mut master = Master::leading(PATIENT).await;
    let (client, mut events) = start(&master);
    master.subscription().await;
    subscribed(&mut events).await;
    master.error("Authorization failure: the authorizer is away");
    master.refuse_subscriptions(Some((StatusCode::BAD_REQUEST, "upstream is confused")));
    disconnected(&mut events).await;
    // A proxy's word may pass, too; the master's own is final.
    let mut condition = client.condition();
    let confused = |error: &String| error.contains("upstream is confused");
    let refused = condition.wait_for(|condition| condition.error.as_ref().is_some_and(confused));
    timeout(SOON, refused).await.unwrap().unwrap();
    let refusal = "Failed to validate scheduler::Call: the role is wrong";
    master.refuse_subscriptions(Some((StatusCode::BAD_REQUEST, refusal)));
    let event = next(&mut events).await;
    assert!(matches!(&event, ClientEvent::Event(_, Event::Error(said)) if said == refusal), "{event:?}");
}

#[tokio::test]
async fn an_event_that_is_too_long_is_told_of_with_what_to_do_and_is_no_reason_to_ask_for_it_all_the_time() {
    let mut master = Master::leading(PATIENT).await;
    let (client, mut events) = start(&master);
    master.subscription().await;
    let stream = subscribed(&mut events).await;
    // As many agents as there may be, at the length that they usually have: these are awaited.
    master.write("200000000\n".into());
    client.send(stream, revive()).await;
    master.call(call::Type::Revive).await;
    master.hang_up();
    disconnected(&mut events).await;
    master.subscription().await;
    subscribed(&mut events).await;
    master.write("268435457\n".into());
    disconnected(&mut events).await;
    let error = client.condition().borrow().error.clone().unwrap();
    for part in ["268435457 bytes", "Tasks go on running and state is kept", "service.role"] {
        assert!(error.contains(part), "'{part}' is not in: {error}");
    }
    // Otherwise the second attempt comes within two seconds.
    master.nothing(Duration::from_secs(4)).await;
}
