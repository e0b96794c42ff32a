//! The steps that change files of the host.

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
}

impl StepName {
    /// All, in the order in which they are installed.
    pub const ALL: [Self; 2] = [Self::DockerClusterStore, Self::Cni];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DockerClusterStore => "docker-cluster-store",
            Self::Cni => "cni",
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
