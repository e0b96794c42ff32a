//! The world over HTTP on the loopback, in real time: for clients and whole schedulers.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use futures::stream;
use mesos_v1::PROTOBUF;
use mesos_v1::recordio::RecordEncoder;
use mesos_v1::scheduler::{Call, Event, call, event};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::codec::Encoder as _;

use crate::settings::Time;
use crate::world::{Happening, World};

const SCHEDULER: &str = "/api/v1/scheduler";
const OPERATOR: &str = "/api/v1";
/// Accepts and declines of tens of thousands of offers.
const LONGEST_CALL: usize = 64 * 1024 * 1024;

/// A server of the scheduler API and of the operator API. It ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    /// `host:port`.
    pub authority: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// What has passed through a server.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// Calls of the scheduler API, whatever became of them: how many of each kind.
    pub calls: BTreeMap<call::Type, u64>,
    /// When the first of a kind came.
    pub first: BTreeMap<call::Type, Instant>,
    /// Events that were sent: how many of each kind.
    pub events: BTreeMap<event::Type, u64>,
    /// Calls of the operator API.
    pub operator: u64,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    /// The next time is another one now.
    changed: Notify,
    /// When the world had this time.
    began: (Instant, Time),
}

#[derive(Debug)]
struct Inner {
    world: World,
    streams: HashMap<Arc<str>, mpsc::UnboundedSender<Event>>,
    traffic: Traffic,
}

impl Server {
    /// Serves `world`, whose time goes on from now.
    pub async fn start(world: World) -> io::Result<Self> {
        let began = (Instant::now(), world.now());
        let inner = Mutex::new(Inner { world, streams: HashMap::new(), traffic: Traffic::default() });
        let shared = Arc::new(Shared { inner, changed: Notify::new(), began });
        let routes = Router::new()
            .route(SCHEDULER, any(scheduler))
            .route(OPERATOR, any(operator))
            .layer(axum::extract::DefaultBodyLimit::max(LONGEST_CALL))
            .with_state(Arc::clone(&shared));
        let clock = run(Arc::clone(&shared));
        Self::serve(shared, routes, clock).await
    }

    /// A master that does not lead: it sends everybody to `leader`, or says that there is none.
    pub async fn following(leader: Option<&str>) -> io::Result<Self> {
        let leader = leader.map(str::to_owned);
        let redirect = async move |uri: Uri| match &leader {
            // Mesos names no scheme.
            Some(leader) => {
                let location = format!("//{leader}{}", uri.path());
                (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
            }
            None => (StatusCode::SERVICE_UNAVAILABLE, "No leader elected").into_response(),
        };
        let world = World::new(Time::ZERO, 0, crate::Settings::default());
        let inner = Mutex::new(Inner { world, streams: HashMap::new(), traffic: Traffic::default() });
        let shared = Arc::new(Shared { inner, changed: Notify::new(), began: (Instant::now(), Time::ZERO) });
        Self::serve(shared, Router::new().fallback(redirect), std::future::pending()).await
    }

    async fn serve(
        shared: Arc<Shared>,
        routes: Router,
        clock: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let authority = listener.local_addr()?.to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(clock);
        tasks.spawn(async move {
            // It serves until it is dropped.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { authority, shared, _tasks: tasks })
    }

    /// What has passed through so far.
    pub fn traffic(&self) -> Traffic {
        self.shared.lock().traffic.clone()
    }

    /// Looks at the world, or changes it, as it is now.
    pub fn with<R>(&self, act: impl FnOnce(&mut World) -> R) -> R {
        self.shared.now(|inner| act(&mut inner.world))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self) -> Time {
        self.began.1 + self.began.0.elapsed()
    }

    /// Acts at this time, and sends what follows.
    fn now<R>(&self, act: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.lock();
        let time = self.time();
        inner.pass(time);
        let result = act(&mut inner);
        inner.pass(time);
        self.changed.notify_one();
        result
    }
}

impl Inner {
    fn pass(&mut self, to: Time) {
        for (_, happening) in self.world.advance(to) {
            match happening {
                Happening::Event { stream, event } => {
                    // A reader that is gone is seen when its stream is dropped.
                    if let Some(stream) = self.streams.get(&stream) {
                        *self.traffic.events.entry(event.r#type()).or_default() += 1;
                        let _ = stream.send(*event);
                    }
                }
                Happening::Closed { stream } => drop(self.streams.remove(&stream)),
                // Calls come over HTTP, which answers them itself.
                Happening::Answered { .. } | Happening::Unanswered { .. } => {}
            }
        }
    }
}

/// Lets the world's time go on.
async fn run(shared: Arc<Shared>) {
    loop {
        let next = {
            let mut inner = shared.lock();
            let time = shared.time();
            inner.pass(time);
            inner.world.next_time().map(|next| next.saturating_sub(time))
        };
        match next {
            Some(wait) => tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shared.changed.notified() => {}
            },
            None => shared.changed.notified().await,
        }
    }
}

fn refuse(status: StatusCode, body: impl Into<String>) -> Response {
    (status, body.into()).into_response()
}

/// A message of a request that has the right method and content type.
fn decode<M: prost::Message + Default>(
    method: &Method,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<M, Box<Response>> {
    if *method != Method::POST {
        let body = format!("405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{method}'.");
        return Err(Box::new(refuse(StatusCode::METHOD_NOT_ALLOWED, body)));
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return Err(Box::new(refuse(StatusCode::BAD_REQUEST, "Expecting 'Content-Type' to be present")));
    };
    if kind != PROTOBUF {
        let body = format!("Expecting 'Content-Type' of application/json or {PROTOBUF}");
        return Err(Box::new(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, body)));
    }
    M::decode(body)
        .map_err(|_| Box::new(refuse(StatusCode::BAD_REQUEST, "Failed to parse body into Call protobuf")))
}

async fn scheduler(
    State(shared): State<Arc<Shared>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call: Call = match decode(&method, &headers, body) {
        Ok(call) => call,
        Err(refusal) => return *refusal,
    };
    let stream = headers.get("Mesos-Stream-Id").map(|id| id.to_str().unwrap_or("?").to_owned());
    let (sender, receiver) = mpsc::unbounded_channel();
    let answer = shared.now(|inner| {
        *inner.traffic.calls.entry(call.r#type()).or_default() += 1;
        inner.traffic.first.entry(call.r#type()).or_insert_with(Instant::now);
        let answer = inner.world.call(stream.as_deref(), &call);
        if let Some(stream) = &answer.stream {
            inner.streams.insert(Arc::clone(stream), sender);
        }
        answer
    });
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match answer.stream {
        Some(id) if call.r#type() == call::Type::Subscribe => {
            let reader = Reader { id: Arc::clone(&id), shared, receiver };
            let headers = [("Content-Type", PROTOBUF.to_owned()), ("Mesos-Stream-Id", id.to_string())];
            (status, headers, Body::from_stream(stream::unfold(reader, next_record))).into_response()
        }
        _ => refuse(status, answer.body),
    }
}

/// The master's end of an event stream. Dropped when the scheduler closes it.
struct Reader {
    id: Arc<str>,
    shared: Arc<Shared>,
    receiver: mpsc::UnboundedReceiver<Event>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.now(|inner| {
            inner.streams.remove(&self.id);
            inner.world.disconnect(&self.id);
        });
    }
}

async fn next_record(mut reader: Reader) -> Option<(Result<Bytes, Infallible>, Reader)> {
    let event = reader.receiver.recv().await?;
    let mut record = bytes::BytesMut::new();
    // Only reading fails.
    let _ = RecordEncoder.encode(event.encode_to_vec(), &mut record);
    Some((Ok(record.freeze()), reader))
}

async fn operator(
    State(shared): State<Arc<Shared>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = match decode(&method, &headers, body) {
        Ok(call) => call,
        Err(refusal) => return *refusal,
    };
    let answer = shared.now(|inner| {
        inner.traffic.operator += 1;
        inner.world.operator(&call)
    });
    match answer {
        Ok(response) => ([(header::CONTENT_TYPE, PROTOBUF)], response.encode_to_vec()).into_response(),
        Err((status, body)) => {
            refuse(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
        }
    }
}
