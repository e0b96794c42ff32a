//! Calls to the master, over a connection of their own.

use http::{HeaderMap, HeaderValue, StatusCode};
use mesos_v1::FrameworkInfo;
use mesos_v1::http::Connection;
use mesos_v1::scheduler::{Call, call};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use super::access::{Access, AccessError};
use super::client::{ANSWER, Leader, PATH, STREAM_ID, StreamNumber, body_text};
use crate::config::Server;

/// A call that a master did not take.
#[derive(Debug, Clone)]
pub(super) struct Undelivered {
    /// The event stream of its subscription.
    pub stream_id: HeaderValue,
    /// Whether it was `UPDATE_FRAMEWORK`, and the master said no.
    pub update_refused: bool,
}

/// Calls on their way.
pub(super) struct Calls {
    /// Each with the subscription that it was decided for.
    pub queue: mpsc::Receiver<(StreamNumber, Call)>,
    pub access: Access,
    pub leader: watch::Receiver<Option<Leader>>,
    /// Who we are, for `UPDATE_FRAMEWORK`.
    pub framework: FrameworkInfo,
    /// The last call that the master did not take.
    pub undelivered: watch::Sender<Option<Undelivered>>,
}

impl Calls {
    /// Sends them one after the other. A call that the master does not take ends the subscription that it was for.
    pub async fn send(mut self) {
        let mut open: Option<(Server, Connection)> = None;
        while let Some((stream, mut call)) = self.queue.recv().await {
            let kind = call::Type::try_from(call.r#type.unwrap_or_default()).unwrap_or_default();
            let Some(leader) = self.leader.borrow().clone().filter(|leader| leader.number == stream) else {
                debug!(
                    call = kind.as_str_name(),
                    "dropped: the subscription that it was decided for is over"
                );
                continue;
            };
            let lost = |lost: &Undelivered| lost.stream_id == leader.stream_id;
            if self.undelivered.borrow().as_ref().is_some_and(lost) {
                debug!(call = kind.as_str_name(), "dropped: the subscription is about to end");
                continue;
            }
            call.framework_id = Some(leader.framework_id.clone());
            // It is checked and done before the answer, unlike all others.
            let mut expected = StatusCode::ACCEPTED;
            if let Some(update) = &mut call.update_framework {
                update.framework_info =
                    FrameworkInfo { id: call.framework_id.clone(), ..self.framework.clone() };
                expected = StatusCode::OK;
            }
            let connection = open.take().filter(|(server, c)| *server == leader.server && !c.is_closed());
            let connection = connection.map(|(_, connection)| connection);
            let headers = HeaderMap::from_iter([(STREAM_ID, leader.stream_id.clone())]);
            let body = call.encode_to_vec();
            let sent = self.access.post(&leader.server, connection, PATH, headers, body, ANSWER);
            let mut update_refused = false;
            match sent.await {
                Ok((connection, response)) => {
                    let status = response.status;
                    let body = body_text(response).await;
                    if status == expected {
                        debug!(call = kind.as_str_name(), "sent");
                        open = Some((leader.server, connection));
                        continue;
                    }
                    update_refused =
                        kind == call::Type::UpdateFramework && is_about_the_update(status, &body);
                    let advice = self.access.advice(status);
                    warn!(call = kind.as_str_name(), %status, "refused by the master: {body}{advice}");
                }
                // So is everything after it.
                Err(AccessError::Deposed) => return,
                Err(error) => warn!(call = kind.as_str_name(), "not sent: {error}"),
            }
            self.undelivered.send_replace(Some(Undelivered { stream_id: leader.stream_id, update_refused }));
        }
    }
}

/// Whether `UPDATE_FRAMEWORK` was refused for what it asks: not for who asks (401), nor because the subscription is over
/// (Mesos 1.11, `src/master/http.cpp`), nor by a server that is out of order.
fn is_about_the_update(status: StatusCode, body: &str) -> bool {
    let subscription = ["stream ID", "Framework is not subscribed", "Framework cannot be found"];
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN)
        && !subscription.iter().any(|words| body.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_refused_for_good_by_the_master_alone_and_for_what_it_asks() {
        let refused = |status, body| is_about_the_update(StatusCode::from_u16(status).unwrap(), body);
        assert!(refused(400, "Offer constraints are not supported") && refused(403, "Not authorized"));
        for (status, body) in [
            (401, ""),
            (403, "Framework is not subscribed"),
            (400, "Framework cannot be found"),
            (
                400,
                "The stream ID 'a' included in this request didn't match the stream ID currently associated",
            ),
            (404, "<html>"),
            (429, ""),
            (503, ""),
        ] {
            assert!(!refused(status, body), "{status} {body}");
        }
    }
}
