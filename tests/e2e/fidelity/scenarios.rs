//! The scenarios: each is a framework of its own, and leaves the cluster as it was.

use std::time::Duration;

use mesos_v1::TaskState::{TaskKilled, TaskRunning};
use mesos_v1::resource::{AllocationInfo, ReservationInfo, reservation_info};
use mesos_v1::scheduler::offer_constraints::RoleConstraints;
use mesos_v1::scheduler::{Call, OfferConstraints, call, event};
use mesos_v1::{CheckInfo, FrameworkInfo, Offer, PROTOBUF, check_info};
use prost::Message as _;

use crate::Recorded;
use crate::agents::{agent_restart, draining, maintenance};
use crate::disturbances::{failover, gone, rebuilt, unreachable};
use crate::roles::{constraints, public_agent, reservations};
use crate::session::{Session, is_error, launch, request, task};
use crate::target::Target;

/// One role, whose only agent is the plain one.
pub const PLAIN: &[&str] = &["*"];
/// Both agents.
pub const BOTH: &[&str] = &["*", "slave_public"];
/// Longer than several allocations take, with their interval of 0.2 s.
pub const ALLOCATION: Duration = Duration::from_millis(1200);

/// How many groups there are: each is run on a cluster of its own, all at the same time, for most of it is waiting.
pub const GROUPS: usize = 4;

/// What the scenarios of a group record.
pub async fn recorded(group: usize, target: &impl Target) -> Recorded {
    // For whoever works on one of them: `FIDELITY_SCENARIOS=filters,teardown`.
    let only = std::env::var("FIDELITY_SCENARIOS").ok();
    let mut recorded = Recorded::new();
    macro_rules! run {
        ($($of:literal: $($scenario:ident)+;)+) => {$($(
            let name = stringify!($scenario);
            if group == $of && only.as_ref().is_none_or(|only| only.split(',').any(|only| only == name)) {
                let start = std::time::Instant::now();
                recorded.insert(name, $scenario(target).await);
                eprintln!("{}: {:.1} s", name, start.elapsed().as_secs_f64());
            }
        )+)+};
    }
    // About as long as each other.
    run! {
        0: subscription refusals filters suppressing launching;
        1: bad_launches stale_offers reconciling redelivery resubscription draining;
        2: teardown reservations public_agent constraints maintenance unreachable;
        3: agent_restart gone rebuilt failover;
    }
    recorded
}

async fn subscription(target: &impl Target) -> Vec<String> {
    let mut s = Session::new(target, BOTH);
    let call = s.subscription();
    s.subscribe_with(&call).await;
    let mut heartbeats = 0;
    s.until("second heartbeat", |event| {
        heartbeats += u32::from(event.r#type() == event::Type::Heartbeat);
        heartbeats == 2
    })
    .await;
    s.note(&format!("{heartbeats} heartbeats"));
    s.get_agents().await;
    s.end().await
}

async fn refusals(target: &impl Target) -> Vec<String> {
    let mut s = Session::new(target, PLAIN);
    let revive = |id: Option<&str>| Call {
        framework_id: id.map(Into::into),
        r#type: Some(call::Type::Revive.into()),
        ..Default::default()
    };
    let body = revive(Some("F")).encode_to_vec();
    s.raw("no type", &Call::default(), None).await;
    s.raw("no framework ID", &revive(None), None).await;
    s.raw("unknown framework", &revive(Some("F")), Some("x")).await;
    s.send("no content type", request(body.clone(), &[])).await;
    s.send("text", request(body.clone(), &[("Content-Type", "text/plain")])).await;
    s.send("garbage", request(b"\xff\xff".to_vec(), &[("Content-Type", PROTOBUF)])).await;
    let mut get = request(body, &[("Content-Type", PROTOBUF)]);
    *get.method_mut() = http::Method::GET;
    s.send("GET", get).await;
    let subscribe = Call { framework_id: Some("F".into()), ..s.subscription() };
    s.raw("two IDs", &subscribe, None).await;
    let subscribe = s.subscription();
    s.raw("SUBSCRIBE with a stream", &subscribe, Some("x")).await;
    let subscribe = Call { r#type: Some(call::Type::Subscribe.into()), ..Default::default() };
    s.raw("SUBSCRIBE without a body", &subscribe, None).await;

    s.subscribe_for_offers(1).await;
    let id = s.id();
    s.raw("no stream", &revive(Some(&id)), None).await;
    s.raw("wrong stream", &revive(Some(&id)), Some("x")).await;
    for kind in [
        call::Type::Accept,
        call::Type::Decline,
        call::Type::Kill,
        call::Type::Acknowledge,
        call::Type::Reconcile,
        call::Type::AcceptInverseOffers,
        call::Type::UpdateFramework,
    ] {
        s.call(kind, Call::default()).await;
    }
    let acknowledge =
        call::Acknowledge { agent_id: "S".into(), task_id: "t".into(), uuid: b"short".to_vec().into() };
    s.call(call::Type::Acknowledge, Call { acknowledge: Some(acknowledge), ..Default::default() }).await;
    s.hang_up();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let stream = s.stream.clone();
    s.raw("after hanging up", &revive(Some(&id)), Some(&stream)).await;
    s.subscribe_for_offers(1).await;
    s.end().await
}

async fn filters(target: &impl Target) -> Vec<String> {
    let mut s = Session::subscribed(target, PLAIN, 1).await;
    s.decline(Some(0.0)).await;
    s.until_offers(1).await;
    s.decline(Some(6.0)).await;
    s.note("for 4 s:");
    s.wait(Duration::from_secs(4)).await;
    s.until_offers(1).await;
    s.decline(None).await;
    s.note("for 3 s:");
    s.wait(Duration::from_secs(3)).await;
    s.until_offers(1).await;
    s.decline(Some(3600.0)).await;
    s.wait(ALLOCATION).await;
    s.call(call::Type::Revive, Call::default()).await;
    s.until_offers(1).await;
    s.decline(Some(3600.0)).await;
    let revive = call::Revive { roles: vec!["other".into()] };
    s.call(call::Type::Revive, Call { revive: Some(revive), ..Default::default() }).await;
    s.note("a REVIVE of another role:");
    s.wait(ALLOCATION).await;
    // A new subscription after a lost one has no filters.
    s.hang_up();
    tokio::time::sleep(Duration::from_millis(500)).await;
    s.subscribe_for_offers(1).await;
    s.end().await
}

async fn suppressing(target: &impl Target) -> Vec<String> {
    let mut s = Session::subscribed(target, PLAIN, 1).await;
    s.call(call::Type::Suppress, Call::default()).await;
    s.decline(Some(0.0)).await;
    s.wait(ALLOCATION).await;
    let revive = call::Revive { roles: vec!["*".into()] };
    s.call(call::Type::Revive, Call { revive: Some(revive), ..Default::default() }).await;
    s.until_offers(1).await;
    s.decline(Some(0.0)).await;
    s.until_offers(1).await;
    s.call(call::Type::Teardown, Call::default()).await;

    let mut s = Session::new(target, PLAIN);
    let mut call = s.subscription();
    if let Some(subscribe) = &mut call.subscribe {
        subscribe.suppressed_roles = vec!["*".into()];
    }
    s.subscribe_with(&call).await;
    s.until("SUBSCRIBED", |event| event.r#type() == event::Type::Subscribed).await;
    s.wait(ALLOCATION).await;
    s.call(call::Type::Revive, Call::default()).await;
    s.until_offers(1).await;
    let mut lines = s.end().await;

    let mut s = Session::new(target, PLAIN);
    let mut call = s.subscription();
    if let Some(subscribe) = &mut call.subscribe {
        subscribe.suppressed_roles = vec!["other".into()];
    }
    s.subscribe_with(&call).await;
    s.until("ERROR", is_error).await;
    lines.extend(s.finish());

    let mut s = Session::new(target, PLAIN);
    let mut call = s.subscription();
    if let Some(subscribe) = &mut call.subscribe {
        let role_constraints = [("*".to_owned(), RoleConstraints::default())].into();
        subscribe.offer_constraints = Some(OfferConstraints { role_constraints });
    }
    s.subscribe_with(&call).await;
    s.until("ERROR", is_error).await;
    lines.extend(s.finish());
    lines
}

async fn launching(target: &impl Target) -> Vec<String> {
    let mut s = Session::subscribed(target, PLAIN, 1).await;
    let offer = s.offer(0);
    let mut with_check = task("t1", &offer, "sleep 100");
    let command = mesos_v1::CommandInfo { value: Some("true".into()), ..Default::default() };
    with_check.check = Some(CheckInfo {
        r#type: Some(check_info::Type::Command.into()),
        command: Some(check_info::Command { command }),
        delay_seconds: Some(1.0),
        interval_seconds: Some(1.0),
        ..Default::default()
    });
    s.launch(&offer, vec![with_check]).await;
    s.launched().await;
    s.until_state("t1", TaskRunning).await;
    s.note("the check:");
    s.until_state("t1", TaskRunning).await;
    s.get_agents().await;
    s.kill("t1", None).await;
    s.ended("t1", TaskKilled).await;
    s.decline(Some(0.0)).await;
    s.until_offers(1).await;
    let offer = s.offer(0);
    s.launch(&offer, vec![task("t2", &offer, "sleep 3; exit 3")]).await;
    s.launched().await;
    s.until_state("t2", TaskRunning).await;
    s.ended("t2", mesos_v1::TaskState::TaskFailed).await;
    s.kill("unknown", None).await;
    s.until_update().await;
    let agent = offer.agent_id.value.clone();
    s.kill("unknown", Some(&agent)).await;
    s.until_update().await;
    s.end().await
}

/// What is wrong with a task.
type Change = Box<dyn Fn(&mut mesos_v1::TaskInfo)>;

async fn bad_launches(target: &impl Target) -> Vec<String> {
    let mut s = Session::subscribed(target, PLAIN, 1).await;
    let role = |task: &mut mesos_v1::TaskInfo, resource: usize, role: &str| {
        task.resources[resource].allocation_info = Some(AllocationInfo { role: Some(role.to_owned()) });
    };
    let changes: Vec<(&str, Change)> = vec![
        ("too much", Box::new(|task| task.resources[0].scalar.as_mut().unwrap().value = 5.0)),
        ("of another role", Box::new(move |task| (0..2).for_each(|n| role(task, n, "other")))),
        ("of two roles", Box::new(move |task| role(task, 0, "other"))),
        ("no resources", Box::new(|task| task.resources.clear())),
        ("negative", Box::new(|task| task.resources[0].scalar.as_mut().unwrap().value = -1.0)),
        ("elsewhere", Box::new(|task| task.agent_id = "elsewhere".into())),
        ("without an ID", Box::new(|task| task.task_id = "".into())),
        ("with a slash", Box::new(|task| task.task_id = "a/b".into())),
        ("without a command", Box::new(|task| task.command = None)),
        ("of an unknown resource", Box::new(|task| task.resources[0].name = "unknown".into())),
        (
            "reserved",
            Box::new(|task| {
                task.resources[0].reservations = vec![ReservationInfo {
                    role: Some("r".into()),
                    r#type: Some(reservation_info::Type::Static.into()),
                    ..Default::default()
                }];
            }),
        ),
    ];
    for (what, change) in changes {
        s.note(what);
        let offer = s.offer(0);
        let mut bad = task("bad", &offer, "true");
        change(&mut bad);
        s.launch(&offer, vec![bad]).await;
        s.until_offers(1).await;
    }
    s.note("without allocation_info, and the same ID twice");
    let offer = s.offer(0);
    let mut good = task("good", &offer, "sleep 100");
    good.resources.iter_mut().for_each(|resource| resource.allocation_info = None);
    s.launch(&offer, vec![good.clone(), good]).await;
    s.launched().await;
    s.until_state("good", TaskRunning).await;
    s.end().await
}

async fn stale_offers(target: &impl Target) -> Vec<String> {
    let mut s = Session::subscribed(target, BOTH, 2).await;
    let offers = [s.offer(0), s.offer(1)];
    let tasks = |id: &str| vec![launch(vec![task(id, &offers[0], "true")])];
    s.note("of two agents and roles");
    s.accept(&offers, tasks("t1")).await;
    s.until_offers(2).await;
    s.note("stale");
    s.accept(&offers[..1], tasks("t2")).await;
    s.until_update().await;
    s.note("none");
    s.accept(&[], tasks("t3")).await;
    s.until_update().await;
    s.note("twice the same");
    let fresh = s.offer(0);
    s.accept(&[fresh.clone(), fresh], tasks("t4")).await;
    s.until_offers(1).await;
    s.note("declined again");
    let ids = offers.iter().map(|offer| offer.id.clone()).collect();
    let decline = call::Decline { offer_ids: ids, filters: None };
    s.call(call::Type::Decline, Call { decline: Some(decline), ..Default::default() }).await;
    s.note("without tasks");
    let fresh = s.offer(0);
    s.accept(&[fresh], vec![launch(vec![])]).await;
    s.until_offers(1).await;
    s.end().await
}

async fn reconciling(target: &impl Target) -> Vec<String> {
    let mut s = Session::subscribed(target, PLAIN, 1).await;
    let offer = s.offer(0);
    let agent = offer.agent_id.value.clone();
    s.reconcile(&[]).await;
    s.wait(Duration::from_millis(500)).await;
    s.launch(&offer, vec![task("t1", &offer, "sleep 100")]).await;
    s.launched().await;
    s.until_state("t1", TaskRunning).await;
    s.note("implicit");
    s.reconcile(&[]).await;
    s.until_update().await;
    for (what, tasks) in [
        ("known", ("t1", None)),
        ("known, on another agent", ("t1", Some("elsewhere"))),
        ("unknown", ("x", None)),
        ("unknown on a known agent", ("x", Some(&*agent))),
        ("unknown on an unknown agent", ("x", Some("elsewhere"))),
    ] {
        s.note(what);
        s.reconcile(&[tasks]).await;
        s.until_update().await;
    }
    s.note("killed by the ID of another agent");
    s.kill("t1", Some("elsewhere")).await;
    s.wait(Duration::from_secs(1)).await;
    s.end().await
}

async fn redelivery(target: &impl Target) -> Vec<String> {
    let mut s = Session::subscribed(target, PLAIN, 1).await;
    let offer = s.offer(0);
    s.launch(&offer, vec![task("t1", &offer, "sleep 100")]).await;
    s.launched().await;
    s.note("a wrong UUID of no version and of one, and the update again:");
    for byte in [0x01, 0x41] {
        let (agent_id, uuid) = (offer.agent_id.clone(), vec![byte; 16].into());
        let acknowledge = call::Acknowledge { agent_id, task_id: "t1".into(), uuid };
        s.call(call::Type::Acknowledge, Call { acknowledge: Some(acknowledge), ..Default::default() }).await;
    }
    s.until_update().await;
    s.note("what the master knows:");
    let unacknowledged = s.statuses.remove("t1");
    s.reconcile(&[("t1", None)]).await;
    s.until_update().await;
    s.statuses.extend(unacknowledged.map(|status| ("t1".to_owned(), status)));
    s.until_state("t1", TaskRunning).await;
    s.kill("t1", None).await;
    s.ended("t1", TaskKilled).await;
    s.reconcile(&[("t1", None)]).await;
    s.until_update().await;
    s.end().await
}

/// A framework whose task `t1` runs for long, and the offer that it was launched with.
pub async fn running(target: &impl Target) -> (Session<'_>, Offer) {
    let mut s = Session::subscribed(target, PLAIN, 1).await;
    let offer = s.offer(0);
    s.launch(&offer, vec![task("t1", &offer, "sleep 100")]).await;
    s.launched().await;
    s.until_state("t1", TaskRunning).await;
    (s, offer)
}

async fn resubscription(target: &impl Target) -> Vec<String> {
    let (mut s, _) = running(target).await;
    s.decline(Some(3600.0)).await;
    let call = s.subscription();
    s.subscribe_with(&call).await;
    s.until("SUBSCRIBED", |event| event.r#type() == event::Type::Subscribed).await;
    s.old_stream().await;
    s.note("filters of before:");
    s.wait(ALLOCATION).await;
    s.call(call::Type::Revive, Call::default()).await;
    s.until_offers(1).await;
    for (what, info) in [
        ("another principal", FrameworkInfo { principal: Some("p".into()), ..s.info.clone() }),
        ("duplicate roles", FrameworkInfo { roles: vec!["*".into(), "*".into()], ..s.info.clone() }),
        ("an invalid role", FrameworkInfo { roles: vec!["-a".into()], ..s.info.clone() }),
        ("an empty role", FrameworkInfo { roles: vec![String::new()], ..s.info.clone() }),
        ("an empty part", FrameworkInfo { roles: vec!["a//b".into()], ..s.info.clone() }),
        ("a dot", FrameworkInfo { roles: vec!["a/.".into()], ..s.info.clone() }),
        ("a star", FrameworkInfo { roles: vec!["a/*".into()], ..s.info.clone() }),
        ("both fields for roles", FrameworkInfo { role: Some("*".into()), ..s.info.clone() }),
    ] {
        s.note(what);
        let mut other = Session::new(target, PLAIN);
        other.info = info;
        let call = other.subscription();
        other.subscribe_with(&call).await;
        other.until("ERROR", is_error).await;
        for line in other.finish() {
            s.note(&line);
        }
    }
    s.note("another user and no checkpointing");
    let info = FrameworkInfo { user: "nobody".into(), checkpoint: Some(false), ..s.info.clone() };
    s.info = info;
    s.subscribe_for_offers(1).await;
    s.end().await
}

async fn teardown(target: &impl Target) -> Vec<String> {
    let (mut s, _) = running(target).await;
    s.call(call::Type::Teardown, Call::default()).await;
    s.wait(Duration::from_secs(1)).await;
    s.call(call::Type::Revive, Call::default()).await;
    s.subscribe().await;
    s.wait(Duration::from_millis(500)).await;
    s.finish()
}
