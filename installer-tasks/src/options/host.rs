//! `status`, `undo --all` and `preflight`: all of the host at once.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::{
    AgentUnitOptions, DockerOptions, DockerUnitOptions, EtcdTlsOptions, FindAgentOptions, LineOptions,
    MaxAgentsOptions, RestartOptions, StateOptions,
};
use crate::host::platform::PlatformChoice;
use crate::steps::docker_store::wanted::StoreUrl;
use crate::values::{Artifact, Backend, Cidr, DnsName, NetworkName, number};

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
    /// Which Calico is to run.
    #[command(flatten)]
    pub line: LineOptions,
    /// Calico's networking backend [default: the one that the encapsulation needs].
    #[arg(long, env = "CALICO_NODE_BACKEND", value_enum)]
    pub node_backend: Option<Backend>,
    /// The network's name: it must not be that of DC/OS' own Calico.
    #[arg(long, env = "CALICO_NETWORK_NAME")]
    pub network_name: Option<NetworkName>,
    /// The addresses of the pool: they must be nobody else's.
    #[arg(long, env = "CALICO_NETWORK_POOL_CIDR")]
    pub network_pool_cidr: Option<Cidr>,
    /// The prefix length of the block that each host gets.
    #[arg(long, env = "CALICO_NETWORK_BLOCK_SIZE", value_parser = number::<u8>(20..=32), default_value = "26")]
    pub network_block_size: u8,
    /// Whether route reflectors are configured in Calico.
    #[arg(
        long,
        env = "CALICO_NETWORK_ROUTE_REFLECTORS",
        action = ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true",
        default_value = "false"
    )]
    pub network_route_reflectors: bool,
    /// Instead of the etcd members, the DNS name whose SRV records tell them.
    #[arg(long, env = "CALICO_ETCD_DISCOVERY_SRV", value_name = "NAME")]
    pub etcd_discovery_srv: Option<DnsName>,
    /// With what TLS is spoken with etcd.
    #[command(flatten)]
    pub tls: EtcdTlsOptions,
    /// How many agents the cluster has, or will have.
    #[arg(long, value_parser = number::<u64>(1..=1_000_000))]
    pub agents: Option<u64>,
    /// Up to how many agents Docker's containers get addresses.
    #[command(flatten)]
    pub max: MaxAgentsOptions,
    /// Docker's cluster store, where it is another than the etcd that this host uses.
    #[arg(long, env = "CALICO_DOCKER_CLUSTER_STORE", value_name = "URL")]
    pub docker_cluster_store: Option<StoreUrl>,
    /// How the Mesos agent is set up.
    #[arg(
        long,
        visible_alias = "platform",
        env = "CALICO_MESOS_PLATFORM",
        value_enum,
        default_value = "auto"
    )]
    pub mesos_platform: PlatformChoice,
    /// Where plugins are to be put, which the agent must search.
    #[arg(long, env = "CALICO_CNI_PLUGINS_DIR")]
    pub cni_plugins_dir: Option<PathBuf>,
    /// Where network configurations are to be put, which the agent must read.
    #[arg(long, env = "CALICO_CNI_CONFIG_DIR")]
    pub cni_config_dir: Option<PathBuf>,
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
