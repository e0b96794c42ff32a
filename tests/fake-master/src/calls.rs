//! `POST /api/v1/scheduler`: which calls are taken, and the answers to those that are not.
//!
//! Status codes, bodies and their order are those of Apache Mesos 1.11 (`src/master/http.cpp` and `validation.cpp`).

use std::sync::Arc;

use mesos_v1::scheduler::{Call, Event, call, event};

use crate::state::Link;
use crate::world::{Answer, World};

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, body: body.into(), stream: None }
    }

    pub(crate) fn accepted() -> Self {
        Self::new(202, "")
    }
}

impl World {
    /// A scheduler's call with the `Mesos-Stream-Id` that it has: carried out at once, as if nothing could go wrong on
    /// the way. What follows from it is told by [`Self::advance`].
    pub fn call(&mut self, stream: Option<&str>, call: &Call) -> Answer {
        if !self.master.leads {
            return Answer::new(503, "No leader elected");
        }
        if let Some(fault) = invalid(call) {
            return Answer::new(400, format!("Failed to validate scheduler::Call: {fault}"));
        }
        let kind = call.r#type();
        if let (call::Type::Subscribe, Some(subscribe)) = (kind, &call.subscribe) {
            if stream.is_some() {
                return Answer::new(400, "Subscribe calls should not include the 'Mesos-Stream-Id' header");
            }
            return self.subscribe(subscribe);
        }
        let id = call.framework_id.as_ref().map(|id| id.value.as_str()).unwrap_or_default();
        let Some((id, framework)) = self.master.frameworks.get_key_value(id) else {
            return Answer::new(400, "Framework cannot be found");
        };
        let Link::Connected(expected) = &framework.link else {
            return Answer::new(403, "Framework is not subscribed");
        };
        match stream {
            None => {
                return Answer::new(
                    400,
                    "All non-subscribe calls should include the 'Mesos-Stream-Id' header",
                );
            }
            Some(stream) if stream != &**expected => {
                let body = format!(
                    "The stream ID '{stream}' included in this request didn't match the stream ID currently \
                     associated with framework ID {id}"
                );
                return Answer::new(400, body);
            }
            Some(_) => {}
        }
        let id = Arc::clone(id);
        self.dispatch(&id, kind, call)
    }

    fn dispatch(&mut self, framework: &Arc<str>, kind: call::Type, call: &Call) -> Answer {
        use call::Type;
        match kind {
            Type::Teardown => self.remove_framework(framework),
            Type::Accept => {
                if let Some(accept) = &call.accept {
                    self.accept(framework, accept);
                }
            }
            Type::Decline => {
                if let Some(decline) = &call.decline {
                    self.decline(framework, decline);
                }
            }
            Type::Revive => {
                let roles = call.revive.as_ref().map(|revive| &revive.roles[..]).unwrap_or_default();
                self.revive(framework, roles);
            }
            Type::Suppress => {
                let roles = call.suppress.as_ref().map(|suppress| &suppress.roles[..]).unwrap_or_default();
                self.suppress(framework, roles);
            }
            Type::Kill => {
                if let Some(kill) = &call.kill {
                    self.kill(framework, kill);
                }
            }
            Type::Acknowledge => {
                if let Some(acknowledge) = &call.acknowledge {
                    self.acknowledge(framework, acknowledge);
                }
            }
            Type::Reconcile => {
                if let Some(reconcile) = &call.reconcile {
                    self.reconcile(framework, &reconcile.tasks);
                }
            }
            Type::AcceptInverseOffers => {
                if let Some(accept) = &call.accept_inverse_offers {
                    self.answer_inverse_offers(framework, &accept.inverse_offer_ids, accept.filters.as_ref());
                }
            }
            Type::DeclineInverseOffers => {
                if let Some(decline) = &call.decline_inverse_offers {
                    self.answer_inverse_offers(
                        framework,
                        &decline.inverse_offer_ids,
                        decline.filters.as_ref(),
                    );
                }
            }
            Type::UpdateFramework => {
                if let Some(update) = &call.update_framework {
                    return self.update_framework(framework, update);
                }
            }
            Type::Unknown => return Answer::new(501, ""),
            // Command executors take no messages and have no shutdown of their own; requests are only logged; nothing
            // here has operations that a framework follows.
            Type::Subscribe
            | Type::Shutdown
            | Type::Message
            | Type::Request
            | Type::AcknowledgeOperationStatus
            | Type::ReconcileOperations => {}
        }
        Answer::accepted()
    }
}

/// What a call lacks.
fn invalid(call: &Call) -> Option<String> {
    use call::Type;
    let Some(number) = call.r#type else { return Some("Expecting 'type' to be present".to_owned()) };
    let kind = Type::try_from(number).unwrap_or_default();
    let no_id = mesos_v1::FrameworkId::default();
    let id = call.framework_id.as_ref();
    if kind == Type::Subscribe {
        return match &call.subscribe {
            None => Some("Expecting 'subscribe' to be present".to_owned()),
            Some(s) if s.framework_info.id.as_ref().unwrap_or(&no_id) != id.unwrap_or(&no_id) => {
                Some("'framework_id' differs from 'subscribe.framework_info.id'".to_owned())
            }
            Some(_) => None,
        };
    }
    if id.is_none() {
        return Some("Expecting 'framework_id' to be present".to_owned());
    }
    let (field, present) = match kind {
        Type::Accept => ("accept", call.accept.is_some()),
        Type::Decline => ("decline", call.decline.is_some()),
        Type::AcceptInverseOffers => ("accept_inverse_offers", call.accept_inverse_offers.is_some()),
        Type::DeclineInverseOffers => ("decline_inverse_offers", call.decline_inverse_offers.is_some()),
        Type::Kill => ("kill", call.kill.is_some()),
        Type::Shutdown => ("shutdown", call.shutdown.is_some()),
        Type::Acknowledge => ("acknowledge", call.acknowledge.is_some()),
        Type::AcknowledgeOperationStatus => {
            ("acknowledge_operation_status", call.acknowledge_operation_status.is_some())
        }
        Type::Reconcile => ("reconcile", call.reconcile.is_some()),
        Type::ReconcileOperations => ("reconcile_operations", call.reconcile_operations.is_some()),
        Type::Message => ("message", call.message.is_some()),
        Type::Request => ("request", call.request.is_some()),
        Type::UpdateFramework => ("update_framework", call.update_framework.is_some()),
        Type::Subscribe | Type::Teardown | Type::Revive | Type::Suppress | Type::Unknown => ("", true),
    };
    if !present {
        return Some(format!("Expecting '{field}' to be present"));
    }
    if let Some(acknowledge) = &call.acknowledge
        && kind == Type::Acknowledge
        && !is_uuid(&acknowledge.uuid)
    {
        return Some("Not a valid UUID".to_owned());
    }
    if let Some(update) = &call.update_framework
        && kind == Type::UpdateFramework
        && update.framework_info.id.as_ref().unwrap_or(&no_id) != id.unwrap_or(&no_id)
    {
        return Some("'framework_id' differs from 'update_framework.framework_info.id'".to_owned());
    }
    None
}

pub(crate) fn error(message: impl Into<String>) -> Event {
    Event {
        r#type: Some(event::Type::Error.into()),
        error: Some(event::Error { message: message.into() }),
        ..Default::default()
    }
}

/// Whether it is a UUID of a version that RFC 4122 knows.
fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 16 && (1..=5).contains(&(bytes[6] >> 4))
}
