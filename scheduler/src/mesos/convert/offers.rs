//! Offers, read from the bytes of the master's stream only as far as it matters.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem;
use mesos_v1 as mesos;
use mesos_v1::scheduler::{Event as Message, OfferHead, OfferResources, OffersEvent, event::Type};
use prost::{DecodeError, Message as _};

use super::{text, unavailability};
use crate::core::{
    AgentId, Event, Offer, OfferId, RESERVATION_LABEL, Reservation, Resource, Resources, Value,
};

/// Prepared once, not with each offer.
static OUR_LABEL: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new(RESERVATION_LABEL.as_bytes()));

/// A record of the master's stream.
#[derive(Debug)]
pub enum Record {
    /// It brings offers.
    Offers(Event),
    /// Anything else.
    Other(Box<Message>),
}

/// Reads a record. What an offer holds is read when the core asks for it.
pub fn read(record: Bytes) -> Result<Record, DecodeError> {
    let event = OffersEvent::decode(record.clone())?;
    match event.offers {
        Some(body) if event.r#type == Some(Type::Offers.into()) => {
            let offers = body.offers.into_iter().map(sealed);
            Ok(Record::Offers(Event::Offers(offers.filter_map(Result::transpose).collect::<Result<_, _>>()?)))
        }
        _ => Ok(Record::Other(Box::new(Message::decode(record)?))),
    }
}

/// An offer whose bytes are all there; none without an ID, as with [`whole`].
fn sealed(offer: Bytes) -> Result<Option<Offer>, DecodeError> {
    let head = OfferHead::decode(&offer[..])?;
    let Some(id) = text(head.id.value) else { return Ok(None) };
    // What is not in the bytes is in no label.
    let labelled = OUR_LABEL.find(&offer).is_some();
    Ok(Some(Offer {
        id: OfferId(id),
        agent: AgentId::from(head.agent_id.value),
        resources: Resources::sealed(offer, resources, labelled),
        unavailability: head.unavailability.as_ref().map(unavailability),
    }))
}

/// What an offer holds. Nothing, where that cannot be read: it is declined then.
fn resources(offer: &Bytes) -> Vec<Resource> {
    let Ok(offer) = OfferResources::decode(&offer[..]) else { return Vec::new() };
    let allocated_to = offer.allocation_info.and_then(|info| info.role);
    offer.resources.into_iter().map(|r| resource(r, allocated_to.as_deref())).collect()
}

/// An offer; none without an ID: it can be neither used nor declined, and the others must not suffer. One that does not
/// name its agent is of no agent that is known, and declined as such.
pub(super) fn whole(offer: mesos::Offer) -> Option<Offer> {
    let allocated_to = offer.allocation_info.and_then(|info| info.role);
    let resources = offer.resources.into_iter().map(|r| resource(r, allocated_to.as_deref()));
    Some(Offer {
        id: OfferId(text(offer.id.value)?),
        agent: AgentId::from(offer.agent_id.value),
        resources: resources.collect::<Vec<_>>().into(),
        unavailability: offer.unavailability.as_ref().map(unavailability),
    })
}

pub(super) fn resource(resource: mesos::Resource, offered_to: Option<&str>) -> Resource {
    use mesos::resource::reservation_info::Type;
    let special = resource.revocable.is_some()
        || resource.shared.is_some()
        || resource.disk.is_some()
        || resource.provider_id.is_some();
    let allocated_to = resource.allocation_info.and_then(|info| info.role);
    let value = match (resource.scalar, resource.ranges) {
        (Some(scalar), None) => Value::Scalar(thousandths(scalar.value)),
        (None, Some(ranges)) => Value::Ranges(ranges.range.iter().map(|r| (r.begin, r.end)).collect()),
        _ => Value::Other,
    };
    let reservations = resource.reservations.into_iter().map(|reservation| Reservation {
        is_static: reservation.r#type == Some(Type::Static.into()),
        role: reservation.role.unwrap_or_default(),
        principal: reservation.principal,
        labels: reservation
            .labels
            .map(|labels| labels.labels.into_iter().map(|label| (label.key, label.value)).collect()),
    });
    Resource {
        name: resource.name,
        value,
        allocated_to: allocated_to.or(offered_to.map(str::to_owned)).unwrap_or_else(|| "*".to_owned()),
        reservations: reservations.collect(),
        special,
    }
}

/// Mesos computes with three decimals.
#[expect(clippy::cast_possible_truncation, reason = "no agent has 2^53 thousandths of anything")]
fn thousandths(value: f64) -> i64 {
    (value * 1000.0).round() as i64
}
