//! A scheduler that does what its test says.

use std::time::Duration;

use fake_master::{AgentSpec, Answer, Happening, Settings, World};
use mesos_v1::framework_info::{Capability, capability};
use mesos_v1::offer::{Operation, operation};
use mesos_v1::scheduler::{Call, Event, call, event};
use mesos_v1::{
    CommandInfo, Filters, FrameworkInfo, Offer, Resource, TaskInfo, TaskState, TaskStatus, value,
};

pub const START: Duration = Duration::from_secs(1_700_000_000);

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A cluster whose agents are registered.
pub fn cluster(specs: impl IntoIterator<Item = AgentSpec>) -> World {
    let mut world = World::new(START, 7, Settings::default());
    world.add_agents(specs);
    world.advance(START + seconds(5));
    world
}

pub fn info(roles: &[&str]) -> FrameworkInfo {
    use capability::Type;
    let capabilities = [Type::MultiRole, Type::PartitionAware, Type::ReservationRefinement];
    FrameworkInfo {
        user: "root".into(),
        name: "test".into(),
        checkpoint: Some(true),
        failover_timeout: Some(3600.0),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        capabilities: capabilities.map(|kind| Capability { r#type: Some(kind.into()) }).into(),
        ..Default::default()
    }
}

pub fn subscription(info: FrameworkInfo) -> Call {
    Call {
        framework_id: info.id.clone(),
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(call::Subscribe { framework_info: info, ..Default::default() }),
        ..Default::default()
    }
}

pub struct Scheduler {
    pub info: FrameworkInfo,
    pub stream: String,
    /// What came and was not asked for yet.
    pub events: Vec<Event>,
    pub closed: bool,
}

impl Scheduler {
    pub fn subscribe(world: &mut World, roles: &[&str]) -> Self {
        Self::subscribe_as(world, info(roles))
    }

    pub fn subscribe_as(world: &mut World, info: FrameworkInfo) -> Self {
        let answer = world.call(None, &subscription(info.clone()));
        assert_eq!(answer.status, 200);
        let stream = answer.stream.unwrap().to_string();
        let mut scheduler = Self { info, stream, events: Vec::new(), closed: false };
        scheduler.wait(world, Duration::ZERO);
        if scheduler.events[0].r#type() == event::Type::Subscribed {
            let subscribed = scheduler.events.remove(0).subscribed.unwrap();
            scheduler.info.id = Some(subscribed.framework_id);
        }
        scheduler
    }

    pub fn id(&self) -> &str {
        &self.info.id.as_ref().unwrap().value
    }

    /// Lets time pass.
    pub fn wait(&mut self, world: &mut World, time: Duration) {
        for (_, happening) in world.advance(world.now() + time) {
            match happening {
                Happening::Event { stream, event } if *stream == *self.stream => self.events.push(*event),
                Happening::Closed { stream } if *stream == *self.stream => self.closed = true,
                _ => {}
            }
        }
    }

    pub fn call(&self, world: &mut World, kind: call::Type, call: Call) -> Answer {
        let call = Call { framework_id: self.info.id.clone(), r#type: Some(kind.into()), ..call };
        world.call(Some(&self.stream), &call)
    }

    pub fn accepted(&self, world: &mut World, kind: call::Type, call: Call) {
        let answer = self.call(world, kind, call);
        assert_eq!((answer.status, &*answer.body), (202, ""));
    }

    pub fn decline(&self, world: &mut World, offers: &[Offer], refuse: f64) {
        let offer_ids = offers.iter().map(|offer| offer.id.clone()).collect();
        let filters = Some(Filters { refuse_seconds: Some(refuse) });
        let decline = Some(call::Decline { offer_ids, filters });
        self.accepted(world, call::Type::Decline, Call { decline, ..Default::default() });
    }

    pub fn accept(&self, world: &mut World, offers: &[Offer], operations: Vec<Operation>) {
        let accept = call::Accept {
            offer_ids: offers.iter().map(|offer| offer.id.clone()).collect(),
            operations,
            filters: Some(Filters { refuse_seconds: Some(0.0) }),
        };
        self.accepted(world, call::Type::Accept, Call { accept: Some(accept), ..Default::default() });
    }

    pub fn launch(&self, world: &mut World, offer: &Offer, task: TaskInfo) {
        self.accept(world, std::slice::from_ref(offer), vec![launch(vec![task])]);
    }

    pub fn acknowledge(&self, world: &mut World, status: &TaskStatus) {
        let acknowledge = call::Acknowledge {
            agent_id: status.agent_id.clone().unwrap(),
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().unwrap(),
        };
        let call = Call { acknowledge: Some(acknowledge), ..Default::default() };
        self.accepted(world, call::Type::Acknowledge, call);
    }

    fn take<T>(&mut self, kind: event::Type, what: impl Fn(Event) -> Option<T>) -> Vec<T> {
        let of_kind = |event: &mut Event| event.r#type() == kind;
        self.events.extract_if(.., of_kind).filter_map(what).collect()
    }

    pub fn offers(&mut self) -> Vec<Offer> {
        self.take(event::Type::Offers, |event| event.offers).into_iter().flat_map(|o| o.offers).collect()
    }

    pub fn updates(&mut self) -> Vec<TaskStatus> {
        self.take(event::Type::Update, |event| event.update).into_iter().map(|u| u.status).collect()
    }

    pub fn errors(&mut self) -> Vec<String> {
        self.take(event::Type::Error, |event| event.error).into_iter().map(|e| e.message).collect()
    }

    /// Waits, and acknowledges what comes; the states in order.
    pub fn follow(&mut self, world: &mut World, time: Duration) -> Vec<TaskState> {
        let mut states = Vec::new();
        let end = world.now() + time;
        while world.now() < end {
            self.wait(world, Duration::from_millis(50));
            for status in self.updates() {
                states.push(status.state());
                if status.uuid.is_some() {
                    self.acknowledge(world, &status);
                }
            }
        }
        states
    }
}

pub fn scalar(name: &str, value: f64) -> Resource {
    Resource {
        name: name.into(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value }),
        ..Default::default()
    }
}

pub fn task(id: &str, offer: &Offer, cpus: f64) -> TaskInfo {
    TaskInfo {
        name: id.into(),
        task_id: id.into(),
        agent_id: offer.agent_id.clone(),
        resources: vec![scalar("cpus", cpus), scalar("mem", 64.0)],
        command: Some(CommandInfo { value: Some("true".into()), ..Default::default() }),
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
