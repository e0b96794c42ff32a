//! Offers, read from the bytes of the master's stream only as far as it matters.

use std::sync::LazyLock;

use bytes::Bytes;
use bytestring::ByteString;
use memchr::memmem;
use mesos_v1 as mesos;
use mesos_v1::scheduler::offer_head::Id;
use mesos_v1::scheduler::offer_resources::{AllocationInfo, Part};
use mesos_v1::scheduler::{Event as Message, OfferHead, OfferResources, OffersEvent, event::Type};
use prost::{DecodeError, Message as _};

use super::unavailability;
use crate::core::{Event, Offer, OfferId, RESERVATION_LABEL, Reservation, Resource, Resources};

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

/// An offer whose bytes are all there. None without an ID: it can be neither used nor declined, and the others must not
/// suffer. One that does not name its agent is of no agent that is known, and declined as such.
pub(super) fn sealed(offer: Bytes) -> Result<Option<Offer>, DecodeError> {
    let head = OfferHead::decode(offer.clone())?;
    let text = |id: Id| ByteString::try_from(id.value).ok().filter(|text| !text.is_empty());
    let Some(id) = text(head.id) else { return Ok(None) };
    // What is not in the bytes is in no label.
    let labelled = OUR_LABEL.find(&offer).is_some();
    Ok(Some(Offer {
        id: OfferId(id),
        agent: text(head.agent_id).unwrap_or_default(),
        resources: Resources::sealed(offer, resources, labelled),
        unavailability: head.unavailability.as_ref().map(unavailability),
    }))
}

/// What an offer holds. Nothing, where that cannot be read: it is declined then.
fn resources(offer: &Bytes) -> Vec<Resource> {
    let Ok(offer) = OfferResources::decode(offer.clone()) else { return Vec::new() };
    let offered_to = offer.allocation_info.and_then(role);
    offer.resources.into_iter().filter_map(|part| resource(part, offered_to.as_ref())).collect()
}

/// A resource; none of those that there is no amount of, like ports, for we take none.
fn resource(part: Part, offered_to: Option<&ByteString>) -> Option<Resource> {
    use mesos::resource::reservation_info::Type;
    let special = part.revocable.or(part.shared).or(part.disk).or(part.provider_id).is_some();
    let reservations = part.reservations.into_iter().map(|reservation| Reservation {
        is_static: reservation.r#type == Some(Type::Static.into()),
        role: reservation.role.unwrap_or_default(),
        principal: reservation.principal,
        labels: reservation
            .labels
            .map(|labels| labels.labels.into_iter().map(|label| (label.key, label.value)).collect()),
    });
    Some(Resource {
        name: part.name.try_into().ok()?,
        amount: thousandths(part.scalar?.value),
        allocated_to: part
            .allocation_info
            .and_then(role)
            .or_else(|| offered_to.cloned())
            .unwrap_or(ByteString::from_static("*")),
        reservations: reservations.collect(),
        special,
    })
}

fn role(info: AllocationInfo) -> Option<ByteString> {
    info.role?.try_into().ok()
}

/// Mesos computes with three decimals.
#[expect(clippy::cast_possible_truncation, reason = "no agent has 2^53 thousandths of anything")]
fn thousandths(value: f64) -> i64 {
    (value * 1000.0).round() as i64
}
