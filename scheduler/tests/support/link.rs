//! A master without sockets, for tests of the loop: it leads, lists its agents, and keeps the calls that it is sent.

use std::sync::Arc;
use std::time::Duration;

use calico_scheduler::config::{Config, Server};
use calico_scheduler::core::{Agent, AgentKey, Core, Event, FrameworkId, Standing, State, TaskId};
use calico_scheduler::driver::{Clock, Driver, Handle};
use calico_scheduler::lead::Program;
use calico_scheduler::mesos::{ClientEvent, Link, OperatorError, Record, StreamNumber, read};
use calico_scheduler::state::{Store, Tenure};
use mesos_v1::resource::AllocationInfo;
use mesos_v1::scheduler::{Call, Event as Message, event};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::environment::environment;

/// The subscription that there is.
pub const STREAM: StreamNumber = StreamNumber(1);

/// A loop, and the master's side of its link. It ends with the test.
pub struct Loop {
    pub handle: Handle,
    pub events: mpsc::Sender<ClientEvent>,
    pub calls: mpsc::UnboundedReceiver<Call>,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Master {
    agents: Arc<Vec<Agent>>,
    calls: mpsc::UnboundedSender<Call>,
    /// How long it takes to send one.
    takes: Duration,
}

impl Link for Master {
    async fn send(&self, _: StreamNumber, call: Call) {
        tokio::time::sleep(self.takes).await;
        let _ = self.calls.send(call);
    }

    fn leader(&self) -> Option<Server> {
        Some(Server { tls: false, authority: "master:5050".to_owned() })
    }

    async fn agents(&self, _: &Server) -> Result<Vec<Agent>, OperatorError> {
        Ok(self.agents.to_vec())
    }

    async fn last_words(&self, _: &AgentKey, _: &FrameworkId, _: &TaskId) -> Option<String> {
        None
    }
}

/// So many agents that are all well.
pub fn agents(number: usize) -> Vec<Agent> {
    let agent = |n| Agent {
        key: format!("10.{}.{}.{}:5051", n / 62_500, n / 250 % 250, n % 250).as_str().into(),
        id: format!("S{n}").as_str().into(),
        version: "1.11.0".to_owned(),
        standing: Standing::Active,
        attributes: Vec::new(),
        domain: None,
        registered_again: None,
    };
    (0..number).map(agent).collect()
}

/// The offer of an agent, with room for everything.
fn offer(agent: &Agent) -> mesos_v1::Offer {
    let scalar = |name: &str, value| mesos_v1::Resource {
        name: name.to_owned(),
        r#type: mesos_v1::value::Type::Scalar.into(),
        scalar: Some(mesos_v1::value::Scalar { value }),
        allocation_info: Some(AllocationInfo { role: Some("*".to_owned()) }),
        ..Default::default()
    };
    mesos_v1::Offer {
        id: format!("O-{}", agent.id.0).as_str().into(),
        agent_id: (&*agent.id.0).into(),
        resources: vec![scalar("cpus", 4.0), scalar("mem", 4096.0)],
        ..Default::default()
    }
}

impl Loop {
    /// The master offers these.
    pub async fn offer(&self, agents: &[Agent]) {
        let offers = Some(event::Offers { offers: agents.iter().map(offer).collect() });
        let event = Message { r#type: Some(event::Type::Offers.into()), offers, ..Default::default() };
        let Ok(Record::Offers(offers)) = read(event.encode_to_vec().into()) else {
            panic!("they are no offers")
        };
        self.events.send(ClientEvent::Event(STREAM, offers)).await.unwrap();
    }
}

/// A pool for thousands of agents.
const POOL: (&str, &str) = ("CALICO_NETWORK_POOL_CIDR", "172.16.0.0/12");

/// Starts a loop over a store, subscribed with a master of these agents that takes its time for each call. Everything is
/// wanted.
pub async fn start(
    (store, state, tenure): (impl Store + 'static, State, Tenure),
    agents: Vec<Agent>,
    takes: Duration,
    clock: impl Clock,
) -> Loop {
    let program = Program::new(&Config::from_env(&environment(&[POOL])).unwrap());
    let (sent, calls) = mpsc::unbounded_channel();
    let (events, event_queue) = mpsc::channel(4096);
    events.send(ClientEvent::Event(STREAM, Event::Subscribed("F1".into()))).await.unwrap();
    let (driver, handle) = Driver::new(
        Core::new(program.settings, state),
        (store, tenure),
        program.tasks,
        program.framework.roles,
        program.inventory_interval,
        (Master { agents: agents.into(), calls: sent, takes }, event_queue),
        clock,
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(driver.run().await) });
    Loop { handle, events, calls, _tasks: tasks }
}
