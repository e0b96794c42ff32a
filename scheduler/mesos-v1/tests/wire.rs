//! The messages against bytes written out by hand from the field numbers of Mesos 1.11.

#![allow(clippy::unwrap_used, reason = "tests")]

use mesos_v1::{
    AgentId, FrameworkId, Label, Labels, Resource, TaskState, TaskStatus, executor, master,
    resource::{AllocationInfo, ReservationInfo},
    scheduler,
    task_status::{Reason, Source},
    value,
};
use prost::Message as _;

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text.replace(char::is_whitespace, "")).unwrap()
}

#[test]
fn subscribed_event_of_the_scheduler_api() {
    let wire = bytes(
        "08 01          12 16
           0a 04 0a 02 66 31
           11 00 00 00 00 00 00 2e 40
           1a 05 0a 01 6d 10 7f",
    );
    // The MasterInfo lacks its port: prost does not insist on `required`.
    let event = scheduler::Event::decode(&wire[..]).unwrap();
    assert_eq!(event.r#type(), scheduler::event::Type::Subscribed);
    let subscribed = event.subscribed.unwrap();
    assert_eq!(subscribed.framework_id, FrameworkId::from("f1"));
    assert_eq!(subscribed.heartbeat_interval_seconds, Some(15.0));
    let master = subscribed.master_info.unwrap();
    assert_eq!((master.id.as_str(), master.ip), ("m", 127));
}

#[test]
fn status_update_with_every_field_that_is_judged() {
    let wire = bytes(
        "0a 03 0a 01 74
           10 01
           22 02 6f 6b
           2a 03 0a 01 61
           3a 03 0a 01 65
           40 00
           48 02
           50 1c
           5a 02 ab cd
           7a 06 08 01 12 02 08 03
           6a 06 12 00 22 00 18 07",
    );
    let status = TaskStatus::decode(&wire[..]).unwrap();
    assert_eq!(status.task_id.value, "t");
    assert_eq!(status.state(), TaskState::TaskRunning);
    assert_eq!(status.message(), "ok");
    assert_eq!(status.agent_id.as_ref().unwrap().value, "a");
    assert_eq!(status.executor_id.as_ref().unwrap().value, "e");
    assert_eq!(status.healthy, Some(false));
    assert_eq!(status.source(), Source::Executor);
    assert_eq!(status.reason(), Reason::TaskCheckStatusUpdated);
    assert_eq!(status.uuid(), [0xab, 0xcd]);
    let check = status.check_status.unwrap();
    assert_eq!(check.command.unwrap().exit_code, Some(3));
    assert_eq!(status.container_status.unwrap().executor_pid, Some(7));
}

#[test]
fn decline_call_is_encoded_with_mesos_numbers() {
    let call = scheduler::Call {
        framework_id: Some("f".into()),
        r#type: Some(scheduler::call::Type::Decline.into()),
        decline: Some(scheduler::call::Decline {
            offer_ids: vec!["o".into()],
            filters: Some(mesos_v1::Filters { refuse_seconds: Some(5.0) }),
        }),
        ..Default::default()
    };
    let expected = bytes(
        "0a 03 0a 01 66  10 04
         2a 10  0a 03 0a 01 6f  12 09 09 00 00 00 00 00 00 14 40",
    );
    assert_eq!(call.encode_to_vec(), expected);
}

#[test]
fn calls_added_after_mesos_1_0_have_their_own_numbers() {
    use scheduler::{Call, call};
    let number = |call: &Call| {
        let wire = call.encode_to_vec();
        // A two-byte tag: field numbers above 15.
        (u16::from(wire[0] & 0x7f) | u16::from(wire[1]) << 7) >> 3
    };
    let suppress = Call { suppress: Some(call::Suppress::default()), ..Default::default() };
    assert_eq!(number(&suppress), 16);
    let update = Call { update_framework: Some(call::UpdateFramework::default()), ..Default::default() };
    assert_eq!(number(&update), 19);
    assert_eq!(call::Type::UpdateFramework as i32, 17);
    let revive = Call { revive: Some(call::Revive::default()), ..Default::default() };
    assert_eq!(revive.encode_to_vec()[0] >> 3, 15);
}

#[test]
fn a_reserved_and_allocated_resource_keeps_all_it_came_with() {
    let resource = Resource {
        name: "cpus".into(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value: 0.5 }),
        allocation_info: Some(AllocationInfo { role: Some("r".into()) }),
        reservations: vec![ReservationInfo {
            r#type: Some(2),
            role: Some("r".into()),
            principal: Some("p".into()),
            labels: Some(Labels { labels: vec![Label { key: "k".into(), value: None }] }),
        }],
        ..Default::default()
    };
    let wire = bytes(
        "0a 04 63 70 75 73  10 00  1a 09 09 00 00 00 00 00 00 e0 3f
         5a 03 0a 01 72
         6a 0f  0a 01 70  12 05 0a 03 0a 01 6b  1a 01 72  20 02",
    );
    assert_eq!(resource.encode_to_vec(), wire);
    assert_eq!(Resource::decode(&wire[..]).unwrap(), resource);
}

#[test]
fn executor_subscribe_and_launch_group() {
    let call = executor::Call {
        executor_id: "e".into(),
        framework_id: "f".into(),
        r#type: Some(executor::call::Type::Subscribe.into()),
        subscribe: Some(executor::call::Subscribe::default()),
        ..Default::default()
    };
    let wire = bytes("0a 03 0a 01 65  12 03 0a 01 66  18 01  22 00");
    assert_eq!(call.encode_to_vec(), wire);

    let event = executor::Event::decode(&bytes("08 08 42 02 0a 00")[..]).unwrap();
    assert_eq!(event.r#type(), executor::event::Type::LaunchGroup);
    assert!(event.launch_group.is_some());
}

#[test]
fn agents_of_the_operator_api() {
    let wire = bytes(
        "08 09 52 19 0a 17
           0a 08 0a 01 68 32 03 0a 01 61
           10 01
           1a 01 31
           60 01
           6a 04 08 01 12 00",
    );
    let response = master::Response::decode(&wire[..]).unwrap();
    assert_eq!(response.r#type(), master::response::Type::GetAgents);
    let agent = &response.get_agents.unwrap().agents[0];
    assert_eq!(agent.agent_info.hostname, "h");
    assert_eq!(agent.agent_info.id, Some(AgentId::from("a")));
    assert!(agent.active && agent.deactivated());
    assert_eq!(agent.drain_info.as_ref().unwrap().state, 1);
}
