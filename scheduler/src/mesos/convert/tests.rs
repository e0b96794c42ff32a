use mesos_v1::resource::{AllocationInfo, ReservationInfo, reservation_info};
use prost::Message as _;

use super::*;
use crate::core::RESERVATION_LABEL;

/// What a record of these bytes, in hexadecimal, is to the core.
fn decoded(record: &str) -> Result<Option<Event>, String> {
    let bytes = hex::decode(record.replace(' ', "")).unwrap();
    event(Message::decode(&bytes[..]).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn an_event_without_what_the_protocol_requires_is_refused_by_name() {
    for (record, reason) in [
        ("08 01", "the master sent SUBSCRIBED without its body"),
        ("08 01 12 00", "the master sent SUBSCRIBED without framework_id"),
        ("08 02", "the master sent OFFERS without its body"),
        ("08 09", "the master sent INVERSE_OFFERS without its body"),
        ("08 0a", "the master sent RESCIND_INVERSE_OFFER without its body"),
        ("08 0a 52 00", "the master sent RESCIND_INVERSE_OFFER without inverse_offer_id"),
        ("08 03", "the master sent RESCIND without its body"),
        ("08 03 22 00", "the master sent RESCIND without offer_id"),
        ("08 04", "the master sent UPDATE without its body"),
        ("08 04 2a 00", "the master sent UPDATE without task_id"),
        ("08 04 2a 02 0a 00", "the master sent UPDATE without task_id"),
        ("08 04 2a 07 0a 05 0a 03 0a 01 74", "the master sent UPDATE without a state"),
        ("08 07", "the master sent ERROR without its body"),
    ] {
        assert_eq!(decoded(record), Err(reason.to_owned()), "{record}");
    }
}

#[test]
fn offers_that_are_not_whole_do_not_take_the_others_with_them() {
    // One without an ID, one without an agent's, a whole one.
    let record = "08 02 1a 17 0a 00 0a 05 0a 03 0a 01 6f 0a 0c 0a 03 0a 01 70 1a 05 0a 03 53 2d 31";
    let Ok(Some(Event::Offers(offers))) = decoded(record) else { panic!("{:?}", decoded(record)) };
    let seen: Vec<(&str, &str)> = offers.iter().map(|o| (&*o.id.0, &*o.agent)).collect();
    // The core declines what is of no agent that it knows.
    assert_eq!(seen, [("o", ""), ("p", "S-1")]);
}

#[test]
fn inverse_offers_and_their_end() {
    // ID `i`, agent `S-1`, from 2 s after the epoch for 1 s; then one without an ID.
    let record = "08 09 4a 22 0a 1e 0a 03 0a 01 69 22 05 0a 03 53 2d 31 2a 10 0a 06 08 80 a8 d6 b9 07 12 06 08 80 94 eb dc 03 \
                  0a 00";
    let Ok(Some(Event::InverseOffers(offers))) = decoded(record) else { panic!("{:?}", decoded(record)) };
    let duration = Some(Duration::from_secs(1));
    let unavailability = Unavailability { start: Timestamp(2000), duration };
    assert_eq!(offers, [InverseOffer { id: "i".into(), agent: Some("S-1".into()), unavailability }]);
    let rescinded = decoded("08 0a 52 05 0a 03 0a 01 69");
    assert_eq!(rescinded, Ok(Some(Event::RescindInverseOffer("i".into()))));
}

#[test]
fn an_unknown_state_is_not_taken_for_the_first_one() {
    // Task `t`, state 1 (running), then 99.
    let running = decoded("08 04 2a 09 0a 07 0a 03 0a 01 74 10 01").unwrap().unwrap();
    assert!(matches!(running, Event::Update(Update { state: TaskState::Running, .. })), "{running:?}");
    let unknown = decoded("08 04 2a 09 0a 07 0a 03 0a 01 74 10 63");
    assert_eq!(unknown, Err("the master sent UPDATE without a state that is known".to_owned()));
}

#[test]
fn what_a_draining_agent_ends_is_told_from_what_failed() {
    use mesos::TaskState as Reported;
    use mesos::task_status::Reason;
    let state = |state: Reported, reason: Reason| {
        let status = mesos::TaskStatus {
            task_id: "t".into(),
            state: Some(state.into()),
            reason: Some(reason.into()),
            ..Default::default()
        };
        update(status).unwrap().state
    };
    let draining = Reason::AgentDraining;
    assert_eq!(state(Reported::TaskKilled, draining), TaskState::Drained);
    assert_eq!(state(Reported::TaskGoneByOperator, draining), TaskState::Drained);
    // It is being ended, and has not ended.
    assert_eq!(state(Reported::TaskKilling, draining), TaskState::Killing);
    assert_eq!(state(Reported::TaskKilled, Reason::TaskKilledDuringLaunch), TaskState::Failed);
    assert_eq!(state(Reported::TaskGoneByOperator, Reason::AgentRemovedByOperator), TaskState::Gone);
}

#[test]
fn a_launch_that_never_ran_is_told_from_a_task_that_was_lost() {
    use mesos::TaskState as Reported;
    use mesos::task_status::Reason;
    let state = |state: Reported, reason: Reason| {
        let (state, reason) = (Some(state.into()), Some(reason.into()));
        update(mesos::TaskStatus { task_id: "t".into(), state, reason, ..Default::default() }).unwrap().state
    };
    assert_eq!(state(Reported::TaskDropped, Reason::InvalidOffers), TaskState::Dropped);
    assert_eq!(state(Reported::TaskDropped, Reason::AgentDisconnected), TaskState::Dropped);
    // As masters say it that do not know TASK_DROPPED.
    assert_eq!(state(Reported::TaskLost, Reason::InvalidOffers), TaskState::Dropped);
    assert_eq!(state(Reported::TaskLost, Reason::AgentRemoved), TaskState::Unreachable);
    assert_eq!(state(Reported::TaskGone, Reason::Reconciliation), TaskState::Gone);
}

#[test]
fn events_of_a_later_mesos_are_passed_over() {
    assert_eq!(decoded("08 63"), Ok(None));
    assert_eq!(decoded(""), Ok(None));
    assert_eq!(decoded("08 08"), Ok(None), "a heartbeat");
}

#[test]
fn an_update_says_what_it_says_and_no_more() {
    let status = |status: mesos::TaskStatus| update(status).unwrap();
    let bare = mesos::TaskStatus { task_id: "t".into(), state: Some(1), ..Default::default() };
    let plain = status(bare.clone());
    assert_eq!((plain.agent, plain.healthy, plain.check, plain.uuid), (None, None, CheckResult::None, None));

    // An empty UUID or agent ID is none; a check without a result has not run yet.
    let empty = status(mesos::TaskStatus {
        uuid: Some(Vec::new().into()),
        agent_id: Some("".into()),
        check_status: Some(mesos::CheckStatusInfo {
            command: Some(mesos::check_status_info::Command { exit_code: None }),
            ..Default::default()
        }),
        ..bare
    });
    assert_eq!((empty.agent, empty.check, empty.uuid), (None, CheckResult::Pending, None));
}

fn reservation(kind: reservation_info::Type, role: &str, labels: Option<mesos::Labels>) -> ReservationInfo {
    ReservationInfo {
        r#type: Some(kind.into()),
        role: Some(role.to_owned()),
        principal: labels.as_ref().map(|_| "someone".to_owned()),
        labels,
    }
}

fn scalar(name: &str, value: f64, reservations: Vec<ReservationInfo>) -> mesos::Resource {
    mesos::Resource {
        name: name.to_owned(),
        r#type: mesos::value::Type::Scalar.into(),
        scalar: Some(mesos::value::Scalar { value }),
        reservations,
        ..Default::default()
    }
}

#[test]
fn a_task_echoes_refined_reservations_byte_for_byte() {
    use reservation_info::Type::{Dynamic, Static};
    let label = mesos::Label { key: "k".to_owned(), value: None };
    let refined = vec![
        reservation(Static, "slave_public", None),
        reservation(Dynamic, "slave_public/a", Some(mesos::Labels::default())),
        reservation(Dynamic, "slave_public/a/b", Some(mesos::Labels { labels: vec![label] })),
    ];
    let offer = mesos::Offer {
        id: "o".into(),
        agent_id: "S1".into(),
        allocation_info: Some(AllocationInfo { role: Some("slave_public/a/b".to_owned()) }),
        resources: vec![scalar("cpus", 0.7, refined.clone()), scalar("mem", 128.5, refined)],
        ..Default::default()
    };
    let wire = offer.encode_to_vec();

    let read = offers::sealed(wire.into()).unwrap().unwrap();
    let echoed: Vec<Vec<u8>> =
        read.resources.read().iter().map(|part| to_mesos(part).encode_to_vec()).collect();

    // The same, with the role that the offer names once for all its resources.
    let expected = offer.resources.into_iter().map(|resource| {
        mesos::Resource { allocation_info: offer.allocation_info.clone(), ..resource }.encode_to_vec()
    });
    assert_eq!(echoed, expected.collect::<Vec<_>>());
}

/// What is read of this resource in an offer to a role.
fn read_one(resource: mesos::Resource, offered_to: Option<&str>) -> Resource {
    let ports = mesos::Resource {
        name: "ports".into(),
        ranges: Some(mesos::value::Ranges::default()),
        ..Default::default()
    };
    let offer = mesos::Offer {
        id: "o".into(),
        allocation_info: offered_to.map(|role| AllocationInfo { role: Some(role.to_owned()) }),
        // What there is no amount of is left out.
        resources: vec![ports, resource],
        ..Default::default()
    };
    let mut resources = offers::sealed(offer.encode_to_vec().into()).unwrap().unwrap().resources.read();
    assert_eq!(resources.len(), 1);
    resources.remove(0)
}

#[test]
fn the_role_of_a_resource_goes_over_that_of_its_offer() {
    let own = mesos::Resource {
        allocation_info: Some(AllocationInfo { role: Some("own".to_owned()) }),
        ..scalar("cpus", 1.0, vec![])
    };
    assert_eq!(read_one(own, Some("offered")).allocated_to, "own");
    assert_eq!(read_one(scalar("cpus", 1.0, vec![]), Some("offered")).allocated_to, "offered");
    assert_eq!(read_one(scalar("cpus", 1.0, vec![]), None).allocated_to, "*");
}

#[test]
fn what_may_be_taken_away_or_is_tied_to_a_disk_is_special() {
    let plain = || scalar("cpus", 1.0, vec![]);
    let special = [
        mesos::Resource { revocable: Some(mesos::resource::RevocableInfo::default()), ..plain() },
        mesos::Resource { shared: Some(mesos::resource::SharedInfo::default()), ..plain() },
        mesos::Resource { disk: Some(mesos::resource::DiskInfo::default()), ..plain() },
        mesos::Resource { provider_id: Some(mesos::ResourceProviderId::default()), ..plain() },
    ];
    for one in special {
        assert!(read_one(one.clone(), None).special, "{one:?}");
    }
    assert!(!read_one(plain(), None).special);
}

#[test]
fn amounts_are_exact_to_the_thousandth() {
    for (value, amount) in [(0.1, 100), (0.1 + 0.2, 300), (64.0, 64_000), (1e6, 1_000_000_000)] {
        assert_eq!(read_one(scalar("cpus", value, vec![]), None).amount, amount);
    }
}

/// What `read` makes of one offer with these resources.
fn offered(resources: Vec<mesos::Resource>) -> crate::core::Offer {
    let offer = mesos::Offer { id: "o".into(), agent_id: "S1".into(), resources, ..Default::default() };
    let message = Message {
        r#type: Some(Type::Offers.into()),
        offers: Some(mesos::scheduler::event::Offers { offers: vec![offer] }),
        ..Default::default()
    };
    match read(message.encode_to_vec().into()) {
        Ok(Record::Offers(Event::Offers(mut offers))) => offers.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reservation_with_our_label_is_seen_before_the_resources_are_read() {
    let label = |key: &str| mesos::Label { key: key.to_owned(), value: Some("calico".to_owned()) };
    let reserved = |key| ReservationInfo {
        r#type: Some(reservation_info::Type::Dynamic.into()),
        role: Some("calico".to_owned()),
        labels: Some(mesos::Labels { labels: vec![label(key)] }),
        ..Default::default()
    };
    let cpus = |reservations| vec![scalar("cpus", 1.0, reservations)];
    assert!(offered(cpus(vec![reserved(RESERVATION_LABEL)])).resources.may_be_ours());
    for others in [vec![], vec![reserved("calico-dcos")]] {
        assert!(!offered(cpus(others)).resources.may_be_ours());
    }
}

#[test]
fn an_offer_whose_resources_cannot_be_read_has_none() {
    // Offer `o` of agent `S`, with a resource that is no message.
    let record = hex::decode("08021a100a0e0a030a016f1a030a01532a02ffff").unwrap();
    assert!(Message::decode(&record[..]).is_err());
    let Ok(Record::Offers(Event::Offers(offers))) = read(record.into()) else { panic!("no offers") };
    assert_eq!((offers.len(), offers[0].resources.read()), (1, vec![]));
}

#[test]
fn a_message_is_kept_as_far_as_it_is_of_use_and_says_what_to_do_when_we_may_not_launch() {
    let told = |message: String, reason: Option<mesos::task_status::Reason>| {
        let status = mesos::TaskStatus {
            task_id: "t".into(),
            state: Some(mesos::TaskState::TaskError.into()),
            reason: reason.map(Into::into),
            message: Some(message),
            ..Default::default()
        };
        update(status).unwrap().message
    };
    let exited = "Command exited with status 78".to_owned();
    assert_eq!(told(exited.clone(), None), exited);
    // What is stored must fit into a transaction; 'ü' is two bytes, and is not cut in half.
    let long = told(format!("{exited}{}", "ü".repeat(1_000_000)), None);
    assert!(long.starts_with(&exited) && long.len() < LONGEST_MESSAGE + 40, "{}", long.len());
    assert!(long.ends_with("ü… (of 2000029 bytes)"), "{}", &long[LONGEST_MESSAGE - 10..]);
    let refused = told("Not authorized".to_owned(), Some(mesos::task_status::Reason::TaskUnauthorized));
    assert!(refused.starts_with("Not authorized; "), "{refused}");
    assert!(refused.contains("run_tasks") && refused.contains("service.user"), "{refused}");
}
