//! Events as lines that are the same on every cluster: IDs have names in the order in which they came, times are only
//! there or not.

use std::collections::BTreeMap;

use mesos_v1::scheduler::{Event, event};
use mesos_v1::{InverseOffer, MasterInfo, Offer, Resource, TaskStatus, master::response::get_agents};

/// IDs and what they are called.
#[derive(Debug, Default)]
pub struct Names {
    names: Vec<(String, String)>,
    counts: BTreeMap<&'static str, usize>,
}

impl Names {
    /// Calls `id` this, from now on.
    pub fn set(&mut self, id: &str, name: &str) {
        if !self.names.iter().any(|(known, _)| known == id) {
            self.names.push((id.to_owned(), name.to_owned()));
            // An ID may be the beginning of another one.
            self.names.sort_by_key(|(id, _)| std::cmp::Reverse(id.len()));
        }
    }

    /// The next name of its kind, when it has none.
    pub fn add(&mut self, kind: &'static str, id: &str) {
        if !self.names.iter().any(|(known, _)| known == id) {
            let count = self.counts.entry(kind).or_default();
            *count += 1;
            let name = format!("{kind}{count}");
            self.set(id, &name);
        }
    }

    /// The text with names for IDs.
    pub fn apply(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id, name))
    }
}

fn there<T>(value: Option<&T>) -> &'static str {
    if value.is_some() { "there" } else { "-" }
}

fn or_dash(value: Option<impl std::fmt::Display>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

/// The resources in order, with all that they say.
pub fn resources(resources: &[Resource]) -> String {
    let mut all: Vec<String> = resources
        .iter()
        .map(|resource| {
            let mut words = vec![resource.name.clone()];
            if let Some(allocation) = &resource.allocation_info {
                words.push(format!("for {}", allocation.role()));
            }
            for reservation in &resource.reservations {
                let (kind, role) = (reservation.r#type().as_str_name(), reservation.role());
                let principal = or_dash(reservation.principal.as_ref());
                words.push(format!("{kind} {role} by {principal} {:?}", reservation.labels));
            }
            if resource.role.is_some() || resource.reservation.is_some() {
                words.push("in the old format".to_owned());
            }
            words.extend(resource.scalar.map(|scalar| format!("{:.3}", scalar.value)));
            let ranges = resource.ranges.iter().flat_map(|ranges| &ranges.range);
            words.extend(ranges.map(|range| format!("{}-{}", range.begin, range.end)));
            words.join(" ")
        })
        .collect();
    all.sort();
    all.join(", ")
}

/// Adds resources up: scalars that are alike, and all others.
pub fn add(mine: &mut Vec<Resource>, more: Vec<Resource>) {
    for resource in more {
        let alike = mine.iter_mut().find(|own| {
            own.name == resource.name && own.reservations == resource.reservations && own.scalar.is_some()
        });
        match (alike.and_then(|own| own.scalar.as_mut()), resource.scalar) {
            (Some(own), Some(scalar)) => own.value += scalar.value,
            _ => mine.push(resource),
        }
    }
}

/// An offer.
pub fn offer(offer: &Offer) -> String {
    let attributes: Vec<String> = offer
        .attributes
        .iter()
        .map(|attribute| {
            format!("{}:{}", attribute.name, attribute.text.as_ref().map_or("-", |text| &text.value))
        })
        .collect();
    let url = offer.url.as_ref();
    format!(
        "offer of {} ({}) to {} for {}: {} [{}] url {} {} {} unavailability {:?} domain {} executors {}",
        offer.hostname,
        offer.agent_id,
        offer.framework_id,
        offer.allocation_info.as_ref().map_or("-", |info| info.role()),
        resources(&offer.resources),
        attributes.join(", "),
        url.map_or("-", |url| &url.scheme),
        url.map_or("-", |url| url.address.hostname()),
        url.and_then(|url| url.path.as_deref()).unwrap_or("-"),
        offer.unavailability.map(|unavailability| unavailability.start.nanoseconds),
        there(offer.domain.as_ref()),
        offer.executor_ids.len(),
    )
}

fn inverse_offer(offer: &InverseOffer) -> String {
    format!(
        "inverse offer to {} of {}: start {} duration {} resources {} url {}",
        offer.framework_id,
        offer.agent_id.as_ref().map_or("-", |id| &id.value),
        offer.unavailability.start.nanoseconds,
        there(offer.unavailability.duration.as_ref()),
        offer.resources.len(),
        there(offer.url.as_ref()),
    )
}

/// Resources in a message come in any order.
fn in_order(message: &str) -> String {
    let Some((before, resources)) = message.split_once("is more than available ") else {
        return message.to_owned();
    };
    let mut resources: Vec<_> = resources.split("; ").collect();
    resources.sort_unstable();
    format!("{before}is more than available {}", resources.join("; "))
}

fn status(status: &TaskStatus) -> String {
    let source = status.source.map(|_| status.source().as_str_name());
    let reason = status.reason.map(|_| status.reason().as_str_name());
    let uuid = status.uuid.as_ref().map(|uuid| uuid_name(uuid));
    let container = status.container_status.as_ref().map(|container| {
        let addresses: usize = container.network_infos.iter().map(|network| network.ip_addresses.len()).sum();
        format!("with {addresses} address, id {}", there(container.container_id.as_ref()))
    });
    let check = status.check_status.as_ref().map(|check| {
        let code = check.command.as_ref().map(|command| or_dash(command.exit_code));
        format!("{} {}", check.r#type().as_str_name(), or_dash(code))
    });
    format!(
        "update {} {} from {} because {}: {} | uuid {} agent {} executor {} healthy {} check {} container {} \
         timestamp {} unreachable since {} data {} labels {}",
        status.task_id,
        status.state().as_str_name(),
        or_dash(source),
        or_dash(reason),
        or_dash(status.message.as_deref().map(in_order)),
        or_dash(uuid),
        status.agent_id.as_ref().map_or("-", |id| &id.value),
        status.executor_id.as_ref().map_or("-", |id| &id.value),
        or_dash(status.healthy),
        or_dash(check),
        or_dash(container),
        there(status.timestamp.as_ref()),
        there(status.unreachable_time.as_ref()),
        there(status.data.as_ref()),
        there(status.labels.as_ref()),
    )
}

/// The text that stands for a UUID until it has a name.
pub fn uuid_name(uuid: &[u8]) -> String {
    hex::encode(uuid)
}

fn master(info: &MasterInfo) -> String {
    let capabilities: Vec<_> = info.capabilities.iter().map(|c| c.r#type().as_str_name()).collect();
    format!(
        "master pid {} hostname {} version {} address {} domain {} {capabilities:?}",
        there(info.pid.as_ref()),
        there(info.hostname.as_ref()),
        info.version(),
        there(info.address.as_ref()),
        there(info.domain.as_ref()),
    )
}

/// The lines of an event, with the kind by which they are put in order.
pub fn lines(event: &Event) -> Vec<(i32, String)> {
    let kind = event.r#type.unwrap_or_default();
    let all = match event.r#type() {
        event::Type::Subscribed => {
            let subscribed = event.subscribed.clone().unwrap();
            let heartbeat = or_dash(subscribed.heartbeat_interval_seconds);
            let master = subscribed.master_info.as_ref().map_or("-".to_owned(), master);
            vec![format!("subscribed as {} heartbeat {heartbeat} {master}", subscribed.framework_id)]
        }
        // Those of one go are put together.
        event::Type::Offers => Vec::new(),
        event::Type::InverseOffers => {
            event.inverse_offers.iter().flat_map(|offers| &offers.inverse_offers).map(inverse_offer).collect()
        }
        event::Type::Rescind => vec![format!("rescinded {}", event.rescind.clone().unwrap().offer_id)],
        event::Type::RescindInverseOffer => {
            let id = event.rescind_inverse_offer.clone().unwrap().inverse_offer_id;
            vec![format!("rescinded inverse {id}")]
        }
        event::Type::Update => vec![status(&event.update.as_ref().unwrap().status)],
        event::Type::Failure => {
            let failure = event.failure.clone().unwrap();
            let agent = failure.agent_id.map(|id| id.value);
            vec![format!(
                "failure of agent {} executor {}",
                or_dash(agent),
                there(failure.executor_id.as_ref())
            )]
        }
        event::Type::Error => vec![format!("error: {}", event.error.as_ref().unwrap().message)],
        event::Type::Heartbeat => vec!["heartbeat".to_owned()],
        event::Type::UpdateOperationStatus => {
            let status = event.update_operation_status.clone().unwrap().status;
            vec![format!("operation {}: {}", status.state().as_str_name(), or_dash(status.message.as_ref()))]
        }
        other => vec![format!("{other:?}")],
    };
    all.into_iter().map(|line| (kind, line)).collect()
}

/// An agent of `GET_AGENTS`.
pub fn agent(agent: &get_agents::Agent) -> String {
    let info = &agent.agent_info;
    let mut capabilities: Vec<_> = agent.capabilities.iter().map(|c| c.r#type().as_str_name()).collect();
    capabilities.sort_unstable();
    let attributes: Vec<_> = info.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
    format!(
        "agent {} {} active {} deactivated {:?} drain {:?} since {} version {} domain {} {attributes:?} \
         registered {} again {} total [{}] used [{}] offered [{}] {capabilities:?}",
        info.hostname,
        info.id.as_ref().map_or("-", |id| &id.value),
        agent.active,
        agent.deactivated,
        agent.drain_info.map(|info| (info.state().as_str_name(), info.config)),
        there(agent.estimated_drain_start_time.as_ref()),
        agent.version,
        there(info.domain.as_ref()),
        there(agent.registered_time.as_ref()),
        there(agent.reregistered_time.as_ref()),
        resources(&agent.total_resources),
        resources(&agent.allocated_resources),
        resources(&agent.offered_resources),
    )
}
