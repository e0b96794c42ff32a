//! The arithmetic of offers: enough of it to take a task's part out of an offer without mixing up roles.

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use super::ids::TaskType;

/// One resource of an offer that there is an amount of, in the bytes that it came in. What does not concern us is carried
/// along unseen, so that the task's resources echo the offer's reservations exactly.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// `cpus`, `mem`, `disk`, …
    pub name: ByteString,
    /// How much, in thousandths: which is the precision that Mesos computes with.
    pub amount: i64,
    /// The role that the offer was made to (`allocation_info`).
    pub allocated_to: ByteString,
    /// Its reservations, the innermost last; empty when unreserved.
    pub reservations: Vec<Reservation>,
    /// Whether it may be taken away again, is shared, or is tied to a disk: never used by us.
    pub special: bool,
}

/// Label of our reservations: the service's name.
pub const RESERVATION_LABEL: &str = "calico-dcos.service";
/// Label of our reservations: the task type that they are for.
const TASK_TYPE: &str = "calico-dcos.task-type";

/// Whose a resource is: roles are shared, and a dynamic reservation's labels say who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// Whoever has its role may take it.
    Free,
    /// We reserved it, for this task type; none when there is no such type any more.
    Ours(Option<TaskType>),
    /// Another framework marked it as its own.
    Others,
}

/// In which order resources are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    Ours,
    Reserved,
    Unreserved,
}

impl Resource {
    /// Whose it is, when we are the framework of `service`.
    pub(super) fn claim(&self, service: &str) -> Claim {
        let dynamic = self.reservations.iter().filter(|reservation| !reservation.is_static);
        let mut labelled =
            dynamic.filter_map(|reservation| reservation.labels.as_ref()).filter(|l| !l.is_empty());
        let Some(labels) = labelled.next() else { return Claim::Free };
        let label = |name: &str| labels.iter().find(|(key, _)| key == name)?.1.as_deref();
        if label(RESERVATION_LABEL) != Some(service) || labelled.next().is_some() {
            return Claim::Others;
        }
        let of = label(TASK_TYPE).unwrap_or_default();
        Claim::Ours(TaskType::ALL.into_iter().find(|task_type| task_type.name() == of))
    }

    /// Whether it can be reserved (further) in one of `roles`: Mesos lets a framework reserve only what it was offered in
    /// that role, and refine a reservation only towards a role below.
    pub(super) fn can_be_reserved(&self, roles: &[String]) -> bool {
        let role = &self.allocated_to;
        let refines = |above: &str| role.strip_prefix(above).is_some_and(|below| below.starts_with('/'));
        roles.iter().any(|ours| *ours == **role)
            && self.reservations.last().is_none_or(|innermost| refines(&innermost.role))
    }

    /// Adds our reservation in the role that it was offered in.
    pub(super) fn reserve(&mut self, service: &str, principal: Option<&str>, task_type: TaskType) {
        let label = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        self.reservations.push(Reservation {
            is_static: false,
            role: self.allocated_to.to_string(),
            principal: principal.map(str::to_owned),
            labels: Some(vec![label(RESERVATION_LABEL, service), label(TASK_TYPE, task_type.name())]),
        });
    }
}

/// One reservation (`ReservationInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Whether it was made by the agent's own configuration.
    pub is_static: bool,
    /// Whose it is.
    pub role: String,
    /// Who made it.
    pub principal: Option<String>,
    /// Its labels: none and no labels are two things to the master.
    pub labels: Option<Vec<(String, Option<String>)>>,
}

/// What a task needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Thousandths of a CPU.
    pub cpus: i64,
    /// Thousandths of a megabyte (2^20 bytes), as Mesos counts `mem`.
    pub mem: i64,
}

impl Needs {
    /// Whether that is nothing.
    pub(super) fn is_nothing(self) -> bool {
        self.cpus == 0 && self.mem == 0
    }
}

/// What is missing in an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// `cpus` or `mem`.
    pub name: &'static str,
    /// Thousandths that are needed.
    pub needed: i64,
    /// Thousandths that the offer has.
    pub offered: i64,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, needed, offered } = self;
        write!(f, "needs {name} {}, the offer had {}", thousandths(*needed), thousandths(*offered))
    }
}

/// Thousandths as a decimal number.
pub fn thousandths(amount: i64) -> String {
    let text = format!("{}.{:03}", amount / 1000, amount % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The part of `offered` that a task of `needs` takes: what `service` reserved for its type first, then other reserved
/// resources, so that what others could use stays free. What is reserved for another type is left to that.
pub(super) fn take(
    offered: &[Resource],
    needs: Needs,
    (service, task_type): (&str, TaskType),
) -> Result<Vec<Resource>, Shortage> {
    let mut taken = Vec::new();
    let rank = |resource: &Resource| match resource.claim(service) {
        _ if resource.special || resource.amount <= 0 => None,
        Claim::Ours(of) => (of == Some(task_type)).then_some(Rank::Ours),
        Claim::Free if resource.reservations.is_empty() => Some(Rank::Unreserved),
        Claim::Free => Some(Rank::Reserved),
        Claim::Others => None,
    };
    for (name, needed) in [("cpus", needs.cpus), ("mem", needs.mem)] {
        let mut missing = needed;
        for first in [Rank::Ours, Rank::Reserved, Rank::Unreserved] {
            for resource in offered.iter().filter(|r| r.name == name && rank(r) == Some(first)) {
                let amount = resource.amount.min(missing);
                if amount > 0 {
                    missing -= amount;
                    taken.push(Resource { amount, ..resource.clone() });
                }
            }
        }
        if missing > 0 {
            return Err(Shortage { name, needed, offered: needed - missing });
        }
    }
    Ok(taken)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn scalar(name: &str, amount: i64, reserved: Option<&str>) -> Resource {
        Resource {
            name: name.into(),
            amount,
            allocated_to: reserved.unwrap_or("*").into(),
            reservations: reserved
                .map(|role| Reservation { is_static: true, role: role.into(), principal: None, labels: None })
                .into_iter()
                .collect(),
            special: false,
        }
    }

    const NEEDS: Needs = Needs { cpus: 100, mem: 64_000 };

    fn take(offered: &[Resource], needs: Needs) -> Result<Vec<Resource>, Shortage> {
        super::take(offered, needs, ("calico", TaskType::CalicoNode))
    }

    fn ours(resource: Resource, service: &str, task_type: TaskType) -> Resource {
        let mut resource = resource;
        resource.reserve(service, Some("p"), task_type);
        resource
    }

    #[test]
    fn what_we_reserved_goes_to_the_type_that_it_is_for_and_to_no_other() {
        let in_role = |amount| Resource { allocated_to: "calico".into(), ..scalar("cpus", amount, None) };
        let offer = [
            in_role(4000),
            ours(in_role(70), "calico", TaskType::EtcdProxy),
            ours(in_role(80), "other", TaskType::CalicoNode),
            ours(in_role(60), "calico", TaskType::CalicoNode),
            Resource { allocated_to: "calico".into(), ..scalar("mem", 64_000, None) },
        ];
        let taken = take(&offer, NEEDS).unwrap();
        assert_eq!(taken[..2], [ours(in_role(60), "calico", TaskType::CalicoNode), in_role(40)]);
        assert_eq!(offer[1].claim("calico"), Claim::Ours(Some(TaskType::EtcdProxy)));
        assert_eq!(offer[2].claim("calico"), Claim::Others);
    }

    #[test]
    fn only_what_was_offered_in_our_role_can_be_reserved_and_what_is_reserved_above_it_refined() {
        let roles = ["calico".to_owned(), "slave_public/calico".to_owned()];
        let offered_to =
            |role: &str, reserved| Resource { allocated_to: role.into(), ..scalar("cpus", 1, reserved) };
        for (role, reserved, can) in [
            ("*", None, false),
            ("calico", None, true),
            ("calico", Some("calico"), false),
            ("slave_public", Some("slave_public"), false),
            ("slave_public/calico", Some("slave_public"), true),
            ("slave_public/calico", Some("slave"), false),
        ] {
            assert_eq!(offered_to(role, reserved).can_be_reserved(&roles), can, "{role} {reserved:?}");
        }
        let refined =
            ours(offered_to("slave_public/calico", Some("slave_public")), "calico", TaskType::EtcdProxy);
        let stack: Vec<&str> = refined.reservations.iter().map(|r| r.role.as_str()).collect();
        assert_eq!(stack, ["slave_public", "slave_public/calico"]);
        assert!(!refined.can_be_reserved(&roles), "twice");
    }

    #[test]
    fn reserved_resources_go_first_and_the_rest_is_left() {
        let offer = [
            scalar("cpus", 4000, None),
            scalar("cpus", 50, Some("slave_public")),
            scalar("mem", 64_000, None),
        ];
        let taken = take(&offer, NEEDS).unwrap();
        assert_eq!(
            taken,
            [scalar("cpus", 50, Some("slave_public")), scalar("cpus", 50, None), scalar("mem", 64_000, None)]
        );
    }

    #[test]
    fn a_shortage_names_what_is_missing() {
        let short = take(&[scalar("cpus", 100, None), scalar("mem", 32_500, None)], NEEDS).unwrap_err();
        assert_eq!(short.to_string(), "needs mem 64, the offer had 32.5");
    }

    #[test]
    fn revocable_shared_and_gpu_resources_are_never_taken() {
        let revocable = Resource { special: true, ..scalar("cpus", 4000, None) };
        assert!(take(&[revocable, scalar("mem", 64_000, None)], NEEDS).is_err());
        let taken = take(
            &[scalar("gpus", 1000, None), scalar("cpus", 100, None), scalar("mem", 64_000, None)],
            NEEDS,
        );
        assert!(taken.unwrap().iter().all(|r| r.name != "gpus"));
    }

    #[test]
    fn a_dynamic_reservation_with_labels_is_another_frameworks() {
        let mut marked = scalar("cpus", 4000, Some("slave_public"));
        marked.reservations[0].is_static = false;
        marked.reservations[0].labels = Some(vec![("framework".into(), Some("other".into()))]);
        let plain = scalar("cpus", 100, None);
        let taken = take(&[marked, plain.clone(), scalar("mem", 64_000, None)], NEEDS).unwrap();
        assert_eq!(taken[0], plain);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_is_needed_and_never_more_than_was_there(
            parts in prop::collection::vec((prop::bool::ANY, 0_i64..200, prop::option::of("[ab]")), 0..8),
            cpus in 1_i64..400,
        ) {
            let mut offer: Vec<Resource> = parts
                .iter()
                .map(|(special, amount, role)| Resource { special: *special, ..scalar("cpus", *amount, role.as_deref()) })
                .collect();
            offer.push(scalar("mem", 1000, None));
            let there: i64 = parts.iter().filter(|(special, ..)| !special).map(|(_, amount, _)| amount).sum();
            match take(&offer, Needs { cpus, mem: 1000 }) {
                Ok(taken) => {
                    let sum: i64 = taken.iter().filter(|r| r.name == "cpus").map(|r| r.amount).sum();
                    prop_assert_eq!(sum, cpus);
                    for part in taken.iter().filter(|r| r.name == "cpus") {
                        let has = |r: &Resource| r.reservations == part.reservations && r.amount >= part.amount;
                        prop_assert!(offer.iter().any(has));
                    }
                }
                Err(short) => {
                    prop_assert!(there < cpus);
                    prop_assert_eq!(short.offered, there);
                }
            }
        }
    }
}
