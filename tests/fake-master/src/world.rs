//! The clock, and what happens when: one queue for the master, the agents and their tasks.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use mesos_v1::scheduler::{Call, Event};
use mesos_v1::{FrameworkInfo, TaskInfo, TaskState, TaskStatus};

use crate::agent::{Agent, Step};
use crate::faults::{Faults, Network};
use crate::random::Random;
use crate::resources::Resources;
use crate::script::Script;
use crate::settings::{AgentRef, AgentSpec, Settings, Time};
use crate::state::{AgentKey, Identities, Master, Registry, TaskKey};

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The body; empty for a subscription, whose events follow.
    pub body: String,
    /// `Mesos-Stream-Id` of a subscription.
    pub stream: Option<Arc<str>>,
}

/// A call that was sent with [`World::send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) u64);

/// What schedulers see.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// An event on a stream.
    Event {
        /// Its `Mesos-Stream-Id`.
        stream: Arc<str>,
        /// The event.
        event: Box<Event>,
    },
    /// The master has closed a stream, or it broke.
    Closed {
        /// Its `Mesos-Stream-Id`.
        stream: Arc<str>,
    },
    /// The answer to a call that was sent.
    Answered {
        /// The call.
        call: CallId,
        /// Its answer.
        answer: Answer,
    },
    /// A call that was sent got no answer: it may have been carried out or not.
    Unanswered {
        /// The call.
        call: CallId,
    },
}

/// From the master to an agent.
#[derive(Debug)]
pub enum ToAgent {
    Registered(AgentKey),
    /// With the tasks that the master knows and the agent does not, and the state that they get.
    Reregistered(Vec<(TaskKey, TaskState)>),
    Run {
        framework: Arc<FrameworkInfo>,
        role: Arc<str>,
        resources: Resources,
        task: Box<TaskInfo>,
    },
    Kill(TaskKey),
    Acknowledge(TaskKey, [u8; 16]),
    Framework(Arc<FrameworkInfo>),
    ShutdownFramework(Arc<str>),
    Checkpoint(Arc<Resources>),
    Drain,
    Shutdown,
}

/// From an agent to the master.
#[derive(Debug)]
pub enum ToMaster {
    Register,
    Update { task: TaskKey, status: Box<TaskStatus>, latest: TaskState },
}

/// What waits for its time.
#[derive(Debug)]
pub enum Timer {
    Allocate,
    Heartbeat { framework: Arc<str>, connection: u64 },
    FailoverTimeout { framework: Arc<str>, connection: u64 },
    FilterEnds { framework: Arc<str>, role: Arc<str>, agent: AgentKey, number: u64 },
    InverseFilterEnds { framework: Arc<str>, agent: AgentKey, number: u64 },
    Pings { epoch: u32, agent: AgentKey, absence: u64 },
    ReregisterTimeout { epoch: u32 },
    ToAgent { process: usize, incarnation: u32, message: Box<ToAgent> },
    ToMaster { process: usize, incarnation: u32, epoch: u32, message: Box<ToMaster> },
    Registration { process: usize, incarnation: u32, attempt: u32 },
    Retry { process: usize, task: Box<TaskKey>, serial: u64, uuid: [u8; 16] },
    Step { process: usize, task: Box<TaskKey>, serial: u64, step: Step },
    Deliver(Box<Happening>),
    Call { id: CallId, stream: Option<Arc<str>>, call: Box<Call>, answered: bool },
}

type Scripts = Box<dyn FnMut(&TaskInfo, &mut Random) -> Script + Send>;

/// A Mesos cluster: a master, its agents, their tasks, and a clock. Nothing in it happens but through its methods, and
/// the same calls of them with the same seed have the same results.
pub struct World {
    pub(crate) now: Time,
    pub(crate) settings: Settings,
    pub(crate) random: Random,
    pub(crate) timers: BTreeMap<(Time, u64), Timer>,
    pub(crate) sequence: u64,
    pub(crate) out: VecDeque<(Time, Happening)>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) identities: Identities,
    pub(crate) registry: Registry,
    pub(crate) master: Master,
    pub(crate) scripts: Scripts,
    pub(crate) faults: Faults,
    pub(crate) network: Network,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut world = f.debug_struct("World");
        world.field("now", &self.now).field("agents", &self.agents.len());
        world.field("master", &self.master.id).finish_non_exhaustive()
    }
}

impl World {
    /// A cluster without agents, whose master leads from `now` on.
    pub fn new(now: Time, seed: u64, settings: Settings) -> Self {
        let mut world = Self {
            now,
            settings,
            random: Random::new(seed),
            timers: BTreeMap::new(),
            sequence: 0,
            out: VecDeque::new(),
            agents: Vec::new(),
            identities: Identities::default(),
            registry: Registry::default(),
            master: Master::default(),
            scripts: Box::new(|task, _| Script::usual(task)),
            faults: Faults::default(),
            network: Network::default(),
        };
        world.elect(0);
        world
    }

    /// What tasks that are launched from now on do; [`Script::usual`] until this is called.
    pub fn set_scripts(&mut self, scripts: impl FnMut(&TaskInfo, &mut Random) -> Script + Send + 'static) {
        self.scripts = Box::new(scripts);
    }

    /// Adds an agent; it starts, and soon registers.
    pub fn add_agent(&mut self, spec: AgentSpec) -> AgentRef {
        let agent = AgentRef::nth(self.agents.len());
        self.agents.push(Agent::new(spec));
        self.start_agent(agent);
        agent
    }

    /// Adds agents.
    pub fn add_agents(&mut self, specs: impl IntoIterator<Item = AgentSpec>) {
        for spec in specs {
            self.add_agent(spec);
        }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// When something happens next, if something does: never before it need [`Self::advance`] be called. That something
    /// happens does not mean that a scheduler sees it.
    pub fn next_time(&self) -> Option<Time> {
        if self.out.is_empty() {
            self.timers.keys().next().map(|(at, _)| (*at).max(self.now))
        } else {
            Some(self.now)
        }
    }

    /// Lets time pass until `to`, and tells what schedulers see of it, in order.
    pub fn advance(&mut self, to: Time) -> Vec<(Time, Happening)> {
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= to) {
            let ((at, _), timer) = entry.remove_entry();
            self.now = self.now.max(at);
            self.fire(timer);
        }
        self.now = self.now.max(to);
        self.out.drain(..).collect()
    }

    pub(crate) fn after(&mut self, wait: Time, timer: Timer) {
        self.at(self.now + wait, timer);
    }

    pub(crate) fn at(&mut self, at: Time, timer: Timer) {
        self.sequence += 1;
        self.timers.insert((at, self.sequence), timer);
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Allocate => self.allocate(),
            Timer::Heartbeat { framework, connection } => self.heartbeat(&framework, connection),
            Timer::FailoverTimeout { framework, connection } => self.failover_timeout(&framework, connection),
            Timer::FilterEnds { framework, role, agent, number } => {
                self.filter_ends(&framework, role, agent, number);
            }
            Timer::InverseFilterEnds { framework, agent, number } => {
                self.inverse_filter_ends(&framework, agent, number);
            }
            Timer::Pings { epoch, agent, absence } => self.pings_timed_out(epoch, agent, absence),
            Timer::ReregisterTimeout { epoch } => self.reregister_timeout(epoch),
            Timer::ToAgent { process, incarnation, message } => {
                self.for_agent(process, incarnation, *message);
            }
            Timer::ToMaster { process, incarnation, epoch, message } => {
                self.for_master(process, incarnation, epoch, *message);
            }
            Timer::Registration { process, incarnation, attempt } => {
                self.registration(process, incarnation, attempt);
            }
            Timer::Retry { process, task, serial, uuid } => self.retry(process, &task, serial, uuid),
            Timer::Step { process, task, serial, step } => self.step(process, &task, serial, step),
            Timer::Deliver(happening) => self.out.push_back((self.now, *happening)),
            Timer::Call { id, stream, call, answered } => {
                self.arrived(id, stream.as_deref(), &call, answered);
            }
        }
    }

    /// Sends a message to an agent's process.
    pub(crate) fn tell(&mut self, agent: AgentKey, message: ToAgent) {
        let process = self.identities.process(agent);
        let incarnation = self.agents[process].incarnation;
        if self.random.chance(self.faults.agent_loss) {
            return;
        }
        let message = Box::new(message);
        self.after(self.settings.latency, Timer::ToAgent { process, incarnation, message });
    }

    /// Sends a message to the master that leads now.
    pub(crate) fn tell_master(&mut self, process: usize, message: ToMaster) {
        let (epoch, incarnation) = (self.master.epoch, self.agents[process].incarnation);
        if self.random.chance(self.faults.agent_loss) {
            return;
        }
        let message = Box::new(message);
        self.after(self.settings.latency, Timer::ToMaster { process, incarnation, epoch, message });
    }

    fn for_agent(&mut self, process: usize, incarnation: u32, message: ToAgent) {
        let agent = &mut self.agents[process];
        if !agent.runs || agent.incarnation != incarnation {
            return;
        }
        if agent.partitioned {
            // What TCP carries arrives when the network is whole again.
            agent.held.push_back(Timer::ToAgent { process, incarnation, message: Box::new(message) });
        } else {
            self.agent_receives(process, message);
        }
    }

    fn for_master(&mut self, process: usize, incarnation: u32, epoch: u32, message: ToMaster) {
        let agent = &mut self.agents[process];
        if !self.master.leads || self.master.epoch != epoch || agent.incarnation != incarnation {
            return;
        }
        if agent.partitioned {
            let message = Box::new(message);
            agent.held.push_back(Timer::ToMaster { process, incarnation, epoch, message });
            return;
        }
        match message {
            ToMaster::Register => self.register(process),
            ToMaster::Update { task, status, latest } => {
                if let Some(key) = agent.key {
                    self.status_update(key, &task, *status, latest);
                }
            }
        }
    }
}
