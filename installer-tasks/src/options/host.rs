//! `status`, `undo --all` and `preflight`: all of the host at once.

use clap::Args;

use super::{
    AgentUnitOptions, DockerOptions, DockerUnitOptions, FindAgentOptions, MaxAgentsOptions, RestartOptions,
    StateOptions,
};
use crate::values::{Artifact, Encapsulation};

/// `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusOptions {
    /// Which Docker.
    #[command(flatten)]
    pub unit: DockerUnitOptions,
    /// Which agent.
    #[command(flatten)]
    pub agent: FindAgentOptions,
    /// Where the record is.
    #[command(flatten)]
    pub state: StateOptions,
}

/// `undo`.
#[derive(Debug, Clone, Args)]
pub struct UndoAllOptions {
    /// All steps that were installed here, the last one first.
    #[arg(long, required = true)]
    pub all: bool,
    /// Go ahead although containers use the network or files were changed since.
    #[arg(long)]
    pub force: bool,
    /// Which Docker.
    #[command(flatten)]
    pub unit: DockerUnitOptions,
    /// What may be restarted; without it, Docker keeps the store, and the Mesos agent flags that were set for CNI, until
    /// they are.
    #[command(flatten)]
    pub restarts: RestartOptions,
    /// Which agent.
    #[command(flatten)]
    pub agent: FindAgentOptions,
    /// How it is run.
    #[command(flatten)]
    pub agent_unit: AgentUnitOptions,
    /// Where the record is.
    #[command(flatten)]
    pub state: StateOptions,
}

/// `preflight`.
#[derive(Debug, Clone, Args)]
pub struct PreflightOptions {
    /// How packets are to travel between hosts.
    #[arg(long, env = "CALICO_NETWORK_ENCAPSULATION", value_enum, default_value = "vxlan")]
    pub network_encapsulation: Encapsulation,
    /// How many agents the cluster has, or will have.
    #[arg(long)]
    pub agents: Option<u64>,
    /// Up to how many agents Docker's containers get addresses.
    #[command(flatten)]
    pub max: MaxAgentsOptions,
    /// An artifact whose hash is to be checked: PATH#sha256=HEX; can be given several times.
    #[arg(long)]
    pub artifact: Vec<Artifact>,
    /// Docker.
    #[command(flatten)]
    pub docker: DockerOptions,
    /// Which agent.
    #[command(flatten)]
    pub agent: FindAgentOptions,
    /// Where the record is kept.
    #[command(flatten)]
    pub state: StateOptions,
}
