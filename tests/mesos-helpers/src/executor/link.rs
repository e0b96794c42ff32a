//! The connection to the agent: the subscription, and the calls over a second connection.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use http::HeaderMap;
use mesos_v1::{
    executor::{Call, Event},
    http::{Connection, HttpError, Records, Response},
    recordio::{DEFAULT_MAX_RECORD, RecordError},
};
use prost::Message as _;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};

const PATH: &str = "/slave(1)/api/v1/executor";
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Short: an agent that restarts waits only a few seconds for its executors.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(2);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const MAX_REFUSAL: usize = 64 * 1024;

/// Why there is no subscription (any more).
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The agent refused a call.
    #[error("the agent answered {call} with {status}: {reason}")]
    Refused {
        /// The call.
        call: &'static str,
        /// The HTTP status.
        status: http::StatusCode,
        /// The agent's words.
        reason: String,
    },
    /// The stream of events broke.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record is no event.
    #[error("the agent sent a record that is no event: {0}")]
    Event(#[from] prost::DecodeError),
    /// The agent closed the stream.
    #[error("the agent ended the subscription")]
    Ended,
}

/// What happened on the link.
#[derive(Debug)]
pub enum Happening {
    /// It is time to subscribe (again).
    Due,
    /// The subscription, or the attempt at one, failed; `Due` follows after the retry interval.
    Lost(LinkError),
    /// The agent sent an event.
    Event(Box<Event>),
}

/// The link to the agent.
pub struct Link {
    agent: String,
    retry_interval: Duration,
    state: State,
}

enum State {
    Down { until: Instant },
    Connecting(BoxFuture<'static, Result<Records, LinkError>>),
    Up { records: Records, calls: Calls },
}

impl Link {
    /// A link to the agent at `host:port`, not connected yet.
    pub fn new(agent: &str, retry_interval: Duration) -> Self {
        let state = State::Down { until: Instant::now() };
        Self { agent: agent.to_owned(), retry_interval, state }
    }

    /// Starts to subscribe with `call`.
    pub fn subscribe(&mut self, call: &Call) {
        self.state = State::Connecting(subscribe(self.agent.clone(), call.encode_to_vec().into()).boxed());
    }

    /// Sends a call, in order with those before it. Without a subscription it is dropped; its
    /// update is part of the next SUBSCRIBE.
    pub fn send(&mut self, call: &Call) {
        if let State::Up { calls, .. } = &self.state {
            // The sending task ends only after it reported why.
            let _ = calls.queue.send(call.encode_to_vec().into());
        }
    }

    /// Waits for what happens next. May be dropped at any time without a loss.
    pub async fn next(&mut self) -> Happening {
        let error = match &mut self.state {
            State::Down { until } => {
                sleep_until(*until).await;
                return Happening::Due;
            }
            State::Connecting(attempt) => match attempt.await {
                Ok(records) => {
                    let calls = Calls::start(self.agent.clone());
                    self.state = State::Up { records, calls };
                    return Box::pin(self.next()).await;
                }
                Err(error) => error,
            },
            State::Up { records, calls } => {
                let received = tokio::select! {
                    Ok(error) = &mut calls.failed => Err(error),
                    record = records.next() => match record {
                        Some(Ok(record)) => Event::decode(record).map_err(LinkError::from),
                        Some(Err(error)) => Err(error.into()),
                        None => Err(LinkError::Ended),
                    },
                };
                match received {
                    Ok(event) => return Happening::Event(Box::new(event)),
                    Err(error) => error,
                }
            }
        };
        self.state = State::Down { until: Instant::now() + self.retry_interval };
        Happening::Lost(error)
    }
}

async fn subscribe(agent: String, call: Bytes) -> Result<Records, LinkError> {
    let mut connection = Connection::open(&agent, SUBSCRIBE_LIMIT).await?;
    let response = connection.post(PATH, &HeaderMap::new(), call, SUBSCRIBE_LIMIT).await?;
    if response.status != http::StatusCode::OK {
        return Err(refusal("SUBSCRIBE", response).await);
    }
    Ok(response.records(DEFAULT_MAX_RECORD))
}

async fn refusal(call: &'static str, response: Response) -> LinkError {
    let status = response.status;
    let reason = match tokio::time::timeout(ANSWER_LIMIT, response.bytes(MAX_REFUSAL)).await {
        Ok(Ok(body)) => String::from_utf8_lossy(&body).trim().to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no reason given in time".to_owned(),
    };
    LinkError::Refused { call, status, reason }
}

/// The task that sends calls one after the other; it ends with this value.
struct Calls {
    queue: mpsc::UnboundedSender<Bytes>,
    failed: oneshot::Receiver<LinkError>,
    _sender: JoinSet<()>,
}

impl Calls {
    fn start(agent: String) -> Self {
        let (queue, mut calls) = mpsc::unbounded_channel();
        let (report, failed) = oneshot::channel();
        let mut sender = JoinSet::new();
        sender.spawn(async move {
            let mut connection = None;
            while let Some(call) = calls.recv().await {
                if let Err(error) = send_call(&agent, &mut connection, call).await {
                    let _ = report.send(error);
                    return;
                }
            }
            // The receiver is gone too: nobody waits for a report.
        });
        Self { queue, failed, _sender: sender }
    }
}

async fn send_call(agent: &str, idle: &mut Option<Connection>, call: Bytes) -> Result<(), LinkError> {
    let mut connection = match idle.take().filter(|c| !c.is_closed()) {
        Some(connection) => connection,
        None => Connection::open(agent, CONNECT_LIMIT).await?,
    };
    let response = connection.post(PATH, &HeaderMap::new(), call, ANSWER_LIMIT).await?;
    if response.status != http::StatusCode::ACCEPTED {
        return Err(refusal("a call", response).await);
    }
    tokio::time::timeout(ANSWER_LIMIT, response.bytes(MAX_REFUSAL)).await.map_err(|_| LinkError::Ended)??;
    *idle = Some(connection);
    Ok(())
}
