//! The framework itself: one loop over the master's events and the commands of the probe.

use std::time::Duration;

use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mesos_v1::{
    DurationInfo, Filters, FrameworkId, FrameworkInfo, KillPolicy, Offer, TaskId, TaskStatus,
    framework_info::{Capability, capability},
    http::{Connection, HttpError, Records},
    offer::{Operation, operation},
    recordio::{DEFAULT_MAX_RECORD, RecordError},
    scheduler::{Call, Event, call, event},
};
use prost::Message as _;
use tokio::sync::mpsc;

use super::{ProbeTask, Shared, agent_address, offers};

const PATH: &str = "/api/v1/scheduler";
const STREAM_ID: HeaderName = HeaderName::from_static("mesos-stream-id");
const LIMIT: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 64 * 1024;
const MAX_REDIRECTS: usize = 5;
/// On public agents all resources are reserved for `slave_public`.
const ROLES: [&str; 2] = ["*", "slave_public"];
/// An offer that does not fit is soon offered again, meanwhile to others.
const REFUSE_SECONDS: f64 = 1.0;

/// What the probe asks of its framework.
#[derive(Debug)]
pub(super) enum Command {
    Launch(TaskId, Box<ProbeTask>),
    Kill(TaskId, Option<Duration>),
    Close,
}

/// Why the framework ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum DriverError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("{master} answered {call} with {status}: {reason}")]
    Refused { master: String, call: &'static str, status: StatusCode, reason: String },
    #[error("too many redirects from master to master")]
    Redirects,
    #[error("the subscription broke: {0}")]
    Record(#[from] RecordError),
    #[error("the master sent a record that is no event: {0}")]
    Event(#[from] prost::DecodeError),
    #[error("the master ended the subscription")]
    StreamEnded,
    #[error("the master says: {0}")]
    Master(String),
}

/// Runs the framework until it is closed or the master ends it.
pub(super) async fn drive(
    shared: &Shared,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> Result<(), DriverError> {
    let (master, headers, mut events) = subscribe(&shared.master).await?;
    let mut driver = Driver {
        shared,
        master,
        headers,
        calls: None,
        framework_id: FrameworkId::default(),
        waiting: Vec::new(),
    };
    loop {
        tokio::select! {
            record = events.next() => {
                let record = record.ok_or(DriverError::StreamEnded)??;
                driver.on_event(Event::decode(record)?).await?;
            }
            command = commands.recv() => match command {
                Some(Command::Launch(id, task)) => driver.want(id, *task).await?,
                Some(Command::Kill(id, grace)) => driver.kill(id, grace).await?,
                Some(Command::Close) | None => {
                    return driver.call(call::Type::Teardown, Call::default()).await;
                }
            },
        }
    }
}

async fn subscribe(master: &str) -> Result<(String, HeaderMap, Records), DriverError> {
    let capability = |kind: capability::Type| Capability { r#type: Some(kind.into()) };
    let subscribe = call::Subscribe {
        framework_info: FrameworkInfo {
            user: "root".into(),
            name: "probe".into(),
            checkpoint: Some(true),
            failover_timeout: Some(0.0),
            roles: ROLES.map(Into::into).into(),
            capabilities: [
                capability::Type::MultiRole,
                capability::Type::PartitionAware,
                capability::Type::ReservationRefinement,
                capability::Type::RegionAware,
            ]
            .map(capability)
            .into(),
            ..Default::default()
        },
        suppressed_roles: ROLES.map(Into::into).into(),
        ..Default::default()
    };
    let call =
        Call { r#type: Some(call::Type::Subscribe.into()), subscribe: Some(subscribe), ..Default::default() };
    let mut authority = master.to_owned();
    for _ in 0..MAX_REDIRECTS {
        let mut connection = Connection::open(&authority, LIMIT).await?;
        let response = connection.post(PATH, &HeaderMap::new(), call.encode_to_vec(), LIMIT).await?;
        if response.status == StatusCode::OK {
            let stream_id = response.headers.get(STREAM_ID).cloned();
            let stream_id = stream_id.unwrap_or(HeaderValue::from_static(""));
            let headers = HeaderMap::from_iter([(STREAM_ID, stream_id)]);
            return Ok((authority, headers, response.records(DEFAULT_MAX_RECORD)));
        }
        // A master that does not lead answers `//host:port/path`.
        let leader =
            response.header("location").filter(|_| response.status == StatusCode::TEMPORARY_REDIRECT);
        let leader = leader.and_then(|location| location.split_once("//")?.1.split('/').next());
        match leader.map(ToOwned::to_owned) {
            Some(leader) => authority = leader,
            None => return Err(refused(authority, "SUBSCRIBE", response).await),
        }
    }
    Err(DriverError::Redirects)
}

async fn refused(master: String, call: &'static str, response: mesos_v1::http::Response) -> DriverError {
    let status = response.status;
    let body = tokio::time::timeout(LIMIT, response.bytes(MAX_ANSWER)).await;
    let reason = body.ok().and_then(Result::ok).unwrap_or_default();
    DriverError::Refused { master, call, status, reason: String::from_utf8_lossy(&reason).into_owned() }
}

struct Driver<'a> {
    shared: &'a Shared,
    master: String,
    headers: HeaderMap,
    /// Kept between calls.
    calls: Option<Connection>,
    framework_id: FrameworkId,
    /// Tasks without an offer yet.
    waiting: Vec<(TaskId, ProbeTask)>,
}

impl Driver<'_> {
    async fn on_event(&mut self, event: Event) -> Result<(), DriverError> {
        match event.r#type() {
            event::Type::Subscribed => {
                self.framework_id = event.subscribed.unwrap_or_default().framework_id;
                self.shared.update(|state| state.subscribed = true);
            }
            event::Type::Offers => {
                for offer in event.offers.unwrap_or_default().offers {
                    self.on_offer(offer).await?;
                }
                if self.waiting.is_empty() {
                    self.suppress().await?;
                }
            }
            event::Type::Update => {
                let status = event.update.unwrap_or_default().status;
                self.acknowledge(&status).await?;
                self.shared.update(|state| {
                    if let Some(seen) = state.tasks.get_mut(&status.task_id.value) {
                        seen.status = Some(status);
                    }
                });
            }
            event::Type::Error => {
                return Err(DriverError::Master(event.error.unwrap_or_default().message));
            }
            _ => {}
        }
        Ok(())
    }

    async fn want(&mut self, id: TaskId, task: ProbeTask) -> Result<(), DriverError> {
        self.waiting.push((id, task));
        let roles = ROLES.map(Into::into).into();
        self.call(call::Type::Revive, Call { revive: Some(call::Revive { roles }), ..Default::default() })
            .await
    }

    async fn suppress(&mut self) -> Result<(), DriverError> {
        let roles = ROLES.map(Into::into).into();
        let suppress = Call { suppress: Some(call::Suppress { roles }), ..Default::default() };
        self.call(call::Type::Suppress, suppress).await
    }

    /// Launches a task that waits for this agent, or gives the offer back.
    async fn on_offer(&mut self, offer: Offer) -> Result<(), DriverError> {
        let filters = Some(Filters { refuse_seconds: Some(REFUSE_SECONDS) });
        let mut chosen = None;
        for (position, (id, task)) in self.waiting.iter().enumerate() {
            if task.hostname != offer.hostname {
                continue;
            }
            match offers::task_info(id, task, &offer) {
                Ok(info) => {
                    chosen = Some((position, info));
                    break;
                }
                Err(why) => self.shared.update(|state| {
                    if let Some(seen) = state.tasks.get_mut(&id.value) {
                        seen.waiting = Some(why);
                    }
                }),
            }
        }
        let Some((position, info)) = chosen else {
            let decline = call::Decline { offer_ids: vec![offer.id], filters };
            return self
                .call(call::Type::Decline, Call { decline: Some(decline), ..Default::default() })
                .await;
        };
        let (id, _) = self.waiting.remove(position);
        let agent = agent_address(&offer);
        self.shared.update(|state| {
            if let Some(seen) = state.tasks.get_mut(&id.value) {
                seen.agent = agent;
            }
        });
        let launch = Operation {
            r#type: Some(operation::Type::Launch.into()),
            launch: Some(operation::Launch { task_infos: vec![info] }),
            ..Default::default()
        };
        let accept = call::Accept { offer_ids: vec![offer.id], operations: vec![launch], filters };
        self.call(call::Type::Accept, Call { accept: Some(accept), ..Default::default() }).await
    }

    async fn kill(&mut self, id: TaskId, grace: Option<Duration>) -> Result<(), DriverError> {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        let kill_policy = grace.map(|grace| KillPolicy {
            grace_period: Some(DurationInfo { nanoseconds: grace.as_nanos().try_into().unwrap_or(i64::MAX) }),
        });
        let kill = call::Kill { task_id: id, agent_id: None, kill_policy };
        self.call(call::Type::Kill, Call { kill: Some(kill), ..Default::default() }).await
    }

    async fn acknowledge(&mut self, status: &TaskStatus) -> Result<(), DriverError> {
        let (Some(uuid), Some(agent_id)) = (status.uuid.clone(), status.agent_id.clone()) else {
            return Ok(());
        };
        let acknowledge = call::Acknowledge { agent_id, task_id: status.task_id.clone(), uuid };
        let call = Call { acknowledge: Some(acknowledge), ..Default::default() };
        self.call(call::Type::Acknowledge, call).await
    }

    async fn call(&mut self, kind: call::Type, call: Call) -> Result<(), DriverError> {
        let call = Call { framework_id: Some(self.framework_id.clone()), r#type: Some(kind.into()), ..call };
        let mut connection = match self.calls.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => Connection::open(&self.master, LIMIT).await?,
        };
        let response = connection.post(PATH, &self.headers, call.encode_to_vec(), LIMIT).await?;
        if response.status != StatusCode::ACCEPTED {
            return Err(refused(self.master.clone(), kind.as_str_name(), response).await);
        }
        response.bytes(MAX_ANSWER).await?;
        self.calls = Some(connection);
        Ok(())
    }
}
