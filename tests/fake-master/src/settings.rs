//! What a fake cluster is like.

use std::sync::Arc;
use std::time::Duration;

use mesos_v1::resource::ReservationInfo;
use mesos_v1::{Attribute, DomainInfo, value};

use crate::resources::Resources;

/// A moment: the time since the Unix epoch.
pub type Time = Duration;

/// The flags of master and agents, with Mesos' defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Between two HEARTBEAT events.
    pub heartbeat: Duration,
    /// Between two allocations (`--allocation_interval`).
    pub allocation_interval: Duration,
    /// Between two pings of an agent (`--agent_ping_timeout`).
    pub ping_interval: Duration,
    /// So many unanswered pings make an agent unreachable (`--max_agent_ping_timeouts`).
    pub ping_timeouts: u32,
    /// Until an agent that was registered before the master failed over is unreachable
    /// (`--agent_reregister_timeout`).
    pub reregister_timeout: Duration,
    /// The longest that an agent takes to find a new master and to register there.
    pub registration: Duration,
    /// What a message between master and agent takes.
    pub latency: Duration,
    /// The wait before an unacknowledged update is sent again: at first, and at most.
    pub retry: (Duration, Duration),
    /// The domain of the master.
    pub domain: Option<DomainInfo>,
    /// IPv4 address and port that the master says it has.
    pub address: ([u8; 4], u16),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            allocation_interval: Duration::from_secs(1),
            ping_interval: Duration::from_secs(15),
            ping_timeouts: 5,
            reregister_timeout: Duration::from_mins(10),
            registration: Duration::from_secs(2),
            latency: Duration::from_millis(1),
            retry: (Duration::from_secs(10), Duration::from_mins(10)),
            domain: None,
            address: ([127, 0, 0, 1], 5050),
        }
    }
}

/// An agent: which of those that were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentRef(pub(crate) u32);

impl AgentRef {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    /// The agent that was added as the `number`-th, from 0.
    pub fn nth(number: usize) -> Self {
        Self(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// Which it is, from 0.
    pub fn number(self) -> usize {
        self.index()
    }
}

/// How an agent is configured. Clones share what is large.
#[derive(Debug, Clone)]
pub struct AgentSpec {
    /// `--hostname`.
    pub hostname: Arc<str>,
    /// Where it listens.
    pub port: u16,
    /// What it offers, unallocated.
    pub resources: Arc<Resources>,
    /// `--attributes`.
    pub attributes: Arc<[Attribute]>,
    /// `--domain`.
    pub domain: Option<Arc<DomainInfo>>,
    /// Its Mesos version. Before 1.3 it lacks the capability `MULTI_ROLE`.
    pub version: Arc<str>,
}

impl AgentSpec {
    /// An agent of Mesos 1.11 on port 5051 with 4 CPUs, 4096 MB of memory, 8192 MB of disk and the ports 31000 to 32000.
    pub fn new(hostname: &str) -> Self {
        Self {
            hostname: hostname.into(),
            port: 5051,
            resources: Arc::new(Self::standard()),
            attributes: Arc::from([]),
            domain: None,
            version: "1.11.0".into(),
        }
    }

    /// So many agents, named `10.A.B.C`, which share their resources.
    pub fn many(number: usize) -> impl Iterator<Item = Self> {
        let first = Self::new("");
        (0..number).map(move |n| {
            let hostname = format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250 + 1);
            Self { hostname: hostname.into(), ..first.clone() }
        })
    }

    /// Its resources reserved for `role` by its configuration, as a public agent's are.
    #[must_use]
    pub fn reserved(mut self, role: &str) -> Self {
        self.resources = Arc::new(Self::standard().statically_reserved(role));
        self
    }

    /// With other resources.
    #[must_use]
    pub fn with_resources(mut self, resources: Resources) -> Self {
        self.resources = Arc::new(resources);
        self
    }

    /// With a text attribute more.
    #[must_use]
    pub fn with_attribute(mut self, name: &str, text: &str) -> Self {
        let attribute = Attribute {
            name: name.to_owned(),
            r#type: value::Type::Text.into(),
            text: Some(value::Text { value: text.to_owned() }),
            ..Default::default()
        };
        self.attributes = self.attributes.iter().cloned().chain([attribute]).collect();
        self
    }

    fn standard() -> Resources {
        let none: Arc<[ReservationInfo]> = Arc::from([]);
        let ports = mesos_v1::Resource {
            name: "ports".to_owned(),
            r#type: value::Type::Ranges.into(),
            ranges: Some(value::Ranges { range: vec![value::Range { begin: 31_000, end: 32_000 }] }),
            ..Default::default()
        };
        let mut resources = Resources::of(4.0, 4096.0).with("disk", 8192.0, &none);
        resources.add(&Resources::of_messages([&ports]).unwrap_or_default());
        resources
    }

    /// Whether the version has the capability `MULTI_ROLE`.
    pub(crate) fn is_multi_role(&self) -> bool {
        let mut numbers = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        (major, minor) >= (1, 3)
    }
}
