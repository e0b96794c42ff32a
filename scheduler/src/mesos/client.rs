//! The subscription: finds the leader, keeps one event stream open, and sends calls over other connections.

use std::time::Duration;

use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode};
use mesos_v1::http::{Connection, HttpError, Records, Response};
use mesos_v1::recordio::{DEFAULT_MAX_RECORD, RecordError};
use mesos_v1::scheduler::{Call, Event as Message, call, event};
use mesos_v1::{FrameworkInfo, PROTOBUF};
use prost::Message as _;
use rand::Rng as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::convert;
use crate::core::{Event, FrameworkId};
use crate::state::Tenure;

const PATH: &str = "/api/v1/scheduler";
const CONNECT: Duration = Duration::from_secs(5);
/// The master holds a subscription back while it recovers or authorizes.
const ANSWER: Duration = Duration::from_secs(30);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
/// So many heartbeats may be missed.
const MISSED: f64 = 5.0;
const REDIRECTS: usize = 5;
/// Calls that wait for a connection: more than any frame has.
const QUEUE: usize = 4096;

/// What the subscription tells.
#[derive(Debug)]
pub enum ClientEvent {
    /// The master said something.
    Event(Event),
    /// The subscription is lost. Another one is on its way.
    Disconnected,
}

/// The master that we are subscribed to.
#[derive(Debug, Clone)]
pub struct Leader {
    /// `host:port`
    pub authority: String,
    stream_id: HeaderValue,
    framework_id: mesos_v1::FrameworkId,
}

/// Sends calls, and knows the leader. Dropping it ends the subscription, and drops the calls that wait.
#[derive(Debug)]
pub struct Client {
    calls: mpsc::Sender<Call>,
    leader: watch::Receiver<Option<Leader>>,
    _tasks: JoinSet<()>,
}

impl Client {
    /// Subscribes, and keeps subscribing, as `framework` (whose ID is set when there is one already). `masters`
    /// are tried in turn; any of them may point to the leader. Nothing is sent when `tenure` does not hold.
    pub fn start(
        masters: Vec<String>,
        framework: FrameworkInfo,
        tenure: &Tenure,
    ) -> (Self, mpsc::Receiver<ClientEvent>) {
        let (calls, call_queue) = mpsc::channel(QUEUE);
        let (leader_sender, leader) = watch::channel(None);
        let (events, event_queue) = mpsc::channel(QUEUE);
        let tenure = tenure.clone();
        let subscription =
            Subscription { masters, framework, leader: leader_sender, events, tenure: tenure.clone() };
        let mut tasks = JoinSet::new();
        tasks.spawn(subscription.run());
        tasks.spawn(send_calls(call_queue, leader.clone(), tenure));
        (Self { calls, leader, _tasks: tasks }, event_queue)
    }

    /// Sends a call to the leader. It is dropped when there is none: whatever matters is sent again.
    pub async fn send(&self, call: Call) {
        // The queue is read for as long as we lead.
        let _ = self.calls.send(call).await;
    }

    /// The leader, while we are subscribed.
    pub fn leader(&self) -> Option<Leader> {
        self.leader.borrow().clone()
    }
}

/// Why a subscription failed or ended.
#[derive(Debug, thiserror::Error)]
enum SubscriptionError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("{authority} answered {status}: {body}")]
    Refused { authority: String, status: StatusCode, body: String },
    #[error("{authority} redirects to '{location}', which is no address")]
    Redirect { authority: String, location: String },
    #[error("there were more than {REDIRECTS} redirects")]
    Redirects,
    #[error("{0} gave no Mesos-Stream-Id")]
    NoStreamId(String),
    #[error("the event stream broke: {0}")]
    Stream(#[from] RecordError),
    #[error("the master sent what is no event: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("the master has closed the event stream")]
    Closed,
    #[error("this scheduler no longer leads")]
    Deposed,
    #[error("no heartbeat for {0:?}")]
    Silent(Duration),
}

struct Subscription {
    masters: Vec<String>,
    framework: FrameworkInfo,
    leader: watch::Sender<Option<Leader>>,
    events: mpsc::Sender<ClientEvent>,
    tenure: Tenure,
}

impl Subscription {
    async fn run(mut self) {
        let mut failures = 0_u32;
        for turn in 0.. {
            let master = self.masters[turn % self.masters.len()].clone();
            let subscribed = match self.subscribe(&master).await {
                Ok((authority, stream_id, records)) => {
                    let (was_subscribed, error) = self.follow(&authority, stream_id, records).await;
                    warn!(master = authority, "subscription ended: {error}");
                    was_subscribed
                }
                Err(error) => {
                    warn!(master, "cannot subscribe: {error}");
                    false
                }
            };
            failures = if subscribed { 0 } else { failures.saturating_add(1) };
            self.leader.send_replace(None);
            if subscribed && self.events.send(ClientEvent::Disconnected).await.is_err() {
                return;
            }
            tokio::time::sleep(backoff(failures)).await;
        }
    }

    /// POSTs SUBSCRIBE, following redirects to the leader.
    async fn subscribe(&self, master: &str) -> Result<(String, HeaderValue, Records), SubscriptionError> {
        let call = Call {
            framework_id: self.framework.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe { framework_info: self.framework.clone(), ..Default::default() }),
            ..Default::default()
        };
        let mut authority = master.to_owned();
        for _ in 0..=REDIRECTS {
            let mut connection = Connection::open(&authority, CONNECT).await?;
            // Two schedulers that subscribe with one ID would throw each other out without end.
            if !self.tenure.holds() {
                return Err(SubscriptionError::Deposed);
            }
            let response = connection.post(PATH, &HeaderMap::new(), call.encode_to_vec(), ANSWER).await?;
            if response.status == StatusCode::TEMPORARY_REDIRECT {
                let location = response.header("Location").unwrap_or_default().to_owned();
                match redirected(&location) {
                    Some(leader) => authority = leader,
                    None => return Err(SubscriptionError::Redirect { authority, location }),
                }
                continue;
            }
            if response.status != StatusCode::OK {
                return Err(refused(authority, response).await);
            }
            let stream_id = response.headers.get("Mesos-Stream-Id").cloned();
            let stream_id = stream_id.ok_or_else(|| SubscriptionError::NoStreamId(authority.clone()))?;
            return Ok((authority, stream_id, response.records(DEFAULT_MAX_RECORD)));
        }
        Err(SubscriptionError::Redirects)
    }

    /// Passes events on until the stream ends: why, and whether we were subscribed.
    async fn follow(
        &mut self,
        authority: &str,
        stream_id: HeaderValue,
        mut records: Records,
    ) -> (bool, SubscriptionError) {
        let mut silence = ANSWER;
        let mut subscribed = false;
        loop {
            let record = match timeout(silence, records.next()).await {
                Err(_) => return (subscribed, SubscriptionError::Silent(silence)),
                Ok(None) => return (subscribed, SubscriptionError::Closed),
                Ok(Some(Err(error))) => return (subscribed, error.into()),
                Ok(Some(Ok(record))) => record,
            };
            let message = match Message::decode(record) {
                Ok(message) => message,
                Err(error) => return (subscribed, error.into()),
            };
            if let Some(interval) = heartbeat_interval(&message) {
                silence = interval;
            }
            let event = match convert::event(message) {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(error) => {
                    warn!(master = authority, "an event is left out: {error}");
                    continue;
                }
            };
            if let Event::Subscribed(FrameworkId(id)) = &event {
                info!(master = authority, framework = id, "subscribed");
                let framework_id = mesos_v1::FrameworkId::from(id.as_str());
                self.framework.id = Some(framework_id.clone());
                let (authority, stream_id) = (authority.to_owned(), stream_id.clone());
                self.leader.send_replace(Some(Leader { authority, stream_id, framework_id }));
                subscribed = true;
            }
            if self.events.send(ClientEvent::Event(event)).await.is_err() {
                return (false, SubscriptionError::Closed);
            }
        }
    }
}

/// How long the master may be silent, as SUBSCRIBED says.
fn heartbeat_interval(message: &Message) -> Option<Duration> {
    let is_subscribed = message.r#type == Some(event::Type::Subscribed.into());
    let seconds = message.subscribed.as_ref().filter(|_| is_subscribed)?.heartbeat_interval_seconds?;
    Duration::try_from_secs_f64(seconds * MISSED).ok().filter(|interval| !interval.is_zero())
}

/// The authority in a `Location`, which Mesos writes as `//host:port/path`.
fn redirected(location: &str) -> Option<String> {
    let (_, rest) = location.split_once("//")?;
    let authority = rest.split('/').next()?;
    authority.contains(':').then(|| authority.to_owned())
}

async fn refused(authority: String, response: Response) -> SubscriptionError {
    let status = response.status;
    let body = body_text(response).await;
    SubscriptionError::Refused { authority, status, body }
}

async fn body_text(response: Response) -> String {
    match timeout(CONNECT, response.bytes(64 * 1024)).await {
        Ok(Ok(bytes)) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        _ => String::new(),
    }
}

/// Doubles from half a second, and is spread so that not all frameworks come back at once.
fn backoff(failures: u32) -> Duration {
    let longest = Duration::from_millis(500).saturating_mul(2_u32.saturating_pow(failures.min(16)));
    longest.min(LONGEST_BACKOFF).mul_f64(rand::rng().random_range(0.2..=1.0))
}

/// Sends calls one after the other over a connection of their own.
async fn send_calls(
    mut calls: mpsc::Receiver<Call>,
    leader: watch::Receiver<Option<Leader>>,
    tenure: Tenure,
) {
    let mut open: Option<(String, Connection)> = None;
    while let Some(mut call) = calls.recv().await {
        if !tenure.holds() {
            return;
        }
        let Some(leader) = leader.borrow().clone() else {
            debug!(call = ?call.r#type, "dropped: there is no leader");
            continue;
        };
        let kind = call::Type::try_from(call.r#type.unwrap_or_default()).unwrap_or_default();
        call.framework_id = Some(leader.framework_id.clone());
        let connection =
            open.take().filter(|(authority, c)| *authority == leader.authority && !c.is_closed());
        match send(connection.map(|(_, connection)| connection), &leader, call.encode_to_vec()).await {
            Ok((connection, response)) => {
                let status = response.status;
                let body = body_text(response).await;
                if status == StatusCode::ACCEPTED {
                    debug!(call = kind.as_str_name(), "sent");
                    open = Some((leader.authority, connection));
                } else {
                    warn!(call = kind.as_str_name(), %status, "refused by the master: {body}");
                }
            }
            Err(error) => warn!(call = kind.as_str_name(), "not sent: {error}"),
        }
    }
}

async fn send(
    connection: Option<Connection>,
    leader: &Leader,
    body: Vec<u8>,
) -> Result<(Connection, Response), HttpError> {
    let mut headers = HeaderMap::new();
    headers.insert("Mesos-Stream-Id", leader.stream_id.clone());
    headers.insert(http::header::ACCEPT, HeaderValue::from_static(PROTOBUF));
    let mut connection = match connection {
        Some(connection) => connection,
        None => Connection::open(&leader.authority, CONNECT).await?,
    };
    let response = connection.post(PATH, &headers, body, ANSWER).await?;
    Ok((connection, response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_have_no_scheme() {
        assert_eq!(redirected("//10.0.0.2:5050/api/v1/scheduler").as_deref(), Some("10.0.0.2:5050"));
        assert_eq!(redirected("http://10.0.0.2:5050").as_deref(), Some("10.0.0.2:5050"));
        assert_eq!(redirected("/elsewhere"), None);
        assert_eq!(redirected("//nowhere/"), None);
    }

    #[test]
    fn backoff_grows_to_its_bound_and_is_never_nothing() {
        for failures in 0..40 {
            let wait = backoff(failures);
            assert!(wait >= Duration::from_millis(100) && wait <= LONGEST_BACKOFF, "{failures}: {wait:?}");
        }
    }
}
