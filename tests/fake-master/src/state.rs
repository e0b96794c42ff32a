//! What the master knows. All of it but the registry is lost when the master is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mesos_v1::framework_info::capability::Type as Capability;
use mesos_v1::{CheckStatusInfo, DrainConfig, FrameworkInfo, TaskState, Unavailability};

use crate::constraints::Constraints;
use crate::resources::{Quantities, Resources};
use crate::settings::Time;

/// The number of an agent ID; the agent's process may have several in its life.
pub type AgentKey = u32;
/// A framework and one of its tasks.
pub type TaskKey = (Arc<str>, Arc<str>);

/// All agent IDs that there ever were.
#[derive(Debug, Default)]
pub struct Identities {
    /// The ID, and the process that has it.
    all: Vec<(Arc<str>, usize)>,
    by_id: HashMap<Arc<str>, AgentKey>,
}

impl Identities {
    pub fn add(&mut self, id: &str, process: usize) -> AgentKey {
        let key = AgentKey::try_from(self.all.len()).unwrap_or(AgentKey::MAX);
        let id: Arc<str> = id.into();
        self.by_id.insert(Arc::clone(&id), key);
        self.all.push((id, process));
        key
    }

    pub fn id(&self, key: AgentKey) -> &Arc<str> {
        &self.all[key as usize].0
    }

    pub fn process(&self, key: AgentKey) -> usize {
        self.all[key as usize].1
    }

    pub fn find(&self, id: &str) -> Option<AgentKey> {
        self.by_id.get(id).copied()
    }
}

/// What the masters keep in their replicated log.
#[derive(Debug, Default)]
pub struct Registry {
    pub admitted: BTreeSet<AgentKey>,
    pub unreachable: BTreeMap<AgentKey, Time>,
    pub gone: BTreeMap<AgentKey, Time>,
    pub deactivated: BTreeSet<AgentKey>,
    /// The agents that are drained, since when, and whether nothing is left on them.
    pub draining: BTreeMap<AgentKey, Draining>,
    /// By process: a machine keeps its schedule whatever its agent's ID is.
    pub maintenance: BTreeMap<usize, Unavailability>,
}

#[derive(Debug, Clone)]
pub struct Draining {
    pub config: DrainConfig,
    pub since: Time,
    pub drained: bool,
}

/// The leading master.
#[derive(Debug, Default)]
pub struct Master {
    pub id: String,
    /// How many masters led before it.
    pub epoch: u32,
    pub leads: bool,
    pub elected: Time,
    pub next_framework: u32,
    pub next_agent: u32,
    pub next_offer: u64,
    pub frameworks: BTreeMap<Arc<str>, Framework>,
    /// Those that were removed.
    pub completed: BTreeMap<Arc<str>, Arc<FrameworkInfo>>,
    pub registered: BTreeMap<AgentKey, Slot>,
    /// In the registry, but not registered with this master yet.
    pub recovered: BTreeSet<AgentKey>,
    pub removed: BTreeSet<AgentKey>,
    pub offers: BTreeMap<u64, Offer>,
    pub inverse_offers: BTreeMap<u64, InverseOffer>,
    pub allocator: Allocator,
}

/// What is needed to allocate fairly, and only where something changed.
#[derive(Debug, Default)]
pub struct Allocator {
    pub total: Quantities,
    pub roles: BTreeMap<Arc<str>, Share>,
    pub clients: BTreeMap<(Arc<str>, Arc<str>), Share>,
    /// The agents to look at in the next allocation.
    pub dirty: BTreeSet<AgentKey>,
    pub all_dirty: bool,
    /// When the next allocation is.
    pub due: Option<Time>,
    pub next_filter: u64,
}

#[derive(Debug, Default)]
pub struct Share {
    pub allocated: Quantities,
    /// How often something was allocated: of equal shares the rarer one is first.
    pub count: u64,
}

/// Where a framework's events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Known from agents only.
    Recovered,
    Disconnected,
    Connected(Arc<str>),
}

#[derive(Debug)]
pub struct Framework {
    pub id: Arc<str>,
    pub info: Arc<FrameworkInfo>,
    pub roles: BTreeSet<Arc<str>>,
    pub link: Link,
    pub suppressed: BTreeSet<Arc<str>>,
    pub constraints: Constraints,
    pub filters: BTreeMap<(Arc<str>, AgentKey), Vec<Filter>>,
    pub inverse_filters: BTreeMap<AgentKey, Vec<u64>>,
    pub tasks: BTreeMap<Arc<str>, Task>,
    pub unreachable: BTreeMap<Arc<str>, AgentKey>,
    pub offers: BTreeSet<u64>,
    pub inverse_offers: BTreeSet<u64>,
    pub registered: Time,
    pub reregistered: Option<Time>,
    /// Counts the connections, so that a timer knows whether it is of this one.
    pub connections: u64,
}

impl Framework {
    pub fn has(&self, capability: Capability) -> bool {
        has(&self.info, capability)
    }

    pub fn is_connected(&self) -> bool {
        matches!(self.link, Link::Connected(_))
    }

    /// The first for partition-aware frameworks, the second for others.
    pub fn aware(&self, state: TaskState) -> TaskState {
        if self.has(Capability::PartitionAware) { state } else { TaskState::TaskLost }
    }
}

pub fn has(info: &FrameworkInfo, capability: Capability) -> bool {
    info.capabilities.iter().any(|has| has.r#type() == capability)
}

/// The roles of a framework, whether or not it can have several.
pub fn roles(info: &FrameworkInfo) -> BTreeSet<Arc<str>> {
    if has(info, Capability::MultiRole) {
        info.roles.iter().map(|role| role.as_str().into()).collect()
    } else {
        [info.role().into()].into()
    }
}

/// Refused resources, until a timer takes them out.
#[derive(Debug)]
pub struct Filter {
    pub number: u64,
    pub refused: Resources,
}

#[derive(Debug)]
pub struct Offer {
    pub framework: Arc<str>,
    pub agent: AgentKey,
    pub role: Arc<str>,
    pub resources: Resources,
}

#[derive(Debug)]
pub struct InverseOffer {
    pub framework: Arc<str>,
    pub agent: AgentKey,
}

/// A registered agent.
#[derive(Debug)]
pub struct Slot {
    pub connected: bool,
    pub active: bool,
    pub total: Arc<Resources>,
    /// Neither offered nor used.
    pub available: Resources,
    pub tasks: BTreeSet<TaskKey>,
    pub offers: BTreeSet<u64>,
    pub inverse_offers: BTreeSet<u64>,
    /// Those that were killed: again when the agent comes back.
    pub killed: BTreeSet<TaskKey>,
    /// The frameworks that have an inverse offer.
    pub asked: BTreeSet<Arc<str>>,
    pub registered: Time,
    pub reregistered: Option<Time>,
    /// Counts disconnections and partitions, so that a timer knows whether it is of this one.
    pub absence: u64,
}

/// A task as the master knows it.
#[derive(Debug, Clone)]
pub struct Task {
    pub agent: AgentKey,
    pub role: Arc<str>,
    pub resources: Resources,
    /// What the agent knows, and what was last forwarded to the framework.
    pub state: TaskState,
    pub forwarded: Option<(TaskState, [u8; 16])>,
    pub healthy: Option<bool>,
    pub check: Option<CheckStatusInfo>,
    /// Whether the container is there: statuses tell about it then.
    pub contained: bool,
    /// The resources went back to the agent.
    pub recovered: bool,
}

pub fn is_terminal(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::TaskFinished
            | TaskState::TaskFailed
            | TaskState::TaskKilled
            | TaskState::TaskError
            | TaskState::TaskLost
            | TaskState::TaskDropped
            | TaskState::TaskGone
            | TaskState::TaskGoneByOperator
    )
}

/// Seconds of Mesos' messages as a time that can be waited for.
pub fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::ZERO)
}
