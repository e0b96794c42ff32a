//! Scenarios of roles: what is reserved in them, and whose offers they want.

use mesos_v1::TaskState::{TaskFinished, TaskKilled, TaskRunning};
use mesos_v1::offer::{Operation, operation};
use mesos_v1::resource::{ReservationInfo, reservation_info};
use mesos_v1::scheduler::attribute_constraint::{
    Predicate, Selector, predicate, selector, selector::PseudoattributeType,
};
use mesos_v1::scheduler::offer_constraints::{RoleConstraints, role_constraints::Group};
use mesos_v1::scheduler::{AttributeConstraint, Call, OfferConstraints, call};
use mesos_v1::{FrameworkInfo, Resource};

use crate::scenarios::{ALLOCATION, BOTH};
use crate::session::{Session, launch, part, task};
use crate::target::Target;

fn reserved(mut resource: Resource, role: &str) -> Resource {
    resource.reservations.push(ReservationInfo {
        role: Some(role.to_owned()),
        r#type: Some(reservation_info::Type::Dynamic.into()),
        ..Default::default()
    });
    resource
}

fn reserve(resources: Vec<Resource>) -> Operation {
    Operation {
        r#type: Some(operation::Type::Reserve.into()),
        reserve: Some(operation::Reserve { resources, ..Default::default() }),
        ..Default::default()
    }
}

pub async fn reservations(target: &impl Target) -> Vec<String> {
    let mut s = Session::subscribed(target, &["r"], 1).await;
    let offer = s.offer(0);
    let resources = vec![
        reserved(part(&offer, "cpus", 0.1), "r"),
        reserved(part(&offer, "mem", 32.0), "r"),
        reserved(part(&offer, "disk", 16.0), "r"),
    ];
    let mut info = task("t1", &offer, "sleep 100");
    info.resources = resources[..2].to_vec();
    s.accept(&[offer], vec![reserve(resources.clone()), launch(vec![info])]).await;
    s.launched().await;
    s.until_state("t1", TaskRunning).await;
    s.get_agents().await;
    s.kill("t1", None).await;
    s.ended("t1", TaskKilled).await;
    s.decline(Some(0.0)).await;
    s.until_offers(1).await;

    s.note("reserved for another role, twice, and more than there is");
    for bad in [
        vec![reserved(part(&s.offer(0), "ports", 0.0), "r")],
        vec![reserved(part_free(&s, "cpus", 1.0), "other")],
        vec![reserved(part_free(&s, "cpus", 5.0), "r")],
        vec![part_free(&s, "cpus", 1.0)],
    ] {
        let offer = s.offer(0);
        s.accept(&[offer], vec![reserve(bad)]).await;
        s.until_offers(1).await;
    }
    let offer = s.offer(0);
    let unreserve = Operation {
        r#type: Some(operation::Type::Unreserve.into()),
        unreserve: Some(operation::Unreserve { resources }),
        ..Default::default()
    };
    s.accept(&[offer], vec![unreserve]).await;
    s.until_offers(1).await;
    s.get_agents().await;
    s.end().await
}

/// Some of an unreserved scalar that is offered.
fn part_free(s: &Session<'_>, name: &str, amount: f64) -> Resource {
    let mut offer = s.offer(0);
    offer.resources.retain(|resource| resource.reservations.is_empty());
    part(&offer, name, amount)
}

pub async fn public_agent(target: &impl Target) -> Vec<String> {
    let mut s = Session::subscribed(target, &["slave_public"], 2).await;
    let offer = s.offer(1);
    s.launch(&offer, vec![task("t1", &offer, "sleep 3; exit 0")]).await;
    s.launched().await;
    s.until_state("t1", TaskRunning).await;
    s.ended("t1", TaskFinished).await;
    s.end().await
}

pub async fn constraints(target: &impl Target) -> Vec<String> {
    let mut s = Session::subscribed(target, BOTH, 2).await;
    let test = |test| AttributeConstraint {
        selector: Selector {
            selector: Some(selector::Selector::PseudoattributeType(PseudoattributeType::Hostname.into())),
        },
        predicate: Predicate { predicate: Some(test) },
    };
    let equals = |value: String| test(predicate::Predicate::TextEquals(predicate::TextEquals { value }));
    let of = |role: &str, groups: Vec<Vec<AttributeConstraint>>| {
        let groups =
            groups.into_iter().map(|attribute_constraints| Group { attribute_constraints }).collect();
        OfferConstraints { role_constraints: [(role.to_owned(), RoleConstraints { groups })].into() }
    };
    let update = |s: &Session<'_>, constraints: Option<OfferConstraints>| Call {
        update_framework: Some(call::UpdateFramework {
            framework_info: s.info.clone(),
            offer_constraints: constraints,
            ..Default::default()
        }),
        ..Default::default()
    };
    for (what, constraints) in [
        ("another host", of("*", vec![vec![equals("nowhere".into())]])),
        ("that host", of("*", vec![vec![equals("nowhere".into())], vec![equals(target.hostname(0))]])),
        ("another role", of("other", vec![vec![equals("nowhere".into())]])),
        ("no groups", of("*", vec![])),
        ("an empty group", of("*", vec![vec![]])),
    ] {
        s.note(what);
        let call = update(&s, Some(constraints));
        s.call(call::Type::UpdateFramework, call).await;
        s.decline(Some(0.0)).await;
        s.wait(ALLOCATION).await;
    }
    s.note("another role suppressed");
    let mut call = update(&s, None);
    call.update_framework.as_mut().unwrap().suppressed_roles = vec!["other".into()];
    s.call(call::Type::UpdateFramework, call).await;
    s.note("none");
    let call = update(&s, None);
    s.call(call::Type::UpdateFramework, call).await;
    s.wait(ALLOCATION).await;
    s.note("fewer roles");
    let mut call = update(&s, None);
    call.update_framework.as_mut().unwrap().framework_info.roles = vec!["*".into()];
    s.call(call::Type::UpdateFramework, call).await;
    s.wait(ALLOCATION).await;
    for (what, change) in [
        ("another user", FrameworkInfo { user: "nobody".into(), ..s.info.clone() }),
        ("no checkpointing", FrameworkInfo { checkpoint: Some(false), ..s.info.clone() }),
        ("another principal", FrameworkInfo { principal: Some("p".into()), ..s.info.clone() }),
        ("an invalid role", FrameworkInfo { roles: vec!["a b".into()], ..s.info.clone() }),
        ("another ID", FrameworkInfo { id: Some("other".into()), ..s.info.clone() }),
    ] {
        let update = call::UpdateFramework { framework_info: change, ..Default::default() };
        s.note(what);
        s.call(call::Type::UpdateFramework, Call { update_framework: Some(update), ..Default::default() })
            .await;
    }
    s.end().await
}
