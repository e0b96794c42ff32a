//! Who is offered what, and when.

use fake_master::{AgentRef, AgentSpec, Resources};
use mesos_v1::offer::{Operation, operation};
use mesos_v1::resource::{ReservationInfo, reservation_info};
use mesos_v1::scheduler::{Call, call};
use mesos_v1::{Offer, OfferFilters, Resource, Unavailability, offer_filters};

use crate::scheduler::{Scheduler, cluster, info, launch, seconds, task};

fn suppress(scheduler: &Scheduler, world: &mut fake_master::World) {
    scheduler.accepted(world, call::Type::Suppress, Call::default());
}

fn revive(scheduler: &Scheduler, world: &mut fake_master::World) {
    scheduler.accepted(world, call::Type::Revive, Call::default());
}

fn cpus(offer: &Offer) -> f64 {
    offer.resources.iter().filter(|r| r.name == "cpus").filter_map(|r| r.scalar).map(|s| s.value).sum()
}

#[test]
fn a_filter_holds_for_its_time_and_revive_ends_it() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = Scheduler::subscribe(&mut world, &["*"]);
    let offers = scheduler.offers();
    scheduler.decline(&mut world, &offers, 30.0);
    scheduler.wait(&mut world, seconds(29));
    assert!(scheduler.offers().is_empty());
    scheduler.wait(&mut world, seconds(2));
    let offers = scheduler.offers();
    assert_eq!(offers.len(), 1);

    scheduler.decline(&mut world, &offers, 3600.0);
    scheduler.wait(&mut world, seconds(60));
    assert!(scheduler.offers().is_empty());
    revive(&scheduler, &mut world);
    scheduler.wait(&mut world, seconds(0));
    let offers = scheduler.offers();
    assert_eq!(offers.len(), 1);

    // Suppressed: nothing, whatever is free, until revived.
    suppress(&scheduler, &mut world);
    scheduler.decline(&mut world, &offers, 0.0);
    scheduler.wait(&mut world, seconds(60));
    assert!(scheduler.offers().is_empty());
    revive(&scheduler, &mut world);
    scheduler.wait(&mut world, seconds(0));
    assert_eq!(scheduler.offers().len(), 1);
}

#[test]
fn a_decline_without_a_filter_comes_with_the_next_allocation_and_one_without_seconds_after_five() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = Scheduler::subscribe(&mut world, &["*"]);
    let offers = scheduler.offers();
    scheduler.decline(&mut world, &offers, 0.0);
    scheduler.wait(&mut world, seconds(0));
    assert!(scheduler.offers().is_empty());
    scheduler.wait(&mut world, seconds(1));
    let offers = scheduler.offers();
    assert_eq!(offers.len(), 1);
    let decline = call::Decline { offer_ids: vec![offers[0].id.clone()], filters: None };
    scheduler.accepted(
        &mut world,
        call::Type::Decline,
        Call { decline: Some(decline), ..Default::default() },
    );
    scheduler.wait(&mut world, seconds(4));
    assert!(scheduler.offers().is_empty());
    scheduler.wait(&mut world, seconds(3));
    assert_eq!(scheduler.offers().len(), 1);
}

#[test]
fn a_filter_is_for_no_more_than_was_refused() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = Scheduler::subscribe(&mut world, &["*"]);
    let offers = scheduler.offers();
    scheduler.launch(&mut world, &offers[0], task("t", &offers[0], 1.0));
    scheduler.wait(&mut world, seconds(1));
    let rest = scheduler.offers();
    assert!((cpus(&rest[0]) - 3.0).abs() < 1e-9);
    scheduler.decline(&mut world, &rest, 3600.0);
    // The task ends: now more is free than was refused.
    scheduler.follow(&mut world, seconds(4));
    let all = scheduler.offers();
    assert!((cpus(&all[0]) - 4.0).abs() < 1e-9);
}

#[test]
fn agents_with_next_to_nothing_are_not_offered_unless_asked_for() {
    let tiny = AgentSpec::new("tiny").with_resources(Resources::of(0.009, 31.9));
    let small = AgentSpec::new("small").with_resources(Resources::of(0.01, 1.0));
    let mut world = cluster([tiny, small]);
    let mut scheduler = Scheduler::subscribe(&mut world, &["*"]);
    let names: Vec<String> = scheduler.offers().into_iter().map(|offer| offer.hostname).collect();
    assert_eq!(names, ["small"]);

    let any =
        OfferFilters { min_allocatable_resources: Some(offer_filters::MinAllocatableResources::default()) };
    let mut modest = info(&["*"]);
    modest.offer_filters = [("*".to_owned(), any)].into();
    let mut scheduler = Scheduler::subscribe_as(&mut world, modest);
    let names: Vec<String> = scheduler.offers().into_iter().map(|offer| offer.hostname).collect();
    assert_eq!(names, ["tiny"]);
}

#[test]
fn reserved_resources_are_for_their_role_alone() {
    let mut world = cluster([AgentSpec::new("private"), AgentSpec::new("public").reserved("slave_public")]);
    let mut plain = Scheduler::subscribe(&mut world, &["*"]);
    let offers = plain.offers();
    assert_eq!(offers.iter().map(|offer| &*offer.hostname).collect::<Vec<_>>(), ["private"]);
    plain.decline(&mut world, &offers, 3600.0);
    let mut both = Scheduler::subscribe(&mut world, &["*", "slave_public"]);
    both.wait(&mut world, seconds(1));
    let offers = both.offers();
    assert_eq!(offers.len(), 2, "{offers:?}");
    let public = offers.iter().find(|offer| offer.hostname == "public").unwrap();
    assert_eq!(public.allocation_info.as_ref().unwrap().role(), "slave_public");
    assert!(public.resources.iter().all(|resource| {
        resource.reservations[0].role() == "slave_public"
            && resource.allocation_info.as_ref().unwrap().role() == "slave_public"
    }));
}

#[test]
fn agents_before_1_3_and_those_with_gpus_are_hidden() {
    let old = AgentSpec { version: "1.2.0".into(), ..AgentSpec::new("old") };
    let gpus = Resources::of(4.0, 4096.0).with("gpus", 1.0, &std::sync::Arc::from([]));
    let mut world = cluster([old, AgentSpec::new("gpu").with_resources(gpus), AgentSpec::new("a")]);
    let mut scheduler = Scheduler::subscribe(&mut world, &["*"]);
    assert_eq!(scheduler.offers().len(), 1);
    assert_eq!(world.get_agents().agents.len(), 3);
}

fn reserved(resource: &Resource, amount: f64) -> Resource {
    let reservation = ReservationInfo {
        role: Some("r".into()),
        r#type: Some(reservation_info::Type::Dynamic.into()),
        ..Default::default()
    };
    let mut resource = resource.clone();
    resource.scalar.as_mut().unwrap().value = amount;
    resource.reservations.push(reservation);
    resource
}

#[test]
fn what_is_reserved_can_be_launched_with_at_once_and_comes_back_reserved() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = Scheduler::subscribe(&mut world, &["r"]);
    let offers = scheduler.offers();
    let offer = &offers[0];
    let of = |name: &str| offer.resources.iter().find(|resource| resource.name == name).unwrap();
    let resources = vec![reserved(of("cpus"), 1.0), reserved(of("mem"), 64.0)];
    let reserve = Operation {
        r#type: Some(operation::Type::Reserve.into()),
        reserve: Some(operation::Reserve { resources: resources.clone(), ..Default::default() }),
        ..Default::default()
    };
    let mut info = task("t", offer, 1.0);
    info.resources.clone_from(&resources);
    scheduler.accept(&mut world, &offers[..1], vec![reserve, launch(vec![info])]);
    scheduler.follow(&mut world, seconds(4));
    let states = world.master_tasks(scheduler.id());
    assert!(states.is_empty(), "{states:?}");
    // One offer of the rest came first; now the reserved part is free too.
    let offers = scheduler.offers();
    let free: Vec<_> = offers.iter().flat_map(|offer| &offer.resources).collect();
    let kept = |r: &&&Resource| r.name == "cpus" && !r.reservations.is_empty();
    assert_eq!(free.iter().filter(kept).count(), 1, "{offers:?}");

    let with =
        offers.iter().find(|offer| offer.resources.iter().any(|r| !r.reservations.is_empty())).unwrap();
    let unreserve = Operation {
        r#type: Some(operation::Type::Unreserve.into()),
        unreserve: Some(operation::Unreserve { resources }),
        ..Default::default()
    };
    scheduler.decline(
        &mut world,
        &offers.iter().filter(|o| o.id != with.id).cloned().collect::<Vec<_>>(),
        0.0,
    );
    scheduler.accept(&mut world, std::slice::from_ref(with), vec![unreserve]);
    scheduler.wait(&mut world, seconds(2));
    let offers = scheduler.offers();
    assert!(
        offers.iter().flat_map(|offer| &offer.resources).all(|r| r.reservations.is_empty()),
        "{offers:?}"
    );
    assert!((offers.iter().map(cpus).sum::<f64>() - 4.0).abs() < 1e-9);
}

#[test]
fn an_agent_that_goes_down_is_asked_for_with_inverse_offers() {
    let mut world = cluster([AgentSpec::new("a")]);
    let mut scheduler = Scheduler::subscribe(&mut world, &["*"]);
    scheduler.offers();
    let start = mesos_v1::TimeInfo { nanoseconds: 1 };
    world.set_unavailability(AgentRef::nth(0), Some(Unavailability { start, duration: None }));
    scheduler.wait(&mut world, seconds(1));
    let kinds: Vec<_> = scheduler.events.iter().map(|event| event.r#type().as_str_name()).collect();
    assert_eq!(kinds, ["HEARTBEAT", "RESCIND", "OFFERS", "INVERSE_OFFERS"]);
    assert!(scheduler.offers()[0].unavailability.is_some());
}

#[test]
fn constraints_name_the_agents_that_are_offered() {
    use mesos_v1::scheduler::attribute_constraint::{
        Predicate, Selector, predicate, selector, selector::PseudoattributeType,
    };
    use mesos_v1::scheduler::offer_constraints::{RoleConstraints, role_constraints::Group};
    use mesos_v1::scheduler::{AttributeConstraint, OfferConstraints};
    let constraint = |test| AttributeConstraint {
        selector: Selector {
            selector: Some(selector::Selector::PseudoattributeType(PseudoattributeType::Hostname.into())),
        },
        predicate: Predicate { predicate: Some(test) },
    };
    let equals =
        |value: &str| predicate::Predicate::TextEquals(predicate::TextEquals { value: value.into() });
    let matches =
        |regex: &str| predicate::Predicate::TextMatches(predicate::TextMatches { regex: regex.into() });
    let mut world = cluster(["a1", "a2", "b1", "b12"].map(AgentSpec::new));
    let mut scheduler = Scheduler::subscribe(&mut world, &["*"]);
    let offers = scheduler.offers();
    let group = |test| Group { attribute_constraints: vec![constraint(test)] };
    let constraints = RoleConstraints { groups: vec![group(equals("a2")), group(matches("b."))] };
    let update = |role: &str| call::UpdateFramework {
        framework_info: scheduler.info.clone(),
        offer_constraints: Some(OfferConstraints {
            role_constraints: [(role.to_owned(), constraints.clone())].into(),
        }),
        ..Default::default()
    };
    let call = |update| Call { update_framework: Some(update), ..Default::default() };
    let answer = scheduler.call(&mut world, call::Type::UpdateFramework, call(update("other")));
    assert_eq!((answer.status, &*answer.body), (200, ""));
    let answer = scheduler.call(&mut world, call::Type::UpdateFramework, call(update("*")));
    assert_eq!((answer.status, &*answer.body), (200, ""));
    scheduler.decline(&mut world, &offers, 0.0);
    scheduler.wait(&mut world, seconds(1));
    let mut names: Vec<String> = scheduler.offers().into_iter().map(|offer| offer.hostname).collect();
    names.sort();
    assert_eq!(names, ["a2", "b1"]);
}
