//! A process' way to the master: what `mesos::Client` does, without sockets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use calico_scheduler::config::Server;
use calico_scheduler::core::{Agent, AgentKey, Event, FrameworkId, TaskId};
use calico_scheduler::mesos::{self, ClientEvent, Link, OperatorError, StreamNumber};
use calico_scheduler::state::Tenure;
use fake_master::Random;
use mesos_v1::FrameworkInfo;
use mesos_v1::master::Response;
use mesos_v1::scheduler::{Call, call};
use prost::Message as _;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::wire::{Reply, Request, Wire};

/// As in `mesos::Client`.
const ANSWER: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(75);

/// See [`Link`].
#[derive(Debug, Clone)]
pub struct Simulated {
    wire: Wire,
    calls: mpsc::Sender<(StreamNumber, Call)>,
    current: Arc<Mutex<Option<Current>>>,
    _tasks: Arc<JoinSet<()>>,
}

#[derive(Debug, Clone)]
struct Current {
    number: StreamNumber,
    stream: Arc<str>,
    framework: FrameworkId,
    /// A call was not taken.
    undelivered: Arc<Notify>,
    is_over: bool,
}

impl Simulated {
    pub fn start(
        wire: Wire,
        framework: FrameworkInfo,
        tenure: Tenure,
        random: Random,
    ) -> (Self, mpsc::Receiver<ClientEvent>) {
        let (calls, queue) = mpsc::channel(4096);
        let (events, receiver) = mpsc::channel(4096);
        let current = Arc::default();
        let mut tasks = JoinSet::new();
        let subscription = Subscription {
            wire: wire.clone(),
            framework,
            tenure: tenure.clone(),
            random,
            events,
            current: Arc::clone(&current),
            streams: 0,
        };
        tasks.spawn(subscription.run());
        tasks.spawn(send_calls(wire.clone(), queue, Arc::clone(&current), tenure));
        (Self { wire, calls, current, _tasks: Arc::new(tasks) }, receiver)
    }
}

impl Link for Simulated {
    async fn send(&self, stream: StreamNumber, call: Call) {
        let _ = self.calls.send((stream, call)).await;
    }

    fn leader(&self) -> Option<Server> {
        let current = self.current.lock().unwrap();
        // Each subscription with a master that may be another one.
        current.as_ref().map(|current| Server { tls: false, authority: current.stream.to_string() })
    }

    async fn agents(&self, _leader: &Server) -> Result<Vec<Agent>, OperatorError> {
        match timeout(ANSWER, self.wire.ask(Request::Agents)).await {
            Ok(Reply::Agents(Some(agents))) => {
                let answer = Response { get_agents: Some(agents), ..Default::default() };
                mesos::listed(&answer.encode_to_vec())
            }
            Ok(_) => Err(OperatorError::Answer("no master leads".to_owned())),
            Err(_) => Err(OperatorError::Slow),
        }
    }

    async fn last_words(&self, _: &AgentKey, _: &FrameworkId, task: &TaskId) -> Option<String> {
        let asked = self.wire.ask(Request::LastWords(task.clone()));
        match timeout(Duration::from_secs(5), asked).await {
            Ok(Reply::LastWords(words)) => words,
            _ => None,
        }
    }
}

struct Subscription {
    wire: Wire,
    framework: FrameworkInfo,
    tenure: Tenure,
    random: Random,
    events: mpsc::Sender<ClientEvent>,
    current: Arc<Mutex<Option<Current>>>,
    streams: u64,
}

/// Tells the master that a stream is no longer read, however that came.
struct Hangup(Wire, Arc<str>);

impl Drop for Hangup {
    fn drop(&mut self) {
        drop(self.0.post(Request::Hangup { stream: Arc::clone(&self.1) }));
    }
}

impl Subscription {
    async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let started = self.wire.now();
            let subscribed = self.attempt().await;
            let was_subscribed = self.current.lock().unwrap().take().is_some();
            if was_subscribed && self.events.send(ClientEvent::Disconnected).await.is_err() {
                return;
            }
            let lasted = subscribed && self.wire.now() >= started + Duration::from_secs(30);
            failures = if lasted { 0 } else { failures + 1 };
            let longest = Duration::from_millis(500 << failures.min(5)).min(Duration::from_secs(15));
            sleep(self.random.between(longest / 5, longest)).await;
        }
    }

    /// Subscribes, and passes events on until that ends: whether there was a subscription.
    async fn attempt(&mut self) -> bool {
        if !self.tenure.holds() {
            return false;
        }
        let call = Call {
            framework_id: self.framework.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info: self.framework.clone(),
                suppressed_roles: self.framework.roles.clone(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let answered = timeout(ANSWER, self.wire.ask(Request::Subscribe(Box::new(call)))).await;
        let Ok(Reply::Subscribed(answer, mut records)) = answered else { return false };
        let (200, Some(stream)) = (answer.status, answer.stream) else { return false };
        let _hangup = Hangup(self.wire.clone(), Arc::clone(&stream));
        self.streams += 1;
        let (number, undelivered) = (StreamNumber(self.streams), Arc::new(Notify::new()));
        loop {
            let message = tokio::select! {
                biased;
                () = undelivered.notified() => return true,
                record = timeout(SILENCE, records.recv()) => match record {
                    Ok(Some(message)) => message,
                    _ => return true,
                },
            };
            let event = match mesos::event(message) {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(error) => panic!("the fake master's events are whole: {error:?}"),
            };
            if let Event::Subscribed(framework) = &event {
                self.framework.id = Some(framework.0.as_str().into());
                *self.current.lock().unwrap() = Some(Current {
                    number,
                    stream: Arc::clone(&stream),
                    framework: framework.clone(),
                    undelivered: Arc::clone(&undelivered),
                    is_over: false,
                });
            }
            if self.events.send(ClientEvent::Event(number, event)).await.is_err() {
                return true;
            }
        }
    }
}

async fn send_calls(
    wire: Wire,
    mut calls: mpsc::Receiver<(StreamNumber, Call)>,
    leader: Arc<Mutex<Option<Current>>>,
    tenure: Tenure,
) {
    while let Some((number, mut call)) = calls.recv().await {
        if !tenure.holds() {
            return;
        }
        let current = leader.lock().unwrap().clone();
        let Some(current) = current.filter(|current| current.number == number && !current.is_over) else {
            continue;
        };
        call.framework_id = Some(current.framework.0.as_str().into());
        let request = Request::Call { stream: Arc::clone(&current.stream), call: Box::new(call) };
        match timeout(ANSWER, wire.ask(request)).await {
            Ok(Reply::Answered(answer)) if answer.status == 202 => {}
            _ => {
                if let Some(now) = leader.lock().unwrap().as_mut().filter(|now| now.number == number) {
                    now.is_over = true;
                }
                current.undelivered.notify_one();
            }
        }
    }
}
