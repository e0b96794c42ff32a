//! Between Mesos' messages and the core's types. `prost` does not enforce what proto2 requires, so it is
//! checked here: what passes is whole.

mod offers;

use std::time::Duration;

use mesos_v1 as mesos;
use mesos_v1::scheduler::Event as Message;
use mesos_v1::scheduler::event::Type;
use prost::Message as _;

pub use offers::{Record, read};

use crate::core::{
    AgentId, CheckResult, Event, FrameworkId, InverseOffer, Resource, TaskId, TaskState, Timestamp,
    Unavailability, Update,
};

/// More than any executor of Mesos' own says, in bytes. Executors may say anything; what is stored must fit into a
/// transaction.
const LONGEST_MESSAGE: usize = 4096;
/// What to do about a task that the masters do not let us launch.
const UNAUTHORIZED: &str = "; permit our principal to run tasks as the user of service.user (the masters' ACLs: run_tasks), or change service.user";

/// An event that lacks what the protocol requires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the master sent {event} without {missing}")]
pub struct InvalidEvent {
    event: &'static str,
    missing: &'static str,
}

/// The core's event; none for those that it need not know of.
pub fn event(message: Message) -> Result<Option<Event>, InvalidEvent> {
    let required = |event, missing| InvalidEvent { event, missing };
    let kind = Type::try_from(message.r#type.unwrap_or_default()).unwrap_or(Type::Unknown);
    Ok(Some(match kind {
        Type::Subscribed => {
            let subscribed = message.subscribed.ok_or(required("SUBSCRIBED", "its body"))?;
            let id = text(subscribed.framework_id.value).ok_or(required("SUBSCRIBED", "framework_id"))?;
            Event::Subscribed(FrameworkId(id))
        }
        Type::Offers => {
            let body = message.offers.ok_or(required("OFFERS", "its body"))?;
            let offers = body.offers.into_iter().map(|offer| offers::sealed(offer.encode_to_vec().into()));
            Event::Offers(offers.filter_map(|offer| offer.ok().flatten()).collect())
        }
        Type::Rescind => {
            let rescind = message.rescind.ok_or(required("RESCIND", "its body"))?;
            Event::Rescind(text(rescind.offer_id.value).ok_or(required("RESCIND", "offer_id"))?.into())
        }
        Type::InverseOffers => {
            let offers = message.inverse_offers.ok_or(required("INVERSE_OFFERS", "its body"))?.inverse_offers;
            Event::InverseOffers(offers.into_iter().filter_map(inverse_offer).collect())
        }
        Type::RescindInverseOffer => {
            let missing = |what| required("RESCIND_INVERSE_OFFER", what);
            let rescind = message.rescind_inverse_offer.ok_or(missing("its body"))?;
            let id = text(rescind.inverse_offer_id.value).ok_or(missing("inverse_offer_id"))?;
            Event::RescindInverseOffer(id.into())
        }
        Type::Update => Event::Update(update(message.update.ok_or(required("UPDATE", "its body"))?.status)?),
        Type::Failure => {
            Event::Failure(message.failure.and_then(|f| f.agent_id).map(|id| AgentId::from(id.value)))
        }
        Type::Error => Event::Error(message.error.ok_or(required("ERROR", "its body"))?.message),
        // Heartbeats are the client's business; messages and operations are nothing that we ask for.
        Type::Unknown | Type::Heartbeat | Type::Message | Type::UpdateOperationStatus => return Ok(None),
    }))
}

fn text(value: String) -> Option<String> {
    (!value.is_empty()).then_some(value)
}

/// An inverse offer; none without an ID: it cannot be answered.
fn inverse_offer(offer: mesos::InverseOffer) -> Option<InverseOffer> {
    Some(InverseOffer {
        id: text(offer.id.value)?.into(),
        agent: offer.agent_id.and_then(|id| text(id.value)).map(AgentId::from),
        unavailability: unavailability(&offer.unavailability),
    })
}

fn unavailability(unavailability: &mesos::Unavailability) -> Unavailability {
    let milliseconds = |nanoseconds: i64| u64::try_from(nanoseconds / 1_000_000).unwrap_or_default();
    Unavailability {
        start: Timestamp(milliseconds(unavailability.start.nanoseconds)),
        duration: unavailability.duration.map(|d| Duration::from_millis(milliseconds(d.nanoseconds))),
    }
}

/// Mesos' form of a resource that a task takes.
pub fn to_mesos(resource: &Resource) -> mesos::Resource {
    use mesos::resource::reservation_info::Type;
    use mesos::resource::{AllocationInfo, ReservationInfo};
    let labels = |labels: &[(String, Option<String>)]| mesos::Labels {
        labels: labels
            .iter()
            .map(|(key, value)| mesos::Label { key: key.clone(), value: value.clone() })
            .collect(),
    };
    let reservations = resource.reservations.iter().map(|reservation| ReservationInfo {
        r#type: Some(if reservation.is_static { Type::Static } else { Type::Dynamic }.into()),
        role: Some(reservation.role.clone()),
        principal: reservation.principal.clone(),
        labels: reservation.labels.as_deref().map(labels),
    });
    #[expect(clippy::cast_precision_loss, reason = "no agent has 2^53 thousandths of anything")]
    let value = resource.amount as f64 / 1000.0;
    mesos::Resource {
        name: resource.name.to_string(),
        r#type: mesos::value::Type::Scalar.into(),
        scalar: Some(mesos::value::Scalar { value }),
        allocation_info: Some(AllocationInfo { role: Some(resource.allocated_to.to_string()) }),
        reservations: reservations.collect(),
        ..Default::default()
    }
}

/// What is said of a task, as far as it is of use: it is stored, and shown. What must be known of it, like an exit status,
/// is at its beginning.
fn message(mut message: String, reason: Option<i32>) -> String {
    if message.len() > LONGEST_MESSAGE {
        let length = message.len();
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        message = format!("{message}… (of {length} bytes)");
    }
    if reason == Some(mesos::task_status::Reason::TaskUnauthorized.into()) {
        message.push_str(UNAUTHORIZED);
    }
    message
}

fn update(status: mesos::TaskStatus) -> Result<Update, InvalidEvent> {
    use mesos::TaskState as Reported;
    use mesos::task_status::Reason;
    let missing = |missing| InvalidEvent { event: "UPDATE", missing };
    let task = TaskId::from(text(status.task_id.value).ok_or(missing("task_id"))?);
    // The number itself: the accessor takes an unknown one for the first state.
    let drains = status.reason == Some(Reason::AgentDraining.into());
    let state = match Reported::try_from(status.state.ok_or(missing("a state"))?) {
        Ok(Reported::TaskKilled | Reported::TaskGoneByOperator) if drains => TaskState::Drained,
        Ok(Reported::TaskStaging | Reported::TaskStarting) => TaskState::Starting,
        Ok(Reported::TaskRunning) => TaskState::Running,
        Ok(Reported::TaskKilling) => TaskState::Killing,
        Ok(Reported::TaskFinished) => TaskState::Finished,
        Ok(Reported::TaskFailed | Reported::TaskKilled | Reported::TaskError) => TaskState::Failed,
        Ok(Reported::TaskDropped) => TaskState::Dropped,
        // Before Mesos knew TASK_DROPPED.
        Ok(Reported::TaskLost) if status.reason == Some(Reason::InvalidOffers.into()) => TaskState::Dropped,
        Ok(Reported::TaskGone | Reported::TaskGoneByOperator | Reported::TaskUnknown) => TaskState::Gone,
        Ok(Reported::TaskLost | Reported::TaskUnreachable) => TaskState::Unreachable,
        Err(_) => return Err(missing("a state that is known")),
    };
    Ok(Update {
        task,
        agent: status.agent_id.and_then(|id| text(id.value)).map(AgentId::from),
        state,
        message: message(status.message.unwrap_or_default(), status.reason),
        healthy: status.healthy,
        check: status.check_status.map_or(CheckResult::None, |check| {
            let exited = check.command.and_then(|command| command.exit_code);
            exited.map_or(CheckResult::Pending, CheckResult::Exited)
        }),
        uuid: status.uuid.map(Into::into).filter(|uuid: &Vec<u8>| !uuid.is_empty()),
    })
}

#[cfg(test)]
mod tests;
