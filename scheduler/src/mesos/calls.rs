//! The core's effects as calls of the v1 scheduler API.

use std::collections::BTreeSet;
use std::time::Duration;

use mesos_v1 as mesos;
use mesos_v1::offer::{Operation, operation};
use mesos_v1::scheduler::attribute_constraint::predicate::{self, TextEquals};
use mesos_v1::scheduler::attribute_constraint::selector::{self, PseudoattributeType};
use mesos_v1::scheduler::attribute_constraint::{Predicate, Selector};
use mesos_v1::scheduler::call::{
    Accept, AcceptInverseOffers, Acknowledge, Decline, Kill, Reconcile, Revive, Suppress, Type,
    UpdateFramework, reconcile,
};
use mesos_v1::scheduler::offer_constraints::{RoleConstraints, role_constraints::Group};
use mesos_v1::scheduler::{AttributeConstraint, Call, OfferConstraints};
use tracing::error;

use super::convert::to_mesos;
use crate::core::{AgentKey, AgentRecord, Effect, Launch, OfferId, Phase, Resource, TargetHash, TaskType};
use crate::tasks::{Place, TaskTypes};

/// What is known of the agent of a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its address.
    pub address: AgentKey,
    /// The target of the `prefetch` that was done there last, if it was.
    pub prefetched: Option<TargetHash>,
}

impl From<&AgentRecord> for Site {
    fn from(agent: &AgentRecord) -> Self {
        let prefetch = agent.tasks.get(&TaskType::Prefetch);
        let done = prefetch.filter(|record| matches!(record.phase, Phase::Done { .. }));
        Self { address: agent.key.clone(), prefetched: done.and_then(|record| record.target.clone()) }
    }
}

/// The call for an effect, without our framework ID; none for effects that are no call of this API. `site` tells what is
/// known of the launch's agent.
pub fn call(
    effect: &Effect,
    tasks: &TaskTypes,
    roles: &[String],
    site: impl Fn(&Launch) -> Option<Site>,
) -> Option<Call> {
    Some(match effect {
        Effect::Launch(launch) => accept(launch, tasks, site(launch)?)?,
        Effect::Decline { offers, refuse } => Call {
            r#type: Some(Type::Decline.into()),
            decline: Some(Decline {
                offer_ids: offers.iter().map(|id| (&*id.0).into()).collect(),
                filters: Some(filters(*refuse)),
            }),
            ..Call::default()
        },
        Effect::Unreserve { offer, resources, refuse } => change(offer, unreserve(resources), *refuse),
        Effect::Reserve { offer, resources, refuse } => change(offer, reserve(resources), *refuse),
        Effect::AcceptInverse(offers) => Call {
            r#type: Some(Type::AcceptInverseOffers.into()),
            accept_inverse_offers: Some(AcceptInverseOffers {
                inverse_offer_ids: offers.iter().map(|id| (&*id.0).into()).collect(),
                // The master asks again and again until it is over.
                filters: Some(filters(Duration::from_mins(1))),
            }),
            ..Call::default()
        },
        Effect::Acknowledge { task, agent, uuid } => Call {
            r#type: Some(Type::Acknowledge.into()),
            acknowledge: Some(Acknowledge {
                agent_id: (&*agent.0).into(),
                task_id: (&*task.0).into(),
                uuid: uuid.clone().into(),
            }),
            ..Call::default()
        },
        Effect::Kill { task, agent } => Call {
            r#type: Some(Type::Kill.into()),
            kill: Some(Kill {
                task_id: (&*task.0).into(),
                agent_id: Some((&*agent.0).into()),
                kill_policy: None,
            }),
            ..Call::default()
        },
        Effect::Reconcile(tasks) => Call {
            r#type: Some(Type::Reconcile.into()),
            reconcile: Some(Reconcile {
                tasks: tasks
                    .iter()
                    .map(|(task, agent)| reconcile::Task {
                        task_id: (&*task.0).into(),
                        agent_id: Some((&*agent.0).into()),
                    })
                    .collect(),
            }),
            ..Call::default()
        },
        Effect::Revive => Call {
            r#type: Some(Type::Revive.into()),
            revive: Some(Revive { roles: roles.to_vec() }),
            ..Call::default()
        },
        Effect::Constrain(hosts) => Call {
            r#type: Some(Type::UpdateFramework.into()),
            // Who we are is filled in by the client, which says the same when it subscribes. No role is suppressed: this
            // goes before a REVIVE of all.
            update_framework: Some(UpdateFramework {
                offer_constraints: hosts.as_ref().map(|hosts| constraints(hosts, roles)),
                ..UpdateFramework::default()
            }),
            ..Call::default()
        },
        Effect::Suppress => Call {
            r#type: Some(Type::Suppress.into()),
            suppress: Some(Suppress { roles: roles.to_vec() }),
            ..Call::default()
        },
        Effect::ReadOutput { .. } | Effect::RefreshInventory | Effect::Abort(_) => return None,
    })
}

fn accept(launch: &Launch, tasks: &TaskTypes, site: Site) -> Option<Call> {
    let place = Place {
        agent: launch.agent.clone(),
        address: site.address.to_string(),
        may_restart: launch.may_restart,
        only_looks: launch.only_looks,
        prefetched: site.prefetched,
        resources: launch.resources.iter().map(to_mesos).collect(),
    };
    // What is launched is of this configuration or in the stored targets, all of which `tasks` has learned but those that
    // cannot be read, with which nothing is launched.
    let Some(info) = tasks.task_info(&launch.target, &launch.task, place) else {
        error!(task = %launch.task, target = %launch.target, "nothing is launched: its target is not known");
        return None;
    };
    let reserve = (!launch.reserve.is_empty()).then(|| reserve(&launch.reserve));
    let operation = Operation {
        r#type: Some(operation::Type::Launch.into()),
        launch: Some(operation::Launch { task_infos: vec![info] }),
        ..Operation::default()
    };
    Some(Call {
        r#type: Some(Type::Accept.into()),
        accept: Some(Accept {
            offer_ids: vec![(&*launch.offer.0).into()],
            operations: reserve.into_iter().chain([operation]).collect(),
            // What is left of the offer is wanted again when the next step's turn comes.
            filters: Some(filters(Duration::from_secs(1))),
        }),
        ..Call::default()
    })
}

/// What is offered becomes something else, and is offered again.
fn change(offer: &OfferId, operation: Operation, refuse: Duration) -> Call {
    Call {
        r#type: Some(Type::Accept.into()),
        accept: Some(Accept {
            offer_ids: vec![(&*offer.0).into()],
            operations: vec![operation],
            filters: Some(filters(refuse)),
        }),
        ..Call::default()
    }
}

fn reserve(resources: &[Resource]) -> Operation {
    let resources = resources.iter().map(to_mesos).collect();
    Operation {
        r#type: Some(operation::Type::Reserve.into()),
        reserve: Some(operation::Reserve { resources, source: Vec::new() }),
        ..Operation::default()
    }
}

fn unreserve(resources: &[Resource]) -> Operation {
    Operation {
        r#type: Some(operation::Type::Unreserve.into()),
        unreserve: Some(operation::Unreserve { resources: resources.iter().map(to_mesos).collect() }),
        ..Operation::default()
    }
}

/// For each role a group for each host, of which one must fit: the agent has this host name.
fn constraints(hosts: &BTreeSet<String>, roles: &[String]) -> OfferConstraints {
    let group = |host: &String| Group {
        attribute_constraints: vec![AttributeConstraint {
            selector: Selector {
                selector: Some(selector::Selector::PseudoattributeType(PseudoattributeType::Hostname.into())),
            },
            predicate: Predicate {
                predicate: Some(predicate::Predicate::TextEquals(TextEquals { value: host.clone() })),
            },
        }],
    };
    let of_role = RoleConstraints { groups: hosts.iter().map(group).collect() };
    OfferConstraints { role_constraints: roles.iter().map(|role| (role.clone(), of_role.clone())).collect() }
}

fn filters(refuse: Duration) -> mesos::Filters {
    mesos::Filters { refuse_seconds: Some(refuse.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::core::Reservation;

    fn effect(effect: &Effect) -> Call {
        let nobody = TaskTypes::default();
        call(effect, &nobody, &["a".to_owned(), "b".to_owned()], |_| None).unwrap()
    }

    #[test]
    fn constraints_are_a_group_a_host_for_every_role() {
        let hosts: BTreeSet<String> = ["h", "i"].map(str::to_owned).into();
        let call = effect(&Effect::Constrain(Some(hosts)));
        assert_eq!(call.r#type(), Type::UpdateFramework);
        let update = call.update_framework.unwrap();
        assert!(update.suppressed_roles.is_empty());
        let constraints = update.offer_constraints.unwrap().role_constraints;
        let mut roles: Vec<&String> = constraints.keys().collect();
        roles.sort();
        assert_eq!(roles, ["a", "b"]);
        // Of each group field 1 is a constraint: selector (1) with a pseudoattribute (1), HOSTNAME (1); predicate (2) with
        // text_equals (3), its value (1).
        let group = |host: u8| [0x0a, 13, 0x0a, 11, 0x0a, 2, 8, 1, 0x12, 5, 0x1a, 3, 0x0a, 1, host].to_vec();
        let wire: Vec<u8> = [group(b'h'), group(b'i')].concat();
        for role in constraints.values() {
            let encoded = role.encode_to_vec();
            assert_eq!(hex::encode(&encoded), hex::encode(&wire));
        }
        let lifted = effect(&Effect::Constrain(None));
        assert_eq!(lifted.update_framework.unwrap().offer_constraints, None);
    }

    #[test]
    fn inverse_offers_are_accepted_in_one_call() {
        let call = effect(&Effect::AcceptInverse(vec!["i".into(), "j".into()]));
        // Type (2) is 13; field 13 has the IDs (1) and the filters (2) with 60 seconds.
        let wire = "100d 6a15 0a030a0169 0a030a016a 1209 09 0000000000004e40".replace(' ', "");
        assert_eq!(hex::encode(call.encode_to_vec()), wire);
    }

    #[test]
    fn what_was_fetched_is_what_the_last_prefetch_has_done() {
        use crate::core::{TaskRecord, Timestamp};
        let mut agent = AgentRecord::new("h:5051".into(), "S1".into(), "1.11.0".to_owned(), Timestamp(1));
        let site = |prefetched: Option<&str>| Site {
            address: "h:5051".into(),
            prefetched: prefetched.map(TargetHash::from),
        };
        assert_eq!(Site::from(&agent), site(None));
        for (phase, expected) in [
            (Phase::Done { at: Timestamp(2) }, Some("p")),
            (Phase::Backoff { until: Timestamp(2) }, None),
            (Phase::Launched { task: "t".into(), agent: "S1".into(), at: Timestamp(2) }, None),
        ] {
            agent.tasks.insert(TaskType::Prefetch, TaskRecord::new(phase, Some("p".into())));
            assert_eq!(Site::from(&agent), site(expected));
        }
    }

    #[test]
    fn reservations_are_made_and_given_back_with_the_offer() {
        let labels = Some(vec![("k".to_owned(), None)]);
        let reservation = Reservation { is_static: false, role: "a".into(), principal: None, labels };
        let resource = Resource {
            name: "cpus".into(),
            amount: 100,
            allocated_to: "a".into(),
            reservations: vec![reservation],
            special: false,
        };
        let (resources, refuse) = (vec![resource.clone()], Duration::from_secs(1));
        let give = Effect::Unreserve { offer: "o".into(), resources: resources.clone(), refuse };
        let take = Effect::Reserve { offer: "o".into(), resources, refuse };
        for (what, kind) in [(give, operation::Type::Unreserve), (take, operation::Type::Reserve)] {
            let accept = effect(&what).accept.unwrap();
            assert_eq!(accept.offer_ids, ["o".into()]);
            let [operation] = &accept.operations[..] else { panic!("{accept:?}") };
            assert_eq!(operation.r#type(), kind);
            let given = operation.unreserve.as_ref().map(|unreserve| &unreserve.resources);
            let taken = operation.reserve.as_ref().map(|reserve| &reserve.resources);
            assert_eq!(given.or(taken).unwrap()[..], [to_mesos(&resource)]);
        }
    }
}
