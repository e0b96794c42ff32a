//! A framework under a scenario's hand. All that it does, and all that comes, is recorded.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use mesos_v1::framework_info::{Capability, capability};
use mesos_v1::http::Connection;
use mesos_v1::master::{self, response};
use mesos_v1::offer::{Operation, operation};
use mesos_v1::recordio::DEFAULT_MAX_RECORD;
use mesos_v1::scheduler::{Call, Event, call, event};
use mesos_v1::{CommandInfo, Filters, FrameworkInfo, Offer, PROTOBUF, Resource, TaskInfo, TaskStatus, value};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::record::{self, Names};
use crate::target::Target;

/// What is waited for comes within this.
const SOON: Duration = Duration::from_secs(20);
/// What belongs together comes within this.
const QUIET: Duration = Duration::from_millis(400);
/// Between two looks.
const POLL: Duration = Duration::from_millis(50);
const SCHEDULER: &str = "/api/v1/scheduler";

pub struct Session<'t> {
    pub target: &'t dyn Target,
    pub info: FrameworkInfo,
    pub stream: String,
    /// The offers that are ours.
    pub offers: Vec<Offer>,
    /// The last update of each task, when nothing was done about it yet.
    pub statuses: BTreeMap<String, TaskStatus>,
    names: Names,
    lines: Vec<String>,
    /// None is the end of the stream.
    events: mpsc::UnboundedReceiver<Option<Event>>,
    /// The streams of before.
    old: Vec<mpsc::UnboundedReceiver<Option<Event>>>,
}

/// A request that is not quite a call.
pub fn request(body: Vec<u8>, headers: &[(&'static str, &str)]) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::post(SCHEDULER);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

impl<'t> Session<'t> {
    /// A framework that is not subscribed yet.
    pub fn new(target: &'t impl Target, roles: &[&str]) -> Self {
        use capability::Type;
        let mut names = Names::default();
        names.set(&target.hostname(0), "HOST1");
        names.set(&target.hostname(1), "HOST2");
        let capabilities = [
            Type::MultiRole,
            Type::PartitionAware,
            Type::ReservationRefinement,
            Type::RegionAware,
            Type::GpuResources,
        ];
        let info = FrameworkInfo {
            user: "root".into(),
            name: "fidelity".into(),
            checkpoint: Some(true),
            failover_timeout: Some(600.0),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            capabilities: capabilities.map(|kind| Capability { r#type: Some(kind.into()) }).into(),
            ..Default::default()
        };
        Self {
            target,
            info,
            stream: String::new(),
            offers: Vec::new(),
            statuses: BTreeMap::new(),
            names,
            lines: Vec::new(),
            events: mpsc::unbounded_channel().1,
            old: Vec::new(),
        }
    }

    /// A framework that is subscribed, with the first offers.
    pub async fn subscribed(target: &'t impl Target, roles: &[&str], offers: usize) -> Self {
        let mut session = Self::new(target, roles);
        session.subscribe_for_offers(offers).await;
        session
    }

    /// Ends the framework: what it recorded.
    pub async fn end(mut self) -> Vec<String> {
        self.call(call::Type::Teardown, Call::default()).await;
        self.finish()
    }

    pub fn finish(self) -> Vec<String> {
        self.lines
    }

    pub fn note(&mut self, text: &str) {
        let text = self.names.apply(text);
        self.lines.push(text);
    }

    pub fn id(&self) -> String {
        self.info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default()
    }

    /// The largest offer of a host.
    pub fn offer(&self, host: usize) -> Offer {
        let hostname = self.target.hostname(host);
        let of_host = self.offers.iter().filter(|offer| offer.hostname == hostname);
        let cpus = |offer: &&Offer| {
            let cpus = offer.resources.iter().filter(|resource| resource.name == "cpus");
            cpus.filter_map(|resource| resource.scalar).map(|scalar| scalar.value).sum::<f64>()
        };
        of_host.max_by(|a, b| cpus(a).total_cmp(&cpus(b))).expect("there is no offer").clone()
    }

    /// Sends any request; its status code and body.
    pub async fn send(&mut self, what: &str, request: http::Request<Full<Bytes>>) -> (u16, String) {
        let mut connection = Connection::open(&self.target.master(), SOON).await.unwrap();
        let response = connection.send(request, SOON).await.unwrap();
        let status = response.status.as_u16();
        let body = timeout(SOON, response.bytes(DEFAULT_MAX_RECORD)).await.unwrap().unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        self.note(&format!("> {what}: {status} {body}"));
        (status, body)
    }

    pub async fn raw(&mut self, what: &str, call: &Call, stream: Option<&str>) -> (u16, String) {
        let mut headers = vec![(CONTENT_TYPE.as_str(), PROTOBUF), ("Accept", PROTOBUF)];
        headers.extend(stream.map(|stream| ("Mesos-Stream-Id", stream)));
        self.send(what, request(call.encode_to_vec(), &headers)).await
    }

    pub async fn call(&mut self, kind: call::Type, call: Call) -> (u16, String) {
        let call = Call { framework_id: self.info.id.clone(), r#type: Some(kind.into()), ..call };
        let stream = self.stream.clone();
        self.raw(kind.as_str_name(), &call, Some(&stream)).await
    }

    /// An operator's call.
    pub async fn operate(&mut self, kind: master::call::Type, call: master::Call) -> master::Response {
        let body = master::Call { r#type: Some(kind.into()), ..call }.encode_to_vec();
        let mut connection = Connection::open(&self.target.master(), SOON).await.unwrap();
        let response = connection.post("/api/v1", &http::HeaderMap::new(), body, SOON).await.unwrap();
        let status = response.status.as_u16();
        let body = response.bytes(DEFAULT_MAX_RECORD).await.unwrap();
        let fault = if status == 200 { "".into() } else { String::from_utf8_lossy(&body) };
        self.note(&format!("> operator's {}: {status} {fault}", kind.as_str_name()));
        master::Response::decode(body).unwrap_or_default()
    }

    pub async fn get_agents(&mut self) {
        let response = self.operate(master::call::Type::GetAgents, master::Call::default()).await;
        let response = response.get_agents.unwrap_or_default();
        if !response.recovered_agents.is_empty() {
            self.note(&format!("recovered: {}", response.recovered_agents.len()));
        }
        let agents = response.agents;
        for info in agents.iter().map(|agent| &agent.agent_info) {
            let host = self.names.apply(&info.hostname);
            let id = info.id.as_ref().map(|id| id.value.as_str()).unwrap_or_default();
            self.names.set(id, &format!("AGENT-OF-{host}"));
        }
        let mut all: Vec<String> = agents.iter().map(record::agent).collect();
        all.sort();
        for agent in all {
            self.note(&agent);
        }
    }

    /// Waits until a master leads that has so many agents registered, and knows of so many others.
    pub async fn until_agents(&mut self, registered: usize, recovered: usize) {
        let call = master::Call { r#type: Some(master::call::Type::GetAgents.into()), ..Default::default() };
        let ask = async || {
            let mut connection = Connection::open(&self.target.master(), SOON).await.ok()?;
            let headers = http::HeaderMap::new();
            let response = connection.post("/api/v1", &headers, call.encode_to_vec(), SOON).await.ok()?;
            master::Response::decode(response.bytes(DEFAULT_MAX_RECORD).await.ok()?).ok()?.get_agents
        };
        let end = Instant::now() + SOON;
        let there = |all: response::GetAgents| (all.agents.len(), all.recovered_agents.len());
        while ask().await.map(there) != Some((registered, recovered)) {
            assert!(Instant::now() < end, "no {registered} agents, and {recovered} others");
            tokio::time::sleep(POLL).await;
        }
    }

    pub fn subscription(&self) -> Call {
        let subscribe = call::Subscribe { framework_info: self.info.clone(), ..Default::default() };
        Call {
            framework_id: self.info.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(subscribe),
            ..Default::default()
        }
    }

    pub async fn subscribe(&mut self) {
        let call = self.subscription();
        self.subscribe_with(&call).await;
        self.until("SUBSCRIBED", |event| event.r#type() == event::Type::Subscribed || is_error(event)).await;
    }

    /// Subscribes, and has offers.
    pub async fn subscribe_for_offers(&mut self, count: usize) {
        let call = self.subscription();
        self.subscribe_with(&call).await;
        self.until_offers(count).await;
    }

    /// Opens a stream; the one of before is kept.
    pub async fn subscribe_with(&mut self, call: &Call) {
        let mut connection = Connection::open(&self.target.master(), SOON).await.unwrap();
        let headers = http::HeaderMap::new();
        let response = connection.post(SCHEDULER, &headers, call.encode_to_vec(), SOON).await.unwrap();
        let content = response.header("content-type").unwrap_or("-").to_owned();
        self.note(&format!("> SUBSCRIBE: {} {content}", response.status.as_u16()));
        let stream = response.header("mesos-stream-id").unwrap_or_default().to_owned();
        self.stream.clone_from(&stream);
        self.names.add("STREAM", &stream);
        let (sender, receiver) = mpsc::unbounded_channel();
        let before = std::mem::replace(&mut self.events, receiver);
        self.old.push(before);
        tokio::spawn(async move {
            // The connection lives as long as somebody reads.
            let mut records = response.records(DEFAULT_MAX_RECORD);
            loop {
                tokio::select! {
                    record = records.next() => {
                        let event = record.and_then(Result::ok).map(|record| Event::decode(record).unwrap());
                        let ended = event.is_none();
                        if sender.send(event).is_err() || ended {
                            return;
                        }
                    }
                    () = sender.closed() => return,
                }
            }
        });
    }

    /// Closes the stream.
    pub fn hang_up(&mut self) {
        self.note("> hangs up");
        self.events = mpsc::unbounded_channel().1;
    }

    /// What came on the stream before this one.
    pub async fn old_stream(&mut self) {
        self.note("on the old stream:");
        let mut old = self.old.pop().unwrap();
        let mut seen = Vec::new();
        let end = Instant::now() + SOON;
        while let Ok(Some(event)) = timeout_at(end, old.recv()).await {
            let ended = event.is_none();
            seen.push(event);
            if ended {
                break;
            }
        }
        self.record(seen);
    }

    /// Waits until an event is what is wanted, and a little longer; records all that came.
    pub async fn until(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> bool) {
        let mut end = Instant::now() + SOON;
        let (mut seen, mut found) = (Vec::new(), false);
        loop {
            match timeout_at(end, self.events.recv()).await {
                Ok(Some(Some(event))) => {
                    if !found && wanted(&event) {
                        found = true;
                        end = Instant::now() + QUIET;
                    }
                    seen.push(Some(event));
                }
                Ok(Some(None)) => seen.push(None),
                Ok(None) | Err(_) => break,
            }
        }
        if !found {
            self.note(&format!("no {what}"));
        }
        self.record(seen);
    }

    /// Waits until the stream ends.
    pub async fn until_end(&mut self) {
        let end = Instant::now() + SOON;
        let mut seen = Vec::new();
        while let Ok(Some(event)) = timeout_at(end, self.events.recv()).await {
            seen.push(event);
        }
        self.record(seen);
        self.offers.clear();
    }

    /// Waits until so many offers have come in one go.
    pub async fn until_offers(&mut self, count: usize) {
        let mut seen = 0;
        let what = format!("{count} offers");
        self.until(&what, |event| {
            seen += event.offers.as_ref().map_or(0, |offers| offers.offers.len());
            seen >= count
        })
        .await;
    }

    pub async fn until_update(&mut self) {
        self.until("update", |event| event.r#type() == event::Type::Update).await;
    }

    /// Waits until a launch is seen: by its first update, and by what is left of the offer.
    pub async fn launched(&mut self) {
        self.until_update_and_offers(mesos_v1::TaskState::TaskStarting).await;
    }

    /// Waits until a task has ended, and what it had is offered; acknowledges that.
    pub async fn ended(&mut self, task: &str, state: mesos_v1::TaskState) {
        self.until_update_and_offers(state).await;
        self.until_state(task, state).await;
    }

    /// Waits until an update to this state came, and an offer.
    pub async fn until_update_and_offers(&mut self, state: mesos_v1::TaskState) {
        let (mut updates, mut offers) = (false, false);
        let what = format!("{} and offers", state.as_str_name());
        self.until(&what, |event| {
            updates |= event.update.as_ref().is_some_and(|update| update.status.state() == state);
            offers |= event.offers.is_some();
            updates && offers
        })
        .await;
    }

    /// Acknowledges updates until the one to this state came, and that one too.
    pub async fn until_state(&mut self, task: &str, state: mesos_v1::TaskState) {
        for _ in 0..6 {
            if let Some(status) = self.statuses.remove(task) {
                if status.uuid.is_some() {
                    self.acknowledge(&status).await;
                }
                if status.state() == state {
                    return;
                }
            }
            self.until_update().await;
        }
    }

    /// Records what comes in this time.
    pub async fn wait(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut seen = Vec::new();
        while let Ok(Some(event)) = timeout_at(end, self.events.recv()).await {
            seen.push(event);
        }
        self.record(seen);
    }

    /// Records events by kind: those of one go come in any order.
    fn record(&mut self, events: Vec<Option<Event>>) {
        let mut all = Vec::new();
        let mut offered: BTreeMap<(String, String), Offer> = BTreeMap::new();
        for event in events {
            let Some(event) = event else {
                all.push((100, "the stream ends".to_owned()));
                continue;
            };
            self.learn(&event);
            all.extend(record::lines(&event));
            for offer in event.offers.into_iter().flat_map(|offers| offers.offers) {
                let role = offer.allocation_info.as_ref().map(|info| info.role().to_owned());
                // What is free is offered at once or bit by bit.
                match offered.entry((offer.hostname.clone(), role.unwrap_or_default())) {
                    Entry::Vacant(entry) => drop(entry.insert(offer)),
                    Entry::Occupied(entry) => record::add(&mut entry.into_mut().resources, offer.resources),
                }
            }
        }
        let offers = i32::from(event::Type::Offers);
        all.extend(offered.values().map(|offer| (offers, record::offer(offer))));
        // Heartbeats come by the clock: the scenario of them counts them itself.
        all.retain(|(kind, _)| *kind != i32::from(event::Type::Heartbeat));
        let mut all: Vec<(i32, String)> =
            all.into_iter().map(|(kind, line)| (kind, self.names.apply(&line))).collect();
        let key = |(kind, line): &(i32, String)| {
            (*kind, if *kind == offers { line.clone() } else { String::new() })
        };
        all.sort_by_key(key);
        self.lines.extend(all.into_iter().map(|(_, line)| format!("  {line}")));
    }

    /// Names what an event brings.
    fn learn(&mut self, event: &Event) {
        if let Some(subscribed) = &event.subscribed {
            self.info.id = Some(subscribed.framework_id.clone());
            self.names.add("FRAMEWORK", &subscribed.framework_id.value);
        }
        let mut offers = event.offers.clone().unwrap_or_default().offers;
        offers.sort_by(|a, b| a.hostname.cmp(&b.hostname));
        for offer in offers {
            let host = self.names.apply(&offer.hostname);
            self.names.set(&offer.agent_id.value, &format!("AGENT-OF-{host}"));
            self.names.add("OFFER", &offer.id.value);
            self.offers.push(offer);
        }
        if let Some(rescind) = &event.rescind {
            self.offers.retain(|offer| offer.id != rescind.offer_id);
        }
        for inverse in event.inverse_offers.iter().flat_map(|offers| &offers.inverse_offers) {
            self.names.add("INVERSE", &inverse.id.value);
        }
        if let Some(update) = &event.update {
            let status = &update.status;
            if let Some(uuid) = &status.uuid {
                self.names.add("UUID", &record::uuid_name(uuid));
            }
            self.statuses.insert(status.task_id.value.clone(), status.clone());
        }
    }

    pub async fn decline(&mut self, refuse: Option<f64>) {
        let offers = std::mem::take(&mut self.offers);
        let decline = call::Decline {
            offer_ids: offers.into_iter().map(|offer| offer.id).collect(),
            filters: refuse.map(|refuse| Filters { refuse_seconds: Some(refuse) }),
        };
        self.call(call::Type::Decline, Call { decline: Some(decline), ..Default::default() }).await;
    }

    pub async fn accept(&mut self, offers: &[Offer], operations: Vec<Operation>) {
        let ids: Vec<_> = offers.iter().map(|offer| offer.id.clone()).collect();
        self.offers.retain(|offer| !ids.contains(&offer.id));
        let filters = Some(Filters { refuse_seconds: Some(0.0) });
        let accept = Some(call::Accept { offer_ids: ids, operations, filters });
        self.call(call::Type::Accept, Call { accept, ..Default::default() }).await;
    }

    pub async fn launch(&mut self, offer: &Offer, tasks: Vec<TaskInfo>) {
        self.accept(std::slice::from_ref(offer), vec![launch(tasks)]).await;
    }

    pub async fn acknowledge(&mut self, status: &TaskStatus) {
        let acknowledge = call::Acknowledge {
            agent_id: status.agent_id.clone().unwrap(),
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().unwrap(),
        };
        let call = Call { acknowledge: Some(acknowledge), ..Default::default() };
        self.call(call::Type::Acknowledge, call).await;
    }

    pub async fn kill(&mut self, task: &str, agent: Option<&str>) {
        let kill = call::Kill { task_id: task.into(), agent_id: agent.map(Into::into), kill_policy: None };
        self.call(call::Type::Kill, Call { kill: Some(kill), ..Default::default() }).await;
    }

    pub async fn reconcile(&mut self, tasks: &[(&str, Option<&str>)]) {
        let tasks = tasks.iter().map(|(task, agent)| call::reconcile::Task {
            task_id: (*task).into(),
            agent_id: agent.map(Into::into),
        });
        let reconcile = call::Reconcile { tasks: tasks.collect() };
        let call = Call { reconcile: Some(reconcile), ..Default::default() };
        self.call(call::Type::Reconcile, call).await;
    }
}

pub fn is_error(event: &Event) -> bool {
    event.r#type() == event::Type::Error
}

/// Some of a scalar that was offered, with its reservations and its allocation.
pub fn part(offer: &Offer, name: &str, amount: f64) -> Resource {
    let mut part = offer.resources.iter().find(|resource| resource.name == name).unwrap().clone();
    part.scalar = Some(value::Scalar { value: amount });
    part
}

pub fn task(id: &str, offer: &Offer, command: &str) -> TaskInfo {
    TaskInfo {
        name: id.into(),
        task_id: id.into(),
        agent_id: offer.agent_id.clone(),
        resources: vec![part(offer, "cpus", 0.1), part(offer, "mem", 32.0)],
        command: Some(CommandInfo { value: Some(command.into()), ..Default::default() }),
        ..Default::default()
    }
}

pub fn launch(task_infos: Vec<TaskInfo>) -> Operation {
    Operation {
        r#type: Some(operation::Type::Launch.into()),
        launch: Some(operation::Launch { task_infos }),
        ..Default::default()
    }
}
