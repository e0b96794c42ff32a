//! What is refused, and how.

use fake_master::AgentSpec;
use mesos_v1::scheduler::{Call, call};
use mesos_v1::task_status::Reason;
use mesos_v1::{FrameworkInfo, TaskState, TaskStatus};

use crate::scheduler::{Scheduler, cluster, info, launch, scalar, seconds, subscription, task};

fn revive(id: Option<&str>) -> Call {
    Call { framework_id: id.map(Into::into), r#type: Some(call::Type::Revive.into()), ..Default::default() }
}

#[test]
fn calls_need_a_framework_a_subscription_and_its_stream() {
    let mut world = cluster([]);
    let refusal = |answer: fake_master::Answer| (answer.status, answer.body);
    assert_eq!(
        refusal(world.call(None, &Call::default())),
        (400, "Failed to validate scheduler::Call: Expecting 'type' to be present".to_owned())
    );
    assert_eq!(
        refusal(world.call(None, &revive(None))),
        (400, "Failed to validate scheduler::Call: Expecting 'framework_id' to be present".to_owned())
    );
    assert_eq!(
        refusal(world.call(Some("x"), &revive(Some("F")))),
        (400, "Framework cannot be found".to_owned())
    );
    let scheduler = Scheduler::subscribe(&mut world, &["*"]);
    let id = scheduler.id().to_owned();
    let answer = world.call(None, &revive(Some(&id)));
    assert_eq!(answer.body, "All non-subscribe calls should include the 'Mesos-Stream-Id' header");
    let answer = world.call(Some("x"), &revive(Some(&id)));
    assert_eq!(answer.status, 400);
    assert!(answer.body.starts_with("The stream ID 'x' included in this request didn't match"), "{answer:?}");
    let answer = world.call(Some(&scheduler.stream), &subscription(info(&["*"])));
    assert_eq!(answer.body, "Subscribe calls should not include the 'Mesos-Stream-Id' header");
    world.disconnect(&scheduler.stream);
    let answer = world.call(Some(&scheduler.stream), &revive(Some(&id)));
    assert_eq!(refusal(answer), (403, "Framework is not subscribed".to_owned()));
}

#[test]
fn a_second_subscription_ends_the_first() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut first = Scheduler::subscribe(&mut world, &["*"]);
    first.offers();
    let answer = world.call(None, &subscription(first.info.clone()));
    first.wait(&mut world, seconds(0));
    assert_eq!(first.errors(), ["Framework failed over"]);
    assert!(first.closed);
    assert_ne!(answer.stream.as_deref(), Some(&*first.stream));
}

#[test]
fn a_framework_that_was_removed_cannot_come_back() {
    let mut world = cluster([]);
    let scheduler = Scheduler::subscribe(&mut world, &["*"]);
    scheduler.accepted(&mut world, call::Type::Teardown, Call::default());
    let mut again = Scheduler::subscribe_as(&mut world, scheduler.info.clone());
    assert_eq!(again.errors(), ["Framework has been removed"]);
    assert!(again.closed);
    // Another master does not know it.
    world.elect_master();
    let mut again = Scheduler::subscribe_as(&mut world, scheduler.info.clone());
    assert!(again.errors().is_empty());
}

#[test]
fn the_principal_cannot_change_and_the_user_stays() {
    let mut world = cluster([]);
    let scheduler = Scheduler::subscribe(&mut world, &["*"]);
    let other = FrameworkInfo { principal: Some("p".into()), ..scheduler.info.clone() };
    let mut again = Scheduler::subscribe_as(&mut world, other);
    assert_eq!(again.errors(), ["Changing framework's principal is not allowed."]);
    let other = FrameworkInfo { user: "nobody".into(), ..scheduler.info.clone() };
    let mut again = Scheduler::subscribe_as(&mut world, other.clone());
    assert!(again.errors().is_empty());
    let update = call::UpdateFramework { framework_info: other, ..Default::default() };
    let call = Call { update_framework: Some(update), ..Default::default() };
    let answer = again.call(&mut world, call::Type::UpdateFramework, call);
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("attempted to update from 'root' to 'nobody'"), "{answer:?}");
}

#[test]
fn launches_that_cannot_be_are_told_with_the_reason() {
    let mut world = cluster([AgentSpec::new("a"), AgentSpec::new("b")]);
    let mut scheduler = Scheduler::subscribe(&mut world, &["*"]);
    let offers = scheduler.offers();
    assert_eq!(offers.len(), 2);
    // Offers of two agents: both are gone then, and come again.
    scheduler.accept(&mut world, &offers, vec![launch(vec![task("1", &offers[0], 1.0)])]);
    scheduler.launch(&mut world, &offers[0], task("2", &offers[0], 1.0));
    scheduler.wait(&mut world, seconds(1));
    let updates = scheduler.updates();
    let messages: Vec<&str> = updates.iter().map(TaskStatus::message).collect();
    assert!(messages[0].starts_with("Task launched with invalid offers: Aggregated offers must belong"));
    let valid = format!("Task launched with invalid offers: Offer {} is no longer valid", offers[0].id);
    assert_eq!(messages[1], valid);
    assert!(updates.iter().all(|status| status.state() == TaskState::TaskDropped && status.uuid.is_none()));
    assert!(updates.iter().all(|status| status.reason() == Reason::InvalidOffers));

    let offers = scheduler.offers();
    let offer = &offers[0];
    let mut elsewhere = task("4", offer, 1.0);
    elsewhere.agent_id = offers[1].agent_id.clone();
    let mut of_role = task("5", offer, 1.0);
    let other = mesos_v1::resource::AllocationInfo { role: Some("other".into()) };
    of_role.resources.iter_mut().for_each(|resource| resource.allocation_info = Some(other.clone()));
    let mut reserved = task("6", offer, 1.0);
    let reservation = mesos_v1::resource::ReservationInfo { role: Some("r".into()), ..Default::default() };
    reserved.resources[0].reservations = vec![reservation];
    let mut nothing = task("7", offer, 1.0);
    nothing.resources.clear();
    let mut negative = task("8", offer, 1.0);
    negative.resources = vec![scalar("cpus", -1.0)];
    let good = task("3", offer, 3.0);
    let tasks = vec![
        good.clone(),
        good,
        task("9", offer, 2.0),
        elsewhere,
        of_role,
        reserved,
        nothing,
        negative,
        task("", offer, 0.1),
    ];
    scheduler.accept(&mut world, &offers[..1], vec![launch(tasks)]);
    scheduler.wait(&mut world, seconds(0));
    let updates = scheduler.updates();
    let reasons: Vec<&str> = updates.iter().map(TaskStatus::message).collect();
    assert_eq!(reasons[0], "Task has duplicate ID: 3");
    assert!(reasons[1].contains("is more than available cpus(allocated: *):1;"), "{}", reasons[1]);
    assert!(reasons[2].starts_with("Task uses invalid agent"), "{}", reasons[2]);
    assert!(reasons[3].contains("cpus(allocated: other):1"), "{}", reasons[3]);
    assert!(reasons[4].contains("is more than available"), "{}", reasons[4]);
    assert_eq!(reasons[5], "Task uses no resources");
    assert!(reasons[6].contains("value <= 0"), "{}", reasons[6]);
    assert_eq!(reasons[7], "ID must not be empty");
    assert!(updates.iter().all(|status| status.state() == TaskState::TaskError));
    assert!(updates.iter().all(|status| status.reason() == Reason::TaskInvalid));
    // Only the good one runs.
    scheduler.wait(&mut world, seconds(1));
    assert_eq!(world.master_tasks(scheduler.id()).len(), 1);
}
