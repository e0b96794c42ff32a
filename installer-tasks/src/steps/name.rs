//! The steps that change files or directories of the host.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A step, as the journal, the command line and reports call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepName {
    /// Docker's cluster store.
    DockerClusterStore,
    /// The CNI plugins and the network's configuration.
    Cni,
    /// Mesos 0.28's modules.
    NetModules,
    /// The container calico-node, and the directories that were made for it.
    CalicoNode,
    /// The container calico-libnetwork, and the directories that were made for it.
    Libnetwork,
}

impl StepName {
    /// All, in the order in which they are installed.
    pub const ALL: [Self; 5] =
        [Self::DockerClusterStore, Self::Cni, Self::NetModules, Self::CalicoNode, Self::Libnetwork];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DockerClusterStore => "docker-cluster-store",
            Self::Cni => "cni",
            Self::NetModules => "net-modules",
            Self::CalicoNode => "calico-node",
            Self::Libnetwork => "libnetwork",
        }
    }

    /// Its command.
    pub fn command(self) -> &'static str {
        match self {
            Self::CalicoNode => "node",
            Self::DockerClusterStore | Self::Cni | Self::NetModules | Self::Libnetwork => self.as_str(),
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
