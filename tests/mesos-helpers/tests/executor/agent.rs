//! A strict agent for one executor, over real HTTP on loopback.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use mesos_v1::{
    AgentInfo, DurationInfo, FrameworkInfo, KillPolicy, TaskInfo, TaskState, TaskStatus,
    executor::{Call, Event, call, event},
    framework_info::{Capability, capability},
    recordio::RecordEncoder,
    task_status::Source,
};
use prost::Message as _;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    runtime::{self, Runtime},
    sync::mpsc,
    time::timeout,
};
use tokio_util::codec::Encoder as _;

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the executor said.
#[derive(Debug)]
pub enum Said {
    Subscribe(call::Subscribe),
    Update(Box<TaskStatus>),
}

type Stream = mpsc::UnboundedSender<Result<Bytes, std::convert::Infallible>>;

#[derive(Default)]
struct Subscription {
    stream: Option<Stream>,
    confirmed: bool,
}

struct Shared {
    said: mpsc::UnboundedSender<Said>,
    subscription: Mutex<Subscription>,
}

/// The agent: its server can be stopped and started again at the same address.
pub struct Agent {
    address: SocketAddr,
    server: Option<Runtime>,
    shared: Arc<Shared>,
    said: mpsc::UnboundedReceiver<Said>,
    set_aside: VecDeque<Said>,
}

impl Agent {
    pub async fn start() -> Self {
        // A loopback address of this process's own: while the agent is away, nobody else's connection gets its port.
        let [.., high, low] = std::process::id().to_be_bytes();
        let listener = TcpListener::bind((Ipv4Addr::new(127, 100, high, low), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (sender, said) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { said: sender, subscription: Mutex::default() });
        let mut agent = Self { address, server: None, shared, said, set_aside: VecDeque::new() };
        agent.resume();
        agent
    }

    /// Starts the server, in a runtime of its own so that it can be cut off with all connections.
    pub fn resume(&mut self) {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&self.shared));
        let address = self.address;
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        self.server = Some(runtime);
    }

    /// Cuts every connection and refuses new ones.
    pub fn stop(&mut self) {
        *self.shared.subscription.lock().unwrap() = Subscription::default();
        if let Some(server) = self.server.take() {
            // Only then is the port free; and no runtime may be waited for within another.
            std::thread::spawn(move || server.shutdown_timeout(PATIENCE)).join().unwrap();
        }
    }

    /// Starts the executor as an agent does.
    pub fn executor(&self, variables: &[(&str, &str)]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesos-executor"));
        command
            .arg("--launcher_dir=/opt/mesos/bin")
            .env("MESOS_AGENT_ENDPOINT", self.address.to_string())
            .env("MESOS_FRAMEWORK_ID", "f")
            .env("MESOS_EXECUTOR_ID", "t")
            .env("MESOS_CHECKPOINT", "1")
            .env("MESOS_RECOVERY_TIMEOUT", "15mins")
            .env("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5secs")
            .envs(variables.iter().copied())
            .kill_on_drop(true);
        command.spawn().unwrap()
    }

    async fn hear(&mut self) -> Said {
        if let Some(said) = self.set_aside.pop_front() {
            return said;
        }
        timeout(PATIENCE, self.said.recv()).await.expect("the executor said nothing").unwrap()
    }

    /// The next SUBSCRIBE, which is confirmed.
    pub async fn subscription(&mut self) -> call::Subscribe {
        self.subscription_with(&[]).await
    }

    pub async fn subscription_with(&mut self, capabilities: &[capability::Type]) -> call::Subscribe {
        let Said::Subscribe(subscribe) = self.hear().await else { panic!("expected SUBSCRIBE") };
        let capability = |kind: &capability::Type| Capability { r#type: Some((*kind).into()) };
        self.send(&Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(event::Subscribed {
                framework_info: FrameworkInfo {
                    capabilities: capabilities.iter().map(capability).collect(),
                    ..Default::default()
                },
                agent_info: AgentInfo { hostname: "test".into(), ..Default::default() },
                ..Default::default()
            }),
            ..Default::default()
        });
        self.shared.subscription.lock().unwrap().confirmed = true;
        subscribe
    }

    /// The next update, which is not acknowledged.
    pub async fn update(&mut self) -> TaskStatus {
        match self.hear().await {
            Said::Update(status) => *status,
            Said::Subscribe(_) => panic!("expected an update, not SUBSCRIBE"),
        }
    }

    /// The next update, which must have this state and is acknowledged.
    pub async fn expect(&mut self, state: TaskState) -> TaskStatus {
        let status = self.update().await;
        assert_eq!(status.state(), state, "{status:?}");
        self.acknowledge(&status);
        status
    }

    pub fn acknowledge(&self, status: &TaskStatus) {
        self.send(&Event {
            r#type: Some(event::Type::Acknowledged.into()),
            acknowledged: Some(event::Acknowledged {
                task_id: status.task_id.clone(),
                uuid: status.uuid.clone().unwrap(),
            }),
            ..Default::default()
        });
    }

    pub fn launch(&self, task: TaskInfo) {
        self.send(&Event {
            r#type: Some(event::Type::Launch.into()),
            launch: Some(event::Launch { task }),
            ..Default::default()
        });
    }

    pub fn kill(&self, grace: Option<Duration>) {
        let grace_period = grace.map(|g| DurationInfo { nanoseconds: g.as_nanos().try_into().unwrap() });
        self.send(&Event {
            r#type: Some(event::Type::Kill.into()),
            kill: Some(event::Kill { task_id: "t".into(), kill_policy: Some(KillPolicy { grace_period }) }),
            ..Default::default()
        });
    }

    pub fn event(&self, kind: event::Type) {
        self.send(&Event { r#type: Some(kind.into()), ..Default::default() });
    }

    fn send(&self, event: &Event) {
        let mut record = bytes::BytesMut::new();
        RecordEncoder.encode(event.encode_to_vec(), &mut record).unwrap();
        let subscription = self.shared.subscription.lock().unwrap();
        let stream = subscription.stream.as_ref().expect("a subscription");
        stream.send(Ok(record.freeze())).unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits for the end of an executor and tells its exit status.
pub async fn exit_status(executor: &mut Child) -> i32 {
    let status = timeout(PATIENCE, executor.wait()).await.expect("the executor did not end");
    status.unwrap().code().expect("an exit status")
}

fn refuse(reason: &str) -> Response {
    eprintln!("fake agent: {reason}");
    (StatusCode::BAD_REQUEST, reason.to_owned()).into_response()
}

/// What is wrong with the head of a request.
fn fault(request: &Request) -> Option<StatusCode> {
    if request.method() != "POST" || request.uri().path() != "/slave(1)/api/v1/executor" {
        return Some(StatusCode::NOT_FOUND);
    }
    let protobuf = |name| request.headers().get(name).is_some_and(|value| value == mesos_v1::PROTOBUF);
    (!protobuf("content-type") || !protobuf("accept")).then_some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if let Some(fault) = fault(&request) {
        return fault.into_response();
    }
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let Ok(call) = Call::decode(body) else { return refuse("no call") };
    if call.framework_id.value != "f" || call.executor_id.value != "t" {
        return refuse("unknown executor");
    }
    match (call.r#type(), call.subscribe, call.update) {
        (call::Type::Subscribe, Some(subscribe), None) => {
            let (stream, mut records) = mpsc::unbounded_channel();
            *shared.subscription.lock().unwrap() = Subscription { stream: Some(stream), confirmed: false };
            let _ = shared.said.send(Said::Subscribe(subscribe));
            let body = futures::stream::poll_fn(move |cx| records.poll_recv(cx));
            Body::from_stream(body).into_response()
        }
        (call::Type::Update, None, Some(update)) => {
            let status = update.status;
            if !shared.subscription.lock().unwrap().confirmed {
                return (StatusCode::FORBIDDEN, "not subscribed").into_response();
            }
            if status.uuid().len() != 16
                || status.timestamp.is_none()
                || status.source() != Source::Executor
                || status.executor_id.as_ref().is_none_or(|id| id.value != "t")
                || status.task_id.value.is_empty()
            {
                return refuse(&format!("incomplete status {status:?}"));
            }
            let _ = shared.said.send(Said::Update(Box::new(status)));
            StatusCode::ACCEPTED.into_response()
        }
        _ => refuse("a call without its body"),
    }
}
