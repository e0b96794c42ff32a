//! The subscription: finds the leader, keeps one event stream open, and sends calls over other connections.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mesos_v1::FrameworkInfo;
use mesos_v1::http::{Records, Response};
use mesos_v1::scheduler::{Call, Event as Message, call, event};
use prost::Message as _;
use rand::Rng as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::access::{Access, AccessError};
use super::convert::{self, Record};
use super::masters::Masters;
use super::refusal::Refusal;
use super::sender::{Calls, Undelivered};
use super::trouble::SubscriptionError;
use crate::config::{self, Server};
use crate::core::{Event, FrameworkId, MesosVersion};
use crate::state::Tenure;

pub(super) const PATH: &str = "/api/v1/scheduler";
pub(super) const STREAM_ID: HeaderName = HeaderName::from_static("mesos-stream-id");
/// The body of an answer other than the event stream.
const BODY: Duration = Duration::from_secs(5);
/// The master holds a subscription back while it recovers or authorizes.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
/// A subscription that lasted so long was a good one: the next attempt need not wait.
const LASTING: Duration = Duration::from_secs(30);
/// So many heartbeats may be missed.
const MISSED: f64 = 5.0;
pub(super) const REDIRECTS: usize = 5;
/// After an event that is too long: the next will be, too, and making it costs the master.
const TOO_LONG_AGAIN: Duration = Duration::from_mins(5);
/// In bytes. Mesos puts the offers of all agents into one event: 50,000 agents that say 5 KB each. It is held once, while
/// its offers are decided; memory is taken as it arrives.
pub(super) const LONGEST_RECORD: usize = 256 * 1024 * 1024;
/// Calls that wait for a connection. The loop waits when there are more.
const QUEUE: usize = 4096;

/// One subscription of this process: what is offered in it, and the calls that are decided for it, belong to no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamNumber(pub u64);

/// What the subscription tells.
#[derive(Debug)]
pub enum ClientEvent {
    /// The master said something.
    Event(StreamNumber, Event),
    /// The subscription is lost. Another one is on its way.
    Disconnected,
}

/// The master that we are subscribed to.
#[derive(Debug, Clone)]
pub struct Leader {
    /// Where it is.
    pub server: Server,
    pub(super) number: StreamNumber,
    pub(super) stream_id: HeaderValue,
    pub(super) framework_id: mesos_v1::FrameworkId,
}

/// How the subscription stands: for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The master that we are subscribed to; none while there is no subscription.
    pub master: Option<Server>,
    /// Since when that is so.
    pub since: SystemTime,
    /// Why the last attempt failed, or the last subscription ended; none when nothing has failed yet.
    pub error: Option<String>,
}

/// Sends calls, and knows the leader. Dropping it ends the subscription, and drops the calls that wait.
#[derive(Debug, Clone)]
pub struct Client {
    calls: mpsc::Sender<(StreamNumber, Call)>,
    leader: watch::Receiver<Option<Leader>>,
    condition: watch::Receiver<Condition>,
    access: Access,
    _tasks: Arc<JoinSet<()>>,
}

impl Client {
    /// Subscribes, and keeps subscribing, as `framework` (whose ID is set when there is one already), with the master
    /// that leads as `masters` tell. Nothing is sent when `tenure` does not hold.
    pub fn start(
        masters: config::Masters,
        access: &Access,
        framework: FrameworkInfo,
        tenure: &Tenure,
    ) -> (Self, mpsc::Receiver<ClientEvent>) {
        let access = access.during(tenure);
        let (calls, call_queue) = mpsc::channel(QUEUE);
        let (leader_sender, leader) = watch::channel(None);
        let begin = Condition { master: None, since: SystemTime::now(), error: None };
        let (condition_sender, condition) = watch::channel(begin);
        let (events, event_queue) = mpsc::channel(QUEUE);
        let (undelivered_sender, undelivered) = watch::channel(None);
        let updates = framework.clone();
        let subscription = Subscription {
            masters: Masters::start(masters, &condition_sender),
            access: access.clone(),
            framework,
            leader: leader_sender,
            condition: condition_sender,
            streams: 0,
            events,
            undelivered,
            unconstrained: None,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(subscription.run());
        let sender = Calls {
            queue: call_queue,
            access: access.clone(),
            leader: leader.clone(),
            framework: updates,
            undelivered: undelivered_sender,
        };
        tasks.spawn(sender.send());
        (Self { calls, leader, condition, access, _tasks: Arc::new(tasks) }, event_queue)
    }

    /// Sends a call to the leader, in the subscription that it was decided for. It is dropped when that is over:
    /// whatever matters is sent again.
    pub async fn send(&self, stream: StreamNumber, call: Call) {
        // The queue is read for as long as we lead.
        let _ = self.calls.send((stream, call)).await;
    }

    /// How the subscription stands, now and later.
    pub fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.clone()
    }

    /// The leader, while we are subscribed.
    pub fn leader(&self) -> Option<Leader> {
        self.leader.borrow().clone()
    }

    /// How masters and agents are asked.
    pub fn access(&self) -> &Access {
        &self.access
    }
}

struct Subscription {
    masters: Masters,
    access: Access,
    framework: FrameworkInfo,
    leader: watch::Sender<Option<Leader>>,
    condition: watch::Sender<Condition>,
    /// How many event streams there were.
    streams: u64,
    events: mpsc::Sender<ClientEvent>,
    /// The last call that the master did not take.
    undelivered: watch::Receiver<Option<Undelivered>>,
    /// The master that refused offer constraints: they are only a help, and never asked of it again.
    unconstrained: Option<Server>,
}

impl Subscription {
    async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let master = self.masters.next().await;
            let started = Instant::now();
            let leaders = self.masters.clone();
            let other_leads = leaders.other_leads(master.clone(), self.leader.subscribe());
            tokio::pin!(other_leads);
            let error = tokio::select! {
                error = self.attempt(&master.server) => error,
                () = &mut other_leads => SubscriptionError::OtherLeader,
            };
            let subscribed = self.leader.send_replace(None);
            self.condition.send_modify(|condition| {
                if condition.master.take().is_some() {
                    condition.since = SystemTime::now();
                }
                condition.error = Some(error.for_people());
            });
            if let Some(leader) = &subscribed {
                warn!(master = %leader.server, "subscription ended: {}", error.for_people());
            } else {
                warn!(master = %master.server, "cannot subscribe: {}", error.for_people());
            }
            if self.events.is_closed()
                || subscribed.is_some() && self.events.send(ClientEvent::Disconnected).await.is_err()
            {
                return;
            }
            let lasted = subscribed.is_some() && started.elapsed() >= LASTING && !error.is_lasting();
            if lasted || matches!(error, SubscriptionError::OtherLeader) {
                failures = 0;
                sleep(backoff(failures)).await;
                continue;
            }
            failures = failures.saturating_add(1);
            let wait = if error.is_lasting() { TOO_LONG_AGAIN } else { backoff(failures) };
            tokio::select! {
                () = sleep(wait) => {}
                () = &mut other_leads => failures = 0,
            }
        }
    }

    /// Subscribes and passes events on until that ends: why.
    async fn attempt(&mut self, master: &Server) -> SubscriptionError {
        match self.subscribe(master).await {
            Ok((server, stream_id, records)) => self.follow(&server, stream_id, records).await,
            Err(SubscriptionError::Invalid(message)) => {
                // Never to be mended by asking again; the loop ends with it.
                let event = ClientEvent::Event(StreamNumber(self.streams), Event::Error(message.clone()));
                let _ = self.events.send(event).await;
                SubscriptionError::Invalid(message)
            }
            Err(error) => error,
        }
    }

    /// POSTs SUBSCRIBE, following redirects to the leader.
    async fn subscribe(&self, master: &Server) -> Result<(Server, HeaderValue, Records), SubscriptionError> {
        let call = Call {
            framework_id: self.framework.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info: self.framework.clone(),
                // A master that takes over has forgotten all filters, and would offer everything. The core asks for
                // offers when it wants some.
                suppressed_roles: self.framework.roles.clone(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut server = master.clone();
        for _ in 0..=REDIRECTS {
            let (headers, body) = (HeaderMap::new(), call.encode_to_vec());
            let posted = self.access.post(&server, None, PATH, headers, body, ANSWER).await;
            // Two schedulers that subscribe with one ID would throw each other out without end.
            let (_, response) = posted.map_err(|error| match error {
                AccessError::Deposed => SubscriptionError::Deposed,
                error => error.into(),
            })?;
            if response.status == StatusCode::TEMPORARY_REDIRECT {
                let location = response.header("Location").unwrap_or_default().to_owned();
                match redirected(&location, server.tls) {
                    Some(leader) => server = leader,
                    None => return Err(SubscriptionError::Redirect { server, location }),
                }
                continue;
            }
            if response.status != StatusCode::OK {
                let (status, advice) = (response.status, self.access.advice(response.status));
                let body = body_text(response).await;
                // Mesos' own words; a proxy's 400 may pass.
                if status == StatusCode::BAD_REQUEST && body.starts_with("Failed to validate") {
                    return Err(SubscriptionError::Invalid(body));
                }
                return Err(SubscriptionError::Refused { server, status, body, advice });
            }
            let stream_id = response.headers.get(STREAM_ID).cloned();
            let stream_id = stream_id.ok_or_else(|| SubscriptionError::NoStreamId(server.clone()))?;
            return Ok((server, stream_id, response.records(LONGEST_RECORD)));
        }
        Err(SubscriptionError::Redirects)
    }

    /// Passes events on until the stream ends: why.
    async fn follow(
        &mut self,
        server: &Server,
        stream_id: HeaderValue,
        mut records: Records,
    ) -> SubscriptionError {
        self.streams += 1;
        let number = StreamNumber(self.streams);
        let mut silence = ANSWER;
        let mut undelivered = self.undelivered.clone();
        loop {
            let record = tokio::select! {
                record = timeout(silence, records.next()) => record,
                // An offer that is neither used nor declined would be ours for ever, and a REVIVE that is lost
                // brings none: the next subscription begins without offers, and with a revival.
                lost = lost(&mut undelivered, &stream_id) => {
                    if lost.update_refused {
                        self.unconstrained = Some(server.clone());
                    }
                    return SubscriptionError::Undelivered;
                }
            };
            let record = match record {
                Err(_) => return SubscriptionError::Silent(silence),
                Ok(None) => return SubscriptionError::Closed,
                Ok(Some(Err(error))) => return error.into(),
                Ok(Some(Ok(record))) => record,
            };
            let message = match convert::read(record) {
                Ok(Record::Offers(offers)) => {
                    if self.events.send(ClientEvent::Event(number, offers)).await.is_err() {
                        return SubscriptionError::Closed;
                    }
                    continue;
                }
                Ok(Record::Other(message)) => *message,
                Err(error) => return error.into(),
            };
            if let Some(interval) = heartbeat_interval(&message) {
                silence = interval;
            }
            let takes_constraints =
                takes_constraints(&message) && self.unconstrained.as_ref() != Some(server);
            let event = match convert::event(message) {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(error) => {
                    warn!(master = %server, "an event is left out: {error}");
                    continue;
                }
            };
            if let Event::Error(message) = &event
                && Refusal::is_passing(message)
            {
                return SubscriptionError::Passing(message.clone());
            }
            if takes_constraints
                && self.events.send(ClientEvent::Event(number, Event::TakesConstraints)).await.is_err()
            {
                return SubscriptionError::Closed;
            }
            if let Event::Subscribed(FrameworkId(id)) = &event {
                info!(master = %server, framework = id, "subscribed");
                let framework_id = mesos_v1::FrameworkId::from(id.as_str());
                self.framework.id = Some(framework_id.clone());
                let (server, stream_id) = (server.clone(), stream_id.clone());
                self.condition.send_modify(|condition| {
                    condition.master = Some(server.clone());
                    condition.since = SystemTime::now();
                });
                self.leader.send_replace(Some(Leader { server, number, stream_id, framework_id }));
            }
            if self.events.send(ClientEvent::Event(number, event)).await.is_err() {
                return SubscriptionError::Closed;
            }
        }
    }
}

/// Waits for a call of this stream that the master does not take.
async fn lost(
    undelivered: &mut watch::Receiver<Option<Undelivered>>,
    stream_id: &HeaderValue,
) -> Undelivered {
    let ours = |lost: &Option<Undelivered>| lost.as_ref().is_some_and(|lost| lost.stream_id == *stream_id);
    let lost = undelivered.wait_for(ours).await.ok().and_then(|lost| lost.clone());
    match lost {
        Some(lost) => lost,
        // Nobody sends any more: the process ends.
        None => std::future::pending().await,
    }
}

/// Whether SUBSCRIBED is of a master that takes offer constraints: Mesos 1.11 and later.
fn takes_constraints(message: &Message) -> bool {
    let is_subscribed = message.r#type == Some(event::Type::Subscribed.into());
    let master = message.subscribed.as_ref().and_then(|subscribed| subscribed.master_info.as_ref());
    let version = master.and_then(|master| MesosVersion::parse(master.version()));
    is_subscribed && version.is_some_and(|version| version >= MesosVersion(1, 11))
}

/// How long the master may be silent, as SUBSCRIBED says.
fn heartbeat_interval(message: &Message) -> Option<Duration> {
    let is_subscribed = message.r#type == Some(event::Type::Subscribed.into());
    let seconds = message.subscribed.as_ref().filter(|_| is_subscribed)?.heartbeat_interval_seconds?;
    Duration::try_from_secs_f64(seconds * MISSED).ok().filter(|interval| !interval.is_zero())
}

/// The server in a `Location`, which Mesos writes as `//host:port/path`; none when it is no address, or would send our
/// credentials without the TLS that they came with.
fn redirected(location: &str, tls: bool) -> Option<Server> {
    let (scheme, rest) = location.split_once("//")?;
    let tls = match scheme {
        "" => tls,
        "https:" => true,
        "http:" if !tls => false,
        _ => return None,
    };
    let authority = rest.split('/').next()?;
    let parsed: http::uri::Authority = authority.parse().ok()?;
    let is_address = parsed.port_u16().is_some() && !parsed.host().is_empty() && !authority.contains('@');
    is_address.then(|| Server { tls, authority: authority.to_owned() })
}

pub(super) async fn body_text(response: Response) -> String {
    match timeout(BODY, response.bytes(64 * 1024)).await {
        Ok(Ok(bytes)) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        _ => String::new(),
    }
}

/// Doubles from half a second, and is spread so that not all frameworks come back at once.
pub(super) fn backoff(failures: u32) -> Duration {
    let longest = Duration::from_millis(500).saturating_mul(2_u32.saturating_pow(failures.min(16)));
    longest.min(LONGEST_BACKOFF).mul_f64(rand::rng().random_range(0.2..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_keep_the_scheme_or_raise_it() {
        let server = |tls, authority: &str| Some(Server { tls, authority: authority.to_owned() });
        assert_eq!(redirected("//10.0.0.2:5050/api/v1/scheduler", false), server(false, "10.0.0.2:5050"));
        assert_eq!(redirected("//10.0.0.2:5050/api/v1/scheduler", true), server(true, "10.0.0.2:5050"));
        assert_eq!(redirected("http://10.0.0.2:5050", false), server(false, "10.0.0.2:5050"));
        assert_eq!(redirected("https://10.0.0.2:5050", false), server(true, "10.0.0.2:5050"));
        for (location, tls) in [
            ("http://10.0.0.2:5050", true),
            ("/elsewhere", false),
            ("//nowhere/", false),
            ("//user@10.0.0.2:5050/", false),
            ("ftp://10.0.0.2:5050", false),
        ] {
            assert_eq!(redirected(location, tls), None, "{location}");
        }
    }

    #[test]
    fn backoff_grows_to_its_bound_and_is_spread() {
        // Of 300 evenly spread waits, one misses a tenth of the range once in 10^13 runs.
        for (failures, longest) in [(0, 0.5), (1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 15.0), (40, 15.0)] {
            let waits: Vec<f64> = (0..300).map(|_| backoff(failures).as_secs_f64()).collect();
            let (least, most) = waits
                .iter()
                .fold((f64::MAX, 0.0), |(least, most): (f64, f64), wait| (least.min(*wait), most.max(*wait)));
            assert!(least >= 0.2 * longest && most <= longest, "{failures}: {least} to {most}");
            assert!(
                least < 0.28 * longest && most > 0.92 * longest,
                "{failures}: {least} to {most} is no spread"
            );
        }
    }
}
