//! Between a scheduler's process and everything else: what it asks of others, at what time by its own clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use calico_scheduler::core::{TaskId, Timestamp};
use calico_scheduler::driver::Clock;
use calico_scheduler::state::StoreError;
use fake_master::Answer;
use mesos_v1::master::response::GetAgents;
use mesos_v1::scheduler::{Call, Event};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::etcd;

/// What a process asks of others.
#[derive(Debug)]
pub enum Request {
    Etcd(etcd::Request),
    Subscribe(Box<Call>),
    Call {
        stream: Arc<str>,
        call: Box<Call>,
    },
    /// The event stream is no longer read.
    Hangup {
        stream: Arc<str>,
    },
    Agents,
    LastWords(TaskId),
}

/// An answer. One that is lost never comes.
pub enum Reply {
    Etcd(Result<etcd::Answer, StoreError>),
    /// A subscription and its events; the end of these is the end of the stream.
    Subscribed(Answer, mpsc::UnboundedReceiver<Event>),
    Answered(Answer),
    /// The connection broke first.
    Unanswered,
    Agents(Option<GetAgents>),
    LastWords(Option<String>),
}

impl std::fmt::Debug for Reply {
    /// Without what differs from run to run: addresses in memory.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Etcd(answer) => write!(f, "{answer:?}"),
            Self::Subscribed(answer, _) | Self::Answered(answer) => write!(f, "{answer:?}"),
            Self::Unanswered => write!(f, "nothing"),
            Self::Agents(agents) => write!(f, "{agents:?}"),
            Self::LastWords(words) => write!(f, "{words:?}"),
        }
    }
}

/// A request on its way.
#[derive(Debug)]
pub struct Posted {
    /// When it was posted: the process may be a little ahead.
    pub at: Duration,
    pub request: Request,
    pub reply: oneshot::Sender<Reply>,
}

/// The process dies with the request, or the operation of its disk, that comes after so many others.
#[derive(Debug, Clone, Copy)]
pub struct Fuse {
    pub requests: u64,
    /// Whether that request still goes out.
    pub goes_out: bool,
}

/// By how many milliseconds the wall clock of a scheduler's machine is wrong.
pub type Skew = Arc<AtomicI64>;

/// The process' end of everything.
#[derive(Debug, Clone)]
pub struct Wire(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    posted: Notify,
    /// The world's time when the process began, and its own.
    begin: (Duration, Instant),
    skew: Skew,
}

#[derive(Debug, Default)]
struct State {
    outbox: Vec<Posted>,
    dead: bool,
    fuse: Option<Fuse>,
}

impl State {
    /// Whether what comes next is still done, and the process then lives or not.
    fn burns(&mut self) -> bool {
        match &mut self.fuse {
            _ if self.dead => false,
            None => true,
            Some(Fuse { requests: 0, goes_out }) => {
                self.dead = true;
                *goes_out
            }
            Some(fuse) => {
                fuse.requests -= 1;
                true
            }
        }
    }
}

impl Wire {
    /// In the process' runtime, which begins now.
    pub fn new(now: Duration, skew: Skew) -> Self {
        let begin = (now, Instant::now());
        Self(Arc::new(Inner { state: Mutex::default(), posted: Notify::new(), begin, skew }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// The world's time, as far as the process has come: called in its runtime.
    pub fn now(&self) -> Duration {
        let (world, own) = self.0.begin;
        world + (Instant::now() - own)
    }

    /// The world's time as an instant of the process.
    pub fn instant(&self, at: Duration) -> Instant {
        let (world, own) = self.0.begin;
        own + at.saturating_sub(world)
    }

    /// Sends a request.
    pub fn post(&self, request: Request) -> oneshot::Receiver<Reply> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.state();
        // Also while the runtime is dropped, when there is no clock any more.
        if state.dead {
            return answer;
        }
        if state.burns() {
            let at = self.now();
            state.outbox.push(Posted { at, request, reply });
        }
        self.0.posted.notify_one();
        answer
    }

    /// Whether an operation of the disk is still done.
    pub fn operation(&self) -> bool {
        let mut state = self.state();
        let done = state.burns();
        if state.dead {
            self.0.posted.notify_one();
        }
        done
    }

    /// Sends a request, and waits for its answer: for ever, when that is lost.
    pub async fn ask(&self, request: Request) -> Reply {
        match self.post(request).await {
            Ok(reply) => reply,
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns when something was posted.
    pub async fn posted(&self) {
        self.0.posted.notified().await;
    }

    pub fn take(&self) -> Vec<Posted> {
        std::mem::take(&mut self.state().outbox)
    }

    pub fn set_fuse(&self, fuse: Fuse) {
        self.state().fuse = Some(fuse);
    }

    /// Nothing is sent any more.
    pub fn kill(&self) {
        self.state().dead = true;
    }

    /// Whether the process is to die now.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }
}

impl Clock for Wire {
    fn now(&self) -> Timestamp {
        let now = i64::try_from(Wire::now(self).as_millis()).unwrap();
        Timestamp((now + self.0.skew.load(Ordering::Relaxed)).try_into().unwrap())
    }
}

impl etcd::Ask for Wire {
    async fn ask(&self, request: etcd::Request) -> Result<etcd::Answer, StoreError> {
        match Self::ask(self, Request::Etcd(request)).await {
            Reply::Etcd(answer) => answer,
            other => panic!("etcd answered {other:?}"),
        }
    }
}
