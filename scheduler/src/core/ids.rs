//! The names that everything in the core is found by.

use std::borrow::Borrow;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

/// A moment: milliseconds since the Unix epoch. The core has no clock: it is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This moment and `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; nothing when it is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment and `duration` earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// As RFC 3339 has it, in UTC and to the second: what people and the API see.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last moment of the year 9999: later ones have no such form.
        let millis = self.0.min(253_402_300_799_000);
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        write!(f, "{}", humantime::format_rfc3339_seconds(moment))
    }
}

// What is stored of tens of thousands of agents names each of them many times: those names are shared.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident($text:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $text);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                Self(value.into())
            }
        }

        impl From<String> for $name {
            fn from(value: String) -> Self {
                Self(value.into())
            }
        }
    };
}

name!(
    /// An agent's address, `host:port`: what an agent is known by, for its ID changes when it is removed or rebuilt.
    AgentKey(Arc<str>)
);
name!(
    /// The ID that the master gave to an agent's registration.
    AgentId(Arc<str>)
);
name!(
    /// The ID that the master gave to us; stored before the first launch.
    FrameworkId(String)
);
name!(
    /// The ID of one launch.
    TaskId(Arc<str>)
);
name!(
    /// The ID of one offer: in the bytes that it came in, for most are declined at once.
    OfferId(ByteString)
);
name!(
    /// SHA-256 (hexadecimal) over everything that a task type would be launched with.
    TargetHash(Arc<str>)
);

/// What we run, in the order in which an agent gets it. Those of scope [`Scope::Cluster`] run once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskType {
    /// Makes the IP pool and the profile.
    ClusterInit,
    /// Fetches what the services of a new target need, before those of the old one are ended.
    Prefetch,
    /// Gives the host's programs etcd on a loopback address.
    EtcdProxy,
    /// Gives Docker the store that networks of more than one host need.
    DockerClusterStore,
    /// Installs the CNI plugins and the network's configuration.
    Cni,
    /// Supervises the `calico/node` container.
    CalicoNode,
    /// Supervises the container of Docker's network plugin.
    Libnetwork,
    /// Makes the Docker network.
    DockerNetwork,
}

/// How many of a task type there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One in the whole cluster.
    Cluster,
    /// One on every agent.
    Agent,
}

impl TaskType {
    /// Every task type, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::ClusterInit,
        Self::Prefetch,
        Self::EtcdProxy,
        Self::DockerClusterStore,
        Self::Cni,
        Self::CalicoNode,
        Self::Libnetwork,
        Self::DockerNetwork,
    ];
    /// How many there are.
    pub const COUNT: usize = 8;

    /// The name that operators see.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterInit => "cluster-init",
            Self::Prefetch => "prefetch",
            Self::EtcdProxy => "etcd-proxy",
            Self::DockerClusterStore => "docker-cluster-store",
            Self::Cni => "cni",
            Self::CalicoNode => "calico-node",
            Self::Libnetwork => "libnetwork",
            Self::DockerNetwork => "docker-network",
        }
    }

    /// Whether it runs once, or on every agent.
    pub fn scope(self) -> Scope {
        match self {
            Self::ClusterInit | Self::DockerNetwork => Scope::Cluster,
            Self::Prefetch
            | Self::EtcdProxy
            | Self::DockerClusterStore
            | Self::Cni
            | Self::CalicoNode
            | Self::Libnetwork => Scope::Agent,
        }
    }
}

impl fmt::Display for TaskType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl AgentKey {
    /// The host's name, without the port.
    pub fn host(&self) -> &str {
        self.0.rsplit_once(':').map_or(&self.0, |(host, _)| host)
    }
}

impl Borrow<str> for AgentId {
    /// Agents are looked for by what an offer says, which need not become an ID for that.
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TaskId {
    /// The ID of a launch: unique because an agent launches a task type at most once in a millisecond.
    pub fn new(task_type: TaskType, agent: &AgentKey, at: Timestamp) -> Self {
        // Mesos makes a directory of it: no separators, and no `:` that shells and mounts stumble over.
        let mut id = String::with_capacity(task_type.name().len() + agent.0.len() + 18);
        id.push_str(task_type.name());
        id.push('.');
        id.extend(
            agent
                .0
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '.' }),
        );
        // Writing to a text does not fail.
        let _ = write!(id, ".{:x}", at.0);
        Self::from(id)
    }

    /// When this ID was made, if it was made by us.
    pub fn made_at(&self) -> Option<Timestamp> {
        self.task_type()?;
        let (_, at) = self.0.rsplit_once('.')?;
        u64::from_str_radix(at, 16).ok().map(Timestamp)
    }

    /// The task type that this ID was made for, if it was made by us.
    pub fn task_type(&self) -> Option<TaskType> {
        let name = self.0.split('.').next()?;
        TaskType::ALL.into_iter().find(|t| t.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_in_utc_whatever_they_are() {
        assert_eq!(Timestamp(1_700_000_000_999).to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn task_ids_name_their_type_and_are_safe_as_a_directory() {
        let id = TaskId::new(TaskType::CalicoNode, &"10.0.0.1:5051".into(), Timestamp(255));
        assert_eq!(&*id.0, "calico-node.10.0.0.1.5051.ff");
        assert_eq!(id.task_type(), Some(TaskType::CalicoNode));
        assert_eq!(id.made_at(), Some(Timestamp(255)));
        assert_eq!(TaskId::from("something-else.1").made_at(), None);
        assert_eq!(TaskId::from("something-else.1").task_type(), None);
    }
}
