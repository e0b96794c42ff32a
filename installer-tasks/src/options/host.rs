//! `status`, `undo --all` and `preflight`: all of the host at once.

use std::path::PathBuf;

use clap::Args;

use super::{AgentOptions, DockerOptions, DockerUnitOptions, RestartOptions, StateOptions};
use crate::values::{Artifact, Encapsulation, Endpoint};

/// `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusOptions {
    /// Docker's configuration.
    #[arg(long, env = "CALICO_DOCKER_DAEMON_JSON", default_value = "/etc/docker/daemon.json")]
    pub docker_daemon_json: PathBuf,
    /// The etcd members: only to find this host's address.
    #[arg(long, env = "CALICO_ETCD_ENDPOINTS", value_delimiter = ',')]
    pub etcd_endpoints: Vec<Endpoint>,
    /// Which agent.
    #[command(flatten)]
    pub agent: AgentOptions,
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
    /// The etcd members: only to find this host's address.
    #[arg(long, env = "CALICO_ETCD_ENDPOINTS", value_delimiter = ',')]
    pub etcd_endpoints: Vec<Endpoint>,
    /// Which Docker.
    #[command(flatten)]
    pub unit: DockerUnitOptions,
    /// What may be restarted; without it, Docker keeps the store until its next restart.
    #[command(flatten)]
    pub restarts: RestartOptions,
    /// Which agent.
    #[command(flatten)]
    pub agent: AgentOptions,
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
    /// The etcd members, comma-separated.
    #[arg(long, env = "CALICO_ETCD_ENDPOINTS", value_delimiter = ',')]
    pub etcd_endpoints: Vec<Endpoint>,
    /// An artifact whose hash is to be checked: PATH#sha256=HEX; can be given several times.
    #[arg(long)]
    pub artifact: Vec<Artifact>,
    /// Docker.
    #[command(flatten)]
    pub docker: DockerOptions,
    /// Which agent.
    #[command(flatten)]
    pub agent: AgentOptions,
    /// Where the record is kept.
    #[command(flatten)]
    pub state: StateOptions,
}
