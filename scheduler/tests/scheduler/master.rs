//! A small, strict master on the loopback: it takes no call that a real one would refuse, and keeps what came.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures::stream;
use mesos_v1 as mesos;
use mesos_v1::master::{self, response};
use mesos_v1::scheduler::{Call, Event, call, event};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What a test waits for at most.
pub const SOON: Duration = Duration::from_secs(20);
/// The ID that the master gives to a framework without one.
pub const FRAMEWORK: &str = "F1";
/// The one agent that is listed.
pub const AGENT: &str = "S1";

/// What came in, in this order.
#[derive(Debug)]
pub enum Seen {
    Subscribe(Call),
    Call(Call),
    Redirected,
}

impl Seen {
    pub fn kind(&self) -> Option<call::Type> {
        match self {
            Self::Subscribe(call) | Self::Call(call) => Some(call.r#type()),
            Self::Redirected => None,
        }
    }
}

type Events = mpsc::UnboundedSender<Bytes>;

struct Shared {
    seen: mpsc::UnboundedSender<Seen>,
    /// The open subscription: its stream ID, and where its events go.
    stream: Mutex<Option<(String, Events)>>,
    subscriptions: Mutex<u32>,
    heartbeat_seconds: f64,
    /// Answers to calls, instead of 202.
    refusal: Mutex<Option<StatusCode>>,
    /// What SUBSCRIBED says of the master.
    version: Mutex<Option<&'static str>>,
    /// Answers to SUBSCRIBE, instead of the event stream.
    no_entry: Mutex<Option<(StatusCode, &'static str)>>,
}

pub struct Master {
    pub authority: String,
    seen: mpsc::UnboundedReceiver<Seen>,
    shared: Arc<Shared>,
}

impl Master {
    /// A master that leads, and sends no heartbeats, whatever it promises.
    pub async fn leading(heartbeat_seconds: f64) -> Self {
        let routes =
            Router::new().route("/api/v1/scheduler", post(scheduler)).route("/api/v1", post(operator));
        Self::serve(heartbeat_seconds, routes).await
    }

    /// A master that sends everybody to `leader`, as Mesos does: without a scheme.
    pub async fn following(leader: &str) -> Self {
        let location = format!("//{leader}/api/v1/scheduler");
        let redirect = async move |State(shared): State<Arc<Shared>>| {
            let _ = shared.seen.send(Seen::Redirected);
            (StatusCode::TEMPORARY_REDIRECT, [("Location", location)])
        };
        Self::serve(15.0, Router::new().route("/api/v1/scheduler", post(redirect))).await
    }

    async fn serve(heartbeat_seconds: f64, routes: Router<Arc<Shared>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let (sender, seen) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            seen: sender,
            stream: Mutex::default(),
            subscriptions: Mutex::default(),
            heartbeat_seconds,
            refusal: Mutex::default(),
            version: Mutex::default(),
            no_entry: Mutex::default(),
        });
        let service = routes.with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { authority, seen, shared }
    }

    /// The next that came in.
    pub async fn next(&mut self) -> Seen {
        timeout(SOON, self.seen.recv()).await.expect("nothing came in").unwrap()
    }

    /// The next subscription; nothing else may come before.
    pub async fn subscription(&mut self) -> Call {
        match self.next().await {
            Seen::Subscribe(call) => call,
            other => panic!("a SUBSCRIBE was expected: {other:?}"),
        }
    }

    /// The next call, which must be of this kind.
    pub async fn call(&mut self, kind: call::Type) -> Call {
        match self.next().await {
            Seen::Call(call) if call.r#type() == kind => call,
            other => panic!("{kind:?} was expected: {other:?}"),
        }
    }

    /// Nothing comes in for `time`.
    pub async fn nothing(&mut self, time: Duration) {
        if let Ok(seen) = timeout(time, self.seen.recv()).await {
            panic!("nothing was expected: {seen:?}");
        }
    }

    pub fn send(&self, event: &Event) {
        self.write(framed(event));
    }

    /// Writes into the event stream whatever it is.
    pub fn write(&self, bytes: Bytes) {
        let stream = self.shared.stream.lock().unwrap();
        stream.as_ref().expect("nobody is subscribed").1.send(bytes).unwrap();
    }

    /// Ends the event stream.
    pub fn hang_up(&self) {
        *self.shared.stream.lock().unwrap() = None;
    }

    /// Refuses calls with this status, or takes them again.
    pub fn refuse(&self, status: Option<StatusCode>) {
        *self.shared.refusal.lock().unwrap() = status;
    }

    /// Says which Mesos it is, from the next subscription on.
    pub fn is(&self, version: &'static str) {
        *self.shared.version.lock().unwrap() = Some(version);
    }

    /// Sends an ERROR event.
    pub fn error(&self, message: &str) {
        let error = event::Error { message: message.to_owned() };
        self.send(&Event {
            r#type: Some(event::Type::Error.into()),
            error: Some(error),
            ..Default::default()
        });
    }

    /// Refuses subscriptions with this status and body, or takes them again.
    pub fn refuse_subscriptions(&self, answer: Option<(StatusCode, &'static str)>) {
        *self.shared.no_entry.lock().unwrap() = answer;
    }

    /// Offers the agent's resources to the role `*`.
    pub fn offer(&self, id: &str) {
        let scalar = |name: &str, value| mesos::Resource {
            name: name.to_owned(),
            r#type: mesos::value::Type::Scalar.into(),
            scalar: Some(mesos::value::Scalar { value }),
            ..Default::default()
        };
        let offer = mesos::Offer {
            id: id.into(),
            agent_id: AGENT.into(),
            resources: vec![scalar("cpus", 4.0), scalar("mem", 4096.0)],
            ..Default::default()
        };
        self.send(&Event {
            r#type: Some(event::Type::Offers.into()),
            offers: Some(event::Offers { offers: vec![offer] }),
            ..Default::default()
        });
    }

    /// An update that wants to be acknowledged.
    pub fn update(&self, task: &mesos::TaskId, state: mesos::TaskState) {
        let status = mesos::TaskStatus {
            task_id: task.clone(),
            state: Some(state.into()),
            agent_id: Some(AGENT.into()),
            uuid: Some(b"uuid".to_vec().into()),
            ..Default::default()
        };
        self.send(&Event {
            r#type: Some(event::Type::Update.into()),
            update: Some(event::Update { status }),
            ..Default::default()
        });
    }
}

async fn scheduler(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let call = Call::decode(body).expect("a call");
    assert_eq!(header("Content-Type"), Some(mesos::PROTOBUF));
    if call.r#type() == call::Type::Subscribe {
        assert_eq!(header("Mesos-Stream-Id"), None, "a subscription has no stream yet");
        return subscribe(&shared, call);
    }
    let expected = shared.stream.lock().unwrap().as_ref().map(|(id, _)| id.clone());
    let taken = match call.r#type() {
        call::Type::UpdateFramework => StatusCode::OK,
        _ => StatusCode::ACCEPTED,
    };
    let status = match expected {
        _ if call.framework_id.as_ref().is_none_or(|id| id.value != FRAMEWORK) => StatusCode::BAD_REQUEST,
        None => StatusCode::FORBIDDEN,
        Some(id) if header("Mesos-Stream-Id") != Some(&id) => StatusCode::BAD_REQUEST,
        Some(_) => shared.refusal.lock().unwrap().unwrap_or(taken),
    };
    let _ = shared.seen.send(Seen::Call(call));
    status.into_response()
}

fn subscribe(shared: &Shared, call: Call) -> Response {
    let framework = call.subscribe.as_ref().expect("a body").framework_info.clone();
    assert_eq!(framework.id, call.framework_id, "both places of the ID must agree");
    if let Some(answer) = *shared.no_entry.lock().unwrap() {
        return answer.into_response();
    }
    let mut subscriptions = shared.subscriptions.lock().unwrap();
    *subscriptions += 1;
    let id = format!("stream-{subscriptions}");
    let (events, receiver) = mpsc::unbounded_channel();
    let subscribed = Event {
        r#type: Some(event::Type::Subscribed.into()),
        subscribed: Some(event::Subscribed {
            framework_id: FRAMEWORK.into(),
            heartbeat_interval_seconds: Some(shared.heartbeat_seconds),
            master_info: shared.version.lock().unwrap().map(|version| mesos::MasterInfo {
                id: "M1".to_owned(),
                version: Some(version.to_owned()),
                ..Default::default()
            }),
        }),
        ..Default::default()
    };
    events.send(framed(&subscribed)).unwrap();
    *shared.stream.lock().unwrap() = Some((id.clone(), events));
    let _ = shared.seen.send(Seen::Subscribe(call));
    let records = stream::unfold(receiver, async |mut receiver| {
        let bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(bytes), receiver))
    });
    ([("Mesos-Stream-Id", id)], Body::from_stream(records)).into_response()
}

/// An event as a record.
fn framed(event: &Event) -> Bytes {
    let record = event.encode_to_vec();
    [format!("{}\n", record.len()).as_bytes(), &record].concat().into()
}

/// The answer to `GET_AGENTS`: one agent.
async fn operator(body: Bytes) -> Vec<u8> {
    let call = master::Call::decode(body).expect("a call");
    assert_eq!(call.r#type(), master::call::Type::GetAgents);
    let agent = response::get_agents::Agent {
        agent_info: mesos::AgentInfo {
            hostname: "10.0.0.11".to_owned(),
            id: Some(AGENT.into()),
            ..Default::default()
        },
        active: true,
        version: "1.11.0".to_owned(),
        ..Default::default()
    };
    let answer = master::Response {
        r#type: Some(response::Type::GetAgents.into()),
        get_agents: Some(response::GetAgents { agents: vec![agent], ..Default::default() }),
        ..Default::default()
    };
    answer.encode_to_vec()
}
